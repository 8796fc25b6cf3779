"""What is stored in less room comes back as it was."""

import tracemalloc
import zlib
from itertools import chain
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccapi.db.pool import Database
from ccapi.model.job import MAX_INTEGER
from ccapi.repository import codec as packing
from tests.client import Client, job

THREADS = list(range(72))
NUMBERS = st.integers(0, MAX_INTEGER)
RUNS = st.builds(
    lambda first, length: list(range(first, first + length)), NUMBERS, st.integers(0, 9)
)
NODES = st.fixed_dictionaries(
    {"hostname": st.from_regex(r"[a-f]\Z")},
    optional={
        "hwthreads": st.lists(NUMBERS) | st.lists(RUNS).map(lambda runs: list(chain(*runs))),
        "accelerators": st.lists(st.text()),
        "configuration": st.text(),
    },
).flatmap(lambda node: st.permutations(list(node.items())).map(dict))


@given(st.lists(NODES, min_size=1, unique_by=lambda node: node["hostname"]))
def test_nodes_come_back_byte_for_byte(nodes: list[dict[str, Any]]) -> None:
    assert packing.nodes(packing.resources(nodes)) == orjson.dumps(nodes).decode()


@pytest.mark.parametrize(
    ("nodes", "packed"),
    [
        ([{"hostname": "f1"}], '[{"hostname":"f1"}]'),
        (
            [{"hostname": f"f{n}", "hwthreads": THREADS} for n in (1, 2, 3)],
            '[{"hostname":["f1","f2","f3"],"hwthreads":"0-71"}]',
        ),
        (
            [{"hostname": "f1", "hwthreads": [*range(36), *range(72, 108)]}],
            '[{"hostname":"f1","hwthreads":"0-35,72-107"}]',
        ),
        (
            [{"hostname": "f1", "hwthreads": THREADS}, {"hostname": "f2", "hwthreads": [5, 3]}],
            '[{"hostname":"f1","hwthreads":"0-71"},{"hostname":"f2","hwthreads":[5,3]}]',
        ),
        (
            [{"hwthreads": [1], "hostname": "f1"}, {"hwthreads": [1], "hostname": "f2"}],
            '[{"hwthreads":[1],"hostname":"f1"},{"hwthreads":[1],"hostname":"f2"}]',
        ),
    ],
    ids=["one", "alike", "two ranges", "not alike", "name not first"],
)  # fmt: skip
def test_nodes_used_alike_are_one(nodes: list[dict[str, Any]], packed: str) -> None:
    assert packing.resources(nodes) == packed


@given(st.dictionaries(st.text(), st.text(), min_size=1))
def test_metadata_comes_back_and_is_never_longer(values: dict[str, str]) -> None:
    stored = packing.meta_data(values)
    text = orjson.dumps(values)
    assert stored is not None
    assert packing.unpress(stored) == text.decode()
    assert len(stored) <= len(text)


def test_no_metadata_is_nothing() -> None:
    assert packing.meta_data({}) is packing.meta_data(None) is None


# Written by the first version that pressed; what it wrote must be read for ever.
PRESSED = bytes.fromhex("78bb46b4bbd3436617e597e417a1158ce0cc01cd0031794ab5008ec21041")


def test_what_was_pressed_once_is_read_for_ever() -> None:
    assert orjson.loads(packing.unpress(PRESSED)) == {
        "jobName": "rotor",
        "jobScript": "srun ./a.out\n",
    }


def test_what_is_cut_off_or_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pressed = packing.press(orjson.dumps({"a": 100_000 * "x"}))
    with pytest.raises(zlib.error, match="cut off"):
        packing.unpress(pressed[:-1])
    monkeypatch.setattr(packing, "_MOST_BYTES", 100_000)
    with pytest.raises(zlib.error, match="larger"):
        packing.unpress(pressed)


def test_metadata_of_former_versions_is_read(admin: Client, database: Database) -> None:
    id_ = admin.start(metaData={"jobName": "x"})
    with database.session() as conn:
        conn.execute("UPDATE jobs SET meta_data = %s", (b'{"jobName":"before"}',))
    assert admin.stop()["metaData"] == {"jobName": "before"}
    assert admin.read(id_)["metaData"] == {"jobName": "before"}


def test_a_job_is_found_by_each_of_its_hosts(admin: Client, database: Database) -> None:
    nodes = [{"hostname": f"f010{n}", "hwthreads": THREADS} for n in (1, 2, 3)]
    id_ = admin.start(**{**job(), "resources": nodes, "numNodes": 3})
    for host in ("f0101", "f0103"):
        [found] = admin.list(f"host={host}")
        assert (found["id"], found["resources"]) == (id_, nodes)
    with database.session() as conn:
        stored = conn.execute("SELECT resources::text FROM jobs").fetchone()
    assert stored == ('[{"hostname":["f0101","f0102","f0103"],"hwthreads":"0-71"}]',)


def test_a_worker_does_not_remember_the_threads_of_huge_jobs() -> None:
    tracemalloc.start()
    try:
        for first in range(10):
            packed = packing.resources(
                [{"hostname": "f1", "hwthreads": list(range(first, 50_000))}]
            )
            packing.nodes(packed)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2**20
