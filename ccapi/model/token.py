"""Tokens and their roles."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

# How long a worker caches a valid token (seconds).
TOKEN_TTL_SECONDS = 1.0


class Role(StrEnum):
    """What a token permits; each role includes the ones before it."""

    READER = "reader"
    WRITER = "writer"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Return whether this role permits everything that `other` permits."""
        return _RANKING[self] >= _RANKING[other]


_RANKING = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token can see: jobs of these users, projects and clusters, where None is all.

    A reader that does not see metadata does not see job scripts either.
    """

    users: tuple[str, ...] | None = None
    projects: tuple[str, ...] | None = None
    clusters: tuple[str, ...] | None = None
    sees_metadata: bool = True

    @property
    def is_limited(self) -> bool:
        """Return whether some jobs are out of scope."""
        return not (self.users is None and self.projects is None and self.clusters is None)

    def includes(self, user_name: str, project: str, cluster: str) -> bool:
        """Return whether a job of a user and project on a cluster is in scope."""
        return (
            (self.users is None or user_name in self.users)
            and (self.projects is None or project in self.projects)
            and (self.clusters is None or cluster in self.clusters)
        )

    def includes_all_of(self, cluster: str) -> bool:
        """Return whether every job of a cluster is in scope."""
        has_cluster = self.clusters is None or cluster in self.clusters
        return self.users is None and self.projects is None and has_cluster


ALL_JOBS = Scope()


@dataclass(slots=True, kw_only=True)
class ValidToken:
    """A valid token of a request; a cacheable one stays valid for TOKEN_TTL_SECONDS."""

    id: int
    name: str
    role: Role
    scope: Scope = ALL_JOBS
    should_record_use: bool
    is_cacheable: bool


@dataclass(slots=True, kw_only=True)
class Token:
    """A token as the command line lists it, without its secret."""

    id: int
    name: str
    role: str
    users: list[str] | None
    projects: list[str] | None
    clusters: list[str] | None
    sees_metadata: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def status(self, now: datetime) -> str:
        """Return "valid", "expired" or "revoked"."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "valid"
