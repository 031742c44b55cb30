"""What the store contained at every instant, and the violations that only the store shows.

It reads raw items and knows nothing of the domain code. A refusal is judged exactly: at some
instant between request and response, or in the second before, which a process may cache, there were
too few free tickets, as many as the refusal says. The other checks are of counters, at every write,
and of the records, at the end.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from heapq import heappop, heappush
from itertools import pairwise
from math import inf
from typing import NamedTuple

from msgspec import structs

from proof.history import (
    RECEIPTS,
    REFUSALS,
    REFUSALS_FOR_NOW,
    SHORTAGES,
    Attempt,
    Evidence,
    History,
    Kind,
    PurchaseRequest,
    Violation,
)
from simulation.buyers import Limits
from simulation.expressions import Item
from simulation.openings import TRANSACTION_SECONDS_MAX, Openings
from simulation.records import BUYER, PURCHASE, SHARD, StoredPurchase, StoredShard
from simulation.world import EPOCH_SECONDS
from ticketing.limits import CLOCK_SKEW_SECONDS


class Free(NamedTuple):
    """The free tickets at an instant. A hold that ends just then is free for some clocks only.

    least, most: for a clock that is behind, and for one that is ahead. held: for one that is
    behind.
    """

    least: int
    most: int
    held: int


class GenerationStock:
    """The free tickets of one generation as a step function of time, while buyers can buy them.

    It begins when the sale's record has the generation, and ends when the first of its shards has a
    newer one. A shard that is not open yet has its whole share. Tickets of holds are free when
    their slot is over. The capacity that the sale's record says is the one of its shards.
    """

    def __init__(self, number: int, capacity: int, shard_count: int, now: float) -> None:
        self.number = number
        self.shard_count = shard_count
        self.ends_at = float("inf")
        self._stock = [
            capacity // shard_count + (index < capacity % shard_count)
            for index in range(shard_count)
        ]
        self._slots: list[Mapping[int, int]] = [{} for _ in range(shard_count)]
        self._stated = capacity
        self._capacities = list(self._stock)
        self._differences = [(now, 0)]
        self.began_at = now
        self._times = [now]
        self._free = [Free(capacity, capacity, 0)]
        self._ends: list[float] = []  # a heap: when a slot ends for the first and the last clock
        self._known = set[int]()

    def change_sale(self, capacity: int, shard_count: int, now: float) -> None:
        """Note what the sale's record says from now on. New shards have no tickets."""
        new = shard_count - self.shard_count
        self.shard_count = shard_count
        self._stock += [0] * new
        self._capacities += [0] * new
        self._slots += [{} for _ in range(new)]
        self._stated = capacity
        self._differences.append((now, sum(self._capacities) - capacity))

    def wrong_capacities(self, ends_at: float) -> Iterator[Violation]:
        """G1: the shards have the capacity of the sale's record, except in a transaction."""
        times = [*(now for now, _ in self._differences[1:]), ends_at]
        for (since, difference), until in zip(self._differences, times, strict=True):
            if difference and until - since > TRANSACTION_SECONDS_MAX:
                expected = "shards with the capacity of the sale's record"
                found = f"{difference} more, in generation {self.number} from {since:.3f} s on"
                yield Violation("G1", "capacity_of_shards", expected, found)

    def change(self, index: int, shard: StoredShard, now: float) -> None:
        """Note a shard as it is from now on."""
        self._pass(now)
        self._stock[index] = shard.stock
        if shard.capacity != self._capacities[index]:
            self._capacities[index] = shard.capacity
            self._differences.append((now, sum(self._capacities) - self._stated))
        self._slots[index] = shard.slots
        for slot in shard.slots.keys() - self._known:
            self._known.add(slot)
            for end in (slot - EPOCH_SECONDS, slot - EPOCH_SECONDS + CLOCK_SKEW_SECONDS):
                heappush(self._ends, end)
        self._note(now)

    def _pass(self, until: float) -> None:
        """Note the ends of slots until then."""
        while self._ends and self._ends[0] <= until:
            self._note(heappop(self._ends))

    def _note(self, now: float) -> None:
        stock, held = sum(self._stock), sum(sum(slots.values()) for slots in self._slots)
        if held:
            # Free from a second after the slot on: clocks are up to a second ahead.
            over = [self._over(now + EPOCH_SECONDS - late) for late in (CLOCK_SKEW_SECONDS, 0)]
        else:
            over = [0, 0]
        self._times.append(now)
        self._free.append(Free(stock + over[0], stock + over[1], held - over[0]))

    def _over(self, until: float) -> int:
        return sum(
            tickets for slots in self._slots for slot, tickets in slots.items() if slot <= until
        )

    def only_gets_fewer(self, until: float) -> bool:
        """Return whether no ticket came back until then."""
        self._pass(until)
        free = self._free[: bisect_right(self._times, until)]
        return all(
            after.least <= before.least and after.most <= before.most
            for before, after in pairwise(free)
        )

    def free_between(self, start: float, end: float) -> list[Free]:
        """Return how many tickets were free, at all instants from `start` to `end`."""
        if start > self.ends_at or end < self._times[0]:
            return []
        self._pass(end)
        first = max(0, bisect_right(self._times, start) - 1)
        return self._free[first : bisect_right(self._times, min(end, self.ends_at))]


class Observer:
    """Watches the writes of one table. `write` is an observer of `DynamoDB`."""

    def __init__(self, item_id: int) -> None:
        self._violations: list[tuple[float, Violation]] = []
        self.generations: list[GenerationStock] = []
        self._origin = 0.0
        self.purchases: dict[str, StoredPurchase] = {}
        self._sale_key = f"item#{item_id}"
        self._sold: dict[tuple[int, int], int] = {}
        self._limits = Limits()
        self._openings = Openings()

    def write(self, key: str, before: Item | None, after: Item | None, now: float) -> None:
        """Note a change of an item."""
        if key == self._sale_key and after is not None:
            self._note_sale(after, now)
        elif key.startswith(self._sale_key + SHARD):
            self._note_shard(key, after, now)
        elif key.startswith(self._sale_key + "#") and BUYER in key and after is not None:
            self._limits.note_record(key, after)
        elif key.startswith(PURCHASE):
            self._note_purchase(key, before, after, now)

    def _note_sale(self, item: Item, now: float) -> None:
        self._openings.note_sale(item, now)
        number, capacity = int(item["generation"]["N"]), int(item["capacity"]["N"])
        newest = self.generations[-1].number if self.generations else 0
        shard_count = int(item["shard_count"]["N"])
        if number == newest:
            self.generations[-1].change_sale(capacity, shard_count, now)
            return
        if number != newest + 1:
            found = f"generation {number} after {newest}"
            self._report("G1", "generations_do_not_rise", "each generation once", found, now)
        self.generations.append(GenerationStock(number, capacity, shard_count, now))
        limit = item.get("per_buyer_limit")
        self._limits.by_generation[number] = int(limit["N"]) if limit else None

    def _note_shard(self, key: str, item: Item | None, now: float) -> None:
        if item is None:
            self._report("G1", "shard_is_deleted", "every shard for ever", key, now)
            return
        index, shard = int(key.rpartition("#")[2]), StoredShard.of(item)
        self._openings.note_shard(index, item, now)
        slots = sum(shard.slots.values())
        if min(shard.stock, shard.held, shard.sold) < 0 or (
            shard.stock + shard.held + shard.sold != shard.capacity or shard.held != slots
        ):
            expected = "counters of a shard that are not negative and add up to its capacity"
            found = f"{key}: {shard}, in slots {slots}"
            self._report("G1", "shard_counters", expected, found, now)
        for generation in self.generations:
            if generation.number == shard.generation and index < generation.shard_count:
                generation.change(index, shard, now)
            elif generation.number < shard.generation and index < generation.shard_count:
                generation.ends_at = min(generation.ends_at, now)
        self._sold[shard.generation, index] = shard.sold

    def _note_purchase(self, key: str, before: Item | None, after: Item | None, now: float) -> None:
        purchase = StoredPurchase.of(key, after, now) if after is not None else None
        earlier = StoredPurchase.of(key, before, now) if before is not None else None
        if earlier is not None and (purchase is None or not earlier.may_become(purchase)):
            expected = "a record that only refunds and the changes of a hold change"
            self._report("G3", "record_is_replaced", expected, f"{key}: {after}", now)
        if after is not None:
            self._openings.note_purchase(key, earlier, after, now)
        if purchase is not None and (violation := self._limits.note_purchase(purchase, now)):
            self._violations.append((now, violation))
        if purchase is not None and purchase.is_sold:
            first = self.purchases.get(purchase.purchase_id)
            put_at = first.put_at if first else now
            self.purchases[purchase.purchase_id] = structs.replace(purchase, put_at=put_at)

    def _report(self, guarantee: str, rule: str, expected: str, found: str, now: float) -> None:
        self._violations.append((now, Violation(guarantee, rule, expected, found)))

    def judge(self, history: History, keys: Mapping[str, str]) -> list[Violation]:
        """Return all violations that the store shows, one per rule.

        keys: purchase id → idempotency key, of the keys in the history.
        """
        found: dict[str, Violation] = {}
        self._origin = began_at(history)
        for violation in (
            *(
                structs.replace(violation, evidence=(self._instant(now),))
                for now, violation in self._violations
            ),
            *self._refusals(history),
            *self._wrong_capacities(),
            *self._openings.wrong_sales(),
            *self._not_open(history),
            *self._totals(),
            *self._limits.differences(),
            *self._owners(history, keys),
        ):
            found.setdefault(violation.rule, violation)
        return list(found.values())

    def _wrong_capacities(self) -> Iterator[Violation]:
        ends = [*(each.began_at for each in self.generations[1:]), inf]
        for generation, ends_at in zip(self.generations, ends, strict=True):
            yield from generation.wrong_capacities(ends_at)

    def _refusals(self, history: History) -> Iterator[Violation]:
        """G2, G5: every refusal is true at some instant, with its figure."""
        first_sent_at: dict[str, float] = {}
        for request, attempt in _answers(history.requests):
            sent_at = first_sent_at.setdefault(request.key, attempt.started_at)
            first_sent_at[request.key] = min(sent_at, attempt.started_at)
        for request, attempt in _answers(history.requests):
            # A replayed refusal had its time in an earlier attempt with the key.
            started_at = first_sent_at[request.key] if attempt.replayed else attempt.started_at
            if attempt.kind in REFUSALS - SHORTAGES:
                yield from self._limit_refusals(request, attempt, started_at, history.cache_seconds)
            if attempt.kind not in SHORTAGES:
                continue
            start = started_at - history.cache_seconds
            free = [
                count
                for generation in self.generations
                for count in generation.free_between(start, attempt.ended_at)
            ]
            line = self._line(request, attempt)
            fewest = min((each.least for each in free), default=0)
            if fewest >= request.quantity:
                yield Violation(
                    "G2",
                    "refused_while_tickets_were_free",
                    f"{request.quantity} tickets: in the whole time at least {fewest} were free",
                    attempt.kind,
                    (line,),
                )
            elif not any(_is_true(attempt, each) for each in free) or (
                (attempt.left or 0) >= request.quantity
            ):
                yield Violation(
                    "G5",
                    "figure_that_never_was",
                    f"a number of free tickets of that time: {sorted(set(free))}",
                    f"{attempt.kind}, {attempt.left} left",
                    (line,),
                )

    def _limit_refusals(
        self,
        request: PurchaseRequest,
        attempt: Attempt,
        started_at: float,
        cache_seconds: float,
    ) -> Iterator[Violation]:
        """G2, G5: a refusal for the buyer's limit is true at some instant, with its figure.

        The limit is cached, and what the buyer has is not.
        """
        alive = [
            generation.number
            for generation in self.generations
            if generation.free_between(started_at - cache_seconds, attempt.ended_at)
        ]
        if attempt.kind is Kind.LIMIT_REACHED and not any(
            self._limits.is_true(attempt, request, number, started_at) for number in alive
        ):
            yield Violation(
                "G2",
                "refused_within_limit",
                f"{request.quantity} tickets: {request.buyer_id} had never so many that it must "
                "be refused with this figure",
                f"{attempt.kind}, {attempt.left} left",
                (self._line(request, attempt),),
            )
        limits = [self._limits.by_generation[number] for number in alive]
        if attempt.kind is Kind.BUYER_UNKNOWN and (request.buyer_id or not any(limits)):
            expected = "an order: it names its buyer, or the sale has no limit"
            line = self._line(request, attempt)
            yield Violation("G5", "buyer_known_or_not_needed", expected, attempt.kind, (line,))

    def _not_open(self, history: History) -> Iterator[Violation]:
        """G5: a sale that is said not to be open is so at some instant, and for this reason."""
        for request, attempt in _answers(history.requests):
            if attempt.kind is Kind.NOT_OPEN and not self._openings.is_true(
                attempt, history.cache_seconds
            ):
                yield Violation(
                    "G5",
                    "not_open_yet_open",
                    f"a sale that was {attempt.reason} between request and answer",
                    attempt.kind,
                    (self._line(request, attempt),),
                )

    def _totals(self) -> Iterator[Violation]:
        """G4: in every shard and generation the records add up to what the shard says it sold."""
        taken: Counter[tuple[int, int]] = Counter()
        for purchase in self.purchases.values():
            for index, tickets in purchase.taken.items():
                taken[purchase.generation, index] += tickets
            # A refund after a reset gives no tickets back to a shard.
            kept = purchase.quantity - purchase.refunded
            if not kept <= sum(purchase.taken.values()) <= purchase.quantity or (
                purchase.generation == self.generations[-1].number
                and sum(purchase.taken.values()) != kept
            ):
                expected = "as many tickets taken as were bought and not refunded"
                yield Violation("G4", "taken_is_not_quantity", expected, f"{purchase}")
        for place in sorted(taken.keys() | self._sold.keys()):
            if taken[place] != self._sold.get(place, 0):
                generation, index = place
                yield Violation(
                    "G4",
                    "records_and_counters",
                    f"{taken[place]} sold in shard {index} of generation {generation}, as the "
                    "records say",
                    f"{self._sold.get(place, 0)}",
                )

    def _owners(self, history: History, keys: Mapping[str, str]) -> Iterator[Violation]:
        """G5: every record belongs to a caller who has its receipt, or no definite answer."""
        by_key: dict[str, list[tuple[PurchaseRequest, Attempt]]] = defaultdict(list)
        without_key: dict[str | None, list[Attempt]] = defaultdict(list)
        receipts = set[str]()
        sent_keys = set(keys.values())
        receipts |= {change.purchase_id for change in history.changes if change.done is not False}
        for request, attempt in _answers(history.requests):
            by_key[request.key].append((request, attempt))
            if request.key not in sent_keys:
                without_key[request.buyer_id].append(attempt)
            if attempt.kind in RECEIPTS and attempt.receipt is not None:
                receipts.add(attempt.receipt.purchase_id)
        strangers: Counter[str | None] = Counter()
        for purchase_id, purchase in self.purchases.items():
            if purchase_id in receipts:
                continue
            if purchase_id in keys:
                yield from self._refused_yet_bought(purchase, by_key[keys[purchase_id]], history)
            else:
                strangers[purchase.buyer_id] += 1
        for buyer_id, records in strangers.items():
            unknown = sum(attempt.kind is Kind.UNKNOWN for attempt in without_key[buyer_id])
            if records > unknown:
                yield Violation(
                    "G5",
                    "record_without_an_owner",
                    f"at most {unknown} records of {buyer_id} beside its receipts: it has no key, "
                    f"and so many attempts without a definite answer",
                    f"{records}",
                )

    def _refused_yet_bought(
        self,
        purchase: StoredPurchase,
        answers: Iterable[tuple[PurchaseRequest, Attempt]],
        history: History,
    ) -> Iterator[Violation]:
        """Report a record whose key was refused, where no attempt in doubt can have put it.

        One that is in flight may find tickets that have come back, or that a reset brought, or a
        sale that was still open for it.
        """
        answers = list(answers)
        in_doubt = any(attempt.kind is Kind.UNKNOWN for _, attempt in answers)
        for request, attempt in answers:
            is_other = (request.quantity, request.is_hold) != (
                purchase.quantity,
                purchase.expires_at is not None,
            )
            if attempt.kind not in REFUSALS_FOR_NOW or is_other:
                continue
            start = attempt.started_at - history.cache_seconds
            alive = {
                generation.number: generation.only_gets_fewer(purchase.put_at)
                for generation in self.generations
                if generation.free_between(start, attempt.ended_at)
            }
            is_certain = attempt.kind in REFUSALS and alive == {purchase.generation: True}
            if not in_doubt or attempt.replayed or is_certain:
                yield Violation(
                    "G5",
                    "refused_and_bought",
                    "a refusal, or a record of the purchase, for one key",
                    f"both; the record was put at {purchase.put_at - self._origin:.3f} s",
                    (self._line(request, attempt),),
                )

    def _instant(self, now: float) -> Evidence:
        return Evidence(f"the store at {now - self._origin:.3f} s", now, now)

    def _line(self, request: PurchaseRequest, attempt: Attempt) -> Evidence:
        start, end = attempt.started_at - self._origin, attempt.ended_at - self._origin
        text = (
            f"{start:.3f}-{end:.3f} s  key {request.key}, "
            f"{request.quantity} tickets → {attempt.kind} ({attempt.left} left)"
        )
        return Evidence(text, attempt.started_at, attempt.ended_at, request.key)


def _is_true(refusal: Attempt, free: Free) -> bool:
    """Return whether a refusal tells the free tickets, and whether any are held."""
    if refusal.left is None or not free.least <= refusal.left <= free.most:
        return False
    return refusal.kind is Kind.NOT_ENOUGH_LEFT or (refusal.kind is Kind.ALL_HELD) == (
        free.held - (refusal.left - free.least) > 0
    )


def began_at(history: History) -> float:
    """Return when the first purchase was sent. Evidence counts seconds from here."""
    return min((attempt.started_at for _, attempt in _answers(history.requests)), default=0.0)


def _answers(
    requests: Iterable[PurchaseRequest],
) -> Iterator[tuple[PurchaseRequest, Attempt]]:
    return ((request, attempt) for request in requests for attempt in request.attempts)
