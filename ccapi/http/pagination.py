"""Cursors: three or six integers as a text that needs no quoting in a URL."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from struct import Struct
from urllib.parse import quote, urlencode

from flask import request

# 24 and 48 bytes are 32 and 64 letters without padding, so each cursor has one spelling.
_NUMBERS = {32: Struct(">3q"), 64: Struct(">6q")}
_TEXT = re.compile(r"[A-Za-z0-9_-]{32}(?:[A-Za-z0-9_-]{32})?")

# The parameters that say where a page begins.
_POSITIONS = {"page", "cursor"}


def encode(*numbers: int) -> str:
    """Return the cursor of three or six 64-bit integers."""
    packer = next(packer for packer in _NUMBERS.values() if packer.size == 8 * len(numbers))
    return urlsafe_b64encode(packer.pack(*numbers)).decode()


def decode(text: str) -> tuple[int, ...]:
    """Return the integers of a cursor; none if the text is not one."""
    if not _TEXT.fullmatch(text):
        return ()
    return _NUMBERS[len(text)].unpack(urlsafe_b64decode(text))


def next_link(cursor: str) -> str:
    """Return the Link header that leads from the current request to the next page."""
    pairs = [pair for pair in request.args.items(multi=True) if pair[0] not in _POSITIONS]
    # request.base_url takes 50 us: it decodes an address that may be international.
    address = f"{request.scheme}://{request.host}{request.script_root}{quote(request.path)}"
    return f'<{address}?{urlencode([*pairs, ("cursor", cursor)])}>; rel="next"'
