"""The table of moves, and the update that the store makes from a row."""

from dataclasses import replace
from itertools import permutations

import pytest

from tests.support import ITEM, World
from ticketing.model import Purchase
from ticketing.moves import BUY, MOVES, Counter, Move, Status


def test_moves_are_unique() -> None:
    """A move has one name, and one way from status to status."""
    assert len({move.name for move in MOVES}) == len(MOVES)
    assert len({(move.before, move.after, move.debit, move.credit) for move in MOVES}) == len(MOVES)


@pytest.mark.G1
@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.name)
def test_held_is_in_slots(move: Move) -> None:
    """What leaves `held` leaves a slot, and what enters it enters one."""
    assert move.from_slot is (move.debit is Counter.HELD)
    assert move.to_slot is (move.credit is Counter.HELD)


@pytest.mark.G1
@pytest.mark.parametrize(("debit", "credit"), list(permutations(Counter, 2)))
def test_update_follows_row(world: World, debit: Counter, credit: Counter) -> None:
    """The sum of the counters never changes, and none falls below zero."""
    world.open_sale(stock=5, shards=1)
    sale = world.store.read_sale(ITEM)
    assert sale
    before = {"stock": 5, "held": 5, "sold": 5}
    world.client.update_item(
        TableName=world.table_name,
        Key={"pk": {"S": "item#1#stock#00"}},
        UpdateExpression="SET stock = :n, held = :n, sold = :n",
        ExpressionAttributeValues={":n": {"N": "5"}},
    )
    move = replace(BUY, debit=debit, credit=credit)
    purchase = Purchase("p", ITEM, 1, None, 3, Status.CONFIRMED, {0: 3}, "f", sale.created_at)
    assert world.store.move(move, purchase, purchase.taken, purchase.created_at) is None
    (shard,) = world.store.read_shards(sale)
    counters = {"stock": shard.stock, "held": shard.held, "sold": shard.sold}
    assert counters == before | {debit.value: 2, credit.value: 8}
    again = world.store.move(
        move, replace(purchase, purchase_id="q"), purchase.taken, purchase.created_at
    )
    assert again, "more was taken than the counter had"
    assert not again.contended
    assert list(again.shards) == [0]


def test_purchase_gets_row_status(world: World) -> None:
    world.open_sale(stock=5)
    service = world.purchase_service()
    service.buy(service.order(ITEM, 1, None, None))
    assert [record.status for record in world.records()] == [BUY.after] == [Status.CONFIRMED]
