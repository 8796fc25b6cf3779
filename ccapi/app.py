"""The only place that wires the parts: settings in, a WSGI application out."""

import logging
import sys
from collections.abc import Callable
from typing import Any

from flask import Flask

from ccapi import file_modes as permissions
from ccapi import logs
from ccapi.api import edits, health, jobs, metrics, reconciliation, statistics
from ccapi.archive import writer
from ccapi.config import Config, load
from ccapi.context import Context
from ccapi.db import migrations
from ccapi.db.pool import Database, Limits
from ccapi.db.replica import Replica
from ccapi.errors import ArchiveError, CcapiError, DatabaseUnavailable
from ccapi.http import current, openapi, request_log
from ccapi.http.cache import Sharing
from ccapi.http.cache_middleware import Shortcut

_log = logging.getLogger(__name__)
# gunicorn's word for "the application cannot be loaded": it ends instead of trying again.
_APP_LOAD_ERROR = 4


class _Service(Flask):
    """Flask that does not look, in each request, for asynchronous views and hooks: none is."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def application() -> Flask:
    """Build the service for a WSGI server; what keeps it from starting is one line."""
    try:
        return create_app()
    except CcapiError as error:
        print(f"ccapi: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        sys.exit(_APP_LOAD_ERROR)


def create_app(config: Config | None = None, context: Context | None = None) -> Flask:
    """Build the service; without a configuration, the one that files and environment give.

    Raises StartupError for bad settings, and when the database has pending migrations.
    A database that is down does not keep the service from starting, it answers 503
    until the database is back; an archive that is down neither: stops are kept.
    """
    config = config or load()
    logs.configure(config.log.level, config.log.format)
    for warning in permissions.warnings(config.secret_files, config.archive.root):
        _log.warning(warning)
    context = context or build_context(config)
    _prepare(context)
    app = _Service(__name__)
    app.config["MAX_BODY_BYTES"] = config.server.max_body_bytes
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    shared = Sharing(config.jobs.list_cache_seconds)
    current.attach(app, context, shared)
    served = request_log.RequestLogMiddleware(Shortcut(app.wsgi_app, shared))
    app.wsgi_app = served  # type: ignore[method-assign] # where Flask wants middleware
    health.create(app, context)
    if config.metrics.access != "off":
        metrics.create(app, open_to_all=config.metrics.access == "open")
    documented = openapi.create(app)
    for part in (jobs, statistics, reconciliation, edits):
        documented.register_blueprint(part.blueprint)
    return app


def build_context(config: Config) -> Context:
    """Connect the settings with what does the work; nothing is opened yet."""
    settings = config.database
    limits = Limits(
        pool_size=settings.pool_size,
        connect_timeout=settings.connect_timeout,
        pool_timeout=settings.pool_timeout,
        statement_timeout=settings.statement_timeout,
        lock_timeout=settings.lock_timeout,
    )
    return Context(
        database=Database(settings.url, limits),
        archive_root=config.archive.root,
        clusters=config.clusters,
        duplicate_window=config.jobs.duplicate_window,
        replica=(
            Replica(Database(settings.replica_url, limits), settings.replica_max_lag)
            if settings.replica_url
            else None
        ),
    )


def _prepare(context: Context) -> None:
    try:
        writer.create_if_missing(context.archive_root)
    except ArchiveError as error:
        _log.warning("starting without an archive: %s", error)
    try:
        migrations.require_current(context.database)
    except DatabaseUnavailable as error:
        _log.warning("starting without a database: %s", error)
