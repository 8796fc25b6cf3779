"""Operations as HTTP requests, and what every answer and every archive must be."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.properties.world import Operation, World, check

_METHODS = {
    "list": ("GET",),
    "start": ("POST", "PUT"),
    "stop": ("POST", "PUT"),
    "stop_by_id": ("POST", "PUT"),
    "tag": ("POST", "PATCH"),
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
    "delete": "/delete_job/",
    "delete_by_id": "/delete_job/{}",
    "delete_before": "/delete_job_before/{}",
}


def method(operation: Operation) -> str:
    """Return the method; which one of several the variant says."""
    methods = _METHODS[operation.name]
    return methods[operation.variant % len(methods)]


def path(operation: Operation) -> str:
    """Return the path below the jobs, with the query."""
    query = f"?{operation.query}" if operation.query else ""
    return f"/api/jobs{_PATHS[operation.name].format(operation.target)}{query}"


def headers(operation: Operation, tokens: Mapping[str, str]) -> dict[str, str]:
    """Return the token's header, in either form, and a content type as curl's."""
    found = {"Content-Type": "application/x-www-form-urlencoded"}
    if operation.credential in tokens:
        token = tokens[operation.credential]
        bearer = operation.variant > 1
        found |= {"Authorization": f"Bearer {token}"} if bearer else {"X-Auth-Token": token}
    return found


class TagIds:
    """A tag has one id, and an id one tag, in all answers."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], int] = {}

    def see(self, answer: Any) -> None:
        """Compare the tags of an answer with all that were seen before."""
        jobs = answer.get("jobs", [answer])
        for tag in (tag for job in jobs for tag in job.get("tags", ())):
            check(set(tag) == {"id", "type", "name"}, "a tag has id, type and name")
            known = self._ids.setdefault((tag["type"], tag["name"]), tag["id"])
            check(known == tag["id"], f"{tag} was {known}")
        check(len(set(self._ids.values())) == len(self._ids), f"tags share an id: {self._ids}")


def read_archive(root: Path) -> frozenset[tuple[str, str]]:
    """Read all files, as paths and sorted JSON; refuses foreign ones."""
    check((root / "version.txt").read_text("ascii").strip() == "1", "the version is 1")
    found = set()
    for file in sorted(root.rglob("*")):
        name = str(file.relative_to(root))
        if name == "version.txt":
            continue
        if file.is_dir():
            check(any(file.iterdir()), f"{name} is empty")
            continue
        check(file.name == "meta.json", f"{name} is foreign to an archive")
        found.add((name, _sorted(file.read_bytes())))
    return frozenset(found)


def _sorted(data: bytes) -> str:
    document = json.loads(data, object_pairs_hook=_without_repetition)
    document.setdefault("statistics", {})
    document["tags"].sort(key=lambda tag: (tag["type"], tag["name"]))
    return json.dumps(document, sort_keys=True)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    check(len(dict(pairs)) == len(pairs), f"a name is repeated in {pairs}")
    return dict(pairs)


def check_archive(world: World, found: frozenset[tuple[str, str]]) -> None:
    """Compare an archive with the world's."""
    check(
        found == world.archive,
        f"missing in the archive: {world.archive - found}, too much: {found - world.archive}",
    )
