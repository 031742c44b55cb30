"""Routes of holds: parse, one domain call, respond."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from ticketing.api.problems import Code, key_reused, limit_reached, problem, sold_out
from ticketing.api.request import Reply, Request, replay
from ticketing.api.routes import (
    CONFIRM_HOLD,
    EXTEND_HOLD,
    GET_HOLD,
    HOLD_TICKETS,
    RELEASE_HOLD,
    Route,
)
from ticketing.api.schemas import ConfirmHold, Hold, HoldTickets, Receipt
from ticketing.api.serving import Handler
from ticketing.model import (
    Bought,
    Held,
    HoldOutcome,
    HoldProblem,
    KeyReused,
    LimitReached,
    SoldOut,
)
from ticketing.wiring import Services


def hold_tickets(request: Request, services: Services) -> Reply:
    body = request.body(HoldTickets)
    buyer_id, key = request.buyer_id(body.buyer_id), request.idempotency_key()
    order = services.purchases.order(body.item_id, body.quantity, buyer_id, key, is_hold=True)
    match services.purchases.buy(order, request.statistics):
        case Held(hold, replayed=False):
            metrics = {"Held": hold.quantity}
            return Reply(Hold.of(hold), HTTPStatus.CREATED, outcome="held", metrics=metrics)
        case Held(hold):
            return replay(Hold.of(hold))
        case KeyReused():
            return key_reused(request, "order")
        case SoldOut() as refusal:
            return sold_out(request, refusal)
        case LimitReached() as refusal:
            return limit_reached(request, refusal)
        case Bought():
            raise AssertionError("a hold is not a purchase")


def get_hold(request: Request, services: Services) -> Reply:
    return Reply(Hold.of(services.holds.find(request.uuid("hold_id"), request.statistics)))


def confirm_hold(request: Request, services: Services) -> Reply:
    reference = request.body(ConfirmHold).payment_reference
    match services.holds.confirm(request.uuid("hold_id"), reference, request.statistics):
        case Bought(purchase, replayed=False):
            receipt, metrics = Receipt.of(purchase), {"Sold": purchase.quantity}
            return Reply(receipt, HTTPStatus.CREATED, outcome="confirmed", metrics=metrics)
        case Bought(purchase):
            return replay(Receipt.of(purchase))
        case HoldProblem() as refusal:
            return _refused(request, refusal, reference)


def extend_hold(request: Request, services: Services) -> Reply:
    return _outcome(
        request, services.holds.extend(request.uuid("hold_id"), request.statistics), "extended"
    )


def release_hold(request: Request, services: Services) -> Reply:
    return _outcome(
        request, services.holds.release(request.uuid("hold_id"), request.statistics), "released"
    )


def _outcome(request: Request, outcome: HoldOutcome, done: str) -> Reply:
    match outcome:
        case Held(hold, replayed):
            body = Hold.of(hold)
            return replay(body) if replayed else Reply(body, outcome=done)
        case HoldProblem():
            return _refused(request, outcome)


def _refused(request: Request, refusal: HoldProblem, reference: str | None = None) -> Reply:
    """Return the problem document. reference: of the payment that came with the request.

    It has paid for nothing, unless it has paid for another hold.
    """
    code, detail = _REFUSALS[refusal]
    metrics = {"HoldsRefused": 1}
    if refusal is HoldProblem.PAYMENT_REUSED:
        return problem(request, code, detail, field="payment_reference", metrics=metrics)
    refund = "" if reference is None else f" Refund payment {reference}."
    return problem(request, code, f"{detail}{refund}", payment_reference=reference, metrics=metrics)


_REFUSALS: Final[Mapping[HoldProblem, tuple[Code, str]]] = {
    HoldProblem.EXPIRED: (Code.HOLD_EXPIRED, "The hold has expired. Hold tickets again."),
    HoldProblem.RELEASED: (Code.HOLD_RELEASED, "The hold was released. Hold tickets again."),
    HoldProblem.CONFIRMED: (
        Code.HOLD_CONFIRMED,
        "The hold was confirmed: its tickets are bought. The organiser can refund them.",
    ),
    HoldProblem.ALREADY_PAID: (
        Code.ALREADY_PAID,
        "The hold was confirmed before, and not with this payment.",
    ),
    HoldProblem.PAYMENT_REUSED: (
        Code.PAYMENT_REUSED,
        "This payment has paid for another hold. Confirm with the payment of this hold.",
    ),
}
HANDLERS: Final[Mapping[Route, Handler[Services]]] = {
    HOLD_TICKETS: hold_tickets,
    GET_HOLD: get_hold,
    CONFIRM_HOLD: confirm_hold,
    EXTEND_HOLD: extend_hold,
    RELEASE_HOLD: release_hold,
}
