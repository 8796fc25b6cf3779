"""The SQL views, a stable interface for people and Grafana."""

import time
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from ccapi.db.pool import Database
from tests.client import Client

START = 1_768_978_339


def select(database: Database, query: str) -> list[dict[str, Any]]:
    with database.session() as conn, conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode()).fetchall()


def start_and_stop(admin: Client, job_id: int, name: str, **fields: Any) -> int:
    """Start a job and stop it after two hours."""
    start = fields.pop("startTime", START)
    id_ = admin.start(jobId=job_id, startTime=start, metaData={"jobName": name}, **fields)
    admin.stop(jobId=job_id, startTime=start, stopTime=start + 7200)
    return id_


def test_jobs_view_has_every_scalar_of_a_job(admin: Client, database: Database) -> None:
    id_ = start_and_stop(
        admin, 7, "rotor", user="abcd100h", project="abcd200", cluster="fritz",
        subCluster="main", partition="multinode", arrayJobId=5, numHwthreads=144, numAcc=4,
        smt=2, walltime=86_400, exclusive=1, numNodes=2,
        resources=[{"hostname": "f0101"}, {"hostname": "f0102"}],
    )  # fmt: skip
    [row] = select(database, "SELECT * FROM jobs_view")
    assert row == {
        "id": id_,
        "job_id": 7,
        "array_job_id": 5,
        "name": "rotor",
        "user_name": "abcd100h",
        "project": "abcd200",
        "cluster": "fritz",
        "sub_cluster": "main",
        "partition": "multinode",
        "state": "completed",
        "submitted_at": None,
        "started_at": datetime.fromtimestamp(START, UTC),
        "stopped_at": datetime.fromtimestamp(START + 7200, UTC),
        "duration": 7200,
        "walltime": 86_400,
        "node_hours": 4.0,
        "num_nodes": 2,
        "num_hwthreads": 144,
        "num_acc": 4,
        "smt": 2,
        "exclusive": 1,
        "requested_memory": None,
        "energy": None,
    }


def test_duration_of_a_running_job_ends_now(admin: Client, database: Database) -> None:
    start = int(time.time()) - 3600
    admin.start(startTime=start, resources=[{"hostname": "f0101"}], numNodes=1)
    [row] = select(database, "SELECT * FROM jobs_view")
    assert (row["state"], row["stopped_at"]) == ("running", None)
    assert 3600 <= row["duration"] <= 3660
    assert row["node_hours"] == pytest.approx(row["duration"] / 3600)


def test_jobs_view_finds_names_by_prefix(admin: Client, database: Database) -> None:
    for job_id, name in ((1, "rotor 1"), (2, "Rotor"), (3, "motor"), (4, "rotor%"), (5, "rotor_")):
        start_and_stop(admin, job_id, name, startTime=START + job_id)
    rows = select(
        database,
        "SELECT name, user_name, started_at, node_hours FROM jobs_view "
        "WHERE name LIKE 'rotor%' ORDER BY started_at DESC LIMIT 25",
    )
    assert [row["name"] for row in rows] == ["rotor_", "rotor%", "rotor 1"]


def test_job_hosts_view_has_one_row_per_host(admin: Client, database: Database) -> None:
    threads = [*range(36), *range(72, 108)]
    resources = [
        {"hostname": "f0101", "hwthreads": threads, "accelerators": ["0", "1"]},
        {"hostname": "f0102", "hwthreads": threads, "accelerators": ["0", "1"]},
        {"hostname": "f0103", "hwthreads": [5, 3]},
        {"hostname": "f0104", "configuration": "flat", "accelerators": []},
    ]
    id_ = admin.start(jobId=7, startTime=START, resources=resources, numNodes=4)
    rows = select(database, "SELECT * FROM job_hosts_view ORDER BY host")
    assert [row["host"] for row in rows] == ["f0101", "f0102", "f0103", "f0104"]
    assert [row["hwthreads"] for row in rows] == [threads, threads, [5, 3], None]
    assert [row["accelerators"] for row in rows] == [["0", "1"], ["0", "1"], None, []]
    assert [row["configuration"] for row in rows] == [None, None, None, "flat"]
    assert {(row["id"], row["job_id"], row["state"]) for row in rows} == {(id_, 7, "running")}
    assert {row["started_at"] for row in rows} == {datetime.fromtimestamp(START, UTC)}


def test_columns_of_the_views_are_stable(database: Database) -> None:
    """Columns may be added, but not renamed or removed."""
    rows = select(
        database,
        "SELECT table_name, column_name, data_type FROM information_schema.columns "
        "WHERE table_name IN ('jobs_view', 'job_hosts_view') ORDER BY ordinal_position",
    )
    types = {(row["table_name"], row["column_name"]): row["data_type"] for row in rows}
    at = "timestamp with time zone"
    assert all(types["jobs_view", name] == at for name in ("started_at", "stopped_at"))
    assert types["jobs_view", "node_hours"] == "double precision"
    assert {name for view, name in types if view == "job_hosts_view"} == {
        "id", "job_id", "cluster", "host", "hwthreads", "accelerators", "configuration",
        "user_name", "state", "started_at", "stopped_at",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("name LIKE 'rotor 777%'", "jobs_by_name"),
        ("started_at BETWEEN '2023-11-15' AND '2023-11-16'", "jobs_by_started_at"),
    ],
)
def test_views_use_indexes(database: Database, condition: str, index: str) -> None:
    with database.session() as conn, conn.transaction(force_rollback=True):
        conn.execute(
            "INSERT INTO jobs (job_id, start_time, num_nodes, exclusive, monitoring_status, "
            "cluster, sub_cluster, user_name, project, resources, meta_data) "
            "SELECT n, 1700000000 + 60 * n, 1, 1, 1, 'fritz', '', 'u', '', "
            "'[{\"hostname\":\"f1\"}]', json_build_object('jobName', 'rotor ' || n) "
            "FROM generate_series(1, 20000) AS n"
        )
        conn.execute("ANALYZE jobs")
        query = (
            f"EXPLAIN SELECT * FROM jobs_view WHERE {condition} ORDER BY started_at DESC LIMIT 25"
        )
        plan = "\n".join(line for (line,) in conn.execute(query.encode()))
    assert index in plan
    assert "Seq Scan" not in plan


def test_role_for_the_views_cannot_read_tables(admin: Client, database: Database) -> None:
    start_and_stop(admin, 7, "rotor")
    with database.session() as conn, conn.transaction(force_rollback=True):
        conn.execute("CREATE ROLE dashboards")
        conn.execute("GRANT SELECT ON jobs_view, job_hosts_view TO dashboards")
        conn.execute("SET LOCAL ROLE dashboards")
        assert conn.execute("SELECT name FROM jobs_view").fetchone() == ("rotor",)
        assert conn.execute("SELECT count(*) FROM job_hosts_view").fetchone() == (1,)
        for table in ("jobs", "tokens", "job_details"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
                conn.execute(f"SELECT * FROM {table}".encode())
