"""Refusing a body costs no more than accepting one of its size, and is answered in brief."""

import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.client import START, Client, job, stop

pytestmark = pytest.mark.slow

_MIB = 1 << 20
_MAX_ANSWER_BYTES = 4096
# Checking every item, as marshmallow does, takes 3 to 12 s.
_MAX_SECONDS = 0.5
# Measuring the coverage multiplies the cost of Python's lines.
_TRACER = 1 if sys.gettrace() is None else 5
_BODY_LIMIT = 79 * _MIB // 10


def items(item: Any) -> Callable[[int], Any]:
    """Return a maker of lists of one item that have a size in JSON."""
    return lambda size: [item] * (size // (len(json.dumps(item)) + 2))


def entries(value: Any) -> Callable[[int], Any]:
    """Return a maker of objects of different keys and one value that have a size in JSON."""
    length = len(json.dumps(value)) + 14
    return lambda size: {f"{n:08}": value for n in range(size // length)}


def text(size: int) -> str:
    return "x" * size


def escaped(size: int) -> str:
    return "\0" * (size // 6)


def started(**makers: Callable[[int], Any]) -> Callable[[int], Any]:
    return lambda size: job(**{name: maker(size) for name, maker in makers.items()})


def nodes(maker: Callable[[int], Any]) -> Callable[[int], Any]:
    return lambda size: {"cluster": "fritz", "nodes": maker(size)}


def running(name: str, maker: Callable[[int], Any]) -> Callable[[int], Any]:
    return lambda size: {"cluster": "fritz", "asOf": START, "jobs": [], name: maker(size)}


START_JOB = ("POST", "/start_job/")
WRONG: dict[str, tuple[tuple[str, str], Callable[[int], Any]]] = {
    "resources": (START_JOB, started(resources=items(0))),
    "empty resources": (START_JOB, started(resources=items({}))),
    "null resources": (START_JOB, started(resources=items(None))),
    "threads": (START_JOB, started(resources=items({"hostname": "a", "hwthreads": ["x"]}))),
    "one node's threads": (
        START_JOB,
        lambda size: job(resources=[{"hostname": "a", "hwthreads": items("x")(size)}]),
    ),
    "one node's devices": (
        START_JOB,
        lambda size: job(resources=[{"hostname": "a", "accelerators": items(1)(size)}]),
    ),
    "tags": (START_JOB, started(tags=items(0))),
    "empty tags": (START_JOB, started(tags=items({}))),
    "statistics": (START_JOB, started(statistics=entries(0))),
    "statistics' values": (START_JOB, started(statistics=entries({"avg": "x"}))),
    "names of metrics": (START_JOB, lambda size: job(statistics={escaped(size): {}})),
    "metadata": (START_JOB, started(metaData=entries(0))),
    "a key of metadata": (START_JOB, lambda size: job(metaData={text(size): 0})),
    "footprint": (START_JOB, started(footprint=entries("x"))),
    "energy": (START_JOB, started(energyFootprint=entries([]))),
    "cluster": (START_JOB, started(cluster=text)),
    "shared": (START_JOB, started(shared=text)),
    "no job": (START_JOB, entries(0)),
    "keys of a job": (START_JOB, lambda size: {"cluster": 1, **entries(0)(size)}),
    "body": (START_JOB, items(0)),
    "metadata of a stop": (
        ("POST", "/stop_job/"),
        lambda size: stop(metaData=entries(0)(size)),
    ),
    "new tags": (("POST", "/tag_job/1"), items(0)),
    "new empty tags": (("POST", "/tag_job/1"), items({})),
    "old tags": (("DELETE", "/tag_job/1"), items([])),
    "edited metadata": (("POST", "/edit_meta/1"), entries(0)),
    "a state": (("POST", "/correct_job/1"), lambda size: {"jobState": text(size)}),
    "later statistics": (("PUT", "/statistics/1"), entries(0)),
    "running jobs": (("POST", "/reconcile/"), running("jobs", items(0))),
    "ended jobs": (("POST", "/reconcile/"), running("ended", items({}))),
    "nodes": (("POST", "/api/nodestate/"), nodes(items(0))),
    "nodes' states": (
        ("POST", "/api/nodestate/"),
        nodes(items({"hostname": "a", "states": [0]})),
    ),
}


def refuse(admin: Client, method: str, path: str, body: Any) -> tuple[float, str]:
    data = json.dumps(body).encode()
    # As in a worker, whose garbage collector does not see the tests' many objects.
    gc.freeze()
    before = time.process_time()
    response = admin.send(method, path, data)
    seconds = time.process_time() - before
    gc.unfreeze()
    assert response.status_code == 400, response.text[:200]
    assert len(response.data) <= _MAX_ANSWER_BYTES
    return seconds, response.get_json()["error"]


@pytest.mark.parametrize(("request_line", "maker"), WRONG.values(), ids=WRONG)
def test_refusing_a_mebibyte_costs_little(
    admin: Client, request_line: tuple[str, str], maker: Callable[[int], Any]
) -> None:
    seconds, _ = refuse(admin, *request_line, maker(_MIB))
    assert seconds < _TRACER * _MAX_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize(("request_line", "maker"), WRONG.values(), ids=WRONG)
def test_refusing_8_mebibytes_takes_under_a_second(
    admin: Client, request_line: tuple[str, str], maker: Callable[[int], Any]
) -> None:
    seconds, _ = refuse(admin, *request_line, maker(_BODY_LIMIT))
    assert seconds < _TRACER


def test_ten_mistakes_are_named(admin: Client) -> None:
    _, error = refuse(admin, *START_JOB, job(resources=[0] * 12))
    mistakes = error.split("; ")
    assert mistakes[0] == "resources.0: must be an object"
    assert mistakes[9:] == ["resources.9: must be an object", "and more"]


def test_exactly_ten_mistakes_are_all(admin: Client) -> None:
    _, error = refuse(admin, *START_JOB, job(resources=[0] * 10))
    assert len(error.split("; ")) == 10
