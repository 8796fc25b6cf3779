"""What the views get from the app that serves them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

from flask import Flask, current_app, g

from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.http.cache import Sharing

_KEY = "ccapi"
_SHARING = "ccapi sharing"


def attach(app: Flask, context: Context, sharing: Sharing) -> None:
    """Let the app's views work on a registry, and share what they may."""
    app.extensions[_KEY] = context
    app.extensions[_SHARING] = sharing


def context(app: Flask | None = None) -> Context:
    """Return the registry that an app serves, the current one without any."""
    if app is None and "context" in g:
        return cast("Context", g.context)
    return cast("Context", (app or current_app).extensions[_KEY])


@contextmanager
def reading_from(database: Database) -> Iterator[None]:
    """Let the current request's view find the registry on another database, to read it there."""
    g.context = replace(context(), database=database)
    try:
        yield
    finally:
        del g.context


def sharing() -> Sharing:
    """Return what the current app's requests share."""
    return cast("Sharing", current_app.extensions[_SHARING])
