"""Behind pgbouncer nothing of a session outlives a transaction, and no answer is wrong."""

import http.client
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from ccapi.config import Config
from ccapi.db.pool import Database, Limits
from ccapi.embedded import PrivatePostgres
from ccapi.errors import DatabaseUnavailable
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.client import count, job, stop
from tests.pgbouncer import needs_pgbouncer, pgbouncer
from tests.processes import Service, gunicorn

pytestmark = needs_pgbouncer
CLIENTS = 6
# A job needs eight requests.
JOBS = int(os.environ.get("POOLER_REQUESTS", "480")) // 8


@pytest.fixture
def pooled(postgres: PrivatePostgres, database: Database) -> Iterator[Database]:
    """Pool connections to a pooler with one connection to the server, and with short timeouts."""
    assert database
    with pgbouncer(postgres, "transaction", connections=1) as url:
        pool = Database(url, Limits(pool_size=2, statement_timeout=0.5))
        yield pool
        pool.close()


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_pooler_is_detected(postgres: PrivatePostgres, database: Database, mode: str) -> None:
    assert not database.is_pooled()
    with pgbouncer(postgres, mode, connections=1) as url:
        assert Database(url).is_pooled()


def test_behind_a_pooler_no_session_state_remains(pooled: Database) -> None:
    for _ in range(20):
        with pooled.connection() as conn:
            conn.execute("SELECT count(*) FROM jobs WHERE id = %s", [1])
        with pooled.transaction() as conn:
            conn.execute("SELECT count(*) FROM tags WHERE id = %s", [1])
    with pooled.session() as conn:
        names = "current_setting('statement_timeout'), current_setting('jit')"
        assert conn.execute(f"SELECT {names}".encode()).fetchone() == ("0", "on")
        assert conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


@pytest.mark.slow
def test_behind_a_pooler_each_transaction_has_its_limits(pooled: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="timeout"), pooled.connection() as conn:
        conn.execute("SELECT pg_sleep(20)")
    with pytest.raises(DatabaseUnavailable, match="timeout"), pooled.transaction() as conn:
        conn.execute("SELECT pg_sleep(20)")
    with pooled.snapshot() as conn, conn.transaction():
        assert conn.execute("SHOW jit").fetchone() == ("off",)
        assert conn.execute("SHOW transaction_isolation").fetchone() == ("repeatable read",)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_mixed_requests_behind_a_pooler_are_right(
    postgres: PrivatePostgres, database: Database, config: Config, tmp_path: Path, mode: str
) -> None:
    token = tokens.create(database, "pooled", Role.ADMIN)
    settings = {
        "CCAPI_DATABASE_POOL_TIMEOUT": "60",
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
        "CCAPI_JOBS_LIST_CACHE_SECONDS": "0",
    }
    connections = 2 if mode == "transaction" else 40
    with (
        pgbouncer(postgres, mode, connections) as url,
        gunicorn(settings | {"CCAPI_DATABASE_URL": url}, tmp_path) as service,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        numbers = range(1, JOBS + 1)
        wrong = [*chain(*clients.map(lambda number: live(service, token, number), numbers))]
    assert wrong == []
    assert count(database, "jobs") == sum(number % 3 != 0 for number in numbers)


def live(service: Service, token: str, number: int) -> list[object]:
    """Live through a job, every third until its deletion; return what was answered wrongly."""
    wrong: list[object] = []

    def send(method: str, path: str, body: Any, *expected: object) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, f"/api/jobs{path}", data, {"X-Auth-Token": token})
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        fields = [answer.get(name) for name in ("jobId", "jobState", "items")]
        outcome = (response.status, *fields)[: len(expected)]
        if outcome != expected:
            wrong.append((method, path, outcome, expected, answer))
        return answer

    user = f"user{number}"
    started = send("POST", "/start_job/", job(jobId=number, user=user), 201)
    one = f"/{started.get('id')}"
    send("GET", one, None, 200, number, "running")
    send("POST", f"/tag_job{one}", [{"type": "t", "name": f"n{number % 5}"}], 200, number)
    send("POST", f"/stop_job{one}", stop(jobId=number), 200, number, "completed")
    send("GET", one, None, 200, number, "completed")
    send("GET", f"/?user={user}&state=completed", None, 200, None, None, 1)
    if number % 3 == 0:
        send("DELETE", f"/delete_job{one}", None, 200)
        send("GET", one, None, 404)
    else:
        send("GET", one, None, 200, number, "completed")
    return wrong
