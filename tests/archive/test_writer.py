import errno
import itertools
import os
import resource
import signal
import stat
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ccapi.archive import layout, meta_json, reader, writer
from ccapi.errors import ArchiveError
from ccapi.model.job import Job, JobKey
from tests.archive.fixtures import make_job
from tests.client import at_once

BIG = make_job(meta_data='{"jobScript":"' + 50_000 * "x" + '"}')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty archive of version 1, which has no other files than those of jobs."""
    root = tmp_path / "archive"
    writer.create_if_missing(root, 1)
    return root


def path_of(root: Path, written: Job) -> Path:
    return layout.meta_path(root, written.key)


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def in_child(action: Any) -> int:
    """Run an action in a child process and return its exit status."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("version", [1, 3])
def test_new_archive_has_a_version_file(tmp_path: Path, version: int) -> None:
    root = tmp_path / "not" / "yet" / "there"
    writer.create_if_missing(root, version)
    assert tree(root) == ["version.txt"]
    assert (root / "version.txt").read_text() == f"{version}\n"


@pytest.mark.parametrize("version", [b"1", b"1\n", b" 1 \n"])
def test_archive_of_this_version_is_not_changed(tmp_path: Path, version: bytes) -> None:
    (tmp_path / "version.txt").write_bytes(version)
    (tmp_path / "fritz").mkdir()
    writer.create_if_missing(tmp_path, 1)
    assert (tmp_path / "version.txt").read_bytes() == version
    assert tree(tmp_path) == ["fritz", "version.txt"]


@pytest.mark.parametrize("version", [b"2\n", b"", b"11", b"1.0", b"\xff\xfe", b"one"])
def test_archive_of_an_unknown_version_is_refused(tmp_path: Path, version: bytes) -> None:
    (tmp_path / "version.txt").write_bytes(version)
    with pytest.raises(ArchiveError, match=r"version\.txt"):
        writer.create_if_missing(tmp_path)
    assert (tmp_path / "version.txt").read_bytes() == version


@pytest.mark.parametrize("version", ["2\n", None], ids=["another version", "not mounted"])
def test_root_without_the_right_version_stays_unchanged(
    tmp_path: Path, version: str | None
) -> None:
    if version is not None:
        (tmp_path / "version.txt").write_text(version)
    before = tree(tmp_path)
    with pytest.raises(ArchiveError, match=r"version\.txt"):
        writer.write(tmp_path, make_job())
    assert tree(tmp_path) == before


def test_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("")
    with pytest.raises(ArchiveError, match="archive"):
        writer.create_if_missing(tmp_path / "archive")


def test_archive_is_created_by_several_processes_at_once(tmp_path: Path) -> None:
    at_once([partial(writer.create_if_missing, tmp_path / "archive")] * 8)
    assert tree(tmp_path / "archive") == ["version.txt"]


def test_files_of_one_job(root: Path) -> None:
    writer.write(root, make_job())
    assert tree(root) == [
        "large",
        "large/1034",
        "large/1034/871",
        "large/1034/871/1768978339",
        "large/1034/871/1768978339/meta.json",
        "version.txt",
    ]
    assert path_of(root, make_job()).read_bytes() == meta_json.encode(make_job())


def test_other_users_may_not_read_the_archive(root: Path) -> None:
    writer.write(root, make_job())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*"))}
    assert not any(mode & 0o007 for mode in modes.values())
    assert modes["meta.json"] & 0o440 == 0o440


def test_same_job_is_written_as_the_same_bytes(root: Path) -> None:
    writer.write(root, BIG)
    first = path_of(root, BIG).read_bytes()
    writer.write(root, BIG)
    assert path_of(root, BIG).read_bytes() == first
    assert [path.name for path in path_of(root, BIG).parent.iterdir()] == ["meta.json"]


def test_files_of_other_programs_are_kept(root: Path) -> None:
    writer.write(root, make_job())
    data = path_of(root, make_job()).with_name("data.json.gz")
    data.write_bytes(b"\x1f\x8b")
    writer.write(root, BIG)
    assert data.read_bytes() == b"\x1f\x8b"


class Recorder:
    """Records calls of fsync, with the synced path, and of rename."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.calls: list[str] = []
        self._root = root
        self._fsync, self._rename = os.fsync, os.rename
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "rename", self.rename)

    def fsync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(self._root)
        self.calls.append("fsync " + ("file" if path.name.startswith(".meta.json.") else str(path)))
        self._fsync(descriptor)

    def rename(self, source: str, target: str, **directories: int) -> None:
        self.calls.append(f"rename to {target}")
        self._rename(source, target, **directories)


def test_order_of_fsync_and_rename(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch, root)
    writer.write(root, make_job())
    assert recorder.calls == [
        "fsync .",
        "fsync large",
        "fsync file",
        "rename to meta.json",
        "fsync large/1034/871/1768978339",
        "fsync large/1034/871",
        "fsync large/1034",
    ]
    # The directories exist, but the writer that created them may not have synced them.
    recorder.calls.clear()
    writer.write(root, BIG)
    assert recorder.calls == [
        "fsync file",
        "rename to meta.json",
        "fsync large/1034/871/1768978339",
        "fsync large/1034/871",
        "fsync large/1034",
    ]


def fail_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Make the n-th change of the file system fail."""
    calls = itertools.count(1)
    for name in ("mkdir", "open", "fsync", "rename"):
        monkeypatch.setattr(os, name, partial(_failing, getattr(os, name), calls, number))


def _failing(function: Any, calls: Iterator[int], number: int, *args: Any, **kwargs: Any) -> Any:
    if next(calls) == number:
        raise OSError(errno.ENOSPC, "No space left on device")
    return function(*args, **kwargs)


@pytest.mark.parametrize("number", range(1, 16))
def test_failed_first_write_leaves_no_empty_directory(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patched:
        fail_at(patched, number)
        with pytest.raises(ArchiveError, match="No space left"):
            writer.write(root, make_job())
    assert tree(root) == ["version.txt"]
    writer.write(root, make_job())
    assert list(reader.keys(root)) == [make_job().key]


def test_failed_first_write_keeps_directories_of_other_jobs(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write(root, make_job())
    before = tree(root)
    with monkeypatch.context() as patched:
        fail_at(patched, 12)
        with pytest.raises(ArchiveError):
            writer.write(root, make_job(start_time=5, stop_time=9))
    assert tree(root) == before


@pytest.mark.parametrize("number", range(1, 17))
def test_failed_rewrite_leaves_the_old_or_the_new_content(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    writer.write(root, make_job())
    before = tree(root)
    with monkeypatch.context() as patched:
        fail_at(patched, number)
        with pytest.raises(ArchiveError, match="No space left"):
            writer.write(root, BIG)
    assert tree(root) == before
    renamed = number >= 14
    assert path_of(root, make_job()).read_bytes() == meta_json.encode(
        BIG if renamed else make_job()
    )


def test_disk_that_fills_up_during_a_write_is_an_error(root: Path) -> None:
    writer.write(root, make_job())

    def write_little() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        with pytest.raises(ArchiveError, match="too large"):
            writer.write(root, BIG)
        with pytest.raises(ArchiveError, match="too large"):
            writer.write(root, make_job(cluster="other", meta_data=BIG.meta_data))

    assert in_child(write_little) == 0
    assert [path.name for path in path_of(root, make_job()).parent.iterdir()] == ["meta.json"]
    assert path_of(root, make_job()).read_bytes() == meta_json.encode(make_job())
    assert not (root / "other").exists()


def write_for_ever(root: Path) -> None:
    for contents in itertools.cycle([make_job(), BIG]):
        for start in range(1, 6):
            contents.start_time, contents.stop_time = start, start + 5
            writer.write(root, contents)


def test_killed_writer_leaves_complete_files(root: Path) -> None:
    for milliseconds in (2, 3, 5, 8, 13, 21, 34):
        child = os.fork()
        if child == 0:
            write_for_ever(root)
        time.sleep(milliseconds / 1000)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for key in reader.keys(root):
            assert reader.read(root, key).stop_time == key.start_time + 5
    writer.write(root, make_job())
    assert reader.read(root, make_job().key) is not None


def test_reader_never_sees_a_part_of_a_file(root: Path) -> None:
    writer.write(root, make_job())
    contents = {meta_json.encode(make_job()), meta_json.encode(BIG)}
    child = os.fork()
    if child == 0:
        for written in itertools.cycle([BIG, make_job()]):
            writer.write(root, written)
    seen = {path_of(root, make_job()).read_bytes() for _ in range(3_000)}
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert seen <= contents


@pytest.mark.parametrize("level", range(1, 5))
def test_symbolic_link_to_a_directory_is_refused(root: Path, tmp_path: Path, level: int) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = root.joinpath(*layout.parts(make_job().key)[:level])
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere)
    with pytest.raises(ArchiveError, match=r"meta\.json"):
        writer.write(root, make_job())
    assert list(elsewhere.iterdir()) == []


def test_symbolic_link_named_meta_json_is_replaced(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    path_of(root, make_job()).parent.mkdir(parents=True)
    path_of(root, make_job()).symlink_to(target)
    writer.write(root, make_job())
    assert target.read_text() == "precious"
    assert not path_of(root, make_job()).is_symlink()
    assert path_of(root, make_job()).read_bytes() == meta_json.encode(make_job())


def test_root_may_be_a_symbolic_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    writer.write(tmp_path / "link", make_job())
    assert path_of(root, make_job()).is_file()


@pytest.mark.parametrize("cluster", ["..", "a/b", "", ".hidden"])
def test_cluster_that_leads_out_of_the_archive_is_refused(root: Path, cluster: str) -> None:
    with pytest.raises(ArchiveError):
        writer.write(root, make_job(cluster=cluster))
    assert tree(root) == ["version.txt"]


def test_directory_named_meta_json_is_an_error(root: Path) -> None:
    path_of(root, make_job()).mkdir(parents=True)
    with pytest.raises(ArchiveError, match=r"meta\.json"):
        writer.write(root, make_job())
    assert [path.name for path in path_of(root, make_job()).parent.iterdir()] == ["meta.json"]


def test_concurrent_writers_of_one_job_leave_one_complete_file(root: Path) -> None:
    versions = [make_job(meta_data=f'{{"jobScript":"{letter * 20_000}"}}') for letter in "abcdefgh"]
    at_once([partial(writer.write, root, version) for version in versions])
    assert [path.name for path in path_of(root, make_job()).parent.iterdir()] == ["meta.json"]
    assert path_of(root, make_job()).read_bytes() in {
        meta_json.encode(version) for version in versions
    }


def test_concurrent_writers_of_neighbouring_jobs(root: Path) -> None:
    neighbours = [make_job(job_id=number, start_time=start) for number in (1, 2, 1001)
                  for start in (1, 2, 3, 4)]  # fmt: skip
    at_once([partial(writer.write, root, neighbour) for neighbour in neighbours])
    assert set(reader.keys(root)) == {neighbour.key for neighbour in neighbours}


def test_directory_removed_by_a_failed_writer_is_created_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, calls = os.mkdir, itertools.count(1)

    def racing_mkdir(name: str, *args: Any, **kwargs: Any) -> None:
        mkdir(name, *args, **kwargs)
        if next(calls) == 2:
            (root / "large" / "1034").rmdir()
            (root / "large").rmdir()

    monkeypatch.setattr(os, "mkdir", racing_mkdir)
    writer.write(root, make_job())
    assert list(reader.keys(root)) == [JobKey("large", 1034871, make_job().start_time)]
