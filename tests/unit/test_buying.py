"""The purchase flow with everything that a store can do to it. Concurrent buyers come on cue."""

import random
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
)

from tests.support import ITEM, World, cancelled, lost_reply, raises, service_error
from ticketing.buying import PurchaseService
from ticketing.errors import Busy, NotFound, Reason
from ticketing.limits import (
    ATTEMPTS_MAX,
    BACKOFF_BASE_SECONDS,
    BACKOFF_CAP_SECONDS,
    CACHE_STALE_SECONDS,
    LATE_COMMIT_SECONDS,
    PURCHASE_BUDGET_SECONDS,
)
from ticketing.model import Bought, KeyReused, Order, Outcome, SoldOut
from ticketing.retry import Runtime, Statistics
from ticketing.wiring import build_services

KEY = "0123456789abcdef"
# The calls of a process that reads the stock summary, and then the shards for the next one.
SUMMARY_RENEWED = ["get_item", "put_item", "transact_get_items", "get_item", "put_item"]


def order(
    service: PurchaseService, *, key: str | None = None, quantity: int = 1, buyer: str | None = None
) -> Order:
    return service.order(ITEM, quantity, buyer, key)


def buy(service: PurchaseService, *, key: str | None = None, quantity: int = 1) -> Outcome:
    return service.buy(order(service, key=key, quantity=quantity))


def sell_out(world: World) -> None:
    """Open a sale and let another process sell all of it, on more shards than are tried one by one.

    So a new process makes a plain read of all shards and then a snapshot.
    """
    tickets = 2
    world.open_sale(stock=tickets, shards=tickets)
    other = world.purchase_service()
    for _ in range(tickets):
        buy(other)
    world.client.calls.clear()


@pytest.mark.G1
@pytest.mark.G2
def test_more_buyers_than_tickets(world: World) -> None:
    world.open_sale(stock=23, shards=4)
    service = world.purchase_service()
    outcomes = [buy(service) for _ in range(30)]
    assert [type(outcome) for outcome in outcomes] == [Bought] * 23 + [SoldOut] * 7
    assert outcomes[-1] == SoldOut(left=0)
    world.assert_exact(sold=23)


def test_one_call_per_purchase(world: World) -> None:
    world.open_sale(stock=10, shards=2)
    service = world.purchase_service()
    buy(service)
    assert world.client.calls == ["get_item", "transact_write_items"]
    buy(service)
    assert world.client.calls == ["get_item", "transact_write_items", "transact_write_items"]


def test_unknown_item(world: World) -> None:
    with pytest.raises(NotFound, match="no item 1"):
        buy(world.purchase_service())


class TestIdempotency:
    @pytest.mark.G3
    def test_same_key_again(self, world: World) -> None:
        world.open_sale(stock=5)
        first = buy(world.purchase_service(), key=KEY)
        second = buy(world.purchase_service(), key=KEY)
        assert isinstance(first, Bought)
        assert not first.replayed
        assert second == Bought(first.purchase, replayed=True)
        world.assert_exact(sold=1)

    @pytest.mark.G3
    def test_same_key_other_order(self, world: World) -> None:
        world.open_sale(stock=5)
        service = world.purchase_service()
        buy(service, key=KEY)
        assert buy(service, key=KEY, quantity=2) == KeyReused()
        world.assert_exact(sold=1)

    @pytest.mark.G3
    def test_replay_after_sold_out(self, world: World) -> None:
        world.open_sale(stock=1)
        service = world.purchase_service()
        first = buy(service, key=KEY)
        assert isinstance(first, Bought)
        assert isinstance(buy(service), SoldOut)
        assert (
            buy(service, key=KEY)
            == buy(world.purchase_service(), key=KEY)
            == Bought(first.purchase, replayed=True)
        )
        assert buy(service, key=KEY, quantity=2) == KeyReused()

    @pytest.mark.G3
    def test_duplicate_takes_last_ticket(self, world: World) -> None:
        """The duplicate commits after our shard was chosen, and before our snapshot."""
        world.open_sale(stock=1)
        duplicate = world.purchase_service()
        receipts: list[Any] = []
        world.client.before(
            "transact_write_items", lambda: receipts.append(buy(duplicate, key=KEY))
        )
        outcome = buy(world.purchase_service(), key=KEY)
        assert outcome == Bought(receipts[0].purchase, replayed=True)
        world.assert_exact(sold=1)

    @pytest.mark.G3
    def test_duplicate_commits_before_read(self, world: World) -> None:
        world.open_sale(stock=2, shards=2)
        service, duplicate = world.purchase_service(), world.purchase_service()
        receipts: list[Any] = []
        world.client.before(
            "batch_get_item", lambda: receipts.append(buy(duplicate, key=KEY, quantity=2))
        )
        assert buy(service, key=KEY, quantity=2) == Bought(receipts[0].purchase, replayed=True)
        assert world.client.count("transact_get_items") == 1, (
            "the refusal was not decided by a snapshot"
        )
        world.assert_exact(sold=2)

    @pytest.mark.G3
    def test_replay_after_reset(self, world: World) -> None:
        world.open_sale(stock=5)
        first = buy(world.purchase_service(), key=KEY)
        assert isinstance(first, Bought)
        world.open_sale(stock=5)
        assert buy(world.purchase_service(), key=KEY) == Bought(first.purchase, replayed=True)
        world.assert_exact(sold=0)

    def test_find(self, world: World) -> None:
        world.open_sale(stock=5)
        service = world.purchase_service()
        outcome = service.buy(order(service, key=KEY, buyer="ann"))
        assert isinstance(outcome, Bought)
        assert service.find(outcome.purchase.purchase_id) == outcome.purchase
        with pytest.raises(NotFound):
            service.find("00000000-0000-0000-0000-000000000000")


class TestSeveralTickets:
    def test_one_shard_has_enough(self, world: World) -> None:
        world.open_sale(stock=20, shards=2)
        outcome = buy(world.purchase_service(), quantity=5)
        assert isinstance(outcome, Bought)
        assert list(outcome.purchase.taken.values()) == [5]
        world.assert_exact(sold=5)

    @pytest.mark.G2
    def test_several_shards_needed(self, world: World) -> None:
        world.open_sale(stock=12, shards=4)
        service = world.purchase_service()
        outcome = buy(service, quantity=10)
        assert isinstance(outcome, Bought)
        assert sorted(outcome.purchase.taken.values()) == [1, 3, 3, 3]
        world.assert_exact(sold=10)
        assert buy(service, quantity=3) == SoldOut(left=2)
        assert isinstance(buy(service, quantity=2), Bought)
        world.assert_exact(sold=12)

    def test_fewer_left_than_asked(self, world: World) -> None:
        world.open_sale(stock=3, shards=1)
        service = world.purchase_service()
        assert buy(service, quantity=4) == SoldOut(left=3)
        assert isinstance(buy(service, quantity=3), Bought)
        assert buy(service) == SoldOut(left=0)

    @pytest.mark.G1
    def test_shard_short_by_one(self, world: World) -> None:
        world.open_sale(stock=2, shards=1)
        other = world.purchase_service()
        world.client.before("transact_write_items", lambda: buy(other))
        assert buy(world.purchase_service(), quantity=2) == SoldOut(left=1)
        world.assert_exact(sold=1)

    @pytest.mark.G1
    def test_concurrent_buyer_at_one_shard(self, world: World) -> None:
        world.open_sale(stock=6, shards=3)
        service, other = world.purchase_service(), world.purchase_service()
        world.client.before("transact_write_items", lambda: buy(other))
        assert isinstance(buy(service, quantity=5), Bought)
        world.assert_exact(sold=6)


@pytest.mark.G2
def test_nearly_empty_shard(world: World) -> None:
    """It is read first: that costs 1 unit, and a transaction that finds nothing costs 4."""
    world.open_sale(stock=8, shards=2)
    one, other = world.purchase_service(), world.purchase_service()
    buy(one)
    assert [type(buy(other)) for _ in range(7)] == [Bought] * 7
    world.client.calls.clear()
    assert isinstance(buy(one), SoldOut)
    assert "transact_write_items" not in world.client.calls
    world.assert_exact(sold=8)


class TestStoreErrors:
    def test_conflict_then_other_shard(self, world: World) -> None:
        world.open_sale(stock=200, shards=2)
        for _ in range(20):
            world.client.before(
                "transact_write_items", raises(cancelled("TransactionConflict", "None"))
            )
            world.client.requests.clear()
            world.clock.slept.clear()
            service, statistics = world.purchase_service(), Statistics()
            assert isinstance(service.buy(order(service), statistics), Bought)
            sales = [
                request["TransactItems"]
                for request in world.client.requests
                if "TransactItems" in request
            ]
            first, second = [actions[0]["Update"]["Key"] for actions in sales]
            assert first != second
            assert (statistics.attempts, statistics.conflicts) == (2, 1)
            assert not world.clock.slept
        world.assert_exact(sold=20)

    @pytest.mark.parametrize(
        ("reasons", "pauses"),
        [
            (["TransactionConflict", "None"], 1),  # on each of the two shards: a pause after both
            (["ThrottlingError", "None"], 2),
            (["None", "TransactionConflict"], 2),  # a concurrent duplicate
            (["TransactionConflict", "ThrottlingError"], 2),
        ],
    )
    def test_pause_without_other_shard(self, world: World, reasons: list[str], pauses: int) -> None:
        """Another shard is tried at once only where a conflict on a shard was all."""
        world.open_sale(stock=200, shards=2)
        for _ in range(2):
            world.client.before("transact_write_items", raises(cancelled(*reasons)))
        assert isinstance(world.purchase_service().buy(order(world.purchase_service())), Bought)
        assert len(world.clock.slept) == pauses
        world.assert_exact(sold=1)

    @pytest.mark.parametrize(
        "trouble",
        [
            cancelled("ThrottlingError", "None"),
            cancelled("None", "TransactionConflict"),
            cancelled("ProvisionedThroughputExceeded", "None"),
            service_error("ThrottlingException"),
            service_error("ProvisionedThroughputExceededException"),
            service_error("InternalServerError", 500),
            service_error("ServiceUnavailable", 503),
            service_error("TransactionInProgressException"),
            service_error("SlowDown"),
            service_error("", 429),
            service_error("RequestTimeoutException", 408),
            CredentialRetrievalError(provider="container", error_msg="none"),
            EndpointConnectionError(endpoint_url="http://store"),
            lost_reply(),
        ],
        ids=str,
    )
    def test_passing_error(self, world: World, trouble: Exception) -> None:
        world.open_sale(stock=2, shards=1)
        world.client.before("transact_write_items", raises(trouble), raises(trouble))
        assert isinstance(buy(world.purchase_service()), Bought)
        world.assert_exact(sold=1)

    @pytest.mark.parametrize(
        "mistake",
        [
            cancelled("ValidationError", "None"),
            cancelled("TransactionConflict", "ValidationError"),
            cancelled(),
            service_error("AccessDeniedException"),
            service_error("ResourceNotFoundException"),
        ],
        ids=str,
    )
    def test_bug_is_raised(self, world: World, mistake: Exception) -> None:
        world.open_sale(stock=2, shards=1)
        world.client.before("transact_write_items", raises(mistake))
        with pytest.raises(ClientError):
            buy(world.purchase_service())
        assert world.client.count("transact_write_items") == 1

    @pytest.mark.G3
    @pytest.mark.parametrize("key", [KEY, None])
    def test_lost_reply(self, world: World, key: str | None) -> None:
        world.open_sale(stock=10, shards=4)
        world.client.after("transact_write_items", raises(lost_reply()))
        outcome = buy(world.purchase_service(), key=key)
        assert isinstance(outcome, Bought)
        assert not outcome.replayed
        assert world.client.count("transact_write_items") == 2
        world.assert_exact(sold=1)

    @pytest.mark.G3
    def test_lost_request_and_duplicate(self, world: World) -> None:
        """Our request was lost on its way and a duplicate bought: one 201 for the key, not two."""
        world.open_sale(stock=10, shards=1)
        duplicate = world.purchase_service()
        world.client.before(
            "transact_write_items", raises(lost_reply()), lambda: buy(duplicate, key=KEY)
        )
        outcome = buy(world.purchase_service(), key=KEY)
        assert isinstance(outcome, Bought)
        assert outcome.replayed
        world.assert_exact(sold=1)

    @pytest.mark.G5
    @pytest.mark.parametrize("key", [KEY, None])
    def test_lost_reply_for_last_tickets(self, world: World, key: str | None) -> None:
        """Our own attempt emptied the shards. The snapshot finds nothing left, and the record tells
        why.
        """
        world.open_sale(stock=2, shards=2)
        world.client.after("transact_write_items", raises(lost_reply()))
        outcome = buy(world.purchase_service(), key=key, quantity=2)
        assert isinstance(outcome, Bought)
        assert not outcome.replayed
        after_snapshot = world.client.calls[world.client.calls.index("transact_get_items") + 1 :]
        assert after_snapshot == ["get_item", "put_item", "put_item"], (
            "after the summary, the record was found in place of the refusal"
        )
        world.assert_exact(sold=2)

    @pytest.mark.G5
    def test_bug_after_lost_reply(self, world: World) -> None:
        world.open_sale(stock=10, shards=1)
        world.client.after("transact_write_items", raises(lost_reply()))
        world.client.before(
            "transact_write_items", lambda: None, raises(service_error("ExpiredTokenException"))
        )
        with pytest.raises(Busy) as caught:
            buy(world.purchase_service(), key=KEY)
        assert caught.value.purchase_id
        assert isinstance(caught.value.__cause__, ClientError)
        assert isinstance(buy(world.purchase_service(), key=KEY), Bought)
        world.assert_exact(sold=1)

    @pytest.mark.G5
    def test_no_answer_at_all(self, world: World) -> None:
        world.open_sale(stock=10)
        world.client.before("transact_write_items", *[raises(lost_reply())] * ATTEMPTS_MAX)
        with pytest.raises(Busy) as caught:
            buy(world.purchase_service())
        assert caught.value.purchase_id
        assert caught.value.reason is Reason.IN_DOUBT
        assert caught.value.retry_after_seconds == LATE_COMMIT_SECONDS

    @pytest.mark.G5
    @pytest.mark.parametrize(
        "trouble",
        [
            EndpointConnectionError(endpoint_url="http://store"),
            ConnectTimeoutError(endpoint_url="http://store"),
            CredentialRetrievalError(provider="container", error_msg="none"),
        ],
        ids=str,
    )
    def test_no_connection(self, world: World, trouble: Exception) -> None:
        """Nothing was sent, so nothing is in doubt."""
        world.open_sale(stock=10)
        world.client.before("transact_write_items", *[raises(trouble)] * ATTEMPTS_MAX)
        with pytest.raises(Busy) as caught:
            buy(world.purchase_service())
        assert (caught.value.reason, caught.value.purchase_id) == (Reason.STORE_UNAVAILABLE, None)
        assert 1 <= caught.value.retry_after_seconds <= 3

    def test_reason_of_unreachable_store(self, world: World) -> None:
        world.client.before(
            "get_item",
            *[raises(EndpointConnectionError(endpoint_url="http://store"))] * ATTEMPTS_MAX,
        )
        with pytest.raises(Busy) as caught:
            buy(world.purchase_service())
        assert caught.value.reason is Reason.STORE_UNAVAILABLE

    @pytest.mark.G5
    @pytest.mark.parametrize(
        ("key", "words"), [(KEY, "same Idempotency-Key"), (None, "Look its purchase_id up")]
    )
    def test_remedy_fits_request(self, world: World, key: str | None, words: str) -> None:
        world.open_sale(stock=10)
        world.client.before("transact_write_items", *[raises(lost_reply())] * ATTEMPTS_MAX)
        with pytest.raises(Busy) as caught:
            buy(world.purchase_service(), key=key)
        assert words in caught.value.remedy

    @pytest.mark.G6
    def test_conflicts_without_end(self, world: World) -> None:
        world.open_sale(stock=10)
        start = world.clock()
        world.client.before(
            "transact_write_items", *[raises(cancelled("TransactionConflict", "None"))] * 1000
        )
        with pytest.raises(Busy) as caught:
            buy(world.purchase_service())
        assert (caught.value.purchase_id, caught.value.reason) == (None, Reason.CONTENTION)
        assert world.clock() - start <= PURCHASE_BUDGET_SECONDS

    def test_full_jitter(self, world: World) -> None:
        """Each pause is drawn below a doubling bound. Equal pauses would repeat the conflict."""
        world.open_sale(stock=20, shards=1)
        shares: list[list[float]] = [[] for _ in range(8)]
        for _ in range(20):
            world.clock.slept.clear()
            world.client.before(
                "transact_write_items", *[raises(cancelled("TransactionConflict", "None"))] * 8
            )
            assert isinstance(buy(world.purchase_service()), Bought)
            for number, pause in enumerate(world.clock.slept):
                bound = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2**number)
                shares[number].append(pause / bound)
        for each in shares:
            assert len(each) == 20
            assert 0 <= min(each) < 0.3
            assert 0.7 < max(each) <= 1

    @pytest.mark.G6
    def test_frozen_clock(self, world: World) -> None:
        world.open_sale(stock=10)
        world.client.before(
            "transact_write_items", *[raises(cancelled("TransactionConflict", "None"))] * 1000
        )
        frozen = Runtime(lambda: 0.0, random.Random(1), lambda _: None)
        with pytest.raises(Busy):
            buy(build_services(world.client, world.table_name, frozen).purchases)
        assert world.client.count("transact_write_items") == ATTEMPTS_MAX

    @pytest.mark.G6
    @pytest.mark.parametrize(
        "slow", ["get_item", "batch_get_item", "transact_get_items", "transact_write_items"]
    )
    def test_deadline(self, world: World, slow: str) -> None:
        """The call that takes all the time is the last: on a sale that others have emptied, or with
        a first attempt in doubt.
        """
        if slow == "transact_write_items":
            world.open_sale(stock=1)
        else:
            sell_out(world)

        def hang() -> None:
            world.clock.now += PURCHASE_BUDGET_SECONDS

        def hang_and_fail() -> None:
            hang()
            raise lost_reply()

        world.client.before(slow, hang_and_fail if slow == "transact_write_items" else hang)
        with pytest.raises(Busy):
            buy(world.purchase_service(), key=KEY)
        assert world.client.calls[-1] == slow

    @pytest.mark.G6
    def test_deadline_before_opening_shard(self, world: World) -> None:
        world.client.before("update_item", raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.reset(stock=5, shard_count=1)
        world.client.before(
            "transact_write_items", lambda: world.clock.sleep(PURCHASE_BUDGET_SECONDS)
        )
        with pytest.raises(Busy):
            buy(world.purchase_service())
        assert world.client.calls[-1] == "transact_write_items"

    @pytest.mark.G6
    def test_clock_set_back(self, world: World) -> None:
        world.open_sale(stock=10)

        def set_back() -> None:
            world.clock.now -= 3600
            raise cancelled("TransactionConflict", "None")

        world.client.before("transact_write_items", set_back)
        with pytest.raises(Busy):
            buy(world.purchase_service())

    def test_snapshot_in_conflict(self, world: World) -> None:
        world.open_sale(stock=0)
        world.client.before("transact_get_items", raises(cancelled("TransactionConflict")))
        assert buy(world.purchase_service()) == SoldOut(left=0)
        assert world.client.count("transact_get_items") == 2

    def test_failing_snapshot(self, world: World) -> None:
        """The result of the plain read is cached all the same."""
        world.open_sale(stock=40, shards=4)
        other = world.purchase_service()
        for _ in range(40):
            buy(other)
        world.client.calls.clear()
        world.client.before("transact_get_items", *[raises(cancelled("TransactionConflict"))] * 3)
        assert buy(world.purchase_service()) == SoldOut(left=0)
        assert world.client.count("transact_write_items") == 1, (
            "a shard that was seen empty was asked again"
        )
        assert world.client.count("put_item") == 2, "the claim was made again"

    @pytest.mark.G2
    def test_torn_read(self, world: World) -> None:
        """A reset comes between the plain read and the snapshot. Only the snapshot decides."""
        world.open_sale(stock=0, shards=1)
        service = world.purchase_service()
        world.client.before(
            "transact_get_items",
            lambda: world.reset(stock=3, shard_count=1),
        )
        assert isinstance(buy(service), Bought)
        world.assert_exact(sold=1)

    def test_unprocessed_keys(self, world: World) -> None:
        sell_out(world)
        answers: list[Any] = [{"Responses": {}, "UnprocessedKeys": {world.table_name: {}}}]

        def partly(real: Any, **request: Any) -> Any:
            return answers.pop() if answers else real(**request)

        world.client.replace("batch_get_item", partly)
        assert buy(world.purchase_service()) == SoldOut(left=0)
        assert world.client.count("batch_get_item") == 2

    def test_throttled_snapshot(self, world: World) -> None:
        """No plain read comes before it again: it would use up the units of the snapshot."""
        sell_out(world)
        world.client.before("transact_get_items", *[raises(cancelled("ThrottlingError"))] * 3)
        assert buy(world.purchase_service()) == SoldOut(left=0)
        assert world.client.count("batch_get_item") == 1
        assert world.client.count("transact_get_items") == 4


class TestRefusalInDoubt:
    """The record of a refusal: what is still in flight cannot buy after it."""

    @pytest.fixture
    def late(self, world: World) -> list[Any]:
        """Return the requests of purchases that are lost on their way to the store.

        The first purchase is. By its next attempt a reset has left no tickets, and has crashed
        before it reached the shard, where the lost purchase finds its generation.
        """
        world.open_sale(stock=1, shards=1)
        requests: list[Any] = []

        def lose_it_and_reset() -> None:
            requests.append(world.client.requests[-1])
            world.client.before("update_item", raises(KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                world.reset(stock=0, shard_count=1)
            world.clock.now += 1
            raise lost_reply()

        world.client.before("transact_write_items", lose_it_and_reset)
        return requests

    @pytest.mark.G5
    @pytest.mark.parametrize("key", [KEY, None])
    def test_late_attempt(self, world: World, late: list[Any], key: str | None) -> None:
        assert buy(world.purchase_service(), key=key) == SoldOut(left=0, final=key is not None)
        (request,) = late
        with pytest.raises(ClientError, match="None, ConditionalCheckFailed"):
            world.client.transact_write_items(**request)

    @pytest.mark.G3
    @pytest.mark.G5
    def test_key_after_refusal(self, world: World, late: list[Any]) -> None:
        """It has the same answer for ever. Another request with it is another request."""
        assert buy(world.purchase_service(), key=KEY, quantity=1)
        world.open_sale(stock=5)
        assert late
        refused = SoldOut(left=0, final=True, replayed=True)
        assert buy(world.purchase_service(), key=KEY) == refused
        assert buy(world.purchase_service(), key=KEY, quantity=2) == KeyReused()
        assert isinstance(buy(world.purchase_service(), key=KEY + "-2"), Bought)
        world.assert_exact(sold=1)

    @pytest.mark.G5
    @pytest.mark.parametrize("is_put", [True, False])
    def test_refusal_without_answer(self, world: World, late: list[Any], is_put: bool) -> None:
        """Whether its record was put or not: the next attempt settles it, and it is no replay."""
        calm = [lambda: None] * 3  # of the reset's sale, and of a claim and its summary
        (world.client.after if is_put else world.client.before)(
            "put_item", *calm, raises(lost_reply())
        )
        assert buy(world.purchase_service(), key=KEY) == SoldOut(left=0, final=True)
        assert late
        assert world.client.count("put_item") == 5, "the refusal was not put twice"

    @pytest.mark.G5
    def test_concurrent_duplicate_buys(self, world: World, late: list[Any]) -> None:
        """It bought before the refusal was put: that is the answer."""
        service = world.purchase_service()

        def duplicate() -> None:
            world.client.heal()
            world.open_sale(stock=1)
            assert isinstance(buy(service, key=KEY), Bought)

        world.client.before("put_item", lambda: None, duplicate)
        outcome = buy(world.purchase_service(), key=KEY)
        assert late
        assert isinstance(outcome, Bought)
        assert outcome.replayed

    @pytest.mark.G4
    def test_record_is_no_purchase(self, world: World, late: list[Any]) -> None:
        service = world.purchase_service()
        refused = order(service)
        assert service.buy(refused) == SoldOut(left=0)
        assert late
        with pytest.raises(NotFound, match="was refused"):
            service.find(refused.purchase_id)
        world.open_sale(stock=5)
        audit = world.audit()
        assert (audit.problems, audit.purchase_records, audit.tickets_in_records) == ([], 0, 0)


class TestCache:
    def test_calls_of_cached_refusal(self, world: World) -> None:
        """Without a key none, with a key one read."""
        world.open_sale(stock=0)
        service = world.purchase_service()
        buy(service)
        world.client.calls.clear()
        for _ in range(100):
            assert buy(service) == SoldOut(left=0)
        assert world.client.calls == []
        assert buy(service, key=KEY) == SoldOut(left=0)
        assert world.client.calls == ["get_item"]

    @pytest.mark.G5
    def test_refusals_write_nothing(self, world: World) -> None:
        world.open_sale(stock=0)
        for _ in range(5):
            buy(world.purchase_service(), key=KEY)
        assert world.client.count("transact_write_items") == 0

    @pytest.mark.G2
    @pytest.mark.parametrize(
        ("later", "calls"),
        [(0.47, []), (0.49, SUMMARY_RENEWED), (-5.0, SUMMARY_RENEWED)],
    )
    def test_refusals_look_again(self, world: World, later: float, calls: list[str]) -> None:
        """After some time, and at once where the clock was set back."""
        world.open_sale(stock=0)
        service = world.purchase_service()
        buy(service)
        world.clock.now += later
        world.client.calls.clear()
        assert buy(service) == SoldOut(left=0)
        assert world.client.calls == calls

    @pytest.mark.G2
    def test_cached_refusal_expires(self, world: World) -> None:
        """After a second, where nothing new can be read."""
        world.open_sale(stock=0)
        service = world.purchase_service()
        buy(service)
        throttle = raises(service_error("ThrottlingException"))
        world.client.before("get_item", *[throttle] * ATTEMPTS_MAX)
        world.clock.now += 0.99
        assert buy(service) == SoldOut(left=0)
        world.clock.now += 0.01
        with pytest.raises(Busy):
            buy(service)

    @pytest.mark.G2
    def test_cache_age_starts_before_snapshot(self, world: World) -> None:
        world.open_sale(stock=0)
        service = world.purchase_service()
        world.client.before("transact_get_items", lambda: world.clock.sleep(0.9))
        buy(service)
        world.clock.now += 0.2
        world.open_sale(stock=1)
        assert isinstance(buy(service), Bought)

    @pytest.mark.G2
    def test_cached_refusal_after_reset(self, world: World) -> None:
        world.open_sale(stock=0)
        service = world.purchase_service()
        buy(service)
        world.open_sale(stock=1)
        assert isinstance(buy(service), SoldOut)
        world.clock.now += 1
        assert isinstance(buy(service), Bought)
        world.assert_exact(sold=1)

    @pytest.mark.G2
    def test_reset_before_snapshot(self, world: World) -> None:
        """It crashed after its announcement: its tickets are free, though no shard shows them."""
        world.open_sale(stock=0, shards=1)

        def crash() -> None:
            world.client.before("update_item", raises(KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                world.reset(stock=5, shard_count=1)

        world.client.before("transact_get_items", crash)
        assert isinstance(buy(world.purchase_service()), Bought)

    @pytest.mark.G3
    def test_failing_lookup_of_cached_refusal(self, world: World) -> None:
        world.open_sale(stock=0)
        service = world.purchase_service()
        buy(service)
        world.client.before("get_item", raises(service_error("ThrottlingException")))
        assert buy(service, key=KEY) == SoldOut(left=0)

    def test_one_sale_read_a_second(self, world: World) -> None:
        world.open_sale(stock=100)
        service = world.purchase_service()
        for _ in range(30):
            buy(service)
            world.clock.now += 0.1
        assert world.client.count("get_item") == 3

    def test_throttled_settings_sell(self, world: World) -> None:
        """Readers of the inventory read the same key, and may use up its read capacity."""
        world.open_sale(stock=5)
        service = world.purchase_service()
        buy(service)
        world.clock.now += CACHE_STALE_SECONDS - 0.1
        world.client.before("get_item", raises(service_error("ThrottlingException")))
        assert isinstance(buy(service), Bought)
        assert world.clock.slept == []
        world.clock.now += 0.2
        world.client.before(
            "get_item", *[raises(service_error("ThrottlingException"))] * ATTEMPTS_MAX
        )
        with pytest.raises(Busy):
            buy(service)
        world.client.heal()
        world.assert_exact(sold=2)

    @pytest.mark.G2
    def test_throttled_settings_never_refuse(self, world: World) -> None:
        """A reset crashed after its announcement: old shards say nothing about the new tickets."""
        world.open_sale(stock=0, shards=1)
        service = world.purchase_service()
        buy(service)
        world.client.before("update_item", raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.reset(stock=5, shard_count=1)
        world.clock.now += 2
        world.client.before("get_item", raises(service_error("ThrottlingException")))
        assert isinstance(buy(service), Bought)
        world.assert_exact(sold=1)

    @pytest.mark.G1
    def test_throttled_settings_after_reset(self, world: World) -> None:
        world.open_sale(stock=5, shards=1)
        service = world.purchase_service()
        buy(service)
        world.open_sale(stock=5, shards=1)
        world.clock.now += 2
        world.client.before("get_item", raises(service_error("ThrottlingException")))
        outcome = buy(service)
        assert isinstance(outcome, Bought)
        assert outcome.purchase.generation == 2
        world.assert_exact(sold=1)

    def test_empty_shard_is_cached(self, world: World) -> None:
        world.open_sale(stock=40, shards=4)
        other, service = world.purchase_service(), world.purchase_service()
        for _ in range(40):
            buy(other)
        world.client.calls.clear()
        assert buy(service) == SoldOut(left=0)
        assert world.client.count("transact_write_items") == 1, (
            "one short shard, then one read of all"
        )

    def test_refused_shard_is_cached(self, world: World) -> None:
        """A shard that was found empty is not asked again: all shards are read."""
        world.open_sale(stock=100, shards=2)
        world.client.update_item(
            TableName=world.table_name,
            Key={"pk": {"S": "item#1#stock#00"}},
            UpdateExpression="SET stock = :none, sold = :all",
            ExpressionAttributeValues={":none": {"N": "0"}, ":all": {"N": "50"}},
        )
        asked = []
        for _ in range(20):
            world.client.calls.clear()
            assert isinstance(buy(world.purchase_service()), Bought)
            assert world.client.count("batch_get_item") <= 1
            asked.append(world.client.count("transact_write_items"))
        assert set(asked) == {1, 2}

    def test_cache_after_reading_all_shards(self, world: World) -> None:
        """What other processes sold is known afterwards."""
        world.open_sale(stock=40, shards=40)
        other, service = world.purchase_service(), world.purchase_service()
        for _ in range(39):
            buy(other)
        assert isinstance(buy(service), Bought)
        assert world.client.count("transact_write_items") <= 39 + 3
        world.assert_exact(sold=40)


class TestGenerations:
    def test_cached_older_generation(self, world: World) -> None:
        world.open_sale(stock=5)
        service = world.purchase_service()
        buy(service)
        world.open_sale(stock=7)
        assert isinstance(buy(service), Bought)
        world.assert_exact(sold=1)

    @pytest.mark.G1
    @pytest.mark.parametrize("shards", [1, 25])  # moto reads 25 items in a transaction, AWS 100
    def test_reset_in_mid_sale(self, world: World, shards: int) -> None:
        world.open_sale(stock=80, shards=40)
        service = world.purchase_service()
        buy(service)
        world.open_sale(stock=2, shards=shards)
        outcomes = [buy(service) for _ in range(4)]
        assert [type(outcome) for outcome in outcomes] == [Bought, Bought, SoldOut, SoldOut]
        world.assert_exact(sold=2)

    @pytest.mark.G2
    def test_buyers_finish_crashed_reset(self, world: World) -> None:
        world.open_sale(stock=5, shards=4)
        world.client.before("update_item", raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.reset(stock=8, shard_count=4)
        service = world.purchase_service()
        assert [type(buy(service)) for _ in range(9)] == [Bought] * 8 + [SoldOut]
        world.assert_exact(sold=8)

    @pytest.mark.G2
    def test_buyers_open_first_generation(self, world: World) -> None:
        world.client.before("update_item", raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.reset(stock=10, shard_count=4)
        service = world.purchase_service()
        assert isinstance(buy(service, quantity=10), Bought), "unopened shards count as full"
        world.assert_exact(sold=10)

    @pytest.mark.G1
    def test_purchase_planned_before_reset(self, world: World) -> None:
        world.open_sale(stock=1)
        service = world.purchase_service()
        world.client.before(
            "transact_write_items",
            lambda: world.reset(stock=5, shard_count=1),
        )
        outcome = buy(service)
        assert isinstance(outcome, Bought)
        assert outcome.purchase.generation == 2
        world.assert_exact(sold=1)
