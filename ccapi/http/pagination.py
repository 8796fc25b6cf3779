"""The text by which a list goes on where another ended."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from struct import Struct
from typing import NamedTuple

from ccapi.model.job import ListPosition
from ccapi.model.rules import MAX_INTEGER

_NUMBERS = Struct(">qqq")
# 24 bytes are 32 letters, without padding: each text stands for one cursor and each cursor
# for one text.
_TEXT = re.compile(r"[A-Za-z0-9_-]{32}")


class Cursor(NamedTuple):
    """Where a walk through a list stands: after which job, and at which page, from 1."""

    place: ListPosition | None
    page: int

    def after(self, place: ListPosition) -> "Cursor":
        """Go on with the next page after a job."""
        return Cursor(place, min(self.page + 1, MAX_INTEGER))

    def __str__(self) -> str:
        """Write the cursor as text that a URL takes; the beginning is the empty one."""
        if self.place is None:
            return ""
        return urlsafe_b64encode(_NUMBERS.pack(*self.place, self.page)).decode()


def parse(text: str) -> Cursor | None:
    """Read a cursor; None when it is not one that was given out."""
    if text == "":
        return Cursor(None, 1)
    if not _TEXT.fullmatch(text):
        return None
    start_time, id_, page = _NUMBERS.unpack(urlsafe_b64decode(text))
    if start_time < 1 or id_ < 1 or page < 2:
        return None
    return Cursor(ListPosition(start_time, id_), page)
