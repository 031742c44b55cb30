"""GET /audit/{item_id} and POST /reset, for organisers: signed with SigV4 (AWS_IAM)."""

from collections.abc import Mapping
from typing import Final

from aws_lambda_powertools.event_handler.api_gateway import Response

from ticketing.http import REPLAYED, Handler, Request, json_response, to_item_id
from ticketing.model import AuditResult
from ticketing.schemas import AuditReport, Inventory, ResetSale
from ticketing.wiring import Services


def reset(request: Request, services: Services) -> Response[str]:
    wanted = request.body(ResetSale)
    done = services.catalogue.reset(
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


def audit(request: Request, services: Services) -> Response[str]:
    item_id, cursor = to_item_id(request.path_parameter("item_id")), request.query("cursor")
    result = services.auditor.audit(item_id, cursor)
    request.log |= {"outcome": _outcome(result), "item_id": result.sale.item_id}
    return json_response(AuditReport.of(result))


ROUTES: Final[Mapping[str, Handler]] = {
    "POST /reset": reset,
    "GET /audit/{item_id}": audit,
}


def _outcome(result: AuditResult) -> str:
    if result.problems:
        return "drift"
    return "agrees" if result.cursor is None else "incomplete"
