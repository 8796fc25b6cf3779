"""The words of the house: names and phrases that native engineers would not write.

`python -m tests.words [PATH ...]` lists the places where they stand.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("ccapi", "sql", "deploy", "docs", "bench", "tests")
_SUFFIXES = {".py", ".sql", ".rst", ".j2", ".yml", ".json", ".sh", ".conf", ".service"}
_SCRIPTS = {"ccapi-slurm", "epilog", "jobcomp", "prolog"}

# Not allowed as a whole name of a variable, parameter, attribute, function or class.
_NAMES = {
    "found": "match, row, value",
    "given": "value, row, job",
    "kept": "backup, cached",
    "shown": "job, row",
    "alike": "key",
    "fresh": "ttl",
    "trust": "ttl",
    "question": "cache_key, query",
    "weigh": "size_of",
    "authentication": "auth",
    "multiprocess": "prometheus_multiproc",
    "permissions": "file_modes",
    "account": "request_info",  # but not where it is a user of the system
    "admit": "authorize, validate",
    "adopt": "import_finished",
    "presented": "read_token",
    "sharing": "cache",
    "shortcut": "cache_middleware",
    "observation": "gauges",
    "readiness": "health",
    "standby": "replica",
    "watch": "probe",
    "ways": "fields_by_key",
    "Accounted": "RequestLogMiddleware",
    "Answer": "CachedResponse",
    "Claim": "QueueEntry",
    "Match": "RunRef",
    "Observation": "DatabaseGauges",
    "Place": "ListPosition",
    "Question": "StatisticsQuery",
    "Readiness": "HealthCheck",
    "Registry": "Context",
    "Shared": "TTLCache",
    "Sharing": "ResponseCache",
    "Shortcut": "CacheMiddleware",
    "Standby": "Replica",
    "Step": "RepairAction",
    "Watch": "CachedProbe",
    "DEAD": "REJECTED",
    "TROUBLE": "ERROR",
    "LOCKED_OUT": "UNAUTHORIZED",
    "seconds_late": "replication_lag_seconds",
    "read_url": "replica_url",
    "read_max_lag": "replica_max_lag",
}
# Not allowed as a part of a name between underscores.
_PARTS = {
    "told": "fields, label",
    "facts": "fields, log_fields",
    "wanted": "filter, query",
    "press": "compress",
    "unpress": "decompress",
    "pressed": "compressed",
    "least": "min",
    "most": "max",
    "longest": "max",
    "largest": "max",
    "seldomest": "max_interval",
    "patience": "timeout",
    "impatient": "timeout",
    "mend": "fix",
    "mended": "fixed",
    "lacking": "missing",
    "lacks": "is_missing",
    "bury": "dead_letter",
    "revive": "requeue",
    "forget": "discard",
    "settling": "end_state",
    "settle": "resolve_end_state",
}
# Modules that have a standard name.
_MODULES = {
    "accounting", "admission", "amending", "archiving", "bulk", "checking", "correcting",
    "cursor", "dialects", "document", "exposition", "importing", "listing", "multiprocess",
    "observation", "overdue", "pace", "packing", "permissions", "pruning", "readiness",
    "reconciling", "registry", "repairing", "representation", "request_body", "selection",
    "serving", "settling", "sharing", "shortcut", "standby", "steps", "table", "tagging", "watch",
}  # fmt: skip
_PHRASES = {
    # "There is no index" is English; "is no index" alone is not.
    r"(?<!there )\b(?:is|are|was|were) no (?!longer\b|more\b)": "is not a",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\black(?:s|ed|ing)?\b": "miss",
    r"\brooms?\b(?! temperature)": "space",
    r"(?<![.\w])(?:tells?|told)\b": "report, say",
    r"\btakes? (?:no|any) (?:writes?|jobs?|tokens?)\b": "is read-only, does not accept",
    r"\bbare routes?\b": "an empty Flask route",
    r"\bpatien(?:ce|t)\b": "timeout",
    r"\bseldom\b": "rarely",
    r"\bused alike\b": "with the same use",
    r"\bno figures\b": "no data",
    r"\bno length of time\b": "invalid duration",
    r"\bun?press(?:ed|es)?\b": "compress",
    r"\b(?:note_hosts|jobs_to_archive|given_up|match_jobs|known_runs)\b": "see house.md",
    r"\bccapi_(?:refusals_total|database_use_seconds|archive_age_seconds)\b": "see house.md",
    r"\bccapi_database_connections_most\b": "ccapi_database_connections_max",
    r"\bread_(?:url|max_lag)\b": "replica_url, replica_max_lag",
    r'"""(?:Tell|Say|Name|Note|Hold|Lend)s? ': "Return, Describe, List, Record, Lock",
    # A subject clause: "Who revokes waits as long." A question is fine.
    r'(?:"""|# |-- |[.!?] |^ *)Who\b[^?\n]*[.,;:]': "say who does it",
    r'(?:"""|# |-- |[.!?] |^ *)What (?:is|was|are|were)\b[^?\n]*[.,;:]': "name the thing",
}


class Place(NamedTuple):
    """A word or phrase in a file, and what to write."""

    path: Path
    line: int
    word: str
    better: str

    def __str__(self) -> str:
        """Describe the place as compilers do."""
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.word.strip()!r}: {self.better}"


def documents() -> Iterator[Path]:
    """Yield the files whose words count: all but CONTRIBUTING.rst and the lists of words."""
    yield ROOT / "README.rst"
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            is_text = path.suffix in _SUFFIXES or path.name in _SCRIPTS
            if is_text and path.name not in {"words.py", "test_style.py"}:
                yield path


def places(path: Path) -> Iterator[Place]:
    """Yield the places in a file with a word of the list."""
    text = path.read_text("utf-8")
    for pattern, better in _PHRASES.items():
        for match in re.finditer(pattern, text, re.MULTILINE | re.IGNORECASE):
            yield Place(path, text.count("\n", 0, match.start()) + 1, match[0], better)
    if path.suffix == ".py":
        if path.stem in _MODULES and path.is_relative_to(ROOT / "ccapi"):
            yield Place(path, 1, path.stem, "see house.md")
        for line, name in names(ast.parse(text)):
            for better in _better_names(name, path):
                yield Place(path, line, name, better)


def _better_names(name: str, path: Path) -> Iterator[str]:
    plain = name.lstrip("_")
    if plain in _NAMES and (plain != "account" or not {"embedded", "replica"} & {*path.parts}):
        yield _NAMES[plain]
    for part in re.sub("at_(least|most)", "", plain.lower()).split("_"):
        if part in _PARTS:
            yield _PARTS[part]


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of every name that a module defines."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr
            case ast.alias(asname=str(name)):
                yield node.lineno, name


def main() -> int:
    """List the places in the files below the paths of the command line, or in all files."""
    chosen = [Path(argument).resolve() for argument in sys.argv[1:]] or [ROOT]
    number = 0
    for path in documents():
        if any(path.is_relative_to(one) for one in chosen):
            for place in places(path):
                print(place)
                number += 1
    print(f"{number} places")
    return 1 if number else 0


if __name__ == "__main__":
    sys.exit(main())
