"""Random hostile requests without end: bodies, query strings, paths, and framing."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any
from urllib.parse import quote

from tests.client import START
from tests.properties import hostile_requests
from tests.properties.hostile_texts import NAMES, TEXTS
from tests.properties.invalid_bodies import with_changed_bytes
from tests.properties.mutations import OPERATIONS

Parts = list[bytes]
# Longer requests of the fixed list would take most of the time.
_MAX_BYTES = 20_000
_BORDERS = (
    0, 1, -1, 2, START, 2**31, 2**53, 253_402_300_799, 253_402_300_800, 2**63 - 1, 2**63, 2**64,
    10**30, -(2**63),
)  # fmt: skip
_SCALARS: tuple[Any, ...] = (
    None, True, False, 1.5, -0.0, 1e308, 5e-324, "", "x", "\0", "\ud800", "\U0010ffff", "running",
    "completed", "CANCELLED by 0", "fritz", "f0101", *_BORDERS, *TEXTS, *NAMES,
)  # fmt: skip
# What some parameter accepts.
_VALUES = (
    *(
        "1",
        "10",
        "true",
        "running",
        "completed",
        "fritz",
        "f0101",
        "abcd100h",
        "main",
        "user",
        "day",
    ),
    *("start-time", "-duration", "wait", "estimate", f"0-{START + 10**6}", f"{START}-", f"{START}"),
    *("86400", "Debug:Testjob", "csv", "jobId,user", "host", "num-nodes", "none", "rotor", "*o*"),
)
_RANGES = ("{}-{}", "{}-", "-{}", "{},{}", "{}")
_END = {"jobState": "completed", "stopTime": START + 60}
_BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/correct_job/{id}"): _END,
    ("POST", "/stop_job/{id}"): _END,
    ("DELETE", "/tag_job/{id}"): [{"type": "Debug", "name": "Testjob"}],
    ("DELETE", "/delete_job/"): {"jobId": 1, "cluster": "fritz", "startTime": START},
    ("DELETE", "/delete_job/{id}"): None,
    ("POST", "/reconcile/"): {
        "cluster": "fritz", "asOf": START + 90, "jobs": [{"jobId": 1, "startTime": START}],
    },
    **{(each.method, each.path): each.body for each in OPERATIONS.values()},
}  # fmt: skip


def _full_path(path: str) -> str:
    return path if path.startswith("/api/") else f"/api/jobs{path}"


class Mixture:
    """Makes requests; the same seed makes the same ones.

    `queries` are the paths that only read, each with the names of its parameters.
    """

    def __init__(self, seed: str, token: bytes, queries: Mapping[str, list[str]]) -> None:
        self._random = Random(seed)
        self._token = token
        self._queries = {path: names for path, names in queries.items() if names}
        self._paths = [_full_path(path) for _, path in _BODIES] + list(queries)
        self._fixed = [
            each for each in hostile_requests.everything(token) if len(each) < _MAX_BYTES
        ]
        self._kinds: dict[str, tuple[int, Callable[[], Parts]]] = {
            "body": (35, self._body),
            "batch": (5, self._batch),
            "query": (25, self._query),
            "path": (10, self._path),
            "framing": (15, self._framing),
            "changed bytes": (10, self._changed),
        }

    def __iter__(self) -> Iterator[tuple[str, Parts]]:
        """Yield requests with their kinds."""
        names = list(self._kinds)
        weights = [weight for weight, _ in self._kinds.values()]
        while True:
            [name] = self._random.choices(names, weights)
            yield name, self._kinds[name][1]()

    def _scalar(self) -> Any:
        return self._random.choice(_SCALARS)

    def _text(self) -> str:
        value = self._scalar()
        return value if isinstance(value, str) else str(value)

    def _id(self) -> str:
        number: Any = self._random.randint(1, 400)
        if self._random.random() < 0.3:
            number = self._scalar()
        return quote(str(number).encode("utf-8", "surrogatepass"), safe="")

    def _value(self) -> Any:
        """Make a value of any shape."""
        shape = self._random.randrange(12)
        if shape == 0:
            return [self._value() for _ in range(self._random.randrange(4))]
        if shape == 1:
            return {self._text(): self._value() for _ in range(self._random.randrange(4))}
        return self._scalar()

    def _damage(self, value: Any) -> Any:
        """Change a JSON value at a random place."""
        if not value or not isinstance(value, dict | list) or self._random.random() < 0.1:
            return self._value()
        place = self._random.choice(list(value) if isinstance(value, dict) else range(len(value)))
        kind = self._random.randrange(8)
        if kind == 0:
            del value[place]
        elif kind == 1 and isinstance(value, dict):
            value[self._text()] = self._value()
        elif kind == 2 and isinstance(value, list):
            value.append(copy.deepcopy(value[place]))
        else:
            value[place] = self._damage(value[place])
        return value

    def _damaged_json(self, value: Any) -> bytes:
        value = copy.deepcopy(value)
        if isinstance(value, dict) and "jobId" in value:
            value["jobId"] = self._random.randint(1, 50)
            value["startTime"] = START + 100 * self._random.randrange(30)
        if isinstance(value, dict) and "monitoringStatus" in value:
            value["monitoringStatus"] = self._random.randrange(4)
        for _ in range(self._random.choice((0, 0, 1, 1, 2, 4))):
            value = self._damage(value)
        text = json.dumps(value, ensure_ascii=self._random.random() < 0.5)
        body = text.encode("utf-8", "surrogatepass")
        return with_changed_bytes(body, self._random) if self._random.random() < 0.1 else body

    def _body(self) -> Parts:
        method, path = self._random.choice(list(_BODIES))
        body = self._damaged_json(_BODIES[method, path])
        first = f"{method} {_full_path(path).replace('{id}', self._id())} HTTP/1.1"
        return [hostile_requests.request(first.encode(), self._token, body=body)]

    def _batch(self) -> Parts:
        lines = []
        for _ in range(self._random.randrange(1, 6)):
            name = self._random.choice(("start", "stop"))
            line = b'{"%s":%s}' % (name.encode(), self._damaged_json(OPERATIONS[name].body))
            lines.append(line.replace(b"\n", b" "))
        first = b"POST /api/jobs/batch/ HTTP/1.1"
        return [hostile_requests.request(first, self._token, body=b"\n".join(lines))]

    def _query(self) -> Parts:
        path, names = self._random.choice(list(self._queries.items()))
        pairs = []
        for name in self._random.choices(names, k=self._random.choice((1, 1, 1, 2, 2, 5))):
            form = self._random.choice(_RANGES)
            numbers = self._random.choices(_BORDERS, k=2)
            value = self._random.choice(_VALUES)
            if self._random.random() < 0.4:
                value = self._random.choice((self._text(), form.format(*numbers)))
            pairs.append(f"{name}={quote(value.encode('utf-8', 'surrogatepass'))}")
        target = f"{path.replace('{id}', self._id())}?{'&'.join(pairs)}"
        return [hostile_requests.request(f"GET {target} HTTP/1.1".encode(), self._token)]

    def _path(self) -> Parts:
        method = self._random.choice(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))
        path = self._random.choice(self._paths).replace("{id}", self._id())
        text = quote(self._text().encode("utf-8", "surrogatepass"), safe="/%.;")
        place = self._random.randrange(len(path) + 1)
        path = self._random.choice((f"{path}{text}", f"{path[:place]}{text}{path[place:]}", path))
        first = f"{method} {path} HTTP/1.1".encode()
        return [hostile_requests.request(first, self._token, body=b"{}")]

    def _framing(self) -> Parts:
        """Send a valid body in chunks, in parts, cut off, or with a length that is not true."""
        random = self._random
        body = self._damaged_json(OPERATIONS["start"].body)
        length = len(body) + random.choice((0, 0, 1, -1, 10**6, -len(body), random.randrange(99)))
        size = random.randrange(1, 400)
        chunks = [body[place : place + size] for place in range(0, len(body), size)]
        chunked = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"
        headers = [self._token]
        headers += random.choice(
            ([b"Content-Length: %d" % length], [b"Transfer-Encoding: chunked"])
        )
        if random.random() < 0.2:
            headers.append(random.choice((
                b"Transfer-Encoding: chunked", b"Content-Length: %d" % length,
                b"Expect: 100-continue", b"Content-Encoding: gzip", b"Content-Type: text/\xff",
                b"Connection: keep-alive",
            )))  # fmt: skip
        first = b"POST /api/jobs/start_job/ HTTP/1.1"
        sent = hostile_requests.request(first, *headers)
        sent += chunked if b"Transfer-Encoding: chunked" in headers else body
        if random.random() < 0.3:
            sent = with_changed_bytes(sent, random)
        if random.random() < 0.2:
            sent = sent[: random.randrange(1, len(sent))]
        cut = random.randrange(1, len(sent) + 1)
        return [sent[:cut], sent[cut:]] if random.random() < 0.5 else [sent]

    def _changed(self) -> Parts:
        return [with_changed_bytes(self._random.choice(self._fixed), self._random)]
