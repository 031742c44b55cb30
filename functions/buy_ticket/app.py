"""Buyers' routes: parse, one domain call, respond."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from ticketing.api.problems import key_reused, limit_reached, sold_out
from ticketing.api.request import Reply, Request, replay
from ticketing.api.routes import BUY_TICKET, GET_PURCHASE, Route
from ticketing.api.schemas import BuyTicket, Receipt
from ticketing.api.serving import Handler
from ticketing.model import Bought, Held, KeyReused, LimitReached, SoldOut
from ticketing.wiring import Services


def buy_ticket(request: Request, services: Services) -> Reply:
    body = request.body(BuyTicket)
    buyer_id, key = request.buyer_id(body.buyer_id), request.idempotency_key()
    order = services.purchases.order(body.item_id, body.quantity, buyer_id, key)
    match services.purchases.buy(order, request.statistics):
        case Bought(purchase, replayed=False):
            return Reply(
                Receipt.of(purchase),
                HTTPStatus.CREATED,
                outcome="bought",
                metrics={"Sold": purchase.quantity},
            )
        case Bought(purchase):
            return replay(Receipt.of(purchase))
        case KeyReused():
            return key_reused(request, "purchase")
        case SoldOut() as refusal:
            return sold_out(request, refusal)
        case LimitReached() as refusal:
            return limit_reached(request, refusal)
        case Held():
            raise AssertionError("a purchase is not a hold")


def get_purchase(request: Request, services: Services) -> Reply:
    purchase = services.purchases.find(request.uuid("purchase_id"), request.statistics)
    return Reply(Receipt.of(purchase))


HANDLERS: Final[Mapping[Route, Handler[Services]]] = {
    BUY_TICKET: buy_ticket,
    GET_PURCHASE: get_purchase,
}
