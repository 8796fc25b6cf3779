"""Authenticate requests by their tokens, and check the tokens' roles."""

import hashlib
import time
from collections.abc import Collection, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from ccapi.db.pool import Database
from ccapi.errors import Forbidden, Unauthenticated
from ccapi.http import request_log
from ccapi.http.cache import Caches
from ccapi.model.token import Role, ValidToken
from ccapi.service import tokens

Network = IPv4Network | IPv6Network
ANONYMOUS = ValidToken(
    id=0, name="(none)", role=Role.READER, should_record_use=False, is_cacheable=False
)
_HOW = "send a token as `X-Auth-Token: TOKEN` or `Authorization: Bearer TOKEN`"


def authenticate(environ: Mapping[str, Any], database: Database, caches: Caches) -> ValidToken:
    """Return the token of a request, which is looked up in the database once a second at most.

    `ccapi token revoke` waits for that second. Raises Unauthenticated, TooManyRequests,
    DatabaseUnavailable.
    """
    secret = read_secret(environ)
    key = cache_key(secret)
    if (token := caches.tokens.get(key)) is not None:
        return token
    if not tokens.is_well_formed(secret):
        return require_valid(None)
    caches.unknown_tokens.require_allowed(key)
    started_at = time.monotonic()
    token = tokens.authenticate(database, secret)
    caches.unknown_tokens.record(key, is_valid=token is not None)
    token = require_valid(token)
    if token.is_cacheable:
        caches.tokens.put(key, token, started_at)
    return token


def is_anonymous(environ: Mapping[str, Any], networks: Collection[Network]) -> bool:
    """Return whether a request has no token, and its client's address is in the networks.

    Behind a proxy on a Unix socket, X-Forwarded-For has the address.
    """
    if not networks or "HTTP_X_AUTH_TOKEN" in environ or "HTTP_AUTHORIZATION" in environ:
        return False
    address = environ.get("REMOTE_ADDR")
    if not address:
        address = environ.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
    return is_address_in(address, networks)


def is_address_in(address: str, networks: Collection[Network]) -> bool:
    """Return whether a text is an address in one of the networks."""
    try:
        client = ip_address(address)
    except ValueError:
        return False
    # A socket for both versions of IP has ::ffff:10.0.0.7 for 10.0.0.7.
    client = getattr(client, "ipv4_mapped", None) or client
    return any(client in network for network in networks)


def authorize(token: ValidToken, roles: Collection[Role]) -> None:
    """Check that the current request's token has one of the roles; raises Forbidden."""
    if token.role not in roles:
        role = next(role for role in Role if role in roles)
        raise Forbidden(f"this needs a token of role {role}; {token.name} is a {token.role}")
    request_log.current().token = token


def current_token() -> ValidToken:
    """Return the token of the current request, which is authorized."""
    token = request_log.current().token
    assert token is not None
    return token


def read_secret(environ: Mapping[str, Any]) -> str:
    """Return the token that a request sends; raises Unauthenticated."""
    secret: str | None = environ.get("HTTP_X_AUTH_TOKEN")
    if secret is not None:
        return secret
    scheme, _, secret = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise Unauthenticated(f"the request has no token; {_HOW}")
    return secret.strip()


def require_valid(token: ValidToken | None) -> ValidToken:
    """Return a token that was found; raises Unauthenticated for None."""
    if token is None:
        raise Unauthenticated(f"the token is unknown, expired or revoked; {_HOW}")
    return token


def cache_key(secret: str) -> bytes:
    """Return a digest of a token: caches outlive requests, and must not contain secrets."""
    return hashlib.sha256(secret.encode()).digest()
