"""Data of a sale, and the decisions that need no store.

Knows no boto3, no Powertools, no environment, no clock.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID, uuid5

# A snapshot of all shards is one TransactGetItems, which takes 100 items (AWS).
SHARDS_MAX: Final = 100
STOCK_MAX: Final = 10_000_000
# Per purchase; may need as many shards, and a transaction has at most 100 actions (AWS).
QUANTITY_MAX: Final = 10
ITEM_ID_MAX: Final = 999_999_999
TICKETS_PER_SHARD: Final = 25
RESET_KEYS_MAX: Final = 10  # the sale's record keeps the keys of its last resets, up to this number

_PURCHASES: Final = UUID(
    "6f1c4a0e-9c5b-5a53-8f7e-2b1d0c9e7a41"
)  # the namespace of our UUIDv5; any constant would do


class Random(Protocol):
    """The part of `random.Random` that is used, so that a simulation can replace it."""

    def random(self) -> float: ...
    def randrange(self, stop: int, /) -> int: ...
    def getrandbits(self, k: int, /) -> int: ...


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
    """A part of a sale's stock. Always: stock >= 0 and stock + held + sold == capacity.

    sold_before: the tickets that it sold in all earlier generations.
    """

    index: int
    generation: int
    capacity: int
    stock: int
    held: int
    sold: int
    updated_at: str
    sold_before: int = 0

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

    taken: shard index → tickets taken from it.
    """

    purchase_id: str
    item_id: int
    generation: int
    buyer_id: str | None
    quantity: int
    status: str
    taken: Mapping[int, int]
    fingerprint: str
    created_at: str


@dataclass(frozen=True, slots=True)
class Bought:
    """The purchase is recorded. replayed: an earlier request with this key made it."""

    purchase: Purchase
    replayed: bool


@dataclass(frozen=True, slots=True)
class SoldOut:
    """Fewer tickets were free than asked for, at some instant of this request or the second before.

    left: how many were free.
    """

    left: int


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The idempotency key belongs to another purchase."""


type Outcome = Bought | SoldOut | KeyReused


def make_order(
    item_id: int, quantity: int, buyer_id: str | None, key: str | None, random: Random
) -> Order:
    """Return the order for a request.

    Its purchase id is made of item, buyer and key, and is random without a key.
    """
    if key is None:
        purchase_id = UUID(int=random.getrandbits(128), version=4)
    else:
        purchase_id = uuid5(_PURCHASES, json.dumps([item_id, buyer_id, key]))
    return Order(item_id, quantity, buyer_id, str(purchase_id), keyed=key is not None)


def settle(order: Order, found: Purchase, *, replayed: bool) -> Bought | KeyReused:
    """Return the outcome for an order whose purchase record already exists."""
    return Bought(found, replayed) if found.fingerprint == order.fingerprint else KeyReused()


def allocate(stock: Mapping[int, int], quantity: int, random: Random) -> dict[int, int] | None:
    """Return shard index → tickets to take; None where all shards together have too few.

    stock: shard index → free tickets. quantity: tickets to take in all. The choice is one shard at
    random among those that have enough, so that buyers spread. Where none has enough, it is the
    fullest shards first, so that the transaction touches few.
    """
    enough = [index for index, tickets in stock.items() if tickets >= quantity]
    if enough:
        return {enough[random.randrange(len(enough))]: quantity}
    if sum(stock.values()) < quantity:
        return None
    taken = {}
    for index in sorted(stock, key=lambda index: (-stock[index], random.random())):
        taken[index] = min(stock[index], quantity)
        quantity -= taken[index]
        if not quantity:
            break
    return taken


def default_shard_count(stock: int) -> int:
    """Return one shard per 25 tickets, between 1 and 100.

    A shard sells about 140 tickets a second (sketch of a model of DynamoDB's conflicts), so a small
    sale needs few shards, and a shard with fewer tickets is empty too soon to help.
    """
    return max(1, min(SHARDS_MAX, stock // TICKETS_PER_SHARD))


def current_shards(sale: Sale, stored: Iterable[Shard]) -> list[Shard]:
    """Return the sale's shards as they are now.

    stored: those that are in the table. A shard that is not open for this generation has its whole
    share.
    """
    opened = {shard.index: shard for shard in stored if shard.generation == sale.generation}
    return [opened.get(index) or Shard.fresh(sale, index) for index in range(sale.shard_count)]


def totals(shards: Iterable[Shard]) -> tuple[int, int, int, int]:
    """Return capacity, stock, held and sold, each added up over all shards."""
    rows = [(shard.capacity, shard.stock, shard.held, shard.sold) for shard in shards]
    capacity, stock, held, sold = (
        (sum(column) for column in zip(*rows, strict=True)) if rows else (0, 0, 0, 0)
    )
    return capacity, stock, held, sold


def digest(*parts: object) -> str:
    """Return 128 bits in hexadecimal made of the parts. For comparing, not for secrets."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def timestamp(seconds: float) -> str:
    """Return an instant as ISO 8601 in UTC with microseconds: 2026-01-15T12:30:27.123456Z.

    seconds: since the epoch.
    """
    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(timespec="microseconds")
        .replace("+00:00", "Z")
    )
