"""Organisers' routes, signed with SigV4 (AWS_IAM): parse, one domain call, respond."""

from collections.abc import Mapping
from typing import Final

from ticketing.api.request import REPLAYED, Reply, Request, to_item_id
from ticketing.api.routes import AUDIT, RESET, Route
from ticketing.api.schemas import AuditReport, Inventory, ResetSale
from ticketing.api.serving import Handler
from ticketing.model import AuditResult
from ticketing.wiring import Services


def reset(request: Request, services: Services) -> Reply:
    wanted = request.body(ResetSale)
    done = services.catalogue.reset(
        wanted.item_id,
        stock=wanted.stock,
        item_name=wanted.item_name,
        shard_count=wanted.shards,
        key=request.idempotency_key(),
        expected_generation=wanted.expected_generation,
        statistics=request.statistics,
    )
    inventory = Inventory.of(done.inventory)
    if done.replayed:
        return Reply(inventory, headers=REPLAYED, outcome="replayed")
    return Reply(inventory, outcome="reset")


def audit(request: Request, services: Services) -> Reply:
    item_id, cursor = to_item_id(request.path_parameter("item_id")), request.query("cursor")
    result = services.auditor.audit(item_id, cursor, request.statistics)
    return Reply(AuditReport.of(result), outcome=_outcome(result))


def _outcome(result: AuditResult) -> str:
    if result.problems:
        return "drift"
    return "agrees" if result.cursor is None else "incomplete"


HANDLERS: Final[Mapping[Route, Handler]] = {RESET: reset, AUDIT: audit}
