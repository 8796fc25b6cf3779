"""Many pollers, one question: what several requests within a short time may share."""

import hashlib
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import orjson
from flask import Response, request

from ccapi.model.token import TOKEN_TTL_SECONDS, ValidToken

Value = TypeVar("Value")
_MOST_TOKENS = 1_000
_MOST_ANSWER_BYTES = 16 * 2**20
_LOCKS = 64
_NOT_MODIFIED = 304
# Answers differ by token, and each is as of a moment: to be kept by the client alone, and to
# be asked for again.
_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "X-Auth-Token, Authorization"}


class _Kept(NamedTuple, Generic[Value]):
    value: Value
    begun: float
    weight: int


class TTLCache(Generic[Value]):
    """Values that were got within the last `seconds`; safe between threads.

    A value is as old as its getting began. Together they weigh at most `most`; the ones
    that were got first make room.
    """

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds, self._most = seconds, most
        self._kept: dict[Hashable, _Kept[Value]] = {}
        self._weight = 0
        self._changing = threading.Lock()
        self._getting = [threading.Lock() for _ in range(_LOCKS)]

    def find(self, key: Hashable, at: float | None = None) -> Value | None:
        """Return the value that is fresh enough for a request that came at a time, or None."""
        kept = self._kept.get(key)
        if kept is None or kept.begun <= (at or time.monotonic()) - self._seconds:
            return None
        return kept.value

    def keep(self, key: Hashable, value: Value, begun: float, weight: int = 1) -> None:
        """Keep a value whose getting began at a time of time.monotonic()."""
        if weight > self._most or self._seconds <= 0:
            return
        with self._changing:
            self._drop(key)
            while self._weight + weight > self._most:
                self._drop(next(iter(self._kept)))
            self._kept[key] = _Kept(value, begun, weight)
            self._weight += weight

    def _drop(self, key: Hashable) -> None:
        former = self._kept.pop(key, None)
        self._weight -= former.weight if former else 0

    def get(
        self, key: Hashable, make: Callable[[], Value], size_of: Callable[[Value], int | None]
    ) -> Value:
        """Return the kept value, else make it once for all threads that wait for it.

        One without a weight is not kept.
        """
        arrived = time.monotonic()
        if (value := self.find(key, arrived)) is not None:
            return value
        with self._getting[hash(key) % _LOCKS]:
            if (value := self.find(key, arrived)) is not None:
                return value
            begun = time.monotonic()
            value = make()
            if (weight := size_of(value)) is not None:
                self.keep(key, value, begun, weight)
            return value


@dataclass(frozen=True)
class CachedResponse:
    """The bytes of an answer, and the name by which a client tells that it has them.

    `endpoint` and `job` are what accounting tells of the question.
    """

    body: bytes
    etag: str
    content_type: str
    headers: Mapping[str, str]
    endpoint: str = ""
    job: int | None = None

    @classmethod
    def of(cls, content: object) -> "CachedResponse":
        """Write an answer as JSON."""
        return cls.named(orjson.dumps(content), "application/json", {})

    @classmethod
    def named(cls, body: bytes, content_type: str, headers: Mapping[str, str]) -> "CachedResponse":
        """Name an answer after its bytes and its headers, as durations change each second."""
        named = hashlib.sha256(body)  # which processors have in hardware
        named.update(orjson.dumps(headers))
        return cls(body, f'"{named.hexdigest()[:32]}"', content_type, headers)

    def sent(self, if_none_match: str) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers for a client that says which answers it has."""
        headers = {"ETag": self.etag, **_HEADERS, **self.headers}
        if self.etag in if_none_match or if_none_match.strip() == "*":
            return _NOT_MODIFIED, b"", headers
        facts = {"Content-Type": self.content_type, "Content-Length": str(len(self.body))}
        return 200, self.body, {**facts, **headers}


class Sharing:
    """What an app's requests share: answers for `seconds`, and which tokens are valid."""

    def __init__(self, seconds: float) -> None:
        self.answers: TTLCache[CachedResponse | Response] = TTLCache(seconds, _MOST_ANSWER_BYTES)
        self.tokens: TTLCache[ValidToken] = TTLCache(TOKEN_TTL_SECONDS, _MOST_TOKENS)


def size_of(answer: CachedResponse | Response) -> int | None:
    """Return what an answer takes in memory, nearly; None for a stream."""
    return len(answer.body) + 1_000 if isinstance(answer, CachedResponse) else None


def question(environ: Mapping[str, Any]) -> Hashable:
    """Return what two requests have in common that may share an answer."""
    return environ["PATH_INFO"], environ.get("QUERY_STRING", "")


def respond(answer: CachedResponse | Response) -> Response:
    """Send an answer, unless the client has it already."""
    if isinstance(answer, Response):
        answer.headers.update(_HEADERS)
        return answer
    status, body, headers = answer.sent(request.headers.get("If-None-Match", ""))
    response = Response(body, status, headers)
    if status == _NOT_MODIFIED:
        del response.headers["Content-Type"]  # which Flask adds
    return response
