"""Commands that a text shows, and what they print."""

import re
from typing import NamedTuple

_BLOCK = re.compile(r"^\.\. code-block:: console\n\n((?:    .*\n|\n)+)", re.MULTILINE)
_MARK = "=-=-= next command"
_ANY_LINES = "\0"


class Step(NamedTuple):
    """A command and the output that the text promises.

    `...` stands for any text, and as a line of its own for any lines.
    """

    command: str
    output: str


def steps(section: str) -> list[Step]:
    """Read the console blocks of a section's text."""
    lines = [
        line[4:] for block in _BLOCK.findall(section) for line in block.splitlines() if line.strip()
    ]
    found: list[Step] = []
    for line in lines:
        if line.startswith("$ "):
            found.append(Step(line[2:], ""))
        elif line.startswith("> "):
            found[-1] = Step(f"{found[-1].command}\n{line[2:]}", "")
        else:
            found[-1] = found[-1]._replace(output=f"{found[-1].output}{line}\n")
    return found


def split(text: str) -> dict[str, str]:
    """Split a text at its headings."""
    parts = re.split(r"^(.+)\n=+\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def script(commands: list[Step]) -> str:
    """Write commands as one script, as a reader pastes them into a shell."""
    return "".join(f"{step.command}\necho '{_MARK}'\n" for step in commands)


def outputs(text: str) -> list[str]:
    """Read what each command of a script printed."""
    return text.split(f"{_MARK}\n")[:-1]


def assert_promised(commands: list[Step], outputs: list[str]) -> None:
    """Compare what was printed with what the text shows."""
    assert len(outputs) == len(commands), outputs
    for step, output in zip(commands, outputs, strict=True):
        lines = re.sub(r"(?m)^\.\.\.$", _ANY_LINES, step.output.rstrip("\n"))
        pattern = re.escape(lines).replace(_ANY_LINES, r"(?:.|\n)*?").replace(r"\.\.\.", r"[^\n]*?")
        # Column widths follow the values that "..." stands for.
        pattern = re.sub(r"(\\ )+", " +", pattern)
        # curl ends its output without a new line.
        assert re.fullmatch(f"{pattern}\n?", output), f"$ {step.command}\n{output}"
