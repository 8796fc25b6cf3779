"""Export of the archive as Parquet; without pyarrow most tests are skipped."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ccapi.archive import layout, parquet, writer
from ccapi.context import Context
from ccapi.errors import ArchiveError, StartupError
from ccapi.service import archive_export, archive_packs
from tests.archive.fixtures import START, make_job
from tests.archive.test_meta_json import FULL_JOB


@pytest.fixture
def archived(context: Context) -> Context:
    """An archive of three jobs, two of them packed."""
    for job in (FULL_JOB, make_job(job_id=7, sub_cluster=""), make_job(cluster="alex")):
        writer.write(context.archive_root, job)
    moves = list(archive_packs.pack_months(context, START + 40 * 86_400, "large"))
    assert len(moves) == 2
    return context


def export(context: Context, path: Path, cluster: str | None = None) -> list[str]:
    problems: list[str] = []
    archive_export.export_parquet(context, path, cluster, problems.append)
    return problems


def test_file_has_a_row_for_each_job(archived: Context, tmp_path: Path) -> None:
    pyarrow_parquet = pytest.importorskip("pyarrow.parquet")
    assert export(archived, tmp_path / "jobs.parquet") == []
    rows = pyarrow_parquet.read_table(tmp_path / "jobs.parquet").to_pylist()
    [row] = [row for row in rows if row["num_acc"] == 4]
    assert len(rows) == 3
    assert row["started_at"] == datetime.fromtimestamp(FULL_JOB.start_time, UTC)
    assert (row["hosts"], row["name"]) == (["f0101", "f0102"], 'a "name"')
    assert row["tags"] == ["Debug:Testjob", "Performance:slow"]
    assert (row["state"], row["exclusive"], row["energy"]) == (FULL_JOB.job_state, 2, 7.5)
    assert json.loads(row["footprint"]) == {"mem_bw_avg": 1.5}
    assert {row["sub_cluster"] for row in rows} == {"main", ""}
    assert {row["requested_memory"] for row in rows} == {128_000, None}


def test_columns_are_those_of_the_view(archived: Context, tmp_path: Path) -> None:
    pyarrow_parquet = pytest.importorskip("pyarrow.parquet")
    export(archived, tmp_path / "jobs.parquet")
    columns = set(pyarrow_parquet.read_schema(tmp_path / "jobs.parquet").names)
    with archived.database.connection() as conn:
        view = {column.name for column in conn.execute("SELECT * FROM jobs_view").description or ()}
    assert columns == view - {"id"} | {
        "hosts", "tags", "meta_data", "statistics", "footprint", "energy_footprint"
    }  # fmt: skip


def test_export_of_a_cluster(archived: Context, tmp_path: Path) -> None:
    pyarrow_parquet = pytest.importorskip("pyarrow.parquet")
    export(archived, tmp_path / "jobs.parquet", "alex")
    rows = pyarrow_parquet.read_table(tmp_path / "jobs.parquet").to_pylist()
    assert [row["cluster"] for row in rows] == ["alex"]


def test_bad_file_is_reported_and_left_out(archived: Context, tmp_path: Path) -> None:
    pyarrow_parquet = pytest.importorskip("pyarrow.parquet")
    layout.meta_path(archived.archive_root, make_job(cluster="alex").key).write_bytes(b"{")
    [problem] = export(archived, tmp_path / "jobs.parquet")
    assert problem.startswith(f"alex, jobId 1034871, startTime {START}: is not JSON")
    assert pyarrow_parquet.read_metadata(tmp_path / "jobs.parquet").num_rows == 2


def test_failed_export_leaves_no_file(archived: Context, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow.parquet")
    with pytest.raises(ArchiveError, match="cannot write"):
        export(archived, tmp_path / "not" / "there.parquet")
    (tmp_path / "directory").mkdir()
    with pytest.raises(ArchiveError, match="cannot write"):
        export(archived, tmp_path / "directory")
    assert not list(tmp_path.glob(".*"))


def test_missing_pyarrow_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(StartupError, match=r"install ccapi\[parquet\]"):
        parquet.write(tmp_path / "jobs.parquet", [])
