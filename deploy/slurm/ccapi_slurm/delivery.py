"""One request to the registry, and what its answer means for an event."""

import contextlib
import enum
import http.client
import json
import signal
import ssl
import time
import urllib.parse
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Optional

from ccapi_slurm.settings import Settings

_LONGEST_ANSWER = 16 * 1024 * 1024


class Verdict(enum.Enum):
    """What becomes of the event that was sent."""

    DONE = "done"
    KNOWN = "known before"
    DEAD = "refused"
    LOCKED_OUT = "the token is refused"
    TROUBLE = "failed"
    OUTAGE = "the registry is away"


class Answer(NamedTuple):
    """A verdict, the registry's words, and the seconds it asks to wait (None: it does not)."""

    verdict: Verdict
    text: str
    retry_after: Optional[float] = None


class Registry:
    """The registry's HTTP interface; keeps its connection between requests."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = urllib.parse.urlsplit(settings.url)
        self._connection: Optional[http.client.HTTPConnection] = None

    def send(self, operation: str, body: dict[str, Any]) -> Answer:
        """Send one request; never raises for what the network or the registry does."""
        try:
            token = self._settings.token_file.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            return Answer(Verdict.OUTAGE, f"cannot read the token: {error}")
        headers = {"X-Auth-Token": token, "Content-Type": "application/json"}
        try:
            with _limit(self._settings.timeout):
                return self._send(operation, json.dumps(body).encode(), headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            verdict = Verdict.TROUBLE if isinstance(error, _Slow) else Verdict.OUTAGE
            return Answer(verdict, f"{type(error).__name__}: {error}")

    def _send(self, operation: str, body: bytes, headers: dict[str, str]) -> Answer:
        if self._connection is not None:
            try:
                return self._exchange(self._connection, operation, body, headers)
            except (ConnectionError, http.client.BadStatusLine):
                # The registry had closed an idle connection; every request may be sent twice.
                self.close()
        self._connection = self._connect()
        return self._exchange(self._connection, operation, body, headers)

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        seconds = self._settings.connect_timeout
        if self._url.scheme == "https":
            context = ssl.create_default_context()
            made: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=seconds, context=context
            )
        else:
            made = http.client.HTTPConnection(host, port, timeout=seconds)
        made.connect()
        made.sock.settimeout(self._settings.timeout)
        return made

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        operation: str,
        body: bytes,
        headers: dict[str, str],
    ) -> Answer:
        connection.request("POST", f"{self._url.path}/{operation}/", body, headers)
        response = connection.getresponse()
        text = response.read(_LONGEST_ANSWER).decode("utf-8", "replace").strip()
        if response.will_close or not response.isclosed():
            self.close()
        return Answer(judge(response.status, text), f"{response.status} {text}", _wait(response))

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Slow(OSError):
    """The registry did not answer in time."""


@contextlib.contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Raise _Slow after a time, however slowly an answer trickles in."""

    def interrupt(*_: object) -> None:
        raise _Slow(f"no answer within {seconds:g} s")

    former = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


# About the token, not the event; an answer begins with its status.
LOCKED_OUT = ("401", "403")
_AWAY = {408, 425, 429, 502, 503, 504}


def judge(status: int, text: str) -> Verdict:
    """Judge an answer by its status; of a 422 the words count."""
    if status in {200, 201}:
        return Verdict.DONE
    if status == http.client.UNPROCESSABLE_ENTITY and "already" in text:
        return Verdict.KNOWN
    if str(status) in LOCKED_OUT:
        return Verdict.LOCKED_OUT
    if status in _AWAY or status < http.client.BAD_REQUEST:
        return Verdict.OUTAGE
    return Verdict.DEAD if status < http.client.INTERNAL_SERVER_ERROR else Verdict.TROUBLE


def _wait(response: http.client.HTTPResponse) -> Optional[float]:
    """Return the seconds that Retry-After asks for, in either of its forms."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, IndexError):
        return None
