"""What can go wrong; http/errors.py has the HTTP status of each error."""


class CcapiError(Exception):
    """A failure whose message is for the person who caused it or can fix it."""


class InvalidInput(CcapiError):
    """The request does not follow the contract; the message names the field and the rule."""

    @classmethod
    def of(cls, field: str, expected: str) -> "InvalidInput":
        """Make the error of one field."""
        return cls(f"{field}: {expected}")


class BodyTooLarge(CcapiError):
    """The request's body is over the configured limit."""


class Unauthenticated(CcapiError):
    """No valid token came with the request."""


class Forbidden(CcapiError):
    """The token's role does not allow the operation."""


class HubChangesNothing(Forbidden):
    """The request changes something, and this is a hub."""

    def __init__(self) -> None:
        super().__init__("this is a hub, which changes no jobs: send it to the job's site")


class Unknown(CcapiError):
    """The address names something that does not exist."""


class UnknownJob(Unknown):
    """The job with this database id does not exist."""

    @classmethod
    def with_id(cls, id_: int) -> "UnknownJob":
        """Make the error for a database id."""
        return cls(f"no job has the database id {id_}")


class NotArchived(Unknown):
    """The archive has no meta.json of this run."""

    @classmethod
    def with_key(cls, cluster: str, job_id: int, start_time: int) -> "NotArchived":
        """Make the error for a run."""
        return cls(
            f"the archive has no job {job_id} of cluster {cluster} with startTime {start_time}"
        )


class Unprocessable(CcapiError):
    """The request is well formed, but the state of the registry does not allow it."""


class DuplicateJob(Unprocessable):
    """A job with this cluster, job id and (nearly) this start time is already registered."""

    def __init__(self, message: str, id_: int) -> None:
        super().__init__(message)
        self.id = id_


class NoMatchingJob(Unprocessable):
    """No job matches the request's selection."""

    @classmethod
    def with_id(cls, id_: int) -> "NoMatchingJob":
        """Make the error for a database id."""
        return cls(f"finding job failed: no job has the database id {id_}")


class SeveralJobsMatch(Unprocessable):
    """More than one job matches where exactly one is needed."""


class AlreadyStopped(Unprocessable):
    """The job has already stopped."""


class StillRunning(Unprocessable):
    """The job is still running."""


class ArchiveError(CcapiError):
    """The job archive on disk could not be read or written."""


class Unfinished(CcapiError):
    """A part of the work is done; the same request again continues with the rest."""


class Busy(CcapiError):
    """Other requests use all that this kind of request may use; the same one may succeed later."""


class TooManyRequests(CcapiError):
    """A client has used what it may; after `retry_after` seconds it may use more."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DatabaseUnavailable(CcapiError):
    """PostgreSQL is down, refuses, or times out; the log has the message."""

    advice = "the database does not answer; it is unknown whether anything changed, try again"


class DatabaseRefuses(DatabaseUnavailable):
    """PostgreSQL answers, and refuses the login, the database or the access to a table."""


class TooSlow(DatabaseUnavailable):
    """The query takes PostgreSQL longer than the statement timeout."""

    advice = (
        "the query takes too long; request fewer jobs, for example by start-time or a shorter "
        "range, or leave out total"
    )


class StartupError(CcapiError):
    """The service or a command cannot start; the message says what to do."""
