"""What the domain relies on, asked of every engine alike: moto, MiniStack and DynamoDB Local (AWS's own).

One thread at a time, so that moto may take part. What only real concurrency shows stands in test_concurrency.py.
"""

from collections.abc import Iterator
from dataclasses import replace

import boto3
import pytest
from moto import mock_aws

from tests.support import ITEM, World, create_table
from ticketing.audit import audit
from ticketing.errors import StaleSale
from ticketing.rules import MAX_SHARDS, Bought, KeyReused, Purchase, Sale, Shard, SoldOut

CREATED = "2026-01-15T12:30:27.000000Z"
SALE = Sale(ITEM, "Concert ★", capacity=10, shard_count=4, shards_ever=4, generation=1, created_at=CREATED)
MOTO_SNAPSHOT_ITEMS = 25  # moto 5.2 refuses more items in TransactGetItems; AWS takes 100


@pytest.fixture(params=["moto", "ministack", "dynamodb_local"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "moto":
        with mock_aws():
            client = boto3.client("dynamodb")
            create_table(client)
            yield World(client)
    else:
        client = boto3.client("dynamodb", endpoint_url=request.getfixturevalue(request.param).endpoint)
        table = request.getfixturevalue("table_name")
        create_table(client, table)
        yield World(client, table)
        client.delete_table(TableName=table)


def purchase(number: int = 1, **taken: int) -> Purchase:
    """Purchase `number`, of `s0=2, s3=1` two tickets from shard 0 and one from shard 3."""
    shards = {int(name[1:]): tickets for name, tickets in taken.items()}
    return Purchase(
        purchase_id=f"00000000-0000-5000-8000-{number:012}",
        item_id=ITEM,
        generation=1,
        buyer_id=None if number % 2 else f"buyer-{number}",
        quantity=sum(shards.values()),
        status="confirmed",
        taken=shards,
        fingerprint="f",
        created_at="2026-01-15T12:30:28.000Z",
    )


def open_all(world: World, sale: Sale = SALE) -> None:
    assert world.store.announce(sale)
    for index in range(sale.shard_count):
        assert world.store.open_shard(sale, index)


def counters(world: World, sale: Sale = SALE) -> list[tuple[int, int]]:
    return [(shard.stock, shard.sold) for shard in world.store.read_shards(sale)]


def test_what_is_not_there_is_none(world: World) -> None:
    assert world.store.read_sale(ITEM) is None
    assert world.store.read_purchase("nobody") is None


def test_a_sale_is_announced_once_per_generation_and_generations_rise(world: World) -> None:
    assert world.store.announce(SALE)
    assert world.store.read_sale(ITEM) == SALE
    assert not world.store.announce(replace(SALE, capacity=99))
    later = replace(SALE, generation=2, item_name="Another")
    assert world.store.announce(later)
    assert not world.store.announce(SALE)
    assert world.store.read_sale(ITEM) == later


def test_a_shard_opens_once_per_generation_with_its_share(world: World) -> None:
    open_all(world)
    assert not world.store.open_shard(SALE, 0)
    assert counters(world) == [(3, 0), (3, 0), (2, 0), (2, 0)]
    later = replace(SALE, generation=2, capacity=4)
    assert world.store.open_shard(later, 0)
    assert not world.store.open_shard(SALE, 0)


def test_shards_that_are_not_opened_count_as_full(world: World) -> None:
    world.store.announce(SALE)
    world.store.open_shard(SALE, 1)
    assert counters(world) == [(3, 0), (3, 0), (2, 0), (2, 0)]
    assert world.store.snapshot(SALE) == world.store.read_shards(SALE)


def test_shards_of_a_newer_generation_are_not_taken_for_ours(world: World) -> None:
    open_all(world)
    world.store.open_shard(replace(SALE, generation=2), 3)
    with pytest.raises(StaleSale):
        world.store.read_shards(SALE)
    with pytest.raises(StaleSale):
        world.store.snapshot(SALE)


def test_a_sale_moves_the_tickets_and_leaves_its_record(world: World) -> None:
    open_all(world)
    for number, bought in ((1, purchase(1, s0=1)), (2, purchase(2, s0=2, s3=1))):
        assert world.store.sell(SALE, bought) is None
        assert world.store.read_purchase(bought.purchase_id) == bought, number
    assert counters(world) == [(0, 3), (3, 0), (2, 0), (1, 1)]
    assert world.store.snapshot(SALE)[3] == Shard(3, 1, 2, 1, 0, 1, "2026-01-15T12:30:28.000Z")


def test_an_empty_shard_refuses_and_shows_itself(world: World) -> None:
    open_all(world)
    world.store.sell(SALE, purchase(1, s2=2))
    refusal = world.store.sell(SALE, purchase(2, s2=1))
    assert refusal
    shard = refusal.shards[2]
    assert shard
    assert (shard.stock, shard.sold, shard.generation) == (0, 2, 1)
    assert refusal.record is None
    assert not refusal.contended
    assert world.store.read_purchase(purchase(2, s2=1).purchase_id) is None


def test_too_few_in_one_shard_of_several_takes_nothing_from_any(world: World) -> None:
    open_all(world)
    refusal = world.store.sell(SALE, purchase(1, s0=2, s2=3, s3=1))
    assert refusal
    assert list(refusal.shards) == [2]
    assert counters(world) == [(3, 0), (3, 0), (2, 0), (2, 0)]


def test_a_record_that_is_there_refuses_and_shows_itself(world: World) -> None:
    open_all(world)
    first = purchase(2, s0=1)
    world.store.sell(SALE, first)
    refusal = world.store.sell(SALE, purchase(2, s1=2))
    assert refusal
    assert refusal.record == first
    assert refusal.shards == {}
    assert counters(world) == [(2, 1), (3, 0), (2, 0), (2, 0)]


def test_an_empty_shard_does_not_hide_the_record(world: World) -> None:
    """AWS evaluates all actions; an engine that stops at the first would cost a look-up, never a second ticket."""
    open_all(world)
    first = purchase(1, s2=2)
    world.store.sell(SALE, first)
    refusal = world.store.sell(SALE, first)
    assert refusal
    assert refusal.record == first or 2 in refusal.shards
    assert counters(world)[2] == (0, 2)


def test_another_generation_refuses_and_shows_itself(world: World) -> None:
    open_all(world)
    later = replace(SALE, generation=2)
    world.store.open_shard(later, 0)
    refusal = world.store.sell(SALE, purchase(1, s0=1))
    assert refusal
    shard = refusal.shards[0]
    assert shard
    assert shard.generation == 2
    refusal = world.store.sell(later, purchase(1, s1=1))
    assert refusal
    shard = refusal.shards[1]
    assert shard
    assert shard.generation == 1


def test_a_missing_shard_refuses_with_nothing_to_show(world: World) -> None:
    world.store.announce(SALE)
    refusal = world.store.sell(SALE, purchase(1, s0=1))
    assert refusal
    assert refusal.shards == {0: None}


def test_a_snapshot_takes_all_shards_that_a_sale_may_have(world: World, request: pytest.FixtureRequest) -> None:
    shards = MOTO_SNAPSHOT_ITEMS if "moto" in request.node.name else MAX_SHARDS
    sale = replace(SALE, capacity=1000, shard_count=shards)
    open_all(world, sale)
    assert sum(shard.stock for shard in world.store.snapshot(sale)) == 1000
    assert world.store.snapshot(sale) == world.store.read_shards(sale)


def test_the_scan_finds_all_of_an_item_on_every_page_and_nothing_else(world: World) -> None:
    open_all(world)
    world.store.announce(replace(SALE, item_id=2))
    note = "n" * 128
    records = [
        replace(purchase(number, s0=1), fingerprint=note, item_id=1 + number % 10 // 9) for number in range(4000)
    ]
    from ticketing.store import _from_purchase

    for start in range(0, len(records), 25):
        puts = [{"PutRequest": {"Item": _from_purchase(record)}} for record in records[start : start + 25]]
        world.client.batch_write_item(RequestItems={world.table: puts})
    found = world.records()
    assert {record.purchase_id for record in found} == {r.purchase_id for r in records if r.item_id == ITEM}
    assert len(found) == 3600


def test_a_whole_sale(world: World) -> None:
    world.open_sale(stock=20, shards=4)
    office = world.box_office()
    outcomes = [office.buy(office.order(ITEM, 1 + n % 3, None, f"key-of-sixteen-{n % 9}")) for n in range(30)]
    sold = {
        outcome.purchase.purchase_id: outcome.purchase.quantity for outcome in outcomes if isinstance(outcome, Bought)
    }
    world.assert_exact(sold=sum(sold.values()))
    assert audit(world.store, ITEM).problems == []
    assert not any(isinstance(outcome, KeyReused) for outcome in outcomes)
    assert len(sold) == 9
    assert isinstance(office.buy(office.order(ITEM, 10, None, None)), SoldOut)
