"""Each panel of the dashboards of jobs has an answer, from the API and from the database."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.rows import dict_row

from ccapi.db.pool import Connection, Database
from ccapi.model.job import NewJob
from ccapi.repository import bulk_insert
from tests.client import START, Client
from tests.monitoring.files import DEPLOY

HOUR = 3600
DASHBOARDS = {
    name: json.loads((DEPLOY / "grafana" / f"jobs-{name}.json").read_text("utf-8"))
    for name in ("infinity", "postgresql")
}
# What Grafana fills in.
VARIABLES = {
    "${cluster}": "fritz",
    "${__from:date:seconds}": str(START),
    "${__to:date:seconds}": str(START + 10 * HOUR),
}
MACROS = {
    r"\$__timeFilter\((\w+)\)": (
        rf"\1 BETWEEN to_timestamp({START}) AND to_timestamp({START + 10 * HOUR})"
    ),
    r"\$__timeGroupAlias\((\w+), \$__interval\)": (
        rf'floor(EXTRACT(epoch FROM \1) / {HOUR}) * {HOUR} AS "time"'
    ),
}
NUMBERS = (int, float)


def targets(name: str) -> list[Any]:
    panels = DASHBOARDS[name]["panels"]
    return [pytest.param(panel["targets"][0], id=panel["title"]) for panel in panels]


@pytest.fixture
def jobs(admin: Client, database: Database) -> Client:
    """Run jobs of three users on 40 hosts, one of which fails each job, and one job now."""
    finished = [
        NewJob(
            job_id=number + 1,
            user_name=("anna", "bert", "carla")[number % 3],
            cluster="fritz",
            partition="main",
            submit_time=START + 60 * number - 60,
            start_time=START + 60 * number,
            stop_time=START + 60 * number + HOUR,
            job_state="node_fail" if number // 3 == 7 else "completed",
            resources=[{"hostname": f"f{number // 3}"}],
            meta_data={"jobName": "rotor"},
        )
        for number in range(120)
    ]
    with database.transaction() as conn:
        bulk_insert.load(conn, finished)
    admin.start(jobId=200, startTime=START + HOUR, metaData={"jobName": "relax"})
    return admin


def fill_in(text: str) -> str:
    for variable, value in VARIABLES.items():
        text = text.replace(variable, value)
    assert "${" not in text
    return text


def select(row: dict[str, Any], selector: str) -> Any:
    value: Any = row
    for name in selector.split("."):
        value = value[name]
    return value


@pytest.mark.parametrize("target", targets("infinity"))
def test_panel_of_the_api_has_rows(jobs: Client, target: dict[str, Any]) -> None:
    address = fill_in(target["url"])
    if address.startswith("/api/hosts/"):  # It asks for the last 24 hours.
        address += f"&range={START}-{START + 10 * HOUR}"
    response = jobs.send("GET", address)
    assert response.status_code == 200, response.text
    answer = response.get_json()
    rows = answer[target["root_selector"]] if target["root_selector"] else [answer]
    assert rows
    for column in target["columns"]:
        value = select(rows[0], column["selector"])
        assert isinstance(value, str if column["type"] == "string" else NUMBERS), column


def test_clusters_are_choices_of_both(jobs: Client, views: Connection) -> None:
    by_name = {
        name: next(v for v in board["templating"]["list"] if v["name"] == "cluster")["query"]
        for name, board in DASHBOARDS.items()
    }
    query = by_name["infinity"]["infinityQuery"]
    answer = jobs.send("GET", query["url"]).get_json()[query["root_selector"]]
    assert [cluster[query["columns"][0]["selector"]] for cluster in answer] == ["fritz"]
    assert views.execute(by_name["postgresql"].encode()).fetchall() == []  # None in 90 days.


@pytest.fixture
def views(database: Database) -> Iterator[Connection]:
    """Connect as a role that may read what readonly-role.sql grants, and nothing else."""
    with database.session() as conn:
        conn.execute("CREATE ROLE dashboard")
        conn.execute("GRANT SELECT ON jobs_view, job_hosts_view TO dashboard")
        conn.execute("SET ROLE dashboard")
        try:
            yield conn
        finally:
            conn.execute("RESET ROLE")
            conn.execute("DROP OWNED BY dashboard")
            conn.execute("DROP ROLE dashboard")


@pytest.mark.parametrize("target", targets("postgresql"))
@pytest.mark.usefixtures("jobs")
def test_panel_of_the_database_has_rows(views: Connection, target: dict[str, Any]) -> None:
    query = fill_in(target["rawSql"])
    for pattern, replacement in MACROS.items():
        query = re.sub(pattern, replacement, query)
    assert "$__" not in query
    with views.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query.encode()).fetchall()
    assert rows
    row = next((row for row in rows if row.get("Partition", "main")), rows[0])
    assert None not in row.values()
    assert (target["format"] == "time_series") is ("time" in rows[0])


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_fits_together(name: str) -> None:
    board = DASHBOARDS[name]
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["datasource"] == panel["targets"][0]["datasource"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert board["uid"] == f"ccapi-jobs-{name}"
