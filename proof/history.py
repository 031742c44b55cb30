"""What was observed of a service; the checker's only input. Times are seconds of one clock."""

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct, structs

GUARANTEES = {
    "G1": "No oversell",
    "G2": "No undersell",
    "G3": "Exactly once",
    "G4": "Records match counters",
    "G5": "Truthful responses",
    "G6": "Bounded response time",
}


# How far the clocks of the service's processes may be apart.
SKEW_SECONDS = 1.0


class Kind(StrEnum):
    """The meaning of one answer to `POST /buy_ticket` or `POST /holds`."""

    BOUGHT = "bought"  # 201, also of a hold
    REPLAYED = "replayed"  # 200: bought before, with the same key
    SOLD_OUT = "sold_out"  # 409: none left
    NOT_ENOUGH_LEFT = "not_enough_left"  # 409: fewer left than asked for
    ALL_HELD = "all_held"  # 409: none left, and some are held
    LIMIT_REACHED = "buyer_limit_reached"  # 409: the buyer would have more than the sale allows
    BUYER_UNKNOWN = "buyer_unknown"  # 422: the sale has a limit, and the request names no buyer
    NOT_OPEN = "sale_not_open"  # 409: the sale does not sell now
    KEY_REUSED = "idempotency_key_reused"  # 422: the key belongs to another request
    BUSY = "busy"  # not now: 429, 503, or no connection
    UNKNOWN = "unknown"  # the outcome is unknown: time-out, broken connection, 500, 502, 504
    UNEXPECTED = "unexpected"  # a response that the API does not give to such a request


RECEIPTS = frozenset({Kind.BOUGHT, Kind.REPLAYED})
# Too few tickets are free; and all definite answers that say that nothing was bought.
SHORTAGES = frozenset({Kind.SOLD_OUT, Kind.NOT_ENOUGH_LEFT, Kind.ALL_HELD})
REFUSALS = SHORTAGES | {Kind.LIMIT_REACHED, Kind.BUYER_UNKNOWN}
# With those of a sale that is not open: it may open, so nothing is said of later attempts.
REFUSALS_FOR_NOW = REFUSALS | {Kind.NOT_OPEN}
NONE_LEFT = frozenset({Kind.SOLD_OUT, Kind.ALL_HELD})
NOT_DEFINITE = frozenset({Kind.BUSY, Kind.UNKNOWN})


class Receipt(Struct, frozen=True):
    """A purchase, as `POST /buy_ticket` and `GET /purchases/{purchase_id}` return it; or a hold.

    expires_at, extended: of a hold, as `POST /holds` returns it; None and False of a purchase.
    """

    purchase_id: str
    item_id: int
    quantity: int
    status: str
    purchased_at: str
    generation: int
    buyer_id: str | None = None
    refunded_quantity: int = 0
    expires_at: str | None = None
    extended: bool = False

    @property
    def is_hold(self) -> bool:
        """Return whether it is a hold, and not a purchase."""
        return self.expires_at is not None

    @property
    def as_bought(self) -> "Receipt":
        """Return the receipt before any refund, or before the hold was changed."""
        status = "held" if self.is_hold else "confirmed"
        return structs.replace(self, status=status, refunded_quantity=0, extended=False)


class Hold(Struct, frozen=True):
    """A hold, as `POST /holds` and `GET /holds/{hold_id}` return it."""

    hold_id: str
    item_id: int
    quantity: int
    status: str
    held_at: str
    expires_at: str
    extended: bool
    generation: int
    buyer_id: str | None = None

    @property
    def receipt(self) -> Receipt:
        """Return it as the receipt of what it takes out of stock."""
        return Receipt(
            purchase_id=self.hold_id,
            item_id=self.item_id,
            quantity=self.quantity,
            status=self.status,
            purchased_at=self.held_at,
            generation=self.generation,
            buyer_id=self.buyer_id,
            expires_at=self.expires_at,
            extended=self.extended,
        )


class Attempt(Struct, frozen=True):
    """One HTTP request and its response. status: None without a response.

    replayed: a refusal that is on record, and that an earlier request with this key had first.
    reason: of a sale that is not open: "scheduled", "paused" or "closed".
    """

    started_at: float
    ended_at: float
    kind: Kind
    status: int | None = None
    code: str | None = None
    receipt: Receipt | None = None
    left: int | None = None
    retry_after_seconds: float | None = None
    detail: str = ""
    replayed: bool = False
    reason: str | None = None


class PurchaseRequest(Struct, frozen=True):
    """One request of a buyer, and its attempts in order. Two copies are two requests.

    given_up: the buyer went away without a definite answer, and does not expect one. is_hold: it
    holds tickets, and does not buy them.
    """

    key: str
    item_id: int
    quantity: int
    buyer_id: str | None
    attempts: tuple[Attempt, ...]
    copy: int = 1
    process_id: int = 0
    given_up: bool = False
    is_hold: bool = False

    @property
    def last(self) -> Attempt:
        """Return the last attempt, which decides."""
        return self.attempts[-1]

    @property
    def waiting_seconds(self) -> float:
        """Return how long the buyer waited, from the first request to the last answer."""
        return self.last.ended_at - self.attempts[0].started_at

    @property
    def content(self) -> tuple[int, int, str | None, bool]:
        """Return what all requests with one key must have in common."""
        return self.item_id, self.quantity, self.buyer_id, self.is_hold


class Reset(Struct, frozen=True):
    """A call that started a new generation, at some instant between `started_at` and `ended_at`.

    attempts: how often it was sent, with one key. Each attempt without an answer may have taken
    effect. hold_seconds: how long its holds last. per_buyer_limit: None: any number.
    """

    generation: int
    capacity: int
    started_at: float
    ended_at: float
    attempts: int = 1
    hold_seconds: float = 600.0
    per_buyer_limit: int | None = None


class Pause(Struct, frozen=True):
    """A time in which the sale did not sell, as the organiser wanted it.

    It began at some instant between `began_at` and `closed_at`, and ended between `reopens_at` and
    `ended_at`.
    """

    began_at: float
    closed_at: float
    reopens_at: float
    ended_at: float


class CapacityChange(Struct, frozen=True):
    """A change of the sale's capacity or shards, sent until it had a definite answer.

    capacity: asked for; None: the one that it has. done: the sale has it; False: it was refused and
    nothing was changed; None: it was done and undone by a reset, or is unknown. lowest: of a
    refusal, the capacity that was possible.
    """

    started_at: float
    ended_at: float
    capacity: int | None
    done: bool | None
    lowest: int | None = None


class HoldAction(StrEnum):
    """A change of a hold."""

    CONFIRM = "confirm"
    EXTEND = "extend"
    RELEASE = "release"


class HoldChange(Struct, frozen=True):
    """A change of a hold that was sent until it had a definite answer.

    done: it took effect, now or before; None: the outcome is unknown. code: of a refusal, or
    "internal_error"; also "hold_expired" of a release that found nothing to release. replayed: an
    earlier request took effect. payment_reference, receipt: of a confirmation, the receipt as the
    answer showed it.
    """

    purchase_id: str
    action: HoldAction
    started_at: float
    ended_at: float
    done: bool | None
    code: str | None = None
    replayed: bool = False
    payment_reference: str | None = None
    receipt: Receipt | None = None


class Refund(Struct, frozen=True):
    """A refund that the organiser sent, with one key, until it had a definite answer.

    quantity: the tickets asked for. done: they were refunded; None: the outcome is unknown.
    receipt: the purchase as the answer showed it.
    """

    purchase_id: str
    quantity: int
    started_at: float
    ended_at: float
    done: bool | None
    receipt: Receipt | None = None

    @classmethod
    def of(cls, copies: Sequence["Refund"]) -> "Refund":
        """Return copies that were sent with one key as one refund.

        The first definite answer decides. Where one copy is done, the refund is.
        """
        order = {True: 0, False: 1, None: 2}
        first = min(copies, key=lambda each: (order[each.done], each.ended_at))
        return structs.replace(first, started_at=min(each.started_at for each in copies))


class Inventory(Struct, frozen=True):
    """`GET /inventory`. total_purchases: tickets."""

    item_id: int
    item_name: str
    current_stock: int
    initial_stock: int
    total_purchases: int
    held: int
    generation: int
    shard_count: int = 1
    hold_seconds: int | None = None
    per_buyer_limit: int | None = None
    state: str | None = None


class Sample(Struct, frozen=True):
    """The inventory at some instant between `started_at` and `ended_at`."""

    started_at: float
    ended_at: float
    inventory: Inventory


class Lookup(Struct, frozen=True):
    """`GET /purchases/{purchase_id}` after the sale. status: None without a definite answer."""

    purchase_id: str
    status: int | None
    receipt: Receipt | None = None


class AuditReport(Struct, frozen=True):
    """`GET /audit/{item_id}`: counters and purchase records of the current generation."""

    item_id: int
    generation: int
    capacity: int
    stock: int
    held: int
    sold: int
    purchase_records: int
    tickets_in_records: int
    agrees: bool
    problems: list[str] = []
    cursor: str | None = None  # where to continue, if not all records were counted


class ExportLine(Struct, frozen=True, tag_field="type", tag="purchase"):
    """A purchase in an export. tickets: those that were not refunded."""

    purchase_id: str
    item_id: int
    generation: int
    status: str
    quantity: int
    refunded_quantity: int
    tickets: int
    buyer_id: str | None
    purchased_at: str = ""
    payment_reference: str | None = None

    @property
    def receipt(self) -> Receipt:
        """Return it as its buyer sees it."""
        return Receipt(
            purchase_id=self.purchase_id,
            item_id=self.item_id,
            quantity=self.quantity,
            status=self.status,
            purchased_at=self.purchased_at,
            generation=self.generation,
            buyer_id=self.buyer_id,
            refunded_quantity=self.refunded_quantity,
        )


class ExportedHold(Hold, frozen=True, tag_field="type", tag="hold"):
    """A hold in an export, in whatever status it is."""


class ExportFigures(Struct, frozen=True, tag_field="type", tag="total"):
    """The last line of an export. sold: tickets, by the counters."""

    item_id: int
    generation: int
    purchases: int
    quantity: int
    refunded_quantity: int
    tickets: int
    sold: int | None
    agrees: bool
    problems: list[str] = []


class Export(Struct, frozen=True):
    """All parts of `GET /export/{item_id}`. shape: its format. total: None where it has none.

    holds: where they were asked for.
    """

    started_at: float
    ended_at: float
    shape: str
    lines: list[ExportLine]
    total: ExportFigures | None
    holds: list[ExportedHold] = []


class History(Struct, frozen=True):
    """One complete sale of one item.

    resets, capacity_changes: as they were sent; the first reset started the sale. cache_seconds:
    how long a process of the service may repeat "sold out" (G2). skew_seconds: how far its clocks
    may be apart. pause_seconds: how long after a pause tickets may still be sold. final, audit:
    taken at rest, with no request in flight.
    """

    requests: tuple[PurchaseRequest, ...]
    resets: tuple[Reset, ...]
    refunds: tuple[Refund, ...] = ()
    changes: tuple[HoldChange, ...] = ()
    pauses: tuple[Pause, ...] = ()
    capacity_changes: tuple[CapacityChange, ...] = ()
    samples: tuple[Sample, ...] = ()
    lookups: tuple[Lookup, ...] = ()
    final: Sample | None = None
    audit: AuditReport | None = None
    exports: tuple[Export, ...] = ()
    cache_seconds: float = 1.0
    skew_seconds: float = 1.0
    pause_seconds: float = 1.0


class Evidence(Struct, frozen=True, omit_defaults=True):
    """One line that shows a violation.

    started_at, ended_at: when that was; None: at rest, or at no certain instant. key: of the
    request, if it is one.
    """

    text: str
    started_at: float | None = None
    ended_at: float | None = None
    key: str | None = None

    def __str__(self) -> str:
        return self.text


class Violation(Struct, frozen=True):
    """A broken guarantee: what was expected, what was found, and the few requests that show it.

    count: the number of such cases. expected, found, evidence: of the first one.
    """

    guarantee: str
    rule: str
    expected: str
    found: str
    evidence: tuple[Evidence, ...] = ()
    count: int = 1
