"""The life of a cached response, from the first reader who asks to the last.

- Operations that are declared with `cached=True` answer through `respond`.
- Writers and admins always get a fresh response, because they must see what they have written.
- Readers who ask the same (address, query string, form of units) and see the same jobs share one
  response for the seconds of [jobs] list_cache_seconds, whatever their tokens. A response is as
  old as its query to the database.
- The first reader computes it, from the replica if there is one and it is usable, else from the
  primary; the others wait for it. Errors are not cached, nor are streams. The oldest responses
  are dropped when all together exceed 16 MB.
- Every response but a stream has an ETag, a digest of body and headers. Clients who send it in
  If-None-Match get 304 without a body. `Cache-Control: private, no-cache` makes them ask each time.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

from flask import Request, Response

from ccapi import metrics
from ccapi.context import Context
from ccapi.errors import DatabaseUnavailable, TooManyRequests, TooSlow
from ccapi.http import json_format
from ccapi.model.token import TOKEN_TTL_SECONDS, Role, ValidToken

Value = TypeVar("Value")
View = Callable[[Context], Response]

_MAX_TOKENS = 1_000
MAX_UNKNOWN_TOKENS = 100
_MAX_RESPONSE_BYTES = 16 * 2**20
# What a response takes in memory beside its body.
_OVERHEAD_BYTES = 1_000
_LOCKS = 64
# A page asks for its live rows every 13 seconds, so they may be older than an answer to a person.
_LIVE_SECONDS = 6
# Much longer than that: a page that is open reaches one of the workers each time.
_RECENT_SECONDS = 600
_CACHE_HEADERS = (
    ("Cache-Control", "private, no-cache"),
    ("Vary", "X-Auth-Token, Authorization, Accept"),
)


class _Entry(NamedTuple, Generic[Value]):
    value: Value
    created_at: float
    size: int


class TTLCache(Generic[Value]):
    """A cache whose values live for `ttl` seconds; safe between threads.

    The oldest values are dropped when the sizes of all exceed `max_size`.
    """

    def __init__(self, ttl: float, max_size: int) -> None:
        self._ttl, self._max_size = ttl, max_size
        self._entries: dict[Hashable, _Entry[Value]] = {}
        self._size = 0
        self._lock = threading.Lock()
        self._compute_locks = [threading.Lock() for _ in range(_LOCKS)]

    def get(
        self, key: Hashable, now: float | None = None, ttl: float | None = None
    ) -> Value | None:
        """Return the value of a key, None if there is none that is young enough."""
        entry = self._entries.get(key)
        ttl = self._ttl if ttl is None else ttl
        if entry is None or entry.created_at <= (now or time.monotonic()) - ttl:
            return None
        return entry.value

    def put(self, key: Hashable, value: Value, created_at: float, size: int = 1) -> None:
        """Keep a value that was created at a time of time.monotonic(); drop expired ones."""
        if size > self._max_size or self._ttl <= 0:
            return
        with self._lock:
            self._drop(key)
            expired_at = time.monotonic() - self._ttl
            while self._entries:
                oldest = next(iter(self._entries))
                is_expired = self._entries[oldest].created_at <= expired_at
                if not is_expired and self._size + size <= self._max_size:
                    break
                self._drop(oldest)
            self._entries[key] = _Entry(value, created_at, size)
            self._size += size

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        self._size -= entry.size if entry else 0

    def get_or_compute(
        self,
        key: Hashable,
        compute: Callable[[], Value],
        size_of: Callable[[Value], int | None],
        ttl: float | None = None,
    ) -> Value:
        """Return the value of a key; if there is none, one thread computes it for all.

        A value whose size is None is not kept. A `ttl` below the cache's asks for a younger one.
        """
        arrived_at = time.monotonic()
        if (value := self.get(key, arrived_at, ttl)) is not None:
            return value
        with self._compute_locks[hash(key) % _LOCKS]:
            if (value := self.get(key, arrived_at, ttl)) is not None:
                return value
            started_at = time.monotonic()
            value = compute()
            if (size := size_of(value)) is not None:
                self.put(key, value, started_at, size)
            return value


@dataclass(frozen=True)
class CachedResponse:
    """A response that can be sent any number of times."""

    body: bytes
    headers: Sequence[tuple[str, str]]
    etag: str

    @property
    def size(self) -> int:
        """Return what the response takes in memory, nearly."""
        return len(self.body) + _OVERHEAD_BYTES

    @classmethod
    def of(cls, response: Response) -> "CachedResponse":
        """Copy a response that is not a stream."""
        digest = hashlib.sha256(response.get_data())
        digest.update(str(response.headers).encode())
        etag = f'"{digest.hexdigest()[:32]}"'
        headers = [*response.headers.items(), ("ETag", etag), *_CACHE_HEADERS]
        return cls(response.get_data(), headers, etag)

    def to_response(self, if_none_match: str) -> Response:
        """Return the response for a client that has responses with these ETags."""
        is_known = self.etag in if_none_match or if_none_match.strip() == "*"
        # werkzeug removes the headers of a 304 that describe the body.
        return Response(
            None if is_known else self.body, 304 if is_known else 200, headers=self.headers
        )


class UnknownTokens:
    """Limits the look-ups of unknown tokens, which cost a query each.

    Beyond MAX_UNKNOWN_TOKENS a second, only tokens are looked up that were valid before.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, None] = {}
        self._second = self._count = 0

    def require_allowed(self, key: bytes) -> None:
        """Check that a token may be looked up; raises TooManyRequests."""
        is_over = self._count >= MAX_UNKNOWN_TOKENS and self._second == int(time.monotonic())
        if is_over and key not in self._known:
            raise TooManyRequests("too many requests have an unknown token: try again", 1)

    def record(self, key: bytes, *, is_valid: bool) -> None:
        """Record what a look-up found."""
        if is_valid:
            self._known[key] = None
            if len(self._known) > _MAX_TOKENS:
                del self._known[next(iter(self._known))]
            return
        now = int(time.monotonic())
        self._second, self._count = now, self._count + 1 if now == self._second else 1


class RecentKeys:
    """The latest keys that were used within `ttl` seconds; safe between threads."""

    def __init__(self, ttl: float, max_size: int) -> None:
        self._ttl, self._max_size = ttl, max_size
        self._used_at: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def use(self, key: bytes) -> None:
        """Record that a key is used now."""
        with self._lock:
            self._used_at.pop(key, None)
            self._used_at[key] = time.monotonic()
            if len(self._used_at) > self._max_size:
                del self._used_at[next(iter(self._used_at))]

    def discard(self, keys: Collection[bytes]) -> None:
        """Discard keys before their time."""
        with self._lock:
            for key in keys:
                self._used_at.pop(key, None)

    def list(self) -> list[bytes]:
        """Return the keys, and discard older ones."""
        begin = time.monotonic() - self._ttl
        with self._lock:
            self._used_at = {key: at for key, at in self._used_at.items() if at > begin}
            return [*self._used_at]


class Caches:
    """The caches of an app: responses for readers, parts of pages, and valid tokens."""

    def __init__(self, response_ttl: float) -> None:
        self.response_ttl = response_ttl
        self.responses: TTLCache[CachedResponse | Response] = TTLCache(
            response_ttl, _MAX_RESPONSE_BYTES
        )
        live_ttl = max(response_ttl, _LIVE_SECONDS) if response_ttl else 0
        self.parts: TTLCache[CachedResponse | Response] = TTLCache(live_ttl, _MAX_RESPONSE_BYTES)
        self.tokens: TTLCache[ValidToken] = TTLCache(TOKEN_TTL_SECONDS, _MAX_TOKENS)
        self.unknown_tokens = UnknownTokens()
        self.recent_sessions = RecentKeys(_RECENT_SECONDS, _MAX_TOKENS)
        self.session_lock = threading.Lock()


def respond(
    request: Request,
    token: ValidToken,
    view: View,
    context: Context,
    cache: TTLCache[CachedResponse | Response],
) -> Response:
    """Answer a request to a cached operation; `view` computes the response."""
    environ = request.environ
    # The scheme and the host are in the Link header.
    origin = environ["wsgi.url_scheme"], environ.get("HTTP_HOST", "")
    address = *origin, environ["PATH_INFO"], environ.get("QUERY_STRING", "")
    key = *address, json_format.wants_ld_json(environ)
    response = compute(key, token, view, context, cache)
    if isinstance(response, CachedResponse):
        return response.to_response(request.headers.get("If-None-Match", ""))
    response.headers.update(_CACHE_HEADERS)
    return response


def compute(
    key: tuple[Hashable, ...],
    token: ValidToken,
    view: View,
    context: Context,
    cache: TTLCache[CachedResponse | Response],
    *,
    ttl: float | None = None,
) -> CachedResponse | Response:
    """Return a response that readers who see the same jobs share under a key."""
    if token.role is not Role.READER:
        return _freeze(view(context))

    def size_of(response: CachedResponse | Response) -> int | None:
        if not isinstance(response, CachedResponse):
            return None
        return response.size + sum(len(str(part)) for part in key)

    return cache.get_or_compute(
        (*key, token.scope), lambda: _freeze(_read(view, context)), size_of, ttl
    )


def _freeze(response: Response) -> CachedResponse | Response:
    return response if response.is_streamed else CachedResponse.of(response)


def _read(view: View, context: Context) -> Response:
    """Compute a response from the replica if there is one and it is usable, else the primary."""
    replica = context.replica
    if replica is None:
        return view(context)
    if replica.is_usable():
        try:
            response = view(replace(context, database=replica.database))
        except TooSlow:
            raise  # It would be too slow on the primary, too.
        except DatabaseUnavailable as error:
            replica.pause(str(error))
        else:
            metrics.child(metrics.READS, "replica").inc()
            return response
    metrics.child(metrics.READS, "primary").inc()
    return view(context)
