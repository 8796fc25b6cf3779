"""The forms of a job's page: tags, metadata, and how it ended."""

from flask import redirect, request, url_for
from werkzeug.wrappers import Response

from ccapi.context import Context
from ccapi.errors import InvalidInput
from ccapi.http.auth import current_token
from ccapi.model import rules
from ccapi.model.job import FINAL_STATES, Tag
from ccapi.model.rules import Rule
from ccapi.model.token import Role
from ccapi.service import edits
from ccapi.service.edits import End
from ccapi.web import words
from ccapi.web.jobs import parse_id
from ccapi.web.pages import blueprint

_KEY = rules.TextRule(min_length=1, max_length=rules.MAX_NAME_LENGTH)


@blueprint.page("/jobs/<id>/tag", role=Role.WRITER, methods=("POST",))
def add_tag(context: Context, *, id: str) -> Response:
    """Add a tag to a job."""
    edits.tag(context, parse_id(id), [_tag()])
    return _back(id, "tags")


@blueprint.page("/jobs/<id>/untag", role=Role.ADMIN, methods=("POST",))
def remove_tag(context: Context, *, id: str) -> Response:
    """Remove a tag from a job."""
    edits.untag(context, parse_id(id), [_tag()])
    return _back(id, "tags")


def _tag() -> Tag:
    return Tag(_text("type", rules.TAG), _text("name", rules.TAG))


@blueprint.page("/jobs/<id>/meta", role=Role.WRITER, methods=("POST",))
def set_meta_data(context: Context, *, id: str) -> Response:
    """Set a key of a job's metadata; an empty value removes it."""
    # A browser sends a new line as two characters.
    value = _text("value", rules.META_VALUE).replace("\r\n", "\n")
    edits.edit_meta_data(context, parse_id(id), {_text("key", _KEY): value or None})
    return _back(id, "metadata")


@blueprint.page("/jobs/<id>/correct", role=Role.ADMIN, methods=("POST",))
def correct_end(context: Context, *, id: str) -> Response:
    """Correct how and when a job ended."""
    state, stop_time = request.form.get("state", ""), request.form.get("stop_time", "")
    if state not in FINAL_STATES:
        raise InvalidInput.of("state", f"must be {' or '.join(FINAL_STATES)}")
    end = End(state, words.parse_time(stop_time, "stop time") if stop_time else None)
    edits.correct_end(context, parse_id(id), end, current_token().name)
    return _back(id, "history")


def _text(name: str, rule: Rule) -> str:
    """Return a field of the form; raises InvalidInput."""
    value = request.form.get(name, "")
    if (violation := rule.violation(value)) is not None:
        raise InvalidInput.of(name, violation)
    return value


def _back(id: str, anchor: str) -> Response:
    return redirect(url_for("web.job_page", id=id, _anchor=anchor), 303)
