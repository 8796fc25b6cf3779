"""Whatever is sent to the port: no 5xx, nothing outside the archive, no token in a log."""

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
from tests.properties import hostile, hostile_texts, near_misses
from tests.properties.duration import long_form, rounds
from tests.properties.siege import Answer, Siege

_WORKERS = 2
_EVER_AFTER = 253_402_300_799
_SHORT_SECONDS = 3
_EXAMPLES = 200


@pytest.fixture
def siege(config: Config, database: Database, tmp_path: Path) -> Iterator[Siege]:
    """Serve, with all that is logged on; afterwards nothing is harmed."""
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
        "CCAPI_LOG_LEVEL": "DEBUG",
        # A SCRIPT_NAME header changes the routing otherwise; nginx is not asked to set one.
        "GUNICORN_CMD_ARGS": "--access-logfile=- --forwarder-headers=",
    }
    token = tokens.create(database, "hostile", Role.ADMIN)
    with gunicorn(settings, tmp_path, _WORKERS) as service:
        siege = Siege(service, token, config.archive.root, tmp_path / "gunicorn.log")
        yield siege
        siege.assert_unharmed()


def test_no_hostile_request_meets_a_failure(siege: Siege) -> None:
    siege.secrets += [
        shape.decode()
        for shape in hostile_texts.TOKENS
        if shape.startswith(b"ccapi_x") and shape.isascii()
    ]
    requests = list(hostile.everything(siege.header))
    with ThreadPoolExecutor(_WORKERS) as clients:
        answers = list(clients.map(siege.send, requests))
    ours = [answer for answer in answers if answer and not answer.server]
    assert len(ours) > len(requests) / 2


def test_what_a_header_says_about_the_path_does_not_count(siege: Siege) -> None:
    for request in hostile.prefixes(siege.header):
        answer = siege.send(request)
        assert answer is not None
        assert answer.server or (answer.status, answer.json["jobs"]) == (200, [])


def test_slow_clients_are_served_in_the_end(siege: Siege) -> None:
    request = hostile.start(siege.header, hostile.valid())
    pieces = [request[place : place + 20] for place in range(0, len(request), 20)]
    began = time.monotonic()
    with ThreadPoolExecutor(4) as clients:
        waiting = [clients.submit(siege.send, pieces, 0.05) for _ in range(2)]
        broken = [clients.submit(siege.send, pieces[:-1], 0.05) for _ in range(2)]
        assert sorted(statuses(waiting)) == [201, 422]
        assert set(statuses(broken)) <= {400}
    assert time.monotonic() - began < 20


def statuses(sent: list[Future[Answer | None]]) -> list[int]:
    answers = [each.result() for each in sent]
    return [answer.status for answer in answers if answer is not None]


def test_no_name_leads_out_of_the_archive(siege: Siege) -> None:
    numbers = count(1)

    def live(name: str) -> None:
        for place, body in hostile_texts.places(name):
            sent = body if place == "jobId" else {**body, "jobId": next(numbers)}
            started = siege.call("POST", "/start_job/", sent)
            assert started.status in {201, 400}, (place, name, started.body)
            if started.status == 201:
                stop(siege, started.json["id"])
        target = {"jobId": 1, "cluster": name, "stopTime": START, "jobState": "failed"}
        assert siege.call("POST", "/stop_job/", target).status in {400, 422}

    with ThreadPoolExecutor(_WORKERS) as clients:
        list(clients.map(live, hostile_texts.NAMES))
    assert {path.name for path in siege.archive.rglob("*") if path.is_file()} == {
        "meta.json",
        "version.txt",
    }
    known = {"version.txt", "fritz", *hostile_texts.NAMES}
    assert {path.name for path in siege.archive.iterdir()} <= known


def stop(siege: Siege, id_: int) -> dict[str, Any]:
    body = {"stopTime": _EVER_AFTER, "jobState": "completed"}
    stopped = siege.call("POST", f"/stop_job/{id_}", body)
    assert stopped.status == 200, stopped.body
    shown: dict[str, Any] = stopped.json
    return shown


def test_every_text_comes_back_byte_for_byte(siege: Siege) -> None:
    for number, text in enumerate(hostile_texts.TEXTS, 1):
        sent = job(**{**hostile_texts.free_texts(text), "jobId": number})
        started = siege.call("POST", "/start_job/", sent)
        assert started.status == 201, (text, started.body)
        stopped = stop(siege, started.json["id"])
        [listed] = siege.call("GET", "/?with-metadata&items-per-page=1").json["jobs"]
        for shown in (stopped, listed):
            for tag in shown["tags"]:
                tag.pop("id")
            assert {name: shown[name] for name in sent} == sent
        path = siege.archive / "fritz" / "0" / f"{number:03}" / str(START) / "meta.json"
        archived = json.loads(path.read_bytes())
        archived["statistics"][text]["unit"] = "".join(
            archived["statistics"][text]["unit"].values()
        )
        assert {name: archived[name] for name in sent} == sent
        assert siege.call("DELETE", f"/delete_job/{listed['id']}").status == 200


def test_a_job_that_is_nearly_valid_is_taken_or_refused(siege: Siege) -> None:
    @settings(
        max_examples=_EXAMPLES,
        derandomize=not long_form(),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(near_misses.jobs())
    def play(body: bytes) -> None:
        answer = siege.send(hostile.start(siege.header, body))
        assert answer is not None
        assert answer.status in {201, 400, 422}, answer.body
        if answer.status == 201:
            shown = stop(siege, answer.json["id"])
            assert shown["monitoringStatus"] in {0, 3}
            assert siege.call("DELETE", f"/delete_job/{shown['id']}").status == 200

    for _ in rounds(0, share=0.5):
        play()


def test_random_damage_to_a_request_meets_no_failure(siege: Siege) -> None:
    seed = str(time.time_ns()) if long_form() else "damage"
    random = Random(seed)
    siege.damages = True
    large = 20_000
    requests = [each for each in hostile.everything(siege.header) if len(each) < large]
    requests += 50 * [hostile.start(siege.header, hostile.valid())]
    for _ in rounds(_SHORT_SECONDS, share=0.5):
        siege.send(near_misses.damaged(random.choice(requests), random))
    print(f"{siege.answers} answers, seed {seed}")


def test_a_token_is_looked_up_by_its_digest_so_that_time_tells_nothing(
    siege: Siege, database: Database
) -> None:
    """A near miss has another SHA-256 altogether: how far a comparison gets says nothing.

    Nothing compares secrets, and the table has no part of one.
    """
    with database.connection() as conn:
        rows = conn.execute("SELECT t.digest, t::text FROM tokens AS t").fetchall()
    assert [digest for digest, _ in rows] == [hashlib.sha256(siege.token.encode()).digest()]
    assert all(siege.token[6:16] not in row for _, row in rows)
    prefix, secret = siege.token[:6], siege.token[6:]
    other = {place: "A" if secret[place] != "A" else "B" for place in (0, 20, 42)}
    for place, letter in other.items():
        near = f"{prefix}{secret[:place]}{letter}{secret[place + 1 :]}"
        siege.secrets.append(near)
        for header in (b"X-Auth-Token: ", b"Authorization: Bearer "):
            answer = siege.send(hostile.request(b"GET /api/jobs/ HTTP/1.1", header + near.encode()))
            assert answer is not None
            assert answer.status == 401
