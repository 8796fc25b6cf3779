import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from ccapi.archive import layout, writer
from ccapi.context import Context
from ccapi.errors import ArchiveError
from ccapi.model.job import JobKey
from ccapi.service import archive_check, archive_import, archive_repair
from ccapi.service.archive_import import NOT_DONE, RepairAction
from tests.archive.fixtures import make_document, write_meta_json
from tests.client import START, Client, at_once


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_check, "_RECHECK_DELAY_SECONDS", 0)
    monkeypatch.setattr(archive_check, "_BATCH_SIZE", 3)


def repair(
    context: Context, tree: Path | None = None, *, dry_run: bool = False
) -> list[RepairAction]:
    return list(archive_repair.repair(context, tree, dry_run=dry_run))


def kinds(actions: list[RepairAction]) -> Counter[str]:
    return Counter(action.kind for action in actions)


def meta_path(context: Context, job_id: int = 123000) -> Path:
    return layout.meta_path(context.archive_root, JobKey("fritz", job_id, START))


def everything(root: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


@pytest.fixture
def archived(admin: Client) -> int:
    """A job that was stopped and archived."""
    id_ = admin.start(tags=[{"type": "a", "name": "b"}], metaData={"jobScript": "exit 0"})
    admin.stop()
    return id_


@contextmanager
def unwritable(context: Context) -> Iterator[None]:
    obstacle = context.archive_root / "fritz"
    obstacle.write_text("in the way")
    yield
    obstacle.unlink()


@pytest.mark.usefixtures("archived")
def test_job_that_agrees_is_not_changed(context: Context) -> None:
    before = everything(context.archive_root)
    assert repair(context) == []
    assert everything(context.archive_root) == before


def test_pending_jobs_are_archived(context: Context, writer: Client) -> None:
    with unwritable(context):
        for number in range(1, 6):
            writer.start(jobId=number)
            writer.stop(jobId=number)
        assert kinds(repair(context)) == {"failed": 5}
    assert kinds(repair(context)) == {"archived": 5}
    assert list(archive_check.check(context)) == []


def test_missing_file_is_written_again(context: Context, archived: int) -> None:
    former = meta_path(context).read_bytes()
    shutil.rmtree(context.archive_root / "fritz")
    [action] = repair(context)
    assert (action.kind, action.path) == ("archived", meta_path(context))
    assert f"id {archived}" in action.reason
    assert meta_path(context).read_bytes() == former
    assert [path.name for path in meta_path(context).parent.iterdir()] == ["meta.json"]


@pytest.mark.usefixtures("archived")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data.replace(b"abcd100h", b"mallory1"),
        lambda data: data.replace(b'"jobId":123000', b'"jobId":123001'),
        lambda data: data.replace(b'"name":"b"', b'"name":"c"'),
    ],
    ids=["empty", "cut off", "other user", "other job", "other tag"],
)
def test_wrong_file_is_replaced_and_backed_up(
    context: Context, spoil: Callable[[bytes], bytes]
) -> None:
    path = meta_path(context)
    right = path.read_bytes()
    path.write_bytes(spoil(right))
    [action] = repair(context)
    assert (action.kind, action.path) == ("replaced", path)
    assert path.read_bytes() == right
    backup = path.with_name(action.reason.split()[-1])
    assert backup.name.startswith(".meta.json.replaced-")
    assert backup.read_bytes() == spoil(right)
    assert repair(context) == []
    assert list(archive_check.check(context)) == []


@pytest.mark.usefixtures("archived")
def test_each_content_is_backed_up_once(context: Context) -> None:
    path = meta_path(context)
    for content in (b"one", b"two", b"one"):
        path.write_bytes(content)
        repair(context)
    backups = [file.read_bytes() for file in path.parent.iterdir() if file != path]
    assert sorted(backups) == [b"one", b"two"]


def test_late_archiving_backs_up_an_existing_file(context: Context, writer: Client) -> None:
    with unwritable(context):
        writer.start()
        writer.stop()
    write_meta_json(context.archive_root, b"{}", jobId=123000, startTime=START)
    assert kinds(repair(context)) == {"archived": 1}
    assert [path.read_bytes() for path in meta_path(context).parent.glob(".*")] == [b"{}"]


def test_failure_of_one_file_does_not_stop_the_others(context: Context, writer: Client) -> None:
    for number in range(1, 8):
        writer.start(jobId=number)
        writer.stop(jobId=number)
        meta_path(context, number).unlink()
    meta_path(context, 3).mkdir()
    assert kinds(repair(context)) == {"archived": 6, "failed": 1, "undecided": 1}
    meta_path(context, 3).rmdir()
    assert kinds(repair(context)) == {"archived": 1}


def test_empty_directories_are_removed_others_reported(context: Context) -> None:
    empty = context.archive_root / "fritz/0/001/1700000000"
    other = context.archive_root / "fritz/0/002/1700000000"
    strange = context.archive_root / "fritz/0/2/now"
    for directory in (empty, other, strange):
        directory.mkdir(parents=True)
    (other / "data.json.gz").write_bytes(b"\x1f\x8b")
    (strange / "notes").write_text("mine")
    actions = {action.path: action.kind for action in repair(context)}
    assert actions == {empty: "removed", other: "undecided", strange: "undecided"}
    assert (empty.exists(), other.exists(), strange.exists()) == (False, True, True)


def test_empty_directory_of_a_running_job_is_removed(context: Context, writer: Client) -> None:
    writer.start()
    meta_path(context).parent.mkdir(parents=True)
    assert kinds(repair(context)) == {"removed": 1}
    assert writer.stop()["monitoringStatus"] == 3


def test_orphans_are_reported_and_kept(context: Context, admin: Client, archived: int) -> None:
    admin.send("DELETE", f"/delete_job/{archived}")
    before = everything(context.archive_root)
    [action] = repair(context)
    assert (action.kind, action.path) == ("orphaned", meta_path(context))
    assert everything(context.archive_root) == before
    assert admin.list() == []


def test_orphans_of_our_archive_are_imported(
    context: Context, admin: Client, archived: int
) -> None:
    admin.send("DELETE", f"/delete_job/{archived}")
    assert kinds(repair(context, context.archive_root)) == {"imported": 1}
    assert [job["jobId"] for job in admin.list()] == [123000]
    assert list(archive_check.check(context)) == []


def test_import_of_another_archive_still_reports_our_orphans(
    context: Context, tmp_path: Path
) -> None:
    write_meta_json(tmp_path / "other", make_document())
    write_meta_json(context.archive_root, make_document(jobId=5))
    assert kinds(repair(context, tmp_path / "other")) == {"imported": 1, "orphaned": 1}


def test_directory_of_a_killed_import_is_completed(context: Context, tmp_path: Path) -> None:
    write_meta_json(tmp_path / "other", make_document())
    half = write_meta_json(context.archive_root, b'{"jobId":')
    half.rename(half.with_name(".meta.json.4711.0123abcd"))
    assert kinds(repair(context, tmp_path / "other")) == {"imported": 1}
    assert list(archive_check.check(context)) == []


@pytest.mark.usefixtures("archived")
def test_archived_job_that_runs_in_the_database_is_undecided(
    context: Context, admin: Client
) -> None:
    with context.database.transaction() as conn:
        conn.execute("UPDATE jobs SET job_state = 'running', stop_time = NULL")
    before = everything(context.archive_root)
    for tree in (None, context.archive_root):
        [action] = repair(context, tree)
        assert (action.kind, action.path) == ("undecided", meta_path(context))
    assert [finding.kind for finding in archive_check.check(context)] == ["broken"]
    assert everything(context.archive_root) == before
    admin.stop()
    assert repair(context) == []


@pytest.mark.usefixtures("archived")
def test_archive_that_is_not_mounted_is_refused(context: Context) -> None:
    shutil.rmtree(context.archive_root)
    context.archive_root.mkdir()
    for dry_run in (True, False):
        with pytest.raises(ArchiveError, match="mounted"):
            repair(context, dry_run=dry_run)
    assert everything(context.archive_root) == {}


@pytest.mark.usefixtures("archived")
def test_lost_archive_is_written_again(context: Context) -> None:
    shutil.rmtree(context.archive_root)
    assert kinds(repair(context)) == {"archived": 1}
    assert list(archive_check.check(context)) == []


def break_everything(context: Context, admin: Client) -> None:
    """Leave one of each: pending, missing, wrong, deleted, empty, undecided."""
    for number in range(1, 5):
        admin.start(jobId=number)
        admin.stop(jobId=number)
    meta_path(context, 1).unlink()
    meta_path(context, 2).write_bytes(b"{}")
    admin.send("DELETE", "/delete_job/", {"jobId": 3})
    with context.database.transaction() as conn:
        conn.execute("INSERT INTO archive_queue SELECT id, false, true FROM jobs WHERE job_id = 4")
    meta_path(context, 5).parent.mkdir(parents=True)
    meta_path(context, 6).parent.mkdir(parents=True)
    meta_path(context, 6).with_name("data.json").write_text("{}")


@pytest.mark.parametrize("import_orphans", [False, True], ids=["listed", "imported"])
def test_dry_run_reports_the_same_and_changes_nothing(
    context: Context, admin: Client, *, import_orphans: bool
) -> None:
    break_everything(context, admin)
    tree = context.archive_root if import_orphans else None
    before = everything(context.archive_root), admin.list("with-metadata")
    dry = repair(context, tree, dry_run=True)
    assert (everything(context.archive_root), admin.list("with-metadata")) == before
    done = kinds(repair(context, tree)) - Counter({"already there": 99})
    assert done == kinds(dry) - Counter({"already there": 99})
    assert done == {
        "archived": 2,
        "replaced": 1,
        "removed": 1,
        "undecided": 1,
        "imported" if import_orphans else "orphaned": 1,
    }


def test_second_repair_finds_only_undecided_files(context: Context, admin: Client) -> None:
    break_everything(context, admin)
    repair(context, context.archive_root)
    actions = repair(context, context.archive_root)
    assert {action.kind for action in actions if action.kind in NOT_DONE} == {"undecided"}
    assert [finding.path for finding in archive_check.check(context)] == [
        meta_path(context, 6).parent
    ]


def test_concurrent_repairs_are_safe(context: Context, admin: Client) -> None:
    break_everything(context, admin)
    meta_path(context, 6).with_name("data.json").unlink()
    at_once([partial(repair, context, context.archive_root)] * 2)
    assert list(archive_check.check(context)) == []
    backups = list(context.archive_root.rglob(".*"))
    assert [path.read_bytes() for path in backups] == [b"{}"]


def test_tags_added_during_a_repair_are_archived(context: Context, admin: Client) -> None:
    ids = [admin.start(jobId=number) for number in range(1, 21)]
    for number in range(1, 21):
        admin.stop(jobId=number)
        path = meta_path(context, number)
        path.write_bytes(path.read_bytes().replace(b"abcd100h", b"mallory1"))

    def tag(client: Client) -> list[int]:
        body = [{"type": "a", "name": "b"}]
        return [client.send("POST", f"/tag_job/{id_}", body).status_code for id_ in ids]

    tagged, _ = at_once([lambda: (tag(admin.twin()), []), lambda: ([], repair(context))])
    assert tagged[0] == [200] * 20
    assert list(archive_check.check(context)) == []


def test_our_archive_is_imported_once(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_import, "_BATCH_SIZE", 2)
    root = context.archive_root
    for number in range(1, 8):
        write_meta_json(root, make_document(jobId=number))
    write_meta_json(root, b"{", jobId=9)
    (root / "fritz/0/7/now").mkdir(parents=True)
    (root / "fritz/0/7/now/notes").write_text("mine")
    actions = repair(context, root)
    assert kinds(actions) == {"imported": 7, "bad": 1, "undecided": 1}
    assert kinds(repair(context, root)) == {"already there": 7, "bad": 1, "undecided": 1}


@pytest.mark.usefixtures("archived")
def test_temporary_files_are_removed_after_an_hour(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(context.archive_root)
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(os, "rename", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        writer.write_bytes(context.archive_root, JobKey("fritz", 123000, START), b"half")
    os.waitpid(child, 0)
    [temporary] = everything(context.archive_root).keys() - before.keys()
    assert repair(context) == []
    an_hour_ago = time.time() - 3601
    os.utime(temporary, (an_hour_ago, an_hour_ago))
    assert [(action.kind, action.path) for action in repair(context, dry_run=True)] == [
        ("removed", temporary)
    ]
    assert temporary.exists()
    assert [(action.kind, action.path) for action in repair(context)] == [("removed", temporary)]
    assert everything(context.archive_root) == before
