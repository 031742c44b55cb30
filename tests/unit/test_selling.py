"""The way of a purchase, with everything that a store does to it. One thread, on moto: rivals act on cue."""

import random
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, CredentialRetrievalError, EndpointConnectionError

from tests.support import ITEM, World, cancelled, lost_reply, raises, service_error
from ticketing.errors import Busy, NotFound, Reason
from ticketing.retry import ATTEMPTS_MAX, BACKOFF_BASE_SECONDS, BACKOFF_CAP_SECONDS, LATE_COMMIT_SECONDS, Surroundings
from ticketing.rules import Bought, KeyReused, Order, SoldOut
from ticketing.selling import BUDGET_SECONDS, STALE_SECONDS, BoxOffice, Effort

KEY = "0123456789abcdef"


def order(office: BoxOffice, *, key: str | None = None, quantity: int = 1, buyer: str | None = None) -> Order:
    return office.order(ITEM, quantity, buyer, key)


def buy(office: BoxOffice, *, key: str | None = None, quantity: int = 1) -> Bought | SoldOut | KeyReused:
    return office.buy(order(office, key=key, quantity=quantity))


def test_every_ticket_is_sold_and_not_one_more(world: World) -> None:
    world.open_sale(stock=23, shards=4)
    office = world.box_office()
    outcomes = [buy(office) for _ in range(30)]
    assert [type(outcome) for outcome in outcomes] == [Bought] * 23 + [SoldOut] * 7
    assert outcomes[-1] == SoldOut(left=0)
    world.assert_exact(sold=23)


def test_a_purchase_is_one_store_call_once_the_sale_is_known(world: World) -> None:
    world.open_sale(stock=10, shards=2)
    office = world.box_office()
    buy(office)
    assert world.client.calls == ["get_item", "transact_write_items"]
    buy(office)
    assert world.client.calls == ["get_item", "transact_write_items", "transact_write_items"]


def test_an_unknown_item_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match="no item 1"):
        buy(world.box_office())


class TestIdempotency:
    def test_a_key_buys_once_and_gets_the_same_receipt(self, world: World) -> None:
        world.open_sale(stock=5)
        first = buy(world.box_office(), key=KEY)
        second = buy(world.box_office(), key=KEY)
        assert isinstance(first, Bought)
        assert not first.replayed
        assert second == Bought(first.purchase, replayed=True)
        world.assert_exact(sold=1)

    def test_a_key_with_another_wish_is_refused(self, world: World) -> None:
        world.open_sale(stock=5)
        office = world.box_office()
        buy(office, key=KEY)
        assert buy(office, key=KEY, quantity=2) == KeyReused()
        world.assert_exact(sold=1)

    def test_a_key_gets_its_receipt_when_all_is_sold(self, world: World) -> None:
        world.open_sale(stock=1)
        office = world.box_office()
        first = buy(office, key=KEY)
        assert isinstance(first, Bought)
        assert isinstance(buy(office), SoldOut)
        assert buy(office, key=KEY) == buy(world.box_office(), key=KEY) == Bought(first.purchase, replayed=True)
        assert buy(office, key=KEY, quantity=2) == KeyReused()

    def test_a_twin_that_takes_the_last_ticket_leaves_its_receipt_to_the_other(self, world: World) -> None:
        """The twin's transaction commits after our shard was planned, before our snapshot."""
        world.open_sale(stock=1)
        twin = world.box_office()
        receipts: list[Any] = []
        world.client.before("transact_write_items", lambda: receipts.append(buy(twin, key=KEY)))
        outcome = buy(world.box_office(), key=KEY)
        assert outcome == Bought(receipts[0].purchase, replayed=True)
        world.assert_exact(sold=1)

    def test_a_twin_that_commits_just_before_our_look_is_seen(self, world: World) -> None:
        world.open_sale(stock=2, shards=2)
        office, twin = world.box_office(), world.box_office()
        receipts: list[Any] = []
        world.client.before("batch_get_item", lambda: receipts.append(buy(twin, key=KEY, quantity=2)))
        assert buy(office, key=KEY, quantity=2) == Bought(receipts[0].purchase, replayed=True)
        assert world.client.count("transact_get_items") == 1, "the refusal was not decided by a snapshot"
        world.assert_exact(sold=2)

    def test_receipts_of_an_older_generation_stay(self, world: World) -> None:
        world.open_sale(stock=5)
        first = buy(world.box_office(), key=KEY)
        assert isinstance(first, Bought)
        world.open_sale(stock=5)
        assert buy(world.box_office(), key=KEY) == Bought(first.purchase, replayed=True)
        world.assert_exact(sold=0)

    def test_find_answers_the_receipt(self, world: World) -> None:
        world.open_sale(stock=5)
        office = world.box_office()
        outcome = office.buy(order(office, key=KEY, buyer="somebody"))
        assert isinstance(outcome, Bought)
        assert office.find(outcome.purchase.purchase_id) == outcome.purchase
        with pytest.raises(NotFound):
            office.find("00000000-0000-0000-0000-000000000000")


class TestSeveralTickets:
    def test_one_shard_that_has_enough_gives_all(self, world: World) -> None:
        world.open_sale(stock=20, shards=2)
        outcome = buy(world.box_office(), quantity=5)
        assert isinstance(outcome, Bought)
        assert list(outcome.purchase.taken.values()) == [5]
        world.assert_exact(sold=5)

    def test_where_none_has_enough_several_give(self, world: World) -> None:
        world.open_sale(stock=12, shards=4)
        office = world.box_office()
        outcome = buy(office, quantity=10)
        assert isinstance(outcome, Bought)
        assert sorted(outcome.purchase.taken.values()) == [1, 3, 3, 3]
        world.assert_exact(sold=10)
        assert buy(office, quantity=3) == SoldOut(left=2)
        assert isinstance(buy(office, quantity=2), Bought)
        world.assert_exact(sold=12)

    def test_too_few_for_many_is_enough_for_few(self, world: World) -> None:
        world.open_sale(stock=3, shards=1)
        office = world.box_office()
        assert buy(office, quantity=4) == SoldOut(left=3)
        assert isinstance(buy(office, quantity=3), Bought)
        assert buy(office) == SoldOut(left=0)

    def test_a_shard_that_is_short_by_one_when_we_come_gives_nothing(self, world: World) -> None:
        world.open_sale(stock=2, shards=1)
        rival = world.box_office()
        world.client.before("transact_write_items", lambda: buy(rival))
        assert buy(world.box_office(), quantity=2) == SoldOut(left=1)
        world.assert_exact(sold=1)

    def test_a_rival_who_takes_from_one_of_the_shards_takes_nothing_from_the_sum(self, world: World) -> None:
        world.open_sale(stock=6, shards=3)
        office, rival = world.box_office(), world.box_office()
        world.client.before("transact_write_items", lambda: buy(rival))
        assert isinstance(buy(office, quantity=5), Bought)
        world.assert_exact(sold=6)


class TestTrouble:
    def test_a_conflict_is_tried_again_on_another_shard(self, world: World) -> None:
        world.open_sale(stock=200, shards=2)
        for _ in range(20):
            world.client.before("transact_write_items", raises(cancelled("TransactionConflict", "None")))
            world.client.requests.clear()
            world.clock.slept.clear()
            office, effort = world.box_office(), Effort()
            assert isinstance(office.buy(order(office), effort), Bought)
            sales = [request["TransactItems"] for request in world.client.requests if "TransactItems" in request]
            first, second = [actions[0]["Update"]["Key"] for actions in sales]
            assert first != second
            assert (effort.attempts, effort.conflicts) == (2, 1)
            assert 0 <= world.clock.slept[0] <= 0.01
        world.assert_exact(sold=20)

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
    def test_what_passes_is_tried_again(self, world: World, trouble: Exception) -> None:
        world.open_sale(stock=2, shards=1)
        world.client.before("transact_write_items", raises(trouble), raises(trouble))
        assert isinstance(buy(world.box_office()), Bought)
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
    def test_a_mistake_of_ours_is_raised_at_once(self, world: World, mistake: Exception) -> None:
        world.open_sale(stock=2, shards=1)
        world.client.before("transact_write_items", raises(mistake))
        with pytest.raises(ClientError):
            buy(world.box_office())
        assert world.client.count("transact_write_items") == 1

    @pytest.mark.parametrize("key", [KEY, None])
    def test_a_lost_reply_is_no_second_ticket(self, world: World, key: str | None) -> None:
        world.open_sale(stock=10, shards=4)
        world.client.after("transact_write_items", raises(lost_reply()))
        outcome = buy(world.box_office(), key=key)
        assert isinstance(outcome, Bought)
        assert not outcome.replayed
        assert world.client.count("transact_write_items") == 2
        world.assert_exact(sold=1)

    def test_a_lost_request_does_not_make_a_twins_purchase_ours(self, world: World) -> None:
        """One key, one answer that calls itself the first: ours was lost on its way, the twin bought meanwhile."""
        world.open_sale(stock=10, shards=1)
        twin = world.box_office()
        world.client.before("transact_write_items", raises(lost_reply()), lambda: buy(twin, key=KEY))
        outcome = buy(world.box_office(), key=KEY)
        assert isinstance(outcome, Bought)
        assert outcome.replayed
        world.assert_exact(sold=1)

    @pytest.mark.parametrize("key", [KEY, None])
    def test_a_lost_reply_for_the_last_tickets_is_not_sold_out(self, world: World, key: str | None) -> None:
        """Our own attempt emptied the shards: the look finds nothing left, and the record tells why."""
        world.open_sale(stock=2, shards=2)
        world.client.after("transact_write_items", raises(lost_reply()))
        outcome = buy(world.box_office(), key=key, quantity=2)
        assert isinstance(outcome, Bought)
        assert not outcome.replayed
        assert world.client.calls[-2:] == ["transact_get_items", "get_item"], "the record was found before the refusal"
        world.assert_exact(sold=2)

    def test_a_bug_after_a_lost_reply_is_no_failure_but_an_unknown_outcome(self, world: World) -> None:
        world.open_sale(stock=10, shards=1)
        world.client.after("transact_write_items", raises(lost_reply()))
        world.client.before("transact_write_items", lambda: None, raises(service_error("ExpiredTokenException")))
        with pytest.raises(Busy) as caught:
            buy(world.box_office(), key=KEY)
        assert caught.value.purchase_id
        assert isinstance(caught.value.__cause__, ClientError)
        assert isinstance(buy(world.box_office(), key=KEY), Bought)
        world.assert_exact(sold=1)

    def test_an_attempt_of_an_older_generation_may_still_land_so_nobody_says_sold_out(self, world: World) -> None:
        world.open_sale(stock=1, shards=1)

        def lose_it_and_start_anew() -> None:
            # The reset dies before it comes to the shard: an attempt under way could still commit there.
            world.client.before("update_item", raises(KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                world.catalogue.reset(ITEM, stock=0, item_name=None, shard_count=1)
            world.clock.now += 1
            raise lost_reply()

        world.client.before("transact_write_items", lose_it_and_start_anew)
        with pytest.raises(Busy) as caught:
            buy(world.box_office(), key=KEY)
        assert caught.value.purchase_id

    def test_no_answer_at_all_is_busy_and_says_that_the_outcome_is_unknown(self, world: World) -> None:
        world.open_sale(stock=10)
        world.client.before("transact_write_items", *[raises(lost_reply())] * ATTEMPTS_MAX)
        with pytest.raises(Busy) as caught:
            buy(world.box_office())
        assert caught.value.purchase_id
        assert caught.value.reason is Reason.IN_DOUBT
        assert caught.value.retry_after_seconds == LATE_COMMIT_SECONDS

    @pytest.mark.parametrize(
        "trouble",
        [
            EndpointConnectionError(endpoint_url="http://store"),
            ConnectTimeoutError(endpoint_url="http://store"),
            CredentialRetrievalError(provider="container", error_msg="none"),
        ],
        ids=str,
    )
    def test_an_attempt_that_never_got_a_connection_bought_nothing(self, world: World, trouble: Exception) -> None:
        world.open_sale(stock=10)
        world.client.before("transact_write_items", *[raises(trouble)] * ATTEMPTS_MAX)
        with pytest.raises(Busy) as caught:
            buy(world.box_office())
        assert (caught.value.reason, caught.value.purchase_id) == (Reason.STORE_UNAVAILABLE, None)
        assert 1 <= caught.value.retry_after_seconds <= 3

    def test_a_store_that_cannot_be_reached_is_not_called_a_crowd(self, world: World) -> None:
        world.client.before("get_item", *[raises(EndpointConnectionError(endpoint_url="http://store"))] * ATTEMPTS_MAX)
        with pytest.raises(Busy) as caught:
            buy(world.box_office())
        assert caught.value.reason is Reason.STORE_UNAVAILABLE

    @pytest.mark.parametrize(("key", "words"), [(KEY, "same Idempotency-Key"), (None, "Look its purchase_id up")])
    def test_a_retry_is_recommended_only_where_it_is_safe(self, world: World, key: str | None, words: str) -> None:
        world.open_sale(stock=10)
        world.client.before("transact_write_items", *[raises(lost_reply())] * ATTEMPTS_MAX)
        with pytest.raises(Busy) as caught:
            buy(world.box_office(), key=key)
        assert words in caught.value.remedy

    def test_endless_conflicts_end_with_the_budget(self, world: World) -> None:
        world.open_sale(stock=10)
        start = world.clock()
        world.client.before("transact_write_items", *[raises(cancelled("TransactionConflict", "None"))] * 1000)
        with pytest.raises(Busy) as caught:
            buy(world.box_office())
        assert (caught.value.purchase_id, caught.value.reason) == (None, Reason.CONTENTION)
        assert world.clock() - start <= BUDGET_SECONDS

    def test_each_pause_is_drawn_up_to_twice_the_longest_one_before(self, world: World) -> None:
        """Full jitter: buyers who met once and wait equally long would meet again."""
        world.open_sale(stock=20)
        shares = []
        for _ in range(20):
            world.clock.slept.clear()
            world.client.before("transact_write_items", *[raises(cancelled("TransactionConflict", "None"))] * 8)
            assert isinstance(buy(world.box_office()), Bought)
            for number, pause in enumerate(world.clock.slept):
                shares.append(pause / min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2**number))
        assert len(shares) == 20 * 8
        assert 0 <= min(shares) < 0.1
        assert 0.9 < max(shares) <= 1

    def test_a_clock_that_stands_still_does_not_keep_a_buyer_for_ever(self, world: World) -> None:
        world.open_sale(stock=10)
        world.client.before("transact_write_items", *[raises(cancelled("TransactionConflict", "None"))] * 1000)
        office = BoxOffice(world.store, Surroundings(lambda: 0.0, random.Random(1), lambda _: None))
        with pytest.raises(Busy):
            buy(office)
        assert world.client.count("transact_write_items") == ATTEMPTS_MAX

    @pytest.mark.parametrize("slow", ["get_item", "batch_get_item", "transact_get_items", "transact_write_items"])
    def test_no_call_starts_after_the_deadline(self, world: World, slow: str) -> None:
        """Whichever call takes all the time is the last: the sale is empty, or its first attempt goes unanswered."""
        world.open_sale(stock=1 if slow == "transact_write_items" else 0, shards=1)

        def hang() -> None:
            world.clock.now += BUDGET_SECONDS

        def hang_and_fail() -> None:
            hang()
            raise lost_reply()

        world.client.before(slow, hang_and_fail if slow == "transact_write_items" else hang)
        with pytest.raises(Busy):
            buy(world.box_office(), key=KEY)
        assert world.client.calls[-1] == slow

    def test_a_shard_is_not_opened_after_the_deadline(self, world: World) -> None:
        world.client.before("update_item", raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.catalogue.reset(ITEM, stock=5, item_name=None, shard_count=1)
        world.client.before("transact_write_items", lambda: world.clock.sleep(BUDGET_SECONDS))
        with pytest.raises(Busy):
            buy(world.box_office())
        assert world.client.calls[-1] == "transact_write_items"

    def test_a_clock_that_is_set_back_ends_the_request(self, world: World) -> None:
        world.open_sale(stock=10)

        def set_back() -> None:
            world.clock.now -= 3600
            raise cancelled("TransactionConflict", "None")

        world.client.before("transact_write_items", set_back)
        with pytest.raises(Busy):
            buy(world.box_office())

    def test_a_snapshot_in_a_conflict_is_taken_again(self, world: World) -> None:
        world.open_sale(stock=0)
        world.client.before("transact_get_items", raises(cancelled("TransactionConflict")))
        assert buy(world.box_office()) == SoldOut(left=0)
        assert world.client.count("transact_get_items") == 2

    def test_what_the_plain_read_showed_is_kept_where_the_snapshot_fails(self, world: World) -> None:
        world.open_sale(stock=40, shards=4)
        rival = world.box_office()
        for _ in range(40):
            buy(rival)
        world.client.calls.clear()
        world.client.before("transact_get_items", *[raises(cancelled("TransactionConflict"))] * 3)
        assert buy(world.box_office()) == SoldOut(left=0)
        assert world.client.count("transact_write_items") == 2, "a shard that was seen empty was asked again"

    def test_a_torn_read_does_not_make_sold_out(self, world: World) -> None:
        """Between the plain read and the snapshot the sale starts anew: the snapshot alone decides."""
        world.open_sale(stock=0, shards=1)
        office = world.box_office()
        world.client.before(
            "transact_get_items", lambda: world.catalogue.reset(ITEM, stock=3, item_name=None, shard_count=1)
        )
        assert isinstance(buy(office), Bought)
        world.assert_exact(sold=1)

    def test_keys_left_unread_by_a_batch_are_read_again(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.open_sale(stock=0)
        real = world.client._client.batch_get_item
        answers: list[Any] = [{"Responses": {}, "UnprocessedKeys": {world.table: {}}}]
        partly = lambda **request: answers.pop() if answers else real(**request)  # noqa: E731
        monkeypatch.setattr(world.client._client, "batch_get_item", partly)
        assert buy(world.box_office()) == SoldOut(left=0)
        assert world.client.count("batch_get_item") == 2


class TestMemory:
    def test_a_refusal_within_the_second_costs_no_call_without_a_key_and_one_read_with_one(self, world: World) -> None:
        world.open_sale(stock=0)
        office = world.box_office()
        buy(office)
        world.client.calls.clear()
        for _ in range(100):
            assert buy(office) == SoldOut(left=0)
        assert world.client.calls == []
        assert buy(office, key=KEY) == SoldOut(left=0)
        assert world.client.calls == ["get_item"]

    def test_no_refusal_writes(self, world: World) -> None:
        world.open_sale(stock=0)
        for _ in range(5):
            buy(world.box_office(), key=KEY)
        assert world.client.count("transact_write_items") == 0

    @pytest.mark.parametrize(("later", "remembered"), [(0.99, True), (1.0, False), (-5.0, False)])
    def test_sold_out_is_remembered_for_a_second_and_not_where_the_clock_was_set_back(
        self, world: World, later: float, remembered: bool
    ) -> None:
        world.open_sale(stock=0)
        office = world.box_office()
        buy(office)
        world.clock.now += later
        world.client.calls.clear()
        buy(office)
        assert (world.client.calls == []) is remembered

    def test_the_second_begins_before_the_snapshot(self, world: World) -> None:
        world.open_sale(stock=0)
        office = world.box_office()
        world.client.before("transact_get_items", lambda: world.clock.sleep(0.9))
        buy(office)
        world.clock.now += 0.2
        world.open_sale(stock=1)
        assert isinstance(buy(office), Bought)

    def test_the_second_begins_before_the_snapshot_where_the_clock_was_set_back(self, world: World) -> None:
        """Between reading the sale again, in mid-request, and the snapshot: that reading's time is too late then."""

        def time_out() -> None:
            world.clock.sleep(1)
            raise lost_reply()

        world.open_sale(stock=0)
        office = world.box_office()
        world.client.before("batch_get_item", time_out, lambda: world.clock.sleep(-0.5))
        world.client.before("transact_get_items", lambda: world.clock.sleep(0.9))
        buy(office)
        assert world.client.count("get_item") == 2, "the sale was not read again"
        world.client.calls.clear()
        world.clock.now += 0.15
        assert isinstance(buy(office), SoldOut)
        assert "transact_get_items" in world.client.calls, "a refusal 1.05 s old was given"

    def test_sold_out_does_not_outlive_a_new_generation_by_more_than_a_second(self, world: World) -> None:
        world.open_sale(stock=0)
        office = world.box_office()
        buy(office)
        world.open_sale(stock=1)
        assert isinstance(buy(office), SoldOut)
        world.clock.now += 1
        assert isinstance(buy(office), Bought)
        world.assert_exact(sold=1)

    def test_sold_out_is_never_older_than_the_sale_it_was_said_of(self, world: World) -> None:
        """A reset that died after its announcement: its tickets are free from then on, and known within a second."""
        world.open_sale(stock=0, shards=1)
        office = world.box_office()
        world.clock.now += 0.9
        world.client.after("get_item", lambda: world.clock.sleep(0.9))
        buy(office)
        world.client.before("update_item", raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.catalogue.reset(ITEM, stock=5, item_name=None, shard_count=1)
        world.clock.now += 0.2
        assert isinstance(buy(office), Bought)

    def test_a_store_that_fails_the_look_up_of_a_remembered_refusal_is_asked_again(self, world: World) -> None:
        world.open_sale(stock=0)
        office = world.box_office()
        buy(office)
        world.client.before("get_item", raises(service_error("ThrottlingException")))
        assert buy(office, key=KEY) == SoldOut(left=0)

    def test_the_sale_is_read_once_a_second(self, world: World) -> None:
        world.open_sale(stock=100)
        office = world.box_office()
        for _ in range(30):
            buy(office)
            world.clock.now += 0.1
        assert world.client.count("get_item") == 3

    def test_throttled_settings_a_few_seconds_old_still_sell(self, world: World) -> None:
        """Readers of the inventory read the same key, and may use its reads up."""
        world.open_sale(stock=5)
        office = world.box_office()
        buy(office)
        world.clock.now += STALE_SECONDS - 0.1
        world.client.before("get_item", raises(service_error("ThrottlingException")))
        assert isinstance(buy(office), Bought)
        assert world.clock.slept == []
        world.clock.now += 0.2
        world.client.before("get_item", *[raises(service_error("ThrottlingException"))] * ATTEMPTS_MAX)
        with pytest.raises(Busy):
            buy(office)
        world.client.heal()
        world.assert_exact(sold=2)

    def test_throttled_settings_never_sell_out(self, world: World) -> None:
        """A reset that died after its announcement: the old shards say nothing of the new tickets."""
        world.open_sale(stock=0, shards=1)
        office = world.box_office()
        buy(office)
        world.client.before("update_item", raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.catalogue.reset(ITEM, stock=5, item_name=None, shard_count=1)
        world.clock.now += 2
        world.client.before("get_item", raises(service_error("ThrottlingException")))
        assert isinstance(buy(office), Bought)
        world.assert_exact(sold=1)

    def test_throttled_settings_of_a_generation_that_is_over_sell_nothing_of_it(self, world: World) -> None:
        world.open_sale(stock=5, shards=1)
        office = world.box_office()
        buy(office)
        world.open_sale(stock=5, shards=1)
        world.clock.now += 2
        world.client.before("get_item", raises(service_error("ThrottlingException")))
        outcome = buy(office)
        assert isinstance(outcome, Bought)
        assert outcome.purchase.generation == 2
        world.assert_exact(sold=1)

    def test_an_empty_shard_is_not_asked_twice(self, world: World) -> None:
        world.open_sale(stock=40, shards=4)
        rival, office = world.box_office(), world.box_office()
        for _ in range(40):
            buy(rival)
        world.client.calls.clear()
        assert buy(office) == SoldOut(left=0)
        assert world.client.count("transact_write_items") == 2, "two misses, then one look at all of them"

    def test_what_others_sold_is_learnt_from_a_look(self, world: World) -> None:
        world.open_sale(stock=100, shards=100)
        rival, office = world.box_office(), world.box_office()
        for _ in range(99):
            buy(rival)
        assert isinstance(buy(office), Bought)
        assert world.client.count("transact_write_items") <= 99 + 3
        world.assert_exact(sold=100)


class TestGenerations:
    def test_a_buyer_with_an_old_generation_refreshes_and_buys(self, world: World) -> None:
        world.open_sale(stock=5)
        office = world.box_office()
        buy(office)
        world.open_sale(stock=7)
        assert isinstance(buy(office), Bought)
        world.assert_exact(sold=1)

    @pytest.mark.parametrize("shards", [1, 25])  # moto reads 25 items in a transaction, AWS 100
    def test_a_reset_in_mid_sale_sells_nothing_of_the_old_generation_afterwards(
        self, world: World, shards: int
    ) -> None:
        world.open_sale(stock=200, shards=100)
        office = world.box_office()
        buy(office)
        world.open_sale(stock=2, shards=shards)
        outcomes = [buy(office) for _ in range(4)]
        assert [type(outcome) for outcome in outcomes] == [Bought, Bought, SoldOut, SoldOut]
        world.assert_exact(sold=2)

    def test_a_reset_that_died_after_the_announcement_is_finished_by_the_buyers(self, world: World) -> None:
        world.open_sale(stock=5, shards=4)
        world.client.before("update_item", raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.catalogue.reset(ITEM, stock=8, item_name=None, shard_count=4)
        office = world.box_office()
        assert [type(buy(office)) for _ in range(9)] == [Bought] * 8 + [SoldOut]
        world.assert_exact(sold=8)

    def test_a_sale_that_was_only_announced_opens_itself(self, world: World) -> None:
        world.client.before("update_item", raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.catalogue.reset(ITEM, stock=10, item_name=None, shard_count=4)
        office = world.box_office()
        assert isinstance(buy(office, quantity=10), Bought), "unopened shards count as full"
        world.assert_exact(sold=10)

    def test_a_purchase_planned_before_a_reset_does_not_touch_the_new_stock(self, world: World) -> None:
        world.open_sale(stock=1)
        office = world.box_office()
        world.client.before(
            "transact_write_items", lambda: world.catalogue.reset(ITEM, stock=5, item_name=None, shard_count=1)
        )
        outcome = buy(office)
        assert isinstance(outcome, Bought)
        assert outcome.purchase.generation == 2
        world.assert_exact(sold=1)
