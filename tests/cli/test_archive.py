from pathlib import Path

import pytest

from ccapi.archive import layout
from ccapi.cli.params import format_utc
from ccapi.config import Config
from ccapi.context import Context
from ccapi.model.job import JobKey
from ccapi.service import archive_check
from tests.cli.conftest import Command
from tests.client import START, Client


@pytest.fixture(autouse=True)
def _no_recheck_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_check, "_RECHECK_DELAY_SECONDS", 0)


@pytest.fixture
def left_over(writer: Client, context: Context) -> Path:
    """Archive a job, fail to archive two others, and return the obstacle."""
    obstacle = context.archive_root / "fritz"
    obstacle.write_text("in the way")
    for number, cluster in ((1, "alex"), (2, "fritz"), (3, "fritz")):
        writer.start(jobId=number, cluster=cluster)
        writer.stop(jobId=number)
    return obstacle


def meta_path(context: Context, cluster: str, job_id: int) -> Path:
    return layout.meta_path(context.archive_root, JobKey(cluster, job_id, START))


def test_retry_archives_and_counts_pending_jobs(
    ccapi: Command, writer: Client, left_over: Path
) -> None:
    left_over.unlink()
    assert ccapi("archive", "retry") == (0, "archived 2, failed 0\n", "")
    assert {job["monitoringStatus"] for job in writer.list()} == {3}
    assert ccapi("archive", "retry") == (0, "archived 0, failed 0\n", "")


def test_failed_retry_exits_with_1(ccapi: Command, writer: Client, left_over: Path) -> None:
    status, out, _ = ccapi("archive", "retry")
    assert (status, out) == (1, "archived 0, failed 2\n")
    assert left_over.is_file()
    assert sorted(job["monitoringStatus"] for job in writer.list()) == [2, 2, 3]


def test_partly_failed_retry(ccapi: Command, context: Context, left_over: Path) -> None:
    left_over.unlink()
    directory = meta_path(context, "fritz", 2).parent
    directory.parent.mkdir(parents=True)
    directory.write_text("in the way")
    status, out, _ = ccapi("archive", "retry")
    assert (status, out) == (1, "archived 1, failed 1\n")


def test_check_without_findings(ccapi: Command, writer: Client, left_over: Path) -> None:
    left_over.unlink()
    writer.start(jobId=9)
    ccapi("archive", "retry")
    assert ccapi("archive", "check") == (0, "archive and database agree\n", "")


def test_check_prints_findings_and_a_summary(
    ccapi: Command, admin: Client, context: Context, left_over: Path
) -> None:
    left_over.unlink()
    ccapi("archive", "retry")
    admin.send("DELETE", "/delete_job/", {"jobId": 1})
    meta_path(context, "fritz", 2).write_bytes(b"{")
    meta_path(context, "fritz", 3).unlink()
    status, out, err = ccapi("archive", "check")
    broken, missing, orphaned, empty, summary = out.splitlines()
    assert (status, err) == (1, "")
    assert broken.startswith(f"broken   {meta_path(context, 'fritz', 2)}: ")
    assert missing.startswith(f"missing  {meta_path(context, 'fritz', 3)}: ")
    assert orphaned.startswith(f"orphaned {meta_path(context, 'alex', 1)}: ")
    assert empty == f"broken   {meta_path(context, 'fritz', 3).parent}: has no meta.json"
    assert summary == "2 broken, 1 missing, 1 orphaned"


def test_check_explains_jobs_that_are_not_archived(
    ccapi: Command, context: Context, left_over: Path
) -> None:
    status, out, _ = ccapi("archive", "check")
    assert status == 1
    assert left_over.is_file()
    hint = "not archived yet; run `ccapi archive retry`"
    assert out == (
        f"missing  {meta_path(context, 'fritz', 2)}: {hint}\n"
        f"missing  {meta_path(context, 'fritz', 3)}: {hint}\n"
        "2 missing\n"
    )


@pytest.mark.parametrize("command", ["check", "retry"])
def test_unreachable_database_is_one_line(
    ccapi: Command, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("CCAPI_DATABASE_URL", "postgresql:///ccapi?host=/nowhere")
    monkeypatch.setenv("CCAPI_DATABASE_POOL_TIMEOUT", "0.2")
    status, out, err = ccapi("archive", command)
    assert (status, out) == (2, "")
    assert err.startswith("ccapi: the database does not answer: ")
    assert err.count("\n") == 1


@pytest.mark.usefixtures("database")
def test_archive_of_another_version_is_one_line(ccapi: Command, context: Context) -> None:
    (context.archive_root / "version.txt").write_text("2\n")
    status, out, err = ccapi("archive", "retry")
    assert (status, out) == (2, "")
    assert err.startswith("ccapi: ")
    assert "version" in err
    assert err.count("\n") == 1


def test_pruned_jobs_are_quiet_until_their_records_are_discarded(
    ccapi: Command, writer: Client, context: Context, left_over: Path
) -> None:
    left_over.unlink()
    ccapi("archive", "retry")
    ccapi("jobs", "prune", "--before", str(START + 1))
    assert writer.list() == []
    assert ccapi("archive", "check") == (0, "archive and database agree\n", "")
    assert ccapi("archive", "repair", "--import")[:2] == (0, "pruned 3\n")
    meta_path(context, "fritz", 2).unlink()
    assert ccapi("archive", "check").out.splitlines()[-1] == "1 broken, 1 missing"
    status, out, _ = ccapi("archive", "discard-pruned", "--before", str(START + 1))
    assert (status, out) == (
        0,
        f"discarded the records of 3 pruned jobs that started before {format_utc(START + 1)}\n",
    )
    assert ccapi("archive", "repair", "--import").out.endswith("removed 1, imported 2\n")


def test_pruned_jobs_come_back_on_request(ccapi: Command, writer: Client, left_over: Path) -> None:
    left_over.unlink()
    ccapi("archive", "retry")
    ccapi("jobs", "prune", "--before", str(START + 1))
    assert ccapi("archive", "repair", "--with-pruned").status == 2
    status, out, _ = ccapi("archive", "repair", "--import", "--with-pruned")
    assert (status, out) == (0, "imported 3\n")
    assert len(writer.list()) == 3


def test_pack_and_unpack_count_their_moves(
    ccapi: Command, context: Context, left_over: Path
) -> None:
    left_over.unlink()
    ccapi("archive", "retry")
    status, out, _ = ccapi("archive", "pack", "--older-than", "30d", "--cluster", "fritz")
    assert (status, out) == (0, "packed 2\n")
    assert not meta_path(context, "fritz", 2).exists()
    assert ccapi("archive", "check") == (0, "archive and database agree\n", "")
    meta_path(context, "alex", 1).write_bytes(b"{")
    status, out, _ = ccapi("archive", "pack")
    bad, summary = out.splitlines()
    assert (status, summary) == (1, "bad 1")
    assert bad.startswith(f"bad {meta_path(context, 'alex', 1).parent}: is not JSON")
    assert ccapi("archive", "unpack", "--month", "2020-01")[:2] == (0, "nothing to move\n")
    assert ccapi("archive", "unpack", "--month", "June").status == 2
    assert ccapi("archive", "unpack")[:2] == (0, "unpacked 2\n")
    assert meta_path(context, "fritz", 2).exists()


@pytest.fixture
def version1(
    ccapi: Command, writer: Client, config: Config, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An archive of version 1 with one job, and settings that want version 3."""
    root = config.archive.root
    (root / "version.txt").write_text("1\n")
    monkeypatch.setenv("CCAPI_ARCHIVE_VERSION", "1")
    writer.start()
    writer.stop(jobState="stopped")
    monkeypatch.delenv("CCAPI_ARCHIVE_VERSION")
    return root


@pytest.mark.parametrize("command", [("check", "--startup"), ("archive", "retry")], ids=str)
def test_archive_of_another_version_names_the_command(
    ccapi: Command, version1: Path, command: tuple[str, ...]
) -> None:
    status, _, err = ccapi(*command)
    assert (status, err.count("\n")) == (1 if command[0] == "check" else 2, 1)
    assert "run `ccapi archive convert`, or change the setting" in err
    assert (version1 / "version.txt").read_text() == "1\n"


def test_convert_counts_files_and_the_archive_is_usable(ccapi: Command, version1: Path) -> None:
    done = "the archive has version 3: converted 1, unchanged 0, bad 0\n"
    status, out, _ = ccapi("archive", "convert")
    assert (status, out) == (0, done)
    assert ccapi("check") == (0, "ok: settings, file modes, database and archive\n", "")
    assert ccapi("archive", "check") == (0, "archive and database agree\n", "")
    status, out, _ = ccapi("archive", "convert")
    assert (status, out) == (0, "the archive has version 3: converted 0, unchanged 1, bad 0\n")


def test_convert_with_a_bad_file_exits_with_1(ccapi: Command, version1: Path) -> None:
    [path] = version1.rglob("meta.json")
    path.write_bytes(b"{")
    status, out, _ = ccapi("archive", "convert")
    bad, summary = out.splitlines()
    assert (status, bad.startswith(f"bad {path}: is not JSON")) == (1, True)
    assert summary == "the archive has version 3: converted 0, unchanged 0, bad 1"


def test_convert_without_an_archive_is_one_line(ccapi: Command, config: Config) -> None:
    (config.archive.root / "version.txt").unlink(missing_ok=True)
    status, out, err = ccapi("archive", "convert")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "version.txt" in err
