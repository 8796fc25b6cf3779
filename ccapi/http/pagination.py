"""Cursors: three integers as a text that needs no quoting in a URL."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from struct import Struct

_NUMBERS = Struct(">qqq")
# 24 bytes are 32 letters without padding, so each cursor has one spelling.
_TEXT = re.compile(r"[A-Za-z0-9_-]{32}")


def encode(numbers: tuple[int, int, int]) -> str:
    """Return the cursor of three 64-bit integers."""
    return urlsafe_b64encode(_NUMBERS.pack(*numbers)).decode()


def decode(text: str) -> tuple[int, int, int] | None:
    """Return the integers of a cursor; None if the text is not one."""
    return _NUMBERS.unpack(urlsafe_b64decode(text)) if _TEXT.fullmatch(text) else None
