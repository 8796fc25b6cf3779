"""Slurm's notation for many hosts: f[0101-0103,0201]r[1-2],g1."""

import itertools
import re

_BRACKET = re.compile(r"\[([0-9,-]+)\]")
_HOSTS = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])+")
_MOST = 1_000_000


def expand(text: str) -> list[str]:
    """Name every host of a list, in its order; raises ValueError."""
    return [host for part in _HOSTS.findall(text) for host in _expand(part)]


def numbers(text: str) -> list[int]:
    """Return the numbers that "0-3,8" means; raises ValueError."""
    return [int(number) for number in _numbers(text)]


def _expand(part: str) -> list[str]:
    """Name the hosts of one part, whose brackets multiply."""
    pieces = _BRACKET.split(part)
    choices = [_numbers(piece) if i % 2 else [piece] for i, piece in enumerate(pieces)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def _numbers(text: str) -> list[str]:
    """Return the numbers of a bracket, with their leading zeros."""
    found: list[str] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        count = int(last or first) - int(first) + 1
        if count + len(found) > _MOST:
            raise ValueError(f"too many hosts: {text}")
        found += [f"{int(first) + i:0{len(first)}}" for i in range(count)]
    return found
