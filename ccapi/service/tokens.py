"""Create, rotate, revoke and check tokens."""

import hashlib
import logging
import re
import secrets
import time
from collections.abc import Iterable
from datetime import timedelta

from ccapi.db.pool import Connection, Database
from ccapi.errors import CcapiError, DatabaseUnavailable
from ccapi.model import rules
from ccapi.model.token import ALL_JOBS, TOKEN_TTL_SECONDS, Role, Scope, Token, ValidToken
from ccapi.repository import tokens

_log = logging.getLogger(__name__)

# The prefix lets secret scanners recognise a token that slipped into a file.
_PREFIX = "ccapi_"
_SECRET = re.compile(_PREFIX + r"[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class TokenError(CcapiError):
    """The command cannot be carried out on this name's tokens."""


def create(
    database: Database,
    name: str,
    role: Role,
    lifetime: timedelta | None = None,
    scope: Scope = ALL_JOBS,
) -> str:
    """Create a token for a name without a valid one; return the secret, which is not stored.

    Raises TokenError.
    """
    if not _NAME.fullmatch(name):
        raise TokenError(
            "a token's name has 1 to 64 letters, digits, '.', '_' and '-', "
            "and begins with a letter or digit"
        )
    if not scope.sees_metadata and role != Role.READER:
        raise TokenError("only a reader can be without metadata: answers to a stop have it")
    limits = (
        ("user", rules.USER, scope.users),
        ("project", rules.PROJECT, scope.projects),
        ("cluster's name", rules.CLUSTER, scope.clusters),
    )
    for limit, rule, values in limits:
        for violation in filter(None, map(rule.violation, values or ())):
            raise TokenError(f"a {limit} {violation}")
    with database.transaction() as conn:
        tokens.lock(conn, name)
        if tokens.valid(conn, name):
            raise TokenError(f"{name} has a valid token: use `ccapi token rotate {name}`")
        return _issue(conn, name, role, scope, lifetime)


def rotate(
    database: Database, name: str, lifetime: timedelta | None = None, *, grace: timedelta
) -> str:
    """Create a second token for a name; the first one expires after `grace` at most.

    At most two are valid at a time: an older one is revoked. Raises TokenError.
    """
    with database.transaction() as conn:
        tokens.lock(conn, name)
        current, *older = _require_valid(conn, name)
        id_, role, scope = current
        tokens.expire(conn, id_, grace)
        for older_id, *_ in older:
            tokens.revoke(conn, older_id)
        secret = _issue(conn, name, role, scope, lifetime)
    if older:
        _wait_for_caches()
    return secret


def revoke(database: Database, name: str) -> int:
    """Revoke all valid tokens of a name and return how many, once no worker accepts them.

    Raises TokenError.
    """
    with database.transaction() as conn:
        tokens.lock(conn, name)
        valid = _require_valid(conn, name)
        for id_, *_ in valid:
            tokens.revoke(conn, id_)
    _wait_for_caches()
    return len(valid)


def _wait_for_caches() -> None:
    """Wait until no worker has a token in its cache that was valid before now."""
    time.sleep(TOKEN_TTL_SECONDS)


def list_all(database: Database) -> list[Token]:
    """Return every token, valid or not, by name."""
    with database.transaction() as conn:
        return tokens.list_all(conn)


def is_well_formed(secret: str) -> bool:
    """Return whether a text may be a token; others cost no look-up."""
    return _SECRET.fullmatch(secret) is not None


def authenticate(database: Database, secret: str) -> ValidToken | None:
    """Find the valid token of a secret; None without one.

    The look-up is by digest, so that its time reveals nothing about a secret.
    """
    if not is_well_formed(secret):
        return None
    with database.connection() as conn:
        token = tokens.find(conn, digest(secret))
    if token is not None:
        record_use(database, [token])
    return token


def record_use(database: Database, used: Iterable[ValidToken]) -> None:
    """Record that tokens were used, unless that was recorded within the last minute."""
    names = {token.id: token.name for token in used if token.should_record_use}
    if names:
        try:
            with database.connection() as conn:
                tokens.record_use(conn, [*names])
        except DatabaseUnavailable as error:
            name = ", ".join(names.values())
            _log.warning("recording the use of token %s failed: %s", name, error)


def _require_valid(conn: Connection, name: str) -> list[tuple[int, Role, Scope]]:
    valid = tokens.valid(conn, name)
    if not valid:
        raise TokenError(f"{name} has no valid token: see `ccapi token list`")
    return valid


def _issue(
    conn: Connection, name: str, role: Role, scope: Scope, lifetime: timedelta | None
) -> str:
    secret = _PREFIX + secrets.token_urlsafe(32)
    tokens.insert(conn, name, role=role, scope=scope, digest=digest(secret), lifetime=lifetime)
    return secret


def digest(secret: str) -> bytes:
    """Return the SHA-256 of a secret, which is stored instead of it."""
    return hashlib.sha256(secret.encode()).digest()
