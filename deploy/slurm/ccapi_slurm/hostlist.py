"""Slurm's notation for lists of hosts: f[0101-0103,0201]r[1-2],g1."""

import itertools
import re

_BRACKET = re.compile(r"\[([0-9,-]+)\]")
_PART = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])+")
_MAX_HOSTS = 1_000_000


def expand(text: str) -> list[str]:
    """Return the hosts of a list, in its order; raises ValueError."""
    hosts: list[str] = []
    for part in _PART.findall(text):
        # Odd pieces are the insides of brackets; the brackets of a part multiply.
        pieces = enumerate(_BRACKET.split(part))
        choices = [_expand_numbers(piece) if i % 2 else [piece] for i, piece in pieces]
        hosts += ["".join(choice) for choice in itertools.product(*choices)]
    return hosts


def numbers(text: str) -> list[int]:
    """Return the numbers of a list such as "0-3,8"; raises ValueError."""
    return [int(number) for number in _expand_numbers(text)]


def _expand_numbers(text: str) -> list[str]:
    """Return the numbers of a list with their leading zeros."""
    result: list[str] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        count = int(last or first) - int(first) + 1
        if count + len(result) > _MAX_HOSTS:
            raise ValueError(f"too many hosts: {text}")
        result += [f"{int(first) + i:0{len(first)}}" for i in range(count)]
    return result
