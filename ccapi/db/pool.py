"""Reach PostgreSQL: a pool per process, transactions, and the meaning of failures."""

import logging
import math
import os
import re
import select
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import psycopg
from psycopg import Cursor, IsolationLevel, Transaction
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import Row, TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from ccapi import metrics
from ccapi.db import queries
from ccapi.db.budgets import on_return
from ccapi.db.slots import Slots
from ccapi.errors import DatabaseRefuses, DatabaseUnavailable, StartupError

Connection = psycopg.Connection[TupleRow]
RV = TypeVar("RV")

_log = logging.getLogger(__name__)
_SQL = queries.load("session")
# How long to wait for the server's answer beyond its own time limit.
_GRACE_SECONDS = 1
# How long a connection that answered needs no new check, unless its socket is closed.
_CHECK_TTL_SECONDS = 1

# Failures that no caller can fix and that a retry may not meet: the server is down or starting,
# too many connections, a timeout, a full disk, a read-only standby.
_UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.InvalidCatalogName,
    psycopg.errors.InsufficientPrivilege,
    PoolTimeout,
)
# The errors of a new connection have no code; a server with other messages is "does not answer".
_REFUSAL = re.compile(
    r"authentication failed|pg_hba\.conf|no password supplied|permission denied for"
    r'|(?:role|database) "[^"]*" does not exist'
)


@dataclass(frozen=True)
class Limits:
    """The connections of a process, and its timeouts in seconds."""

    pool_size: int = 4
    connect_timeout: float = 3
    pool_timeout: float = 3
    statement_timeout: float = 10
    lock_timeout: float = 5


@contextmanager
def map_errors() -> Iterator[None]:
    """Raise DatabaseUnavailable for a failure of PostgreSQL that is not a bug in ccapi."""
    try:
        yield
    except _UNAVAILABLE as error:
        metrics.DATABASE_FAILURES.inc()
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, psycopg.errors.InsufficientPrivilege) or _REFUSAL.search(reason):
            raise DatabaseRefuses(f"the database refuses: {reason}") from error
        raise DatabaseUnavailable(f"the database does not answer: {reason}") from error


def is_read_only(conn: Connection) -> bool:
    """Return whether the server is read-only, as a standby is."""
    return conn.execute(_SQL["is_read_only"]).fetchone() == (True,)


def replication_lag_seconds(conn: Connection) -> float:
    """Return the age of a standby's last commit: 0 when it is up to date, inf without any."""
    row = conn.execute(_SQL["replication_lag_seconds"]).fetchone()
    return math.inf if row is None or row[0] is None else float(row[0])


def is_pooled(conn: Connection) -> bool:
    """Return whether a connection pooler, such as pgbouncer, stands before the server.

    It gives its clients process ids that are not those of the server's processes.
    """
    return conn.execute(_SQL["server_pid"]).fetchone() != (conn.info.backend_pid,)


def max_connections(conn: Connection) -> int:
    """Return how many connections the server lets us have."""
    [number] = conn.execute(_SQL["max_connections"]).fetchone() or [0]
    return int(number)


class PooledCursor(Cursor[Row]):
    """A cursor for a pooler's connection: each statement is in a transaction with its limits."""

    def execute(self, *args: Any, **kwargs: Any) -> Self:
        """Execute a query, in a transaction of its own if there is none."""
        if self.connection.info.transaction_status == TransactionStatus.IDLE:
            with self.connection.transaction():
                return super().execute(*args, **kwargs)
        return super().execute(*args, **kwargs)


class TimeoutConnection(psycopg.Connection[TupleRow]):
    """A connection that times out when the server is frozen or unreachable.

    The server's own timeouts work only while the server does. `local_limits` are what each
    transaction has to set behind a pooler, where settings of a session reach other clients.
    """

    timeout: float | None = None
    local_limits: Mapping[str, str] | None = None
    checked_at = 0.0

    @contextmanager
    def transaction(self, *args: Any, **kwargs: Any) -> Iterator[Transaction]:
        """Run the block in a transaction, or in a savepoint of the current one."""
        is_outermost = self.info.transaction_status == TransactionStatus.IDLE
        with super().transaction(*args, **kwargs) as transaction:
            if is_outermost and self.local_limits is not None:
                self.set_limits(self.local_limits, is_local=True)
            yield transaction

    def set_limits(self, limits: Mapping[str, str], *, is_local: bool) -> None:
        """Set the limits of this session, or of the current transaction only."""
        self.execute(_SQL["set_limits"], {**limits, "is_local": is_local})

    def wait(
        self, gen: Generator[Any, Any, RV], interval: float = 0.1, timeout: float | None = None
    ) -> RV:
        """Wait for the server, `self.timeout` seconds at most; raises OperationalError."""
        try:
            return super().wait(gen, interval, timeout or self.timeout)
        except psycopg.OperationalError:
            if self.info.transaction_status == TransactionStatus.ACTIVE:
                self.close()  # Its late answer must not reach the next query.
            raise

    @property
    def has_unread_input(self) -> bool:
        """Return whether the server sent something unasked, as it does when it shuts down."""
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        return bool(poll.poll(0))


Pool = ConnectionPool[TimeoutConnection]


class Database:
    """A PostgreSQL database behind a connection pool, which opens on first use.

    Each process has its own pool: one opened before a fork would share its connections
    with the children.
    """

    def __init__(self, url: str, limits: Limits | None = None, slots: Slots | None = None) -> None:
        try:
            conninfo_to_dict(url)
        except (psycopg.ProgrammingError, UnicodeDecodeError):
            # libpq's message repeats parts of the address, which may be the password.
            raise StartupError(
                "libpq does not understand the address of the database: check [database] url, and "
                "write %25 for a % in it"
            ) from None
        self._url = url
        self._slots = slots
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._pool_owner = 0
        self._is_pooler_logged = False

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run the block in one transaction: commit at its end, roll back if it raises.

        Raises DatabaseUnavailable; after a failed commit the outcome is unknown.
        """
        with self.connection() as conn, conn.transaction():
            yield conn

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Borrow a connection on which each statement is its own transaction.

        Raises DatabaseUnavailable. A read-only connection is closed: it may have been opened
        while the server was a standby, and would stay read-only.
        """
        with map_errors():
            pool = self._opened_pool()
            conn = pool.getconn()
            started = time.perf_counter()
            metrics.CONNECTIONS_IN_USE.inc()
            try:
                yield conn
            except psycopg.errors.ReadOnlySqlTransaction:
                conn.close()
                raise
            finally:
                pool.putconn(conn)
                metrics.CONNECTIONS_IN_USE.dec()
                seconds = time.perf_counter() - started
                metrics.CONNECTION_HELD_SECONDS.observe(seconds)
                if (charge := on_return.get()) is not None:
                    charge(seconds)

    def slot(self, *, is_expensive: bool) -> AbstractContextManager[None]:
        """Use a slot for an expensive request during the block; raises Busy if there is none."""
        return self._slots.hold() if self._slots and is_expensive else nullcontext()

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Run the block's statements on one snapshot of the database, read-only."""
        with self.connection() as conn:
            level = conn.isolation_level
            conn.isolation_level, conn.read_only = IsolationLevel.REPEATABLE_READ, True
            try:
                with conn.transaction():
                    yield conn
            finally:
                conn.isolation_level, conn.read_only = level, None

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """Open a connection outside the pool, without timeouts, for commands."""
        with map_errors():
            conn = psycopg.connect(self._url, **self._connect_options())
            conn.prepare_threshold = None
        with conn, map_errors():
            yield conn

    def is_pooled(self) -> bool:
        """Return whether a connection pooler stands before the server."""
        with self.session() as conn:
            return is_pooled(conn)

    def close(self) -> None:
        """Close the pool; the next use opens it again."""
        with self._lock:
            if self._pool is not None and self._pool_owner == os.getpid():
                self._pool.close()
                metrics.CONNECTIONS_MAX.dec(self._limits.pool_size)
            self._pool = None

    def _opened_pool(self) -> Pool:
        """Return this process's pool, and open it on first use."""
        if self._pool is None or self._pool_owner != os.getpid():
            with self._lock:
                if self._pool is None or self._pool_owner != os.getpid():
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
        pool = self._pool
        assert pool is not None
        return pool

    def _connect_options(self) -> dict[str, Any]:
        return {
            "autocommit": True,
            "connect_timeout": max(1, round(self._limits.connect_timeout)),
            "application_name": "ccapi",
            "client_encoding": "UTF8",
        }

    def _check(self, conn: TimeoutConnection) -> None:
        """Check a connection before it is borrowed; if it is lost, replace them all.

        One by one, each lost connection would cost the pool's growing pause or a timeout. A
        check costs a third of a start, so a connection that has just answered gets none.
        """
        now = time.monotonic()
        if now - conn.checked_at < _CHECK_TTL_SECONDS and not conn.has_unread_input:
            return
        try:
            ConnectionPool.check_connection(conn)
        except psycopg.OperationalError:
            self._opened_pool().drain()
            raise
        conn.checked_at = now
        metrics.ROUND_TRIP_SECONDS.observe(time.monotonic() - now)

    def _configure(self, conn: TimeoutConnection) -> None:
        conn.timeout = self._limits.statement_timeout + _GRACE_SECONDS
        limits = {
            "statement_timeout": f"{self._limits.statement_timeout * 1000:.0f}",
            "lock_timeout": f"{self._limits.lock_timeout * 1000:.0f}",
        }
        if not is_pooled(conn):
            conn.set_limits(limits, is_local=False)
            return
        # The next statement may run on another client's connection, and this one's prepared
        # statements may be another one's.
        conn.prepare_threshold = None
        conn.isolation_level = IsolationLevel.READ_COMMITTED
        conn.cursor_factory = PooledCursor
        conn.local_limits = limits
        if not self._is_pooler_logged:
            self._is_pooler_logged = True
            _log.info(
                "the database is behind a connection pooler: each transaction sets its limits"
            )
