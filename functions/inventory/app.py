"""GET /, GET /inventory, GET /openapi.json and GET /docs, for everyone."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aws_lambda_powertools.event_handler.api_gateway import Response

from inventory import openapi
from ticketing.http import Handler, Request, cacheable_response, json_response, to_item_id
from ticketing.limits import CACHE_SECONDS
from ticketing.rules import FIRST_ITEM_ID
from ticketing.schemas import Inventory, Service
from ticketing.wiring import Services

SERVICE: Final = Service(
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


def service(_request: Request, _services: Services) -> Response[str]:
    return json_response(SERVICE)


def inventory(request: Request, services: Services) -> Response[str]:
    asked_for = request.query("item_id")
    item_id = FIRST_ITEM_ID if asked_for is None else to_item_id(asked_for)
    request.log["item_id"] = item_id
    state = services.catalogue.recent_inventory(item_id)
    return cacheable_response(request, Inventory.of(state), seconds=int(CACHE_SECONDS))


def openapi_document(_request: Request, _services: Services) -> Response[str]:
    return Response(
        HTTPStatus.OK, "application/json", openapi.document(), {"Cache-Control": "max-age=300"}
    )


def docs(_request: Request, _services: Services) -> Response[str]:
    return Response(
        HTTPStatus.OK, "text/html; charset=utf-8", openapi.page(), {"Cache-Control": "max-age=300"}
    )


ROUTES: Final[Mapping[str, Handler]] = {
    "GET /": service,
    "GET /inventory": inventory,
    "GET /openapi.json": openapi_document,
    "GET /docs": docs,
}
