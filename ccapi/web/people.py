"""The pages of a user and of a project."""

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
    _require_name(name)

    def render(context: Context) -> str:
        jobs = JobFilter(user_name=(name,), scope=context.scope, now=now())
        return _content(context, query, jobs, ("user", name), (GroupBy.PROJECT, GroupBy.PARTITION))

    content = shared_part(f"user {name}", context, render)
    return render_template("person.html", kind="User", name=name, content=content)


@blueprint.page("/projects/<name>", query=PeriodQuery())
def project_page(context: Context, query: dict[str, Any], *, name: str) -> str:
    """Show a project's jobs."""
    _require_name(name)

    def render(context: Context) -> str:
        jobs = JobFilter(project=(name,), scope=context.scope, now=now())
        return _content(context, query, jobs, ("project", name), (GroupBy.USER, GroupBy.PARTITION))

    content = shared_part(f"project {name}", context, render)
    return render_template("person.html", kind="Project", name=name, content=content)


def _require_name(name: str) -> None:
    """Check that a user or a project may have this name; raises Unknown."""
    if rules.USER.violation(name) is not None:
        raise Unknown("no user or project has such a name")


def _content(
    context: Context,
    query: dict[str, Any],
    jobs: JobFilter,
    pair: tuple[str, str],
    by: tuple[GroupBy, ...],
) -> str:
    last, seconds = period_of(query)
    return render_template(
        "person_content.html",
        filter=pair,
        last=last,
        periods=words.PERIODS,
        totals=totals.count(context, jobs, seconds),
        groups=totals.top_groups(context, jobs, seconds, by),
        rows=latest_rows(context, jobs),
    )
