"""The API's request and response bodies. The OpenAPI document is made from them."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct, field

from ticketing.errors import InvalidRequest
from ticketing.limits import (
    BODY_BYTES_MAX,
    BUYER_ID_LENGTH_MAX,
    GENERATION_MAX,
    HOLD_SECONDS_DEFAULT,
    HOLD_SECONDS_MAX,
    HOLD_SECONDS_MIN,
    ITEM_ID_MAX,
    ITEM_NAME_LENGTH_MAX,
    KEY_LENGTH_MAX,
    KEY_LENGTH_MIN,
    PAYMENT_REFERENCE_LENGTH_MAX,
    PER_BUYER_LIMIT_MAX,
    QUANTITY_MAX,
    SHARDS_MAX,
    STOCK_MAX,
    TICKETS_PER_SHARD,
)
from ticketing.model import AuditResult, Purchase, SaleState
from ticketing.rules import FIRST_ITEM_ID, timestamp

# Visible ASCII; `$` alone would accept a final line feed.
VISIBLE_ASCII_PATTERN: Final = "^[!-~]+(?!\n)$"
KEY_PATTERN: Final = f"^[!-~]{{{KEY_LENGTH_MIN},{KEY_LENGTH_MAX}}}(?!\n)$"

type ItemId = Annotated[
    int, Meta(ge=1, le=ITEM_ID_MAX, description="The item; 1 is the first sale.", examples=[1])
]


class BuyTicket(Struct, frozen=True, forbid_unknown_fields=True):
    """What to buy. An empty body buys one ticket of item 1."""

    item_id: ItemId = FIRST_ITEM_ID
    quantity: Annotated[
        int, Meta(ge=1, le=QUANTITY_MAX, description="Tickets: all of them or none.", examples=[1])
    ] = 1
    # Visible ASCII only: Unicode spells one name in several ways, and a buyer would have several.
    buyer_id: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=BUYER_ID_LENGTH_MAX,
                pattern=VISIBLE_ASCII_PATTERN,
                description=(
                    "The buyer: visible ASCII, for example an account id. Left out where buyers "
                    "sign in: then it is the `sub` of the token."
                ),
                examples=["buyer-42"],
            ),
        ]
        | None
    ) = None


class HoldTickets(BuyTicket, frozen=True, forbid_unknown_fields=True):
    """What to hold. An empty body holds one ticket of item 1."""


class ConfirmHold(Struct, frozen=True, forbid_unknown_fields=True):
    """How a hold was paid for. An empty body confirms it without a payment."""

    payment_reference: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=PAYMENT_REFERENCE_LENGTH_MAX,
                pattern=VISIBLE_ASCII_PATTERN,
                description=(
                    "The payment provider's id of the payment: visible ASCII. It pays for one hold."
                ),
                examples=["pay-2026-0042"],
            ),
        ]
        | None
    ) = None


class ResetSale(Struct, frozen=True, forbid_unknown_fields=True):
    """How the sale starts again.

    Stock, name, seconds and limit keep their values where they are left out.
    """

    item_id: ItemId = FIRST_ITEM_ID
    stock: (
        Annotated[int, Meta(ge=0, le=STOCK_MAX, description="Tickets for sale.", examples=[100])]
        | None
    ) = None
    item_name: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=ITEM_NAME_LENGTH_MAX,
                pattern="^(?=.*\\S)[^\\x00-\\x1f\\x7f-\\x9f]+(?!\n)$",
                description="Shown to buyers: no control characters, and not only blanks.",
                examples=["Item A - Concert Ticket"],
            ),
        ]
        | None
    ) = None
    shards: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=SHARDS_MAX,
                description=(
                    "Stock shards; each sells at most some 160 tickets a second. "
                    f"Left out: one for every {TICKETS_PER_SHARD} tickets."
                ),
                examples=[4],
            ),
        ]
        | None
    ) = None
    hold_seconds: (
        Annotated[
            int,
            Meta(
                ge=HOLD_SECONDS_MIN,
                le=HOLD_SECONDS_MAX,
                description=(
                    "How long a hold lasts. "
                    f"Left out: as before, or {HOLD_SECONDS_DEFAULT} for a new item."
                ),
                examples=[HOLD_SECONDS_DEFAULT],
            ),
        ]
        | None
    ) = None
    per_buyer_limit: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=PER_BUYER_LIMIT_MAX,
                description=(
                    "How many tickets a buyer may hold and have bought together; each order then "
                    "needs a buyer_id. 0: any number. Left out: as before."
                ),
                examples=[4],
            ),
        ]
        | None
    ) = None
    expected_generation: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=GENERATION_MAX,
                description=(
                    "Reset only a sale of this generation, which GET /inventory shows. "
                    "0: only a new item."
                ),
                examples=[1],
            ),
        ]
        | None
    ) = None


class RefundPurchase(Struct, frozen=True, forbid_unknown_fields=True):
    """How much of a purchase to refund. An empty body refunds all of it."""

    quantity: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=QUANTITY_MAX,
                description="Tickets to refund. Left out: as many as were bought.",
                examples=[1],
            ),
        ]
        | None
    ) = None


class Receipt(Struct, frozen=True):
    """A purchase. Every request with the same key gets this receipt; only refunds change it."""

    purchase_id: Annotated[
        str, Meta(description="UUID; GET /purchases/{purchase_id} returns this receipt.")
    ]
    item_id: int
    quantity: int
    status: Annotated[
        str,
        Meta(
            description="confirmed; refunded where all of its tickets are.", examples=["confirmed"]
        ),
    ]
    buyer_id: str | None
    purchased_at: Annotated[str, Meta(description="ISO 8601, UTC.")]
    generation: Annotated[
        int, Meta(description="The generation of the sale that this purchase belongs to.")
    ]
    refunded_quantity: Annotated[
        int, Meta(ge=0, description="Tickets of this purchase that were refunded.")
    ]

    @classmethod
    def of(cls, purchase: Purchase) -> "Receipt":
        return cls(
            purchase_id=purchase.purchase_id,
            item_id=purchase.item_id,
            quantity=purchase.quantity,
            status=purchase.status,
            buyer_id=purchase.buyer_id,
            purchased_at=purchase.purchased_at,
            generation=purchase.generation,
            refunded_quantity=purchase.refunded_quantity,
        )


class Hold(Struct, frozen=True):
    """Tickets that are held for a buyer until `expires_at`."""

    hold_id: Annotated[
        str, Meta(description="UUID; it is the purchase_id when the hold is confirmed.")
    ]
    item_id: int
    quantity: int
    status: Annotated[
        str,
        Meta(
            description="held, expired, released; confirmed or refunded where it was confirmed.",
            examples=["held"],
        ),
    ]
    buyer_id: str | None
    held_at: Annotated[str, Meta(description="ISO 8601, UTC.")]
    expires_at: Annotated[
        str, Meta(description="Until then the tickets are kept for the buyer; ISO 8601, UTC.")
    ]
    extended: Annotated[bool, Meta(description="It was extended, which is possible once.")]
    generation: Annotated[
        int, Meta(description="The generation of the sale that this hold belongs to.")
    ]

    @classmethod
    def of(cls, hold: Purchase) -> "Hold":
        return cls(
            hold_id=hold.purchase_id,
            item_id=hold.item_id,
            quantity=hold.quantity,
            status=hold.status,
            buyer_id=hold.buyer_id,
            held_at=hold.created_at,
            expires_at=timestamp(hold.expires_at or 0),
            extended=hold.extended_at is not None,
            generation=hold.generation,
        )


class Inventory(Struct, frozen=True):
    """The state of a sale: current_stock + held + total_purchases = initial_stock."""

    item_id: int
    item_name: str
    current_stock: Annotated[int, Meta(ge=0, description="Tickets that can be bought now.")]
    initial_stock: int
    total_purchases: Annotated[
        int, Meta(description="Tickets sold: a purchase of three counts as three.")
    ]
    last_updated: Annotated[str, Meta(description="When a ticket last moved; ISO 8601, UTC.")]
    held: Annotated[int, Meta(description="Tickets of holds that have not expired.")]
    generation: Annotated[int, Meta(description="Counts the resets of the sale.")]
    shard_count: int
    hold_seconds: Annotated[
        int | None, Meta(description="How long a hold lasts; null: the sale has no holds.")
    ]
    per_buyer_limit: Annotated[
        int | None,
        Meta(
            description=(
                "How many tickets a buyer may hold and have bought together; null: any number."
            )
        ),
    ]

    @classmethod
    def of(cls, inventory: SaleState) -> "Inventory":
        return cls(
            item_id=inventory.sale.item_id,
            item_name=inventory.sale.item_name,
            current_stock=inventory.free,
            initial_stock=inventory.sale.capacity,
            total_purchases=inventory.sold,
            last_updated=inventory.updated_at,
            held=inventory.held,
            generation=inventory.sale.generation,
            shard_count=inventory.sale.shard_count,
            hold_seconds=inventory.sale.hold_seconds,
            per_buyer_limit=inventory.sale.per_buyer_limit,
        )


class AuditReport(Struct, frozen=True):
    """The counters and the purchase records of the current generation, counted separately."""

    item_id: int
    item_name: str
    generation: int
    capacity: int
    stock: int
    held: int
    sold: int
    purchase_records: int
    tickets_in_records: int
    agrees: Annotated[
        bool, Meta(description="All records were counted, and they agree with the counters.")
    ]
    complete: Annotated[
        bool, Meta(description="All records were counted. If not, continue with the cursor.")
    ]
    cursor: Annotated[
        str | None,
        Meta(
            description=(
                "Sent as the parameter `cursor`, the audit continues where its time was over."
            )
        ),
    ]
    problems: Annotated[
        Sequence[str],
        Meta(description="Differences, by shard and by record."),
    ]
    checked_at: str

    @classmethod
    def of(cls, result: AuditResult) -> "AuditReport":
        return cls(
            item_id=result.sale.item_id,
            item_name=result.sale.item_name,
            generation=result.sale.generation,
            capacity=result.sale.capacity,
            stock=result.stock,
            held=result.held,
            sold=result.sold,
            purchase_records=result.purchase_records,
            tickets_in_records=result.tickets_in_records,
            agrees=result.cursor is None and not result.problems,
            complete=result.cursor is None,
            cursor=result.cursor,
            problems=result.problems,
            checked_at=result.checked_at,
        )


class Service(Struct, frozen=True):
    """Name, version and routes of this service."""

    service: str
    version: str
    endpoints: Mapping[str, str]
    concurrency_model: str
    guarantees: Sequence[str]


class Problem(Struct, frozen=True, omit_defaults=True):
    """An error (RFC 9457). `code` is stable; `detail` is for people."""

    title: str
    status: int
    code: str
    detail: str
    request_id: str
    type: str = field(default="about:blank")
    field: str | None = None
    left: (
        Annotated[
            int,
            Meta(
                description=(
                    "Where too few: tickets left to buy, to refund, or of the buyer's limit."
                )
            ),
        ]
        | None
    ) = None
    next_release_at: (
        Annotated[
            str,
            Meta(
                description=(
                    "When the first held tickets come back, if they are not bought; ISO 8601, UTC."
                )
            ),
        ]
        | None
    ) = None
    payment_reference: (
        Annotated[str, Meta(description="The payment to refund: it has paid for nothing.")] | None
    ) = None
    purchase_id: (
        Annotated[
            str,
            Meta(description="The purchase or hold of an attempt in doubt: it may have been made."),
        ]
        | None
    ) = None
    reason: (
        Annotated[str, Meta(description="For busy: contention, store_unavailable or in_doubt.")]
        | None
    ) = None


def decode[T](body: bytes, shape: type[T]) -> T:
    """Return the body as a `shape`; an empty body has all defaults.

    Raises InvalidRequest with the field and the remedy.
    """
    if len(body) > BODY_BYTES_MAX:
        raise InvalidRequest(
            f"The body has {len(body)} bytes; at most {BODY_BYTES_MAX} are allowed.",
            field="body",
            status=400,
        )
    content = body.strip(b" \t\r\n") or b"{}"
    try:
        decoded = msgspec.json.decode(content, type=shape)
        _REFUSE_REPEATED_FIELDS.decode(content.decode())
    except msgspec.ValidationError as error:
        unknown = re.fullmatch("Object contains unknown field `(.*)`", str(error), re.DOTALL)
        if unknown:
            raise InvalidRequest(
                "There is no such field. Leave it out.", field=unknown[1]
            ) from error
        text, _, path = str(error).partition(" - at `$.")
        raise InvalidRequest(f"{text}.", field=path.rstrip("`") or "body") from error
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise InvalidRequest(f"The body is not JSON: {error}.", field="body", status=400) from error
    return decoded


def _refuse_repeated_fields(fields: Sequence[tuple[str, Any]]) -> None:
    """Raise InvalidRequest for a field that is there twice: readers differ in which one counts."""
    names = [name for name, _ in fields]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(
                f"The field was sent {names.count(name)} times. Send it once.",
                field=name,
                status=400,
            )


_REFUSE_REPEATED_FIELDS: Final = json.JSONDecoder(object_pairs_hook=_refuse_repeated_fields)
