"""The routes: each is defined here once.

The handler tables, `GET /` and the OpenAPI document are made from these. Tests compare them with
template.yaml, with the events and with the README.
"""

from copy import replace
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

from msgspec import Struct

from ticketing.api.problems import Code
from ticketing.api.request import JSON
from ticketing.api.schemas import (
    CSV,
    JSON_LINES,
    KEY_PATTERN,
    AuditReport,
    BuyTicket,
    ConfirmHold,
    Format,
    Hold,
    HoldTickets,
    Inventory,
    ItemList,
    PutItem,
    Receipt,
    RefundPurchase,
    RepairReport,
    RepairSale,
    ResetSale,
    Service,
)
from ticketing.limits import (
    GENERATION_MAX,
    ITEM_ID_MAX,
    KEY_LENGTH_MAX,
    KEY_LENGTH_MIN,
    PAGE_ITEMS_DEFAULT,
    PAGE_ITEMS_MAX,
)
from ticketing.rules import FIRST_ITEM_ID


class Audience(StrEnum):
    """Who calls a route. Organisers sign their requests with SigV4 (AWS_IAM)."""

    BUYERS = "buyers"
    EVERYONE = "everyone"
    ORGANISERS = "organisers"


class Parameter(Struct, frozen=True):
    """A parameter. where: path, query or header. schema: JSON Schema."""

    name: str
    where: str
    schema: Any
    description: str = ""
    required: bool = False


class Success(Struct, frozen=True):
    """A response without a problem. body: None where it has no schema."""

    status: HTTPStatus
    body: type[Struct] | None
    media_types: tuple[str, ...] = (JSON,)
    headers: tuple[str, ...] = ()


class Route(Struct, frozen=True, eq=False):
    """One route.

    body: of the request, which may be empty. codes: see `all_codes`. names_buyer: API Gateway may
    demand that the buyer has signed in, and says then who it is.
    """

    method: str
    path: str
    name: str
    audience: Audience
    summary: str
    successes: tuple[Success, ...]
    codes: tuple[Code, ...] = ()
    body: type[Struct] | None = None
    parameters: tuple[Parameter, ...] = ()
    names_buyer: bool = False

    def __str__(self) -> str:
        """Return method and path: "GET /inventory"."""
        return f"{self.method} {self.path}"

    @property
    def is_signed(self) -> bool:
        """Return whether API Gateway demands a signature."""
        return self.audience is Audience.ORGANISERS

    @property
    def query(self) -> frozenset[str]:
        """Return the names of the query parameters."""
        return frozenset(each.name for each in self.parameters if each.where == "query")

    @property
    def all_codes(self) -> frozenset[Code]:
        """Return every problem code of the route: its own, and those of every route.

        A query parameter that it does not have is an invalid request on every route.
        """
        gateway = {Code.FORBIDDEN} if self.is_signed else set()
        if self.names_buyer:
            gateway.add(Code.UNAUTHORIZED)
        return frozenset(
            {*self.codes, Code.INVALID_REQUEST, Code.BUSY, Code.INTERNAL_ERROR, *gateway}
        )

    @property
    def problem_statuses(self) -> frozenset[HTTPStatus]:
        """Return the status of each problem."""
        statuses = {code.status for code in self.all_codes} | {HTTPStatus.TOO_MANY_REQUESTS}
        has_header = any(each.where == "header" for each in self.parameters)
        if self.body or has_header:
            statuses.add(HTTPStatus.BAD_REQUEST)  # an unreadable body, a header sent twice
        return frozenset(statuses)


_ITEM_ID: Final = {"type": "integer", "minimum": 1, "maximum": ITEM_ID_MAX}
_IDEMPOTENCY_KEY: Final = Parameter(
    "Idempotency-Key",
    "header",
    {
        "type": "string",
        "minLength": KEY_LENGTH_MIN,
        "maxLength": KEY_LENGTH_MAX,
        "pattern": KEY_PATTERN,
    },
    "A fresh UUID for each purchase, hold, refund or change of an item, and the same UUID for "
    "every retry of it. It takes effect once.",
)
_IF_NONE_MATCH: Final = Parameter("If-None-Match", "header", {"type": "string"})
_PURCHASE_ID: Final = Parameter(
    "purchase_id", "path", {"type": "string", "format": "uuid"}, required=True
)

# Of an order that is refused.
_ORDER_CODES: Final = (
    Code.SOLD_OUT,
    Code.NOT_ENOUGH_LEFT,
    Code.ALL_HELD,
    Code.BUYER_LIMIT_REACHED,
    Code.SALE_NOT_OPEN,
    Code.IDEMPOTENCY_KEY_REUSED,
    Code.NOT_FOUND,
)

BUY_TICKET: Final = Route(
    "POST",
    "/buy_ticket",
    "buy_ticket",
    Audience.BUYERS,
    "Purchase a ticket",
    (
        Success(HTTPStatus.CREATED, Receipt),
        Success(HTTPStatus.OK, Receipt, headers=("Idempotent-Replayed",)),
    ),
    _ORDER_CODES,
    body=BuyTicket,
    parameters=(_IDEMPOTENCY_KEY,),
    names_buyer=True,
)
GET_INVENTORY: Final = Route(
    "GET",
    "/inventory",
    "inventory",
    Audience.EVERYONE,
    "Check inventory status",
    (
        Success(HTTPStatus.OK, Inventory, headers=("ETag",)),
        Success(HTTPStatus.NOT_MODIFIED, None),
    ),
    (Code.NOT_FOUND,),
    parameters=(
        Parameter("item_id", "query", _ITEM_ID | {"default": FIRST_ITEM_ID}),
        _IF_NONE_MATCH,
    ),
)
RESET: Final = Route(
    "POST",
    "/reset",
    "reset",
    Audience.ORGANISERS,
    "Reset inventory (testing only)",
    (Success(HTTPStatus.OK, Inventory, headers=("Idempotent-Replayed",)),),
    (Code.GENERATION_CHANGED, Code.CATALOGUE_FULL, Code.IDEMPOTENCY_KEY_REUSED),
    body=ResetSale,
    parameters=(_IDEMPOTENCY_KEY,),
)
GET_DOCS: Final = Route(
    "GET",
    "/docs",
    "docs",
    Audience.EVERYONE,
    "Interactive API documentation",
    (Success(HTTPStatus.OK, None, ("text/html",)),),
)
GET_PURCHASE: Final = Route(
    "GET",
    "/purchases/{purchase_id}",
    "get_purchase",
    Audience.BUYERS,
    "Look up a receipt",
    (Success(HTTPStatus.OK, Receipt),),
    (Code.NOT_FOUND,),
    parameters=(_PURCHASE_ID,),
)
REFUND_PURCHASE: Final = Route(
    "POST",
    "/purchases/{purchase_id}/refund",
    "refund_purchase",
    Audience.ORGANISERS,
    "Refund a purchase, whole or in part",
    (Success(HTTPStatus.OK, Receipt, headers=("Idempotent-Replayed",)),),
    (Code.REFUND_TOO_LARGE, Code.IDEMPOTENCY_KEY_REUSED, Code.NOT_FOUND),
    body=RefundPurchase,
    parameters=(_PURCHASE_ID, replace(_IDEMPOTENCY_KEY, required=True)),
)
_HOLD_ID: Final = replace(_PURCHASE_ID, name="hold_id")

HOLD_TICKETS: Final = Route(
    "POST",
    "/holds",
    "hold_tickets",
    Audience.BUYERS,
    "Hold tickets while the buyer pays",
    (
        Success(HTTPStatus.CREATED, Hold),
        Success(HTTPStatus.OK, Hold, headers=("Idempotent-Replayed",)),
    ),
    (*_ORDER_CODES, Code.HOLDS_NOT_OFFERED),
    body=HoldTickets,
    parameters=(_IDEMPOTENCY_KEY,),
    names_buyer=True,
)
GET_HOLD: Final = Route(
    "GET",
    "/holds/{hold_id}",
    "get_hold",
    Audience.BUYERS,
    "Look up a hold",
    (Success(HTTPStatus.OK, Hold),),
    (Code.NOT_FOUND,),
    parameters=(_HOLD_ID,),
)
CONFIRM_HOLD: Final = Route(
    "POST",
    "/holds/{hold_id}/confirm",
    "confirm_hold",
    Audience.BUYERS,
    "Buy the tickets of a hold, once",
    (
        Success(HTTPStatus.CREATED, Receipt),
        Success(HTTPStatus.OK, Receipt, headers=("Idempotent-Replayed",)),
    ),
    (
        Code.HOLD_EXPIRED,
        Code.HOLD_RELEASED,
        Code.ALREADY_PAID,
        Code.PAYMENT_REUSED,
        Code.NOT_FOUND,
    ),
    body=ConfirmHold,
    parameters=(_HOLD_ID,),
)
EXTEND_HOLD: Final = Route(
    "POST",
    "/holds/{hold_id}/extend",
    "extend_hold",
    Audience.BUYERS,
    "Extend a hold, once",
    (Success(HTTPStatus.OK, Hold, headers=("Idempotent-Replayed",)),),
    (Code.HOLD_EXPIRED, Code.HOLD_RELEASED, Code.HOLD_CONFIRMED, Code.NOT_FOUND),
    parameters=(_HOLD_ID,),
)
RELEASE_HOLD: Final = Route(
    "DELETE",
    "/holds/{hold_id}",
    "release_hold",
    Audience.BUYERS,
    "Release the tickets of a hold",
    (Success(HTTPStatus.OK, Hold, headers=("Idempotent-Replayed",)),),
    (Code.HOLD_CONFIRMED, Code.NOT_FOUND),
    parameters=(_HOLD_ID,),
)
GET_SERVICE: Final = Route(
    "GET",
    "/",
    "service",
    Audience.EVERYONE,
    "Name, version and routes",
    (Success(HTTPStatus.OK, Service),),
)
GET_OPENAPI: Final = Route(
    "GET",
    "/openapi.json",
    "openapi",
    Audience.EVERYONE,
    "OpenAPI document",
    (Success(HTTPStatus.OK, None),),
)
_ITEM_IN_PATH: Final = Parameter("item_id", "path", _ITEM_ID, required=True)

LIST_ITEMS: Final = Route(
    "GET",
    "/items",
    "list_items",
    Audience.EVERYONE,
    "List the items",
    (
        Success(HTTPStatus.OK, ItemList, headers=("ETag",)),
        Success(HTTPStatus.NOT_MODIFIED, None),
    ),
    parameters=(
        Parameter(
            "after",
            "query",
            {"type": "integer", "minimum": 0, "maximum": ITEM_ID_MAX, "default": 0},
            "Only items whose id is greater.",
        ),
        Parameter(
            "limit",
            "query",
            {
                "type": "integer",
                "minimum": 1,
                "maximum": PAGE_ITEMS_MAX,
                "default": PAGE_ITEMS_DEFAULT,
            },
            "Items on a page, at most.",
        ),
        _IF_NONE_MATCH,
    ),
)
PUT_ITEM: Final = Route(
    "PUT",
    "/items/{item_id}",
    "put_item",
    Audience.ORGANISERS,
    "Create an item, or change its sale",
    (
        Success(HTTPStatus.CREATED, Inventory),
        Success(HTTPStatus.OK, Inventory, headers=("Idempotent-Replayed",)),
    ),
    (
        Code.CAPACITY_TOO_LOW,
        Code.GENERATION_CHANGED,
        Code.CATALOGUE_FULL,
        Code.IDEMPOTENCY_KEY_REUSED,
    ),
    body=PutItem,
    parameters=(_ITEM_IN_PATH, _IDEMPOTENCY_KEY),
)
PAUSE_ITEM: Final = Route(
    "POST",
    "/items/{item_id}/pause",
    "pause_item",
    Audience.ORGANISERS,
    "Stop selling, until the sale is resumed",
    (Success(HTTPStatus.OK, Inventory, headers=("Idempotent-Replayed",)),),
    (Code.GENERATION_CHANGED, Code.IDEMPOTENCY_KEY_REUSED, Code.NOT_FOUND),
    parameters=(_ITEM_IN_PATH, _IDEMPOTENCY_KEY),
)
DELETE_ITEM: Final = Route(
    "DELETE",
    "/items/{item_id}",
    "delete_item",
    Audience.ORGANISERS,
    "Delete an item of which no ticket is sold or held",
    (Success(HTTPStatus.OK, Inventory, headers=("Idempotent-Replayed",)),),
    (
        Code.ITEM_IN_USE,
        Code.GENERATION_CHANGED,
        Code.IDEMPOTENCY_KEY_REUSED,
        Code.NOT_FOUND,
    ),
    parameters=(_ITEM_IN_PATH, _IDEMPOTENCY_KEY),
)
RESUME_ITEM: Final = replace(
    PAUSE_ITEM,
    path="/items/{item_id}/resume",
    name="resume_item",
    summary="Sell again, after a pause",
)
AUDIT: Final = Route(
    "GET",
    "/audit/{item_id}",
    "audit",
    Audience.ORGANISERS,
    "Compare the purchase records with the counters",
    (Success(HTTPStatus.OK, AuditReport),),
    (Code.NOT_FOUND,),
    parameters=(
        _ITEM_IN_PATH,
        Parameter("cursor", "query", {"type": "string"}),
    ),
)

REPAIR: Final = Route(
    "POST",
    "/audit/{item_id}/repair",
    "repair",
    Audience.ORGANISERS,
    "Make the counters what the purchase records say",
    (Success(HTTPStatus.OK, RepairReport),),
    (Code.NOT_FOUND,),
    body=RepairSale,
    parameters=(_ITEM_IN_PATH,),
)

EXPORT: Final = Route(
    "GET",
    "/export/{item_id}",
    "export",
    Audience.ORGANISERS,
    "Export the purchases of a sale, in parts",
    (Success(HTTPStatus.OK, None, (JSON_LINES, CSV), headers=("Link",)),),
    (Code.NOT_FOUND,),
    parameters=(
        _ITEM_IN_PATH,
        Parameter(
            "format",
            "query",
            {"type": "string", "enum": sorted(Format), "default": Format.JSON_LINES},
            "JSON lines, or CSV for a spreadsheet. The parts, one after the other, are one file; "
            "its last line is the total.",
        ),
        Parameter(
            "generation",
            "query",
            {"type": "integer", "minimum": 1, "maximum": GENERATION_MAX},
            "Whose purchases. Left out: those of the current generation.",
        ),
        Parameter(
            "holds",
            "query",
            {"type": "boolean", "default": False},
            "Also all holds, each in a line of its own; confirmed ones are purchases as well.",
        ),
        Parameter("cursor", "query", {"type": "string"}, "From the Link of the part before."),
    ),
)

_PAGE: Final = (
    Success(HTTPStatus.OK, None, ("text/html",), headers=("ETag",)),
    Success(HTTPStatus.NOT_MODIFIED, None),
)
GET_SHOP: Final = Route(
    "GET",
    "/shop",
    "shop",
    Audience.EVERYONE,
    "The shop: all items",
    _PAGE,
    parameters=(_IF_NONE_MATCH,),
)
GET_SHOP_ITEM: Final = Route(
    "GET",
    "/shop/{item_id}",
    "shop_item",
    Audience.EVERYONE,
    "The shop: buy tickets of an item",
    _PAGE,
    parameters=(_ITEM_IN_PATH, _IF_NONE_MATCH),
)
GET_BOARD: Final = Route(
    "GET",
    "/shop/{item_id}/board",
    "board",
    Audience.EVERYONE,
    "The live board of a sale",
    _PAGE,
    parameters=(_ITEM_IN_PATH, _IF_NONE_MATCH),
)
GET_ASSET: Final = Route(
    "GET",
    "/shop/assets/{name}",
    "asset",
    Audience.EVERYONE,
    "A file of the shop's pages",
    (Success(HTTPStatus.OK, None, ("text/css", "text/javascript")),),
    (Code.NOT_FOUND,),
    parameters=(Parameter("name", "path", {"type": "string"}, required=True),),
)

# The original system's routes first, as `GET /` shows them.
ROUTES: Final = (
    BUY_TICKET,
    GET_INVENTORY,
    RESET,
    GET_DOCS,
    HOLD_TICKETS,
    GET_HOLD,
    CONFIRM_HOLD,
    EXTEND_HOLD,
    RELEASE_HOLD,
    GET_PURCHASE,
    REFUND_PURCHASE,
    LIST_ITEMS,
    PUT_ITEM,
    PAUSE_ITEM,
    RESUME_ITEM,
    DELETE_ITEM,
    GET_SERVICE,
    GET_OPENAPI,
    AUDIT,
    REPAIR,
    EXPORT,
    GET_SHOP,
    GET_SHOP_ITEM,
    GET_BOARD,
    GET_ASSET,
)
