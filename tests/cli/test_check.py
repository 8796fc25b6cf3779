from pathlib import Path

import psycopg
import pytest

from ccapi.config import Config
from ccapi.db import migrations
from ccapi.embedded import PrivatePostgres
from tests.cli.conftest import Command
from tests.pgbouncer import needs_pgbouncer, pgbouncer

pytestmark = pytest.mark.usefixtures("database")


def test_check_is_ok(ccapi: Command) -> None:
    assert ccapi("check") == (0, "ok: settings, file modes, database and archive\n", "")


@needs_pgbouncer
def test_check_reports_a_connection_pooler(
    ccapi: Command, postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pgbouncer(postgres, "transaction", connections=1) as url:
        monkeypatch.setenv("CCAPI_DATABASE_URL", url)
        status, out, err = ccapi("check")
    assert (status, err) == (0, "")
    assert out == "ok: settings, file modes, database (behind a connection pooler) and archive\n"


def test_unreachable_database_is_one_line_with_advice(
    ccapi: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCAPI_DATABASE_URL", f"postgresql:///ccapi?host={tmp_path}")
    status, out, err = ccapi("check")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("ccapi: the database does not answer: ")
    assert err.endswith("check that PostgreSQL runs, and that [database] url is right\n")


def test_pending_migrations_are_reported(
    ccapi: Command, postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as conn:
        conn.execute("DROP DATABASE IF EXISTS unchecked")
        conn.execute("CREATE DATABASE unchecked")
    monkeypatch.setenv("CCAPI_DATABASE_URL", postgres.database_url("unchecked"))
    status, _, err = ccapi("check")
    assert (status, err.count("\n")) == (1, 1)
    assert err.endswith("run `ccapi migrate` first\n")


def test_unusable_replica_is_reported_but_allows_a_start(
    ccapi: Command, postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCAPI_DATABASE_POOL_TIMEOUT", "0.2")
    away = "postgresql:///ccapi?host=/nonexistent"
    for url, reason in (
        (away, "does not answer"),
        (postgres.database_url("postgres"), "migrations are missing"),
    ):
        monkeypatch.setenv("CCAPI_DATABASE_REPLICA_URL", url)
        status, out, err = ccapi("check")
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("ccapi: [database] replica_url: ")
        assert reason in err
        assert ccapi("check", "--startup").status == 0
    monkeypatch.setenv("CCAPI_DATABASE_REPLICA_URL", postgres.url)
    assert ccapi("check").status == 0


@pytest.mark.slow
def test_startup_check_fails_only_for_migrations(
    ccapi: Command, postgres: PrivatePostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCAPI_DATABASE_URL", f"postgresql:///ccapi?host={tmp_path}")
    status, _, err = ccapi("check", "--startup")
    assert (status, err.count("\n")) == (0, 1)
    monkeypatch.setenv("CCAPI_DATABASE_URL", postgres.database_url("postgres"))
    assert ccapi("check", "--startup").status == 1


def test_old_postgresql_is_one_line_with_advice(
    ccapi: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "MIN_SERVER_VERSION", 99)
    for arguments in (["check"], ["check", "--startup"], ["migrate"]):
        status, out, err = ccapi(*arguments)
        assert (status, out, err.count("\n")) == (1 if arguments[0] == "check" else 2, "", 1)
        assert err.startswith("ccapi: PostgreSQL ")
        assert "is too old: ccapi needs 99 or newer; upgrade it" in err


def test_impossible_archive_is_one_line_with_advice(
    ccapi: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CCAPI_ARCHIVE_ROOT", str(tmp_path / "file" / "archive"))
    status, out, err = ccapi("check")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "Not a directory; check [archive] root" in err


def test_more_connections_than_the_server_allows_are_reported(
    ccapi: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCAPI_DATABASE_POOL_SIZE", "5000")
    status, _, err = ccapi("check")
    assert (status, err.count("\n")) == (1, 1)
    assert "pool_size is 5000, and PostgreSQL allows " in err
    assert ccapi("check", "--startup").status == 0


def test_missing_settings_are_one_line(ccapi: Command, tmp_path: Path) -> None:
    status, _, err = ccapi("--config", str(tmp_path / "none.toml"), "check")
    assert (status, err.count("\n")) == (2, 1)
    assert err == (
        f"ccapi: {tmp_path / 'none.toml'}: cannot be read: No such file or directory; "
        "see that it exists, and that the service's user may read it\n"
    )


def test_all_problems_are_reported_at_once(
    ccapi: Command, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.archive.root.mkdir()
    (config.archive.root / "version.txt").write_text("7\n", "ascii")
    config.archive.root.chmod(0o777)
    monkeypatch.setenv("CCAPI_DATABASE_URL", f"postgresql:///ccapi?host={tmp_path}")
    status, _, err = ccapi("check")
    assert (status, err.count("\n")) == (1, 3)
    for words in ("chmod o-w", "PostgreSQL runs", "only versions 1 and 3"):
        assert words in err


def test_invalid_setting_is_one_line(ccapi: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCAPI_JOBS_DUPLICATE_WINDOW", "soon")
    status, _, err = ccapi("check")
    assert (status, err.count("\n")) == (2, 1)
    assert "CCAPI_JOBS_DUPLICATE_WINDOW: expected an integer" in err
