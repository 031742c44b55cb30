"""Repairs of sales that are damaged at random, on the model of DynamoDB, which is fast."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from tests.organiser.api_server import world_on_model
from tests.support import ITEM, World
from ticketing.limits import HOLD_SECONDS_MIN
from ticketing.model import Bought, Held
from ticketing.store.items import shard_key

SOLD, HELD = 12, 4


def hall() -> World:
    """Return a sale of 40 tickets in 4 shards, of which some are sold and held."""
    world = world_on_model()
    world.open_sale(stock=40, shards=4, hold_seconds=HOLD_SECONDS_MIN, limit=20)
    service = world.purchase_service()
    for number in range(8):
        is_hold = number >= SOLD // 2
        order = service.order(ITEM, 2, f"buyer-{number % 7}", None, is_hold=is_hold)
        assert isinstance(service.buy(order), Held if is_hold else Bought)
    return world


def pk_of(index: int) -> str:
    pk: str = shard_key(ITEM, index)["pk"]["S"]
    return pk


class Damage(Struct, frozen=True):
    """What is wrong with a table. counters: shard → counters. records: that are lost."""

    counters: dict[int, dict[str, int]]
    shards: set[int]
    records: set[int]
    capacity: int

    def inflict(self, world: World) -> None:
        for index, counters in self.counters.items():
            world.tamper(pk_of(index), updated=1, **counters)
        for index in self.shards:
            world.lose(pk_of(index))
        records = sorted(world.records(), key=lambda each: each.purchase_id)
        for index in self.records:
            world.lose(f"purchase#{records[index].purchase_id}")
        world.tamper("item#1", capacity=self.capacity)


COUNTERS = ("stock", "held", "sold", "capacity", "sold_before")
DAMAGE = st.builds(
    Damage,
    st.dictionaries(
        st.integers(0, 3),
        st.fixed_dictionaries({}, optional={name: st.integers(-2, 12) for name in COUNTERS}),
        max_size=3,
    ),
    st.sets(st.integers(0, 3), max_size=2),
    st.sets(st.integers(0, 7), max_size=2),
    st.integers(38, 42),
)


@pytest.mark.G1
@pytest.mark.G4
@given(DAMAGE, st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_damage(damage: Damage, drop: bool) -> None:
    """Nothing on record is taken away, and nothing that may have a buyer is put on sale. What is
    dropped settles everything, unless more is sold than there is.

    A purchase of which record and counter are damaged, both, cannot be told from a ticket that was
    never sold.
    """
    world, free = hall(), 40 - SOLD - HELD
    damage.inflict(world)
    kept = world.records()
    done, again = world.repair(drop=drop), world.repair(drop=drop)
    assert world.records() == kept
    assert again.repaired == []
    assert world.audit().problems == [] or done.problems
    sale = world.catalogue.inventory(ITEM).sale
    if drop and not any("more tickets are sold" in problem for problem in done.problems):
        assert done.problems == again.problems == world.audit().problems == []
        assert sale.capacity <= damage.capacity
    may_leave_no_trace = damage.records and damage.counters
    if (drop or not done.problems) and not may_leave_no_trace:
        stored, _ = world.store.read_stored_shards(sale)
        assert sum(each.stock for each in stored) <= free + max(0, damage.capacity - 40)
