"""The data of a sale, and the results of the use cases.

Knows no boto3, no Powertools, no environment, no clock.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cached_property

from msgspec import UNSET, Struct, UnsetType

from ticketing.limits import CLOCK_SKEW_SECONDS
from ticketing.moves import Status


class UsedKey(Struct, frozen=True):
    """An idempotency key with which the organiser has changed a sale.

    key: a digest of the key, which may be long. generation: the one that the change started, or was
    made in. request: a digest of what was asked for.
    """

    key: str
    generation: int
    request: str


class Resize(Struct, frozen=True):
    """A change of a sale's capacity that is not finished.

    capacity: to be reached. before: the one that it goes back to where too few tickets are free.
    """

    capacity: int
    before: int


class Phase(StrEnum):
    """Whether a sale sells, and if not, why not. Its stock has no part in it."""

    SCHEDULED = "scheduled"  # its window has not begun
    OPEN = "open"
    PAUSED = "paused"
    CLOSED = "closed"  # its window is over
    DELETED = "deleted"  # its item was deleted


class Sale(Struct, frozen=True):
    """One generation of an item's sale. Its record defines the sale; shards are opened from it.

    capacity: the sum of the shards' capacities, at every instant; a shard that is not open yet has
    its share. shards_opened: all shards were opened for this generation. One that is missing then
    is damage, and is never opened again, because its tickets may be sold. resize: None: the
    capacity is as it should be. is_spreading: new shards are to get tickets of the others.
    is_deleted: the item was deleted, with no ticket sold or held. Its record stays, so that its
    next generation gets another number, and its shards.
    shards_ever: the highest shard count of all generations; a reset closes that many shards to
    older generations. used_keys: of the last changes, the newest at the end. hold_seconds: how long
    a hold lasts; None where the sale has none, because an earlier version opened it.
    per_buyer_limit: how many tickets a buyer may hold and have bought together; None: any number.
    opens_at, closes_at: the window in which tickets are sold, without its end, in seconds since the
    epoch; None: without a beginning, or an end. is_paused: the organiser has stopped it.
    slot_seconds: how far its expiry slots are apart at least. revision: counts the changes of the
    record, of all generations; 0: an earlier version has put it.
    """

    item_id: int
    item_name: str
    capacity: int
    shard_count: int
    shards_ever: int
    generation: int
    created_at: str
    used_keys: tuple[UsedKey, ...] = ()
    hold_seconds: int | None = None
    per_buyer_limit: int | None = None
    opens_at: float | None = None
    closes_at: float | None = None
    is_paused: bool = False
    slot_seconds: int = 0
    revision: int = 0
    shards_opened: bool = False
    resize: Resize | None = None
    is_spreading: bool = False
    is_deleted: bool = False

    def used_key(self, key: str) -> UsedKey | None:
        """Return the change with this key digest; None where it is not in the record."""
        return next((each for each in self.used_keys if each.key == key), None)

    def phase(self, now: float) -> Phase:
        """Return whether the sale sells. now: by the clock of the process that would sell.

        A sale that is paused before its window says so, because it will not open by itself.
        """
        if self.is_deleted:
            return Phase.DELETED
        if self.closes_at is not None and now >= self.closes_at:
            return Phase.CLOSED
        if self.is_paused:
            return Phase.PAUSED
        if self.opens_at is not None and now < self.opens_at:
            return Phase.SCHEDULED
        return Phase.OPEN

    def share(self, index: int) -> int:
        """Return the tickets that shard `index` opens with; 0 where there is no such shard."""
        if index >= self.shard_count:
            return 0
        return self.capacity // self.shard_count + (index < self.capacity % self.shard_count)


def is_over(slot: int, now: float) -> bool:
    """Return whether an expiry slot is over by the clock of every process. now: by ours."""
    return slot + CLOCK_SKEW_SECONDS <= now


class Shard(Struct, frozen=True):
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
    slots: Mapping[int, int] = {}
    reclaimed_until: int = 0

    @classmethod
    def fresh(cls, sale: Sale, index: int) -> "Shard":
        """Return shard `index` of `sale` before its first ticket is sold.

        Where all shards were opened, a missing one has no tickets: it is new, or lost.
        """
        share = 0 if sale.shards_opened else sale.share(index)
        return cls(
            index,
            sale.generation,
            capacity=share,
            stock=share,
            held=0,
            sold=0,
            updated_at=sale.created_at,
        )

    def expired(self, now: float) -> dict[int, int]:
        """Return the slots that are over by every clock → their tickets, which are free."""
        return {slot: tickets for slot, tickets in self.slots.items() if is_over(slot, now)}

    def free(self, now: float) -> int:
        """Return how many tickets can be taken: those of expired holds are among them."""
        return self.stock + sum(self.expired(now).values())

    def next_release_at(self, now: float) -> int | None:
        """Return when held tickets come back at the latest, the first of them; None: none held."""
        ends = [slot + CLOCK_SKEW_SECONDS for slot, tickets in self.slots.items() if tickets]
        return min((end for end in ends if end > now), default=None)


class StockSummary(Struct, frozen=True):
    """What one process saw of all shards of a sale, for all others.

    A sale has several, `part` 0 and more, so that no key is read too often. revision: counts the
    writes of the record; 0: there is none yet. published: the revision that the rest is of. A later
    revision is a claim: a process reads the shards for the next one. free: shard → its free
    tickets, without shards that had none. next_release_at: see `TooFew`. is_snapshot: all shards
    were read as of one instant. written_at: of the revision, in milliseconds since the epoch, by
    the clock of the process that wrote it, which may be another one than ours.
    """

    item_id: int
    part: int
    revision: int = 0
    published: int = 0
    generation: int = 0
    free: Mapping[int, int] = {}
    next_release_at: int | None = None
    is_snapshot: bool = False
    written_at: int = 0

    @property
    def is_claimed(self) -> bool:
        """Return whether a process has begun to read the shards for the next one."""
        return self.revision != self.published


class CountedTickets(Struct, frozen=True):
    """The tickets of one purchase or hold, as they count for its buyer.

    expires_at: of a hold, its expiry slot; None once it was bought.
    """

    tickets: int
    expires_at: int | None = None

    def is_live(self, now: float) -> bool:
        """Return whether they count: bought ones do, and those of a hold until it is over."""
        return self.expires_at is None or not is_over(self.expires_at, now)


class BuyerTickets(Struct, frozen=True):
    """What a buyer has of one generation of a sale that has a limit.

    purchases: purchase id → its tickets. Holds that are over may be among them. revision: counts
    the changes of the record; 0: there is none yet.
    """

    item_id: int
    generation: int
    buyer_id: str
    purchases: Mapping[str, CountedTickets] = {}
    revision: int = 0

    def tickets(self, now: float) -> int:
        """Return how many tickets count: bought ones, and those of holds that are not over."""
        return sum(each.tickets for each in self.live(now).values())

    def live(self, now: float) -> dict[str, CountedTickets]:
        """Return purchase id → its tickets, of those that count."""
        return {id_: each for id_, each in self.purchases.items() if each.is_live(now)}


class Order(Struct, frozen=True, dict=True):
    """A request to buy or to hold.

    keyed: it has an idempotency key, so the buyer can repeat it safely. is_hold: the tickets are
    held, and not bought.
    """

    item_id: int
    quantity: int
    buyer_id: str | None
    purchase_id: str
    keyed: bool
    is_hold: bool = False

    @cached_property
    def fingerprint(self) -> str:
        """Return a digest that differs where two requests with one key ask for different things."""
        content = [self.item_id, self.quantity, self.buyer_id, *(["hold"] * self.is_hold)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


class Purchase(Struct, frozen=True):
    """The record of a purchase or a hold. It is the receipt, and it makes a key buy only once.

    taken: shard index → its tickets that this purchase has. refunds: digest of a refund's
    idempotency key → tickets refunded. What is refunded after a reset stays in `taken`, because its
    shard no longer has the generation. refunded_at: when the last one was made. revision: counts
    the changes of the record. is_counted: its tickets count for the buyer, because the sale has a
    limit.

    Of a refused order, which took none, otherwise None: left: the tickets that could be taken.
    next_release_at, limit: see `TooFew`.

    Of a hold, otherwise None: expires_at: its expiry slot, also after it was confirmed.
    extended_at, confirmed_at: timestamps. payment_reference: of the payment that it was confirmed
    with. refused_payments: digests of payments that came too late, the newest at the end. They
    were to be refunded, so none of them confirms it any more.
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
    refunds: Mapping[str, int] = {}
    revision: int = 0
    is_counted: bool = False
    left: int | None = None
    next_release_at: int | None = None
    limit: int | None = None
    expires_at: int | None = None
    extended_at: str | None = None
    confirmed_at: str | None = None
    payment_reference: str | None = None
    refused_payments: tuple[str, ...] = ()
    refunded_at: str | None = None

    @property
    def purchased_at(self) -> str:
        """Return when the tickets were bought."""
        return self.confirmed_at or self.created_at

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

    @property
    def is_purchase(self) -> bool:
        """Return whether the tickets are or were bought, also where they were held before."""
        return self.status in {Status.CONFIRMED, Status.REFUNDED}

    @property
    def is_hold(self) -> bool:
        """Return whether this is a hold, or a purchase that was one."""
        return self.expires_at is not None and not self.is_refused


class Payment(Struct, frozen=True):
    """The record of a payment: it pays for one purchase. reference: the provider's id of it."""

    reference: str
    purchase_id: str
    created_at: str


class Bought(Struct, frozen=True):
    """The purchase is recorded. replayed: an earlier request with this key made it."""

    purchase: Purchase
    replayed: bool


class Held(Struct, frozen=True):
    """The hold is recorded, or was changed as asked for. replayed: an earlier request did it.

    hold: it may have become a purchase, or be over since. Where it is over its status says so.
    """

    hold: Purchase
    replayed: bool


class TooFew(Struct, frozen=True):
    """Fewer tickets can be taken than asked for.

    sale: that was asked. left: how many can be taken. next_release_at: when the first tickets come
    back that are held now, in seconds since the epoch, if their holds are not confirmed or
    extended; None where none are held. limit: the buyer's, where that is why; None where too few
    tickets are free.
    """

    sale: Sale
    left: int
    next_release_at: int | None = None
    limit: int | None = None


class SoldOut(Struct, frozen=True):
    """Fewer tickets were free than asked for, at some instant of this request or the second before.

    left, next_release_at: see `TooFew`. final: this refusal is in the record of the idempotency
    key, which never buys any more. replayed: an earlier request with this key was refused, at that
    time.
    """

    left: int
    next_release_at: int | None = None
    final: bool = False
    replayed: bool = False


class LimitReached(Struct, frozen=True):
    """The buyer had too many tickets to get those asked for, at some instant of this request.

    limit: of the sale for each buyer. left: how many of it were left. final, replayed: see
    `SoldOut`.
    """

    limit: int
    left: int
    final: bool = False
    replayed: bool = False


class KeyReused(Struct, frozen=True):
    """The idempotency key belongs to another request."""


type Outcome = Bought | Held | SoldOut | LimitReached | KeyReused


class HoldProblem(StrEnum):
    """Why a hold cannot be confirmed, extended or released. Nothing was changed, or will be."""

    EXPIRED = "expired"
    RELEASED = "released"
    CONFIRMED = "confirmed"  # already
    ALREADY_PAID = "already_paid"  # confirmed, with another payment or without one
    PAYMENT_REUSED = "payment_reused"  # the payment has paid for another hold


type ConfirmOutcome = Bought | HoldProblem
type HoldOutcome = Held | HoldProblem


class Refunded(Struct, frozen=True):
    """The refund is recorded. replayed: an earlier request with this key made it."""

    purchase: Purchase
    quantity: int
    replayed: bool


class RefundTooLarge(Struct, frozen=True):
    """Fewer tickets of the purchase are left to refund than asked for. left: how many."""

    left: int


type RefundOutcome = Refunded | RefundTooLarge | KeyReused


class SaleSettings(Struct, frozen=True):
    """What the organiser asks for. None keeps the sale's value, where there is one.

    shard_count: None takes the default for the capacity where a generation starts. per_buyer_limit:
    0 lifts it. opens_at, closes_at: UNSET keeps the sale's value, and None lifts it.
    """

    capacity: int | None = None
    item_name: str | None = None
    shard_count: int | None = None
    hold_seconds: int | None = None
    per_buyer_limit: int | None = None
    opens_at: float | UnsetType | None = UNSET
    closes_at: float | UnsetType | None = UNSET


class SaleState(Struct, frozen=True, dict=True):
    """A sale with its shards, each as it was when it was read or opened. now: by our clock then."""

    sale: Sale
    shards: Sequence[Shard]
    now: float

    @cached_property
    def free(self) -> int:
        """Return how many tickets can be taken: those of expired holds are among them."""
        return sum(shard.free(self.now) for shard in self.shards)

    @cached_property
    def capacity(self) -> int:
        """Return how many tickets the shards have, free, held and sold ones."""
        return sum(shard.capacity for shard in self.shards)

    @cached_property
    def held(self) -> int:
        """Return how many tickets are held and may not be taken."""
        return sum(shard.held - sum(shard.expired(self.now).values()) for shard in self.shards)

    @cached_property
    def sold(self) -> int:
        """Return how many tickets are sold."""
        return sum(shard.sold for shard in self.shards)

    @property
    def phase(self) -> Phase:
        """Return whether the sale sells."""
        return self.sale.phase(self.now)

    @property
    def is_sold_out(self) -> bool:
        """Return whether the sale is open, and no ticket is free or can come free by itself."""
        return self.phase is Phase.OPEN and not self.free and not self.held

    @cached_property
    def next_release_at(self) -> int | None:
        """Return when the first held tickets come back, see `TooFew`; None: none are held."""
        releases = [shard.next_release_at(self.now) for shard in self.shards]
        return min(filter(None, releases), default=None)

    @cached_property
    def updated_at(self) -> str:
        """Return when the last ticket moved. ISO 8601 in UTC sorts as time does."""
        return max(shard.updated_at for shard in self.shards)


class SaleChange(Struct, frozen=True):
    """A sale after a change by the organiser.

    replayed: an earlier request with this key made the change. is_new: there was no such item.
    """

    inventory: SaleState
    replayed: bool = False
    is_new: bool = False

    @property
    def sale(self) -> Sale:
        """Return the sale's record."""
        return self.inventory.sale


class CataloguePage(Struct, frozen=True):
    """Some sales of the catalogue, in the order of their item ids.

    after: the item id after which the next page begins; None: there is no next page. now: by our
    clock, when they were read.
    """

    sales: Sequence[Sale]
    after: int | None
    now: float


class FullAudit(Struct, frozen=True):
    """The audit of all items.

    others: items without a record, and records that cannot be read, of whatever item. looked_at:
    records of the table. complete: all of them.
    """

    items: Sequence["AuditResult"]
    others: Sequence[str]
    looked_at: int
    complete: bool

    @property
    def problems(self) -> int:
        """Return how many problems there are."""
        return len(self.others) + sum(len(item.problems) for item in self.items)


class RepairResult(Struct, frozen=True):
    """What a repair has changed, or would change, and what it leaves.

    is_applied: it has changed it. cursor: where to continue; None where all was looked at.
    """

    sale: Sale
    is_applied: bool
    repaired: Sequence[str]
    problems: Sequence[str]
    checked_at: str
    cursor: str | None


class ExportTotal(Struct, frozen=True):
    """What the purchases of an export add up to.

    quantity, refunded: in tickets. sold: what the counters say when the last part is read; None of
    a generation that is over. problems: where records and counters differ, and records that cannot
    be read. What was bought or refunded meanwhile is none.
    """

    purchases: int
    quantity: int
    refunded: int
    sold: int | None
    problems: Sequence[str]
    checked_at: str


class ExportPart(Struct, frozen=True):
    """A part of an export: purchases of one generation.

    total: of all parts; None before the last one. cursor: of the next part; None after the last
    one. holds: all holds, also those that were confirmed; None: they were not asked for.
    """

    item_id: int
    generation: int
    purchases: Sequence[Purchase]
    is_first: bool
    total: ExportTotal | None
    cursor: str | None
    holds: Sequence[Purchase] | None = None


class AuditResult(Struct, frozen=True):
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
