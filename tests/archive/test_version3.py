"""Version 3 of the archive, which today's cc-backend reads."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from ccapi.archive import cluster_json, layout, meta_json, reader, writer
from ccapi.errors import ArchiveError, StartupError
from ccapi.model.cluster import Cluster, Clusters
from ccapi.model.job import Job
from tests.archive.fixtures import make_job
from tests.archive.test_meta_json import JOBS

FRITZ = Cluster.of("fritz", {"main": ["f0101", "f0102", "login"], "spr": ["f2101", "a.b"]})
CLUSTERS = Clusters((FRITZ, Cluster.of("woody", {})))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty archive of version 3, with two clusters."""
    root = tmp_path / "archive"
    writer.create_if_missing(root, 3, CLUSTERS)
    return root


def written(root: Path, job: Job) -> dict[str, Any]:
    writer.write(root, job)
    document: dict[str, Any] = json.loads(layout.meta_path(root, job.key).read_bytes())
    assert reader.read(root, job.key) == meta_json.decode(meta_json.encode(job))
    return document


def cluster_of(root: Path, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((root / name / "cluster.json").read_bytes())
    return document


def test_new_archive_describes_each_cluster_of_the_settings(root: Path) -> None:
    fritz, woody = cluster_of(root, "fritz"), cluster_of(root, "woody")
    assert [(sub["name"], sub["nodes"]) for sub in fritz["subClusters"]] == [
        ("main", "login,f[0101-0102]"),
        ("spr", "f2101"),
    ]
    assert [(sub["name"], sub["nodes"]) for sub in woody["subClusters"]] == [("main", "*")]
    assert (fritz["name"], len(fritz["metricConfig"])) == ("fritz", 1)


def test_cluster_of_no_settings_is_described_with_its_first_job(root: Path) -> None:
    assert written(root, make_job(cluster="alex"))["subCluster"] == "main"
    assert [sub["name"] for sub in cluster_of(root, "alex")["subClusters"]] == ["main"]


@pytest.mark.parametrize(
    ("hosts", "nodes"),
    [
        (["f1", "f2", "f3", "f10"], "f[1-3],f10"),
        (["f09", "f10", "f11", "g10"], "f[09-11],g10"),
        (["a-1-07", "a-1-08", "x"], "x,a-1-[07-08]"),
        (["0101", "0102"], "0[101-102]"),
        (["n0000000001", "n0000000002"], "n0[000000001-000000002]"),
        (["f1.example.org", "a_1"], "*"),
        ([], "*"),
    ],
)
def test_nodes_are_in_the_notation_of_cc_backend(hosts: list[str], nodes: str) -> None:
    assert cluster_json.node_list(hosts) == nodes


def test_cluster_json_of_somebody_else_is_never_replaced(root: Path) -> None:
    path = root / "alex" / "cluster.json"
    path.parent.mkdir()
    path.write_text('{"name": "alex", "subClusters": [{"name": "a100"}, {"name": "a40"}]}')
    former = path.read_bytes()
    assert written(root, make_job(cluster="alex", sub_cluster="a40"))["subCluster"] == "a40"
    assert written(root, make_job(cluster="alex", sub_cluster="main"))["subCluster"] == "a100"
    writer.create_if_missing(root, 3, CLUSTERS)
    assert path.read_bytes() == former


def test_cluster_json_of_ours_follows_the_settings(root: Path) -> None:
    document = cluster_of(root, "fritz")
    document["subClusters"][0]["coresPerSocket"] = 36
    path = root / "fritz" / "cluster.json"
    path.write_text(json.dumps(document))
    edited = path.read_bytes()
    writer.create_if_missing(root, 3, CLUSTERS)
    assert path.read_bytes() == edited
    nodes = {"main": ["f0101", "f0102", "f0103"], "gpu": ["g1"]}
    writer.create_if_missing(root, 3, Clusters((Cluster.of("fritz", nodes),)))
    assert [(sub["name"], sub["nodes"]) for sub in cluster_of(root, "fritz")["subClusters"]] == [
        ("main", "f[0101-0103]"),
        ("spr", "f2101"),
        ("gpu", "g1"),
    ]
    assert cluster_of(root, "fritz")["subClusters"][0]["coresPerSocket"] == 36
    assert written(root, make_job(cluster="fritz", sub_cluster="gpu"))["subCluster"] == "gpu"


def test_changed_cluster_json_counts_for_the_next_job(root: Path) -> None:
    job = make_job(cluster="fritz", sub_cluster="new")
    assert written(root, job)["subCluster"] == "main"
    document = cluster_of(root, "fritz")
    document["subClusters"].append({"name": "new"})
    (root / "fritz" / "cluster.json").write_text(json.dumps(document))
    assert written(root, job)["subCluster"] == "new"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"subClusters": [{"name": 7}]}'])
def test_broken_cluster_json_costs_no_job(root: Path, content: bytes) -> None:
    (root / "fritz" / "cluster.json").write_bytes(content)
    assert written(root, make_job(cluster="fritz", sub_cluster="x"))["subCluster"] == "x"
    assert written(root, make_job(cluster="fritz", sub_cluster=""))["subCluster"] == "main"


@pytest.mark.parametrize(
    ("true_values", "replacements"),
    [
        ({"jobState": "stopped"}, {"jobState": "cancelled"}),
        ({"subCluster": ""}, {"subCluster": "main"}),
        ({"subCluster": "unknown"}, {"subCluster": "main"}),
        ({"numHwthreads": 2**31, "numAcc": 2**63 - 1, "smt": 2**40},
         {"numHwthreads": 2**31 - 1, "numAcc": 2**31 - 1, "smt": 2**31 - 1}),
        ({"duration": 2**31}, {"duration": 2**31 - 1}),
        ({}, {"jobState": "node_fail", "numAcc": 2**31 - 1}),
    ],
    ids=str,
)  # fmt: skip
def test_value_that_readers_refuse_is_replaced_and_kept_aside(
    root: Path, true_values: dict[str, Any], replacements: dict[str, Any]
) -> None:
    document = json.loads(meta_json.encode(make_job(cluster="fritz")))
    job = meta_json.decode(json.dumps({**document, **replacements, **true_values}).encode())
    expected = {**document, **replacements} | ({"ccapi": true_values} if true_values else {})
    assert written(root, job) == expected


@given(JOBS)
def test_decode_of_version_3_returns_the_same_job(job: Job) -> None:
    data = meta_json.encode(job, ["main", "x"])
    assert meta_json.decode(data) == meta_json.decode(meta_json.encode(job))
    assert meta_json.convert(data) == meta_json.encode(job)
    assert meta_json.convert(meta_json.encode(job), ["main", "x"]) == data


def test_conversion_keeps_what_only_other_programs_know() -> None:
    foreign = {"jobId": 1, "exclusive": 2, "rack": {"row": 7}, "jobState": "stopped",
               "subCluster": "main", "requestedMemory": 0}  # fmt: skip
    converted = meta_json.convert(json.dumps(foreign).encode(), ["main"])
    assert json.loads(converted) == {
        "jobId": 1, "exclusive": 2, "rack": {"row": 7}, "jobState": "cancelled",
        "subCluster": "main", "shared": "single_user",
        "ccapi": {"jobState": "stopped", "shared": None, "requestedMemory": 0},
    }  # fmt: skip
    assert json.loads(meta_json.convert(converted)) == foreign
    assert meta_json.convert(converted, ["main"]) == converted


def test_true_values_of_other_fields_are_ignored() -> None:
    document = json.loads(meta_json.encode(make_job()))
    hostile = {**document, "ccapi": {"user": "mallory1", "jobState": "stopped"}}
    job = meta_json.decode(json.dumps(hostile).encode())
    assert (job.user_name, job.job_state) == ("abcd100h", "stopped")
    for text in ("null", "7", "[]", '"x"'):
        assert meta_json.decode(json.dumps({**document, "ccapi": json.loads(text)}).encode())


@pytest.mark.parametrize(("version", "other"), [(1, 3), (3, 1)])
def test_archive_of_the_other_version_names_the_command(
    tmp_path: Path, version: int, other: int
) -> None:
    writer.create_if_missing(tmp_path / "archive", version, CLUSTERS)
    with pytest.raises(StartupError, match=r"version is \d: run `ccapi archive convert`"):
        writer.create_if_missing(tmp_path / "archive", other, CLUSTERS)
    assert (tmp_path / "archive" / "version.txt").read_text() == f"{version}\n"


def test_other_users_may_not_read_cluster_json(root: Path) -> None:
    assert stat.S_IMODE((root / "fritz" / "cluster.json").stat().st_mode) == 0o640


def test_link_at_the_place_of_a_cluster_is_refused(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (root / "alex").symlink_to(elsewhere)
    with pytest.raises(ArchiveError, match=r"cluster\.json"):
        writer.write(root, make_job(cluster="alex"))
    assert list(elsewhere.iterdir()) == []
