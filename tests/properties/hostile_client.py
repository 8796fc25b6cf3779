"""A client that attacks a service, and checks every answer and what the attack leaves behind."""

import http.client
import io
import json
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from werkzeug.http import HTTP_STATUS_CODES

from tests.client import START, job
from tests.processes import Service
from tests.properties.hostile_requests import request

_TIMEOUT_SECONDS = 20
_STATUSES_OF_GUNICORN = {400, 403, 405, 413, 414, 417, 431, 501}
_INTERNALS = (
    b"Traceback",
    b'File "/',
    b"psycopg",
    b"werkzeug",
    b"marshmallow",
    b"SELECT ",
    b"/site-packages/",
)


@dataclass(frozen=True)
class Response:
    """An answer of the service, or of gunicorn itself."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def is_from_gunicorn(self) -> bool:
        """Return whether gunicorn rejected the request before it reached the service."""
        return "X-Request-Id" not in self.headers

    @property
    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)


class _Received(io.BytesIO):
    def makefile(self, *_: Any, **__: Any) -> io.BytesIO:
        return self


@dataclass
class HostileClient:
    """Sends bytes to a service; `secrets` must not appear anywhere.

    `changes_bytes` says that the requests are damaged at random.
    """

    service: Service
    token: str
    archive: Path
    log: Path
    secrets: list[str] = field(default_factory=list)
    changes_bytes: bool = False
    answers: int = 0

    def __post_init__(self) -> None:
        self._workers = sorted(self.service.workers())
        self._outside = self._snapshot()

    @property
    def header(self) -> bytes:
        """Return the header with the token of role admin."""
        return f"X-Auth-Token: {self.token}".encode()

    def send(self, parts: bytes | Iterable[bytes], pause: float = 0) -> Response | None:
        """Send bytes, close the sending side, and check the answer, if there is one."""
        parts = [parts] if isinstance(parts, bytes) else list(parts)
        received = self._exchange(parts, pause)
        if not received:
            return None
        self.answers += 1
        try:
            answer = _parse(received, head=parts[0].startswith(b"HEAD "))
            self._check(answer, b"".join(parts))
        except (AssertionError, ValueError, http.client.HTTPException) as error:
            sent = b"".join(parts)
            raise AssertionError(
                f"{error}\nsent {sent[:3000]!r}\ngot {received[:2000]!r}"
            ) from error
        return answer

    def call(self, method: str, path: str, body: Any = None) -> Response:
        """Send an ordinary request with the token."""
        data = b"" if body is None else json.dumps(body).encode()
        first = f"{method} /api/jobs{path} HTTP/1.1".encode()
        answer = self.send(request(first, self.header, body=data))
        assert answer is not None, f"no answer to {method} {path} {body}"
        return answer

    def _exchange(self, parts: list[bytes], pause: float) -> bytes:
        received = b""
        with socket.create_connection(
            ("127.0.0.1", self.service.port), _TIMEOUT_SECONDS
        ) as connection:
            # The service may answer before it has read everything.
            with suppress(OSError):
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause)
                connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                while part := connection.recv(65536):
                    received += part
        return received

    def _check(self, answer: Response, sent: bytes) -> None:
        for internal in _INTERNALS if answer.status >= 400 else ():
            assert internal not in answer.body or internal in unquote_to_bytes(sent), internal
        assert "X-Injected" not in answer.headers
        if answer.is_from_gunicorn:
            assert answer.status in _STATUSES_OF_GUNICORN, answer.status
        else:
            assert self.token.encode() not in answer.body
            assert answer.status < 500, answer.status
        if answer.status >= 400 and answer.body:
            assert answer.headers["Content-Type"] == "application/json"
            assert set(answer.json) == {"status", "error"}
            assert answer.json["status"] == HTTP_STATUS_CODES[answer.status]
            assert answer.json["error"]

    def _snapshot(self) -> dict[str, bytes]:
        """Read all files outside the archive."""
        parent = self.archive.parent
        return {
            str(path.relative_to(parent)): path.read_bytes() if path.is_file() else b""
            for path in parent.rglob("*")
            if self.archive not in path.parents and path != self.log
        }

    def assert_unharmed(self) -> None:
        """Check files, log and workers, and that the service works."""
        assert sorted(self.service.workers()) == self._workers, self.log.read_text()[-3000:]
        assert self._snapshot() == self._outside
        log = self.log.read_text("utf-8", "replace")
        # A changed byte may move a token into the request line, which gunicorn logs.
        logged = "".join(
            line for line in log.splitlines() if " ccapi." in line or not self.changes_bytes
        )
        for secret in (self.token, *self.secrets):
            assert secret not in logged, f"a token is in the log: {secret}"
        assert "Traceback" not in log, log[-5000:]
        assert "CRITICAL" not in log, log[-5000:]
        self._run_a_job()

    def _run_a_job(self) -> None:
        self.call("DELETE", f"/delete_job_before/{2**62}")
        started = self.call("POST", "/start_job/", job())
        assert started.status == 201, started.body
        id_ = started.json["id"]
        assert self.call("POST", f"/tag_job/{id_}", [{"type": "a", "name": "b"}]).status == 200
        stop = {"jobId": 123000, "stopTime": START + 1, "jobState": "completed"}
        stopped = self.call("POST", "/stop_job/", stop)
        assert (stopped.status, stopped.json["monitoringStatus"]) == (200, 3)
        assert [job["id"] for job in self.call("GET", "/").json["jobs"]] == [id_]
        assert self.call("DELETE", f"/delete_job/{id_}").status == 200
        assert self.call("GET", "/").json["jobs"] == []


def _parse(received: bytes, *, head: bool) -> Response:
    """Parse exactly one response; a second one would answer a smuggled request."""
    stream = _Received(received)
    response = http.client.HTTPResponse(stream, method="HEAD" if head else "GET")  # type: ignore[arg-type]
    response.begin()
    if response.status == HTTPStatus.CONTINUE:
        return _parse(received.partition(b"\r\n\r\n")[2], head=head)
    body = response.read()
    rest = stream.read() if not stream.closed else b""
    assert not rest, f"more than one response: {rest[:200]!r}"
    return Response(response.status, response.headers, body)
