"""Hosts without jobs are deleted with old jobs, and no late report loses its host by that."""

import threading
import time

import pytest

from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.service import deletion
from tests.client import START, Client

NOW = int(time.time())
YEAR = 365 * 86_400
JOB = """
    INSERT INTO jobs (job_id, cluster, start_time, user_name, project, sub_cluster, num_nodes,
                      exclusive, monitoring_status, resources)
    VALUES (9, 'fritz', %s, 'u', '', '', 1, 1, 0, '[{"hostname": "old"}]')
    """


def hosts(database: Database) -> list[str]:
    with database.session() as conn:
        return [name for (name,) in conn.execute("SELECT DISTINCT name FROM hosts ORDER BY name")]


def start(client: Client, number: int, host: str, start_time: int) -> int:
    return client.start(jobId=number, startTime=start_time, resources=[{"hostname": host}])


@pytest.mark.parametrize("is_pruned", [True, False])
def test_hosts_leave_with_their_last_job(
    admin: Client, database: Database, context: Context, *, is_pruned: bool
) -> None:
    for number, host in enumerate(("old", "old", "still-used"), 1):
        id_ = start(admin, number, host, START)
        admin.send("POST", f"/stop_job/{id_}", {"stopTime": START + 9, "jobState": "failed"})
    start(admin, 4, "still-used", NOW)
    start(admin, 5, "new", NOW)
    before = START + YEAR
    if is_pruned:
        assert sum(deletion.prune(context, before)) == 3
    else:
        assert deletion.delete_before(context, before) == 3
    assert hosts(database) == ["new", "still-used"]
    assert [job["jobId"] for job in admin.list("host=still-used")] == [4]


def test_host_of_a_job_that_stays_is_kept(
    admin: Client, database: Database, context: Context
) -> None:
    start(admin, 1, "old", START)
    assert sum(deletion.prune(context, START + YEAR)) == 0
    assert hosts(database) == ["old"]
    assert [job["jobId"] for job in admin.list("host=old")] == [1]


def test_hosts_of_the_last_100_days_are_kept(
    admin: Client, database: Database, context: Context
) -> None:
    admin.send("DELETE", f"/delete_job/{start(admin, 1, 'young', NOW - 40 * 86_400)}")
    deletion.delete_before(context, NOW)
    assert hosts(database) == ["young"]


def test_late_report_keeps_the_host_that_it_relies_on(
    admin: Client, database: Database, context: Context
) -> None:
    admin.send("DELETE", f"/delete_job/{start(admin, 1, 'old', START)}")
    deletes = threading.Thread(target=deletion.delete_before, args=(context, START - 1 + YEAR))
    with database.transaction() as conn:
        conn.execute("SELECT register_hosts(ARRAY['old'], %s)", [START + YEAR])
        conn.execute(JOB.encode(), [START + YEAR])
        deletes.start()
        with database.session() as other:
            waits = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'hosts'::regclass"
            deadline = time.monotonic() + 60
            while other.execute(waits.encode()).fetchone() is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    deletes.join()
    assert [job["jobId"] for job in admin.list("host=old")] == [9]
