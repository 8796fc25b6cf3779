"""`ccapi jobs prune`: old jobs leave the database, and only those that the archive has."""

import io
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ccapi.cli.params import format_utc
from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.service import deletion
from tests.cli.conftest import Command
from tests.client import START, Client, count

END = format_utc(START + 50)
DAY = 86_400


@pytest.fixture
def old(writer: Client, database: Database) -> dict[str, int]:
    """Register a job of each kind; a stopped one is archived unless it is marked otherwise."""
    ids = {
        name: writer.start(jobId=n, startTime=START + n, monitoringStatus=int(name != "unwanted"))
        for n, name in enumerate(("archived", "also archived", "failed", "unwanted", "runs"), 1)
    }
    ids["at the time"] = writer.start(jobId=50, startTime=START + 50)
    for name, id_ in ids.items():
        if name != "runs":
            writer.send("POST", f"/stop_job/{id_}", {"stopTime": START + 99, "jobState": "failed"})
    with database.session() as conn:
        conn.execute("INSERT INTO archive_queue VALUES (%s, false, true)", [ids["failed"]])
    return ids


def left(client: Client, ids: dict[str, int]) -> set[str]:
    remaining = {job["id"] for job in client.list("items-per-page=1000")}
    return {name for name, id_ in ids.items() if id_ in remaining}


KEPT = {"failed", "unwanted", "runs", "at the time"}


@pytest.mark.parametrize(
    "before",
    [
        END,
        str(START + 50),
        datetime.fromtimestamp(START + 50, UTC).isoformat(),
        END.removesuffix("Z"),
    ],
)
def test_archived_jobs_before_a_time_are_deleted(
    ccapi: Command, old: dict[str, int], writer: Client, before: str
) -> None:
    status, out, err = ccapi("jobs", "prune", "--before", before)
    assert (status, err) == (0, "")
    assert out == (f"deleted 2 jobs that started before {END}; kept: 1 running, 2 not archived\n")
    assert left(writer, old) == KEPT


def test_archive_keeps_pruned_jobs(ccapi: Command, old: dict[str, int], config: Config) -> None:
    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in config.archive.root.rglob("meta.json")}

    before = files()
    ccapi("jobs", "prune", "--before", END)
    assert files() == before
    assert len(before) >= 3
    assert old


def test_dry_run_counts_and_deletes_nothing(
    ccapi: Command, old: dict[str, int], writer: Client
) -> None:
    _, out, _ = ccapi("jobs", "prune", "--before", END, "--dry-run")
    assert out.startswith("dry run, nothing is changed: would delete 2 jobs")
    assert left(writer, old) == set(old)


class Terminal(io.StringIO):
    """Standard input of somebody at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "case", [("n\n", (), False), ("", (), False), ("y\n", (), True), ("", ("--yes",), True)]
)
def test_prune_asks_in_a_terminal(
    ccapi: Command,
    old: dict[str, int],
    writer: Client,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, tuple[str, ...], bool],
) -> None:
    answer, options, is_deleted = case
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    status, out, _ = ccapi("jobs", "prune", "--before", END, *options)
    assert status == (0 if is_deleted else 1)
    assert ("delete 2 jobs that started before" in out) == (not options)
    assert left(writer, old) == (KEPT if is_deleted else set(old))


def test_unarchived_jobs_are_deleted_on_request(
    ccapi: Command, old: dict[str, int], writer: Client
) -> None:
    _, out, _ = ccapi("jobs", "prune", "--before", END, "--include-unarchived")
    assert out == f"deleted 4 jobs that started before {END}; kept: 1 running\n"
    assert left(writer, old) == {"runs", "at the time"}


def test_jobs_older_than_a_duration_are_deleted(ccapi: Command, writer: Client) -> None:
    now = int(time.time())
    for number, days in enumerate((399, 401), 1):
        id_ = writer.start(jobId=number, startTime=now - days * DAY)
        writer.send("POST", f"/stop_job/{id_}", {"stopTime": now, "jobState": "completed"})
    _, out, _ = ccapi("jobs", "prune", "--older-than", "400d")
    assert out.startswith("deleted 1 jobs")
    assert [job["jobId"] for job in writer.list()] == [1]


def test_prune_without_matching_jobs_succeeds(ccapi: Command) -> None:
    status, out, _ = ccapi("jobs", "prune", "--before", "2020-01-01")
    assert (status, out[:14]) == (0, "deleted 0 jobs")


WRONG = {
    "nothing": (),
    "both": ("--before", END, "--older-than", "1d"),
    "word": ("--before", "yesterday"),
    "negative": ("--before", "-5"),
    "milliseconds": ("--before", "1700000000000"),
    "beyond time": ("--before", "999999999999"),
    "no unit": ("--older-than", "400"),
    "zero": ("--older-than", "0d"),
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_missing_or_ambiguous_time_is_rejected(
    ccapi: Command, old: dict[str, int], writer: Client, arguments: tuple[str, ...]
) -> None:
    status, _, err = ccapi("jobs", "prune", *arguments)
    assert status == 2
    assert "Error" in err
    assert left(writer, old) == set(old)


def fill(database: Database, number: int) -> None:
    with database.session() as conn:
        conn.execute(
            """
            INSERT INTO jobs (job_id, start_time, stop_time, job_state, num_nodes, exclusive,
                              monitoring_status, cluster, sub_cluster, user_name, project,
                              resources)
            SELECT n, %(start)s + n / 3, 2 * %(start)s::bigint, 'completed', 1, 1,
                   CASE WHEN n %% 5 = 0 THEN 0 ELSE 3 END, 'fritz', '', 'abcd100h', '', '[]'
            FROM generate_series(1, %(number)s::int) AS n
            """,
            {"start": START, "number": number},
        )


def prune_in_thread(ccapi: Command, outcome: list[str]) -> Callable[[], None]:
    return lambda: outcome.append(ccapi("jobs", "prune", "--before", format_utc(START + DAY)).out)


def test_starts_go_on_between_batches(
    ccapi: Command, writer: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third batch has to wait for a row; by then the first two are gone for everybody."""
    monkeypatch.setattr(deletion, "BATCH_SIZE", 40)
    fill(database, 200)
    outcome: list[str] = []
    with database.session() as conn, conn.transaction():
        conn.execute("SELECT FROM jobs WHERE job_id = 124 FOR UPDATE")
        pruning_thread = threading.Thread(target=prune_in_thread(ccapi, outcome))
        pruning_thread.start()
        deadline = time.monotonic() + 4
        while count(database, "jobs") > 120 and time.monotonic() < deadline:
            time.sleep(0.01)
        seen = count(database, "jobs")
        writer.start(jobId=999)
    pruning_thread.join()
    assert seen == 120
    assert outcome[0].startswith("deleted 160 jobs")
    assert count(database, "jobs") == 41


def test_job_that_lost_its_archived_state_stays(ccapi: Command, database: Database) -> None:
    fill(database, 4)
    outcome: list[str] = []
    with database.session() as conn, conn.transaction():
        conn.execute("UPDATE jobs SET monitoring_status = 2 WHERE job_id = 3")
        pruning_thread = threading.Thread(target=prune_in_thread(ccapi, outcome))
        pruning_thread.start()
        time.sleep(0.3)
    pruning_thread.join()
    assert outcome[0].startswith("deleted 3 jobs")
    assert count(database, "jobs") == 1


def test_a_time_in_the_future_is_refused(ccapi: Command, old: dict[str, int]) -> None:
    assert old
    status, out, err = ccapi("jobs", "prune", "--before", "2999-01-01")
    assert (status, out) == (2, "")
    assert "2999-01-01T00:00:00Z is in the future" in err
