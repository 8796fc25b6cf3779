"""Slurm's notation for lists of hosts: f[0101-0103,0201]r[1-2],g1."""

import itertools
import math
import re

# slurmctld manages at most this many nodes.
MAX_HOSTS = 65_536

_BRACKET = re.compile(r"\[([0-9,-]+)\]")
_PART = re.compile(r"(?:[^,\[\]]|\[[^\[\]]*\])+")
_MAX_DIGITS = 18


def expand(text: str, max_hosts: int = MAX_HOSTS) -> list[str]:
    """Return the hosts of a list, in its order.

    Raises ValueError for a list of more than `max_hosts` hosts, before it is expanded.
    """
    hosts: list[str] = []
    for part in _PART.findall(text):
        # Odd pieces are the insides of brackets; the brackets of a part multiply.
        choices: list[list[str]] = []
        for index, piece in enumerate(_BRACKET.split(part)):
            max_numbers = max_hosts - len(hosts)
            choices.append(_expand_numbers(piece, max_numbers) if index % 2 else [piece])
            if math.prod(map(len, choices)) > max_numbers:
                raise ValueError(f"more than {max_hosts} hosts: {text:.80}")
        hosts += ["".join(choice) for choice in itertools.product(*choices)]
    return hosts


def numbers(text: str, max_count: int) -> list[int]:
    """Return the numbers of a list such as "0-3,8".

    Raises ValueError for more than `max_count` numbers, before the list is expanded.
    """
    return [int(number) for number in _expand_numbers(text, max_count)]


def _expand_numbers(text: str, max_count: int) -> list[str]:
    """Return the numbers of a list with their leading zeros; raises ValueError."""
    result: list[str] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        if max(len(first), len(last)) > _MAX_DIGITS:
            raise ValueError(f"a number of too many digits: {part:.80}")
        count = int(last or first) - int(first) + 1
        if count + len(result) > max_count:
            raise ValueError(f"more than {max_count} numbers: {text:.80}")
        result += [f"{int(first) + i:0{len(first)}}" for i in range(count)]
    return result
