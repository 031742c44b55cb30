"""The table of moves, and the update that the store makes from a row."""

from copy import replace
from itertools import permutations

import pytest

from tests.support import ITEM, World
from ticketing.model import Purchase
from ticketing.moves import BUY, MOVES, Counter, Status
from ticketing.store.table import Cancellation


def test_moves_are_unique() -> None:
    """A move has one name, and one way from status to status."""
    assert len({move.name for move in MOVES}) == len(MOVES)
    assert len({(move.before, move.after, move.debit, move.credit) for move in MOVES}) == len(MOVES)


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
        UpdateExpression="SET stock = :n, held = :n, sold = :n, slots = :slots",
        ExpressionAttributeValues={":n": {"N": "5"}, ":slots": {"M": {"60": {"N": "5"}}}},
    )
    move = replace(BUY, debit=debit, credit=credit)
    purchase = Purchase(
        "p", ITEM, 1, None, 3, Status.CONFIRMED, {0: 3}, "f", sale.created_at, expires_at=60
    )

    def send(record: Purchase) -> Cancellation | None:
        return world.store.move(move, record, record.taken, record.created_at, seen=purchase)

    assert send(purchase) is None
    (shard,) = world.store.read_shards(sale)
    counters = {"stock": shard.stock, "held": shard.held, "sold": shard.sold}
    assert counters == before | {debit.value: 2, credit.value: 8}
    assert shard.slots == {60: shard.held}
    again = send(replace(purchase, purchase_id="q"))
    assert again, "more was taken than the counter had"
    assert not again.contended
    assert list(again.shards) == [0]


def test_purchase_gets_row_status(world: World) -> None:
    world.open_sale(stock=5)
    service = world.purchase_service()
    service.buy(service.order(ITEM, 1, None, None))
    assert [record.status for record in world.records()] == [BUY.after] == [Status.CONFIRMED]
