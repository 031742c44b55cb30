"""Buyers' routes: parse, one domain call, respond."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from ticketing.api.problems import Code, key_reused, problem
from ticketing.api.request import REPLAYED, Reply, Request
from ticketing.api.routes import BUY_TICKET, GET_PURCHASE, Route
from ticketing.api.schemas import BuyTicket, Receipt
from ticketing.api.serving import Handler
from ticketing.model import Bought, KeyReused, SoldOut
from ticketing.wiring import Services


def buy_ticket(request: Request, services: Services) -> Reply:
    body = request.body(BuyTicket)
    order = services.purchases.order(
        body.item_id, body.quantity, body.buyer_id, request.idempotency_key()
    )
    match services.purchases.buy(order, request.statistics):
        case Bought(purchase, replayed=False):
            return Reply(
                Receipt.of(purchase),
                HTTPStatus.CREATED,
                outcome="bought",
                metrics={"Sold": purchase.quantity},
            )
        case Bought(purchase):
            return Reply(
                Receipt.of(purchase), headers=REPLAYED, outcome="replayed", metrics={"Replays": 1}
            )
        case KeyReused():
            return key_reused(request, "purchase")
        case SoldOut() as refusal:
            return _sold_out(request, refusal)


def get_purchase(request: Request, services: Services) -> Reply:
    return Reply(Receipt.of(services.purchases.find(request.purchase_id(), request.statistics)))


def _sold_out(request: Request, refusal: SoldOut) -> Reply:
    code, field, detail = (
        (Code.NOT_ENOUGH_LEFT, "quantity", f"Only {refusal.left} left. Ask for fewer.")
        if refusal.left
        else (Code.SOLD_OUT, None, "All tickets are sold.")
    )
    final = " A new order needs a fresh Idempotency-Key." if refusal.final else ""
    return problem(
        request,
        code,
        f"{detail}{final}",
        field=field,
        left=refusal.left,
        headers=REPLAYED if refusal.replayed else None,
        metrics={"SoldOut": 1},
    )


HANDLERS: Final[Mapping[Route, Handler]] = {BUY_TICKET: buy_ticket, GET_PURCHASE: get_purchase}
