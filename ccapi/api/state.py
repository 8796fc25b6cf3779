"""What the views get from the app that serves them."""

from typing import cast

from flask import Flask, current_app

from ccapi.service.registry import Registry

_KEY = "ccapi"


def attach(app: Flask, registry: Registry) -> None:
    """Let the app's views work on a registry."""
    app.extensions[_KEY] = registry


def registry() -> Registry:
    """Return the registry that the current app serves."""
    return cast("Registry", current_app.extensions[_KEY])
