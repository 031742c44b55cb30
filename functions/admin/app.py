"""GET /audit/{item_id} and POST /reset: for whoever runs the sale. API Gateway demands a signature (AWS_IAM)."""

from typing import Any

from aws_lambda_powertools.event_handler.api_gateway import Response

from ticketing.audit import audit
from ticketing.catalogue import Catalogue
from ticketing.http import answer, create_api, current, serve, to_item_id
from ticketing.schemas import Audit, Inventory, Reset
from ticketing.settings import Settings
from ticketing.store import Store, connect

api = create_api()
store = Store(connect(), Settings.from_environment().table_name)


@api.post("/reset")
def reset() -> Response[str]:
    request = current(api)
    wish = request.body(Reset)
    sale = Catalogue(store).reset(wish.item_id, stock=wish.stock, item_name=wish.item_name, shard_count=wish.shards)
    request.log |= {"outcome": "reset", "item_id": wish.item_id, "generation": sale.sale.generation}
    return answer(Inventory.of(sale))


@api.get("/audit/{item_id}")
def audit_item() -> Response[str]:
    request = current(api)
    result = audit(store, to_item_id(request.path_parameter("item_id")))
    request.log |= {"outcome": "drift" if result.problems else "agrees", "item_id": result.sale.item_id}
    return answer(Audit.of(result))


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return serve(api, event, context)
