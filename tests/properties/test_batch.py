"""A batch has the answers and the effects of its lines as single requests, one after the other."""

import json
import re
import shutil
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from ccapi.context import Context
from tests.client import Client
from tests.properties.operations import Generator

_LINES = 40
_ID = re.compile(r"(?<=\bid )(?:is )?[0-9]+")
Command = tuple[str, bytes]
StatusAndBody = tuple[int, Any]


class Effects(NamedTuple):
    """The answers to some requests, and what is registered and archived after them."""

    answers: list[StatusAndBody]
    jobs: list[str]
    files: dict[str, bytes]


def effects(client: Client, archive: Path, answers: list[StatusAndBody]) -> Effects:
    """Collect effects; database ids, which differ between two runs, become the runs' keys."""
    jobs = client.list("with-metadata&items-per-page=1000")
    names = {job["id"]: f"{job['cluster']}/{job['jobId']}/{job['startTime']}" for job in jobs}
    for job in jobs:
        if job["jobState"] == "running":
            del job["duration"]
    files = archive.rglob("meta.json")
    return Effects(
        [(status, without_ids(body, names)) for status, body in answers],
        sorted(map(str, without_ids(jobs, names))),
        {str(path.relative_to(archive)): path.read_bytes() for path in files},
    )


def without_ids(value: Any, names: dict[int, str]) -> Any:
    if isinstance(value, list):
        return [without_ids(item, names) for item in value]
    if isinstance(value, str):
        return _ID.sub(lambda match: names[int(match[0].removeprefix("is "))], value)
    if isinstance(value, dict):
        is_tag = "type" in value
        return {
            key: (is_tag or names[item]) if key == "id" else without_ids(item, names)
            for key, item in value.items()
        }
    return value


def send_alone(client: Client, commands: list[Command]) -> list[StatusAndBody]:
    answers = []
    for operation, body in commands:
        response = client.send("POST", f"/{operation}_job/", body)
        answers.append((response.status_code, response.get_json()))
    return answers


def send_together(client: Client, commands: list[Command]) -> list[StatusAndBody]:
    body = b"\n".join(b'{"%s": %s}' % (name.encode(), body) for name, body in commands)
    response = client.send("POST", "/batch/", body)
    answers = [json.loads(line) for line in response.data.splitlines()]
    assert [answer["line"] for answer in answers] == list(range(1, len(commands) + 1))
    return [(answer["status"], answer["body"]) for answer in answers]


def comparable(answer: StatusAndBody) -> StatusAndBody:
    """Return an answer without a message about a body that is not an object: a line has none."""
    status, body = answer
    is_about_body = str(body.get("error", "")).startswith(("the body", "the line"))
    return (status, "not an object") if is_about_body else answer


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_batch_equals_its_lines_as_single_requests(
    admin: Client, context: Context, seed: int
) -> None:
    random = Random(seed)
    generator = Generator(random, flawless=seed % 2 == 0)
    commands: list[Command] = []
    while len(commands) < _LINES:
        operation = generator.named(random.choice(("start", "start", "stop")), [])
        if operation.body:
            commands.append((operation.name, operation.body))
    results = []
    for send in (send_alone, send_together):
        answers = [comparable(answer) for answer in send(admin, commands)]
        results.append(effects(admin, context.archive_root, answers))
        for directory in context.archive_root.glob("*/"):
            shutil.rmtree(directory)
        with context.database.session() as conn:
            conn.execute("DELETE FROM jobs; DELETE FROM archive_queue; DELETE FROM tags")
    assert results[0].answers == results[1].answers
    assert results[0] == results[1]
    assert results[0].jobs
