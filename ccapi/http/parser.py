"""The JSON of a request, whatever its Content-Type says, and what is wrong with it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any, NoReturn

import orjson
from flask import Request, current_app, request
from marshmallow import RAISE, Schema, ValidationError
from webargs.flaskparser import FlaskParser

from ccapi.errors import BodyTooLarge, InvalidInput
from ccapi.http.schema import ContractSchema

# Beyond 64 bits orjson reads an integer as a float, which only statistics take; such a body is
# read again, exactly.
_LONG_INTEGER = re.compile(rb"[0-9]{19}")
_ENOUGH_DIGITS = 40


class RequestParser(FlaskParser):
    """Reads bodies and query strings for the contract's schemas."""

    DEFAULT_VALIDATION_STATUS = 400
    DEFAULT_UNKNOWN_BY_LOCATION = {"json": None, "query": RAISE}  # noqa: RUF012 - webargs' declaration

    def parse(self, argmap: Any, req: Any = None, *, location: Any = None, **kwargs: Any) -> Any:
        """Check a body, or a query; one that dashboards send again and again, once."""
        if location == "query":
            return dict(_checked_query(self, argmap, request.query_string))
        return super().parse(argmap, req, location=location, **kwargs)

    def load_json(self, req: Request, schema: Schema) -> Any:
        """Parse the body as JSON; raises InvalidInput, BodyTooLarge."""
        data = _parse(_read(req.environ))
        expected = "an array of objects" if schema.many else "an object"
        if not isinstance(data, list if schema.many else dict):
            raise InvalidInput(f"the body must be {expected}, in JSON")
        return data

    def load_querystring(self, req: Request, schema: Schema) -> Any:
        """Take the query string; only some parameters may be repeated."""
        assert isinstance(schema, ContractSchema)
        return {
            name: values if name in schema.repeatable else _single(name, values)
            for name, values in req.args.lists()
        }

    def handle_error(self, error: ValidationError, *_: Any, **__: Any) -> NoReturn:
        """Say in one line what is wrong with which field."""
        by_location: dict[str, Any] = error.normalized_messages()
        sentences = chain.from_iterable(map(_sentences, by_location.values()))
        raise InvalidInput("; ".join(sentences)) from None


@lru_cache(maxsize=256)
def _checked_query(parser: RequestParser, schema: Schema, query_string: bytes) -> dict[str, Any]:
    """Check the current request's query, which is the given one; raises InvalidInput."""
    del query_string
    checked: dict[str, Any] = FlaskParser.parse(parser, schema, location="query")
    return checked


def _single(name: str, values: list[str]) -> str:
    if len(values) > 1:
        raise InvalidInput.of(name, "must not be repeated")
    return values[0]


def _read(environ: Mapping[str, Any]) -> bytes:
    limit: int = current_app.config["MAX_BODY_BYTES"]
    try:
        body = _read_up_to(limit, environ)
    except Exception as error:
        # A body that is cut off or wrongly chunked; each WSGI server has errors of its own.
        raise InvalidInput("the body is not as long or as encoded as its headers say") from error
    if body is None or len(body) > limit:
        raise BodyTooLarge(f"the body is over the limit of {limit} bytes")
    return body


def _read_up_to(limit: int, environ: Mapping[str, Any]) -> bytes | None:
    """Read from WSGI itself, which takes less code per request than werkzeug's streams.

    None is a body that says that it is longer; of a chunked one a byte too much is read.
    """
    read: Callable[[int], bytes] = environ["wsgi.input"].read
    if given := environ.get("CONTENT_LENGTH"):
        length = int(given)
        return read(max(length, 0)) if length <= limit else None
    return read(limit + 1) if environ.get("wsgi.input_terminated") else b""


def _parse(body: bytes) -> Any:
    if not body:
        raise InvalidInput("the body is empty: send a JSON document")
    try:
        data = orjson.loads(body)
        has_statistics = type(data) is dict and "statistics" in data
        return _parse_exactly(body) if has_statistics and _LONG_INTEGER.search(body) else data
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the body is not valid JSON: {error}") from None


def _parse_exactly(body: bytes) -> Any:
    return json.loads(body, parse_int=lambda digits: int(digits[:_ENOUGH_DIGITS]))


def _sentences(messages: Any, path: str = "") -> Iterator[str]:
    """Flatten marshmallow's tree of messages to "path: message"."""
    if isinstance(messages, Mapping):
        for key, value in messages.items():
            inner = path if key == "_schema" else f"{path}.{key}" if path else str(key)
            yield from _sentences(value, inner)
    elif isinstance(messages, str):
        yield f"{path or 'the body'}: {messages}"
    else:
        for message in messages:
            yield from _sentences(message, path)
