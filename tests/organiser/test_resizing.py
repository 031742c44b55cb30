"""Capacity and shards change while the sale sells, and every ticket is counted at every step."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import ITEM, TABLE, World, cancelled, lost_reply, raises
from ticketing.errors import (
    Busy,
    CapacityTooLow,
    InvalidRequest,
    ItemInUse,
    NotFound,
    Reason,
)
from ticketing.limits import CACHE_SECONDS, SHARDS_MAX
from ticketing.model import (
    Bought,
    Held,
    HoldProblem,
    Refunded,
    Resize,
    SaleChange,
    SaleSettings,
    SoldOut,
)
from ticketing.moves import Status
from ticketing.rules import resize_steps, spread_steps

KEY = "organiser-0123456789"
CONFLICT = ("TransactionConflict", "None")


@pytest.fixture
def hall(world: World) -> World:
    """100 tickets in 4 shards: 90 sold, 5 held, 5 free."""
    world.reset(100, 4, hold_seconds=600)
    buy(world, *[10] * 9)
    service = world.purchase_service()
    outcome = service.buy(service.order(ITEM, 5, None, None, is_hold=True))
    assert isinstance(outcome, Held)
    return world


def buy(world: World, *quantities: int) -> list[Any]:
    service = world.purchase_service()
    return [service.buy(service.order(ITEM, each, None, None)) for each in quantities]


def resize(world: World, capacity: int, key: str | None = None) -> SaleChange:
    return world.services().organiser.put(ITEM, SaleSettings(capacity=capacity), key=key)


def widen(world: World, shards: int) -> SaleChange:
    return world.services().organiser.put(ITEM, SaleSettings(shard_count=shards))


def assert_agrees(world: World, *, capacity: int, free: int) -> None:
    """The audit agrees, and everyone sees these tickets."""
    audit = world.audit()
    assert (audit.problems, audit.sale.capacity, audit.stock) == ([], capacity, free)
    inventory = world.services().catalogue.inventory(ITEM)
    assert (inventory.capacity, inventory.free) == (capacity, free)
    assert (inventory.sale.resize, inventory.sale.is_spreading) == (None, False)


def stocks(world: World) -> list[int]:
    return [shard.stock for shard in world.catalogue.inventory(ITEM).shards]


class TestHall:
    @pytest.mark.G1
    @pytest.mark.parametrize("capacity", [60, 94])
    def test_too_low(self, hall: World, capacity: int) -> None:
        before = hall.store.read_sale(ITEM)
        for _ in range(2):
            with pytest.raises(CapacityTooLow) as caught:
                resize(hall, capacity, KEY)
            assert caught.value.lowest == 95
        assert hall.store.read_sale(ITEM) == before
        assert_agrees(hall, capacity=100, free=5)

    @pytest.mark.G1
    def test_too_low_with_lost_reply(self, hall: World) -> None:
        for call in ("batch_get_item", "transact_get_items", "get_item"):
            hall.client.before(call, raises(lost_reply()))
        with pytest.raises(CapacityTooLow):
            resize(hall, 94)
        assert_agrees(hall, capacity=100, free=5)

    @pytest.mark.G1
    @pytest.mark.parametrize("key", [KEY, None])
    def test_lowest(self, hall: World, key: str | None) -> None:
        for _ in range(2):
            assert resize(hall, 95, key).inventory.free == 0
            assert buy(hall, 1) == [SoldOut(0, next_release_at=1_800_000_601)]
            assert_agrees(hall, capacity=95, free=0)

    @pytest.mark.G2
    def test_seen_within_a_second(self, hall: World) -> None:
        """Buyers who were told "sold out", by their process, get new tickets a second later."""
        resize(hall, 95)
        services = [hall.purchase_service() for _ in range(3)]
        for service in services:
            assert isinstance(service.buy(service.order(ITEM, 1, None, None)), SoldOut)
        resize(hall, 200)
        hall.clock.now += CACHE_SECONDS
        for service in services:
            assert isinstance(service.buy(service.order(ITEM, 5, None, None)), Bought)
        assert_agrees(hall, capacity=200, free=90)

    @pytest.mark.G3
    @pytest.mark.parametrize("capacity", [97, 200])
    @pytest.mark.parametrize(
        ("call", "number", "carried_out"),
        [
            ("put_item", 0, True),
            ("put_item", 0, False),
            ("put_item", 1, True),
            ("transact_write_items", 0, True),
            ("batch_get_item", 1, True),
        ],
    )
    def test_lost_reply(
        self, hall: World, capacity: int, call: str, number: int, *, carried_out: bool
    ) -> None:
        """Whichever reply is lost, the capacity is reached, once."""
        faults: list[Callable[[], object]] = [lambda: None] * number + [raises(lost_reply())]
        (hall.client.after if carried_out else hall.client.before)(call, *faults)
        done = resize(hall, capacity, KEY)
        hall.client.heal()
        assert (done.sale.capacity, done.replayed) == (capacity, False)
        assert resize(hall, capacity, KEY).replayed
        assert_agrees(hall, capacity=capacity, free=capacity - 95)

    @pytest.mark.parametrize(
        ("call", "number"),
        [
            ("put_item", 0),
            ("put_item", 1),
            ("transact_write_items", 0),
            ("transact_write_items", 1),
        ],
    )
    @pytest.mark.parametrize(
        ("capacity", "finish"),
        [
            (200, resize),
            (95, lambda world, _: world.organiser.pause(ITEM)),
            (200, lambda world, _: widen(world, 4)),
        ],
    )
    def test_dies_half_way(
        self,
        hall: World,
        capacity: int,
        call: str,
        number: int,
        finish: Callable[[World, int], SaleChange],
    ) -> None:
        """The audit agrees in between, and the next call finishes it."""
        hall.client.after(call, *[lambda: None] * number, raises(KeyboardInterrupt()))
        try:
            resize(hall, capacity)
        except KeyboardInterrupt:
            sale = hall.store.read_sale(ITEM)
            assert sale is not None
            half_way = sale.capacity
            assert half_way in range(min(100, capacity), max(100, capacity) + 1)
            assert hall.audit().problems == []
            assert hall.audit().sale.capacity == half_way
        hall.client.heal()
        finish(hall, capacity)
        assert_agrees(hall, capacity=capacity, free=capacity - 95)

    @pytest.mark.G1
    def test_sold_meanwhile(self, hall: World) -> None:
        """Where too few tickets are free half-way, those that were taken are put back."""
        hall.reset(20, 4)
        hall.client.before("transact_write_items", lambda: None, lambda: buy(hall, 3))
        with pytest.raises(CapacityTooLow) as caught:
            resize(hall, 0, KEY)
        assert caught.value.lowest == 3
        assert_agrees(hall, capacity=20, free=17)
        assert resize(hall, 3, KEY).sale.capacity == 3
        hall.assert_exact(sold=3)

    def test_put_back_by_another(self, hall: World) -> None:
        """The process that lowers it dies, and the next one finds too few tickets."""
        hall.client.after("put_item", raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            resize(hall, 95)
        sale = hall.store.read_sale(ITEM)
        assert sale is not None
        assert sale.resize == Resize(95, before=100)
        buy(hall, 4)
        assert hall.organiser.pause(ITEM).sale.is_paused
        hall.organiser.resume(ITEM)
        assert_agrees(hall, capacity=100, free=1)

    def test_two_organisers(self, hall: World) -> None:
        """Both changes are carried out, one after the other."""
        hall.client.before("transact_write_items", lambda: resize(hall, 300))
        assert resize(hall, 200).sale.capacity == 200
        assert_agrees(hall, capacity=200, free=105)

    @pytest.mark.G5
    def test_lowered_meanwhile(self, hall: World) -> None:
        """A refusal counts the tickets that are taken, also where the capacity became another."""
        hall.client.before("batch_get_item", lambda: resize(hall, 97))
        assert resize(hall, 96).sale.capacity == 96
        hall.client.before("batch_get_item", lambda: resize(hall, 98))
        with pytest.raises(CapacityTooLow) as caught:
            resize(hall, 94)
        assert caught.value.lowest == 95
        assert_agrees(hall, capacity=98, free=3)

    def test_paused_meanwhile(self, hall: World) -> None:
        hall.client.before("transact_write_items", lambda: hall.organiser.pause(ITEM))
        sale = resize(hall, 200).sale
        assert (sale.capacity, sale.is_paused) == (200, True)

    def test_reset_meanwhile(self, hall: World) -> None:
        """The new generation gets the capacity that was asked for."""
        hall.client.before("transact_write_items", lambda: hall.reset(50, 2))
        sale = resize(hall, 200).sale
        assert (sale.capacity, sale.generation) == (200, 2)
        assert_agrees(hall, capacity=200, free=200)

    def test_reset_drops_it(self, hall: World) -> None:
        """A reset without a stock begins with the capacity before an unfinished change."""
        hall.client.after("put_item", raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            resize(hall, 200)
        hall.reset()
        assert_agrees(hall, capacity=100, free=100)

    @pytest.mark.parametrize("call", ["batch_get_item", "scan"])
    def test_audited_meanwhile(self, hall: World, call: str) -> None:
        """Sale and shards that are not of one instant are no damage."""
        hall.client.before(call, lambda: resize(hall, 200))
        assert hall.audit().problems == []
        hall.client.before(call, lambda: resize(hall, 96))
        assert hall.audit().problems == []

    def test_expired_holds_are_free(self, hall: World) -> None:
        hall.clock.now += 700
        with pytest.raises(CapacityTooLow) as caught:
            resize(hall, 89)
        assert caught.value.lowest == 90
        resize(hall, 90)
        assert_agrees(hall, capacity=90, free=0)

    def test_conflicts(self, hall: World) -> None:
        """A shard in another transaction is left out, and gets its tickets later."""
        hall.client.before("transact_write_items", *[raises(cancelled(*CONFLICT))] * 6)
        assert resize(hall, 200).sale.capacity == 200
        assert_agrees(hall, capacity=200, free=105)

    @pytest.mark.G5
    def test_out_of_time(self, hall: World) -> None:
        hall.client.before("transact_write_items", *[raises(cancelled(*CONFLICT))] * 5000)
        with pytest.raises(Busy) as caught:
            resize(hall, 200)
        assert caught.value.reason is Reason.IN_DOUBT
        hall.client.heal()
        resize(hall, 200)
        assert_agrees(hall, capacity=200, free=105)

    @pytest.mark.G5
    def test_refusal_is_definite(self, hall: World) -> None:
        """An attempt in doubt cannot lower the capacity after the refusal."""
        late: list[Any] = []

        def lose(put: Any, **request: Any) -> Any:
            if not late:
                late.append(request)
                buy(hall, 3)
                raise lost_reply()
            return put(**request)

        hall.client.replace("put_item", lose)
        with pytest.raises(CapacityTooLow):
            resize(hall, 96)
        with pytest.raises(hall.client.exceptions.ConditionalCheckFailedException):
            hall.client.put_item(**late[0])
        assert_agrees(hall, capacity=100, free=2)

    def test_everything_at_once(self, hall: World) -> None:
        settings = SaleSettings(200, "Gala", 8, 60)
        sale = hall.organiser.put(ITEM, settings).sale
        found = (sale.capacity, sale.item_name, sale.shard_count, sale.hold_seconds)
        assert found == (200, "Gala", 8, 60)
        assert_agrees(hall, capacity=200, free=105)
        assert max(stocks(hall)) - min(stocks(hall)) <= 7

    def test_refused_changes_nothing_else(self, hall: World) -> None:
        before = hall.store.read_sale(ITEM)
        with pytest.raises(CapacityTooLow):
            hall.organiser.put(ITEM, SaleSettings(50, "Gala", 8))
        with pytest.raises(InvalidRequest):
            hall.organiser.put(ITEM, SaleSettings(200, "Gala", 2))
        assert hall.store.read_sale(ITEM) == before


class TestMoreShards:
    @pytest.mark.G1
    @pytest.mark.parametrize("shards", [5, 24])
    def test_tickets_move_over(self, world: World, shards: int) -> None:
        world.reset(400, 4)
        buy(world, *[10] * 10)
        done = widen(world, shards)
        assert len(done.inventory.shards) == shards
        assert_agrees(world, capacity=400, free=300)
        assert min(stocks(world)) >= 300 // shards // 2
        revision = done.sale.revision
        assert widen(world, shards).sale.revision == revision, "a repeated call changes nothing"
        assert all(isinstance(outcome, Bought) for outcome in buy(world, *[10] * 30))
        assert isinstance(buy(world, 1)[0], SoldOut)
        world.assert_exact(sold=400)

    @pytest.mark.parametrize(
        ("call", "number"),
        [("put_item", 0), ("transact_write_items", 1), ("transact_write_items", 3)],
    )
    def test_dies_half_way(self, world: World, call: str, number: int) -> None:
        world.reset(100, 2)
        world.client.after(call, *[lambda: None] * number, raises(KeyboardInterrupt()))
        try:
            widen(world, 5)
        except KeyboardInterrupt:
            assert world.audit().problems == []
        world.client.heal()
        widen(world, 5)
        assert_agrees(world, capacity=100, free=100)
        assert min(stocks(world)) >= 10

    @pytest.mark.G2
    def test_known_to_all(self, world: World) -> None:
        """A process that knows of fewer shards does not refuse, and sells what is in the new."""
        world.reset(20, 1)
        old = world.purchase_service()
        old.buy(old.order(ITEM, 10, None, None))
        widen(world, 10)
        outcomes = [old.buy(old.order(ITEM, 1, None, None)) for _ in range(11)]
        assert [isinstance(each, Bought) for each in outcomes] == [True] * 10 + [False]
        world.assert_exact(sold=20)

    def test_published_to_all(self, world: World) -> None:
        """A process with fewer shards reads a summary of a process with more."""
        world.reset(20, 1)
        old, new = world.purchase_service(), world.purchase_service()
        old.buy(old.order(ITEM, 10, None, None))
        widen(world, 5)
        while isinstance(new.buy(new.order(ITEM, 1, None, None)), Bought):
            pass
        resize(world, 30)
        world.clock.now += CACHE_SECONDS
        assert isinstance(new.buy(new.order(ITEM, 3, None, None)), Bought)
        while isinstance(old.buy(old.order(ITEM, 1, None, None)), Bought):
            pass
        world.assert_exact(sold=30)

    def test_shards_of_larger_generations(self, world: World) -> None:
        """A reset had closed them; they are there already, and empty."""
        world.reset(100, 8)
        world.reset(100, 2)
        widen(world, 6)
        assert_agrees(world, capacity=100, free=100)
        widen(world, 10)
        assert_agrees(world, capacity=100, free=100)
        assert stocks(world) == [10] * 10

    def test_new_shards_hold(self, world: World) -> None:
        """They have all attributes that a hold needs."""
        world.reset(20, 1)
        widen(world, 10)
        service = world.purchase_service()
        for _ in range(20):
            assert isinstance(service.buy(service.order(ITEM, 1, None, None, is_hold=True)), Held)
        assert_agrees(world, capacity=20, free=0)
        world.clock.now += 700
        assert isinstance(buy(world, 10)[0], Bought)

    def test_most(self, world: World) -> None:
        """The new shards and the sale's record are one transaction, which AWS bounds."""
        world.reset(1000, 1)
        widen(world, SHARDS_MAX)
        assert_agrees(world, capacity=1000, free=1000)


class TestLostShard:
    """A shard that was deleted is damage. Its tickets may be sold, so it is never opened again."""

    @pytest.fixture
    def damaged(self, world: World) -> World:
        world.reset(8, 4)
        world.client.delete_item(TableName=TABLE, Key={"pk": {"S": "item#1#stock#02"}})
        return world

    @pytest.mark.G1
    @pytest.mark.parametrize("is_known", [True, False])
    def test_never_opened_again(self, world: World, *, is_known: bool) -> None:
        """Also not by a process that has read the sale's record before all shards were open."""
        world.reset(8, 4)
        service = world.purchase_service()
        service.buy(service.order(ITEM, 1, None, None))
        if not is_known:
            world.client.update_item(
                TableName=TABLE,
                Key={"pk": {"S": "item#1"}},
                UpdateExpression="REMOVE shards_opened",
            )
            service = world.purchase_service()
            service.buy(service.order(ITEM, 1, None, None))
            world.client.update_item(
                TableName=TABLE,
                Key={"pk": {"S": "item#1"}},
                UpdateExpression="SET shards_opened = :yes",
                ExpressionAttributeValues={":yes": {"BOOL": True}},
            )
        (left,) = [shard for shard in world.catalogue.inventory(ITEM).shards if shard.index == 2]
        world.client.delete_item(TableName=TABLE, Key={"pk": {"S": "item#1#stock#02"}})
        while isinstance(service.buy(service.order(ITEM, 1, None, None)), Bought):
            pass
        assert sum(record.quantity for record in world.records()) == 8 - left.stock
        stored, _ = world.store.read_stored_shards(world.catalogue.inventory(ITEM).sale)
        assert {shard.index for shard in stored} == {0, 1, 3}

    def test_audit_names_it(self, damaged: World) -> None:
        assert "The shards have a capacity of 6, the sale of 8." in damaged.audit().problems

    def test_capacity_changes_all_the_same(self, damaged: World) -> None:
        """Its tickets count as sold, because no one knows."""
        with pytest.raises(CapacityTooLow) as caught:
            resize(damaged, 1)
        assert caught.value.lowest == 2
        resize(damaged, 2)
        assert isinstance(buy(damaged, 1)[0], SoldOut)
        resize(damaged, 9)
        assert [isinstance(each, Bought) for each in buy(damaged, *[1] * 8)] == [True] * 7 + [False]

    @pytest.mark.G6
    def test_all_are_lost(self, damaged: World) -> None:
        for index in range(4):
            key = {"pk": {"S": f"item#1#stock#{index:02}"}}
            damaged.client.delete_item(TableName=TABLE, Key=key)
        with pytest.raises(Busy):
            resize(damaged, 9)

    def test_next_generation(self, damaged: World) -> None:
        damaged.reset(8, 4)
        assert_agrees(damaged, capacity=8, free=8)


class TestDelete:
    @pytest.mark.G1
    def test_unsold(self, world: World) -> None:
        """No one finds it any more, and it can be created again, as a new one."""
        world.organiser.put(ITEM, SaleSettings(8, "Gala", 4, 60, 2, closes_at=2.0e9))
        world.organiser.pause(ITEM)
        old = world.purchase_service()
        bought = world.reset(8, 4)
        assert bought.sale.generation == 2
        for _ in range(2):
            assert not world.organiser.delete(ITEM).replayed
        assert world.services().catalogue.page(0, 10).sales == []
        calls: list[Callable[[], object]] = [
            lambda: world.services().catalogue.inventory(ITEM),
            lambda: old.buy(old.order(ITEM, 1, "buyer-1", None)),
            lambda: old.buy(old.order(ITEM, 1, "buyer-1", KEY)),
            lambda: world.organiser.pause(ITEM),
        ]
        for call in calls:
            with pytest.raises(NotFound):
                call()
        with pytest.raises(InvalidRequest):
            world.organiser.put(ITEM, SaleSettings(capacity=5))
        created = world.organiser.put(ITEM, SaleSettings(5, "Ball"), expected_generation=0)
        sale = created.sale
        assert (created.is_new, sale.generation, sale.shard_count) == (True, 3, 1)
        assert (sale.per_buyer_limit, sale.closes_at, sale.is_paused) == (None, None, False)
        assert_agrees(world, capacity=5, free=5)
        assert [each.item_id for each in world.services().catalogue.page(0, 10).sales] == [ITEM]

    @pytest.mark.G1
    @pytest.mark.parametrize("key", [KEY, None])
    def test_in_use(self, hall: World, key: str | None) -> None:
        for _ in range(2):
            with pytest.raises(ItemInUse) as caught:
                hall.organiser.delete(ITEM, key)
            assert caught.value.tickets == 95
        assert_agrees(hall, capacity=100, free=5)

    def test_unknown(self, world: World) -> None:
        with pytest.raises(NotFound):
            world.organiser.delete(ITEM)

    @pytest.mark.G3
    @pytest.mark.parametrize(
        ("call", "number", "carried_out"),
        [
            ("put_item", 0, True),
            ("put_item", 0, False),
            ("transact_write_items", 0, True),
            ("transact_write_items", 2, True),
            ("batch_get_item", 0, True),
        ],
    )
    def test_lost_reply(self, world: World, call: str, number: int, *, carried_out: bool) -> None:
        world.reset(8, 2)
        faults: list[Callable[[], object]] = [lambda: None] * number + [raises(lost_reply())]
        (world.client.after if carried_out else world.client.before)(call, *faults)
        assert not world.organiser.delete(ITEM, KEY).replayed
        world.client.heal()
        assert world.organiser.delete(ITEM, KEY).replayed
        assert world.store.read_catalogue() == []

    @pytest.mark.G1
    @pytest.mark.parametrize("number", range(3))
    def test_bought_meanwhile(self, world: World, number: int) -> None:
        """A buyer gets a ticket, or the item is deleted, and never both."""
        world.reset(8, 2)
        found: list[Any] = []
        world.client.before(
            "transact_write_items", *[lambda: None] * number, lambda: found.extend(buy(world, 1))
        )
        try:
            world.organiser.delete(ITEM)
        except ItemInUse:
            assert isinstance(found[0], Bought)
            assert_agrees(world, capacity=8, free=7)
        else:
            assert all(isinstance(each, SoldOut) for each in found)

    @pytest.mark.G3
    def test_receipts_of_earlier_generations(self, world: World) -> None:
        world.reset(8, 2)
        service = world.purchase_service()
        order = service.order(ITEM, 1, None, "buyer-0123456789abcdef")
        bought = service.buy(order)
        assert isinstance(bought, Bought)
        world.reset(8, 2)
        world.organiser.delete(ITEM)
        world.clock.now += CACHE_SECONDS
        assert service.buy(order) == Bought(bought.purchase, replayed=True)
        refunded = world.services().refunds.refund(bought.purchase.purchase_id, None, KEY)
        assert isinstance(refunded, Refunded)

    @pytest.mark.G5
    def test_late_confirmation(self, world: World) -> None:
        """A hold whose time is over is no reason to keep the item. Its payment is refunded."""
        world.reset(8, 2, hold_seconds=30)
        service = world.purchase_service()
        outcome = service.buy(service.order(ITEM, 1, None, None, is_hold=True))
        assert isinstance(outcome, Held)
        with pytest.raises(ItemInUse):
            world.organiser.delete(ITEM)
        world.clock.now += 60
        world.organiser.delete(ITEM)
        holds = world.services().holds
        hold_id = outcome.hold.purchase_id
        assert holds.confirm(hold_id, "payment-1") is HoldProblem.EXPIRED
        assert holds.find(hold_id).status is Status.EXPIRED


shards = st.dictionaries(st.integers(0, 99), st.integers(0, 500), min_size=1, max_size=100)


def applied(stock: dict[int, int], steps: list[dict[int, int]]) -> dict[int, int]:
    after = dict(stock)
    for step in steps:
        assert all(step.values()), "a step without tickets"
        for index, tickets in step.items():
            after[index] += tickets
        assert min(after.values()) >= 0
    return after


def spread(stock: dict[int, int]) -> int:
    return max(stock.values()) - min(stock.values())


@given(stock=shards, tickets=st.integers(-1000, 1000))
def test_resize_steps(stock: dict[int, int], tickets: int) -> None:
    """They add up, take no ticket that is not free, and leave the shards no less even."""
    tickets = max(tickets, -sum(stock.values()))
    after = applied(stock, resize_steps(stock, tickets))
    assert sum(after.values()) == sum(stock.values()) + tickets
    assert spread(after) <= max(1, spread(stock))


@given(stock=shards)
def test_spread_steps(stock: dict[int, int]) -> None:
    """No shard has less than half of an even share afterwards, and then nothing is left to do."""
    after = applied(stock, spread_steps(stock))
    assert sum(after.values()) == sum(stock.values())
    assert 2 * min(after.values()) >= sum(after.values()) // len(after)
    assert spread_steps(after) == []
