"""A worker dies while it edits an archived job: a retry makes file and database agree."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from ccapi.archive import layout
from ccapi.config import Config
from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.model.job import JobKey
from ccapi.service import archive, archive_check
from tests.client import START, Client, count
from tests.processes import clean_environment

# Tags a job, and dies at a step: once the file has its new content, or after the commit.
TAG_AND_DIE = """
import os, sys
from ccapi import config
from ccapi.app import build_context
from ccapi.archive import writer
from ccapi.model.job import Tag
from ccapi.repository import edits as rows
from ccapi.service import edits
write = writer.write
def write_and_die(root, job):
    write(root, job)
    os._exit(9)
if sys.argv[2] == "rename":
    writer.write = write_and_die
else:
    rows.end_archive_edit = lambda *_: os._exit(9)
edits.tag(build_context(config.load()), int(sys.argv[1]), [Tag("late", "tag")])
"""


@pytest.fixture
def file(writer: Client, context: Context) -> Path:
    """The meta.json of an archived job."""
    writer.start()
    writer.stop()
    return layout.meta_path(context.archive_root, JobKey("fritz", 123000, START))


def die_while_tagging(config: Config, id_: int, step: str) -> None:
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
    }
    ended = subprocess.run(
        [sys.executable, "-c", TAG_AND_DIE, str(id_), step],
        env={**clean_environment(), **settings, "PYTHONPATH": ":".join(sys.path)},
        cwd=config.archive.root,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 9


def let_time_pass(database: Database) -> None:
    with database.connection() as conn:
        conn.execute("UPDATE archive_edits SET begun_at = begun_at - interval '1 hour'")


@pytest.mark.slow
@pytest.mark.parametrize("step", ["rename", "commit"])
def test_a_retry_ends_the_edit_of_a_dead_worker(
    context: Context, config: Config, writer: Client, file: Path, step: str
) -> None:
    tags = ["tag"] if step == "commit" else []
    [job] = writer.list()
    die_while_tagging(config, job["id"], step)
    assert [tag["name"] for tag in orjson.loads(file.read_bytes())["tags"]] == ["tag"]
    assert list(archive.retry(context)) == []  # a request may still be working on it
    let_time_pass(context.database)
    assert [retried.id for retried in archive.retry(context)] == [job["id"]]
    assert [tag["name"] for tag in orjson.loads(file.read_bytes())["tags"]] == tags
    assert [tag["name"] for tag in writer.list()[0]["tags"]] == tags
    assert list(archive_check.check(context)) == []
    assert count(context.database, "archive_edits") == 0


def test_an_edit_leaves_no_record(context: Context, writer: Client, file: Path) -> None:
    [job] = writer.list()
    path = f"/tag_job/{job['id']}"
    writer.send("POST", path, [{"type": "a", "name": "b"}])
    writer.send("POST", path, [{"type": "a", "name": ""}])
    content = file.read_bytes()
    file.unlink()
    assert writer.send("POST", path, [{"type": "a", "name": "c"}]).status_code == 500
    assert b'"b"' in content
    assert count(context.database, "archive_edits") == 0
