"""The files that `ccapi deploy` writes."""

import os
import re
import runpy
import stat
from pathlib import Path

import psycopg
import pytest

from ccapi.config import Database, Server
from ccapi.db import pool
from tests.cli.conftest import Command, ccapi, environment
from tests.client import Client

__all__ = ["ccapi", "environment"]

NAME = "ccapi.example.org"
ROOT = Path(__file__).resolve().parents[2]
ROLE = (ROOT / "deploy" / "grafana" / "readonly-role.sql").read_text("utf-8")


def number(pattern: str, path: Path) -> float:
    """Return the number at a place in a file."""
    [digits] = re.findall(rf"^\s*{pattern}\s*$", path.read_text("utf-8"), re.MULTILINE)
    return float(digits)


def write(ccapi: Command, directory: Path, *options: str) -> Path:
    written = ccapi("deploy", str(directory), "--server-name", NAME, *options)
    assert written.status == 0, written.err
    return directory


def test_each_time_out_is_longer_than_what_it_waits_for(ccapi: Command, tmp_path: Path) -> None:
    files = write(ccapi, tmp_path / "out")
    limits = runpy.run_path(str(files / "gunicorn.conf.py"))
    defaults = Database()
    reading = number(r"proxy_read_timeout (\d+)s;", files / "nginx.conf")
    stopping = number(r"TimeoutStopSec=(\d+)", files / "ccapi.service")
    assert defaults.lock_timeout < defaults.statement_timeout < limits["timeout"] < reading
    assert defaults.connect_timeout + defaults.pool_timeout < limits["timeout"]
    assert limits["graceful_timeout"] < stopping


def test_pools_have_the_same_limits_and_their_own_workers(ccapi: Command, tmp_path: Path) -> None:
    files = write(ccapi, tmp_path / "out", "--workers", "3", "--readers", "5")
    pools = [runpy.run_path(str(files / f"gunicorn{pool}.conf.py")) for pool in ("", "-readers")]
    assert [pool.pop("workers") for pool in pools] == [3, 5]
    same = ("timeout", "graceful_timeout", "backlog", "limit_request_line", "worker_class")
    assert [pools[0][name] for name in same] == [pools[1][name] for name in same]


def test_memory_of_a_pool_suffices_for_a_reload(ccapi: Command, tmp_path: Path) -> None:
    files = write(ccapi, tmp_path / "out", "--workers", "3", "--readers", "5")
    for name, workers in (("ccapi", 3), ("ccapi-readers", 5)):
        unit = files / f"{name}.service"
        assert number(r"MemoryMax=(\d+)M", unit) > 2 * workers * 190
        assert "\nOOMPolicy=continue\n" in unit.read_text("utf-8")


def test_time_outs_and_limits_follow_the_settings(
    ccapi: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCAPI_DATABASE_STATEMENT_TIMEOUT", "600")
    monkeypatch.setenv("CCAPI_SERVER_MAX_BODY_BYTES", "4096")
    files = write(ccapi, tmp_path / "out")
    timeout = runpy.run_path(str(files / "gunicorn.conf.py"))["timeout"]
    assert 600 < timeout < number(r"proxy_read_timeout (\d+)s;", files / "nginx.conf")
    assert number(r"client_max_body_size (\d+);", files / "nginx.conf") == 4096


def test_nginx_refuses_before_gunicorn_does(ccapi: Command, tmp_path: Path) -> None:
    files = write(ccapi, tmp_path / "out")
    limits = runpy.run_path(str(files / "gunicorn.conf.py"))
    header = 1024 * number(r"large_client_header_buffers \d (\d+)k;", files / "nginx.conf")
    assert header < limits["limit_request_line"]
    body = number(r"client_max_body_size (\d+);", files / "nginx.conf")
    assert body <= Server().max_body_bytes


def test_files_that_are_there_are_replaced_by_force_only(ccapi: Command, tmp_path: Path) -> None:
    files = write(ccapi, tmp_path)
    (files / "nginx.conf").write_text("mine", "utf-8")
    refused = ccapi("deploy", str(tmp_path), "--server-name", NAME)
    assert refused.status == 2
    assert "nginx.conf" in refused.err
    assert "--force" in refused.err
    assert (files / "nginx.conf").read_text("utf-8") == "mine"
    write(ccapi, tmp_path, "--force")
    assert NAME in (files / "nginx.conf").read_text("utf-8")


def test_password_of_a_database_host_is_in_private_files_only(
    ccapi: Command, tmp_path: Path
) -> None:
    files = write(ccapi, tmp_path, "--database-host", "db.example.org")
    [password] = re.findall(r"ccapi:([\w-]{32})@db", (files / "database-url").read_text("utf-8"))
    for path in files.iterdir():
        secret = password in path.read_text("utf-8")
        assert stat.S_IMODE(path.stat().st_mode) == (0o600 if secret else 0o644)
        assert secret == (path.name in ("database-url", "database-host.sql"))


def test_a_local_database_needs_neither_password_nor_network(
    ccapi: Command, tmp_path: Path
) -> None:
    files = write(ccapi, tmp_path)
    assert not (files / "database-url").exists()
    assert "IPAddressDeny=any" in (files / "ccapi.service").read_text("utf-8")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--server-name", "a;b"),
        ("--server-name", "a b"),
        ("--server-name", ""),
        ("--archive", "/srv/$archive"),
        ("--archive", "relative"),
        ("--prefix", "/opt/a\n[Service]"),
        ("--user", "%h"),
        ("--https-port", "0"),
        ("--database-host", "db'; DROP"),
    ],
)
def test_what_has_a_meaning_in_the_files_is_refused(
    ccapi: Command, tmp_path: Path, option: str, value: str
) -> None:
    refused = ccapi("deploy", str(tmp_path / "out"), "--server-name", NAME, option, value)
    assert refused.status == 2
    assert not (tmp_path / "out").exists()


def test_a_directory_that_cannot_be_written_is_one_line(ccapi: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = ccapi("deploy", str(tmp_path / "file" / "below"), "--server-name", NAME)
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert os.strerror(20) in refused.err


def test_an_ipv6_address_is_a_name(ccapi: Command, tmp_path: Path) -> None:
    files = write(ccapi, tmp_path, "--database-host", "2001:db8::1")
    assert "@[2001:db8::1]/" in (files / "database-url").read_text("utf-8")


def test_the_readonly_role_reads_the_views_and_nothing_else(
    database: pool.Database, writer: Client
) -> None:
    writer.start(metaData={"jobName": "rotor"})
    with database.session() as conn, conn.transaction(force_rollback=True):
        # The test of the guide may have made the role on this server.
        conn.execute(ROLE.replace("grafana", "grafana_here").encode())
        conn.execute("SET LOCAL ROLE grafana_here")
        assert conn.execute("SELECT name FROM jobs_view").fetchall() == [("rotor",)]
        assert conn.execute("SELECT host FROM job_hosts_view").fetchall() == [("f0101",)]
        for query in (
            "SELECT meta_data FROM jobs",
            "SELECT * FROM tokens",
            "SELECT * FROM job_details",
            "DELETE FROM jobs",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
                conn.execute(query.encode())


def test_the_readonly_role_is_the_one_of_the_guide() -> None:
    guide = (ROOT / "docs" / "operating.rst").read_text("utf-8")
    statements = [line for line in ROLE.splitlines() if line and not line.startswith("--")]
    assert "".join(f"    {line}\n" for line in statements) in guide


def test_every_database_of_the_documents_has_the_locale_c() -> None:
    """Sorting then does not depend on the C library, whose upgrade would damage indexes."""
    texts = [path.read_text("utf-8") for path in (ROOT / "docs").glob("*.rst")]
    texts += [path.read_text("utf-8") for path in (ROOT / "deploy").glob("*.j2")]
    lines = [line for text in texts for line in text.splitlines()]
    commands = [line for line in lines if re.search(r"\bcreatedb --|CREATE DATABASE", line)]
    assert len(commands) >= 3
    assert [line for line in commands if not re.search(r"--locale=C\b|LOCALE 'C'", line)] == []


@pytest.mark.parametrize(("length", "status"), [(99, 0), (100, 2)])
def test_a_socket_has_a_path_that_linux_takes(
    ccapi: Command, tmp_path: Path, length: int, status: int
) -> None:
    socket = "/run/" + "x" * (length - 10) + ".sock"
    ended = ccapi("deploy", str(tmp_path / "site"), "--server-name", NAME, "--socket", socket)
    assert ended.status == status
    assert ended.err.count("\n") == status / 2


def test_only_our_services_log_without_a_rate_limit(ccapi: Command, tmp_path: Path) -> None:
    site = write(ccapi, tmp_path / "site")
    assert "RateLimit" not in (site / "journald.conf").read_text("utf-8")
    for unit in ("ccapi.service", "ccapi-readers.service"):
        assert "\nLogRateLimitIntervalSec=0\n" in (site / unit).read_text("utf-8")
