"""Operations as HTTP requests, and what every answer and every archive must be."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.properties.world import Operation, World, check

_KEPT = re.compile(r"\.meta\.json\.replaced-[0-9a-f]{16}")
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


class Files(NamedTuple):
    """The files of an archive, as paths and sorted JSON; `kept` are former contents."""

    current: frozenset[tuple[str, str]]
    kept: frozenset[tuple[str, str]]


def read_archive(root: Path) -> Files:
    """Read all files; refuses foreign ones, empty directories and another version."""
    check((root / "version.txt").read_text("ascii").strip() == "1", "the version is 1")
    current, kept = set(), set()
    for file in sorted(root.rglob("*")):
        name = str(file.relative_to(root))
        if file.is_dir():
            check(any(file.iterdir()), f"{name} is empty")
        elif _KEPT.fullmatch(file.name):
            # What a later run of the same job, cluster and start has replaced.
            kept.add((str(file.relative_to(root).with_name("meta.json")), _sorted(file)))
        elif name != "version.txt":
            check(file.name == "meta.json", f"{name} is foreign to an archive")
            current.add((name, _sorted(file)))
    return Files(frozenset(current), frozenset(kept))


def _sorted(file: Path) -> str:
    document = json.loads(file.read_bytes(), object_pairs_hook=_without_repetition)
    document.setdefault("statistics", {})
    document["tags"].sort(key=lambda tag: (tag["type"], tag["name"]))
    return json.dumps(document, sort_keys=True)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    check(len(dict(pairs)) == len(pairs), f"a name is repeated in {pairs}")
    return dict(pairs)


def is_archived(files: Files, world: World) -> bool:
    """Tell whether an archive is the world's."""
    return files.current == world.archive and files.kept <= world.former | world.archive


def check_archive(world: World, files: Files) -> None:
    """Compare an archive with the world's."""
    missing, much = world.archive - files.current, files.current - world.archive
    unknown = files.kept - world.former - world.archive
    check(
        is_archived(files, world),
        f"missing in the archive: {missing}, too much: {much}, kept by mistake: {unknown}",
    )
