"""The OpenAPI 3.1 document of the whole API, made from the schemas that validate it, and Swagger UI over it."""

from collections.abc import Mapping, Sequence
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from string import Template
from typing import Any, Final

import msgspec

from ticketing.http import PROBLEMS
from ticketing.rules import MAX_ITEM_ID
from ticketing.schemas import KEY_PATTERN, Audit, BuyTicket, Inventory, Problem, Receipt, Reset, Service

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


def endpoints() -> dict[str, str]:
    """Method and path of each route → what it does; the routes of the original system first."""
    original = ("POST /buy_ticket", "GET /inventory", "POST /reset", "GET /docs")
    routes = {
        f"{method.upper()} {path}": operation["summary"]
        for path, operations in _paths({}).items()
        for method, operation in operations.items()
    }
    return {route: routes[route] for route in (*original, *(route for route in routes if route not in original))}


@cache
def document() -> str:
    """The document as JSON."""
    shapes = (BuyTicket, Reset, Receipt, Inventory, Audit, Service, Problem)
    references, components = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    schemas = dict(zip(shapes, references, strict=True))
    schemas_components: dict[str, Any] = dict(components)
    problem_schema = schemas_components["Problem"]
    problem_schema["properties"]["code"]["enum"] = sorted(PROBLEMS)
    problem_schema["required"].remove("status")  # the gateway cannot tell its own, where it answers by itself
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
            "tags": [{"name": "buyers"}, {"name": "everybody"}, {"name": "organisers"}],
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
                    }
                },
            },
        }
    ).decode()


@cache
def page() -> str:
    """Swagger UI, whole, in one page: no other host is asked. Its files come with Powertools."""
    assets = files("aws_lambda_powertools") / "event_handler" / "openapi" / "swagger_ui"
    return _PAGE.substitute(
        title=TITLE,
        css=(assets / "swagger-ui.min.css").read_text(),
        js=(assets / "swagger-ui-bundle.min.js").read_text(),
    )


def _paths(schemas: Mapping[Any, Any]) -> dict[str, dict[str, Any]]:
    def ok(shape: Any, status: HTTPStatus = HTTPStatus.OK, **more: Any) -> dict[str, Any]:
        content = {"application/json": {"schema": schemas.get(shape, {})}}
        return {str(status.value): {"description": status.phrase, "content": content, **more}}

    def problems(*statuses: HTTPStatus) -> dict[str, Any]:
        content = {"application/problem+json": {"schema": schemas.get(Problem, {})}}
        usual = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE)
        return {
            str(status.value): {"description": status.phrase, "content": content}
            | ({"headers": _RETRY_AFTER} if status is HTTPStatus.SERVICE_UNAVAILABLE else {})
            for status in (*statuses, *usual)
        }

    def unsigned() -> dict[str, Any]:
        # The gateway's own answer; where it cannot be given our shape (the local stack), it has AWS's.
        answer = problems(HTTPStatus.FORBIDDEN)["403"]
        answer["content"] |= {"application/json": {"schema": {"type": "object", "required": ["message"]}}}
        return {"403": answer}

    def operation(tag: str, name: str, summary: str, responses: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        return {"tags": [tag], "operationId": name, "summary": summary, **more, "responses": responses}

    def body(shape: Any) -> dict[str, Any]:
        return {"required": False, "content": {"application/json": {"schema": schemas.get(shape, {})}}}

    bad, unprocessable = HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY
    missing, taken = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT
    signed: Sequence[Any] = [{"sigv4": []}]
    return {
        "/buy_ticket": {
            "post": operation(
                "buyers",
                "buy_ticket",
                "Purchase a ticket",
                ok(Receipt, HTTPStatus.CREATED, links=_RECEIPT)
                | ok(Receipt, headers=_REPLAYED, links=_RECEIPT)
                | problems(bad, missing, taken, unprocessable),
                parameters=[_IDEMPOTENCY_KEY],
                requestBody=body(BuyTicket),
            )
        },
        "/purchases/{purchase_id}": {
            "get": operation(
                "buyers",
                "get_purchase",
                "Look a receipt up",
                ok(Receipt) | problems(missing, unprocessable),
                parameters=[_parameter("purchase_id", "path", {"type": "string", "format": "uuid"})],
            )
        },
        "/": {"get": operation("everybody", "service", "What this is", ok(Service) | problems())},
        "/inventory": {
            "get": operation(
                "everybody",
                "inventory",
                "Check inventory status",
                ok(Inventory, headers=_ETAG) | _NOT_MODIFIED | problems(bad, missing, unprocessable),
                parameters=[
                    _parameter("item_id", "query", _ITEM_ID | {"default": 1}, required=False),
                    _parameter("If-None-Match", "header", {"type": "string"}, required=False),
                ],
            )
        },
        "/docs": {
            "get": operation(
                "everybody",
                "docs",
                "Interactive API documentation",
                {"200": {"description": "OK", "content": {"text/html": {"schema": {"type": "string"}}}}} | problems(),
            )
        },
        "/openapi.json": {
            "get": operation("everybody", "openapi", "OpenAPI document", ok(None) | problems()),
        },
        "/reset": {
            "post": operation(
                "organisers",
                "reset",
                "Reset inventory (testing only)",
                ok(Inventory, headers=_REPLAYED) | unsigned() | problems(bad, taken, unprocessable),
                parameters=[_IDEMPOTENCY_KEY],
                security=signed,
                requestBody=body(Reset),
            )
        },
        "/audit/{item_id}": {
            "get": operation(
                "organisers",
                "audit",
                "Compare the purchase records with the counters",
                ok(Audit) | unsigned() | problems(missing, unprocessable),
                security=signed,
                parameters=[
                    _parameter("item_id", "path", _ITEM_ID),
                    _parameter("cursor", "query", {"type": "string"}, required=False),
                ],
            )
        },
    }


def _parameter(name: str, where: str, schema: Any, *, required: bool = True, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "required": required, "schema": schema, **more}


_ITEM_ID: Final = {"type": "integer", "minimum": 1, "maximum": MAX_ITEM_ID}
_IDEMPOTENCY_KEY: Final = _parameter(
    "Idempotency-Key",
    "header",
    {"type": "string", "minLength": 16, "maxLength": 255, "pattern": KEY_PATTERN},
    required=False,
    description="A fresh UUID for each purchase or reset, and the same one on every retry of it. It takes effect once.",
)
_RECEIPT: Final = {
    "receipt": {"operationId": "get_purchase", "parameters": {"purchase_id": "$response.body#/purchase_id"}}
}
_REPLAYED: Final = {
    "Idempotent-Replayed": {"description": "An earlier request with this key took effect.", "schema": {"const": "true"}}
}
_ETAG: Final = {"ETag": {"description": "Send it as If-None-Match.", "schema": {"type": "string"}}}
_NOT_MODIFIED: Final = {"304": {"description": "Not Modified"}}
_RETRY_AFTER: Final = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
