"""Random operations for the model test: few values, so that they meet, and wrong ones."""

import json
from typing import Any
from urllib.parse import urlencode

from hypothesis import strategies as st

from tests.client import START
from tests.properties.rules import FINAL_STATES, STATES
from tests.properties.world import Operation

JOB_IDS = (1, 999, 1034871)
_CLUSTERS = ("fritz", "alex")
_LAST_SECOND = 253_402_300_799
_STARTS = (*(START + n for n in (0, 1, 59, 60, 61, 120, 121, 3600)), 1, _LAST_SECOND)
_STOPS = (*(START + n for n in (-1, 0, 1, 60, 90, 3600)), _LAST_SECOND, 1)
_TAGS = (("Debug", "a"), ("Debug", "b"), ("debug", "a"), ("Ünits", "x\n'y\""))
_UNITS = ("GB/s", "W", "", "G", "KHz", "furlong", "PF", "°C", "M°C", "Gfurlong", "CPI")

# How a request may present itself: mostly as one who may do everything.
credentials = st.sampled_from(
    ["admin"] * 12
    + ["writer"] * 4
    + ["reader"] * 2
    + ["missing", "malformed", "unknown", "expired", "revoked"]
)
variants = st.integers(0, 3)
# Which of the ids that were ever given out, or a target that is none of them.
picks = st.one_of(st.integers(0, 30), st.sampled_from(["unknown", "-1", "0", "x", "1.0", "9" * 19]))

_texts = st.sampled_from(["a", "", "ä€😀", "x' OR 1=1 --", '{"a": "\\u0041"}', "\t\n\r\x7f\x1b"])
_counts = st.sampled_from([0, 1, 2, 2**63 - 1, None])
_numbers = st.sampled_from([0, 0.0, 1.5, 1e300, 2**53 + 1, 3])
_resources = st.fixed_dictionaries(
    {},
    optional={
        "hwthreads": st.lists(st.integers(0, 3), max_size=3),
        "accelerators": st.lists(_texts, max_size=2),
        "configuration": _texts,
    },
)
_tags = st.lists(st.sampled_from(_TAGS), max_size=3)
_optional: dict[str, st.SearchStrategy[Any]] = {
    "project": _texts,
    "subCluster": st.sampled_from(["", "own", None]),
    "partition": _texts,
    "arrayJobId": _counts,
    "numHwthreads": _counts,
    "numAcc": _counts,
    "smt": _counts,
    "walltime": _counts,
    "exclusive": st.integers(0, 2),
    "jobState": st.sampled_from(["running", None]),
    "metaData": st.dictionaries(_texts, _texts, max_size=2),
    "id": st.integers(0, 5),
    "duration": st.integers(0, 5),
    "statistics": st.dictionaries(
        st.sampled_from(["flops_any", "Ä"]),
        st.fixed_dictionaries(
            {"unit": st.sampled_from(_UNITS), "avg": _numbers, "min": _numbers, "max": _numbers}
        ),
        max_size=2,
    ),
}


@st.composite
def _jobs(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(_optional)), max_size=4, unique=True))
    hosts = draw(st.sampled_from([["f0101"], ["f0201"], ["x", "f0102"], ["f0101", "f0201"]]))
    job = {
        "jobId": draw(st.sampled_from(JOB_IDS)),
        "user": "abcd100h",
        "cluster": draw(st.sampled_from(_CLUSTERS)),
        "startTime": draw(st.sampled_from(_STARTS)),
        "resources": [{"hostname": host, **draw(_resources)} for host in hosts],
        "monitoringStatus": draw(st.sampled_from([1, 1, 1, 0, 2, 3])),
        "tags": [{"type": type_, "name": name} for type_, name in draw(_tags)],
        **{name: draw(_optional[name]) for name in names},
    }
    return {**job, "numNodes": len(hosts)} if draw(st.booleans()) else job


_selections = st.fixed_dictionaries(
    {"jobId": st.sampled_from(JOB_IDS)},
    optional={
        "cluster": st.sampled_from((*_CLUSTERS, "woody", None)),
        "startTime": st.sampled_from((*_STARTS, None)),
    },
)
_ends = st.fixed_dictionaries(
    {"stopTime": st.sampled_from(_STOPS), "jobState": st.sampled_from(FINAL_STATES)}
)
_bodies: dict[str, st.SearchStrategy[Any]] = {
    "start": _jobs(),
    "stop": st.builds(lambda one, other: {**one, **other}, _selections, _ends),
    "stop_by_id": _ends,
    "delete": _selections,
    "tag": st.lists(
        st.builds(lambda tag: {"type": tag[0], "name": tag[1]}, st.sampled_from(_TAGS)), max_size=3
    ),
}
_FIELDS = ("jobId", "user", "cluster", "startTime", "resources", "numNodes", "subCluster", "smt",
    "walltime", "exclusive", "monitoringStatus", "jobState", "metaData", "tags", "statistics",
    "stopTime", "type", "name", "more", "project")  # fmt: skip
_WRONG = (
    None, True, -1, 0, 2**63, 10**30, 1.0, float("nan"), float("inf"), "", "\0", "\ud800", "1",
    "../x", "Running", "running", [], ["a"], [[]], {}, {"a": 1}, {"a": "\0"}, [None],
    [{"hostname": "a"}, {"hostname": "a"}], [{"hostname": "a/b"}], [{"hostname": "a", "x": 1}],
    [{"hostname": "a", "hwthreads": [-1]}], [{"type": "a"}], [{"type": "", "name": "b"}],
    {"metric": {"avg": -1}}, {"metric": {"avg": "1"}}, {"metric": 1},
)  # fmt: skip
_NO_JSON = (b"", b"{", b"\xff", b"[" * 100_000, b"null", b"[1]", b"{}", b'{"jobId": 01}', b'"a"')


@st.composite
def operations(draw: st.DrawFn, name: str) -> Operation:
    """Draw an operation with a body; one in four has something wrong with it."""
    body = draw(_bodies[name])
    flaw = draw(st.sampled_from(["", "", "", "", "", "", "value", "absence", "json"]))
    if flaw == "json":
        encoded = draw(st.sampled_from(_NO_JSON))
    else:
        _spoil(body, flaw, draw)
        encoded = json.dumps(body).encode()
    return Operation(name, draw(credentials), body=encoded, variant=draw(variants))


def _spoil(body: Any, flaw: str, draw: st.DrawFn) -> None:
    spoiled = body[0] if type(body) is list and body else body
    if not flaw or type(spoiled) is not dict:
        return
    if flaw == "absence":
        spoiled.pop(draw(st.sampled_from(sorted(spoiled))))
        return
    field = draw(st.sampled_from(_FIELDS))
    wrong = draw(st.sampled_from(_WRONG))
    # Whether these are wrong, behaviour.md does not say.
    if (field, wrong) not in {("numNodes", 0), ("stopTime", 0), ("statistics", {})}:
        spoiled[field] = wrong


_pairs = st.one_of(
    st.tuples(st.just("state"), st.sampled_from((*STATES, "running", "running", "Running"))),
    st.tuples(st.just("cluster"), st.sampled_from((*_CLUSTERS, "woody", "../x", "a b"))),
    st.tuples(
        st.just("start-time"),
        st.one_of(
            st.builds("{}-{}".format, st.sampled_from(_STARTS), st.sampled_from(_STARTS)),
            st.sampled_from(["5", "-", "1-", "-1-5", f"0-{2**63}", "0-1"]),
        ),
    ),
    st.tuples(st.just("page"), st.sampled_from(["1", "1", "2", "3", "0", "-1", "x", str(2**63)])),
    st.tuples(
        st.just("items-per-page"),
        st.sampled_from(["1", "2", "3", "25", "1000", "9999999", str(2**63 - 1), "0", "1.5"]),
    ),
    st.tuples(st.just("with-metadata"), st.sampled_from(["true", "FALSE", "1", "0", "", "yes"])),
    st.just(("more", "1")),
)
_repeated_states = st.lists(
    st.tuples(st.just("state"), st.sampled_from(STATES)), min_size=2, max_size=3
)


@st.composite
def lists(draw: st.DrawFn) -> Operation:
    """Draw a list with up to four parameters; only the state is repeated."""
    pairs = draw(st.lists(_pairs, max_size=4, unique_by=lambda pair: pair[0]))
    if draw(st.integers(0, 5)) == 0:
        pairs = [pair for pair in pairs if pair[0] != "state"] + draw(_repeated_states)
    return Operation("list", draw(credentials), query=urlencode(pairs), variant=draw(variants))
