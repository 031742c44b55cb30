"""Organisers' routes, signed with SigV4 (AWS_IAM): parse, one domain call, respond."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from ticketing.api.export import export_text, next_link
from ticketing.api.problems import Code, key_reused, problem
from ticketing.api.request import REPLAYED, Reply, Request, to_item_id
from ticketing.api.routes import (
    AUDIT,
    DELETE_ITEM,
    EXPORT,
    PAUSE_ITEM,
    PUT_ITEM,
    REFUND_PURCHASE,
    REPAIR,
    RESET,
    RESUME_ITEM,
    Route,
)
from ticketing.api.schemas import (
    AuditReport,
    Format,
    Inventory,
    PutItem,
    Receipt,
    RefundPurchase,
    RepairReport,
    RepairSale,
    ResetSale,
)
from ticketing.api.serving import Handler
from ticketing.errors import InvalidRequest
from ticketing.limits import GENERATION_MAX
from ticketing.model import AuditResult, KeyReused, Refunded, RefundTooLarge, SaleChange
from ticketing.wiring import Services


def reset(request: Request, services: Services) -> Reply:
    wanted = request.body(ResetSale)
    done = services.organiser.reset(
        wanted.item_id,
        wanted.settings,
        key=request.idempotency_key(),
        expected_generation=wanted.expected_generation,
        statistics=request.statistics,
    )
    return _changed(done, "reset")


def put_item(request: Request, services: Services) -> Reply:
    wanted = request.body(PutItem)
    done = services.organiser.put(
        to_item_id(request.path_parameter("item_id")),
        wanted.settings,
        key=request.idempotency_key(),
        expected_generation=wanted.expected_generation,
        statistics=request.statistics,
    )
    if done.is_new:
        return Reply(Inventory.of(done.inventory), HTTPStatus.CREATED, outcome="created")
    return _changed(done, "changed")


def pause_item(request: Request, services: Services) -> Reply:
    item_id = to_item_id(request.path_parameter("item_id"))
    done = services.organiser.pause(item_id, request.idempotency_key(), request.statistics)
    return _changed(done, "paused")


def resume_item(request: Request, services: Services) -> Reply:
    item_id = to_item_id(request.path_parameter("item_id"))
    done = services.organiser.resume(item_id, request.idempotency_key(), request.statistics)
    return _changed(done, "resumed")


def delete_item(request: Request, services: Services) -> Reply:
    item_id = to_item_id(request.path_parameter("item_id"))
    done = services.organiser.delete(item_id, request.idempotency_key(), request.statistics)
    return _changed(done, "deleted")


def _changed(done: SaleChange, outcome: str) -> Reply:
    """Return the reply to a change of a sale. outcome: for the log line."""
    inventory = Inventory.of(done.inventory)
    if done.replayed:
        return Reply(inventory, headers=REPLAYED, outcome="replayed")
    return Reply(inventory, outcome=outcome)


def audit(request: Request, services: Services) -> Reply:
    item_id, cursor = to_item_id(request.path_parameter("item_id")), request.query("cursor")
    result = services.auditor.audit(item_id, cursor, request.statistics)
    return Reply(AuditReport.of(result), outcome=_outcome(result))


def repair(request: Request, services: Services) -> Reply:
    item_id, wanted = to_item_id(request.path_parameter("item_id")), request.body(RepairSale)
    result = services.repairs.repair(
        item_id,
        wanted.cursor,
        apply=not wanted.dry_run,
        drop_unrecorded=wanted.drop_unrecorded,
        statistics=request.statistics,
    )
    outcome = "dry_run" if wanted.dry_run else "repaired" if result.repaired else "unchanged"
    return Reply(RepairReport.of(result), outcome=outcome)


def export(request: Request, services: Services) -> Reply:
    shape = Format.of(request.query("format"))
    part = services.exporter.export(
        to_item_id(request.path_parameter("item_id")),
        request.number("generation", 1, GENERATION_MAX),
        request.query("cursor"),
        request.statistics,
        with_holds=request.flag("holds"),
    )
    headers = {} if part.cursor is None else {"Link": next_link(shape, part.cursor)}
    outcome = "exported" if part.total else "incomplete"
    return Reply(export_text(part, shape), HTTPStatus.OK, headers, shape.media_type, outcome)


def refund_purchase(request: Request, services: Services) -> Reply:
    key = request.idempotency_key()
    if key is None:
        raise InvalidRequest(
            "A refund needs an Idempotency-Key. Send a fresh UUID.",
            field="Idempotency-Key",
            status=HTTPStatus.BAD_REQUEST,
        )
    outcome = services.refunds.refund(
        request.uuid("purchase_id"), request.body(RefundPurchase).quantity, key, request.statistics
    )
    match outcome:
        case Refunded(purchase, quantity, replayed=False):
            receipt = Receipt.of(purchase)
            return Reply(receipt, outcome="refunded", metrics={"Refunded": quantity})
        case Refunded(purchase):
            return Reply(Receipt.of(purchase), headers=REPLAYED, outcome="replayed")
        case RefundTooLarge(left):
            return _refund_too_large(request, left)
        case KeyReused():
            return key_reused(request, "refund of this purchase")


def _refund_too_large(request: Request, left: int) -> Reply:
    detail = (
        f"Only {left} of its tickets can still be refunded. Ask for fewer."
        if left
        else "All of its tickets are refunded already."
    )
    return problem(request, Code.REFUND_TOO_LARGE, detail, field="quantity", left=left)


def _outcome(result: AuditResult) -> str:
    if result.problems:
        return "drift"
    return "agrees" if result.cursor is None else "incomplete"


HANDLERS: Final[Mapping[Route, Handler[Services]]] = {
    RESET: reset,
    PUT_ITEM: put_item,
    PAUSE_ITEM: pause_item,
    RESUME_ITEM: resume_item,
    DELETE_ITEM: delete_item,
    AUDIT: audit,
    REPAIR: repair,
    EXPORT: export,
    REFUND_PURCHASE: refund_purchase,
}
