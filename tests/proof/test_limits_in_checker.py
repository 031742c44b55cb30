"""The checker on sales with a limit for each buyer: what it must report, and what it must not."""

from typing import Any

import pytest
from msgspec import structs

from proof.history import (
    Attempt,
    History,
    Kind,
    PurchaseRequest,
    Receipt,
    Refund,
    Reset,
)
from tests.proof.test_holds_in_checker import held, hold, released
from tests.proof.test_proof_checker import broken, buyer, history

# Ten tickets, at most two for each buyer. A hold lasts 60 s, in slots of 2 s.
RESET = Reset(1, 10, -9.0, -8.0, hold_seconds=60, per_buyer_limit=2)
UNLIMITED = structs.replace(RESET, per_buyer_limit=None)


def bought(
    start: float, end: float, name: str, quantity: int = 1, person: str | None = "ann"
) -> PurchaseRequest:
    """Return a purchase with a key of its own."""
    receipt = Receipt(name, 1, quantity, "confirmed", "2026-01-15T12:30:27Z", 1, person)
    attempt = Attempt(start, end, Kind.BOUGHT, 201, receipt=receipt)
    return by(person, buyer(f"key of {name}", attempt, quantity=quantity))


def refused(
    start: float, end: float, left: int | None = 0, quantity: int = 1, person: str | None = "ann"
) -> PurchaseRequest:
    """Return a request that is refused for the limit."""
    attempt = Attempt(start, end, Kind.LIMIT_REACHED, 409, "buyer_limit_reached", left=left)
    return by(person, buyer(f"refused at {start}", attempt, quantity=quantity))


def unknown(start: float, end: float, person: str | None) -> PurchaseRequest:
    """Return a request that is refused because it names no buyer."""
    attempt = Attempt(start, end, Kind.BUYER_UNKNOWN, 422, "invalid_request")
    return by(person, buyer(f"unknown at {start}", attempt))


def by(person: str | None, request: PurchaseRequest) -> PurchaseRequest:
    return structs.replace(request, buyer_id=person)


def sale(*requests: PurchaseRequest, reset: Reset = RESET, **facts: Any) -> History:
    return history(*requests, resets=(reset,), **facts)


@pytest.mark.G1
class TestOverLimit:
    def test_receipts(self) -> None:
        three = [bought(0, 1, "p"), bought(0, 1, "q"), bought(2, 3, "r")]
        assert broken(sale(*three)) == [("G1", "buyer_over_limit")]
        assert broken(sale(*three[:2], bought(2, 3, "r", person="bob"))) == []
        assert broken(sale(*three, reset=UNLIMITED)) == []

    def test_several_tickets(self) -> None:
        assert broken(sale(bought(0, 1, "p", quantity=2))) == []
        assert broken(sale(bought(0, 1, "p", quantity=3))) == [("G1", "buyer_over_limit")]

    def test_no_buyer(self) -> None:
        anyone = bought(0, 1, "p", person=None)
        assert broken(sale(anyone)) == [("G1", "buyer_over_limit")]
        assert broken(sale(anyone, reset=UNLIMITED)) == []

    def test_refund(self) -> None:
        """It can have given a ticket back only after it was sent."""
        requests = [bought(0, 1, "p"), bought(0, 1, "q"), bought(4, 5, "r")]
        early = Refund("p", 1, 2.0, 3.0, done=True)
        late = Refund("p", 1, 6.0, 7.0, done=True)
        assert broken(sale(*requests, refunds=(early,))) == []
        assert broken(sale(*requests, refunds=(late,))) == [("G1", "buyer_over_limit")]

    def test_hold(self) -> None:
        """It counts until it is released or over."""
        more = bought(20, 21, "p")
        assert broken(sale(held(0, 1, hold()), more)) == [("G1", "buyer_over_limit")]
        assert broken(sale(held(0, 1, hold()), more, changes=(released(10, 11),))) == []
        assert broken(sale(held(0, 1, hold()), bought(60.5, 61, "p"))) == []


class TestRefusals:
    @pytest.mark.G2
    def test_within_limit(self) -> None:
        one = bought(0, 1, "p")
        assert broken(sale(one, refused(2, 3))) == [("G2", "refused_within_limit")]
        assert broken(sale(one, refused(2, 3, left=1, quantity=2))) == []
        assert broken(sale(one, bought(2.5, 4, "q"), refused(2, 3))) == []
        other = bought(0, 1, "q", person="bob")
        assert broken(sale(one, other, refused(2, 3))) == [("G2", "refused_within_limit")]
        assert broken(sale(refused(2, 3), reset=UNLIMITED)) == [("G2", "refused_within_limit")]

    @pytest.mark.G2
    def test_after_refund(self) -> None:
        two = bought(0, 1, "p", quantity=2)
        refund = Refund("p", 1, 2.0, 3.0, done=True)
        assert broken(sale(two, refused(2.5, 4), refunds=(refund,))) == []
        wrong = broken(sale(two, refused(5, 6), refunds=(refund,)))
        assert wrong == [("G2", "refused_within_limit")]

    @pytest.mark.G2
    @pytest.mark.parametrize(("start", "right"), [(64.9, True), (65.1, False)])
    def test_after_expiry(self, start: float, right: bool) -> None:
        """The hold ends within 60 s and a slot of 2 s; clocks are up to 1 s apart, twice."""
        found = broken(sale(held(0, 1, hold()), refused(start, start + 1)))
        assert found == ([] if right else [("G2", "refused_within_limit")])

    @pytest.mark.G5
    @pytest.mark.parametrize(
        ("left", "right"), [(0, False), (1, True), (2, False), (3, False), (None, False)]
    )
    def test_figure(self, left: int | None, right: bool) -> None:
        found = broken(sale(bought(0, 1, "p"), refused(2, 3, left=left, quantity=3)))
        assert found == ([] if right else [("G5", "untrue_figure_of_limit")])

    @pytest.mark.G5
    def test_buyer_unknown(self) -> None:
        wrong = [("G5", "buyer_known_or_not_needed")]
        assert broken(sale(unknown(2, 3, None))) == []
        assert broken(sale(unknown(2, 3, "ann"))) == wrong
        assert broken(sale(unknown(2, 3, None), reset=UNLIMITED)) == wrong

    @pytest.mark.G3
    def test_duplicate(self) -> None:
        """The key that used the limit up gets its receipt, also from a copy at the same time."""
        copy = structs.replace(refused(0.5, 3), key="key of p", copy=2)
        two = bought(0, 1, "p"), bought(0, 1, "q")
        assert broken(sale(*two, copy)) == [("G3", "refused_although_bought")]
