"""The second judge: a history has an order that explains it, or it has none."""

from typing import Any

import pytest

from proof.history import (
    Attempt,
    AuditReport,
    CapacityChange,
    History,
    HoldAction,
    HoldChange,
    Kind,
    Lookup,
    Pause,
    PurchaseRequest,
    Receipt,
    Reset,
)
from simulation.linearizability import SequentialSale, is_linearizable, linearization, operations_of

RESET = Reset(1, 2, -2.0, -1.0, hold_seconds=30)


def attempt(start: float, end: float, kind: Kind, key: str, **more: Any) -> Attempt:
    is_receipt = kind in (Kind.BOUGHT, Kind.REPLAYED)
    receipt = Receipt(f"id-{key}", 1, 1, "confirmed", "", 1) if is_receipt else None
    return Attempt(start, end, kind, receipt=receipt, **more)


def request(key: str, *attempts: tuple[float, float, Kind], quantity: int = 1) -> PurchaseRequest:
    return PurchaseRequest(key, 1, quantity, None, tuple(attempt(*each, key) for each in attempts))


def hold(key: str, start: float, end: float) -> PurchaseRequest:
    receipt = Receipt(f"id-{key}", 1, 1, "held", "", 1, expires_at="2027-01-15T08:00:30Z")
    held = Attempt(start, end, Kind.BOUGHT, receipt=receipt)
    return PurchaseRequest(key, 1, 1, None, (held,), is_hold=True)


def change(
    key: str, action: HoldAction, start: float, end: float, *, done: bool | None, **more: Any
) -> HoldChange:
    return HoldChange(f"id-{key}", action, start, end, done, **more)


def judged(*requests: PurchaseRequest, **more: Any) -> bool:
    return is_linearizable(History(requests, (RESET,), cache_seconds=0.0, **more))


A, B = request("a", (0, 1, Kind.BOUGHT)), request("b", (0, 1, Kind.BOUGHT))


@pytest.mark.G1
@pytest.mark.G2
@pytest.mark.parametrize(
    ("start", "end", "kind", "is_right"),
    [
        (2, 3, Kind.SOLD_OUT, True),
        (0.5, 3, Kind.SOLD_OUT, True),
        (2, 3, Kind.BOUGHT, False),
        (-0.9, -0.5, Kind.SOLD_OUT, False),
        (-0.9, 0.5, Kind.SOLD_OUT, True),
        (2, 3, Kind.REPLAYED, False),
        (2, 3, Kind.UNKNOWN, True),
        (2, 3, Kind.BUSY, True),
    ],
)
def test_third_buyer(start: float, end: float, kind: Kind, *, is_right: bool) -> None:
    assert judged(A, B, request("c", (start, end, kind))) == is_right


@pytest.mark.G2
def test_none_left_behind() -> None:
    """A refusal has an instant at which too few tickets were free."""
    assert not judged(A, request("c", (2, 3, Kind.SOLD_OUT)))
    unknown = request("b", (0, 1, Kind.UNKNOWN))
    assert judged(A, unknown, request("c", (2, 3, Kind.SOLD_OUT)))
    assert not judged(
        A, unknown, request("c", (2, 3, Kind.SOLD_OUT)), request("d", (4, 5, Kind.BOUGHT))
    )


@pytest.mark.G2
def test_cached_refusal() -> None:
    """It may be of an instant before its request, as long as the cache is valid."""
    released = change("h", HoldAction.RELEASE, 2, 3, done=True)
    requests = A, hold("h", 0, 1), request("c", (3.5, 3.6, Kind.ALL_HELD))
    for cache_seconds, is_right in ((1.0, True), (0.4, False)):
        history = History(requests, (RESET,), changes=(released,), cache_seconds=cache_seconds)
        assert is_linearizable(history) == is_right


@pytest.mark.G5
@pytest.mark.parametrize("is_held", [True, False])
def test_reason_of_refusals(*, is_held: bool) -> None:
    """Where tickets are held, more may come back; where all are sold, none will."""
    other = hold("h", 0, 1) if is_held else B
    for kind in (Kind.ALL_HELD, Kind.SOLD_OUT):
        is_right = is_held == (kind is Kind.ALL_HELD)
        assert judged(A, other, request("c", (2, 3, kind))) == is_right


@pytest.mark.G3
@pytest.mark.parametrize(
    ("attempts", "is_right"),
    [
        ([(0, 1, Kind.UNKNOWN), (2, 3, Kind.REPLAYED)], True),
        ([(0, 1, Kind.UNKNOWN), (2, 3, Kind.BOUGHT)], True),
        ([(0, 1, Kind.BOUGHT), (2, 3, Kind.BOUGHT)], False),
        ([(0, 1, Kind.REPLAYED)], False),
        ([(0, 1, Kind.BOUGHT), (2, 3, Kind.SOLD_OUT)], False),
    ],
)
def test_one_key(attempts: list[tuple[float, float, Kind]], *, is_right: bool) -> None:
    assert judged(request("a", *attempts)) == is_right


@pytest.mark.G5
@pytest.mark.parametrize(("left", "is_right"), [(1, True), (0, False), (2, False), (None, False)])
def test_figures_of_refusals(left: int | None, *, is_right: bool) -> None:
    asked = PurchaseRequest("c", 1, 2, None, (attempt(2, 3, Kind.NOT_ENOUGH_LEFT, "c", left=left),))
    assert judged(A, asked) == is_right


@pytest.mark.G5
def test_final_refusal() -> None:
    """A refusal on record is repeated, and nothing is bought with its key."""
    first = attempt(2, 3, Kind.ALL_HELD, "c")
    again = attempt(6, 7, Kind.ALL_HELD, "c", replayed=True)
    released = (change("h", HoldAction.RELEASE, 4, 5, done=True),)
    requests = A, hold("h", 0, 1)
    both = PurchaseRequest("c", 1, 1, None, (first, again))
    assert judged(*requests, both, changes=released)
    assert not judged(*requests, PurchaseRequest("c", 1, 1, None, (again,)), changes=released)
    bought = PurchaseRequest("c", 1, 1, None, (first, again, attempt(8, 9, Kind.BOUGHT, "c")))
    assert not judged(*requests, bought, changes=released)


class TestHolds:
    """One ticket is sold, and one is held until 31 s or later, at most until 34 s."""

    def judged(self, *changes: HoldChange, refused_at: float = 0.0, bought_at: float = 0.0) -> bool:
        requests = [A, hold("h", 0, 1)]
        if refused_at:
            requests.append(request("c", (refused_at, refused_at + 1, Kind.ALL_HELD)))
        if bought_at:
            requests.append(request("d", (bought_at, bought_at + 1, Kind.BOUGHT)))
        return judged(*requests, changes=changes)

    @pytest.mark.G2
    def test_expires(self) -> None:
        assert self.judged(refused_at=2)
        assert self.judged(refused_at=31)
        assert not self.judged(refused_at=40)
        assert self.judged(bought_at=31)
        assert not self.judged(bought_at=2)

    @pytest.mark.G3
    @pytest.mark.parametrize(
        ("now", "payment", "bought_at", "is_right"),
        [
            (3, None, 0, True),
            (3, None, 40, False),
            (40, None, 0, False),
            (40, "p", 0, True),
            (40, "p", 35, False),
        ],
    )
    def test_confirmed(
        self, now: float, payment: str | None, bought_at: float, *, is_right: bool
    ) -> None:
        """In time, or late where it was paid for and tickets are free."""
        done = change("h", HoldAction.CONFIRM, now, now + 1, done=True, payment_reference=payment)
        assert self.judged(done, bought_at=bought_at) == is_right

    @pytest.mark.G5
    @pytest.mark.parametrize(
        ("now", "payment", "bought_at", "is_right"),
        [(3, None, 0, False), (40, None, 0, True), (40, "p", 0, False), (40, "p", 35, True)],
    )
    def test_refused_as_expired(
        self, now: float, payment: str | None, bought_at: float, *, is_right: bool
    ) -> None:
        refused = change(
            "h",
            HoldAction.CONFIRM,
            now,
            now + 1,
            done=False,
            code="hold_expired",
            payment_reference=payment,
        )
        assert self.judged(refused, bought_at=bought_at) == is_right

    @pytest.mark.G3
    def test_refused_payment(self) -> None:
        """A payment that came too late buys nothing afterwards: it is refunded."""
        refused = change(
            "h",
            HoldAction.CONFIRM,
            40,
            41,
            done=False,
            code="hold_expired",
            payment_reference="p",
        )
        later = change("h", HoldAction.CONFIRM, 50, 51, done=True, payment_reference="p")
        assert self.judged(refused, bought_at=35)
        assert not self.judged(refused, later, bought_at=35)

    @pytest.mark.G3
    def test_released(self) -> None:
        released = change("h", HoldAction.RELEASE, 3, 4, done=True)
        assert self.judged(released, bought_at=5)
        assert not self.judged(released, refused_at=5)
        confirmed = change("h", HoldAction.CONFIRM, 5, 6, done=True)
        assert not self.judged(released, confirmed)
        refused = change("h", HoldAction.CONFIRM, 5, 6, done=False, code="hold_released")
        assert self.judged(released, refused)
        assert not self.judged(refused)
        late = change("h", HoldAction.RELEASE, 40, 41, done=False, code="hold_expired")
        assert self.judged(late)

    def test_unknown_outcome(self) -> None:
        unknown = change("h", HoldAction.RELEASE, 3, 4, done=None)
        assert self.judged(unknown, bought_at=5)
        assert self.judged(unknown, refused_at=5)


class TestCapacity:
    """One of two tickets is sold."""

    @pytest.mark.G1
    @pytest.mark.parametrize(
        ("capacity", "done", "lowest", "is_right"),
        [
            (1, True, None, True),
            (0, True, None, False),
            (0, False, 1, True),
            (0, False, 2, False),
            (1, False, 1, False),
        ],
    )
    def test_lower(self, capacity: int, lowest: int | None, *, done: bool, is_right: bool) -> None:
        resize = CapacityChange(2, 3, capacity, done, lowest)
        assert judged(A, capacity_changes=(resize,)) == is_right

    @pytest.mark.G2
    def test_step_by_step(self) -> None:
        """While the capacity falls, and rises again, a buyer may find no ticket."""
        resize = CapacityChange(2, 5, 0, done=False, lowest=1)
        assert judged(A, request("c", (3, 4, Kind.SOLD_OUT)), capacity_changes=(resize,))
        assert not judged(A, request("c", (6, 7, Kind.SOLD_OUT)), capacity_changes=(resize,))


@pytest.mark.G4
@pytest.mark.parametrize(
    ("stock", "sold", "capacity", "is_found", "is_right"),
    [
        (1, 1, 2, True, True),
        (0, 2, 2, True, False),
        (1, 1, 2, False, False),
        (2, 1, 3, True, False),
    ],
)
def test_at_rest(stock: int, sold: int, capacity: int, *, is_found: bool, is_right: bool) -> None:
    """The counters, and each purchase, are as the order leaves them."""
    audit = AuditReport(1, 1, capacity, stock, 0, sold, sold, sold, agrees=True)
    receipt = A.last.receipt if is_found else None
    lookups = (Lookup("id-a", 200 if is_found else 404, receipt),)
    assert judged(A, audit=audit, lookups=lookups) == is_right


def test_order() -> None:
    """It is an order that explains the answers."""
    refused = request("c", (0, 9, Kind.SOLD_OUT))
    history = History((refused, A, B), (RESET,), cache_seconds=0.0)
    order = linearization(start := SequentialSale(2), operations_of(history))
    assert order is not None
    assert [each.text for each in order][-2:] == ["sold_out c", "at rest"]
    assert linearization(start._replace(capacity=1), operations_of(history)) is None


def test_unknown_to_the_judge() -> None:
    with pytest.raises(ValueError, match="neither resets"):
        judged(A, pauses=(Pause(1, 2, 3, 4),))
    assert not judged(request("a", (0, 1, Kind.UNEXPECTED)))
    with pytest.raises(ValueError, match="buyer_limit_reached"):
        judged(request("a", (0, 1, Kind.LIMIT_REACHED)))
    extended = change("h", HoldAction.EXTEND, 2, 3, done=True)
    with pytest.raises(ValueError, match="extend"):
        judged(hold("h", 0, 1), changes=(extended,))
