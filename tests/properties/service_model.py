"""A model of the service, after behaviour.md: the answers a request may get, and its effect.

An operation has one or more steps, each of which happens at one moment. A stop finds its job,
stops it and archives it; a deletion by request finds its job and deletes it; a deletion before a
time deletes job after job. Other operations may act between the steps.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple

from tests.properties import body_rules as rules
from tests.properties.model_state import Call, Run, State, check, check_job, expect
from tests.properties.operations import BY_ID
from tests.properties.query_rules import Query, parse_query

WINDOW = 60
# The clusters of the settings, with the sub-cluster of each host.
CLUSTERS = {"fritz": {"f0101": "main", "f0102": "main", "f0201": "spr"}, "alex": {}}

_ROLES = {"reader": 1, "writer": 2, "admin": 3}
_NEEDS = {"list": 1, "start": 2, "stop": 2, "stop_by_id": 2, "tag": 2, "edit_meta": 2}
_CLOCK_SKEW = 60
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
    """The next step of an operation, and what the step needs."""

    name: str
    run: Run | None = None
    number: int = 0


BEGUN, DONE = Phase("begun"), Phase("done")
Outcome = list[tuple[State, Phase]]


def advance(state: State, call: Call, phase: Phase) -> Outcome:
    """Return the possible states after an operation's next step; raises Unexplained."""
    if phase is BEGUN:
        rejection = _rejection(call)
        if rejection is not None:
            return _error(state, call, *rejection)
    return _STEPS[call.operation.name](state, call, phase)


def follow(state: State, call: Call) -> State:
    """Return the state after an operation that nothing interrupts; raises Unexplained."""
    phase = BEGUN
    while phase is not DONE:
        state, phase = advance(state, call, phase)[0]
    return state


def _rejection(call: Call) -> tuple[Any, ...] | None:
    """Return the status of an error that is the same in every state, and words.

    The message must have one of the words.
    """
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
            _body(call)
        if operation.name == "list":
            parse_query(operation.query)
    except rules.Invalid as invalid:
        return 400, *invalid.fields
    return None


def _number(target: str) -> int:
    if not re.fullmatch(r"-?[0-9]+", target) or abs(int(target)) > rules.MAX_INTEGER:
        raise rules.Invalid
    return int(target)


def _body(call: Call) -> Any:
    return _parse(call.operation.name, call.operation.body)


@lru_cache(1000)
def _parse(name: str, body: bytes) -> Any:
    value = _BODIES[name](rules.parse(body))
    if name == "start" and value["cluster"] not in CLUSTERS:
        raise rules.Invalid("cluster")
    return value


def _error(state: State, call: Call, status: int, *words: object) -> Outcome:
    """Check an error: its status, its form, and that it has one of the words."""
    expect(call, status)
    answer = call.answer
    check(set(answer) == {"status", "error"}, "an error has status and error")
    check(answer["status"] == HTTPStatus(status).phrase, "status is the reason phrase")
    check(answer["error"], "an error has a message")
    has_word = any(str(word) in answer["error"] for word in words)
    check(has_word or not words, f"the error has one of {words}")
    return [(state, DONE)]


def _numbers(message: str) -> set[int]:
    return {int(digits) for digits in re.findall(r"[0-9]+", message)}


def _start(state: State, call: Call, _: Phase) -> Outcome:
    body = _body(call)
    duplicates = {
        run.id
        for run in state.runs
        if (run.cluster, run.job_id) == (body["cluster"], body["jobId"])
        and abs(run.start_time - body["startTime"]) <= WINDOW
    }
    if duplicates:
        outcome = _error(state, call, 422)
        check(duplicates & _numbers(call.answer["error"]), f"the error has one of {duplicates}")
        return outcome
    expect(call, 201)
    check(set(call.answer) == {"id"} and type(call.answer["id"]) is int, "the answer is the id")
    check(state.run(call.answer["id"]) is None, "the id is new")
    return [(state.with_run(_new(call.answer["id"], body)), DONE)]


def _new(id_: int, body: dict[str, Any]) -> Run:
    hosts = [resource["hostname"] for resource in body["resources"]]
    nodes = CLUSTERS[body["cluster"]]
    fields = {
        "project": "",
        **{name: value for name, value in body.items() if value is not None},
        "numNodes": len(hosts),
        "subCluster": body.get("subCluster")
        or next((nodes[host] for host in hosts if host in nodes), ""),
    }
    for name in ("id", "duration", "jobState", "monitoringStatus", "tags", "metaData"):
        fields.pop(name, None)
    fields.pop("concurrentJobs", None)
    for name in ("statistics", "footprint", "energyFootprint"):
        if not fields.get(name):
            fields.pop(name, None)
    return Run(
        id_,
        body["jobId"],
        body["cluster"],
        body["startTime"],
        json.dumps(fields, sort_keys=True),
        json.dumps(body.get("metaData", {}), sort_keys=True),
        frozenset((tag["type"], tag["name"]) for tag in body.get("tags", ())),
        body.get("monitoringStatus", 1),
    )


def _matches(state: State, body: dict[str, Any]) -> list[Run]:
    return [
        run
        for run in state.runs
        if run.job_id == body["jobId"]
        and body.get("cluster") in {None, run.cluster}
        and body.get("startTime") in {None, run.start_time}
    ]


def _several(state: State, call: Call, runs: list[Run]) -> Outcome:
    outcome = _error(state, call, 422)
    named = _numbers(call.answer["error"])
    check(len(runs) > 10 or {run.id for run in runs} <= named, "the error lists the matches")
    return outcome


def _stop(state: State, call: Call, phase: Phase) -> Outcome:
    if phase is not BEGUN:
        return _continue_stop(state, call, phase)
    body = _body(call)
    matches = _matches(state, body)
    running = [run for run in matches if run.is_running]
    if not matches:
        return _error(state, call, 422, "finding job failed: ")
    if len(running) > 1:
        return _several(state, call, running)
    return _stop_run(state, call, (running or matches)[0], {run.job_state for run in matches})


def _stop_by_id(state: State, call: Call, phase: Phase) -> Outcome:
    if phase is not BEGUN:
        return _continue_stop(state, call, phase)
    run = state.run(_number(call.operation.target))
    if run is None:
        return _error(state, call, 422)
    return _stop_run(state, call, run, {run.job_state})


def _stop_run(state: State, call: Call, run: Run, states: set[str]) -> Outcome:
    if not run.is_running:
        outcome = _error(state, call, 422, "already stopped")
        check(any(state in call.answer["error"] for state in states), "the error has the state")
        return outcome
    if _body(call)["stopTime"] < run.start_time - _CLOCK_SKEW:
        return _error(state, call, 400, "stopTime")
    return [(state, Phase("stopping", run))]


def _continue_stop(state: State, call: Call, phase: Phase) -> Outcome:
    assert phase.run is not None
    run = state.run(phase.run.id)
    if phase.name == "stopping":
        if run is None or not run.is_running:
            return _error(state, call, 422)
        expect(call, 200)
        body = _body(call)
        run = run._replace(
            job_state=body["jobState"],
            stop_time=max(body["stopTime"], run.start_time),
            status=min(run.status, 1),
            meta_data=_merged(run, body.get("metaData", {})),
        )
        return [(state.with_run(run), Phase("stopped", run))]
    # A run that was deleted meanwhile is archived as it was at its stop.
    stopped = run or phase.run
    if stopped.status != 0:
        stopped = stopped._replace(status=3)
        state = state.with_archived(stopped)
        state = state.with_run(stopped) if run else state
    expect(call, 200)
    check_job(call.answer, stopped, call)
    return [(state, DONE)]


def _tag(state: State, call: Call, _: Phase) -> Outcome:
    run = state.run(_number(call.operation.target))
    if run is None:
        return _error(state, call, 404)
    tags = frozenset((tag["type"], tag["name"]) for tag in _body(call))
    tagged = run.tags | tags if call.operation.name == "tag" else run.tags - tags
    run = run._replace(tags=tagged)
    expect(call, 200)
    moment = datetime.fromtimestamp(run.start_time, UTC).replace(tzinfo=None).isoformat()
    check(call.answer["startTime"] == f"{moment}Z", "startTime is an RFC 3339 time")
    job = {**call.answer, "startTime": run.start_time}
    # schema.Job has no statistics.
    check_job(job, run, call, leave_out=("statistics",))
    return [(_edited(state, run), DONE)]


def _correct(state: State, call: Call, _: Phase) -> Outcome:
    run = state.run(_number(call.operation.target))
    if run is None:
        return _error(state, call, 404)
    if run.is_running:
        return _error(state, call, 422, "is still running")
    body = _body(call)
    if body.get("stopTime", run.start_time) < run.start_time:
        return _error(state, call, 400, "stopTime")
    run = run._replace(
        job_state=body.get("jobState", run.job_state), stop_time=body.get("stopTime", run.stop_time)
    )
    expect(call, 200)
    check_job(call.answer, run, call)
    return [(_edited(state, run), DONE)]


def _edit_meta(state: State, call: Call, _: Phase) -> Outcome:
    run = state.run(_number(call.operation.target))
    if run is None:
        return _error(state, call, 404)
    run = run._replace(meta_data=_merged(run, _body(call)["metaData"]))
    expect(call, 200)
    check_job(call.answer, run, call)
    return [(_edited(state, run), DONE)]


def _merged(run: Run, changes: dict[str, str | None]) -> str:
    merged = {**json.loads(run.meta_data), **changes}
    merged = {key: value for key, value in merged.items() if value is not None}
    return json.dumps(merged, sort_keys=True)


def _edited(state: State, run: Run) -> State:
    state = state.with_run(run)
    return state.with_archived(run) if run.status == 3 and not run.is_running else state


def _delete(state: State, call: Call, phase: Phase) -> Outcome:
    if phase is BEGUN:
        matches = _matches(state, _body(call))
        if not matches:
            return _error(state, call, 422, "finding job failed")
        if len(matches) > 1:
            return _several(state, call, matches)
        return [(state, Phase("stopping", matches[0]))]
    assert phase.run is not None
    return _delete_run(state, call, phase.run.id)


def _delete_by_id(state: State, call: Call, _: Phase) -> Outcome:
    return _delete_run(state, call, _number(call.operation.target))


def _delete_run(state: State, call: Call, id_: int) -> Outcome:
    if state.run(id_) is None:
        return _error(state, call, 422)
    _check_message(call)
    return [(state.without(id_), DONE)]


def _check_message(call: Call) -> None:
    expect(call, 200)
    check(set(call.answer) == {"msg"} and type(call.answer["msg"]) is str, "the answer is msg")


def _delete_before(state: State, call: Call, phase: Phase) -> Outcome:
    _check_message(call)
    end = _number(call.operation.target)
    after = Phase("deleting", None, phase.number + 1)
    outcome = [(state.without(run.id), after) for run in state.runs if run.start_time < end]
    if outcome:
        return outcome
    check(phase.number in _numbers(call.answer["msg"]), f"the message says {phase.number}")
    return [(state, DONE)]


def _list(state: State, call: Call, _: Phase) -> Outcome:
    expect(call, 200)
    query = parse_query(call.operation.query)
    matches = _matching(state, query)
    first = (query.page - 1) * query.items
    runs = matches[first : first + query.items]
    fields = {"jobs", "items", "page", "nextCursor"}
    check(set(call.answer) == fields, f"the answer has {fields}")
    is_last = len(matches) <= first + query.items
    check((call.answer["nextCursor"] == "") is is_last, "nextCursor is empty only at the end")
    check(call.answer["page"] == query.page, f"page is {query.page}")
    check(call.answer["items"] == len(runs), f"items is {len(runs)}")
    ids = [run.id for run in runs]
    check([job["id"] for job in call.answer["jobs"]] == ids, f"the jobs are {ids}")
    leave_out = () if query.with_metadata else ("metaData",)
    for job, run in zip(call.answer["jobs"], runs, strict=True):
        check_job(job, run, call, leave_out=leave_out)
    return [(state, DONE)]


def _matching(state: State, query: Query) -> list[Run]:
    matches = [
        run
        for run in state.runs
        if (not query.states or run.job_state in query.states)
        and query.cluster in {None, run.cluster}
        and query.start_from <= run.start_time <= query.start_to
    ]
    matches.sort(key=lambda run: (run.start_time, run.id), reverse=True)
    return matches


_STEPS: dict[str, Callable[[State, Call, Phase], Outcome]] = {
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
