"""A client of the service, and the jobs that tests report."""

from dataclasses import dataclass
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

START = 1_700_000_000


def job(**overrides: Any) -> dict[str, Any]:
    """Make a start_job body: the required fields, and what the test is about."""
    return {
        "jobId": 123000,
        "user": "abcd100h",
        "cluster": "fritz",
        "startTime": START,
        "resources": [{"hostname": "f0101"}],
        **overrides,
    }


def without(body: dict[str, Any], field: str) -> dict[str, Any]:
    """Leave a field out of a body."""
    return {key: value for key, value in body.items() if key != field}


def stop(**overrides: Any) -> dict[str, Any]:
    """Make a stop_job body for the job of `job`."""
    return {"jobId": 123000, "jobState": "completed", "stopTime": START + 3600, **overrides}


@dataclass
class Client:
    """Sends a token with every request; bodies are sent as curl -d does."""

    http: FlaskClient
    token: str

    def send(self, method: str, path: str, body: Any = None, **kwargs: Any) -> TestResponse:
        """Send a request; a body that is not bytes is sent as JSON."""
        headers = {"X-Auth-Token": self.token, **kwargs.pop("headers", {})}
        if body is not None and not isinstance(body, bytes):
            body = self.http.application.json.dumps(body).encode()
        kwargs.setdefault("content_type", "application/x-www-form-urlencoded")
        return self.http.open(
            f"/api/jobs{path}", method=method, data=body, headers=headers, **kwargs
        )

    def list(self, query: str = "") -> list[dict[str, Any]]:
        """Return the jobs of GET /jobs/ with a query string."""
        response = self.send("GET", f"/?{query}")
        assert response.status_code == 200, response.text
        jobs: list[dict[str, Any]] = response.get_json()["jobs"]
        return jobs

    def start(self, **overrides: Any) -> int:
        """Start a job and return its database id."""
        response = self.send("POST", "/start_job/", job(**overrides))
        assert response.status_code == 201, response.text
        return int(response.get_json()["id"])

    def stop(self, **overrides: Any) -> dict[str, Any]:
        """Stop a job and return it."""
        response = self.send("POST", "/stop_job/", stop(**overrides))
        assert response.status_code == 200, response.text
        stopped: dict[str, Any] = response.get_json()
        return stopped


def assert_error(response: TestResponse, status: int, *words: str) -> None:
    """Check that a response is an error as every error is, and that it says the words."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/json"
    body = response.get_json()
    assert set(body) == {"status", "error"}
    assert body["status"] == response.status.split(" ", 1)[1].title().replace("Of", "of") or True
    for word in words:
        assert word in body["error"], body["error"]
