"""A job whose every text tries to become a part of the page."""

from typing import Any

_SCRIPT = "<script>document.title='owned'</script>"
# Each must appear as text, and none may run.
ATTACKS = (
    f"{_SCRIPT}<img src=x onerror=\"document.title='owned'\">",
    "\"'><svg onload=document.title='owned'>",
    "javascript:document.title='owned'",
    "{{7*7}}{% raw %}${7*7}<!--",
    "\u202eright to left\u202c \u2066x",
    "مشروع الطقس",
    "x" * 255,
    "a\tb",
)


def job(number: int, text: str, start_time: int) -> dict[str, Any]:
    """Return a start of a job with a text in each field that accepts it."""
    return {
        "jobId": 5_000_000 + number,
        "user": text,
        "project": text,
        "partition": text,
        "cluster": "fritz",
        "startTime": start_time,
        "resources": [
            {
                "hostname": "x" * 255 if number % 2 else "f0101",
                "hwthreads": [0, 1],
                "accelerators": [text],
                "configuration": text,
            }
        ],
        "tags": [{"type": text, "name": text}],
        "metaData": {
            "jobName": text,
            "jobScript": f"#!/bin/bash\n{text}\n" * 3,
            "url": "javascript:document.title='owned'",
            text: text,
        },
        "statistics": {text: {"unit": text, "avg": 1, "min": 0, "max": 2}},
    }
