"""The page of a host: its jobs, and how often they fail beside its cluster's."""

from dataclasses import replace
from typing import Any

from flask import render_template

from ccapi.api.serializers import now
from ccapi.context import Context
from ccapi.errors import Unknown
from ccapi.model import rules
from ccapi.model.job import JobFilter, JobState, Range
from ccapi.repository import nodes
from ccapi.service import hosts
from ccapi.web import totals, words
from ccapi.web.jobs import latest_rows
from ccapi.web.pages import blueprint, shared_part
from ccapi.web.queries import PeriodQuery, period_of


@blueprint.page("/hosts/<name>", query=PeriodQuery())
def host_page(context: Context, query: dict[str, Any], *, name: str) -> str:
    """Show a host's jobs."""
    if rules.HOSTNAME.violation(name) is not None:
        raise Unknown(f"no host has the name {name[:64]}")

    def render(context: Context) -> str:
        last, seconds = period_of(query)
        jobs = JobFilter(host=(name,), scope=context.scope, now=now())
        running = latest_rows(context, replace(jobs, state=(JobState.RUNNING,)))
        before = latest_rows(context, replace(jobs, not_state=(JobState.RUNNING,)))
        clusters = tuple(dict.fromkeys(row.job.cluster for row in (*running, *before)))
        reports = {}
        if clusters:
            time = Range(jobs.now - seconds, jobs.now)
            reports = hosts.report(context, time, clusters, jobs.now)
        states = []
        if not context.scope.is_limited:
            with context.database.connection() as conn:
                states = nodes.find_states(conn, name)
        return render_template(
            "host_content.html",
            name=name,
            last=last,
            periods=words.PERIODS,
            totals=totals.count(context, jobs, seconds),
            reports=[
                (cluster, report, one)
                for cluster, report in reports.items()
                for one in report.hosts
                if one.jobs.host == name
            ],
            states=states,
            running=running,
            before=before,
        )

    return render_template(
        "host.html", name=name, content=shared_part(f"host {name}", context, render)
    )
