"""The data of a sale, and the results of the use cases.

Knows no boto3, no Powertools, no environment, no clock.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ticketing.moves import Status


@dataclass(frozen=True, slots=True)
class ResetKey:
    """An idempotency key that has reset a sale.

    key: a digest of the key, which may be long. generation: the one that this reset started.
    request: a digest of the values asked for.
    """

    key: str
    generation: int
    request: str


@dataclass(frozen=True, slots=True)
class Sale:
    """One generation of an item's sale. Its record defines the sale; shards are opened from it.

    shards_ever: the highest shard count of all generations; a reset closes that many shards to
    older generations. reset_keys: of the last resets, the newest at the end.
    """

    item_id: int
    item_name: str
    capacity: int
    shard_count: int
    shards_ever: int
    generation: int
    created_at: str
    reset_keys: tuple[ResetKey, ...] = ()

    def reset_key(self, key: str) -> ResetKey | None:
        """Return the reset with this key digest; None where it is not in the record."""
        return next((each for each in self.reset_keys if each.key == key), None)

    def share(self, index: int) -> int:
        """Return the tickets that shard `index` opens with; 0 where there is no such shard."""
        if index >= self.shard_count:
            return 0
        return self.capacity // self.shard_count + (index < self.capacity % self.shard_count)


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a sale's stock.

    Always: stock >= 0, stock + held + sold == capacity, and held is the sum of the slots.
    sold_before: the tickets that it sold in all earlier generations. slots: expiry slot, in seconds
    since the epoch → held tickets that expire then. reclaimed_until: the last slot that was
    reclaimed; a hold demands a later one, or it could fill a reclaimed slot again, from which an
    older hold would take tickets.
    """

    index: int
    generation: int
    capacity: int
    stock: int
    held: int
    sold: int
    updated_at: str
    sold_before: int = 0
    slots: Mapping[int, int] = field(default_factory=dict)
    reclaimed_until: int = 0

    @classmethod
    def fresh(cls, sale: Sale, index: int) -> "Shard":
        """Return shard `index` of `sale` before its first ticket is sold."""
        share = sale.share(index)
        return cls(
            index,
            sale.generation,
            capacity=share,
            stock=share,
            held=0,
            sold=0,
            updated_at=sale.created_at,
        )


@dataclass(frozen=True, slots=True)
class Order:
    """A request to buy. keyed: it has an idempotency key, so the buyer can repeat it safely."""

    item_id: int
    quantity: int
    buyer_id: str | None
    purchase_id: str
    keyed: bool

    @property
    def fingerprint(self) -> str:
        """Return a digest that differs where two requests with one key ask for different things."""
        content = json.dumps([self.item_id, self.quantity, self.buyer_id])
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Purchase:
    """The record of a purchase. It is the receipt, and it makes a key buy only once.

    taken: shard index → its tickets that this purchase has. refunds: digest of a refund's
    idempotency key → tickets refunded. What is refunded after a reset stays in `taken`, because its
    shard no longer has the generation. revision: counts the changes of the record. left: of a
    refused order, which took none: the free tickets that there were; otherwise None. expires_at: of
    a hold: its expiry slot; otherwise None.
    """

    purchase_id: str
    item_id: int
    generation: int
    buyer_id: str | None
    quantity: int
    status: Status
    taken: Mapping[int, int]
    fingerprint: str
    created_at: str
    refunds: Mapping[str, int] = field(default_factory=dict)
    revision: int = 0
    left: int | None = None
    expires_at: int | None = None

    @property
    def refunded_quantity(self) -> int:
        """Return how many tickets were refunded."""
        return sum(self.refunds.values())

    @property
    def kept_quantity(self) -> int:
        """Return how many tickets were not refunded."""
        return self.quantity - self.refunded_quantity

    def was_put_by(self, attempt: "Purchase") -> bool:
        """Return whether the attempt with this record has put it. Refunds may have changed it."""
        return (self.is_refused, self.generation, self.created_at) == (
            attempt.is_refused,
            attempt.generation,
            attempt.created_at,
        )

    @property
    def is_refused(self) -> bool:
        """Return whether this is the record of a refused order, and not of a purchase."""
        return self.status is Status.REFUSED


@dataclass(frozen=True, slots=True)
class Bought:
    """The purchase is recorded. replayed: an earlier request with this key made it."""

    purchase: Purchase
    replayed: bool


@dataclass(frozen=True, slots=True)
class SoldOut:
    """Fewer tickets were free than asked for, at some instant of this request or the second before.

    left: how many were free. final: this refusal is in the record of the idempotency key, which
    never buys any more. replayed: an earlier request with this key was refused, at that time.
    """

    left: int
    final: bool = False
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The idempotency key belongs to another request."""


type Outcome = Bought | SoldOut | KeyReused


@dataclass(frozen=True, slots=True)
class Refunded:
    """The refund is recorded. replayed: an earlier request with this key made it."""

    purchase: Purchase
    quantity: int
    replayed: bool


@dataclass(frozen=True, slots=True)
class RefundTooLarge:
    """Fewer tickets of the purchase are left to refund than asked for. left: how many."""

    left: int


type RefundOutcome = Refunded | RefundTooLarge | KeyReused


@dataclass(frozen=True, slots=True)
class ResetOrder:
    """A request to start an item's next generation.

    stock, item_name: None keeps the sale's value. shard_count: None takes the default for the
    stock. key, request: digests of the idempotency key and of the values asked for.
    expected_generation: the one that the sale must have (0: no sale yet); None: any.
    """

    item_id: int
    stock: int | None
    item_name: str | None
    shard_count: int | None
    key: str
    request: str
    expected_generation: int | None


@dataclass(frozen=True, slots=True)
class SaleState:
    """A sale with its shards, each as it was when it was read or opened."""

    sale: Sale
    shards: Sequence[Shard]

    @property
    def updated_at(self) -> str:
        """Return when the last ticket moved. ISO 8601 in UTC sorts as time does."""
        return max(shard.updated_at for shard in self.shards)


@dataclass(frozen=True, slots=True)
class ResetResult:
    """The sale that a reset started. replayed: an earlier request with this key started it."""

    inventory: SaleState
    replayed: bool

    @property
    def sale(self) -> Sale:
        """Return the sale's record."""
        return self.inventory.sale


@dataclass(frozen=True, slots=True)
class AuditResult:
    """The counters and records of one generation, and where they differ.

    cursor: where to continue when the time was over before all records were counted; None where all
    were.
    """

    sale: Sale
    stock: int
    held: int
    sold: int
    purchase_records: int
    tickets_in_records: int
    problems: Sequence[str]
    checked_at: str
    cursor: str | None
