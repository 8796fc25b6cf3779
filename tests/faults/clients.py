"""The clients: start, tag, stop and delete jobs, and send each event until it is done.

Run as `python -m tests.faults.clients`; it ends when the file `finish` appears, or at the deadline.
"""

import argparse
import http.client
import itertools
import json
import random
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.client import START
from tests.faults.ledger import NO_ANSWER, Attempt, Key

STATES = ("completed", "failed", "cancelled", "timeout", "preempted", "out_of_memory")
_ID = re.compile(r"database id is (\d+)")
_MAX_PAUSE = 0.3
_DONE_BEFORE = {
    "start": "is already registered",
    "stop": "already stopped",
    "delete": "no job has the database id",
}


@dataclass(frozen=True)
class Response:
    """An answer; status 0 means that there was none."""

    status: int
    body: dict[str, Any]
    text: str
    retry_after: bool = False


class Sender:
    """A hook: sends an event until it is done, and records each answer."""

    def __init__(self, arguments: argparse.Namespace, number: int) -> None:
        self._port: int = arguments.ports[number % len(arguments.ports)]
        self._token: str = arguments.token
        self._timeout: float = arguments.timeout
        self._deadline = time.monotonic() + arguments.seconds
        self._pause: float = arguments.pause
        name = f"{number}.ledger"
        self._file = (arguments.directory / name).open("a", encoding="utf-8")

    def send(self, operation: str, key: Key, path: str, event: dict[str, Any]) -> Attempt:
        """Send an event until it is done; return the last attempt."""
        method = "DELETE" if operation == "delete" else "POST"
        body = event["tags"] if operation == "tag" else event
        for number in itertools.count():
            sent = time.monotonic()
            answer = self._request(method, path, None if operation == "delete" else body)
            attempt = self._attempt(operation, key, event, sent, answer)
            self._file.write(attempt.line())
            self._file.flush()
            if attempt.ends:
                time.sleep(self._pause)
                return attempt
            time.sleep(min(_MAX_PAUSE, 0.02 * 2**number))
        raise AssertionError

    def _request(self, method: str, path: str, body: Any) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, self._timeout)
        try:
            headers = {"X-Auth-Token": self._token}
            content = None if body is None else json.dumps(body)
            connection.request(method, f"/api/jobs{path}", content, headers)
            response = connection.getresponse()
            text = response.read().decode()
            return Response(
                response.status, json.loads(text), text, "Retry-After" in response.headers
            )
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Response(NO_ANSWER, {}, f"{type(error).__name__}: {error}")
        finally:
            connection.close()

    def _attempt(
        self, operation: str, key: Key, event: dict[str, Any], sent: float, answer: Response
    ) -> Attempt:
        now = time.monotonic()
        match = _ID.search(answer.text)
        known_id = int(match[1]) if match else None
        is_final = answer.status not in (NO_ANSWER, 500, 502, 503, 504)
        is_repeated = answer.status == 422 and _DONE_BEFORE.get(operation, "?") in answer.text
        is_unexpected = is_final and answer.status not in (200, 201) and not is_repeated
        needs_text = is_unexpected or answer.status in (NO_ANSWER, 500, 422)
        text = answer.text[:300] if needs_text else ""
        if answer.status == 503 and not answer.retry_after:
            text = "503 without Retry-After"
        return Attempt(
            operation, key, event, sent, now, answer.status,
            ends=is_final or now > self._deadline,
            id=answer.body.get("id", known_id) if operation == "start" else None,
            archived=answer.body.get("monitoringStatus") if operation == "stop" else None,
            text=text,
        )  # fmt: skip


def run_job(sender: Sender, key: Key, luck: random.Random, *, deletes: bool) -> None:
    """Start, tag, stop and delete one job."""
    tag = {"type": "fault", "name": f"t{luck.randrange(40)}"}
    started = sender.send("start", key, "/start_job/", _start(key, luck))
    if started.id is None:
        return
    if luck.random() < 0.15:
        sender.send("tag", key, f"/tag_job/{started.id}", {"tags": [tag]})
    if luck.random() < 0.98:
        event = {
            "jobState": luck.choice(STATES),
            "stopTime": key[2] + luck.choice((0, 1, 59, 3600, 86_400)),
        }
        key_fields = {"jobId": key[1], "cluster": key[0], "startTime": key[2]}
        path, body = ("", key_fields) if luck.random() < 0.5 else (str(started.id), {})
        sender.send("stop", key, f"/stop_job/{path}", {**event, **body})
    if luck.random() < 0.2:
        more = {"type": "fault", "name": f"late{luck.randrange(40)}"}
        sender.send("tag", key, f"/tag_job/{started.id}", {"tags": [tag, more]})
    if deletes and luck.random() < 0.08:
        sender.send("delete", key, f"/delete_job/{started.id}", {})


def _start(key: Key, luck: random.Random) -> dict[str, Any]:
    hosts = [{"hostname": f"f{n:04}", "hwthreads": [0, 1]} for n in range(luck.choice((1, 2, 8)))]
    return {
        "jobId": key[1],
        "user": "abcd100h",
        "cluster": key[0],
        "startTime": key[2],
        "resources": hosts,
        "monitoringStatus": 0 if luck.random() < 0.04 else 1,
        "metaData": {"jobScript": "#!/bin/sh\n" + "srun ./solver\n" * luck.choice((1, 200))},
        "tags": [{"type": "fault", "name": f"s{luck.randrange(9)}"}] if luck.random() < 0.3 else [],
    }


def keys(luck: random.Random, number: int) -> Iterator[Key]:
    """Yield keys that no other thread uses; every tenth job runs again later."""
    for serial in itertools.count():
        job_id = 1 + luck.randrange(50_000_000) * 64 + number
        yield (f"c{serial % 3}", job_id, START + serial)
        if serial % 10 == 0:
            yield (f"c{serial % 3}", job_id, START + serial + 61)


def run(arguments: argparse.Namespace, number: int) -> None:
    """Run jobs one after the other, until the load shall finish."""
    # Twins report the same runs.
    series = number // arguments.twins
    luck = random.Random(f"{arguments.seed} {series}")
    sender = Sender(arguments, number)
    finish = arguments.directory / "finish"
    until = time.monotonic() + arguments.seconds
    for key in keys(luck, series):
        if finish.exists() or time.monotonic() > until:
            return
        run_job(sender, key, luck, deletes=arguments.twins == 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--ports", type=int, nargs="+", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--twins", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=10)
    parser.add_argument("--pause", type=float, default=0.01)
    parser.add_argument("--seconds", type=float, default=900)
    return parser.parse_args()


def main() -> int:
    """Run the threads of one process."""
    arguments = _arguments()
    senders = [
        threading.Thread(target=run, args=(arguments, number))
        for number in range(arguments.first, arguments.first + arguments.threads)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
