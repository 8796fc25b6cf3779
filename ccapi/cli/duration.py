"""Lengths of time as options."""

import re
from datetime import timedelta
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
