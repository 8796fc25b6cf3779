"""Who may do what."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

# How long a token that was found valid is taken for valid without another look (seconds).
TRUST_SECONDS = 1.0


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
    use_is_news: bool
    is_lasting: bool


@dataclass(slots=True, kw_only=True)
class Token:
    """A token as the command line lists it; the secret itself is stored nowhere."""

    id: int
    name: str
    role: str
    created_time: datetime
    expires_time: datetime | None
    revoked_time: datetime | None
    last_used_time: datetime | None

    def status(self, now: datetime) -> str:
        """Tell whether the token is valid, expired or revoked."""
        if self.revoked_time is not None:
            return "revoked"
        if self.expires_time is not None and self.expires_time <= now:
            return "expired"
        return "valid"
