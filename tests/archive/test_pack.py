"""Packs, without a service."""

import threading
import time
from collections import Counter
from pathlib import Path

from ccapi.archive import pack
from ccapi.model.job import JobKey
from tests.client import at_once

KEY = JobKey("fritz", 1034871, 1768978339)


def test_pack_that_comes_and_goes_is_read_or_absent(tmp_path: Path) -> None:
    source, path = tmp_path / "source", tmp_path / "2026-01.sqlite"
    pack.write(source, {KEY: b"{}"}, version=3, cluster_file=None)
    answers = Counter[bytes | None]()
    end = threading.Event()

    def come_and_go() -> None:
        while not end.is_set():
            path.hardlink_to(source)
            time.sleep(0.001)
            path.unlink()
            time.sleep(0.001)

    def read() -> None:
        try:
            for _ in range(10_000):
                answers[pack.read(path, KEY)] += 1
        finally:
            end.set()

    at_once([come_and_go, read])
    assert set(answers) == {b"{}", None}
