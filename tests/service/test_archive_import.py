import json
import tracemalloc
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ccapi.archive import layout, reader, writer
from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.errors import ArchiveError
from ccapi.model.job import Job
from ccapi.service import archive_check, archive_import
from ccapi.service.archive_import import RepairAction
from tests.archive.fixtures import START, make_document, write_meta_json
from tests.client import Client, at_once, count

NEWER: dict[str, Any] = {
    "shared": "single_user",
    "jobState": "node_fail",
    "arrayJobId": 0,
    "smt": 0,
    "walltime": 86400,
    "partition": "main",
    "monitoringStatus": 1,
    "tags": [{"type": "Debug", "name": "Testjob", "scope": "global", "id": 7}],
    "metaData": {"jobName": "rotor"},
    "statistics": {"mem_bw": {"unit": {"base": "B/s", "prefix": "G"}, "avg": 1.5}},
    "footprint": {"mem_bw_avg": 1.5},
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_check, "_RECHECK_DELAY_SECONDS", 0)
    monkeypatch.setattr(archive_import, "_BATCH_SIZE", 4)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An archive of another writer with ten jobs."""
    root = tmp_path / "other-archive"
    for number in range(1, 11):
        write_meta_json(root, make_document(jobId=number * 700))
    return root


def newer(**changes: Any) -> dict[str, Any]:
    values = make_document(**NEWER, **changes)
    del values["exclusive"]
    return values


def run(context: Context, tree: Path, *, dry_run: bool = False) -> list[RepairAction]:
    return list(archive_import.import_tree(context, tree, dry_run=dry_run))


def kinds(steps: list[RepairAction]) -> Counter[str]:
    return Counter(step.kind for step in steps)


def without_ids(job: dict[str, Any]) -> dict[str, Any]:
    tags = [{key: tag[key] for key in ("type", "name")} for tag in job["tags"]]
    return {**job, "id": 0, "tags": tags}


def files(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("meta.json")}


def test_a_job_of_another_archive_is_registered_and_archived(
    context: Context, reader: Client, tmp_path: Path
) -> None:
    write_meta_json(tmp_path / "other", newer())
    assert run(context, tmp_path / "other") == [RepairAction("imported")]
    [job] = reader.list("with-metadata")
    assert without_ids(job) == {
        "id": 0,
        "jobId": 1034871,
        "user": "abcd100h",
        "project": "abcd200",
        "cluster": "fritz",
        "subCluster": "main",
        "partition": "main",
        "numNodes": 1,
        "exclusive": 2,
        "jobState": "failed",
        "monitoringStatus": 3,
        "duration": 3600,
        "walltime": 86400,
        "startTime": START,
        "resources": [{"hostname": "f0101"}],
        "tags": [{"type": "Debug", "name": "Testjob"}],
        "metaData": {"jobName": "rotor"},
        "statistics": {"mem_bw": {"unit": "GB/s", "avg": 1.5}},
    }
    assert list(archive_check.check(context)) == []
    assert len(files(context.archive_root)) == 1


def test_an_orphan_is_adopted_and_its_file_left_as_it_is(context: Context, reader: Client) -> None:
    path = write_meta_json(context.archive_root, newer())
    former = path.read_bytes()
    assert run(context, context.archive_root) == [RepairAction("imported")]
    assert [job["jobState"] for job in reader.list()] == ["failed"]
    assert path.read_bytes() == former
    assert list(archive_check.check(context)) == []


def test_a_deleted_job_comes_back_as_it_was(context: Context, admin: Client) -> None:
    id_ = admin.start(
        tags=[{"type": "a", "name": "ä"}, {"type": "a", "name": "b"}],
        statistics={"x": {"unit": "W", "avg": 1, "min": 0, "max": 2.5}},
        metaData={"jobScript": 'echo "\\u0000"\n'},
    )
    admin.stop()
    [before] = admin.list("with-metadata")
    admin.send("DELETE", f"/delete_job/{id_}")
    assert run(context, context.archive_root) == [RepairAction("imported")]
    [after] = admin.list("with-metadata")
    assert without_ids(after) == without_ids(before)
    assert after["id"] > id_
    assert list(archive_check.check(context)) == []


def test_doing_it_again_changes_nothing(context: Context, reader: Client, tree: Path) -> None:
    assert kinds(run(context, tree)) == {"imported": 10}
    jobs, archived = reader.list("items-per-page=99"), files(context.archive_root)
    assert kinds(run(context, tree)) == {"already there": 10}
    assert reader.list("items-per-page=99") == jobs
    assert files(context.archive_root) == archived


def test_only_the_same_start_time_is_the_same_job(
    context: Context, writer: Client, tmp_path: Path
) -> None:
    writer.start(jobId=1034871, startTime=START)
    writer.stop(jobId=1034871, stopTime=START + 5)
    write_meta_json(tmp_path / "other", make_document())
    write_meta_json(tmp_path / "other", make_document(startTime=START + 1))
    assert kinds(run(context, tmp_path / "other")) == {"already there": 1, "imported": 1}
    assert sorted(job["duration"] for job in writer.list()) == [5, 3600]


def test_a_job_that_runs_in_the_database_is_left_to_the_user(
    context: Context, writer: Client, tmp_path: Path
) -> None:
    id_ = writer.start(jobId=1034871, startTime=START)
    path = write_meta_json(tmp_path / "other", make_document())
    [step] = run(context, tmp_path / "other")
    assert (step.kind, step.path) == ("undecided", path)
    assert f"id {id_} is still running" in step.reason
    assert [job["jobState"] for job in writer.list()] == ["running"]


BAD: dict[str, dict[str, Any] | bytes] = {
    "user": make_document(user="u" * 256),
    "resources": make_document(resources=[]),
    "metaData": make_document(metaData={"x": "\0"}),
    "jobState": make_document(jobState="running"),
    "another job": make_document(cluster="alex"),
    "JSON": b'{"jobId":',
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_entry_is_named_and_skipped(
    context: Context, reader: Client, tree: Path, reason: str
) -> None:
    bad = write_meta_json(tree, BAD[reason], cluster="fritz")
    steps = run(context, tree)
    [named] = [step for step in steps if step.path]
    assert (named.kind, named.path) == ("bad", bad)
    assert reason in named.reason
    assert kinds(steps) == {"imported": 10, "bad": 1}
    assert len(reader.list("items-per-page=99")) == 10


def test_a_directory_that_is_no_runs_is_named(context: Context, tree: Path) -> None:
    for path in ("fritz/0/7/1700000000", "fritz/0/007/now", "fritz/0/008/1700000000"):
        (tree / path).mkdir(parents=True)
    named = {step.path: step.kind for step in run(context, tree) if step.path}
    assert {path.relative_to(tree).as_posix(): kind for path, kind in named.items()} == {
        "fritz/0/7/1700000000": "bad",
        "fritz/0/007/now": "bad",
        "fritz/0/008/1700000000": "bad",
    }


def test_files_that_are_not_ours_are_left_there(context: Context, tree: Path) -> None:
    data = next(tree.rglob("meta.json")).with_name("data.json.gz")
    data.write_bytes(b"\x1f\x8b")
    (tree / "fritz" / "cluster.json").write_text("{}")
    assert kinds(run(context, tree)) == {"imported": 10}
    assert list(context.archive_root.rglob("*.gz")) == []
    assert data.exists()


def test_a_dry_run_finds_the_same_and_changes_nothing(
    context: Context, database: Database, tree: Path
) -> None:
    write_meta_json(tree, b"{")
    dry = run(context, tree, dry_run=True)
    assert (count(database, "jobs"), count(database, "tags")) == (0, 0)
    assert files(context.archive_root) == {}
    assert run(context, tree) == dry


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_an_import_that_was_killed_goes_on(context: Context, tree: Path, steps: int) -> None:
    interrupted = archive_import.import_tree(context, tree, dry_run=False)
    for _ in range(steps):
        next(interrupted)
    del interrupted
    again = kinds(run(context, tree))
    assert again == {"already there": (steps + 3) // 4 * 4, "imported": 10 - (steps + 3) // 4 * 4}
    assert list(archive_check.check(context)) == []


def test_a_batch_whose_files_cannot_be_written_is_not_registered(
    context: Context, database: Database, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = writer.write_with_backup

    def full(root: Path, job: Job) -> str | None:
        if job.job_id == 4200:
            raise ArchiveError("cannot write: No space left on device")
        return write(root, job)

    monkeypatch.setattr(writer, "write_with_backup", full)
    with pytest.raises(ArchiveError, match="No space"):
        run(context, tree)
    assert count(database, "jobs") == 4
    monkeypatch.setattr(writer, "write_with_backup", write)
    assert kinds(run(context, tree)) == {"already there": 4, "imported": 6}
    assert list(archive_check.check(context)) == []


def test_two_imports_at_once_register_each_job_once(
    context: Context, database: Database, tmp_path: Path
) -> None:
    for number in range(1, 101):
        write_meta_json(tmp_path / "other", newer(jobId=number * 37))
    both = at_once([partial(run, context, tmp_path / "other")] * 2)
    assert sum(kinds(steps)["imported"] for steps in both) == 100
    assert [len(steps) for steps in both] == [100, 100]
    assert (count(database, "jobs"), count(database, "job_tags")) == (100, 100)
    assert list(archive_check.check(context)) == []


def test_an_orphan_that_says_something_else_is_kept_beside_what_is_imported(
    context: Context, tree: Path
) -> None:
    other = write_meta_json(context.archive_root, make_document(jobId=700, user="mallory1"))
    former = other.read_bytes()
    steps = run(context, tree)
    assert kinds(steps) == {"imported": 10, "replaced": 1}
    [step] = [step for step in steps if step.kind == "replaced"]
    kept = other.with_name(step.reason.split()[-1])
    assert step.path == other
    assert kept.read_bytes() == former
    assert json.loads(other.read_bytes())["user"] == "abcd100h"


def test_our_archive_is_known_by_any_name(context: Context, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(context.archive_root)
    assert archive_import.is_own(context, link)
    assert not archive_import.is_own(context, tmp_path)
    missing = replace(context, archive_root=tmp_path / "missing")
    assert not archive_import.is_own(missing, tmp_path)


def test_what_is_gone_through_can_be_counted_before(context: Context, tree: Path) -> None:
    write_meta_json(tree, b"{")
    (tree / "fritz/0/7/x").mkdir(parents=True)
    assert archive_import.count_runs(tree) == len(run(context, tree)) == 12


def test_memory_does_not_grow_with_the_archive(context: Context, tmp_path: Path) -> None:
    def peak(name: str, jobs: int) -> int:
        for number in range(1, jobs + 1):
            write_meta_json(
                tmp_path / name, make_document(jobId=number, metaData={"jobScript": "x" * 20_000})
            )
        tracemalloc.start()
        for _ in archive_import.import_tree(context, tmp_path / name, dry_run=True):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak("warm up", 8)
    assert peak("long", 400) < 1.5 * peak("short", 40)


def test_keys_are_found_as_they_were_written(context: Context, tree: Path) -> None:
    run(context, tree)
    ours = list(reader.keys(context.archive_root))
    assert ours == list(reader.keys(tree))
    assert all(layout.meta_path(tree, key).exists() for key in ours)
