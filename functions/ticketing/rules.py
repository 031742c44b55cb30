"""Decisions that need no store: pure functions of their arguments.

Knows no boto3, no Powertools, no environment, no clock.
"""

import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from copy import replace
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final, Protocol
from uuid import UUID, uuid5

from ticketing.limits import (
    HOLD_SECONDS_DEFAULT,
    RESET_KEYS_MAX,
    SHARDS_MAX,
    SLOTS_PER_HOLD,
    TICKETS_PER_SHARD,
)
from ticketing.model import (
    Bought,
    BuyerTickets,
    Held,
    KeyReused,
    LimitReached,
    Order,
    Outcome,
    Purchase,
    ResetKey,
    ResetOrder,
    Sale,
    Shard,
    SoldOut,
    TooFew,
)
from ticketing.moves import Counter, Move, Status

# The original system's item, which the first reset of item 1 puts on sale.
FIRST_ITEM_ID: Final = 1
FIRST_ITEM_NAME: Final = "Item A - Concert Ticket"
FIRST_STOCK: Final = 100

# The namespace of our UUIDv5; any constant would do.
_PURCHASES: Final = UUID("6f1c4a0e-9c5b-5a53-8f7e-2b1d0c9e7a41")


class Random(Protocol):
    """The part of `random.Random` that is used, so that a simulation can replace it."""

    def random(self) -> float: ...
    def randrange(self, stop: int, /) -> int: ...
    def getrandbits(self, k: int, /) -> int: ...


def make_order(
    item_id: int,
    quantity: int,
    buyer_id: str | None,
    key: str | None,
    random: Random,
    *,
    is_hold: bool = False,
) -> Order:
    """Return the order for a request.

    Its purchase id is made of item, buyer and key, and is random without a key. It does not depend
    on `is_hold`: one key buys or holds, and never both.
    """
    if key is None:
        purchase_id = UUID(int=random.getrandbits(128), version=4)
    else:
        purchase_id = uuid5(_PURCHASES, json.dumps([item_id, buyer_id, key]))
    keyed = key is not None
    return Order(item_id, quantity, buyer_id, str(purchase_id), keyed=keyed, is_hold=is_hold)


def settle(order: Order, found: Purchase, *, replayed: bool) -> Outcome:
    """Return the outcome for an order whose record already exists.

    replayed: an earlier request, or a concurrent duplicate, has put it.
    """
    if found.fingerprint != order.fingerprint:
        return KeyReused()
    if found.is_refused:
        return refused(found, final=order.keyed, replayed=replayed)
    return Held(found, replayed) if order.is_hold else Bought(found, replayed)


def refused(
    why: TooFew | Purchase, *, final: bool, replayed: bool = False
) -> SoldOut | LimitReached:
    """Return the outcome for a refused order.

    why: what was seen, or the record of the refusal. final, replayed: see `SoldOut`.
    """
    left = why.left or 0
    if why.limit is not None:
        return LimitReached(why.limit, left, final, replayed)
    return SoldOut(left, why.next_release_at, final, replayed)


def choose(stock: Mapping[int, int], quantity: int, random: Random) -> dict[int, int] | None:
    """Return a shard → tickets to take; None where there are no shards.

    stock: shards with enough → free tickets. Each of these tickets is as likely as any other, so
    fuller shards are chosen more often, and all of them are empty at about the same time.
    """
    if not stock:
        return None
    bounds = tuple(accumulate(stock.values()))
    position = bisect_right(bounds, random.randrange(bounds[-1]))
    return {tuple(stock)[position]: quantity}


def allocate(stock: Mapping[int, int], quantity: int, random: Random) -> dict[int, int] | None:
    """Return shard index → tickets to take; None where all shards together have too few.

    stock: shard index → free tickets. quantity: tickets to take in all. The choice is one shard
    that has enough, see `choose`. Where none has, it is the fullest shards first, so that the
    transaction touches few.
    """
    enough = {index: tickets for index, tickets in stock.items() if tickets >= quantity}
    if enough:
        return choose(enough, quantity, random)
    if sum(stock.values()) < quantity:
        return None
    by_chance = sorted(stock, key=lambda _: random.random())
    return _from_fullest({index: stock[index] for index in by_chance}, quantity)


def counted(
    buyer: BuyerTickets,
    move: Move,
    quantity: int,
    *,
    before: Purchase | None,
    after: Purchase,
    now: float,
) -> BuyerTickets:
    """Return what a buyer has after a move of one of their purchases.

    quantity: tickets that move. before, after: the purchase's record; before: None where there is
    none. Holds that are over by every clock no longer count. One that stopped counting, and is
    confirmed or extended all the same, counts again.
    """
    slots = buyer.live(now)
    if before is not None and move.before is Status.HELD and before.expires_at is not None:
        held = slots.get(before.expires_at, 0)
        if held >= quantity:
            slots[before.expires_at] = held - quantity
    if move.to_slot and after.expires_at is not None:
        slots[after.expires_at] = slots.get(after.expires_at, 0) + quantity
    sold = (move.credit is Counter.SOLD) - (move.debit is Counter.SOLD)
    return replace(
        buyer,
        sold=buyer.sold + sold * quantity,
        slots={slot: tickets for slot, tickets in slots.items() if tickets},
        revision=buyer.revision + 1,
    )


def is_within(limit: int, before: BuyerTickets, after: BuyerTickets, now: float) -> bool:
    """Return whether a buyer may have what a move leaves them with.

    A limit that was lowered takes nothing away: a move is refused only where it adds tickets.
    """
    return after.tickets(now) <= max(limit, before.tickets(now))


def refund(purchase: Purchase, key: str, quantity: int, *, is_closed: bool) -> Purchase:
    """Return the purchase's record after a refund.

    key: digest of the refund's idempotency key. is_closed: a reset has closed its generation, so
    its shards take no tickets back.
    """
    back = {} if is_closed else _from_fullest(purchase.taken, quantity)
    kept = {index: tickets - back.get(index, 0) for index, tickets in purchase.taken.items()}
    whole = quantity == purchase.kept_quantity
    return replace(
        purchase,
        status=Status.REFUNDED if whole else Status.CONFIRMED,
        taken={index: tickets for index, tickets in kept.items() if tickets},
        refunds={**purchase.refunds, key: quantity},
        revision=purchase.revision + 1,
    )


def given_back(before: Purchase, after: Purchase) -> dict[int, int]:
    """Return shard index → tickets that a refund gives back to it."""
    back = {index: count - after.taken.get(index, 0) for index, count in before.taken.items()}
    return {index: tickets for index, tickets in back.items() if tickets}


def _from_fullest(stock: Mapping[int, int], quantity: int) -> dict[int, int]:
    """Return shard index → tickets to take, from those with most, so that few are touched."""
    taken = {}
    for index in sorted(stock, key=lambda index: -stock[index]):
        taken[index] = min(stock[index], quantity)
        quantity -= taken[index]
        if not quantity:
            break
    return taken


def expiry_slot(hold_seconds: int, now: float) -> int:
    """Return when a hold that is made now expires: `hold_seconds` later, rounded up to a slot.

    Slots are that far apart that holds of this length are in about SLOTS_PER_HOLD of them.
    """
    slot_seconds = math.ceil(hold_seconds / SLOTS_PER_HOLD)
    return math.ceil((now + hold_seconds) / slot_seconds) * slot_seconds


def as_of(record: Purchase, now: float, generation: int) -> Purchase:
    """Return a record as its owner sees it: a hold whose time is over is expired.

    generation: the sale's. A reset ends all holds.
    """
    if record.status is Status.HELD and (
        record.generation < generation or (record.expires_at or 0) <= now
    ):
        return replace(record, status=Status.EXPIRED)
    return record


def default_shard_count(stock: int) -> int:
    """Return one shard for every ten tickets, between 1 and 100.

    Fewer shards cost write units and time in conflicts, more of them read units when a small sale
    ends (measured on the model of DynamoDB: docs/scaling.md).
    """
    return max(1, min(SHARDS_MAX, stock // TICKETS_PER_SHARD))


def next_sale(old: Sale | None, order: ResetOrder, now: str) -> Sale:
    """Return the sale's next generation. old: the one before; None for a new item.

    now: a timestamp.
    """
    first_name = FIRST_ITEM_NAME if order.item_id == FIRST_ITEM_ID else f"Item {order.item_id}"
    capacity = order.stock if order.stock is not None else old.capacity if old else FIRST_STOCK
    shard_count = order.shard_count or default_shard_count(capacity)
    generation = old.generation + 1 if old else 1
    limit = order.per_buyer_limit
    if limit is None and old is not None:
        limit = old.per_buyer_limit
    keys = (*(old.reset_keys if old else ()), ResetKey(order.key, generation, order.request))
    return Sale(
        item_id=order.item_id,
        item_name=order.item_name or (old.item_name if old else first_name),
        capacity=capacity,
        shard_count=shard_count,
        shards_ever=max(shard_count, old.shards_ever if old else 0),
        generation=generation,
        created_at=now,
        reset_keys=keys[-RESET_KEYS_MAX:],
        hold_seconds=order.hold_seconds or (old and old.hold_seconds) or HOLD_SECONDS_DEFAULT,
        per_buyer_limit=limit or None,
    )


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


def is_younger(then: float, now: float, seconds: float) -> bool:
    """Return whether `then` was less than `seconds` ago; False where the clock was set back."""
    return 0 <= now - then < seconds


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
