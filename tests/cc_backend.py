"""What the documents find beside ccapi: a cc-backend, as far as they call it, and an nginx."""

import gzip
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from tests.archive.fixtures import START, make_document, write_meta_json

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/usr/local/sbin")
_CONFIG = """\
daemon off;
{user}
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/conf.d/*.conf;
}}
"""


@contextmanager
def nginx(directory: Path) -> Iterator[str]:
    """Run an nginx that includes conf.d of a directory; yields its command with these settings."""
    assert NGINX is not None
    (directory / "conf.d").mkdir(parents=True)
    config = directory / "nginx.conf"
    # As root, nginx's workers would otherwise change their user and miss the tests' directories.
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(_CONFIG.format(directory=directory, user=user), "utf-8")
    process = subprocess.Popen([NGINX, "-c", str(config)])
    try:
        yield f"{NGINX} -c {config}"
    finally:
        process.terminate()
        process.wait(10)


def write_archive(root: Path) -> None:
    """Write the archive of a cc-backend 1.5: version 3, with two jobs."""
    root.mkdir(parents=True)
    (root / "version.txt").write_text("3")
    for job_id, state in ((1034871, "completed"), (1034872, "node_fail")):
        metric = {"unit": {"base": "B/s", "prefix": "G"}, "avg": 40.5, "min": 0, "max": 90}
        document = make_document(
            jobId=job_id,
            jobState=state,
            shared="none",
            submitTime=START - 60,
            requestedMemory=128000,
            footprint={"mem_bw_avg": 40.5},
            statistics={"mem_bw": metric},
            tags=[{"type": "Debug", "name": "Testjob", "scope": "global", "id": 1}],
        )
        del document["exclusive"]
        path = write_meta_json(root, document)
        path.with_name("data.json.gz").write_bytes(gzip.compress(b"{}"))
    (root / "fritz" / "cluster.json").write_text('{"name": "fritz", "subClusters": []}')


def listed_job(**fields: Any) -> dict[str, Any]:
    """Return a job as cc-backend 1.5 lists it, marshalled by its struct."""
    return {
        "cluster": "fritz",
        "subCluster": "main",
        "partition": "main",
        "project": "abcd200",
        "user": "abcd100h",
        "shared": "none",
        "jobState": "running",
        "resources": [{"hostname": "f0103"}],
        "energyFootprint": None,
        "footprint": {"cpu_load_avg": 0.5},
        "metaData": {"jobName": "rotor"},
        "concurrentJobs": {"items": None, "count": 0},
        "energy": 0,
        "walltime": 86400,
        "duration": 1800,
        "monitoringStatus": 1,
        "numNodes": 1,
        "statistics": None,
        "id": 4711,
        **fields,
    }


class CCBackend:
    """The answers of a cc-backend to the requests of the documents."""

    def __init__(self) -> None:
        self._jobs = [
            listed_job(jobId=1034873, startTime=START + 60),
            listed_job(jobId=1034870, startTime=START, jobState="failed", monitoringStatus=2),
        ]

    @contextmanager
    def serve(self, token: str) -> Iterator[int]:
        """Serve on a free port until the block ends; yields the port."""
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                states = parse_qs(urlsplit(self.path).query)["state"]
                self._answer(200, backend.list(states))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                backend.start(json.loads(body))
                self._answer(201, {"msg": "success"})

            def _answer(self, status: int, answer: dict[str, Any]) -> None:
                is_known = self.headers["X-Auth-Token"] == token
                self.send_response(status if is_known else 401)
                self.end_headers()
                self.wfile.write(orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE))

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def list(self, states: list[str]) -> dict[str, Any]:
        """Return the answer of GET /jobs/."""
        jobs = [job for job in self._jobs if job["jobState"] in states]
        return {"jobs": jobs, "items": 100_000, "page": 1}

    def start(self, job: dict[str, Any]) -> None:
        """Register a job as running."""
        self._jobs.append(listed_job(**job))
