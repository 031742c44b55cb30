"""GET /audit/{item_id} and POST /reset, for organisers: signed with SigV4 (AWS_IAM)."""

from typing import Any

from aws_lambda_powertools.event_handler.api_gateway import Response

from ticketing.audit import AuditResult, audit
from ticketing.catalogue import Catalogue
from ticketing.http import REPLAYED, create_api, current_request, json_response, serve, to_item_id
from ticketing.retry import Runtime
from ticketing.schemas import AuditReport, Inventory, ResetSale
from ticketing.settings import Settings
from ticketing.store import Store, connect

api = create_api()
store = Store(connect(), Settings.from_environment().table_name)
runtime = Runtime()
catalogue = Catalogue(store, runtime)


@api.post("/reset")
def reset() -> Response[str]:
    request = current_request(api)
    wanted = request.body(ResetSale)
    done = catalogue.reset(
        wanted.item_id,
        stock=wanted.stock,
        item_name=wanted.item_name,
        shard_count=wanted.shards,
        key=request.idempotency_key(),
        expected_generation=wanted.expected_generation,
    )
    outcome = "replayed" if done.replayed else "reset"
    request.log |= {
        "outcome": outcome,
        "item_id": wanted.item_id,
        "generation": done.sale.generation,
    }
    return json_response(Inventory.of(done.inventory), headers=REPLAYED if done.replayed else None)


@api.get("/audit/{item_id}")
def audit_item() -> Response[str]:
    request = current_request(api)
    item_id, cursor = to_item_id(request.path_parameter("item_id")), request.query("cursor")
    result = audit(store, item_id, runtime=runtime, cursor=cursor)
    request.log |= {"outcome": _outcome(result), "item_id": result.sale.item_id}
    return json_response(AuditReport.of(result))


def _outcome(result: AuditResult) -> str:
    if result.problems:
        return "drift"
    return "agrees" if result.cursor is None else "incomplete"


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return serve(api, event, context)
