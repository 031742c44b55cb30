"""The checker has no false positives, whatever the timing, and reports each fault put into a
history.

The correct service is a list of instants here: each request takes effect at once, at an instant
that hypothesis picks. Answers get lost before or after the effect, effects come late, resets come
at any time, and "sold out" is cached.
"""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from proof.checker import check
from proof.history import (
    Attempt,
    AuditReport,
    History,
    Inventory,
    Kind,
    Lookup,
    PurchaseRequest,
    Receipt,
    Reset,
    Sample,
)

CACHE_SECONDS = 1.0
ITEM_NAME = "Item A - Concert Ticket"
LATE = "takes effect after its client has given up"


@dataclass
class Sale:
    """A correct service, one effect after the other."""

    capacity: int
    generation: int = 0
    stock: int = 0
    records: dict[str, Receipt] = field(default_factory=dict)
    sold_out_at: float = -100.0

    def reset(self) -> None:
        """Start a new generation."""
        self.generation += 1
        self.stock = self.capacity

    def buy(
        self, key: str, quantity: int, now: float, cached: bool
    ) -> tuple[Kind, Receipt | None, int | None]:
        """Apply one request. cached: it may get a "sold out" of the last second."""
        if known := self.records.get(key):
            return (
                (Kind.REPLAYED, known, None)
                if known.quantity == quantity
                else (Kind.KEY_REUSED, None, None)
            )
        if cached and now - self.sold_out_at < CACHE_SECONDS:
            return Kind.SOLD_OUT, None, None
        if self.stock == 0:
            self.sold_out_at = now
            return Kind.SOLD_OUT, None, None
        if self.stock < quantity:
            return Kind.NOT_ENOUGH_LEFT, None, self.stock
        self.stock -= quantity
        receipt = Receipt(
            f"purchase-of-{key}", 1, quantity, "confirmed", f"at {now}", self.generation, key
        )
        self.records[key] = receipt
        return Kind.BOUGHT, receipt, None


@dataclass
class Copy:
    """One copy of a request, and its answers. ghost: its client no longer waits."""

    key: str
    number: int
    quantity: int
    attempts: list[Attempt] = field(default_factory=list)
    ghost: bool = False


CODES = {
    Kind.BOUGHT: (201, None),
    Kind.REPLAYED: (200, None),
    Kind.KEY_REUSED: (422, "idempotency_key_reused"),
}


def right_history(seed: int, capacity: int, buyers: int, resets: int) -> History:
    """Return a history of a correct service, with clients that lose answers and retry."""
    draw = random.Random(seed)
    sale = Sale(capacity)
    opened: list[Reset] = []
    samples: list[Sample] = []
    agenda, copies = _agenda(draw, buyers, resets)
    while agenda:
        agenda.sort(key=lambda entry: entry[:2])
        now, number, copy = agenda.pop(0)
        if copy is None:
            sale.reset()
            began, ended = now - draw.uniform(0, 0.3), now + draw.uniform(0, 0.3)
            opened.append(Reset(sale.generation, capacity, began, ended))
        elif copy.ghost:
            sale.buy(copy.key, copy.quantity, now, cached=False)
        else:
            attempt = _attempt(sale, copy, now, draw)
            copy.attempts.append(attempt)
            samples.append(_sample(sale, now))
            if attempt.detail == LATE:
                ghost = Copy(copy.key, 0, copy.quantity, ghost=True)
                agenda.append((now + draw.uniform(0, 3), 2000 + len(agenda), ghost))
            if attempt.kind in (Kind.UNKNOWN, Kind.BUSY) and len(copy.attempts) < 4:
                agenda.append((max(now, attempt.ended_at) + draw.uniform(0, 1), number, copy))
    return History(
        requests=tuple(
            PurchaseRequest(one.key, 1, one.quantity, one.key, tuple(one.attempts), one.number)
            for one in copies
        ),
        resets=_in_order(opened),
        samples=tuple(samples),
        lookups=tuple(
            Lookup(receipt.purchase_id, 200, receipt) for receipt in sale.records.values()
        ),
        final=_sample(sale, 100.0),
        audit=_audit(sale),
        cache_seconds=CACHE_SECONDS,
    )


def _agenda(
    draw: random.Random, buyers: int, resets: int
) -> tuple[list[tuple[float, int, Copy | None]], list[Copy]]:
    """Return what happens when, and all copies. Entries: instant, rank, request or None (reset)."""
    copies: list[Copy] = []
    agenda: list[tuple[float, int, Copy | None]] = [(0.0, 0, None)]
    agenda += [(draw.uniform(2, 6), number, None) for number in range(1, resets + 1)]
    for buyer in range(buyers):
        quantity, arrival = draw.choice([1, 1, 1, 2, 3]), draw.uniform(1.5, 7)
        for number in range(1, draw.choice([2, 3])):
            copy = Copy(f"buyer-{buyer}", number, quantity)
            copies.append(copy)
            agenda.append((arrival + draw.uniform(0, 0.5), 1000 + len(agenda), copy))
    return agenda, copies


def _in_order(opened: list[Reset]) -> tuple[Reset, ...]:
    return tuple(sorted(opened, key=lambda reset: reset.generation))


def _attempt(sale: Sale, copy: Copy, now: float, draw: random.Random) -> Attempt:
    earliest = copy.attempts[-1].ended_at if copy.attempts else 0.0
    started_at = max(earliest, now - draw.uniform(0, 0.4))
    ended_at = now + draw.uniform(0, 0.4)
    fate = draw.random()
    if fate < 0.1:
        return Attempt(started_at, ended_at, Kind.BUSY, 429)
    if fate < 0.15:
        return Attempt(started_at, ended_at, Kind.UNKNOWN, None, detail="lost before the effect")
    if fate < 0.25:
        return Attempt(started_at, ended_at, Kind.UNKNOWN, None, detail=LATE)
    kind, receipt, left = sale.buy(copy.key, copy.quantity, now, cached=draw.random() < 0.3)
    if fate < 0.35:
        return Attempt(started_at, ended_at, Kind.UNKNOWN, None, detail="lost after the effect")
    status, code = CODES.get(kind, (409, str(kind)))
    return Attempt(started_at, ended_at, kind, status, code, receipt, left)


def _sample(sale: Sale, now: float) -> Sample:
    sold = sale.capacity - sale.stock
    facts = Inventory(1, ITEM_NAME, sale.stock, sale.capacity, sold, 0, sale.generation)
    return Sample(now, now, facts)


def _audit(sale: Sale) -> AuditReport:
    mine = [record for record in sale.records.values() if record.generation == sale.generation]
    tickets = sum(record.quantity for record in mine)
    stock, sold = sale.stock, sale.capacity - sale.stock
    return AuditReport(1, sale.generation, sale.capacity, stock, 0, sold, len(mine), tickets, True)


histories = st.builds(
    right_history,
    seed=st.integers(0, 2**32),
    capacity=st.integers(1, 12),
    buyers=st.integers(1, 30),
    resets=st.integers(0, 2),
)


@given(histories)
@settings(max_examples=1500)
def test_no_false_positives(history: History) -> None:
    # A buyer who gave up is reported: that is the client's patience here, not a fault of the sale.
    assert [each for each in check(history) if each.rule != "left_without_an_answer"] == []


def _patient(history: History) -> bool:
    """Return whether every lost answer came in the end, so that nothing hides a fault."""
    return all(request.last.kind not in (Kind.UNKNOWN, Kind.BUSY) for request in history.requests)


quiet = st.builds(
    right_history,
    seed=st.integers(0, 2**32),
    capacity=st.integers(3, 9),
    buyers=st.integers(20, 30),
    resets=st.just(0),
).filter(_patient)


@pytest.mark.G4
@given(quiet)
@settings(max_examples=60)
def test_record_without_receipt(history: History) -> None:
    assert history.audit is not None
    more = structs.replace(history.audit, purchase_records=history.audit.purchase_records + 1)
    assert "figures_disagree" in _rules(structs.replace(history, audit=more))


@pytest.mark.G5
@given(quiet, st.data())
@settings(max_examples=60)
def test_receipt_without_record(history: History, data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(history.lookups))
    others = tuple(each for each in history.lookups if each is not gone)
    lookups = (*others, Lookup(gone.purchase_id, 404))
    assert "record_is_missing" in _rules(structs.replace(history, lookups=lookups))


@pytest.mark.G1
@given(quiet)
@settings(max_examples=60)
def test_one_ticket_too_many(history: History) -> None:
    sold = sum(lookup.receipt.quantity for lookup in history.lookups if lookup.receipt)
    surplus = history.resets[0].capacity - sold + 1
    receipt = Receipt("surplus", 1, surplus, "confirmed", "now", 1, "eve")
    extra = PurchaseRequest(
        "eve", 1, surplus, "eve", (Attempt(50, 51, Kind.BOUGHT, 201, receipt=receipt),)
    )
    assert "oversold" in _rules(structs.replace(history, requests=(*history.requests, extra)))


@pytest.mark.G2
@given(quiet)
@settings(max_examples=60)
def test_refusal_before_any_buyer(history: History) -> None:
    # The first buyers come after the first second.
    early = PurchaseRequest(
        "eve", 1, 1, "eve", (Attempt(0.5, 0.6, Kind.SOLD_OUT, 409, "sold_out"),)
    )
    opened = (structs.replace(history.resets[0], started_at=-9.0, ended_at=-8.0),)
    assert "undersold" in _rules(
        structs.replace(history, requests=(*history.requests, early), resets=opened)
    )


@pytest.mark.G3
@given(quiet, st.data())
@settings(max_examples=60)
def test_second_purchase_for_key(history: History, data: st.DataObject) -> None:
    first = data.draw(st.sampled_from([each for each in history.requests if each.last.receipt]))
    assert first.last.receipt is not None
    other = structs.replace(first.last.receipt, purchase_id="another")
    again = structs.replace(
        first, attempts=(structs.replace(first.last, kind=Kind.BOUGHT, receipt=other),), copy=9
    )
    assert "sold_twice_for_one_key" in _rules(
        structs.replace(history, requests=(*history.requests, again))
    )


@pytest.mark.parametrize("seed", range(3))
def test_histories_are_varied(seed: int) -> None:
    """They contain concurrency, resets, losses and refusals: otherwise the tests above show
    nothing.
    """
    histories = [right_history(seed * 100 + number, 6, 30, 1) for number in range(20)]
    attempts = [
        attempt for one in histories for request in one.requests for attempt in request.attempts
    ]
    kinds = {attempt.kind for attempt in attempts}
    assert kinds >= {
        Kind.BOUGHT,
        Kind.REPLAYED,
        Kind.SOLD_OUT,
        Kind.NOT_ENOUGH_LEFT,
        Kind.BUSY,
        Kind.UNKNOWN,
    }
    assert all(len(one.resets) == 2 for one in histories)


def _rules(history: History) -> set[str]:
    return {violation.rule for violation in check(history)}
