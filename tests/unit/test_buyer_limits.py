"""Limits for each buyer: over all requests, in parallel, and given back once."""

from copy import replace

import pytest

from tests.support import ITEM, World, lost_reply, raises, service_error
from ticketing.errors import Busy, BuyerUnknown
from ticketing.limits import (
    CACHE_SECONDS,
    CLOCK_SKEW_SECONDS,
    HOLD_SECONDS_MIN,
    LATE_COMMIT_SECONDS,
)
from ticketing.model import (
    Bought,
    BuyerTickets,
    CountedTickets,
    Held,
    HoldProblem,
    KeyReused,
    LimitReached,
    Outcome,
    Purchase,
    Refunded,
    SoldOut,
)
from ticketing.moves import Status
from ticketing.rules import counted, is_within
from ticketing.store.items import buyer_key

KEY = "0123456789abcdef"
BUYER = "buyer-42"
LIMIT = 2
SECONDS = HOLD_SECONDS_MIN  # of the holds in these tests: slots of one second
OVER_SECONDS = SECONDS + 1 + CLOCK_SKEW_SECONDS


@pytest.fixture(autouse=True)
def sale(world: World) -> None:
    world.open_sale(stock=20, shards=8, hold_seconds=SECONDS, limit=LIMIT)


def order(
    world: World,
    quantity: int = 1,
    buyer: str | None = BUYER,
    key: str | None = None,
    *,
    is_hold: bool = False,
) -> Outcome:
    """Buy or hold in a new process."""
    service = world.purchase_service()
    return service.buy(service.order(ITEM, quantity, buyer, key, is_hold=is_hold))


def buy(world: World, quantity: int = 1, key: str | None = None) -> Purchase:
    outcome = order(world, quantity, key=key)
    assert isinstance(outcome, Bought)
    return outcome.purchase


def hold(world: World, quantity: int = 1) -> Purchase:
    outcome = order(world, quantity, is_hold=True)
    assert isinstance(outcome, Held)
    return outcome.hold


def refund(world: World, purchase: Purchase, quantity: int | None = None) -> None:
    outcome = world.services().refunds.refund(purchase.purchase_id, quantity, KEY)
    assert isinstance(outcome, Refunded)


def stored(world: World, generation: int = 1) -> BuyerTickets:
    """Return what the buyer has, as it is stored."""
    purchase = Purchase(
        "none", ITEM, generation, BUYER, 1, Status.CONFIRMED, {}, "", "", is_counted=True
    )
    found = world.store.read_buyer(purchase)
    assert found is not None
    return found


def sold(world: World, generation: int = 1) -> int:
    """Return how many tickets count for the buyer that are bought, as it is stored."""
    counted = stored(world, generation).purchases.values()
    return sum(each.tickets for each in counted if each.expires_at is None)


class TestLimit:
    def test_over_all_requests(self, world: World) -> None:
        buy(world)
        hold(world)
        world.client.calls.clear()
        assert order(world) == LimitReached(LIMIT, left=0)
        assert order(world, is_hold=True) == LimitReached(LIMIT, left=0)
        assert world.client.calls == ["get_item", "get_item"] * 2, "a refusal writes nothing"
        assert isinstance(order(world, buyer="Buyer-42"), Bought), "ids are compared by letter"
        world.assert_exact(sold=2)
        assert world.audit().problems == []

    def test_more_than_left(self, world: World) -> None:
        assert order(world, quantity=3) == LimitReached(LIMIT, left=2)
        buy(world)
        assert order(world, quantity=2) == LimitReached(LIMIT, left=1)
        assert order(world, quantity=2, is_hold=True) == LimitReached(LIMIT, left=1)

    def test_sold_out(self, world: World) -> None:
        world.open_sale(stock=1)
        buy(world)
        assert order(world) == SoldOut(left=0)
        assert order(world, buyer="another") == SoldOut(left=0)

    def test_hold_buy_refund_buy(self, world: World) -> None:
        hold(world)
        refund(world, buy(world))
        buy(world)
        assert order(world) == LimitReached(LIMIT, left=0)

    def test_sale_without_limit(self, world: World) -> None:
        """A reset keeps the limit, and 0 lifts it."""
        world.open_sale(stock=20)
        assert order(world, quantity=3) == LimitReached(LIMIT, left=2)
        world.open_sale(stock=20, limit=0)
        buy(world, quantity=3)
        assert isinstance(order(world, buyer=None), Bought)
        assert world.client.count("get_item") == 2, "the sale, and no buyer"

    def test_next_generation(self, world: World) -> None:
        buy(world, quantity=2)
        world.open_sale(stock=20)
        buy(world, quantity=2)


class TestGivenBackOnce:
    def test_release(self, world: World) -> None:
        held = hold(world, quantity=2)
        for _ in range(2):
            world.services().holds.release(held.purchase_id)
        assert stored(world) == BuyerTickets(ITEM, 1, BUYER, revision=2)
        buy(world, quantity=2)
        assert order(world) == LimitReached(LIMIT, left=0)

    def test_expiry(self, world: World) -> None:
        """Nothing runs in the background, and a slot that is over goes with the next put."""
        hold(world, quantity=2)
        world.clock.now += SECONDS - 1
        assert order(world) == LimitReached(LIMIT, left=0)
        world.clock.now += OVER_SECONDS - SECONDS + 1
        buy(world)
        (counted,) = stored(world).purchases.values()
        assert counted == CountedTickets(1)
        assert order(world, quantity=2) == LimitReached(LIMIT, left=1)

    def test_refund(self, world: World) -> None:
        purchase = buy(world, quantity=2)
        for _ in range(2):
            refund(world, purchase, quantity=1)
        buy(world)
        assert order(world) == LimitReached(LIMIT, left=0)

    @pytest.mark.G3
    def test_duplicate_of_refund(self, world: World) -> None:
        """It commits between our reads of the purchase and of the buyer, who has nothing then."""
        purchase = buy(world)
        world.client.before("get_item", lambda: None, lambda: refund(world, purchase))
        outcome = world.services().refunds.refund(purchase.purchase_id, None, KEY)
        assert isinstance(outcome, Refunded)
        assert outcome.replayed
        assert stored(world).purchases == {}
        world.assert_exact(sold=0)

    def test_buyer_without_tickets(self, world: World) -> None:
        """Their record was lost. The purchase's says what counts from then on."""
        purchase = buy(world, quantity=2)
        key = buyer_key(ITEM, purchase.generation, BUYER)
        world.client.delete_item(TableName=world.table_name, Key=key)
        refund(world, purchase, quantity=1)
        assert order(world, quantity=2) == LimitReached(LIMIT, left=1)

    def test_refund_after_reset(self, world: World) -> None:
        """It gives nothing back: the next generation counts its own tickets."""
        purchase = buy(world, quantity=2)
        world.open_sale(stock=20)
        buy(world, quantity=2)
        refund(world, purchase)
        assert order(world) == LimitReached(LIMIT, left=0)
        assert sold(world) == sold(world, generation=2) == 2

    def test_confirmation(self, world: World) -> None:
        """It counts once: first as held, then as sold."""
        held = hold(world)
        world.services().holds.extend(held.purchase_id)
        buy(world)
        for _ in range(2):
            assert isinstance(world.services().holds.confirm(held.purchase_id, None), Bought)
        assert (sold(world), stored(world).revision) == (2, 3)
        assert order(world) == LimitReached(LIMIT, left=0)

    def test_extension(self, world: World) -> None:
        held = hold(world, quantity=2)
        world.clock.now += SECONDS - 1
        extended = world.services().holds.extend(held.purchase_id)
        assert isinstance(extended, Held)
        assert stored(world).purchases == {
            held.purchase_id: CountedTickets(2, extended.hold.expires_at)
        }
        world.clock.now += 3  # the hold was over by now
        assert order(world) == LimitReached(LIMIT, left=0)


class TestLateConfirmation:
    """Of a hold that stopped counting: the limit counts it again, and may refuse it."""

    @pytest.mark.parametrize("bought", [0, 1, 2])
    def test_paid_late(self, world: World, bought: int) -> None:
        """Its slot is still in the shard, and the buyer has bought since."""
        held = hold(world)
        world.clock.now += OVER_SECONDS
        if bought:
            buy(world, quantity=bought)
        outcome = world.services().holds.confirm(held.purchase_id, "payment-1")
        if bought < LIMIT:
            assert isinstance(outcome, Bought)
            assert sold(world) == bought + 1
        else:
            assert outcome is HoldProblem.EXPIRED
            assert sold(world) == bought
        assert world.audit().problems == []

    def test_slot_is_gone(self, world: World) -> None:
        """Another buyer has reclaimed it. There are free tickets, but not for this buyer."""
        world.open_sale(stock=3, shards=1)
        held = hold(world, quantity=2)
        world.clock.now += OVER_SECONDS
        taken = order(world, quantity=2, buyer="another")
        assert isinstance(taken, Bought)
        refund(world, taken.purchase)
        bought = buy(world)
        holds = world.services().holds
        assert holds.confirm(held.purchase_id, "payment-1") is HoldProblem.EXPIRED
        refund(world, bought)
        assert isinstance(holds.confirm(held.purchase_id, "payment-2"), Bought)
        world.assert_exact(sold=2)


class TestConcurrency:
    @pytest.mark.G1
    def test_parallel_purchases(self, world: World) -> None:
        """Another one of the same buyer commits between our read and our transaction."""
        buy(world)
        world.client.before("transact_write_items", lambda: buy(world))
        assert order(world) == LimitReached(LIMIT, left=0)
        world.assert_exact(sold=2)

    def test_parallel_purchase_within_limit(self, world: World) -> None:
        world.client.before("transact_write_items", lambda: buy(world))
        buy(world)
        assert world.clock.slept, "they wait for each other, with jitter"
        world.assert_exact(sold=2)

    @pytest.mark.G3
    def test_duplicate_used_limit_up(self, world: World) -> None:
        """The duplicate commits before our look at the buyer, who has then no tickets left."""
        first = buy(world, quantity=2, key=KEY)
        outcome = order(world, quantity=2, key=KEY)
        assert outcome == Bought(first, replayed=True)
        assert order(world, quantity=1, key=KEY) == KeyReused()

    @pytest.mark.G3
    @pytest.mark.G5
    def test_own_attempt_used_limit_up(self, world: World) -> None:
        """Its answer was lost, so the next attempt finds the limit used up."""
        world.client.after("transact_write_items", raises(lost_reply()))
        outcome = order(world, quantity=2, key=KEY)
        assert isinstance(outcome, Bought)
        assert not outcome.replayed

    @pytest.mark.G5
    def test_refusal_in_doubt(self, world: World) -> None:
        """The refusal is put on record, so that the attempt cannot buy later."""
        bought: list[Purchase] = []

        def lose() -> None:
            bought.append(buy(world, quantity=2))
            raise lost_reply()

        world.client.before("transact_write_items", lose)
        outcome = order(world, quantity=2, key=KEY)
        assert outcome == LimitReached(LIMIT, left=0, final=True)
        refund(world, bought[0])
        again = LimitReached(LIMIT, left=0, final=True, replayed=True)
        assert order(world, quantity=2, key=KEY) == again


class TestBuyerUnknown:
    def test_no_buyer(self, world: World) -> None:
        for is_hold in (False, True):
            with pytest.raises(BuyerUnknown, match="limit of 2") as caught:
                order(world, buyer=None, key=KEY, is_hold=is_hold)
            assert caught.value.field == "buyer_id"
        assert world.records() == []

    @pytest.mark.G3
    def test_key_has_receipt(self, world: World) -> None:
        """It was sold before the sale got its limit."""
        world.open_sale(stock=20, limit=0)
        first = order(world, buyer=None, key=KEY)
        assert isinstance(first, Bought)
        world.open_sale(stock=20, limit=LIMIT)
        assert order(world, buyer=None, key=KEY) == Bought(first.purchase, replayed=True)

    @pytest.mark.G2
    def test_not_sold_out(self, world: World) -> None:
        """One answer, whether or not a process remembers that the sale is sold out."""
        world.open_sale(stock=1, limit=LIMIT)
        service = world.purchase_service()
        service.buy(service.order(ITEM, 1, BUYER, None))
        service.buy(service.order(ITEM, 1, "another", None))
        with pytest.raises(BuyerUnknown):
            service.buy(service.order(ITEM, 1, None, None))

    @pytest.mark.G5
    def test_attempt_in_doubt(self, world: World) -> None:
        """An attempt in the generation before, which had no limit, may have bought."""
        world.open_sale(stock=20, limit=0)

        def lose() -> None:
            world.clock.now += 1
            world.open_sale(stock=20, limit=LIMIT)
            raise lost_reply()

        world.client.before("transact_write_items", lose)
        service = world.purchase_service()
        with pytest.raises(Busy) as caught:
            service.buy(service.order(ITEM, 1, None, None))
        assert caught.value.retry_after_seconds == LATE_COMMIT_SECONDS


@pytest.mark.G2
@pytest.mark.parametrize("buyer", [BUYER, None])
def test_settings_cannot_be_read(world: World, buyer: str | None) -> None:
    """A limit that is older than a second refuses no one: it may have been lifted."""
    service = world.purchase_service()
    service.buy(service.order(ITEM, LIMIT, BUYER, None))
    world.clock.now += CACHE_SECONDS + 1
    world.open_sale(stock=20, limit=0)
    world.client.before("get_item", raises(service_error("ThrottlingException")))
    assert isinstance(service.buy(service.order(ITEM, 1, buyer, None)), Bought)
    assert world.client.calls[0] == "get_item"


class TestRules:
    def test_lowered_limit(self) -> None:
        """It takes nothing away, and refuses only what adds tickets."""
        bought = CountedTickets(3)
        before = BuyerTickets(ITEM, 1, BUYER, {"0": bought, "1": CountedTickets(2, 100)})
        held = Purchase("1", ITEM, 1, BUYER, 2, Status.HELD, {0: 2}, "", "", expires_at=100)
        confirmed = counted(before, replace(held, status=Status.CONFIRMED), now=50)
        assert confirmed.purchases == {"0": bought, "1": CountedTickets(2)}
        assert is_within(2, before, confirmed, now=50)
        extended = counted(before, replace(held, expires_at=150), now=50)
        assert extended.purchases == {"0": bought, "1": CountedTickets(2, 150)}
        assert is_within(2, before, extended, now=50)
        for status in (Status.CONFIRMED, Status.HELD):
            record = replace(held, purchase_id="2", quantity=1, status=status)
            more = counted(before, record, now=50)
            assert not is_within(5, before, more, now=50)
            assert is_within(6, before, more, now=50)

    def test_small_record(self, world: World) -> None:
        """Holds that are over go with the next put, so the record does not grow without end."""
        world.open_sale(stock=100, limit=0, shards=1)
        world.open_sale(stock=100, limit=100, shards=1)
        for _ in range(40):
            hold(world)
            world.clock.now += 1
        assert SECONDS <= len(stored(world, generation=3).purchases) <= SECONDS + 2
