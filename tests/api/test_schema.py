"""Plainly right objects take a shorter way through the schemas, to the same results."""

from typing import Any

import pytest
from flask import Flask
from marshmallow import Schema, ValidationError

from ccapi.api.schemas import DeleteJobApiRequest, JobMeta, StopJobApiRequest
from ccapi.errors import InvalidInput
from ccapi.http import request_log
from ccapi.http.schema import ContractSchema
from tests.client import job, stop

RESOURCE = {"hostname": "f0101", "hwthreads": [0, 1], "accelerators": ["0:1"]}
STATISTICS = {"flops_any": {"unit": "GF/s", "avg": 2, "min": 1.5, "max": 3}}
EVERYTHING = job(
    id=7, project="p", subCluster="main", partition="", arrayJobId=0, numNodes=1, numHwthreads=72,
    numAcc=4, exclusive=2, monitoringStatus=3, smt=2, walltime=86400, jobState="running",
    duration=5, resources=[RESOURCE], metaData={"jobName": "x"}, statistics=STATISTICS,
    submitTime=1, requestedMemory=128, energy=0, footprint={"x": 1.5}, energyFootprint={},
    tags=[{"type": "a", "name": "b"}, {"id": 3, "type": "a", "name": "c"}],
)  # fmt: skip
BODIES: list[tuple[Schema, Any]] = [
    (JobMeta(), job()),
    (JobMeta(), EVERYTHING),
    (JobMeta(), job(smt=None, metaData=None, tags=None)),
    (JobMeta(), job(user=None)),
    (JobMeta(), job(resources=None)),
    (JobMeta(), {}),
    (JobMeta(), {"jobId": 1}),
    (JobMeta(), job(surprise=1)),
    (JobMeta(), job(jobId="1", smt=-1)),
    (JobMeta(), job(jobState="completed")),
    (JobMeta(), job(resources=[{**RESOURCE, "configuration": None}])),
    (JobMeta(), job(resources=[{"hwthreads": [1]}])),
    (JobMeta(), job(resources=[{**RESOURCE, "more": 1}, {"hostname": "-"}])),
    (JobMeta(), job(resources=[{**RESOURCE, "hwthreads": [-1]}, 7])),
    (JobMeta(), job(resources=RESOURCE)),
    (JobMeta(), job(tags=[{"type": "a"}])),
    (JobMeta(), job(tags=[{"type": "a", "name": 1}])),
    (JobMeta(), job(statistics={"x": {"avg": 1}})),
    (JobMeta(), job(statistics={"x": {"avg": "1"}, "y": 1})),
    (JobMeta(), job(metaData={"x": 1})),
    (JobMeta(), job(JOBID=5)),
    (JobMeta(), job(shared="multi_user")),
    (JobMeta(), job(shared="multi_user", exclusive=1)),
    (JobMeta(), job(exclusive=3, jobState="", energy=0.0, concurrentJobs={"items": []})),
    (JobMeta(), job(energy="1", footprint={"x": "1"})),
    (JobMeta(), job(statistics={"x": {"unit": {"base": "B/s", "prefix": "G"}, "more": 1}})),
    (JobMeta(), job(tags=[{"type": "a", "name": "b", "scope": "c", "more": 1}])),
    (StopJobApiRequest(), stop()),
    (StopJobApiRequest(), stop(jobState=None)),
    (StopJobApiRequest(), {"stopTime": 5}),
    (DeleteJobApiRequest(), {"cluster": "fritz"}),
    (DeleteJobApiRequest(), {"jobId": 5, "startTime": None}),
]


@pytest.mark.parametrize(("schema", "body"), BODIES)
def test_the_short_way_ends_where_the_long_one_does(
    app: Flask, schema: Schema, body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with app.app_context():
        short = outcome(schema, body)
        monkeypatch.delattr(ContractSchema, "load")
        assert short == outcome(schema, body)


def outcome(schema: Schema, body: Any) -> tuple[Any, set[str]]:
    """Return the result or the error, and the names of ignored fields."""
    info = request_log.RequestInfo("id", {})
    request_log._current.set(info)
    try:
        result = schema.load(body)
    except ValidationError as error:
        result = error.normalized_messages()
    except InvalidInput as error:
        result = str(error)
    return result, set(info.ignored_fields)


def test_a_right_body_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Schema, "_do_load")
    assert JobMeta().load(EVERYTHING).job_id == EVERYTHING["jobId"]
