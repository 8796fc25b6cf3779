"""Whatever is wrong with one event, the others are sent."""

import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ccapi_slurm.spool import Spool

from tests.processes import Service
from tests.slurm import events
from tests.slurm.events import PROLOG, START, scontrol_output
from tests.slurm.site import Site, list_jobs

pytestmark = pytest.mark.slow


def send(site: Site) -> None:
    """Send all events, and check that none waits."""
    sender = site.run_sender("--once")
    assert (sender.returncode, site.names()) == (0, []), sender.stderr


def job_ids(service: Service, site: Site) -> list[int]:
    return [job["jobId"] for job in list_jobs(service, site)]


def reason(site: Site, name: str) -> str:
    return (site.spool / "dead" / f"{name}.answer").read_text("utf-8")


@pytest.mark.parametrize("kind", ["directory", "pipe", "link"])
def test_what_is_not_a_file_is_a_dead_letter(service: Service, site: Site, kind: str) -> None:
    path = site.spool / "new" / "4-prolog-1.00"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    events.write_start(site, 5)
    send(site)
    assert job_ids(service, site) == [5]
    assert reason(site, path.name) != ""


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_JOB_NODELIST": "n[1-300000]"},
        {"SLURM_JOB_NODELIST": "n[5-x]"},
        {"SLURM_JOB_NODELIST": ""},
        {"SLURM_JOB_USER": "x" * 300},
    ],
)
def test_impossible_content_is_a_dead_letter(
    service: Service, site: Site, variables: dict[str, str]
) -> None:
    name = events.write_start(site, 4, START, **variables)
    events.write_start(site, 5, START + 1)
    send(site)
    assert job_ids(service, site) == [5]
    assert reason(site, name) != ""


def test_dead_letters_survive_a_full_disk(service: Service, site: Site) -> None:
    name = events.write_start(site, 4, SLURM_JOB_NODELIST="n[5-x]")
    (site.spool / "dead" / f"{name}.answer").mkdir()
    events.write_start(site, 5, START + 1)
    send(site)
    assert (job_ids(service, site), name in site.names("dead")) == ([5], True)


@pytest.mark.parametrize("long_text", ["record", "script"])
def test_end_of_a_very_long_event_is_cut_off(service: Service, site: Site, long_text: str) -> None:
    variables = {**PROLOG, "SLURM_JOB_ID": "7"}
    record, script = scontrol_output(7), "#!/bin/sh\n"
    if long_text == "record":
        record += "   Comment=" + "x" * 9_000_000
    else:
        script += "x" * 9_000_000
    events.write(site, "prolog", START, variables, (record, script))
    events.write_start(site, 8, START + 1)
    send(site)
    first, second = list_jobs(service, site)
    assert (first["jobId"], first["numHwthreads"], second["jobId"]) == (7, 4, 8)


def test_event_that_killed_the_sender_is_sent_last(service: Service, site: Site) -> None:
    name = events.write_start(site, 4)
    events.write_start(site, 5, START + 1)
    (site.spool / "attempt").write_text(f"2 {name}", "ascii")
    send(site)
    assert job_ids(service, site) == [5, 4]
    assert not (site.spool / "attempt").exists()


def test_only_an_event_that_takes_long_is_suspected(site: Site) -> None:
    spool = Spool(site.spool)
    spool.begin_attempt("4-prolog-1.00", 2)
    assert not (site.spool / "attempt").exists()
    began = time.process_time()
    while time.process_time() < began + 0.5:
        pass
    (site.spool / "new" / "4-prolog-1.00").touch()
    assert spool.crash() == ("4-prolog-1.00", 2)
    spool.end_attempt()
    assert spool.crash() == ("", 0)


def test_event_that_kills_the_sender_becomes_a_dead_letter(service: Service, site: Site) -> None:
    name = events.write_start(site, 4)
    events.write_start(site, 5, START + 1)
    (site.spool / "attempt").write_text(f"3 {name}", "ascii")
    send(site)
    assert job_ids(service, site) == [5]
    assert reason(site, name) == "the sender died 3 times while it read this event\n"


class Recorder(http.server.ThreadingHTTPServer):
    """A server that refuses bodies of more than some bytes in one way, and keeps the others."""

    def __init__(self, max_bytes: int, way: str, failing_job: int = 0) -> None:
        self.max_bytes, self.way, self.failing_jobs = max_bytes, way, {failing_job}
        self.bodies: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """Return the address of the operations on jobs."""
        return f"http://127.0.0.1:{self.server_port}/api/jobs"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        is_too_large = length > self.server.max_bytes
        if is_too_large and self.server.way == "connection broken":
            self.close_connection = True
            return
        if is_too_large and self.server.way == "413 before the body":
            self.close_connection = True
            self.answer(413)
            return
        body = json.loads(self.rfile.read(length))
        if is_too_large:
            self.answer(413)
        elif body.get("jobId") in self.server.failing_jobs:
            self.answer(500)
        elif body:
            self.server.bodies.append(body)
            self.answer(201)
        else:
            # The sender checks the address.
            self.answer(400)

    def answer(self, status: int) -> None:
        """Answer with a status and no body."""
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def recorder(
    site: Site, max_bytes: int, way: str = "413", failing_job: int = 0
) -> Iterator[Recorder]:
    with Recorder(max_bytes, way, failing_job) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site.configure(CCAPI_URL=server.url)
        yield server
        server.shutdown()


WAYS = ("413", "413 before the body", "connection broken")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("max_bytes", "lost"),
    [
        (2_200_000, ["hwthreads"]),
        (1_100_000, ["hwthreads", "jobScript"]),
        (4_000, ["hwthreads", "jobScript", "slurmInfo"]),
    ],
    ids=["no threads", "no script", "no metadata"],
)
def test_too_large_start_is_sent_with_less(
    site: Site, way: str, max_bytes: int, lost: list[str]
) -> None:
    write_large_start(site, 4)
    events.write_start(site, 5, START + 1)
    with recorder(site, max_bytes, way) as server:
        send(site)
    assert [body["jobId"] for body in server.bodies] == [4, 5]
    text = json.dumps(server.bodies[0])
    assert [key for key in ("hwthreads", "jobScript", "slurmInfo") if key not in text] == lost
    assert len(server.bodies[0]["resources"]) == 2


def write_large_start(site: Site, job_id: int) -> str:
    """Write the start of a job with a long list of threads, a long script and a long record."""
    variables = {**PROLOG, "SLURM_JOB_ID": str(job_id), "SLURM_JOB_CPUS_PER_NODE": "60000(x2)"}
    record = scontrol_output(job_id).replace("CPU_IDs=0-1", "CPU_IDs=0-59999")
    texts = record + "   Comment=" + "x" * 1_000_000, "#!/bin/sh\n" + "x" * 1_048_000
    return events.write(site, "prolog", START, variables, texts)


def test_start_that_is_always_too_large_is_a_dead_letter(site: Site) -> None:
    name = write_large_start(site, 4)
    with recorder(site, 100):
        send(site)
    assert site.names("dead") == [name, f"{name}.answer"]
    assert reason(site, name).startswith("413")


def test_events_that_fail_do_not_hold_back_others(site: Site) -> None:
    for number in range(1, 9):
        events.write_start(site, number, START + number)
    with recorder(site, 10**9) as server:
        server.failing_jobs = {1, 2, 3, 4}
        with site.sender():
            deadline = time.monotonic() + 20
            while len(server.bodies) < 4 and time.monotonic() < deadline:
                time.sleep(0.1)
            began = time.monotonic()
            events.write_start(site, 9, START + 9)
            while len(server.bodies) < 5 and time.monotonic() < began + 20:
                time.sleep(0.1)
            assert time.monotonic() - began < 5
    assert {body["jobId"] for body in server.bodies} == {5, 6, 7, 8, 9}
    assert len(site.names()) == 4


def test_memory_with_hostile_events(service: Service, site: Site) -> None:
    """Hostile events of some megabytes."""
    texts = [
        "     Nodes=n[1-300000] CPU_IDs=0-999999 Mem=0 GRES=gpu:9(IDX:0-8)\n" * 60_000,
        "\U0001f600" * 1_500_000,
        "   JobState=FAILED Reason=x\n" * 150_000,
        "\n" * 4_000_000,
    ]
    for number, text in enumerate(texts, start=1):
        record = scontrol_output(number).replace("Network=(null)", f"Network=x\n{text}")
        variables = {**PROLOG, "SLURM_JOB_ID": str(number)}
        events.write(site, "prolog", START + number, variables, (record, text))
    # The process reports its own peak: the kernel adds the memory of a parent to a child's.
    program = (
        "import re, sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "from ccapi_slurm.command import main\n"
        "status = main()\n"
        "print(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])\n"
        "sys.exit(status)"
    )
    command = [sys.executable, "-c", program, str(site.hooks), "--once"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    outcome = process.returncode, site.names(), site.names("dead")
    assert outcome == (0, [], []), process.stderr[-2000:]
    assert int(process.stdout) < 100_000
    assert {job["numNodes"] for job in list_jobs(service, site)} == {2}
