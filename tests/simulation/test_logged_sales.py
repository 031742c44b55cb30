"""Sales that are judged by their log lines and the table alone, as `proof --from-logs` does."""

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest
from msgspec import Struct

from proof.checker import check
from proof.history import AuditReport, Export, Inventory, Kind, Violation
from proof.log_changes import ChangesOfSale
from proof.log_history import LoggedSale, TableState, logged_sale
from proof.log_lines import read_log
from proof.responses import STATUS_OK, body_of, export_of, next_query
from simulation.dynamodb import DynamoDB
from simulation.faults import Fault
from simulation.fleet import Fleet
from simulation.sale import Build, Setting, simulate
from simulation.service import Call, ServiceResponse
from simulation.workload import ITEM
from simulation.world import EPOCH_SECONDS, World
from tests.simulation.broken import broken
from ticketing.limits import CACHE_SECONDS, CLOCK_SKEW_SECONDS
from ticketing.wiring import build_services

BUYERS = 100
PATIENCE_SECONDS = 60.0


class Service:
    """The simulated service, which answers also after the sale."""

    def __init__(self) -> None:
        self.world: World
        self.fleet: Fleet

    def watch(self, world: World, _model: DynamoDB, fleet: Fleet) -> None:
        self.world, self.fleet = world, fleet

    @property
    def now(self) -> float:
        """Return the time, by no clock of a function earlier."""
        return EPOCH_SECONDS + self.world.now + 2 * CLOCK_SKEW_SECONDS

    def table(self, changes: ChangesOfSale) -> TableState:
        final = body_of(self._ask("GET /inventory", item_id=str(ITEM)), Inventory)
        exports = [self._export(each) for each in changes.generations(final.generation)]
        audit = body_of(self._ask("GET /audit/{item_id}"), AuditReport)
        return TableState(exports, final, audit, self.now)

    def _ask(self, route: str, **query: str) -> ServiceResponse:
        call = Call(route, path_parameters={"item_id": str(ITEM)}, query=query)
        response = self.fleet.request(call, PATIENCE_SECONDS, "after the sale")
        assert response is not None
        assert response.status_code == STATUS_OK, response.text
        return response

    def _export(self, generation: int) -> Export:
        query, text = {"holds": "true", "generation": str(generation)}, ""
        while True:
            response = self._ask("GET /export/{item_id}", **query)
            text += response.text
            following = next_query(response)
            if following is None:
                return export_of(text, "jsonl", self.now, self.now)
            query = dict(parse_qsl(following))


class Judged(Struct, frozen=True):
    """A sale by its log. seen: what is wrong with it by its callers and by the store."""

    sale: LoggedSale
    violations: list[Violation]
    seen: list[Violation]

    @property
    def rules(self) -> set[str]:
        return {f"{each.guarantee} {each.rule}" for each in self.violations}


def judged(setting: Setting, build: Build = build_services) -> Judged:
    service, lines = Service(), list[dict[str, Any]]()
    simulated = simulate(setting, build, watch=service.watch, log=lines)
    log = read_log(["\n".join(map(json.dumps, lines))])
    assert (len(log.lines), log.unreadable) == (len(lines), 0)
    changes = ChangesOfSale.of(log, ITEM)
    sale = logged_sale(log, changes, service.table(changes), CACHE_SECONDS)
    return Judged(sale, check(sale.history), list(simulated.violations))


@pytest.mark.G1
@pytest.mark.G2
@pytest.mark.G3
@pytest.mark.G4
@pytest.mark.G5
def test_right_sales() -> None:
    """With all faults, kills among them. What no line tells of is found in the table."""
    without_line: set[str] = set()
    kinds: set[Kind] = set()
    for seed in (1, 3, 8, 15, 43, 108, 256, 409):
        found = judged(Setting.drawn(seed, BUYERS))
        assert (seed, found.seen, found.violations) == (seed, [], [])
        without_line |= found.sale.without_line.keys()
        kinds |= found.sale.orders.keys()
    assert without_line == {"purchases", "holds", "changes of holds"}
    assert kinds >= {Kind.BOUGHT, Kind.REPLAYED, Kind.SOLD_OUT, Kind.ALL_HELD, Kind.KEY_REUSED}


@pytest.mark.G1
@pytest.mark.G3
@pytest.mark.G4
@pytest.mark.G5
@pytest.mark.parametrize(
    ("right", "wrong", "rules"),
    [
        ("stock > :zero", "stock >= :zero", {"G1 oversold", "G1 counter_is_negative"}),
        (
            "attribute_not_exists(pk)",
            "(attribute_not_exists(pk) OR attribute_exists(pk))",
            {"G3 two_201_for_one_key", "G4 audit_disagrees"},
        ),
        ("sold = sold + :quantity", "sold = sold - :quantity", {"G4 figures_disagree"}),
    ],
    ids=["a ticket too many", "a record is replaced", "sold tickets are taken off"],
)
def test_broken_sales(right: str, wrong: str, rules: set[str]) -> None:
    """The log and the table show it without the buyers."""
    only = frozenset({Fault.IMPATIENCE, Fault.REPLY_LOST})
    found = judged(Setting.drawn(4, BUYERS, only), broken(right, wrong))
    assert found.seen
    assert found.rules >= rules
