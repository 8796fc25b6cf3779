import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import orjson
import pytest

from ccapi import config as settings
from ccapi.api import reconciliation
from ccapi.archive import meta_json
from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.model.job import NewJob
from ccapi.model.token import Role
from ccapi.repository import bulk_insert as bulk
from tests import conftest
from tests.client import START, Client, assert_error, at_once, without

AS_OF = START + 7200


def snapshot(*job_ids: int, **overrides: Any) -> dict[str, Any]:
    jobs = [{"jobId": job_id, "startTime": START} for job_id in job_ids]
    return {"cluster": "fritz", "asOf": AS_OF, "jobs": jobs, **overrides}


def reconcile(client: Client, body: Any, query: str = "") -> dict[str, Any]:
    response = client.send("POST", f"/reconcile/{query}", body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.get_json()
    assert (answer["numMissing"], answer["numStale"]) == (
        len(answer["missing"]),
        len(answer["stale"]),
    )
    return answer


def apply(client: Client, body: Any) -> dict[str, Any]:
    return reconcile(client, body, "?dry-run=false")


def numbers(runs: list[dict[str, Any]]) -> list[int]:
    return [run["jobId"] for run in runs]


def states(client: Client) -> dict[int, str]:
    return {job["jobId"]: job["jobState"] for job in client.list("items-per-page=2000")}


def load(database: Database, count: int) -> None:
    """Let jobs 1 to count run on fritz."""
    jobs = [
        NewJob(job_id=number, user_name="abcd100h", cluster="fritz", start_time=START,
               resources=[{"hostname": "f0101"}])
        for number in range(1, count + 1)
    ]  # fmt: skip
    with database.session() as conn, conn.transaction():
        bulk.load(conn, jobs)


def test_only_stale_jobs_are_listed_and_stopped(
    admin: Client, database: Database, context: Context
) -> None:
    load(database, 1000)
    body = snapshot(*range(101, 1001))
    plan = reconcile(admin, body)
    assert (plan["dryRun"], plan["missing"], plan["numStale"]) == (True, [], 100)
    assert sorted(numbers(plan["stale"])) == list(range(1, 101))
    assert set(states(admin).values()) == {"running"}
    done = apply(admin, body)
    assert done == {**plan, "dryRun": False, "numArchived": 100}
    by_job_id = states(admin)
    assert {n for n, state in by_job_id.items() if state == "stopped"} == set(range(1, 101))
    assert list(by_job_id.values()).count("running") == 900
    assert len(list(context.archive_root.rglob("meta.json"))) == 100


def test_second_run_changes_nothing(admin: Client, context: Context) -> None:
    admin.start(jobId=1)
    assert apply(admin, snapshot())["numStale"] == 1
    [file] = context.archive_root.rglob("meta.json")
    before = (admin.list(), file.read_bytes(), file.stat().st_mtime_ns)
    assert apply(admin, snapshot()) == {
        "dryRun": False, "numMissing": 0, "numStale": 0, "numArchived": 0,
        "missing": [], "stale": [],
    }  # fmt: skip
    assert (admin.list(), file.read_bytes(), file.stat().st_mtime_ns) == before


@pytest.mark.parametrize("query", ["", "?dry-run", "?dry-run=1", "?dry-run=TRUE"])
def test_dry_run_is_the_default(admin: Client, query: str) -> None:
    admin.start(jobId=1)
    assert reconcile(admin, snapshot(), query)["dryRun"] is True
    assert states(admin) == {1: "running"}


def test_stale_job_is_stopped_at_the_snapshot_and_archived(admin: Client, context: Context) -> None:
    id_ = admin.start(jobId=7, tags=[{"type": "a", "name": "b"}])
    done = apply(admin, snapshot(jobState="failed"))
    assert done["stale"] == [
        {"id": id_, "jobId": 7, "startTime": START, "stopTime": AS_OF, "jobState": "failed"}
    ]
    [job] = admin.list()
    assert (job["jobState"], job["duration"], job["monitoringStatus"]) == ("failed", 7200, 3)
    [file] = context.archive_root.rglob("meta.json")
    archived = orjson.loads(file.read_bytes())
    assert (archived["jobState"], archived["duration"]) == ("failed", 7200)


@pytest.mark.parametrize(
    ("walltime", "duration"), [(3600, 3600), (86_400, 7200), (2**63 - 1, 7200), (0, 7200)]
)
def test_stop_of_a_stale_job_is_limited_by_its_walltime(
    admin: Client, walltime: int, duration: int
) -> None:
    admin.start(jobId=7, walltime=walltime)
    apply(admin, snapshot())
    assert admin.list()[0]["duration"] == duration


def test_known_end_overrides_the_default(admin: Client) -> None:
    admin.start(jobId=7, walltime=60)
    admin.start(jobId=8)
    ended = [
        {"jobId": 7, "startTime": START + 9, "stopTime": START + 100, "jobState": "timeout"},
        {"jobId": 7, "startTime": START + 5000, "stopTime": START + 6000, "jobState": "failed"},
        {"jobId": 9, "startTime": START, "stopTime": START + 100, "jobState": "failed"},
    ]
    stale = apply(admin, snapshot(ended=ended))["stale"]
    assert [(run["jobState"], run["stopTime"]) for run in stale] == [
        ("timeout", START + 100), ("stopped", AS_OF)
    ]  # fmt: skip


def test_nearest_end_after_the_start_is_used(admin: Client) -> None:
    admin.start(jobId=7)
    ended = [
        {"jobId": 7, "startTime": START - 40, "stopTime": START + 9, "jobState": "failed"},
        {"jobId": 7, "startTime": START - 4, "stopTime": START - 2, "jobState": "timeout"},
    ]
    [stale] = apply(admin, snapshot(ended=ended))["stale"]
    assert (stale["jobState"], stale["stopTime"]) == ("timeout", START)
    assert admin.list()[0]["duration"] == 1


def test_missing_jobs_are_only_listed(admin: Client) -> None:
    admin.start(jobId=1)
    admin.start(jobId=2, cluster="alex")
    admin.start(jobId=3)
    admin.stop(jobId=3)
    answer = apply(admin, snapshot(1, 2, 3, 4))
    assert answer["missing"] == [
        {"jobId": 2, "startTime": START}, {"jobId": 4, "startTime": START}
    ]  # fmt: skip
    assert answer["stale"] == []
    assert sorted(states(admin)) == [1, 2, 3]


def test_other_clusters_are_not_changed(admin: Client) -> None:
    admin.start(jobId=1, cluster="alex")
    assert apply(admin, snapshot())["stale"] == []
    assert states(admin) == {1: "running"}


@pytest.mark.parametrize(("difference", "same"), [(60, True), (-60, True), (61, False)])
def test_runs_are_the_same_within_the_duplicate_window(
    admin: Client,
    difference: int,
    same: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    admin.start(jobId=1)
    there = [{"jobId": 1, "startTime": START + difference}]
    answer = reconcile(admin, snapshot(jobs=there))
    assert (answer["missing"], answer["numStale"]) == ([], 0) if same else (there, 1)


def test_first_run_of_a_requeued_job_is_stale(admin: Client) -> None:
    first = admin.start(jobId=1)
    admin.start(jobId=1, startTime=START + 600)
    done = apply(admin, snapshot(jobs=[{"jobId": 1, "startTime": START + 600}]))
    assert [run["id"] for run in done["stale"]] == [first]


def test_starts_near_the_snapshot_are_skipped(admin: Client) -> None:
    admin.start(jobId=1, startTime=AS_OF - 59)
    admin.start(jobId=2, startTime=AS_OF + 300)
    admin.start(jobId=3, startTime=AS_OF - 60)
    there = [{"jobId": 4, "startTime": AS_OF - 59}, {"jobId": 5, "startTime": AS_OF - 60}]
    answer = reconcile(admin, snapshot(jobs=there))
    assert (numbers(answer["missing"]), numbers(answer["stale"])) == ([5], [3])


def test_job_without_monitoring_gets_no_file(admin: Client, context: Context) -> None:
    admin.start(jobId=1, monitoringStatus=0)
    done = apply(admin, snapshot())
    assert (done["numStale"], done["numArchived"]) == (1, 0)
    assert not list(context.archive_root.rglob("meta.json"))


def test_jobs_beyond_the_archiving_time_wait_for_a_retry(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliation, "_ARCHIVING_SECONDS", 0)
    admin.start(jobId=1)
    done = apply(admin, snapshot())
    assert (done["numStale"], done["numArchived"]) == (1, 0)
    [job] = admin.list()
    assert (job["jobState"], job["monitoringStatus"]) == ("stopped", 1)


def test_concurrent_stop_is_never_applied_twice(admin: Client, context: Context) -> None:
    count = 12
    for number in range(1, count + 1):
        admin.start(jobId=number)
    real = [
        partial(admin.twin().send, "POST", "/stop_job/",
                {"jobId": n, "jobState": "completed", "stopTime": START + 60})
        for n in range(1, count + 1)
    ]  # fmt: skip
    batches = 2 * [partial(admin.twin().send, "POST", "/reconcile/?dry-run=false", snapshot())]
    answers = at_once([*real, *batches])
    assert {answer.status_code for answer in answers[count:]} == {200}
    by_batches = [n for answer in answers[count:] for n in numbers(answer.get_json()["stale"])]
    really = [n for n, answer in enumerate(answers[:count], 1) if answer.status_code == 200]
    assert {answer.status_code for answer in answers[:count]} <= {200, 422}
    assert sorted(by_batches + really) == list(range(1, count + 1))
    expected = {n: "completed" if n in really else "stopped" for n in range(1, count + 1)}
    assert states(admin) == expected
    paths = context.archive_root.rglob("meta.json")
    files = [meta_json.decode(path.read_bytes()) for path in paths]
    assert {file.job_id: file.job_state for file in files} == expected


def wait_until_one_waits(database: Database) -> None:
    """Return when a statement waits for another transaction's row."""
    deadline = time.monotonic() + 20
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with database.session() as conn:
        while conn.execute(waiting).rowcount == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_uncommitted_stop_wins(admin: Client, database: Database) -> None:
    for number in (1, 2):
        admin.start(jobId=number)
    with ThreadPoolExecutor(1) as pool, database.session() as conn:
        with conn.transaction():
            conn.execute(
                "UPDATE jobs SET job_state = 'completed', stop_time = start_time + 60,"
                " monitoring_status = 3 WHERE job_id = 1"
            )
            answer = pool.submit(apply, admin.twin(), snapshot())
            wait_until_one_waits(database)
        assert numbers(answer.result()["stale"]) == [2]
    assert states(admin) == {1: "completed", 2: "stopped"}


@pytest.mark.slow
def test_20000_jobs_are_stopped_within_20_seconds(admin: Client, database: Database) -> None:
    """Each list alone in a plan that goes through it per job would take minutes."""
    load(database, 20_000)
    ended = [
        {"jobId": n, "startTime": START, "stopTime": START + n, "jobState": "completed"}
        for n in range(1, 10_001)
    ]
    began = time.monotonic()
    body = snapshot(*range(10_001, 30_001), ended=ended)
    answer = reconcile(admin, body)
    assert (answer["numMissing"], answer["numStale"]) == (10_000, 10_000)
    assert {run["stopTime"] - START == run["jobId"] for run in answer["stale"]} == {True}
    assert time.monotonic() - began < 20


BAD_BODIES = {
    "no cluster": (without(snapshot(), "cluster"), "cluster"),
    "no time": (without(snapshot(), "asOf"), "asOf"),
    "no list": (without(snapshot(), "jobs"), "jobs"),
    "null list": (snapshot(jobs=None), "jobs"),
    "list of another type": (snapshot(jobs={"jobId": 1}), "jobs: must be an array"),
    "a job that is a number": (snapshot(jobs=[1]), "jobs.0"),
    "a job that is null": (snapshot(jobs=[None]), "jobs.0"),
    "second job without start": (snapshot(1, jobs=[{"jobId": 1, "startTime": 1}, {"jobId": 2}]),
                                 "jobs.1.startTime: is required"),
    "text as a number": (snapshot(jobs=[{"jobId": "1", "startTime": START}]), "jobs.0.jobId"),
    "true as a number": (snapshot(jobs=[{"jobId": True, "startTime": START}]), "jobs.0.jobId"),
    "job 0": (snapshot(0), "jobs.0.jobId"),
    "a job number beyond 64 bits": (snapshot(2**63), "jobs.0.jobId"),
    "milliseconds": (snapshot(jobs=[{"jobId": 1, "startTime": START * 1000}]), "startTime"),
    "two spellings": (snapshot(jobs=[{"jobId": 1, "startTime": 1, "jobid": 1}]), "jobid"),
    "a job twice": (snapshot(1, 2, 1), "jobId 1 twice"),
    "running as a final state": (snapshot(jobState="running"), "jobState"),
    "a state as a list": (snapshot(jobState=["failed"]), "jobState"),
    "a path as cluster": (snapshot(cluster="../fritz"), "cluster"),
    "a future snapshot": (snapshot(asOf=int(time.time()) + 3600), "asOf: "),
    "negative time": (snapshot(asOf=-1), "asOf"),
    "an end without state": (
        snapshot(ended=[{"jobId": 1, "startTime": START, "stopTime": START}]), "jobState"),
    "an end before the start": (
        snapshot(ended=[{"jobId": 1, "startTime": START, "stopTime": START - 1,
                         "jobState": "failed"}]), "ended.0.stopTime"),
    "ends of another type": (snapshot(ended="none"), "ended"),
    "a list": ([snapshot()], "object"),
    "nothing": (None, "empty"),
    "no JSON": (b"{", "JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_BODIES)
def test_invalid_body_is_refused_briefly_and_stops_nothing(admin: Client, name: str) -> None:
    body, words = BAD_BODIES[name]
    admin.start(jobId=7)
    response = admin.send("POST", "/reconcile/?dry-run=false", body)
    assert_error(response, 400, words)
    assert len(response.text) < 4096
    assert states(admin) == {7: "running"}


def test_long_invalid_list_has_a_short_answer(admin: Client) -> None:
    response = admin.send("POST", "/reconcile/", snapshot(jobs=100_000 * [{"x": None}]))
    assert_error(response, 400, "jobs.0")
    assert len(response.text) < 4096


def test_body_over_the_limit_is_refused(admin: Client) -> None:
    body = b'{"jobs":[' + b"1," * 2**22 + b"1]}"
    assert_error(admin.send("POST", "/reconcile/?dry-run=false", body), 413)


@pytest.mark.parametrize("query", ["?dry-run=no", "?dry-run=true&dry-run=false", "?apply=1"])
def test_invalid_query_is_refused(admin: Client, query: str) -> None:
    admin.start(jobId=7)
    assert_error(admin.send("POST", f"/reconcile/{query}", snapshot()), 400)
    assert states(admin) == {7: "running"}


def test_unknown_cluster_is_refused(
    config: settings.Config, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clusters = settings.load(
        environ={
            "CCAPI_DATABASE_URL": config.database.url,
            "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
            "CCAPI_CLUSTERS": '[{"name": "alex"}]',
        }
    )
    admin = conftest.client(conftest.serve(clusters, database), database, Role.ADMIN)
    assert_error(admin.send("POST", "/reconcile/", snapshot()), 400, "fritz", "alex")
    assert reconcile(admin, snapshot(cluster="alex"))["stale"] == []


def test_reconciliation_needs_the_role_admin(writer: Client) -> None:
    writer.start(jobId=7)
    for query in ("", "?dry-run=false"):
        assert_error(writer.send("POST", f"/reconcile/{query}", snapshot()), 403, "admin")
    assert states(writer) == {7: "running"}
