"""Functions are killed with SIGKILL while they sell, on real engines: no ticket is lost.

Their buyers come back with their keys. At the end receipts, records, counters, audit and exports
must agree, as after each simulated sale.
"""

import logging
from collections import Counter
from http import HTTPStatus

import pytest

from local.ministack import MiniStack
from proof.history import History, HoldAction, Kind
from simulation.faults import Faults
from tests.integration.conftest import Engine, opened
from tests.integration.function_process import WRITES, build_two_steps
from tests.integration.killed_sales import KilledSale, start_fork_server

LOG = logging.getLogger(__name__)
# Each engine sees so many kills at least, so many of them while a write had no reply.
KILLS_MIN = 100
KILLS_IN_WRITES_MIN = 30
SALES_MAX = 4
FIRST_SEED = 57  # Few of its buyers reach their limit, so that many hold tickets.


@pytest.fixture(scope="module", autouse=True)
def fork_server() -> None:
    start_fork_server()


def made_by_killed(history: History) -> int:
    """Return how many purchases were made by a process that was killed before it answered.

    Their keys were sent by one caller, who was told by another process that they had bought.
    """
    callers = Counter(request.key for request in history.requests)
    return sum(
        callers[request.key] == 1
        and request.last.kind is Kind.REPLAYED
        and all(attempt.kind is not Kind.BOUGHT for attempt in request.attempts)
        and {attempt.status for attempt in request.attempts if attempt.kind is Kind.UNKNOWN}
        == {HTTPStatus.BAD_GATEWAY}
        for request in history.requests
    )


@pytest.mark.G1
@pytest.mark.G2
@pytest.mark.G3
@pytest.mark.G4
@pytest.mark.G5
def test_killed_functions_lose_nothing(engine: Engine, table_name: str) -> None:
    """All moves, two generations, and faults at the transport; some 200 kills in each sale.

    One sale is enough, as a rule. Another one follows where the machine was too fast.
    """
    kills, changes, resumed = Counter[str](), Counter[HoldAction](), 0
    for seed in range(FIRST_SEED, FIRST_SEED + SALES_MAX):
        world = opened(engine, f"{table_name}-{seed}")
        sale = KilledSale(engine.endpoint, world.table_name, seed)
        history, violations = sale.run()
        assert violations == []
        assert history.final
        world.assert_exact(sold=history.final.inventory.total_purchases)
        kills += sale.kills
        changes.update(change.action for change in history.changes if change.done)
        resumed += made_by_killed(history)
        in_writes = sum(kills[operation] for operation in WRITES)
        LOG.info(
            "%d kills, %d of them between a write and its reply; "
            "%d purchases were made by a process that was killed before it answered",
            kills.total(),
            in_writes,
            resumed,
        )
        is_enough = kills.total() >= KILLS_MIN and in_writes >= KILLS_IN_WRITES_MIN
        if is_enough and resumed and len(changes) == len(HoldAction):
            return
    pytest.fail(f"too little happened in {SALES_MAX} sales: {kills}, {changes}, {resumed}")


@pytest.mark.G2
@pytest.mark.G4
def test_purchase_in_two_steps(ministack: MiniStack, table_name: str) -> None:
    """A purchase that is not one transaction is caught: tickets go without a record."""
    world = opened(ministack, table_name)
    sale = KilledSale(ministack.endpoint, world.table_name, FIRST_SEED, Faults(), build_two_steps)
    _, violations = sale.run()
    assert "audit_disagrees" in {violation.rule for violation in violations}
