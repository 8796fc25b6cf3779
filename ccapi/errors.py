"""What can go wrong, as facts; api.errors says which HTTP status each one is."""


class CcapiError(Exception):
    """A failure whose message is meant for the person who caused or can mend it."""


class InvalidInput(CcapiError):
    """The request does not follow the contract; the message names the field and the rule."""

    @classmethod
    def of(cls, field: str, expected: str) -> "InvalidInput":
        """Say of one field what was expected."""
        return cls(f"{field}: {expected}")


class BodyTooLarge(CcapiError):
    """The request's body is over the configured limit."""


class Unauthenticated(CcapiError):
    """No valid token came with the request."""


class Forbidden(CcapiError):
    """The token's role does not allow the operation."""


class UnknownJob(CcapiError):
    """The job named by its database id does not exist."""


class Unprocessable(CcapiError):
    """The request is well formed, but the registry's contents do not allow it."""


class DuplicateJob(Unprocessable):
    """A job with this cluster, job id and (nearly) this start time is registered already."""

    def __init__(self, message: str, id_: int) -> None:
        super().__init__(message)
        self.id = id_


class NoMatchingJob(Unprocessable):
    """No job matches the request's selection."""


class SeveralJobsMatch(Unprocessable):
    """More than one job matches where exactly one is needed."""


class AlreadyStopped(Unprocessable):
    """The job has reached its final state before."""


class StillRunning(Unprocessable):
    """The job has not reached a final state yet."""


class ArchiveError(CcapiError):
    """The job archive on disk could not be read or written."""


class Unfinished(CcapiError):
    """A part of the work is done and stays done; who asks again gets on with the rest."""


class DatabaseUnavailable(CcapiError):
    """PostgreSQL is down, refuses, or does not answer in time; the log has the message."""

    advice = "the database does not answer; nothing is known to be changed, try again"


class TooSlow(DatabaseUnavailable):
    """What was asked takes PostgreSQL longer than a statement may."""

    advice = (
        "these jobs take the database too long to find; ask for fewer, best by start-time or "
        "a shorter range, or without total"
    )


class StartupError(CcapiError):
    """The service or a command cannot start; the message says what to do."""
