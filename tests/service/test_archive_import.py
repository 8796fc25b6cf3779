import json
import tracemalloc
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ccapi.archive import layout, meta_json, reader, writer
from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.errors import ArchiveError
from ccapi.model.job import Job
from ccapi.repository import jobs
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
    "submitTime": START - 60,
    "requestedMemory": 128_000,
    "energy": 7,
    "footprint": {"mem_bw_avg": 1.5},
    "energyFootprint": {"core_power": 1e300},
    "concurrentJobs": {"items": [{"id": 4, "jobId": 1}], "count": 1},
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
    values = make_document(**{**NEWER, **changes})
    del values["exclusive"]
    return values


def run(context: Context, tree: Path, *, dry_run: bool = False) -> list[RepairAction]:
    return list(archive_import.import_tree(context, tree, dry_run=dry_run))


def kinds(actions: list[RepairAction]) -> Counter[str]:
    return Counter(action.kind for action in actions)


def without_ids(job: dict[str, Any]) -> dict[str, Any]:
    tags = [{key: tag[key] for key in ("type", "name")} for tag in job["tags"]]
    return {**job, "id": 0, "tags": tags}


def files(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("meta.json")}


def test_job_of_another_archive_is_registered_and_archived(
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
        "shared": "single_user",
        "jobState": "node_fail",
        "monitoringStatus": 3,
        "duration": 3600,
        "walltime": 86400,
        "startTime": START,
        "submitTime": START - 60,
        "requestedMemory": 128_000,
        "energy": 7.0,
        "footprint": {"mem_bw_avg": 1.5},
        "energyFootprint": {"core_power": 1e300},
        "resources": [{"hostname": "f0101"}],
        "tags": [{"type": "Debug", "name": "Testjob"}],
        "metaData": {"jobName": "rotor"},
        "statistics": {"mem_bw": {"unit": "GB/s", "avg": 1.5}},
    }
    assert list(archive_check.check(context)) == []
    assert len(files(context.archive_root)) == 1


def test_orphan_is_imported_and_its_file_is_not_changed(context: Context, reader: Client) -> None:
    path = write_meta_json(context.archive_root, newer())
    former = path.read_bytes()
    assert run(context, context.archive_root) == [RepairAction("imported")]
    assert [job["jobState"] for job in reader.list()] == ["node_fail"]
    assert path.read_bytes() == former
    assert list(archive_check.check(context)) == []


def test_deleted_job_is_imported_as_it_was(context: Context, admin: Client) -> None:
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


def test_import_keeps_every_field(context: Context, database: Database, tmp_path: Path) -> None:
    path = write_meta_json(tmp_path / "other", newer(numHwthreads=72, numAcc=4))
    foreign = meta_json.decode(path.read_bytes())
    run(context, tmp_path / "other")
    with database.connection() as conn:
        imported = jobs.find_by_keys(conn, [foreign.key])[foreign.key]
        job = jobs.get(conn, imported.id)
    assert job
    assert meta_json.encode(job) == meta_json.encode(foreign)
    assert (job.submit_time, job.requested_memory, job.energy) == (START - 60, 128_000, 7.0)
    assert (job.footprint, job.energy_footprint) == ('{"mem_bw_avg":1.5}', '{"core_power":1e+300}')
    written = reader.read(context.archive_root, job.key)
    assert written == foreign
    assert json.loads(files(context.archive_root).popitem()[1])["shared"] == "single_user"


def test_second_import_changes_nothing(context: Context, reader: Client, tree: Path) -> None:
    assert kinds(run(context, tree)) == {"imported": 10}
    jobs, archived = reader.list("items-per-page=99"), files(context.archive_root)
    assert kinds(run(context, tree)) == {"already there": 10}
    assert reader.list("items-per-page=99") == jobs
    assert files(context.archive_root) == archived


def test_run_with_another_start_time_is_another_job(
    context: Context, writer: Client, tmp_path: Path
) -> None:
    writer.start(jobId=1034871, startTime=START)
    writer.stop(jobId=1034871, stopTime=START + 5)
    write_meta_json(tmp_path / "other", make_document())
    write_meta_json(tmp_path / "other", make_document(startTime=START + 1))
    assert kinds(run(context, tmp_path / "other")) == {"already there": 1, "imported": 1}
    assert sorted(job["duration"] for job in writer.list()) == [5, 3600]


def test_job_that_runs_in_the_database_is_undecided(
    context: Context, writer: Client, tmp_path: Path
) -> None:
    id_ = writer.start(jobId=1034871, startTime=START)
    path = write_meta_json(tmp_path / "other", make_document())
    [action] = run(context, tmp_path / "other")
    assert (action.kind, action.path) == ("undecided", path)
    assert f"id {id_} is still running" in action.reason
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
def test_bad_file_is_reported_and_skipped(
    context: Context, reader: Client, tree: Path, reason: str
) -> None:
    bad = write_meta_json(tree, BAD[reason], cluster="fritz")
    actions = run(context, tree)
    [report] = [action for action in actions if action.path]
    assert (report.kind, report.path) == ("bad", bad)
    assert reason in report.reason
    assert kinds(actions) == {"imported": 10, "bad": 1}
    assert len(reader.list("items-per-page=99")) == 10


def test_directory_of_no_run_is_reported(context: Context, tree: Path) -> None:
    for path in ("fritz/0/7/1700000000", "fritz/0/007/now", "fritz/0/008/1700000000"):
        (tree / path).mkdir(parents=True)
    reports = {action.path: action.kind for action in run(context, tree) if action.path}
    assert {path.relative_to(tree).as_posix(): kind for path, kind in reports.items()} == {
        "fritz/0/7/1700000000": "bad",
        "fritz/0/007/now": "bad",
        "fritz/0/008/1700000000": "bad",
    }


def test_dry_run_reports_the_same_and_changes_nothing(
    context: Context, database: Database, tree: Path
) -> None:
    write_meta_json(tree, b"{")
    dry = run(context, tree, dry_run=True)
    assert (count(database, "jobs"), count(database, "tags")) == (0, 0)
    assert files(context.archive_root) == {}
    assert run(context, tree) == dry


@pytest.mark.parametrize("actions", [1, 4, 7])
def test_interrupted_import_continues(context: Context, tree: Path, actions: int) -> None:
    interrupted = archive_import.import_tree(context, tree, dry_run=False)
    for _ in range(actions):
        next(interrupted)
    del interrupted
    again = kinds(run(context, tree))
    assert again == {
        "already there": (actions + 3) // 4 * 4,
        "imported": 10 - (actions + 3) // 4 * 4,
    }
    assert list(archive_check.check(context)) == []


def test_batch_with_a_file_that_fails_is_not_registered(
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


def test_concurrent_imports_register_each_job_once(
    context: Context, database: Database, tmp_path: Path
) -> None:
    for number in range(1, 101):
        write_meta_json(tmp_path / "other", newer(jobId=number * 37))
    both = at_once([partial(run, context, tmp_path / "other")] * 2)
    assert sum(kinds(actions)["imported"] for actions in both) == 100
    assert [len(actions) for actions in both] == [100, 100]
    assert (count(database, "jobs"), count(database, "job_tags")) == (100, 100)
    assert list(archive_check.check(context)) == []


def test_different_file_in_our_archive_is_backed_up(context: Context, tree: Path) -> None:
    other = write_meta_json(context.archive_root, make_document(jobId=700, user="mallory1"))
    former = other.read_bytes()
    actions = run(context, tree)
    assert kinds(actions) == {"imported": 10, "replaced": 1}
    [action] = [action for action in actions if action.kind == "replaced"]
    backup = other.with_name(action.reason.split()[-1])
    assert action.path == other
    assert backup.read_bytes() == former
    assert json.loads(other.read_bytes())["user"] == "abcd100h"


def test_our_archive_is_recognised_by_any_path(context: Context, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(context.archive_root)
    assert archive_import.is_own(context, link)
    assert not archive_import.is_own(context, tmp_path)
    missing = replace(context, archive_root=tmp_path / "missing")
    assert not archive_import.is_own(missing, tmp_path)


def test_number_of_runs_is_known_before_the_import(context: Context, tree: Path) -> None:
    write_meta_json(tree, b"{")
    (tree / "fritz/0/7/x").mkdir(parents=True)
    assert archive_import.count_runs(tree) == len(run(context, tree)) == 12


@pytest.mark.slow
def test_memory_does_not_grow_with_the_archive(context: Context, tmp_path: Path) -> None:
    def peak(name: str, jobs: int) -> int:
        for number in range(1, jobs + 1):
            write_meta_json(
                tmp_path / name, make_document(jobId=number, metaData={"jobScript": "x" * 20_000})
            )
        tracemalloc.start()
        for _ in archive_import.import_tree(context, tmp_path / name, dry_run=True):
            pass
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak_bytes

    peak("warm up", 8)
    assert peak("long", 400) < 1.5 * peak("short", 40)


def test_both_archives_have_the_same_keys(context: Context, tree: Path) -> None:
    run(context, tree)
    ours = list(reader.keys(context.archive_root))
    assert ours == list(reader.keys(tree))
    assert all(layout.meta_path(tree, key).exists() for key in ours)


def test_import_waits_for_no_pack(context: Context, tree: Path, database: Database) -> None:
    with writer.exclusive(context.archive_root), pytest.raises(ArchiveError, match="packs"):
        run(context, tree)
    assert count(database, "jobs") == 0
    with writer.exclusive(context.archive_root, is_import=True):
        assert kinds(run(context, tree)) == {"imported": 10}
