"""GET /jobs/?fields= shows of each job what is asked for, and reads no more."""

from collections.abc import Iterator
from typing import Any

import pytest

from ccapi.api.schemas import JobMeta
from ccapi.api.serializers import JOB_FIELDS
from ccapi.model.job import Job
from ccapi.repository import job_list
from ccapi.repository.job_list import Batch
from tests.client import START, Client, assert_error, full_job

_BATCHES = pytest.mark.parametrize("batch", [1, 250])


@pytest.fixture(autouse=True)
def _jobs(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Register two running jobs at a time that stands still."""
    monkeypatch.setattr("ccapi.api.job_list.now", lambda: START + 60)
    admin.start(**full_job())
    admin.start(jobId=7, startTime=START - 1)


def test_fields_are_those_of_the_document() -> None:
    assert sorted(JOB_FIELDS) == sorted(
        field.data_key or n for n, field in JobMeta().fields.items()
    )


def test_each_field_equals_that_of_the_whole_job(reader: Client) -> None:
    whole = reader.list("with-metadata")
    for name in JOB_FIELDS:
        expected = [{name: job[name]} if name in job else {} for job in whole]
        assert reader.list(f"fields={name}") == expected


@_BATCHES
@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("fields=user,jobId", ["user", "jobId"]),
        ("fields=jobId,jobId", ["jobId"]),
        ("fields=jobId&with-metadata", ["jobId", "metaData"]),
        ("fields=metaData,jobId&with-metadata=false", ["metaData", "jobId"]),
    ],
)
def test_fields_have_the_order_of_the_query(
    reader: Client, monkeypatch: pytest.MonkeyPatch, query: str, names: list[str], batch: int
) -> None:
    monkeypatch.setattr("ccapi.api.job_list._BATCH_SIZE", batch)
    text = reader.send("GET", f"/?{query}").text
    [job, _] = reader.list(query)
    assert list(job) == sorted(job, key=text.index)
    assert sorted(job) == sorted(names)
    places = [text.index(f'"{name}"') for name in names]
    assert places == sorted(places)


def test_all_fields_but_metadata_are_the_default(reader: Client) -> None:
    names = ",".join(name for name in JOB_FIELDS if name != "metaData")
    assert reader.send("GET", f"/?fields={names}").data == reader.send("GET", "/").data


@pytest.mark.parametrize("text", ["", "jobid", "jobId,", "jobId, user", "jobId;user", "job_id"])
def test_unknown_field_is_refused_with_the_known_ones(reader: Client, text: str) -> None:
    assert_error(reader.send("GET", f"/?fields={text}"), 400, "fields: must be", "id, jobId, user")


def test_cursor_works_with_any_fields(reader: Client) -> None:
    first = reader.send("GET", "/?fields=user&items-per-page=1").get_json()
    assert reader.list(f"fields=jobId&cursor={first['nextCursor']}") == [{"jobId": 7}]


def test_omitted_columns_are_not_read(reader: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Job] = []
    real = job_list.batches

    def batches(*args: Any) -> Iterator[Batch]:
        for batch in real(*args):
            read.extend(batch.jobs)
            yield batch

    monkeypatch.setattr(job_list, "batches", batches)
    reader.list("fields=jobId,statistics")
    assert (read[0].resources, read[0].tags, read[0].meta_data) == ("[]", "[]", None)
    assert read[0].statistics is not None
