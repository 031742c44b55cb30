"""The checker on sales with holds: what it must report, and what it must not report."""

from typing import Any

import pytest
from msgspec import structs

from proof.history import (
    Attempt,
    AuditReport,
    History,
    Hold,
    HoldAction,
    HoldChange,
    Kind,
    Lookup,
    PurchaseRequest,
    Receipt,
    Refund,
    Reset,
)
from tests.proof.test_proof_checker import (
    audit,
    bought,
    broken,
    buyer,
    history,
    lost,
    only_left,
    sold_out,
)

# Two tickets. A hold lasts 60 s, in slots of 2 s, on clocks that are up to 1 s apart.
RESET = Reset(1, 2, -9.0, -8.0, hold_seconds=60)
EXPIRY = "2026-01-15T12:31:28Z"


def hold(purchase: str = "h", quantity: int = 2, **more: Any) -> Receipt:
    """Return a hold of Ann's, as the receipt of what it takes."""
    held_at = "2026-01-15T12:30:27Z"
    body = Hold(purchase, 1, quantity, "held", held_at, EXPIRY, extended=False, generation=1)
    return structs.replace(body.receipt, buyer_id="ann", **more)


def held(
    start: float, end: float, receipt: Receipt, key: str = "a", kind: Kind = Kind.BOUGHT
) -> PurchaseRequest:
    """Return a request that holds tickets."""
    status = 201 if kind is Kind.BOUGHT else 200
    attempt = Attempt(start, end, kind, status, receipt=receipt)
    return structs.replace(buyer(key, attempt, quantity=receipt.quantity), is_hold=True)


def change(
    action: HoldAction,
    start: float,
    end: float,
    *,
    done: bool | None = True,
    purchase: str = "h",
    quantity: int = 2,
    **more: Any,
) -> HoldChange:
    """Return a change of hold h."""
    change = HoldChange(purchase, action, start, end, done, **more)
    if action is not HoldAction.CONFIRM or not done:
        return change
    receipt = Receipt(purchase, 1, quantity, "confirmed", "2026-01-15T12:31:00Z", 1, "ann")
    return structs.replace(change, receipt=receipt)


def confirmed(start: float, end: float, **more: Any) -> HoldChange:
    return change(HoldAction.CONFIRM, start, end, **more)


def released(start: float, end: float, **more: Any) -> HoldChange:
    return change(HoldAction.RELEASE, start, end, **more)


def extended(start: float, end: float, **more: Any) -> HoldChange:
    return change(HoldAction.EXTEND, start, end, **more)


def sale(*requests: PurchaseRequest, changes: tuple[HoldChange, ...] = (), **facts: Any) -> History:
    """Return a sale in which both tickets are held from the first second on."""
    return history(held(0, 1, hold()), *requests, resets=(RESET,), changes=changes, **facts)


@pytest.mark.G1
class TestOversold:
    def test_bought_while_held(self) -> None:
        """The tickets come back after a minute at the earliest, or when they are released."""
        assert broken(sale(buyer("b", bought(60.1, 61, "p")))) == []
        assert broken(sale(buyer("b", bought(50, 59, "p")))) == [("G1", "oversold")]
        early = sale(buyer("b", bought(50, 59, "p")), changes=(released(40, 41),))
        assert broken(early) == []

    def test_bought_after_confirmation(self) -> None:
        other = buyer("b", bought(80, 81, "p"))
        assert broken(sale(other, changes=(confirmed(50, 51),))) == [("G1", "oversold")]

    def test_confirmed_late(self) -> None:
        """After its time it takes other tickets, or the same, but not those that were sold."""
        late = confirmed(70, 71, payment_reference="pay")
        assert broken(sale(changes=(late,))) == []
        sold = buyer("b", bought(65, 66, "p"))
        assert broken(sale(sold, changes=(late,))) == [("G1", "oversold")]
        refunded = Refund("p", 1, 67.0, 68.0, done=True)
        assert broken(sale(sold, changes=(late,), refunds=(refunded,))) == []


@pytest.mark.G2
class TestUndersold:
    # The hold expires within 60 s and a slot of 2 s; clocks are up to 1 s apart, twice.
    @pytest.mark.parametrize(("start", "right"), [(64.9, True), (65.1, False)])
    def test_refused_after_expiry(self, start: float, right: bool) -> None:
        refusal = buyer("b", sold_out(start, start + 1))
        assert broken(sale(refusal)) == ([] if right else [("G2", "undersold")])

    def test_refused_after_release(self) -> None:
        refusal = buyer("b", sold_out(20, 21))
        assert broken(sale(refusal, changes=(released(10, 11),))) == [("G2", "undersold")]
        assert broken(sale(refusal, changes=(released(10, 20.5),))) == []
        assert broken(sale(refusal, changes=(released(10, 11, done=None),))) == []

    def test_extended(self) -> None:
        refusal = buyer("b", sold_out(70, 71))
        assert broken(sale(refusal, changes=(extended(50, 51),))) == []
        assert broken(sale(refusal, changes=(extended(50, 51, done=None),))) == []
        later = buyer("b", sold_out(116, 117))
        assert broken(sale(later, changes=(extended(50, 51),))) == [("G2", "undersold")]

    def test_paid_after_the_refusal(self) -> None:
        """That the hold was paid late does not excuse the refusal before it."""
        refusal = buyer("b", sold_out(70, 71))
        late = confirmed(80, 81, payment_reference="pay")
        assert broken(sale(refusal, changes=(late,))) == [("G2", "undersold")]
        earlier = confirmed(60, 81, payment_reference="pay")
        assert broken(sale(refusal, changes=(earlier,))) == []

    def test_figures(self) -> None:
        request = structs.replace(buyer("b", only_left(70, 71, 1)), quantity=3)
        assert broken(sale(request)) == [("G5", "untrue_figure_in_a_refusal")]
        request = structs.replace(buyer("b", only_left(70, 71, 2)), quantity=3)
        assert broken(sale(request)) == []
        attempt = Attempt(10, 11, Kind.ALL_HELD, 409, "all_held", left=0)
        assert broken(sale(buyer("b", attempt))) == []


@pytest.mark.G3
class TestOneKey:
    def test_repeated(self) -> None:
        """It shows the same hold, as it is by then."""
        for status in ("held", "expired", "confirmed", "refunded"):
            again = hold(status=status)
            assert broken(sale(held(70, 71, again, kind=Kind.REPLAYED))) == []

    def test_expiry_moves(self) -> None:
        """Only an extension moves it."""
        moved = hold(expires_at="2026-01-15T12:32:28Z")
        found = broken(sale(held(50, 51, moved, kind=Kind.REPLAYED)))
        assert found == [("G3", "receipt_differs")]
        longer = structs.replace(moved, extended=True)
        again = held(50, 51, longer, kind=Kind.REPLAYED)
        assert broken(sale(again, changes=(extended(40, 41),))) == []

    def test_key_holds_and_buys(self) -> None:
        facts = sale(buyer("a", bought(61, 62, "h", quantity=2), quantity=2))
        assert ("G3", "key_and_request") in broken(facts)


@pytest.mark.G5
class TestKept:
    @pytest.mark.parametrize(("end", "right"), [(58.9, False), (59.1, True)])
    def test_expired_too_early(self, end: float, right: bool) -> None:
        refusal = confirmed(58, end, done=False, code="hold_expired")
        expected = [] if right else [("G5", "hold_expired_too_early")]
        assert broken(sale(changes=(refusal,))) == expected

    @pytest.mark.parametrize("payment", ["pay", None])
    def test_confirmed_too_late(self, payment: str | None) -> None:
        """Only with a payment, or in time for the last clock."""
        late = confirmed(64.1, 65, payment_reference=payment)
        assert broken(sale(changes=(late,))) == ([] if payment else [("G5", "confirmed_too_late")])
        assert broken(sale(changes=(confirmed(63.9, 65, payment_reference=payment),))) == []

    def test_repeated_late(self) -> None:
        again = confirmed(70, 71, replayed=True)
        assert broken(sale(changes=(confirmed(40, 41), again))) == []

    def test_reset_ends_holds(self) -> None:
        refusal = confirmed(20, 21, done=False, code="hold_expired")
        second = Reset(2, 2, 10.0, 11.0, hold_seconds=60)
        facts = history(held(0, 1, hold()), resets=(RESET, second), changes=(refusal,))
        assert broken(facts) == []

    def test_unknown_generation(self) -> None:
        """Nothing is known of how long its holds last. This ended the checker once."""
        unknown = held(0, 1, structs.replace(hold(), generation=7))
        found = broken(history(unknown, resets=(RESET,), changes=(confirmed(90, 91),)))
        assert ("G1", "sold_in_a_wrong_generation") in found

    def test_extension_counts(self) -> None:
        """The first one, and not its repetition."""
        refusal = confirmed(90, 91, done=False, code="hold_expired")
        found = broken(sale(changes=(extended(40, 41), refusal)))
        assert found == [("G5", "hold_expired_too_early")]
        repeated = extended(40, 41, replayed=True)
        assert broken(sale(changes=(repeated, refusal))) == []

    def test_never_released(self) -> None:
        refusal = confirmed(20, 21, done=False, code="hold_released")
        assert broken(sale(changes=(refusal,))) == [("G5", "hold_never_released")]
        assert broken(sale(changes=(released(10, 11), refusal))) == []

    def test_refused_after_confirmation(self) -> None:
        first = confirmed(50, 51)
        refusal = confirmed(70, 71, done=False, code="hold_expired")
        found = broken(sale(changes=(first, refusal)))
        assert found == [("G5", "refused_although_confirmed")]


@pytest.mark.G3
class TestEnds:
    def test_confirmed_twice(self) -> None:
        first, second = confirmed(20, 21), confirmed(30, 31)
        assert broken(sale(changes=(first, second))) == []
        assert second.receipt
        other = structs.replace(second.receipt, purchased_at="2026-01-15T12:32:00Z")
        second = structs.replace(second, receipt=other)
        assert broken(sale(changes=(first, second))) == [("G3", "confirmed_twice")]

    def test_confirmed_and_released(self) -> None:
        found = broken(sale(changes=(confirmed(20, 21), released(30, 31))))
        assert ("G3", "confirmed_and_released") in found

    def test_confirmation_is_lost(self) -> None:
        lookup = Lookup("h", 404)
        found = broken(sale(changes=(confirmed(20, 21),), lookups=(lookup,)))
        assert found == [("G3", "confirmation_is_missing")]
        assert broken(sale(lookups=(lookup,))) == []

    @pytest.mark.parametrize("code", ["hold_expired", "payment_reused"])
    def test_bought_without_confirmation(self, code: str) -> None:
        lookup = Lookup("h", 200, confirmed(0, 0).receipt)
        refusal = confirmed(70, 71, done=False, code=code)
        found = broken(sale(changes=(refusal,), lookups=(lookup,)))
        assert ("G3", "bought_without_confirmation") in found
        unknown = confirmed(70, 71, done=None)
        assert broken(sale(changes=(unknown,), lookups=(lookup,))) == []


@pytest.mark.G3
class TestPayments:
    def test_two_holds_with_one_payment(self) -> None:
        """A hold of one ticket each."""
        requests = (held(0, 1, hold("g", 1), "a"), held(0, 1, hold("h", 1), "b"))
        paid = [
            confirmed(20, 21, purchase=name, quantity=1, payment_reference="pay")
            for name in ("g", "h")
        ]
        facts = history(*requests, resets=(RESET,), changes=tuple(paid))
        assert broken(facts) == [("G3", "payment_pays_for_two_holds")]
        refused = confirmed(30, 31, done=False, code="payment_reused", payment_reference="pay")
        right = structs.replace(facts, changes=(paid[0], refused))
        assert broken(right) == []

    @pytest.mark.parametrize("first", ["pay-1", None])
    def test_two_payments(self, first: str | None) -> None:
        one = confirmed(20, 21, payment_reference=first)
        other = confirmed(30, 31, payment_reference="pay-2")
        assert broken(sale(changes=(one, other))) == [("G3", "hold_is_paid_for_twice")]
        refused = confirmed(30, 31, done=False, code="already_paid", payment_reference="pay-2")
        assert broken(sale(changes=(one, refused))) == []
        assert broken(sale(changes=(refused,))) == [("G3", "payment_refused")]

    def test_payment_of_attempt_in_doubt(self) -> None:
        """It was made before the other confirmation, which is a replay of it."""
        paid = confirmed(20, 41, payment_reference="pay", replayed=True)
        other = confirmed(30, 31, replayed=True)
        again = confirmed(45, 46, payment_reference="pay", replayed=True)
        assert broken(sale(changes=(paid, other, again))) == []

    def test_payment_never_used(self) -> None:
        refused = confirmed(20, 21, done=False, code="payment_reused", payment_reference="pay")
        assert broken(sale(changes=(refused,))) == [("G3", "payment_refused")]


@pytest.mark.G6
def test_internal_error() -> None:
    """Whatever comes after it."""
    for done in (True, None):
        failed = extended(20, 21, done=done, code="internal_error")
        assert broken(sale(changes=(failed,))) == [("G6", "internal_error")]


@pytest.mark.G4
@pytest.mark.parametrize(
    ("done", "records", "right"),
    [(True, 1, True), (True, 0, False), (None, 1, True), (None, 0, True), (False, 1, False)],
)
def test_records(done: bool | None, records: int, right: bool) -> None:
    """Only confirmed holds are purchases."""
    code = "hold_expired" if done is False else None
    changes = (confirmed(62, 71, done=done, code=code),)
    report: AuditReport = audit(records, 2 * records)
    found = broken(sale(changes=changes, audit=report))
    assert found == ([] if right else [("G4", "figures_disagree")])


@pytest.mark.G3
@pytest.mark.parametrize(
    ("sent_at", "expected"), [(0.0, []), (40.0, [("G3", "refused_although_bought")])]
)
def test_unseen_hold_expires(sent_at: float, expected: list[tuple[str, str]]) -> None:
    """Its caller went away without an answer. After a minute its tickets may be free again."""
    unseen = buyer("a", lost(sent_at, sent_at + 1), quantity=2)
    facts = history(
        structs.replace(unseen, is_hold=True, given_up=True),
        buyer("b", sold_out(57, 58)),
        buyer("b", bought(62, 63, "p"), copy=2),
        resets=(RESET,),
    )
    assert broken(facts) == expected
