"""Hostile requests, as bytes."""

import gzip
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from tests.client import job
from tests.properties.hostile_texts import TOKENS

_LINE = b"\r\n"
_LIST = b"GET /api/jobs/ HTTP/1.1"
_START = b"POST /api/jobs/start_job/ HTTP/1.1"
_HOST = b"Host: localhost"
_CHUNKED = b"Transfer-Encoding: chunked"


def request(first: bytes, *headers: bytes, body: bytes | None = None) -> bytes:
    """Build a request with the true length of its body."""
    lines = [first, _HOST, *headers]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return _LINE.join([*lines, b"", body or b""])


def start(token: bytes, body: bytes, *headers: bytes) -> bytes:
    """Build a request of start_job."""
    return request(_START, token, *headers, body=body)


def valid(**overrides: Any) -> bytes:
    """Encode a valid job; lone surrogates become escapes."""
    return json.dumps(job(**overrides)).encode()


def malformed() -> Iterator[bytes]:
    """Yield requests that are not HTTP, or hardly."""
    yield from (
        b"",
        b"\r\n",
        b"\n",
        b"\0",
        b"\0" * 5000,
        b"\xff" * 5000,
        b"A" * 100_000,
        b" " * 9000,
    )
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256))
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for first in (
        b"GET", b"GET /", b"GET / HTTP", b"GET / HTTP/9.9", b"GET / HTTP/1.1 more",
        b"GET  /  HTTP/1.1",
        b"get / HTTP/1.1", b"G\0T / HTTP/1.1", b"GET\t/\tHTTP/1.1", b"GET / http/1.1",
        b"/ GET HTTP/1.1",
        b"X" * 9000 + b" / HTTP/1.1", b"GET /" + b"a" * 3000 + b" HTTP/1.1", b"GET / HTTP/1.0",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1", b"GET / HTTP/-1.1", b"\xc3\xa9 / HTTP/1.1",
    ):  # fmt: skip
        yield request(first)
    for header in (
        b"No colon", b": no name", b"Sp ace: 1", b"X:1\nY:2", b" X: folded", b"X: \0", b"X\0: 1",
        b"X: \xff",
        b"Host: other", b"Host: a\r\n b", b"X" * 9000 + b": 1", b"X: " + b"a" * 100_000,
        b"Host: \xff",
        b"\r\n".join(b"X-%d: 1" % n for n in range(200)), b"Expect: 100-continue",
        b"Expect: nothing",
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings", b"Connection: X-Auth-Token",
    ):  # fmt: skip
        yield request(_LIST, header)


def methods(token: bytes) -> Iterator[bytes]:
    """Yield requests of all methods, known or not, to many paths."""
    paths = ("/", "/api", "/api/jobs/", "/api/jobs/start_job/", "/api/jobs/stop_job/1",
        "/api/jobs/tag_job/1", "/api/jobs/delete_job/", "/api/jobs/nothing", "/api/docs",
        "*")  # fmt: skip
    for name in (
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "PATCH",
        "TRACE",
        "CONNECT",
        "OPTIONS",
        "FOO",
        "PROPFIND",
    ):
        for path in paths:
            yield request(f"{name} {path} HTTP/1.1".encode(), token, body=b"[]")


def paths(token: bytes) -> Iterator[bytes]:
    """Yield requests with paths that try to lead elsewhere, or with wrong numbers."""
    targets = [
        "//", "///api/jobs/", "/api//jobs/", "/api/jobs//", "/api/./jobs/", "/api/../api/jobs/",
        "/api/jobs/../../etc/passwd", "/api/jobs%2f", "/api%2fjobs/", "/%2e%2e/%2e%2e/etc/passwd",
        "/api/docs/static/../../../../etc/passwd", "/api/docs/static/%2e%2e/%2e%2e/__init__.py",
        "/api/docs/static//etc/passwd", "/api/docs/static/..%5c..%5cx", "/api/docs/static/%00",
        "/api/jobs/%00", "/api/jobs/\0", "/api/jobs/%", "/api/jobs/%zz", "/api/jobs/%ff",
        "/api/jobs/\xff",
        "http://example.org/api/jobs/", "http://example.org:99999/", "https://[::1", "http://",
        "x:/",
        "http://a@b/api/jobs/", "/api/jobs/#x", "/api/jobs/;x=1", "/api/jobs/" + "a/" * 1500,
        "/api/jobs/%" + "25" * 500 + "2e", "?", "/?/", "/api/jobs/\\..\\",
        "/api/jobs/%0d%0aX-Injected:1",
        "/api/openapi.json/", "/api/openapi.json?x", "//example.org/", "/{0}", "/api/jobs/{x.y}",
        "/%7b0%7d",
    ]  # fmt: skip
    numbers = ("0", "-1", "+1", "1.0", "1e3", "0x1", "--1", "9" * 40, "9" * 4000, "\u0661",
        "%D9%A1", "%20 1",
        "1%00", "1/", "1;x", "NaN", "%2d1", "1%2f2", "-" + "9" * 19, "..", "%2e%2e", "1_000",
        "")  # fmt: skip
    for name in ("GET stop_job", "POST stop_job", "POST tag_job", "DELETE delete_job"):
        method, place = name.split()
        targets += [f"{method} /api/jobs/{place}/{quote(number, '%/;.-+')}" for number in numbers]
    for target in targets:
        line = target if " " in target and target[0] != "/" else f"GET {target}"
        yield request(f"{line} HTTP/1.1".encode("latin-1"), token, body=b"[]")


def queries(token: bytes) -> Iterator[bytes]:
    """Yield query strings that are invalid in each parameter."""
    values = ("", "%", "%00", "%ff", "%ed%a0%80", "a&a", "1" * 4000, "-0", "+1", "1e9", "0-",
        "1-2-3",
        "%27;DROP", "..%2f", "{0}", "[]", "null", "\u0661", "1-" + "9" * 40,
        "%D9%A1-%D9%A2")  # fmt: skip
    for name in (
        "state",
        "cluster",
        "start-time",
        "page",
        "items-per-page",
        "cursor",
        "with-metadata",
        "x",
        "%00",
    ):
        for value in values:
            line = f"GET /api/jobs/?{name}={quote(value, '%&')} HTTP/1.1"
            yield request(line.encode(), token)
    for query in ("&" * 3000, "=", "=&=", "a" * 3000, "?" * 100, "&".join(["state=running"] * 250)):
        yield request(f"GET /api/jobs/?{query} HTTP/1.1".encode(), token)


def tokens(token: bytes) -> Iterator[bytes]:
    """Yield tokens of every shape, in both headers, and in both at once."""
    for shape in TOKENS:
        yield request(_LIST, b"X-Auth-Token: " + shape)
        yield request(_LIST, b"Authorization: Bearer " + shape)
        yield request(_LIST, b"Authorization: " + shape)
        yield request(_LIST, b"X-Auth-Token: " + shape, token)
        yield request(_LIST, token, b"Authorization: Bearer " + shape)
        yield request(_LIST, b"X_Auth_Token: " + shape, b"X-Auth-Token : " + shape)
    yield request(_LIST, token, token)
    yield request(_LIST, b"Authorization: Basic Og==", b"Cookie: token=1")


def smuggling(token: bytes) -> Iterator[bytes]:
    """Yield requests whose headers contradict each other about the body's end."""
    second = request(b"GET /api/jobs/smuggled HTTP/1.1", token)
    body = b"0\r\n\r\n" + second
    chunked, length = _CHUNKED, b"Content-Length: %d"
    for headers in (
        (chunked, length % 4), (chunked, length % len(body)), (length % 5, chunked),
        (chunked, chunked),
        (length % 1, length % 2), (length % 5, length % 5), (b"Content-Length: 1, 2",),
        (b"Content-Length: +5",), (b"Content-Length: -5",), (b"Content-Length: 0x5",),
        (b"Content-Length: 5 5",), (b"Content-Length: " + b"9" * 30,), (b"Content-Length: \xb2",),
        (b"Content-Length:",), (b"Content_Length: 5", chunked), (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding: chunked, identity",), (b"Transfer-Encoding: identity, chunked",),
        (b"Transfer-Encoding:\x0bchunked",), (b"Transfer-Encoding : chunked",),
        (b"Transfer-Encoding: gzip",),
        (b"Transfer-Encoding: CHUNKED",), (b"Transfer_Encoding: chunked",),
        (b"TE: trailers", chunked),
    ):  # fmt: skip
        yield _LINE.join([_START, _HOST, token, *headers, b"", body])


def chunks(token: bytes) -> Iterator[bytes]:
    """Yield bodies in invalid chunks."""
    for body in (
        b"5\r\nab\r\n0\r\n\r\n", b"-1\r\n\r\n", b"ffffffffffffffffffff\r\nx",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b"2;a=b\r\n{}\r\n0\r\n\r\n", b"2\n{}\n0\n\n", b"zz\r\n", b"", b"2\r\n{}",
        b"1_0\r\n" + b"x" * 16,
        b"2\r\n{}\r\n0\r\nX-Auth-Token: x\r\n\r\n", b"2\r\n{}xx0\r\n\r\n",
        b"0" * 5000 + b"2\r\n{}\r\n",
        b"2;" + b"a" * 200_000 + b"\r\n{}\r\n0\r\n\r\n", b" 2\r\n{}\r\n0\r\n\r\n",
    ):  # fmt: skip
        yield _LINE.join([_START, _HOST, token, _CHUNKED, b"", body])


def claims(token: bytes) -> Iterator[bytes]:
    """Yield headers that claim another client, host, path or content."""
    for header in (
        b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Host: evil.example", b"X-Forwarded-Proto: https",
        b"X-Forwarded-Prefix: /x", b"X-Original-URL: /api/jobs/delete_job_before/9",
        b"REMOTE_USER: admin",
        b"X-HTTP-Method-Override: DELETE", b"X-Rewrite-Url: /x", b"Forwarded: for=x",
        b"wsgi.url_scheme: x",
        b"X-Request-Id: a\tb", b"Range: bytes=0-1", b"If-None-Match: *", b"Accept: \xff",
        b"Cookie: a=\xff",
        b"Content-Type: multipart/form-data; boundary=", b"Content-Type: \xff",
        b"Content-Encoding: gzip",
        b"Content-Type: text/html; charset=utf-16", b"Accept-Encoding: x",
        b"Proxy: http://evil.example",
    ):  # fmt: skip
        yield request(_LIST, token, header)
        yield start(token, b"{}", header)


def prefixes(token: bytes) -> Iterator[bytes]:
    """Yield headers with which a proxy may say where the application begins."""
    for header in (b"SCRIPT_NAME: ", b"Script-Name: ", b"PATH_INFO: ", b"Path-Info: "):
        for value in (b"/api", b"/x", b"/api/jobs", b"..", b"\xff", b"/", b""):
            yield request(_LIST, token, header + value)


def bodies(token: bytes) -> Iterator[bytes]:
    """Yield bodies that are not jobs, by encoding, size or depth."""
    plain = valid()
    text = plain.decode()
    yield from (
        start(token, text.encode(code)) for code in ("utf-16", "utf-32-le", "utf-8-sig", "cp037")
    )
    yield start(token, gzip.compress(plain), b"Content-Encoding: gzip")
    yield from (start(token, plain[:end]) for end in range(0, len(plain), 7))
    for body in (
        b"[" * 200_000, b'{"a":' * 200_000, b"[" * 900 + b"]" * 900, b"9" * 100_000,
        b'"' + b"a" * 500_000,
        b"-" * 1000, b"1e" + b"9" * 1000, b"NaN", b"-Infinity", b'"\xed\xa0\x80"', b'"\xc0\x80"',
        b"\0", b"{}\0",
        b'{"jobId":1,"jobId":2}', b"{}{}", b"{} x", b"\xef\xbb\xbf{}", b"{'a':1}", b"{,}", b"[1,]",
        b"/**/{}",
        b'{"__proto__":{}}', b"<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>",
        b"!!python/object:a",
        b"{" + b",".join(b'"k%d":0' % n for n in range(50_000)) + b"}", b"a=1&b=2",
        b"\x80\x04K\x01.",
    ):  # fmt: skip
        yield start(token, body)
    for large in (2**63, -(2**63) - 1, 2**64, 10**400):
        for name in ("jobId", "startTime", "numNodes", "walltime", "monitoringStatus"):
            yield start(token, valid(**{name: large}))
    hosts = [{"hostname": "f1"}] * 20_000
    yield start(token, valid(resources=hosts))
    yield start(token, b" " * (8 * 2**20 - len(plain)) + b"{" + plain)
    yield start(token, b" " * (8 * 2**20 + 1))
    yield start(token, b"{}", b"Content-Length: 1000000000")


def everything(token: bytes) -> Iterator[bytes]:
    """Yield all of the above; paths and bodies also without a valid token."""
    yield from malformed()
    for kind in (methods, paths, queries, tokens, smuggling, chunks, claims, bodies):
        yield from kind(token)
    yield from paths(b"X-Nothing: 1")
    yield from bodies(b"X-Auth-Token: x")
