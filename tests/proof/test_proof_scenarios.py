"""The verdicts, also of checks that looked at nothing and of experiments that failed."""

from typing import Any

import pytest
from msgspec import structs

from proof.checker import check
from proof.figures import figures_of
from proof.history import (
    Attempt,
    AuditReport,
    Export,
    ExportFigures,
    ExportLine,
    History,
    Inventory,
    Kind,
    Lookup,
    PurchaseRequest,
    Receipt,
    Reset,
    Sample,
)
from proof.runner import Result, worst
from proof.scenarios import Check, Observation, Size, Verdict, common_checks, scenarios

SIZE = Size(tickets=2, buyers=4, processes=2)


def observation(**figures: Any) -> Observation:
    """Return a correct sale, in which two of four buyers got both tickets.

    figures: replace its own.
    """
    receipts = [Receipt(f"p{n}", 1, 1, "confirmed", "now", 1, f"buyer-{n}") for n in (1, 2)]
    bought = [
        PurchaseRequest(
            f"key-{n}",
            1,
            1,
            f"buyer-{n}",
            (Attempt(n, n + 5.0, Kind.BOUGHT, 201, receipt=receipts[n - 1]),),
        )
        for n in (1, 2)
    ]
    refused = [
        PurchaseRequest(
            f"key-{n}",
            1,
            1,
            f"buyer-{n}",
            (Attempt(n + 5.0, n + 6.0, Kind.SOLD_OUT, 409, "sold_out"),),
            1,
            7,
        )
        for n in (3, 4)
    ]
    inventory = Inventory(1, "Item A", 0, 2, 2, 0, 1)
    audit = AuditReport(1, 1, 2, 0, 0, 2, 2, 2, agrees=True)
    lines = [
        ExportLine(each.purchase_id, 1, 1, "confirmed", 1, 0, 1, each.buyer_id) for each in receipts
    ]
    total = ExportFigures(1, 1, 2, 2, 0, 2, 2, agrees=True)
    export = Export(50.0, 50.1, "jsonl", lines, total)
    history = History(
        requests=(*bought, *refused),
        resets=(Reset(1, 2, -9.0, -8.0),),
        samples=(Sample(5.0, 5.1, inventory),),
        lookups=tuple(Lookup(receipt.purchase_id, 200, receipt) for receipt in receipts),
        final=Sample(50.0, 50.1, inventory),
        audit=audit,
        exports=(export,),
    )
    facts = structs.replace(figures_of(history.requests), **figures)
    return Observation(SIZE, history, history.requests, [], facts, inventory, audit, check(history))


def result(number: int, what: Observation) -> Result:
    """Return the result of one test."""
    scenario = scenarios(SIZE)[number - 1]
    return Result(
        scenario, what, [*scenario.checks(what), *common_checks(what, refuses=scenario.refuses)]
    )


def test_passed() -> None:
    assert result(2, observation()).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"peak_in_flight": 1}, "Requests really overlapped"),
        ({"sold_out": 0}, "Every refusal was true"),
    ],
)
def test_failed_experiment(figures: dict[str, int], words: str) -> None:
    found = [
        one
        for one in result(2, observation(**figures)).checks
        if one.verdict is Verdict.INCONCLUSIVE
    ]
    assert any(one.text.startswith(words) for one in found), found


def test_missing_processes() -> None:
    (line,) = [
        one
        for one in result(3, observation(processes=1)).checks
        if "separate processes" in one.text
    ]
    assert line.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("figures", "words"),
    [({"replays": 0}, "Both copies"), ({"pairs_overlapping": 0}, "Copies were in flight")],
)
def test_copies_without_overlap(figures: dict[str, int], words: str) -> None:
    (line,) = [
        one for one in result(4, observation(**figures)).checks if one.text.startswith(words)
    ]
    assert line.verdict is Verdict.INCONCLUSIVE


def test_no_refusals_expected() -> None:
    what = observation(sold_out=0)
    assert not [one for one in common_checks(what, refuses=False) if "refusal" in one.text]
    assert [one for one in common_checks(what, refuses=True) if "refusal" in one.text]


def test_worst_verdict() -> None:
    passed, inconclusive = result(2, observation()), result(2, observation(peak_in_flight=1))
    failed = Result(
        passed.scenario, passed.observation, [Check("wrong", False), Check("unseen", True, 0)]
    )
    assert failed.verdict is Verdict.FAILED
    assert worst([passed]) is Verdict.PASSED
    assert worst([passed, inconclusive]) is Verdict.INCONCLUSIVE
    assert worst([inconclusive, failed, passed]) is Verdict.FAILED


@pytest.mark.parametrize("number", range(1, 9))
def test_checks_tell_their_number(number: int) -> None:
    what = observation()
    if number == 5:  # it has a second reset
        resets = (*what.history.resets, Reset(2, 2, 3.0, 3.1))
        what = structs.replace(what, history=structs.replace(what.history, resets=resets))
    for line in result(number, what).checks:
        assert any(character.isdigit() for character in line.text), line.text
