"""Who may do what."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

# How long a token that was found valid is taken for valid without another look (seconds).
TOKEN_TTL_SECONDS = 1.0


class Role(StrEnum):
    """What a token's holder may do; each role includes the ones before it."""

    READER = "reader"
    WRITER = "writer"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Tell whether this role may do what `other` may."""
        return _RANKING[self] >= _RANKING[other]


_RANKING = {role: rank for rank, role in enumerate(Role)}


@dataclass(slots=True, kw_only=True)
class ValidToken:
    """A token that was presented and is valid now; a lasting one stays so for TRUST_SECONDS."""

    id: int
    name: str
    role: Role
    should_record_use: bool
    is_cacheable: bool


@dataclass(slots=True, kw_only=True)
class Token:
    """A token as the command line lists it; the secret itself is stored nowhere."""

    id: int
    name: str
    role: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def status(self, now: datetime) -> str:
        """Tell whether the token is valid, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "valid"
