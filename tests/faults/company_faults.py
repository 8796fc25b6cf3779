"""Bad company: slow and greedy readers, refused bodies, full shared memory, poolers, dead disks."""

import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.client import START, job
from tests.faults.archive_faults import is_archived
from tests.faults.audit import Tolerance
from tests.faults.fault import Fault
from tests.faults.series import LIMITS, Series, Setup
from tests.pgbouncer import PROGRAM as PGBOUNCER

_ATTEMPTS = 40
_READERS = 8
_BODY_BYTES = 7_900_000
# A list of 16 MB: more than sockets buffer. Clients of the suite never touch this cluster.
_LARGE_JOBS = """
    INSERT INTO jobs (job_id, cluster, start_time, user_name, project, sub_cluster, num_nodes,
                      exclusive, monitoring_status, resources, meta_data)
    SELECT n, 'large', 1600000000 + n, 'u', '', 'main', 1, 1, 0, '[{"hostname": "f1"}]',
           json_build_object('jobScript', repeat('x', 30000))
    FROM generate_series(1, 500) AS n
"""
_LONG_LIST = "/?items-per-page=9999999&with-metadata=true"
_GREEDY = (
    _LONG_LIST,
    f"/stats/?range={START}-{START + 31_000_000}&group-by=user",
    "/?items-per-page=1&total=true",
    "/?items-per-page=1&duration=1-2",
)
_OPERATIONS = ("/start_job/", "/stop_job/", "/tag_job/1", "/edit_meta/1")


def _connect(series: Series, method: str, path: str, length: int = 0) -> socket.socket:
    """Send the head of a request."""
    connection = socket.socket()
    connection.settimeout(60)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", series.service.port))
    head = f"{method} /api/jobs{path} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {series.token}\r\n"
    connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
    return connection


def _slow_readers(series: Series) -> None:
    """Let readers trickle, or never read, while reports come."""
    with ExitStack() as readers:

        def hold() -> None:
            with series.administrator(series.database) as conn:
                conn.execute(_LARGE_JOBS.encode())
            connections = [_connect(series, "GET", _LONG_LIST) for _ in range(_READERS)]
            for connection in connections:
                readers.enter_context(connection)
                connection.settimeout(0)
            for _ in range(5):
                series.await_attempts(_ATTEMPTS)
                for connection in connections[: _READERS // 2]:
                    with suppress(OSError):
                        connection.recv(1000)

        def heal() -> None:
            readers.close()
            with series.administrator(series.database) as conn:
                conn.execute("DELETE FROM jobs WHERE cluster = 'large'")

        series.strike(hold, heal)


def _query(series: Series, number: int, over: threading.Event) -> None:
    """Send the worst queries until the event; complain of other answers than 200 and 503."""
    for path in itertools.islice(itertools.cycle(_GREEDY), number, None):
        if over.is_set():
            return
        with _connect(series, "GET", path) as connection:
            answer = b"".join(iter(partial(connection.recv, 65_536), b""))
        if answer[9:12] not in (b"200", b"503"):
            series.complaints.append(f"GET {path}: {answer[:300]!r}")


def _greedy_readers(series: Series) -> None:
    """Send the worst queries on many connections, again and again, while reports come."""
    over = threading.Event()
    threads = [
        threading.Thread(target=_query, args=(series, number, over))
        for number in range(2 * _READERS)
    ]

    def hold() -> None:
        for thread in threads:
            thread.start()
        series.await_attempts(5 * _ATTEMPTS)

    def heal() -> None:
        over.set()
        for thread in threads:
            thread.join()

    series.strike(hold, heal)


def _bad_bodies() -> Iterator[tuple[str, bytes]]:
    yield "/start_job/", json.dumps(job(resources=[0] * (_BODY_BYTES // 3))).encode()
    yield "/start_job/", json.dumps(job(tags=[{}] * (_BODY_BYTES // 4))).encode()
    yield "/start_job/", json.dumps(job(metaData={"x": "y" * _BODY_BYTES})).encode()
    yield "/batch/", b"{}\n" * (_BODY_BYTES // 3)
    for path in _OPERATIONS:
        yield path, b"[" * _BODY_BYTES
        yield path, b'{"a":' * (_BODY_BYTES // 5)
        yield path, b"9" * _BODY_BYTES
        yield path, random.randbytes(1_000_000)
        yield path, bytes(9_000_000)


def _send_bad_bodies(series: Series) -> None:
    """Send large bodies that are refused, and half bodies of clients that leave."""

    def hold() -> None:
        for path, body in random.sample(list(_bad_bodies()), 4):
            with _connect(series, "POST", path, 2 * len(body)) as connection:
                connection.sendall(body[:100_000])
            with _connect(series, "POST", path, len(body)) as connection:
                connection.sendall(body)
                answer = b"".join(iter(partial(connection.recv, 65_536), b""))
            what = f"POST {path} {body[:50]!r}"
            _require_refusal(series, what, answer)
        series.await_attempts(_ATTEMPTS)

    series.strike(hold)


def _require_refusal(series: Series, what: str, answer: bytes) -> None:
    """Complain unless the answer is a 4xx in JSON."""
    try:
        is_refusal = answer[9:10] == b"4" and "error" in json.loads(
            answer.partition(b"\r\n\r\n")[2]
        )
    except ValueError:
        is_refusal = False
    if not is_refusal:
        series.complaints.append(f"{what}: {answer[:300]!r}")


def _fill_memory(series: Series) -> None:
    """Fill the service's /dev/shm, and kill a worker: the next one starts without memory."""
    filler = Path(f"/proc/{series.service.service.pid}/root/dev/shm/filler")

    def hold() -> None:
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)) == 4096:
                pass
        series.service.kill_worker()
        series.await_attempts(3 * _ATTEMPTS)

    series.strike(hold, filler.unlink)


def _kill_pooler(series: Series) -> None:
    """Kill the pooler and start it again."""
    pooler = series.pooler
    assert pooler is not None

    def hold() -> None:
        pooler.kill()
        time.sleep(random.uniform(0, 1))

    series.strike(hold, pooler.start)


def _kill_worker(series: Series) -> None:
    series.strike(series.service.kill_worker)


def _freeze(series: Series) -> None:
    """Freeze the archive's file system, as a dead NFS server does, and thaw it."""

    def hold() -> None:
        subprocess.run(["fsfreeze", "-f", str(series.archive)], check=True)
        time.sleep(random.uniform(2, 5))

    def heal() -> None:
        subprocess.run(["fsfreeze", "-u", str(series.archive)], check=True)

    series.strike(hold, heal, is_archived)


@contextmanager
def _own_disk(directory: Path) -> Iterator[None]:
    """Mount a file system of its own as the archive."""
    image, archive = directory / "image", directory / Setup.archive
    archive.mkdir(parents=True)
    image.touch()
    os.truncate(image, 1 << 28)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(archive)], check=True)
    shutil.rmtree(archive / "lost+found")
    try:
        yield
    finally:
        # In any case, because nothing can kill a process that waits for a frozen disk.
        subprocess.run(["fsfreeze", "-u", str(archive)], capture_output=True, check=False)
        subprocess.run(["umount", "--lazy", str(archive)], check=False)


def _without_own_disk() -> str:
    """Return why this machine cannot mount a file and freeze it."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("fsfreeze", "mkfs.ext4", "mount"))):
        return "only root can mount, with fsfreeze and mkfs.ext4"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        try:
            with _own_disk(Path(directory)):
                return ""
        except subprocess.CalledProcessError as error:
            return f"this machine cannot mount a file: {error}"


def _without_own_memory() -> str:
    """Return why this machine cannot give a service a /dev/shm of its own."""
    if not Path("/usr/bin/unshare").exists():
        return "unshare is missing"
    ended = subprocess.run([*_WRAPPER, "/bin/true"], capture_output=True, text=True, check=False)
    return ended.stderr.strip()


def _without_pooler() -> str:
    return "" if PGBOUNCER.exists() else "pgbouncer is missing"


_NO_ANSWER = Tolerance(frozenset({"0"}))
_SMALL_MEMORY = 'mount -t tmpfs -o size=4m ccapi-faults /dev/shm && exec "$@"'
_WRAPPER = ("/usr/bin/unshare", "-m", "/bin/sh", "-c", _SMALL_MEMORY, "sh")
# The bad company uses the processors, so a statement may take long; the client then tries again.
_LONG_LIMITS = Setup(limits=replace(LIMITS, statement_timeout=10, lock_timeout=8, pool_timeout=5))
_BUSY = Tolerance(frozenset({"503"}))
_POOLED = Setup(threads=4, is_pooled=True)

FAULTS = (
    Fault("readers that trickle, or never read", 1, _slow_readers, _LONG_LIMITS),
    Fault("16 readers with the worst queries", 1, _greedy_readers, _LONG_LIMITS, _BUSY),
    Fault("refused bodies of 8 MB, and half bodies", 1, _send_bad_bodies, _LONG_LIMITS),
    Fault("shared memory full, a worker killed", 1, _fill_memory,
          Setup(wrapper=_WRAPPER), _NO_ANSWER, obstacle=_without_own_memory),
    Fault("pgbouncer killed (-9)", 1, _kill_pooler, _POOLED, Tolerance(frozenset({"503"})),
          obstacle=_without_pooler),
    Fault("behind pgbouncer, a worker killed", 1, _kill_worker, _POOLED, _NO_ANSWER,
          obstacle=_without_pooler),
    Fault("archive frozen (fsfreeze)", 1, _freeze,
          Setup(client_timeout=20, settings={"CCAPI_ARCHIVE_TIMEOUT": "1"}),
          Tolerance(frozenset({"tag 503", "tag 500"}), rewrites=True),
          obstacle=_without_own_disk, surroundings=_own_disk),
)  # fmt: skip
