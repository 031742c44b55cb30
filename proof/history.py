"""What was seen of a service: the only thing that the checker knows. Times are seconds of one clock."""

from enum import StrEnum

from msgspec import Struct


class Kind(StrEnum):
    """What one answer to `POST /buy_ticket` means for the buyer."""

    BOUGHT = "bought"  # 201
    REPLAYED = "replayed"  # 200: bought before, with the same key
    SOLD_OUT = "sold_out"  # 409: none left
    NOT_ENOUGH_LEFT = "not_enough_left"  # 409: fewer left than asked for
    KEY_REUSED = "idempotency_key_reused"  # 422: the key belongs to another request
    BUSY = "busy"  # not now: 429, 503, or no connection was made
    UNKNOWN = "unknown"  # the answer was lost, or does not tell: time-out, broken connection, 500, 502, 504
    UNEXPECTED = "unexpected"  # an answer that the API does not give to such a request


RECEIPTS = frozenset({Kind.BOUGHT, Kind.REPLAYED})
REFUSALS = frozenset({Kind.SOLD_OUT, Kind.NOT_ENOUGH_LEFT})
NOT_DEFINITE = frozenset({Kind.BUSY, Kind.UNKNOWN})


class Receipt(Struct, frozen=True):
    """A purchase, as `POST /buy_ticket` and `GET /purchases/{purchase_id}` show it."""

    purchase_id: str
    item_id: int
    quantity: int
    status: str
    purchased_at: str
    generation: int
    buyer_id: str | None = None


class Attempt(Struct, frozen=True):
    """One HTTP request and what came back; `status` is None if nothing did."""

    started_at: float
    ended_at: float
    kind: Kind
    status: int | None = None
    code: str | None = None
    receipt: Receipt | None = None
    left: int | None = None
    retry_after_seconds: float | None = None
    detail: str = ""


class Request(Struct, frozen=True):
    """What one buyer asked for with one key, and every attempt at it, in order. Two copies are two requests."""

    key: str
    item_id: int
    quantity: int
    buyer_id: str | None
    attempts: tuple[Attempt, ...]
    copy: int = 1
    process_id: int = 0

    @property
    def last(self) -> Attempt:
        """The attempt that the buyer was left with."""
        return self.attempts[-1]

    @property
    def content(self) -> tuple[int, int, str | None]:
        """What two requests with one key must have in common."""
        return self.item_id, self.quantity, self.buyer_id


class Reset(Struct, frozen=True):
    """A call that opened a new generation of the sale, at some instant between `started_at` and `ended_at`.

    attempts: how often it was sent, with one key: each attempt without an answer may have taken effect.
    """

    generation: int
    capacity: int
    started_at: float
    ended_at: float
    attempts: int = 1


class Inventory(Struct, frozen=True):
    """`GET /inventory`; `total_purchases` counts tickets."""

    item_id: int
    item_name: str
    current_stock: int
    initial_stock: int
    total_purchases: int
    held: int
    generation: int
    shard_count: int = 1


class Sample(Struct, frozen=True):
    """The inventory as it was answered at some instant between `started_at` and `ended_at`."""

    started_at: float
    ended_at: float
    inventory: Inventory


class Lookup(Struct, frozen=True):
    """`GET /purchases/{purchase_id}` after the sale; `status` is None if no definite answer came."""

    purchase_id: str
    status: int | None
    receipt: Receipt | None = None


class Audit(Struct, frozen=True):
    """`GET /audit/{item_id}`: the counters of the current generation, and its purchase records counted one by one."""

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
    cursor: str | None = None  # where to go on, if not all records were counted


class History(Struct, frozen=True):
    """One sale of one item, complete. `resets` are in order, and the first of them opened the sale.

    `memory_seconds` is how long a process of the service may go on saying "sold out" after it was true (G2). `final`
    and `audit` were taken at rest: with no request under way.
    """

    requests: tuple[Request, ...]
    resets: tuple[Reset, ...]
    samples: tuple[Sample, ...] = ()
    lookups: tuple[Lookup, ...] = ()
    final: Sample | None = None
    audit: Audit | None = None
    memory_seconds: float = 1.0


class Violation(Struct, frozen=True):
    """A broken guarantee: what was promised, what was found, and the fewest requests that show it.

    `count` is how many such cases there were; `expected`, `found` and `evidence` tell of the first of them.
    """

    guarantee: str
    rule: str
    expected: str
    found: str
    evidence: tuple[str, ...] = ()
    count: int = 1
