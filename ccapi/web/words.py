"""Values as a person reads them, and filters as sentences."""

import re
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby
from urllib.parse import quote, urlencode

from flask import Request
from markupsafe import Markup
from werkzeug.datastructures import MultiDict

from ccapi.errors import InvalidInput
from ccapi.model.rules import MAX_EPOCH_SECOND

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
# Parameters that are not filters of jobs.
_TIMES, _PERIODS = {"start-time", "stop-time", "submit-time", "range"}, {"duration", "wait"}
_VIEW = ("cursor", "page", "items-per-page", "format", "fields", "with-metadata", "total")
# Parameters that a sentence leaves out: it begins with the state, and a table shows the others.
_UNSAID = {"state", "group-by", "sort", "limit", "timeline", "step"}
_UNSAID |= {"waits", "end-states", "histogram", "distinct"}
_PHRASES = {
    "cluster": "on cluster {}",
    "sub-cluster": "on sub-cluster {}",
    "user": "of user {}",
    "project": "of project {}",
    "partition": "in partition {}",
    "host": "on host {}",
    "tag": "with tag {}",
    "job-id": "with job id {}",
    "array-job-id": "of array {}",
    "name": "named {}",
    "start-time": "started {}",
    "stop-time": "ended {}",
    "last": "{verb} in the last {}",
    "range": "that ran {}",
    "duration": "that ran for {}",
    "num-nodes": "on {}",
    "num-acc": "with {} accelerators",
    "num-hwthreads": "with {} threads",
    "submit-time": "submitted {}",
    "wait": "that waited for {}",
    "walltime-used": "that used {} % of their limit",
    "not-user": "not of user {}",
    "not-state": "not {}",
    "not-partition": "not in partition {}",
    "not-tag": "without tag {}",
}
LASTS = {"6h": "6 hours", "24h": "24 hours", "7d": "7 days", "30d": "30 days"}
PERIODS = {last: text for last, text in LASTS.items() if last != "6h"}
LAST_SECONDS = {"6h": 6 * _HOUR, "24h": _DAY, "7d": 7 * _DAY, "30d": 30 * _DAY}
_RANGE = re.compile(r"([0-9]{0,19})-([0-9]{0,19})")
_HOST_NUMBER = re.compile(r"(.*?)([0-9]{1,18})")


def duration(seconds: float) -> str:
    """Return a time in its two largest units."""
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    for unit, name, smaller, smaller_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // smaller
            return (
                f"{whole // unit} {name} {rest} {smaller_name}"
                if rest
                else f"{whole // unit} {name}"
            )
    raise AssertionError


def iso_time(epoch: int, *, with_seconds: bool = False) -> str:
    """Return a time in UTC as people and datetime-local fields spell it."""
    moment = datetime.fromtimestamp(epoch, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}" if with_seconds else f"{moment:%Y-%m-%d %H:%M}"


def time_tag(epoch: int) -> Markup:
    """Return a time of UTC that the script shows in the browser's own zone."""
    if epoch > MAX_EPOCH_SECOND:  # the limit of a job whose walltime is a client's "unlimited"
        return Markup("never")
    year, month, day, hour, minute, second, *_ = time.gmtime(epoch)
    date, clock = f"{year:04}-{month:02}-{day:02}", f"{hour:02}:{minute:02}"
    return Markup(  # noqa: S704 - there are but numbers in it
        f'<time datetime="{date}T{clock}:{second:02}Z">{date} {clock}</time>'
    )


def field_time(epoch: int) -> str:
    """Return a time of UTC for a datetime-local field, "" for the beginning and end of time."""
    if not 1 < epoch < MAX_EPOCH_SECOND:
        return ""
    return f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%dT%H:%M:%S}"


def count(number: float) -> str:
    """Return a number with separators."""
    return f"{number:,}"


def percent(value: float) -> str:
    """Return percent as a person says it: 0.3 %, 12 %."""
    return f"{value:.1f} %" if 0 < value < 10 else f"{value:.0f} %"


def fold_hosts(hosts: Iterable[str]) -> str:
    """Return hosts in Slurm's notation: f[0101-0188],g1."""

    def split(host: str) -> tuple[str, str]:
        match = _HOST_NUMBER.fullmatch(host)
        return (match[1], match[2]) if match else (host, "")

    parts = []
    pairs = sorted(map(split, hosts), key=lambda pair: (pair[0], len(pair[1]), pair[1]))
    for (prefix, width), group in groupby(pairs, lambda pair: (pair[0], len(pair[1]))):
        if not width:
            parts.append(prefix)
            continue
        numbers = [int(number) for _, number in group]
        text = ranges(numbers, width)
        parts.append(f"{prefix}[{text}]" if "-" in text or "," in text else f"{prefix}{text}")
    return ",".join(parts)


@lru_cache(maxsize=64)
def thread_ranges(numbers: tuple[int, ...]) -> str:
    """Return the threads of a node as ranges; a job's nodes mostly have the same."""
    return ranges([*numbers])


def ranges(numbers: list[int], width: int = 1) -> str:
    """Return numbers in order as ranges: 0-35,72-107."""
    begins = [n for i, n in enumerate(numbers) if not i or n != numbers[i - 1] + 1]
    ends = [n for i, n in enumerate(numbers) if numbers[i + 1 : i + 2] != [n + 1]]
    return ",".join(
        f"{first:0{width}}" if first == last else f"{first:0{width}}-{last:0{width}}"
        for first, last in zip(begins, ends, strict=True)
    )


def tidy_address(request: Request) -> str:
    """Return the address of what a form asks for, in the API's words and without empty fields."""
    pairs = [
        (name, value.strip())
        for name, value in request.args.items(multi=True)
        if value.strip() and name not in {"filter", "from", "to"}
    ]
    lower, upper = (
        str(parse_time(text, name)) if (text := request.args.get(name, "")) else ""
        for name in ("from", "to")
    )
    if lower or upper:
        pairs = [pair for pair in pairs if pair[0] not in {"last", "start-time"}]
        pairs.append(("start-time", f"{lower}-{upper}"))
    return address(request.path, pairs)


def parse_time(text: str, name: str) -> int:
    """Return the epoch seconds of a datetime-local field in UTC; raises InvalidInput."""
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    except (ValueError, OverflowError):
        raise InvalidInput.of(name, "must be a time such as 2026-01-31T12:00") from None


def address(path: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Return a path with a query."""
    query = urlencode(list(pairs), safe=":,")
    return f"{path}?{query}" if query else path


def person_address(kind: str, name: str) -> str:
    """Return the page of a user or a project.

    A browser or a proxy would change a path with a slash or dots alone: then it is their list.
    """
    if "/" in name or name.strip(".") == "":
        return address("/jobs", [(kind, name)])
    return f"/{kind}s/{quote(name, safe='')}"


def filters(args: "MultiDict[str, str]") -> list[tuple[str, str]]:
    """Return the filters among the parameters of a list, in their order."""
    return [(name, value) for name, value in args.items(multi=True) if name not in _VIEW]


def describe(args: "MultiDict[str, str]", verb: str = "started") -> str:
    """Return the filters of a list as a sentence: which jobs, and what they did in a time."""
    states = [state.replace("_", " ") for state in args.getlist("state")]
    phrases = [f"{_either(states)} jobs".capitalize() if states else "All jobs"]
    for name in dict.fromkeys(name for name, _ in filters(args)):
        if name not in _UNSAID:
            values = [_value(name, value) for value in args.getlist(name)]
            phrases.append(
                _PHRASES.get(name, f"with {name} {{}}").format(_either(values), verb=verb)
            )
    return " ".join(phrases)


def _either(values: Sequence[str]) -> str:
    words = [value or "(none)" for value in values]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _value(name: str, value: str) -> str:
    """Return a parameter's value as a person says it."""
    if name == "last":
        return LASTS.get(value, value)
    match = _RANGE.fullmatch(value)
    if match is None or not any(match.groups()):
        return value
    say = iso_time if name in _TIMES else duration if name in _PERIODS else count
    lower, upper = (
        say(min(int(digits), MAX_EPOCH_SECOND)) if digits else "" for digits in match.groups()
    )
    if name in _TIMES:
        begin, end = lower and f"from {lower} ", upper and f"until {upper} "
        return f"{begin}{end}UTC"
    if lower == upper:
        text = lower
    elif lower and upper:
        text = f"{lower} to {upper}"
    else:
        text = f"{lower} or more" if lower else f"up to {upper}"
    if name == "num-nodes":
        text += " node" if "1" in {text, upper} else " nodes"
    return text
