"""The way of a request through ccapi: how many files, functions and moves between files.

`python -m bench.request_path` prints a table; with `--files`, also each request's files in order.
"""

import argparse
import io
import json
import logging
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from flask.testing import FlaskClient

import ccapi
from bench.http_requests import START_BODY, START_TIME
from ccapi import config, logs
from ccapi.app import create_app
from ccapi.db import migrations
from ccapi.db.pool import Database
from ccapi.embedded import private_postgres
from ccapi.model.token import Role
from ccapi.service import tokens

MAX_FILES_OF_START = 16
_PACKAGE = Path(ccapi.__file__).parent


@dataclass
class RequestPath:
    """The functions of ccapi that a request entered.

    A move is a call from one file into another, however often it happens.
    """

    files: list[str] = field(default_factory=list)
    functions: set[tuple[str, str]] = field(default_factory=set)
    calls: int = 0
    moves: set[tuple[str, str]] = field(default_factory=set)

    def __str__(self) -> str:
        """Return a row of the table."""
        return f"{len(self.files):5} {len(self.functions):9} {self.calls:5} {len(self.moves):5}"


def trace(request: Callable[[], Any]) -> RequestPath:
    """Send a request and return its way; send one like it before, to fill the caches."""
    path = RequestPath()
    stack: list[str] = []

    def profile(frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event not in {"call", "return"} or not code.co_filename.startswith(f"{_PACKAGE}/"):
            return
        file = code.co_filename.removeprefix(f"{_PACKAGE}/")
        if event == "return":
            stack.pop()
            return
        path.calls += 1
        if stack and stack[-1] != file:
            path.moves.add((stack[-1], file))
        path.functions.add((file, code.co_qualname))
        if file not in path.files:
            path.files.append(file)
        stack.append(file)

    sys.setprofile(profile)
    try:
        request()
    finally:
        sys.setprofile(None)
    return path


def trace_all(client: FlaskClient, admin: str, reader: str) -> dict[str, RequestPath]:
    """Trace each kind of request, the second of its kind; the log is written as by a service."""

    def send(token: str, method: str, path: str, body: Any = None) -> Any:
        response = client.open(
            f"/api/jobs{path}",
            method=method,
            headers={"X-Auth-Token": token},
            data=None if body is None else json.dumps(body),
        )
        assert response.status_code in {200, 201}, response.text
        return response.get_json()

    def start(number: int) -> int:
        return int(send(admin, "POST", "/start_job/", {**START_BODY, "jobId": number})["id"])

    def stop(number: int) -> None:
        body = {"jobId": number, "jobState": "completed", "stopTime": START_TIME + 60}
        send(admin, "POST", "/stop_job/", body)

    id_ = start(1)
    paths = {"start_job": trace(lambda: start(2))}
    stop(1)
    paths["stop_job"] = trace(lambda: stop(2))
    for name, path in (("list_jobs", "/"), ("get_job", f"/{id_}"), ("get_stats", "/stats/")):
        send(admin, "GET", path)
        paths[name] = trace(partial(send, admin, "GET", path))
        send(reader, "GET", path)
    paths["list_jobs, cached"] = trace(lambda: send(reader, "GET", "/"))
    return paths


def main() -> None:
    """Trace on a private PostgreSQL."""
    parser = argparse.ArgumentParser(prog="python -m bench.request_path", description=__doc__)
    parser.add_argument("--files", action="store_true", help="list the files in order")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        home.chmod(0o755)
        with private_postgres(home / "postgresql", durable=False) as postgres:
            migrations.migrate(Database(postgres.url))
            environment = {
                "CCAPI_CONFIG": "/dev/null",
                "CCAPI_DATABASE_URL": postgres.url,
                "CCAPI_ARCHIVE_ROOT": str(home / "job-archive"),
                "CCAPI_JOBS_LIST_CACHE_SECONDS": "60",
            }
            app = create_app(config.load(environ=environment))
            database: Database = app.extensions["ccapi"].database
            admin, reader = (
                tokens.create(database, role, role) for role in (Role.ADMIN, Role.READER)
            )
            handler = logging.StreamHandler(io.StringIO())
            handler.setFormatter(logs.JsonFormatter())
            logging.getLogger().handlers = [handler]
            paths = trace_all(app.test_client(), admin, reader)
            database.close()
    print(f"{'request':20}{'files':>5} {'functions':>9} {'calls':>5} {'moves':>5}")
    for name, path in paths.items():
        print(f"{name:20}{path}")
        if options.files:
            print(f"{'':4}{' '.join(path.files)}")


if __name__ == "__main__":
    main()
