"""gunicorn with faults built in: started, killed, taken over and started again."""

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
from tests.processes import Service, free_port, wait_for

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
    ) -> None:
        self.port = free_port()
        self.log = directory / f"gunicorn-{self.port}.log"
        self._directory = directory
        self._pid_file = directory / f"gunicorn-{self.port}.pid"
        self._settings = dict(settings)
        self._options = ["--workers", str(workers), *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def service(self) -> Service:
        """Return the master that is in charge."""
        return Service(int(self._pid_file.read_text("ascii")), self.port)

    def start(self) -> None:
        """Start, and return when it answers; it ends with this process, whatever ends that."""
        who = (str(os.getpid()), str(os.geteuid()), str(os.getegid()))
        command = [sys.executable, "-I", "-S", launch.__file__, *who]
        # Not `python -m gunicorn`: SIGUSR2 would run that again as a script, in whose own
        # directory the module `http` is another one.
        command += [str(Path(sys.executable).with_name("gunicorn")), "--config", str(_CONFIG)]
        command += ["--bind", f"127.0.0.1:{self.port}"]
        command += ["--pid", str(self._pid_file), "--no-control-socket", "--graceful-timeout", "8"]
        command += [*self._options, "ccapi.app:application()"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CCAPI_")}
        self._pid_file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._directory,
                env={**kept, **self._settings},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(f"http://127.0.0.1:{self.port}/api/openapi.json")

    def kill_worker(self) -> None:
        """Kill -9 any worker; the master starts another."""
        with suppress(ProcessLookupError, IndexError):
            os.kill(random.choice(self.service.workers()), signal.SIGKILL)

    def kill_master(self) -> None:
        """Kill -9 the master alone."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(_END_SECONDS)

    def kill_group(self) -> None:
        """Kill -9 whatever is left of the group, as systemd does before a restart."""
        if self._process is None:
            return
        group = self._process.pid
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        _await(lambda: not is_group_alive(group), "gunicorn's processes do not end")

    def await_orphans(self, seconds: float) -> bool:
        """Tell whether the workers of a dead master end by themselves in time."""
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while is_group_alive(self._process.pid):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def reload(self) -> None:
        """Replace the workers one and all (SIGHUP); return when only new ones are left."""
        master = self.service
        old = set(master.workers())
        os.kill(master.pid, signal.SIGHUP)
        _await(lambda: not old & set(master.workers()), "SIGHUP does not replace the workers")

    def take_over(self) -> None:
        """Let a second gunicorn inherit the socket (SIGUSR2), and end the first (SIGTERM)."""
        old, second = self.service, self._pid_file.with_name(f"{self._pid_file.name}.2")
        workers = len(old.workers())
        os.kill(old.pid, signal.SIGUSR2)
        _await(second.exists, "SIGUSR2 starts no second gunicorn")
        new = Service(int(second.read_text("ascii")), self.port)
        _await(lambda: len(new.workers()) >= workers, "the second gunicorn has no workers")
        os.kill(old.pid, signal.SIGTERM)
        _await(lambda: not is_alive(old.pid), "the first gunicorn does not end")
        _await(lambda: self.service.pid == new.pid, "the second gunicorn does not take charge")

    def recycled(self) -> int:
        """Count the workers that ended because they had served their number of requests."""
        return self.log.read_bytes().count(b"Autorestarting worker")

    def stop(self) -> None:
        """End it gracefully, then whatever is left, so that nothing stays behind."""
        with suppress(OSError, ValueError):
            os.kill(self.service.pid, signal.SIGTERM)
        if self._process is not None:
            self.await_orphans(_END_SECONDS)
        self.kill_group()


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that waits to be collected does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def is_group_alive(group: int) -> bool:
    """Tell whether any process of a group runs."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if os.getpgid(int(entry.name)) == group and is_alive(int(entry.name)):
                    return True
    return False


def _await(condition: Callable[[], object], problem: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not _holds(condition):
        if time.monotonic() > deadline:
            raise TimeoutError(problem)
        time.sleep(0.02)


def _holds(condition: Callable[[], object]) -> bool:
    try:
        return bool(condition())
    except (OSError, ValueError):
        return False
