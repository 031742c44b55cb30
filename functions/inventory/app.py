"""GET /, GET /inventory, GET /openapi.json and GET /docs, for everyone."""

from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler.api_gateway import Response

from inventory import openapi
from ticketing.catalogue import CACHE_SECONDS, FIRST_ITEM_ID, Catalogue
from ticketing.http import (
    cacheable_response,
    create_api,
    current_request,
    json_response,
    serve,
    to_item_id,
)
from ticketing.schemas import Inventory, Service
from ticketing.settings import Settings
from ticketing.store import Store, connect

api = create_api()
catalogue = Catalogue(Store(connect(), Settings.from_environment().table_name))

SERVICE = Service(
    service=openapi.TITLE,
    version=openapi.VERSION,
    endpoints=openapi.endpoints(),
    concurrency_model=(
        "One DynamoDB transaction: "
        "conditional update of sharded stock (stock > :zero) + purchase record"
    ),
    guarantees=[
        "Zero overselling (inventory never negative)",
        "Zero underselling (no ticket stranded, no deadlocks)",
        "Works across multiple processes, machines and crashes",
        "Exactly once: an Idempotency-Key buys once, however often it is sent",
        "The purchase records add up to the counters",
        "A success is durable; an unknown outcome is never reported as a failure",
        "Every request ends within its time budget",
    ],
)


@api.get("/")
def service() -> Response[str]:
    return json_response(SERVICE)


@api.get("/inventory")
def inventory() -> Response[str]:
    request = current_request(api)
    asked_for = request.query("item_id")
    item_id = FIRST_ITEM_ID if asked_for is None else to_item_id(asked_for)
    request.log["item_id"] = item_id
    return cacheable_response(
        request, Inventory.of(catalogue.recent_inventory(item_id)), seconds=int(CACHE_SECONDS)
    )


@api.get("/openapi.json")
def openapi_document() -> Response[str]:
    return Response(
        HTTPStatus.OK, "application/json", openapi.document(), {"Cache-Control": "max-age=300"}
    )


@api.get("/docs")
def docs() -> Response[str]:
    return Response(
        HTTPStatus.OK, "text/html; charset=utf-8", openapi.page(), {"Cache-Control": "max-age=300"}
    )


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return serve(api, event, context)
