"""Operations as HTTP requests, and rules for all tags and all files of the archive."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.properties.model_state import Operation, State, check

_BACKUP = re.compile(r"\.meta\.json\.replaced-[0-9a-f]{16}")
_METHODS = {
    "list": ("GET",),
    "start": ("POST", "PUT"),
    "stop": ("POST", "PUT"),
    "stop_by_id": ("POST", "PUT"),
    "tag": ("POST", "PATCH"),
    "untag": ("DELETE",),
    "correct": ("POST",),
    "edit_meta": ("POST", "PATCH"),
    "delete": ("DELETE",),
    "delete_by_id": ("DELETE",),
    "delete_before": ("DELETE",),
}
_PATHS = {
    "list": "/",
    "start": "/start_job/",
    "stop": "/stop_job/",
    "stop_by_id": "/stop_job/{}",
    "tag": "/tag_job/{}",
    "untag": "/tag_job/{}",
    "correct": "/correct_job/{}",
    "edit_meta": "/edit_meta/{}",
    "delete": "/delete_job/",
    "delete_by_id": "/delete_job/{}",
    "delete_before": "/delete_job_before/{}",
}


def method(operation: Operation) -> str:
    """Return the method; the variant decides where there are several."""
    methods = _METHODS[operation.name]
    return methods[operation.variant % len(methods)]


def path(operation: Operation) -> str:
    """Return the path below the jobs, with the query."""
    query = f"?{operation.query}" if operation.query else ""
    return f"/api/jobs{_PATHS[operation.name].format(operation.target)}{query}"


def headers(operation: Operation, tokens: Mapping[str, str]) -> dict[str, str]:
    """Return the header of the token, in one of its forms, and the content type of curl."""
    result = {"Content-Type": "application/x-www-form-urlencoded"}
    if operation.credential in tokens:
        token = tokens[operation.credential]
        bearer = operation.variant > 1
        result |= {"Authorization": f"Bearer {token}"} if bearer else {"X-Auth-Token": token}
    return result


class TagIds:
    """The ids of tags in all answers: an id has one tag for ever, and a tag one id."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], int] = {}
        self._tags: dict[int, tuple[str, str]] = {}

    def discard(self) -> None:
        """Allow new ids: a deletion of old jobs also deletes the tags that no job has."""
        self._ids.clear()

    def check_answer(self, answer: Any) -> None:
        """Compare the tags of an answer with those of the answers before."""
        jobs = answer.get("jobs", [answer])
        for tag in (tag for job in jobs for tag in job.get("tags", ())):
            check(set(tag) == {"id", "type", "name"}, "a tag has id, type and name")
            name = (tag["type"], tag["name"])
            known_id = self._ids.setdefault(name, tag["id"])
            check(known_id == tag["id"], f"{tag} was {known_id}")
            known_name = self._tags.setdefault(tag["id"], name)
            check(known_name == name, f"{tag} was {known_name}")


class Files(NamedTuple):
    """The files of an archive: (path, sorted JSON); `backups` are former contents."""

    current: frozenset[tuple[str, str]]
    backups: frozenset[tuple[str, str]]


def read_archive(root: Path) -> Files:
    """Read all files; refuse foreign ones, empty directories and another version."""
    check((root / "version.txt").read_text("ascii").strip() == "3", "the version is 3")
    current, backups = set(), set()
    for file in sorted(root.rglob("*")):
        name = str(file.relative_to(root))
        if file.is_dir():
            check(any(file.iterdir()), f"{name} is empty")
        elif _BACKUP.fullmatch(file.name):
            # A later run of the same job, cluster and start replaced it.
            backups.add((str(file.relative_to(root).with_name("meta.json")), _sorted(file)))
        elif file.name == "cluster.json":
            check(file.parent.parent == root, f"{name} does not belong to a cluster")
        elif name != "version.txt":
            check(file.name == "meta.json", f"{name} does not belong to an archive")
            current.add((name, _sorted(file)))
    return Files(frozenset(current), frozenset(backups))


def _sorted(file: Path) -> str:
    document = json.loads(file.read_bytes(), object_pairs_hook=_without_repetition)
    document |= document.pop("ccapi", {})
    document.setdefault("statistics", {})
    document["tags"].sort(key=lambda tag: (tag["type"], tag["name"]))
    return json.dumps(document, sort_keys=True)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    check(len(dict(pairs)) == len(pairs), f"a name is repeated in {pairs}")
    return dict(pairs)


def is_archived(files: Files, state: State) -> bool:
    """Return whether an archive is as the state says."""
    return files.current == state.archive and files.backups <= state.former | state.archive


def check_archive(state: State, files: Files) -> None:
    """Compare an archive with the state's; raises Unexplained."""
    missing, extra = state.archive - files.current, files.current - state.archive
    unknown = files.backups - state.former - state.archive
    check(
        is_archived(files, state),
        f"missing in the archive: {missing}, extra: {extra}, backups without a reason: {unknown}",
    )
