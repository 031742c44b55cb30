"""What the domain relies on, on every engine: moto, the simulation's model of DynamoDB,
MiniStack and DynamoDB Local (AWS's own).

One thread, so that moto can take part. Real concurrency is in test_concurrency.py.
"""

from collections.abc import Iterator
from copy import replace

import boto3
import pytest
from moto import mock_aws

import simulation.world
from simulation.dynamodb import DynamoDB
from tests.support import ITEM, World, create_table
from ticketing.errors import CatalogueFull, StaleSale
from ticketing.limits import ITEMS_MAX, SHARDS_MAX
from ticketing.model import (
    Bought,
    BuyerTickets,
    CountedTickets,
    KeyReused,
    Payment,
    Purchase,
    Resize,
    Sale,
    Shard,
    SoldOut,
    StockSummary,
    UsedKey,
)
from ticketing.moves import (
    BUY,
    CONFIRM,
    CONFIRM_LATE,
    EXTEND,
    HOLD,
    REFUND,
    REFUND_IN_PART,
    RELEASE,
    Move,
    Status,
)
from ticketing.rules import given_back, refund
from ticketing.store.items import PURCHASE, purchase_key, sale_key, shard_key
from ticketing.store.items import SALE as SALE_CODEC
from ticketing.store.table import Cancellation

CREATED = "2026-01-15T12:30:27.000000Z"
SALE = Sale(
    ITEM,
    "Concert ★",
    capacity=10,
    shard_count=4,
    shards_ever=4,
    generation=1,
    created_at=CREATED,
    used_keys=(UsedKey("k", 1, "r"),),
    opens_at=1_800_000_000.25,
    closes_at=1_800_003_600.0,
    is_paused=True,
    revision=1,
)
SLOT = 1_800_000_060  # an expiry slot, in seconds since the epoch
MOTO_SNAPSHOT_ITEMS = 25  # moto 5.2 refuses more items in TransactGetItems; AWS takes 100


@pytest.fixture(params=["moto", "model", "ministack", "dynamodb_local"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "moto":
        with mock_aws():
            client = boto3.client("dynamodb")
            create_table(client)
            yield World(client)
    elif request.param == "model":
        client = DynamoDB(simulation.world.World(seed=1)).client()
        create_table(client)
        yield World(client)
    else:
        client = boto3.client(
            "dynamodb", endpoint_url=request.getfixturevalue(request.param).endpoint
        )
        table = request.getfixturevalue("table_name")
        create_table(client, table)
        yield World(client, table)
        client.delete_table(TableName=table)


def purchase(number: int = 1, **taken: int) -> Purchase:
    """Return purchase `number`. `s0=2, s3=1`: two tickets from shard 0 and one from shard 3."""
    shards = {int(name[1:]): tickets for name, tickets in taken.items()}
    return Purchase(
        purchase_id=f"00000000-0000-5000-8000-{number:012}",
        item_id=ITEM,
        generation=1,
        buyer_id=None if number % 2 else f"buyer-{number}",
        quantity=sum(shards.values()),
        status=Status.CONFIRMED,
        taken=shards,
        fingerprint="f",
        created_at="2026-01-15T12:30:28.000Z",
    )


def sell(world: World, record: Purchase, buyer: BuyerTickets | None = None) -> Cancellation | None:
    return world.store.move(BUY, record, record.taken, record.created_at, buyer=buyer)


def open_all(world: World, sale: Sale = SALE) -> None:
    assert world.store.put_sale(sale, None)
    for index in range(sale.shard_count):
        assert world.store.open_shard(sale, index)


def counters(world: World, sale: Sale = SALE) -> list[tuple[int, int]]:
    return [(shard.stock, shard.sold) for shard in world.store.read_shards(sale)]


def test_missing_records(world: World) -> None:
    assert world.store.read_sale(ITEM) is None
    assert world.store.read_purchase("missing") is None


def test_put_sale(world: World) -> None:
    """Each revision once, and only after the one that was seen, of every generation."""
    assert world.store.put_sale(SALE, None)
    assert world.store.read_sale(ITEM) == SALE
    assert not world.store.put_sale(replace(SALE, capacity=99), None)
    later = replace(SALE, generation=2, item_name="Another", revision=2)
    assert world.store.put_sale(later, SALE)
    assert not world.store.put_sale(replace(SALE, revision=2), SALE)
    same_revision = replace(SALE, revision=2)
    assert not world.store.put_sale(replace(SALE, revision=3), same_revision)
    assert world.store.read_sale(ITEM) == later


def test_record_of_earlier_version(world: World) -> None:
    """It has no revision. It changes once, and comes into the catalogue then."""
    old = replace(SALE, revision=0)
    world.client.put_item(TableName=world.table_name, Item=SALE_CODEC.to_item(sale_key(ITEM), old))
    assert world.store.read_catalogue() == []
    other_generation = replace(old, generation=2)
    assert not world.store.put_sale(replace(SALE, capacity=99), other_generation)
    assert world.store.put_sale(SALE, old)
    assert not world.store.put_sale(replace(SALE, capacity=99), old)
    assert world.store.read_catalogue() == [ITEM]


def test_catalogue(world: World) -> None:
    """Each item once, in order, and those without a record are left out."""
    ids = [30, 4, 1000, 200]
    for item_id in ids:
        assert world.store.put_sale(replace(SALE, item_id=item_id), None)
        assert not world.store.put_sale(replace(SALE, item_id=item_id), None)
    assert world.store.read_catalogue() == sorted(ids)
    sales = world.store.read_sales([4, 5, 200, 30])
    assert [sale.item_id for sale in sales] == [4, 30, 200]
    assert world.store.read_sales([]) == []
    for item_id in ids:
        seen = replace(SALE, item_id=item_id)
        deleted = replace(seen, is_deleted=True, revision=2)
        assert world.store.put_sale(deleted, seen)
        assert not world.store.put_sale(deleted, seen)
        assert world.store.put_sale(replace(deleted, revision=3), deleted)
    assert world.store.read_catalogue() == []
    deleted = replace(SALE, is_deleted=True, revision=3)
    assert world.store.put_sale(replace(SALE, item_id=4, revision=4), replace(deleted, item_id=4))
    assert world.store.read_catalogue() == [4]


def test_catalogue_is_full(world: World) -> None:
    """Nothing is written of an item that has no room; items that are there can change."""
    world.client.put_item(
        TableName=world.table_name,
        Item={"pk": {"S": "catalogue"}, "item_ids": {"NS": [str(n) for n in range(1, ITEMS_MAX)]}},
    )
    last = replace(SALE, item_id=ITEMS_MAX)
    assert world.store.put_sale(last, None)
    with pytest.raises(CatalogueFull):
        world.store.put_sale(replace(SALE, item_id=ITEMS_MAX + 1), None)
    assert world.store.read_sale(ITEMS_MAX + 1) is None
    assert world.store.put_sale(replace(last, revision=2), last)


@pytest.mark.G1
def test_open_shard(world: World) -> None:
    open_all(world)
    assert not world.store.open_shard(SALE, 0)
    assert counters(world) == [(3, 0), (3, 0), (2, 0), (2, 0)]
    later = replace(SALE, generation=2, capacity=4)
    assert world.store.open_shard(later, 0)
    assert not world.store.open_shard(SALE, 0)


def opened(world: World, sale: Sale = SALE) -> Sale:
    """Return the sale after all its shards are opened, as its record says."""
    open_all(world, sale)
    after = replace(sale, shards_opened=True, revision=sale.revision + 1)
    assert world.store.put_sale(after, sale)
    return after


@pytest.mark.G1
def test_lost_shard(world: World) -> None:
    """One that is missing after all were opened has no tickets, and is never opened again."""
    sale = opened(world)
    key = shard_key(ITEM, 2)
    world.client.delete_item(TableName=world.table_name, Key=key)
    for planned in (SALE, sale, replace(SALE, generation=0)):
        with pytest.raises(StaleSale):
            world.store.open_shard(planned, 2)
    assert counters(world, sale) == [(3, 0), (3, 0), (0, 0), (2, 0)]
    assert sum(shard.capacity for shard in world.store.snapshot(sale)) == 8
    later = replace(SALE, generation=2, revision=3)
    assert world.store.put_sale(later, sale)
    assert world.store.open_shard(later, 2)


@pytest.mark.G1
def test_resize(world: World) -> None:
    """Shards and the sale's record change together, once, and no ticket that is not free."""
    sale = opened(world)
    assert sell(world, purchase(1, s0=2)) is None
    more = replace(sale, capacity=15, resize=Resize(15, before=10), revision=3)
    assert world.store.resize(more, sale, {1: 5}, CREATED)
    assert world.store.read_sale(ITEM) == more
    with pytest.raises(StaleSale):
        world.store.resize(more, sale, {1: 5}, CREATED)
    moved = replace(more, revision=4)
    assert world.store.resize(moved, more, {1: -4, 0: 4}, CREATED)
    less = replace(more, capacity=9, revision=5)
    assert not world.store.resize(less, moved, {0: -6}, CREATED)
    assert not world.store.resize(replace(moved, revision=5), moved, {0: -6, 2: 6}, CREATED)
    assert world.store.read_sale(ITEM) == moved
    assert counters(world, moved) == [(5, 2), (4, 0), (2, 0), (2, 0)]
    assert [shard.capacity for shard in world.store.read_shards(moved)] == [7, 4, 2, 2]
    assert world.store.resize(less, moved, {0: -5}, CREATED)
    assert sell(world, purchase(2, s0=1)) is not None


@pytest.mark.G1
def test_more_shards(world: World) -> None:
    """They come with the record, empty, and not over one that is there."""
    sale = opened(world)
    wider = replace(sale, shard_count=7, shards_ever=7, is_spreading=True, revision=3)
    assert world.store.put_sale(wider, sale)
    assert not world.store.put_sale(wider, sale)
    empty = world.store.read_shards(wider)[4:]
    assert [(shard.capacity, shard.stock, shard.generation) for shard in empty] == [(0, 0, 1)] * 3
    assert move(world, HOLD, held(1, s5=1)) is not None
    assert world.store.resize(replace(wider, revision=4), wider, {0: -2, 5: 2}, CREATED)
    assert move(world, HOLD, held(1, s5=1)) is None
    shard = world.store.read_shards(wider)[5]
    assert (shard.capacity, shard.stock, shard.held, shard.slots) == (2, 1, 1, {SLOT: 1})


@pytest.mark.G2
def test_unopened_shards(world: World) -> None:
    """They have their whole share."""
    world.store.put_sale(SALE, None)
    world.store.open_shard(SALE, 1)
    assert counters(world) == [(3, 0), (3, 0), (2, 0), (2, 0)]
    assert world.store.snapshot(SALE) == world.store.read_shards(SALE)
    assert [world.store.read_shard(SALE, index).stock for index in range(4)] == [3, 3, 2, 2]


@pytest.mark.G1
def test_shards_of_newer_generation(world: World) -> None:
    open_all(world)
    world.store.open_shard(replace(SALE, generation=2), 3)
    with pytest.raises(StaleSale):
        world.store.read_shards(SALE)
    with pytest.raises(StaleSale):
        world.store.snapshot(SALE)
    assert world.store.read_shard(SALE, 2) == Shard.fresh(SALE, 2)
    with pytest.raises(StaleSale):
        world.store.read_shard(SALE, 3)


@pytest.mark.G4
def test_sell(world: World) -> None:
    open_all(world)
    for number, bought in ((1, purchase(1, s0=1)), (2, purchase(2, s0=2, s3=1))):
        assert sell(world, bought) is None
        assert world.store.read_purchase(bought.purchase_id) == bought, number
    assert counters(world) == [(0, 3), (3, 0), (2, 0), (1, 1)]
    assert world.store.snapshot(SALE)[3] == Shard(3, 1, 2, 1, 0, 1, "2026-01-15T12:30:28.000Z")


@pytest.mark.G1
def test_sell_from_empty_shard(world: World) -> None:
    open_all(world)
    sell(world, purchase(1, s2=2))
    refusal = sell(world, purchase(2, s2=1))
    assert refusal
    shard = refusal.shards[2]
    assert shard
    assert (shard.stock, shard.sold, shard.generation) == (0, 2, 1)
    assert refusal.record is None
    assert not refusal.contended
    assert world.store.read_purchase(purchase(2, s2=1).purchase_id) is None


@pytest.mark.G1
def test_sell_from_short_shard(world: World) -> None:
    """Too few tickets in one of several shards: nothing is taken from any."""
    open_all(world)
    refusal = sell(world, purchase(1, s0=2, s2=3, s3=1))
    assert refusal
    assert list(refusal.shards) == [2]
    assert counters(world) == [(3, 0), (3, 0), (2, 0), (2, 0)]


@pytest.mark.G3
def test_sell_with_existing_record(world: World) -> None:
    open_all(world)
    first = purchase(2, s0=1)
    sell(world, first)
    refusal = sell(world, purchase(2, s1=2))
    assert refusal
    assert refusal.record == first
    assert refusal.shards == {}
    assert counters(world) == [(2, 1), (3, 0), (2, 0), (2, 0)]


@pytest.mark.G3
def test_empty_shard_and_existing_record(world: World) -> None:
    """AWS evaluates all actions. An engine that stops at the first would cost a read, never a
    ticket.
    """
    open_all(world)
    first = purchase(1, s2=2)
    sell(world, first)
    refusal = sell(world, first)
    assert refusal
    assert refusal.record == first or 2 in refusal.shards
    assert counters(world)[2] == (0, 2)


@pytest.mark.G1
def test_sell_in_other_generation(world: World) -> None:
    open_all(world)
    later = replace(SALE, generation=2)
    world.store.open_shard(later, 0)
    refusal = sell(world, purchase(1, s0=1))
    assert refusal
    shard = refusal.shards[0]
    assert shard
    assert shard.generation == 2
    refusal = sell(world, replace(purchase(1, s1=1), generation=2))
    assert refusal
    shard = refusal.shards[1]
    assert shard
    assert shard.generation == 1


@pytest.mark.G1
def test_sell_from_missing_shard(world: World) -> None:
    world.store.put_sale(SALE, None)
    refusal = sell(world, purchase(1, s0=1))
    assert refusal
    assert refusal.shards == {0: None}


@pytest.mark.G2
def test_snapshot_of_many_shards(world: World, request: pytest.FixtureRequest) -> None:
    shards = MOTO_SNAPSHOT_ITEMS if "moto" in request.node.name else SHARDS_MAX
    sale = replace(SALE, capacity=1000, shard_count=shards)
    open_all(world, sale)
    assert sum(shard.stock for shard in world.store.snapshot(sale)) == 1000
    assert world.store.snapshot(sale) == world.store.read_shards(sale)


@pytest.mark.G4
def test_read_purchases(world: World) -> None:
    """All of the item's records on all pages, and no others."""
    open_all(world)
    world.store.put_sale(replace(SALE, item_id=2), None)
    note = "n" * 2000  # 1.7 MB: two pages
    records = [
        replace(purchase(number, s0=1), fingerprint=note, item_id=1 + number % 10 // 9)
        for number in range(800)
    ]
    for start in range(0, len(records), 25):
        puts = [
            {"PutRequest": {"Item": PURCHASE.to_item(purchase_key(record.purchase_id), record)}}
            for record in records[start : start + 25]
        ]
        world.client.batch_write_item(RequestItems={world.table_name: puts})
    found = world.records()
    assert {record.purchase_id for record in found} == {
        r.purchase_id for r in records if r.item_id == ITEM
    }
    assert len(found) == 720


@pytest.mark.G4
def test_records_of_an_item(world: World) -> None:
    """Its purchases and buyers, in pages of so many records of the table; of all items as well."""
    open_all(world)
    other = replace(purchase(1, s0=1), purchase_id="other", item_id=2)
    records = [replace(purchase(number, s0=1), is_counted=True) for number in range(2, 12)]
    of_ten = BuyerTickets(10, 1, "buyer", {"other": CountedTickets(1)}, revision=1)
    buyers = [
        BuyerTickets(ITEM, 1, f"buyer-{each}", {f"{each}": CountedTickets(1)}, revision=1)
        for each in range(10)
    ]
    for record, buyer in zip([*records, other], [*buyers, of_ten], strict=True):
        assert world.store.put_refusal(record) is None
        assert world.store.put_buyer(buyer)
    for item_id, count in ((ITEM, 10), (None, 11)):
        pages = [world.store.read_records(item_id, None, 4)]
        while (end := pages[-1].end) is not None:
            pages.append(world.store.read_records(item_id, end, 4))
        assert max(page.looked_at for page in pages) <= 4
        assert sum(page.looked_at for page in pages) == 2 * 11 + 4 + 2
        assert sum(len(page.purchases) for page in pages) == count
        assert sum(len(page.buyers) for page in pages) == count
    world.tamper("item#10#summary#1", revision=1)
    whole = world.store.read_records(None, None, 1000)
    (broken,) = whole.by_item()[10].summaries
    assert (broken.item_id, broken.part) == (10, 1)
    assert world.store.replace_summary(StockSummary(10, 1, revision=7))
    assert world.store.read_summary(10, 1).revision == 7
    assert whole.by_item().keys() == {ITEM, 2, 10}
    assert whole.by_item()[10].buyers == [of_ten]


@pytest.mark.G4
def test_many_by_key(world: World) -> None:
    """More than one batch read, with some that are missing or cannot be read."""
    records = {f"purchase-{each}": replace(purchase(each, s0=1)) for each in range(120)}
    records = {id_: replace(each, purchase_id=id_) for id_, each in records.items()}
    for record in records.values():
        assert world.store.put_refusal(record) is None
    world.tamper("purchase#purchase-7", fingerprint=1)
    found = world.store.read_purchases({*records, "missing"})
    assert found == records | {"purchase-7": None}
    assert world.store.read_purchases(set()) == {}
    buyer = BuyerTickets(ITEM, 1, "ann", {"p": CountedTickets(2, SLOT)}, revision=1)
    assert world.store.put_buyer(buyer)
    assert not world.store.put_buyer(buyer)
    assert world.store.put_buyer(replace(buyer, revision=2))
    assert world.store.read_buyers(ITEM, [(1, "ann"), (2, "ann")]) == {
        (1, "ann"): replace(buyer, revision=2),
        (2, "ann"): BuyerTickets(ITEM, 2, "ann"),
    }
    payment = Payment("payment-1", "purchase-1", CREATED)
    assert world.store.put_payment(payment)
    assert not world.store.put_payment(replace(payment, purchase_id="purchase-2"))
    assert world.store.read_payments({"payment-1", "payment-2"}) == {"payment-1": payment}


def stored_shards(world: World) -> list[Shard]:
    shards, unreadable = world.store.read_stored_shards(SALE)
    assert unreadable == {}
    return sorted(shards, key=lambda shard: shard.index)


@pytest.mark.G1
@pytest.mark.G4
def test_repair(world: World) -> None:
    """Shards and the sale's record, all of them as they were seen, or nothing."""
    open_all(world)
    assert sell(world, purchase(1, s0=1)) is None
    assert move(world, HOLD, held(2, s1=1)) is None
    world.lose(shard_key(ITEM, 3)["pk"]["S"])
    stored = stored_shards(world)
    one, two, three = stored
    lost = replace(three, index=3, capacity=1, stock=1, reclaimed_until=SLOT)
    repaired = {
        0: (one, replace(one, stock=one.stock + 1, sold=0)),
        1: (two, replace(two, slots={}, held=0, stock=two.stock + 1)),
        3: (None, lost),
    }
    sales = SALE, replace(SALE, capacity=9, revision=2)
    for index in range(2):
        seen, after = repaired[index]
        assert seen
        stale = repaired | {index: (replace(seen, updated_at="earlier"), after)}
        assert not world.store.repair(ITEM, stale, sales)
        stale = repaired | {index: (replace(seen, slots={SLOT: 7}), after)}
        assert not world.store.repair(ITEM, stale, sales)
    assert not world.store.repair(ITEM, repaired | {2: (None, three)}, sales)
    assert not world.store.repair(ITEM, repaired, (replace(SALE, revision=7), sales[1]))
    assert stored_shards(world) == stored
    assert world.store.repair(ITEM, repaired, sales)
    expected = [repaired[0][1], repaired[1][1], three, lost]
    assert stored_shards(world) == expected
    assert world.store.read_sale(ITEM) == sales[1]
    assert not world.store.repair(ITEM, repaired, None)
    for index in (1, 3):  # they take holds, and are reclaimed
        record = replace(held(10 + index, **{f"s{index}": 1}), expires_at=SLOT + 60)
        assert move(world, HOLD, record) is None


@pytest.mark.G5
def test_put_refusal(world: World) -> None:
    """Then the order cannot buy. Where it has bought, the answer is its record."""
    open_all(world)
    refusal = replace(purchase(1, s0=1), status=Status.REFUSED, taken={}, left=3)
    assert world.store.put_refusal(refusal) is None
    assert world.store.read_purchase(refusal.purchase_id) == refusal
    cancellation = sell(world, purchase(1, s0=1))
    assert cancellation
    assert cancellation.record == refusal
    bought = purchase(2, s0=1)
    assert sell(world, bought) is None
    assert world.store.put_refusal(replace(refusal, purchase_id=bought.purchase_id)) == bought


@pytest.mark.G2
def test_summary(world: World) -> None:
    """Each revision is put once, after the one that was seen."""
    store = world.store
    assert store.read_summary(ITEM, 1) == StockSummary(ITEM, 1)
    first = StockSummary(
        ITEM,
        1,
        revision=1,
        published=1,
        generation=7,
        free={3: 2, 99: 10_000_000},
        next_release_at=1_800_000_000,
        is_snapshot=True,
        written_at=1_800_000_000_123,
    )
    assert store.put_summary(first)
    assert not store.put_summary(replace(first, generation=8))
    assert store.read_summary(ITEM, 1) == first
    claim = replace(first, revision=2)
    assert store.put_summary(claim)
    assert not store.put_summary(replace(claim, generation=8))
    assert not store.put_summary(replace(claim, revision=4))
    assert store.read_summary(ITEM, 1) == claim
    assert claim.is_claimed
    assert not first.is_claimed
    assert store.read_summary(ITEM, 0).revision == 0


@pytest.mark.G3
@pytest.mark.G4
def test_refund(world: World) -> None:
    """Record and shards change together, and only from the revision that was seen."""
    open_all(world)
    bought = purchase(1, s0=2, s2=1)
    assert sell(world, bought) is None
    part = refund(bought, "k", 2, "now", is_closed=False)
    back = given_back(bought, part)
    assert world.store.move(REFUND_IN_PART, part, back, CREATED, bought) is None
    assert world.store.read_purchase(bought.purchase_id) == part
    assert counters(world) == [(3, 0), (3, 0), (1, 1), (2, 0)]
    stale = refund(bought, "l", 1, "now", is_closed=False)
    refusal = world.store.move(REFUND_IN_PART, stale, {2: 1}, CREATED, bought)
    assert refusal
    assert refusal.record == part
    whole = refund(part, "l", 1, "now", is_closed=False)
    assert (whole.status, whole.taken, whole.revision) == (Status.REFUNDED, {}, 2)
    assert world.store.move(REFUND, whole, given_back(part, whole), CREATED, part) is None
    assert world.store.read_purchase(bought.purchase_id) == whole
    assert counters(world) == [(3, 0), (3, 0), (2, 0), (2, 0)]


def held(number: int, expires_at: int = SLOT, **taken: int) -> Purchase:
    return replace(purchase(number, **taken), status=Status.HELD, expires_at=expires_at)


def after(seen: Purchase, status: Status, expires_at: int | None = None) -> Purchase:
    """Return the record of a hold after its next change."""
    expires_at = expires_at or seen.expires_at
    return replace(seen, status=status, revision=seen.revision + 1, expires_at=expires_at)


def move(
    world: World, row: Move, record: Purchase, seen: Purchase | None = None
) -> Cancellation | None:
    return world.store.move(row, record, record.taken, CREATED, seen)


def states(world: World) -> list[tuple[int, int, int, dict[int, int]]]:
    """Return stock, held, sold and slots of the first two shards; empty slots are left out."""
    return [
        (
            shard.stock,
            shard.held,
            shard.sold,
            {slot: tickets for slot, tickets in shard.slots.items() if tickets},
        )
        for shard in world.store.read_shards(SALE)[:2]
    ]


@pytest.mark.G1
@pytest.mark.G4
def test_hold_and_confirm(world: World) -> None:
    """Twice in one slot, and once from two shards. A confirmed hold cannot be confirmed again."""
    open_all(world)
    first, second, other = held(1, s0=1), held(2, s0=1, s1=1), held(3, SLOT + 60, s1=2)
    for record in (first, second, other):
        assert move(world, HOLD, record) is None
        assert world.store.read_purchase(record.purchase_id) == record
    assert states(world) == [(1, 2, 0, {SLOT: 2}), (0, 3, 0, {SLOT: 1, SLOT + 60: 2})]
    confirmed = after(second, Status.CONFIRMED)
    assert move(world, CONFIRM, confirmed, second) is None
    assert states(world) == [(1, 1, 1, {SLOT: 1}), (0, 2, 1, {SLOT + 60: 2})]
    again = move(world, CONFIRM, confirmed, second)
    assert again
    assert again.record == confirmed


@pytest.mark.G1
@pytest.mark.G4
def test_buyer_with_limit(world: World) -> None:
    """What a buyer has is put with the move, if it is the next revision; otherwise nothing is."""
    open_all(world)
    first, second = (replace(purchase(number, s0=1), is_counted=True) for number in (2, 4))
    second = replace(second, buyer_id=first.buyer_id)
    none = world.store.read_buyer(first)
    assert none == BuyerTickets(ITEM, 1, "buyer-2")
    of_first = {first.purchase_id: CountedTickets(1), "a-hold": CountedTickets(2, SLOT)}
    one = replace(none, purchases=of_first, revision=1)
    assert sell(world, first, one) is None
    assert world.store.read_buyer(second) == one
    refused = sell(world, second, one)
    assert refused
    assert (refused.contended, refused.record, refused.shards) == (True, None, {})
    assert counters(world)[0] == (2, 1)
    assert world.store.read_purchase(second.purchase_id) is None
    two = replace(one, purchases={second.purchase_id: CountedTickets(1)}, revision=2)
    assert sell(world, second, two) is None
    assert world.store.read_buyer(second) == two
    assert world.store.read_buyer(replace(second, is_counted=False)) is None
    assert world.store.read_purchase(second.purchase_id) == second


@pytest.mark.G4
def test_release_and_extend(world: World) -> None:
    open_all(world)
    first, second = held(1, s0=1), held(2, s0=2)
    for record in (first, second):
        assert move(world, HOLD, record) is None
    extended = after(first, Status.HELD, SLOT + 60)
    assert move(world, EXTEND, extended, first) is None
    assert states(world)[0] == (0, 3, 0, {SLOT: 2, SLOT + 60: 1})
    assert move(world, RELEASE, after(second, Status.RELEASED), second) is None
    assert states(world)[0] == (2, 1, 0, {SLOT + 60: 1})
    assert move(world, RELEASE, after(extended, Status.RELEASED), extended) is None
    assert states(world)[0] == (3, 0, 0, {})


@pytest.mark.G1
@pytest.mark.G2
def test_reclaim(world: World) -> None:
    """All tickets of a slot come back at once. None of its holds takes any from then on."""
    open_all(world)
    first, later = held(1, s0=2), held(2, SLOT + 60, s0=1)
    for record in (first, later):
        assert move(world, HOLD, record) is None
    shard = world.store.read_shards(SALE)[0]
    assert world.store.reclaim(ITEM, shard, [SLOT], CREATED) is None
    assert states(world)[0] == (2, 1, 0, {SLOT + 60: 1})
    assert world.store.reclaim(ITEM, shard, [SLOT], CREATED) is not None, "it was reclaimed twice"
    refusal = move(world, CONFIRM, after(first, Status.CONFIRMED), first)
    assert refusal
    assert list(refusal.shards) == [0]
    assert move(world, CONFIRM_LATE, after(first, Status.CONFIRMED), first) is None
    assert states(world)[0] == (0, 1, 2, {SLOT + 60: 1})


@pytest.mark.G1
def test_hold_in_reclaimed_slot(world: World) -> None:
    """A hold that was on its way for long, in its slot or an earlier one."""
    open_all(world)
    assert move(world, HOLD, held(1, s0=1)) is None
    shard = world.store.read_shards(SALE)[0]
    assert world.store.reclaim(ITEM, shard, [SLOT], CREATED) is None
    for expires_at in (SLOT, SLOT - 60):
        refusal = move(world, HOLD, held(2, expires_at, s0=1))
        assert refusal
        assert refusal.shards[0]
        assert refusal.shards[0].reclaimed_until == SLOT
    assert move(world, HOLD, held(2, SLOT + 1, s0=1)) is None


@pytest.mark.G1
def test_reclaim_of_changed_slot(world: World) -> None:
    """A hold joined it, or another slot was reclaimed: nothing is written."""
    open_all(world)
    assert move(world, HOLD, held(1, s0=1)) is None
    seen = world.store.read_shards(SALE)[0]
    assert move(world, HOLD, held(2, s0=1)) is None
    assert world.store.reclaim(ITEM, seen, [SLOT], CREATED) is not None
    assert states(world)[0] == (1, 2, 0, {SLOT: 2})
    seen = world.store.read_shards(SALE)[0]
    assert move(world, HOLD, held(3, SLOT - 60, s0=1)) is None
    newer = world.store.read_shards(SALE)[0]
    assert world.store.reclaim(ITEM, newer, [SLOT - 60], CREATED) is None
    assert world.store.reclaim(ITEM, seen, [SLOT], CREATED) is not None
    newest = world.store.read_shards(SALE)[0]
    assert world.store.reclaim(ITEM, newest, [SLOT], CREATED) is None
    assert states(world)[0] == (3, 0, 0, {})
    assert world.store.read_shards(SALE)[0].reclaimed_until == SLOT


@pytest.mark.G1
def test_generation_forgets_slots(world: World) -> None:
    open_all(world)
    first = held(1, s0=2)
    assert move(world, HOLD, first) is None
    shard = world.store.read_shards(SALE)[0]
    assert world.store.open_shard(replace(SALE, generation=2), 0)
    refusal = move(world, CONFIRM, after(first, Status.CONFIRMED), first)
    assert refusal
    assert refusal.shards[0]
    assert (refusal.shards[0].held, refusal.shards[0].slots) == (0, {})
    assert world.store.reclaim(ITEM, shard, [SLOT], CREATED) is not None


@pytest.mark.G1
def test_refund_of_missing_purchase(world: World) -> None:
    open_all(world)
    missing = purchase(1, s0=2)
    refunded = refund(missing, "k", 2, "now", is_closed=False)
    refusal = world.store.move(REFUND, refunded, {0: 2}, CREATED, missing)
    assert refusal
    assert refusal.record is None
    assert list(refusal.shards) == [0]


@pytest.mark.G1
@pytest.mark.G2
@pytest.mark.G4
def test_whole_sale(world: World) -> None:
    world.open_sale(stock=20, shards=4)
    service = world.purchase_service()
    outcomes = [
        service.buy(service.order(ITEM, 1 + n % 3, None, f"key-of-sixteen-{n % 9}"))
        for n in range(30)
    ]
    sold = {
        outcome.purchase.purchase_id: outcome.purchase.quantity
        for outcome in outcomes
        if isinstance(outcome, Bought)
    }
    world.assert_exact(sold=sum(sold.values()))
    assert world.audit().problems == []
    assert not any(isinstance(outcome, KeyReused) for outcome in outcomes)
    assert len(sold) == 9
    assert isinstance(service.buy(service.order(ITEM, 10, None, None)), SoldOut)
