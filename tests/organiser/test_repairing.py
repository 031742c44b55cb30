"""Half-broken tables: each damage is named, and repaired or reported, also while buyers buy."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.support import ITEM, TABLE, World, lost_reply, raises, service_error
from ticketing.errors import Busy, InvalidRequest, NotFound, Reason
from ticketing.limits import HOLD_SECONDS_MIN, PROBLEMS_MAX, REPAIR_COUNTS_MAX, SUMMARIES
from ticketing.model import Bought, Held, LimitReached, Purchase, SaleSettings, Shard, SoldOut
from ticketing.store.items import SHARD, buyer_key, purchase_key, shard_key

BUYER = "buyer-42"
SECONDS = HOLD_SECONDS_MIN


@pytest.fixture
def hall(world: World) -> World:
    """Return a sale of 40 tickets in 4 shards: 12 sold, 4 held."""
    world.open_sale(stock=40, shards=4, hold_seconds=SECONDS, limit=20)
    for number in range(6):
        buy(world, quantity=2, buyer=f"buyer-{number}")
    for _ in range(2):
        hold(world, quantity=2)
    assert world.audit().problems == []
    world.client.calls.clear()
    return world


def buy(world: World, quantity: int = 1, buyer: str | None = BUYER) -> Purchase:
    service = world.purchase_service()
    outcome = service.buy(service.order(ITEM, quantity, buyer, None))
    assert isinstance(outcome, Bought), outcome
    return outcome.purchase


def hold(world: World, quantity: int = 1) -> Purchase:
    service = world.purchase_service()
    outcome = service.buy(service.order(ITEM, quantity, BUYER, None, is_hold=True))
    assert isinstance(outcome, Held)
    return outcome.hold


def shard(world: World, index: int) -> Shard:
    item = world.client.get_item(TableName=TABLE, Key=shard_key(ITEM, index), ConsistentRead=True)[
        "Item"
    ]
    return SHARD.to_record(item)


def with_sold(world: World) -> int:
    """Return a shard that has sold tickets."""
    return next(index for index in range(4) if shard(world, index).sold)


def with_held(world: World) -> int:
    """Return a shard that has held tickets."""
    return next(index for index in range(4) if shard(world, index).held)


def pk_of(index: int) -> str:
    pk: str = shard_key(ITEM, index)["pk"]["S"]
    return pk


def capacity(world: World) -> int:
    return world.catalogue.inventory(ITEM).sale.capacity


def tables(world: World) -> list[Mapping[str, Any]]:
    items = world.client.scan(TableName=TABLE, ConsistentRead=True)["Items"]
    return sorted(items, key=lambda item: str(item["pk"]["S"]))


def is_mended(world: World, *, capacity_left: int = 40) -> None:
    """The audit agrees, all that was sold is, and a second repair writes nothing."""
    assert world.audit().problems == []
    assert capacity(world) == capacity_left
    before = tables(world)
    again = world.repair()
    assert (again.repaired, again.problems) == ([], [])
    assert tables(world) == before


class TestCounters:
    @pytest.mark.G4
    def test_record_without_counter(self, hall: World) -> None:
        """The shard lacks two tickets that are sold: they would be sold again."""
        index = with_sold(hall)
        found = shard(hall, index)
        hall.tamper(pk_of(index), sold=found.sold - 2, stock=found.stock + 2)
        (problem,) = hall.audit().problems
        assert problem.startswith(f"Shard {index}: its records hold {found.sold} tickets")
        done = hall.repair()
        assert done.problems == []
        change = f"stock {found.stock + 2} → {found.stock}, sold {found.sold - 2} → {found.sold}"
        assert done.repaired == [f"Shard {index}: {change}."]
        is_mended(hall)

    @pytest.mark.G4
    def test_counter_without_record(self, hall: World) -> None:
        """It may be a purchase whose record was lost, so it is not sold again by itself."""
        purchase = next(each for each in hall.records() if each.is_purchase)
        hall.lose(f"purchase#{purchase.purchase_id}")
        (index,) = purchase.taken
        before = shard(hall, index)
        buyer = f"Buyer {purchase.buyer_id}, generation 1: purchase {purchase.purchase_id} counts"
        assert hall.audit().problems[0].startswith(buyer)
        done = hall.repair()
        assert done.repaired == []
        assert f"{buyer} 2 tickets, and has no record." in done.problems
        assert any(f"Shard {index}: 2 sold tickets have no record." in p for p in done.problems)
        assert shard(hall, index) == before
        dropped = hall.repair(drop=True)
        assert dropped.problems == []
        assert (shard(hall, index).stock, capacity(hall)) == (before.stock, 38)
        is_mended(hall, capacity_left=38)
        hall.organiser.put(ITEM, SaleSettings(capacity=40))  # the organiser knows that it is free
        is_mended(hall)

    @pytest.mark.G4
    def test_ticket_in_wrong_shard(self, hall: World) -> None:
        index = with_sold(hall)
        other = (index + 1) % 4
        one, two = shard(hall, index), shard(hall, other)
        hall.tamper(pk_of(index), sold=one.sold - 1, stock=one.stock + 1)
        hall.tamper(pk_of(other), sold=two.sold + 1, stock=two.stock - 1)
        assert len(hall.audit().problems) == 2
        assert len(hall.repair().repaired) == 2
        assert (shard(hall, index).sold, shard(hall, other).sold) == (one.sold, two.sold)
        is_mended(hall)

    @pytest.mark.G1
    def test_wrong_shard_is_empty(self, world: World) -> None:
        """It lacks a ticket that it has no room for: it gets a free one of another shard."""
        world.open_sale(stock=4, shards=2)
        for _ in range(3):
            buy(world, buyer=None)
        full = next(index for index in range(2) if shard(world, index).stock == 0)
        other = 1 - full
        world.tamper(pk_of(full), sold=1, capacity=1)
        world.tamper(pk_of(other), stock=2, capacity=3)
        assert world.repair().problems == []
        assert (shard(world, full).sold, shard(world, other).stock) == (2, 1)
        is_mended(world, capacity_left=4)

    @pytest.mark.G1
    @pytest.mark.parametrize(
        "damage",
        [
            {"stock": 99},
            {"stock": 0},
            {"stock": -3},
            {"held": 7},
            {"sold": 0},
            {"capacity": 8},
            {"stock": 0, "sold": 0, "held": 0},
        ],
        ids=str,
    )
    def test_counter_is_wrong(self, hall: World, damage: dict[str, int]) -> None:
        before = shard(hall, with_sold(hall))
        hall.tamper(pk_of(before.index), **damage)
        assert hall.audit().problems
        assert hall.repair().problems == []
        after = shard(hall, before.index)
        assert (after.stock, after.held, after.sold) == (before.stock, before.held, before.sold)
        is_mended(hall)

    @pytest.mark.G1
    def test_more_sold_than_there_is(self, world: World) -> None:
        """Nothing is changed before the organiser raises the capacity."""
        world.open_sale(stock=2, shards=1)
        for _ in range(2):
            buy(world, buyer=None)
        world.tamper("item#1", capacity=1)
        world.tamper(pk_of(0), capacity=1, sold=1)
        before = tables(world)
        done = world.repair()
        assert done.problems[-1].startswith("1 more tickets are sold and held than there are.")
        assert tables(world) == before
        world.organiser.put(ITEM, SaleSettings(capacity=2))
        assert world.repair().problems == []
        is_mended(world, capacity_left=2)

    @pytest.mark.G1
    @pytest.mark.parametrize("said", [43, 37])
    def test_capacity_of_sale(self, hall: World, said: int) -> None:
        """Which of the two is wrong is not known. Fewer tickets are on sale, if the caller says."""
        hall.tamper("item#1", capacity=said)
        done = hall.repair()
        assert f"The shards have a capacity of 40, the sale of {said}." in done.problems
        assert capacity(hall) == said
        assert hall.repair(drop=True).problems == []
        is_mended(hall, capacity_left=min(40, said))

    @pytest.mark.G4
    def test_earlier_generations(self, hall: World) -> None:
        index = with_sold(hall)
        sold = shard(hall, index).sold
        hall.open_sale(stock=40, shards=4)
        hall.tamper(pk_of(index), sold_before=0)
        assert hall.repair().problems == []
        assert shard(hall, index).sold_before == sold
        hall.tamper(pk_of(index), sold_before=sold + 1)
        assert "1 tickets sold in earlier generations" in hall.repair().problems[-1]
        assert hall.repair(drop=True).problems == []
        is_mended(hall)


class TestHolds:
    @pytest.mark.G4
    def test_slot_is_gone(self, hall: World) -> None:
        index = with_held(hall)
        found = shard(hall, index)
        hall.client.update_item(
            TableName=TABLE,
            Key=shard_key(ITEM, index),
            UpdateExpression="SET slots = :none, held = :zero, stock = stock + :held",
            ExpressionAttributeValues={
                ":none": {"M": {}},
                ":zero": {"N": "0"},
                ":held": {"N": str(found.held)},
            },
        )
        (slot,) = found.slots
        problems = hall.audit().problems
        assert f"its tickets are not in slot {slot} of shard {index}." in problems[0]
        done = hall.repair()
        assert len(done.repaired) == 1
        held = [each for each in hall.records() if each.status == "held"]
        is_mended(hall)
        for each in held:
            outcome = hall.services().holds.confirm(each.purchase_id, None)
            assert isinstance(outcome, Bought)

    @pytest.mark.G2
    def test_tickets_without_hold(self, hall: World) -> None:
        """They are free again by themselves."""
        index = with_held(hall)
        record = next(each for each in hall.records() if index in each.taken and each.is_hold)
        hall.lose(f"purchase#{record.purchase_id}")
        done = hall.repair()
        assert any("held tickets have no record." in each for each in done.problems)
        hall.clock.now += SECONDS + 3
        assert hall.audit().problems == []
        assert (
            sum(each.free(hall.clock.now) for each in hall.catalogue.inventory(ITEM).shards) == 28
        )

    @pytest.mark.G2
    def test_tickets_without_hold_dropped(self, hall: World) -> None:
        index = with_held(hall)
        hall.tamper(pk_of(index), stock=shard(hall, index).stock - 3)
        found = shard(hall, index)
        hall.client.update_item(
            TableName=TABLE,
            Key=shard_key(ITEM, index),
            UpdateExpression="SET slots.#slot = :more, held = :held",
            ExpressionAttributeNames={"#slot": str(int(hall.clock.now) + 9999)},
            ExpressionAttributeValues={
                ":more": {"N": "3"},
                ":held": {"N": str(found.held + 3)},
            },
        )
        assert "3 held tickets have no record." in hall.repair().problems[-1]
        assert hall.repair(drop=True).problems == []
        is_mended(hall, capacity_left=37)


class TestLostShard:
    @pytest.mark.G1
    def test_is_not_opened_full(self, hall: World) -> None:
        """What is on record comes back. The rest leaves the capacity, if the caller says so."""
        index = with_sold(hall)
        before = shard(hall, index)
        hall.lose(pk_of(index))
        audit = hall.audit()
        assert f"Shard {index}: it is missing." in audit.problems
        done = hall.repair()
        assert (done.repaired, hall.audit().problems) == ([], audit.problems)
        assert f"Missing shards ({index}): {before.stock} tickets have no record." in str(done)
        assert hall.repair(drop=True).problems == []
        after = shard(hall, index)
        assert (after.stock, after.held, after.sold) == (0, before.held, before.sold)
        assert after.reclaimed_until == int(hall.clock.now), "no hold comes back that may be over"
        is_mended(hall, capacity_left=40 - before.stock)
        hall.organiser.put(ITEM, SaleSettings(capacity=40))
        is_mended(hall)

    @pytest.mark.G1
    def test_all_on_record(self, world: World) -> None:
        world.open_sale(stock=4, shards=2, hold_seconds=SECONDS)
        for _ in range(3):
            buy(world, buyer=None)
        held = hold(world)
        for index in range(2):
            world.lose(pk_of(index))
        assert world.repair().problems == []
        is_mended(world, capacity_left=4)
        assert isinstance(world.services().holds.confirm(held.purchase_id, None), Bought)
        world.assert_exact(sold=4)

    def test_earlier_generation_is_back(self, hall: World) -> None:
        """A restored shard is older than the sale."""
        index = with_sold(hall)
        old = hall.client.get_item(
            TableName=TABLE, Key=shard_key(ITEM, index), ConsistentRead=True
        )["Item"]
        hall.open_sale(stock=40, shards=4)
        hall.client.put_item(TableName=TABLE, Item=old)
        assert hall.repair(drop=True).problems == []
        is_mended(hall, capacity_left=30)


class TestBuyers:
    @pytest.mark.G4
    def test_buyer_is_lost(self, hall: World) -> None:
        """They could buy more than the limit."""
        hall.lose(buyer_key(ITEM, 1, BUYER)["pk"]["S"])
        assert len(hall.audit().problems) == 2
        assert len(hall.repair().repaired) == 2
        is_mended(hall)

    @pytest.mark.G4
    @pytest.mark.parametrize("tickets", [1, 9])
    def test_wrong_number(self, hall: World, tickets: int) -> None:
        purchase = next(each for each in hall.records() if each.is_purchase)
        hall.client.update_item(
            TableName=TABLE,
            Key=buyer_key(ITEM, 1, str(purchase.buyer_id)),
            UpdateExpression="SET purchases.#id = :one",
            ExpressionAttributeNames={"#id": purchase.purchase_id},
            ExpressionAttributeValues={":one": {"L": [{"N": str(tickets)}]}},
        )
        (problem,) = hall.audit().problems
        assert problem.endswith(
            f"purchase {purchase.purchase_id} counts {tickets} tickets, and has 2."
        )
        assert hall.repair().repaired == [problem]
        is_mended(hall)

    @pytest.mark.G4
    def test_purchase_of_another(self, hall: World) -> None:
        one, two = [each for each in hall.records() if each.is_purchase][:2]
        hall.client.update_item(
            TableName=TABLE,
            Key=buyer_key(ITEM, 1, str(one.buyer_id)),
            UpdateExpression="SET purchases.#id = :one",
            ExpressionAttributeNames={"#id": two.purchase_id},
            ExpressionAttributeValues={":one": {"L": [{"N": "2"}]}},
        )
        assert len(hall.repair().repaired) == 1
        is_mended(hall)

    def test_lost_purchase_blocks_buyer(self, world: World) -> None:
        """It counts until the organiser says that it was none."""
        world.open_sale(stock=10, shards=1, limit=2)
        purchase = buy(world, quantity=2)
        world.lose(f"purchase#{purchase.purchase_id}")
        world.repair()
        service = world.purchase_service()
        assert isinstance(service.buy(service.order(ITEM, 1, BUYER, None)), LimitReached)
        world.repair(drop=True)
        buy(world, quantity=2)
        is_mended(world, capacity_left=8)

    @pytest.mark.G3
    def test_payment_is_lost(self, hall: World) -> None:
        """It could pay for another hold."""
        held = next(each for each in hall.records() if each.is_hold)
        hall.services().holds.confirm(held.purchase_id, "payment-1")
        hall.lose("payment#payment-1")
        problem = f"Purchase {held.purchase_id}: its payment has no record."
        assert hall.audit().problems == [problem]
        assert hall.repair().repaired == [problem]
        is_mended(hall)

    @pytest.mark.G3
    def test_payment_of_another(self, hall: World) -> None:
        one, two = [each.purchase_id for each in hall.records() if each.is_hold]
        hall.services().holds.confirm(one, "payment-1")
        hall.client.update_item(
            TableName=TABLE,
            Key={"pk": {"S": "payment#payment-1"}},
            UpdateExpression="SET purchase_id = :two",
            ExpressionAttributeValues={":two": {"S": two}},
        )
        assert hall.repair().problems == [f"Purchase {one}: its payment has paid for {two}."]


class TestUnreadable:
    @pytest.mark.G2
    def test_summary(self, world: World) -> None:
        """Buyers are answered as before, and the next process takes over what a repair puts."""
        world.open_sale(stock=2, shards=2)
        for _ in range(2):
            buy(world, buyer=None)
        service = world.purchase_service()
        assert service.buy(service.order(ITEM, 1, None, None)) == SoldOut(left=0)
        for part in range(SUMMARIES):
            pk = f"item#1#summary#{part}"
            world.client.put_item(TableName=TABLE, Item={"pk": {"S": pk}, "revision": {"S": "x"}})
        service = world.purchase_service()
        assert service.buy(service.order(ITEM, 1, None, None)) == SoldOut(left=0)
        problems = [f"Record item#1#summary#{n}: attribute item_id is missing." for n in (0, 1)]
        assert sorted(world.audit().problems) == problems
        assert sorted(world.repair().repaired) == problems
        is_mended(world, capacity_left=2)
        for _ in range(2):
            service = world.purchase_service()
            assert service.buy(service.order(ITEM, 1, None, None)) == SoldOut(left=0)
        world.organiser.put(ITEM, SaleSettings(capacity=3))
        world.clock.now += 2
        buy(world, buyer=None)

    def test_time(self, hall: World) -> None:
        purchase = next(each for each in hall.records() if each.is_purchase)
        hall.client.update_item(
            TableName=TABLE,
            Key=purchase_key(purchase.purchase_id),
            UpdateExpression="SET created_at = :text",
            ExpressionAttributeValues={":text": {"S": "yesterday"}},
        )
        problem = f"Purchase {purchase.purchase_id}: one of its times is not a timestamp."
        assert hall.audit().problems == [problem]
        assert hall.repair().problems == [problem]

    def test_record(self, hall: World) -> None:
        """What it has taken is not known, so no shard is changed."""
        purchase = next(each for each in hall.records() if each.is_purchase)
        hall.client.update_item(
            TableName=TABLE,
            Key=purchase_key(purchase.purchase_id),
            UpdateExpression="REMOVE taken",
        )
        before = tables(hall)
        done = hall.repair(drop=True)
        assert any("attribute taken is missing" in each for each in done.problems)
        assert "Shards are repaired when all records can be read." in done.problems
        assert tables(hall) == before

    def test_shard(self, hall: World) -> None:
        hall.client.update_item(
            TableName=TABLE, Key=shard_key(ITEM, 0), UpdateExpression="REMOVE stock"
        )
        before = tables(hall)
        done = hall.repair(drop=True)
        assert f"Record {pk_of(0)}: attribute stock is missing." in done.problems
        assert not any("it is missing" in each for each in done.problems)
        assert tables(hall) == before

    def test_wrong_quantity(self, hall: World) -> None:
        """Which of the two is right is not known."""
        purchase = next(each for each in hall.records() if each.is_purchase)
        hall.tamper(f"purchase#{purchase.purchase_id}", quantity=7)
        before = tables(hall)
        done = hall.repair(drop=True)
        assert any("it has 7 tickets, and 2 from stock." in each for each in done.problems)
        assert tables(hall) == before

    def test_shards_not_open(self, world: World) -> None:
        world.open_sale(stock=4, shards=2)
        world.client.before("update_item", raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.reset(stock=8, shard_count=2)
        assert world.repair().problems == []
        buy(world, buyer=None)
        index = next(i for i in range(2) if shard(world, i).generation == 2)
        world.tamper(pk_of(index), stock=9)
        assert "Not all shards are open." in world.repair().problems[-1]
        world.organiser.put(ITEM, SaleSettings())
        assert world.repair().problems == []
        world.assert_exact(sold=1)


class TestRepairs:
    def broken(self, world: World) -> Shard:
        """Damage two shards, and return one as it should be."""
        index = with_sold(world)
        before = shard(world, index)
        world.tamper(pk_of(index), stock=before.stock + 5)
        world.tamper(pk_of((index + 1) % 4), stock=99)
        return before

    def test_dry_run(self, hall: World) -> None:
        self.broken(hall)
        before = tables(hall)
        would = hall.services().repairs.repair(ITEM, apply=False)
        assert tables(hall) == before
        done = hall.repair()
        assert (would.is_applied, done.is_applied) == (False, True)
        assert (would.repaired, would.problems) == (done.repaired, done.problems)
        is_mended(hall)

    @pytest.mark.G5
    @pytest.mark.parametrize("call", ["transact_write_items", "put_item"])
    def test_lost_reply(self, hall: World, call: str) -> None:
        held = next(each for each in hall.records() if each.is_hold)
        hall.services().holds.confirm(held.purchase_id, "payment-1")
        self.broken(hall)
        hall.lose(buyer_key(ITEM, 1, BUYER)["pk"]["S"])
        hall.lose("payment#payment-1")
        hall.client.after(call, *[raises(lost_reply())] * 2)
        done = hall.repair()
        assert len(done.repaired) == 2 + 2 + 1, "two shards, two purchases of a buyer, a payment"
        assert hall.repair().repaired == []
        is_mended(hall)

    @pytest.mark.G5
    def test_no_reply_at_all(self, hall: World) -> None:
        self.broken(hall)
        hall.client.before("transact_write_items", *[raises(lost_reply())] * 200)
        with pytest.raises(Busy) as caught:
            hall.repair()
        assert caught.value.reason is Reason.IN_DOUBT
        assert "it changes nothing twice" in caught.value.remedy
        hall.client.heal()
        hall.repair()
        is_mended(hall)

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("call", ["put_item", "transact_write_items"])
    def test_killed_half_way(self, hall: World, call: str, when: str) -> None:
        """Each write leaves a table that the next repair goes on with."""
        self.broken(hall)
        hall.lose(buyer_key(ITEM, 1, BUYER)["pk"]["S"])
        getattr(hall.client, when)(call, raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            hall.repair()
        assert hall.repair().problems == []
        is_mended(hall)

    @pytest.mark.G2
    def test_purchase_meanwhile(self, hall: World) -> None:
        """The shard has changed since it was counted, so it is counted again."""
        before = self.broken(hall)
        others = [each.index for each in hall.catalogue.inventory(ITEM).shards]
        assert before.index in others
        hall.client.before("transact_write_items", lambda: buy(hall))
        assert hall.repair().problems == []
        is_mended(hall)

    @pytest.mark.G6
    def test_changes_without_end(self, hall: World) -> None:
        self.broken(hall)
        index = with_sold(hall)

        def change() -> None:
            hall.clock.now += 0.01
            hall.client._client.update_item(
                TableName=TABLE,
                Key=shard_key(ITEM, index),
                UpdateExpression="SET updated_at = :now",
                ExpressionAttributeValues={":now": {"S": str(hall.clock.now)}},
            )

        hall.client.before("scan", *[change] * 2 * REPAIR_COUNTS_MAX)
        done = hall.repair()
        assert hall.client.count("scan") == REPAIR_COUNTS_MAX
        assert "Shards changed while they were counted." in done.problems[-1]
        hall.client.heal()
        hall.repair()
        is_mended(hall)

    @pytest.mark.G4
    def test_other_shard_changes(self, hall: World) -> None:
        """What one shard lacks may be what the changing one has too many: both wait for calm."""
        index = with_sold(hall)
        other = (index + 1) % 4
        one, two = shard(hall, index), shard(hall, other)
        hall.tamper(pk_of(index), sold=one.sold - 1, stock=one.stock + 1)
        hall.tamper(pk_of(other), sold=two.sold + 1, stock=two.stock - 1)
        third = (index + 2) % 4
        hall.tamper(pk_of(third), stock=shard(hall, third).stock - 1)

        def change() -> None:
            hall.clock.now += 0.01
            hall.client._client.update_item(
                TableName=TABLE,
                Key=shard_key(ITEM, other),
                UpdateExpression="SET updated_at = :now",
                ExpressionAttributeValues={":now": {"S": str(hall.clock.now)}},
            )

        hall.client.before("scan", *[change] * REPAIR_COUNTS_MAX)
        done = hall.repair()
        assert [each.partition(":")[0] for each in done.repaired] == [f"Shard {third}"]
        assert len(done.problems) == 3
        assert "Shards changed while they were counted." in done.problems[-1]
        assert len(hall.repair().repaired) == 2
        is_mended(hall)

    def test_contention(self, hall: World) -> None:
        self.broken(hall)
        hall.client.before(
            "transact_write_items", raises(service_error("TransactionConflictException"))
        )
        assert hall.repair().problems == []
        is_mended(hall)

    def test_reset_meanwhile(self, hall: World) -> None:
        self.broken(hall)
        hall.client.before("scan", lambda: hall.open_sale(stock=40, shards=4))
        done = hall.repair()
        assert (done.repaired, "was reset" in done.problems[-1]) == ([], True)
        is_mended(hall)

    def test_many_records(self, hall: World) -> None:
        """In pages, over several requests; the last one repairs the shards."""
        self.broken(hall)
        hall.client.replace("scan", one_slow_page(hall))
        results = [hall.repair()]
        while results[-1].cursor:
            results.append(hall.repair(results[-1].cursor))
        assert len(results) > 2
        assert [len(result.repaired) for result in results[:-1]] == [0] * (len(results) - 1)
        assert len(results[-1].repaired) == 2
        hall.client.replace("scan", lambda scan, **request: scan(**request))
        is_mended(hall)

    def test_cursor_of_audit(self, hall: World) -> None:
        hall.client.replace("scan", one_slow_page(hall))
        cursor = hall.audit().cursor
        assert cursor
        with pytest.raises(InvalidRequest, match="do not share cursors"):
            hall.repair(cursor)

    def test_unknown_item(self, world: World) -> None:
        with pytest.raises(NotFound):
            world.repair()

    def test_many_buyers(self, world: World) -> None:
        """Only the first ones are named."""
        world.open_sale(stock=100, shards=1, limit=1)
        for number in range(PROBLEMS_MAX + 3):
            buy(world, buyer=f"buyer-{number}")
            world.lose(buyer_key(ITEM, 1, f"buyer-{number}")["pk"]["S"])
        done = world.repair()
        assert len(done.repaired) == PROBLEMS_MAX + 1
        assert done.repaired[-1] == "There are 3 more such records."
        is_mended(world, capacity_left=100)


def one_slow_page(world: World) -> Callable[..., Any]:
    """Return a scan of one record of which a request can make only some."""

    def scan(scan: Any, **request: Any) -> Any:
        world.clock.sleep(4)
        return scan(**request | {"Limit": 2})

    return scan
