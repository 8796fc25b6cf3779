"""Convert jobs between the model and the columns of the table `jobs`.

Consecutive nodes with the same use are one object, whose "hostname" is an array of names, and
hardware threads are ranges: "0-71". sql/schema.sql documents this for readers of the table.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

import orjson
from orjson import Fragment
from psycopg import Cursor

from ccapi.db import queries
from ccapi.model.job import Job, NewJob, Tag

COLUMNS = tuple(queries.fragment("job_columns").replace(",", " ").split())
_values = attrgetter(*COLUMNS)
_JSON_COLUMNS = ("meta_data", "statistics", "footprint", "energy_footprint")
# A row of fewer numbers is shorter than its range.
_MIN_RANGE = 3
# A node has a few hundred threads; longer arrays must not fill the memory of the workers.
_MAX_CACHED, _MAX_CACHED_BYTES = 256, 8192
_expanded: dict[str, Fragment] = {}


def to_row(job: NewJob | Job) -> dict[str, Any]:
    """Return a job's columns by name, JSON columns as objects; for a JSON parameter."""
    row = dict(zip(COLUMNS, _values(job), strict=True))
    if isinstance(job, Job):
        row["resources"] = group_nodes(orjson.loads(job.resources))
    else:
        row["resources"] = group_nodes(job.resources)
    for name in _JSON_COLUMNS:
        value = row[name]
        row[name] = Fragment(value) if value and isinstance(value, str) else value or None
    return row


def to_copy_row(job: NewJob) -> list[object]:
    """Return a job's columns in order, JSON columns as text; for COPY."""
    values = to_row(job).values()
    return [json_or_none(value) if type(value) in {dict, list} else value for value in values]


def json_or_none(value: object) -> str | None:
    """Return JSON text for a column; None for an empty object or none at all."""
    return orjson.dumps(value).decode() if value else None


def tags_json(tags: Iterable[Tag]) -> str:
    """Return tags as the JSON parameter of a query."""
    return orjson.dumps([tag._asdict() for tag in tags]).decode()


def group_nodes(nodes: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Group consecutive nodes with the same use; hardware threads become ranges.

    A use is a node's fields in their order, without the name if that comes first: otherwise
    the node would not come back byte for byte.
    """

    def use_of(node: Mapping[str, Any]) -> list[tuple[str, Any]]:
        (first, _), *rest = items = list(node.items())
        return rest if first == "hostname" else items

    groups = []
    for use, same_use in groupby(nodes, use_of):
        hosts = [node["hostname"] for node in same_use]
        group = {"hostname": hosts[0] if len(hosts) == 1 else hosts}
        if any(key == "hostname" for key, _ in use):
            group = {}
        groups.append(
            group | {key: to_ranges(value) if key == "hwthreads" else value for key, value in use}
        )
    return groups


def to_ranges(numbers: list[int]) -> str | list[int]:
    """Write numbers as "0-35,72-107", or return them unchanged if that is not shorter."""
    if len(numbers) < _MIN_RANGE:
        return numbers
    if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"{numbers[0]}-{numbers[-1]}"  # the usual case, found at C speed
    # A range begins where a number is not its predecessor plus one.
    begins = [0] + [n for n in range(1, len(numbers)) if numbers[n] != numbers[n - 1] + 1]
    if _MIN_RANGE * len(begins) > len(numbers):
        return numbers
    ends = [*(begin - 1 for begin in begins[1:]), len(numbers) - 1]
    bounds = zip(begins, ends, strict=True)
    return ",".join(f"{numbers[begin]}-{numbers[end]}" for begin, end in bounds)


def expand_nodes(resources: str) -> str:
    """Return the column `resources` as a JSON array with one object per node."""
    nodes: list[dict[str, Any]] = []
    for group in orjson.loads(resources):
        threads = group.get("hwthreads")
        if type(threads) is str:
            group["hwthreads"] = _expanded.get(threads) or expand_ranges(threads)
        if type(group["hostname"]) is str:
            nodes.append(group)
        else:
            nodes += [{**group, "hostname": host} for host in group["hostname"]]
    return orjson.dumps(nodes).decode()


def expand_ranges(ranges: str) -> Fragment:
    """Return ranges as a JSON array; most jobs have one of a few, which are cached."""
    numbers: list[int] = []
    for part in ranges.split(","):
        first, last = part.split("-")
        numbers += range(int(first), int(last) + 1)
    content = orjson.dumps(numbers)
    if len(content) <= _MAX_CACHED_BYTES:
        if len(_expanded) >= _MAX_CACHED:
            _expanded.clear()
        _expanded[ranges] = Fragment(content)
    return Fragment(content)


def compact_job_row(_cursor: Cursor[Any]) -> Callable[[Sequence[Any]], Job]:
    """Make a Job of each row, as job_row does, but leave `resources` as they are stored."""
    return lambda values: Job(*values)


def job_row(_cursor: Cursor[Any]) -> Callable[[Sequence[Any]], Job]:
    """Make a Job of each row whose columns are its fields, in order; psycopg's row factory."""

    def to_job(values: Sequence[Any]) -> Job:
        job = Job(*values)
        job.resources = expand_nodes(job.resources)
        return job

    return to_job
