"""The checker, rule by rule: what it must report, and what it must not report."""

from typing import Any

import pytest
from msgspec import structs

from proof.checker import check
from proof.history import (
    Attempt,
    AuditReport,
    CapacityChange,
    History,
    Inventory,
    Kind,
    Lookup,
    Pause,
    PurchaseRequest,
    Receipt,
    Refund,
    Reset,
    Sample,
)

FIRST = Reset(generation=1, capacity=2, started_at=-9.0, ended_at=-8.0)
SECOND = Reset(generation=2, capacity=2, started_at=10.0, ended_at=10.5)


def receipt(purchase: str, quantity: int = 1, generation: int = 1, buyer: str = "ann") -> Receipt:
    """Return a receipt."""
    return Receipt(purchase, 1, quantity, "confirmed", "2026-01-15T12:30:27Z", generation, buyer)


def bought(
    start: float, end: float, purchase: str, quantity: int = 1, generation: int = 1
) -> Attempt:
    """Return a 201."""
    return Attempt(start, end, Kind.BOUGHT, 201, receipt=receipt(purchase, quantity, generation))


def replayed(
    start: float, end: float, purchase: str, quantity: int = 1, generation: int = 1
) -> Attempt:
    """Return a 200."""
    return Attempt(start, end, Kind.REPLAYED, 200, receipt=receipt(purchase, quantity, generation))


def sold_out(start: float, end: float) -> Attempt:
    """Return a 409, none left."""
    return Attempt(start, end, Kind.SOLD_OUT, 409, "sold_out")


def only_left(start: float, end: float, left: int) -> Attempt:
    """Return a 409, too few left."""
    return Attempt(start, end, Kind.NOT_ENOUGH_LEFT, 409, "not_enough_left", left=left)


def lost(start: float, end: float) -> Attempt:
    """Return an attempt without an answer."""
    return Attempt(start, end, Kind.UNKNOWN, detail="ReadTimeout")


def buyer(key: str, *attempts: Attempt, quantity: int = 1, copy: int = 1) -> PurchaseRequest:
    """Return a request of Ann's."""
    return PurchaseRequest(key, 1, quantity, "ann", attempts, copy)


def inventory(stock: int, sold: int, generation: int = 1, held: int = 0) -> Inventory:
    """Return an inventory of two tickets."""
    return Inventory(1, "Item A - Concert Ticket", stock, 2, sold, held, generation)


def sample(stock: int, sold: int, generation: int = 1) -> Sample:
    """Return an inventory at rest."""
    return Sample(50.0, 50.1, inventory(stock, sold, generation))


@pytest.mark.G3
def test_reset_took_effect_twice() -> None:
    """Only where it was sent again. Otherwise another organiser has reset the sale."""
    third = structs.replace(SECOND, generation=3, attempts=2)
    purchase = buyer("a", bought(10.1, 10.2, "p", generation=2))
    found = {each.rule for each in check(History((purchase,), (FIRST, third)))}
    assert "reset_took_effect_twice" in found
    assert "sold_in_a_wrong_generation" not in found
    once = structs.replace(third, attempts=1)
    found = {each.rule for each in check(History((purchase,), (FIRST, once)))}
    assert "reset_took_effect_twice" not in found
    assert "sold_in_a_wrong_generation" in found


@pytest.mark.G3
def test_repeated_reset_is_fine() -> None:
    second = structs.replace(SECOND, attempts=5)
    assert not check(History((buyer("a", bought(11, 12, "p", generation=2)),), (FIRST, second)))


def audit(
    records: int, tickets: int, sold: int | None = None, generation: int = 1, agrees: bool = True
) -> AuditReport:
    """Return an audit of two tickets."""
    sold = tickets if sold is None else sold
    return AuditReport(
        1,
        generation,
        2,
        2 - sold,
        0,
        sold,
        records,
        tickets,
        agrees,
        [] if agrees else ["they differ"],
    )


def history(
    *requests: PurchaseRequest, resets: tuple[Reset, ...] = (FIRST,), **facts: Any
) -> History:
    """Return a history of a service without a cache."""
    return structs.replace(History(requests, resets, cache_seconds=0.0), **facts)


def broken(facts: History) -> list[tuple[str, str]]:
    """Return the guarantees and rules that a history breaks."""
    return [(violation.guarantee, violation.rule) for violation in check(facts)]


ALL_SOLD = (
    buyer("a", bought(0, 1, "p")),
    buyer("b", bought(0, 1, "q")),
    buyer("c", sold_out(0, 2)),
)


def test_empty_history() -> None:
    assert check(history()) == []


def test_correct_sale() -> None:
    facts: dict[str, Any] = {
        "final": sample(0, 2),
        "audit": audit(2, 2),
        "samples": (sample(1, 1),),
    }
    lookups = (Lookup("p", 200, receipt("p")), Lookup("q", 200, receipt("q")))
    assert check(history(*ALL_SOLD, lookups=lookups, **facts)) == []


@pytest.mark.G1
def test_more_receipts_than_tickets() -> None:
    [violation] = check(history(*ALL_SOLD, buyer("d", bought(1, 3, "r"))))
    assert (violation.guarantee, violation.rule) == ("G1", "oversold")
    assert violation.evidence[-1].key == "d", "the receipt that is one too many comes last"
    assert violation.count == 1


@pytest.mark.G1
def test_evidence_of_large_oversell() -> None:
    """It fits a screen."""
    many = [buyer(f"k{number}", bought(0, number, f"p{number}")) for number in range(1, 500)]
    [violation] = check(history(*many, resets=(structs.replace(FIRST, capacity=400),)))
    assert violation.count == 99
    assert len(violation.evidence) <= 8


@pytest.mark.G1
@pytest.mark.parametrize(
    ("stock", "sold", "rule"),
    [
        (-1, 3, "counter_is_negative"),
        (1, 2, "counters_do_not_add_up"),
        (0, 1, "counters_do_not_add_up"),
    ],
)
def test_counters(stock: int, sold: int, rule: str) -> None:
    assert broken(history(samples=(sample(stock, sold),))) == [("G1", rule)]


@pytest.mark.G1
def test_wrong_capacity() -> None:
    facts = structs.replace(inventory(1, 2), initial_stock=3)
    assert broken(history(samples=(Sample(0, 1, facts),))) == [("G1", "counters_do_not_add_up")]


@pytest.mark.G1
def test_sale_of_ended_generation() -> None:
    facts = history(buyer("a", bought(11, 12, "p", generation=1)), resets=(FIRST, SECOND))
    assert broken(facts) == [("G1", "sold_in_a_wrong_generation")]


@pytest.mark.G1
def test_sale_before_reset() -> None:
    facts = history(buyer("a", bought(8, 9, "p", generation=2)), resets=(FIRST, SECOND))
    assert broken(facts) == [("G1", "sold_in_a_wrong_generation")]


@pytest.mark.G1
def test_sale_of_unknown_generation() -> None:
    assert broken(history(buyer("a", bought(0, 1, "p", generation=7)))) == [
        ("G1", "sold_in_a_wrong_generation")
    ]


@pytest.mark.G1
@pytest.mark.parametrize("generation", [1, 2])
def test_sale_during_reset_is_fine(generation: int) -> None:
    facts = history(
        buyer("a", bought(10.1, 10.2, "p", generation=generation)), resets=(FIRST, SECOND)
    )
    assert check(facts) == []


@pytest.mark.G2
def test_refused_while_tickets_stay_free() -> None:
    [violation] = check(history(buyer("a", bought(0, 1, "p")), buyer("b", sold_out(2, 3))))
    assert (violation.guarantee, violation.rule) == ("G2", "undersold")
    assert violation.evidence[0].key == "b"


@pytest.mark.G2
def test_refused_too_early() -> None:
    """Although all tickets were sold later."""
    facts = history(
        buyer("a", bought(0, 1, "p")),
        buyer("b", sold_out(0, 1)),
        buyer("c", bought(2, 3, "q")),
    )
    assert broken(facts) == [("G2", "undersold")]


@pytest.mark.G2
def test_possible_purchase_before_refusal() -> None:
    facts = history(
        buyer("a", bought(0, 1, "p")),
        buyer("b", sold_out(0, 1)),
        buyer("c", bought(0.9, 3, "q")),
    )
    assert check(facts) == []


@pytest.mark.G2
def test_refusal_with_request_in_doubt() -> None:
    facts = history(
        buyer("a", bought(0, 1, "p")), buyer("b", lost(0, 5)), buyer("c", sold_out(1, 2))
    )
    assert broken(facts) == [("G6", "left_without_an_answer")]


@pytest.mark.G2
def test_cached_refusal_across_reset() -> None:
    """It is right only within the cache's time."""
    requests = (*ALL_SOLD, buyer("d", sold_out(11, 11.1)))
    facts = history(*requests, resets=(FIRST, SECOND))
    assert broken(facts) == [("G2", "undersold")]
    assert check(structs.replace(facts, cache_seconds=1.0)) == []


def test_before_first_reset() -> None:
    """Nothing is known of that time, so nothing is reported."""
    facts = history(buyer("a", sold_out(-8.5, 0)))
    assert check(facts) == []


@pytest.mark.G3
def test_two_purchases_for_one_key() -> None:
    facts = history(buyer("a", bought(0, 1, "p")), buyer("a", bought(0, 1, "q"), copy=2))
    [violation] = check(facts)
    assert (violation.guarantee, violation.rule) == ("G3", "sold_twice_for_one_key")
    assert len(violation.evidence) == 2


@pytest.mark.G5
def test_replay_of_nothing() -> None:
    """Busy says that nothing was carried out: then there is nothing to replay."""
    busy = Attempt(0, 1, Kind.BUSY, 503, "busy", retry_after_seconds=1)
    replay = replayed(2, 3, "p")
    assert broken(history(buyer("a", busy, replay))) == [("G5", "replay_of_nothing")]
    assert broken(history(buyer("a", replay))) == [("G5", "replay_of_nothing")]
    for possible in (lost(0, 1), structs.replace(busy, code=None), bought(0, 1, "p")):
        assert broken(history(buyer("a", busy, possible, replay))) == []
    copy = buyer("a", bought(0, 4, "p"), copy=2)
    assert broken(history(buyer("a", replay), copy)) == []


@pytest.mark.G6
def test_given_up() -> None:
    """Who goes away without an answer does not expect one."""
    request = buyer("a", lost(0, 1))
    assert broken(history(request)) == [("G6", "left_without_an_answer")]
    assert broken(history(structs.replace(request, given_up=True))) == []


@pytest.mark.G3
def test_two_201_for_one_key() -> None:
    facts = history(buyer("a", bought(0, 1, "p")), buyer("a", bought(0, 1, "p"), copy=2))
    assert broken(facts) == [("G3", "two_201_for_one_key")]


@pytest.mark.G3
def test_replay_after_lost_answer() -> None:
    assert check(history(buyer("a", lost(0, 1), replayed(2, 3, "p")))) == []


@pytest.mark.G3
def test_replay_with_other_receipt() -> None:
    other = Attempt(
        2, 3, Kind.REPLAYED, 200, receipt=structs.replace(receipt("p"), purchased_at="later")
    )
    [violation] = check(history(buyer("a", bought(0, 1, "p")), buyer("a", other)))
    assert (violation.guarantee, violation.rule) == ("G3", "receipt_differs")
    assert "purchased_at" in violation.found


@pytest.mark.G3
@pytest.mark.parametrize("start", [0.0, 5.0])
def test_sold_out_after_receipt(start: float) -> None:
    facts = history(*ALL_SOLD, buyer("a", sold_out(start, start + 2), copy=2))
    assert broken(facts) == [("G3", "refused_although_bought")]


@pytest.mark.G3
def test_copy_refused_before_reset() -> None:
    """The other copy may buy after it."""
    facts = history(
        *ALL_SOLD,
        buyer("d", sold_out(8, 9)),
        buyer("d", lost(8, 9), replayed(12, 13, "r", generation=2), copy=2),
        resets=(FIRST, SECOND),
    )
    assert check(facts) == []


@pytest.mark.G3
def test_one_purchase_for_two_keys() -> None:
    facts = history(buyer("a", bought(0, 1, "p")), buyer("b", replayed(2, 3, "p")))
    assert ("G3", "one_purchase_for_two_keys") in broken(facts)


@pytest.mark.G3
def test_key_refused_to_own_request() -> None:
    reused = Attempt(2, 3, Kind.KEY_REUSED, 422, "idempotency_key_reused")
    assert broken(history(buyer("a", bought(0, 1, "p")), buyer("a", reused))) == [
        ("G3", "key_and_request")
    ]


@pytest.mark.G3
def test_key_accepted_for_other_request() -> None:
    facts = history(buyer("a", bought(0, 1, "p")), buyer("a", only_left(2, 3, 1), quantity=2))
    assert broken(facts) == [("G3", "key_and_request")]


@pytest.mark.G3
def test_used_key_refused_is_fine() -> None:
    reused = Attempt(2, 3, Kind.KEY_REUSED, 422, "idempotency_key_reused")
    assert check(history(buyer("a", bought(0, 1, "p")), buyer("a", reused, quantity=2))) == []


@pytest.mark.G5
@pytest.mark.parametrize(
    ("found", "rule"),
    [
        (Lookup("p", 404), "record_is_missing"),
        (Lookup("p", None), "record_not_readable"),
        (Lookup("p", 200, receipt("p", buyer="bob")), "record_differs"),
    ],
)
def test_receipt_not_found(found: Lookup, rule: str) -> None:
    assert broken(history(buyer("a", bought(0, 1, "p")), lookups=(found,))) == [("G5", rule)]


@pytest.mark.G5
@pytest.mark.parametrize(
    "change",
    [{"item_id": 2}, {"quantity": 2}, {"buyer_id": "bob"}, {"buyer_id": None}, {"status": "held"}],
)
def test_receipt_of_other_purchase(change: dict[str, object]) -> None:
    wrong = Attempt(0, 1, Kind.BOUGHT, 201, receipt=structs.replace(receipt("p"), **change))
    assert broken(history(buyer("a", wrong))) == [("G5", "receipt_of_something_else")]


@pytest.mark.G5
@pytest.mark.parametrize(
    ("attempt", "right"),
    [
        (only_left(2, 3, 1), True),
        (only_left(2, 3, 2), False),
        (only_left(2, 3, 0), False),
        (sold_out(2, 3), False),
        (Attempt(2, 3, Kind.NOT_ENOUGH_LEFT, 409, "not_enough_left"), False),
    ],
)
def test_wrong_figure_in_refusal(attempt: Attempt, right: bool) -> None:
    facts = history(buyer("a", bought(0, 1, "p")), buyer("b", attempt, quantity=2))
    assert broken(facts) == ([] if right else [("G5", "untrue_figure_in_a_refusal")])


@pytest.mark.G4
@pytest.mark.parametrize(
    "wrong",
    [
        {"audit": audit(1, 2)},
        {"audit": audit(2, 1, sold=2)},
        {"audit": audit(2, 2, sold=1)},
        {"audit": audit(2, 2, generation=3)},
        {"final": sample(1, 1)},
    ],
)
def test_figures_differ_from_receipts(wrong: dict[str, Any]) -> None:
    assert broken(history(*ALL_SOLD, **wrong)) == [("G4", "figures_disagree")]


@pytest.mark.G4
def test_audit_disagrees() -> None:
    assert broken(history(*ALL_SOLD, audit=audit(2, 2, agrees=False))) == [
        ("G4", "audit_disagrees")
    ]


@pytest.mark.G4
@pytest.mark.parametrize("records", [2, 3])
def test_record_of_request_in_doubt(records: int) -> None:
    requests = (ALL_SOLD[0], buyer("d", lost(0, 5)))
    assert broken(history(*requests, audit=audit(records - 1, records - 1))) == [
        ("G6", "left_without_an_answer")
    ]


@pytest.mark.G6
@pytest.mark.parametrize(
    ("attempt", "rule"),
    [
        (Attempt(0, 1, Kind.UNEXPECTED, 418, detail="a teapot"), "unexpected_answer"),
        (Attempt(0, 1, Kind.UNKNOWN, 500, "internal_error"), "internal_error"),
        (Attempt(0, 1, Kind.BUSY, 503, "busy"), "busy_without_retry_after"),
    ],
)
def test_answers_outside_contract(attempt: Attempt, rule: str) -> None:
    assert ("G6", rule) in broken(history(buyer("a", attempt, bought(2, 3, "p"))))


@pytest.mark.G6
def test_gateway_errors_are_fine() -> None:
    attempts = (
        Attempt(0, 1, Kind.BUSY, 503),
        Attempt(1, 2, Kind.BUSY, 429),
        Attempt(2, 3, Kind.UNKNOWN, 502),
        bought(3, 4, "p"),
    )
    assert check(history(buyer("a", *attempts))) == []


@pytest.mark.G6
def test_buyer_without_answer() -> None:
    [violation] = check(
        history(buyer("a", Attempt(0, 1, Kind.BUSY, 429), Attempt(7, 8, Kind.BUSY, 429)))
    )
    assert (violation.guarantee, violation.rule) == ("G6", "left_without_an_answer")
    assert "ann was still busy after 2 attempts in 8.0 s" in violation.found


def test_one_violation_per_rule() -> None:
    requests = [buyer(f"k{number}", sold_out(number, number + 1)) for number in range(50)]
    [violation] = check(history(*requests))
    assert violation.count == 50


def refund(
    start: float,
    end: float,
    quantity: int = 1,
    *,
    done: bool | None = True,
    shown: int | None = None,
) -> Refund:
    """Return a refund of purchase p, of two tickets. shown: how many the answer says are back."""
    if shown is None:
        return Refund("p", quantity, start, end, done)
    status = "refunded" if shown == 2 else "confirmed"
    after = structs.replace(receipt("p", 2), status=status, refunded_quantity=shown)
    return Refund("p", quantity, start, end, done, after)


class TestRefunds:
    """Tickets come back: bounds, figures, and what receipts say."""

    @pytest.mark.G1
    def test_tickets_sold_again(self) -> None:
        """Not before the refund was sent."""
        requests = (buyer("a", bought(0, 1, "p", 2), quantity=2), buyer("b", bought(4, 5, "q")))
        assert broken(history(*requests, refunds=(refund(2, 3),))) == []
        assert broken(history(*requests, refunds=(refund(6, 7),))) == [("G1", "oversold")]

    @pytest.mark.G2
    def test_refused_after_refund(self) -> None:
        """Only where the refund was certain before the request."""
        requests = (buyer("a", bought(0, 1, "p", 2), quantity=2), buyer("b", sold_out(4, 5)))
        assert broken(history(*requests, refunds=(refund(2, 3),))) == [("G2", "undersold")]
        assert broken(history(*requests, refunds=(refund(2, 4.5),))) == []
        assert broken(history(*requests, refunds=(refund(2, 3, done=None),))) == []

    @pytest.mark.G5
    def test_figure_after_refund(self) -> None:
        requests = [buyer("a", bought(0, 1, "p", 2), quantity=2)]
        requests.append(buyer("b", only_left(4, 5, 1), quantity=2))
        assert broken(history(*requests, refunds=(refund(2, 3),))) == []
        assert broken(history(*requests, refunds=(refund(6, 7),))) == [
            ("G5", "untrue_figure_in_a_refusal")
        ]

    @pytest.mark.G2
    def test_refund_after_reset(self) -> None:
        """Its tickets do not come back."""
        requests = (
            buyer("a", bought(0, 1, "p", 2), quantity=2),
            buyer("b", bought(11, 12, "q", 2, generation=2), quantity=2),
            buyer("c", sold_out(14, 15)),
        )
        late = (refund(11, 12),)
        assert broken(history(*requests, resets=(FIRST, SECOND), refunds=late)) == []

    @pytest.mark.G3
    @pytest.mark.parametrize("shown", [0, 1, 2])
    def test_receipt_after_refund(self, shown: int) -> None:
        """The key that bought gets its receipt, which says what was refunded by then."""
        again = refund(0, 0, shown=shown).receipt
        requests = buyer(
            "a",
            bought(0, 1, "p", 2),
            Attempt(4, 5, Kind.REPLAYED, 200, receipt=again),
            quantity=2,
        )
        right = history(requests, refunds=(refund(2, 3),))
        assert broken(right) == ([] if shown == 1 else [("G5", "untrue_refund")])
        unknown = history(requests, refunds=(refund(2, 3, done=None),))
        assert broken(unknown) == ([] if shown < 2 else [("G5", "untrue_refund")])

    @pytest.mark.G3
    def test_refunded_twice(self) -> None:
        twice = (refund(2, 3, 2, shown=2), refund(2, 4, 1, shown=2))
        facts = history(buyer("a", bought(0, 1, "p", 2), quantity=2), refunds=twice)
        assert broken(facts) == []
        later = history(*facts.requests, refunds=(*twice, refund(5, 6, 1, shown=2)))
        assert ("G3", "refunded_twice") in broken(later)

    @pytest.mark.G4
    def test_records_after_refund(self) -> None:
        requests = (buyer("a", bought(0, 1, "p", 2), quantity=2),)
        facts: dict[str, Any] = {"final": sample(1, 1), "audit": audit(1, 1)}
        assert broken(history(*requests, refunds=(refund(2, 3),), **facts)) == []
        assert broken(history(*requests, refunds=(refund(2, 3, done=None),), **facts)) == []
        assert broken(history(*requests, **facts)) == [("G4", "figures_disagree")]

    @pytest.mark.G3
    def test_copy_refused(self) -> None:
        """A copy in flight may be refused, and the other one find tickets that have come back."""
        requests = (
            buyer("a", bought(0, 1, "p", 2), quantity=2),
            buyer("b", sold_out(1.5, 2.5)),
            buyer("b", bought(1.5, 6, "q"), copy=2),
        )
        assert broken(history(*requests, refunds=(refund(2, 3),))) == []
        too_late = history(*requests, refunds=(refund(6, 7),))
        assert broken(too_late) == [("G1", "oversold"), ("G3", "refused_although_bought")]

    @pytest.mark.G3
    def test_key_after_refund(self) -> None:
        """A key that was refused may buy what comes back later."""
        requests = (
            buyer("a", bought(0, 1, "p", 2), quantity=2),
            buyer("b", sold_out(1.5, 2), bought(4, 5, "q")),
        )
        assert broken(history(*requests, refunds=(refund(2, 3),))) == []


class TestRecordedRefusals:
    """A refusal on record is the answer for its key, for ever."""

    @pytest.mark.G2
    def test_its_time(self) -> None:
        """It was true in an earlier attempt with the key, and need not be true now."""
        final = structs.replace(sold_out(14, 15), replayed=True)
        keys = (buyer("a", bought(0, 1, "p", 2), quantity=2),)
        resets = (FIRST, SECOND)
        earlier = buyer("b", lost(5, 6), final)
        assert broken(history(*keys, earlier, resets=resets)) == []
        assert broken(history(*keys, buyer("b", final), resets=resets)) == [("G2", "undersold")]

    @pytest.mark.G3
    def test_it_is_final(self) -> None:
        """Also for a copy in flight."""
        final = structs.replace(sold_out(10.6, 15), replayed=True)
        copies = (buyer("b", final), buyer("b", bought(10.6, 14, "q", generation=2), copy=2))
        facts = history(buyer("b", lost(5, 6)), *copies, resets=(FIRST, SECOND))
        assert ("G3", "refused_although_bought") in broken(facts)

    @pytest.mark.G4
    def test_no_purchase(self) -> None:
        """Its key cannot have bought, whatever was in doubt before."""
        facts: dict[str, Any] = {"final": sample(0, 2, 2), "audit": audit(1, 2, generation=2)}
        owner = buyer("a", bought(11, 12, "p", 2, generation=2), quantity=2)
        final = structs.replace(sold_out(14, 15), replayed=True)
        for answer in (final, sold_out(14, 15)):
            keys = (owner, buyer("b", lost(5, 6), answer))
            assert broken(history(*keys, resets=(FIRST, SECOND), **facts)) == []
        more = {**facts, "audit": audit(2, 2, generation=2)}
        keys = (owner, buyer("b", lost(5, 6), final))
        assert broken(history(*keys, resets=(FIRST, SECOND), **more)) == [
            ("G4", "figures_disagree")
        ]


def not_open(start: float, end: float) -> Attempt:
    """Return a 409, the sale does not sell."""
    return Attempt(start, end, Kind.NOT_OPEN, 409, "sale_not_open", reason="paused")


class TestPauses:
    """The sale is paused at an instant from 10 to 11, and resumed at one from 20 to 21."""

    PAUSE = Pause(10.0, 11.0, 20.0, 21.0)

    def broken(self, *requests: PurchaseRequest) -> list[tuple[str, str]]:
        facts = History(requests, (FIRST,), pauses=(self.PAUSE,))
        return [(each.guarantee, each.rule) for each in check(facts)]

    @pytest.mark.G1
    @pytest.mark.parametrize(
        ("start", "end", "is_wrong"),
        [(11.9, 12.5, False), (12, 12.5, True), (19, 20, True), (19, 20.1, False)],
    )
    def test_sold_while_paused(self, start: float, end: float, is_wrong: bool) -> None:
        """Processes learn of it within a second."""
        expected = [("G1", "sold_while_paused")] if is_wrong else []
        assert self.broken(buyer("a", bought(start, end, "p"))) == expected

    def test_replayed_while_paused(self) -> None:
        assert self.broken(buyer("a", bought(1, 2, "p"), replayed(13, 14, "p"))) == []

    @pytest.mark.G2
    @pytest.mark.parametrize(
        ("start", "end", "is_wrong"),
        [(8, 9.9, True), (8, 10, False), (15, 16, False), (22, 23, False), (22.1, 23, True)],
    )
    def test_refused_while_open(self, start: float, end: float, is_wrong: bool) -> None:
        expected = [("G2", "refused_while_open")] if is_wrong else []
        assert self.broken(buyer("a", not_open(start, end))) == expected

    @pytest.mark.G3
    def test_refused_although_bought(self) -> None:
        """A copy may meet the pause sooner than the one that buys, and not after its receipt."""
        first = buyer("a", bought(10.2, 11.5, "p"))
        assert self.broken(first, buyer("a", not_open(10.5, 11.2), copy=2)) == []
        found = self.broken(first, buyer("a", not_open(11.6, 12), copy=2))
        assert found == [("G3", "refused_although_bought")]

    @pytest.mark.G2
    def test_key_has_not_bought(self) -> None:
        """A key that only met the pause has bought nothing, unless an attempt of it is in doubt."""
        other = buyer("b", bought(1, 2, "p"))
        refused = buyer("c", sold_out(30, 31))
        found = self.broken(other, buyer("a", not_open(12, 13)), refused)
        assert found == [("G2", "undersold")]
        assert self.broken(other, buyer("a", lost(9, 10), not_open(12, 13)), refused) == []

    @pytest.mark.G3
    def test_bought_when_resumed(self) -> None:
        assert self.broken(buyer("a", not_open(12, 13), bought(22, 23, "p"))) == []


def hall(*capacity_changes: CapacityChange, **more: Any) -> list[tuple[str, str]]:
    """Return what is wrong with a sale of two tickets that was resized."""
    requests = more.pop("requests", ())
    facts = History(
        requests, more.pop("resets", (FIRST,)), capacity_changes=capacity_changes, **more
    )
    return [(each.guarantee, each.rule) for each in check(facts)]


MORE = CapacityChange(10.0, 11.0, 3, done=True)
LESS = CapacityChange(10.0, 11.0, 1, done=True)
REFUSED = CapacityChange(10.0, 11.0, 0, done=False, lowest=1)


class TestResizes:
    """The capacity changes at an instant from 10 to 11."""

    @pytest.mark.G1
    @pytest.mark.parametrize(
        ("resize", "sold_at", "is_wrong"),
        [
            (MORE, 9.0, True),
            (MORE, 10.0, False),
            (MORE, 12.0, False),
            (structs.replace(MORE, done=None), 12.0, False),
            (structs.replace(MORE, done=False, lowest=9), 12.0, True),
            (LESS, 9.0, True),
        ],
    )
    def test_third_ticket(self, resize: CapacityChange, sold_at: float, is_wrong: bool) -> None:
        """It is sold once there are three, or may be."""
        keys = [buyer(name, bought(1, 2, name)) for name in "ab"]
        keys.append(buyer("c", bought(sold_at - 0.5, sold_at, "c")))
        found = hall(resize, requests=tuple(keys))
        assert (("G1", "oversold") in found) == is_wrong

    @pytest.mark.G1
    def test_sold_after_lowering(self) -> None:
        keys = (buyer("a", bought(1, 2, "a")), buyer("b", bought(12, 13, "b")))
        assert hall(LESS, requests=keys) == [("G1", "oversold")]

    @pytest.mark.G2
    @pytest.mark.parametrize(
        ("resize", "refused_at", "is_wrong"),
        [
            (MORE, 9.0, False),
            (MORE, 11.5, False),
            (MORE, 13.0, True),
            (structs.replace(MORE, done=None), 13.0, False),
            (REFUSED, 13.0, False),
        ],
    )
    def test_refused_after_more(
        self, resize: CapacityChange, refused_at: float, is_wrong: bool
    ) -> None:
        """From a second after the change on no one is told "sold out" for the old capacity."""
        keys = [buyer(name, bought(1, 2, name)) for name in "ab"]
        keys.append(buyer("c", sold_out(refused_at, refused_at + 0.1)))
        found = hall(resize, requests=tuple(keys))
        assert (("G2", "undersold") in found) == is_wrong

    @pytest.mark.G5
    @pytest.mark.parametrize(
        ("capacity", "lowest", "is_wrong"),
        [(0, 1, False), (0, 2, True), (0, 0, True), (1, 1, True), (1, 2, True), (0, None, True)],
    )
    def test_refused_capacity(self, capacity: int, lowest: int | None, is_wrong: bool) -> None:
        resize = CapacityChange(10.0, 11.0, capacity, done=False, lowest=lowest)
        found = hall(resize, requests=(buyer("a", bought(1, 2, "a")),))
        assert found == ([("G5", "capacity_refused_wrongly")] if is_wrong else [])

    @pytest.mark.G1
    @pytest.mark.parametrize(("capacity", "is_wrong"), [(1, False), (3, False), (9, True)])
    def test_overlapping_changes(self, capacity: int, *, is_wrong: bool) -> None:
        """Each of two changes at the same time may be the last one, the one before them not."""
        less = structs.replace(LESS, started_at=10.5, ended_at=10.7)
        earlier = structs.replace(MORE, capacity=9, started_at=8.0, ended_at=10.2)
        final = structs.replace(inventory(capacity, 0), initial_stock=capacity)
        found = hall(earlier, MORE, less, final=Sample(50.0, 50.1, final))
        assert found == ([("G1", "counters_do_not_add_up")] if is_wrong else [])

    @pytest.mark.G1
    def test_refused_beside_another(self) -> None:
        refused = structs.replace(REFUSED, started_at=10.5, ended_at=12.0, lowest=2)
        keys = [
            buyer(name, bought(time, time + 1, name))
            for name, time in zip("abc", (1, 2, 13), strict=True)
        ]
        assert hall(MORE, refused, requests=tuple(keys)) == []
        keys.append(buyer("d", bought(14, 15, "d")))
        assert hall(MORE, refused, requests=tuple(keys)) == [("G1", "oversold")]

    @pytest.mark.G3
    @pytest.mark.parametrize(
        ("changes", "is_wrong"),
        [
            ([], True),
            ([structs.replace(LESS, ended_at=13.0)], True),
            ([structs.replace(LESS, ended_at=13.0), CapacityChange(12.5, 13.5, 2, True)], False),
            ([structs.replace(REFUSED, ended_at=15.0)], False),
            ([structs.replace(LESS, ended_at=15.0, done=None)], False),
        ],
        ids=["no change", "less", "less and more again", "refused", "in doubt"],
    )
    def test_copy_refused(self, changes: list[CapacityChange], *, is_wrong: bool) -> None:
        """One copy is refused, and another one buys: only where tickets can have come back."""
        copies = (buyer("b", sold_out(12, 12.2)), buyer("b", bought(11.5, 14, "b"), copy=2))
        found = hall(*changes, requests=(buyer("a", bought(1, 2, "a")), *copies))
        assert (("G3", "refused_although_bought") in found) == is_wrong

    @pytest.mark.G1
    @pytest.mark.parametrize(("capacity", "is_wrong"), [(2, True), (3, False)])
    def test_capacity_at_rest(self, capacity: int, is_wrong: bool) -> None:
        final = structs.replace(inventory(capacity, 0), initial_stock=capacity)
        found = hall(MORE, final=Sample(50.0, 50.1, final))
        assert found == ([("G1", "counters_do_not_add_up")] if is_wrong else [])

    def test_next_generation(self) -> None:
        """A change that meets a reset may be of either generation; the next one is certain."""
        meets = structs.replace(MORE, started_at=9.9, ended_at=10.2)
        certain = CapacityChange(20.0, 21.0, 5, done=True)
        keys = [buyer(name, bought(22, 23, name, generation=2)) for name in "abcde"]
        assert hall(meets, certain, resets=(FIRST, SECOND), requests=tuple(keys)) == []
        third = tuple(keys[:3])
        assert hall(meets, resets=(FIRST, SECOND), requests=third) == []
        assert hall(
            MORE,
            resets=(FIRST, structs.replace(SECOND, started_at=15, ended_at=16)),
            requests=third,
        ) == [("G1", "oversold")]
