"""GET /jobs/?format=csv is the list as a table, after RFC 4180."""

import csv
import io
import json
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from ccapi.api.serializers import JOB_FIELDS
from ccapi.repository import job_list
from tests.client import START, Client, assert_error, full_job

_BATCHES = pytest.mark.parametrize("batch", [1, 2, 250])
_NUMBER = 5


def table(response: TestResponse) -> list[dict[str, str]]:
    assert response.status_code == 200, response.text
    assert response.content_type == "text/csv; charset=utf-8; header=present"
    return list(csv.DictReader(io.StringIO(response.text, newline=""), strict=True))


@pytest.fixture
def five(admin: Client) -> None:
    for number in range(1, _NUMBER + 1):
        admin.start(jobId=number, startTime=START + number)


def _value(name: str, text: str) -> Any:
    texts = ("user", "project", "cluster", "subCluster", "partition", "jobState", "shared")
    return text if name in texts else json.loads(text)


@_BATCHES
@pytest.mark.parametrize("query", ["", "&with-metadata"])
def test_csv_has_the_same_values_as_json(
    admin: Client, monkeypatch: pytest.MonkeyPatch, query: str, batch: int
) -> None:
    admin.start(**full_job())
    admin.stop()
    admin.start(jobId=7)
    monkeypatch.setattr("ccapi.api.job_list.now", lambda: START + 60)
    expected = admin.list(query)
    monkeypatch.setattr("ccapi.api.job_list._BATCH_SIZE", batch)
    rows = table(admin.send("GET", f"/?format=csv{query}"))
    assert list(rows[0]) == [*JOB_FIELDS[:-1], *(["metaData"] if query else [])]
    values = [{name: row[name] for name in row if row[name] or name in job}
             for row, job in zip(rows, expected, strict=True)]  # fmt: skip
    assert [{name: _value(name, text) for name, text in row.items()} for row in values] == expected


def test_lines_and_quotes_follow_the_rfc(admin: Client) -> None:
    admin.start(user='a,"b"\r\nc', project="größe", partition="d e")
    response = admin.send("GET", "/?format=csv&fields=user,project,partition,jobId")
    expected = 'user,project,partition,jobId\r\n"a,""b""\r\nc",größe,d e,123000\r\n'
    assert response.data.decode() == expected


@pytest.mark.parametrize(
    "name",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\u00a0@x", "\uff1d1", " \uff0b1"],
)
def test_names_are_not_formulas_for_spreadsheets(admin: Client, name: str) -> None:
    admin.start(user=name, project=name, partition=name, metaData={"jobName": name})
    [row] = table(admin.send("GET", "/?format=csv&with-metadata"))
    assert (row["user"], row["project"], row["partition"]) == (f"'{name}",) * 3
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values())


def test_empty_list_has_the_line_of_names(reader: Client) -> None:
    response = reader.send("GET", "/?format=csv&fields=jobId,user&total=true")
    assert response.text == "jobId,user\r\n"
    assert (response.headers["X-Next-Cursor"], response.headers["X-Total"]) == ("", "0")


@_BATCHES
@pytest.mark.usefixtures("five")
def test_cursor_header_leads_through_the_list(
    reader: Client, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr("ccapi.api.job_list._BATCH_SIZE", batch)
    seen, cursor = [], ""
    for _ in range(3):
        address = f"/?format=csv&fields=jobId&items-per-page=2&total=1&cursor={cursor}"
        response = reader.send("GET", address)
        seen += [int(row["jobId"]) for row in table(response)]
        assert response.headers["X-Total"] == str(_NUMBER)
        cursor = response.headers["X-Next-Cursor"]
    assert (seen, cursor) == ([5, 4, 3, 2, 1], "")


@pytest.mark.parametrize(("query", "ends"), [
    ("items-per-page=5", True), ("items-per-page=4", False), ("items-per-page=9999999", True),
    ("items-per-page=2&page=2", False), ("items-per-page=2&page=3", True),
    (f"items-per-page={2**63 - 1}", True), (f"items-per-page=3&page={2**62}", True),
])  # fmt: skip
@pytest.mark.usefixtures("five")
def test_stream_has_the_cursor_header_of_its_end(
    reader: Client, monkeypatch: pytest.MonkeyPatch, query: str, *, ends: bool
) -> None:
    monkeypatch.setattr("ccapi.api.job_list._BATCH_SIZE", 1)
    response = reader.send("GET", f"/?format=csv&{query}")
    assert (response.headers["X-Next-Cursor"] == "") is ends
    following = reader.send("GET", f"/?{query}").get_json()["nextCursor"]
    assert response.headers["X-Next-Cursor"] == following


def test_etag_changes_with_the_headers(admin: Client) -> None:
    admin.start(startTime=START + 5)
    address = "/?format=csv&items-per-page=1&fields=user"
    etag = admin.send("GET", address).headers["ETag"]
    assert admin.send("GET", address, headers={"If-None-Match": etag}).status_code == 304
    admin.start(jobId=2, startTime=START)
    changed = admin.send("GET", address, headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["X-Next-Cursor"]


@pytest.mark.parametrize("text", ["", "CSV", "xml", "csv,json"])
def test_unknown_format_is_refused(reader: Client, text: str) -> None:
    assert_error(reader.send("GET", f"/?format={text}"), 400, "format: must be json or csv")


def test_json_is_the_default_format(reader: Client) -> None:
    assert reader.send("GET", "/?format=json").data == reader.send("GET", "/").data


def test_errors_are_json(app: Flask, reader: Client) -> None:
    assert_error(reader.send("GET", "/?format=csv&page=0"), 400, "page: ")
    assert_error(Client(app.test_client(), "none").send("GET", "/?format=csv"), 401)


@pytest.mark.usefixtures("five")
def test_failure_truncates_the_stream(reader: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccapi.api.job_list._BATCH_SIZE", 2)
    real, calls = job_list.list_page, []

    def list_page(*args: Any) -> Any:
        calls.append(args)
        if len(calls) > 2:
            raise RuntimeError("broken")
        return real(*args)

    monkeypatch.setattr(job_list, "list_page", list_page)
    response = reader.send("GET", "/?format=csv&items-per-page=9", buffered=False)
    with pytest.raises(RuntimeError, match="broken"):
        list(response.response)
