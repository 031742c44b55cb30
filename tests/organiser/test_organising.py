"""The organiser's side: items, windows, pauses, and what buyers see of them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import UNSET

from tests.support import ITEM, TABLE, World, cancelled, lost_reply, raises, service_error
from ticketing.errors import (
    Busy,
    CatalogueFull,
    GenerationChanged,
    InvalidRequest,
    KeyReusedForSale,
    NotFound,
    Reason,
    SaleNotOpen,
)
from ticketing.limits import (
    CACHE_SECONDS,
    CACHE_STALE_SECONDS,
    ITEMS_MAX,
    PAUSED_RETRY_AFTER_SECONDS_MAX,
    SLOTS_PER_HOLD,
    USED_KEYS_MAX,
)
from ticketing.model import Bought, Held, HoldProblem, Phase, SaleChange, SaleSettings, SoldOut

NEW = SaleSettings(capacity=8, item_name="Open Air", shard_count=4)
KEY = "organiser-0123456789"
BUYERS_KEY = "buyer-0123456789abcdef"


def put(world: World, settings: SaleSettings = NEW, **how: Any) -> SaleChange:
    return world.organiser.put(ITEM, settings, **how)


def buy(world: World, key: str | None = None, quantity: int = 1) -> Any:
    service = world.purchase_service()
    return service.buy(service.order(ITEM, quantity, None, key))


class TestPut:
    def test_create(self, world: World) -> None:
        done = put(world)
        assert (done.is_new, done.replayed) == (True, False)
        sale = done.sale
        assert (sale.item_name, sale.capacity, sale.shard_count, sale.generation) == (
            "Open Air",
            8,
            4,
            1,
        )
        assert world.catalogue.inventory(ITEM).free == 8
        assert isinstance(buy(world), Bought)

    @pytest.mark.parametrize(
        ("settings", "field"),
        [(SaleSettings(capacity=5), "item_name"), (SaleSettings(item_name="A"), "capacity")],
    )
    def test_new_item_lacks_a_field(self, world: World, settings: SaleSettings, field: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            put(world, settings)
        assert caught.value.field == field
        assert world.store.read_sale(ITEM) is None
        assert world.store.read_catalogue() == []

    def test_same_again_writes_nothing(self, world: World) -> None:
        put(world)
        revision = world.catalogue.inventory(ITEM).sale.revision
        world.client.calls.clear()
        done = put(world)
        assert (done.is_new, done.replayed, done.sale.revision) == (False, False, revision)
        assert {"put_item", "update_item", "transact_write_items"}.isdisjoint(world.client.calls)

    def test_left_out_is_kept(self, world: World) -> None:
        put(world, SaleSettings(8, "Open Air", 4, 60, 3, opens_at=1.0e9, closes_at=2.0e9))
        sale = put(world, SaleSettings(item_name="Gala")).sale
        assert (sale.item_name, sale.capacity, sale.hold_seconds, sale.per_buyer_limit) == (
            "Gala",
            8,
            60,
            3,
        )
        assert (sale.opens_at, sale.closes_at, sale.generation) == (1.0e9, 2.0e9, 1)
        sale = put(world, SaleSettings(opens_at=None, closes_at=None, per_buyer_limit=0)).sale
        assert (sale.opens_at, sale.closes_at, sale.per_buyer_limit) == (None, None, None)

    @pytest.mark.G3
    def test_change_sells_on(self, world: World) -> None:
        """A change of the settings keeps generation, stock and receipts."""
        put(world)
        bought = buy(world, BUYERS_KEY)
        put(world, SaleSettings(item_name="Gala", hold_seconds=120))
        assert buy(world, BUYERS_KEY) == Bought(bought.purchase, replayed=True)
        world.assert_exact(sold=1)

    @pytest.mark.parametrize(
        ("settings", "field"),
        [
            (SaleSettings(shard_count=3), "shards"),
            (SaleSettings(per_buyer_limit=2), "per_buyer_limit"),
            (SaleSettings(opens_at=2.0e9, closes_at=2.0e9), "closes_at"),
            (SaleSettings(closes_at=0.9e9), "closes_at"),
        ],
    )
    def test_refused_change(self, world: World, settings: SaleSettings, field: str) -> None:
        """What only a new generation can have, and a window that ends before it begins."""
        put(world, SaleSettings(8, "Open Air", 4, opens_at=1.0e9))
        before = world.store.read_sale(ITEM)
        with pytest.raises(InvalidRequest) as caught:
            put(world, settings)
        assert caught.value.field == field
        assert world.store.read_sale(ITEM) == before

    @pytest.mark.parametrize("expected", [0, 2])
    def test_expected_generation(self, world: World, expected: int) -> None:
        put(world, expected_generation=0)
        with pytest.raises(GenerationChanged, match="has generation 1"):
            put(world, SaleSettings(item_name="Gala"), expected_generation=expected)
        done = put(world, SaleSettings(item_name="Gala"), expected_generation=1)
        assert done.sale.item_name == "Gala"

    @pytest.mark.G3
    @pytest.mark.parametrize("call", ["transact_write_items", "update_item"])
    def test_creation_with_lost_reply(self, world: World, call: str) -> None:
        world.client.after(call, raises(lost_reply()))
        done = put(world, key=KEY)
        assert (done.is_new, done.replayed, done.sale.generation) == (True, False, 1)
        assert put(world, key=KEY).replayed
        world.assert_exact(sold=0)

    @pytest.mark.G3
    def test_change_with_lost_reply(self, world: World) -> None:
        put(world)
        world.client.after("put_item", raises(lost_reply()))
        done = put(world, SaleSettings(item_name="Gala"))
        assert (done.sale.item_name, done.sale.revision, done.replayed) == ("Gala", 3, False)

    def test_repeat_undoes_nothing(self, world: World) -> None:
        """A request that is sent again, late, gets the sale as it is."""
        put(world)
        put(world, SaleSettings(item_name="Gala"), key=KEY)
        put(world, SaleSettings(item_name="Ball"))
        again = put(world, SaleSettings(item_name="Gala"), key=KEY)
        assert (again.replayed, again.sale.item_name) == (True, "Ball")

    def test_key_without_a_change(self, world: World) -> None:
        """It counts as used, so a late repeat does not undo what came between."""
        put(world)
        put(world, key=KEY)
        put(world, SaleSettings(item_name="Ball"))
        assert put(world, key=KEY).sale.item_name == "Ball"

    def test_key_of_another_change(self, world: World) -> None:
        put(world, key=KEY)
        calls: list[Callable[[], object]] = [
            lambda: put(world, SaleSettings(item_name="Gala"), key=KEY),
            lambda: world.organiser.pause(ITEM, KEY),
            lambda: world.reset(8, 4, item_name="Open Air", key=KEY),
        ]
        for call in calls:
            with pytest.raises(KeyReusedForSale):
                call()

    def test_key_of_earlier_generation(self, world: World) -> None:
        put(world, key=KEY)
        world.reset()
        with pytest.raises(GenerationChanged, match="took effect in generation 1"):
            put(world, key=KEY)

    def test_last_ten_keys(self, world: World) -> None:
        """The record keeps the keys of the last changes, and stays below 4 KB."""
        name = "\N{ADMISSION TICKETS}" * 100
        put(world, SaleSettings(8, name, 4, opens_at=1.0e9, closes_at=2.0e9))
        for number in range(USED_KEYS_MAX + 2):
            world.organiser.pause(ITEM, f"{number:04}-{'k' * 240}")
        sale = world.catalogue.inventory(ITEM).sale
        assert len(sale.used_keys) == USED_KEYS_MAX
        item = world.client.get_item(TableName=TABLE, Key={"pk": {"S": "item#1"}})["Item"]
        assert len(json.dumps(item, ensure_ascii=False).encode()) < 4096

    def test_concurrent_change_is_kept(self, world: World) -> None:
        """Two organisers change different things at once, and both changes stay."""
        put(world)
        world.client.before("put_item", lambda: world.organiser.pause(ITEM))
        sale = put(world, SaleSettings(item_name="Gala")).sale
        assert (sale.item_name, sale.is_paused, sale.revision) == ("Gala", True, 4)

    def test_reset_keeps_concurrent_change(self, world: World) -> None:
        """A reset used to put back what it had read of the record."""
        put(world)
        world.client.before(
            "put_item", lambda: put(world, SaleSettings(item_name="Gala", closes_at=2.0e9))
        )
        sale = world.reset(9).sale
        assert (sale.item_name, sale.closes_at, sale.generation) == ("Gala", 2.0e9, 2)

    def test_dies_before_its_shards(self, world: World) -> None:
        """Buyers open the shards of an item that died in creation, or the same request does."""
        world.client.before("update_item", raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            put(world)
        assert isinstance(buy(world), Bought)
        put(world)
        stored, _ = world.store.read_stored_shards(world.catalogue.inventory(ITEM).sale)
        assert len(stored) == 4
        world.assert_exact(sold=1)

    @pytest.mark.G5
    def test_fails_after_the_change(self, world: World) -> None:
        """What is made is never reported as a failure, nor as an earlier request's."""
        put(world)
        world.client.before("batch_get_item", raises(lost_reply()))
        done = put(world, SaleSettings(item_name="Gala"), key=KEY)
        assert (done.sale.item_name, done.replayed, done.sale.revision) == ("Gala", False, 3)
        world.client.before("batch_get_item", *[raises(lost_reply())] * 200)
        with pytest.raises(Busy) as caught:
            world.organiser.pause(ITEM)
        assert caught.value.reason is Reason.IN_DOUBT
        world.client.heal()
        assert world.catalogue.inventory(ITEM).phase is Phase.PAUSED

    def test_sale_of_earlier_version(self, world: World) -> None:
        """It was opened without holds, and its shards have no room for them."""
        put(world)
        world.client.update_item(
            TableName=TABLE,
            Key={"pk": {"S": "item#1"}},
            UpdateExpression="REMOVE hold_seconds, slot_seconds, revision, used_keys",
        )
        with pytest.raises(InvalidRequest) as caught:
            put(world, SaleSettings(hold_seconds=60))
        assert caught.value.field == "hold_seconds"
        changed = put(world, SaleSettings(item_name="Gala", closes_at=2.0e9)).sale
        assert (changed.item_name, changed.hold_seconds, changed.revision) == ("Gala", None, 1)
        assert world.reset().sale.hold_seconds == 600

    @pytest.mark.G5
    def test_out_of_time(self, world: World) -> None:
        put(world)
        world.client.before("put_item", *[raises(lost_reply())] * 100)
        with pytest.raises(Busy) as caught:
            put(world, SaleSettings(item_name="Gala"))
        assert caught.value.reason is Reason.IN_DOUBT
        assert "Send the same request again" in caught.value.remedy

    def test_conflict_in_the_catalogue(self, world: World) -> None:
        """Two items are created at once."""
        conflict = cancelled("None", "TransactionConflict")
        world.client.before("transact_write_items", raises(conflict))
        assert put(world).is_new

    def test_catalogue_is_full(self, world: World) -> None:
        ids = [str(number) for number in range(2, ITEMS_MAX + 2)]
        item = {"pk": {"S": "catalogue"}, "item_ids": {"NS": ids}}
        world.client.put_item(TableName=TABLE, Item=item)
        with pytest.raises(CatalogueFull):
            put(world)
        assert world.store.read_sale(ITEM) is None


class TestShorterHolds:
    """hold_seconds may change in mid-sale, and a shard's slots stay few."""

    @pytest.mark.G1
    @pytest.mark.parametrize(("before", "after"), [(3600, 30), (30, 3600)])
    def test_slots_stay_few(self, world: World, before: int, after: int) -> None:
        put(world, SaleSettings(1000, "Open Air", 1, before))
        service = world.purchase_service()
        most = 0
        for hold_seconds in (before, after):
            put(world, SaleSettings(hold_seconds=hold_seconds))
            world.clock.now += CACHE_SECONDS
            for _ in range(32):
                outcome = service.buy(service.order(ITEM, 1, None, None, is_hold=True))
                assert isinstance(outcome, Held)
                lasts = (outcome.hold.expires_at or 0) - world.clock.now
                assert hold_seconds <= lasts <= hold_seconds + max(before, after) / 30 + 1
                world.clock.now += hold_seconds / 30
                (shard,) = world.catalogue.inventory(ITEM).shards
                most = max(most, sum(slot > world.clock.now for slot in shard.slots))
        assert 30 <= most <= SLOTS_PER_HOLD + 3
        world.assert_exact(sold=0)


class TestPause:
    def test_pause_and_resume(self, world: World) -> None:
        put(world)
        service = world.purchase_service()
        assert isinstance(service.buy(service.order(ITEM, 1, None, None)), Bought)
        assert world.organiser.pause(ITEM).inventory.phase is Phase.PAUSED
        world.clock.now += CACHE_SECONDS
        for is_hold in (False, True):
            with pytest.raises(SaleNotOpen) as caught:
                service.buy(service.order(ITEM, 1, None, None, is_hold=is_hold))
            assert caught.value.phase is Phase.PAUSED
            assert 1 <= (caught.value.retry_after_seconds or 0) <= PAUSED_RETRY_AFTER_SECONDS_MAX
        assert world.organiser.resume(ITEM).inventory.phase is Phase.OPEN
        world.clock.now += CACHE_SECONDS
        assert isinstance(service.buy(service.order(ITEM, 1, None, None)), Bought)
        world.assert_exact(sold=2)

    def test_within_a_second(self, world: World) -> None:
        """A process sells with settings that are younger than a second, and no longer."""
        put(world)
        service = world.purchase_service()
        service.buy(service.order(ITEM, 1, None, None))
        world.organiser.pause(ITEM)
        world.clock.now += CACHE_SECONDS - 0.01
        assert isinstance(service.buy(service.order(ITEM, 1, None, None)), Bought)
        world.clock.now += 0.01
        with pytest.raises(SaleNotOpen):
            service.buy(service.order(ITEM, 1, None, None))

    @pytest.mark.G5
    def test_settings_cannot_be_read(self, world: World) -> None:
        """Old settings may say "paused", and no buyer is refused by them."""
        put(world)
        world.organiser.pause(ITEM)
        service = world.purchase_service()
        with pytest.raises(SaleNotOpen):
            service.buy(service.order(ITEM, 1, None, None))
        world.clock.now += CACHE_STALE_SECONDS - 0.5
        world.organiser.resume(ITEM)
        throttle = raises(service_error("ProvisionedThroughputExceededException"))
        world.client.before("get_item", throttle)
        assert isinstance(service.buy(service.order(ITEM, 1, None, None)), Bought)

    @pytest.mark.parametrize("change", ["pause", "resume"])
    def test_unknown_item(self, world: World, change: str) -> None:
        with pytest.raises(NotFound):
            getattr(world.organiser, change)(ITEM)

    @pytest.mark.parametrize("change", ["pause", "resume"])
    def test_twice_and_with_lost_reply(self, world: World, change: str) -> None:
        put(world)
        world.client.after("put_item", raises(lost_reply()))
        call = getattr(world.organiser, change)
        first = call(ITEM, KEY)
        assert (first.replayed, first.sale.is_paused) == (False, change == "pause")
        again = call(ITEM, KEY)
        assert (again.replayed, again.sale.revision) == (True, first.sale.revision)

    @pytest.mark.G3
    def test_repeated_resume(self, world: World) -> None:
        """It does not resume what was paused again since."""
        put(world)
        world.organiser.resume(ITEM, KEY)
        world.organiser.pause(ITEM)
        assert world.organiser.resume(ITEM, KEY).sale.is_paused

    def test_reset_stays_paused(self, world: World) -> None:
        put(world)
        world.organiser.pause(ITEM)
        assert world.reset().inventory.phase is Phase.PAUSED


class TestWindow:
    """Half-open: sold from the first instant on, and at the last one no more."""

    @pytest.mark.parametrize(
        ("now", "phase"),
        [(-0.001, Phase.SCHEDULED), (0, Phase.OPEN), (9.999, Phase.OPEN), (10, Phase.CLOSED)],
    )
    def test_phases(self, world: World, now: float, phase: Phase) -> None:
        start = world.clock.now
        put(world, SaleSettings(8, "A", opens_at=start, closes_at=start + 10))
        world.clock.now = start + now
        assert world.catalogue.inventory(ITEM).phase is phase
        if phase is Phase.OPEN:
            assert isinstance(buy(world), Bought)
            return
        with pytest.raises(SaleNotOpen) as caught:
            buy(world)
        refusal = caught.value
        assert (refusal.phase, refusal.opens_at, refusal.closes_at) == (phase, start, start + 10)
        assert refusal.retry_after_seconds == (1 if phase is Phase.SCHEDULED else None)

    def test_opens_by_itself(self, world: World) -> None:
        put(world, SaleSettings(8, "A", opens_at=world.clock.now + 90.5))
        service = world.purchase_service()
        with pytest.raises(SaleNotOpen) as caught:
            service.buy(service.order(ITEM, 1, None, BUYERS_KEY))
        assert caught.value.retry_after_seconds == 91
        world.clock.now += 91
        assert isinstance(service.buy(service.order(ITEM, 1, None, BUYERS_KEY)), Bought)

    def test_window_moves(self, world: World) -> None:
        """The window may be moved, also while the sale is closed."""
        put(world, SaleSettings(8, "A", closes_at=world.clock.now))
        with pytest.raises(SaleNotOpen):
            buy(world)
        put(world, SaleSettings(closes_at=world.clock.now + 5))
        assert isinstance(buy(world), Bought)

    def test_paused_comes_before_scheduled(self, world: World) -> None:
        """A paused sale does not open by itself, and a closed one stays closed."""
        start = world.clock.now
        put(world, SaleSettings(8, "A", opens_at=start + 5, closes_at=start + 10))
        sale = world.organiser.pause(ITEM).sale
        assert [sale.phase(start + later) for later in (0, 5, 10)] == [
            Phase.PAUSED,
            Phase.PAUSED,
            Phase.CLOSED,
        ]

    @pytest.mark.G3
    @pytest.mark.parametrize("how", ["pause", "close"])
    def test_key_gets_its_receipt(self, world: World, how: str) -> None:
        put(world)
        bought = buy(world, BUYERS_KEY)
        close(world, how)
        assert buy(world, BUYERS_KEY) == Bought(bought.purchase, replayed=True)
        with pytest.raises(SaleNotOpen):
            buy(world, "another-0123456789")

    @pytest.mark.G5
    @pytest.mark.parametrize("key", [BUYERS_KEY, None])
    @pytest.mark.parametrize("commits", [True, False])
    def test_attempt_in_doubt(self, world: World, key: str | None, commits: bool) -> None:
        """A request whose first attempt may have bought is never refused because of a pause."""
        put(world)

        def lose_reply() -> None:
            world.organiser.pause(ITEM)
            world.clock.now += CACHE_SECONDS
            raise lost_reply()

        (world.client.after if commits else world.client.before)("transact_write_items", lose_reply)
        if commits and key:
            outcome = buy(world, key)
            assert isinstance(outcome, Bought)
            assert not outcome.replayed
        else:
            with pytest.raises(Busy) as caught:
                buy(world, key)
            assert caught.value.reason is Reason.IN_DOUBT
            assert caught.value.purchase_id
        world.assert_exact(sold=int(commits))

    @pytest.mark.G2
    def test_sold_out_before_the_pause(self, world: World) -> None:
        """What is sold out says so while it is open, and that it is paused when it is."""
        put(world, SaleSettings(1, "A"))
        service = world.purchase_service()
        service.buy(service.order(ITEM, 1, None, None))
        assert service.buy(service.order(ITEM, 1, None, None)) == SoldOut(left=0)
        world.organiser.pause(ITEM)
        world.clock.now += CACHE_SECONDS
        with pytest.raises(SaleNotOpen):
            world.purchase_service().buy(service.order(ITEM, 1, None, None))


def close(world: World, how: str) -> None:
    if how == "pause":
        world.organiser.pause(ITEM)
    else:
        put(world, SaleSettings(closes_at=world.clock.now))
    world.clock.now += CACHE_SECONDS


class TestHoldsOfClosedSale:
    """Only tickets that are free are not sold. What is held was promised."""

    @staticmethod
    def hold(world: World, capacity: int = 2) -> str:
        put(world, SaleSettings(capacity, "A", 1, 30))
        service = world.purchase_service()
        outcome = service.buy(service.order(ITEM, 1, None, BUYERS_KEY, is_hold=True))
        assert isinstance(outcome, Held)
        return outcome.hold.purchase_id

    @pytest.mark.parametrize("how", ["pause", "close"])
    def test_confirm(self, world: World, how: str) -> None:
        hold_id = self.hold(world)
        close(world, how)
        assert isinstance(world.services().holds.confirm(hold_id, "payment-1"), Bought)
        world.assert_exact(sold=1)

    @pytest.mark.parametrize("how", ["pause", "close"])
    def test_extend_and_release(self, world: World, how: str) -> None:
        hold_id = self.hold(world)
        close(world, how)
        world.clock.now += 10
        assert isinstance(world.services().holds.extend(hold_id), Held)
        assert isinstance(world.services().holds.release(hold_id), Held)
        world.assert_exact(sold=0)

    @pytest.mark.G5
    @pytest.mark.parametrize("how", ["pause", "close"])
    def test_late_confirmation(self, world: World, how: str) -> None:
        """Its slot is gone, so it would take free tickets. Its payment is to be refunded."""
        hold_id = self.hold(world, capacity=1)
        world.clock.now += 60
        bought = buy(world)
        assert isinstance(bought, Bought), "the slot was not reclaimed"
        world.services().refunds.refund(bought.purchase.purchase_id, None, "refund-0123456789")
        close(world, how)
        holds = world.services().holds
        assert holds.confirm(hold_id, "payment-1") is HoldProblem.EXPIRED
        world.organiser.resume(ITEM)
        put(world, SaleSettings(closes_at=None))
        world.clock.now += CACHE_SECONDS
        assert holds.confirm(hold_id, "payment-1") is HoldProblem.EXPIRED, "refused for ever"
        assert isinstance(holds.confirm(hold_id, "payment-2"), Bought)

    def test_hold_is_found(self, world: World) -> None:
        hold_id = self.hold(world)
        close(world, "pause")
        service = world.purchase_service()
        outcome = service.buy(service.order(ITEM, 1, None, BUYERS_KEY, is_hold=True))
        assert isinstance(outcome, Held)
        assert (outcome.replayed, outcome.hold.purchase_id) == (True, hold_id)


class TestCatalogue:
    @staticmethod
    def create(world: World, *item_ids: int) -> None:
        for item_id in item_ids:
            world.organiser.put(item_id, SaleSettings(1, f"Item {item_id}", 1))

    def test_pages(self, world: World) -> None:
        self.create(world, 7, 3, 20, 1)
        found, after = [], 0
        while True:
            page = world.catalogue.page(after, 3)
            found.append([sale.item_id for sale in page.sales])
            if page.after is None:
                break
            after = page.after
        assert found == [[1, 3, 7], [20]]
        assert world.catalogue.page(0, 4).after is None
        assert world.catalogue.page(20, 4).sales == []

    def test_no_items(self, world: World) -> None:
        assert world.catalogue.page(0, 10).sales == []

    def test_cached_for_a_second(self, world: World) -> None:
        self.create(world, 1)
        world.client.calls.clear()
        for _ in range(50):
            world.catalogue.page(0, 10)
            world.clock.now += 0.04
        assert world.client.count("get_item") == world.client.count("batch_get_item") == 2

    def test_reset_lists_item(self, world: World) -> None:
        world.reset(stock=3)
        assert [sale.item_id for sale in world.catalogue.page(0, 10).sales] == [ITEM]


def test_nothing_asked_for() -> None:
    """The settings of an empty body keep everything."""
    assert SaleSettings() == SaleSettings(opens_at=UNSET, closes_at=UNSET)
