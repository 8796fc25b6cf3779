"""Jobs move into packs, one file for each cluster and month, and back."""

import json
import sqlite3
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ccapi.archive import layout, pack, reader, writer
from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.errors import ArchiveError
from ccapi.model.job import JobKey, Tag
from ccapi.repository import bulk_insert, jobs
from ccapi.service import (
    archive_check,
    archive_conversion,
    archive_import,
    archive_packs,
    archive_repair,
    archived_job,
    deletion,
    edits,
)
from tests.archive.fixtures import make_job
from tests.client import at_once, count

JUNE, JULY, AUGUST = 1_748_736_000, 1_751_328_000, 1_754_006_400
# The last and the first second of a month, and the first one of the month that stays.
STARTS = (JUNE, JULY - 1, JULY, AUGUST - 1, AUGUST)
BEFORE = AUGUST + 86_400


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_check, "_RECHECK_DELAY_SECONDS", 0)
    monkeypatch.setattr(archive_packs, "_BATCH_SIZE", 3)


@pytest.fixture
def ids(context: Context) -> dict[JobKey, int]:
    """Archive jobs of two clusters and three months; return their database ids."""
    made = [
        make_job(
            cluster=cluster,
            job_id=number,
            start_time=start,
            stop_time=start + 60,
            user_name=f"u{number}",
            sub_cluster="",
        )
        for cluster in ("fritz", "alex")
        for number, start in enumerate(STARTS, start=1)
    ]
    with context.database.transaction() as conn:
        bulk_insert.import_finished(conn, made)
        runs = jobs.find_by_keys(conn, [job.key for job in made])
    for job in made:
        writer.write(context.archive_root, job)
    return {job.key: runs[job.key].id for job in made}


def packed(context: Context) -> Counter[str]:
    return Counter(move.kind for move in archive_packs.pack_months(context, BEFORE))


def unpacked(context: Context, **which: str) -> Counter[str]:
    return Counter(move.kind for move in archive_packs.unpack(context, **which))


def files(root: Path) -> dict[str, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def documents(root: Path) -> dict[JobKey, bytes]:
    keys = list(reader.keys(root))
    assert len(set(keys)) == len(keys)
    return {key: reader.read_bytes(root, key) for key in keys}


def test_pack_has_the_jobs_of_a_month_and_the_tree_the_others(
    context: Context, ids: dict[JobKey, int]
) -> None:
    root = context.archive_root
    former, before = documents(root), files(root)
    assert packed(context) == {"packed": 8}
    assert sorted(files(root).keys() - before.keys()) == [
        "alex/2025-06.sqlite", "alex/2025-07.sqlite", "fritz/2025-06.sqlite", "fritz/2025-07.sqlite"
    ]  # fmt: skip
    assert {path.parent.name for path in root.rglob("meta.json")} == {str(AUGUST)}
    assert not list(reader.incomplete_directories(root))
    assert documents(root) == former
    assert list(archive_check.check(context)) == []
    assert len(ids) == 10


def test_schema_is_that_of_cc_backends_sqlite_archive(
    context: Context, ids: dict[JobKey, int]
) -> None:
    packed(context)
    path = context.archive_root / "fritz" / "2025-06.sqlite"
    with sqlite3.connect(path) as conn:
        columns = [row[1] for row in conn.execute("PRAGMA table_info(jobs)")]
        rows = conn.execute("SELECT job_id, cluster, start_time, meta_json FROM jobs").fetchall()
        metadata = dict(conn.execute("SELECT key, value FROM metadata"))
        [(name, config)] = conn.execute("SELECT name, config_json FROM clusters")
    conn.close()
    assert columns == [
        "id", "job_id", "cluster", "start_time", "meta_json", "data_json", "data_compressed",
        "created_at", "updated_at",
    ]  # fmt: skip
    assert [row[:3] for row in rows] == [(1, "fritz", JUNE), (2, "fritz", JULY - 1)]
    assert json.loads(rows[0][3])["user"] == "u1"
    assert (metadata, name) == ({"version": "3"}, "fritz")
    assert config == (context.archive_root / "fritz" / "cluster.json").read_bytes()
    assert path.stat().st_mode & 0o777 == 0o640
    assert ids


def test_unpack_restores_the_tree_byte_for_byte(context: Context, ids: dict[JobKey, int]) -> None:
    former = files(context.archive_root)
    packed(context)
    assert unpacked(context) == {"unpacked": 8}
    assert files(context.archive_root) == former
    assert unpacked(context) == {}
    assert ids


@pytest.mark.parametrize(
    ("which", "left"),
    [
        ({"cluster": "fritz"}, {"alex/2025-06.sqlite", "alex/2025-07.sqlite"}),
        ({"month": "2025-06"}, {"alex/2025-07.sqlite", "fritz/2025-07.sqlite"}),
        ({"cluster": "woody"}, {f"{c}/2025-0{m}.sqlite" for c in ("alex", "fritz") for m in "67"}),
    ],
    ids=["cluster", "month", "unknown cluster"],
)  # fmt: skip
def test_unpack_of_a_cluster_or_a_month(
    context: Context, ids: dict[JobKey, int], which: dict[str, str], left: set[str]
) -> None:
    packed(context)
    unpacked(context, **which)
    root = context.archive_root
    assert {str(path.relative_to(root)) for path in reader.pack_paths(root)} == left
    assert len(documents(root)) == len(ids)


def test_second_run_moves_nothing(context: Context, ids: dict[JobKey, int]) -> None:
    packed(context)
    former = files(context.archive_root)
    assert packed(context) == {}
    assert files(context.archive_root) == former
    assert ids


def test_edit_of_a_packed_job_is_in_the_tree_until_the_next_run(
    context: Context, ids: dict[JobKey, int]
) -> None:
    packed(context)
    key, id_ = next(iter(ids.items()))
    edits.tag(context, id_, [Tag("Debug", "Testjob")])
    assert layout.meta_path(context.archive_root, key).exists()
    assert b"Testjob" in archived_job.read(context, key)
    assert list(archive_check.check(context)) == []
    assert len(documents(context.archive_root)) == len(ids)
    assert packed(context) == {"packed": 1}
    assert not layout.meta_path(context.archive_root, key).exists()
    assert b"Testjob" in archived_job.read_by_id(context, id_)
    assert list(archive_check.check(context)) == []


def test_refused_edit_of_a_packed_job_changes_nothing(
    context: Context, ids: dict[JobKey, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(context)
    key, id_ = next(iter(ids.items()))
    former = archived_job.read(context, key)

    def full(*_: object) -> None:
        raise ArchiveError("No space left on device")

    monkeypatch.setattr(writer, "write", full)
    with pytest.raises(ArchiveError, match="No space"):
        edits.tag(context, id_, [Tag("Debug", "Testjob")])
    assert archived_job.read(context, key) == former
    assert list(archive_check.check(context)) == []


def test_unpack_keeps_the_newer_file(context: Context, ids: dict[JobKey, int]) -> None:
    packed(context)
    key, id_ = next(iter(ids.items()))
    edits.tag(context, id_, [Tag("Debug", "Testjob")])
    unpacked(context)
    assert b"Testjob" in archived_job.read(context, key)
    assert list(archive_check.check(context)) == []


def test_run_with_other_files_stays_in_the_tree(context: Context, ids: dict[JobKey, int]) -> None:
    key = next(iter(ids))
    data = layout.meta_path(context.archive_root, key).with_name("data.json.gz")
    data.write_bytes(b"\x1f\x8b")
    assert packed(context) == {"packed": 7, "kept": 1}
    assert data.with_name("meta.json").exists()
    assert list(archive_check.check(context)) == []


@pytest.mark.parametrize("content", [b"{", b'{"jobId": 7}'])
def test_bad_file_is_reported_and_stays(
    context: Context, ids: dict[JobKey, int], content: bytes
) -> None:
    path = layout.meta_path(context.archive_root, next(iter(ids)))
    path.write_bytes(content)
    moves = list(archive_packs.pack_months(context, BEFORE))
    [bad] = [move for move in moves if move.kind == "bad"]
    assert (bad.path, path.read_bytes()) == (path.parent, content)


def test_job_that_waits_for_the_archive_is_not_packed(
    context: Context, database: Database, ids: dict[JobKey, int]
) -> None:
    key, id_ = next(iter(ids.items()))
    with database.session() as conn:
        conn.execute("INSERT INTO archive_queue (job) VALUES (%s)", [id_])
    assert packed(context) == {"packed": 7}
    assert layout.meta_path(context.archive_root, key).exists()


def test_pack_waits_for_an_edit(context: Context, ids: dict[JobKey, int]) -> None:
    key, id_ = next(iter(ids.items()))
    with context.database.transaction() as conn:
        conn.execute("SELECT FROM jobs WHERE id = %s FOR NO KEY UPDATE", [id_])
        packing = threading.Thread(target=lambda: packed(context))
        packing.start()
        packing.join(0.3)
        assert packing.is_alive()
        assert layout.meta_path(context.archive_root, key).exists()
    packing.join(30)
    assert not layout.meta_path(context.archive_root, key).exists()


def test_two_runs_at_once_are_refused(context: Context, ids: dict[JobKey, int]) -> None:
    running = archive_packs.pack_months(context, BEFORE)
    next(running)
    with pytest.raises(ArchiveError, match="another process packs"):
        unpacked(context)
    assert len(list(running)) == 7
    assert ids


def test_pruned_and_forgotten_jobs_are_read_from_packs(
    context: Context, database: Database, ids: dict[JobKey, int]
) -> None:
    packed(context)
    assert sum(deletion.prune(context, AUGUST)) == 8
    assert list(archive_check.check(context)) == []
    for key in ids:
        assert json.loads(archived_job.read(context, key))["jobId"] == key.job_id
    key = JobKey("fritz", 3, JULY)
    pack.remove(context.archive_root / "fritz" / "2025-07.sqlite", [key])
    [finding] = archive_check.check(context)
    assert (finding.kind, finding.path) == ("missing", layout.meta_path(context.archive_root, key))
    actions = archive_import.import_tree(context, context.archive_root, with_pruned=True)
    assert Counter(action.kind for action in actions) == {"imported": 7, "already there": 2}
    assert count(database, "jobs") == 9


def test_pack_of_another_tree_is_imported(
    context: Context, database: Database, tmp_path: Path
) -> None:
    other = replace(context, archive_root=tmp_path / "other")
    writer.create_if_missing(other.archive_root)
    for number in range(1, 6):
        writer.write(other.archive_root, make_job(job_id=number, start_time=JUNE + number))
    assert packed(other) == {"packed": 5}
    actions = archive_import.import_tree(context, other.archive_root)
    assert Counter(action.kind for action in actions) == {"imported": 5}
    assert count(database, "jobs") == 5
    assert documents(context.archive_root) == documents(other.archive_root)
    assert list(archive_check.check(context)) == []


def test_wrong_job_in_a_pack_is_repaired_in_the_tree(
    context: Context, ids: dict[JobKey, int]
) -> None:
    packed(context)
    key = next(iter(ids))
    path = context.archive_root / "fritz" / "2025-06.sqlite"
    wrong = reader.read_bytes(context.archive_root, key).replace(b"u1", b"u9")
    pack.write(path, {key: wrong}, version=3, cluster_file=None)
    [finding] = archive_check.check(context)
    assert (finding.kind, finding.reason) == ("broken", f"differs from the database, id {ids[key]}")
    assert [action.kind for action in archive_repair.repair(context)] == ["replaced"]
    assert list(archive_check.check(context)) == []
    assert packed(context) == {"packed": 1}
    assert list(archive_check.check(context)) == []


@pytest.mark.parametrize("content", [b"", b"x" * 5000, None], ids=["empty", "garbage", "half"])
def test_broken_pack_is_found_and_repaired_from_the_database(
    context: Context, ids: dict[JobKey, int], content: bytes | None
) -> None:
    former = documents(context.archive_root)
    packed(context)
    path = context.archive_root / "fritz" / "2025-06.sqlite"
    path.write_bytes(path.read_bytes()[: 3 * 32768] if content is None else content)
    findings = list(archive_check.check(context))
    assert {finding.kind for finding in findings} == {"broken"}
    assert findings[0].path == path
    actions = archive_repair.repair(context)
    assert Counter(action.kind for action in actions) == {"replaced": 2}
    path.unlink()
    assert documents(context.archive_root) == former
    assert ids


def test_conversion_includes_packs(context: Context, ids: dict[JobKey, int]) -> None:
    version1 = replace(context, archive_version=1)
    former = documents(context.archive_root)
    packed(context)
    assert Counter(move.kind for move in archive_conversion.convert(version1)) == {"converted": 10}
    assert all(b'"ccapi"' not in data for data in documents(context.archive_root).values())
    list(archive_conversion.convert(context))
    assert documents(context.archive_root) == former
    with sqlite3.connect(context.archive_root / "fritz" / "2025-06.sqlite") as conn:
        assert conn.execute("SELECT value FROM metadata").fetchall() == [("3",)]
    conn.close()
    assert ids


def test_readers_find_each_job_while_jobs_move(context: Context, ids: dict[JobKey, int]) -> None:
    former = documents(context.archive_root)
    end = threading.Event()

    def move() -> None:
        for _ in range(4):
            packed(context)
            unpacked(context)
        end.set()

    def read() -> None:
        while not end.is_set():
            for key, data in former.items():
                assert reader.exists(context.archive_root, key)
                assert reader.read_bytes(context.archive_root, key) == data

    at_once([move, read, read])
    assert ids


def test_interrupted_run_continues(context: Context, ids: dict[JobKey, int]) -> None:
    former = documents(context.archive_root)
    for steps in (1, 4, 7):
        moves = archive_packs.pack_months(context, BEFORE)
        for _ in range(steps):
            next(moves, None)
        del moves
        assert documents(context.archive_root) == former
        moves = archive_packs.unpack(context)
        next(moves)
        del moves
        assert documents(context.archive_root) == former
    packed(context)
    assert len(list(context.archive_root.rglob("meta.json"))) == 2
    assert ids


def test_empty_directory_of_an_interrupted_move_is_removed(
    context: Context, ids: dict[JobKey, int]
) -> None:
    packed(context)
    layout.meta_path(context.archive_root, next(iter(ids))).parent.mkdir(parents=True)
    left = context.archive_root / "fritz" / ".2025-06.sqlite.7.0123abcd"
    left.write_bytes(b"")
    assert packed(context) == {}
    assert not left.exists()
    assert list(archive_check.check(context)) == []
