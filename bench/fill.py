"""Fill a database with plausible jobs, in constant memory.

Python makes 5,000 sample jobs. PostgreSQL copies these templates again and again, each copy
with its own number, start time and cluster. As in production, jobs arrive in the order of
their starts, so the indexes grow at their ends.
"""

import sys
import time

from tqdm import tqdm

from ccapi.cli import sample_data
from ccapi.db.pool import Connection, Database
from ccapi.repository import bulk_insert

_RUNNING = 20_000
_TEMPLATES = 5_000
_BATCH = 50_000

_CREATE_TEMPLATES = """
CREATE TABLE IF NOT EXISTS bench_templates AS SELECT * FROM jobs WHERE job_state <> 'running';
CREATE TABLE IF NOT EXISTS bench_tags AS SELECT * FROM job_tags;
CREATE UNIQUE INDEX IF NOT EXISTS bench_templates_by_id ON bench_templates (id);
CREATE INDEX IF NOT EXISTS bench_tags_by_job ON bench_tags (job);
DELETE FROM jobs;
ANALYZE bench_templates, bench_tags;
"""
# Ids have no gaps, so that the number of copies is known without counting them.
_COPIES = """
SELECT COALESCE(max(id) - min(id) + 1, 0), COALESCE(max(id), 0)
FROM jobs
WHERE cluster IN ('fritz', 'alex', 'woody')
"""
# Each template is used once in %(templates)s jobs; starts are 3 seconds apart.
_COPY_TEMPLATES = """
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
_INSERT_RUNNING = """
WITH hosts AS (
    SELECT register_hosts(array_agg('f' || number)) FROM generate_series(1000, 1899) AS number
),
latest AS (
    SELECT max(start_time) AS start_time FROM jobs WHERE cluster IN ('fritz', 'alex', 'woody')
)
INSERT INTO jobs (
    job_id, cluster, start_time, user_name, project, sub_cluster, partition, num_nodes,
    num_hwthreads, exclusive, smt, walltime, monitoring_status, resources
)
SELECT
    67000000 - n, 'running', latest.start_time - 7 * n, 'abcd100h', 'abcd200', 'main',
    'multinode', 4, 288, 1, 1, 86400, 1, (
        SELECT json_build_array(json_build_object(
            'hostname', json_agg('f' || (1000 + (4 * n + node) %% 900)), 'hwthreads', '0-71'))
        FROM generate_series(1, 4) AS node
    )
FROM hosts, latest, generate_series(1, %(running)s) AS n
ON CONFLICT DO NOTHING
"""


def fill_database(database: Database, jobs: int) -> None:
    """Add jobs until a database has `jobs` finished and 20,000 running ones."""
    with database.session() as conn:
        _create_templates(conn)
        row = conn.execute(_COPIES).fetchone()
        assert row is not None
        copies, last = row
        missing = jobs - copies
        if missing > 0:
            _copy_templates(conn, last + 1, last + missing)
        conn.execute("DELETE FROM jobs WHERE cluster IN ('started', 'pgbench')")
        _insert_running_jobs(conn)
        if missing > 0:
            conn.execute("VACUUM (ANALYZE) jobs")
            conn.execute("VACUUM (ANALYZE) job_tags")


def _create_templates(conn: Connection) -> None:
    """Create the templates, numbered from 1, if the database has none."""
    table = conn.execute("SELECT to_regclass('bench_templates')").fetchone()
    if table == (None,):
        # 300 more, because some sample jobs are running and not copied.
        samples = sample_data.jobs(_TEMPLATES + 300, now=int(time.time()))
        finished = [job for job in samples if job.stop_time]
        with conn.transaction():
            bulk_insert.load(conn, finished[:_TEMPLATES])
            conn.execute(_CREATE_TEMPLATES.encode())


def _copy_templates(conn: Connection, first: int, last: int) -> None:
    """Insert the jobs with the given first and last id."""
    with tqdm(total=last - first + 1, desc="jobs", unit=" jobs", file=sys.stderr) as progress:
        for batch_first in range(first, last + 1, _BATCH):
            batch_last = min(last, batch_first + _BATCH - 1)
            ids = {"first": batch_first, "last": batch_last, "templates": _TEMPLATES}
            conn.execute(_COPY_TEMPLATES.encode(), ids)
            progress.update(batch_last - batch_first + 1)
    conn.execute("SELECT setval(pg_get_serial_sequence('jobs', 'id'), %s)", [2 * last])


def _insert_running_jobs(conn: Connection) -> None:
    """Insert 20,000 running jobs, except those of an earlier run."""
    row = conn.execute("SELECT count(*) FROM jobs WHERE job_state = 'running'").fetchone()
    assert row is not None
    if row[0] < _RUNNING:
        conn.execute(_INSERT_RUNNING, {"running": _RUNNING})
