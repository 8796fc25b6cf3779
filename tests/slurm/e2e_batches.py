"""Kills lose, double or change no event of a backlog that is sent in batches."""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from ccapi import config
from ccapi.app import build_context
from ccapi.db import migrations
from ccapi.db.pool import Database
from ccapi.embedded import PrivatePostgres, private_postgres
from ccapi.model.token import Role
from ccapi.service import archive, tokens
from tests.processes import Service, gunicorn
from tests.slurm import events
from tests.slurm.cluster import wait_until
from tests.slurm.events import START
from tests.slurm.site import install, list_jobs

_JOBS = 1_500
_KILLS = 6


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[PrivatePostgres]:
    """Run a PostgreSQL that survives a kill."""
    with private_postgres(tmp_path / "postgresql") as server:
        migrations.migrate(Database(server.url))
        yield server


@pytest.mark.parametrize("victim", ["sender", "worker", "PostgreSQL"])
def test_kill_in_the_middle_of_a_backlog(
    durable: PrivatePostgres, tmp_path: Path, victim: str
) -> None:
    site = install(tmp_path / "site", tokens.create(Database(durable.url), "slurm", Role.WRITER))
    for number in range(1, _JOBS + 1):
        events.write_start(site, number, START + number)
        events.write_end(site, number, START + number + 7, START=str(START + number))
    environment = {
        "CCAPI_DATABASE_URL": durable.url,
        "CCAPI_ARCHIVE_ROOT": str(tmp_path / "job-archive"),
    }
    with gunicorn(environment, tmp_path, workers=2) as service:
        site.configure(CCAPI_URL=service.url)
        for pause in random.Random(4).choices((0.2, 0.3, 0.5), k=_KILLS):
            with site.sender():
                time.sleep(pause)
                kill(victim, service, durable)
        with site.sender():
            wait_until(lambda: site.names() == [], 120, lambda: f"{len(site.names())} wait")
        jobs = list_jobs(service, site)
    runs = sorted((job["jobId"], job["startTime"], job["duration"]) for job in jobs)
    assert runs == [(number, START + number, 7) for number in range(1, _JOBS + 1)]
    assert site.names("dead") == []
    assert_archived(environment)


def kill(victim: str, service: Service, postgres: PrivatePostgres) -> None:
    """Kill -9 a process; the end of the sender's block kills the sender."""
    if victim == "worker":
        with suppress(ProcessLookupError, IndexError):
            os.kill(random.choice(service.workers()), signal.SIGKILL)
        time.sleep(0.3)
    elif victim == "PostgreSQL":
        assert postgres.pid is not None
        os.kill(postgres.pid, signal.SIGKILL)
        time.sleep(0.2)
        postgres.stop()
        postgres.start()


def assert_archived(environment: dict[str, str]) -> None:
    """Check that the archive has every run after the next retry."""
    settings = config.load(environ={**environment, "CCAPI_CONFIG": "/dev/null"})
    context = build_context(settings)
    list(archive.retry(context))
    documents = [
        orjson.loads(path.read_bytes()) for path in context.archive_root.rglob("meta.json")
    ]
    assert sorted((job["jobId"], job["duration"], job["jobState"]) for job in documents) == [
        (number, 7, "completed") for number in range(1, _JOBS + 1)
    ]
    context.database.close()
