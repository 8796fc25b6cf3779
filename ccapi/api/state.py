"""What the views get from the app that serves them."""

from typing import cast

from flask import Flask, current_app

from ccapi.api.sharing import Sharing
from ccapi.service.registry import Registry

_KEY = "ccapi"
_SHARING = "ccapi sharing"


def attach(app: Flask, registry: Registry, sharing: Sharing) -> None:
    """Let the app's views work on a registry, and share what they may."""
    app.extensions[_KEY] = registry
    app.extensions[_SHARING] = sharing


def registry(app: Flask | None = None) -> Registry:
    """Return the registry that an app serves, the current one without any."""
    return cast("Registry", (app or current_app).extensions[_KEY])


def sharing() -> Sharing:
    """Return what the current app's requests share."""
    return cast("Sharing", current_app.extensions[_SHARING])
