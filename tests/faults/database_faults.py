"""PostgreSQL dies, stops, refuses, hangs or is locked."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.faults.audit import Tolerance
from tests.faults.fault import Fault
from tests.faults.series import GRACE_SECONDS, LIMITS, Series, Setup

# As many clients as workers: no request waits for another one.
_SETUP = Setup(threads=4)
_SLACK_SECONDS = 1
_BOUND = LIMITS.statement_timeout + GRACE_SECONDS + LIMITS.pool_timeout
_TOLERANCE = Tolerance(frozenset({"503"}), _BOUND + _SLACK_SECONDS)
# The statement_timeout ends before the lock_timeout.
_STATEMENT_FIRST = replace(_SETUP, limits=replace(LIMITS, statement_timeout=0.8, lock_timeout=10))


def _down(
    number: signal.Signals, min_seconds: float, max_seconds: float
) -> Callable[[Series], None]:
    """End the server with a signal, and start it again after a while."""

    def inject(series: Series) -> None:
        def hold() -> None:
            assert series.postgres.pid is not None
            os.kill(series.postgres.pid, number)
            time.sleep(random.uniform(min_seconds, max_seconds))

        def heal() -> None:
            series.postgres.stop()
            series.postgres.start()

        series.strike(hold, heal)

    return inject


def _freeze(series: Series) -> None:
    assert series.postgres.pid is not None
    master = series.postgres.pid
    children = Path(f"/proc/{master}/task/{master}/children")
    frozen = [master]

    def hold() -> None:
        os.kill(master, signal.SIGSTOP)
        frozen.extend(int(pid) for pid in children.read_text("ascii").split())
        signal_all(signal.SIGSTOP)
        time.sleep(_BOUND + _SLACK_SECONDS)

    def signal_all(number: signal.Signals) -> None:
        for pid in frozen:
            # A server process may have ended meanwhile.
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    series.strike(hold, lambda: signal_all(signal.SIGCONT))


def _take_all_connections(series: Series) -> None:
    """Open all connections that the server allows, then those of the service, one by one."""
    with ExitStack() as others:

        def hold() -> None:
            administrator = others.enter_context(series.administrator())
            deadline = time.monotonic() + 10
            while _connect_until_refused(series, others) or _disconnect_service(administrator):
                assert time.monotonic() < deadline, "the service keeps its connections"
            time.sleep(2)

        series.strike(hold, others.close)


def _connect_until_refused(series: Series, others: ExitStack) -> int:
    taken = 0
    while True:
        try:
            others.enter_context(series.administrator())
        except psycopg.OperationalError:
            return taken
        taken += 1


def _disconnect_service(administrator: psycopg.Connection[Any]) -> int:
    query = """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ccapi'
    """
    return administrator.execute(query).rowcount


def _refuse_writes_in_new_sessions(series: Series) -> None:
    """Make the database read-only as an administrator does, and end open sessions."""
    database = sql.Identifier(series.database)

    def change(what: sql.SQL) -> None:
        with series.administrator() as conn:
            conn.execute(sql.SQL("ALTER DATABASE {} {}").format(database, what))

    def hold() -> None:
        change(sql.SQL("SET default_transaction_read_only = on"))
        with series.administrator() as conn:
            _disconnect_service(conn)
        time.sleep(1.5)

    series.strike(hold, lambda: change(sql.SQL("RESET default_transaction_read_only")))


def _refuse_writes_in_all_sessions(series: Series) -> None:
    def change(what: sql.SQL) -> None:
        with series.administrator() as conn:
            conn.execute(sql.SQL("ALTER SYSTEM {}").format(what))
            conn.execute("SELECT pg_reload_conf()")

    def hold() -> None:
        change(sql.SQL("SET default_transaction_read_only = on"))
        time.sleep(1.5)

    series.strike(hold, lambda: change(sql.SQL("RESET default_transaction_read_only")))


@contextmanager
def _held(series: Series, statement: str) -> Iterator[None]:
    with series.administrator(series.database) as conn, conn.transaction():
        conn.execute(statement)
        yield


def _locked(statement: str, seconds: float) -> Callable[[Series], None]:
    def inject(series: Series) -> None:
        def hold() -> None:
            with _held(series, statement):
                time.sleep(seconds)

        series.strike(hold)

    return inject


_SOME_RUNNING = "SELECT FROM jobs WHERE job_state = 'running' ORDER BY id DESC LIMIT 3 FOR UPDATE"
_TABLE = "LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"

FAULTS = tuple(
    Fault(name, weight, inject, setup, _TOLERANCE)
    for name, weight, inject, setup in (
        ("PostgreSQL killed (-9)", 5, _down(signal.SIGKILL, 0, 0.2), _SETUP),
        ("PostgreSQL stopped for seconds", 3, _down(signal.SIGINT, 2, 4), _SETUP),
        ("PostgreSQL restarted, fast", 4, _down(signal.SIGINT, 0, 0), _SETUP),
        ("PostgreSQL restarted, immediate", 4, _down(signal.SIGQUIT, 0, 0), _SETUP),
        ("PostgreSQL out of connections", 3, _take_all_connections, _SETUP),
        ("database read-only, new sessions", 3, _refuse_writes_in_new_sessions, _SETUP),
        ("PostgreSQL read-only, all sessions", 3, _refuse_writes_in_all_sessions, _SETUP),
        ("PostgreSQL hangs (SIGSTOP)", 3, _freeze, _SETUP),
        ("rows locked past lock_timeout", 3, _locked(_SOME_RUNNING, 1.5), _SETUP),
        ("table locked past statement_timeout", 3, _locked(_TABLE, 1.5), _STATEMENT_FIRST),
    )
)
