"""Store tokens by their digests: sql/queries/tokens.sql."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from psycopg.rows import class_row

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.model.token import TOKEN_TTL_SECONDS, Role, Scope, Token, ValidToken

_SQL = queries.load("tokens")


def find(conn: Connection, digest: bytes) -> ValidToken | None:
    """Find a valid token by the SHA-256 of its secret."""
    parameters = {"digest": digest, "ttl": TOKEN_TTL_SECONDS}
    row = conn.execute(_SQL["find_token"], parameters).fetchone()
    return None if row is None else to_valid_token(row)


def to_valid_token(row: Sequence[Any]) -> ValidToken:
    """Make a token of a row of find_token or find_sessions."""
    id_, name, role, *limits, should_record_use, is_cacheable = row
    return ValidToken(
        id=id_,
        name=name,
        role=Role(role),
        scope=_scope(*limits),
        should_record_use=should_record_use,
        is_cacheable=is_cacheable,
    )


def record_use(conn: Connection, ids: Sequence[int]) -> None:
    """Record that tokens were used just now."""
    conn.execute(_SQL["record_use"], {"ids": list(ids)})


def lock(conn: Connection, name: str) -> None:
    """Lock one name's tokens against other changes until the end of the transaction."""
    conn.execute(_SQL["lock_tokens"], {"name": name})


def insert(
    conn: Connection,
    name: str,
    *,
    role: Role,
    scope: Scope,
    digest: bytes,
    lifetime: timedelta | None,
) -> None:
    """Store a new token; without a lifetime it does not expire."""
    parameters = {
        "name": name,
        "role": role.value,
        "users": scope.users and list(scope.users),
        "projects": scope.projects and list(scope.projects),
        "clusters": scope.clusters and list(scope.clusters),
        "sees_metadata": scope.sees_metadata,
        "digest": digest,
        "lifetime": lifetime,
    }
    conn.execute(_SQL["insert_token"], parameters)


def valid(conn: Connection, name: str) -> list[tuple[int, Role, Scope]]:
    """Return id, role and scope of one name's valid tokens, the latest first."""
    rows = conn.execute(_SQL["valid_tokens"], {"name": name})
    return [(id_, Role(role), _scope(*limits)) for id_, role, *limits in rows]


def _scope(*limits: list[str] | bool | None) -> Scope:
    """Make the scope of a row's users, projects, clusters and sees_metadata."""
    return Scope(*(tuple(limit) if isinstance(limit, list) else limit for limit in limits))  # type: ignore[arg-type] # psycopg's rows have no types


def list_all(conn: Connection) -> list[Token]:
    """Return every token, valid or not, by name."""
    with conn.cursor(row_factory=class_row(Token)) as cursor:
        return cursor.execute(_SQL["list_tokens"]).fetchall()


def list_expiring(conn: Connection, seconds: float) -> list[tuple[str, datetime]]:
    """List the names of clients whose token expires within some seconds, and when it does."""
    rows = conn.execute(_SQL["list_expiring_tokens"], {"seconds": seconds})
    return [(name, expires_at) for name, expires_at in rows]


def expire(conn: Connection, id_: int, lifetime: timedelta) -> None:
    """Let a token expire after `lifetime`, unless it expires earlier."""
    conn.execute(_SQL["expire_token"], {"id": id_, "lifetime": lifetime})


def revoke(conn: Connection, id_: int) -> None:
    """Revoke a token now."""
    conn.execute(_SQL["revoke_token"], {"id": id_})
