"""Statistics: how many jobs ran, who used the nodes, and how jobs ended."""

from dataclasses import replace
from typing import Any

from flask import Response, render_template, request

from ccapi.api import statistics as api
from ccapi.context import Context
from ccapi.http import json_format
from ccapi.model.statistics import GroupBy, HistogramOf
from ccapi.web import charts, totals, words
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
        stats_query = replace(
            api.parse_query(context, {"limit": _MAX_ROWS, **resolve(query, "range")}),
            with_timeline=True,
            with_end_states=True,
            with_waits=True,
            histograms=(HistogramOf.DURATION, HistogramOf.NUM_NODES, HistogramOf.WAIT),
        )
        result = totals.compute(context, stats_query)
        filters = words.filters(request.args)
        return render_template(
            "statistics_content.html",
            sentence=words.describe(request.args, "that ran"),
            result=result,
            range=stats_query.time,
            by=[by for by in GroupBy if by in stats_query.group_by],
            totals=totals.of(result),
            show_duration=words.duration,
            show_count=words.count,
            histograms={of: charts.bars(bins) for of, bins in result.histograms.items()},
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
