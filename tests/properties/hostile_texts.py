"""Hostile texts, and bodies of jobs that contain them."""

from collections.abc import Iterator
from typing import Any

from tests.client import START, job

NAMES = (
    "..", ".", "../x", "../../x", "a/../../../x", "/etc/x", "//x", "a/b", "a\\..\\b", "..\\x",
    "~root",
    "%2e%2e%2fx", "%252e%252e", "..%00", "a\nb", "a b", "", " ", "$(touch x)", "`touch x`", "|x",
    "-rf",
    ".hidden", "\uff0e\uff0e\uff0fx", "a\u2028b", "a\u202eb", "é", "x" * 65, "x" * 5000, "CON",
    "a:b", "*", "?", "a;b",
    "version.txt", "meta.json", "0", "-1", "a.", "a..b", "\x7f", "\x1b[2J",
)  # fmt: skip
TEXTS = (
    "'; DROP TABLE jobs; --", "' OR '1'='1", '" OR ""="', "\\'; SELECT pg_sleep(9); --", "%s",
    "%(id)s",
    "%", "%%", "$1", ":id", "::text", "{0}", "{x.__class__}", "{{7*7}}", "E'\\x41'", "$$x$$", "/*",
    "--",
    "a'b\"c`d", "\\", "\\u0000", "\\x00", "{}", "[]", "null", "NULL", "true", "a,b", "{a,b}",
    '{"a":1}',
    "\t\n\r\x0b\x0c\x1c\x1f\x7f\x85\xa0", "\u2028\u2029", "\ufeff", "\uffff\ufffe", "\U0010ffff",
    "e\u0301 \u00e9", "\u202e abc", "😀",
    "<script>alert(1)</script>", "&amp;", "x\r\nX-Injected: 1",
    " leading and trailing ", "../../../etc/passwd",
)  # fmt: skip
TOKENS = (
    b"", b" ", b"Bearer", b"'; DROP TABLE tokens; --", b"ccapi_", b"ccapi_" + b"x" * 43,
    b"ccapi_" + b"x" * 42 + b"\xe9", b"\xff\xfe", "ccapi_ü😀".encode(), b"null", b"a" * 8_000,
    b"a" * 1_000_000, b"\t", b"ccapi_\x00", b"ccapi_a\x0bb", b"a\rb", b"Bearer Bearer x", b"{}",
    b"[1]",
)  # fmt: skip


def places(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield jobs with the text in one place each, and the name of the place."""
    for name in ("user", "project", "partition", "cluster", "subCluster", "jobState"):
        yield name, job(**{name: text})
    for name, value in (
        ("hostname", text), ("configuration", text), ("accelerators", [text]),
        ("hwthreads", [text]),
    ):  # fmt: skip
        yield name, job(resources=[{"hostname": "f1", name: value}])
    metric = {"avg": 1, "min": 1, "max": 1}
    yield "metaData", job(metaData={text: text})
    yield "statistics", job(statistics={text: {"unit": text, **metric}})
    yield "tags", job(tags=[{"type": text, "name": text}])
    for name in ("jobId", "startTime", "numNodes"):
        yield name, job(**{name: text})


def free_texts(text: str) -> dict[str, Any]:
    """Return fields of a job with the text in every field that accepts any text."""
    metric = {"unit": text, "avg": 1, "min": 1, "max": 1}
    resource = {"hostname": "f1", "accelerators": [text], "configuration": text}
    return {
        "user": text,
        "project": text,
        "partition": text,
        "resources": [resource],
        "metaData": {text: text},
        "statistics": {text: metric},
        "tags": [{"type": text, "name": text}],
        "startTime": START,
    }
