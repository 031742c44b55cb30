"""Refunds: tickets come back exactly once, whatever the store does."""

from typing import Any

import pytest

from tests.support import ITEM, World, cancelled, lost_reply, raises
from ticketing.errors import Busy, NotFound, Reason, UnreadableRecord
from ticketing.limits import LATE_COMMIT_SECONDS, QUANTITY_MAX
from ticketing.model import (
    Bought,
    KeyReused,
    Purchase,
    Refunded,
    RefundOutcome,
    RefundTooLarge,
    SoldOut,
)
from ticketing.moves import Status
from ticketing.retry import Statistics

KEY = "0123456789abcdef"
BUYERS_KEY = "fedcba9876543210"


def sold(world: World, quantity: int = 1) -> Purchase:
    """Sell tickets of an open sale."""
    service = world.purchase_service()
    outcome = service.buy(service.order(ITEM, quantity, "buyer-42", BUYERS_KEY))
    assert isinstance(outcome, Bought)
    return outcome.purchase


def refund(
    world: World, purchase: Purchase, quantity: int | None = None, key: str = KEY
) -> RefundOutcome:
    """Refund in a new process."""
    return world.services().refunds.refund(purchase.purchase_id, quantity, key)


def made(outcome: RefundOutcome) -> Refunded:
    assert isinstance(outcome, Refunded)
    return outcome


@pytest.mark.G1
@pytest.mark.G4
def test_whole_purchase(world: World) -> None:
    world.open_sale(stock=3, shards=3)
    purchase = sold(world, 3)
    assert purchase.taken == {0: 1, 1: 1, 2: 1}
    refunded = made(refund(world, purchase))
    assert not refunded.replayed
    assert refunded.quantity == 3
    assert refunded.purchase.status is Status.REFUNDED
    assert refunded.purchase.refunded_quantity == 3
    assert world.records() == [refunded.purchase]
    world.assert_exact(sold=0)
    assert world.audit().problems == []


@pytest.mark.G4
def test_in_parts(world: World) -> None:
    world.open_sale(stock=10, shards=1)
    purchase = sold(world, 3)
    first = made(refund(world, purchase, 1, key=KEY)).purchase
    assert (first.status, first.refunded_quantity) == (Status.CONFIRMED, 1)
    world.assert_exact(sold=2)
    assert refund(world, purchase, 3, key=KEY + "-2") == RefundTooLarge(left=2)
    assert refund(world, purchase, None, key=KEY + "-2") == RefundTooLarge(left=2)
    second = made(refund(world, purchase, 2, key=KEY + "-2")).purchase
    assert (second.status, second.refunded_quantity) == (Status.REFUNDED, 3)
    assert refund(world, purchase, 1, key=KEY + "-3") == RefundTooLarge(left=0)
    world.assert_exact(sold=0)
    assert world.audit().problems == []


@pytest.mark.G2
def test_tickets_are_sold_again(world: World) -> None:
    world.open_sale(stock=1)
    purchase = sold(world)
    service = world.purchase_service()
    order = service.order(ITEM, 1, None, KEY)
    assert service.buy(order) == SoldOut(left=0)
    refund(world, purchase)
    world.clock.now += 1
    assert isinstance(service.buy(order), Bought)
    world.assert_exact(sold=1)


@pytest.mark.G3
class TestOnce:
    def test_same_key_again(self, world: World) -> None:
        world.open_sale(stock=5)
        purchase = sold(world, 2)
        first = made(refund(world, purchase, 1))
        assert refund(world, purchase, 1) == Refunded(first.purchase, 1, replayed=True)
        world.assert_exact(sold=1)

    @pytest.mark.parametrize(("quantity", "other"), [(1, 2), (1, None), (None, 1)])
    def test_key_with_other_quantity(
        self, world: World, quantity: int | None, other: int | None
    ) -> None:
        world.open_sale(stock=5)
        purchase = sold(world, 2)
        made(refund(world, purchase, quantity))
        assert refund(world, purchase, other) == KeyReused()

    def test_without_quantity_is_all(self, world: World) -> None:
        """As many as were bought: the same request, spelled out or not."""
        world.open_sale(stock=5)
        purchase = sold(world, 2)
        made(refund(world, purchase, None))
        assert made(refund(world, purchase, 2)).replayed

    def test_receipt_of_buyer(self, world: World) -> None:
        """The key that bought gets its receipt, with the refund."""
        world.open_sale(stock=5)
        purchase = sold(world)
        refunded = made(refund(world, purchase)).purchase
        service = world.purchase_service()
        order = service.order(ITEM, 1, "buyer-42", BUYERS_KEY)
        assert service.buy(order) == Bought(refunded, replayed=True)
        assert service.find(purchase.purchase_id) == refunded
        world.assert_exact(sold=0)

    def test_concurrent_refunds(self, world: World) -> None:
        """Both have read the record before either changes it."""
        world.open_sale(stock=5)
        purchase = sold(world, 2)
        others: list[RefundOutcome] = []
        world.client.before(
            "transact_write_items",
            lambda: others.append(refund(world, purchase, 2, key=KEY + "-2")),
        )
        assert refund(world, purchase, 1) == RefundTooLarge(left=0)
        assert not made(others[0]).replayed
        world.assert_exact(sold=0)

    def test_concurrent_duplicate(self, world: World) -> None:
        world.open_sale(stock=5)
        purchase = sold(world, 2)
        world.client.before("transact_write_items", lambda: refund(world, purchase, 1))
        assert made(refund(world, purchase, 1)).replayed
        world.assert_exact(sold=1)

    @pytest.mark.G5
    def test_lost_reply(self, world: World) -> None:
        world.open_sale(stock=5)
        purchase = sold(world, 2)
        world.client.after("transact_write_items", raises(lost_reply()))
        assert not made(refund(world, purchase, 1)).replayed
        world.assert_exact(sold=1)

    @pytest.mark.G5
    def test_late_attempt(self, world: World) -> None:
        """It demands a revision of the record that the next attempt has changed."""
        world.open_sale(stock=5)
        purchase = sold(world, 2)
        late: list[Any] = []

        def lose() -> None:
            late.append(world.client.requests[-1])
            raise lost_reply()

        world.client.before("transact_write_items", lose)
        assert not made(refund(world, purchase, 1)).replayed
        with pytest.raises(Exception, match="ConditionalCheckFailed"):
            world.client.transact_write_items(**late[0])
        world.assert_exact(sold=1)


@pytest.mark.G5
def test_refund_before_answer(world: World) -> None:
    """A purchase without an answer, refunded before its next attempt: a 201, and no replay."""
    world.open_sale(stock=5)
    service = world.purchase_service()
    order = service.order(ITEM, 1, None, BUYERS_KEY)

    def refund_and_lose() -> None:
        made(world.services().refunds.refund(order.purchase_id, None, KEY))
        raise lost_reply()

    world.client.after("transact_write_items", refund_and_lose)
    outcome = service.buy(order)
    assert isinstance(outcome, Bought)
    assert not outcome.replayed
    assert outcome.purchase.status is Status.REFUNDED
    world.assert_exact(sold=0)


@pytest.mark.G5
def test_two_refunds_before_answer(world: World) -> None:
    world.open_sale(stock=5)
    purchase = sold(world, 2)

    def refund_more_and_lose() -> None:
        made(refund(world, purchase, 1, key=KEY + "-2"))
        raise lost_reply()

    world.client.after("transact_write_items", refund_more_and_lose)
    assert not made(refund(world, purchase, 1)).replayed
    world.assert_exact(sold=0)


class TestAfterReset:
    @pytest.mark.G1
    @pytest.mark.G4
    def test_only_record_changes(self, world: World) -> None:
        world.open_sale(stock=3, shards=3)
        purchase = sold(world, 3)
        world.open_sale(stock=4, shards=2)
        first = made(refund(world, purchase, 1)).purchase
        assert (first.refunded_quantity, first.taken) == (1, purchase.taken)
        assert made(refund(world, purchase, 2, key=KEY + "-2")).purchase.status is Status.REFUNDED
        world.assert_exact(sold=0)
        assert world.audit().problems == []

    @pytest.mark.G4
    def test_reset_in_between(self, world: World) -> None:
        """The reset comes after the record was read, and has not closed all shards."""
        world.open_sale(stock=2, shards=2)
        purchase = sold(world, 2)

        def crashing_reset() -> None:
            world.client.before("update_item", lambda: None, raises(KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                world.reset(stock=2, shard_count=2)

        world.client.before("transact_write_items", crashing_reset)
        assert made(refund(world, purchase)).purchase.status is Status.REFUNDED
        assert world.audit().problems == []
        world.assert_exact(sold=0)


class TestStoreErrors:
    def test_unknown_purchase(self, world: World) -> None:
        world.open_sale(stock=5)
        with pytest.raises(NotFound, match="no purchase"):
            world.services().refunds.refund("missing", None, KEY)

    @pytest.mark.G6
    def test_conflict(self, world: World) -> None:
        world.open_sale(stock=5)
        purchase = sold(world)
        statistics = Statistics()
        world.client.before(
            "transact_write_items", raises(cancelled("TransactionConflict", "None"))
        )
        outcome = world.services().refunds.refund(purchase.purchase_id, None, KEY, statistics)
        assert not made(outcome).replayed
        assert (statistics.conflicts, statistics.attempts, statistics.quantity) == (1, 2, 1)

    @pytest.mark.G5
    def test_no_answer_at_all(self, world: World) -> None:
        world.open_sale(stock=5)
        purchase = sold(world)
        world.client.before("transact_write_items", *[raises(lost_reply())] * 100)
        with pytest.raises(Busy) as caught:
            refund(world, purchase)
        assert caught.value.reason is Reason.IN_DOUBT
        assert caught.value.retry_after_seconds == LATE_COMMIT_SECONDS
        assert "same Idempotency-Key" in caught.value.remedy

    @pytest.mark.G4
    def test_shard_without_its_tickets(self, world: World) -> None:
        """The table was changed by hand: nothing is refunded, and the error names the shard."""
        world.open_sale(stock=5, shards=1)
        purchase = sold(world)
        world.client.update_item(
            TableName=world.table_name,
            Key={"pk": {"S": "item#1#stock#00"}},
            UpdateExpression="SET sold = :zero",
            ExpressionAttributeValues={":zero": {"N": "0"}},
        )
        with pytest.raises(UnreadableRecord, match="shard 0 has not sold"):
            refund(world, purchase)


def test_record_stays_small(world: World) -> None:
    """Ten refunds of a purchase from ten shards, with the longest buyer id: below 1 KB."""
    world.open_sale(stock=QUANTITY_MAX, shards=QUANTITY_MAX)
    service = world.purchase_service()
    outcome = service.buy(service.order(ITEM, QUANTITY_MAX, "b" * 128, BUYERS_KEY))
    assert isinstance(outcome, Bought)
    sizes = []
    for number in range(QUANTITY_MAX):
        made(refund(world, outcome.purchase, 1, key=f"{KEY}-{number}"))
        sizes.append(size(world, outcome.purchase.purchase_id))
    assert max(sizes) < 1000
    world.assert_exact(sold=0)


def size(world: World, purchase_id: str) -> int:
    """Return at least as many bytes as DynamoDB counts for the record."""
    key = {"pk": {"S": f"purchase#{purchase_id}"}}
    item = world.client.get_item(TableName=world.table_name, Key=key)["Item"]
    return sum(len(name) + _bytes(value) for name, value in item.items())


def _bytes(value: Any) -> int:
    ((_, content),) = value.items()
    if isinstance(content, dict):
        return 3 + sum(1 + len(name) + _bytes(part) for name, part in content.items())
    return len(content) + 1
