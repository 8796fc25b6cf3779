"""The file of an archived job, and what keeps it from being written."""

import errno
import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from ccapi.context import Context

FULL_DISKS = pytest.mark.parametrize(
    "full_disk",
    [(1, "fsync"), (1, "rename"), (2, "fsync")],
    ids=["file is not durable", "rename fails", "rename is not durable"],
)


def document(context: Context) -> Path:
    """Find the only archived job's file."""
    [path] = context.archive_root.rglob("meta.json")
    return path


def fail(monkeypatch: pytest.MonkeyPatch, number: int, name: str) -> None:
    """Let the n-th call of a function of os fail, as it does on a full disk."""
    function, calls = getattr(os, name), itertools.count(1)

    def failing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return function(*args, **kwargs)

    monkeypatch.setattr(os, name, failing)
