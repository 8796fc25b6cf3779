import sys
from pathlib import Path

import pytest

from ccapi.context import Context
from ccapi.service import archive_check
from tests.archive.fixtures import make_document, write_meta_json
from tests.cli.conftest import Command
from tests.client import Client, count


@pytest.fixture(autouse=True)
def _no_recheck_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_check, "_RECHECK_DELAY_SECONDS", 0)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another writer's archive: three jobs and a bad entry."""
    root = tmp_path / "other"
    for number in (1, 2, 3):
        write_meta_json(root, make_document(jobId=number))
    write_meta_json(root, b"{}", jobId=4)
    return root


@pytest.mark.usefixtures("context")
def test_repair_without_findings(ccapi: Command, writer: Client) -> None:
    writer.start()
    writer.stop()
    assert ccapi("archive", "repair") == (0, "nothing to repair\n", "")


def test_repair_prints_actions_and_a_summary(
    ccapi: Command, writer: Client, context: Context
) -> None:
    for number in (1, 2, 3):
        writer.start(jobId=number)
        writer.stop(jobId=number)
    missing, wrong, _ = sorted(context.archive_root.rglob("meta.json"))
    missing.unlink()
    wrong.write_bytes(b"{}")
    status, out, err = ccapi("archive", "repair")
    first, second, summary = out.splitlines()
    assert (status, err) == (0, "")
    assert first.startswith(f"archived {missing}: the database says that id ")
    assert second.startswith(f"replaced {wrong}: ")
    assert "; kept the former file as .meta.json.replaced-" in second
    assert summary == "archived 1, replaced 1"


def test_orphans_are_imported_only_on_request(
    ccapi: Command, admin: Client, context: Context
) -> None:
    admin.start()
    admin.stop()
    admin.send("DELETE", "/delete_job/", {"jobId": 123000})
    [path] = context.archive_root.rglob("meta.json")
    status, out, _ = ccapi("archive", "repair")
    assert (status, out) == (1, f"orphaned {path}: no such job in the database\norphaned 1\n")
    assert ccapi("archive", "repair", "--import")[:2] == (0, "imported 1\n")
    assert ccapi("archive", "repair", "--import")[:2] == (0, "already there 1\n")
    assert ccapi("archive", "check")[:2] == (0, "archive and database agree\n")


def test_other_archive_is_imported_without_its_bad_files(
    ccapi: Command, other: Path, reader: Client
) -> None:
    bad = other / "fritz" / "0" / "004" / "1768978339" / "meta.json"
    status, out, _ = ccapi("archive", "import", str(other))
    named, summary = out.splitlines()
    assert (status, summary) == (1, "imported 3, bad 1")
    assert named.startswith(f"bad {bad}: ")
    assert len(reader.list()) == 3
    assert ccapi("archive", "import", str(other))[1].endswith("already there 3, bad 1\n")
    assert ccapi("archive", "check")[:2] == (0, "archive and database agree\n")


@pytest.mark.parametrize("order", [("--dry-run", "--import"), ("--import", "--dry-run")])
def test_dry_run_changes_nothing(ccapi: Command, context: Context, order: tuple[str, ...]) -> None:
    write_meta_json(context.archive_root, make_document())
    assert ccapi("archive", "repair", *order)[:2] == (
        0,
        "dry run, nothing is changed: imported 1\n",
    )
    assert count(context.database, "jobs") == 0


@pytest.mark.usefixtures("context")
def test_missing_directory_is_one_line(ccapi: Command, tmp_path: Path) -> None:
    status, out, err = ccapi("archive", "import", str(tmp_path / "nowhere"))
    assert (status, out) == (2, "")
    assert err == f"ccapi: cannot import {tmp_path / 'nowhere'}: not a directory\n"


@pytest.mark.usefixtures("database")
def test_archive_of_another_version_is_not_changed(ccapi: Command, context: Context) -> None:
    (context.archive_root / "version.txt").write_text("2\n")
    status, out, err = ccapi("archive", "repair", "--import")
    assert (status, out) == (2, "")
    assert "only versions 1 and 3 can be written" in err


def test_progress_is_printed_on_a_terminal_only(
    ccapi: Command, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, err = ccapi("archive", "import", str(other))
    assert err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, _, err = ccapi("archive", "import", str(other))
    assert "4/4" in err
    assert "jobs/s" in err
