"""Random operations, one after the other: every answer and the end are the model's."""

import itertools
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from ccapi.config import Config, load
from ccapi.model.token import Role
from ccapi.repository.database import Database
from ccapi.service import tokens as service_tokens
from tests import conftest
from tests.properties import model, operations, service
from tests.properties.duration import long_form, rounds
from tests.properties.world import Call, Operation, Unexplained, World

_CLUSTERS = [
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
_SHORT = settings(max_examples=30, stateful_step_count=30, derandomize=True)
_LONG = settings(max_examples=500, stateful_step_count=50)
_COMMON: dict[str, Any] = {
    "database": None,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.generate, Phase.shrink),
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
        "CCAPI_CLUSTERS": json.dumps(_CLUSTERS),
        "CCAPI_LOG_LEVEL": "ERROR",
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
        conn.execute("UPDATE tokens SET expires_time = now() WHERE name = 'expired'")
    return {**made, "unknown": f"ccapi_{43 * 'x'}", "malformed": "'; DROP TABLE jobs; --"}


class Life(RuleBasedStateMachine):
    """A service from its first job on, beside the model."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage
        self._http = stage.app.test_client()
        self._world = World()
        self._tag_ids = service.TagIds()
        self._ids: list[int] = []
        self._failed = False
        shutil.rmtree(stage.directory, ignore_errors=True)
        self._archive = stage.directory / "job-archive"
        self._archive.mkdir(parents=True)
        stage.app.extensions["ccapi"] = replace(
            stage.app.extensions["ccapi"], archive_root=self._archive
        )
        with stage.database.statement() as conn:
            conn.execute("DELETE FROM jobs")
            conn.execute("DELETE FROM tags")

    @rule(operation=operations.operations("start"))
    def start(self, operation: Operation) -> None:
        answer = self._play(operation)
        if "id" in answer:
            assert answer["id"] not in self._ids
            self._ids.append(answer["id"])

    @rule(operation=operations.operations("stop"))
    def stop(self, operation: Operation) -> None:
        self._play(operation)

    @rule(operation=operations.operations("stop_by_id"), pick=operations.picks)
    def stop_by_id(self, operation: Operation, pick: int | str) -> None:
        self._play(operation._replace(target=self._target(pick)))

    @rule(operation=operations.operations("tag"), pick=operations.picks)
    def tag(self, operation: Operation, pick: int | str) -> None:
        self._play(operation._replace(target=self._target(pick)))

    @rule(operation=operations.lists())
    def list_jobs(self, operation: Operation) -> None:
        self._play(operation)

    @rule(operation=operations.operations("delete"))
    def delete(self, operation: Operation) -> None:
        self._play(operation)

    @rule(credential=operations.credentials, pick=operations.picks, rare=st.integers(0, 3))
    def delete_by_id(self, credential: str, pick: int | str, rare: int) -> None:
        if rare == 0:
            self._play(Operation("delete_by_id", credential, self._target(pick)))

    @precondition(lambda self: self._world.runs)
    @rule(
        credential=operations.credentials,
        before=st.sampled_from([0, 1, 2, *(operations.START + n for n in (0, 1, 60)), -5, "x"]),
        rare=st.integers(0, 3),
    )
    def delete_before(self, credential: str, before: int | str, rare: int) -> None:
        if rare == 0:
            self._play(Operation("delete_before", credential, str(before)))

    def teardown(self) -> None:
        """Compare all that is left with all that must be left."""
        if not self._failed:
            self._play(Operation("list", query=_EVERYTHING))
            service.check_archive(self._world, service.read_archive(self._archive))

    def _target(self, pick: int | str) -> str:
        if pick == "unknown" or (isinstance(pick, int) and not self._ids):
            return str(max(self._ids, default=0) + 1_000_000)
        return str(self._ids[pick % len(self._ids)] if isinstance(pick, int) else pick)

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
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["X-Request-Id"]
        try:
            self._world = model.follow(self._world, call)
            self._tag_ids.see(call.answer)
        except Unexplained as reason:
            shown = f"{call}\n{self._world}"
            raise AssertionError(f"the model says: {reason}\n{shown[:5000]}") from None
        self._failed = False
        return call.answer


def test_every_answer_of_a_random_life_is_the_models(stage: Stage) -> None:
    chosen = settings(_LONG if long_form() else _SHORT, **_COMMON)
    played = itertools.count()

    def begin() -> Life:
        next(played)
        return Life(stage)

    for _ in rounds(0):
        run_state_machine_as_test(begin, settings=chosen)  # type: ignore[no-untyped-call]
    print(f"{next(played)} sequences")
