import json
from typing import Any

import pytest

from ccapi.archive import meta_json, validation
from ccapi.errors import ArchiveError
from tests.archive.fixtures import make_document


def check(**changes: Any) -> None:
    validation.validate(meta_json.decode(json.dumps(make_document(**changes)).encode()))


def one(**fields: Any) -> list[dict[str, Any]]:
    return [{"hostname": "f0101", **fields}]


def metric(**values: Any) -> dict[str, Any]:
    return {"x": {"unit": {"base": "W"}, "avg": 1, **values}}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"user": "u" * 255, "project": "", "subCluster": "", "partition": "p" * 255},
        {"exclusive": 0, "duration": 0},
        {"exclusive": 3, "energy": -1.5, "footprint": {"": -1}, "requestedMemory": 128000},
        {"resources": one(hwthreads=[0, 2**63 - 1], accelerators=[""], configuration="")},
        {"resources": one(hwthreads=[])},
        {"metaData": {"": "", "jobScript": "\\u0000 ä"}},
        {"tags": [{"type": "t" * 255, "name": "n"}, {"type": "n", "name": "n"}]},
        {"statistics": metric(min=0, max=1e300)},
        {"statistics": {"x": {}}},
    ],
    ids=lambda changes: repr(changes)[:40],
)
def test_job_that_the_api_accepts_is_valid(changes: dict[str, Any]) -> None:
    check(**changes)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"jobId": 0}, "jobId"),
    ({"startTime": 0}, "startTime"),
    ({"user": ""}, "user"),
    ({"user": "u" * 256}, "user"),
    ({"user": "a\0b"}, "user"),
    ({"project": "p" * 256}, "project"),
    ({"partition": "p" * 256}, "partition"),
    ({"cluster": "../fritz"}, "cluster"),
    ({"subCluster": "a/b"}, "subCluster"),
    ({"exclusive": 4}, "exclusive"),
    ({"duration": 300_000_000_000}, "duration"),
    ({"numNodes": 2}, "numNodes"),
    ({"numNodes": 0}, "numNodes"),
    ({"resources": [], "numNodes": 0}, "resources"),
    ({"resources": ["f0101"]}, "resources"),
    ({"resources": [{}]}, "resources"),
    ({"resources": one(hostname="a/b")}, "resources"),
    ({"resources": one() * 2, "numNodes": 2}, "resources"),
    ({"resources": one(hwthreads=[-1])}, "hwthreads"),
    ({"resources": one(hwthreads=[True])}, "hwthreads"),
    ({"resources": one(hwthreads=[0.5])}, "hwthreads"),
    ({"resources": one(hwthreads=[2**63])}, "hwthreads"),
    ({"resources": one(hwthreads="0-3")}, "hwthreads"),
    ({"resources": one(accelerators=[7])}, "accelerators"),
    ({"resources": one(accelerators=["\0"])}, "accelerators"),
    ({"resources": one(configuration=7)}, "configuration"),
    ({"metaData": {"x": 7}}, "metaData"),
    ({"metaData": {"x": "\0"}}, "metaData"),
    ({"metaData": {"\0": "x"}}, "metaData"),
    ({"tags": [{"type": "", "name": "x"}]}, "tags"),
    ({"tags": [{"type": "x", "name": "n" * 256}]}, "tags"),
    ({"tags": [{"type": "x", "name": "y"}] * 2}, "tags"),
    ({"submitTime": 253402300800}, "submitTime"),
    ({"footprint": {"x": "7"}}, "footprint: x: must be a number"),
    ({"energyFootprint": {"\0": 7}}, "energyFootprint: must not contain a NUL"),
    ({"statistics": metric(min=-1)}, "statistics"),
    ({"statistics": metric(max="7")}, "statistics"),
    ({"statistics": metric(max=2**63)}, "statistics"),
    ({"statistics": metric(max=True)}, "statistics"),
    ({"statistics": {"\0": {}}}, "statistics"),
    ({"statistics": {"x": {"unit": "\0"}}}, "statistics"),
]


@pytest.mark.parametrize(("changes", "field"), REFUSED, ids=lambda value: repr(value)[:40])
def test_error_names_the_field_that_the_api_refuses(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ArchiveError, match=field):
        check(**changes)
