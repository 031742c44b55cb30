"""The checker, one rule at a time: what it must see, and what it must not take for a fault."""

from typing import Any

import pytest
from msgspec import structs

from proof.checker import check
from proof.history import Attempt, Audit, History, Inventory, Kind, Lookup, Receipt, Request, Reset, Sample

FIRST = Reset(generation=1, capacity=2, started_at=-9.0, ended_at=-8.0)
SECOND = Reset(generation=2, capacity=2, started_at=10.0, ended_at=10.5)


def receipt(purchase: str, quantity: int = 1, generation: int = 1, buyer: str = "ann") -> Receipt:
    """A receipt."""
    return Receipt(purchase, 1, quantity, "confirmed", "2026-01-15T12:30:27Z", generation, buyer)


def bought(start: float, end: float, purchase: str, quantity: int = 1, generation: int = 1) -> Attempt:
    """A 201."""
    return Attempt(start, end, Kind.BOUGHT, 201, receipt=receipt(purchase, quantity, generation))


def replayed(start: float, end: float, purchase: str, quantity: int = 1, generation: int = 1) -> Attempt:
    """A 200."""
    return Attempt(start, end, Kind.REPLAYED, 200, receipt=receipt(purchase, quantity, generation))


def sold_out(start: float, end: float) -> Attempt:
    """A 409, none left."""
    return Attempt(start, end, Kind.SOLD_OUT, 409, "sold_out")


def only_left(start: float, end: float, left: int) -> Attempt:
    """A 409, too few left."""
    return Attempt(start, end, Kind.NOT_ENOUGH_LEFT, 409, "not_enough_left", left=left)


def lost(start: float, end: float) -> Attempt:
    """No answer."""
    return Attempt(start, end, Kind.UNKNOWN, detail="ReadTimeout")


def buyer(key: str, *attempts: Attempt, quantity: int = 1, copy: int = 1) -> Request:
    """A request of Ann's."""
    return Request(key, 1, quantity, "ann", attempts, copy)


def inventory(stock: int, sold: int, generation: int = 1, held: int = 0) -> Inventory:
    """An inventory of two tickets."""
    return Inventory(1, "Item A - Concert Ticket", stock, 2, sold, held, generation)


def sample(stock: int, sold: int, generation: int = 1) -> Sample:
    """An inventory, seen at rest."""
    return Sample(50.0, 50.1, inventory(stock, sold, generation))


def test_a_generation_between_two_resets_is_the_second_ones_lost_attempt() -> None:
    """Only where it was sent again: otherwise somebody else has reset the sale, and that is another matter."""
    third = structs.replace(SECOND, generation=3, attempts=2)
    purchase = buyer("a", bought(10.1, 10.2, "p", generation=2))
    found = {each.rule for each in check(History((purchase,), (FIRST, third)))}
    assert "reset_took_effect_twice" in found
    assert "sold_in_a_wrong_generation" not in found
    once = structs.replace(third, attempts=1)
    found = {each.rule for each in check(History((purchase,), (FIRST, once)))}
    assert "reset_took_effect_twice" not in found
    assert "sold_in_a_wrong_generation" in found


def test_a_reset_that_was_sent_twice_and_took_effect_once_is_no_fault() -> None:
    second = structs.replace(SECOND, attempts=5)
    assert not check(History((buyer("a", bought(11, 12, "p", generation=2)),), (FIRST, second)))


def audit(records: int, tickets: int, sold: int | None = None, generation: int = 1, agrees: bool = True) -> Audit:
    """An audit of two tickets."""
    sold = tickets if sold is None else sold
    return Audit(1, generation, 2, 2 - sold, 0, sold, records, tickets, agrees, [] if agrees else ["they differ"])


def history(*requests: Request, resets: tuple[Reset, ...] = (FIRST,), **facts: Any) -> History:
    """A history without memory."""
    return structs.replace(History(requests, resets, memory_seconds=0.0), **facts)


def broken(seen: History) -> list[tuple[str, str]]:
    """Guarantees and rules that a history breaks."""
    return [(violation.guarantee, violation.rule) for violation in check(seen)]


ALL_SOLD = (
    buyer("a", bought(0, 1, "p")),
    buyer("b", bought(0, 1, "q")),
    buyer("c", sold_out(0, 2)),
)


def test_an_empty_history_is_right() -> None:
    assert check(history()) == []


def test_a_right_sale_is_right() -> None:
    facts: dict[str, Any] = {"final": sample(0, 2), "audit": audit(2, 2), "samples": (sample(1, 1),)}
    lookups = (Lookup("p", 200, receipt("p")), Lookup("q", 200, receipt("q")))
    assert check(history(*ALL_SOLD, lookups=lookups, **facts)) == []


def test_g1_more_receipts_than_tickets() -> None:
    [violation] = check(history(*ALL_SOLD, buyer("d", bought(1, 3, "r"))))
    assert (violation.guarantee, violation.rule) == ("G1", "oversold")
    assert "key d" in violation.evidence[-1], "the receipt that is one too many comes last"
    assert violation.count == 1


def test_g1_the_evidence_of_a_large_oversell_fits_a_screen() -> None:
    many = [buyer(f"k{number}", bought(0, number, f"p{number}")) for number in range(1, 500)]
    [violation] = check(history(*many, resets=(structs.replace(FIRST, capacity=400),)))
    assert violation.count == 99
    assert len(violation.evidence) <= 8


@pytest.mark.parametrize(
    ("stock", "sold", "rule"),
    [(-1, 3, "counter_is_negative"), (1, 2, "counters_do_not_add_up"), (0, 1, "counters_do_not_add_up")],
)
def test_g1_counters(stock: int, sold: int, rule: str) -> None:
    assert broken(history(samples=(sample(stock, sold),))) == [("G1", rule)]


def test_g1_another_capacity_than_the_reset_said() -> None:
    seen = structs.replace(inventory(1, 2), initial_stock=3)
    assert broken(history(samples=(Sample(0, 1, seen),))) == [("G1", "counters_do_not_add_up")]


def test_g1_a_sale_of_a_generation_that_was_over() -> None:
    seen = history(buyer("a", bought(11, 12, "p", generation=1)), resets=(FIRST, SECOND))
    assert broken(seen) == [("G1", "sold_in_a_wrong_generation")]


def test_g1_a_sale_of_a_generation_before_its_reset() -> None:
    seen = history(buyer("a", bought(8, 9, "p", generation=2)), resets=(FIRST, SECOND))
    assert broken(seen) == [("G1", "sold_in_a_wrong_generation")]


def test_g1_a_sale_of_a_generation_that_nobody_opened() -> None:
    assert broken(history(buyer("a", bought(0, 1, "p", generation=7)))) == [("G1", "sold_in_a_wrong_generation")]


@pytest.mark.parametrize("generation", [1, 2])
def test_a_sale_during_the_reset_may_be_of_either_generation(generation: int) -> None:
    seen = history(buyer("a", bought(10.1, 10.2, "p", generation=generation)), resets=(FIRST, SECOND))
    assert check(seen) == []


def test_g2_refused_while_tickets_were_never_sold() -> None:
    [violation] = check(history(buyer("a", bought(0, 1, "p")), buyer("b", sold_out(2, 3))))
    assert (violation.guarantee, violation.rule) == ("G2", "undersold")
    assert "key b" in violation.evidence[0]


def test_g2_refused_too_early_although_all_was_sold_later() -> None:
    seen = history(
        buyer("a", bought(0, 1, "p")),
        buyer("b", sold_out(0, 1)),
        buyer("c", bought(2, 3, "q")),
    )
    assert broken(seen) == [("G2", "undersold")]


def test_a_refusal_is_true_if_the_last_purchase_can_have_come_first() -> None:
    seen = history(
        buyer("a", bought(0, 1, "p")),
        buyer("b", sold_out(0, 1)),
        buyer("c", bought(0.9, 3, "q")),
    )
    assert check(seen) == []


def test_a_refusal_is_true_if_a_lost_request_can_have_bought() -> None:
    seen = history(buyer("a", bought(0, 1, "p")), buyer("b", lost(0, 5)), buyer("c", sold_out(1, 2)))
    assert broken(seen) == [("G6", "left_without_an_answer")]


def test_what_was_remembered_across_a_reset_is_true_for_the_memory_only() -> None:
    requests = (*ALL_SOLD, buyer("d", sold_out(11, 11.1)))
    seen = history(*requests, resets=(FIRST, SECOND))
    assert broken(seen) == [("G2", "undersold")]
    assert check(structs.replace(seen, memory_seconds=1.0)) == []


def test_what_was_before_the_first_reset_is_not_known() -> None:
    seen = history(buyer("a", sold_out(-8.5, 0)))
    assert check(seen) == []


def test_g3_two_purchases_for_one_key() -> None:
    seen = history(buyer("a", bought(0, 1, "p")), buyer("a", bought(0, 1, "q"), copy=2))
    [violation] = check(seen)
    assert (violation.guarantee, violation.rule) == ("G3", "sold_twice_for_one_key")
    assert len(violation.evidence) == 2


def test_g3_two_201_for_one_key() -> None:
    seen = history(buyer("a", bought(0, 1, "p")), buyer("a", bought(0, 1, "p"), copy=2))
    assert broken(seen) == [("G3", "two_201_for_one_key")]


def test_a_replay_is_right_even_if_the_first_answer_was_lost() -> None:
    assert check(history(buyer("a", lost(0, 1), replayed(2, 3, "p")))) == []


def test_g3_a_replay_with_another_receipt() -> None:
    other = Attempt(2, 3, Kind.REPLAYED, 200, receipt=structs.replace(receipt("p"), purchased_at="later"))
    [violation] = check(history(buyer("a", bought(0, 1, "p")), buyer("a", other)))
    assert (violation.guarantee, violation.rule) == ("G3", "receipt_differs")
    assert "purchased_at" in violation.found


@pytest.mark.parametrize("start", [0.0, 5.0])
def test_g3_sold_out_for_a_key_that_has_bought(start: float) -> None:
    seen = history(*ALL_SOLD, buyer("a", sold_out(start, start + 2), copy=2))
    assert broken(seen) == [("G3", "refused_although_bought")]


def test_a_copy_may_be_refused_before_the_reset_and_the_other_buy_after_it() -> None:
    seen = history(
        *ALL_SOLD,
        buyer("d", sold_out(8, 9)),
        buyer("d", lost(8, 9), replayed(12, 13, "r", generation=2), copy=2),
        resets=(FIRST, SECOND),
    )
    assert check(seen) == []


def test_g3_one_purchase_for_two_keys() -> None:
    seen = history(buyer("a", bought(0, 1, "p")), buyer("b", replayed(2, 3, "p")))
    assert broken(seen) == [("G3", "one_purchase_for_two_keys")]


def test_g3_a_key_refused_to_its_own_request() -> None:
    reused = Attempt(2, 3, Kind.KEY_REUSED, 422, "idempotency_key_reused")
    assert broken(history(buyer("a", bought(0, 1, "p")), buyer("a", reused))) == [("G3", "key_and_request")]


def test_g3_a_key_not_refused_to_another_request() -> None:
    seen = history(buyer("a", bought(0, 1, "p")), buyer("a", only_left(2, 3, 1), quantity=2))
    assert broken(seen) == [("G3", "key_and_request")]


def test_another_request_with_a_used_key_is_refused() -> None:
    reused = Attempt(2, 3, Kind.KEY_REUSED, 422, "idempotency_key_reused")
    assert check(history(buyer("a", bought(0, 1, "p")), buyer("a", reused, quantity=2))) == []


@pytest.mark.parametrize(
    ("found", "rule"),
    [
        (Lookup("p", 404), "record_is_missing"),
        (Lookup("p", None), "record_not_readable"),
        (Lookup("p", 200, receipt("p", buyer="bob")), "record_differs"),
    ],
)
def test_g5_a_receipt_that_is_not_found_again(found: Lookup, rule: str) -> None:
    assert broken(history(buyer("a", bought(0, 1, "p")), lookups=(found,))) == [("G5", rule)]


@pytest.mark.parametrize(
    "change", [{"item_id": 2}, {"quantity": 2}, {"buyer_id": "bob"}, {"buyer_id": None}, {"status": "held"}]
)
def test_g5_a_receipt_of_something_else(change: dict[str, object]) -> None:
    wrong = Attempt(0, 1, Kind.BOUGHT, 201, receipt=structs.replace(receipt("p"), **change))
    assert broken(history(buyer("a", wrong))) == [("G5", "receipt_of_something_else")]


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
def test_g5_the_figure_in_a_refusal(attempt: Attempt, right: bool) -> None:
    seen = history(buyer("a", bought(0, 1, "p")), buyer("b", attempt, quantity=2))
    assert broken(seen) == ([] if right else [("G5", "untrue_figure_in_a_refusal")])


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
def test_g4_figures_that_differ_from_the_receipts(wrong: dict[str, Any]) -> None:
    assert broken(history(*ALL_SOLD, **wrong)) == [("G4", "figures_disagree")]


def test_g4_an_audit_that_disagrees() -> None:
    assert broken(history(*ALL_SOLD, audit=audit(2, 2, agrees=False))) == [("G4", "audit_disagrees")]


@pytest.mark.parametrize("records", [2, 3])
def test_a_lost_request_may_have_left_a_record_or_not(records: int) -> None:
    requests = (ALL_SOLD[0], buyer("d", lost(0, 5)))
    assert broken(history(*requests, audit=audit(records - 1, records - 1))) == [("G6", "left_without_an_answer")]


@pytest.mark.parametrize(
    ("attempt", "rule"),
    [
        (Attempt(0, 1, Kind.UNEXPECTED, 418, detail="a teapot"), "unexpected_answer"),
        (Attempt(0, 1, Kind.UNKNOWN, 500, "internal_error"), "internal_error"),
        (Attempt(0, 1, Kind.BUSY, 503, "busy"), "busy_without_retry_after"),
    ],
)
def test_g6_answers_outside_the_contract(attempt: Attempt, rule: str) -> None:
    assert ("G6", rule) in broken(history(buyer("a", attempt, bought(2, 3, "p"))))


def test_a_gateway_is_not_the_service() -> None:
    attempts = (
        Attempt(0, 1, Kind.BUSY, 503),
        Attempt(1, 2, Kind.BUSY, 429),
        Attempt(2, 3, Kind.UNKNOWN, 502),
        bought(3, 4, "p"),
    )
    assert check(history(buyer("a", *attempts))) == []


def test_g6_a_buyer_who_is_still_busy_is_named() -> None:
    [violation] = check(history(buyer("a", Attempt(0, 1, Kind.BUSY, 429), Attempt(7, 8, Kind.BUSY, 429))))
    assert (violation.guarantee, violation.rule) == ("G6", "left_without_an_answer")
    assert "ann was still busy after 2 attempts in 8.0 s" in violation.found


def test_many_cases_of_one_rule_are_one_violation() -> None:
    requests = [buyer(f"k{number}", sold_out(number, number + 1)) for number in range(50)]
    [violation] = check(history(*requests))
    assert violation.count == 50
