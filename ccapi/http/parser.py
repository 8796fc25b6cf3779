"""Parse bodies and query strings, and report what is wrong with them."""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain, islice
from typing import Any, NoReturn

import orjson
from flask import Request, current_app, request
from marshmallow import RAISE, Schema, ValidationError
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from ccapi.errors import BodyTooLarge, InvalidInput
from ccapi.http.schema import MAX_MISTAKES, ContractSchema

# orjson parses an integer beyond 64 bits as a float: such a body is parsed again by json, which
# keeps the integer. A search by a regular expression would take longer than orjson.
_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG_INTEGER = b"0" * 19
_MAX_DIGITS = 40
# Of a body that is an array, which has the tags to add or to remove, and lines of a batch.
_MAX_ITEMS = 1000
# An unknown key in a message is cut to so many characters.
_MAX_NAME_LENGTH = 80


class RequestParser(FlaskParser):
    """webargs' parser for the contract: a body is JSON, whatever its Content-Type says."""

    DEFAULT_VALIDATION_STATUS = 400
    DEFAULT_UNKNOWN_BY_LOCATION = {"json": None, "query": RAISE}  # noqa: RUF012 - webargs' declaration

    def parse(self, argmap: Any, req: Request | None = None, **options: Any) -> Any:
        """Parse a body, or a query; raises InvalidInput."""
        if options.get("location") == "query":
            return dict(self._parse_query(argmap, request.query_string))
        return super().parse(argmap, req, **options)

    # Dashboards repeat their queries, and looking for each filter takes a tenth of a list.
    @lru_cache(maxsize=250)  # noqa: B019 - there is one parser
    def _parse_query(self, schema: Schema, _query_string: bytes) -> dict[str, Any]:
        query: dict[str, Any] = super().parse(schema, location="query")
        return query

    def load_json(self, req: Request, schema: Schema) -> Any:
        """Parse the body as JSON; raises InvalidInput, BodyTooLarge."""
        body = _read_body(req)
        if not body:
            raise InvalidInput("the body is empty: send a JSON document")
        data = parse_json(body, "the body")
        if not isinstance(data, list if schema.many else dict):
            expected = "an array of objects" if schema.many else "an object"
            raise InvalidInput(f"the body must be {expected}, in JSON")
        if schema.many and len(data) > _MAX_ITEMS:
            raise InvalidInput(
                f"the body must have at most {_MAX_ITEMS} items; send the rest later"
            )
        return data

    def load_querystring(self, req: Request, schema: Schema) -> Any:
        """Return the query's parameters; only some may be repeated."""
        assert isinstance(schema, ContractSchema)
        parameters: dict[str, Any] = {}
        for name, values in req.args.lists():
            _, field = schema.fields_by_key.get(name, (name, None))
            if getattr(field, "is_repeatable", False):
                parameters[name] = values
            elif len(values) == 1:
                parameters[name] = values[0]
            else:
                raise InvalidInput.of(name, "must not be repeated")
        return parameters

    def handle_error(self, error: ValidationError, *_: Any, **__: Any) -> NoReturn:
        """Raise InvalidInput of what is wrong in any location."""
        by_location: dict[str, Any] = error.normalized_messages()
        raise invalid_input(*by_location.values()) from None


def invalid_input(*messages: Any) -> InvalidInput:
    """Make an error of marshmallow's messages: the first wrong fields, and what they must be."""
    mistakes = chain.from_iterable(map(_flatten, messages))
    named = list(islice(mistakes, MAX_MISTAKES + 1))
    if len(named) > MAX_MISTAKES:
        named[MAX_MISTAKES] = "and more"
    return InvalidInput("; ".join(named))


def parse_json(text: bytes, noun: str) -> Any:
    """Parse JSON; raises InvalidInput, whose message calls the text by its noun."""
    try:
        data = orjson.loads(text)
        if _LONG_INTEGER in text.translate(_AS_ZEROS):
            data = json.loads(text, parse_int=lambda digits: int(digits[:_MAX_DIGITS]))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{noun} is not valid JSON: {error}") from None
    return data


def read_lines(request: Request) -> list[tuple[int, bytes]]:
    """Return the lines of a body with their numbers, from 1, without blank ones.

    Raises InvalidInput, BodyTooLarge.
    """
    body = _read_body(request).rstrip()
    if not body:
        raise InvalidInput("the body is empty: send a JSON object on each line")
    if body.count(b"\n") >= _MAX_ITEMS:
        raise InvalidInput(f"the body must have at most {_MAX_ITEMS} lines; send the rest later")
    return [(number, line) for number, line in enumerate(body.split(b"\n"), 1) if line.strip()]


def load_values(schema: Schema, values: Mapping[str, Any]) -> dict[str, Any]:
    """Check a query that comes from a command line; raises InvalidInput."""
    try:
        loaded: dict[str, Any] = schema.load(values)
    except ValidationError as error:
        raise InvalidInput("; ".join(_flatten(error.normalized_messages()))) from None
    return loaded


def _read_body(request: Request) -> bytes:
    limit: int = current_app.config["MAX_CONTENT_LENGTH"]
    # One byte more, because werkzeug cuts a chunked body off at its limit without an error.
    request.max_content_length = limit + 1
    try:
        body = request.get_data(cache=False)
        is_too_large = len(body) > limit
    except RequestEntityTooLarge:
        is_too_large = True
    except Exception as error:
        # Each WSGI server has its own exceptions for a body that is cut off or badly chunked. Any
        # other failure is ours, and a client must not take it for final.
        is_servers = type(error).__module__.startswith("gunicorn.")
        if not (is_servers or isinstance(error, HTTPException | OSError | ValueError)):
            raise
        message = "the body does not match its Content-Length or Transfer-Encoding"
        raise InvalidInput(message) from error
    if is_too_large:
        raise BodyTooLarge(f"the body is over the limit of {limit} bytes")
    return body


def _flatten(messages: Any, path: str = "") -> Iterator[str]:
    """Flatten marshmallow's tree of messages to "path: message"."""
    if isinstance(messages, Mapping):
        for key, value in messages.items():
            name = str(key)[:_MAX_NAME_LENGTH].replace("\0", "\\0")
            inner = path if key == "_schema" else f"{path}.{name}" if path else name
            yield from _flatten(value, inner)
    elif isinstance(messages, str):
        yield f"{path or 'the body'}: {messages}"
    else:
        for message in messages:
            yield from _flatten(message, path)
