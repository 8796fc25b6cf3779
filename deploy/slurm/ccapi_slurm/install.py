"""Install hooks and sender beside slurmctld, upgrade and remove them; all of it can be repeated."""

import contextlib
import os
import pwd
import random
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Optional

from ccapi_slurm import settings
from ccapi_slurm.client import Client
from ccapi_slurm.settings import Settings
from ccapi_slurm.spool import Spool, replace

_SOURCE = Path(__file__).resolve().parent.parent
_SCRIPTS = ("prolog", "epilog", "jobcomp", "ccapi-slurm")
_FILES = ("spool.sh", "example.conf", "ccapi-slurm.service")
_PACKAGE = "ccapi_slurm"
_UNIT = "ccapi-slurm.service"
_SYSTEMD = Path("/run/systemd/system")
# Their tests run on real ones.
_OLDEST, _NEWEST = (22, 5), (26, 5)
_UNSET = {"", "(null)", "none"}
_START_SECONDS = 15.0
_CHECK_SECONDS = 60.0


class InstallError(Exception):
    """The installation cannot go on; the message says what to do."""


class Slurm(NamedTuple):
    """What slurmctld's configuration says."""

    values: Mapping[str, str]

    @property
    def user(self) -> str:
        """Return the name of Slurm's user."""
        return self.values.get("SlurmUser", "").partition("(")[0]

    @property
    def version(self) -> tuple[int, ...]:
        """Return the first two numbers of the version."""
        numbers = re.findall(r"[0-9]+", self.values.get("SLURM_VERSION", ""))
        return tuple(int(number) for number in numbers[:2])

    def path(self, name: str) -> str:
        """Return a setting that is a path, "" if it is not set."""
        value = self.values.get(name, "")
        return "" if value in _UNSET else value


class Options(NamedTuple):
    """The options of the command line; None leaves a setting as it is."""

    directory: Path
    url: Optional[str] = None
    cluster: Optional[str] = None
    token_file: Optional[Path] = None


def read_slurm() -> Slurm:
    """Ask slurmctld for its configuration; raises InstallError."""
    try:
        process = _run(["scontrol", "show", "config"], {**os.environ, "LC_ALL": "C"})
    except (OSError, subprocess.SubprocessError) as error:
        raise InstallError(f"cannot run scontrol, install on slurmctld's host: {error}") from error
    if process.returncode:
        raise InstallError(f"slurmctld does not answer: {process.stderr.strip():.200}")
    pairs = (line.partition("=") for line in process.stdout.splitlines())
    slurm = Slurm({name.strip(): value.strip() for name, _, value in pairs})
    if not slurm.user:
        raise InstallError("scontrol show config reports no SlurmUser")
    return slurm


def install(slurm: Slurm, options: Options) -> Iterator[str]:
    """Copy the files, write settings, token and unit, start the sender; yield what to print.

    Settings and token of an earlier installation stay, unless the options change them. Raises
    InstallError and OSError.
    """
    name = slurm.values.get("SLURM_VERSION", "")
    if not _OLDEST <= slurm.version <= _NEWEST:
        yield f"Slurm {name} is not among the tested versions, 22.05 to 26.05"
    owner = _slurm_owner(slurm.user)
    directory = options.directory
    copy_files(directory)
    write_settings(slurm, options)
    write_token(options, owner)
    try:
        config = settings.load(directory / "ccapi.conf")
    except settings.SettingsError as error:
        raise InstallError(str(error)) from error
    if not config.token_file.exists():
        raise InstallError(f"there is no token in {config.token_file}, add --token-file FILE")
    yield f"installed in {directory} for Slurm {name}, whose user is {slurm.user}"
    problem = Client(config).check()
    yield f"ccapi: {problem}" if problem else f"ccapi: {config.url} accepts the token"
    yield from start_sender(directory, config, owner)
    yield from missing_lines(slurm, directory)


def check(slurm: Slurm, directory: Path) -> str:
    """Send a test event through hook, spool and sender; return what is wrong, "" if nothing is.

    Raises InstallError and OSError.
    """
    try:
        config = settings.load(directory / "ccapi.conf")
    except settings.SettingsError as error:
        raise InstallError(str(error)) from error
    spool = Spool(config.spool, config.slurm_state)
    # systemd does not wait until the sender that it has just restarted is ready.
    deadline = time.monotonic() + (_START_SECONDS if _SYSTEMD.exists() else 0)
    while not spool.is_locked():
        if time.monotonic() >= deadline:
            return "no sender is running: look at `systemctl status ccapi-slurm`"
        time.sleep(0.2)
    spool.check_result.unlink(missing_ok=True)
    number = random.randrange(1_900_000_000, 2_000_000_000)  # noqa: S311 - not a secret
    environment = {"SLURM_JOB_ID": str(number), "CCAPI_CHECK": str(number)}
    command = _as_user(_slurm_owner(slurm.user), [str(directory / "epilog")])
    if _run(command, environment).returncode:
        return f"{' '.join(command)} failed"
    names = [name for name in spool.events() if name.startswith(f"{number}-")]
    deadline = time.monotonic() + _CHECK_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            sent, _, problem = spool.check_result.read_text("utf-8").partition(" ")
            if sent == str(number):
                return problem
        time.sleep(0.2)
    if not names:
        return f"the hook wrote no event into {config.spool}: look for ccapi-slurm in syslog"
    return f"the sender did not send the test event within {_CHECK_SECONDS:.0f} seconds"


def uninstall(slurm: Optional[Slurm], directory: Path, *, forced: bool) -> Iterator[str]:
    """Stop the sender, and remove files and spool; yield what to print.

    Raises InstallError while slurm.conf uses the hooks or, unless forced, events are waiting.
    """
    if slurm is not None:
        names = ("PrologSlurmctld", "EpilogSlurmctld", "JobCompLoc")
        used = [name for name in names if slurm.path(name).startswith(f"{directory}/")]
        if used:
            raise InstallError(f"first remove {', '.join(used)} from slurm.conf, restart slurmctld")
    with contextlib.suppress(settings.SettingsError):
        config = settings.load(directory / "ccapi.conf")
        spool = Spool(config.spool, config.slurm_state)
        waiting = len(spool.events()) + len(spool.dead_letters())
        if waiting and not forced:
            raise InstallError(f"{waiting} events are in {config.spool}; --force deletes them")
        if _SYSTEMD.exists():
            _systemctl("disable", "--now", "--quiet", _UNIT)
        if spool.is_locked():
            raise InstallError("the sender is running, stop it first")
        shutil.rmtree(config.spool, ignore_errors=True)
        yield f"removed {config.spool}"
    shutil.rmtree(directory)
    yield f"removed {directory}"


def _slurm_owner(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise InstallError(f"there is no user {user}, who is SlurmUser, on this host") from None


def copy_files(directory: Path) -> None:
    """Copy hooks and sender, each file atomically, and remove modules of an earlier version."""
    if directory.resolve() == _SOURCE:
        return
    (directory / _PACKAGE).mkdir(mode=0o755, parents=True, exist_ok=True)
    modules = [f"{_PACKAGE}/{path.name}" for path in (_SOURCE / _PACKAGE).glob("*.py")]
    for name in (*_SCRIPTS, *_FILES, *modules):
        text = (_SOURCE / name).read_text("utf-8")
        replace(directory / name, text, 0o755 if name in _SCRIPTS else 0o644)
    for path in (directory / _PACKAGE).glob("*.py"):
        if f"{_PACKAGE}/{path.name}" not in modules:
            path.unlink()


def write_settings(slurm: Slurm, options: Options) -> None:
    """Write ccapi.conf, or change the settings that the options name."""
    path = options.directory / "ccapi.conf"
    changes = {"CCAPI_URL": options.url, "CCAPI_CLUSTER": options.cluster}
    values = {name: value for name, value in changes.items() if value}
    lines: list[str] = []
    if path.exists():
        text = path.read_text("utf-8")
        lines = [line for line in text.splitlines() if line.partition("=")[0] not in values]
    else:
        if options.url is None:
            raise InstallError("add --url https://ccapi.example.org/api/jobs")
        state = slurm.path("StateSaveLocation")
        defaults = {
            "CCAPI_CLUSTER": slurm.values.get("ClusterName", ""),
            "CCAPI_SLURM_STATE": state if Path(state).is_absolute() else "",
            "SLURM_CONF": os.environ.get("SLURM_CONF", ""),
        }
        scontrol = shutil.which("scontrol")
        if scontrol and shutil.which("scontrol", path=settings.DEFAULT_PATH) is None:
            defaults["PATH"] = f"{Path(scontrol).parent}:{settings.DEFAULT_PATH}"
        values = {**{name: value for name, value in defaults.items() if value}, **values}
    lines += [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    replace(path, "".join(f"{line}\n" for line in lines), 0o644)


def write_token(options: Options, owner: pwd.struct_passwd) -> None:
    """Write the token so that only Slurm's user can read it."""
    if options.token_file is None:
        return
    path = options.directory / "token"
    replace(path, options.token_file.read_text("utf-8").strip() + "\n", 0o400)
    os.chown(path, owner.pw_uid, owner.pw_gid)


def start_sender(directory: Path, config: Settings, owner: pwd.struct_passwd) -> Iterator[str]:
    """Write the unit for Slurm's user, and start or restart it where systemd runs."""
    unit = directory / _UNIT
    text = (_SOURCE / _UNIT).read_text("utf-8").replace("/etc/slurm/ccapi", str(directory))
    group = owner.pw_gid
    text = re.sub(r"^User=.*$", f"User={owner.pw_name}", text, flags=re.M)
    replace(unit, re.sub(r"^Group=.*$", f"Group={group}", text, flags=re.M), 0o644)
    if _SYSTEMD.exists():
        _systemctl("enable", "--quiet", str(unit))
        _systemctl("daemon-reload")
        _systemctl("restart", _UNIT)
        yield "the sender is running: systemctl status ccapi-slurm"
        return
    config.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chown(config.spool, owner.pw_uid, group)
    start = shlex.join(_as_user(owner, [str(directory / "ccapi-slurm")]))
    yield f"there is no systemd here, start the sender with: {start}"


def _systemctl(*arguments: str) -> None:
    """Run systemctl; raises InstallError."""
    process = _run(["systemctl", *arguments], {**os.environ, "LC_ALL": "C"})
    if process.returncode:
        raise InstallError(f"systemctl {arguments[0]} failed: {process.stderr.strip():.300}")


def _run(command: list[str], environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - fixed words; the administrator's PATH finds the program
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def _as_user(owner: pwd.struct_passwd, command: list[str]) -> list[str]:
    """Return a command that the user runs, whoever we are."""
    if os.geteuid() == owner.pw_uid:
        return command
    identity = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    return ["/usr/bin/setpriv", *identity, *command]


def missing_lines(slurm: Slurm, directory: Path) -> Iterator[str]:
    """Yield the lines that slurm.conf needs, and what to do with them."""
    lines: list[str] = []
    others: list[str] = []
    paths = {"PrologSlurmctld": f"{directory}/prolog"}
    comp_type = slurm.values.get("JobCompType", "")
    if comp_type in {"jobcomp/none", *_UNSET}:
        lines += ["JobCompType=jobcomp/script", f"JobCompLoc={directory}/jobcomp"]
    elif (comp_type, slurm.path("JobCompLoc")) != ("jobcomp/script", f"{directory}/jobcomp"):
        # Another plugin writes the site's records, so the epilog reports the ends.
        paths["EpilogSlurmctld"] = f"{directory}/epilog"
    for name, path in paths.items():
        current = slurm.path(name)
        if not current:
            lines.append(f"{name}={path}")
        elif path not in current.split(","):
            others.append(f"{name} is {current}: let that script call {path} with its environment")
    if not (lines or others):
        yield "slurm.conf has its lines"
        return
    yield from others
    if lines:
        conf = slurm.path("SLURM_CONF") or "slurm.conf"
        # After a mere reconfiguration, slurmctld does not call a hook that it did not have before.
        yield f"add to {conf}, and run `systemctl restart slurmctld`:"
        yield from (f"    {line}" for line in lines)
