"""The HTTP client: send one request to ccapi and classify the response."""

import contextlib
import enum
import http.client
import json
import re
import signal
import ssl
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Optional

from ccapi_slurm.settings import Settings

_MAX_RESPONSE_BYTES = 4 * 1024 * 1024
# 404 and 405 mean that ccapi is not at this address.
_UNAVAILABLE_STATUSES = {404, 405, 408, 425, 429, 502, 503, 504}
_CHECK_SECONDS = 5.0
# ccapi runs a batch for up to 20 seconds.
_BATCH_SECONDS = 60.0
# The job in an answer has all of its script; of a line, only the beginning counts.
_ANSWER = re.compile(rb'\{"line":([0-9]{1,9}),"status":([0-9]{3}),"body":')
_PIECE_BYTES, _MAX_LINE_BYTES, _MAX_REST_BYTES = 64 * 1024, 4096, 16 * 1024 * 1024
# They reject the token, not the event. A message begins with the status.
UNAUTHORIZED_STATUSES = ("401", "403")


class Verdict(enum.Enum):
    """The outcome of a request."""

    ACCEPTED = "accepted"
    DUPLICATE = "already registered"
    REJECTED = "rejected for good"
    TOO_LARGE = "too large"
    BROKEN = "connection broken"
    UNAUTHORIZED = "token rejected"
    ERROR = "failed in ccapi"
    UNAVAILABLE = "ccapi unavailable"


class Result(NamedTuple):
    """A verdict, its reason, and the Retry-After of the response in seconds, if it has one."""

    verdict: Verdict
    message: str
    retry_after: Optional[float] = None


class _Request(NamedTuple):
    """A request, its timeout, and where to put the results of a batch's lines."""

    operation: str
    body: bytes
    timeout: float
    results: Optional[dict[int, Result]] = None


class Client:
    """A client of ccapi's REST API; reuses its connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = urllib.parse.urlsplit(settings.url)
        self._connection: Optional[http.client.HTTPConnection] = None
        self._batch: Optional[_Request] = None
        self._is_batch_sent = False

    def send(self, operation: str, body: dict[str, Any], timeout: Optional[float] = None) -> Result:
        """Send one request; network and HTTP errors become a Result."""
        data = json.dumps(body, ensure_ascii=False).encode()
        return self._post(_Request(operation, data, timeout or self._settings.timeout))

    def send_batch(self, lines: Sequence[bytes]) -> tuple[Result, list[Result]]:
        """Send a batch; return its result, and if it is accepted those of its lines, in order."""
        self.begin_batch(lines)
        return self.end_batch()

    def begin_batch(self, lines: Sequence[bytes]) -> None:
        """Send a batch without waiting for the answer, which `end_batch` returns."""
        if self._is_batch_sent:
            self.close()
        timeout = max(self._settings.timeout, _BATCH_SECONDS)
        self._batch = _Request("batch", b"\n".join(lines), timeout, {})
        try:
            with _time_limit(self._settings.timeout):
                headers = self._headers()
                self._connection = self._connection or self._connect()
                self._request(self._connection, self._batch, headers)
                self._is_batch_sent = True
        except (OSError, http.client.HTTPException, ValueError):
            # `end_batch` tries again, and reports what is wrong.
            self.close()

    def end_batch(self) -> tuple[Result, list[Result]]:
        """Return the answer to the batch that was begun, as `send_batch` does."""
        request = self._batch
        assert request is not None
        assert request.results is not None
        number = request.body.count(b"\n") + 1
        result = self._post(request)
        self._batch = None
        if result.verdict is Verdict.ACCEPTED and len(request.results) < number:
            return Result(Verdict.ERROR, "the answer to a batch has too few lines"), []
        return result, [request.results[number] for number in sorted(request.results)]

    def _post(self, request: _Request) -> Result:
        """Return the answer to a request, and put the results of a batch's lines into it."""
        if self._is_batch_sent and request is not self._batch:
            # The answer to the batch would be taken for the answer to this request.
            self.close()
        try:
            headers = self._headers()
            with _time_limit(request.timeout):
                if self._connection is not None:
                    try:
                        return self._exchange(self._connection, request, headers)
                    except (ConnectionError, http.client.BadStatusLine):
                        # The server closed an idle connection. Repeating a request is safe.
                        self.close()
                self._connection = self._connect()
                try:
                    return self._exchange(self._connection, request, headers)
                except (ConnectionError, http.client.BadStatusLine) as error:
                    self.close()
                    return Result(Verdict.BROKEN, f"{type(error).__name__}: {error}")
        except _TokenError as error:
            return Result(Verdict.UNAVAILABLE, f"cannot read the token: {error}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            is_slow = isinstance(error, _RequestTimeout)
            verdict = Verdict.ERROR if is_slow else Verdict.UNAVAILABLE
            return Result(verdict, f"{type(error).__name__}: {error}")

    def check(self) -> str:
        """Return what is wrong with address, token or role; "" if ccapi would accept a start.

        ccapi checks the token before it reads the body, and refuses a start without fields.
        """
        result = self.send("start_job", {}, min(_CHECK_SECONDS, self._settings.timeout))
        status = result.message.partition(" ")[0]
        if status == "400":
            return ""
        if status == "401":
            return f"ccapi does not know the token in {self._settings.token_file}: {result.message}"
        if status == "403":
            return f"the token's role cannot register jobs, create one with --role writer: {status}"
        if status.isdigit() and result.verdict is not Verdict.ERROR:
            return f"no ccapi answers at CCAPI_URL={self._settings.url}: {result.message:.200}"
        return f"cannot reach {self._settings.url}: {result.message:.200}"

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._is_batch_sent = False

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        timeout = self._settings.connect_timeout
        if self._url.scheme == "https":
            context = ssl.create_default_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=timeout, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        connection.connect()
        connection.sock.settimeout(self._settings.timeout)
        return connection

    def _headers(self) -> dict[str, str]:
        """Return the headers of a request; raises _TokenError."""
        try:
            token = self._settings.token_file.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            raise _TokenError(str(error)) from error
        return {"X-Auth-Token": token, "Content-Type": "application/json"}

    def _request(
        self, connection: http.client.HTTPConnection, request: _Request, headers: dict[str, str]
    ) -> None:
        path = f"{self._url.path}/{request.operation}/"
        # A server that refuses a large body may answer and close before it has read all of it.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", path, request.body, headers)

    def _exchange(
        self, connection: http.client.HTTPConnection, request: _Request, headers: dict[str, str]
    ) -> Result:
        if not self._is_batch_sent:
            self._request(connection, request, headers)
        self._is_batch_sent = False
        response = connection.getresponse()
        if request.results is not None and response.status == http.client.OK:
            request.results.update(_read_lines(response))
        text = response.read(_MAX_RESPONSE_BYTES).decode("utf-8", "replace").strip()
        if response.will_close or not response.isclosed():
            self.close()
        message = f"{response.status} {text}"
        return Result(classify(response.status, text), message, _retry_after(response))


def _read_lines(response: http.client.HTTPResponse) -> Iterator[tuple[int, Result]]:
    """Yield the number and the result of each line of a batch's answer; raises ValueError."""
    rest = b""
    while data := response.read(_PIECE_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            match = _ANSWER.match(line)
            if match is None:
                raise ValueError(f"not an answer to a batch: {line[:80]!r}")
            status, text = int(match[2]), line[match.end() :][:_MAX_LINE_BYTES]
            message = f"{status} {text.decode('utf-8', 'replace')}"
            yield int(match[1]), Result(classify(status, message), message)
        if len(rest) > _MAX_REST_BYTES:
            raise ValueError("a line of the answer is too long")


class _TokenError(ValueError):
    """The file with the token cannot be read."""


class _RequestTimeout(OSError):
    """The response was not complete in time."""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise _RequestTimeout after some seconds, even while a response trickles in."""

    def interrupt(*_: object) -> None:
        raise _RequestTimeout(f"no answer within {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def classify(status: int, text: str) -> Verdict:
    """Classify a response by its status, and a 422 by its text as well."""
    if status in {200, 201}:
        return Verdict.ACCEPTED
    if status == http.client.UNPROCESSABLE_ENTITY and "already" in text:
        return Verdict.DUPLICATE
    if status == http.client.REQUEST_ENTITY_TOO_LARGE:
        return Verdict.TOO_LARGE
    if str(status) in UNAUTHORIZED_STATUSES:
        return Verdict.UNAUTHORIZED
    if status in _UNAVAILABLE_STATUSES or status < http.client.BAD_REQUEST:
        return Verdict.UNAVAILABLE
    return Verdict.REJECTED if status < http.client.INTERNAL_SERVER_ERROR else Verdict.ERROR


def _retry_after(response: http.client.HTTPResponse) -> Optional[float]:
    """Return the seconds of Retry-After, which is a number or a date; None without it."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, IndexError):
        return None
