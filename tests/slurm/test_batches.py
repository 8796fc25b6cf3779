"""Many waiting events are sent in batches, with the results of single requests."""

import http.client
import http.server
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from tests.processes import Service
from tests.slurm import events
from tests.slurm.events import EPILOG, START
from tests.slurm.site import Site, list_jobs

pytestmark = pytest.mark.slow


class Proxy(http.server.BaseHTTPRequestHandler):
    """Forwards requests, counts them by operation, and may answer some with an error."""

    target = ""
    counts: Counter[str]
    refuse: dict[str, int]

    def do_POST(self) -> None:
        operation = self.path.rstrip("/").rpartition("/")[2]
        self.counts[operation] += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = self.refuse.get(operation, 0), b"refused"
        if not status:
            connection = http.client.HTTPConnection(urlsplit(self.target).netloc, timeout=60)
            token = {"X-Auth-Token": self.headers["X-Auth-Token"]}
            connection.request("POST", self.path, body, token)
            response = connection.getresponse()
            status, answer = response.status, response.read()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def proxy(service: Service, site: Site, **refuse: int) -> Iterator[Counter[str]]:
    """Put a proxy between sender and ccapi, and count the requests of each operation."""
    counts: Counter[str] = Counter()
    handler = type("Handler", (Proxy,), {"target": service.url, "counts": counts, "refuse": refuse})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site.configure(CCAPI_URL=f"http://127.0.0.1:{server.server_address[1]}/api/jobs")
    try:
        yield counts
    finally:
        server.shutdown()
        server.server_close()


def send(site: Site) -> None:
    """Send all waiting events."""
    sender = site.run_sender("--once")
    assert (sender.returncode, site.names()) == (0, []), sender.stderr


def write_runs(site: Site, numbers: list[int]) -> None:
    """Write a start and an end of each job, and a second run after a requeue."""
    for offset, number in enumerate(numbers):
        first, second = START + offset, START + offset + 300
        events.write_start(site, number, first)
        events.write(site, "epilog", first + 60.1, {**EPILOG, "SLURM_JOB_ID": str(number)})
        events.write_end(site, number, first + 60, START=str(first), JOBSTATE="PENDING")
        events.write_start(site, number, second, SLURM_JOB_RESTART_COUNT="1")
        events.write_end(site, number, second + 20, START=str(second), JOBSTATE="TIMEOUT")


@pytest.mark.parametrize("status", [None, 404, 405, 400, 413, 500])
def test_runs_are_registered_in_order(service: Service, site: Site, status: int | None) -> None:
    numbers = random.Random(3).sample(range(1, 1000), 40)
    write_runs(site, numbers)
    with proxy(service, site, **({"batch": status} if status else {})) as counts:
        send(site)
    runs: dict[int, list[tuple[int, int, str]]] = {}
    for job in list_jobs(service, site):
        run = (job["startTime"], job["duration"], job["jobState"])
        runs.setdefault(job["jobId"], []).append(run)
    assert runs == {
        number: [(START + offset, 60, "stopped"), (START + offset + 300, 20, "timeout")]
        for offset, number in enumerate(numbers)
    }
    single = counts["start_job"] + counts["stop_job"]
    assert single >= 160 if status else single == 0
    assert counts["batch"] == 1 if status else 4 <= counts["batch"] <= 5


def test_few_events_are_sent_alone(service: Service, site: Site) -> None:
    for number in range(1, 10):
        events.write_start(site, number)
    with proxy(service, site) as counts:
        send(site)
    assert counts == {"start_job": 9}


def test_a_refused_line_is_one_dead_letter(service: Service, site: Site) -> None:
    for number in range(1, 31):
        events.write_start(site, number)
    refused = events.write_start(site, 50, SLURM_JOB_USER="x" * 300)
    broken = events.write_start(site, 51, SLURM_JOB_NODELIST="n[5-x]")
    with proxy(service, site) as counts:
        send(site)
    assert {refused, broken} <= set(site.names("dead"))
    assert (site.spool / "dead" / f"{refused}.answer").read_text("utf-8").startswith("400 ")
    assert len(list_jobs(service, site)) == 30
    assert (counts["batch"], counts["start_job"]) == (1, 0)


def test_large_script_is_sent_alone(service: Service, site: Site) -> None:
    for number in range(1, 13):
        events.write_start(site, number)
    texts = (events.scontrol_output(20), "#!/bin/sh\n" + 200_000 * "x")
    variables = {**events.PROLOG, "SLURM_JOB_ID": "20"}
    events.write(site, "prolog", START + 1, variables, texts)
    with proxy(service, site) as counts:
        send(site)
    assert (counts["batch"], counts["start_job"]) == (1, 1)
    assert len(list_jobs(service, site)) == 13


def test_lost_starts_are_reconstructed(service: Service, site: Site) -> None:
    for number in range(1, 21):
        events.write_end(site, number)
    send(site)
    assert [job["duration"] for job in list_jobs(service, site)] == 20 * [60]


def test_unavailable_server_loses_no_event(service: Service, site: Site) -> None:
    write_runs(site, list(range(1, 21)))
    with proxy(service, site, batch=503) as counts:
        assert site.run_sender("--once").returncode == 1
    assert (counts, len(site.names())) == ({"batch": 1}, 100)
    site.configure(CCAPI_URL=service.url)
    send(site)
    assert len(list_jobs(service, site)) == 40


def test_revoked_token_loses_no_event(service: Service, site: Site) -> None:
    write_runs(site, list(range(1, 21)))
    token = site.token_file.read_text("ascii")
    site.token_file.chmod(0o600)
    site.token_file.write_text("wrong", "ascii")
    assert site.run_sender("--once").returncode == 1
    site.token_file.write_text(token, "ascii")
    send(site)
    assert (site.names("dead"), len(list_jobs(service, site))) == ([], 40)
