"""A pack: the jobs of a cluster that started in one month, as one SQLite file.

The schema is that of cc-backend's SQLite archive, which adds indexes of its own when it opens the
file. Changes are transactions, durable when a function returns. The month is that of UTC.
"""

import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import orjson

from ccapi.archive import layout
from ccapi.db import queries
from ccapi.errors import ArchiveError
from ccapi.model.job import JobKey

if TYPE_CHECKING:
    import sqlite3

_SQL = queries.sqlite("pack")
_BATCH_SIZE = 500
# A commit on a slow disk keeps readers waiting.
_BUSY_SECONDS = 20
_FILE_MODE = 0o640
_MAX_OPEN = 8
# A pack may vanish and come back while it is opened.
_MAX_TRIES = 5
# Of a thread that keeps packs open: path -> (file, connection).
_local = threading.local()


@contextmanager
def kept_open() -> Iterator[None]:
    """Let this thread keep packs open between reads: a check reads each of them many times."""
    _local.opened = {}
    try:
        yield
    finally:
        for _, conn in _local.opened.values():
            conn.close()
        _local.opened = None


def read(path: Path, key: JobKey) -> bytes | None:
    """Return the meta.json of a run; None if the pack does not have it, or does not exist."""
    with _reading(path) as conn:
        row = conn and conn.execute(_SQL["get_meta_json"], key._asdict()).fetchone()
        return bytes(row[0]) if row else None


def read_batch(path: Path, keys: Iterable[JobKey]) -> dict[JobKey, bytes]:
    """Return the meta.json of those runs that the pack has; 500 cost a tenth of 500 reads."""
    with _reading(path) as conn:
        if conn is None:
            return {}
        rows = [(key.job_id, key.cluster, key.start_time) for key in keys]
        documents = conn.execute(_SQL["get_documents"], {"keys": orjson.dumps(rows).decode()})
        return {
            JobKey(cluster, job_id, start_time): bytes(data)
            for job_id, cluster, start_time, data in documents
        }


def exists(path: Path, key: JobKey) -> bool:
    """Return whether a pack has a run, without reading its meta.json."""
    with _reading(path) as conn:
        return bool(conn and conn.execute(_SQL["has_job"], key._asdict()).fetchone())


def keys(path: Path) -> Iterator[JobKey]:
    """Return the keys of a pack's runs in order, in constant memory; no lock is held between."""
    last = JobKey("", 0, 0)
    while True:
        params = {**last._asdict(), "limit": _BATCH_SIZE}
        with _reading(path) as conn:
            rows = conn.execute(_SQL["list_keys"], params).fetchall() if conn else []
        for row in rows:
            yield JobKey(*row)
        if len(rows) < _BATCH_SIZE:
            return
        last = JobKey(*rows[-1])


def write(
    path: Path, documents: Mapping[JobKey, bytes], *, version: int, cluster_file: bytes | None
) -> None:
    """Add or replace the meta.json of runs; create the pack if need be, with a cluster.json."""
    if not path.exists():
        create(path, version, cluster_file)
    now = int(time.time())
    with _transaction(path) as conn:
        conn.executemany(
            _SQL["upsert_job"],
            ({**key._asdict(), "meta_json": data, "now": now} for key, data in documents.items()),
        )


def remove(path: Path, removed: Collection[JobKey]) -> None:
    """Remove runs; an empty pack is removed as a whole, and none is as good as empty."""
    if not path.exists():
        return
    with _transaction(path) as conn:
        conn.executemany(_SQL["delete_job"], (key._asdict() for key in removed))
        is_empty = conn.execute(_SQL["has_any_job"]).fetchone() is None
    if is_empty:
        with _as_archive_error("remove", path):
            path.unlink()
            _sync(path.parent)


def convert(path: Path, version: int, convert_document: Callable[[bytes], bytes]) -> int:
    """Convert each meta.json in batches, then the pack's version; return how many changed."""
    changed, last = 0, 0
    while True:
        with _transaction(path) as conn:
            params = {"after_id": last, "limit": _BATCH_SIZE}
            rows = conn.execute(_SQL["list_documents"], params).fetchall()
            converted = [(id_, data, convert_document(bytes(data))) for id_, data in rows]
            new = [{"id": id_, "meta_json": data} for id_, old, data in converted if data != old]
            conn.executemany(_SQL["update_document"], new)
            changed += len(new)
            if len(rows) < _BATCH_SIZE:
                conn.execute(_SQL["set_version"], {"version": str(version)})
                return changed
        last = rows[-1][0]


def problem(path: Path) -> str | None:
    """Return why a pack cannot be read; reads all of it. None if all is well."""
    try:
        with _reading(path) as conn:
            if conn is None:
                return None
            conn.execute(_SQL["check_columns"])
            [text] = conn.execute("PRAGMA quick_check(1)").fetchone()
    except ArchiveError as error:
        return str(error)
    return None if text == "ok" else f"is damaged: {text}"


def remove_unfinished(directory: Path) -> None:
    """Remove the packs that a killed process was about to create in a cluster's directory."""
    for path in directory.glob(f".{layout.PACK_PATTERN}.*"):
        with suppress(OSError):
            path.unlink()


def create(path: Path, version: int, cluster_file: bytes | None) -> None:
    """Create an empty pack under another name, then give it its own; keep one that exists."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with _as_archive_error("write", path):
        try:
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE))
            with closing(_connect(temporary)) as conn:
                conn.executescript(_SQL["schema"])
                conn.execute(_SQL["set_version"], {"version": str(version)})
                if cluster_file is not None:
                    config = {"name": path.parent.name, "config_json": cluster_file}
                    conn.execute(_SQL["insert_cluster"], {**config, "now": int(time.time())})
            _sync(temporary)
            with suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)


@contextmanager
def _transaction(path: Path) -> "Iterator[sqlite3.Connection]":
    """Change a pack durably, or not at all."""
    with _as_archive_error("write", path), closing(_connect(path)) as conn:
        # EXTRA also syncs the directory, without which a power cut undoes the transaction.
        conn.execute("PRAGMA synchronous = EXTRA")
        conn.execute("BEGIN IMMEDIATE")
        yield conn
        conn.execute("COMMIT")


@contextmanager
def _reading(path: Path) -> "Iterator[sqlite3.Connection | None]":
    """Open a pack to be read; None if there is no such file."""
    opened: dict[Path, tuple[tuple[int, ...], sqlite3.Connection]] | None
    opened = getattr(_local, "opened", None)
    with _as_archive_error("read", path):
        try:
            status = path.stat(follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            yield None
            return
        if not stat.S_ISREG(status.st_mode):
            raise ArchiveError(f"{path} is not a regular file")
        file = (status.st_dev, status.st_ino)
        if opened is not None and path in opened and opened[path][0] == file:
            yield opened[path][1]
            return
        conn = _connect_to_read(path)
        if opened is None or conn is None:
            with closing(conn) if conn else nullcontext():
                yield conn
            return
        while len(opened) >= _MAX_OPEN or path in opened:
            opened.pop(path if path in opened else next(iter(opened)))[1].close()
        opened[path] = file, conn
        yield conn


def _connect_to_read(path: Path) -> "sqlite3.Connection | None":
    """Connect to a pack, and open its file; None if it has vanished, because it became empty."""
    import sqlite3  # noqa: PLC0415 - as in _connect

    for tries_left in reversed(range(_MAX_TRIES)):
        try:
            conn = _connect(path)
            conn.execute("PRAGMA schema_version")
        except sqlite3.OperationalError:
            if not path.exists():
                return None
            if not tries_left:
                raise
        else:
            return conn
    return None


def _connect(path: Path) -> "sqlite3.Connection":
    """Connect to an existing pack; one that may not be written is opened to be read."""
    import sqlite3  # noqa: PLC0415 - few processes ever open a pack

    return sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None, timeout=_BUSY_SECONDS
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _as_archive_error(verb: str, path: Path) -> Iterator[None]:
    import sqlite3  # noqa: PLC0415 - as in _connect

    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise ArchiveError(f"cannot {verb} {path}: {error}") from error
