"""Hostile requests get no 5xx, write nothing outside the archive, and leave no token in a log."""

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.client import START, job
from tests.processes import gunicorn
from tests.properties import hostile_requests, hostile_texts, invalid_bodies
from tests.properties.duration import long_form, rounds
from tests.properties.hostile import Attack, broken_rules
from tests.properties.hostile_client import HostileClient, Response

pytestmark = pytest.mark.slow

_WORKERS = 2
_MAX_TIME = 253_402_300_799
_SHORT_SECONDS = 3
_EXAMPLES = 200
_MIXED_REQUESTS = 1_000


@pytest.fixture
def client(config: Config, database: Database, tmp_path: Path) -> Iterator[HostileClient]:
    """Serve with a verbose log; check files, log and workers afterwards."""
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
        "CCAPI_LOG_LEVEL": "DEBUG",
        "CCAPI_LIMITS_EXPENSIVE_SHARE": "1",
        # Otherwise a SCRIPT_NAME header changes the routing.
        "GUNICORN_CMD_ARGS": "--access-logfile=- --forwarder-headers=",
    }
    token = tokens.create(database, "hostile", Role.ADMIN)
    with gunicorn(settings, tmp_path, _WORKERS) as service:
        client = HostileClient(service, token, config.archive.root, tmp_path / "gunicorn.log")
        yield client
        client.assert_unharmed()


def test_hostile_requests_do_not_fail(client: HostileClient) -> None:
    client.secrets += [
        shape.decode()
        for shape in hostile_texts.TOKENS
        if shape.startswith(b"ccapi_x") and shape.isascii()
    ]
    requests = list(hostile_requests.everything(client.header))
    with ThreadPoolExecutor(_WORKERS) as clients:
        answers = list(clients.map(client.send, requests))
    ours = [answer for answer in answers if answer and not answer.is_from_gunicorn]
    assert len(ours) > len(requests) / 2


def test_path_headers_are_ignored(client: HostileClient) -> None:
    for request in hostile_requests.prefixes(client.header):
        answer = client.send(request)
        assert answer is not None
        assert answer.is_from_gunicorn or (answer.status, answer.json["jobs"]) == (200, [])


def test_slow_clients_are_served(client: HostileClient) -> None:
    request = hostile_requests.start(client.header, hostile_requests.valid())
    pieces = [request[place : place + 20] for place in range(0, len(request), 20)]
    began = time.monotonic()
    with ThreadPoolExecutor(4) as clients:
        waiting = [clients.submit(client.send, pieces, 0.05) for _ in range(2)]
        broken = [clients.submit(client.send, pieces[:-1], 0.05) for _ in range(2)]
        assert sorted(statuses(waiting)) == [201, 422]
        assert set(statuses(broken)) <= {400}
    assert time.monotonic() - began < 20


def statuses(sent: list[Future[Response | None]]) -> list[int]:
    answers = [each.result() for each in sent]
    return [answer.status for answer in answers if answer is not None]


def test_no_name_leads_out_of_the_archive(client: HostileClient) -> None:
    numbers = count(1)

    def run_jobs(name: str) -> None:
        for place, body in hostile_texts.places(name):
            sent = body if place == "jobId" else {**body, "jobId": next(numbers)}
            started = client.call("POST", "/start_job/", sent)
            assert started.status in {201, 400}, (place, name, started.body)
            if started.status == 201:
                stop(client, started.json["id"])
        target = {"jobId": 1, "cluster": name, "stopTime": START, "jobState": "failed"}
        assert client.call("POST", "/stop_job/", target).status in {400, 422}

    with ThreadPoolExecutor(_WORKERS) as clients:
        list(clients.map(run_jobs, hostile_texts.NAMES))
    assert {path.name for path in client.archive.rglob("*") if path.is_file()} == {
        "cluster.json",
        "meta.json",
        "version.txt",
    }
    known = {"version.txt", "fritz", *hostile_texts.NAMES}
    assert {path.name for path in client.archive.iterdir()} <= known


def stop(client: HostileClient, id_: int) -> dict[str, Any]:
    body = {"stopTime": _MAX_TIME, "jobState": "completed"}
    stopped = client.call("POST", f"/stop_job/{id_}", body)
    assert stopped.status == 200, stopped.body
    answer: dict[str, Any] = stopped.json
    return answer


def test_every_text_is_returned_byte_for_byte(client: HostileClient) -> None:
    for number, text in enumerate(hostile_texts.TEXTS, 1):
        sent = job(**{**hostile_texts.free_texts(text), "jobId": number})
        started = client.call("POST", "/start_job/", sent)
        assert started.status == 201, (text, started.body)
        stopped = stop(client, started.json["id"])
        [listed] = client.call("GET", "/?with-metadata&items-per-page=1").json["jobs"]
        for answer in (stopped, listed):
            for tag in answer["tags"]:
                tag.pop("id")
            assert {name: answer[name] for name in sent} == sent
        path = client.archive / "fritz" / "0" / f"{number:03}" / str(START) / "meta.json"
        archived = json.loads(path.read_bytes())
        archived["statistics"][text]["unit"] = "".join(
            archived["statistics"][text]["unit"].values()
        )
        assert {name: archived[name] for name in sent} == sent
        assert client.call("DELETE", f"/delete_job/{listed['id']}").status == 200


def test_nearly_valid_jobs_are_accepted_or_rejected(client: HostileClient) -> None:
    @settings(
        max_examples=_EXAMPLES,
        derandomize=not long_form(),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(invalid_bodies.jobs())
    def start(body: bytes) -> None:
        answer = client.send(hostile_requests.start(client.header, body))
        assert answer is not None
        assert answer.status in {201, 400, 422}, answer.body
        if answer.status == 201:
            stopped = stop(client, answer.json["id"])
            assert stopped["monitoringStatus"] in {0, 3}
            assert client.call("DELETE", f"/delete_job/{stopped['id']}").status == 200

    for _ in rounds(0, share=0.5):
        start()


def test_requests_with_changed_bytes_do_not_fail(client: HostileClient) -> None:
    seed = str(time.time_ns()) if long_form() else "damage"
    random = Random(seed)
    client.changes_bytes = True
    large = 20_000
    requests = [each for each in hostile_requests.everything(client.header) if len(each) < large]
    requests += 50 * [hostile_requests.start(client.header, hostile_requests.valid())]
    for _ in rounds(_SHORT_SECONDS, share=0.5):
        client.send(invalid_bodies.with_changed_bytes(random.choice(requests), random))
    print(f"{client.answers} answers, seed {seed}")


def test_mixed_requests_get_no_5xx_and_break_no_rule(client: HostileClient) -> None:
    """`python -m tests.properties.hostile` sends more of them."""
    client.changes_bytes = True
    attack = Attack(client)
    attack.run("mixture", _MIXED_REQUESTS)
    assert attack.answers.total() == _MIXED_REQUESTS
    assert attack.mistakes == {}, attack.examples
    assert list(broken_rules(client)) == []


def test_tokens_are_looked_up_by_digest(client: HostileClient, database: Database) -> None:
    """Response times reveal nothing: no secret is compared, and none is in the table.

    A token that differs in one character has an entirely different SHA-256.
    """
    with database.connection() as conn:
        rows = conn.execute("SELECT t.digest, t::text FROM tokens AS t").fetchall()
    assert [digest for digest, _ in rows] == [hashlib.sha256(client.token.encode()).digest()]
    assert all(client.token[6:16] not in row for _, row in rows)
    prefix, secret = client.token[:6], client.token[6:]
    other = {place: "A" if secret[place] != "A" else "B" for place in (0, 20, 42)}
    for place, letter in other.items():
        near = f"{prefix}{secret[:place]}{letter}{secret[place + 1 :]}"
        client.secrets.append(near)
        for header in (b"X-Auth-Token: ", b"Authorization: Bearer "):
            answer = client.send(
                hostile_requests.request(b"GET /api/jobs/ HTTP/1.1", header + near.encode())
            )
            assert answer is not None
            assert answer.status == 401
