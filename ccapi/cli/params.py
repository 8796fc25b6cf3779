"""Durations, times and addresses as options of commands."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MAX_DAYS = 36_500
MAX_PORT = 65_535
# The addresses that mean all interfaces, and the one by which a client reaches them.
_LOOPBACKS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound to


class Duration(click.ParamType[timedelta]):
    """A duration such as 90d; the units are s, m, h, d and w."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        """Parse the text of an option."""
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"([0-9]{1,9})([smhdw])", value)
        seconds = int(match[1]) * _UNITS[match[2]] if match else 0
        if not 0 < seconds <= _MAX_DAYS * 86_400:
            self.fail(f"invalid duration {value!r} (use e.g. 12h, 90d or 4w)", param, ctx)
        return timedelta(seconds=seconds)


class Time(click.ParamType[int]):
    """A time such as 2025-01-31, 2025-01-31T12:00:00Z or epoch seconds; the default zone is UTC."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Parse the text of an option to epoch seconds."""
        if isinstance(value, int):
            return value
        try:
            if re.fullmatch("[0-9]{9,12}", value):
                return int(value)
            time = datetime.fromisoformat(value)
        except ValueError:
            hint = "use e.g. 2025-01-31, 2025-01-31T12:00:00Z or 1738281600"
            self.fail(f"invalid time {value!r} ({hint})", param, ctx)
        return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


class Address(NamedTuple):
    """The host and port on which a service listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return HOST:PORT, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def for_clients(self) -> "Address":
        """Return the address at which a client on this machine reaches the service."""
        return Address(_LOOPBACKS.get(self.host, self.host), self.port)


class AddressParam(click.ParamType[Address]):
    """An address such as 127.0.0.1:8080 or [::1]:8080."""

    name = "address"

    def convert(self, value: Any, param: Any, ctx: Any) -> Address:
        """Parse the text of an option."""
        pattern = r"\[([0-9A-Fa-f:.]+)\]:([0-9]{1,5})|([A-Za-z0-9._-]+):([0-9]{1,5})"
        match = re.fullmatch(pattern, value)
        host, port = (match[1] or match[3], int(match[2] or match[4])) if match else ("", 0)
        if not host or port > MAX_PORT:
            hint = "use e.g. 127.0.0.1:8080 or [::1]:8080"
            self.fail(f"invalid address {value!r} ({hint})", param, ctx)
        return Address(host, port)


def format_utc(seconds: float) -> str:
    """Return epoch seconds as an RFC 3339 timestamp in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
