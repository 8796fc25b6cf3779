"""The pages of a user and of a project."""

from dataclasses import replace
from typing import Any

from flask import render_template

from ccapi.api.serializers import now
from ccapi.context import Context
from ccapi.errors import Unknown
from ccapi.model import rules
from ccapi.model.job import JobFilter
from ccapi.model.statistics import GroupBy
from ccapi.web import totals, words
from ccapi.web.jobs import latest_rows
from ccapi.web.pages import blueprint, shared_part
from ccapi.web.queries import PeriodQuery, period_of


@blueprint.page("/users/<name>", query=PeriodQuery())
def user_page(context: Context, query: dict[str, Any], *, name: str) -> str:
    """Show a user's jobs."""
    jobs = JobFilter(user_name=(name,), scope=context.scope)
    return _show(context, query, ("user", name), jobs, (GroupBy.PROJECT, GroupBy.PARTITION))


@blueprint.page("/projects/<name>", query=PeriodQuery())
def project_page(context: Context, query: dict[str, Any], *, name: str) -> str:
    """Show a project's jobs."""
    jobs = JobFilter(project=(name,), scope=context.scope)
    return _show(context, query, ("project", name), jobs, (GroupBy.USER, GroupBy.PARTITION))


def _show(
    context: Context,
    query: dict[str, Any],
    person: tuple[str, str],
    jobs: JobFilter,
    by: tuple[GroupBy, ...],
) -> str:
    """Show the totals and the latest jobs of a user or a project; raises Unknown."""
    kind, name = person
    if rules.USER.violation(name) is not None:
        raise Unknown("no user or project has such a name")

    def render(context: Context) -> str:
        last, seconds = period_of(query)
        current = replace(jobs, now=now())
        return render_template(
            "person_content.html",
            filter=person,
            last=last,
            periods=words.PERIODS,
            totals=totals.count(context, current, seconds),
            groups=totals.top_groups(context, current, seconds, by),
            rows=latest_rows(context, current),
        )

    content = shared_part(f"{kind} {name}", context, render)
    return render_template("person.html", kind=kind, name=name, content=content)
