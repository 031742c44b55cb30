"""The rules for exports: each broken in turn, and none where the export is right."""

from typing import Any

import pytest
from msgspec import structs

from proof.checker import check
from proof.history import (
    Attempt,
    Export,
    ExportFigures,
    ExportLine,
    History,
    HoldAction,
    HoldChange,
    Kind,
    PurchaseRequest,
    Receipt,
    Refund,
    Reset,
)
from proof.responses import NotAsPromised, export_of

FIRST = Reset(1, 5, -2.0, -1.0)


def request(
    id_: str, told_at: float = 1.0, *, generation: int = 1, status: str = "confirmed"
) -> PurchaseRequest:
    """Return a request for two tickets that bought, or held."""
    expires_at = "later" if status == "held" else None
    receipt = Receipt(id_, 1, 2, status, "now", generation, id_, expires_at=expires_at)
    attempt = Attempt(told_at - 1, told_at, Kind.BOUGHT, 201, receipt=receipt)
    return PurchaseRequest(id_, 1, 2, id_, (attempt,), is_hold=status == "held")


def lost() -> PurchaseRequest:
    """Return a request without an answer."""
    attempt = Attempt(0.0, 1.0, Kind.UNKNOWN)
    return PurchaseRequest("lost", 1, 2, "lost", (attempt,), given_up=True)


def export(*ids: str, refunded: int = 0, began_at: float = 10.0, **total: Any) -> Export:
    """Return an export of these purchases. refunded: tickets of each. total: what it says else."""
    lines = [ExportLine(id_, 1, 1, "confirmed", 2, refunded, 2 - refunded, id_) for id_ in ids]
    quantity, back = 2 * len(ids), refunded * len(ids)
    right = ExportFigures(1, 1, len(ids), quantity, back, quantity - back, quantity - back, True)
    return Export(began_at, began_at + 1, "jsonl", lines, structs.replace(right, **total))


def rules(*requests: PurchaseRequest, exports: Export, **facts: Any) -> list[str]:
    resets = facts.pop("resets", (FIRST,))
    history = History(requests, resets, exports=(exports,), cache_seconds=0.0, **facts)
    found = [each for each in check(history) if "export" in each.rule or "total" in each.rule]
    assert {each.guarantee for each in found} <= {"G4"}
    return [each.rule for each in found]


BOTH = (request("a"), request("b"))


@pytest.mark.G4
def test_right_export() -> None:
    assert rules(*BOTH, exports=export("a", "b")) == []
    assert rules(exports=export()) == []


@pytest.mark.G4
@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (export("a"), "not_exported"),
        (export("a", "a", "b"), "exported_twice"),
        (export("a", "b", "c"), "exported_without_receipt"),
        (export("a", "b", refunded=1), "exported_wrongly"),
        (export("a", "b", purchases=3), "total_is_wrong"),
        (export("a", "b", quantity=5), "total_is_wrong"),
        (export("a", "b", tickets=3), "total_is_wrong"),
        (export("a", "b", refunded_quantity=1), "total_is_wrong"),
        (export("a", "b", sold=3), "export_disagrees"),
        (export("a", "b", agrees=False), "export_disagrees"),
        (structs.replace(export("a", "b"), total=None), "export_without_total"),
    ],
)
def test_wrong_export(wrong: Export, rule: str) -> None:
    assert rule in rules(*BOTH, exports=wrong)


@pytest.mark.G4
@pytest.mark.parametrize(
    "change", [{"quantity": 3}, {"buyer_id": "other"}, {"generation": 2}, {"tickets": 1}]
)
def test_wrong_line(change: dict[str, Any]) -> None:
    right = export("a", "b")
    lines = [structs.replace(right.lines[0], **change), right.lines[1]]
    assert "exported_wrongly" in rules(*BOTH, exports=structs.replace(right, lines=lines))


@pytest.mark.G4
def test_purchase_during_export() -> None:
    """It may be there or not; and the counters may know more than the lines."""
    late = request("c", told_at=10.5)
    assert rules(*BOTH, late, exports=export("a", "b", sold=6)) == []
    assert rules(*BOTH, late, exports=export("a", "b", "c", sold=4)) == []


@pytest.mark.G4
def test_purchase_without_answer() -> None:
    assert rules(*BOTH, lost(), exports=export("a", "b", "x")) == []
    assert rules(*BOTH, lost(), exports=export("a", "b", "x", "y")) == ["exported_without_receipt"]


@pytest.mark.G4
@pytest.mark.parametrize(
    ("started_at", "ended_at", "done", "possible"),
    [
        (2.0, 3.0, True, {1}),
        (2.0, 3.0, None, {0, 1}),
        (2.0, 3.0, False, {0}),
        (9.0, 10.5, True, {0, 1}),
        (12.0, 13.0, True, {0}),
    ],
)
def test_refunds(started_at: float, ended_at: float, done: bool | None, possible: set[int]) -> None:
    refunds = (Refund("a", 1, started_at, ended_at, done),)
    for refunded in (0, 1, 2):
        found = rules(request("a"), exports=export("a", refunded=refunded), refunds=refunds)
        assert ("exported_wrongly" not in found) == (refunded in possible)


@pytest.mark.G4
def test_holds() -> None:
    """A hold is a purchase from its confirmation on."""
    held = request("h", status="held")
    confirmation = HoldChange("h", HoldAction.CONFIRM, 2.0, 3.0, done=True)
    resets = (structs.replace(FIRST, hold_seconds=600.0),)
    assert rules(held, exports=export(), resets=resets) == []
    assert "exported_wrongly" in rules(held, exports=export("h"), resets=resets)
    done = {"changes": (confirmation,), "resets": resets}
    assert rules(held, exports=export("h"), **done) == []
    assert "not_exported" in rules(held, exports=export(), **done)
    assert rules(held, exports=export(began_at=2.5), **done) == []


@pytest.mark.G4
def test_reset_during_export() -> None:
    """The total may say that it does not know whether it agrees."""
    resets = (FIRST, Reset(2, 5, 10.2, 10.4))
    assert rules(*BOTH, exports=export("a", "b", agrees=False, sold=None), resets=resets) == []
    other = request("c", generation=2, told_at=10.8)
    assert rules(*BOTH, other, exports=export("a", "b"), resets=resets) == []


def test_formats_are_read() -> None:
    fields = "type,purchase_id,item_id,generation,status,quantity,refunded_quantity,tickets"
    purchase = "purchase,a,1,1,confirmed,2,0,2,a,,,,"
    total = "total,,1,1,,2,0,2,,1,2,true,"
    text = "\r\n".join((f"{fields},buyer_id,purchases,sold,agrees,problems", purchase, total, ""))
    assert export_of(text, "csv", 10.0, 11.0) == structs.replace(export("a"), shape="csv")
    wrong = text.replace("true,", "false,they differ")
    read = export_of(wrong, "csv", 10.0, 11.0).total
    assert read
    assert (read.agrees, read.problems) == (False, ["they differ"])


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("type\r\nelse\r\n", "csv"),
        ("<html>\n<body>\n", "csv"),
        ("type\r\ntotal\r\n", "csv"),
        ('{"type":"else"}', "jsonl"),
        ('{"type":"total"}', "jsonl"),
        ("<html>", "jsonl"),
    ],
)
def test_not_an_export(text: str, shape: str) -> None:
    with pytest.raises(NotAsPromised):
        export_of(text, shape, 0.0, 1.0)
