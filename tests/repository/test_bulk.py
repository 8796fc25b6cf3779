from itertools import count

import psycopg
import pytest

from ccapi.model.job import JobFilter, JobState, NewJob, Tag
from ccapi.repository import bulk, jobs
from ccapi.repository.bulk import RecordedJob
from ccapi.repository.database import Database
from ccapi.repository.jobs import Page

START = 1_700_000_000
STRANGE = "\\ \t \n \r \\N \\. é \u2028 '"


def new_job(job_id: int, **fields: object) -> NewJob:
    required = {"user_name": "abcd100h", "cluster": "demo", "start_time": START}
    return NewJob(**{"resources": [{"hostname": "f0101"}], **required, "job_id": job_id, **fields})  # type: ignore[arg-type]


def finished(job_id: int, **fields: object) -> RecordedJob:
    return RecordedJob(new_job(job_id, **fields), JobState.COMPLETED, START + 60)


def tag_names(text: str) -> list[str]:
    import orjson

    return [tag["name"] for tag in orjson.loads(text)]
