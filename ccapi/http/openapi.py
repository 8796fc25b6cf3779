"""The contract as a document: /api/openapi.json (Swagger 2.0) and a page to try it.

flask-smorest collects the facts from schemas and operations; what it says differently
from the contract is put right here.
"""

from typing import Any

import flask_swagger_ui
import orjson
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask import Blueprint, Flask, Response, request
from flask_smorest import Api as SmorestApi
from marshmallow import Schema, fields

from ccapi.api.schemas import ErrorResponse
from ccapi.http import errors
from ccapi.http.fields import State
from ccapi.model.job import JobState

BASE_PATH = "/api"
_STATE = "schema.JobState"
_STATIC = "/api/docs/static"
_INFO = {
    "description": "The job registry of an HPC site.",
    "contact": {
        "name": "ClusterCockpit Project",
        "url": "https://github.com/ClusterCockpit",
        "email": "support@clustercockpit.org",
    },
    "license": {"name": "MIT License", "url": "https://opensource.org/licenses/MIT"},
}
_PATH_PARAMETERS = {"id": "Database id of the job", "ts": "Time, in epoch seconds"}
_TOKEN_HEADER = {"type": "apiKey", "name": "X-Auth-Token", "in": "header"}


class _Converter(OpenAPIConverter):
    """Schemas as the contract writes them."""

    def schema2jsonschema(self, schema: Schema) -> dict[str, Any]:
        """Leave out additionalProperties: the contract's objects do not have it."""
        document: dict[str, Any] = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call] # apispec
        document.pop("additionalProperties", None)
        return document

    def field2required(self, field: fields.Field[Any], **kwargs: Any) -> dict[str, Any]:
        """Leave out `required: false`, which is the default."""
        found: dict[str, Any] = super().field2required(field, **kwargs)
        return found if found["required"] else {}


class _MarshmallowPlugin(MarshmallowPlugin):
    Converter = _Converter


def _state_reference(_: Any, field: fields.Field[Any], **__: Any) -> dict[str, Any]:
    """Let a job's state refer to the one definition of the states."""
    return {"allOf": [{"$ref": f"#/definitions/{_STATE}"}]} if isinstance(field, State) else {}


class Api(SmorestApi):  # type: ignore[misc] # flask-smorest ships no types
    """Documents the app's operations and serves the document; errors have their own module."""

    ERROR_SCHEMA = ErrorResponse
    DEFAULT_ERROR_RESPONSE_NAME = None

    def _register_error_handlers(self) -> None:
        errors.register(self._app)

    def _openapi_json(self) -> Response:
        """Serve the document, with the address by which it was asked for as its host."""
        document = {**contract(self.spec.to_dict()), "host": request.host}
        return Response(orjson.dumps(document), content_type="application/json")


def contract(document: dict[str, Any]) -> dict[str, Any]:
    """Put right what flask-smorest says differently from the contract."""
    paths = {
        path.removeprefix(BASE_PATH): _path_item(item) for path, item in document["paths"].items()
    }
    kept = {key: document[key] for key in ("info", "swagger", "basePath", "definitions")}
    return {
        **kept,
        "host": "localhost:8080",
        "paths": paths,
        "securityDefinitions": {"ApiKeyAuth": _TOKEN_HEADER},
        "tags": [{"name": "Job API"}],
    }


def _path_item(item: dict[str, Any]) -> dict[str, Any]:
    """Give each operation the path's parameters, and the body its name."""
    of_path = [_path_parameter(parameter["name"]) for parameter in item.get("parameters", ())]
    operations = {method: value for method, value in item.items() if method != "parameters"}
    return {
        method: {
            **operation,
            "parameters": of_path + [_named(given) for given in operation.get("parameters", ())],
        }
        for method, operation in operations.items()
    }


def _path_parameter(name: str) -> dict[str, Any]:
    return {
        "in": "path",
        "name": name,
        "required": True,
        "type": "integer",
        "description": _PATH_PARAMETERS[name],
    }


def _named(parameter: dict[str, Any]) -> dict[str, Any]:
    return {**parameter, "name": "request"} if parameter["in"] == "body" else parameter


def create(app: Flask) -> Api:
    """Serve the document under /api/openapi.json and the page under /api/docs."""
    app.config.update(
        API_TITLE="ClusterCockpit REST API",
        API_VERSION="0.2.0",
        OPENAPI_VERSION="2.0",
        OPENAPI_URL_PREFIX=BASE_PATH,
        OPENAPI_JSON_PATH="openapi.json",
        OPENAPI_SWAGGER_UI_PATH="/docs",
        OPENAPI_SWAGGER_UI_URL=f"{_STATIC}/",
        OPENAPI_SWAGGER_UI_CONFIG={"validatorUrl": None, "tryItOutEnabled": True},
    )
    page_files = f"{flask_swagger_ui.__path__[0]}/dist"
    app.register_blueprint(
        Blueprint("docs", __name__, static_folder=page_files, static_url_path=_STATIC)
    )
    plugin = _MarshmallowPlugin(schema_name_resolver=_definition_name)
    api = Api(
        app,
        spec_kwargs={"marshmallow_plugin": plugin, "info": _INFO, "basePath": BASE_PATH},
    )
    converter = plugin.converter
    assert converter is not None
    converter.map_to_openapi_type(State, None, None)
    converter.add_attribute_function(_state_reference)
    api.spec.components.schema(
        _STATE,
        {
            "type": "string",
            "enum": list(JobState),
            "x-enum-varnames": [_go_name(state) for state in JobState],
        },
    )
    return api


def _definition_name(schema: Schema | type[Schema]) -> str:
    return str(getattr(schema.Meta, "name", ""))


def _go_name(state: JobState) -> str:
    return "JobState" + "".join(word.capitalize() for word in state.split("_"))
