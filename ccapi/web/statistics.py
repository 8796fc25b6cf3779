"""Statistics: how many jobs ran, who used the nodes, and how jobs ended."""

from dataclasses import replace
from typing import Any

from flask import Response, render_template, request

from ccapi.api import statistics as api
from ccapi.context import Context
from ccapi.http import json_format
from ccapi.model.statistics import GroupBy, GroupOrder
from ccapi.service import statistics
from ccapi.web import totals, words
from ccapi.web.pages import blueprint, shared_part
from ccapi.web.queries import StatisticsQuery, resolve

_FORM_FIELDS = {"last", "group-by", "cluster", "user", "project", "partition"}
_MAX_ROWS = 50


@blueprint.page("/statistics", query=StatisticsQuery())
def statistics_page(context: Context, query: dict[str, Any]) -> str | Response:
    """Show statistics; format=csv and format=json answer as the API does."""
    if "format" in query:
        content = api.answer(context, resolve(query, "range"))
        if isinstance(content, Response):
            return content
        return Response(json_format.dumps(content), content_type=json_format.CONTENT_TYPE)

    def render(context: Context) -> str:
        limited = {"limit": _MAX_ROWS, **resolve(query, "range")}
        stats_query = api.parse_query(context, limited)
        result = statistics.compute(context, stats_query)
        by_state = replace(
            stats_query,
            group_by=frozenset([GroupBy.STATE]),
            order=GroupOrder.NUM_JOBS,
            with_timeline=True,
        )
        filters = words.filters(request.args)
        return render_template(
            "statistics_content.html",
            sentence=words.describe(request.args, "that ran"),
            result=result,
            range=stats_query.time,
            by=[by for by in GroupBy if by in stats_query.group_by],
            totals=totals.of(statistics.compute(context, by_state)),
            csv=words.address("/statistics", [*filters, ("format", "csv")]),
            json=words.address("/statistics", [*filters, ("format", "json")]),
        )

    return render_template(
        "statistics.html",
        content=shared_part("statistics", context, render),
        lasts=words.LASTS,
        by=GroupBy,
        hidden=[pair for pair in words.filters(request.args) if pair[0] not in _FORM_FIELDS],
    )
