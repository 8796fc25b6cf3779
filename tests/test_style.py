"""Rules of the house that no linter checks."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import source, words

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path
    for folder in ("bench", "ccapi", "deploy", "tests")
    for path in (ROOT / folder).rglob("*.py")
)
_BARE_SUPPRESSION = re.compile(r"# (noqa: [A-Z0-9, ]+|type: ignore\[[a-z, -]+\])$")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40
MAX_TEST_NAME = 60
MAX_SINGLE_CALLER_HELPERS = 0.08
# Called from outside: by gunicorn, by its configuration, by the framework.
ENTRY_POINTS = {
    "MONITORING_STATUS", "child_exit", "control_socket_disable", "logger_class", "on_exit",
    "on_starting", "post_fork", "post_request", "socket_warnings",
}  # fmt: skip
_NO_CODE = {
    tokenize.COMMENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.INDENT, tokenize.NEWLINE,
    tokenize.NL,
}  # fmt: skip


def test_files_have_at_most_400_lines_and_functions_40_of_code() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}: {name}: {length}"
        for path in SOURCES
        for name, length, limit in lengths(path.read_text("utf-8"))
        if length > limit
    ]
    assert not too_long


def lengths(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield what has a length, its lines, and how many it may have."""
    yield "the file", text.count("\n"), MAX_FILE_LINES
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in _NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, source.Function):
            lines = set(range(node.lineno, (node.end_lineno or node.lineno) + 1)) & code
            if ast.get_docstring(node, clean=False) is not None:
                lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
            yield node.name, len(lines), MAX_FUNCTION_LINES


def test_lengths_count_code_only() -> None:
    text = (
        'def f() -> str:\n    """Doc.\n\n    More.\n    """\n\n    # why\n    return """a\n#b"""\n'
    )
    assert list(lengths(text))[1:] == [("f", 3, MAX_FUNCTION_LINES)]


def test_names_of_tests_are_short() -> None:
    names = [
        node.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, source.Function) and node.name.startswith("test_")
    ]
    assert [name for name in names if len(name) > MAX_TEST_NAME] == []


def test_few_functions_are_private_with_one_caller() -> None:
    """Short functions cost the reader jumps; `python -m tests.source` lists them."""
    share = len(source.single_caller_helpers()) / len(source.functions())
    assert share < MAX_SINGLE_CALLER_HELPERS


def test_every_public_name_is_used() -> None:
    unused = [str(one) for one in source.unused_public_names() if one.name not in ENTRY_POINTS]
    assert not unused


def test_every_suppressed_rule_of_the_product_has_a_reason() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if "tests" not in path.parts and _BARE_SUPPRESSION.search(line)
    ]
    assert not bare


def test_words_of_the_house() -> None:
    """`python -m tests.words` lists the places."""
    places = [str(place) for path in words.documents() for place in words.places(path)]
    assert not places


@pytest.mark.parametrize(
    "text",
    [
        "wanted = 1",
        "def f(*, told: int) -> None: ...",
        "LONGEST_DAYS = 3",
        "class Registry: ...",
        "row.facts = {}",
        '"""Tell whether it works."""',
        '"""It is no integer."""',
        "# Who revokes waits as long.",
        "# The disk lacks room.",
        "# The database takes no writes.",
    ],
)
def test_words_that_are_not_ours_are_reported(tmp_path: Path, text: str) -> None:
    assert reported(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "position = file.tell()",
        '"""Return at least one; there is no more, and it is no longer there."""',
        '"""Wait at most 3 seconds for the given number that was found."""',
        "raise FileNotFoundError(almost, suppressed, mushroom, black)",
        "# Who may read this? The owner.",
    ],
)
def test_plain_english_is_not_reported(tmp_path: Path, text: str) -> None:
    assert not reported(tmp_path, text)


def reported(directory: Path, text: str) -> list[words.Place]:
    path = directory / "module.py"
    path.write_text(text, "utf-8")
    return list(words.places(path))
