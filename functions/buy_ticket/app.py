"""POST /buy_ticket and GET /purchases/{purchase_id}, for buyers."""

from http import HTTPStatus
from typing import Any
from uuid import UUID

from aws_lambda_powertools.event_handler.api_gateway import Response

from ticketing.buying import PurchaseService, PurchaseStatistics
from ticketing.errors import InvalidRequest
from ticketing.http import (
    REPLAYED,
    Request,
    count,
    create_api,
    current_request,
    json_response,
    problem_response,
    serve,
)
from ticketing.rules import Bought, KeyReused, Outcome, SoldOut
from ticketing.schemas import BuyTicket, Receipt
from ticketing.settings import Settings
from ticketing.store import Store, connect

api = create_api()
purchase_service = PurchaseService(Store(connect(), Settings.from_environment().table_name))


@api.post("/buy_ticket")
def buy_ticket() -> Response[str]:
    request = current_request(api)
    body = request.body(BuyTicket)
    order = purchase_service.order(
        body.item_id, body.quantity, body.buyer_id, request.idempotency_key()
    )
    statistics = PurchaseStatistics()
    try:
        return _answer(request, purchase_service.buy(order, statistics))
    finally:
        request.log |= {
            "item_id": order.item_id,
            "quantity": order.quantity,
            "shards": statistics.shards,
            "attempts": statistics.attempts,
            "conflicts": statistics.conflicts,
        }
        count("Conflicts", statistics.conflicts)


@api.get("/purchases/{purchase_id}")
def get_purchase() -> Response[str]:
    try:
        canonical = str(UUID(current_request(api).path_parameter("purchase_id")))
    except ValueError as error:
        raise InvalidRequest(
            "A purchase_id is a UUID, as the receipt shows it.", field="purchase_id"
        ) from error
    return json_response(Receipt.of(purchase_service.find(canonical)))


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return serve(api, event, context)


def _answer(request: Request, outcome: Outcome) -> Response[str]:
    match outcome:
        case Bought(purchase, replayed=False):
            request.log["outcome"] = "bought"
            count("Sold", purchase.quantity)
            return json_response(Receipt.of(purchase), HTTPStatus.CREATED)
        case Bought(purchase):
            request.log["outcome"] = "replayed"
            count("Replays")
            return json_response(Receipt.of(purchase), headers=REPLAYED)
        case KeyReused():
            detail = "This Idempotency-Key belongs to another purchase. Send a fresh key."
            return problem_response(
                request, "idempotency_key_reused", detail, field="Idempotency-Key"
            )
        case SoldOut(left=0):
            count("SoldOut")
            return problem_response(request, "sold_out", "All tickets are sold.", left=0)
        case SoldOut(left):
            count("SoldOut")
            return problem_response(
                request,
                "not_enough_left",
                f"Only {left} left. Ask for fewer.",
                field="quantity",
                left=left,
            )
