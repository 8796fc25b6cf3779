"""The way of a request through the code; `python -m bench.request_path` prints it."""

import io
import logging

import pytest
from flask import Flask

from bench import request_path
from ccapi import logs
from tests.client import Client


def test_start_enters_at_most_16_files(
    app: Flask, admin: Client, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logs.JsonFormatter())
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    paths = request_path.trace_all(app.test_client(), admin.token, reader.token)
    assert len(paths["start_job"].files) <= request_path.MAX_FILES_OF_START, paths[
        "start_job"
    ].files
    assert set(paths["start_job"].files) >= {"http/request_log.py", "api/jobs.py", "logs.py"}
