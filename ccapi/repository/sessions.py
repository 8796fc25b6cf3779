"""Store the logins of people by their digests: sql/queries/sessions.sql."""

from collections.abc import Collection
from datetime import timedelta

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.model.token import TOKEN_TTL_SECONDS, ValidToken
from ccapi.repository import tokens

_SQL = queries.load("sessions")


def insert(
    conn: Connection, digest: bytes, token_id: int, lifetime: timedelta, *, is_link: bool
) -> None:
    """Begin a session of a token, or store a login link."""
    params = {"digest": digest, "token": token_id, "lifetime": lifetime, "is_link": is_link}
    conn.execute(_SQL["insert_session"], params)


def find(conn: Connection, digests: Collection[bytes]) -> dict[bytes, ValidToken]:
    """Find the valid tokens of sessions by the SHA-256 of each session's secret."""
    params = {"digests": list(digests), "ttl": TOKEN_TTL_SECONDS}
    rows = conn.execute(_SQL["find_sessions"], params)
    return {digest: tokens.to_valid_token(row) for digest, *row in rows}


def use_link(conn: Connection, link_digest: bytes, digest: bytes, lifetime: timedelta) -> bool:
    """Turn a login link into a session; False if the link is unknown, expired or used."""
    params = {"link_digest": link_digest, "digest": digest, "lifetime": lifetime}
    return conn.execute(_SQL["use_link"], params).rowcount == 1


def delete(conn: Connection, digest: bytes) -> None:
    """End a session."""
    conn.execute(_SQL["delete_session"], {"digest": digest})
