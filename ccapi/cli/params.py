"""Lengths of time as options, and times as texts."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST_DAYS = 36_500


class Duration(click.ParamType[timedelta]):
    """A length of time such as 90d; units s, m, h, d and w."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        """Parse the option's text."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([0-9]{1,9})([smhdw])", value)
        seconds = int(found[1]) * _UNITS[found[2]] if found else 0
        if not 0 < seconds <= _LONGEST_DAYS * 86_400:
            self.fail(f"{value!r} is no length of time such as 12h, 90d or 4w", param, ctx)
        return timedelta(seconds=seconds)


class Moment(click.ParamType[int]):
    """A moment such as 2025-01-31, 2025-01-31T12:00:00Z or epoch seconds; UTC if not said."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Parse the option's text to epoch seconds."""
        if isinstance(value, int):
            return value
        try:
            if re.fullmatch("[0-9]{9,12}", value):
                return int(value)
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"{value!r} is no time such as 2025-01-31, 2025-01-31T12:00:00Z or 1738281600",
                param,
                ctx,
            )
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def utc(seconds: float) -> str:
    """Write epoch seconds as an RFC 3339 time stamp in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
