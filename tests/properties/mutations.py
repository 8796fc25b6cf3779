"""Random changes of bodies that clients send: some change nothing, others must be refused."""

import copy
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

from tests.client import START

Body = dict[str, Any] | list[Any]
Shape = tuple[set[type], dict[str, Any]]

# The JSON types of a field's values; an object's fields follow, `each` is for items of an array
# and values of a map.
_INTEGER: set[type] = {int}
_NUMBER: set[type] = {int, float}
_TEXT: set[type] = {str}
_MAP_OF_TEXTS: Shape = ({dict}, {"each": (_TEXT, {})})
_MAP_OF_NUMBERS: Shape = ({dict}, {"each": (_NUMBER, {})})
_UNIT: Shape = ({str, dict}, {"base": (_TEXT, {}), "prefix": (_TEXT, {})})
_METRIC: Shape = ({dict}, {"unit": _UNIT, **dict.fromkeys(("avg", "min", "max"), (_NUMBER, {}))})
_METRICS: Shape = ({dict}, {"each": _METRIC})
_TAG: Shape = ({dict}, {"type": (_TEXT, {}), "name": (_TEXT, {})})
_RESOURCE: Shape = (
    {dict},
    {
        "hostname": (_TEXT, {}),
        "hwthreads": ({list}, {"each": (_INTEGER, {})}),
        "accelerators": ({list}, {"each": (_TEXT, {})}),
        "configuration": (_TEXT, {}),
    },
)
_JOB: Shape = (
    {dict},
    {
        **dict.fromkeys(
            (
                *("id", "duration", "jobId", "startTime", "arrayJobId", "numNodes", "smt"),
                *("numHwthreads", "numAcc", "exclusive", "walltime", "monitoringStatus"),
                *("submitTime", "requestedMemory"),
            ),
            (_INTEGER, {}),
        ),
        **dict.fromkeys(
            ("user", "project", "cluster", "subCluster", "partition", "jobState", "shared"),
            (_TEXT, {}),
        ),
        "energy": (_NUMBER, {}),
        "footprint": _MAP_OF_NUMBERS,
        "energyFootprint": _MAP_OF_NUMBERS,
        "resources": ({list}, {"each": _RESOURCE}),
        "tags": ({list}, {"each": ({dict}, {**_TAG[1], "id": (_INTEGER, {})})}),
        "statistics": _METRICS,
        "metaData": _MAP_OF_TEXTS,
    },
)
_SELECTION: dict[str, Shape] = {
    "jobId": (_INTEGER, {}),
    "cluster": (_TEXT, {}),
    "startTime": (_INTEGER, {}),
}
_STOP: Shape = (
    {dict},
    {
        **_SELECTION,
        "stopTime": (_INTEGER, {}),
        "jobState": (_TEXT, {}),
        "metaData": _MAP_OF_TEXTS,
    },
)
_EDIT: Shape = ({dict}, {"metaData": _MAP_OF_TEXTS})
_PAIR: Shape = ({dict}, {"key": (_TEXT, {}), "value": (_TEXT, {})})
_NODE: Shape = (
    {dict},
    {
        "hostname": (_TEXT, {}),
        "states": ({list}, {"each": (_TEXT, {})}),
        **dict.fromkeys(
            ("cpusAllocated", "memoryAllocated", "gpusAllocated", "jobsRunning"), (_INTEGER, {})
        ),
    },
)
_NODES: Shape = ({dict}, {"cluster": (_TEXT, {}), "nodes": ({list}, {"each": _NODE})})


class Operation(NamedTuple):
    """An operation and a valid body; `required` fields must not be null."""

    method: str
    path: str
    body: Body
    shape: Shape
    required: frozenset[str] = frozenset()


_EVERYTHING: dict[str, Any] = {
    "id": 1, "duration": 5, "jobId": 2, "user": "abcd100h", "project": "abcd200",
    "cluster": "fritz", "subCluster": "main", "partition": "main", "startTime": START,
    "arrayJobId": 0, "numNodes": 2, "numHwthreads": 4, "numAcc": 1, "exclusive": 3, "smt": 1,
    "shared": "single_user", "walltime": 3600, "monitoringStatus": 0, "jobState": "",
    "submitTime": START - 60, "requestedMemory": 128000, "energy": 1.5,
    "footprint": {"mem_bw": 40}, "energyFootprint": {"cpu": 1.25},
    "resources": [
        {"hostname": "f0101", "hwthreads": [0, 1], "accelerators": ["0:1"], "configuration": "c"},
        {"hostname": "f0102"},
    ],
    "tags": [{"id": 3, "type": "Debug", "name": "Testjob", "scope": "global"}],
    "statistics": {
        "mem_bw": {"unit": {"base": "B/s", "prefix": "G"}, "avg": 40.0, "min": 0.5, "max": 90},
        "cpu_load": {"unit": "", "avg": 1, "min": 0, "max": 2},
    },
    "concurrentJobs": {"items": None, "count": 0},
    "metaData": {"jobName": "rotor"},
}  # fmt: skip
_SELECTED = {"jobId": 1, "cluster": "fritz", "startTime": START}
_IDENTITY = ("jobId", "user", "cluster", "startTime", "resources", "hostname", "type", "name")
_ENDS = frozenset(("jobId", "stopTime", "jobState"))
# {id} is a running job with jobId 1; jobId 2 is free, and jobId 3 runs.
OPERATIONS = {
    "start": Operation(
        "POST", "/start_job/", _EVERYTHING, _JOB, frozenset((*_IDENTITY, "base"))
    ),
    "stop": Operation(
        "POST",
        "/stop_job/",
        {
            **_SELECTED,
            "jobId": 3,
            "jobState": "NODE_FAIL",
            "stopTime": START + 60,
            "metaData": {"exitCode": "0:1"},
        },
        _STOP,
        _ENDS,
    ),
    "tag": Operation(
        "POST",
        "/tag_job/{id}",
        [{"type": "Debug", "name": "Testjob"}, {"type": "a", "name": "b"}],
        ({list}, {"each": _TAG}),
        frozenset(("type", "name")),
    ),
    "edit_meta": Operation(
        "PATCH", "/edit_meta/{id}", {"metaData": {"a": "b"}}, _EDIT, frozenset(("metaData",))
    ),
    "edit_meta by key": Operation(
        "PATCH",
        "/edit_meta/{id}",
        {"key": "a", "value": "b"},
        _PAIR,
        frozenset(("key", "value")),
    ),
    "edit_meta by request": Operation(
        "PATCH",
        "/edit_meta/",
        {**_SELECTED, "payload": {"key": "a", "value": "b"}},
        ({dict}, {**_SELECTION, "payload": _PAIR}),
        frozenset(("jobId", "payload", "key", "value")),
    ),
    "statistics": Operation(
        "PUT",
        "/statistics/{id}",
        _EVERYTHING["statistics"],
        _METRICS,
        frozenset(("base",)),
    ),
    "nodestate": Operation(
        "POST",
        "/api/nodestate/",
        {
            "cluster": "fritz",
            "nodes": [
                {"hostname": "f0101", "states": ["allocated"], "cpusAllocated": 2,
                 "memoryAllocated": 4096, "gpusAllocated": 0, "jobsRunning": 1},
                {"hostname": "f0102", "states": None},
            ],
        },
        _NODES,
        frozenset(("cluster", "nodes", "hostname")),
    ),
}  # fmt: skip

_WRONG: tuple[Any, ...] = (
    True, False, -1.5, 1e300, 7, "x", "", [], [1], ["x"], [[]], [None], {}, {"x": 1}, {"x": {}},
)  # fmt: skip
_UNKNOWN = (
    "colour", "größe", "a b", "a,b", "x" * 80, "__proto__", "jobld", "tagss", "", "\n",
    "\U0001f600", "a\r\nX-Injected: 1", "%", "jobId ", "job_id", "\0",
)  # fmt: skip
_ANYTHING: tuple[Any, ...] = (
    *(0, 1, -1, 1.5, 2**63, 10**30, True, "", "x", "\0", "\U0010ffff", [], {}, [None], {"a": None}),
    {"jobId": 5, "tags": [{"type": 1}]},
)


class Mutation(NamedTuple):
    """A changed body, the names of its unknown fields, and what of it must be refused."""

    body: Body
    unknown: frozenset[str]
    wrong: str | None


def mutate(operation: Operation, random: Random) -> Mutation:
    """Change a body in some ways; one body in three gets a wrong value, too."""
    body = copy.deepcopy(operation.body)
    unknown: set[str] = set()
    wrong = None
    if random.random() < 1 / 3:
        wrong = _make_wrong(body, operation, random)
    else:
        for _ in range(random.choice((0, 0, 1, 3))):
            _nullify(body, operation, random)
    for _ in range(random.choice((0, 1, 3))):
        _rename(body, operation, random)
    for _ in range(random.choice((0, 1, 1, 3))):
        unknown.update(_add_unknown(body, operation, random))
    return Mutation(body, frozenset(unknown), wrong)


class _Field(NamedTuple):
    """A known field of a body: its value, what holds it, and its shape."""

    holder: Any
    key: Any
    name: str
    types: set[type]
    fields: dict[str, Any]

    @property
    def value(self) -> Any:
        return self.holder[self.key]


def _fields(value: Any, shape: Shape) -> Iterator[_Field]:
    """Yield the known fields of a body, at any depth, whatever the case of their names."""
    _, fields = shape
    items: Any = enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, dict):
        items = list(value.items())
    by_lower_case = {name.lower(): name for name in fields}
    for key, item in items:
        name = "each" if "each" in fields else by_lower_case.get(str(key).lower())
        if name is None:
            continue
        types, inner = fields[name]
        yield _Field(value, key, name, types, inner)
        if type(item) in types and isinstance(item, dict | list):
            yield from _fields(item, (types, inner))


def _objects(operation: Operation, body: Body) -> list[dict[str, Any]]:
    """Return the objects that have named fields."""
    objects = [
        field.value
        for field in _fields(body, operation.shape)
        if type(field.value) is dict and field.fields and "each" not in field.fields
    ]
    if isinstance(body, dict) and "each" not in operation.shape[1]:
        objects.append(body)
    return objects


def _add_unknown(body: Body, operation: Operation, random: Random) -> list[str]:
    """Add an unknown field, deep or not; return its name."""
    objects = _objects(operation, body)
    if not objects:
        return []
    name = random.choice(_UNKNOWN)
    value = copy.deepcopy(random.choice(_ANYTHING))
    for _ in range(random.choice((0, 0, 1, 3, 40))):
        value = random.choice(({name: value}, [value]))
    random.choice(objects)[name] = value
    return [name]


def _rename(body: Body, operation: Operation, random: Random) -> None:
    """Write a known field in another case."""
    candidates = [
        field
        for field in _fields(body, operation.shape)
        if isinstance(field.holder, dict) and field.name != "each"
    ]
    if candidates:
        field = random.choice(candidates)
        key = "".join(random.choice((letter.lower(), letter.upper())) for letter in field.key)
        field.holder[key] = field.holder.pop(field.key)


def _nullify(body: Body, operation: Operation, random: Random) -> None:
    """Let an optional field be null."""
    candidates = [
        field
        for field in _fields(body, operation.shape)
        if field.name != "each" and field.name not in operation.required
    ]
    if candidates:
        field = random.choice(candidates)
        field.holder[field.key] = None


def _make_wrong(body: Body, operation: Operation, random: Random) -> str:
    """Give a known field a value of a wrong type, or null if it is required."""
    field = random.choice(list(_fields(body, operation.shape)))
    values = [value for value in _WRONG if type(value) not in field.types]
    values += [{"x": field.value}, [field.value]]
    values = [value for value in values if type(value) not in field.types]
    # Without them, an edit of metadata has another form.
    if field.name in operation.required - {"key", "value", "metaData"}:
        values.append(None)
    field.holder[field.key] = copy.deepcopy(random.choice(values))
    return f"{field.name}: {field.holder[field.key]!r}"
