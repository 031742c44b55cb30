"""A history, sorted for the checker: what was sent and told when, and bounds on what happened."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from math import inf

from msgspec import Struct, structs

from proof.history import (
    RECEIPTS,
    REFUSALS,
    Attempt,
    CapacityChange,
    Evidence,
    Export,
    History,
    HoldChange,
    Kind,
    PurchaseRequest,
    Receipt,
    Refund,
    Reset,
    Sample,
)
from proof.holds import HoldBounds


class PurchaseBounds(Struct, frozen=True):
    """One purchase id: when its key was first sent, and which receipt arrived first."""

    receipt: Receipt
    request: PurchaseRequest
    attempt: Attempt
    first_sent_at: float
    first_told_at: float


class RunningTotal:
    """The number of tickets sold, or given back, as a step function of time."""

    def __init__(self, steps: Iterable[tuple[float, int]]) -> None:
        self.steps = sorted(steps)
        self._times = [time for time, _ in self.steps]
        self._sums = [0, *accumulate(tickets for _, tickets in self.steps)]

    def before(self, instant: float) -> int:
        """Return the tickets of all steps before `instant`."""
        return self._sums[bisect_left(self._times, instant)]

    def until(self, instant: float) -> int:
        """Return the tickets of all steps up to and including `instant`."""
        return self._sums[bisect_right(self._times, instant)]


class Capacity(Struct, frozen=True):
    """Bounds on the capacity of a generation over time, or on what one buyer may have of it.

    steps: from which instant on it was at least and at most so much. The first one is of the reset.
    may_rise_at: when it can have become more, at the earliest, also after it became less.
    """

    steps: Sequence[tuple[float, int, int]]
    may_rise_at: float = inf

    @classmethod
    def of(
        cls, reset: Reset, after: Reset | None, capacity_changes: Iterable[CapacityChange]
    ) -> "Capacity":
        """Return the capacity from a reset to the next one. While it changes it is in between."""
        sent_at, closed_at = (after.started_at, after.ended_at) if after else (inf, inf)
        least = most = reset.capacity
        steps, may_rise_at = [(-inf, least, most)], inf
        for changes in _concurrent(capacity_changes, reset.started_at, closed_at):
            before, ended_at = (least, most), max(change.ended_at for change, _ in changes)
            if not _only_lower(changes, least):
                may_rise_at = min(may_rise_at, *(change.started_at for change, _ in changes))
            for change, wanted in changes:
                least, most = min(least, wanted), max(most, wanted)
                steps.append((change.started_at, least, most))
            is_certain = changes[0][0].started_at > reset.ended_at and ended_at < sent_at
            if is_certain and all(change.done is not None for change, _ in changes):
                least, most = _bounds_after(changes) or before
                steps.append((ended_at, least, most))
        return cls(steps, may_rise_at)

    @classmethod
    def fixed(cls, tickets: int) -> "Capacity":
        """Return one that never changes."""
        return cls([(-inf, tickets, tickets)])

    def least(self, start: float, end: float) -> int:
        """Return the lowest that it can have been, at any instant from start to end."""
        return min(least for least, _ in self._between(start, end))

    def most(self, start: float, end: float) -> int:
        """Return the highest that it can have been, at any instant from start to end."""
        return max(most for _, most in self._between(start, end))

    def only_falls(self, until: float) -> bool:
        """Return whether it never became more until then."""
        return until < self.may_rise_at

    def _between(self, start: float, end: float) -> Iterator[tuple[int, int]]:
        ends = [since for since, _, _ in self.steps[1:]] + [inf]
        for (since, least, most), until in zip(self.steps, ends, strict=True):
            if since <= end and start <= until:
                yield least, most


type Wanted = tuple[CapacityChange, int]  # a change of the capacity, and the one that it asks for


def _concurrent(
    changes: Iterable[CapacityChange], opened_at: float, closed_at: float
) -> list[list[Wanted]]:
    """Return the changes of one generation, with those together that overlap in time."""
    groups: list[list[Wanted]] = []
    for change in changes:
        if change.capacity is None or change.ended_at < opened_at or change.started_at > closed_at:
            continue
        if groups and change.started_at <= max(other.ended_at for other, _ in groups[-1]):
            groups[-1].append((change, change.capacity))
        else:
            groups.append([(change, change.capacity)])
    return groups


def _only_lower(changes: Sequence[Wanted], least: int) -> bool:
    """Return whether changes that overlap have only made it less, whatever their order.

    least: before them. One that was refused may have taken tickets, and put them back.
    """
    wanted = {wanted for _, wanted in changes}
    return len(wanted) == 1 and max(wanted) <= least and all(change.done for change, _ in changes)


def _bounds_after(changes: Sequence[Wanted]) -> tuple[int, int] | None:
    """Return what may be left by changes that overlap; None where all were refused."""
    done = [(change, wanted) for change, wanted in changes if change.done]
    last = [
        wanted
        for change, wanted in done
        if not any(other.started_at > change.ended_at for other, _ in done)
    ]
    return (min(last), max(last)) if last else None


class Taken(Struct, frozen=True):
    """Bounds on the tickets that are sold or held, over time.

    purchases: those that took them, in the order of their first receipts. possible, certain:
    tickets taken. possibly_back, certainly_back: tickets given back.
    """

    purchases: list[PurchaseBounds]
    possible: RunningTotal
    certain: RunningTotal
    possibly_back: RunningTotal
    certainly_back: RunningTotal

    def most(self, start: float, end: float) -> int:
        """Return how many can have been taken at most, at any instant from start to end."""
        return self.possible.before(end) - self.certainly_back.until(start)

    def fewest(self, start: float, end: float) -> int:
        """Return how many were certainly taken, at every instant from start to end."""
        return self.certain.until(start) - self.possibly_back.before(end)

    def first_above(self, capacity: Capacity) -> tuple[float, int] | None:
        """Return when a receipt first showed that more are taken, and its number."""
        taken = 0
        for number, (told_at, tickets) in enumerate(self.certain.steps, start=1):
            taken += tickets
            if taken - self.possibly_back.before(told_at) > capacity.most(told_at, told_at):
                return told_at, number
        return None


class Generation(Struct, frozen=True):
    """One generation of the sale: the longest time it can have lasted, and bounds on its sales.

    per_buyer_limit: None: any number. by_buyer: buyer_id → what the buyer can have. unseen_back_at:
    when tickets can have come back, at the earliest, of a hold that no caller was told of.
    """

    number: int
    capacity: Capacity
    per_buyer_limit: int | None
    opened_at: float
    closed_at: float
    taken: Taken
    by_buyer: dict[str | None, Taken]
    unseen_back_at: float

    @property
    def purchases(self) -> list[PurchaseBounds]:
        """Return its purchases, in the order of their first receipts."""
        return self.taken.purchases

    def only_gets_fewer(self, until: float) -> bool:
        """Return whether free tickets have only become fewer: none can have come back."""
        is_back = self.taken.possibly_back.before(until) > 0 or until > self.unseen_back_at
        return not is_back and self.capacity.only_falls(until)

    def fewest_free(self, start: float, end: float) -> int:
        """Return the tickets that were certainly free, at every instant from start to end."""
        return self.capacity.least(start, end) - self.taken.most(start, end)

    def most_free(self, start: float, end: float) -> int:
        """Return the tickets that can have been free, at any instant from start to end."""
        return self.capacity.most(start, end) - self.taken.fewest(start, end)

    def left_of_limit(self, buyer_id: str | None, start: float, end: float) -> tuple[float, float]:
        """Return how many more the buyer can have got, at least and at most, from start to end."""
        if self.per_buyer_limit is None:
            return inf, inf
        taken = self.by_buyer.get(buyer_id)
        most, fewest = (taken.most(start, end), taken.fewest(start, end)) if taken else (0, 0)
        return max(0, self.per_buyer_limit - most), max(0, self.per_buyer_limit - fewest)


class Facts(Struct, frozen=True):
    """A history, sorted once for all rules."""

    history: History
    started_at: float
    by_key: dict[str, list[PurchaseRequest]]
    purchases: dict[str, PurchaseBounds]
    generations: list[Generation]
    open_keys: list[list[PurchaseRequest]]
    refunds: dict[str, list[Refund]]
    holds: dict[str, HoldBounds]

    @classmethod
    def of(cls, history: History) -> "Facts":
        """Sort a history."""
        by_key: dict[str, list[PurchaseRequest]] = defaultdict(list)
        for request in history.requests:
            by_key[request.key].append(request)
        purchases = _purchases(by_key)
        can_come_back = tickets_can_come_back(history)
        open_keys = [
            requests for requests in by_key.values() if _may_have_bought(requests, can_come_back)
        ]
        starts = [
            attempt.started_at for request in history.requests for attempt in request.attempts
        ]
        refunds: dict[str, list[Refund]] = defaultdict(list)
        for refund in history.refunds:
            refunds[refund.purchase_id].append(refund)
        holds = _holds(history, purchases.values())
        return cls(
            history,
            min(starts, default=0.0),
            dict(by_key),
            purchases,
            _generations(history, purchases.values(), open_keys, refunds, holds),
            open_keys,
            refunds,
            holds,
        )

    def window(self, request: PurchaseRequest, attempt: Attempt) -> tuple[float, float]:
        """Return between which instants a refusal must have been true.

        A replayed one had its time in an earlier attempt with the key.
        """
        started_at = attempt.started_at
        if attempt.replayed:
            started_at = min(each.started_at for _, each in answers_of(self.by_key[request.key]))
        return started_at - self.history.cache_seconds, attempt.ended_at

    def generations_during(self, start: float, end: float) -> list[Generation]:
        """Return the generations that existed at any instant from start to end.

        None if the time begins before the end of the first reset, of which nothing is known.
        """
        if not self.history.resets or start <= self.history.resets[0].ended_at:
            return []
        return [one for one in self.generations if one.opened_at <= end and one.closed_at >= start]

    def is_capacity_changed_in(self, start: float, end: float) -> bool:
        """Return whether the organiser was changing capacity or shards at any instant."""
        return any(
            each.started_at <= end and start <= each.ended_at
            for each in self.history.capacity_changes
        )

    def line(self, request: PurchaseRequest, attempt: Attempt) -> Evidence:
        """Return one attempt as a line of evidence, in seconds since the first request."""
        copy = f", copy {request.copy}" if request.copy > 1 else ""
        asked = (
            f"key {request.key}{copy}, {request.buyer_id or 'no buyer id'}, "
            f"{tickets_text(request.quantity)}"
        )
        return self._line(attempt, f"{asked} → {answer_text(attempt)}", request.key)

    def refund_line(self, refund: Refund) -> Evidence:
        """Return one refund as a line of evidence, in seconds since the first request."""
        answer = {True: "refunded", False: "refused", None: "unknown"}[refund.done]
        return self._line(refund, f"refund of {tickets_text(refund.quantity)} → {answer}")

    def change_line(self, change: HoldChange) -> Evidence:
        """Return one change of a hold as a line of evidence, in seconds since the first request."""
        answer = {True: "done", False: change.code or "refused", None: "unknown"}[change.done]
        payment = f" with payment {change.payment_reference}" if change.payment_reference else ""
        return self._line(change, f"{change.action} of hold{payment} → {answer}")

    def capacity_line(self, change: CapacityChange) -> Evidence:
        """Return a change of the capacity as a line of evidence."""
        answer = {True: "done", False: "refused", None: "unknown"}[change.done]
        return self._line(change, f"capacity of {change.capacity} → {answer}")

    def read_line(self, what: str, call: Sample | Export | Reset) -> Evidence:
        """Return what was read or reset, and when, as a line of evidence."""
        seconds = self.seconds(call.started_at, call.ended_at)
        return Evidence(f"{what} at {seconds}", call.started_at, call.ended_at)

    def _line(
        self,
        call: Attempt | Refund | HoldChange | CapacityChange,
        text: str,
        key: str | None = None,
    ) -> Evidence:
        """Return a call as a line of evidence, with when it was sent and answered."""
        start, end = call.started_at, call.ended_at
        return Evidence(f"{self.seconds(start, end)}  {text}", start, end, key)

    def seconds(self, start: float, end: float) -> str:
        """Return two instants in seconds since the first request."""
        return f"{start - self.started_at:.3f}-{end - self.started_at:.3f} s"

    def hold_lines(self, purchase_id: str) -> tuple[Evidence, ...]:
        """Return a hold and all changes of it as lines of evidence."""
        changes = (self.change_line(change) for change in self.holds[purchase_id].changes)
        return self.purchase_line(self.purchases[purchase_id]), *changes

    def purchase_line(self, purchase: PurchaseBounds) -> Evidence:
        """Return the first answer with this purchase as a line of evidence."""
        return self.line(purchase.request, purchase.attempt)


def answers_of(
    requests: Iterable[PurchaseRequest],
) -> Iterator[tuple[PurchaseRequest, Attempt]]:
    """Yield all attempts, each with its request."""
    return ((request, attempt) for request in requests for attempt in request.attempts)


def receipts_of(
    requests: Iterable[PurchaseRequest],
) -> Iterator[tuple[PurchaseRequest, Attempt, Receipt]]:
    """Yield all attempts with a receipt, each with its request."""
    for request, attempt in answers_of(requests):
        if attempt.kind in RECEIPTS and attempt.receipt is not None:
            yield request, attempt, attempt.receipt


def _purchases(by_key: dict[str, list[PurchaseRequest]]) -> dict[str, PurchaseBounds]:
    purchases: dict[str, PurchaseBounds] = {}
    for requests in by_key.values():
        first_sent_at = min(attempt.started_at for _, attempt in answers_of(requests))
        for request, attempt, receipt in receipts_of(requests):
            known = purchases.get(receipt.purchase_id)
            if known is None or attempt.ended_at < known.first_told_at:
                sent_at = min(first_sent_at, known.first_sent_at) if known else first_sent_at
                purchases[receipt.purchase_id] = PurchaseBounds(
                    receipt, request, attempt, sent_at, attempt.ended_at
                )
            elif first_sent_at < known.first_sent_at:
                purchases[receipt.purchase_id] = structs.replace(known, first_sent_at=first_sent_at)
    return purchases


def tickets_can_come_back(history: History) -> bool:
    """Return whether an attempt that once found too few tickets may later find enough."""
    is_held = any(request.is_hold for request in history.requests)
    return len(history.resets) > 1 or bool(history.refunds or history.capacity_changes) or is_held


def _holds(history: History, purchases: Iterable[PurchaseBounds]) -> dict[str, HoldBounds]:
    """Return purchase id → what can have become of it, of all holds."""
    changes: dict[str, list[HoldChange]] = defaultdict(list)
    for change in history.changes:
        changes[change.purchase_id].append(change)
    seconds = {reset.generation: reset.hold_seconds for reset in history.resets}
    ends = {before.generation: after.started_at for before, after in pairwise(history.resets)}
    return {
        one.receipt.purchase_id: HoldBounds(
            quantity=one.receipt.quantity,
            first_sent_at=one.first_sent_at,
            first_told_at=one.first_told_at,
            hold_seconds=seconds.get(one.receipt.generation, inf),
            skew_seconds=history.skew_seconds,
            closes_at=ends.get(one.receipt.generation, inf),
            changes=tuple(changes[one.receipt.purchase_id]),
        )
        for one in purchases
        if one.receipt.is_hold
    }


def _may_have_bought(requests: list[PurchaseRequest], can_come_back: bool) -> bool:
    """Return whether a key without a receipt may have bought.

    A refusal settles it that is on record. Any other one settles it unless tickets can come back:
    then an earlier attempt in doubt may still be in flight, and find them. That a sale is not open
    settles it where no attempt is in doubt.
    """
    kinds = {attempt.kind for _, attempt in answers_of(requests)}
    if kinds & RECEIPTS or any(attempt.replayed for _, attempt in answers_of(requests)):
        return False
    if Kind.NOT_OPEN in kinds and Kind.UNKNOWN not in kinds:
        return False
    refused = bool(kinds & REFUSALS)
    return not refused or (Kind.UNKNOWN in kinds and can_come_back)


def _generations(
    history: History,
    purchases: Iterable[PurchaseBounds],
    open_keys: list[list[PurchaseRequest]],
    refunds: Mapping[str, list[Refund]],
    holds: Mapping[str, HoldBounds],
) -> list[Generation]:
    opens = [
        (
            requests[0].buyer_id,
            min(attempt.started_at for _, attempt in answers_of(requests)),
            max(request.quantity for request in requests),
        )
        for requests in open_keys
    ]
    unseen_holds = (
        attempt.started_at
        for requests in open_keys
        for request, attempt in answers_of(requests)
        if request.is_hold
    )
    unseen_hold_at = min(unseen_holds, default=inf)
    by_number: dict[int, list[PurchaseBounds]] = defaultdict(list)
    for purchase in purchases:
        by_number[purchase.receipt.generation].append(purchase)
    following = [*history.resets[1:], None]
    return [
        _generation(
            reset,
            after,
            Capacity.of(reset, after, history.capacity_changes),
            by_number[reset.generation],
            opens,
            unseen_hold_at=unseen_hold_at,
            refunds=refunds,
            holds=holds,
        )
        for reset, after in zip(history.resets, following, strict=False)
    ]


def _generation(
    reset: Reset,
    following: Reset | None,
    capacity: Capacity,
    purchases: list[PurchaseBounds],
    opens: Sequence[tuple[str | None, float, int]],
    *,
    unseen_hold_at: float,
    refunds: Mapping[str, list[Refund]],
    holds: Mapping[str, HoldBounds],
) -> Generation:
    """Return one generation.

    opens: when keys without an answer can have bought, and how much. unseen_hold_at: when the first
    of them can have held tickets.
    """
    # What comes back after the next reset does not come back to this generation.
    ends_at = following.started_at if following else inf

    def taken(
        purchases: list[PurchaseBounds], opens: Iterable[tuple[str | None, float, int]]
    ) -> Taken:
        steps = [(sent_at, quantity) for _, sent_at, quantity in opens]
        return _taken(purchases, steps, ends_at, refunds=refunds, holds=holds)

    by_buyer: dict[str | None, tuple[list[PurchaseBounds], list[tuple[str | None, float, int]]]]
    by_buyer = defaultdict(lambda: ([], []))
    if reset.per_buyer_limit is not None:
        for purchase in purchases:
            by_buyer[purchase.receipt.buyer_id][0].append(purchase)
        for each in opens:
            by_buyer[each[0]][1].append(each)
    return Generation(
        number=reset.generation,
        capacity=capacity,
        per_buyer_limit=reset.per_buyer_limit,
        opened_at=reset.started_at,
        closed_at=following.ended_at if following else inf,
        taken=taken(purchases, opens),
        by_buyer={buyer_id: taken(*each) for buyer_id, each in by_buyer.items()},
        unseen_back_at=unseen_hold_at + reset.hold_seconds,
    )


def _taken(
    purchases: list[PurchaseBounds],
    opens: Iterable[tuple[float, int]],
    ends_at: float,
    *,
    refunds: Mapping[str, list[Refund]],
    holds: Mapping[str, HoldBounds],
) -> Taken:
    """Return the bounds on what these purchases took, and what those may have taken.

    ends_at: from then on nothing comes back.
    """
    possible, certain = list(opens), list[tuple[float, int]]()
    possibly_back, certainly_back = list[tuple[float, int]](), list[tuple[float, int]]()
    for one in purchases:
        receipt = one.receipt
        sent, hold = refunds.get(receipt.purchase_id, ()), holds.get(receipt.purchase_id)
        possible.append((one.first_sent_at, receipt.quantity))
        certain.append((one.first_told_at, receipt.quantity))
        possibly_back += possible_refunds(receipt, sent)
        certainly_back += certain_refunds(sent)
        if hold is not None:
            possible += hold.possibly_taken_again()
            certain += hold.certainly_taken_again()
            possibly_back += hold.possibly_back()
            certainly_back += hold.certainly_back()
    return Taken(
        purchases=sorted(purchases, key=lambda purchase: purchase.first_told_at),
        possible=RunningTotal(possible),
        certain=RunningTotal(certain),
        possibly_back=RunningTotal(possibly_back),
        certainly_back=RunningTotal(step for step in certainly_back if step[0] < ends_at),
    )


def possible_refunds(receipt: Receipt, refunds: Iterable[Refund]) -> Iterator[tuple[float, int]]:
    """Yield when tickets of the purchase can have been refunded, at the earliest, and how many."""
    left = receipt.quantity
    for refund in sorted(refunds, key=lambda refund: refund.started_at):
        if refund.done is not False:
            yield refund.started_at, min(left, refund.quantity)
            left -= min(left, refund.quantity)


def certain_refunds(refunds: Iterable[Refund]) -> Iterator[tuple[float, int]]:
    """Yield when tickets of the purchase were refunded, at the latest, and how many."""
    return ((refund.ended_at, refund.quantity) for refund in refunds if refund.done)


def answer_text(attempt: Attempt) -> str:
    """Return an answer in words."""
    status = "no answer" if attempt.status is None else str(attempt.status)
    if attempt.receipt is not None:
        receipt = attempt.receipt
        bought = f"{tickets_text(receipt.quantity)}, generation {receipt.generation}"
        return f"{status}, purchase {receipt.purchase_id}, {bought}"
    figure = "" if attempt.left is None else f" ({attempt.left} left)"
    detail = f": {attempt.detail}" if attempt.detail else ""
    return f"{status} {attempt.code or attempt.kind}{figure}{detail}"


def tickets_text(quantity: int) -> str:
    """Return a number of tickets in words."""
    return "1 ticket" if quantity == 1 else f"{quantity} tickets"
