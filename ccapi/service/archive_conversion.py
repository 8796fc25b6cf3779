"""Convert the archive to the version of the settings."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ccapi.archive import layout, meta_json, pack, reader, writer
from ccapi.context import Context
from ccapi.errors import ArchiveError
from ccapi.model.job import JobKey

KINDS = ("converted", "unchanged", "bad")
# Several threads write, because each one waits for the disk nearly all of the time.
_BATCH_SIZE = 250
_WRITERS = 8


class Conversion(NamedTuple):
    """What became of a file; `kind` is in KINDS, and a bad file stays as it is."""

    kind: str
    path: Path
    reason: str = ""


def convert(context: Context) -> Iterator[Conversion]:
    """Convert every meta.json, and then the archive's version; yield what became of each.

    The version changes last, so an interrupted conversion is repeated from the start. Files that
    are of the right version already are only read. Raises ArchiveError.
    """
    root, version = context.archive_root, context.archive_version
    former = writer.read_version(root)
    if version > 1:
        writer.describe_clusters(root, context.clusters)
    keys = (key for _, key in reader.tree_runs(root) if key and reader.is_in_tree(root, key))
    with ThreadPoolExecutor(_WRITERS) as pool:
        while batch := list(islice(keys, _BATCH_SIZE)):
            yield from pool.map(lambda key: _convert(root, key, version), batch)
    with writer.exclusive(root):
        for path in reader.pack_paths(root):
            yield from _convert_pack(root, path, version)
    if former != version:
        writer.set_version(root, version)
    if version == 1:
        writer.remove_generated_cluster_files(root)


def _convert(root: Path, key: JobKey, version: int) -> Conversion:
    path = layout.meta_path(root, key)
    try:
        data = reader.read_bytes(root, key)
        known = reader.sub_clusters(root, key.cluster) or () if version > 1 else None
        converted = meta_json.convert(data, known)
    except ArchiveError as error:
        return Conversion("bad", path, str(error))
    if converted == data:
        return Conversion("unchanged", path)
    writer.write_bytes(root, key, converted)
    return Conversion("converted", path)


def _convert_pack(root: Path, path: Path, version: int) -> Iterator[Conversion]:
    """Convert the jobs of a pack; yield each that changed, and the pack if it is bad."""
    known = reader.sub_clusters(root, path.parent.name) or () if version > 1 else None
    try:
        changed = pack.convert(path, version, lambda data: meta_json.convert(data, known))
    except ArchiveError as error:
        yield Conversion("bad", path, str(error))
    else:
        yield from (Conversion("converted", path) for _ in range(changed))
