"""The command blocks of a document, and the answers that it shows."""

import re
from typing import NamedTuple

# A block of commands, and the block of its answer if one follows at once.
_BLOCK = re.compile(
    r"^\.\. code-block:: bash\n\n((?:    .*\n|\n)+)"
    r"(?:\.\. code-block:: text\n\n((?:    .*\n|\n)+))?",
    re.MULTILINE,
)
_MARK = "=-=-= next block"
_ANY_LINES = "\0"


class Block(NamedTuple):
    """A block of commands and the output that the document shows.

    `...` stands for any text, and as a line of its own for any lines.
    """

    commands: str
    output: str


def steps(section: str) -> list[Block]:
    """Return the command blocks of a section's text."""
    return [
        Block(_dedent(commands).strip("\n"), _unwrap(_dedent(output)))
        for commands, output in _BLOCK.findall(section)
    ]


def _dedent(block: str) -> str:
    return re.sub(r"(?m)^    ", "", block)


def _unwrap(output: str) -> str:
    """Join the lines of JSON that the document wraps; two spaces begin a continuation."""
    return re.sub(r"\n  (?=\S)", "", output) if output.startswith(("{", "[")) else output


def split(text: str) -> dict[str, str]:
    """Split a text at its headings."""
    parts = re.split(r"^(.+)\n=+\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def script(blocks: list[Block]) -> str:
    """Join blocks to one script, as a reader pastes them into a shell."""
    return "".join(f"{step.commands}\necho '{_MARK}'\n" for step in blocks)


def outputs(text: str) -> list[str]:
    """Return what each block of a script printed."""
    return text.split(f"{_MARK}\n")[:-1]


def assert_answers(blocks: list[Block], outputs: list[str]) -> None:
    """Compare what was printed with what the document shows."""
    assert len(outputs) == len(blocks), outputs
    for step, output in zip(blocks, outputs, strict=True):
        lines = re.sub(r"(?m)^\.\.\.$", _ANY_LINES, step.output.rstrip("\n"))
        pattern = re.escape(lines).replace(_ANY_LINES, r"(?:.|\n)*?").replace(r"\.\.\.", r"[^\n]*?")
        # Column widths follow the values that "..." stands for.
        pattern = re.sub(r"(\\ )+", " +", pattern)
        printed = re.sub(r"(?m) +$", "", output).rstrip("\n")
        assert re.fullmatch(pattern, printed), f"{step.commands}\n\n{output}"
