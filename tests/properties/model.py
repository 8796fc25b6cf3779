"""The service in memory, after behaviour.md: which answers may a request get, and what then.

An operation is one or more steps, each of which happens at one moment: a stop is first
selected, then done, then archived; a deletion by request is selected, then done; one
before a time takes job after job. Between the steps of one, others may act.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple

from tests.properties import rules
from tests.properties.operations import BY_ID
from tests.properties.queries import Query, parse_query
from tests.properties.world import Call, Run, World, check, check_job, expect

WINDOW = 60
# The settings that the model knows: sub-clusters by host; None is a cluster without any.
CLUSTERS = {"fritz": {"f0101": "main", "f0102": "main", "f0201": "spr"}, "alex": {}}

_ROLES = {"reader": 1, "writer": 2, "admin": 3}
_NEEDS = {"list": 1, "start": 2, "stop": 2, "stop_by_id": 2, "tag": 2}
_BODIES: dict[str, rules.Check] = {
    "start": rules.job,
    "stop": rules.stop,
    "stop_by_id": rules.stop_by_id,
    "tag": rules.tags,
    "untag": rules.tags,
    "correct": rules.correct,
    "edit_meta": rules.edit_meta,
    "delete": rules.delete,
}


class Phase(NamedTuple):
    """How far an operation has come, with what it needs to go on."""

    name: str
    run: Run | None = None
    number: int = 0


BEGUN, DONE = Phase("begun"), Phase("done")
Outcome = list[tuple[World, Phase]]


def advance(world: World, call: Call, phase: Phase) -> Outcome:
    """Return what the world may be after an operation's next step; raises Unexplained."""
    if phase is BEGUN:
        refused = _refusal(call)
        if refused is not None:
            return _error(world, call, *refused)
    return _STEPS[call.operation.name](world, call, phase)


def follow(world: World, call: Call) -> World:
    """Return the world after an operation that nothing interrupts; raises Unexplained."""
    phase = BEGUN
    while phase is not DONE:
        world, phase = advance(world, call, phase)[0]
    return world


def _refusal(call: Call) -> tuple[Any, ...] | None:
    """Return the status of an error that no world could change, and words, one of them in it."""
    operation = call.operation
    role = _ROLES.get(operation.credential)
    if role is None:
        return 401, "token"
    if role < _NEEDS.get(operation.name, 3):
        return (403,)
    try:
        if operation.name in BY_ID or operation.name == "delete_before":
            _number(operation.target)
        if operation.name in _BODIES:
            _given(call)
        if operation.name == "list":
            parse_query(operation.query)
    except rules.Wrong as wrong:
        return 400, *wrong.fields
    return None


def _number(target: str) -> int:
    if not re.fullmatch(r"-?[0-9]+", target) or abs(int(target)) > rules.LARGEST:
        raise rules.Wrong
    return int(target)


def _given(call: Call) -> Any:
    return _read(call.operation.name, call.operation.body)


@lru_cache(1000)
def _read(name: str, body: bytes) -> Any:
    value = _BODIES[name](rules.parse(body))
    if name == "start" and value["cluster"] not in CLUSTERS:
        raise rules.Wrong("cluster")
    return value


def _error(world: World, call: Call, status: int, *words: object) -> Outcome:
    expect(call, status)
    answer = call.answer
    check(set(answer) == {"status", "error"}, "an error has status and error")
    check(answer["status"] == HTTPStatus(status).phrase, "status is the reason phrase")
    check(answer["error"], "an error says what is wrong")
    named = any(str(word) in answer["error"] for word in words)
    check(named or not words, f"the error names one of {words}")
    return [(world, DONE)]


def _numbers(message: str) -> set[int]:
    return {int(digits) for digits in re.findall(r"[0-9]+", message)}


def _start(world: World, call: Call, _: Phase) -> Outcome:
    given = _given(call)
    twins = {
        run.id
        for run in world.runs
        if (run.cluster, run.job_id) == (given["cluster"], given["jobId"])
        and abs(run.start_time - given["startTime"]) <= WINDOW
    }
    if twins:
        outcome = _error(world, call, 422)
        check(twins & _numbers(call.answer["error"]), f"the error names one of {twins}")
        return outcome
    expect(call, 201)
    check(set(call.answer) == {"id"} and type(call.answer["id"]) is int, "the answer is the id")
    check(world.run(call.answer["id"]) is None, "the id is new")
    return [(world.with_run(_new(call.answer["id"], given)), DONE)]


def _new(id_: int, given: dict[str, Any]) -> Run:
    hosts = [resource["hostname"] for resource in given["resources"]]
    nodes = CLUSTERS[given["cluster"]]
    facts = {
        "project": "",
        "exclusive": 1,
        **{name: value for name, value in given.items() if value is not None},
        "numNodes": len(hosts),
        "subCluster": given.get("subCluster")
        or next((nodes[host] for host in hosts if host in nodes), ""),
    }
    for apart in ("id", "duration", "jobState", "monitoringStatus", "tags", "metaData"):
        facts.pop(apart, None)
    if not facts.get("statistics"):
        facts.pop("statistics", None)
    return Run(
        id_,
        given["jobId"],
        given["cluster"],
        given["startTime"],
        json.dumps(facts, sort_keys=True),
        json.dumps(given.get("metaData", {}), sort_keys=True),
        frozenset((tag["type"], tag["name"]) for tag in given.get("tags", ())),
        given.get("monitoringStatus", 1),
    )


def _matches(world: World, given: dict[str, Any]) -> list[Run]:
    return [
        run
        for run in world.runs
        if run.job_id == given["jobId"]
        and given.get("cluster") in {None, run.cluster}
        and given.get("startTime") in {None, run.start_time}
    ]


def _several(world: World, call: Call, runs: list[Run]) -> Outcome:
    outcome = _error(world, call, 422)
    named = _numbers(call.answer["error"])
    check(len(runs) > 10 or {run.id for run in runs} <= named, "the error lists the matches")
    return outcome


def _stop(world: World, call: Call, phase: Phase) -> Outcome:
    if phase is not BEGUN:
        return _go_on_stopping(world, call, phase)
    given = _given(call)
    matches = _matches(world, given)
    running = [run for run in matches if run.is_running]
    if not matches:
        return _error(world, call, 422, "finding job failed: ")
    if len(running) > 1:
        return _several(world, call, running)
    return _chosen_to_stop(world, call, (running or matches)[0], {run.state for run in matches})


def _stop_by_id(world: World, call: Call, phase: Phase) -> Outcome:
    if phase is not BEGUN:
        return _go_on_stopping(world, call, phase)
    run = world.run(_number(call.operation.target))
    if run is None:
        return _error(world, call, 422)
    return _chosen_to_stop(world, call, run, {run.state})


def _chosen_to_stop(world: World, call: Call, run: Run, states: set[str]) -> Outcome:
    if not run.is_running:
        outcome = _error(world, call, 422, "already stopped")
        check(any(state in call.answer["error"] for state in states), "the error names the state")
        return outcome
    if _given(call)["stopTime"] < run.start_time:
        return _error(world, call, 400, "stopTime")
    return [(world, Phase("chosen", run))]


def _go_on_stopping(world: World, call: Call, phase: Phase) -> Outcome:
    assert phase.run is not None
    run = world.run(phase.run.id)
    if phase.name == "chosen":
        if run is None or not run.is_running:
            return _error(world, call, 422)
        expect(call, 200)
        given = _given(call)
        run = run._replace(
            state=given["jobState"], stop_time=given["stopTime"], status=min(run.status, 1)
        )
        return [(world.with_run(run), Phase("stopped", run))]
    # Deleted meanwhile: it is archived as it was, for a deletion does not touch the archive.
    stopped = run or phase.run
    if stopped.status != 0:
        stopped = stopped._replace(status=3)
        world = world.with_archived(stopped)
        world = world.with_run(stopped) if run else world
    expect(call, 200)
    check_job(call.answer, stopped, call)
    return [(world, DONE)]


def _tag(world: World, call: Call, _: Phase) -> Outcome:
    run = world.run(_number(call.operation.target))
    if run is None:
        return _error(world, call, 404)
    tags = frozenset((tag["type"], tag["name"]) for tag in _given(call))
    tagged = run.tags | tags if call.operation.name == "tag" else run.tags - tags
    run = run._replace(tags=tagged)
    expect(call, 200)
    moment = datetime.fromtimestamp(run.start_time, UTC).replace(tzinfo=None).isoformat()
    check(call.answer["startTime"] == f"{moment}Z", "startTime is an RFC 3339 time")
    shown = {**call.answer, "startTime": run.start_time}
    # schema.Job has no statistics.
    check_job(shown, run, call, leave_out=("statistics",))
    return [(_amended(world, run), DONE)]


def _correct(world: World, call: Call, _: Phase) -> Outcome:
    run = world.run(_number(call.operation.target))
    if run is None:
        return _error(world, call, 404)
    if run.is_running:
        return _error(world, call, 422, "is still running")
    given = _given(call)
    if given.get("stopTime", run.start_time) < run.start_time:
        return _error(world, call, 400, "stopTime")
    run = run._replace(
        state=given.get("jobState", run.state), stop_time=given.get("stopTime", run.stop_time)
    )
    expect(call, 200)
    check_job(call.answer, run, call)
    return [(_amended(world, run), DONE)]


def _edit_meta(world: World, call: Call, _: Phase) -> Outcome:
    run = world.run(_number(call.operation.target))
    if run is None:
        return _error(world, call, 404)
    merged = {**json.loads(run.meta_data), **_given(call)["metaData"]}
    kept = {key: value for key, value in merged.items() if value is not None}
    run = run._replace(meta_data=json.dumps(kept, sort_keys=True))
    expect(call, 200)
    check_job(call.answer, run, call)
    return [(_amended(world, run), DONE)]


def _amended(world: World, run: Run) -> World:
    world = world.with_run(run)
    return world.with_archived(run) if run.status == 3 and not run.is_running else world


def _delete(world: World, call: Call, phase: Phase) -> Outcome:
    if phase is BEGUN:
        matches = _matches(world, _given(call))
        if not matches:
            return _error(world, call, 422, "finding job failed")
        if len(matches) > 1:
            return _several(world, call, matches)
        return [(world, Phase("chosen", matches[0]))]
    assert phase.run is not None
    return _deleted(world, call, phase.run.id)


def _delete_by_id(world: World, call: Call, _: Phase) -> Outcome:
    return _deleted(world, call, _number(call.operation.target))


def _deleted(world: World, call: Call, id_: int) -> Outcome:
    if world.run(id_) is None:
        return _error(world, call, 422)
    _check_message(call)
    return [(world.without(id_), DONE)]


def _check_message(call: Call) -> None:
    expect(call, 200)
    check(set(call.answer) == {"msg"} and type(call.answer["msg"]) is str, "the answer is msg")


def _delete_before(world: World, call: Call, phase: Phase) -> Outcome:
    _check_message(call)
    end = _number(call.operation.target)
    after = Phase("deleting", None, phase.number + 1)
    outcome = [(world.without(run.id), after) for run in world.runs if run.start_time < end]
    if outcome:
        return outcome
    check(phase.number in _numbers(call.answer["msg"]), f"the message says {phase.number}")
    return [(world, DONE)]


def _list(world: World, call: Call, _: Phase) -> Outcome:
    expect(call, 200)
    query = parse_query(call.operation.query)
    found = _matching(world, query)
    first = (query.page - 1) * query.items
    runs = found[first : first + query.items]
    fields = {"jobs", "items", "page", "nextCursor"}
    check(set(call.answer) == fields, f"the answer has {fields}")
    ends = len(found) <= first + query.items
    check((call.answer["nextCursor"] == "") is ends, "nextCursor is empty just at the end")
    check(call.answer["page"] == query.page, f"page is {query.page}")
    check(call.answer["items"] == len(runs), f"items is {len(runs)}")
    ids = [run.id for run in runs]
    check([shown["id"] for shown in call.answer["jobs"]] == ids, f"the jobs are {ids}")
    leave_out = () if query.with_metadata else ("metaData",)
    for shown, run in zip(call.answer["jobs"], runs, strict=True):
        check_job(shown, run, call, leave_out=leave_out)
    return [(world, DONE)]


def _matching(world: World, query: Query) -> list[Run]:
    found = [
        run
        for run in world.runs
        if (not query.states or run.state in query.states)
        and query.cluster in {None, run.cluster}
        and query.start_from <= run.start_time <= query.start_to
    ]
    found.sort(key=lambda run: (run.start_time, run.id), reverse=True)
    return found


_STEPS: dict[str, Callable[[World, Call, Phase], Outcome]] = {
    "start": _start,
    "stop": _stop,
    "stop_by_id": _stop_by_id,
    "tag": _tag,
    "untag": _tag,
    "correct": _correct,
    "edit_meta": _edit_meta,
    "delete": _delete,
    "delete_by_id": _delete_by_id,
    "delete_before": _delete_before,
    "list": _list,
}
