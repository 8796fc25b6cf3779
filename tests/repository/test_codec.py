"""The codec between jobs and database rows."""

import tracemalloc
from itertools import chain
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccapi.db.pool import Database
from ccapi.model.rules import MAX_INTEGER
from ccapi.repository import codec
from tests.client import Client, job

HWTHREADS = list(range(72))
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


def group_and_expand(nodes: list[dict[str, Any]]) -> str:
    return codec.expand_nodes(orjson.dumps(codec.group_nodes(nodes)).decode())


@given(st.lists(NODES, min_size=1, unique_by=lambda node: node["hostname"]))
def test_expanded_nodes_equal_the_nodes_before_grouping(nodes: list[dict[str, Any]]) -> None:
    assert group_and_expand(nodes) == orjson.dumps(nodes).decode()


@pytest.mark.parametrize(
    ("nodes", "grouped"),
    [
        ([{"hostname": "f1"}], '[{"hostname":"f1"}]'),
        (
            [{"hostname": f"f{n}", "hwthreads": HWTHREADS} for n in (1, 2, 3)],
            '[{"hostname":["f1","f2","f3"],"hwthreads":"0-71"}]',
        ),
        (
            [{"hostname": "f1", "hwthreads": [*range(36), *range(72, 108)]}],
            '[{"hostname":"f1","hwthreads":"0-35,72-107"}]',
        ),
        (
            [{"hostname": "f1", "hwthreads": HWTHREADS}, {"hostname": "f2", "hwthreads": [5, 3]}],
            '[{"hostname":"f1","hwthreads":"0-71"},{"hostname":"f2","hwthreads":[5,3]}]',
        ),
        (
            [{"hwthreads": [1], "hostname": "f1"}, {"hwthreads": [1], "hostname": "f2"}],
            '[{"hwthreads":[1],"hostname":"f1"},{"hwthreads":[1],"hostname":"f2"}]',
        ),
    ],
    ids=["one node", "equal", "two ranges", "different", "hostname not first"],
)  # fmt: skip
def test_nodes_with_equal_resources_are_grouped(nodes: list[dict[str, Any]], grouped: str) -> None:
    assert orjson.dumps(codec.group_nodes(nodes)).decode() == grouped


def select(database: Database, expression: str) -> Any:
    with database.session() as conn:
        row = conn.execute(f"SELECT {expression} FROM jobs".encode()).fetchone()
    assert row is not None
    return row[0]


def test_metadata_is_plain_json_in_the_database(admin: Client, database: Database) -> None:
    id_ = admin.start(metaData={"jobName": "rotor", "jobScript": "#!/bin/sh\n"})
    assert select(database, "meta_data ->> 'jobScript'") == "#!/bin/sh\n"
    assert admin.read(id_)["metaData"] == {"jobName": "rotor", "jobScript": "#!/bin/sh\n"}


def test_empty_metadata_is_null(admin: Client, database: Database) -> None:
    admin.start(metaData={})
    assert select(database, "meta_data IS NULL AND job_name IS NULL")


def test_job_name_is_a_column(admin: Client, database: Database) -> None:
    id_ = admin.start(metaData={"jobName": "rotor 17"})
    assert select(database, "job_name") == "rotor 17"
    admin.send("POST", f"/edit_meta/{id_}", {"metaData": {"jobName": "blade"}})
    assert select(database, "job_name") == "blade"


@pytest.mark.parametrize("letter", ["x", "\u00fc", "\U0001f600"])
def test_long_job_name_is_truncated_in_its_column(
    admin: Client, database: Database, letter: str
) -> None:
    id_ = admin.start(metaData={"jobName": 100_000 * letter})
    assert select(database, "job_name") == 255 * letter
    assert admin.read(id_)["metaData"] == {"jobName": 100_000 * letter}


def test_job_is_found_by_each_of_its_hosts(admin: Client, database: Database) -> None:
    nodes = [{"hostname": f"f010{n}", "hwthreads": HWTHREADS} for n in (1, 2, 3)]
    id_ = admin.start(**{**job(), "resources": nodes, "numNodes": 3})
    for host in ("f0101", "f0103"):
        [match] = admin.list(f"host={host}")
        assert (match["id"], match["resources"]) == (id_, nodes)
    with database.session() as conn:
        row = conn.execute("SELECT resources::text FROM jobs").fetchone()
    assert row == ('[{"hostname":["f0101","f0102","f0103"],"hwthreads":"0-71"}]',)


@pytest.mark.slow
def test_hwthreads_of_huge_jobs_are_not_cached() -> None:
    tracemalloc.start()
    try:
        for first in range(10):
            group_and_expand([{"hostname": "f1", "hwthreads": list(range(first, 50_000))}])
        memory, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert memory < 2**20
