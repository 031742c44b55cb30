"""What a sale, a stock shard, an order and a purchase are, and the rules that need no store.

Knows no boto3, no Powertools, no environment, no clock.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID, uuid5

MAX_SHARDS: Final = 100  # a snapshot of all shards is one TransactGetItems, which takes 100 items (AWS)
MAX_STOCK: Final = 10_000_000
MAX_QUANTITY: Final = 10  # per purchase; it may take from as many shards, in a transaction of at most 100 actions (AWS)
MAX_ITEM_ID: Final = 999_999_999
TICKETS_PER_SHARD: Final = 25
RESET_KEYS_MAX: Final = 10  # so many resets of a sale are remembered by their keys

_PURCHASES: Final = UUID("6f1c4a0e-9c5b-5a53-8f7e-2b1d0c9e7a41")  # our namespace for UUIDv5; any constant would do


class Random(Protocol):
    """The part of `random.Random` that we use, so that a simulation can bring its own."""

    def random(self) -> float: ...
    def randrange(self, stop: int, /) -> int: ...
    def getrandbits(self, k: int, /) -> int: ...


@dataclass(frozen=True, slots=True)
class ResetKey:
    """An idempotency key that has reset a sale.

    key: a digest of the key, which may be long. generation: the one that it opened. request: a digest of what was
    asked for.
    """

    key: str
    generation: int
    request: str


@dataclass(frozen=True, slots=True)
class Sale:
    """One generation of an item's sale. Its record alone says what is for sale; shards are opened from it.

    shards_ever: the most shards that any generation had; whoever starts the next one closes as many to the older ones.
    reset_keys: of the last resets, the newest at the end.
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
        """The reset that was made with the key of this digest, if it is remembered."""
        return next((each for each in self.reset_keys if each.key == key), None)

    def share(self, index: int) -> int:
        """The tickets that shard `index` opens with; a shard that this generation does not use gets none."""
        if index >= self.shard_count:
            return 0
        return self.capacity // self.shard_count + (index < self.capacity % self.shard_count)


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a sale's stock. Always: stock >= 0 and stock + held + sold == capacity.

    sold_before: the tickets that it sold in all generations before this one.
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
        """Shard `index` of `sale` as it stands before its first ticket is sold."""
        share = sale.share(index)
        return cls(index, sale.generation, capacity=share, stock=share, held=0, sold=0, updated_at=sale.created_at)


@dataclass(frozen=True, slots=True)
class Order:
    """A wish to buy. `keyed`: the buyer sent an idempotency key, so it can come back for the same purchase."""

    item_id: int
    quantity: int
    buyer_id: str | None
    purchase_id: str
    keyed: bool

    @property
    def fingerprint(self) -> str:
        """Tells whether two requests with one key ask for the same."""
        wish = json.dumps([self.item_id, self.quantity, self.buyer_id])
        return hashlib.sha256(wish.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Purchase:
    """The record of a purchase; it is the receipt, and what makes a key buy once.

    taken: shard index → tickets that came from it.
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
    """The purchase stands. `replayed`: an earlier request with this key had made it."""

    purchase: Purchase
    replayed: bool


@dataclass(frozen=True, slots=True)
class SoldOut:
    """At some instant of this request, or within the second before it, only `left` tickets were free: too few."""

    left: int


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The idempotency key has bought something else."""


type Outcome = Bought | SoldOut | KeyReused


def make_order(item_id: int, quantity: int, buyer_id: str | None, key: str | None, random: Random) -> Order:
    """The order for a request: its purchase's id comes from item, buyer and key, or from chance without a key."""
    if key is None:
        purchase_id = UUID(int=random.getrandbits(128), version=4)
    else:
        purchase_id = uuid5(_PURCHASES, json.dumps([item_id, buyer_id, key]))
    return Order(item_id, quantity, buyer_id, str(purchase_id), keyed=key is not None)


def settle(order: Order, found: Purchase, *, replayed: bool) -> Bought | KeyReused:
    """What the order gets whose record stands in the store already."""
    return Bought(found, replayed) if found.fingerprint == order.fingerprint else KeyReused()


def allocate(stock: Mapping[int, int], quantity: int, random: Random) -> dict[int, int] | None:
    """Which shards to take `quantity` tickets from, given what stands in each; None where all together have too few.

    One shard at random among those that have enough, so that buyers spread; where none has, the fullest first, so that
    the transaction touches as few shards as it can.
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
    """One shard for every 25 tickets, 1 to 100.

    A shard sells some 140 tickets a second (from a sketch of a model of DynamoDB's conflicts), so a small sale needs
    few, and a shard of fewer tickets is empty before it was of use.
    """
    return max(1, min(MAX_SHARDS, stock // TICKETS_PER_SHARD))


def current_shards(sale: Sale, stored: Iterable[Shard]) -> list[Shard]:
    """The sale's shards, given those in the table: one that is not opened for its generation has its whole share."""
    opened = {shard.index: shard for shard in stored if shard.generation == sale.generation}
    return [opened.get(index) or Shard.fresh(sale, index) for index in range(sale.shard_count)]


def totals(shards: Iterable[Shard]) -> tuple[int, int, int, int]:
    """capacity, stock, held and sold over all shards."""
    rows = [(shard.capacity, shard.stock, shard.held, shard.sold) for shard in shards]
    capacity, stock, held, sold = (sum(column) for column in zip(*rows, strict=True)) if rows else (0, 0, 0, 0)
    return capacity, stock, held, sold


def digest(*parts: object) -> str:
    """128 bits that stand for the parts: for comparing, never for secrets."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def timestamp(seconds: float) -> str:
    """An instant since the epoch as ISO 8601 in UTC, to the microsecond: 2026-01-15T12:30:27.123456Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
