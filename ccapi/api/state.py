"""What the views get from the app that serves them."""

from typing import cast

from flask import Flask, current_app

from ccapi.service.registry import Registry

_KEY = "ccapi"


def attach(app: Flask, registry: Registry) -> None:
    """Let the app's views work on a registry."""
    app.extensions[_KEY] = registry


def registry(app: Flask | None = None) -> Registry:
    """Return the registry that an app serves, the current one without any."""
    return cast("Registry", (app or current_app).extensions[_KEY])
