"""The documents are easy to read: sentences are short."""

import re
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_MEAN_WORDS = 18
MAX_WORDS = 35
DOCUMENTS = [
    "README.rst",
    "CHANGELOG.rst",
    "CONTRIBUTING.rst",
    *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.rst")),
]
_RULE = re.compile(r"[=-]+( +[=-]+)*")
_ITEM = re.compile(r"^(?:-|\d+\.) ")
_LITERAL = re.compile(r"``.+?``")
_SENTENCE_END = re.compile(r"(?<=[.!?])[*)\"]* +")


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_sentence_length(name: str) -> None:
    lengths = {text: len(text.split()) for text in sentences((ROOT / name).read_text("utf-8"))}
    too_long = [text for text, length in lengths.items() if length > MAX_WORDS]
    assert not too_long
    assert mean(lengths.values()) < MAX_MEAN_WORDS


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a document, without tables, literal blocks, headings and terms."""
    for paragraph in paragraphs(text):
        yield from _SENTENCE_END.split(_LITERAL.sub("literal", paragraph))


def paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs, list items and definitions of a document, each as one line."""
    skipped_indent: int | None = None
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.split("\n")
        indent = len(lines[0]) - len(lines[0].lstrip())
        if skipped_indent is not None and indent > skipped_indent:
            continue
        skipped_indent = indent if block.endswith("::") or lines[0].startswith("..") else None
        if lines[0].startswith("..") or any(_RULE.fullmatch(line) for line in lines):
            continue
        for item in _items(lines):
            yield re.sub(r"\s+", " ", item).removesuffix("::").strip()


def _items(lines: list[str]) -> Iterator[str]:
    """Yield the list items and definitions of a block of lines; a term is like a heading."""
    item = ""
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        text = line.strip()
        is_term = _indent(following) > _indent(line) and not _ITEM.match(text)
        if is_term or _ITEM.match(text):
            yield from filter(None, [item])
            item = ""
        if not is_term:
            item = f"{item} {_ITEM.sub('', text)}"
    yield from filter(None, [item])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


DOCUMENT = """\
=====
Title
=====

One sentence, with ``code. Here``. And a
second one: it has two clauses! ::

    no. sentence.

.. code-block:: bash

    nor. here.

====  ======
A     table.
====  ======
x     y. z.
====  ======

Term
    Its definition. **Bold.** Plain.
Another term
    Another definition.

- An item
  of two lines.
- Another one.

9. The limit is 12. It - and no other - counts.
10. The last one.
"""


def test_sentences_of_a_document() -> None:
    assert list(sentences(DOCUMENT)) == [
        "One sentence, with literal.",
        "And a second one: it has two clauses!",
        "Its definition.",
        "**Bold.",
        "Plain.",
        "Another definition.",
        "An item of two lines.",
        "Another one.",
        "The limit is 12.",
        "It - and no other - counts.",
        "The last one.",
    ]
