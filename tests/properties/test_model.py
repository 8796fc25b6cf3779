"""Random operations, one after the other: every answer and the end are the model's."""

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
from tests.properties import model, service
from tests.properties.duration import long_form, rounds
from tests.properties.operations import Generator
from tests.properties.world import Call, Operation, Unexplained, World

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
    # A failure shows the whole history; changed histories are others altogether.
    "phases": (Phase.generate,),
}


@dataclass(frozen=True)
class Stage:
    """What every sequence is played on."""

    app: Flask
    database: Database
    tokens: Mapping[str, str]
    directory: Path


@pytest.fixture
def stage(config: Config, database: Database, tmp_path: Path) -> Stage:
    environment = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
        "CCAPI_CLUSTERS": json.dumps(CLUSTERS),
        "CCAPI_LOG_LEVEL": "ERROR",
        # One life's answer must not be shared with the next one.
        "CCAPI_JOBS_LIST_CACHE_SECONDS": "0",
    }
    app = conftest.serve(load(environ=environment), database)
    return Stage(app, database, make_tokens(database), tmp_path / "archives")


def make_tokens(database: Database) -> dict[str, str]:
    """Make a token for every credential that is one."""
    made = {role.value: service_tokens.create(database, role.value, role) for role in Role}
    made["expired"] = service_tokens.create(database, "expired", Role.ADMIN)
    made["revoked"] = service_tokens.create(database, "revoked", Role.ADMIN)
    service_tokens.revoke(database, "revoked")
    with database.transaction() as conn:
        conn.execute("UPDATE tokens SET expires_at = now() WHERE name = 'expired'")
    return {**made, "unknown": f"ccapi_{43 * 'x'}", "malformed": "'; DROP TABLE jobs; --"}


class Life(RuleBasedStateMachine):
    """A service from its first job on, beside the model."""

    STAGE: ClassVar[Stage]
    numbers: ClassVar = itertools.count()
    failing: ClassVar[int | None] = None

    def __init__(self) -> None:
        super().__init__()
        # Hypothesis repeats itself; the number makes lives differ all the same. One that
        # fails is played again, to be sure.
        self._number = next(self.numbers) if self.failing is None else self.failing
        self._stage = stage = self.STAGE
        self._http = stage.app.test_client()
        self._world = World()
        self._tag_ids = service.TagIds()
        self._ids: list[int] = []
        self._history: list[Call] = []
        self._failed = False
        shutil.rmtree(stage.directory, ignore_errors=True)
        self._archive = stage.directory / "job-archive"
        writer.create_if_missing(self._archive)
        stage.app.extensions["ccapi"] = replace(
            stage.app.extensions["ccapi"], archive_root=self._archive
        )
        with stage.database.connection() as conn:
            conn.execute("DELETE FROM jobs")
            conn.execute("DELETE FROM archive_queue")
            conn.execute("DELETE FROM tags")

    @rule(seed=st.integers(0, 2**20))
    def step(self, seed: int) -> None:
        random = Random(f"{self._number} {seed} {len(self._history)}")
        answer = self._play(Generator(random).operation(self._ids))
        if "id" in answer and "jobId" not in answer:
            assert answer["id"] not in self._ids
            self._ids.append(answer["id"])

    def teardown(self) -> None:
        """Compare all that is left with all that must be left."""
        failed, type(self).failing = self._failed, self._number
        if not failed:
            self._play(Operation("list", query=_EVERYTHING))
            service.check_archive(self._world, service.read_archive(self._archive))
            type(self).failing = None

    def _play(self, operation: Operation) -> Any:
        self._failed = True
        began = time.time()
        response = self._http.open(
            service.path(operation),
            method=service.method(operation),
            data=operation.body,
            headers=service.headers(operation, self._stage.tokens),
        )
        call = Call(operation, response.status_code, json.loads(response.data), began, time.time())
        self._history.append(call)
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["X-Request-Id"]
        try:
            self._world = model.follow(self._world, call)
            self._tag_ids.see(call.answer)
        except Unexplained as reason:
            history = "\n".join(str(past)[:2000] for past in self._history)
            raise AssertionError(f"{history}\nHere the model says: {reason}") from None
        self._failed = False
        return call.answer


def test_every_answer_of_a_random_life_is_the_models(stage: Stage) -> None:
    chosen = settings(_LONG if long_form() else _SHORT, **_COMMON)
    life = type("Life", (Life,), {"STAGE": stage})
    for _ in rounds(0):
        run_state_machine_as_test(life, settings=chosen)
    print(f"{next(Life.numbers)} sequences")
