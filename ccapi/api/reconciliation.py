"""The operation that compares the registry with a batch system."""

from typing import Any

from flask import Response
from marshmallow import ValidationError, fields, post_load

from ccapi.api.schemas import NAME_RULE
from ccapi.api.serializers import answer
from ccapi.http.auth import current_token
from ccapi.http.blueprint import Blueprint, Documented
from ccapi.http.current import context
from ccapi.http.fields import Integer, Pattern, QueryBoolean, final_state
from ccapi.http.schema import ContractSchema, Objects
from ccapi.model.reconciliation import Differences, EndedRun, Run, Snapshot
from ccapi.model.rules import MAX_EPOCH_SECOND, MAX_INTEGER, NAME_PATTERN
from ccapi.model.token import Role
from ccapi.service import reconciliation

blueprint = Blueprint("reconciliation", __name__, url_prefix="/api/jobs")

# A worker is killed some time after; what is not archived by then waits for a retry.
_ARCHIVING_SECONDS = 10


def _about(description: str, **facts: Any) -> dict[str, Any]:
    return {"description": description, **facts}


def _epoch(data_key: str, description: str) -> Integer:
    about = _about(f"{description}, in epoch seconds", example=1649723812)
    return Integer(data_key=data_key, least=1, most=MAX_EPOCH_SECOND, required=True, metadata=about)


def _job_id() -> Integer:
    about = _about("The batch system's number of the job", example=123000)
    return Integer(data_key="jobId", least=1, required=True, metadata=about)


class RunSchema(ContractSchema):
    """A job that runs there."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.ReconcileRun"

    job_id = _job_id()
    start_time = _epoch("startTime", "Start")

    @post_load
    def _to_model(self, data: dict[str, Any], **_: Any) -> Run:
        return Run(**data)


class EndedRunSchema(ContractSchema):
    """A job of which it is known how and when it ended."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.ReconcileEndedRun"

    job_id = _job_id()
    start_time = _epoch("startTime", "Start")
    stop_time = _epoch("stopTime", "Stop")
    job_state = final_state(
        data_key="jobState",
        required=True,
        metadata=_about("How the job ended", example="timeout"),
    )

    @post_load
    def _to_model(self, data: dict[str, Any], **_: Any) -> EndedRun:
        run = EndedRun(**data)
        if run.stop_time < run.start_time:
            raise ValidationError("must not be before startTime", "stopTime")
        return run


class StaleRunSchema(EndedRunSchema):
    """A job that ran here only, and the stop that it is given."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.ReconcileStaleRun"

    id = Integer(metadata=_about("Database id of the job"))


class _Objects(Objects):
    """An array of objects that may be long: only the first that is wrong is told of."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> list[Any]:
        if type(value) is not list:
            raise ValidationError("must be an array of objects")
        return [self._item(number, item) for number, item in enumerate(value)]

    def _item(self, number: int, item: Any) -> Any:
        try:
            return self.schema.load(item)
        except ValidationError as error:
            raise ValidationError({number: error.normalized_messages()}) from None


class _Runs(_Objects):
    """Running jobs, checked at C speed: ten thousands are sent in one body."""

    _KEYS = frozenset(("jobId", "startTime"))

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
        runs = self._quickly(value) or super()._deserialize(value, *args, **kwargs)
        seen: set[int] = set()
        for run in runs:
            if run.job_id in seen:
                raise ValidationError(f"has jobId {run.job_id} twice; a job runs once at a time")
            seen.add(run.job_id)
        return runs

    def _quickly(self, value: Any) -> list[Run] | None:
        """Read runs that are as they should be, and have nothing besides."""
        if type(value) is not list or not value:
            return None
        if not all(type(item) is dict and item.keys() == self._KEYS for item in value):
            return None
        job_ids = [item["jobId"] for item in value]
        start_times = [item["startTime"] for item in value]
        if {*map(type, job_ids), *map(type, start_times)} != {int}:
            return None
        if min(*job_ids, *start_times) < 1 or max(start_times) > MAX_EPOCH_SECOND:
            return None
        if max(job_ids) > MAX_INTEGER:
            return None
        return list(map(Run, job_ids, start_times))


class ReconcileRequest(ContractSchema):
    """All jobs that ran on a cluster at one moment."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.ReconcileApiRequest"

    cluster = Pattern(
        NAME_PATTERN,
        NAME_RULE,
        required=True,
        metadata=_about("Cluster of the jobs", example="fritz"),
    )
    as_of = _epoch("asOf", "When the batch system was asked")
    running = _Runs(
        RunSchema(),
        data_key="jobs",
        required=True,
        metadata=_about("All jobs that it runs; none is an empty list"),
    )
    ended = _Objects(
        EndedRunSchema(), metadata=_about("Jobs of which it is known how and when they ended")
    )
    job_state = final_state(
        data_key="jobState",
        metadata=_about("State for stale jobs that are not in ended, stopped if not given"),
    )

    @post_load
    def _to_model(self, data: dict[str, Any], **_: Any) -> Snapshot:
        return Snapshot(**data)


class ReconcileResponse(ContractSchema):
    """Where registry and batch system did not agree."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.ReconcileApiResponse"

    dry_run = fields.Boolean(
        data_key="dryRun", metadata=_about("Whether the stale jobs were left as they are")
    )
    num_missing = fields.Integer(data_key="numMissing", metadata=_about("Length of missing"))
    num_stale = fields.Integer(data_key="numStale", metadata=_about("Length of stale"))
    num_archived = fields.Integer(
        data_key="numArchived", metadata=_about("How many of stale are archived by now")
    )
    missing = fields.List(
        fields.Nested(RunSchema()), metadata=_about("Jobs that run there and are unknown here")
    )
    stale = fields.List(
        fields.Nested(StaleRunSchema()),
        metadata=_about("Jobs that ran here and no more there, and the stop of each"),
    )


class ReconcileQuery(ContractSchema):
    """Whether anything is changed."""

    dry_run = QueryBoolean(
        data_key="dry-run",
        metadata=_about("false stops the stale jobs; otherwise they are only named"),
    )


@blueprint.operation(
    "/reconcile/",
    "POST",
    Role.ADMIN,
    Documented(
        group="add and modify",
        answer=(200, ReconcileResponse(), "The differences, or those that were mended"),
        errors=(400, 401, 403, 500),
        body="All jobs that run on a cluster",
        consumes=True,
    ),
    body=ReconcileRequest(),
    query=ReconcileQuery(),
)
def reconcile(query: dict[str, Any], snapshot: Snapshot) -> Response:
    """Compare a cluster's running jobs with those that its batch system runs.

    Jobs that run here only are stale. With dry-run=false they are stopped and archived: at
    the time and with the state in ended, else at asOf, but at most after their walltime,
    with jobState. Jobs that started within the last minute before asOf are passed over.
    Missing jobs are only named: their start is to be reported with start_job.
    """
    if query.get("dry_run", True):
        return _answered(reconciliation.compare(context(), snapshot), dry_run=True)
    found = reconciliation.stop_stale(context(), snapshot, current_token().name)
    ids = [run.id for run in found.stale]
    archived = reconciliation.archive_for(context(), ids, _ARCHIVING_SECONDS)
    return _answered(found, dry_run=False, archived=archived)


def _answered(found: Differences, *, dry_run: bool, archived: int = 0) -> Response:
    return answer(
        {
            "dryRun": dry_run,
            "numMissing": len(found.missing),
            "numStale": len(found.stale),
            "numArchived": archived,
            "missing": [{"jobId": job_id, "startTime": start} for job_id, start in found.missing],
            "stale": [
                {
                    "id": run.id,
                    "jobId": run.job_id,
                    "startTime": run.start_time,
                    "stopTime": run.stop_time,
                    "jobState": run.job_state,
                }
                for run in found.stale
            ],
        }
    )
