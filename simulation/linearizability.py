"""A second judge of a history: looks for one order of its requests that explains all answers.

A sequential sale serves one request after the other, each at once. A history is linearizable where
each request can be given an instant between its sending and its answer, so that a sequential sale
answers the same (Herlihy and Wing, "Linearizability", TOPLAS 1990). The search is that of Wing and
Gong ("Testing and Verifying Concurrent Objects", 1993), with Lowe's memory of what has failed
("Testing for linearizability", 2017). It takes exponential time, so it is for small histories.

It shares nothing with `proof.checker`, which bounds what can have happened. It knows less: sales of
one generation without extensions, refunds, limits and pauses. Where the service promises less than
a sequential sale, the operations say so:

- A request without a definite answer may be served at any later instant, or never.
- A hold ends by itself, at some instant between the first and the last clock that calls it expired.
- A capacity changes step by step, and a buyer may come between two of the steps.
- A refusal may be of any instant within the `cache_seconds` before its request.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from types import MappingProxyType
from typing import Final, NamedTuple

from proof.history import (
    NONE_LEFT,
    NOT_DEFINITE,
    SHORTAGES,
    Attempt,
    CapacityChange,
    History,
    HoldAction,
    HoldChange,
    Kind,
    PurchaseRequest,
)
from proof.holds import longest_hold_seconds

# Refusals of a change of a hold → what has become of it.
STATUSES: Final = MappingProxyType({"hold_released": "released", "hold_confirmed": "confirmed"})


class SequentialSale(NamedTuple):
    """A sale that serves one request after the other.

    purchases: (purchase id, tickets, status) of all purchases and holds. refused: keys with a
    refusal on record, and payments that came too late.
    """

    capacity: int
    purchases: frozenset[tuple[str, int, str]] = frozenset()
    refused: frozenset[str] = frozenset()

    @property
    def taken(self) -> int:
        """Return how many tickets are sold and held."""
        return self.tickets_of("held") + self.tickets_of("confirmed")

    @property
    def free(self) -> int:
        """Return how many tickets are on sale."""
        return self.capacity - self.taken

    def tickets_of(self, status: str) -> int:
        """Return how many tickets have a status."""
        return sum(tickets for _, tickets, each in self.purchases if each == status)

    def status(self, key: str) -> str | None:
        """Return the status of a purchase or hold; None where there is none."""
        return next((status for each, _, status in self.purchases if each == key), None)

    def tickets(self, key: str) -> int:
        """Return the tickets of a purchase or hold."""
        return next(tickets for each, tickets, _ in self.purchases if each == key)

    def having(self, key: str, tickets: int, status: str) -> "SequentialSale":
        """Return the sale after a purchase or hold was made or changed."""
        others = {each for each in self.purchases if each[0] != key}
        return self._replace(purchases=frozenset({*others, (key, tickets, status)}))

    def refusing(self, key: str) -> "SequentialSale":
        """Return the sale after a refusal that is final."""
        return self._replace(refused=self.refused | {key})


type Serve = Callable[[SequentialSale], Iterable[SequentialSale]]  # sale → what may become of it


class Operation(NamedTuple):
    """One request, served at some instant from start to end. may_fail: or never."""

    start: float
    end: float
    text: str
    serve: Serve
    may_fail: bool = False


def linearization(sale: SequentialSale, operations: Sequence[Operation]) -> list[Operation] | None:
    """Return an order in which a sale can serve the operations; None where there is none."""
    failed: set[tuple[frozenset[int], SequentialSale]] = set()

    def served(left: frozenset[int], begun: float, now: SequentialSale) -> list[Operation] | None:
        """Return an order of those that are left. begun: the latest start of all others."""
        required = [operations[each].end for each in left if not operations[each].may_fail]
        if not required:
            return []
        if (left, now) in failed:
            return None
        latest = min(required)
        for each in sorted(left):
            operation = operations[each]
            if operation.start > latest or operation.end < begun:
                continue
            for after in operation.serve(now):
                rest = served(left - {each}, max(begun, operation.start), after)
                if rest is not None:
                    return [operation, *rest]
        failed.add((left, now))
        return None

    return served(frozenset(range(len(operations))), -inf, sale)


def is_linearizable(history: History) -> bool:
    """Return whether a sequential sale could have given these answers, and end in the same way."""
    return (
        linearization(SequentialSale(history.resets[0].capacity), operations_of(history))
        is not None
    )


def operations_of(history: History) -> list[Operation]:
    """Return what a sequential sale has to serve. Raises ValueError for what it does not know."""
    if len(history.resets) != 1 or history.refunds or history.pauses:
        raise ValueError("a sequential sale knows neither resets nor refunds nor pauses")
    return [
        *(
            _attempt(request, attempt, history.cache_seconds)
            for request in history.requests
            for attempt in request.attempts
        ),
        *_ends_of_holds(history),
        *(_hold_change(change, history) for change in history.changes),
        *(
            each
            for change in history.capacity_changes
            for each in _capacity_change(change, history)
        ),
        *_end(history),
    ]


# --- purchases and holds ---


def _attempt(request: PurchaseRequest, attempt: Attempt, cache_seconds: float) -> Operation:
    start, end, may_fail = attempt.started_at, attempt.ended_at, False
    if attempt.kind is Kind.BOUGHT:
        serve = _buy(request)
    elif attempt.kind is Kind.REPLAYED:
        serve = _replay(request)
    elif attempt.kind in SHORTAGES:
        serve = _refuse(request, attempt)
        start -= cache_seconds
    elif attempt.kind in NOT_DEFINITE:
        serve, end, may_fail = _try_to_buy(request), inf, True
    elif attempt.kind is Kind.UNEXPECTED:
        serve = _never
    else:
        raise ValueError(f"a sequential sale does not answer with {attempt.kind}")
    return Operation(start, end, f"{attempt.kind} {request.key}", serve, may_fail)


def _never(_: SequentialSale) -> Iterable[SequentialSale]:
    return ()


def _buy(request: PurchaseRequest) -> Serve:
    key, quantity = request.key, request.quantity
    status = "held" if request.is_hold else "confirmed"

    def serve(now: SequentialSale) -> Iterator[SequentialSale]:
        if now.status(key) is None and key not in now.refused and now.free >= quantity:
            yield now.having(key, quantity, status)

    return serve


def _replay(request: PurchaseRequest) -> Serve:
    return lambda now: [] if now.status(request.key) is None else [now]


def _refuse(request: PurchaseRequest, attempt: Attempt) -> Serve:
    key, left = request.key, 0 if attempt.kind in NONE_LEFT else attempt.left

    def serve(now: SequentialSale) -> Iterator[SequentialSale]:
        if attempt.replayed:
            yield from [now] if key in now.refused else []
            return
        is_true = now.free == left and left < request.quantity
        if attempt.kind in NONE_LEFT:
            is_true &= (attempt.kind is Kind.ALL_HELD) == (now.tickets_of("held") > 0)
        if is_true and now.status(key) is None:
            yield now
            yield now.refusing(key)

    return serve


def _try_to_buy(request: PurchaseRequest) -> Serve:
    def serve(now: SequentialSale) -> Iterator[SequentialSale]:
        yield from _buy(request)(now)
        if now.status(request.key) is None and now.free < request.quantity:
            yield now.refusing(request.key)

    return serve


# --- what becomes of a hold ---


def _ends_of_holds(history: History) -> Iterator[Operation]:
    """Yield the ends of all holds. One without an answer is not known, and may end at any time."""
    for request in history.requests:
        if request.is_hold:
            yield _end_of_hold(request, history)


def _end_of_hold(request: PurchaseRequest, history: History) -> Operation:
    hold_seconds = history.resets[0].hold_seconds
    receipts = [each for each in request.attempts if each.receipt is not None]
    first_sent_at = request.attempts[0].started_at
    start, end = first_sent_at + hold_seconds - history.skew_seconds, inf
    if receipts:
        longest = longest_hold_seconds(hold_seconds, history.skew_seconds)
        end = receipts[0].ended_at + longest + history.skew_seconds

    def expire(now: SequentialSale) -> Iterator[SequentialSale]:
        is_held = now.status(request.key) == "held"
        yield now.having(request.key, request.quantity, "expired") if is_held else now

    return Operation(start, end, f"expired {request.key}", expire, may_fail=not receipts)


def _hold_change(change: HoldChange, history: History) -> Operation:
    key = _keys_by_purchase_id(history)[change.purchase_id]
    payment = change.payment_reference
    end = inf if change.done is None else change.ended_at
    is_refused = change.done is False
    if is_refused and (status := STATUSES.get(change.code or "")):
        serve = _is(key, status)
    elif is_refused and (change.action, change.code) == (HoldAction.CONFIRM, "hold_expired"):
        serve = _refuse_payment(key, payment)
    elif is_refused and change.code == "hold_expired":
        serve = _is(key, "expired")
    elif is_refused or change.action is HoldAction.EXTEND:
        raise ValueError(f"a sequential sale does not know {change.action} with {change.code}")
    else:
        serve = _confirm(key, payment) if change.action is HoldAction.CONFIRM else _release(key)
    text = f"{change.action} {change.code or change.done} {key}"
    return Operation(change.started_at, end, text, serve, may_fail=change.done is None)


def _confirm(key: str, payment: str | None) -> Serve:
    def serve(now: SequentialSale) -> Iterator[SequentialSale]:
        status = now.status(key)
        if status == "confirmed":
            yield now
        if payment is not None and payment in now.refused:
            return
        is_late = status == "expired" and payment is not None and now.free >= now.tickets(key)
        if status == "held" or is_late:
            yield now.having(key, now.tickets(key), "confirmed")

    return serve


def _refuse_payment(key: str, payment: str | None) -> Serve:
    # One that was paid for is refused only where its tickets went to others.
    def serve(now: SequentialSale) -> Iterator[SequentialSale]:
        if now.status(key) == "expired":
            if payment is None:
                yield now
            elif payment in now.refused or now.free < now.tickets(key):
                yield now.refusing(payment)

    return serve


def _release(key: str) -> Serve:
    def serve(now: SequentialSale) -> Iterator[SequentialSale]:
        if now.status(key) in ("held", "released"):
            yield now.having(key, now.tickets(key), "released")

    return serve


def _is(key: str, status: str) -> Serve:
    return lambda now: [now] if now.status(key) == status else []


# --- the organiser ---


def _capacity_change(change: CapacityChange, history: History) -> Iterator[Operation]:
    wanted = change.capacity
    if wanted is None:
        return
    known = _capacities(history, history.capacity_changes)
    whole = _capacities(history, [each for each in history.capacity_changes if each.done])
    end = inf if change.done is None else change.ended_at

    def set_to(capacity: int) -> Serve:
        return lambda now: [now._replace(capacity=capacity)] if now.taken <= capacity else []

    def refuse(now: SequentialSale) -> Iterator[SequentialSale]:
        if now.taken > wanted and now.taken == change.lowest and now.capacity in whole:
            yield now

    # Every step in between, on the way there and on the way back. A refusal is whole again.
    for capacity in range(min(known), max(known) + 1):
        for _ in range(2):
            text = f"partly {capacity}"
            yield Operation(change.started_at, end, text, set_to(capacity), may_fail=True)
    serve = refuse if change.done is False else set_to(wanted)
    text = f"capacity {wanted} {change.done}"
    yield Operation(change.started_at, end, text, serve, may_fail=change.done is None)


def _capacities(history: History, changes: Iterable[CapacityChange]) -> set[int]:
    """Return the capacity of the reset, and those that changes ask for."""
    asked = {change.capacity for change in changes if change.capacity is not None}
    return {history.resets[0].capacity, *asked}


# --- at rest ---


def _end(history: History) -> Iterator[Operation]:
    """Yield what was seen when all requests had ended: each purchase, and the counters."""
    keys = _keys_by_purchase_id(history)
    is_bought = {keys[each.purchase_id]: each.receipt is not None for each in history.lookups}
    capacities = _capacities(
        history, [each for each in history.capacity_changes if each.done is not False]
    )
    audit = history.audit

    def serve(now: SequentialSale) -> Iterator[SequentialSale]:
        bought = {key: now.status(key) == "confirmed" for key in is_bought}
        counters = now.free, now.tickets_of("held"), now.tickets_of("confirmed"), now.capacity
        is_audited = audit is None or counters == (
            audit.stock,
            audit.held,
            audit.sold,
            audit.capacity,
        )
        if bought == is_bought and now.capacity in capacities and is_audited:
            yield now

    yield Operation(inf, inf, "at rest", serve)


def _keys_by_purchase_id(history: History) -> dict[str, str]:
    return {
        attempt.receipt.purchase_id: request.key
        for request in history.requests
        for attempt in request.attempts
        if attempt.receipt is not None
    }
