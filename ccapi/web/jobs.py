"""The list of jobs, and one job with its forms."""

from dataclasses import replace
from typing import Any, NamedTuple

import orjson
from flask import Response, current_app, render_template, request

from ccapi.api import job_list as api_list
from ccapi.api.job_list import ListRequest
from ccapi.api.serializers import JOB_FIELDS, job_meta, now
from ccapi.archive import layout
from ccapi.context import Context
from ccapi.errors import UnknownJob
from ccapi.model.job import FINAL_STATES, Job, JobFilter, JobState, Range
from ccapi.model.rules import MAX_INTEGER
from ccapi.model.token import Scope
from ccapi.repository import edits as edit_rows
from ccapi.repository import job_list, jobs
from ccapi.repository.job_list import Columns, Page
from ccapi.web import words
from ccapi.web.job_links import links_of
from ccapi.web.pages import blueprint, data_response, shared_part
from ccapi.web.queries import JobQuery, JobsQuery, require_one_screen, resolve

# Fields of the filter form; the form carries other filters along unseen.
_FORM_FIELDS = {
    "state", "cluster", "user", "project", "partition", "host", "tag", "last", "start-time",
    "duration", "num-nodes", "name", "wait", "num-acc",
}  # fmt: skip


_MAX_CSV_ROWS, _MAX_SORTED_CSV_ROWS = "100000", "1000"
# Hosts of a job that its page lists one by one, and on which it looks for other jobs.
_MAX_HOSTS, _MAX_SHARED_HOSTS = 2_000, 50
# How long before it they may have begun: a busy host had millions of jobs.
_MAX_NEIGHBOUR_SECONDS = 7 * 86_400


# Choices of the form: parameter, label, and values with their texts.
_CHOICES = (
    (
        "duration",
        "Ran for",
        (
            ("-60", "up to 1 min (short jobs)"),
            ("-600", "up to 10 min"),
            ("3600-", "1 h and more"),
            ("86400-", "1 day and more"),
        ),
    ),
    ("wait", "Waited for", (("3600-", "1 h and more"), ("86400-", "1 day and more"))),
    (
        "num-nodes",
        "Nodes",
        (("1-1", "1"), ("2-8", "2 to 8"), ("9-64", "9 to 64"), ("65-", "65 and more")),
    ),
    ("num-acc", "GPUs", (("1-", "1 and more"), ("-0", "none"))),
)


class Row(NamedTuple):
    """A job in a table; `used` is the used part of its walltime in percent."""

    job: Job
    name: str
    host: str
    tags: list[dict[str, Any]]
    duration: int
    used: int | None


@blueprint.page("/jobs", query=JobsQuery())
def jobs_page(context: Context, query: dict[str, Any]) -> str | Response:
    """List jobs; format=csv and format=json answer as the API does."""
    if "format" in query:
        return api_list.respond(context, ListRequest.parse(context, resolve(query)))
    require_one_screen(query)
    filters = words.filters(request.args)
    return render_template(
        "jobs.html",
        rows=_rows(context, query, is_live=False),
        rows_address=words.address("/jobs/rows", request.args.items(multi=True)),
        filters=filters,
        hidden=[
            (name, value)
            for name, value in filters
            if name not in _FORM_FIELDS or (name != "state" and value != request.args[name])
        ],
        range=query.get("start_time"),
        more={"tag", *(name for name, *_ in _CHOICES)} & request.args.keys(),
        states=JobState,
        choices=_CHOICES,
        lasts=words.LASTS,
    )


@blueprint.page("/jobs/rows", query=JobsQuery())
def job_rows(context: Context, query: dict[str, Any]) -> str:
    """Show the rows of a list alone: the page replaces its own by them."""
    require_one_screen(query)
    return _rows(context, query, is_live=True)


def _rows(context: Context, query: dict[str, Any], *, is_live: bool) -> str:
    def render(context: Context) -> str:
        list_request = ListRequest.parse(context, resolve(query))
        job_filter, page = list_request.job_filter, list_request.page
        database = context.database
        slot = database.slot(is_expensive=list_request.is_expensive)
        with slot, database.connection() as conn:
            columns = _columns(context.scope)
            batch = next(job_list.batches(conn, job_filter, page, columns, page.limit))
            total = job_list.count(conn, job_filter) if list_request.total else None
        cursor = list_request.next_cursor(batch.end)
        return render_template(
            "job_rows.html",
            rows=to_rows(batch.jobs),
            sentence=words.describe(request.args),
            total=total,
            number=list_request.page_number,
            links=list_links(list_request.page_number, cursor),
            has_cluster="cluster" in query,
            at=now(),
        )

    return shared_part("job_rows", context, render, is_live=is_live)


def list_links(number: int, cursor: str) -> dict[str, str]:
    """Return the addresses of the list's other pages and forms, by name."""
    filters = words.filters(request.args)
    size = [pair for pair in request.args.items() if pair[0] == "items-per-page"]

    def link(*pairs: tuple[str, str]) -> str:
        return words.address("/jobs", [*filters, *pairs])

    has_index = request.args.get("sort", "start-time").endswith("start-time")
    num_csv_rows = _MAX_CSV_ROWS if has_index else _MAX_SORTED_CSV_ROWS
    links = {
        "count": link(("total", "true")),
        "csv": link(("format", "csv"), ("items-per-page", num_csv_rows)),
        "json": link(("format", "json"), *size),
    }
    if number > 1:
        previous = [("page", str(number - 1))] if number > 2 else []
        links |= {"first": link(*size), "previous": link(*size, *previous)}
    return links | ({"next": link(*size, ("cursor", cursor))} if cursor else {})


def latest_rows(context: Context, jobs: JobFilter, limit: int = 20) -> list[Row]:
    """Return the latest jobs for a table."""
    with context.database.connection() as conn:
        page = job_list.list_page(conn, jobs, Page(0, limit), _columns(context.scope))
        return to_rows(page)


def _columns(scope: Scope) -> Columns:
    """Return what a table shows; a job's name is metadata, which not all tokens see."""
    return Columns(statistics=False, name=scope.sees_metadata)


def to_rows(page: list[Job]) -> list[Row]:
    """Return what a table shows of jobs."""
    at = now()
    rows = []
    for job in page:
        hosts = orjson.loads(job.resources) if job.num_nodes == 1 else []
        duration = job.duration(at)
        rows.append(
            Row(
                job,
                job.name or "",
                hosts[0]["hostname"] if hosts else "",
                orjson.loads(job.tags),
                duration,
                min(100, 100 * duration // job.walltime) if job.walltime else None,
            )
        )
    return rows


@blueprint.page("/jobs/<id>", query=JobQuery())
def job_page(context: Context, query: dict[str, Any], *, id: str) -> str | Response:
    """Show one job; format=csv and format=json answer with the fields of the API."""
    id_ = parse_id(id)
    with context.database.snapshot() as conn:
        job = jobs.get(conn, id_, context.scope)
        if job is None:
            raise UnknownJob.with_id(id_)
        corrections = edit_rows.list_corrections(conn, id_)
    at = now()
    if "format" in query:
        content = job_meta(job, at)
        return data_response(query["format"], JOB_FIELDS, [content], content)
    resources = orjson.loads(job.resources)
    hosts = [node["hostname"] for node in resources]
    meta_data = orjson.loads(job.meta_data or "{}")
    return render_template(
        "job.html",
        job=job,
        name=meta_data.get("jobName", ""),
        nodes=[
            (
                node["hostname"],
                words.thread_ranges(tuple(node.get("hwthreads", ()))),
                ", ".join(node.get("accelerators", ())),
                node.get("configuration", ""),
            )
            for node in resources[:_MAX_HOSTS]
        ],
        hosts=words.fold_hosts(hosts),
        links=links_of(current_app.config["JOB_LINKS"], job, hosts, at),
        neighbours=list_neighbours(context, job, hosts, at) if job.exclusive != 1 else [],
        meta_data={key: value for key, value in meta_data.items() if key != "jobName"},
        statistics=orjson.loads(job.statistics or "{}"),
        tags=orjson.loads(job.tags),
        corrections=corrections,
        duration=job.duration(at),
        at=at,
        archive_path="/".join((*layout.parts(job.key), layout.META_FILE)),
        final_states=FINAL_STATES,
        is_hub=context.is_hub,
    )


def list_neighbours(context: Context, job: Job, hosts: list[str], at: int) -> list[Row]:
    """Return other jobs that ran on the same hosts at the same time, running ones first.

    They began a week before the job at the earliest.
    """
    end = at if job.stop_time is None else job.stop_time
    jobs = JobFilter(
        cluster=(job.cluster,),
        host=tuple(hosts[:_MAX_SHARED_HOSTS]),
        start_time=Range(max(0, job.start_time - _MAX_NEIGHBOUR_SECONDS), end),
        scope=context.scope,
        now=at,
    )
    running = latest_rows(context, replace(jobs, state=(JobState.RUNNING,)))
    ended = latest_rows(context, replace(jobs, stop_time=Range(job.start_time, MAX_INTEGER)))
    return [row for row in (*running, *ended) if row.job.id != job.id]


def parse_id(text: str) -> int:
    """Return the database id in a path; raises UnknownJob."""
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= MAX_INTEGER:
        return int(text)
    raise UnknownJob(f"no job has the database id {text[:40]}")
