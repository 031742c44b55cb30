"""Exports: what `GET /export/{item_id}` must list, as far as its callers know."""

from collections import Counter
from collections.abc import Iterator

from msgspec import Struct

from proof.facts import Facts, PurchaseBounds, certain_refunds, possible_refunds, tickets_text
from proof.history import Export, ExportLine, HoldAction, HoldChange, Refund, Violation

EXPORT_RULES = (
    "export_without_total",
    "total_is_wrong",
    "export_disagrees",
    "exported_twice",
    "exported_wrongly",
    "not_exported",
    "exported_without_receipt",
)


class _Fault(Struct, frozen=True):
    """What is wrong with an export."""

    rule: str
    expected: str
    found: str


def exports_are_complete(facts: Facts) -> Iterator[Violation]:
    """G4: an export has each purchase once that was made before, and a total that is right."""
    for export in facts.history.exports:
        where = facts.read_line(f"GET /export?format={export.shape}", export)
        for fault in (*_faults_of_total(facts, export), *_faults_of_lines(facts, export)):
            yield Violation("G4", fault.rule, fault.expected, fault.found, (where,))


def _faults_of_total(facts: Facts, export: Export) -> Iterator[_Fault]:
    total = export.total
    if total is None:
        found = f"{len(export.lines)} lines, and none of them is the total"
        yield _Fault("export_without_total", "the total as the last line", found)
        return
    counted = (
        len(export.lines),
        sum(line.quantity for line in export.lines),
        sum(line.refunded_quantity for line in export.lines),
        sum(line.tickets for line in export.lines),
    )
    said = total.purchases, total.quantity, total.refunded_quantity, total.tickets
    if counted != said:
        expected = "purchases, quantity, refunded_quantity and tickets as its lines have them"
        yield _Fault("total_is_wrong", f"{expected}: {counted}", f"{said}")
    if _is_reset_in(facts, export):
        return  # it may say that it does not know
    if not total.agrees:
        found = "; ".join(total.problems) or "agrees is false, and no problem is named"
        yield _Fault("export_disagrees", "a total that agrees with the counters", found)
    elif _is_at_rest(facts, export) and total.sold != total.tickets:
        found = f"its lines have {tickets_text(total.tickets)}, the counters {total.sold}"
        yield _Fault("export_disagrees", "as many tickets as the counters say", found)


def _is_reset_in(facts: Facts, export: Export) -> bool:
    return any(
        reset.started_at <= export.ended_at and export.started_at <= reset.ended_at
        for reset in facts.history.resets
    )


def _is_at_rest(facts: Facts, export: Export) -> bool:
    """Return whether nothing can have changed since the export began."""
    history = facts.history
    calls: list[Refund | HoldChange] = [*history.refunds, *history.changes]
    ends = [attempt.ended_at for each in history.requests for attempt in each.attempts]
    ends += [call.ended_at for call in calls]
    certain = not facts.open_keys and all(call.done is not None for call in calls)
    return certain and max(ends, default=export.started_at) <= export.started_at


def _faults_of_lines(facts: Facts, export: Export) -> Iterator[_Fault]:
    if export.total is None:
        return
    number = export.total.generation
    for id_, count in Counter(line.purchase_id for line in export.lines).items():
        if count > 1:
            yield _Fault("exported_twice", f"purchase {id_} once", f"{count} lines with it")
    for line in export.lines:
        purchase = facts.purchases.get(line.purchase_id)
        if purchase and (wrong := _wrong(facts, export, line, purchase)):
            yield _Fault("exported_wrongly", "each purchase as its receipt", wrong)
    exported = {line.purchase_id for line in export.lines}
    for id_, purchase in facts.purchases.items():
        is_of_generation = purchase.receipt.generation == number
        if is_of_generation and id_ not in exported and _is_bought(facts, purchase, export):
            expected = "every purchase that was made before the export began"
            yield _Fault("not_exported", expected, f"{id_} is missing")
    unknown = exported - facts.purchases.keys()
    if len(unknown) > len(facts.open_keys):
        expected = f"at most {len(facts.open_keys)} purchases without a receipt"
        yield _Fault("exported_without_receipt", expected, ", ".join(sorted(unknown)[:3]))


def _wrong(facts: Facts, export: Export, line: ExportLine, purchase: PurchaseBounds) -> str:
    """Return where a line and a receipt differ; empty where they do not."""
    receipt, refunds = purchase.receipt, facts.refunds.get(line.purchase_id, [])
    before = [tickets for at, tickets in certain_refunds(refunds) if at <= export.started_at]
    least = sum(before)
    possible = possible_refunds(receipt, refunds)
    most = sum(tickets for at, tickets in possible if at <= export.ended_at)
    hold = facts.holds.get(line.purchase_id)
    if hold is not None and not hold.may_be_confirmed:
        return f"{line.purchase_id} is a hold that was not confirmed"
    found = line.quantity, line.buyer_id, line.generation
    expected = receipt.quantity, receipt.buyer_id, receipt.generation
    if found != expected:
        return f"quantity, buyer_id and generation {found} instead of {expected}"
    if not least <= line.refunded_quantity <= most:
        return f"{line.refunded_quantity} of its tickets refunded instead of {least} to {most}"
    if line.tickets != line.quantity - line.refunded_quantity:
        return f"{line.tickets} tickets left of {line.quantity}"
    return ""


def _is_bought(facts: Facts, purchase: PurchaseBounds, export: Export) -> bool:
    """Return whether it was certainly a purchase when the export began."""
    hold = facts.holds.get(purchase.receipt.purchase_id)
    if hold is None:
        return purchase.first_told_at <= export.started_at
    return any(
        change.action is HoldAction.CONFIRM and change.done and change.ended_at <= export.started_at
        for change in hold.changes
    )
