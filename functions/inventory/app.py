"""Everyone's routes: parse, one domain call, respond."""

from collections.abc import Mapping
from typing import Final

from ticketing.api import openapi
from ticketing.api.request import Reply, Request, cacheable, to_item_id
from ticketing.api.routes import (
    GET_DOCS,
    GET_INVENTORY,
    GET_OPENAPI,
    GET_SERVICE,
    LIST_ITEMS,
    ROUTES,
    Route,
)
from ticketing.api.schemas import Inventory, ItemList, Service
from ticketing.api.serving import Handler
from ticketing.limits import CACHE_SECONDS, ITEM_ID_MAX, PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX
from ticketing.rules import FIRST_ITEM_ID
from ticketing.wiring import Services

_FIVE_MINUTES: Final = {"Cache-Control": "max-age=300"}
SERVICE: Final = Service(
    service=openapi.TITLE,
    version=openapi.VERSION,
    endpoints={str(route): route.summary for route in ROUTES},
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


def service(_request: Request, _services: Services) -> Reply:
    return Reply(SERVICE)


def inventory(request: Request, services: Services) -> Reply:
    asked_for = request.query("item_id")
    item_id = FIRST_ITEM_ID if asked_for is None else to_item_id(asked_for)
    state = services.catalogue.recent_inventory(item_id, request.statistics)
    return cacheable(request, Reply(Inventory.of(state)), seconds=int(CACHE_SECONDS))


def list_items(request: Request, services: Services) -> Reply:
    after = request.number("after", 0, ITEM_ID_MAX) or 0
    count = request.number("limit", 1, PAGE_ITEMS_MAX) or PAGE_ITEMS_DEFAULT
    page = services.catalogue.page(after, count, request.statistics)
    return cacheable(request, Reply(ItemList.of(page)), seconds=int(CACHE_SECONDS))


def openapi_document(_request: Request, _services: Services) -> Reply:
    return Reply(openapi.document(), headers=_FIVE_MINUTES)


def docs(_request: Request, _services: Services) -> Reply:
    return Reply(openapi.page(), headers=_FIVE_MINUTES, media_type="text/html; charset=utf-8")


HANDLERS: Final[Mapping[Route, Handler[Services]]] = {
    GET_SERVICE: service,
    GET_INVENTORY: inventory,
    LIST_ITEMS: list_items,
    GET_OPENAPI: openapi_document,
    GET_DOCS: docs,
}
