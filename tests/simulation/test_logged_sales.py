"""Sales that are judged by their log lines and the table alone, as `proof --from-logs` does."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import pytest

from proof.checker import check
from proof.history import AuditReport, Export, Inventory, Violation
from proof.log_history import LoggedSale, TableState, generations_of, logged_sale
from proof.log_lines import Log, read_log
from proof.responses import STATUS_OK, body_of, export_of, next_query
from simulation.dynamodb import DynamoDB
from simulation.fleet import Fleet
from simulation.sale import Build, Setting, simulate
from simulation.service import Call, ServiceResponse
from simulation.workload import ITEM
from simulation.world import EPOCH_SECONDS, World
from ticketing.wiring import build_services

CACHE_SECONDS = 1.0
PATIENCE_SECONDS = 60.0


class Watched:
    """What is asked after the sale."""

    def __init__(self) -> None:
        self.world: World
        self.fleet: Fleet

    def watch(self, world: World, _model: DynamoDB, fleet: Fleet) -> None:
        self.world, self.fleet = world, fleet

    def ask(self, route: str, **query: str) -> ServiceResponse:
        call = Call(route, path_parameters={"item_id": str(ITEM)}, query=query)
        response = self.fleet.request(call, PATIENCE_SECONDS, "after the sale")
        assert response is not None
        assert response.status_code == STATUS_OK, response.text
        return response

    def export(self, generation: int) -> Export:
        query, text = {"holds": "true", "generation": str(generation)}, ""
        while True:
            response = self.ask("GET /export/{item_id}", **query)
            text += response.text
            following = next_query(response)
            if following is None:
                return export_of(text, "jsonl", self.now, self.now)
            query = dict(parse_qsl(following))

    @property
    def now(self) -> float:
        return EPOCH_SECONDS + self.world.now + 2

    def table(self, log: Log) -> TableState:
        final = body_of(self.ask("GET /inventory", item_id=str(ITEM)), Inventory)
        exports = [self.export(each) for each in generations_of(log, ITEM, final.generation)]
        audit = body_of(self.ask("GET /audit/{item_id}"), AuditReport)
        return TableState(exports, final, audit, self.now)


def judged(
    setting: Setting, build: Build = build_services
) -> tuple[Sequence[Violation], LoggedSale, Sequence[Violation]]:
    """Return the violations that the callers saw, the sale by its log, and its violations."""
    watched, lines = Watched(), list[dict[str, Any]]()
    sale = simulate(setting, build, watch=watched.watch, log=lines)
    log = read_log([json.dumps(line) for line in lines])
    assert (len(log.lines), log.unreadable) == (len(lines), 0)
    logged = logged_sale(log, ITEM, watched.table(log), CACHE_SECONDS)
    return sale.violations, logged, check(logged.history)


@pytest.mark.parametrize("seed", range(8))
def test_right_sales(seed: int) -> None:
    seen, logged, found = judged(Setting.drawn(seed, 100))
    assert (list(seen), list(found)) == ([], [])
    assert logged.orders
