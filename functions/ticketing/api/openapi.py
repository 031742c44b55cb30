"""The OpenAPI 3.1 document, made from the routes and their schemas, and Swagger UI."""

from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from string import Template
from typing import Any, Final

import msgspec

from ticketing.api.problems import MEDIA_TYPE, Code
from ticketing.api.request import JSON
from ticketing.api.routes import (
    CONFIRM_HOLD,
    EXTEND_HOLD,
    GET_HOLD,
    GET_PURCHASE,
    HOLD_TICKETS,
    REFUND_PURCHASE,
    RELEASE_HOLD,
    ROUTES,
    Audience,
    Parameter,
    Route,
    Success,
)
from ticketing.api.schemas import Hold, Problem, Receipt

TITLE: Final = "High-Concurrency Inventory System"
VERSION: Final = "2.0.0"

_PAGE: Final = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$css</style>
</head>
<body>
<div id="swagger-ui"></div>
<script>$js</script>
<script>
SwaggerUIBundle({
  // Beside this page, whatever stage or base path that is.
  url: new URL("openapi.json", location.href.replace(/\\/$$/, "")).href,
  dom_id: "#swagger-ui",
});
</script>
</body>
</html>
""")


@cache
def document() -> str:
    """Return the document as JSON."""
    bodies = [route.body for route in ROUTES]
    bodies += [success.body for route in ROUTES for success in route.successes]
    shapes = list(dict.fromkeys([*filter(None, bodies), Problem]))
    references, components = msgspec.json.schema_components(
        shapes, ref_template="#/components/schemas/{name}"
    )
    schemas = dict(zip(shapes, references, strict=True))
    schemas_components: dict[str, Any] = dict(components)
    problem_schema = schemas_components["Problem"]
    problem_schema["properties"]["code"]["enum"] = sorted(Code)
    problem_schema["required"].remove(
        "status"
    )  # API Gateway's own problems cannot tell their status
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": TITLE,
                "version": VERSION,
                "summary": "A ticket sale that sells exactly its stock.",
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": ".", "description": "where this document is"}],
            "tags": [{"name": audience} for audience in Audience],
            "paths": _paths(schemas),
            "components": {
                "schemas": schemas_components,
                "securitySchemes": {
                    "sigv4": {
                        "type": "apiKey",
                        "name": "Authorization",
                        "in": "header",
                        "description": "AWS Signature Version 4, service execute-api.",
                        "x-amazon-apigateway-authtype": "awsSigv4",
                    },
                    "buyer": {
                        "type": "apiKey",
                        "name": "Authorization",
                        "in": "header",
                        "description": "The buyer's ID token, where buyers have to sign in.",
                    },
                },
            },
        }
    ).decode()


@cache
def page() -> str:
    """Return Swagger UI as one page that needs no other host. Its files come with Powertools."""
    assets = files("aws_lambda_powertools") / "event_handler" / "openapi" / "swagger_ui"
    return _PAGE.substitute(
        title=TITLE,
        css=(assets / "swagger-ui.min.css").read_text(),
        js=(assets / "swagger-ui-bundle.min.js").read_text(),
    )


def _paths(schemas: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the document's paths. schemas: body → reference to its schema."""
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return paths


def _operation(route: Route, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": [route.audience],
        "operationId": route.name,
        "summary": route.summary,
        "parameters": [_parameter(each) for each in route.parameters],
        "responses": {
            **{str(each.status.value): _success(route, each, schemas) for each in route.successes},
            **{
                str(status.value): _problem(route, status, schemas)
                for status in sorted(route.problem_statuses)
            },
        },
    }
    if route.body:
        content = {JSON: {"schema": schemas[route.body]}}
        operation["requestBody"] = {"required": False, "content": content}
    if route.is_signed:
        operation["security"] = [{"sigv4": []}]
    if route.names_buyer:
        operation["security"] = [{}, {"buyer": []}]  # by what the service was deployed with
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described = {"description": parameter.description} if parameter.description else {}
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required,
        "schema": parameter.schema,
        **described,
    }


def _success(route: Route, success: Success, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": success.status.phrase}
    if success.status is not HTTPStatus.NOT_MODIFIED:
        response["content"] = {
            each: {"schema": schemas.get(success.body, {}) if each == JSON else {"type": "string"}}
            for each in success.media_types
        }
    if success.headers:
        response["headers"] = {name: _HEADERS[name] for name in success.headers}
    if success.body is Receipt and route is not GET_PURCHASE:
        response["links"] = _RECEIPT_LINKS
    if success.body is Hold and route is HOLD_TICKETS:
        response["links"] = _HOLD_LINKS
    return response


def _problem(route: Route, status: HTTPStatus, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": status.phrase,
        "content": {MEDIA_TYPE: {"schema": schemas[Problem]}},
    }
    waits = status is HTTPStatus.CONFLICT and Code.SALE_NOT_OPEN in route.all_codes
    if waits or status is HTTPStatus.SERVICE_UNAVAILABLE:
        response["headers"] = {"Retry-After": _HEADERS["Retry-After"]}
    if status in {HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED}:
        # API Gateway's own response. The local stack cannot shape it: there it has AWS's shape.
        response["content"][JSON] = {"schema": {"type": "object", "required": ["message"]}}
    return response


def _links(parameter: str, routes: Mapping[str, Route]) -> dict[str, Any]:
    """Return links from a response to the routes of what it names. routes: name → route."""
    return {
        name: {
            "operationId": route.name,
            "parameters": {parameter: f"$response.body#/{parameter}"},
        }
        for name, route in routes.items()
    }


_RECEIPT_LINKS: Final = _links("purchase_id", {"receipt": GET_PURCHASE, "refund": REFUND_PURCHASE})
_HOLD_LINKS: Final = _links(
    "hold_id",
    {route.name: route for route in (GET_HOLD, CONFIRM_HOLD, EXTEND_HOLD, RELEASE_HOLD)},
)
_HEADERS: Final = {
    "Idempotent-Replayed": {
        "description": "An earlier request with this key took effect.",
        "schema": {"const": "true"},
    },
    "Link": {
        "description": 'The next part, with rel="next"; the last one has none (RFC 8288).',
        "schema": {"type": "string"},
    },
    "ETag": {"description": "Send it as If-None-Match.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
}
