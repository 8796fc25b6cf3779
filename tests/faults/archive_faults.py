"""The archive's disk is full, read-only, slow or broken, or obstructed."""

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
from tests.faults.fault import Fault
from tests.faults.ledger import Attempt
from tests.faults.series import Series, Setup

# A tag that cannot be written to the archive gets an error, and the client sends it again.
_TAG_FAILS = Tolerance(frozenset({"tag 500"}))
# While a disk hangs, clients and locks time out.
_SLOW = Tolerance(frozenset({"tag 500", "0", "503"}))
_ATTEMPTS = 30
_BLOCK = bytes(1 << 20)


def is_archived(attempt: Attempt) -> bool:
    """Return whether an attempt stopped a job and archived it."""
    return attempt.operation == "stop" and attempt.archived == 3


def _flagged(flag: str, content: str = "", seconds: float = 0) -> Callable[[Series], None]:
    """Make the disk fail or wait while a flag exists."""

    def inject(series: Series) -> None:
        def hold() -> None:
            (series.flags / flag).write_text(content, "ascii")
            time.sleep(seconds)
            if not seconds:
                series.await_attempts(_ATTEMPTS)

        series.strike(hold, (series.flags / flag).unlink, is_archived)

    return inject


def _fill(series: Series) -> None:
    filler = series.archive / ".filler"

    def hold() -> None:
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(_BLOCK) == len(_BLOCK):
                pass
        series.await_attempts(_ATTEMPTS)

    series.strike(hold, lambda: filler.unlink(missing_ok=True), is_archived)


def _remount_read_only(series: Series) -> None:
    def hold() -> None:
        deadline = time.monotonic() + 20
        # Busy while a file is open for writing, which it is most of the time.
        while not _run("mount", "-o", "remount,ro", str(series.archive)):
            assert time.monotonic() < deadline, "the archive's disk is always busy"
        series.await_attempts(_ATTEMPTS)

    def heal() -> None:
        _run("mount", "-o", "remount,rw", str(series.archive))

    series.strike(hold, heal, is_archived)


def _forbid(series: Series) -> None:
    """Forbid new directories of a cluster; only an attribute stops root."""
    cluster = series.archive / "c1"
    cluster.mkdir(exist_ok=True)
    as_root = os.geteuid() == 0

    def hold() -> None:
        if as_root:
            assert _run("chattr", "+i", str(cluster))
        else:
            cluster.chmod(0o500)
        series.await_attempts(_ATTEMPTS)

    def heal() -> None:
        if as_root:
            _run("chattr", "-i", str(cluster))
        else:
            cluster.chmod(0o750)

    series.strike(hold, heal, is_archived)


def _obstructed(
    place: Callable[[Path, Path], None],
    heal: Callable[[Path], None] = lambda run: None,
) -> Callable[[Series], None]:
    """Put an obstacle at the path of running jobs, before they are archived."""

    def inject(series: Series) -> None:
        trap = series.directory / "trap"
        trap.mkdir(exist_ok=True)
        (trap / "meta.json").write_text("untouched", "ascii")
        obstacles: list[Path] = []

        def hold() -> None:
            while not obstacles:
                obstacles.extend(_obstruct_running_jobs(series, lambda run: place(run, trap)))
            series.await_attempts(_ATTEMPTS)

        def heal_all() -> None:
            for run in obstacles:
                heal(run)

        series.strike(hold, heal_all, is_archived)
        series.planted.update(obstacles)
        if [path.name for path in trap.iterdir()] != ["meta.json"] or (
            trap / "meta.json"
        ).read_text("ascii") != "untouched":
            series.complaints.append("the service followed a symbolic link out of the archive")

    return inject


def _obstruct_running_jobs(series: Series, place: Callable[[Path], None]) -> Iterator[Path]:
    query = """
        SELECT cluster, job_id, start_time FROM jobs WHERE job_state = 'running'
        ORDER BY id DESC LIMIT 3 FOR UPDATE SKIP LOCKED
    """
    with series.administrator(series.database) as conn, conn.transaction():
        for row in conn.execute(query).fetchall():
            run = layout.meta_path(series.archive, JobKey(*row)).parent
            if not run.parent.exists():
                run.parent.mkdir(parents=True)
                place(run)
                yield run


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
def _permissions_restored(directory: Path) -> Iterator[None]:
    try:
        yield
    finally:
        if os.geteuid() == 0:
            _run("chattr", "-R", "-i", str(directory / Setup.archive))


def _run(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _needs_root() -> str:
    return "" if os.geteuid() == 0 else "only root can mount a small disk"


def _needs_mount() -> str:
    return _needs_root() or ("" if shutil.which("mount") else "`mount` is missing")


def _needs_chattr() -> str:
    if os.geteuid() != 0 or shutil.which("chattr"):
        return ""
    return "root cannot restrict itself without `chattr`"


_HANG = Setup(client_timeout=3)

FAULTS = (
    Fault("archive disk full", 2, _fill, tolerance=_TAG_FAILS,
          obstacle=_needs_mount, surroundings=_small_disk),
    Fault("archive disk read-only", 2, _remount_read_only, tolerance=_TAG_FAILS,
          obstacle=_needs_mount, surroundings=_small_disk),
    Fault("archive without permission", 2, _forbid, tolerance=_TAG_FAILS,
          obstacle=_needs_chattr, surroundings=_permissions_restored),
    Fault("archive hangs in fsync", 2, _flagged("slow-fsync", "0.8", 4), _HANG, _SLOW),
    Fault("fsync of a file fails (EIO)", 2, _flagged("fail-fsync"), tolerance=_TAG_FAILS),
    Fault("fsync of a directory fails (EIO)", 2, _flagged("fail-directory-fsync"),
          tolerance=_TAG_FAILS),
    Fault("rename fails (EIO)", 2, _flagged("fail-rename"), tolerance=_TAG_FAILS),
    Fault("half a meta.json exists already", 2, _obstructed(_put_garbage)),
    Fault("a file in place of a run's directory", 2, _obstructed(_put_file, Path.unlink)),
    Fault("a symbolic link in place of a run's directory", 2,
          _obstructed(_link_directory, Path.unlink)),
    Fault("a symbolic link in place of meta.json", 1, _obstructed(_link_file)),
)  # fmt: skip
