"""Random changes of a valid job, in its JSON or in its bytes, and of a request's bytes."""

import copy
import json
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.client import START, full_job

_VALID = full_job(numNodes=1, exclusive=1, monitoringStatus=1, jobState="running")
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 3)
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from([START, 2**31, 2**53, 2**63 - 1, 2**63, 1e308, 5e-324, "", "\0", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=9), inner)
    ),
    max_leaves=6,
)


@st.composite
def jobs(draw: st.DrawFn) -> bytes:
    """Draw a start_job body with one to three changes; it may still be valid."""
    value: Any = copy.deepcopy(_VALID)
    for _ in range(draw(st.integers(1, 3))):
        _change(draw, value)
    body = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    return _change_bytes(draw, body) if draw(st.integers(0, 4)) == 0 else body


def _change(draw: st.DrawFn, value: Any) -> None:
    """Replace, add or remove a value at a random place."""
    while True:
        places = sorted(value) if isinstance(value, dict) else range(len(value))
        if not places:
            return
        place = draw(st.sampled_from(places))
        if not isinstance(value[place], dict | list) or draw(st.integers(0, 2)) == 0:
            break
        value = value[place]
    kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "double"]))
    if kind == "remove":
        del value[place]
    elif kind == "replace":
        value[place] = draw(_VALUES)
    elif isinstance(value, list):
        value.append(copy.deepcopy(value[place]))
    else:
        value[f"{place}{draw(st.sampled_from(['', 's', ' ', '.x']))}"] = value[place]


def _change_bytes(draw: st.DrawFn, body: bytes) -> bytes:
    place = draw(st.integers(0, len(body)))
    return body[:place] + draw(st.binary(max_size=4)) + body[place + draw(st.integers(0, 4)) :]


def with_changed_bytes(request: bytes, random: Random) -> bytes:
    """Change a few bytes of a request."""
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(request) + 1)
        piece = request[place : place + random.randint(0, 40)]
        insert = random.choice(
            [
                b"",
                piece + piece,
                random.randbytes(random.randint(1, 4)),
                b"\r\n",
                b"\0",
                b" ",
                b"%00",
            ]
        )
        request = request[:place] + insert + request[place + random.choice([0, 0, 1, 5, 40]) :]
    return request
