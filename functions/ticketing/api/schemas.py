"""The API's request and response bodies. The OpenAPI document is made from them."""

import json
import re
from collections.abc import Mapping, Sequence
from copy import replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Self

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from ticketing.errors import InvalidRequest
from ticketing.limits import (
    AUDIT_RECORDS_MAX,
    BODY_BYTES_MAX,
    BUYER_ID_LENGTH_MAX,
    CURSOR_LENGTH_MAX,
    GENERATION_MAX,
    HOLD_SECONDS_DEFAULT,
    HOLD_SECONDS_MAX,
    HOLD_SECONDS_MIN,
    INSTANT_MAX,
    INSTANT_MIN,
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
from ticketing.model import (
    AuditResult,
    CataloguePage,
    Purchase,
    RepairResult,
    Sale,
    SaleSettings,
    SaleState,
)
from ticketing.rules import FIRST_ITEM_ID, timestamp

# Visible ASCII; `$` alone would accept a final line feed.
VISIBLE_ASCII_PATTERN: Final = "^[!-~]+(?!\n)$"
KEY_PATTERN: Final = f"^[!-~]{{{KEY_LENGTH_MIN},{KEY_LENGTH_MAX}}}(?!\n)$"

# A name has a character that can be seen. Those that cannot: white space, and what Unicode says to
# leave out where it is not supported (DerivedCoreProperties.txt, Default_Ignorable_Code_Point),
# with an empty Braille pattern. Inside a name they may stand: emoji and some scripts need them.
_NOT_VISIBLE: Final = (
    "\\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
NAME_PATTERN: Final = f"^(?=.*[^{_NOT_VISIBLE}])[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]+(?!\n)$"

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


class _SettingsBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What a sale is created, changed and started again with."""

    item_name: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=ITEM_NAME_LENGTH_MAX,
                pattern=NAME_PATTERN,
                description=(
                    "Shown to buyers letter for letter: no control characters, and something that "
                    "can be seen."
                ),
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
                    f"Left out: one for every {TICKETS_PER_SHARD} tickets; "
                    "as before in a sale that is changed, which may get more."
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
                    "Only where the sale has this generation, which GET /inventory shows. "
                    "0: only a new item."
                ),
                examples=[1],
            ),
        ]
        | None
    ) = None

    def _settings(self, capacity: int | None) -> SaleSettings:
        return SaleSettings(
            capacity=capacity,
            item_name=self.item_name,
            shard_count=self.shards,
            hold_seconds=self.hold_seconds,
            per_buyer_limit=self.per_buyer_limit,
        )


class ResetSale(_SettingsBody, frozen=True, forbid_unknown_fields=True):
    """How the sale starts again.

    Stock, name, seconds and limit keep their values where they are left out; its window is kept.
    """

    item_id: ItemId = FIRST_ITEM_ID
    stock: (
        Annotated[int, Meta(ge=0, le=STOCK_MAX, description="Tickets for sale.", examples=[100])]
        | None
    ) = None

    @property
    def settings(self) -> SaleSettings:
        return self._settings(self.stock)


class PutItem(_SettingsBody, frozen=True, forbid_unknown_fields=True):
    """What the item should be. What is left out stays as it is.

    A new item needs a name and a capacity.
    """

    capacity: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=STOCK_MAX,
                description="All tickets: free, held and sold. Not less than those held and sold.",
                examples=[100],
            ),
        ]
        | None
    ) = None
    opens_at: (
        Annotated[
            datetime,
            Meta(
                tz=True,
                description="When the sale begins; null: at once. ISO 8601 with a zone.",
                examples=["2026-12-01T10:00:00+01:00"],
            ),
        ]
        | UnsetType
        | None
    ) = UNSET
    closes_at: (
        Annotated[
            datetime,
            Meta(
                tz=True,
                description=(
                    "When the sale ends: at this instant nothing is sold any more; null: never. "
                    "ISO 8601 with a zone."
                ),
                examples=["2026-12-24T18:00:00+01:00"],
            ),
        ]
        | UnsetType
        | None
    ) = UNSET

    @property
    def settings(self) -> SaleSettings:
        """Return the settings. Raises InvalidRequest for an instant that is out of bounds."""
        return replace(
            self._settings(self.capacity),
            opens_at=_seconds(self.opens_at, "opens_at"),
            closes_at=_seconds(self.closes_at, "closes_at"),
        )


def _seconds(sent: datetime | UnsetType | None, field: str) -> float | UnsetType | None:
    """Return an instant in seconds since the epoch. Raises InvalidRequest."""
    if not isinstance(sent, datetime):
        return sent
    seconds = sent.timestamp()
    if not INSTANT_MIN <= seconds <= INSTANT_MAX:
        raise InvalidRequest(
            f"Send an instant between {timestamp(INSTANT_MIN)} and {timestamp(INSTANT_MAX)}.",
            field=field,
        )
    return seconds


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
    def of(cls, hold: Purchase) -> Self:
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


type OpensAt = Annotated[
    str | None, Meta(description="When the sale begins; ISO 8601, UTC. null: it has begun.")
]
type ClosesAt = Annotated[
    str | None, Meta(description="When the sale ends; ISO 8601, UTC. null: it does not end.")
]


def instant(seconds: float | None) -> str | None:
    """Return an instant as the API shows it; None where there is none."""
    return None if seconds is None else timestamp(seconds)


class Inventory(Struct, frozen=True):
    """The state of a sale: current_stock + held + total_purchases = initial_stock."""

    item_id: int
    item_name: str
    current_stock: Annotated[int, Meta(ge=0, description="Tickets that can be bought now.")]
    initial_stock: Annotated[int, Meta(ge=0, description="The capacity, which may have changed.")]
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
    state: Annotated[
        str,
        Meta(
            description=(
                "scheduled, open, paused or closed; sold_out where it is open and no ticket is "
                "free or held; deleted in the answer to DELETE."
            ),
            examples=["open"],
        ),
    ]
    opens_at: OpensAt
    closes_at: ClosesAt
    next_release_at: Annotated[
        str | None,
        Meta(
            description=(
                "When the first held tickets come back, if they are not bought; ISO 8601, UTC."
            )
        ),
    ]

    @classmethod
    def of(cls, inventory: SaleState) -> "Inventory":
        return cls(
            item_id=inventory.sale.item_id,
            item_name=inventory.sale.item_name,
            current_stock=inventory.free,
            initial_stock=inventory.capacity,
            total_purchases=inventory.sold,
            last_updated=inventory.updated_at,
            held=inventory.held,
            generation=inventory.sale.generation,
            shard_count=inventory.sale.shard_count,
            hold_seconds=inventory.sale.hold_seconds,
            per_buyer_limit=inventory.sale.per_buyer_limit,
            state="sold_out" if inventory.is_sold_out else inventory.phase,
            opens_at=instant(inventory.sale.opens_at),
            closes_at=instant(inventory.sale.closes_at),
            next_release_at=instant(inventory.next_release_at),
        )


class CatalogueItem(Struct, frozen=True):
    """One item of the catalogue. `GET /inventory` shows how many tickets it has left."""

    item_id: int
    item_name: str
    state: Annotated[str, Meta(description="scheduled, open, paused or closed.", examples=["open"])]
    opens_at: OpensAt
    closes_at: ClosesAt
    initial_stock: int
    generation: int
    hold_seconds: int | None
    per_buyer_limit: int | None

    @classmethod
    def of(cls, sale: Sale, now: float) -> "CatalogueItem":
        return cls(
            item_id=sale.item_id,
            item_name=sale.item_name,
            state=sale.phase(now),
            opens_at=instant(sale.opens_at),
            closes_at=instant(sale.closes_at),
            initial_stock=sale.capacity,
            generation=sale.generation,
            hold_seconds=sale.hold_seconds,
            per_buyer_limit=sale.per_buyer_limit,
        )


class ItemList(Struct, frozen=True):
    """Some items, in the order of their ids."""

    items: Sequence[CatalogueItem]
    next_after: Annotated[
        int | None,
        Meta(description="Sent as the parameter `after`, it gives the next page; null: the last."),
    ]

    @classmethod
    def of(cls, page: CataloguePage) -> "ItemList":
        items = [CatalogueItem.of(sale, page.now) for sale in page.sales]
        return cls(items, page.after)


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
                "Sent as the parameter `cursor`, the audit continues. One request looks at no more "
                f"than {AUDIT_RECORDS_MAX:,} records."
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


class RepairSale(Struct, frozen=True, forbid_unknown_fields=True):
    """How to repair. An empty body only tells what would be changed."""

    dry_run: Annotated[bool, Meta(description="Change nothing, and tell what would be.")] = True
    drop_unrecorded: Annotated[
        bool,
        Meta(
            description=(
                "Tickets that are counted as sold or held and have no record leave the sale's "
                "capacity. They may have been sold, so they do not go on sale again; raise the "
                "capacity where it is certain that they were not."
            )
        ),
    ] = False
    cursor: (
        Annotated[
            str,
            Meta(description="Of the response before; the other fields as before."),
        ]
        | None
    ) = None


class RepairReport(Struct, frozen=True):
    """What was changed, or would be, and what cannot be repaired."""

    item_id: int
    generation: int
    capacity: int
    dry_run: bool
    complete: Annotated[
        bool, Meta(description="All records were counted. If not, send the cursor.")
    ]
    cursor: Annotated[
        str | None,
        Meta(description="Sent as `cursor`, the repair continues. Shards are repaired at the end."),
    ]
    repaired: Annotated[
        Sequence[str], Meta(description="What was changed, or would be, by shard and by record.")
    ]
    problems: Annotated[
        Sequence[str], Meta(description="What is left, because it cannot be known, or why.")
    ]
    checked_at: str

    @classmethod
    def of(cls, result: RepairResult) -> "RepairReport":
        return cls(
            item_id=result.sale.item_id,
            generation=result.sale.generation,
            capacity=result.sale.capacity,
            dry_run=not result.is_applied,
            complete=result.cursor is None,
            cursor=result.cursor,
            repaired=result.repaired,
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
        Annotated[
            str,
            Meta(
                description=(
                    "For busy: contention, store_unavailable or in_doubt. "
                    "For sale_not_open: scheduled, paused or closed."
                )
            ),
        ]
        | None
    ) = None
    opens_at: (
        Annotated[str, Meta(description="When the sale begins, where it has not; ISO 8601, UTC.")]
        | None
    ) = None
    closes_at: (
        Annotated[str, Meta(description="When the sale ended, where it has; ISO 8601, UTC.")] | None
    ) = None
    lowest_capacity: (
        Annotated[int, Meta(description="The lowest capacity that is possible: sold and held.")]
        | None
    ) = None


JSON_LINES: Final = "application/jsonl"
CSV: Final = "text/csv"


class Format(StrEnum):
    """The format of an export."""

    JSON_LINES = "jsonl"
    CSV = "csv"

    @classmethod
    def of(cls, name: str | None) -> Self:
        """Return the format of this name; JSON Lines without one. Raises InvalidRequest."""
        try:
            return cls(name or cls.JSON_LINES)
        except ValueError as error:
            raise InvalidRequest("It must be jsonl or csv.", field="format") from error

    @property
    def media_type(self) -> str:
        """Return the value of Content-Type."""
        return f"{CSV}; charset=utf-8" if self is Format.CSV else JSON_LINES


def decode[T](body: bytes, shape: type[T]) -> T:
    """Return the body as a `shape`; an empty body has all defaults.

    Raises InvalidRequest with the field and the remedy.
    """
    most = BODY_BYTES_MAX + (CURSOR_LENGTH_MAX if shape is RepairSale else 0)
    if len(body) > most:
        raise InvalidRequest(
            f"The body has {len(body)} bytes; at most {most} are allowed.",
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
        if "timezone component" in text:
            text = "An instant needs a zone: end it with Z, or with an offset as in +01:00"
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
