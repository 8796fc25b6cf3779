"""A gunicorn with injected faults, which tests kill, reload and replace."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ccapi.embedded import launch
from tests.processes import Service, clean_environment, free_port, wait_for

_CONFIG = Path(__file__).with_name("injection.py")
_END_SECONDS = 10


class Gunicorn:
    """A service on a port of its own; its processes form one process group."""

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str],
        *,
        workers: int = 4,
        options: Sequence[str] = (),
        wrapper: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self.log = directory / f"gunicorn-{self.port}.log"
        self._directory = directory
        self._pid_file = directory / f"gunicorn-{self.port}.pid"
        self._settings = dict(settings)
        self._options = ["--workers", str(workers), *options]
        self._wrapper = wrapper
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def service(self) -> Service:
        """Return the current master."""
        return Service(int(self._pid_file.read_text("ascii")), self.port)

    def start(self) -> None:
        """Start, and wait for the first answer; it ends with this process."""
        process = (str(os.getpid()), str(os.geteuid()), str(os.getegid()))
        command = [sys.executable, "-I", "-S", launch.__file__, *process, *self._wrapper]
        # Not `python -m gunicorn`: after SIGUSR2 it would run as a script, and import
        # gunicorn's own module `http`.
        command += [str(Path(sys.executable).with_name("gunicorn")), "--config", str(_CONFIG)]
        command += ["--bind", f"127.0.0.1:{self.port}"]
        command += ["--pid", str(self._pid_file), "--no-control-socket", "--graceful-timeout", "8"]
        command += [*self._options, "ccapi.app:application()"]
        self._pid_file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._directory,
                env={**clean_environment(), **self._settings},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(f"http://127.0.0.1:{self.port}/api/openapi.json")

    def kill_worker(self) -> None:
        """Kill -9 a random worker; the master starts another."""
        with suppress(ProcessLookupError, IndexError):
            os.kill(random.choice(self.service.workers()), signal.SIGKILL)

    def kill_master(self) -> None:
        """Kill -9 the master, but not its workers."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(_END_SECONDS)

    def kill_group(self) -> None:
        """Kill -9 the rest of the group, as systemd does before a restart."""
        if self._process is None:
            return
        group = self._process.pid
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        _await(lambda: not is_group_alive(group), "gunicorn's processes do not end")

    def await_orphans(self, seconds: float) -> bool:
        """Return whether the workers of a dead master end by themselves in time."""
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while is_group_alive(self._process.pid):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def reload(self) -> None:
        """Replace all workers (SIGHUP), and wait until the old ones have ended."""
        master = self.service
        old = set(master.workers())
        os.kill(master.pid, signal.SIGHUP)
        _await(lambda: not old & set(master.workers()), "SIGHUP does not replace the workers")

    def take_over(self) -> None:
        """Let a second gunicorn inherit the socket (SIGUSR2), and end the first (SIGTERM)."""
        old, second = self.service, self._pid_file.with_name(f"{self._pid_file.name}.2")
        workers = len(old.workers())
        os.kill(old.pid, signal.SIGUSR2)
        _await(second.exists, "SIGUSR2 does not start a second gunicorn")
        new = Service(int(second.read_text("ascii")), self.port)
        _await(lambda: len(new.workers()) >= workers, "the second gunicorn has no workers")
        os.kill(old.pid, signal.SIGTERM)
        _await(lambda: not is_alive(old.pid), "the first gunicorn does not end")
        _await(lambda: self.service.pid == new.pid, "the second gunicorn does not take charge")

    def recycled(self) -> int:
        """Count the workers that ended because of --max-requests."""
        return self.log.read_bytes().count(b"Autorestarting worker")

    def stop(self) -> None:
        """End gracefully, then kill the rest."""
        with suppress(OSError, ValueError):
            os.kill(self.service.pid, signal.SIGTERM)
        if self._process is not None:
            self.await_orphans(_END_SECONDS)
        self.kill_group()


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def is_group_alive(group: int) -> bool:
    """Return whether any process of a group runs."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if os.getpgid(int(entry.name)) == group and is_alive(int(entry.name)):
                    return True
    return False


def _await(condition: Callable[[], object], problem: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not _is_true(condition):
        if time.monotonic() > deadline:
            raise TimeoutError(problem)
        time.sleep(0.02)


def _is_true(condition: Callable[[], object]) -> bool:
    try:
        return bool(condition())
    except (OSError, ValueError):
        return False
