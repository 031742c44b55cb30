"""The OpenAPI 3.1 document, made from the schemas that validate the bodies, and Swagger UI."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from string import Template
from typing import Any, Final

import msgspec

from ticketing.http import Code
from ticketing.limits import ITEM_ID_MAX, KEY_LENGTH_MAX, KEY_LENGTH_MIN
from ticketing.schemas import (
    KEY_PATTERN,
    AuditReport,
    BuyTicket,
    Inventory,
    Problem,
    Receipt,
    ResetSale,
    Service,
)

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
    """Return method and path → summary of each route; the original system's routes first."""
    original = ("POST /buy_ticket", "GET /inventory", "POST /reset", "GET /docs")
    routes = {
        f"{method.upper()} {path}": operation["summary"]
        for path, operations in _Paths({}).all().items()
        for method, operation in operations.items()
    }
    return {
        route: routes[route]
        for route in (*original, *(route for route in routes if route not in original))
    }


@cache
def document() -> str:
    """Return the document as JSON."""
    shapes = (BuyTicket, ResetSale, Receipt, Inventory, AuditReport, Service, Problem)
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
            "tags": [{"name": "buyers"}, {"name": "everyone"}, {"name": "organisers"}],
            "paths": _Paths(schemas).all(),
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
    """Return Swagger UI as one page that needs no other host. Its files come with Powertools."""
    assets = files("aws_lambda_powertools") / "event_handler" / "openapi" / "swagger_ui"
    return _PAGE.substitute(
        title=TITLE,
        css=(assets / "swagger-ui.min.css").read_text(),
        js=(assets / "swagger-ui-bundle.min.js").read_text(),
    )


@dataclass(frozen=True)
class _Paths:
    """The document's paths. schemas: body → reference to its schema."""

    schemas: Mapping[Any, Any]

    def all(self) -> dict[str, dict[str, Any]]:
        return self._buyers() | self._everyone() | self._organisers()

    def _buyers(self) -> dict[str, dict[str, Any]]:
        return {
            "/buy_ticket": {
                "post": self._operation(
                    "buyers",
                    "buy_ticket",
                    "Purchase a ticket",
                    self._ok(Receipt, HTTPStatus.CREATED, links=_RECEIPT)
                    | self._ok(Receipt, headers=_REPLAYED, links=_RECEIPT)
                    | self._problems(_MALFORMED, _NOT_FOUND, _CONFLICT, _OUT_OF_BOUNDS),
                    parameters=[_IDEMPOTENCY_KEY],
                    requestBody=self._body(BuyTicket),
                )
            },
            "/purchases/{purchase_id}": {
                "get": self._operation(
                    "buyers",
                    "get_purchase",
                    "Look up a receipt",
                    self._ok(Receipt) | self._problems(_NOT_FOUND, _OUT_OF_BOUNDS),
                    parameters=[
                        _parameter("purchase_id", "path", {"type": "string", "format": "uuid"})
                    ],
                )
            },
        }

    def _everyone(self) -> dict[str, dict[str, Any]]:
        return {
            "/": {
                "get": self._operation(
                    "everyone",
                    "service",
                    "Name, version and routes",
                    self._ok(Service) | self._problems(),
                )
            },
            "/inventory": {
                "get": self._operation(
                    "everyone",
                    "inventory",
                    "Check inventory status",
                    self._ok(Inventory, headers=_ETAG)
                    | _NOT_MODIFIED
                    | self._problems(_MALFORMED, _NOT_FOUND, _OUT_OF_BOUNDS),
                    parameters=[
                        _parameter("item_id", "query", _ITEM_ID | {"default": 1}, required=False),
                        _parameter("If-None-Match", "header", {"type": "string"}, required=False),
                    ],
                )
            },
            "/docs": {
                "get": self._operation(
                    "everyone",
                    "docs",
                    "Interactive API documentation",
                    _PAGE_RESPONSE | self._problems(),
                )
            },
            "/openapi.json": {
                "get": self._operation(
                    "everyone", "openapi", "OpenAPI document", self._ok(None) | self._problems()
                )
            },
        }

    def _organisers(self) -> dict[str, dict[str, Any]]:
        return {
            "/reset": {
                "post": self._operation(
                    "organisers",
                    "reset",
                    "Reset inventory (testing only)",
                    self._ok(Inventory, headers=_REPLAYED)
                    | self._unsigned()
                    | self._problems(_MALFORMED, _CONFLICT, _OUT_OF_BOUNDS),
                    parameters=[_IDEMPOTENCY_KEY],
                    security=_SIGNED,
                    requestBody=self._body(ResetSale),
                )
            },
            "/audit/{item_id}": {
                "get": self._operation(
                    "organisers",
                    "audit",
                    "Compare the purchase records with the counters",
                    self._ok(AuditReport)
                    | self._unsigned()
                    | self._problems(_NOT_FOUND, _OUT_OF_BOUNDS),
                    security=_SIGNED,
                    parameters=[
                        _parameter("item_id", "path", _ITEM_ID),
                        _parameter("cursor", "query", {"type": "string"}, required=False),
                    ],
                )
            },
        }

    def _ok(self, shape: Any, status: HTTPStatus = HTTPStatus.OK, **more: Any) -> dict[str, Any]:
        content = {"application/json": {"schema": self.schemas.get(shape, {})}}
        return {str(status.value): {"description": status.phrase, "content": content, **more}}

    def _problems(self, *statuses: HTTPStatus) -> dict[str, Any]:
        content = {"application/problem+json": {"schema": self.schemas.get(Problem, {})}}
        return {
            str(status.value): {"description": status.phrase, "content": content}
            | ({"headers": _RETRY_AFTER} if status is HTTPStatus.SERVICE_UNAVAILABLE else {})
            for status in (*statuses, *_EVERY_ROUTE)
        }

    def _unsigned(self) -> dict[str, Any]:
        # API Gateway's own response. The local stack cannot shape it: there it has AWS's shape.
        response = self._problems(HTTPStatus.FORBIDDEN)["403"]
        response["content"] |= {
            "application/json": {"schema": {"type": "object", "required": ["message"]}}
        }
        return {"403": response}

    def _body(self, shape: Any) -> dict[str, Any]:
        content = {"application/json": {"schema": self.schemas.get(shape, {})}}
        return {"required": False, "content": content}

    @staticmethod
    def _operation(
        tag: str, name: str, summary: str, responses: Mapping[str, Any], **more: Any
    ) -> dict[str, Any]:
        head = {"tags": [tag], "operationId": name, "summary": summary}
        return {**head, **more, "responses": responses}


def _parameter(
    name: str, where: str, schema: Any, *, required: bool = True, **more: Any
) -> dict[str, Any]:
    return {"name": name, "in": where, "required": required, "schema": schema, **more}


_MALFORMED: Final = HTTPStatus.BAD_REQUEST
_NOT_FOUND: Final = HTTPStatus.NOT_FOUND
_CONFLICT: Final = HTTPStatus.CONFLICT
_OUT_OF_BOUNDS: Final = HTTPStatus.UNPROCESSABLE_ENTITY
_EVERY_ROUTE: Final = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_SIGNED: Final[Any] = [{"sigv4": []}]
_ITEM_ID: Final = {"type": "integer", "minimum": 1, "maximum": ITEM_ID_MAX}
_IDEMPOTENCY_KEY: Final = _parameter(
    "Idempotency-Key",
    "header",
    {
        "type": "string",
        "minLength": KEY_LENGTH_MIN,
        "maxLength": KEY_LENGTH_MAX,
        "pattern": KEY_PATTERN,
    },
    required=False,
    description=(
        "A fresh UUID for each purchase or reset, and the same UUID for every retry of it. "
        "It takes effect once."
    ),
)
_RECEIPT: Final = {
    "receipt": {
        "operationId": "get_purchase",
        "parameters": {"purchase_id": "$response.body#/purchase_id"},
    }
}
_REPLAYED: Final = {
    "Idempotent-Replayed": {
        "description": "An earlier request with this key took effect.",
        "schema": {"const": "true"},
    }
}
_ETAG: Final = {"ETag": {"description": "Send it as If-None-Match.", "schema": {"type": "string"}}}
_PAGE_RESPONSE: Final = {
    "200": {"description": "OK", "content": {"text/html": {"schema": {"type": "string"}}}}
}
_NOT_MODIFIED: Final = {"304": {"description": "Not Modified"}}
_RETRY_AFTER: Final = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
