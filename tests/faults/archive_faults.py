"""The archive's disk is full, read-only, slow or broken, or something is in the way."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ccapi.archive import layout
from ccapi.model.job import JobKey
from tests.faults.audit import Tolerance
from tests.faults.bench import Bench, Setup
from tests.faults.fault import Fault
from tests.faults.ledger import Attempt

# A tag that cannot be written to the archive is refused, and sent again.
_TAG_REFUSED = Tolerance(frozenset({"tag 500"}))
# Behind a disk that hangs, a client gives up waiting, and locks time out.
_SLOW = Tolerance(frozenset({"tag 500", "0", "503"}))
_SEEN = 30
_BLOCK = bytes(1 << 20)


def _is_archived(attempt: Attempt) -> bool:
    return attempt.operation == "stop" and attempt.archived == 3


def _flagged(flag: str, content: str = "", seconds: float = 0) -> Callable[[Bench], None]:
    """Let the disk fail or wait while a flag is there."""

    def inject(bench: Bench) -> None:
        def hold() -> None:
            (bench.flags / flag).write_text(content, "ascii")
            time.sleep(seconds)
            if not seconds:
                bench.await_attempts(_SEEN)

        bench.strike(hold, (bench.flags / flag).unlink, _is_archived)

    return inject


def _fill(bench: Bench) -> None:
    filler = bench.archive / ".filler"

    def hold() -> None:
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(_BLOCK) == len(_BLOCK):
                pass
        bench.await_attempts(_SEEN)

    bench.strike(hold, lambda: filler.unlink(missing_ok=True), _is_archived)


def _remount_read_only(bench: Bench) -> None:
    def hold() -> None:
        deadline = time.monotonic() + 20
        # Busy while a file is open for writing, which it is most of the time.
        while not _run("mount", "-o", "remount,ro", str(bench.archive)):
            assert time.monotonic() < deadline, "the archive's disk is always busy"
        bench.await_attempts(_SEEN)

    def heal() -> None:
        _run("mount", "-o", "remount,rw", str(bench.archive))

    bench.strike(hold, heal, _is_archived)


def _forbid(bench: Bench) -> None:
    """Let nobody make a directory in a cluster's; root obeys an attribute only."""
    cluster = bench.archive / "c1"
    cluster.mkdir(exist_ok=True)
    as_root = os.geteuid() == 0

    def hold() -> None:
        if as_root:
            assert _run("chattr", "+i", str(cluster))
        else:
            cluster.chmod(0o500)
        bench.await_attempts(_SEEN)

    def heal() -> None:
        if as_root:
            _run("chattr", "-i", str(cluster))
        else:
            cluster.chmod(0o750)

    bench.strike(hold, heal, _is_archived)


def _obstructed(
    place: Callable[[Path, Path], None],
    heal: Callable[[Path], None] = lambda run: None,
) -> Callable[[Bench], None]:
    """Put something in the way of jobs that run, before they can be archived."""

    def inject(bench: Bench) -> None:
        trap = bench.directory / "trap"
        trap.mkdir(exist_ok=True)
        (trap / "meta.json").write_text("untouched", "ascii")
        placed: list[Path] = []

        def hold() -> None:
            while not placed:
                placed.extend(_place_before_running(bench, lambda run: place(run, trap)))
            bench.await_attempts(_SEEN)

        bench.strike(hold, lambda: _each(heal, placed), _is_archived)
        bench.planted.update(placed)
        if [path.name for path in trap.iterdir()] != ["meta.json"] or (
            trap / "meta.json"
        ).read_text("ascii") != "untouched":
            bench.complaints.append("a symbolic link was followed out of the archive")

    return inject


def _place_before_running(bench: Bench, place: Callable[[Path], None]) -> Iterator[Path]:
    query = """
        SELECT cluster, job_id, start_time FROM jobs WHERE job_state = 'running'
        ORDER BY id DESC LIMIT 3 FOR UPDATE SKIP LOCKED
    """
    with bench.administrator(bench.database) as conn, conn.transaction():
        for row in conn.execute(query).fetchall():
            run = layout.meta_path(bench.archive, JobKey(*row)).parent
            if not run.parent.exists():
                run.parent.mkdir(parents=True)
                place(run)
                yield run


def _each(heal: Callable[[Path], None], runs: list[Path]) -> None:
    for run in runs:
        heal(run)


def _link_directory(run: Path, trap: Path) -> None:
    run.symlink_to(trap)


def _link_file(run: Path, trap: Path) -> None:
    run.mkdir()
    (run / layout.META_FILE).symlink_to(trap / "meta.json")


def _put_file(run: Path, trap: Path) -> None:
    del trap
    run.write_text("in the way", "ascii")


def _put_garbage(run: Path, trap: Path) -> None:
    del trap
    run.mkdir()
    (run / layout.META_FILE).write_bytes(b'{"jobId": 12, "user": "ab')


@contextmanager
def _small_disk(directory: Path) -> Iterator[None]:
    archive = directory / Setup.archive
    archive.mkdir(parents=True)
    assert _run("mount", "-t", "tmpfs", "-o", "size=64m", "ccapi-faults", str(archive))
    try:
        yield
    finally:
        _run("umount", "--lazy", str(archive))


@contextmanager
def _permitted_again(directory: Path) -> Iterator[None]:
    try:
        yield
    finally:
        if os.geteuid() == 0:
            _run("chattr", "-R", "-i", str(directory / Setup.archive))


def _run(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _needs_root() -> str:
    return "" if os.geteuid() == 0 else "needs root to mount a small disk"


def _needs_mount() -> str:
    return _needs_root() or ("" if shutil.which("mount") else "there is no `mount`")


def _needs_chattr() -> str:
    if os.geteuid() != 0 or shutil.which("chattr"):
        return ""
    return "root needs `chattr` to forbid itself anything"


_HANG = Setup(client_timeout=3)

FAULTS = (
    Fault("archive disk full", 2, _fill, tolerance=_TAG_REFUSED,
          obstacle=_needs_mount, surroundings=_small_disk),
    Fault("archive disk read-only", 2, _remount_read_only, tolerance=_TAG_REFUSED,
          obstacle=_needs_mount, surroundings=_small_disk),
    Fault("archive without permission", 2, _forbid, tolerance=_TAG_REFUSED,
          obstacle=_needs_chattr, surroundings=_permitted_again),
    Fault("archive hangs in fsync", 2, _flagged("slow-fsync", "0.8", 4), _HANG, _SLOW),
    Fault("fsync of a file fails (EIO)", 2, _flagged("fail-fsync"), tolerance=_TAG_REFUSED),
    Fault("fsync of a directory fails (EIO)", 2, _flagged("fail-directory-fsync"),
          tolerance=_TAG_REFUSED),
    Fault("rename fails (EIO)", 2, _flagged("fail-rename"), tolerance=_TAG_REFUSED),
    Fault("half a meta.json is there already", 2, _obstructed(_put_garbage)),
    Fault("a file in a run's place", 2, _obstructed(_put_file, Path.unlink)),
    Fault("a symbolic link in a run's place", 2, _obstructed(_link_directory, Path.unlink)),
    Fault("a symbolic link in meta.json's place", 1, _obstructed(_link_file)),
)  # fmt: skip
