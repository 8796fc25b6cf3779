from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccapi.archive import layout
from ccapi.errors import ArchiveError
from ccapi.model.job import JobKey
from ccapi.model.rules import MAX_INTEGER
from tests.archive.fixtures import make_job

ROOT = Path("/archive")
NUMBERS = st.integers(1, MAX_INTEGER)
CLUSTERS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
KEYS = st.builds(JobKey, CLUSTERS, NUMBERS, NUMBERS)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (JobKey("large", 1034871, 1768978339), "large/1034/871/1768978339/meta.json"),
        (JobKey("fritz", 1, 1), "fritz/0/001/1/meta.json"),
        (JobKey("fritz", 999, 7), "fritz/0/999/7/meta.json"),
        (JobKey("fritz", 1000, 7), "fritz/1/000/7/meta.json"),
        (JobKey("A.b_c-1", 12045, 7), "A.b_c-1/12/045/7/meta.json"),
        (
            JobKey("c", MAX_INTEGER, MAX_INTEGER),
            "c/9223372036854775/807/9223372036854775807/meta.json",
        ),
    ],
    ids=lambda value: value.split("/")[0] if isinstance(value, str) else "",
)
def test_path_of_meta_json(key: JobKey, path: str) -> None:
    assert layout.meta_path(ROOT, key) == ROOT / path


@pytest.mark.parametrize(
    "cluster", ["", ".", "..", "../x", "a/b", "/etc", "a\0b", "-x", ".x", "é", "a\n", "x" * 65]
)
def test_cluster_that_leads_out_of_the_archive_is_refused(cluster: str) -> None:
    with pytest.raises(ArchiveError):
        layout.meta_path(ROOT, JobKey(cluster, 1, 1))


def test_key_is_cluster_job_id_and_start_time() -> None:
    assert make_job(cluster="alex", job_id=5, start_time=9).key == JobKey("alex", 5, 9)


@given(KEYS)
def test_path_is_parsed_to_its_key(key: JobKey) -> None:
    directory = layout.meta_path(ROOT, key).parent
    assert layout.parse(directory.relative_to(ROOT).parts) == key


@given(KEYS)
def test_path_is_below_the_root(key: JobKey) -> None:
    path = layout.meta_path(ROOT, key)
    assert path.resolve().is_relative_to(ROOT)
    assert len(path.relative_to(ROOT).parts) == 5


@pytest.mark.parametrize(
    "directory",
    [
        "fritz/0/001",
        "fritz/0/001/1/x",
        "fritz/0/1/1",
        "fritz/00/001/1",
        "fritz/0/001/01",
        "fritz/0/0001/1",
        "fritz/0/000/1",
        "fritz/0/001/0",
        "fritz/-1/001/1",
        "fritz/0/001/x",
        "fritz/0/00²/1",
        "fritz/0/\u0660\u0660\u0661/1",
        ".snapshot/0/001/1",
        "fritz/0/001/9223372036854775808",
        "fritz/9223372036854775/808/1",
        f"fritz/{'9' * 5000}/001/1",
    ],
    ids=lambda directory: directory[:30].encode("ascii", "replace").decode(),
)
def test_directory_that_no_job_has_is_not_parsed(directory: str) -> None:
    assert layout.parse(tuple(directory.split("/"))) is None


@given(st.lists(st.text(alphabet="0123456789a./\0²", max_size=22), max_size=5))
def test_parsed_key_has_the_same_path(names: list[str]) -> None:
    key = layout.parse(tuple(names))
    assert key is None or layout.parts(key) == tuple(names)
