"""The operating guide explains every line of level WARNING and above, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).resolve().parent.parent.parent
_LEVELS = {"warning", "error", "exception", "critical"}
_TERM = re.compile(r"^``(.+)``\n    (?:WARNING|ERROR), ", re.MULTILINE)


def test_the_guide_explains_every_warning_and_error_of_the_code() -> None:
    guide = (ROOT / "docs" / "monitoring.rst").read_text("utf-8")
    explained = _TERM.findall(guide.split("Log lines\n=========")[1])
    assert len(explained) == len(set(explained))
    assert set(explained) == set(logged()) | set(permission_warnings())


def logged() -> Iterator[str]:
    """Find the messages of the log calls; variable ones are those of `file_modes`."""
    for path in [*(ROOT / "ccapi").rglob("*.py"), *(ROOT / "deploy").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if is_log_call(node):
                message = node.args[0]
                if isinstance(message, ast.Constant):
                    yield re.sub(r"%[\d.]*[sdr]", "...", str(message.value))
                else:
                    assert ast.unparse(message) == "warning", f"{path}: {ast.unparse(node)}"


def is_log_call(node: ast.AST) -> TypeGuard[ast.Call]:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _LEVELS
        and ast.unparse(node.func.value).endswith("log")
    )


def permission_warnings() -> Iterator[str]:
    tree = ast.parse((ROOT / "ccapi" / "file_modes.py").read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.JoinedStr):
            parts = node.value.values
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "..." for part in parts
            )
