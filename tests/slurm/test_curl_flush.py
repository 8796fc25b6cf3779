"""flush sends what the curl hooks left in the spool, in dash and in bash."""

import contextlib
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.processes import Service
from tests.slurm.curl_site import EPILOG, PROLOG, START, CurlSite, write_token
from tests.slurm.site import Site, list_jobs

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def answering(status: int, text: str = "") -> Iterator[str]:
    """Run a server that answers every request with a status, and yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api/jobs"
        server.shutdown()
        thread.join()


def test_events_of_an_outage_are_sent_by_flush(
    curl_site: CurlSite, service: Service, site: Site
) -> None:
    for job in ("4", "12", "123"):
        curl_site.run_hook("prolog", {**PROLOG, "SLURM_JOB_ID": job})
    curl_site.configure(CCAPI_URL=service.url)
    curl_site.run_hook("epilog", {**EPILOG, "SLURM_JOB_ID": "12"})
    assert list_jobs(service, site) == []
    names = ["12-1001-start", "12-1002-stop", "123-1001-start", "4-1001-start"]
    assert curl_site.names() == names
    for folder in (curl_site.spool, curl_site.spool / "new"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    curl_site.flush()
    states = {job["jobId"]: job["jobState"] for job in list_jobs(service, site)}
    assert states == {4: "running", 12: "completed", 123: "running"}
    curl_site.run_hook("epilog", {**EPILOG, "SLURM_JOB_ID": "4"})
    states = {job["jobId"]: job["jobState"] for job in list_jobs(service, site)}
    assert states == {4: "completed", 12: "completed", 123: "running"}
    assert curl_site.names() == curl_site.names("dead") == []


def test_runs_of_a_requeued_job_are_sent_in_order(
    curl_site: CurlSite, service: Service, site: Site
) -> None:
    for run in range(3):
        start = {"SLURM_JOB_START_TIME": str(START + 1000 * run)}
        curl_site.run_hook("prolog", {**PROLOG, **start})
        curl_site.run_hook("epilog", {**EPILOG, "SLURM_JOB_EXIT_CODE": str(run)})
    curl_site.configure(CCAPI_URL=service.url)
    curl_site.flush()
    runs = [(job["startTime"], job["jobState"]) for job in list_jobs(service, site)]
    states = ["completed", "failed", "failed"]
    assert runs == [(START + 1000 * run, state) for run, state in enumerate(states)]
    assert curl_site.names() == curl_site.names("dead") == []


def test_events_sent_twice_are_done(connected_curl: CurlSite, service: Service, site: Site) -> None:
    connected_curl.configure(CCAPI_URL="http://127.0.0.1:1")
    connected_curl.run_hook("prolog", PROLOG)
    connected_curl.run_hook("epilog", EPILOG)
    events = {
        name: (connected_curl.spool / "new" / name).read_bytes() for name in connected_curl.names()
    }
    connected_curl.configure(CCAPI_URL=service.url)
    connected_curl.flush()
    for name, body in events.items():
        (connected_curl.spool / "new" / name).write_bytes(body)
    connected_curl.flush()
    assert connected_curl.names() == connected_curl.names("dead") == []
    assert len(list_jobs(service, site)) == 1


def test_start_that_ccapi_knows_gets_its_stop(
    connected_curl: CurlSite, service: Service, site: Site
) -> None:
    connected_curl.run_hook("prolog", {**PROLOG, "SLURM_JOB_START_TIME": str(START)})
    connected_curl.run_hook("prolog", {**PROLOG, "SLURM_JOB_START_TIME": str(START + 5)})
    connected_curl.run_hook("epilog", EPILOG)
    [job] = list_jobs(service, site)
    assert (job["startTime"], job["jobState"]) == (START, "completed")


def test_refused_events_are_dead_letters_until_retried(
    connected_curl: CurlSite, service: Service, site: Site
) -> None:
    connected_curl.run_hook("prolog", {**PROLOG, "SLURM_CLUSTER_NAME": "../etc"})
    connected_curl.run_hook("epilog", EPILOG)
    names = ["4-1001-start", "4-1001-start.answer", "4-1002-stop", "4-1002-stop.answer"]
    assert connected_curl.names("dead") == names
    reasons = [(connected_curl.spool / "dead" / name).read_text("ascii") for name in names[1::2]]
    assert "cluster" in reasons[0]
    assert reasons[0].startswith("400 ")
    assert reasons[1].startswith("422 ")
    path = connected_curl.spool / "dead" / names[0]
    path.write_text(path.read_text("ascii").replace("../etc", "fritz"), "ascii")
    connected_curl.flush("--retry")
    [job] = list_jobs(service, site)
    assert job["jobState"] == "completed"
    assert connected_curl.names() == connected_curl.names("dead") == []


@pytest.mark.parametrize("status", [301, 401, 403, 408, 429, 500, 502, 503])
def test_event_waits_after_a_passing_failure(curl_site: CurlSite, status: int) -> None:
    with answering(status, "already here") as url:
        curl_site.configure(CCAPI_URL=url)
        curl_site.run_hook("prolog", PROLOG)
        curl_site.flush()
    assert (curl_site.names(), curl_site.names("dead")) == (["4-1001-start"], [])


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_event_refused_for_good_is_a_dead_letter(curl_site: CurlSite, status: int) -> None:
    curl_site.run_hook("prolog", PROLOG)
    with answering(status, "what is wrong") as url:
        curl_site.configure(CCAPI_URL=url)
        curl_site.flush()
    assert curl_site.names() == []
    assert curl_site.names("dead") == ["4-1001-start", "4-1001-start.answer"]
    answer = (curl_site.spool / "dead" / "4-1001-start.answer").read_text("ascii")
    assert answer == f"{status} what is wrong\n"


def test_token_replaced_during_an_outage(
    curl_site: CurlSite, service: Service, site: Site, database: Database
) -> None:
    curl_site.configure(CCAPI_URL=service.url)
    write_token(curl_site, "revoked")
    curl_site.run_hook("prolog", PROLOG)
    curl_site.run_hook("epilog", EPILOG)
    curl_site.flush()
    assert len(curl_site.names()) == 2
    write_token(curl_site, tokens.create(database, "replaced", Role.WRITER))
    curl_site.flush()
    assert [job["jobState"] for job in list_jobs(service, site)] == ["completed"]
    assert curl_site.names() == []


def test_one_flush_runs_at_a_time(connected_curl: CurlSite) -> None:
    (connected_curl.spool / "new").mkdir(parents=True)
    (connected_curl.spool / "new" / "4-1001-start").write_bytes(b"{}")
    with subprocess.Popen(["flock", connected_curl.spool / "lock", "sleep", "60"]) as other:
        while not (connected_curl.spool / "lock").exists():
            time.sleep(0.01)
        time.sleep(0.1)
        connected_curl.flush()
        assert connected_curl.names() == ["4-1001-start"]
        other.kill()
