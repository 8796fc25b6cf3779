"""The way to PostgreSQL: a pool per process, transactions, and what its failures mean."""

import math
import os
import select
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import IsolationLevel
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from ccapi import metrics
from ccapi.errors import DatabaseUnavailable
from ccapi.db import queries

Connection = psycopg.Connection[TupleRow]
RV = TypeVar("RV")

_SQL = queries.load("session")
# How much later than its own time limit the server's answer is given up.
_GRACE_SECONDS = 1
# How long a connection that answered is trusted, unless its socket says that it is lost.
_TRUST_SECONDS = 1

# What a caller cannot mend and a later try may not meet: the server is down or starting, too
# many connections, a time-out, a full disk, a standby that does not take writes.
_UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.InvalidCatalogName,
    PoolTimeout,
)


@dataclass(frozen=True)
class Limits:
    """How many connections a process opens, and how long it waits for what (seconds)."""

    pool_size: int = 4
    connect_timeout: float = 3
    pool_timeout: float = 3
    statement_timeout: float = 10
    lock_timeout: float = 5


@contextmanager
def map_errors() -> Iterator[None]:
    """Turn a failure of PostgreSQL that is no bug of ours into DatabaseUnavailable."""
    try:
        yield
    except _UNAVAILABLE as error:
        metrics.DATABASE_FAILURES.inc()
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatabaseUnavailable(f"the database does not answer: {reason}") from error


def is_read_only(conn: Connection) -> bool:
    """Tell whether the server takes no writes, as a standby does not."""
    return conn.execute(_SQL["is_read_only"]).fetchone() == (True,)


def replication_lag_seconds(conn: Connection) -> float:
    """Return how old a standby's last commit is; 0 when it has all, infinity when it has none."""
    row = conn.execute(_SQL["seconds_late"]).fetchone()
    return math.inf if row is None or row[0] is None else float(row[0])


class TimeoutConnection(psycopg.Connection[TupleRow]):
    """A connection that gives up on a server that is frozen or out of reach.

    The server's own time limits need a server that runs.
    """

    patience: float | None = None
    answered = 0.0

    def wait(
        self, gen: Generator[Any, Any, RV], interval: float = 0.1, timeout: float | None = None
    ) -> RV:
        """Wait for the server, `patience` seconds at most; raises OperationalError."""
        try:
            return super().wait(gen, interval, timeout or self.patience)
        except psycopg.OperationalError:
            if self.info.transaction_status == TransactionStatus.ACTIVE:
                self.close()  # A late answer must not be taken for the next one's.
            raise

    @property
    def is_quiet(self) -> bool:
        """Tell whether the server has sent nothing unasked, as it does when it ends."""
        waiting = select.poll()
        waiting.register(self.pgconn.socket, select.POLLIN)
        return not waiting.poll(0)


Pool = ConnectionPool[TimeoutConnection]


class Database:
    """A PostgreSQL database, reached through a pool that is opened on first use.

    Each process gets a pool of its own: one opened before a fork would share its
    connections with the children.
    """

    def __init__(self, url: str, limits: Limits | None = None) -> None:
        self._url = url
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._pool_owner = 0

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run the block in one transaction: commit at its end, roll back when it raises.

        Raises DatabaseUnavailable when PostgreSQL cannot be asked; after a failed
        commit the outcome is unknown to the caller.
        """
        with self.statement() as conn, conn.transaction():
            yield conn

    @contextmanager
    def statement(self) -> Iterator[Connection]:
        """Lend a connection on which each statement is a transaction of its own.

        Raises DatabaseUnavailable. A connection that takes no writes is not lent again: it may
        have been opened while the database took none, and would stay so.
        """
        with map_errors():
            pool = self._opened_pool()
            conn = pool.getconn()
            begun = time.perf_counter()
            metrics.CONNECTIONS_IN_USE.inc()
            try:
                yield conn
            except psycopg.errors.ReadOnlySqlTransaction:
                conn.close()
                raise
            finally:
                pool.putconn(conn)
                metrics.CONNECTIONS_IN_USE.dec()
                metrics.CONNECTION_HELD_SECONDS.observe(time.perf_counter() - begun)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Run the block's statements on one unchanging view of the database, read-only."""
        with self.statement() as conn:
            conn.isolation_level, conn.read_only = IsolationLevel.REPEATABLE_READ, True
            try:
                with conn.transaction():
                    yield conn
            finally:
                conn.isolation_level, conn.read_only = None, None

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """Open a connection outside the pool, without time limits, for commands."""
        with map_errors():
            conn = psycopg.connect(self._url, **self._connect_options())
        with conn, map_errors():
            yield conn

    def close(self) -> None:
        """Close the pool; the next use opens it again."""
        with self._lock:
            if self._pool is not None and self._pool_owner == os.getpid():
                self._pool.close()
                metrics.CONNECTIONS_MAX.dec(self._limits.pool_size)
            self._pool = None

    def _opened_pool(self) -> Pool:
        if self._pool is None or self._pool_owner != os.getpid():
            self._open_pool()
        pool = self._pool
        assert pool is not None
        return pool

    def _open_pool(self) -> None:
        with self._lock:
            if self._pool is not None and self._pool_owner == os.getpid():
                return
            self._pool = ConnectionPool(
                self._url,
                kwargs=self._connect_options(),
                connection_class=TimeoutConnection,
                min_size=1,
                max_size=self._limits.pool_size,
                timeout=self._limits.pool_timeout,
                configure=self._configure,
                check=self._check,
                reconnect_timeout=0,
                open=True,
            )
            self._pool_owner = os.getpid()
            metrics.CONNECTIONS_MAX.inc(self._limits.pool_size)

    def _connect_options(self) -> dict[str, Any]:
        return {
            "autocommit": True,
            "connect_timeout": max(1, round(self._limits.connect_timeout)),
            "application_name": "ccapi",
            "client_encoding": "UTF8",
        }

    def _check(self, conn: TimeoutConnection) -> None:
        """Check a connection that is to be lent; when one is lost, replace them all.

        Found one at a time, each further one would cost the pool's ever longer pause, or,
        where the server is frozen, a time-out. One that has just answered is not asked: that
        would be a third of what a start costs.
        """
        now = time.monotonic()
        if now - conn.answered < _TRUST_SECONDS and conn.is_quiet:
            return
        try:
            ConnectionPool.check_connection(conn)
        except psycopg.OperationalError:
            self._opened_pool().drain()
            raise
        conn.answered = now
        metrics.ROUND_TRIP_SECONDS.observe(time.monotonic() - now)

    def _configure(self, conn: TimeoutConnection) -> None:
        conn.patience = self._limits.statement_timeout + _GRACE_SECONDS
        conn.execute(
            _SQL["set_session_limits"],
            {
                "statement_timeout": f"{self._limits.statement_timeout * 1000:.0f}",
                "lock_timeout": f"{self._limits.lock_timeout * 1000:.0f}",
            },
        )
