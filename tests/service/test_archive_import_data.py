"""What an import does with measured data, bad metrics, and the true values of version 3."""

import os
from pathlib import Path
from typing import Any

import pytest

from ccapi.context import Context
from ccapi.errors import ArchiveError
from ccapi.service import archive_check
from ccapi.service.archive_import import RepairAction
from tests.archive.fixtures import make_document, write_meta_json
from tests.client import Client
from tests.service.test_archive_import import kinds, newer, run


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_check, "_RECHECK_DELAY_SECONDS", 0)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An archive of another writer with three jobs."""
    root = tmp_path / "other-archive"
    for number in range(1, 4):
        write_meta_json(root, make_document(jobId=number * 700))
    return root


@pytest.mark.parametrize("name", ["data.json.gz", "data.json"])
def test_measured_data_of_another_archive_is_copied_along(
    context: Context, tree: Path, name: str
) -> None:
    data = next(tree.rglob("meta.json")).with_name(name)
    data.write_bytes(b"\x1f\x8b" * 100_000)
    data.with_name("other").write_bytes(b"")
    (tree / "fritz" / "cluster.json").write_text("{}")
    assert kinds(run(context, tree)) == {"imported": 3}
    ours = context.archive_root / data.relative_to(tree)
    assert ours.read_bytes() == data.read_bytes()
    assert sorted(path.name for path in ours.parent.iterdir()) == sorted([name, "meta.json"])
    assert (context.archive_root / "fritz" / "cluster.json").read_text() != "{}"


def test_measured_data_in_our_archive_is_not_replaced(context: Context, tree: Path) -> None:
    data = next(tree.rglob("meta.json")).with_name("data.json.gz")
    data.write_bytes(b"theirs")
    ours = context.archive_root / data.relative_to(tree)
    ours.parent.mkdir(parents=True)
    ours.write_bytes(b"ours")
    run(context, tree)
    assert ours.read_bytes() == b"ours"


@pytest.mark.parametrize("obstacle", ["link", "pipe"])
def test_only_regular_files_of_measured_data_are_copied(
    context: Context, tree: Path, tmp_path: Path, obstacle: str
) -> None:
    data = next(tree.rglob("meta.json")).with_name("data.json.gz")
    if obstacle == "pipe":
        os.mkfifo(data)
        assert kinds(run(context, tree)) == {"imported": 3}
    else:
        data.symlink_to(tmp_path)
        with pytest.raises(ArchiveError, match=r"cannot copy .*data\.json\.gz"):
            run(context, tree)
    assert list(context.archive_root.rglob("data*")) == []


BAD_METRICS: dict[str, Any] = {
    "negative": {"unit": {"base": "W"}, "avg": -1, "min": 0, "max": 1},
    "text": {"unit": {"base": "W"}, "avg": "1"},
    "list": [{"name": "scratch", "type": "nfs"}],
    "unit": {"unit": {"prefix": "G"}},
}


@pytest.mark.parametrize("name", BAD_METRICS)
def test_bad_metric_is_left_out_and_the_job_is_not(
    context: Context, reader: Client, tmp_path: Path, name: str
) -> None:
    good = {"unit": {"base": "W"}, "avg": 1, "min": 0, "max": 2.5}
    metrics = {"good": good, "bad": BAD_METRICS[name]}
    path = write_meta_json(tmp_path / "other", newer(statistics=metrics))
    reason = "without the bad metrics 'bad'"
    assert run(context, tmp_path / "other") == [RepairAction("imported", path, reason)]
    [job] = reader.list()
    assert job["statistics"] == {"good": {**good, "unit": "W"}}
    assert list(archive_check.check(context)) == []


def test_orphan_without_its_bad_metric_replaces_the_file(context: Context) -> None:
    metrics = {"statistics": {"bad": BAD_METRICS["negative"]}}
    path = write_meta_json(context.archive_root, newer(**metrics))
    former = path.read_bytes()
    assert kinds(run(context, context.archive_root)) == {"imported": 1, "replaced": 1}
    assert list(archive_check.check(context)) == []
    [backup] = path.parent.glob(".meta.json.replaced-*")
    assert backup.read_bytes() == former


@pytest.mark.parametrize(("field", "value"), [("jobState", "stopped"), ("subCluster", "")])
def test_true_value_of_version_3_is_imported(
    context: Context, reader: Client, tmp_path: Path, field: str, value: str
) -> None:
    write_meta_json(tmp_path / "other", {**newer(), "ccapi": {field: value}})
    assert kinds(run(context, tmp_path / "other")) == {"imported": 1}
    assert [job[field] for job in reader.list()] == [value]
    assert list(archive_check.check(context)) == []
