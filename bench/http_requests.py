"""The HTTP requests that the benchmarks send, and the numbers of the jobs that they start."""

import json
from dataclasses import dataclass
from typing import Any

# The load generator puts a number of as many digits here, so the content length stays right.
NUMBER = "@@@@@@@@"
CLUSTER = "started"
# Earlier than all sample jobs, so that the first pages of lists do not show started jobs.
START_TIME = 1_400_000_000
_BODY_BYTES = 2048


@dataclass
class JobNumbers:
    """The numbers of started jobs; no two rounds share a number."""

    next: int = 10_000_000

    def reserve(self, count: int) -> int:
        """Return the first of `count` new numbers."""
        first, self.next = self.next, self.next + count
        return first


JOB_NUMBERS = JobNumbers()


def get(path: str, token: str) -> str:
    """Return a GET request; its number is in a header that the server ignores."""
    return _head("GET", path, token) + f"X-Number: {NUMBER}\r\n\r\n"


def delete(path: str, token: str) -> str:
    """Return a DELETE request; its number is in a header that the server ignores."""
    return _head("DELETE", path, token) + f"X-Number: {NUMBER}\r\n\r\n"


def start_job(token: str, **overrides: Any) -> str:
    """Return a start of a job on 4 nodes with 72 hardware threads each, in a body of 2 KB."""
    return _post("/api/jobs/start_job/", token, {**START_BODY, **overrides})


def stop_job(token: str) -> str:
    """Return a stop of a job that `start_job` started."""
    body = {"jobId": NUMBER, "cluster": CLUSTER, "jobState": "completed"}
    return _post("/api/jobs/stop_job/", token, {**body, "stopTime": START_TIME + 7200})


def batch(token: str, first: int, count: int) -> str:
    """Return a batch of starts, each as `start_job` sends it, with numbers from `first`."""
    line = json.dumps({"start": START_BODY}).replace(f'"{NUMBER}"', NUMBER)
    body = "".join(f"{line.replace(NUMBER, str(first + place))}\n" for place in range(count))
    return _head("POST", "/api/jobs/batch/", token) + f"Content-Length: {len(body)}\r\n\r\n{body}"


def _post(path: str, token: str, fields: dict[str, Any]) -> str:
    """Return a POST request with a JSON body in ASCII, as curl sends it."""
    body = json.dumps(fields).replace(f'"{NUMBER}"', NUMBER)
    return _head("POST", path, token) + (
        "Content-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )


def _head(method: str, path: str, token: str) -> str:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n"
        f"Connection: close\r\nX-Auth-Token: {token}\r\n"
    )


def _start_body() -> dict[str, Any]:
    """Return the fields of a start, with a job script that fills them up to 2 KB."""
    fields: dict[str, Any] = {
        "jobId": NUMBER,
        "user": "abcd100h",
        "project": "abcd200",
        "cluster": CLUSTER,
        "subCluster": "main",
        "partition": "multinode",
        "arrayJobId": 1_034_871,
        "numNodes": 4,
        "numHwthreads": 288,
        "exclusive": 1,
        "smt": 1,
        "walltime": 86_400,
        "monitoringStatus": 1,
        "startTime": START_TIME,
        "resources": [
            {"hostname": f"f01{node:02}", "hwthreads": list(range(72))} for node in range(1, 5)
        ],
        "metaData": {"jobName": "rotor", "jobScript": ""},
    }
    length = _BODY_BYTES - len(json.dumps(fields))
    fields["metaData"]["jobScript"] = "srun ./rotor input.yaml # ".ljust(length, "x")[:length]
    return fields


START_BODY = _start_body()
