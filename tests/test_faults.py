"""A few faults of the fault suite, and a test that its audit notices a loss."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ccapi.embedded import PrivatePostgres
from tests.faults import suite
from tests.faults.audit import Tolerance, audit
from tests.faults.series import Setup, running

pytestmark = pytest.mark.slow

FAULTS = {fault.name: fault for fault in suite.ALL}
SOME = (
    "worker killed in stop_job: renamed, status not committed",
    "database read-only, new sessions",
)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[PrivatePostgres, Path]]:
    with suite.server() as running_server:
        yield running_server


@pytest.mark.parametrize("name", SOME)
def test_nothing_is_lost_and_the_service_recovers(
    server: tuple[PrivatePostgres, Path], name: str
) -> None:
    outcome = suite.run(*server, FAULTS[name], times=1)
    assert outcome.is_good, [*suite.details(outcome)]
    assert outcome.times == 1
    assert outcome.in_flight > 0


def test_the_audit_notices_lost_duplicated_and_wrong_jobs(
    server: tuple[PrivatePostgres, Path],
) -> None:
    postgres, directory = server
    with running(postgres, directory / "forged", "forged", Setup(threads=2)) as series:
        series.await_attempts(10)
        series.finish()
        with series.administrator(series.database) as conn:
            conn.execute("DELETE FROM jobs WHERE id = (SELECT min(id) FROM jobs)")
            conn.execute(
                """
                UPDATE jobs SET job_state = 'preempted', stop_time = 2000000000
                WHERE id = (SELECT min(id) FROM jobs)
                """
            )
            conn.execute(
                """
                INSERT INTO jobs (job_id, cluster, start_time, user_name, project, sub_cluster,
                                  num_nodes, exclusive, monitoring_status, resources)
                SELECT job_id, cluster, start_time + 1, user_name, '', '', 1, 1, 1, resources
                FROM jobs ORDER BY id LIMIT 1
                """
            )
        verdict = audit(series, Tolerance())
    assert any("not in the database" in text for text in verdict.lost)
    assert verdict.duplicated
    assert any("not started" in text for text in verdict.wrong)
    assert any("preempted" in text for text in verdict.wrong)


def test_injections_are_divided_by_weight() -> None:
    faults = list(FAULTS.values())
    assert min(suite.shares(faults, 1)) == 1
    assert sum(suite.shares(faults, 1000)) == pytest.approx(1000, abs=len(faults))
