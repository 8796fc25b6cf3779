"""An unknown field, a key in another case and a null cost no job; a wrong type writes nothing."""

import json
import os
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from ccapi.db.pool import Connection, Database
from tests.client import Client
from tests.properties.mutations import OPERATIONS, mutate

pytestmark = pytest.mark.slow

# `make fuzz` sets it to 100,000.
_VARIABLE = "MUTATED_BODIES"
_SHORT_FORM = 2_000
_CREATING = ("start", "nodestate")
_CONTENT = """
SELECT
    (SELECT string_agg(j::text, ';' ORDER BY id) FROM jobs AS j),
    (SELECT string_agg(n::text, ';' ORDER BY host) FROM node_states AS n),
    (SELECT count(*) FROM tags),
    (SELECT count(*) FROM job_tags)
"""


@pytest.fixture
def conn(database: Database) -> Iterator[Connection]:
    with database.session() as conn:
        yield conn


def content(conn: Connection) -> Any:
    return conn.execute(_CONTENT).fetchone()


def test_mutated_bodies_are_accepted_unless_a_type_is_wrong(
    admin: Client, conn: Connection
) -> None:
    seed = str(time.time_ns()) if _VARIABLE in os.environ else "mutations"
    random = Random(seed)
    bodies = int(os.environ.get(_VARIABLE, _SHORT_FORM))
    edited = admin.start(jobId=1, monitoringStatus=0)
    admin.start(jobId=3, monitoringStatus=0)
    for _ in range(bodies):
        name, operation = random.choice(list(OPERATIONS.items()))
        mutation = mutate(operation, random)
        before = content(conn) if mutation.wrong else None
        body = json.dumps(mutation.body).encode()
        response = admin.send(operation.method, operation.path.format(id=edited), body)
        reason = f"seed {seed}, {name}, {mutation}: {response.status_code} {response.text}"
        if mutation.wrong:
            assert response.status_code == 400, reason
            assert content(conn) == before, reason
            continue
        assert response.status_code == (201 if name in _CREATING else 200), reason
        ignored = response.headers.get("Ccapi-Ignored-Fields")
        assert (ignored is not None) == bool(mutation.unknown), reason
        assert ignored is None or len(ignored.split(", ")) == len(mutation.unknown), reason
        if name in {"start", "stop"}:
            conn.execute("DELETE FROM jobs WHERE id <> %s", (edited,))
            admin.start(jobId=3, monitoringStatus=0)
    print(f"{bodies} bodies, seed {seed}")
