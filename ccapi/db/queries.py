"""Load the named queries and the migrations in sql/."""

import re
from functools import cache, lru_cache
from pathlib import Path

import aiosql

_PACKAGE = Path(__file__).resolve().parent.parent
_FRAGMENT = re.compile(r"\{\{([a-z_]+)\}\}")
_SLOT = re.compile(r"\{\{([A-Z_]+)\}\}")
_PART_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_PARAMETER = re.compile(r"(?<!:):([a-z]\w*)")
_COMMENT_LINE = re.compile(r"^\s*--.*\n", re.MULTILINE)


def sql_directory() -> Path:
    """Find sql/: inside the package when installed from a wheel, beside it in a checkout."""
    installed = _PACKAGE / "sql"
    return installed if installed.is_dir() else _PACKAGE.parent / "sql"


@cache
def fragment(name: str) -> str:
    """Read sql/fragments/<name>.sql without its comments: SQL that several queries share."""
    text = (sql_directory() / "fragments" / f"{name}.sql").read_text("utf-8")
    return _FRAGMENT.sub(lambda match: fragment(match[1]), _COMMENT_LINE.sub("", text).strip())


def load(name: str) -> dict[str, str]:
    """Read sql/queries/<name>.sql as query name -> SQL with %(name)s parameters.

    {{name}} includes a fragment; fill() replaces {{NAME}}. Each query carries its name in a
    comment, so that pg_stat_statements and the server's log show where it comes from.
    """
    text = (sql_directory() / "queries" / f"{name}.sql").read_text("utf-8")
    text = _FRAGMENT.sub(lambda match: fragment(match[1]), text)
    queries = aiosql.from_str(text, "psycopg", mandatory_parameters=False)
    return {
        query: f"/* ccapi {query} */ {getattr(queries, query).sql}"
        for query in queries.available_queries
        if not query.endswith("_cursor")
    }


def parts(name: str) -> dict[str, str]:
    """Read sql/filters/<name>.sql as part name -> SQL; fill() makes statements of parts."""
    return {
        name: _PARAMETER.sub(r"%(\1)s", sql)
        for name, sql in _split(sql_directory() / "filters" / f"{name}.sql").items()
    }


def sqlite(name: str) -> dict[str, str]:
    """Read sql/sqlite/<name>.sql as statement name -> SQL, with SQLite's :name parameters."""
    return _split(sql_directory() / "sqlite" / f"{name}.sql")


def _split(path: Path) -> dict[str, str]:
    _, *names_and_parts = _PART_NAME.split(path.read_text("utf-8"))
    named = zip(names_and_parts[::2], names_and_parts[1::2], strict=True)
    return {name: _COMMENT_LINE.sub("", sql).strip() for name, sql in named}


@lru_cache(maxsize=1000)
def fill(sql: str, **parts: str) -> str:
    """Replace each {{NAME}} of a query by a part of sql/filters/, or several.

    The same text comes back for the same parts, so psycopg parses it once.
    """
    while _SLOT.search(sql):  # A part may have a slot, too.
        sql = _SLOT.sub(lambda match: parts[match[1].lower()], sql)
    return sql
