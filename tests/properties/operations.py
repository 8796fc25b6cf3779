"""Random operations: with few values, so that they meet, and now and then an invalid one."""

import json
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple
from urllib.parse import urlencode

from tests.client import START
from tests.properties.body_rules import FINAL_STATES, SHARED, STATES
from tests.properties.model_state import Operation

_LAST_SECOND = 253_402_300_799
_STARTS = (*(START + n for n in (0, 1, 59, 60, 61, 120, 121, 3600)), 1, _LAST_SECOND)
_STOPS = (*(START + n for n in (-1, 0, 1, 59, 60, 119, 120, 7200)), _LAST_SECOND)
_ENDS = (1, 2, *(START + n for n in (0, 1, 1, 60, 60, 61)), 0, -5, "x", 2**63)
_TAGS = (("Debug", "a"), ("Debug", "b"), ("debug", "a"), ("Ünits", "x\n'y\""))
_UNITS = ("GB/s", "W", "", "G", "KHz", "furlong", "PF", "°C", "M°C", "Gfurlong", "CPI")
_CREDENTIALS = (
    *("admin",) * 50,
    *("writer", "reader") * 2,
    *("missing", "malformed", "unknown", "expired", "revoked"),
)
_WEIGHTS = {
    "start": 6, "stop": 3, "stop_by_id": 3, "tag": 4, "untag": 2, "correct": 3, "edit_meta": 2,
    "list": 6, "delete": 1, "delete_by_id": 1, "delete_before": 1,
}  # fmt: skip

# Their path has the database id of a job.
BY_ID = {"stop_by_id", "tag", "untag", "correct", "edit_meta", "delete_by_id"}

_TEXTS = ("a", "", "ä€😀", "x' OR 1=1 --", '{"a": "\\u0041"}', "\t\n\r\x7f\x1b")
_COUNTS = (0, 1, 2, 2**63 - 1, None)
_NUMBERS = (0, 0.0, 1.5, 1e300, 2**53 + 1, 3)
_FIELDS = ("jobId", "user", "cluster", "startTime", "resources", "numNodes", "subCluster", "smt",
    "walltime", "exclusive", "monitoringStatus", "jobState", "metaData", "tags", "statistics",
    "stopTime", "type", "name", "more", "project", "shared", "submitTime", "energy", "footprint",
    "JOBID", "metadata", "concurrentJobs", "scope", "key", "value")  # fmt: skip
_INVALID: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 10**30, 1.0, float("nan"), float("inf"), "", "\0", "\ud800", "1",
    "../x", "Running", "running", [], ["a"], [[]], {}, {"a": 1}, {"a": "\0"}, [None],
    [{"hostname": "a"}, {"hostname": "a"}], [{"hostname": "a/b"}], [{"hostname": "a", "x": 1}],
    [{"hostname": "a", "hwthreads": [-1]}], [{"type": "a"}], [{"type": "", "name": "b"}],
    {"metric": {"avg": -1}}, {"metric": {"avg": "1"}}, {"metric": 1},
)  # fmt: skip
_NOT_JSON = (b"", b"{", b"\xff", b"[" * 100_000, b"null", b"[1]", b"{}", b'{"jobId": 01}', b'"a"')
_ENDS_OF_SLURM = ("CANCELLED by 1000", "NODE_FAIL", "revoked", "Timeout")
_INVALID_TARGETS = ("-1", "0", "x", "1.0", "9" * 19, "9" * 12)


class Domain(NamedTuple):
    """The values of jobs; with fewer values, more operations meet."""

    job_ids: Sequence[int] = (1, 999, 1034871)
    clusters: Sequence[str] = ("fritz", "alex")
    starts: Sequence[int] = _STARTS


class Generator:
    """Makes operations; with `flawless`, only the registered jobs can be a reason for an error."""

    def __init__(
        self, random: Random, domain: Domain | None = None, *, flawless: bool = False
    ) -> None:
        self._random = random
        self._domain = domain or Domain()
        self._flawless = flawless

    def operation(self, ids: Sequence[int]) -> Operation:
        """Make an operation; `ids` are those of all jobs so far."""
        names = list(_WEIGHTS)
        if not ids and self._chance(0.9):
            names = ["start"]
        [name] = self._random.choices(names, [_WEIGHTS[name] for name in names])
        return self.named(name, ids)

    def named(self, name: str, ids: Sequence[int]) -> Operation:
        """Make an operation with a name."""
        credential = "admin" if self._flawless else self._random.choice(_CREDENTIALS)
        operation = Operation(name, credential, variant=self._random.randrange(4))
        if name == "list":
            return operation._replace(query=self._query())
        if name == "delete_before":
            ends = _ENDS[:8] if self._flawless else _ENDS
            return operation._replace(target=str(self._random.choice(ends)))
        if name in BY_ID:
            operation = operation._replace(target=self._target(ids))
        return operation if name == "delete_by_id" else operation._replace(body=self._body(name))

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _target(self, ids: Sequence[int]) -> str:
        if ids and (self._flawless or self._chance(0.9)):
            # The latest jobs are the ones that probably still exist.
            return str(self._random.choice([*ids, *ids[-3:], *ids[-3:]]))
        return self._random.choice(_INVALID_TARGETS)

    def _body(self, name: str) -> bytes:
        body = getattr(self, f"_{name}")()
        flaw = "" if self._flawless or self._chance(0.8) else self._random.choice("vvvvaj")
        if flaw == "j":
            return self._random.choice(_NOT_JSON)
        target = body[0] if type(body) is list and body else body
        if type(target) is dict and flaw == "a":
            target.pop(self._random.choice(list(target)))
        elif type(target) is dict and flaw:
            self._make_invalid(target)
        return json.dumps(body).encode()

    def _make_invalid(self, body: dict[str, Any]) -> None:
        field = self._random.choice((*_FIELDS, *body))
        invalid = self._random.choice(_INVALID)
        # behaviour.md does not say whether 0 is invalid here.
        body[field] = -1 if invalid == 0 and field in {"numNodes", "stopTime"} else invalid

    def _start(self) -> dict[str, Any]:
        choice = self._random.choice
        hosts = choice([["f0101"], ["f0201"], ["x", "f0102"], ["f0101", "f0201"]])
        job = {
            "jobId": choice(self._domain.job_ids),
            "user": "abcd100h",
            "cluster": choice(self._domain.clusters),
            "startTime": choice(self._domain.starts),
            "resources": [self._resource(host) for host in hosts],
            "monitoringStatus": choice([1, 1, 1, 0, 2, 3]),
            "tags": self._tag(),
        }
        optional: dict[str, Any] = {
            "numNodes": len(hosts),
            "project": choice(_TEXTS),
            "subCluster": choice(["", "own", None]),
            "partition": choice(_TEXTS),
            "exclusive": choice([0, 1, 2, None]),
            "jobState": choice(["running", "", "RUNNING", None]),
            "submitTime": choice([0, START, None]),
            "energy": choice([0, 1.5, -2.0, 3]),
            "footprint": choice([{}, {"a": 1.5}]),
            "energyFootprint": choice([{}, {"": -3}]),
            "concurrentJobs": {"items": []},
            "metaData": {choice(_TEXTS): choice(_TEXTS) for _ in range(choice([0, 1, 2]))},
            "id": choice([0, 5]),
            "duration": choice([0, 5]),
            "statistics": {
                choice(["flops_any", "Ä"]): self._metric() for _ in range(choice([0, 2]))
            },
            **{
                name: choice(_COUNTS)
                for name in ("arrayJobId", "numHwthreads", "numAcc", "smt", "walltime")
            },
        }
        job |= {name: value for name, value in optional.items() if self._chance(0.3)}
        if "exclusive" not in job and self._chance(0.3):
            job["shared"] = choice([*SHARED.values(), ""])
        return self._in_another_case(job) if self._chance(0.1) else job

    def _in_another_case(self, body: dict[str, Any]) -> dict[str, Any]:
        return {
            self._random.choice([name, name.lower(), name.upper()]): body[name] for name in body
        }

    def _resource(self, host: str) -> dict[str, Any]:
        choice = self._random.choice
        more = {
            "hwthreads": choice([[], [0], [3, 1]]),
            "accelerators": choice([[], ["", "ä"]]),
            "configuration": choice(_TEXTS),
        }
        return {"hostname": host, **{name: more[name] for name in more if self._chance(0.3)}}

    def _metric(self) -> dict[str, Any]:
        numbers = {name: self._random.choice(_NUMBERS) for name in ("avg", "min", "max")}
        unit: Any = self._random.choice(_UNITS)
        return {"unit": unit if self._chance(0.7) else {"base": unit, "prefix": "G"}, **numbers}

    def _tag(self) -> list[dict[str, str]]:
        chosen = [self._random.choice(_TAGS) for _ in range(self._random.choice([0, 1, 1, 2, 3]))]
        return [{"type": type_, "name": name} for type_, name in chosen]

    _untag = _tag

    def _edit_meta(self) -> dict[str, Any]:
        choice = self._random.choice
        edits = {choice(_TEXTS): choice((*_TEXTS, None, None)) for _ in range(2)}
        [(key, value), *_] = edits.items()
        return choice([{"metaData": edits}, edits, {"key": key, "value": value}])

    def _correct(self) -> dict[str, Any]:
        end = {**self._stop_by_id(), "jobState": self._random.choice(FINAL_STATES)}
        end.pop("metaData", None)
        if self._chance(0.5):
            end.pop(self._random.choice(list(end)))
        return end

    def _delete(self) -> dict[str, Any]:
        choice = self._random.choice
        selection: dict[str, Any] = {"jobId": choice(self._domain.job_ids)}
        if self._chance(0.4):
            selection["cluster"] = choice(
                (*self._domain.clusters, *self._domain.clusters, "woody", None)
            )
        if self._chance(0.3):
            selection["startTime"] = choice((*self._domain.starts, None))
        return selection

    def _stop_by_id(self) -> dict[str, Any]:
        choice = self._random.choice
        end = {"stopTime": choice(_STOPS), "jobState": choice((*FINAL_STATES, *_ENDS_OF_SLURM))}
        if self._chance(0.3):
            end["metaData"] = {choice(_TEXTS): choice(_TEXTS)}
        return end

    def _stop(self) -> dict[str, Any]:
        return {**self._delete(), **self._stop_by_id()}

    def _query(self) -> str:
        names = [name for name in _QUERIES if self._chance(0.3)]
        if "page" in names and "items-per-page" not in names:
            names.append("items-per-page")
        if self._flawless and "page" in names and "cursor" in names:
            names.remove("cursor")
        pairs = [(name, self._value(name)) for name in names]
        pairs += [("state", self._random.choice(STATES)) for _ in range(2) if "state" in names]
        if not self._flawless and self._chance(0.05):
            pairs.append(("more", "1"))
        return urlencode(pairs)

    def _value(self, name: str) -> str:
        valid, invalid = _QUERIES[name]
        if name == "cluster":
            valid = (*self._domain.clusters, "woody")
        if name == "start-time":
            # Both ends are inclusive, so they are the starts of jobs.
            start, end = sorted(self._random.choices(self._domain.starts[:8], k=2))
            valid = (f"{start}-{end}",)
        return self._random.choice(valid if self._flawless or self._chance(0.9) else invalid)


# Valid and invalid values of each parameter.
_QUERIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "state": (("running", "running", *STATES), ("Running", "done")),
    "cluster": ((), ("../x", "a b")),
    "start-time": ((), ("5", "-", "1--", "-1-5", f"0-{2**63}", "6-5", "a-b")),
    "page": (("1", "2", "2", "3", "9" * 12), ("0", "-1", "x", str(2**63))),
    "items-per-page": (("1", "2", "3", "25", "9999999", str(2**63 - 1)), ("0", "1.5")),
    "cursor": (("",), ("x", "A" * 32, "=" * 32)),
    "with-metadata": (("true", "FALSE", "1", "0", "", "True"), ("yes", "2")),
}  # fmt: skip
