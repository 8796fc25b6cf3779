"""What a body may be: JSON in UTF-8 that follows the contract, whatever its Content-Type says."""

import gzip
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from ccapi.db.pool import Database
from tests.client import START, Client, assert_error, assert_nothing_written, count, job, stop

_TOO_DEEP = 100_000
_DEEP_LONG_INTEGERS = b"[1111111111111111111," * 1000 + b"1" + b"]" * 1000

TAKE_A_BODY = (
    ("POST", "/start_job/"),
    ("POST", "/stop_job/"),
    ("POST", "/stop_job/1"),
    ("POST", "/tag_job/1"),
    ("DELETE", "/delete_job/"),
)
UNREADABLE = {
    "nothing": b"",
    "white space": b" \n",
    "cut off": b'{"jobId": 1',
    "a trailing comma": b'{"jobId": 1,}',
    "single quotes": b"{'jobId': 1}",
    "two documents": b"{} {}",
    "a form": b"jobId=1&cluster=fritz",
    "NaN": b'{"jobId": NaN}',
    "Infinity": b'{"jobId": Infinity}',
    "-Infinity": b'{"jobId": -Infinity}',
    "a number beyond a double": b'{"jobId": 1e999}',
    "the same beside a long integer": b'{"id": 9223372036854775807, "jobId": 1e999}',
    "a lone surrogate": b'{"cluster": "\\ud800"}',
    "a lone surrogate beside a long integer": b'{"id": 1111111111111111111, "cluster": "\\udfff"}',
    "a raw control character": b'{"cluster": "a\nb"}',
    "invalid UTF-8": b'{"cluster": "\xff"}',
    "Latin-1": '{"cluster": "größe"}'.encode("latin-1"),
    "UTF-16": '{"jobId": 1}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"jobId": 1}',
    "gzip": gzip.compress(b'{"jobId": 1}'),
    "deep arrays": b"[" * _TOO_DEEP + b"]" * _TOO_DEEP,
    "deep objects": b'{"a":' * _TOO_DEEP + b"1" + b"}" * _TOO_DEEP,
    "deep arrays of long integers": b'{"statistics":' + _DEEP_LONG_INTEGERS + b"}",
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_body_that_is_not_json_is_refused(admin: Client, database: Database, body: bytes) -> None:
    for method, path in TAKE_A_BODY:
        assert_error(admin.send(method, path, body), 400, "body")
    assert_nothing_written(database)


@pytest.mark.parametrize("body", [b"null", b'"text"', b"1", b"true", b"[[]]", b'["text"]', b"[1]"])
def test_body_of_the_wrong_json_type_is_refused(
    admin: Client, database: Database, body: bytes
) -> None:
    for method, path in TAKE_A_BODY:
        assert_error(admin.send(method, path, body), 400, "must be an")
    assert_nothing_written(database)


def test_array_instead_of_a_job_is_refused(admin: Client, database: Database) -> None:
    assert_error(admin.send("POST", "/start_job/", [job()]), 400, "the body must be an object")
    assert_nothing_written(database)


def test_object_instead_of_an_array_of_tags_is_refused(admin: Client, database: Database) -> None:
    response = admin.send("POST", f"/tag_job/{admin.start()}", {"type": "a", "name": "b"})
    assert_error(response, 400, "the body must be an array")
    assert count(database, "tags") == 0


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; charset=latin-1",
        "nonsense",
    ],
)
def test_body_is_json_whatever_its_content_type(writer: Client, content_type: str | None) -> None:
    body = json.dumps(job(project="größe"), ensure_ascii=False).encode()
    response = writer.send("POST", "/start_job/", body, content_type=content_type)
    assert response.status_code == 201, response.text
    assert writer.list()[0]["project"] == "größe"


_NO_TEXT: tuple[Any, ...] = (5, 1.5, True, [], {}, "a\0b")
_NO_INTEGER: tuple[Any, ...] = ("12", 1.0, 1.5, True, [], {}, 2**63, 2**64, -(2**63) - 1)
_NO_NAME: tuple[Any, ...] = (
    5,
    "../etc",
    ".hidden",
    "-x",
    "a/b",
    "a b",
    "a\n",
    "größe",
    "x" * 65,
    "a\0",
)
WRONG_IN_A_START: dict[str, tuple[Any, ...]] = {
    "jobId": (0, -1, *_NO_INTEGER),
    "startTime": (0, -1, 253_402_300_800, *_NO_INTEGER),
    "user": ("", "x" * 256, *_NO_TEXT),
    "project": ("x" * 256, *_NO_TEXT),
    "partition": ("x" * 256, *_NO_TEXT),
    "cluster": ("", [], {}, *_NO_NAME),
    "subCluster": ([], {}, *_NO_NAME),
    "arrayJobId": (-1, *_NO_INTEGER),
    "numNodes": (-1, 2, *_NO_INTEGER),
    "numHwthreads": (-1, *_NO_INTEGER),
    "numAcc": (-1, *_NO_INTEGER),
    "smt": (-1, *_NO_INTEGER),
    "walltime": (-1, *_NO_INTEGER),
    "exclusive": (-1, 4, *_NO_INTEGER),
    "shared": ("None", "exclusive", 1, True, [], {}),
    "submitTime": (-1, 253_402_300_800, *_NO_INTEGER),
    "requestedMemory": (-1, *_NO_INTEGER),
    "energy": ("1", True, [], {}, 2**63, 2**64),
    "footprint": ([], "x", 5, {"a": "1"}, {"a": None}, {"a": True}, {"a": {}}, {"\0": 1}),
    "energyFootprint": ([], "x", 5, {"a": "1"}, {"a": None}, {"a": True}, {"a": {}}, {"\0": 1}),
    "monitoringStatus": (-1, 4, *_NO_INTEGER),
    "jobState": ("completed", "RUNING", 5, True, [], ["running"], {}),
    "id": _NO_INTEGER,
    "duration": _NO_INTEGER,
    "resources": ([], {}, "f0101", 5, ["f0101"], [5], [None], [[]], [{}]),
    "metaData": ([], "x", 5, {"a": 5}, {"a": None}, {"a": {}}, {"a": "\0"}, {"\0": "a"}),
    "statistics": ([], "x", 5, {"m": 5}, {"m": []}, {"m": None}, {"\0": {}}),
    "tags": ({}, "x", 5, ["x"], [None], [{}], [{"type": "a"}], [{"name": "b"}]),
}


@pytest.mark.parametrize("field", WRONG_IN_A_START)
def test_invalid_field_of_a_start_is_refused_by_name(
    writer: Client, database: Database, field: str
) -> None:
    for value in WRONG_IN_A_START[field]:
        response = writer.send("POST", "/start_job/", job(**{field: value}))
        assert_error(response, 400)
        wrong = rf"^{field}[^:]*: (must|is required)"
        assert re.match(wrong, response.get_json()["error"]), (value, response.text)
    assert_nothing_written(database)


def _resource(field: str, value: Any) -> dict[str, Any]:
    return {"resources": [{"hostname": "f1", field: value}]}


def _statistic(field: str, value: Any) -> dict[str, Any]:
    return {"statistics": {"flops": {field: value}}}


def _tag(field: str, value: Any) -> dict[str, Any]:
    return {"tags": [{"type": "a", "name": "b", field: value}]}


_NO_HOST: tuple[Any, ...] = (
    "",
    5,
    None,
    [],
    "a/b",
    "a b",
    "f[1-2]",
    "größe",
    "a\0",
    "a\n",
    "x" * 256,
)
_NO_THREADS: tuple[Any, ...] = ("0", 0, {}, [-1], ["0"], [0.0], [True], [None], [[]], [0, 2**63])
_NO_METRIC: tuple[Any, ...] = ("1", True, [], {}, -1, -0.5, 2**63, 2**64)
_NO_LABEL = ("", "x" * 256, None, *_NO_TEXT)
WRONG_WITHIN: dict[str, tuple[Callable[[str, Any], dict[str, Any]], tuple[Any, ...]]] = {
    "resources.0.hostname": (_resource, _NO_HOST),
    "resources.0.hwthreads": (_resource, _NO_THREADS),
    "resources.0.accelerators": (_resource, ("0", 0, {}, [0], [None], [[]], ["a\0"])),
    "resources.0.configuration": (_resource, _NO_TEXT),
    "statistics.flops.avg": (_statistic, _NO_METRIC),
    "statistics.flops.min": (_statistic, _NO_METRIC),
    "statistics.flops.max": (_statistic, _NO_METRIC),
    "statistics.flops.unit": (_statistic, _NO_TEXT),
    "tags.0.type": (_tag, _NO_LABEL),
    "tags.0.name": (_tag, _NO_LABEL),
    "tags.0.id": (_tag, _NO_INTEGER),
}


@pytest.mark.parametrize("place", WRONG_WITHIN)
def test_invalid_nested_value_is_refused_with_its_path(
    writer: Client, database: Database, place: str
) -> None:
    around, values = WRONG_WITHIN[place]
    for value in values:
        body = job(**around(place.rpartition(".")[2], value))
        assert_error(writer.send("POST", "/start_job/", body), 400, f"{place}: ")
    assert_nothing_written(database)


@pytest.mark.parametrize("field", ["jobId", "user", "cluster", "startTime", "resources"])
@pytest.mark.parametrize("value", ["nothing", "null"])
def test_missing_required_field_is_refused(
    writer: Client, database: Database, field: str, value: str
) -> None:
    body = job(**{field: None})
    if value == "nothing":
        del body[field]
    assert_error(writer.send("POST", "/start_job/", body), 400, f"{field}: is required")
    assert_nothing_written(database)


@pytest.mark.parametrize(
    "field", sorted(set(WRONG_IN_A_START) - {"jobId", "user", "cluster", "startTime", "resources"})
)
def test_null_in_an_optional_field_means_not_given(writer: Client, field: str) -> None:
    with_null = writer.read(writer.start(**{field: None}))
    absent = writer.read(writer.start(startTime=START + 1000))
    varying = {"id": 0, "startTime": 0, "duration": 0}
    assert {**with_null, **varying} == {**absent, **varying}


def test_null_in_a_nested_field_means_not_given(writer: Client) -> None:
    writer.start(
        resources=[
            {"hostname": "f1", "hwthreads": None, "accelerators": None, "configuration": None}
        ],
        statistics={"flops": {"unit": None, "avg": 1, "min": 0, "max": 2}},
    )
    answer = writer.list()[0]
    assert answer["resources"] == [{"hostname": "f1"}]
    assert answer["statistics"] == {"flops": {"unit": "", "avg": 1, "min": 0, "max": 2}}


WRONG_IN_A_STOP: dict[str, tuple[Any, ...]] = {
    "jobId": (0, -1, None, *_NO_INTEGER),
    "cluster": ("", *_NO_NAME),
    "startTime": (0, -1, *_NO_INTEGER),
    "stopTime": (0, -1, None, START - 61, 253_402_300_800, *_NO_INTEGER),
    "jobState": ("", "running", "RUNNING", "COMPLETE", None, 5, [], {}),
}


@pytest.mark.parametrize("field", WRONG_IN_A_STOP)
def test_invalid_field_of_a_stop_is_refused_by_name(writer: Client, field: str) -> None:
    writer.start()
    for value in WRONG_IN_A_STOP[field]:
        assert_error(writer.send("POST", "/stop_job/", stop(**{field: value})), 400, f"{field}: ")
    assert writer.list()[0]["jobState"] == "running"


def test_null_does_not_narrow_the_selection_of_a_stop(writer: Client) -> None:
    writer.start()
    assert writer.stop(cluster=None, startTime=None)["jobState"] == "completed"


@pytest.mark.parametrize(
    "field", ["jobId", "cluster", "startTime"], ids=lambda field: f"wrong {field}"
)
def test_invalid_field_of_a_deletion_is_refused_by_name(admin: Client, field: str) -> None:
    admin.start()
    wrong: tuple[Any, ...] = (0, -1, "", "a/b", 1.0, True, [], {}, 2**63)
    for value in wrong:
        body = {"jobId": 123000, field: value}
        assert_error(admin.send("DELETE", "/delete_job/", body), 400, f"{field}: ")
    assert len(admin.list()) == 1


@pytest.mark.parametrize(
    "digits",
    [str(2**63), str(2**64), str(-(2**63) - 1), "9" * 40, "9" * 300, "-" + "9" * 300],
    ids=["2^63", "2^64", "below -2^63", "40 digits", "300 digits", "300 digits below 0"],
)
@pytest.mark.parametrize(
    ("field", "overrides"),
    [
        ("jobId", {"jobId": "#"}),
        ("startTime", {"startTime": "#"}),
        ("id", {"id": "#"}),
        ("walltime", {"walltime": "#"}),
        ("resources.0.hwthreads", _resource("hwthreads", ["#"])),
        ("metaData.size", {"metaData": {"size": "#"}}),
        ("statistics.flops.avg", _statistic("avg", "#")),
        ("tags.0.id", _tag("id", "#")),
    ],
    ids=["jobId", "startTime", "id", "walltime", "hwthreads", "metaData", "statistics", "tags"],
)
def test_integer_beyond_64_bits_is_refused_by_name(
    writer: Client, database: Database, field: str, overrides: dict[str, Any], digits: str
) -> None:
    body = json.dumps(job(**overrides)).replace('"#"', digits).encode()
    assert_error(writer.send("POST", "/start_job/", body), 400, f"{field}: must")
    assert_nothing_written(database)


@pytest.mark.parametrize("digits", ["9" * 5000, "-" + "9" * 5000], ids=["above", "below"])
@pytest.mark.parametrize("field", ["jobId", "more"])
def test_integer_beyond_a_double_is_refused_with_its_column(
    writer: Client, database: Database, field: str, digits: str
) -> None:
    body = json.dumps(job(**{field: "#"})).replace('"#"', digits).encode()
    assert_error(writer.send("POST", "/start_job/", body), 400, "number", "column")
    assert_nothing_written(database)


def test_invalid_body_is_refused_before_any_query(admin: Client, database: Database) -> None:
    with database.session() as conn, conn.transaction():
        conn.execute("LOCK TABLE jobs, tags, job_tags IN ACCESS EXCLUSIVE MODE")
        for body in (b"", b"{", b"[]", job(jobId=0), job(user="\0"), job(JobId=1)):
            assert_error(admin.send("POST", "/start_job/", body), 400)
        assert_error(admin.send("POST", "/stop_job/1", stop(jobState="running")), 400)
        assert_error(admin.send("POST", "/tag_job/1", [{"type": "a"}]), 400)
        assert_error(admin.send("DELETE", "/delete_job/", {"jobId": 0}), 400)
