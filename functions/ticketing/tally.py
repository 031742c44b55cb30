"""What an audit counts: the records of a sale, shard by shard, and where its counters differ.

A tally counts records one after the other while the sale goes on. A shard that is the same before
and after is compared exactly: none of its records can have changed in between. For one that has
changed, the records' own times say what it must have sold when the audit began, and what it may
have sold.
"""

import base64
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import inf

import msgspec
from msgspec import Struct

from ticketing.errors import InvalidRequest
from ticketing.limits import CLOCK_SKEW_SECONDS, PROBLEMS_MAX, UNSURE_SECONDS
from ticketing.model import Purchase, Sale, Shard
from ticketing.moves import Status
from ticketing.rules import current_shards, digest, seconds_of, totals


class ShardTally(Struct, array_like=True):
    """What was counted of one shard. Everything is in tickets.

    seen: digest of the shard when the audit began; empty: it was not stored. sold, sold_before: its
    counters then; of a shard that was not open yet, `sold` is 0. is_open: whether it was. taken: in
    purchases of this generation. taken_before: in those of all earlier ones. sure: taken for
    certain when the audit began. unsure: perhaps, besides. held: expiry slot → in holds; in a tally
    that is not by slot, all holds whose slot is still there are in one, 0.
    """

    seen: str = ""
    sold: int = 0
    sold_before: int = 0
    is_open: bool = False
    taken: int = 0
    taken_before: int = 0
    sure: int = 0
    unsure: int = 0
    held: dict[int, int] = {}

    def held_in(self, slots: Collection[int]) -> int:
        """Return the tickets of holds in these slots, which are the shard's."""
        if 0 in self.held:
            return self.held[0]
        return sum(tickets for slot, tickets in self.held.items() if slot in slots)


class Difference(Struct, frozen=True):
    """What is wrong. index: with which shard; None: with the sale."""

    index: int | None
    problem: str


class Tally(Struct):
    """What an audit has counted so far. The caller carries it to the next request as the cursor.

    began_at, read_at: by our clock, before and after the shards were read first. by_slot: holds are
    counted by expiry slot. unsure_anywhere: tickets that any shard may have had sold besides, when
    the audit began. unreadable: how many records cannot be read. unheld: holds whose tickets
    their shards do not have, in a tally by slot. start: where the next page of records starts.
    """

    item_id: int
    generation: int
    began_at: float
    read_at: float
    by_slot: bool = False
    shards: dict[int, ShardTally] = {}
    records: int = 0
    tickets: int = 0
    unsure_anywhere: int = 0
    unreadable: int = 0
    problems: list[str] = []
    problems_left_out: int = 0
    unheld: list[Difference] = []
    start: str | None = None

    @classmethod
    def begin(
        cls, sale: Sale, shards: Sequence[Shard], *, began_at: float, read_at: float, by_slot: bool
    ) -> "Tally":
        """Return the tally before the first record. shards: all that are stored."""
        tally = cls(sale.item_id, sale.generation, began_at, read_at, by_slot)
        for shard in shards:
            sold, sold_before = _sold(shard, sale)
            is_open = shard.generation == sale.generation
            tally.shards[shard.index] = ShardTally(fingerprint(shard), sold, sold_before, is_open)
        return tally

    def demand(self, item_id: int, *, by_slot: bool) -> None:
        """Raise InvalidRequest where a cursor's tally is not of this item, or not of this kind."""
        if self.item_id != item_id:
            raise InvalidRequest(f"This cursor belongs to item {self.item_id}.", field="cursor")
        if self.by_slot != by_slot:
            raise InvalidRequest(
                "An audit and a repair do not share cursors. Leave it out.", field="cursor"
            )

    def report(self, problem: str) -> None:
        """Note a problem with a record. Only the first ones are kept by name."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)
        else:
            self.problems_left_out += 1

    def all_problems(self) -> list[str]:
        """Return the problems with records."""
        if not self.problems_left_out:
            return self.problems
        return [*self.problems, f"There are {self.problems_left_out} more such records."]

    def count(self, record: Purchase, slots: Mapping[int, Collection[int]]) -> None:
        """Count a record. slots: shard → its expiry slots."""
        if record.status is Status.HELD:
            self._count_hold(record, slots)
        elif record.is_purchase:
            self._count_purchase(record)

    def _count_hold(self, record: Purchase, slots: Mapping[int, Collection[int]]) -> None:
        taken, slot = sum(record.taken.values()), record.expires_at
        if taken != record.quantity:
            self.report(
                f"Hold {record.purchase_id}: it has {record.quantity} tickets, and {taken} from "
                "stock."
            )
        if record.generation != self.generation or slot is None:
            return
        for index, tickets in record.taken.items():
            held = self._of(index).held
            if self.by_slot:
                held[slot] = held.get(slot, 0) + tickets
            elif slot in slots.get(index, ()):
                held[0] = held.get(0, 0) + tickets

    def _count_purchase(self, record: Purchase) -> None:
        taken, kept = sum(record.taken.values()), record.kept_quantity
        # What is refunded after a reset stays in `taken`.
        most = kept if record.generation == self.generation else record.quantity
        if not kept <= taken <= most:
            self.report(
                f"Purchase {record.purchase_id}: it has {kept} tickets, and {taken} from stock."
            )
        if record.generation == self.generation:
            self.records += 1
            self.tickets += kept
            for index, tickets in record.taken.items():
                self._of(index).taken += tickets
            self._count_then(record)
        elif record.generation < self.generation:
            for index, tickets in record.taken.items():
                self._of(index).taken_before += tickets

    def _count_then(self, record: Purchase) -> None:
        """Count what a purchase had taken when the audit began."""
        try:
            bought_at = seconds_of(record.purchased_at)
            refunded_at = seconds_of(record.refunded_at) if record.refunded_at else -inf
        except ValueError:
            self.report(f"Purchase {record.purchase_id}: one of its times is not a timestamp.")
            bought_at = refunded_at = self.began_at
        if bought_at > self.read_at + CLOCK_SKEW_SECONDS:
            return
        settled_before = self.began_at - UNSURE_SECONDS
        is_sure = bought_at < settled_before
        if refunded_at >= settled_before:
            self.unsure_anywhere += record.refunded_quantity  # from wherever they were taken
        for index, tickets in record.taken.items():
            shard = self._of(index)
            shard.sure += tickets if is_sure else 0
            shard.unsure += 0 if is_sure else tickets

    def _of(self, index: int) -> ShardTally:
        return self.shards.setdefault(index, ShardTally())

    def is_quiet(self, index: int, shard: Shard | None) -> bool:
        """Return whether a shard is as it was when the audit began. shard: as it is."""
        seen = self.shards[index].seen if index in self.shards else ""
        return seen == (fingerprint(shard) if shard else "")

    def differences(
        self, sale: Sale, shards: Sequence[Shard], unreadable: Collection[int], now: float
    ) -> Iterator[Difference]:
        """Yield where the records differ from the counters, after all records were counted.

        shards: all that are stored, as they are now. unreadable: those that cannot be read.
        """
        stored = {shard.index: shard for shard in shards}
        for index in sorted(self.shards.keys() | stored.keys()):
            if index in unreadable:
                continue
            shard = stored.get(index)
            if not is_lost(sale, index, shard):
                yield from self._differences(sale, index, shard, now)

    def _differences(
        self, sale: Sale, index: int, shard: Shard | None, now: float
    ) -> Iterator[Difference]:
        counted = self.shards.get(index, ShardTally())
        sold, sold_before = _sold(shard, sale)
        said, wrong = f"its counter says {sold}.", False
        if self.is_quiet(index, shard):
            holds, wrong = f"{counted.taken}", counted.taken != sold
        else:
            most = counted.sure + counted.unsure + self.unsure_anywhere
            holds, wrong = f"{counted.sure} to {most}", not counted.sure <= counted.sold <= most
            said = f"its counter said {counted.sold}."
        if wrong:
            yield Difference(index, f"Shard {index}: its records hold {holds} tickets, {said}")
        stays = counted.is_open and shard is not None and shard.generation == sale.generation
        if counted.taken_before != sold_before and (stays or self.is_quiet(index, shard)):
            yield Difference(
                index,
                f"Shard {index}: its records of earlier generations hold "
                f"{counted.taken_before} tickets, its counter says {sold_before}.",
            )
        if shard is not None and shard.generation == sale.generation:
            yield from self._hold_differences(counted, shard, now)

    def _hold_differences(
        self, counted: ShardTally, shard: Shard, now: float
    ) -> Iterator[Difference]:
        """Compare the holds with the shard, if it has not changed.

        A hold that was paid for after its time may have left its tickets in its slot, until that is
        reclaimed.
        """
        held = counted.held_in(shard.slots)
        is_over = min(shard.slots, default=inf) <= now + CLOCK_SKEW_SECONDS
        is_wrong = held > shard.held or (held < shard.held and not is_over)
        if is_wrong and self.is_quiet(shard.index, shard):
            yield Difference(
                shard.index,
                f"Shard {shard.index}: its holds have {held} tickets, its counter says "
                f"{shard.held}.",
            )


def to_cursor(state: Struct) -> str:
    """Return the state of a count as a text."""
    return base64.urlsafe_b64encode(zlib.compress(msgspec.json.encode(state), 9)).decode()


def from_cursor[State](cursor: str, shape: type[State]) -> State:
    """Return the state of a cursor. Raises InvalidRequest for one of something else."""
    try:
        return msgspec.json.decode(zlib.decompress(base64.urlsafe_b64decode(cursor)), type=shape)
    except (ValueError, zlib.error, msgspec.MsgspecError) as error:
        raise InvalidRequest(
            "This is not the cursor of an earlier response. Leave it out.", field="cursor"
        ) from error


def fingerprint(shard: Shard) -> str:
    """Return a short digest of a shard: the cursor carries one for each."""
    slots = sorted((slot, tickets) for slot, tickets in shard.slots.items() if tickets)
    counters = (shard.capacity, shard.stock, shard.held, shard.sold, shard.sold_before)
    return digest(shard.generation, shard.updated_at, counters, slots)[:12]


def is_lost(sale: Sale, index: int, shard: Shard | None) -> bool:
    """Return whether a shard was opened for the sale's generation, and is not there any more.

    shard: as it is stored; None: it is not.
    """
    if not sale.shards_opened or index >= sale.shard_count:
        return False
    return shard is None or shard.generation < sale.generation


def shard_differences(
    sale: Sale, shards: Sequence[Shard], unreadable: Collection[int]
) -> Iterator[Difference]:
    """Yield what is wrong with the shards by themselves, and with the sale's capacity.

    shards: all that are stored. unreadable: those that cannot be read.
    """
    stored = {shard.index: shard for shard in shards}
    for index in range(sale.shard_count):
        if index not in unreadable and is_lost(sale, index, stored.get(index)):
            yield Difference(index, f"Shard {index}: it is missing.")
    for shard in shards:
        for problem in _contradictions(shard):
            yield Difference(shard.index, f"Shard {shard.index}: {problem}.")
    capacity = capacity_of(sale, shards)
    if capacity != sale.capacity:
        yield Difference(
            None, f"The shards have a capacity of {capacity}, the sale of {sale.capacity}."
        )


def _contradictions(shard: Shard) -> Iterator[str]:
    if shard.stock + shard.held + shard.sold != shard.capacity:
        yield (
            f"stock {shard.stock} + held {shard.held} + sold {shard.sold} is not {shard.capacity}"
        )
    slots = sum(shard.slots.values())
    if shard.held != slots:
        yield f"held is {shard.held}, its expiry slots have {slots}"
    counters = (("stock", shard.stock), ("held", shard.held), ("sold", shard.sold))
    for name, count in counters:
        if count < 0:
            yield f"{name} is {count}"


def capacity_of(sale: Sale, shards: Sequence[Shard]) -> int:
    """Return the capacity of all shards together."""
    return totals(current_shards(sale, shards))[0]


def _sold(shard: Shard | None, sale: Sale) -> tuple[int, int]:
    """Return what a shard sold in the sale's generation, and in all earlier ones.

    What a shard sold that is not open yet belongs to the earlier ones.
    """
    if shard is None:
        return 0, 0
    if shard.generation == sale.generation:
        return shard.sold, shard.sold_before
    return 0, shard.sold_before + shard.sold
