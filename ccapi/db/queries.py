"""The named queries and migrations in sql/."""

from pathlib import Path

import aiosql

_PACKAGE = Path(__file__).resolve().parent.parent


def sql_directory() -> Path:
    """Find sql/: inside the package when installed from a wheel, beside it in a checkout."""
    installed = _PACKAGE / "sql"
    return installed if installed.is_dir() else _PACKAGE.parent / "sql"


def load(name: str) -> dict[str, str]:
    """Read sql/queries/<name>.sql as query name -> SQL with %(name)s parameters.

    Each query carries its name in a comment, so that pg_stat_statements and the
    server's log tell where it comes from.
    """
    path = sql_directory() / "queries" / f"{name}.sql"
    queries = aiosql.from_path(path, "psycopg", mandatory_parameters=False)
    return {
        query: f"/* ccapi {query} */ {getattr(queries, query).sql}"
        for query in queries.available_queries
        if not query.endswith("_cursor")
    }
