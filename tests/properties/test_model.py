"""Random operations, one after the other: the model predicts every answer and the archive."""

import itertools
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest
from flask import Flask
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from ccapi.archive import writer
from ccapi.config import Config, load
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens as service_tokens
from tests import conftest
from tests.properties import http_calls, service_model
from tests.properties.duration import long_form, rounds
from tests.properties.model_state import Call, Operation, State, Unexplained
from tests.properties.operations import Generator

CLUSTERS = [
    {
        "name": "fritz",
        "sub_clusters": [
            {"name": "main", "nodes": "f[0101-0102]"},
            {"name": "spr", "nodes": "f0201"},
        ],
    },
    {"name": "alex"},
]
_EVERYTHING = "items-per-page=9999999&with-metadata=true"
_SHORT = settings(max_examples=40, stateful_step_count=30, derandomize=True)
_LONG = settings(max_examples=500, stateful_step_count=50)
_COMMON: dict[str, Any] = {
    "database": None,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    # A failure prints the whole history; a shrunk one would be another history.
    "phases": (Phase.generate,),
}


@dataclass(frozen=True)
class Service:
    """The service on which every sequence runs."""

    app: Flask
    database: Database
    tokens: Mapping[str, str]
    directory: Path


@pytest.fixture
def service(config: Config, database: Database, tmp_path: Path) -> Service:
    environment = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
        "CCAPI_CLUSTERS": json.dumps(CLUSTERS),
        "CCAPI_LOG_LEVEL": "ERROR",
        # A sequence must not get a cached answer of the one before.
        "CCAPI_JOBS_LIST_CACHE_SECONDS": "0",
    }
    app = conftest.serve(load(environ=environment), database)
    return Service(app, database, make_tokens(database), tmp_path / "archives")


def make_tokens(database: Database) -> dict[str, str]:
    """Return a token for every credential."""
    result = {role.value: service_tokens.create(database, role.value, role) for role in Role}
    result["expired"] = service_tokens.create(database, "expired", Role.ADMIN)
    result["revoked"] = service_tokens.create(database, "revoked", Role.ADMIN)
    service_tokens.revoke(database, "revoked")
    with database.transaction() as conn:
        conn.execute("UPDATE tokens SET expires_at = now() WHERE name = 'expired'")
    return {**result, "unknown": f"ccapi_{43 * 'x'}", "malformed": "'; DROP TABLE jobs; --"}


class Sequence(RuleBasedStateMachine):
    """A sequence of operations on an empty service, beside the model."""

    SERVICE: ClassVar[Service]
    numbers: ClassVar = itertools.count()
    failing: ClassVar[int | None] = None

    def __init__(self) -> None:
        super().__init__()
        # Hypothesis repeats itself; the number makes sequences differ nevertheless. One that
        # fails is repeated with its number.
        self._number = next(self.numbers) if self.failing is None else self.failing
        self._service = service = self.SERVICE
        self._http = service.app.test_client()
        self._state = State()
        self._tag_ids = http_calls.TagIds()
        self._ids: list[int] = []
        self._history: list[Call] = []
        self._failed = False
        shutil.rmtree(service.directory, ignore_errors=True)
        self._archive = service.directory / "job-archive"
        writer.create_if_missing(self._archive)
        service.app.extensions["ccapi"] = replace(
            service.app.extensions["ccapi"], archive_root=self._archive
        )
        with service.database.connection() as conn:
            conn.execute("DELETE FROM jobs")
            conn.execute("DELETE FROM archive_queue")
            conn.execute("DELETE FROM tags")

    @rule(seed=st.integers(0, 2**20))
    def step(self, seed: int) -> None:
        random = Random(f"{self._number} {seed} {len(self._history)}")
        answer = self._send(Generator(random).operation(self._ids))
        if "id" in answer and "jobId" not in answer:
            assert answer["id"] not in self._ids
            self._ids.append(answer["id"])

    def teardown(self) -> None:
        """Compare the list of all jobs and the archive with the model."""
        failed, type(self).failing = self._failed, self._number
        if not failed:
            self._send(Operation("list", query=_EVERYTHING))
            http_calls.check_archive(self._state, http_calls.read_archive(self._archive))
            type(self).failing = None

    def _send(self, operation: Operation) -> Any:
        self._failed = True
        began = time.time()
        response = self._http.open(
            http_calls.path(operation),
            method=http_calls.method(operation),
            data=operation.body,
            headers=http_calls.headers(operation, self._service.tokens),
        )
        call = Call(operation, response.status_code, json.loads(response.data), began, time.time())
        self._history.append(call)
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["X-Request-Id"]
        try:
            self._state = service_model.follow(self._state, call)
            self._tag_ids.check_answer(call.answer)
            if (operation.name, call.status) == ("delete_before", 200):
                self._tag_ids.discard()
        except Unexplained as reason:
            history = "\n".join(str(past)[:2000] for past in self._history)
            raise AssertionError(f"{history}\nThe model expects: {reason}") from None
        self._failed = False
        return call.answer


@pytest.mark.slow
def test_the_model_predicts_every_answer(service: Service) -> None:
    profile = settings(_LONG if long_form() else _SHORT, **_COMMON)
    machine = type("Sequence", (Sequence,), {"SERVICE": service})
    for _ in rounds(0):
        run_state_machine_as_test(machine, settings=profile)
    print(f"{next(Sequence.numbers)} sequences")
