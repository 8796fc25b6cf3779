"""meta.json files of other programs and versions."""

import json
from typing import Any

import pytest

from ccapi.archive import meta_json
from ccapi.errors import ArchiveError
from ccapi.model.job import Job
from tests.archive.fixtures import make_document


def read(**changes: Any) -> Job:
    return meta_json.decode(json.dumps(make_document(**changes)).encode())


def without(field: str, **changes: Any) -> Job:
    values = make_document(**changes)
    del values[field]
    return meta_json.decode(json.dumps(values).encode())


@pytest.mark.parametrize(
    ("shared", "exclusive"), [("none", 1), ("single_user", 2), ("multi_user", 0)]
)
def test_shared_of_newer_versions_becomes_exclusive(shared: str, exclusive: int) -> None:
    assert without("exclusive", shared=shared).exclusive == exclusive
    assert read(shared=shared, exclusive=exclusive).exclusive == exclusive


@pytest.mark.parametrize("shared", ["everybody", 1, ["none"], "single_user"])
def test_unknown_or_contradictory_shared_is_refused(shared: Any) -> None:
    with pytest.raises(ArchiveError, match="shared"):
        read(shared=shared, exclusive=1)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("node_fail", "node_fail"),
        ("BOOT_FAIL", "boot_fail"),
        ("deadline", "deadline"),
        ("revoked", "cancelled"),
        ("CANCELLED by 1000", "cancelled"),
        ("Failed", "failed"),
        ("out_of_memory", "out_of_memory"),
    ],
)
def test_final_state_in_the_words_of_slurm(theirs: str, ours: str) -> None:
    assert read(jobState=theirs).job_state == ours


@pytest.mark.parametrize("state", ["running", "RUNNING", "pending", "suspended", ""])
def test_state_that_is_not_final_is_refused(state: str) -> None:
    with pytest.raises(ArchiveError, match="jobState"):
        read(jobState=state)


def test_zero_means_not_given() -> None:
    zeros = dict.fromkeys(("arrayJobId", "numHwthreads", "numAcc", "smt", "walltime"), 0)
    zeros |= dict.fromkeys(("submitTime", "requestedMemory", "energy"), 0)
    assert read(**zeros, partition="", footprint={}, energyFootprint={}) == read()


def test_null_means_not_given() -> None:
    nothing = dict.fromkeys(("tags", "metaData", "statistics", "partition", "smt", "id", "energy"))
    assert read(**nothing) == read()
    resource = {"hostname": "f0101", "hwthreads": None, "accelerators": None}
    assert read(resources=[resource]) == read()


def test_unknown_fields_are_ignored() -> None:
    extra = {"concurrentJobs": {"count": 0}, "id": 3, "stopTime": 9}
    resource = {"hostname": "f0101", "rack": 7}
    assert read(**extra, resources=[resource]) == read()
    statistics = {"x": {"unit": {"base": "W"}, "avg": 1, "min": 1, "max": 2}}
    more = {"x": {**statistics["x"], "median": 1}}
    assert read(statistics=more) == read(statistics=statistics)


def test_tag_with_two_scopes_is_one_tag() -> None:
    tag = {"type": "a", "name": "b"}
    theirs = [{**tag, "id": 1, "scope": "global"}, {**tag, "id": 2, "scope": "admin"}]
    assert read(tags=theirs) == read(tags=[tag])


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("GB/s", "GB/s"),
        ({"prefix": "G", "base": "B/s"}, "GB/s"),
        ({"Prefix": None, "Base": "W"}, "W"),
        ({"prefix": "", "base": "W"}, "W"),
        ({"base": ""}, ""),
        ({"prefix": "M", "base": "packets/s"}, "Mpackets/s"),
    ],
)
def test_unit_is_an_object_or_a_string(unit: Any, text: str) -> None:
    job = read(statistics={"x": {"unit": unit, "avg": 1}})
    assert json.loads(job.statistics or "") == {"x": {"unit": text, "avg": 1}}


def test_keys_match_whatever_their_case() -> None:
    job = without("jobState", JOBSTATE="failed", metadata={"jobName": "rotor"})
    assert (job.job_state, job.meta_data) == ("failed", '{"jobName":"rotor"}')
    with pytest.raises(ArchiveError, match="metaData and metadata"):
        read(metaData={}, metadata={})
