"""Convert an archive of version 1 to version 3 and back."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccapi.archive import layout, reader, writer
from ccapi.context import Context
from ccapi.errors import ArchiveError
from ccapi.model.cluster import Cluster, Clusters
from ccapi.service import archive_conversion
from ccapi.service.archive_conversion import Conversion
from tests.archive.fixtures import make_document, make_job, write_meta_json

CLUSTERS = Clusters((Cluster.of("fritz", {"main": ["f0101"]}),))
# The last one needs no change: readers of both versions accept it.
KINDS: tuple[dict[str, Any], ...] = (
    {"job_state": "stopped"},
    {"sub_cluster": ""},
    {"num_acc": 2**40},
    {"sub_cluster": "main"},
)


@pytest.fixture
def version1(context: Context, tmp_path: Path) -> Context:
    """The context of an archive of version 1 with four jobs of each of two clusters."""
    root = tmp_path / "version-1"
    writer.create_if_missing(root, 1)
    for number, kind in enumerate(KINDS, start=1):
        writer.write(root, make_job(cluster="fritz", job_id=number, **kind))
        writer.write(root, make_job(cluster="alex", job_id=number, **kind))
    return replace(context, archive_root=root, archive_version=1, clusters=CLUSTERS)


def run(context: Context) -> Counter[str]:
    return Counter(conversion.kind for conversion in archive_conversion.convert(context))


def files(root: Path) -> dict[Path, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root): path.read_bytes() for path in paths}


def test_archive_converted_and_back_is_the_same_byte_for_byte(version1: Context) -> None:
    root = version1.archive_root
    former = files(root)
    version3 = replace(version1, archive_version=3)
    jobs = {key: reader.read(root, key) for key in reader.keys(root)}
    assert run(version3) == {"converted": 6, "unchanged": 2}
    assert (root / "version.txt").read_text() == "3\n"
    documents = [json.loads(path.read_bytes()) for path in root.rglob("meta.json")]
    assert {document["subCluster"] for document in documents} == {"main"}
    assert {document["jobState"] for document in documents} == {"completed", "cancelled"}
    assert {path.parent.name for path in root.rglob("cluster.json")} == {"fritz", "alex"}
    assert {key: reader.read(root, key) for key in reader.keys(root)} == jobs
    assert run(version1) == {"converted": 6, "unchanged": 2}
    assert files(root) == former


def test_second_conversion_changes_nothing(version1: Context) -> None:
    version3 = replace(version1, archive_version=3)
    run(version3)
    converted = files(version1.archive_root)
    assert run(version3) == {"unchanged": 8}
    assert files(version1.archive_root) == converted


@pytest.mark.parametrize("number", range(9))
@pytest.mark.parametrize("version", [3, 1])
def test_interrupted_conversion_continues(
    version1: Context, monkeypatch: pytest.MonkeyPatch, number: int, version: int
) -> None:
    monkeypatch.setattr(archive_conversion, "_BATCH_SIZE", 1)
    contexts = {1: version1, 3: replace(version1, archive_version=3)}
    root = version1.archive_root
    states = {1: files(root)}
    run(contexts[3])
    states[3] = files(root)
    run(contexts[4 - version])
    interrupted = archive_conversion.convert(contexts[version])
    for _ in range(min(number, 8)):
        next(interrupted)
    del interrupted
    assert (root / "version.txt").read_text() == f"{4 - version}\n"
    run(contexts[version])
    assert files(root) == states[version]


def test_bad_file_is_reported_and_stays(version1: Context) -> None:
    path = write_meta_json(version1.archive_root, b'{"jobId":', jobId=99, cluster="fritz")
    conversions = list(archive_conversion.convert(replace(version1, archive_version=3)))
    [bad] = [conversion for conversion in conversions if conversion.kind == "bad"]
    assert (bad.path, bad.reason.startswith("is not JSON")) == (path, True)
    assert path.read_bytes() == b'{"jobId":'
    assert (version1.archive_root / "version.txt").read_text() == "3\n"


def test_full_disk_keeps_the_former_version(
    version1: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise ArchiveError("cannot write: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(writer, "write_bytes", full)
        with pytest.raises(ArchiveError, match="No space"):
            run(replace(version1, archive_version=3))
    assert (version1.archive_root / "version.txt").read_text() == "1\n"
    assert run(replace(version1, archive_version=3)) == {"converted": 6, "unchanged": 2}


def test_files_of_cc_backend_are_not_touched(version1: Context) -> None:
    root = version1.archive_root
    theirs = root / "alex" / "cluster.json"
    theirs.write_text('{"name": "alex", "subClusters": [{"name": "a100"}]}')
    path = write_meta_json(root, make_document(jobId=7, shared="none", energy=0.5))
    data = path.with_name("data.json.gz")
    data.write_bytes(b"\x1f\x8b")
    run(replace(version1, archive_version=3))
    assert Conversion("unchanged", path) in archive_conversion.convert(
        replace(version1, archive_version=3)
    )
    run(version1)
    assert theirs.read_text() == '{"name": "alex", "subClusters": [{"name": "a100"}]}'
    assert (data.read_bytes(), layout.CLUSTER_FILE) == (b"\x1f\x8b", theirs.name)
    assert not (root / "fritz" / "cluster.json").exists()
