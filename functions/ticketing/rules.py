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

from msgspec import UNSET

from ticketing.errors import InvalidRequest
from ticketing.limits import (
    HOLD_SECONDS_DEFAULT,
    SHARDS_MAX,
    SLOTS_PER_HOLD,
    TICKETS_PER_SHARD,
    USED_KEYS_MAX,
)
from ticketing.model import (
    Bought,
    BuyerTickets,
    CountedTickets,
    Held,
    KeyReused,
    LimitReached,
    Order,
    Outcome,
    Purchase,
    Sale,
    SaleSettings,
    Shard,
    SoldOut,
    TooFew,
    UsedKey,
)
from ticketing.moves import Status

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


def counted(buyer: BuyerTickets, after: Purchase, now: float) -> BuyerTickets:
    """Return what a buyer has after a change of one of their purchases.

    after: the purchase's record. It says what counts, whatever counted before: a hold that was over
    by every clock, and is confirmed or extended all the same, counts again.
    """
    purchases = buyer.live(now)
    purchases.pop(after.purchase_id, None)
    if after.status is Status.HELD:
        purchases[after.purchase_id] = CountedTickets(after.quantity, after.expires_at)
    elif after.is_purchase and after.kept_quantity:
        purchases[after.purchase_id] = CountedTickets(after.kept_quantity)
    return replace(buyer, purchases=purchases, revision=buyer.revision + 1)


def is_within(limit: int, before: BuyerTickets, after: BuyerTickets, now: float) -> bool:
    """Return whether a buyer may have what a move leaves them with.

    A limit that was lowered takes nothing away: a move is refused only where it adds tickets.
    """
    return after.tickets(now) <= max(limit, before.tickets(now))


def refund(purchase: Purchase, key: str, quantity: int, now: str, *, is_closed: bool) -> Purchase:
    """Return the purchase's record after a refund.

    key: digest of the refund's idempotency key. now: a timestamp. is_closed: a reset has
    closed its generation, so its shards take no tickets back.
    """
    back = {} if is_closed else _from_fullest(purchase.taken, quantity)
    kept = {index: tickets - back.get(index, 0) for index, tickets in purchase.taken.items()}
    whole = quantity == purchase.kept_quantity
    return replace(
        purchase,
        status=Status.REFUNDED if whole else Status.CONFIRMED,
        taken={index: tickets for index, tickets in kept.items() if tickets},
        refunds={**purchase.refunds, key: quantity},
        refunded_at=now,
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


def slot_seconds(hold_seconds: int) -> int:
    """Return how far expiry slots are apart: holds of this length are in SLOTS_PER_HOLD of them."""
    return math.ceil(hold_seconds / SLOTS_PER_HOLD)


def expiry_slot(hold_seconds: int, now: float, apart: int = 0) -> int:
    """Return when a hold that is made now expires: `hold_seconds` later, rounded up to a slot.

    apart: how far the sale's slots are apart at least, in seconds.
    """
    apart = max(apart, slot_seconds(hold_seconds))
    return math.ceil((now + hold_seconds) / apart) * apart


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


def next_sale(item_id: int, old: Sale | None, settings: SaleSettings, now: str) -> Sale:
    """Return the sale's next generation. old: the one before; None for a new item.

    now: a timestamp. An item that was deleted begins as a new one.
    """
    before = old
    if before is None or before.is_deleted:
        before = _unsold(item_id, old, now)
    capacity = settings.capacity
    if capacity is None:
        capacity = before.resize.before if before.resize else before.capacity
    shard_count = settings.shard_count or default_shard_count(capacity)
    hold_seconds = settings.hold_seconds or before.hold_seconds or HOLD_SECONDS_DEFAULT
    started = replace(
        before,
        capacity=capacity,
        shard_count=shard_count,
        shards_ever=max(shard_count, before.shards_ever),
        generation=before.generation + 1,
        created_at=now,
        slot_seconds=0,  # its shards have no slots yet
        shards_opened=False,
        resize=None,
        is_spreading=False,
    )
    return _with_settings(started, replace(settings, hold_seconds=hold_seconds))


def _unsold(item_id: int, deleted: Sale | None, now: str) -> Sale:
    """Return the sale before an item's first one. deleted: what was there; None: nothing."""
    return Sale(
        item_id,
        FIRST_ITEM_NAME if item_id == FIRST_ITEM_ID else f"Item {item_id}",
        capacity=FIRST_STOCK,
        shard_count=default_shard_count(FIRST_STOCK),
        shards_ever=deleted.shards_ever if deleted else 0,
        generation=deleted.generation if deleted else 0,
        created_at=now,
        used_keys=deleted.used_keys if deleted else (),
    )


def changed_sale(old: Sale, settings: SaleSettings) -> Sale:
    """Return the sale with what the organiser asks for, in the same generation.

    All but its capacity, which changes in steps. Raises InvalidRequest for what only a new
    generation can have.
    """
    shard_count = settings.shard_count or old.shard_count
    if shard_count < old.shard_count:
        raise InvalidRequest(
            f"The sale has {old.shard_count} shards, and cannot have fewer while it sells. "
            "POST /reset starts it again with fewer.",
            field="shards",
        )
    if settings.hold_seconds and old.hold_seconds is None:
        raise InvalidRequest(
            "An earlier version opened this sale, without holds. POST /reset starts it again with "
            "them.",
            field="hold_seconds",
        )
    if settings.per_buyer_limit and old.per_buyer_limit is None:
        raise InvalidRequest(
            "The sale has no limit for each buyer, so what buyers have is not counted. "
            "POST /reset starts it again with one.",
            field="per_buyer_limit",
        )
    wider = replace(
        old,
        shard_count=shard_count,
        shards_ever=max(shard_count, old.shards_ever),
        is_spreading=old.is_spreading or shard_count > old.shard_count,
    )
    return _with_settings(wider, settings)


def resize_steps(stock: Mapping[int, int], tickets: int) -> list[dict[int, int]]:
    """Return how a sale gets more tickets, or fewer: shard → tickets that it gets, step by step.

    stock: shard → its free tickets; together at least as many as are taken away. tickets: to add;
    negative: to take away. The shards with the fewest get them, those with the most lose them.
    """
    even = _evened(stock, sum(stock.values()) + tickets)
    lacking = {index: even[index] - stock[index] for index in stock}
    sign = 1 if tickets > 0 else -1
    most = {index: sign * lack for index, lack in lacking.items() if sign * lack > 0}
    taken = _from_fullest(most, abs(tickets))
    return [{index: sign * count} for index, count in taken.items() if count]


def spread_steps(stock: Mapping[int, int]) -> list[dict[int, int]]:
    """Return how tickets move to shards that have few: shard → tickets that it gets, by step.

    stock: shard → its free tickets. Only to those that have less than half of an even share,
    because while a sale sells no two shards have the same for long.
    """
    even = _evened(stock, sum(stock.values()))
    givers = {index: stock[index] - even[index] for index in stock if stock[index] > even[index]}
    steps = []
    for taker in stock:
        lack = even[taker] - stock[taker] if 2 * stock[taker] < even[taker] else 0
        while lack and givers:
            giver = max(givers, key=lambda index: givers[index])
            moved = min(lack, givers[giver])
            steps.append({giver: -moved, taker: moved})
            lack -= moved
            givers[giver] -= moved
            if not givers[giver]:
                del givers[giver]
    return steps


def _evened(stock: Mapping[int, int], total: int) -> dict[int, int]:
    """Return shard → its equal part of `total`; what is left over goes to the fullest shards."""
    by_stock = sorted(stock, key=lambda index: -stock[index])
    return {
        index: total // len(stock) + (position < total % len(stock))
        for position, index in enumerate(by_stock)
    }


def _with_settings(sale: Sale, settings: SaleSettings) -> Sale:
    """Return the sale with the settings that may change while it sells."""
    limit = settings.per_buyer_limit
    hold_seconds = settings.hold_seconds or sale.hold_seconds
    opens_at = sale.opens_at if settings.opens_at is UNSET else settings.opens_at
    closes_at = sale.closes_at if settings.closes_at is UNSET else settings.closes_at
    if opens_at is not None and closes_at is not None and closes_at <= opens_at:
        raise InvalidRequest(
            f"The sale would close at {timestamp(closes_at)}, before or when it opens, at "
            f"{timestamp(opens_at)}. Send a later closes_at, or an earlier opens_at.",
            field="closes_at",
        )
    return replace(
        sale,
        item_name=settings.item_name or sale.item_name,
        hold_seconds=hold_seconds,
        # Slots never get closer together: those of longer holds would still be there, and a shard
        # has room for one kind.
        slot_seconds=max(sale.slot_seconds, slot_seconds(hold_seconds or 0)),
        per_buyer_limit=sale.per_buyer_limit if limit is None else limit or None,
        opens_at=opens_at,
        closes_at=closes_at,
    )


def recorded(sale: Sale, old: Sale | None, key: str, request: str) -> Sale:
    """Return the record of a sale after a change. old: the one before; None for a new item.

    key, request: see `UsedKey`.
    """
    keys = (*sale.used_keys, UsedKey(key, sale.generation, request))
    revision = old.revision + 1 if old else 1
    return replace(sale, used_keys=keys[-USED_KEYS_MAX:], revision=revision)


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


def seconds_of(timestamp: str) -> float:
    """Return the seconds since the epoch of an instant as `timestamp` writes it."""
    return datetime.fromisoformat(timestamp).timestamp()
