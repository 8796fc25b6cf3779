"""Log people in with a token or a link, and out again."""

import secrets
from collections.abc import Collection
from datetime import timedelta

from ccapi.db.pool import Database
from ccapi.model.token import ValidToken
from ccapi.repository import sessions
from ccapi.service import tokens
from ccapi.service.tokens import digest

SESSION_LIFETIME = timedelta(hours=12)
_LINK_LIFETIME = timedelta(hours=1)


def begin(database: Database, token: ValidToken) -> str:
    """Begin a session of a valid token and return its secret, which is not stored."""
    return _insert(database, token, SESSION_LIFETIME, is_link=False)


def make_link(database: Database, token: ValidToken) -> str:
    """Return a secret that begins one session of a valid token, within an hour."""
    return _insert(database, token, _LINK_LIFETIME, is_link=True)


def _insert(database: Database, token: ValidToken, lifetime: timedelta, *, is_link: bool) -> str:
    secret = secrets.token_urlsafe(32)
    with database.connection() as conn:
        sessions.insert(conn, digest(secret), token.id, lifetime, is_link=is_link)
    return secret


def begin_by_link(database: Database, link_secret: str) -> str | None:
    """Begin the session of a login link; None if the link is unknown, expired or used."""
    secret = secrets.token_urlsafe(32)
    with database.connection() as conn:
        is_valid = sessions.use_link(conn, digest(link_secret), digest(secret), SESSION_LIFETIME)
    return secret if is_valid else None


def authenticate(database: Database, digests: Collection[bytes]) -> dict[bytes, ValidToken]:
    """Find the tokens of those sessions that are valid, by the digests of their secrets."""
    with database.connection() as conn:
        valid = sessions.find(conn, digests)
    tokens.record_use(database, valid.values())
    return valid


def end(database: Database, secret: str) -> None:
    """End a session."""
    with database.connection() as conn:
        sessions.delete(conn, digest(secret))
