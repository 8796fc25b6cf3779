import os
import signal
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from ccapi.embedded import Installation, PrivatePostgres, find_installations, private_postgres
from ccapi.embedded.account import server_account
from ccapi.errors import StartupError
from tests.embedded.support import (
    OWNER,
    as_root,
    eventually,
    is_alive,
    keep_a_row,
    pids_of_its_children,
    python,
    query,
    sleeping_as,
)

pytestmark = pytest.mark.slow


class TestServer:
    @pytest.mark.parametrize(
        "installation", find_installations(), ids=lambda one: f"PostgreSQL {one.major}"
    )
    def test_starts_with_each_installation(self, place: Path, installation: Installation) -> None:
        with PrivatePostgres(place / "new", installation) as server:
            assert server.owned
            assert str(query(server, "SHOW server_version_num"))[:2] == str(installation.major)
            assert (
                query(server, "SELECT current_user || '@' || current_database()") == "ccapi@ccapi"
            )
            assert query(server, "SHOW fsync") == "on"
        assert server.pid is None

    def test_keeps_its_data(self, used: Path) -> None:
        with private_postgres(used, durable=False) as first:
            keep_a_row(first)
        with private_postgres(used, durable=False) as second:
            assert query(second, "SELECT answer FROM kept") == 42

    def test_is_private_to_its_user_and_root(self, server: PrivatePostgres) -> None:
        assert query(server, "SHOW listen_addresses") == ""
        assert query(
            server, "SELECT array_agg(type || ' ' || auth_method) FROM pg_hba_file_rules"
        ) == ["local peer"]
        host = Path(str(conninfo_to_dict(server.url)["host"]))
        assert stat.S_IMODE(host.stat().st_mode) == 0o700

    def test_durability_is_optional(self, server: PrivatePostgres) -> None:
        assert query(server, "SHOW fsync") == "off"

    def test_accepts_settings(self, used: Path) -> None:
        with private_postgres(used, durable=False, settings={"work_mem": "7MB"}) as server:
            assert query(server, "SHOW work_mem") == "7MB"

    def test_ignores_a_broken_locale_and_settings_for_other_servers(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("LANG", "LC_ALL"):
            monkeypatch.setenv(name, "xx_XX.UTF-9")
        for name in ("PGDATA", "PGHOST", "PGPORT", "PGDATABASE", "PGUSER"):
            monkeypatch.setenv(name, "1")
        with private_postgres(place, durable=False) as server:
            assert query(server, "SELECT upper('é')") in {"É", "é"}

    def test_restarts_after_an_interrupted_initdb(self, place: Path) -> None:
        (place / "data.new").mkdir()
        (place / "data.new" / "PG_VERSION").write_text("15\n")
        with private_postgres(place, durable=False) as server:
            assert query(server, "SELECT 1") == 1
        assert not (place / "data.new").exists()

    def test_error_of_a_failed_start_has_the_log(self, used: Path) -> None:
        server = private_postgres(used, durable=False, settings={"shared_buffers": "plenty"})
        with pytest.raises(StartupError, match=r"invalid value .*shared_buffers.*plenty"):
            server.start()
        assert not server.owned

    def test_rejects_a_directory_with_other_files(self, place: Path) -> None:
        (place / "data").mkdir()
        (place / "data" / "thesis.tex").touch()
        with pytest.raises(StartupError, match="not empty"):
            private_postgres(place, durable=False).start()
        assert (place / "data" / "thesis.tex").exists()


class TestSecondCommand:
    def test_attaches_to_the_running_server(self, server: PrivatePostgres) -> None:
        with private_postgres(server.directory) as second:
            assert not second.owned
            assert second.pid == server.pid
            assert query(second, "SELECT 1") == 1
        assert query(server, "SELECT 1") == 1

    def test_waits_for_a_first_one_that_is_starting(self, place: Path) -> None:
        servers = [private_postgres(place, durable=False) for _ in range(3)]
        with ThreadPoolExecutor(len(servers)) as threads:
            list(threads.map(PrivatePostgres.start, servers))
            assert sorted(server.owned for server in servers) == [False, False, True]
            assert len({server.pid for server in servers}) == 1
            for server in servers:
                server.stop()


class TestAfterACrash:
    def test_killed_command_leaves_no_process(self, used: Path) -> None:
        with python(OWNER, used) as owner:
            assert owner.stdout is not None
            pid = int(owner.stdout.readline())
            attached = private_postgres(used)
            attached.start()
            keep_a_row(attached)
            pids = [pid, *pids_of_its_children(attached)]
            owner.kill()
        assert eventually(lambda: not any(map(is_alive, pids)), seconds=2)
        with private_postgres(used) as server:
            assert server.owned
            assert query(server, "SELECT answer FROM kept") == 42

    def test_start_after_a_killed_command_does_not_wait(self, used: Path) -> None:
        with python(OWNER, used) as owner:
            assert owner.stdout is not None
            assert is_alive(int(owner.stdout.readline()))
            owner.kill()
        with private_postgres(used) as server:
            assert server.owned
            assert query(server, "SELECT 1") == 1

    def test_foreign_process_with_the_servers_pid_is_ignored(self, used: Path) -> None:
        with private_postgres(used) as server:
            keep_a_row(server)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
        data = used / "data"
        with sleeping_as(data) as foreign:
            for lock in (data / "postmaster.pid", data / ".s.PGSQL.5432.lock"):
                lines = lock.read_text().splitlines()
                lock.write_text("\n".join((str(foreign), *lines[1:], "")))
            with private_postgres(used) as server:
                assert server.owned
                assert query(server, "SELECT answer FROM kept") == 42
            assert is_alive(foreign)

    def test_start_waits_for_processes_of_a_killed_server(self, used: Path) -> None:
        with private_postgres(used) as server:
            assert server.pid is not None
            straggler = max(pids_of_its_children(server))
            os.kill(straggler, signal.SIGSTOP)
            os.kill(server.pid, signal.SIGKILL)
        wake_up = threading.Timer(0.5, os.kill, (straggler, signal.SIGCONT))
        wake_up.start()
        with private_postgres(used) as server:
            assert not is_alive(straggler)
            assert query(server, "SELECT 1") == 1


class TestSocket:
    @pytest.mark.parametrize("name", ["x" * 120, "a,b"], ids=["long", "comma"])
    def test_is_in_tmp_if_libpq_cannot_use_its_path(self, place: Path, name: str) -> None:
        with private_postgres(place / name, durable=False) as server:
            host = Path(str(conninfo_to_dict(server.url)["host"]))
            assert host.parent == Path("/tmp")
            assert stat.S_IMODE(host.stat().st_mode) == 0o700
            assert query(server, "SELECT 1") == 1
        assert not host.exists()

    @pytest.mark.parametrize(
        ("mode", "is_of_the_server"),
        [(0o755, True), pytest.param(0o700, False, marks=as_root)],
        ids=["open", "of another user"],
    )
    def test_is_not_in_a_directory_of_others(
        self, place: Path, mode: int, *, is_of_the_server: bool
    ) -> None:
        server = private_postgres(place / ("x" * 120), durable=False)
        host = Path(str(conninfo_to_dict(server.url)["host"]))
        host.mkdir(mode)
        if is_of_the_server:
            server_account(place / "data").take_ownership(host)
        try:
            with pytest.raises(StartupError, match="is not a private directory"):
                server.start()
        finally:
            host.rmdir()
