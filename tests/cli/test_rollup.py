"""`ccapi rollup` sums up the jobs of past days."""

import pytest

from ccapi.db.pool import Database
from tests.cli.conftest import Command, ccapi, environment
from tests.client import START, Client

__all__ = ["ccapi", "environment"]
DAY = 86_400


def test_days_are_summed_up_once(ccapi: Command, admin: Client, database: Database) -> None:
    admin.start()
    admin.stop()
    first = ccapi("rollup")
    assert first.status == 0, first.err
    # From the day of the first job until the day before yesterday.
    assert int(first.out.removeprefix("summed up ").removesuffix(" days\n")) > 300
    assert ccapi("rollup").out == "summed up 0 days\n"
    id_ = admin.list()[0]["id"]
    admin.send("POST", f"/correct_job/{id_}", {"stopTime": START + 60})
    assert ccapi("rollup").out == "summed up 1 day\n"


@pytest.mark.usefixtures("database")
def test_without_jobs_there_is_nothing_to_do(ccapi: Command) -> None:
    assert ccapi("rollup").out == "summed up 0 days\n"
