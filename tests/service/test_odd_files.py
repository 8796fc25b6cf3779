"""Something else lies where a meta.json belongs: nothing hangs, follows or reads it whole."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ccapi.archive import files, layout, reader
from ccapi.context import Context
from ccapi.errors import ArchiveError
from ccapi.model.job import JobKey
from ccapi.service import archive_check, archive_import, archive_repair
from tests.archive.fixtures import make_document, write_meta_json
from tests.cli.conftest import Command, ccapi, environment
from tests.client import START, Client

__all__ = ["ccapi", "environment"]
KEY = JobKey("fritz", 123000, START)
Placement = Callable[[Path], object]


def place_huge_file(path: Path) -> None:
    path.touch()
    os.truncate(path, 3 << 30)


ODD: dict[str, Placement] = {
    "FIFO": os.mkfifo,
    "link to an endless device": lambda path: path.symlink_to("/dev/zero"),
    "link out of the tree": lambda path: path.symlink_to("/etc/hostname"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "huge file": place_huge_file,
    "directory": Path.mkdir,
}
odd = pytest.mark.parametrize("place", ODD.values(), ids=ODD.keys())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_check, "_RECHECK_DELAY_SECONDS", 0)


@pytest.fixture
def path(context: Context, writer: Client) -> Path:
    """The path of a stopped job's file, where nothing is any more."""
    writer.start()
    writer.stop()
    path = layout.meta_path(context.archive_root, KEY)
    path.unlink()
    return path


@odd
def test_reading_it_is_an_error_at_once(path: Path, context: Context, place: Placement) -> None:
    place(path)
    with pytest.raises(ArchiveError):
        reader.read_bytes(context.archive_root, KEY)


@odd
def test_a_tag_is_refused_and_changes_nothing(path: Path, admin: Client, place: Placement) -> None:
    place(path)
    [job] = admin.list()
    response = admin.send("POST", f"/tag_job/{job['id']}", [{"type": "a", "name": "b"}])
    assert response.status_code == 500
    assert admin.list() == [job]


@odd
def test_check_lists_it_and_repair_keeps_it(path: Path, context: Context, place: Placement) -> None:
    place(path)
    assert {finding.path for finding in archive_check.check(context)} >= {path}
    actions = list(archive_repair.repair(context))
    assert {action.kind for action in actions} <= {"archived", "replaced", "failed", "undecided"}
    if ODD["directory"] is place or ODD["huge file"] is place:
        assert len(list(path.parent.iterdir())) == 1
    else:
        assert reader.read(context.archive_root, KEY).key == KEY
        assert any("replaced-" in other.name for other in path.parent.iterdir())


@odd
def test_an_import_lists_it_and_continues(
    context: Context, admin: Client, tmp_path: Path, place: Placement
) -> None:
    tree = tmp_path / "other"
    write_meta_json(tree, make_document(jobId=1))
    write_meta_json(tree, make_document(jobId=3))
    file = write_meta_json(tree, make_document(jobId=2))
    file.unlink()
    place(file)
    kinds = [action.kind for action in archive_import.import_tree(context, tree, dry_run=False)]
    assert sorted(kinds) == ["bad", "imported", "imported"]
    assert {job["jobId"] for job in admin.list()} == {1, 3}


def test_a_fifo_as_version_does_not_hang(context: Context, writer: Client) -> None:
    version = context.archive_root / layout.VERSION_FILE
    version.unlink()
    os.mkfifo(version)
    writer.start()
    assert writer.stop()["monitoringStatus"] == 2


def test_a_fifo_as_cluster_json_does_not_hang(context: Context, writer: Client) -> None:
    (context.archive_root / "fritz").mkdir()
    os.mkfifo(context.archive_root / "fritz" / "cluster.json")
    writer.start()
    assert writer.stop()["monitoringStatus"] in {2, 3}


def test_a_file_of_the_maximum_size_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    os.truncate(file, files.MAX_BYTES)
    assert len(files.read(file)) == files.MAX_BYTES
    os.truncate(file, files.MAX_BYTES + 1)
    with pytest.raises(ArchiveError, match="larger than 64 MiB"):
        files.read(file)


def test_control_characters_of_names_do_not_reach_the_terminal(
    ccapi: Command, context: Context
) -> None:
    name = os.fsdecode(b"\x1b]0;owned\x07\xff\n")
    (context.archive_root / "fritz" / "1" / "000" / name).mkdir(parents=True)
    for command in ("check", "repair"):
        text = ccapi("archive", command).out
        assert r"\x1b]0;owned\x07\udcff\n" in text
        assert "\x1b" not in text
