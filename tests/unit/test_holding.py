"""Holds: kept until they expire, bought once, and free again for the next buyer."""

from collections.abc import Callable
from copy import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support import ITEM, World, cancelled, lost_reply, raises, service_error
from ticketing.errors import Busy, HoldsNotOffered, NotFound, Reason
from ticketing.limits import (
    CACHE_SECONDS,
    CLOCK_SKEW_SECONDS,
    HOLD_SECONDS_DEFAULT,
    REFUSED_PAYMENTS_MAX,
    SLOTS_MAX,
    SLOTS_PER_HOLD,
)
from ticketing.model import (
    Bought,
    ConfirmOutcome,
    Held,
    HoldProblem,
    KeyReused,
    Outcome,
    Purchase,
    Sale,
    SoldOut,
)
from ticketing.moves import CONFIRM, Status
from ticketing.rules import digest, expiry_slot
from ticketing.store.items import SALE, sale_key
from ticketing.wiring import Services

KEY = "0123456789abcdef"
SECONDS = 60  # of the holds in these tests: slots of two seconds
# From then on every process counts the tickets of a hold as free.
OVER_SECONDS = SECONDS + 2 + CLOCK_SKEW_SECONDS


@pytest.fixture(autouse=True)
def sale(world: World) -> None:
    world.open_sale(stock=1, hold_seconds=SECONDS)


def hold(world: World, quantity: int = 1, key: str | None = KEY) -> Purchase:
    """Hold tickets in a new process."""
    outcome = ask_to_hold(world, quantity, key)
    assert isinstance(outcome, Held)
    return outcome.hold


def ask_to_hold(world: World, quantity: int = 1, key: str | None = KEY) -> Outcome:
    service = world.purchase_service()
    return service.buy(service.order(ITEM, quantity, "buyer-42", key, is_hold=True))


def buy(world: World, quantity: int = 1, key: str | None = None) -> Outcome:
    """Buy in a new process."""
    service = world.purchase_service()
    return service.buy(service.order(ITEM, quantity, "another", key))


def confirm(world: World, held: Purchase, payment: str | None = None) -> ConfirmOutcome:
    """Confirm in a new process."""
    return world.services().holds.confirm(held.purchase_id, payment)


def bought(outcome: object) -> Bought:
    assert isinstance(outcome, Bought)
    return outcome


def problem(outcome: object) -> HoldProblem:
    assert isinstance(outcome, HoldProblem)
    return outcome


def inventory(world: World) -> tuple[int, int, int]:
    state = world.services().catalogue.inventory(ITEM)
    return state.free, state.held, state.sold


class TestHold:
    def test_hold(self, world: World) -> None:
        held = hold(world)
        assert held.status is Status.HELD
        assert held.expires_at == expiry_slot(SECONDS, world.clock.now)
        assert world.clock.now + SECONDS <= held.expires_at <= world.clock.now + SECONDS + 2
        assert inventory(world) == (0, 1, 0)
        assert world.services().holds.find(held.purchase_id) == held
        assert world.audit().problems == []

    @pytest.mark.G3
    def test_hundred_repeats(self, world: World) -> None:
        """A hold request repeated 100 times never moves `expires_at`."""
        first = hold(world)
        for _ in range(100):
            world.clock.now += 0.5
            assert ask_to_hold(world) == Held(first, replayed=True)

    @pytest.mark.G3
    def test_key_of_purchase(self, world: World) -> None:
        world.open_sale(stock=5)
        service = world.purchase_service()
        service.buy(service.order(ITEM, 1, "buyer-42", KEY))
        assert ask_to_hold(world) == KeyReused()
        held = hold(world, key=KEY + "-2")
        assert service.buy(service.order(ITEM, 1, "buyer-42", KEY + "-2")) == KeyReused()
        assert world.services().holds.find(held.purchase_id) == held

    @pytest.mark.G2
    def test_all_held(self, world: World) -> None:
        """Not "sold out": the tickets may come back, and the answer says when."""
        held = hold(world)
        assert held.expires_at
        release = held.expires_at + CLOCK_SKEW_SECONDS
        assert buy(world) == SoldOut(left=0, next_release_at=release)
        assert ask_to_hold(world, key=KEY + "-2") == SoldOut(left=0, next_release_at=release)
        bought(confirm(world, held))
        assert buy(world) == SoldOut(left=0)

    @pytest.mark.G3
    def test_several_shards(self, world: World) -> None:
        world.open_sale(stock=4, shards=4)
        held = hold(world, quantity=3)
        assert sorted(held.taken.values()) == [1, 1, 1]
        assert bought(confirm(world, held)).purchase.taken == held.taken
        world.assert_exact(sold=3)

    def test_sale_of_earlier_version(self, world: World) -> None:
        """Its shards have no slots."""
        stored = world.store.read_sale(ITEM)
        assert stored
        item = SALE.to_item(sale_key(ITEM), replace(stored, hold_seconds=None))
        world.client.put_item(TableName=world.table_name, Item=item)
        with pytest.raises(HoldsNotOffered):
            ask_to_hold(world)
        assert isinstance(buy(world), Bought)
        world.open_sale(stock=1)
        assert hold(world).expires_at == expiry_slot(HOLD_SECONDS_DEFAULT, world.clock.now)

    def test_seconds_are_kept(self, world: World) -> None:
        world.open_sale(stock=2)
        assert hold(world).expires_at == expiry_slot(SECONDS, world.clock.now)

    def test_unknown_hold(self, world: World) -> None:
        world.open_sale(stock=2)
        purchase = bought(buy(world)).purchase
        for hold_id in ("missing", purchase.purchase_id):
            with pytest.raises(NotFound):
                world.services().holds.find(hold_id)
            with pytest.raises(NotFound):
                world.services().holds.confirm(hold_id, None)

    def test_hold_is_no_purchase(self, world: World) -> None:
        held = hold(world)
        with pytest.raises(NotFound, match="hold"):
            world.purchase_service().find(held.purchase_id)
        with pytest.raises(NotFound):
            world.services().refunds.refund(held.purchase_id, None, KEY)


class TestConfirm:
    @pytest.mark.G3
    @pytest.mark.G4
    def test_confirm(self, world: World) -> None:
        held = hold(world)
        world.clock.now += 5
        first = bought(confirm(world, held, "pay-1"))
        assert not first.replayed
        assert first.purchase.status is Status.CONFIRMED
        assert first.purchase.purchased_at > held.created_at
        assert world.purchase_service().find(held.purchase_id) == first.purchase
        world.assert_exact(sold=1)
        assert world.audit().problems == []

    @pytest.mark.G3
    @pytest.mark.parametrize("payment", [None, "pay-1"])
    def test_again(self, world: World, payment: str | None) -> None:
        """The same receipt, also after the hold's time."""
        held = hold(world)
        first = bought(confirm(world, held, "pay-1"))
        world.clock.now += 2 * OVER_SECONDS
        assert confirm(world, held, payment) == Bought(first.purchase, replayed=True)
        assert ask_to_hold(world) == Held(first.purchase, replayed=True)

    @pytest.mark.G3
    @pytest.mark.parametrize("first", [None, "pay-1"])
    def test_another_payment(self, world: World, first: str | None) -> None:
        held = hold(world)
        bought(confirm(world, held, first))
        assert problem(confirm(world, held, "pay-2")) is HoldProblem.ALREADY_PAID

    @pytest.mark.G3
    def test_one_payment_pays_one_hold(self, world: World) -> None:
        world.open_sale(stock=2, hold_seconds=SECONDS)
        first, second = hold(world), hold(world, key=KEY + "-2")
        bought(confirm(world, first, "pay-1"))
        assert problem(confirm(world, second, "pay-1")) is HoldProblem.PAYMENT_REUSED
        world.services().holds.release(second.purchase_id)
        assert problem(confirm(world, second, "pay-1")) is HoldProblem.PAYMENT_REUSED
        assert problem(confirm(world, second, "pay-2")) is HoldProblem.RELEASED
        world.assert_exact(sold=1)

    @pytest.mark.G5
    def test_payment_of_a_duplicate(self, world: World) -> None:
        """A duplicate in progress has put the payment, and not yet the rest (found by simulation).

        DynamoDB writes the items of a transaction one after the other.
        """
        held = hold(world)
        first = bought(confirm(world, held, "pay-1"))
        item = world.client.get_item(
            TableName=world.table_name, Key={"pk": {"S": "payment#pay-1"}}
        )["Item"]
        conflict: Any = {"Code": "TransactionConflict"}
        reasons = [conflict, conflict, {"Code": "ConditionalCheckFailed", "Item": item}]
        error = service_error("TransactionCanceledException", CancellationReasons=reasons)
        record = replace(first.purchase, payment_reference="pay-1")
        world.client.before("transact_write_items", raises(error))
        store = world.store
        cancellation = store.move(CONFIRM, record, held.taken, held.created_at, held)
        assert cancellation
        assert cancellation.contended
        assert not cancellation.payment_reused
        world.client.before("transact_write_items", raises(error))
        other = replace(record, purchase_id="another")
        cancellation = store.move(CONFIRM, other, held.taken, held.created_at, held)
        assert cancellation
        assert cancellation.payment_reused

    @pytest.mark.G1
    @pytest.mark.G3
    def test_expired_and_taken(self, world: World) -> None:
        """Hold, let it expire, buy by another, confirm by the first: nothing is sold twice."""
        held = hold(world)
        world.clock.now += OVER_SECONDS
        assert inventory(world) == (1, 0, 0)
        assert isinstance(buy(world), Bought)
        assert problem(confirm(world, held)) is HoldProblem.EXPIRED
        assert problem(confirm(world, held, "pay-1")) is HoldProblem.EXPIRED
        world.assert_exact(sold=1)
        assert world.audit().problems == []

    @pytest.mark.G3
    def test_paid_late(self, world: World) -> None:
        """It expired, and its slot is still there. Without a payment it is refused."""
        held = hold(world)
        world.clock.now += OVER_SECONDS
        assert problem(confirm(world, held)) is HoldProblem.EXPIRED
        paid = bought(confirm(world, held, "pay-1")).purchase
        assert paid.taken == held.taken
        world.assert_exact(sold=1)
        assert world.audit().problems == []

    @pytest.mark.G3
    def test_payment_refused_once(self, world: World) -> None:
        """Its payer was told to refund it, so it buys nothing when tickets come back; others may.

        An earlier confirmation may still be running, whose caller has not waited for its answer.
        """
        held = hold(world)
        world.clock.now += OVER_SECONDS
        taken = bought(buy(world)).purchase
        assert problem(confirm(world, held, "pay-1")) is HoldProblem.EXPIRED
        world.services().refunds.refund(taken.purchase_id, None, KEY)
        calls = len(world.client.calls)
        assert problem(confirm(world, held, "pay-1")) is HoldProblem.EXPIRED
        assert "put_item" not in world.client.calls[calls:]
        paid = bought(confirm(world, held, "pay-2")).purchase
        assert paid.refused_payments == ()
        world.assert_exact(sold=1)

    def test_names_of_refused_payments(self, world: World) -> None:
        held = hold(world)
        world.clock.now += OVER_SECONDS
        buy(world)
        for number in range(REFUSED_PAYMENTS_MAX + 1):
            assert problem(confirm(world, held, f"pay-{number}")) is HoldProblem.EXPIRED
        record = world.store.read_purchase(held.purchase_id)
        assert record
        named = [digest(f"pay-{number + 1}") for number in range(REFUSED_PAYMENTS_MAX)]
        assert list(record.refused_payments) == named

    @pytest.mark.G3
    def test_paid_late_out_of_stock(self, world: World) -> None:
        """Its slot was reclaimed for another buyer, and a ticket is left."""
        world.open_sale(stock=3, shards=1, hold_seconds=SECONDS)
        held = hold(world, 2)
        world.clock.now += OVER_SECONDS
        first = bought(buy(world, quantity=2)).purchase
        world.services().refunds.refund(first.purchase_id, 1, KEY)
        world.clock.now += CACHE_SECONDS
        paid = bought(confirm(world, held, "pay-1"))
        assert not paid.replayed
        assert confirm(world, held, "pay-1") == Bought(paid.purchase, replayed=True)
        world.assert_exact(sold=3)
        assert world.audit().problems == []
        assert world.audit().held == 0

    @pytest.mark.G1
    def test_paid_late_in_other_shard(self, world: World) -> None:
        """One of its two slots was reclaimed. The other one's tickets come back to the next."""
        world.open_sale(stock=4, shards=2, hold_seconds=SECONDS)
        held = hold(world, 3)
        world.clock.now += OVER_SECONDS
        shard = world.store.read_shards(stored_sale(world))[0]
        assert world.store.reclaim(ITEM, shard, list(shard.slots), "now") is None
        bought(confirm(world, held, "pay-1"))
        assert world.audit().problems == []
        assert isinstance(buy(world), Bought)
        assert buy(world) == SoldOut(left=0)
        world.assert_exact(sold=4)

    @pytest.mark.G1
    @pytest.mark.parametrize("payment", [None, "pay-1"])
    def test_after_reset(self, world: World, payment: str | None) -> None:
        held = hold(world)
        world.open_sale(stock=1)
        assert world.services().holds.find(held.purchase_id).status is Status.EXPIRED
        assert problem(confirm(world, held, payment)) is HoldProblem.EXPIRED
        assert inventory(world) == (1, 0, 0)

    @pytest.mark.G1
    @pytest.mark.parametrize("payment", [None, "pay-1"])
    def test_reset_at_once(self, world: World, payment: str | None) -> None:
        """The process still knows the old generation: the shard says that it is over."""
        services, held = world.services(), hold(world)
        services.holds.find(held.purchase_id)
        world.open_sale(stock=1)
        assert problem(services.holds.confirm(held.purchase_id, payment)) is HoldProblem.EXPIRED
        assert inventory(world) == (1, 0, 0)

    @pytest.mark.G5
    @pytest.mark.parametrize("name", ["confirm", "extend", "release"])
    def test_process_behind_a_reset(self, world: World, name: str) -> None:
        """The process still knows an older generation than the hold's (found by simulation)."""
        services = world.services()
        assert isinstance(services.holds.find(hold(world).purchase_id), Purchase)
        world.open_sale(stock=1)
        held = hold(world, key=KEY + "-2")
        world.clock.now += CACHE_SECONDS / 2
        outcome = change(services, held, name)
        assert isinstance(outcome, Bought | Held)
        assert not outcome.replayed

    @pytest.mark.G2
    def test_refund(self, world: World) -> None:
        held = hold(world)
        bought(confirm(world, held))
        world.services().refunds.refund(held.purchase_id, None, KEY)
        assert bought(confirm(world, held)).purchase.status is Status.REFUNDED
        world.clock.now += CACHE_SECONDS
        assert isinstance(buy(world), Bought)
        world.assert_exact(sold=1)


class TestReclaim:
    @pytest.mark.G1
    @pytest.mark.parametrize("wins", ["confirm", "reclaim"])
    def test_confirm_or_reclaim(self, world: World, wins: str) -> None:
        """A buyer reclaims at the instant of a confirmation: one of them gets the ticket."""
        held = hold(world)
        world.clock.now += OVER_SECONDS
        services = world.services()
        if wins == "confirm":
            # The buyer has seen the expired slot when the confirmation takes it.
            world.client.before("update_item", lambda: bought(confirm(world, held, "pay-1")))
            assert buy(world) == SoldOut(left=0)
        else:
            world.client.before("transact_write_items", lambda: bought(buy(world)))
            outcome = services.holds.confirm(held.purchase_id, "pay-1")
            assert problem(outcome) is HoldProblem.EXPIRED
        world.assert_exact(sold=1)

    @pytest.mark.G2
    def test_free_before_reclaim(self, world: World) -> None:
        """A process that saw all tickets held sells them when they are over."""
        services, _ = world.services(), hold(world)
        order = services.purchases.order(ITEM, 1, None, None)
        assert isinstance(services.purchases.buy(order), SoldOut)
        world.clock.now += OVER_SECONDS
        assert isinstance(services.purchases.buy(order), Bought)

    @pytest.mark.G1
    def test_not_before_every_clock(self, world: World) -> None:
        """Within the clocks' difference the tickets are neither free nor confirmed."""
        held = hold(world)
        assert held.expires_at
        world.clock.now = held.expires_at
        assert problem(confirm(world, held)) is HoldProblem.EXPIRED
        assert isinstance(buy(world), SoldOut)
        world.clock.now += CLOCK_SKEW_SECONDS
        assert isinstance(buy(world), Bought)

    @pytest.mark.G2
    def test_hold_ends_during_snapshot(self, world: World) -> None:
        """Was it over at the snapshot's instant? Nothing is refused before that is known."""
        held = hold(world)
        assert held.expires_at
        world.clock.now = held.expires_at + CLOCK_SKEW_SECONDS - 0.1

        def wait() -> None:
            world.clock.now += 0.2

        world.client.after("transact_get_items", wait)
        assert buy(world, quantity=2) == SoldOut(left=1)
        assert world.client.count("transact_get_items") == 2
        assert isinstance(buy(world), Bought)

    @pytest.mark.G2
    def test_half_of_buyers_vanish(self, world: World) -> None:
        """All 100 tickets are sold in the end, with nothing running in the background."""
        world.open_sale(stock=100, shards=4, hold_seconds=SECONDS)
        services = world.services()
        for number in range(50):
            order = services.purchases.order(ITEM, 2, None, f"{KEY}-{number}", is_hold=True)
            held = services.purchases.buy(order)
            assert isinstance(held, Held)
            if number % 2:
                bought(services.holds.confirm(held.hold.purchase_id, None))
        assert inventory(world)[:2] == (0, 50)
        world.clock.now += OVER_SECONDS
        sold = 50
        while isinstance(outcome := buy(world, quantity=5), Bought):
            sold += outcome.purchase.quantity
        assert (outcome, sold) == (SoldOut(left=0), 100)
        world.assert_exact(sold=100)

    def test_slots_are_few(self, world: World) -> None:
        """Holds that no one needs back for days: old slots go when a shard has too many."""
        world.open_sale(stock=1000, shards=1, hold_seconds=SECONDS)
        services = world.services()
        for number in range(2 * SLOTS_MAX):
            order = services.purchases.order(ITEM, 1, None, f"{KEY}-{number}", is_hold=True)
            assert isinstance(services.purchases.buy(order), Held)
            world.clock.now += 2
            (shard,) = world.store.read_shards(stored_sale(world))
            assert len(shard.slots) <= SLOTS_MAX
        assert inventory(world)[1] <= SLOTS_PER_HOLD + 2
        assert world.audit().problems == []


class TestExtend:
    def test_extend(self, world: World) -> None:
        held = hold(world)
        world.clock.now += 30
        extended = world.services().holds.extend(held.purchase_id)
        assert isinstance(extended, Held)
        assert extended.hold.expires_at == expiry_slot(SECONDS, world.clock.now)
        world.clock.now += 40
        assert isinstance(buy(world), SoldOut), "its time would have been over"
        again = world.services().holds.extend(held.purchase_id)
        assert again == Held(extended.hold, replayed=True)
        world.clock.now += OVER_SECONDS
        assert problem(world.services().holds.extend(held.purchase_id)) is HoldProblem.EXPIRED
        assert isinstance(buy(world), Bought)

    def test_at_once(self, world: World) -> None:
        """Nothing to gain: it can still be extended later."""
        held = hold(world)
        assert world.services().holds.extend(held.purchase_id) == Held(held, replayed=False)
        world.clock.now += 10
        later = world.services().holds.extend(held.purchase_id)
        assert isinstance(later, Held)
        assert later.hold.extended_at is not None

    @pytest.mark.G1
    def test_slot_is_gone(self, world: World) -> None:
        """Reclaimed by a process whose clock is ahead."""
        held = hold(world)
        world.clock.now += 30
        (shard,) = world.store.read_shards(stored_sale(world))
        assert world.store.reclaim(ITEM, shard, list(shard.slots), "now") is None
        assert problem(world.services().holds.extend(held.purchase_id)) is HoldProblem.EXPIRED

    def test_shard_has_too_many_slots(self, world: World) -> None:
        world.open_sale(stock=1000, shards=1, hold_seconds=SECONDS)
        held = [hold(world, key=f"{KEY}-{n}") for n in range(2)]
        world.clock.now += 20
        services = world.services()
        services.holds.extend(held[0].purchase_id)
        (shard,) = world.store.read_shards(stored_sale(world))
        for slot in range(SLOTS_MAX):
            world.client.update_item(
                TableName=world.table_name,
                Key={"pk": {"S": "item#1#stock#00"}},
                UpdateExpression="SET slots.#slot = :zero",
                ExpressionAttributeNames={"#slot": str(slot)},
                ExpressionAttributeValues={":zero": {"N": "0"}},
            )
        world.clock.now += 10
        assert isinstance(services.holds.extend(held[1].purchase_id), Held)
        (shard,) = world.store.read_shards(stored_sale(world))
        assert sum(shard.slots.values()) == 2
        assert len(shard.slots) <= 4

    def test_not_of_released_or_confirmed(self, world: World) -> None:
        world.open_sale(stock=2, hold_seconds=SECONDS)
        first, second = hold(world), hold(world, key=KEY + "-2")
        services = world.services()
        services.holds.release(first.purchase_id)
        bought(confirm(world, second))
        assert problem(services.holds.extend(first.purchase_id)) is HoldProblem.RELEASED
        assert problem(services.holds.extend(second.purchase_id)) is HoldProblem.CONFIRMED


class TestRelease:
    @pytest.mark.G2
    def test_release(self, world: World) -> None:
        held = hold(world)
        services = world.services()
        released = services.holds.release(held.purchase_id)
        assert isinstance(released, Held)
        assert released.hold.status is Status.RELEASED
        again = services.holds.release(held.purchase_id)
        assert again == Held(released.hold, replayed=True)
        assert inventory(world) == (1, 0, 0)
        assert world.audit().problems == []
        assert problem(confirm(world, held)) is HoldProblem.RELEASED
        assert isinstance(buy(world), Bought)
        assert services.holds.release(held.purchase_id) == Held(released.hold, replayed=True)

    @pytest.mark.G1
    def test_confirmed(self, world: World) -> None:
        held = hold(world)
        bought(confirm(world, held))
        assert problem(world.services().holds.release(held.purchase_id)) is HoldProblem.CONFIRMED
        world.assert_exact(sold=1)

    @pytest.mark.G1
    def test_expired(self, world: World) -> None:
        """Its tickets are free already, and perhaps sold."""
        held = hold(world)
        world.clock.now += OVER_SECONDS
        bought(buy(world))
        outcome = world.services().holds.release(held.purchase_id)
        assert outcome == Held(replace(held, status=Status.EXPIRED), replayed=False)
        world.assert_exact(sold=1)

    @pytest.mark.G1
    def test_slot_is_gone(self, world: World) -> None:
        held = hold(world)
        (shard,) = world.store.read_shards(stored_sale(world))
        assert world.store.reclaim(ITEM, shard, list(shard.slots), "now") is None
        outcome = world.services().holds.release(held.purchase_id)
        assert outcome == Held(replace(held, status=Status.EXPIRED), replayed=False)
        assert inventory(world) == (1, 0, 0)


def change(services: Services, held: Purchase, name: str) -> ConfirmOutcome | Held:
    holds = services.holds
    changes: dict[str, Callable[[], ConfirmOutcome | Held]] = {
        "confirm": lambda: holds.confirm(held.purchase_id, "pay-1"),
        "extend": lambda: holds.extend(held.purchase_id),
        "release": lambda: holds.release(held.purchase_id),
    }
    return changes[name]()


@pytest.mark.G5
@pytest.mark.parametrize("name", ["confirm", "extend", "release"])
class TestTrouble:
    def test_lost_reply(self, world: World, name: str) -> None:
        """The record says that it was this request."""
        held = hold(world)
        world.clock.now += 20
        world.client.after("transact_write_items", raises(lost_reply()))
        outcome = change(world.services(), held, name)
        assert isinstance(outcome, Bought | Held)
        assert not outcome.replayed
        again = change(world.services(), held, name)
        assert isinstance(again, Bought | Held)
        assert again.replayed

    def test_contention(self, world: World, name: str) -> None:
        held = hold(world)
        world.clock.now += 20
        codes = ["TransactionConflict", "None", "None"][: 3 if name == "confirm" else 2]
        world.client.before("transact_write_items", raises(cancelled(*codes)))
        outcome = change(world.services(), held, name)
        assert isinstance(outcome, Bought | Held)
        assert not outcome.replayed

    def test_in_doubt(self, world: World, name: str) -> None:
        held = hold(world)
        world.client.after("transact_write_items", *[raises(lost_reply())] * 9)
        world.client.before("get_item", *[lambda: None] * 2, *[raises(lost_reply())] * 999)
        world.clock.now += 20
        with pytest.raises(Busy) as busy:
            change(world.services(), held, name)
        assert busy.value.reason is Reason.IN_DOUBT
        assert busy.value.purchase_id == held.purchase_id


@pytest.mark.G5
class TestRefusalInDoubt:
    def test_late_request(self, world: World) -> None:
        """A refused confirmation never takes effect later: the record has its next revision."""
        held = hold(world)
        assert held.expires_at
        world.clock.now = held.expires_at - 0.001
        late = []

        def keep(call: Callable[..., object], **request: object) -> object:
            late.append(request)
            raise lost_reply()

        world.client.replace("transact_write_items", keep)
        services = world.services()
        assert problem(services.holds.confirm(held.purchase_id, None)) is HoldProblem.EXPIRED
        world.client.replace("transact_write_items", lambda call, **request: call(**request))
        (request,) = late
        with pytest.raises(ClientError, match="Canceled"):
            world.client.transact_write_items(**request)
        world.clock.now += OVER_SECONDS
        assert world.services().holds.find(held.purchase_id).status is Status.EXPIRED
        assert isinstance(buy(world), Bought)
        world.assert_exact(sold=1)

    def test_request_that_was_given_up(self, world: World) -> None:
        """The caller went away and sent again: the first request cannot take effect either."""
        held = hold(world)
        assert held.expires_at
        late = []

        def keep(call: Callable[..., object], **request: object) -> object:
            late.append(request)
            raise SystemExit  # the process ends

        world.client.replace("transact_write_items", keep)
        with pytest.raises(SystemExit):
            confirm(world, held, "pay-1")
        world.client.replace("transact_write_items", lambda call, **request: call(**request))
        world.clock.now = held.expires_at
        assert problem(confirm(world, held)) is HoldProblem.EXPIRED
        with pytest.raises(ClientError, match="Canceled"):
            world.client.transact_write_items(**late[0])
        assert world.audit().problems == []
        assert bought(confirm(world, held, "pay-2")).purchase.revision == 2

    def test_commit_before_refusal(self, world: World) -> None:
        """The first attempt has committed after all: that is the answer."""
        held = hold(world)
        assert held.expires_at
        world.clock.now = held.expires_at - 0.001
        world.client.after("transact_write_items", raises(lost_reply()))
        paid = bought(world.services().holds.confirm(held.purchase_id, None))
        assert not paid.replayed


def stored_sale(world: World) -> Sale:
    found = world.store.read_sale(ITEM)
    assert found
    return found
