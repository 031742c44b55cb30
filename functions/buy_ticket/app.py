"""POST /buy_ticket and GET /purchases/{purchase_id}, for buyers."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from uuid import UUID

from aws_lambda_powertools.event_handler.api_gateway import Response

from ticketing.errors import InvalidRequest
from ticketing.http import REPLAYED, Code, Handler, Request, json_response, problem_response
from ticketing.model import Bought, KeyReused, Outcome, SoldOut
from ticketing.retry import Statistics
from ticketing.schemas import BuyTicket, Receipt
from ticketing.wiring import Services


def buy_ticket(request: Request, services: Services) -> Response[str]:
    body = request.body(BuyTicket)
    order = services.purchases.order(
        body.item_id, body.quantity, body.buyer_id, request.idempotency_key()
    )
    statistics = Statistics()
    try:
        return _answer(request, services.purchases.buy(order, statistics))
    finally:
        request.log |= {
            "item_id": order.item_id,
            "quantity": order.quantity,
            "shards": statistics.shards,
            "attempts": statistics.attempts,
            "conflicts": statistics.conflicts,
        }
        request.count("Conflicts", statistics.conflicts)


def get_purchase(request: Request, services: Services) -> Response[str]:
    try:
        canonical = str(UUID(request.path_parameter("purchase_id")))
    except ValueError as error:
        raise InvalidRequest(
            "A purchase_id is a UUID, as the receipt shows it.", field="purchase_id"
        ) from error
    return json_response(Receipt.of(services.purchases.find(canonical)))


ROUTES: Final[Mapping[str, Handler]] = {
    "POST /buy_ticket": buy_ticket,
    "GET /purchases/{purchase_id}": get_purchase,
}


def _answer(request: Request, outcome: Outcome) -> Response[str]:
    match outcome:
        case Bought(purchase, replayed=False):
            request.log["outcome"] = "bought"
            request.count("Sold", purchase.quantity)
            return json_response(Receipt.of(purchase), HTTPStatus.CREATED)
        case Bought(purchase):
            request.log["outcome"] = "replayed"
            request.count("Replays")
            return json_response(Receipt.of(purchase), headers=REPLAYED)
        case KeyReused():
            detail = "This Idempotency-Key belongs to another purchase. Send a fresh key."
            return problem_response(
                request, Code.IDEMPOTENCY_KEY_REUSED, detail, field="Idempotency-Key"
            )
        case SoldOut(left=0):
            request.count("SoldOut")
            return problem_response(request, Code.SOLD_OUT, "All tickets are sold.", left=0)
        case SoldOut(left):
            request.count("SoldOut")
            return problem_response(
                request,
                Code.NOT_ENOUGH_LEFT,
                f"Only {left} left. Ask for fewer.",
                field="quantity",
                left=left,
            )
