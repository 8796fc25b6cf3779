"""The operation that compares the registry with a batch system."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import ValidationError, fields, post_load

from ccapi.api import fields as job_fields
from ccapi.api.fields import final_state
from ccapi.api.schemas import CHANGE
from ccapi.context import Context
from ccapi.http.auth import current_token
from ccapi.http.blueprint import Blueprint
from ccapi.http.schema import ContractSchema, Integer, Objects, QueryBoolean, QuerySchema, describe
from ccapi.model import rules
from ccapi.model.reconciliation import EndedRun, Run, Snapshot
from ccapi.model.token import Role
from ccapi.service import reconciliation

blueprint = Blueprint("reconciliation", __name__, url_prefix="/api/jobs")

# Less than the time after which a worker is killed; `ccapi archive retry` archives the rest.
_ARCHIVING_SECONDS = 10


class RunSchema(ContractSchema):
    """A job that is running in the batch system."""

    definition = "api.ReconcileRun"
    job_id = job_fields.job_id(required=True)
    start_time = job_fields.epoch_second("startTime", "Start", required=True)

    @post_load
    def _build(self, values: dict[str, Any], **_: Any) -> Run:
        return Run(**values)


class EndedRunSchema(ContractSchema):
    """A job whose end is known."""

    definition = "api.ReconcileEndedRun"
    job_id = job_fields.job_id(required=True)
    start_time = job_fields.epoch_second("startTime", "Start", required=True)
    stop_time = job_fields.epoch_second("stopTime", "Stop", required=True)
    job_state = final_state("How the job ended", required=True, example="timeout")

    @post_load
    def _build(self, values: dict[str, Any], **_: Any) -> EndedRun:
        run = EndedRun(**values)
        if run.stop_time < run.start_time:
            raise ValidationError("must not be before startTime", "stopTime")
        return run


class StaleRunSchema(EndedRunSchema):
    """A job that was running in the registry only, and the stop that it gets."""

    definition = "api.ReconcileStaleRun"
    id = Integer(rules.COUNT, metadata=describe("Database id of the job"))


class ReconcileRequest(ContractSchema):
    """All jobs that were running on a cluster at one moment."""

    definition = "api.ReconcileApiRequest"
    example: ClassVar[Mapping[str, Any]] = {
        "cluster": "fritz",
        "asOf": 1649763839,
        "jobs": [{"jobId": 123000, "startTime": 1649723812}],
        "jobState": "stopped",
    }
    cluster = job_fields.cluster("Cluster of the jobs", required=True)
    as_of = job_fields.epoch_second("asOf", "Time of the batch system's answer", required=True)
    running = Objects(
        RunSchema(),
        data_key="jobs",
        required=True,
        metadata=describe("All jobs that are running there; none is an empty list"),
    )
    ended = Objects(EndedRunSchema(), metadata=describe("Jobs whose end is known"))
    job_state = final_state("State for stale jobs that are not in ended, stopped by default")

    @post_load
    def _build(self, values: dict[str, Any], **_: Any) -> Snapshot:
        snapshot = Snapshot(**values)
        numbers = Counter(run.job_id for run in snapshot.running)
        job_id, count = max(numbers.items(), key=lambda item: item[1], default=(0, 0))
        if count > 1:
            raise ValidationError(f"has jobId {job_id} twice; a job runs once at a time", "jobs")
        return snapshot


class ReconcileResponse(ContractSchema):
    """The differences between the registry and the batch system."""

    definition = "api.ReconcileApiResponse"
    dry_run = fields.Boolean(
        data_key="dryRun", metadata=describe("Whether the stale jobs were left as they are")
    )
    num_missing = fields.Integer(data_key="numMissing", metadata=describe("Length of missing"))
    num_stale = fields.Integer(data_key="numStale", metadata=describe("Length of stale"))
    num_archived = fields.Integer(
        data_key="numArchived", metadata=describe("How many of the stale jobs are archived now")
    )
    missing = fields.List(
        fields.Nested(RunSchema()),
        metadata=describe("Jobs that are running there and unknown here"),
    )
    stale = fields.List(
        fields.Nested(StaleRunSchema()),
        metadata=describe("Jobs that are running here only, and the stop of each"),
    )


class ReconcileQuery(QuerySchema):
    """Whether to change anything."""

    dry_run = QueryBoolean(
        data_key="dry-run",
        metadata=describe("false stops the stale jobs; by default they are only listed"),
    )


@blueprint.route("/reconcile/", Role.ADMIN, methods=["POST"], tags=CHANGE)
@blueprint.arguments(ReconcileQuery(), location="query")
@blueprint.arguments(ReconcileRequest(), description="All jobs that are running on a cluster")
@blueprint.response(200, ReconcileResponse(), description="The differences")
def reconcile(context: Context, query: dict[str, Any], snapshot: Snapshot) -> dict[str, Any]:
    """Compare the running jobs of a cluster with those of its batch system.

    Jobs that are running here only are stale. With dry-run=false they are stopped and archived:
    at the time and with the state in ended, else at asOf, but at most after their walltime,
    with jobState. Jobs that started within the last minute before asOf are skipped.
    Missing jobs are only listed: report their start with start_job.
    """
    dry_run = query.get("dry_run", True)
    num_archived = 0
    if dry_run:
        differences = reconciliation.compare(context, snapshot)
    else:
        differences = reconciliation.apply(context, snapshot, current_token().name)
        ids = [run.id for run in differences.stale]
        num_archived = reconciliation.archive_for(context, ids, _ARCHIVING_SECONDS)
    return {
        "dryRun": dry_run,
        "numMissing": len(differences.missing),
        "numStale": len(differences.stale),
        "numArchived": num_archived,
        "missing": [
            {"jobId": run.job_id, "startTime": run.start_time} for run in differences.missing
        ],
        "stale": [
            {
                "id": run.id,
                "jobId": run.job_id,
                "startTime": run.start_time,
                "stopTime": run.stop_time,
                "jobState": run.job_state,
            }
            for run in differences.stale
        ],
    }
