"""Build the WSGI application from the settings."""

import logging
import sys
from functools import partial

from flask import Flask

from ccapi import file_modes, logs, web
from ccapi.api import archive as archive_api
from ccapi.api import batch, edits, health, hosts, jobs, metrics, nodes, reconciliation, statistics
from ccapi.api.fields import PATH_PARAMETERS, State
from ccapi.archive import writer
from ccapi.archive.breaker import CircuitBreaker
from ccapi.config import Config, load
from ccapi.config.settings import Web
from ccapi.context import Context
from ccapi.db import migrations
from ccapi.db.budgets import Budgets
from ccapi.db.pool import Database, Limits
from ccapi.db.replica import Replica
from ccapi.db.slots import ARCHIVE_WAITS, Slots
from ccapi.errors import ArchiveError, CcapiError, DatabaseUnavailable
from ccapi.http import openapi
from ccapi.http.cache import Caches
from ccapi.http.request_log import RequestLogMiddleware
from ccapi.service import archive
from ccapi.web.proxy_login import ProxyLogin

_log = logging.getLogger(__name__)
# With this status of a worker, gunicorn gives up instead of trying again.
_APP_LOAD_ERROR = 4
# Of the workers, this share may wait for an archive that hangs.
_ARCHIVE_SHARE = 0.5


def application() -> Flask:
    """Build the service for a WSGI server; a failure is one line on standard error."""
    try:
        return create_app()
    except CcapiError as error:
        print(f"ccapi: {error}", file=sys.stderr)  # noqa: T201 - the log is not set up
        sys.exit(_APP_LOAD_ERROR)


def create_app(config: Config | None = None, context: Context | None = None) -> Flask:
    """Build the service, by default from the settings in files and environment.

    Raises StartupError for bad settings, an archive of another version, and pending
    migrations. Without its database the
    service starts all the same, and answers 503 until it is back. Without its archive, stopped
    jobs wait in the archive queue.
    """
    config = config or load()
    logs.configure(config.log.level, config.log.format)
    context = context or build_context(config)
    if not context.is_hub:
        _prepare_archive(config, context)
    try:
        migrations.require_current(context.database, config.database.site_number)
    except DatabaseUnavailable as error:
        _log.warning("starting without a database: %s", error)
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.server.max_body_bytes
    app.config["USED_NODES_OPEN_TO"] = config.server.used_nodes_open_to
    app.config["REFUSE_UNKNOWN_FIELDS"] = config.server.unknown_fields == "refuse"
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.extensions["ccapi"] = context
    app.extensions["ccapi_caches"] = Caches(config.jobs.list_cache_seconds)
    app.wsgi_app = RequestLogMiddleware(  # type: ignore[method-assign] # Flask's way
        app.wsgi_app, config.limits.min_send_rate
    )
    health.create(app, context)
    if config.metrics.access != "off":
        metrics.create(app, context, open_to_all=config.metrics.access == "open")
    api = openapi.create(app, [State], PATH_PARAMETERS, at_root=not config.web.enabled)
    for module in (jobs, batch, statistics, hosts, reconciliation, edits, nodes, archive_api):
        api.register_blueprint(module.blueprint)
    if config.web.enabled:
        web.create(app, config.web.job_links, _proxy_login(config.web))
    return app


def _prepare_archive(config: Config, context: Context) -> None:
    """Create the archive if it is missing; raises StartupError for another version."""

    def prepare() -> None:
        for warning in file_modes.warnings(config.secret_files, config.archive.root):
            _log.warning(warning)
        writer.create_if_missing(context.archive_root, context.archive_version, context.clusters)

    context.archive_io.on_recovery = partial(archive.recover, context)
    try:
        context.archive_io.run(prepare)
    except ArchiveError as error:
        _log.warning("starting without an archive: %s", error)


def _proxy_login(settings: Web) -> ProxyLogin:
    return ProxyLogin(
        user_header=settings.user_header,
        groups_header=settings.groups_header,
        addresses=settings.proxy_addresses,
        admin_groups=frozenset(settings.admin_groups),
        reader_groups=frozenset(settings.reader_groups),
    )


def build_context(config: Config) -> Context:
    """Make the context of the settings; connections are opened on first use."""
    settings = config.database
    limits = Limits(
        pool_size=settings.pool_size,
        connect_timeout=settings.connect_timeout,
        pool_timeout=settings.pool_timeout,
        statement_timeout=settings.statement_timeout,
        lock_timeout=settings.lock_timeout,
    )
    slots = Slots(config.limits.expensive_share, settings.pool_size)
    return Context(
        database=Database(settings.url, limits, slots),
        archive_root=config.archive.root,
        archive_version=config.archive.version,
        archive_io=CircuitBreaker(
            config.archive.timeout,
            partial(writer.require_writable, config.archive.root),
            Slots(_ARCHIVE_SHARE, settings.pool_size, ARCHIVE_WAITS).hold,
        ),
        clusters=config.clusters,
        budgets=Budgets(config.limits.database_seconds),
        duplicate_window=config.jobs.duplicate_window,
        is_hub=settings.hub,
        replica=(
            Replica(Database(settings.replica_url, limits, slots), settings.replica_max_lag)
            if settings.replica_url
            else None
        ),
    )
