"""POST /api/jobs/batch/: many starts and stops, each with the answer of the single request."""

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from flask import Flask

from ccapi.config import Config
from ccapi.context import Context
from ccapi.db.pool import Database, Limits
from ccapi.model.token import Role, Scope
from ccapi.service import tokens
from tests.client import (
    START,
    Client,
    assert_error,
    assert_nothing_written,
    at_once,
    full_job,
    job,
    stop,
    without,
)


def lines(*commands: Any) -> bytes:
    return b"".join(json.dumps(command).encode() + b"\n" for command in commands)


def send(client: Client, body: bytes) -> list[dict[str, Any]]:
    response = client.send("POST", "/batch/", body)
    assert response.status_code == 200, response.text
    assert response.content_type == "application/x-ndjson"
    return [json.loads(line) for line in response.data.splitlines()]


def statuses(answers: list[dict[str, Any]]) -> list[int]:
    return [answer["status"] for answer in answers]


def test_start_and_stop_are_answered_as_alone(writer: Client, context: Context) -> None:
    started, stopped = send(writer, lines({"start": full_job()}, {"stop": stop()}))
    [listed] = writer.list("with-metadata")
    assert started == {"line": 1, "status": 201, "body": {"id": listed["id"]}}
    assert stopped == {"line": 2, "status": 200, "body": listed}
    assert listed["monitoringStatus"] == 3
    assert len(list(context.archive_root.rglob("meta.json"))) == 1


def test_order_of_a_job_is_the_order_of_its_lines(writer: Client) -> None:
    again = START + 7200
    answers = send(
        writer,
        lines(
            {"stop": stop()},
            {"start": job()},
            {"start": job(jobId=5)},
            {"start": job(startTime=START + 60)},
            {"stop": stop()},
            {"stop": stop()},
            {"start": job(startTime=again)},
            {"stop": stop(jobId=5, metaData={"exit": "3"})},
            {"stop": stop(stopTime=again + 5)},
        ),
    )
    assert statuses(answers) == [422, 201, 201, 422, 200, 422, 201, 200, 200]
    assert answers[7]["body"]["metaData"] == {"exit": "3"}
    assert answers[8]["body"]["duration"] == 5


def test_a_bad_line_affects_no_other(writer: Client) -> None:
    bad = [
        b"{",
        b"[]",
        b"{}",
        b"\xff\xfe{",
        b'{"start": {}, "stop": {}}',
        b'{"start": []}',
        b'{"start": {}}',
        b'{"stop": {"stopTime": 1, "jobState": "completed"}}',
        b'{"begin": {}}',
        json.dumps({"start": job()}).encode("utf-16-le"),
        json.dumps({"start": job(jobId=2**70)}).encode(),
        json.dumps({"start": job(user="a\0b")}).encode(),
        b"[" * 10_000,
    ]
    good = [json.dumps({"start": job(jobId=number)}).encode() for number in range(1, len(bad) + 1)]
    body = b"\n".join(line for pair in zip(good, bad, strict=True) for line in pair)
    assert statuses(send(writer, body)) == [201, 400] * len(bad)


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("start", without(job(), "user")),
        ("start", job(jobId=0, resources=[{"hostname": "a/b"}])),
        ("start", {"JOBID": 1, "jobId": 2}),
        ("stop", {"jobState": "completed", "stopTime": 5}),
        ("stop", stop(jobState="running")),
        ("stop", stop()),
    ],
)
def test_refusal_has_the_words_of_the_single_request(
    writer: Client, operation: str, body: dict[str, Any]
) -> None:
    alone = writer.send("POST", f"/{operation}_job/", body)
    [answer] = send(writer, lines({operation: body}))
    assert answer == {"line": 1, "status": alone.status_code, "body": alone.get_json()}


def test_blank_lines_have_a_number_but_no_answer(writer: Client) -> None:
    body = b"\n \r\n" + json.dumps({"start": job()}).encode() + b"\r\n\n" + lines({"stop": stop()})
    assert [(a["line"], a["status"]) for a in send(writer, body)] == [(3, 201), (5, 200)]


def test_unknown_fields_are_ignored_and_listed(writer: Client) -> None:
    body = lines({"start": job(colour="red"), "why": 1}, {"STOP": stop(mood=3)})
    response = writer.send("POST", "/batch/", body)
    assert [json.loads(line)["status"] for line in response.data.splitlines()] == [201, 200]
    assert response.headers["Ccapi-Ignored-Fields"] == "why, colour, mood"


@pytest.mark.parametrize("body", [b"", b"\n\n \n", b"{}\n" * 1001, b"\n" * 5000 + b"{}"])
def test_body_without_lines_or_with_too_many_is_refused(
    writer: Client, database: Database, body: bytes
) -> None:
    assert_error(writer.send("POST", "/batch/", body), 400, "the body")
    assert_nothing_written(database)


def test_too_large_body_is_refused(writer: Client, database: Database) -> None:
    assert_error(writer.send("POST", "/batch/", b"x" * (8 * 2**20 + 1)), 413)
    assert_nothing_written(database)


def test_thousand_lines_are_answered_in_order(writer: Client) -> None:
    commands = [
        command
        for number in range(1, 501)
        for command in ({"start": job(jobId=number)}, {"stop": stop(jobId=number)})
    ]
    answers = send(writer, lines(*commands))
    assert statuses(answers) == [201, 200] * 500
    assert [answer["line"] for answer in answers] == list(range(1, 1001))
    assert [answer["body"]["jobId"] for answer in answers[1::2]] == list(range(1, 501))


def test_jobs_wait_for_the_archive_that_cannot_be_written(writer: Client, context: Context) -> None:
    (context.archive_root / "version.txt").write_text("2")
    commands = ({"start": job()}, {"stop": stop()}, {"start": job(jobId=5, monitoringStatus=0)})
    *_, unarchived = send(writer, lines(*commands, {"stop": stop(jobId=5)}))
    assert unarchived["body"]["monitoringStatus"] == 0
    assert [listed["monitoringStatus"] for listed in writer.list("job-id=123000")] == [2]


def test_a_line_that_must_wait_affects_only_its_job(
    writer: Client, app: Flask, context: Context, config: Config
) -> None:
    hurried = Database(config.database.url, Limits(lock_timeout=0.2))
    app.extensions["ccapi"] = replace(context, database=hurried)
    send(writer, lines(*({"start": job(jobId=number)} for number in range(1, 6))))
    body = lines(
        *({"stop": stop(jobId=number)} for number in range(1, 6)),
        {"start": job(jobId=3, startTime=START + 7200)},
        {"start": job(jobId=6)},
    )
    with context.database.transaction() as conn:
        conn.execute("SELECT FROM jobs WHERE job_id = 3 FOR UPDATE")
        answers = send(writer, body)
    assert statuses(answers) == [200, 200, 503, 200, 200, 503, 201]
    assert statuses(send(writer, body)) == [422, 422, 200, 422, 422, 201, 422]
    hurried.close()


def test_limited_token_is_limited_in_each_line(
    app: Flask, database: Database, admin: Client
) -> None:
    admin.start(jobId=1, user="bert")
    secret = tokens.create(database, "limited", Role.WRITER, scope=Scope(users=("anna",)))
    answers = send(
        Client(app.test_client(), secret),
        lines(
            {"stop": stop(jobId=1)},
            {"start": job(jobId=2, user="bert")},
            {"start": job(jobId=3, user="anna")},
            {"stop": stop(jobId=3)},
        ),
    )
    assert statuses(answers) == [422, 403, 201, 200]
    assert [listed["jobId"] for listed in admin.list("state=running")] == [1]


def test_readers_may_not(reader: Client) -> None:
    assert_error(reader.send("POST", "/batch/", lines({"start": job()})), 403, "writer")


def test_batches_of_the_same_jobs_at_once_do_not_double(writer: Client) -> None:
    numbers = range(1, 151)
    forward = [{"start": job(jobId=number)} for number in numbers]
    ends = [{"stop": stop(jobId=number)} for number in numbers]
    requests = [
        partial(send, writer.twin(), lines(*forward, *ends)),
        partial(send, writer.twin(), lines(*forward[::-1], *ends[::-1])),
        partial(send, writer.twin(), lines(*forward, *ends[::-1])),
    ]
    answers = [answer for batch in at_once(requests) for answer in batch]
    assert sorted(statuses(answers)) == [200] * 150 + [201] * 150 + [422] * 600
    assert len(writer.list("items-per-page=1000")) == 150
