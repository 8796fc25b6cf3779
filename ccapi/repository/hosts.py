"""Count the jobs of each host: sql/queries/hosts.sql."""

from psycopg.rows import dict_row

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.model.hosts import HostJobs, LastJob
from ccapi.model.job import FAILURES, JobFilter, Range
from ccapi.model.statistics import Days
from ccapi.repository.job_filter import own_conditions
from ccapi.repository.job_list import timeout_as_too_slow
from ccapi.repository.rollups import parts_of

_SQL = queries.load("hosts")
_PARTS = queries.parts("job_groups")


def list_hosts(conn: Connection, jobs: JobFilter, time: Range, days: Days | None) -> list[HostJobs]:
    """Count the jobs of each host that ran within a time range; raises TooSlow.

    Those of `days` are read from their roll-ups.
    """
    conditions = own_conditions(jobs)
    sql = queries.fill(
        _SQL["list_hosts"],
        conditions=conditions.sql,
        hosts=_PARTS["by_host"],
        rollups=_PARTS["host_rollups"] if days else "",
        days=_PARTS["days"],
    )
    params = {
        **conditions.params,
        **parts_of(time, days),
        "failures": f"{{{','.join(sorted(FAILURES))}}}",
    }
    with timeout_as_too_slow(), conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(sql, params, prepare=False).fetchall()
    return [HostJobs(**{**row, "last_job": LastJob(*row["last_job"])}) for row in rows]
