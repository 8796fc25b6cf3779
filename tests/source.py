"""The product's source as data: its functions, and where each name is used.

`python -m tests.source` lists the private functions with one caller and the unused public names.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ccapi"
# Decorators after which a function is called by our own code alone, as without them.
_PLAIN_DECORATORS = {
    "cache", "cached_property", "classmethod", "contextmanager", "lru_cache", "property",
    "staticmethod",
}  # fmt: skip

_WITHOUT_FRAMEWORK = {"archive", "db", "model", "repository", "service"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Definition(NamedTuple):
    """A function, a class or a constant of the product; `scope` is its module or class."""

    path: Path
    scope: ast.Module | ast.ClassDef
    node: ast.AST
    name: str

    def __str__(self) -> str:
        """Describe the place as compilers do."""
        line = getattr(self.node, "lineno", 0)
        return f"{self.path.relative_to(ROOT)}:{line}: {self.name}"


@cache
def modules() -> dict[Path, ast.Module]:
    """Parse every module of the product."""
    return {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def functions() -> list[Definition]:
    """Return every function and method; nested functions have the scope of the outer one."""
    return [
        definition
        for path, module in modules().items()
        for definition in _functions(path, module, module)
    ]


def _functions(path: Path, scope: ast.Module | ast.ClassDef, node: ast.AST) -> Iterator[Definition]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield Definition(path, scope, child, child.name)
        yield from _functions(path, child if isinstance(child, ast.ClassDef) else scope, child)


def single_use_helpers() -> list[Definition]:
    """Return the private functions that one place in the product uses, and only one.

    A function that a framework calls does not count: it is decorated, or overrides another.
    """
    definitions = functions()
    number = Counter(definition.name for definition in definitions)
    everywhere = sum((_uses(module) for module in modules().values()), Counter[str]())
    return [
        one
        for one in definitions
        if one.name.startswith("_")
        and not one.name.endswith("__")
        and not _is_hook(one.node)
        and (everywhere if number[one.name] == 1 else _uses(one.scope))[one.name]
        - _uses(one.node)[one.name]
        == 1
    ]


def single_caller_helpers() -> list[Definition]:
    """Return the single-use helpers without callbacks, which a library calls."""
    called = {
        _reference(node.func)
        for module in modules().values()
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
    }
    return [
        one
        for one in single_use_helpers()
        if one.name in called or _decorators(one.node) & {"property", "cached_property"}
    ]


def _is_hook(node: ast.AST) -> bool:
    return bool(_decorators(node) - _PLAIN_DECORATORS)


def _decorators(node: ast.AST) -> set[str | None]:
    """Return the names of the decorators, without their modules and arguments."""
    assert isinstance(node, Function)
    return {
        _reference(one.func if isinstance(one, ast.Call) else one) for one in node.decorator_list
    }


@cache
def _uses(tree: ast.AST) -> Counter[str]:
    """Count the uses of each name."""
    return Counter(filter(None, map(_reference, ast.walk(tree))))


def _reference(node: ast.AST) -> str | None:
    match node:
        case ast.Name(ctx=ast.Load()):
            return node.id
        case ast.Attribute(ctx=ast.Load()):
            return node.attr
    return None


def unused_public_names() -> list[Definition]:
    """Return the public functions, classes and constants of modules that no code uses.

    Methods count below the HTTP layer, where no framework calls them.
    """
    uses = Counter(_reference(node) for module in modules().values() for node in ast.walk(module))
    return [definition for definition in _public_names() if not uses[definition.name]]


def _public_names() -> Iterator[Definition]:
    for path, module in modules().items():
        scopes: list[ast.Module | ast.ClassDef] = [module]
        if path.relative_to(PACKAGE).parts[0] in _WITHOUT_FRAMEWORK:
            scopes += [node for node in module.body if isinstance(node, ast.ClassDef)]
        for scope in scopes:
            for node in scope.body:
                is_hook = isinstance(node, Function) and _is_hook(node)
                for name in [] if is_hook else _names(node, scope):
                    if not name.startswith("_"):
                        yield Definition(path, scope, node, name)


def _names(node: ast.stmt, scope: ast.AST) -> list[str]:
    """Return what a statement defines; members of enums and fields of rows are data."""
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.Assign() if isinstance(scope, ast.Module):
            return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def main() -> None:
    """List what there is."""
    helpers, number = single_caller_helpers(), len(functions())
    print(*helpers, sep="\n")
    print(
        f"{len(helpers)} of {number} functions are private with one caller:"
        f" {len(helpers) / number:.1%}; with callbacks {len(single_use_helpers())}\n"
    )
    print("Unused public names:", *unused_public_names(), sep="\n")


if __name__ == "__main__":
    main()
