"""The conditions of the filters in use, and their parameters: sql/filters/job_filter.sql."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from psycopg.rows import scalar_row

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.model.job import JobFilter, JobState, Range, Tag
from ccapi.model.rules import MAX_INTEGER

_SQL = queries.load("job_filter")
_PARTS = queries.parts("job_filter")
_STATES = {f"state_{state}": queries.fill(_PARTS["state"], state=state) for state in JobState}
_CONDITIONS = _PARTS | _STATES
# Conditions with one best plan for all values, and lists whose index begins with a column.
_ONE_PLAN = frozenset(("start_time", "after_position", *_STATES))
_FIRST_COLUMNS: dict[tuple[str, ...], str] = {
    ("cluster",): "cluster",
    **{("cluster", state): "cluster" for state in _STATES},
    ("user_name",): "user_name",
    ("project",): "project",
}
# The jobs of a rare tag are looked up, at 4 us each; a list soon meets a common tag anyway.
_COMMON_TAG_JOBS = 10_000
RANGES = frozenset(field.name for field in fields(JobFilter) if field.type == Range | None)
# Conditions on lists, however many values these have.
_LISTS = frozenset(
    ("not_partition", "not_user_name", "scope_user_name", "scope_project", "scope_cluster")
)
_OTHERS = {"state", "not_state", "name", "host", "tag", "not_tag", "scope", "now"}
# The names of the columns whose values are compared as they are.
_VALUES = frozenset(field.name for field in fields(JobFilter)) - RANGES - _OTHERS
_LIKE_ESCAPES = str.maketrans({character: f"\\{character}" for character in "\\%_"})


class Conditions(NamedTuple):
    """The names of conditions that must all be true, and the values of their parameters.

    `is_complete` is False if they leave out the hosts' earlier jobs.
    """

    names: tuple[str, ...]
    params: dict[str, Any]
    is_complete: bool = True

    @property
    def sql(self) -> str:
        """Return the conditions as SQL."""
        return "\n      AND ".join([_CONDITIONS[name] for name in self.names]) or "true"

    @property
    def have_one_plan(self) -> bool:
        """Return whether one plan is the best for all values, so that a statement can be prepared.

        The values of other filters may be rare, which PostgreSQL has to know.
        """
        return _ONE_PLAN.issuperset(self.names)

    @property
    def first_column(self) -> str | None:
        """Return the first column of the index that has exactly these jobs, in a list's order."""
        return _FIRST_COLUMNS.get(self.names)


def own_conditions(job_filter: JobFilter) -> Conditions:
    """Return the conditions on a job's own columns.

    A condition with one value is an equation, which lets an index return jobs in order.
    """
    names: list[str] = []
    params: dict[str, Any] = {"now": job_filter.now}
    for name, values in _values(job_filter).items():
        is_list = name in _LISTS or len(values) != 1
        names.append(f"{name}_any" if is_list and name not in _LISTS else name)
        params[name] = values if is_list else values[0]
    if "state" in names:
        names[names.index("state")] = f"state_{params['state']}"
    if "state_any" in names:
        # A literal, not an array parameter: the planner knows its values.
        params["state"] = f"{{{','.join(params['state'])}}}"
    for name in RANGES:
        bounds = getattr(job_filter, name)
        if bounds is not None:
            names.append(name)
            params[f"{name}_from"], params[f"{name}_to"] = bounds
    return Conditions(tuple(sorted(names)), params)


def _values(job_filter: JobFilter) -> dict[str, list[Any]]:
    """Return the values of each filter in use that is not a range."""
    filters = ((name, getattr(job_filter, name)) for name in _VALUES)
    values = {name: list(several) for name, several in filters if several is not None}
    if job_filter.state is not None or job_filter.not_state is not None:
        states = {*(job_filter.state or JobState)} - {*(job_filter.not_state or ())}
        values["state"] = sorted(states)
    if job_filter.name is not None:
        values["name"] = [_like_pattern(name) for name in job_filter.name]
    scope = job_filter.scope
    scopes = {"user_name": scope.users, "project": scope.projects, "cluster": scope.clusters}
    for name, allowed in scopes.items():
        if allowed is not None:
            # A scope of one value is as fast as the filter by it, which it is.
            is_filter = len(allowed) == 1 and name not in values
            values[name if is_filter else f"scope_{name}"] = list(allowed)
    return values


def _like_pattern(name: str) -> str:
    """Return the pattern of a name's beginning, or of *part*."""
    is_part = name.startswith("*") and name.endswith("*")
    text = name[1:-1] if is_part else name
    return f"{'%' * is_part}{text.translate(_LIKE_ESCAPES)}%"


def conditions_of(
    conn: Connection,
    job_filter: JobFilter,
    *,
    start_to: int = MAX_INTEGER,
    max_periods: int | None = None,
    in_range: bool = False,
) -> Conditions:
    """Return the conditions on a job's own columns, its tags and its hosts.

    A host's jobs are limited to the latest `max_periods` with a start up to `start_to`. With
    `in_range`, the conditions are those of statistics, which have another plan.
    """
    names, params, is_complete = own_conditions(job_filter)
    added = []
    if job_filter.tag is not None:
        params["tag_ids"], is_common = _find_tags(conn, job_filter.tag)
        added.append("tag_in_range" if in_range else "common_tag" if is_common else "rare_tag")
    if job_filter.not_tag is not None:
        params["not_tag_ids"], _ = _find_tags(conn, job_filter.not_tag)
        added.append("not_tag_in_range" if in_range else "not_tag")
    if job_filter.host is not None:
        lower, upper = job_filter.start_time or (0, MAX_INTEGER)
        query = {
            "hosts": list(job_filter.host),
            "start_from": lower,
            "start_to": min(upper, start_to),
            "limit": max_periods,
        }
        with conn.cursor(row_factory=scalar_row) as cursor:
            periods = cursor.execute(_SQL["list_host_keys"], query).fetchall()
        params["host_keys"] = [key for keys in periods for key in keys]
        is_complete = max_periods is None or len(periods) < max_periods
        added.append("host_in_range" if in_range else "host")
    return Conditions((*names, *added), params, is_complete)


def _find_tags(conn: Connection, tags: Sequence[Tag]) -> tuple[list[int], bool]:
    """Return the ids of the known tags among some, and whether many jobs have one of them.

    TYPE:NAME was split at its first colon, and a type may have a colon of its own.
    """
    texts = [f"{tag.type}:{tag.name}" for tag in tags]
    splits = [
        (text[:place], text[place + 1 :])
        for text in texts
        for place, character in enumerate(text)
        if character == ":"
    ]
    params = {
        "types": [type_ for type_, _ in splits],
        "names": [name for _, name in splits],
        "many": _COMMON_TAG_JOBS,
    }
    rows = conn.execute(_SQL["find_tags"], params).fetchall()
    return [id_ for id_, _ in rows], any(is_common for _, is_common in rows)
