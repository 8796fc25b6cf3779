"""Fill a database with plausible jobs, in constant memory.

Some thousand jobs are made as for the demo and brought in by COPY; PostgreSQL then copies
these, each time with another number, time and cluster. Jobs come in the order of their
starts, as they do at a site, so that the indexes grow at their ends and are never in the way.
"""

import sys
import time

from tqdm import tqdm

from ccapi.cli import sample_data as sample
from ccapi.db.pool import Connection, Database
from ccapi.repository import bulk_insert

RUNNING = 20_000
_TEMPLATES = 5_000
_BATCH = 50_000

_MAKE_TEMPLATES = """
CREATE TABLE IF NOT EXISTS bench_templates AS SELECT * FROM jobs WHERE job_state <> 'running';
CREATE TABLE IF NOT EXISTS bench_tags AS SELECT * FROM job_tags;
CREATE UNIQUE INDEX IF NOT EXISTS bench_templates_by_id ON bench_templates (id);
CREATE INDEX IF NOT EXISTS bench_tags_by_job ON bench_tags (job);
DELETE FROM jobs;
ANALYZE bench_templates, bench_tags;
"""
# Every job of a template's is one of `templates` further; 3 seconds lie between two starts.
_COPY = """
WITH numbered AS (
    SELECT n, 1 + n %% %(templates)s AS template
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
),
copied AS (
    INSERT INTO jobs (
        id, job_id, cluster, start_time, stop_time, job_state, user_name, project,
        sub_cluster, partition, array_job_id, num_nodes, num_hwthreads, num_acc, exclusive,
        smt, walltime, monitoring_status, resources, meta_data, statistics
    )
    OVERRIDING SYSTEM VALUE
    SELECT
        n, 1000000 + n, (ARRAY['fritz', 'fritz', 'fritz', 'alex', 'woody'])[1 + n / 7 %% 5],
        1500000000 + 3 * n, 1500000000 + 3 * n + t.stop_time - t.start_time, t.job_state,
        t.user_name, t.project, t.sub_cluster, t.partition, t.array_job_id, t.num_nodes,
        t.num_hwthreads, t.num_acc, t.exclusive, t.smt, t.walltime, t.monitoring_status,
        t.resources,
        CASE WHEN n %% 2000 = 7 THEN json_build_object('jobName', 'rotor ' || n)
             ELSE t.meta_data
        END,
        t.statistics
    FROM numbered
    JOIN bench_templates AS t ON t.id = template
    ORDER BY n
)
INSERT INTO job_tags (job, tag)
SELECT n, b.tag
FROM numbered
JOIN bench_tags AS b ON b.job = template
"""
_RUN = """
WITH hosts AS (
    SELECT register_hosts(array_agg('f' || number)) FROM generate_series(1000, 1899) AS number
)
INSERT INTO jobs (
    job_id, cluster, start_time, user_name, project, sub_cluster, partition, num_nodes,
    num_hwthreads, exclusive, smt, walltime, monitoring_status, resources
)
SELECT
    67000000 - n, 'running', %(latest)s - 7 * n, 'abcd100h', 'abcd200', 'main', 'multinode', 4, 288,
    1, 1, 86400, 1, (
        SELECT json_build_array(json_build_object(
            'hostname', json_agg('f' || (1000 + (4 * n + node) %% 900)), 'hwthreads', '0-71'))
        FROM generate_series(1, 4) AS node
    )
FROM hosts, generate_series(1, %(missing)s) AS n
ON CONFLICT DO NOTHING
"""


def fill(database: Database, jobs: int) -> None:
    """Bring the number of jobs to `jobs` that have ended and 20,000 that run."""
    with database.session() as conn:
        _make_templates(conn)
        first, last = _number(conn, "min(id)"), _number(conn, "max(id)")
        missing = jobs - (last - first + 1 if last else 0)
        if missing > 0:
            _copy(conn, last + 1, last + missing)
        conn.execute("DELETE FROM jobs WHERE cluster IN ('started', 'pgbench')")
        _run(conn)
        if missing > 0:
            conn.execute("VACUUM (ANALYZE) jobs")
            conn.execute("VACUUM (ANALYZE) job_tags")


def _number(conn: Connection, what: str) -> int:
    """Return a number of the jobs that have ended; 0 when there are none."""
    wanted = "SELECT COALESCE(%s, 0) FROM jobs WHERE cluster IN ('fritz', 'alex', 'woody')"
    row = conn.execute((wanted % what).encode()).fetchone()
    assert row is not None
    return int(row[0])


def _make_templates(conn: Connection) -> None:
    """Make the jobs that are copied, once, and number them from 1."""
    known = conn.execute("SELECT to_regclass('bench_templates')").fetchone()
    if known == (None,):
        jobs = [job for job in sample.jobs(_TEMPLATES + 300, now=int(time.time())) if job.stop_time]
        with conn.transaction():
            bulk_insert.load(conn, jobs[:_TEMPLATES])
            conn.execute(_MAKE_TEMPLATES.encode())


def _copy(conn: Connection, first: int, last: int) -> None:
    with tqdm(total=last - first + 1, desc="jobs", unit=" jobs", file=sys.stderr) as bar:
        for begin in range(first, last + 1, _BATCH):
            end = min(last, begin + _BATCH - 1)
            numbers = {"first": begin, "last": end, "templates": _TEMPLATES}
            conn.execute(_COPY.encode(), numbers)
            bar.update(end - begin + 1)
    conn.execute("SELECT setval(pg_get_serial_sequence('jobs', 'id'), %s)", [2 * last])


def _run(conn: Connection) -> None:
    """Let as many jobs run as are missing."""
    row = conn.execute("SELECT count(*) FROM jobs WHERE job_state = 'running'").fetchone()
    assert row is not None
    if row[0] < RUNNING:
        numbers = {"missing": RUNNING, "latest": _number(conn, "max(start_time)")}
        conn.execute(_RUN.encode(), numbers)
