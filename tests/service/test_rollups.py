"""Statistics with roll-ups equal the sum over jobs, whatever happens to the jobs meanwhile."""

import threading
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from ccapi.context import Context
from ccapi.db.pool import Connection, Database
from ccapi.errors import InvalidInput, Unfinished
from ccapi.model.job import FINAL_STATES, JobFilter, NewJob, Range
from ccapi.model.statistics import (
    Days,
    GroupBy,
    GroupOrder,
    HistogramOf,
    Points,
    StatisticsQuery,
)
from ccapi.model.token import Scope
from ccapi.repository import bulk_insert, reconciliation, rollups
from ccapi.service import deletion, statistics
from ccapi.service.rollups import rebuild
from tests.client import START, Client
from tests.service.test_statistics import DAY, NOW, assert_sum_over_jobs, query_of, random_job

FIRST_DAY, LAST_DAY = -(-START // DAY), NOW // DAY
ROUNDS, JOBS, QUERIES, WRITES = 8, 300, 15, 6
GROUPS = ("cluster", "state", "partition", "sub-cluster", "user", "project")
PERIOD_NAMES = ("day", "week", "month")
Write = Callable[[Connection, dict[int, NewJob], Random], None]


def build(database: Database, now: int = NOW + 3 * DAY) -> int:
    return sum(rebuild(database, now))


def days_of(
    database: Database, query: StatisticsQuery, points: Points | None = None
) -> Days | None:
    with database.connection() as conn:
        return rollups.find_days_of_query(conn, query, points or Points(0, 3600, 0))


def random_query(rng: Random) -> StatisticsQuery:
    begin = START + rng.choice([rng.randrange(8 * DAY) - DAY, DAY * rng.randrange(3)])
    length = rng.choice([4 * DAY, 10 * DAY + rng.randrange(4 * DAY), 300 * DAY])
    coarse = [{}, {"cluster": ["alex"]}, {"partition": ["main", "large"]},
              {"not_partition": ["main"]}, {"sub_cluster": ["spr"]},
              {"scope": Scope(clusters=("fritz",))},
              {"start_time": Range(begin, begin + length)},
              {"start_time": Range(begin + DAY, begin + 6 * DAY)}]  # fmt: skip
    fine = [*coarse, {"user_name": ["bert"]}, {"not_user_name": ["bert"]}, {"project": [""]},
            {"state": ["failed", "completed", "running"]}, {"not_state": ["failed"]},
            {"scope": Scope(users=("anna", "Carla"))}, {"scope": Scope(projects=("p1",))},
            {"num_nodes": Range(1, 2)}]  # fmt: skip
    is_coarse = rng.random() < 0.5
    period = rng.choice([*PERIOD_NAMES, None, None, None])
    names = GROUPS[:4] if period else GROUPS
    group_by = {GroupBy(name) for name in rng.sample(names, rng.randrange(4))}
    return StatisticsQuery(
        jobs=JobFilter(**rng.choice(coarse if is_coarse else fine), now=NOW),  # type: ignore[arg-type] # one of several kinds
        time=Range(begin, begin + length),
        group_by=frozenset(group_by | ({GroupBy(period)} if period else set())),
        order=rng.choice(list(GroupOrder)),
        limit=1000,
        with_timeline=True,
        step=rng.choice([None, 3600 * rng.randrange(5, 48), DAY]) if is_coarse else 3600 * 5,
        with_waits=period is None and rng.random() < 0.5,
        with_end_states=True,
        histograms=tuple(HistogramOf) if is_coarse else (),
    )


def update(conn: Connection, id_: int, **values: Any) -> None:
    columns = ", ".join(f"{name} = %({name})s" for name in values)
    conn.execute(f"UPDATE jobs SET {columns} WHERE id = %(id)s".encode(), {**values, "id": id_})


def end(conn: Connection, jobs: dict[int, NewJob], rng: Random) -> None:
    """Give a job, running or not, another end."""
    id_, job = rng.choice(list(jobs.items()))
    stop_time = job.start_time + rng.choice([0, 7200, 90_000, 90_001, 3 * DAY])
    state = rng.choice(FINAL_STATES)
    update(conn, id_, job_state=state, stop_time=stop_time)
    jobs[id_] = replace(job, job_state=state, stop_time=stop_time)


def reopen(conn: Connection, jobs: dict[int, NewJob], rng: Random) -> None:
    id_, job = rng.choice(list(jobs.items()))
    reconciliation.reopen(conn, [id_], "test")
    jobs[id_] = replace(job, job_state="running", stop_time=None)


def delete(conn: Connection, jobs: dict[int, NewJob], rng: Random) -> None:
    id_ = rng.choice(list(jobs))
    conn.execute("DELETE FROM jobs WHERE id = %s", [id_])
    del jobs[id_]


def add(conn: Connection, jobs: dict[int, NewJob], rng: Random) -> None:
    job = random_job(rng.randrange(10_000, 10**9), rng)
    [id_] = bulk_insert.load(conn, [job])
    jobs[id_] = job


def move(conn: Connection, jobs: dict[int, NewJob], rng: Random) -> None:
    """Let an administrator change what no operation does."""
    id_, job = rng.choice(list(jobs.items()))
    start = START + rng.randrange(20 * DAY)
    stop = start + 3600 if job.stop_time else None
    update(conn, id_, start_time=start, stop_time=stop, user_name="bert", num_hwthreads=7)
    jobs[id_] = replace(job, start_time=start, stop_time=stop, user_name="bert", num_hwthreads=7)


def test_statistics_with_rollups_equal_the_sum_over_jobs(context: Context) -> None:
    """Random writes come between; only some of them are followed by a run of the command."""
    rng, database = Random(7), context.database
    with database.transaction() as conn:
        several = [random_job(number, rng) for number in range(1, JOBS + 1)]
        jobs = dict(zip(bulk_insert.load(conn, several), several, strict=True))
    assert build(database) > 20
    used = 0
    writes: tuple[Write, ...] = (end, end, reopen, delete, add, move)
    for round_ in range(ROUNDS):
        for _ in range(QUERIES):
            query = random_query(rng)
            used += days_of(database, query) is not None
            assert_sum_over_jobs(statistics.compute(context, query), list(jobs.values()), query)
        for write in rng.sample(writes, WRITES):
            with database.transaction() as conn:
                write(conn, jobs, rng)
        if round_ % 2:
            assert build(database) > 0
            assert build(database) == 0
    assert used > ROUNDS * QUERIES / 2


@pytest.fixture
def jobs_of_days(admin: Client) -> list[int]:
    """A finished job of an hour for each of ten days, and their roll-ups."""
    ids = []
    for number in range(1, 11):
        start = (FIRST_DAY + number) * DAY + 3600
        ids.append(admin.start(jobId=number * 100, startTime=start))
        admin.stop(jobId=number * 100, stopTime=start + 3600)
    return ids


ALL_DAYS = Days(FIRST_DAY + 1, FIRST_DAY + 13)
RANGE = Range(ALL_DAYS.first * DAY, ALL_DAYS.end * DAY + 90_000)


def plain_query(**changed: Any) -> StatisticsQuery:
    return query_of(**{"time": RANGE, "with_timeline": False, **changed})


CHANGES = [
    ("POST", "/correct_job/{id}", {"jobState": "failed"}),
    ("POST", "/correct_job/{id}", {"stopTime": START + 10 * DAY}),
    ("DELETE", "/delete_job/{id}", None),
    ("DELETE", f"/delete_job_before/{(FIRST_DAY + 2) * DAY}", None),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_takes_the_day_out_of_the_rollups(
    context: Context, admin: Client, jobs_of_days: list[int], change: tuple[str, str, Any]
) -> None:
    assert build(context.database) > 10
    assert days_of(context.database, plain_query()) == ALL_DAYS
    method, path, body = change
    response = admin.send(method, path.format(id=jobs_of_days[0]), body)
    assert response.status_code == 200, response.text
    assert days_of(context.database, plain_query()) == Days(ALL_DAYS.first + 1, ALL_DAYS.end)
    assert build(context.database) == 1
    assert days_of(context.database, plain_query()) == ALL_DAYS


def test_a_prune_takes_days_out_of_the_rollups(context: Context, jobs_of_days: list[int]) -> None:
    build(context.database)
    assert sum(deletion.prune(context, (FIRST_DAY + 3) * DAY)) == 2
    assert days_of(context.database, plain_query()) == Days(ALL_DAYS.first + 2, ALL_DAYS.end)
    assert statistics.compute(context, plain_query()).num_jobs == len(jobs_of_days) - 2


def test_tags_and_metadata_change_no_rollup(
    context: Context, admin: Client, jobs_of_days: list[int]
) -> None:
    build(context.database)
    tags = [{"type": "a", "name": "b"}]
    assert admin.send("POST", f"/tag_job/{jobs_of_days[0]}", tags).status_code == 200
    edit = {"metaData": {"note": "x"}}
    assert admin.send("PATCH", f"/edit_meta/{jobs_of_days[0]}", edit).status_code == 200
    assert days_of(context.database, plain_query()) == ALL_DAYS


def test_truncation_takes_all_days_out(context: Context, jobs_of_days: list[int]) -> None:
    assert build(context.database) > len(jobs_of_days)
    with context.database.transaction() as conn:
        conn.execute("TRUNCATE jobs CASCADE")
    assert days_of(context.database, plain_query()) is None
    assert statistics.compute(context, plain_query()).num_jobs == 0


def insert_finished(conn: Connection) -> None:
    job = NewJob(
        job_id=7,
        start_time=(FIRST_DAY + 4) * DAY,
        stop_time=(FIRST_DAY + 4) * DAY + 60,
        user_name="anna",
        cluster="fritz",
        job_state="completed",
        resources=[{"hostname": "f1"}],
    )
    bulk_insert.load(conn, [job])


def test_the_command_waits_for_transactions_that_began_before(
    context: Context, jobs_of_days: list[int]
) -> None:
    """Their trigger did not know that the day would have roll-ups."""
    outcome: list[int] = []
    command = threading.Thread(target=lambda: outcome.append(build(context.database)))
    with context.database.transaction() as conn:
        insert_finished(conn)
        command.start()
        with context.database.session() as other:
            while command.is_alive() and other.execute("SELECT FROM rollup_days").rowcount == 0:
                pass
        command.join(0.3)
        assert command.is_alive()
    command.join()
    assert outcome[0] > 10
    assert days_of(context.database, plain_query()) == ALL_DAYS
    assert statistics.compute(context, plain_query()).num_jobs == len(jobs_of_days) + 1


def test_a_day_that_changes_while_it_is_summed_up_stays_changed(
    context: Context, jobs_of_days: list[int]
) -> None:
    build(context.database)
    with context.database.transaction() as conn:
        conn.execute("UPDATE jobs SET job_state = 'failed' WHERE id = %s", [jobs_of_days[2]])
        with context.database.transaction() as other:
            insert_finished(other)
        with context.database.transaction() as command:
            rollups.sum_up(command, [FIRST_DAY + 3, FIRST_DAY + 4])
    with context.database.connection() as conn:
        assert rollups.changed_days(conn) == [FIRST_DAY + 3]


def test_the_command_gives_up_on_a_transaction_without_end(
    context: Context, jobs_of_days: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccapi.service.rollups._MAX_WAIT_SECONDS", 0)
    with context.database.transaction() as conn:
        conn.execute("UPDATE jobs SET smt = 1 WHERE id = %s", [jobs_of_days[0]])
        with pytest.raises(Unfinished, match="a transaction has been writing"):
            build(context.database)
    assert days_of(context.database, plain_query()) is None


@pytest.mark.usefixtures("jobs_of_days")
def test_days_wait_until_their_short_jobs_must_have_ended(context: Context) -> None:
    after_last = (ALL_DAYS.first + 5) * DAY + 90_000
    build(context.database, after_last - 1)
    assert days_of(context.database, plain_query()) == Days(ALL_DAYS.first, ALL_DAYS.first + 4)
    assert build(context.database, after_last) == 1


@pytest.mark.usefixtures("jobs_of_days")
@pytest.mark.parametrize(
    "changed",
    [
        {"with_distinct": True},
        {"group_by": frozenset({GroupBy.HOST})},
        {"group_by": frozenset({GroupBy.DAY, GroupBy.USER})},
        {"group_by": frozenset({GroupBy.DAY}), "with_waits": True},
        {"jobs": JobFilter(num_nodes=Range(1, 2), now=NOW)},
        {"jobs": JobFilter(host=["f0101"], now=NOW)},
        {"jobs": JobFilter(user_name=["abcd100h"], now=NOW), "histograms": (HistogramOf.WAIT,)},
    ],
)
def test_other_statistics_read_all_jobs(context: Context, changed: dict[str, Any]) -> None:
    build(context.database)
    assert days_of(context.database, plain_query(**changed)) is None


def test_long_ranges_need_rollups(context: Context, jobs_of_days: list[int]) -> None:
    build(context.database)
    lower = RANGE.lower
    for days, with_timeline in ((366 + 12, False), (366 + 12, True)):
        query = plain_query(time=Range(lower, lower + days * DAY), with_timeline=with_timeline)
        assert statistics.compute(context, query).num_jobs == len(jobs_of_days)
    # Roll-ups end two days before now, whatever the range is.
    build(context.database, (FIRST_DAY + 900) * DAY)
    query = plain_query(time=Range(lower, lower + 1000 * DAY), with_timeline=True)
    result = statistics.compute(context, query)
    assert result.num_jobs == len(jobs_of_days)
    assert len(result.timeline) <= 301
    with pytest.raises(InvalidInput, match="366 days long, besides days with roll-ups"):
        statistics.compute(context, plain_query(time=Range(lower, lower + 1300 * DAY)))
