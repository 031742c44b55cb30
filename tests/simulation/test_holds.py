"""Holds on the model of DynamoDB, where transactions conflict, in many orders."""

from collections import Counter
from typing import Final

import pytest

from simulation.dynamodb import DynamoDB
from simulation.sale import TABLE
from simulation.world import EPOCH_SECONDS, World
from tests.support import ITEM, create_table
from ticketing.limits import CLOCK_SKEW_SECONDS
from ticketing.model import (
    Bought,
    ConfirmOutcome,
    Held,
    HoldProblem,
    Outcome,
    SaleSettings,
    SoldOut,
)
from ticketing.retry import Runtime
from ticketing.wiring import Services, build_services

KEY: Final = "0123456789abcdef"
RACES: Final = 1000


class Race:
    """A sale of one ticket, which is held, and two processes."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self._model = DynamoDB(self.world)
        create_table(self._model.client(), TABLE)
        self.first, self.second = self.process(1), self.process(2)
        self.first.organiser.reset(ITEM, SaleSettings(1, shard_count=1, hold_seconds=30))
        order = self.first.purchases.order(ITEM, 1, "ann", KEY, is_hold=True)
        held = self.first.purchases.buy(order)
        assert isinstance(held, Held)
        self.hold = held.hold

    def process(self, number: int) -> Services:
        runtime = Runtime(
            clock=lambda: EPOCH_SECONDS + self.world.now,
            random=self.world.random(f"process {number}"),
            sleep=self.world.sleep,
        )
        return build_services(self._model.client(), TABLE, runtime)

    def run(self) -> tuple[ConfirmOutcome, Outcome]:
        """Pay for the hold and buy its ticket, as soon as it is over for every clock."""
        outcomes: dict[str, ConfirmOutcome | Outcome] = {}
        assert self.hold.expires_at
        over_at = self.hold.expires_at + CLOCK_SKEW_SECONDS - EPOCH_SECONDS
        draw = self.world.random("race")

        def pay() -> None:
            outcomes["pay"] = self.first.holds.confirm(self.hold.purchase_id, "pay-1")

        def buy() -> None:
            order = self.second.purchases.order(ITEM, 1, "bob", None)
            outcomes["buy"] = self.second.purchases.buy(order)

        for act in (pay, buy):
            self.world.at(over_at + draw.uniform(0.0, 0.05), self.world.start, act)
        self.world.run()
        paid, bought = outcomes["pay"], outcomes["buy"]
        assert isinstance(paid, Bought | HoldProblem)
        assert not isinstance(bought, HoldProblem)
        return paid, bought


@pytest.mark.G1
@pytest.mark.G3
@pytest.mark.G5
def test_confirm_against_reclaim() -> None:
    """A thousand times at the same instant: exactly one wins, and the other is told so."""
    winners = Counter[str]()
    for seed in range(RACES):
        race = Race(seed)
        paid, bought = race.run()
        if isinstance(paid, Bought):
            winners["paid"] += 1
            assert isinstance(bought, SoldOut)
        else:
            winners["bought"] += 1
            assert isinstance(bought, Bought)
            assert paid is HoldProblem.EXPIRED
        state = race.process(3).catalogue.inventory(ITEM)
        assert (state.free, state.held, state.sold) == (0, 0, 1)
        assert race.process(4).auditor.audit(ITEM).problems == []
    assert min(winners["paid"], winners["bought"]) > RACES / 10, winners
