"""POST /buy_ticket and GET /purchases/{purchase_id}: what a buyer needs."""

from http import HTTPStatus
from typing import Any
from uuid import UUID

from aws_lambda_powertools.event_handler.api_gateway import Response

from ticketing.errors import InvalidRequest
from ticketing.http import REPLAYED, Request, answer, count, create_api, current, problem, serve
from ticketing.rules import Bought, KeyReused, Outcome, SoldOut
from ticketing.schemas import BuyTicket, Receipt
from ticketing.selling import BoxOffice, Effort
from ticketing.settings import Settings
from ticketing.store import Store, connect

api = create_api()
box_office = BoxOffice(Store(connect(), Settings.from_environment().table_name))


@api.post("/buy_ticket")
def buy_ticket() -> Response[str]:
    request = current(api)
    wish = request.body(BuyTicket)
    order = box_office.order(wish.item_id, wish.quantity, wish.buyer_id, request.idempotency_key())
    effort = Effort()
    try:
        return _answer(request, box_office.buy(order, effort))
    finally:
        request.log |= {
            "item_id": order.item_id,
            "quantity": order.quantity,
            "shards": effort.shards,
            "attempts": effort.attempts,
            "conflicts": effort.conflicts,
        }
        count("Conflicts", effort.conflicts)


@api.get("/purchases/{purchase_id}")
def get_purchase() -> Response[str]:
    try:
        canonical = str(UUID(current(api).path_parameter("purchase_id")))
    except ValueError as error:
        raise InvalidRequest("A purchase_id is a UUID, as the receipt shows it.", field="purchase_id") from error
    return answer(Receipt.of(box_office.find(canonical)))


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return serve(api, event, context)


def _answer(request: Request, outcome: Outcome) -> Response[str]:
    match outcome:
        case Bought(purchase, replayed=False):
            request.log["outcome"] = "bought"
            count("Sold", purchase.quantity)
            return answer(Receipt.of(purchase), HTTPStatus.CREATED)
        case Bought(purchase):
            request.log["outcome"] = "replayed"
            count("Replays")
            return answer(Receipt.of(purchase), headers=REPLAYED)
        case KeyReused():
            detail = "This Idempotency-Key has bought something else. Send a fresh one for another purchase."
            return problem(request, "idempotency_key_reused", detail, field="Idempotency-Key")
        case SoldOut(left=0):
            count("SoldOut")
            return problem(request, "sold_out", "All tickets are sold.", left=0)
        case SoldOut(left):
            count("SoldOut")
            return problem(request, "not_enough_left", f"Only {left} left. Ask for fewer.", field="quantity", left=left)
