from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccapi.errors import InvalidInput
from ccapi.model import compat, rules
from ccapi.model.job import FINAL_STATES, JOB_META_FIELDS

NAMES = frozenset(("jobId", "metaData"))


def fields_of(**document: Any) -> dict[str, Any]:
    fields, ignored = compat.translate_job(document)
    assert ignored == []
    return fields


@pytest.mark.parametrize("data", [{"jobId": 1, "metaData": {}}, {}], ids=["two", "none"])
def test_keys_that_match_exactly_are_copied(data: dict[str, Any]) -> None:
    fields, ignored = rules.match_keys(data, NAMES)
    assert (fields, ignored) == (data, [])
    assert fields is not data


@pytest.mark.parametrize("key", ["metadata", "METADATA", "MetaData"])
def test_keys_match_in_any_case(key: str) -> None:
    assert rules.match_keys({key: {"A": 1}}, NAMES) == ({"metaData": {"A": 1}}, [])


def test_null_is_dropped_before_keys_match() -> None:
    data = {"jobId": None, "rack": None, "metaData": None, "metadata": 1}
    assert rules.match_keys(data, NAMES) == ({"metaData": 1}, [])


@pytest.mark.parametrize("first", ["metaData", "METADATA"])
def test_two_spellings_of_one_key_are_refused(first: str) -> None:
    with pytest.raises(InvalidInput, match=f"{first} and metadata: "):
        rules.match_keys({first: 1, "metadata": 1}, NAMES)


def test_unknown_keys_are_ignored_in_any_spelling() -> None:
    data = {"jobId": 1, "rack": 1, "Rack": 2, "": 3, "job_id": 4}
    assert rules.match_keys(data, NAMES) == ({"jobId": 1}, ["rack", "Rack", "", "job_id"])


@pytest.mark.parametrize(
    ("document", "exclusive"),
    [
        ({"shared": "none"}, 1),
        ({"shared": "single_user"}, 2),
        ({"shared": "multi_user"}, 0),
        ({"shared": "multi_user", "exclusive": 0}, 0),
        ({"shared": "single_user", "exclusive": 3}, 2),
        ({"shared": "", "exclusive": 2}, 2),
        ({"exclusive": 3}, 2),
        ({"exclusive": 4}, 4),
        ({"exclusive": "1"}, "1"),
        ({"exclusive": True, "shared": "none"}, True),
    ],
)
def test_shared_becomes_exclusive(document: dict[str, Any], exclusive: Any) -> None:
    assert fields_of(**document) == {"exclusive": exclusive}


@pytest.mark.parametrize("shared", ["everybody", "None", 1, ["none"], {}, False])
def test_unknown_value_of_shared_is_refused(shared: Any) -> None:
    with pytest.raises(InvalidInput, match="shared: must be multi_user or none or single_user"):
        compat.translate_job({"shared": shared})


@pytest.mark.parametrize("exclusive", [0, 2, 3, 2**70])
def test_shared_that_contradicts_exclusive_is_refused(exclusive: int) -> None:
    with pytest.raises(InvalidInput, match="shared: none means exclusive 1, not"):
        compat.translate_job({"shared": "none", "exclusive": exclusive})


COUNTS = ("arrayJobId", "numHwthreads", "numAcc", "smt", "walltime", "submitTime",
          "requestedMemory")  # fmt: skip


def test_empty_values_are_not_given() -> None:
    empty = {**dict.fromkeys(COUNTS, 0), "partition": "", "jobState": "", "shared": ""}
    assert fields_of(**empty, energy=0, footprint={}, energyFootprint={}) == {}
    assert fields_of(energy=-0.0) == {}


def test_other_empty_values_are_kept() -> None:
    values: dict[str, Any] = {"project": "", "subCluster": "", "exclusive": 0, "duration": 0}
    values |= {"metaData": {}, "statistics": {}, "tags": [], "resources": [], "numNodes": 0}
    assert fields_of(**values, monitoringStatus=0) == {**values, "monitoringStatus": 0}


def test_empty_values_of_a_wrong_type_are_kept() -> None:
    wrong: dict[str, Any] = dict.fromkeys(COUNTS, "")
    wrong |= {"partition": 0, "energy": False, "footprint": [], "jobState": 0, "smt": 0.0}
    assert fields_of(**wrong) == wrong


@pytest.mark.parametrize(
    "values",
    [
        {"resources": "f0101"},
        {"resources": ["f0101", None, {"hostname": 7}]},
        {"tags": {}},
        {"tags": ["x", None, {"type": 1, "name": []}]},
        {"statistics": []},
        {"statistics": {"x": 7, "y": None, "z": {"unit": 7, "avg": "1"}}},
        {"statistics": {"x": {"unit": {"prefix": "G"}}, "y": {"unit": {"base": 7}}}},
        {"statistics": {"x": {"unit": {"base": "W", "prefix": 7}}}},
        {"jobState": 7},
        {"metaData": {"x": None}},
    ],
    ids=repr,
)
def test_values_of_a_wrong_type_are_kept(values: dict[str, Any]) -> None:
    assert fields_of(**values) == values


STATES = [
    ("running", "running"),
    ("RUNNING", "running"),
    ("Completed", "completed"),
    ("CANCELLED by 1000", "cancelled"),
    ("cancelled by root", "cancelled"),
    ("REVOKED", "cancelled"),
    ("revoked", "cancelled"),
    ("node_fail", "node_fail"),
    ("BOOT_FAIL", "boot_fail"),
    ("DEADLINE", "deadline"),
    ("launch_failed", "failed"),
    ("REQUEUED", "stopped"),
    ("stopped", "stopped"),
]
UNKNOWN_STATES = ["pending", "CANCELLED+", "completed by 1000", " failed", "cancelled by"]


@pytest.mark.parametrize(("state", "word"), STATES)
def test_state_in_the_words_of_slurm(state: str, word: str) -> None:
    assert fields_of(jobState=state) == {"jobState": word}


@pytest.mark.parametrize("state", UNKNOWN_STATES)
def test_unknown_state_is_kept(state: str) -> None:
    assert fields_of(jobState=state) == {"jobState": state}


@pytest.mark.parametrize(("state", "word"), STATES[2:])
def test_final_state(state: str, word: str) -> None:
    assert compat.final_state(state) == word


@pytest.mark.parametrize("state", [*UNKNOWN_STATES, "running", "RUNNING", "", 7, None, ["failed"]])
def test_state_that_is_not_final_is_refused(state: Any) -> None:
    with pytest.raises(InvalidInput, match=f"jobState: must be {' or '.join(FINAL_STATES)}"):
        compat.final_state(state)


def test_tag_scope_is_dropped() -> None:
    tag = {"type": "a", "name": "b"}
    tags = [{**tag, "scope": "global"}, {**tag, "id": 2, "SCOPE": "admin"}, {"type": "c", "id": 3}]
    assert fields_of(tags=tags) == {"tags": [tag, {"type": "c", "id": 3}]}


def test_tag_without_a_scope_is_kept_twice() -> None:
    tags = [{"type": "a", "name": "b"}] * 2
    assert compat.translate_tags(tags) == (tags, [])


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("GB/s", "GB/s"),
        ({"base": "B/s", "prefix": "G"}, "GB/s"),
        ({"base": "W", "prefix": None}, "W"),
        ({"Base": "", "Prefix": ""}, ""),
        ({"base": "packets/s", "prefix": "M"}, "Mpackets/s"),
    ],
)
def test_unit_becomes_a_string(unit: Any, expected: str) -> None:
    statistics = {"UNIT": {"Unit": unit, "avg": 1, "min": None}}
    assert fields_of(statistics=statistics) == {
        "statistics": {"UNIT": {"unit": expected, "avg": 1}}
    }


def test_unknown_fields_of_any_depth_are_reported_once() -> None:
    fields, ignored = compat.translate_job(
        {
            "flavour": {"deep": {"er": 1}},
            "concurrentJobs": {"items": None, "count": 0},
            "resources": [{"hostname": "f1", "rack": 1}, {"hostname": "f2", "rack": 2}],
            "tags": [{"type": "a", "name": "b", "colour": "red", "scope": "global"}],
            "statistics": {"x": {"avg": 1, "median": 2, "unit": {"base": "W", "exponent": 3}}},
            "metaData": {"anything": "x"},
        }
    )
    assert ignored == ["flavour", "rack", "colour", "median", "exponent"]
    assert fields == {
        "resources": [{"hostname": "f1"}, {"hostname": "f2"}],
        "tags": [{"type": "a", "name": "b"}],
        "statistics": {"x": {"avg": 1, "unit": "W"}},
        "metaData": {"anything": "x"},
    }


def test_document_is_not_changed() -> None:
    tag = {"type": "a", "name": "b", "scope": "x"}
    statistics = {"x": {"unit": {"base": "W"}}}
    document = {"tags": [tag], "statistics": statistics, "shared": "none", "energy": 0}
    compat.translate_job(document)
    assert document["tags"] == [{"type": "a", "name": "b", "scope": "x"}]
    assert statistics == {"x": {"unit": {"base": "W"}}}
    assert (document["shared"], document["energy"]) == ("none", 0)


TEXTS = st.text(max_size=6)
VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
UNIT = st.fixed_dictionaries({"base": TEXTS}, optional={"prefix": TEXTS})
KNOWN: dict[str, st.SearchStrategy[Any]] = {
    **{field.name: VALUES for field in JOB_META_FIELDS},
    "shared": st.sampled_from(["none", ""]),
    "exclusive": st.just(1),
    "jobState": st.sampled_from(["running", "FAILED", "CANCELLED by 7", "", "no state"]),
    "resources": st.lists(
        st.fixed_dictionaries({"hostname": TEXTS}, optional={"hwthreads": VALUES}), max_size=3
    ),
    "tags": st.lists(
        st.fixed_dictionaries({"type": TEXTS, "name": TEXTS}, optional={"scope": TEXTS}),
        max_size=3,
    ),
    "statistics": st.dictionaries(
        TEXTS, st.fixed_dictionaries({}, optional={"avg": VALUES, "unit": UNIT | TEXTS}), max_size=3
    ),
}
# The objects whose keys are names of fields; None is an array's or map's every value.
OBJECTS = (
    (), ("resources", None), ("tags", None), ("statistics", None), ("statistics", None, "unit"),
)  # fmt: skip
UNKNOWN = st.text("äöüxyz_ 0", max_size=6)


def objects(value: Any, path: tuple[str | None, ...]) -> list[dict[str, Any]]:
    """Return the objects that a path leads to."""
    if not path:
        return [value] if isinstance(value, dict) else []
    if path[0] is None:
        items = list(value.values()) if isinstance(value, dict) else value
        return [one for item in items for one in objects(item, path[1:])]
    return objects(value[path[0]], path[1:]) if path[0] in value else []


@st.composite
def mutated(draw: st.DrawFn, document: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Return a copy with unknown keys, nulls and changed case, and the unknown keys."""
    copy = {**document}
    for name in ("resources", "tags"):
        if name in copy:
            copy[name] = [{**item} for item in copy[name]]
    if "statistics" in copy:
        copy["statistics"] = {
            metric: {
                key: {**value} if key == "unit" and isinstance(value, dict) else value
                for key, value in values.items()
            }
            for metric, values in copy["statistics"].items()
        }
    unknown: set[str] = set()
    # The deepest first: a changed key would hide what is below.
    for path in reversed(OBJECTS):
        for item in objects(copy, path):
            pairs = [(draw(st.sampled_from([k, k.upper(), k.lower()])), v) for k, v in item.items()]
            added = draw(st.dictionaries(UNKNOWN, st.none() | VALUES, max_size=2))
            unknown |= {key for key, value in added.items() if value is not None}
            nulls = dict.fromkeys(draw(st.lists(st.sampled_from(["ID", "AVG", "type"]))), None)
            shuffled = draw(st.permutations([*pairs, *added.items()]))
            item.clear()
            item.update({**nulls, **dict(shuffled)})
    return copy, unknown


@pytest.mark.slow
@given(st.fixed_dictionaries({}, optional=KNOWN), st.data())
def test_mutated_document_has_the_same_fields(
    document: dict[str, Any], data: st.DataObject
) -> None:
    expected, ignored = compat.translate_job(document)
    assert ignored == []
    copy, unknown = data.draw(mutated(document))
    fields, ignored = compat.translate_job(copy)
    assert fields == expected
    assert sorted(ignored) == sorted(unknown)


@given(TEXTS)
def test_join_is_the_inverse_of_split(unit: str) -> None:
    assert compat.join_unit(compat.split_unit(unit)) == unit
