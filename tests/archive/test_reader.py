import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ccapi.archive import layout, reader, writer
from ccapi.archive.reader import MissingMetaJson
from ccapi.errors import ArchiveError
from ccapi.model.job import Job, JobKey
from tests.archive.fixtures import START, make_job

NOBODY = 65534
KEY = JobKey("large", 1034871, START)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An archive with one job."""
    writer.create_if_missing(tmp_path)
    writer.write(tmp_path, make_job())
    return tmp_path


def write_run(root: Path, cluster: str, job_id: int, start: int) -> None:
    writer.write(
        root, make_job(cluster=cluster, job_id=job_id, start_time=start, stop_time=start + 5)
    )


def test_archived_job_is_read(root: Path) -> None:
    assert reader.read(root, KEY) == replace(make_job(), id=None)


def test_bytes_are_the_content_of_the_file(root: Path) -> None:
    assert reader.read_bytes(root, KEY) == layout.meta_path(root, KEY).read_bytes()


@pytest.mark.parametrize(
    "key", [JobKey("large", 1034871, 5), JobKey("large", 7, START), JobKey("small", 1034871, START)]
)
def test_job_that_is_not_archived_is_missing(root: Path, key: JobKey) -> None:
    with pytest.raises(MissingMetaJson, match=r"meta\.json"):
        reader.read(root, key)


def test_job_with_an_empty_directory_is_missing(root: Path) -> None:
    layout.meta_path(root, KEY).unlink()
    with pytest.raises(MissingMetaJson):
        reader.read(root, KEY)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"null", b"\0" * 300, bytes(range(255, 0, -1)), b"[" * 10_000],
    ids=["empty", "cut off", "null", "zeros", "bytes", "too deep"],
)
def test_broken_file_is_not_a_missing_one(root: Path, data: bytes) -> None:
    layout.meta_path(root, KEY).write_bytes(data)
    with pytest.raises(ArchiveError) as raised:
        reader.read(root, KEY)
    assert not isinstance(raised.value, MissingMetaJson)


@pytest.mark.parametrize(
    "other",
    [make_job(cluster="small"), make_job(job_id=1034872), make_job(start_time=START + 1)],
    ids=["cluster", "jobId", "startTime"],
)
def test_file_of_another_job_is_refused(root: Path, other: Job) -> None:
    writer.write(root, other)
    shutil.copy(layout.meta_path(root, other.key), layout.meta_path(root, KEY))
    with pytest.raises(ArchiveError, match="another job"):
        reader.read(root, KEY)


def test_directory_named_meta_json_is_an_error(root: Path) -> None:
    layout.meta_path(root, KEY).unlink()
    layout.meta_path(root, KEY).mkdir()
    with pytest.raises(ArchiveError, match="not a regular file"):
        reader.read(root, KEY)
    assert list(reader.keys(root)) == []


def test_key_that_leads_out_of_the_archive_is_refused(root: Path) -> None:
    with pytest.raises(ArchiveError):
        reader.read(root, JobKey("../large", 1034871, START))


def test_keys_are_in_order(root: Path) -> None:
    for cluster, job_id, start in (("small", 5, 1), ("large", 7, 10), ("large", 7, 9),
                                   ("large", 10_000, 3), ("large", 2_000, 3)):  # fmt: skip
        write_run(root, cluster, job_id, start)
    assert list(reader.keys(root)) == [
        JobKey("large", 7, 9),
        JobKey("large", 7, 10),
        JobKey("large", 2_000, 3),
        JobKey("large", 10_000, 3),
        KEY,
        JobKey("small", 5, 1),
    ]


def test_files_of_other_programs_are_ignored(root: Path) -> None:
    for name in ("cluster.json", "large/cluster.json", "large/1034/notes", "large/1034/871/x"):
        (root / name).write_text("{}")
    run = layout.meta_path(root, KEY).parent
    (run / "data.json.gz").write_bytes(b"")
    (run / ".meta.json.1.abc").write_bytes(b"half")
    for name in ("lost+found/0/001/1", ".snapshot/0/001/1", "large/0/1/1", "large/x/001/1"):
        (root / name).mkdir(parents=True)
        (root / name / "meta.json").write_bytes(b"{}")
    (run.parent / "5").mkdir()
    assert list(reader.keys(root)) == [KEY]


def test_symbolic_links_are_not_followed(root: Path) -> None:
    (root / "alias").symlink_to(root / "large")
    (root / "loop").symlink_to(root)
    assert list(reader.keys(root)) == [KEY]


def test_missing_root_has_no_jobs(tmp_path: Path) -> None:
    assert list(reader.keys(tmp_path / "absent")) == []


def test_directory_without_meta_json_is_incomplete(root: Path) -> None:
    empty = layout.meta_path(root, JobKey("large", 7, 9)).parent
    empty.mkdir(parents=True)
    (empty / ".meta.json.1.abc").write_bytes(b"half")
    assert list(reader.incomplete_directories(root)) == [empty]
    assert reader.is_incomplete(empty)
    shutil.rmtree(empty)
    assert not reader.is_incomplete(empty)


def test_directories_may_change_while_they_are_listed(root: Path) -> None:
    for number in range(1, 5):
        write_run(root, "small", number * 1000, 1)
    keys = reader.keys(root)
    assert next(keys) == KEY
    next(keys)
    shutil.rmtree(root / "small" / "3")
    write_run(root, "small", 4001, 1)
    assert JobKey("small", 3000, 1) not in list(keys)


@contextmanager
def unreadable(directory: Path) -> Iterator[None]:
    """Run as an ordinary user of our group who may not read a directory."""
    is_root = os.geteuid() == 0
    directory.chmod(0)
    if is_root:
        modes = {path: path.stat().st_mode for path in directory.parents}
        for path, mode in modes.items():
            path.chmod(mode | stat.S_IRGRP | stat.S_IXGRP)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
            for path, mode in modes.items():
                path.chmod(mode)
        directory.chmod(0o750)


@pytest.mark.parametrize(
    "read", [reader.keys, reader.incomplete_directories, reader.temporary_files]
)
@pytest.mark.parametrize("level", range(1, 5))
def test_unreadable_directory_is_an_error_that_names_it(
    root: Path, read: Callable[[Path], Iterator[object]], level: int
) -> None:
    directory = root.joinpath(*layout.parts(KEY)[:level])
    for path in root.rglob("*"):
        path.chmod(0o755)
    with unreadable(directory), pytest.raises(ArchiveError, match=f"cannot read {directory}: Perm"):
        list(read(root))


def test_unreadable_directory_of_no_cluster_is_ignored(root: Path) -> None:
    for path in root.rglob("*"):
        path.chmod(0o755)
    (root / "lost+found").mkdir()
    with unreadable(root / "lost+found"):
        assert list(reader.keys(root)) == [KEY]


def test_temporary_files_of_killed_writers_are_listed(root: Path) -> None:
    run = layout.meta_path(root, KEY).parent
    for name in (".meta.json.17.0123abcd", ".meta.json.17.0123abc", ".meta.json.replaced-0123abcd"):
        (run / name).write_bytes(b"half")
    assert list(reader.temporary_files(root)) == [run / ".meta.json.17.0123abcd"]
