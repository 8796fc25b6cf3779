"""A check of an archive, half of it pruned and half packed, names exactly the faults in it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ccapi.archive import layout, pack, reader, writer
from ccapi.context import Context
from ccapi.model.job import JobKey
from ccapi.repository import bulk_insert
from ccapi.service import archive_check, archive_packs, deletion
from tests.archive.fixtures import make_job

JULY, AUGUST = 1_751_328_000, 1_754_006_400
NUM_JOBS = 40


def keys(start: int, numbers: range) -> list[JobKey]:
    return [JobKey("large", number, start + number) for number in numbers]


# Those of July are packed; the ones with the smaller numbers of each month are pruned.
PACKED_PRUNED, PACKED = keys(JULY, range(1, 11)), keys(JULY, range(11, 21))
TREE_PRUNED, TREE = keys(AUGUST, range(1, 11)), keys(AUGUST, range(11, 21))


@pytest.fixture
def archive(context: Context, monkeypatch: pytest.MonkeyPatch) -> Context:
    """An archive of forty jobs without faults."""
    monkeypatch.setattr(archive_check, "_RECHECK_DELAY_SECONDS", 0)
    monkeypatch.setattr(archive_check, "_BATCH_SIZE", 7)
    pruned, others = [*PACKED_PRUNED, *TREE_PRUNED], [*PACKED, *TREE]
    for part in (pruned, others):
        made = [
            make_job(job_id=key.job_id, start_time=key.start_time, stop_time=key.start_time + 60)
            for key in part
        ]
        with context.database.transaction() as conn:
            bulk_insert.import_finished(conn, made)
        for job in made:
            writer.write(context.archive_root, job)
        if part is pruned:
            assert sum(deletion.prune(context, AUGUST + 100)) == len(pruned)
    moves = list(archive_packs.pack_months(context, AUGUST + 100))
    assert len(moves) == NUM_JOBS // 2
    assert list(archive_check.check(context)) == []
    return context


def pack_path(root: Path) -> Path:
    return root / "large" / "2025-07.sqlite"


def meta_path(root: Path, key: JobKey) -> Path:
    return layout.meta_path(root, key)


def remove_packed(root: Path, key: JobKey) -> Path:
    pack.remove(pack_path(root), [key])
    return meta_path(root, key)


def spoil_packed(root: Path, key: JobKey) -> Path:
    wrong = reader.read_bytes(root, key).replace(b"abcd100h", b"mallory1")
    pack.write(pack_path(root), {key: wrong}, version=3, cluster_file=None)
    return meta_path(root, key)


def add_packed(root: Path, key: JobKey) -> Path:
    data = reader.read_bytes(root, PACKED[-1])
    pack.write(pack_path(root), {key: data}, version=3, cluster_file=None)
    return meta_path(root, key)


def remove_file(root: Path, key: JobKey) -> Path:
    writer.remove_run(root, key)
    return meta_path(root, key)


def spoil_file(root: Path, key: JobKey) -> Path:
    path = meta_path(root, key)
    path.write_bytes(path.read_bytes().replace(b"abcd100h", b"mallory1"))
    return path


def cut_file(root: Path, key: JobKey) -> Path:
    path = meta_path(root, key)
    path.write_bytes(path.read_bytes()[:-1])
    return path


def add_file(root: Path, key: JobKey) -> Path:
    writer.write_bytes(root, key, reader.read_bytes(root, TREE[-1]))
    return meta_path(root, key)


def add_empty_directory(root: Path, key: JobKey) -> Path:
    meta_path(root, key).parent.mkdir(parents=True)
    return meta_path(root, key).parent


FAULTS: list[tuple[str, Callable[[Path, JobKey], Path], JobKey]] = [
    ("missing", remove_packed, PACKED_PRUNED[3]),
    ("missing", remove_packed, PACKED[3]),
    ("missing", remove_file, TREE_PRUNED[5]),
    ("missing", remove_file, TREE[5]),
    ("broken", spoil_packed, PACKED[6]),
    ("broken", spoil_file, TREE[7]),
    ("broken", cut_file, TREE[8]),
    ("broken", add_empty_directory, JobKey("large", 5000, AUGUST)),
    ("orphaned", add_packed, JobKey("large", 6000, JULY)),
    ("orphaned", add_file, JobKey("large", 7000, AUGUST)),
]


def test_ten_faults_are_named_and_nothing_else(archive: Context) -> None:
    expected = {(kind, plant(archive.archive_root, key)) for kind, plant, key in FAULTS}
    findings = [finding[:2] for finding in archive_check.check(archive)]
    assert sorted(findings) == sorted(expected)


@pytest.mark.parametrize(
    ("kind", "plant", "key"),
    FAULTS,
    ids=[f"{plant.__name__}-{key.job_id}" for _, plant, key in FAULTS],
)
def test_one_fault_is_named(
    archive: Context, kind: str, plant: Callable[[Path, JobKey], Path], key: JobKey
) -> None:
    path = plant(archive.archive_root, key)
    assert [finding[:2] for finding in archive_check.check(archive)] == [(kind, path)]
