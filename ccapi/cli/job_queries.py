"""`ccapi jobs list`, `show` and `stats`: the API's questions, for shells and scripts."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click
import orjson

from ccapi.api import statistics
from ccapi.api.job_list import parse_filter
from ccapi.api.queries import ListQuery
from ccapi.api.serializers import job_meta
from ccapi.api.statistics import StatsQuery
from ccapi.cli.params import format_utc
from ccapi.cli.settings import Settings, uses_settings
from ccapi.errors import InvalidInput
from ccapi.http.parser import load_values
from ccapi.http.schema import QueryBoolean, QuerySchema
from ccapi.logs import printable
from ccapi.model.job import DEFAULT_ORDER, Job, SortBy
from ccapi.model.rules import MAX_INTEGER
from ccapi.model.token import ALL_JOBS
from ccapi.repository import job_list
from ccapi.repository import jobs as job_rows

# As grep: nothing matched.
NOTHING = 1
_BATCH_SIZE = 1000
# All of them are in memory, because each batch would sort the whole list again.
_MAX_SORTED = 100_000
_NOT_OPTIONS = frozenset(
    ("page", "items-per-page", "cursor", "with-metadata", "fields", "format", "total")
)
_TABLE = "{:>10} {:>12}  {:<12} {:<12} {:<10} {:<13} {:>5} {:<20} {:>12}  {}".format
_HEADER = ("ID", "JOBID", "USER", "PROJECT", "CLUSTER", "STATE", "NODES", "STARTED", "DURATION",
           "NAME")  # fmt: skip
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def _query_options(schema: QuerySchema) -> Callable[[Any], Any]:
    """Add an option for each parameter of the API's query, with its name and its rules."""

    def decorate(command: Any) -> Any:
        for key, (_, field) in reversed([*schema.fields_by_key.items()]):
            if key not in _NOT_OPTIONS:
                flag: dict[str, Any] = {"is_flag": True, "flag_value": "true"}
                command = click.option(
                    f"--{key}",
                    key.replace("-", "_"),
                    multiple=getattr(field, "is_repeatable", False),
                    **(flag if isinstance(field, QueryBoolean) else {}),
                    help=f"{field.metadata['description']}.",
                )(command)
        return command

    return decorate


def _load(schema: QuerySchema, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options in use as the API's checked query; raises InvalidInput."""
    values = {name.replace("_", "-"): value for name, value in options.items()}
    used = {key: value for key, value in values.items() if value is not None and value != ()}
    return load_values(
        schema, {key: list(value) if type(value) is tuple else value for key, value in used.items()}
    )


@click.command("list")
@_query_options(ListQuery())
@click.option("--limit", type=click.IntRange(min=1), help="Print at most so many jobs.")
@_JSON
@uses_settings
def list_jobs(settings: Settings, /, limit: int | None, *, as_json: bool, **options: Any) -> None:
    """List jobs, the latest first; the filters are those of the API.

    With --json, each line is a job. The exit status is 0 if a job matches, 1 if none does, and 2
    if the search failed.
    """
    query = _load(ListQuery(), options)
    job_filter = parse_filter(query, ALL_JOBS)
    page = job_list.Page(0, limit or MAX_INTEGER, order=query.get("sort", DEFAULT_ORDER))
    is_sorted = page.order.sort_by is not SortBy.START_TIME
    if is_sorted and page.limit > _MAX_SORTED:
        raise InvalidInput.of("limit", f"must be at most {_MAX_SORTED} with --sort")
    columns = job_list.Columns(meta_data=True)
    at, number = job_filter.now, 0
    batch_size = page.limit if is_sorted else _BATCH_SIZE
    with settings.context.database.snapshot() as conn:
        for batch in job_list.batches(conn, job_filter, page, columns, batch_size):
            if batch.jobs and number == 0 and not as_json:
                click.echo(_TABLE(*_HEADER).rstrip())
            number += len(batch.jobs)
            for line in _lines(batch.jobs, at, as_json=as_json):
                click.echo(line)
    if number == 0:
        sys.exit(NOTHING)


def _lines(jobs: Iterable[Job], at: int, *, as_json: bool) -> Iterator[str]:
    for job in jobs:
        if as_json:
            yield orjson.dumps(job_meta(job, at, with_unit_objects=False)).decode()
            continue
        name = orjson.loads(job.meta_data).get("jobName", "") if job.meta_data else ""
        texts = (job.user_name, job.project, job.cluster, job.job_state)
        yield _TABLE(
            job.id,
            job.job_id,
            *map(printable, texts),
            job.num_nodes,
            format_utc(job.start_time),
            format_duration(job.duration(at)),
            printable(name),
        ).rstrip()


@click.command()
@click.argument("id_", metavar="ID", type=click.IntRange(1, MAX_INTEGER))
@_JSON
@uses_settings
def show(settings: Settings, id_: int, *, as_json: bool) -> None:
    """Show everything about the job with a database ID.

    The exit status is 1 if there is no such job, and 2 if the search failed.
    """
    with settings.context.database.connection() as conn:
        job = job_rows.get(conn, id_)
    if job is None:
        click.echo(f"ccapi: no job has the database id {id_}", err=True)
        sys.exit(NOTHING)
    content = orjson.dumps(job_meta(job, int(time.time()), with_unit_objects=False))
    if as_json:
        click.echo(content.decode())
        return
    for name, value in orjson.loads(content).items():
        click.echo(f"{name}: {printable(_text(value))}")


@click.command()
@_query_options(StatsQuery())
@_JSON
@uses_settings
def stats(settings: Settings, /, *, as_json: bool, **options: Any) -> None:
    """Count the jobs that ran within a range of time, and what they used, as the API does.

    The exit status is 0 if a job matches, 1 if none does, and 2 if the search failed.
    """
    query = _load(StatsQuery(), options)
    answer = statistics.answer(settings.context, query)
    assert isinstance(answer, dict)
    if as_json:
        click.echo(orjson.dumps(answer).decode())
    elif groups := answer["groups"]:
        names = list(dict.fromkeys(name for group in groups for name in group))
        values = ([group.get(name, "") for name in names] for group in groups)
        rows = [names, *([printable(_text(value)) for value in row] for row in values)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo("  ".join(cells).rstrip())
    if not answer["numJobs"]:
        sys.exit(NOTHING)


def _text(value: Any) -> str:
    """Return a text as it is, and anything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def format_duration(seconds: int) -> str:
    """Return seconds as hours, minutes and seconds."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
