"""The API's document, /api/openapi.json (Swagger 2.0), and the page to try it, /api/docs.

flask-smorest collects operations and schemas; `contract_document` changes where the contract's
own document differs.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any

import flask_swagger_ui
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask import Blueprint, Flask, Response, redirect, render_template, request
from flask_smorest import Api as SmorestApi
from marshmallow import Schema, fields

from ccapi import __version__
from ccapi.http import errors, json_format
from ccapi.http.schema import ContractSchema, EnumField, ErrorResponse

BASE_PATH = "/api"
_PAGE = f"{BASE_PATH}/docs"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)
_PAGE_FILES = f"{_PAGE}/static"
_DOCUMENT = f"{BASE_PATH}/openapi.json"
_INFO = {
    "description": f"ccapi {__version__}, the job registry of an HPC site.",
    "contact": {
        "name": "ClusterCockpit Project",
        "url": "https://github.com/ClusterCockpit",
        "email": "support@clustercockpit.org",
    },
    "license": {"name": "MIT License", "url": "https://opensource.org/licenses/MIT"},
}
_TOKEN_HEADER = {"type": "apiKey", "name": "X-Auth-Token", "in": "header"}


class _Converter(OpenAPIConverter):
    """Schemas as the contract writes them."""

    def schema2jsonschema(self, schema: Schema) -> dict[str, Any]:
        """Omit additionalProperties, which the contract's objects do not have; add examples."""
        if isinstance(schema, ContractSchema) and schema.json_schema is not None:
            return {**schema.json_schema}
        document: dict[str, Any] = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call] # apispec
        document.pop("additionalProperties", None)
        if isinstance(schema, ContractSchema) and schema.example is not None:
            document["example"] = schema.example
        return document

    def field2required(self, field: fields.Field[Any], **kwargs: Any) -> dict[str, Any]:
        """Omit `required: false`, which is the default."""
        required: dict[str, Any] = super().field2required(field, **kwargs)
        return required if required["required"] else {}


class _MarshmallowPlugin(MarshmallowPlugin):
    Converter = _Converter


class Api(SmorestApi):  # type: ignore[misc] # flask-smorest ships no types
    """Documents the operations of the blueprints that are registered with it."""

    ERROR_SCHEMA = ErrorResponse
    DEFAULT_ERROR_RESPONSE_NAME = None


def create(
    app: Flask,
    enums: Iterable[type[EnumField]],
    path_parameters: Mapping[str, Mapping[str, Any]],
    *,
    at_root: bool,
) -> Api:
    """Serve the document, and the page to try it; `at_root`, / redirects to that page.

    `enums` are fields with a definition of their own; `path_parameters` describes the integers
    in paths, by name.
    """
    app.config.update(
        API_TITLE="ClusterCockpit REST API", API_VERSION="0.2.0", OPENAPI_VERSION="2.0"
    )
    plugin = _MarshmallowPlugin(schema_name_resolver=attrgetter("definition"))
    api = Api(
        app,
        spec_kwargs={"marshmallow_plugin": plugin, "info": _INFO, "basePath": BASE_PATH},
    )
    errors.register(app)  # in place of flask-smorest's
    converter = plugin.converter
    assert converter is not None
    converter.map_to_openapi_type(EnumField, None, None)

    def enum_reference(_: Any, field: fields.Field[Any], **__: Any) -> dict[str, Any]:
        """Refer to the definition of an enumeration."""
        if isinstance(field, EnumField):
            return {"allOf": [{"$ref": f"#/definitions/{field.definition}"}]}
        return {}

    converter.add_attribute_function(enum_reference)
    for field in enums:
        words = ["".join(map(str.capitalize, member.split("_"))) for member in field.enum]
        definition = {
            "type": "string",
            "enum": list(field.enum),
            "x-enum-varnames": [f"{field.enum.__name__}{word}" for word in words],
        }
        api.spec.components.schema(field.definition, definition)
    _serve(app, api, path_parameters)
    if at_root:
        app.add_url_rule("/", "root", lambda: redirect(_PAGE))
    return api


def _serve(app: Flask, api: Api, path_parameters: Mapping[str, Mapping[str, Any]]) -> None:
    files = f"{flask_swagger_ui.__path__[0]}/dist"
    docs = Blueprint(
        "docs",
        __name__,
        template_folder="templates",
        static_folder=files,
        static_url_path=_PAGE_FILES,
    )

    @docs.get(_DOCUMENT)
    def openapi_json() -> Response:
        """Serve the document; its host is the address that the client used."""
        content = contract_document(api.spec.to_dict(), path_parameters)
        body = json_format.dumps({**content, "host": request.host})
        return Response(body, content_type=json_format.CONTENT_TYPE)

    @docs.get(_PAGE)
    def docs_page() -> Response:
        """Serve the page to try the API; browsers run no other script than its own."""
        title = f"ccapi {__version__}"
        page = render_template("docs.html", title=title, files=_PAGE_FILES, document=_DOCUMENT)
        script = page.rpartition("<script>")[2].partition("</script>")[0]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy = _PAGE_POLICY.format(digest=digest)
        headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
        return Response(page, headers=headers, content_type="text/html; charset=utf-8")

    app.register_blueprint(docs)


def contract_document(
    document: Mapping[str, Any], path_parameters: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return flask-smorest's document as the contract writes it."""
    paths = {
        path.removeprefix(BASE_PATH): _path_item(item, path_parameters)
        for path, item in document["paths"].items()
    }
    return {
        **{key: document[key] for key in ("info", "swagger", "basePath", "definitions")},
        "host": "localhost:8080",
        "paths": paths,
        "securityDefinitions": {"ApiKeyAuth": _TOKEN_HEADER},
        "tags": [{"name": "Job API"}],
    }


def _path_item(
    item: Mapping[str, Any], path_parameters: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Give each operation the path's parameters, and its body the name "request"."""
    in_path = [
        {
            "in": "path",
            "name": parameter["name"],
            "required": True,
            "type": "integer",
            **path_parameters[parameter["name"]],
        }
        for parameter in item.get("parameters", ())
    ]
    operations = {}
    for method, operation in item.items():
        if method != "parameters":
            parameters = [
                {**parameter, "name": "request"} if parameter["in"] == "body" else parameter
                for parameter in operation.get("parameters", ())
            ]
            operations[method] = {**operation, "parameters": in_path + parameters}
    return operations
