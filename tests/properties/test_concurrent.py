"""Concurrent operations on few jobs, with real workers: some order explains all answers."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random

import pytest

from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.client import START
from tests.processes import Service, gunicorn
from tests.properties import http_calls
from tests.properties.duration import rounds
from tests.properties.linearizability import explained
from tests.properties.model_state import Call, Operation, State
from tests.properties.operations import Domain, Generator
from tests.properties.test_model import CLUSTERS

_SHORT_SECONDS = 8
_THREADS = 4
_OPERATIONS = 4
_DOMAIN = Domain(
    (1, 1, 2), ("fritz", "fritz", "alex"), (START, START + 60, START + 120, START + 7000)
)
_EVERYTHING = Operation("list", query="items-per-page=9999999&with-metadata=true")
_CLEAN = Operation("delete_before", target=str(2**62))


@pytest.fixture
def service(config: Config, database: Database, tmp_path: Path) -> Iterator[Service]:
    """Serve with four workers."""
    del database
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
        "CCAPI_CLUSTERS": json.dumps(CLUSTERS),
    }
    with gunicorn(settings, tmp_path) as running:
        yield running


class Round:
    """A history: first some jobs, then concurrent operations on them, then a list of all jobs."""

    def __init__(self, send: Callable[[Operation], Call], seed: str) -> None:
        self._send = send
        self._seed = seed
        self._ids: list[int] = []
        self.calls: list[Call] = []

    def run(self) -> None:
        """Send the operations and record the calls."""
        random = Random(self._seed)
        generator = Generator(random, _DOMAIN, flawless=True)
        for name in random.choices(("start", "start", "stop"), k=random.randrange(5)):
            self._add(generator.named(name, self._ids))
        barrier = threading.Barrier(_THREADS)

        def client(number: int) -> None:
            own = Generator(Random(f"{self._seed}.{number}"), _DOMAIN, flawless=True)
            barrier.wait()
            for _ in range(_OPERATIONS):
                self._add(own.operation(self._ids))

        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(client, range(_THREADS)))
        self._add(_EVERYTHING)

    def _add(self, operation: Operation) -> None:
        call = self._send(operation)
        self.calls.append(call)
        if call.status == 201:
            self._ids.append(call.answer["id"])

    def __str__(self) -> str:
        """Return the calls, ordered by their beginnings."""
        first = min(call.began for call in self.calls)
        return f"round {self._seed}\n" + "\n".join(
            f"{call.began - first:.4f} to {call.ended - first:.4f}: {call.operation}\n"
            f"    {call.status} {call.answer}"
            for call in sorted(self.calls, key=lambda call: call.began)
        )


def sender(service: Service, token: str) -> Callable[[Operation], Call]:
    """Send each operation on a connection of its own, as curl does."""

    def send(operation: Operation) -> Call:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        headers = http_calls.headers(operation, {"admin": token})
        began = time.time()
        connection.request(
            http_calls.method(operation), http_calls.path(operation), operation.body, headers
        )
        response = connection.getresponse()
        answer = json.loads(response.read())
        call = Call(operation, response.status, answer, began, time.time())
        connection.close()
        return call

    return send


@pytest.mark.slow
def test_some_order_explains_concurrent_answers(
    service: Service, database: Database, config: Config
) -> None:
    root = config.archive.root
    send = sender(service, tokens.create(database, "concurrent", Role.ADMIN))
    tag_ids = http_calls.TagIds()
    start = time.time_ns()
    number = 0
    archive = http_calls.read_archive(root)
    for number in rounds(_SHORT_SECONDS):
        history = Round(send, f"{start} {number}")
        history.run()
        before, archive = archive, http_calls.read_archive(root)
        state = State(archive=before.current, former=before.backups)
        assert explained(state, history.calls, partial(http_calls.is_archived, archive)), (
            f"no order explains\n{history}\nthe archive had\n{before}\nand has\n{archive}"
        )
        deletes = any(call.operation.name == "delete_before" for call in history.calls)
        for call in history.calls:
            if deletes:
                tag_ids.discard()
            tag_ids.check_answer(call.answer)
        assert send(_CLEAN).status == 200
        tag_ids.discard()
    print(f"{number + 1} rounds of {_THREADS} x {_OPERATIONS} operations")
