"""Load the named queries and the migrations in sql/."""

import re
from functools import cache
from pathlib import Path

import aiosql

_PACKAGE = Path(__file__).resolve().parent.parent
_FRAGMENT = re.compile(r"\{\{(\w+)\}\}")
_COMMENT_LINE = re.compile(r"^\s*--.*\n", re.MULTILINE)


def sql_directory() -> Path:
    """Find sql/: inside the package when installed from a wheel, beside it in a checkout."""
    installed = _PACKAGE / "sql"
    return installed if installed.is_dir() else _PACKAGE.parent / "sql"


@cache
def fragment(name: str) -> str:
    """Read sql/fragments/<name>.sql without its comments: SQL that several queries share."""
    text = (sql_directory() / "fragments" / f"{name}.sql").read_text("utf-8")
    return _COMMENT_LINE.sub("", text).strip()


def load(name: str) -> dict[str, str]:
    """Read sql/queries/<name>.sql as query name -> SQL with %(name)s parameters.

    {{name}} includes a fragment. Each query carries its name in a comment, so that
    pg_stat_statements and the server's log show where it comes from.
    """
    text = (sql_directory() / "queries" / f"{name}.sql").read_text("utf-8")
    text = _FRAGMENT.sub(lambda match: fragment(match[1]), text)
    queries = aiosql.from_str(text, "psycopg", mandatory_parameters=False)
    return {
        query: f"/* ccapi {query} */ {getattr(queries, query).sql}"
        for query in queries.available_queries
        if not query.endswith("_cursor")
    }
