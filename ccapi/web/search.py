"""The search box: a job id, a user, a project, a host, or the beginning of a job's name."""

import re
from typing import Any

from flask import redirect, render_template
from marshmallow import fields
from werkzeug.wrappers import Response

from ccapi.api.queries import FORMATS
from ccapi.api.serializers import now
from ccapi.context import Context
from ccapi.http.schema import QueryChoice, QuerySchema
from ccapi.model import rules
from ccapi.model.job import Job, JobFilter
from ccapi.repository import job_list
from ccapi.repository.job_list import Columns, Page
from ccapi.web import words
from ccapi.web.pages import blueprint, data_response

# A job id is less than PostgreSQL's largest integer.
_DIGITS = re.compile(r"[1-9][0-9]{0,17}")
_COLUMNS = ("label", "address")
_NO_COLUMNS = Columns(resources=False, statistics=False, tags=False)


class SearchQuery(QuerySchema):
    """What to look for."""

    q = fields.String(load_default="")
    format = QueryChoice(FORMATS)


@blueprint.page("/search", query=SearchQuery())
def search_page(context: Context, query: dict[str, Any]) -> str | Response:
    """Show what a text is the name of; open it if it is one thing, and no format is requested."""
    text = query["q"].strip()
    matches = find_names(context, text) if text and text.isprintable() and "\0" not in text else []
    rows = [{"label": label, "address": address} for label, address in matches]
    if "format" in query:
        return data_response(query["format"], _COLUMNS, rows, {"matches": rows})
    if len(matches) == 1:
        [(_, address)] = matches
        return redirect(address, 303)
    return render_template("search.html", text=text, matches=matches)


def find_names(context: Context, text: str) -> list[tuple[str, str]]:
    """Return what a text is the name of, and the addresses."""

    def list_two(**filters: Any) -> list[Job]:
        jobs = JobFilter(**filters, scope=context.scope, now=now())
        return job_list.list_page(conn, jobs, Page(0, 2), _NO_COLUMNS)

    with context.database.connection() as conn:
        if _DIGITS.fullmatch(text) and (runs := list_two(job_id=(int(text),))):
            address = words.address("/jobs", [("job-id", text)])
            return [(f"Job {text}", f"/jobs/{runs[0].id}" if len(runs) == 1 else address)]
        matches = []
        if list_two(user_name=(text,)):
            matches.append((f"User {text}", words.person_address("user", text)))
        if list_two(project=(text,)):
            matches.append((f"Project {text}", words.person_address("project", text)))
        if rules.HOSTNAME.violation(text) is None and list_two(host=(text,)):
            matches.append((f"Host {text}", f"/hosts/{text}"))
        can_be_name = context.scope.sees_metadata and len(text) <= rules.MAX_NAME_LENGTH
        if not matches and can_be_name and list_two(name=(text,)):
            matches.append((f"Jobs named {text}", words.address("/jobs", [("name", text)])))
        return matches
