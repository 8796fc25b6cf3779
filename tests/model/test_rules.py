import math
from typing import Any

import pytest

from ccapi.errors import InvalidInput
from ccapi.model import rules
from ccapi.model.job import JOB_META_FIELDS, Job, NewJob
from ccapi.model.rules import MAX_EPOCH_SECOND, MAX_INTEGER, Rule, count_hosts, is_name


@pytest.mark.parametrize("name", ["fritz", "a", "0", "Alex-2.b_c", "x" * 64])
def test_cluster_name_is_accepted(name: str) -> None:
    assert is_name(name)
    assert rules.CLUSTER.violation(name) is None
    assert rules.SUB_CLUSTER.violation(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 65,
        ".",
        "..",
        ".hidden",
        "-rf",
        "_x",
        "a/b",
        "a b",
        "fritz\n",
        "a\0",
        "ä",
        "٣",
        "a²",
    ],
)
def test_cluster_name_that_could_leave_its_directory_is_refused(name: str) -> None:
    assert not is_name(name)
    assert rules.CLUSTER.violation(name)
    assert bool(rules.SUB_CLUSTER.violation(name)) == bool(name)


@pytest.mark.parametrize("name", ["f0101", "f0101.example.org", "gpu_1-2", "x" * 255])
def test_host_name_is_accepted(name: str) -> None:
    assert rules.HOSTNAME.violation(name) is None


@pytest.mark.parametrize(
    "name", ["", "x" * 256, "f 1", "f1\n", "f/1", "f[1-2]", "fä1", "f٣", None, 7, b"f1"]
)
def test_malformed_host_name_is_refused(name: Any) -> None:
    assert rules.HOSTNAME.violation(name) == ("must be 1 to 255 letters, digits, '.', '_' and '-'")


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (rules.COUNT, 0),
        (rules.COUNT, MAX_INTEGER),
        (rules.EPOCH_SECOND, MAX_EPOCH_SECOND),
        (rules.EXCLUSIVE, 2),
        (rules.MONITORING_STATUS, 3),
        (rules.TEXT, ""),
        (rules.USER, "u" * 255),
        (rules.PROJECT, ""),
        (rules.STATISTIC, 0),
        (rules.STATISTIC, 1e300),
        (rules.STATISTIC, MAX_INTEGER),
        (rules.NUMBER, -1.5),
        (rules.NUMBER, -MAX_INTEGER),
        (rules.FOOTPRINT, {}),
        (rules.FOOTPRINT, {"": -1, "mem_bw_avg": 1.5}),
        (rules.HWTHREADS, []),
        (rules.HWTHREADS, [0, MAX_INTEGER]),
        (rules.ACCELERATORS, ["", "00000000:07:00.0"]),
    ],
)
def test_value_within_its_rule_is_accepted(rule: Rule, value: Any) -> None:
    assert rule.violation(value) is None


@pytest.mark.parametrize(
    ("rule", "value", "violation"),
    [
        (rules.JOB_ID, 0, f"must be an integer from 1 to {MAX_INTEGER}"),
        (rules.COUNT, -1, f"must be an integer from 0 to {MAX_INTEGER}"),
        (rules.COUNT, True, f"must be an integer from 0 to {MAX_INTEGER}"),
        (rules.COUNT, 1.0, f"must be an integer from 0 to {MAX_INTEGER}"),
        (rules.EPOCH_SECOND, 0, f"must be an integer from 1 to {MAX_EPOCH_SECOND}"),
        (rules.EPOCH_SECOND, 253402300800, "must be an integer from 1 to 253402300799"),
        (rules.EXCLUSIVE, 3, "must be an integer from 0 to 2"),
        (rules.MONITORING_STATUS, 4, "must be an integer from 0 to 3"),
        (rules.TEXT, 7, "must be a string"),
        (rules.TEXT, "a\0b", "must not contain a NUL character"),
        (rules.TextRule(min_length=1), "", "must be a non-empty string"),
        (rules.USER, "", "must be a string of 1 to 255 characters"),
        (rules.PROJECT, "p" * 256, "must be a string of 0 to 255 characters"),
        (rules.STATISTIC, -0.5, "must be a number of at least 0"),
        (rules.STATISTIC, True, "must be a number of at least 0"),
        (rules.STATISTIC, "7", "must be a number of at least 0"),
        (rules.STATISTIC, 2**63, f"must be at most {MAX_INTEGER} when it is an integer"),
        (rules.STATISTIC, math.inf, "must be a number of at least 0"),
        (rules.NUMBER, math.nan, "must be a number"),
        (rules.NUMBER, -math.inf, "must be a number"),
        (rules.NUMBER, 10**400, "must be a number"),
        (rules.NUMBER, -(2**63), f"must be at most {MAX_INTEGER} when it is an integer"),
        (rules.FOOTPRINT, [], "must be an object of numbers"),
        (rules.FOOTPRINT, {"x": 1, "y": "1"}, "y: must be a number"),
        (rules.FOOTPRINT, {"\0": 1}, "must not contain a NUL character"),
        (rules.HWTHREADS, "0-3", "must be an array of integers"),
        (rules.HWTHREADS, [0, True], f"must contain only integers from 0 to {MAX_INTEGER}"),
        (rules.HWTHREADS, [-1], f"must contain only integers from 0 to {MAX_INTEGER}"),
        (rules.HWTHREADS, [2**63], f"must contain only integers from 0 to {MAX_INTEGER}"),
        (rules.ACCELERATORS, "0", "must be an array of strings"),
        (rules.ACCELERATORS, ["0", 7], "must be a string"),
        (rules.ACCELERATORS, ["0", "\0"], "must not contain a NUL character"),
    ],
)  # fmt: skip
def test_violation_says_what_a_value_must_be(rule: Rule, value: Any, violation: str) -> None:
    assert rule.violation(value) == violation


@pytest.mark.parametrize("num_nodes", [None, 2])
def test_number_of_nodes_is_the_number_of_hosts(num_nodes: int | None) -> None:
    assert count_hosts(["f1", "f2"], num_nodes) == 2


@pytest.mark.parametrize(
    ("hosts", "num_nodes", "message"),
    [
        ([], None, "resources: must have at least one host"),
        (["f1", "f2", "f1"], None, "resources: must have each host once; f1 appears twice"),
        (["f1", "f2"], 3, "numNodes: must be the number of resources, 2, or be left out"),
        (["f1"], 0, "numNodes: must be the number of resources, 1, or be left out"),
    ],
)
def test_wrong_hosts_are_refused(hosts: list[str], num_nodes: int | None, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        count_hosts(hosts, num_nodes)


def test_fields_of_job_meta_are_attributes_of_jobs() -> None:
    attributes = {field.attribute for field in JOB_META_FIELDS}
    only_inside = {"stop_time", "sort_key", "is_partial", "name"}
    assert attributes == {*Job.__dataclass_fields__, "duration", "shared"} - only_inside
    assert attributes - {"id", "duration", "shared"} <= {*NewJob.__dataclass_fields__}
