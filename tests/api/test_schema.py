"""Correct objects are loaded faster than by marshmallow, with the same result."""

from typing import Any

import pytest
from marshmallow import Schema, ValidationError

from ccapi.api.schemas import DeleteJobApiRequest, JobMeta, StopJobApiRequest
from ccapi.http.schema import ContractSchema
from tests.client import job, stop

RESOURCE = {"hostname": "f0101", "hwthreads": [0, 1], "accelerators": ["0:1"]}
STATISTICS = {"flops_any": {"unit": "GF/s", "avg": 2, "min": 1.5, "max": 3}}
EVERYTHING = job(
    id=7, project="p", subCluster="main", partition="", arrayJobId=0, numNodes=1, numHwthreads=72,
    numAcc=4, exclusive=2, monitoringStatus=3, smt=2, walltime=86400, jobState="running",
    duration=5, resources=[RESOURCE], metaData={"jobName": "x"}, statistics=STATISTICS,
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
    (StopJobApiRequest(), stop()),
    (StopJobApiRequest(), stop(jobState=None)),
    (StopJobApiRequest(), {"stopTime": 5}),
    (DeleteJobApiRequest(), {"cluster": "fritz"}),
    (DeleteJobApiRequest(), {"jobId": 5, "startTime": None}),
]


@pytest.mark.parametrize(("schema", "body"), BODIES)
def test_fast_load_agrees_with_marshmallow(
    schema: Schema, body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = outcome(schema, body)
    monkeypatch.delattr(ContractSchema, "load")
    assert fast == outcome(schema, body)


def outcome(schema: Schema, body: Any) -> Any:
    try:
        return schema.load(body)
    except ValidationError as error:
        return error.normalized_messages()


def test_correct_body_is_loaded_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Schema, "_do_load")
    assert JobMeta().load(EVERYTHING).job_id == EVERYTHING["jobId"]
