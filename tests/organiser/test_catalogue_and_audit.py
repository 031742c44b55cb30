"""Resetting a sale, reading it, and comparing its records with its counters."""

import json
import random
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from botocore.exceptions import ClientError

from tests.support import ITEM, TABLE, World, lost_reply, raises, service_error
from ticketing.errors import (
    Busy,
    GenerationChanged,
    InvalidRequest,
    KeyReusedForSale,
    NotFound,
    Reason,
)
from ticketing.limits import (
    ATTEMPTS_MAX,
    AUDIT_BUDGET_SECONDS,
    AUDIT_PAGE_RECORDS_MAX,
    AUDIT_RECORDS_MAX,
    CATALOGUE_BUDGET_SECONDS,
    LATE_COMMIT_SECONDS,
    PROBLEMS_MAX,
    SHARDS_MAX,
    UNSURE_SECONDS,
    USED_KEYS_MAX,
)
from ticketing.model import Bought, Held, SaleChange, SoldOut
from ticketing.tally import ShardTally, Tally, to_cursor


def sell(world: World, count: int, quantity: int = 1) -> list[Bought]:
    service = world.purchase_service()
    outcomes = [service.buy(service.order(ITEM, quantity, None, None)) for _ in range(count)]
    assert all(isinstance(outcome, Bought) for outcome in outcomes)
    return [outcome for outcome in outcomes if isinstance(outcome, Bought)]


def tamper(world: World, key: str, expression: str, **values: int) -> None:
    """Write into the table, past the store."""
    world.client.update_item(
        TableName=TABLE,
        Key={"pk": {"S": key}},
        UpdateExpression=expression.replace("capacity", "#capacity"),
        **(
            {"ExpressionAttributeNames": {"#capacity": "capacity"}}
            if "capacity" in expression
            else {}
        ),
        ExpressionAttributeValues={f":{name}": {"N": str(value)} for name, value in values.items()},
    )


class TestReset:
    def test_first_reset(self, world: World) -> None:
        """The first reset of item 1 puts the original system's item on sale."""
        inventory = world.reset()
        assert (inventory.sale.item_name, inventory.sale.capacity) == (
            "Item A - Concert Ticket",
            100,
        )
        assert inventory.inventory == world.catalogue.inventory(ITEM)

    def test_omitted_values_are_kept(self, world: World) -> None:
        """A reset keeps the name and stock that it does not mention, and raises the generation."""
        world.reset(stock=60, item_name="Concert", shard_count=3)
        sale = world.reset().sale
        assert (sale.item_name, sale.capacity, sale.shard_count, sale.generation) == (
            "Concert",
            60,
            6,
            2,
        )

    def test_reset_to_zero(self, world: World) -> None:
        """A stock of 0 is a value, not a missing one."""
        assert (
            world.reset(
                stock=0,
            ).sale.capacity
            == 0
        )

    @pytest.mark.G1
    @pytest.mark.parametrize(("before", "after"), [(SHARDS_MAX, 1), (1, SHARDS_MAX), (7, 7)])
    def test_old_shards_are_closed(self, world: World, before: int, after: int) -> None:
        world.open_sale(stock=300, shards=before)
        old = world.store.read_sale(ITEM)
        assert old
        world.open_sale(stock=300, shards=after)
        for index in range(before):
            assert not world.store.open_shard(old, index), (
                "an older generation opened a shard again"
            )
        items = world.client.scan(TableName=TABLE)["Items"]
        stock = [item for item in items if "#stock#" in item["pk"]["S"]]
        assert {item["generation"]["N"] for item in stock} == {"2"}
        assert sum(int(item["stock"]["N"]) for item in stock) == 300

    @pytest.mark.G1
    def test_reset_after_crashed_reset(self, world: World) -> None:
        """A reset closes the shards of all generations, also those that a crashed reset added."""
        world.open_sale(stock=100, shards=20)
        service = world.purchase_service()
        service.buy(service.order(ITEM, 1, None, None))
        world.client.before("update_item", raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.reset(stock=4, shard_count=4)
        world.reset(stock=4, shard_count=4)
        bought = [service.buy(service.order(ITEM, 1, None, None)) for _ in range(30)]
        assert {
            outcome.purchase.generation for outcome in bought if isinstance(outcome, Bought)
        } == {3}
        world.assert_exact(sold=4)

    @pytest.mark.G6
    def test_reset_out_of_time(self, world: World) -> None:
        world.client.before("update_item", *[lambda: world.clock.sleep(3)] * 4)
        with pytest.raises(Busy):
            world.reset(stock=100, shard_count=10)
        assert world.client.count("update_item") == 4, "a call started after the budget was spent"
        world.open_sale(stock=100, shards=10)
        world.assert_exact(sold=0)

    def test_concurrent_reset_first(self, world: World) -> None:
        """Two resets without keys both take effect, one after the other."""
        world.open_sale(stock=5)
        world.client.before("put_item", lambda: world.reset(stock=7, shard_count=1))
        sale = world.reset(stock=9, shard_count=1).sale
        assert (sale.generation, sale.capacity) == (3, 9)
        world.assert_exact(sold=0)

    @pytest.mark.G6
    def test_concurrent_resets_without_end(self, world: World) -> None:
        world.open_sale(stock=5)

        def concurrent_reset() -> None:
            sale = world.store.read_sale(ITEM)
            assert sale
            item = {"pk": {"S": "item#1"}}
            world.client._client.update_item(
                TableName=TABLE, Key=item, UpdateExpression="SET generation = generation + :one",
                ExpressionAttributeValues={":one": {"N": "1"}},
            )  # fmt: skip

        world.client.before("put_item", *[concurrent_reset] * 100)
        with pytest.raises(Busy):
            world.reset(stock=9, shard_count=1)


RESET_KEY = "reset-0123456789abcdef"


class TestOneResetTakesEffectOnce:
    """One reset request takes effect once, whatever happens to its replies."""

    @staticmethod
    def reset(world: World, key: str | None = RESET_KEY, stock: int = 3, **more: Any) -> SaleChange:
        return world.reset(stock=stock, shard_count=1, key=key, **more)

    @pytest.mark.G3
    def test_repeat_after_lost_reply(self, world: World) -> None:
        """Reset to 3, reply lost; buy 3; the same reset again. This used to give six receipts for
        three seats.
        """
        self.reset(world)
        sell(world, 3)
        again = self.reset(world)
        assert again.replayed
        assert (again.sale.generation, again.inventory.shards[0].stock) == (1, 0)
        service = world.purchase_service()
        assert service.buy(service.order(ITEM, 1, None, None)) == SoldOut(left=0)
        world.assert_exact(sold=3)

    @pytest.mark.G3
    @pytest.mark.parametrize("key", [RESET_KEY, None])
    @pytest.mark.parametrize("call", ["transact_write_items", "update_item"])
    def test_reply_lost_within_request(self, world: World, call: str, key: str | None) -> None:
        world.client.after(call, raises(lost_reply()))
        done = self.reset(world, key)
        assert (done.sale.generation, done.replayed) == (1, False)
        world.assert_exact(sold=0)

    @pytest.mark.G3
    def test_concurrent_duplicate(self, world: World) -> None:
        """Its request started the generation, so ours is a replay."""
        world.client.before("transact_write_items", lambda: self.reset(world))
        done = self.reset(world)
        assert (done.sale.generation, done.replayed) == (1, True)

    @pytest.mark.G5
    @pytest.mark.parametrize("call", ["transact_write_items", "update_item"])
    def test_bug_after_lost_reply(self, world: World, call: str) -> None:
        """The sale may have been reset, so the bug is not reported as a failure."""
        if call == "update_item":
            self.reset(world, key=None)
        world.client.after(call, raises(lost_reply()))
        world.client.before(
            "get_item", lambda: None, raises(service_error("AccessDeniedException"))
        )
        with pytest.raises(Busy) as caught:
            self.reset(world)
        assert caught.value.reason is Reason.IN_DOUBT
        assert isinstance(caught.value.__cause__, ClientError)
        assert self.reset(world).replayed
        world.assert_exact(sold=0)

    @pytest.mark.G5
    def test_bug_before_any_write(self, world: World) -> None:
        world.client.before("get_item", raises(service_error("AccessDeniedException")))
        with pytest.raises(ClientError):
            self.reset(world)

    def test_repeat_opens_missing_shards(self, world: World) -> None:
        world.open_sale(stock=40, shards=4)
        world.client.before("update_item", lambda: None, raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.reset(stock=8, shard_count=2, key=RESET_KEY)
        again = world.reset(stock=8, shard_count=2, key=RESET_KEY)
        assert again.replayed
        assert {shard.generation for shard in world.store.read_stored_shards(again.sale)[0]} == {2}
        world.assert_exact(sold=0)

    @pytest.mark.G3
    def test_repeat_after_another_reset(self, world: World) -> None:
        self.reset(world)
        self.reset(world, key="another-0123456789")
        with pytest.raises(
            GenerationChanged, match=r"effect in generation 1\. The sale has generation 2"
        ):
            self.reset(world)
        assert world.catalogue.inventory(ITEM).sale.generation == 2

    @pytest.mark.G3
    def test_key_with_other_values(self, world: World) -> None:
        self.reset(world)
        with pytest.raises(KeyReusedForSale):
            self.reset(world, stock=4)
        assert world.catalogue.inventory(ITEM).sale.generation == 1

    def test_last_ten_keys(self, world: World) -> None:
        """The sale's record has the keys of the last resets, and stays below 1 KB."""
        keys = [f"{number:04}-{'k' * 240}" for number in range(USED_KEYS_MAX + 2)]
        for key in keys:
            self.reset(world, key)
        for key in keys[-USED_KEYS_MAX:-1]:
            with pytest.raises(GenerationChanged):
                self.reset(world, key)
        last = self.reset(world, keys[-1])
        assert last.replayed
        assert len(last.sale.used_keys) == USED_KEYS_MAX
        item = world.client.get_item(TableName=TABLE, Key={"pk": {"S": "item#1"}})["Item"]
        assert len(json.dumps(item)) < 2500

    @pytest.mark.parametrize(("expected", "takes_effect"), [(1, True), (0, False), (2, False)])
    def test_expected_generation(self, world: World, expected: int, takes_effect: bool) -> None:
        world.open_sale(stock=5)
        if takes_effect:
            assert self.reset(world, None, expected_generation=expected).sale.generation == 2
        else:
            with pytest.raises(GenerationChanged, match="has generation 1"):
                self.reset(world, None, expected_generation=expected)
            assert world.catalogue.inventory(ITEM).sale.generation == 1

    def test_expected_generation_of_new_item(self, world: World) -> None:
        assert self.reset(world, None, expected_generation=0).sale.generation == 1

    @pytest.mark.G5
    @pytest.mark.parametrize(
        ("key", "expected", "words"),
        [
            (RESET_KEY, None, "Send the same request again: it takes effect once."),
            (None, 1, "Send the same request again: it takes effect once."),
            (None, None, "Check its generation before you send"),
        ],
    )
    def test_remedy_fits_request(
        self, world: World, key: str | None, expected: int | None, words: str
    ) -> None:
        """A repeat is recommended only where it is safe."""
        world.open_sale(stock=5)
        world.client.before("put_item", *[raises(lost_reply())] * ATTEMPTS_MAX)
        with pytest.raises(Busy) as caught:
            self.reset(world, key, expected_generation=expected)
        assert caught.value.reason is Reason.IN_DOUBT
        assert words in caught.value.remedy
        assert caught.value.retry_after_seconds == LATE_COMMIT_SECONDS


class TestInventory:
    def test_one_read_a_second(self, world: World) -> None:
        world.open_sale(stock=5)
        for _ in range(100):
            world.catalogue.recent_inventory(ITEM)
            world.clock.now += 0.02
        assert world.client.count("get_item") == world.client.count("batch_get_item") == 2

    @pytest.mark.parametrize(("later", "is_read_again"), [(0.99, False), (1.0, True), (-5.0, True)])
    def test_cache_expires_after_a_second(
        self, world: World, later: float, is_read_again: bool
    ) -> None:
        world.open_sale(stock=5)
        world.catalogue.recent_inventory(ITEM)
        sell(world, 2)
        world.clock.now += later
        stock = world.catalogue.recent_inventory(ITEM).shards[0].stock
        assert stock == (3 if is_read_again else 5)

    def test_cache_age_starts_before_read(self, world: World) -> None:
        world.open_sale(stock=5)
        world.client.after("batch_get_item", lambda: world.clock.sleep(0.9))
        world.catalogue.recent_inventory(ITEM)
        sell(world, 1)
        world.clock.now += 0.2
        assert world.catalogue.recent_inventory(ITEM).shards[0].stock == 4

    def test_unknown_item(self, world: World) -> None:
        with pytest.raises(NotFound):
            world.catalogue.inventory(ITEM)

    def test_reset_between_two_reads(self, world: World) -> None:
        """The inventory is of one generation, never a mixture."""
        world.open_sale(stock=5)
        world.client.before(
            "batch_get_item",
            lambda: world.reset(stock=8, shard_count=2),
        )
        inventory = world.catalogue.inventory(ITEM)
        assert inventory.sale.capacity == sum(shard.stock for shard in inventory.shards) == 8

    @pytest.mark.G6
    def test_resets_without_end(self, world: World) -> None:
        world.open_sale(stock=5)
        reset = partial(world.open_sale, 8, shards=1)
        world.client.before("batch_get_item", *[reset] * 100)
        with pytest.raises(Busy):
            world.catalogue.inventory(ITEM)

    def test_updated_at(self, world: World) -> None:
        world.open_sale(stock=100)
        world.clock.now += 60
        (bought,) = sell(world, 1)
        assert world.catalogue.inventory(ITEM).updated_at == bought.purchase.created_at


class TestDeadlines:
    """No store call starts after the request's budget: Lambda would kill the function during it."""

    @pytest.mark.G6
    @pytest.mark.parametrize("slow", ["get_item", "batch_get_item"])
    def test_inventory_deadline(self, world: World, slow: str) -> None:
        world.open_sale(stock=5)
        self.assert_last(
            world, slow, lambda: world.catalogue.inventory(ITEM), CATALOGUE_BUDGET_SECONDS
        )

    @pytest.mark.G6
    @pytest.mark.parametrize("slow", ["get_item", "put_item", "update_item"])
    def test_reset_deadline(self, world: World, slow: str) -> None:
        world.open_sale(stock=5)
        reset = partial(world.open_sale, 5, shards=4)
        self.assert_last(world, slow, reset, CATALOGUE_BUDGET_SECONDS)

    @pytest.mark.G6
    @pytest.mark.parametrize("slow", ["get_item", "batch_get_item", "scan"])
    def test_audit_deadline(self, world: World, slow: str) -> None:
        world.open_sale(stock=5)
        run = world.audit
        self.assert_last(world, slow, run, AUDIT_BUDGET_SECONDS)

    @staticmethod
    def assert_last(world: World, slow: str, request: Any, budget: float) -> None:
        def time_out() -> None:
            world.clock.sleep(budget)
            raise lost_reply()

        world.client.before(slow, time_out)
        with pytest.raises(Busy):
            request()
        assert world.client.calls[-1] == slow
        assert world.client.count(slow) == 1


class TestAudit:
    @pytest.mark.G4
    def test_agrees_at_rest(self, world: World) -> None:
        world.open_sale(stock=20, shards=4)
        sell(world, 3)
        world.open_sale(stock=20, shards=4)
        sell(world, 2, quantity=7)
        result = world.audit()
        assert result.problems == []
        assert (result.purchase_records, result.tickets_in_records, result.sold, result.stock) == (
            2,
            14,
            14,
            6,
        )

    @pytest.mark.G4
    def test_agrees_during_sale(self, world: World) -> None:
        world.open_sale(stock=20, shards=1)
        sell(world, 3)
        # One sale between the first read of the counters and the scan, two between the scan and the
        # second read.
        world.client.before("batch_get_item", lambda: None, lambda: sell(world, 2))
        world.client.after("batch_get_item", lambda: sell(world, 1))
        assert world.audit().problems == []

    @pytest.mark.G4
    @pytest.mark.parametrize(
        ("key", "expression", "values", "problem"),
        [
            (
                "item#1#stock#00",
                "SET stock = stock - :n",
                {"n": 1},
                "Shard 0: stock 1 + held 0 + sold 3 is not 5.",
            ),
            (
                "item#1#stock#00",
                "SET stock = stock - :n, sold = sold + :n",
                {"n": 1},
                "Shard 0: its records hold 3",
            ),
            (
                "item#1#stock#00",
                "SET stock = stock + :n, sold = sold - :n",
                {"n": 1},
                "Shard 0: its records hold 3",
            ),
            (
                "item#1#stock#00",
                "SET stock = stock - :n, held = held + :n",
                {"n": 9},
                "Shard 0: stock is -7.",
            ),
            (
                "item#1#stock#00",
                "SET stock = stock + :n, held = held - :n",
                {"n": 1},
                "Shard 0: held is -1.",
            ),
            (
                "item#1#stock#00",
                "SET stock = stock - :n, held = held + :n",
                {"n": 1},
                "Shard 0: held is 1, its expiry slots have 0.",
            ),
            (
                "item#1",
                "SET capacity = capacity + :n",
                {"n": 1},
                "The shards have a capacity of 5, the sale of 6.",
            ),
        ],
    )
    def test_tampered_counters(
        self, world: World, key: str, expression: str, values: dict[str, int], problem: str
    ) -> None:
        world.open_sale(stock=5, shards=1)
        sell(world, 3)
        tamper(world, key, expression, **values)
        assert any(found.startswith(problem) for found in world.audit().problems)

    @pytest.mark.G4
    def test_missing_record(self, world: World) -> None:
        world.open_sale(stock=5, shards=1)
        bought = sell(world, 3)
        world.client.delete_item(
            TableName=TABLE, Key={"pk": {"S": f"purchase#{bought[0].purchase.purchase_id}"}}
        )
        (problem,) = world.audit().problems
        assert problem == "Shard 0: its records hold 2 tickets, its counter says 3."

    @pytest.mark.G4
    def test_record_with_wrong_quantity(self, world: World) -> None:
        world.open_sale(stock=5, shards=1)
        (bought,) = sell(world, 1)
        tamper(world, f"purchase#{bought.purchase.purchase_id}", "SET quantity = :n", n=2)
        (problem,) = world.audit().problems
        bought_id = bought.purchase.purchase_id
        assert problem == f"Purchase {bought_id}: it has 2 tickets, and 1 from stock."

    def test_reset_during_audit(self, world: World) -> None:
        world.open_sale(stock=5)
        reset = partial(world.open_sale, 8, shards=1)
        world.client.before("batch_get_item", lambda: None, reset)
        assert "was reset" in world.audit().problems[-1]

    @pytest.mark.G4
    def test_older_generations(self, world: World) -> None:
        """A receipt of an earlier sale counts as much, and its record can be lost as well."""
        world.open_sale(stock=20, shards=2)
        sell(world, 5)
        world.open_sale(stock=20, shards=4)
        first = sell(world, 2, quantity=3)
        world.open_sale(stock=20, shards=1)
        assert world.audit().problems == []
        purchase = first[0].purchase
        world.client.delete_item(
            TableName=TABLE, Key={"pk": {"S": f"purchase#{purchase.purchase_id}"}}
        )
        (problem,) = world.audit().problems
        (shard,) = purchase.taken
        assert problem.startswith(f"Shard {shard}: its records of earlier generations hold ")

    @pytest.mark.G4
    def test_generation_opened_by_buyers(self, world: World) -> None:
        world.open_sale(stock=8, shards=4)
        sell(world, 3)
        world.client.before("update_item", raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.reset(stock=8, shard_count=4)
        assert world.audit().problems == []
        sell(world, 2)
        result = world.audit()
        assert (result.problems, result.sold, result.stock) == ([], 2, 6)

    @pytest.mark.G4
    @pytest.mark.parametrize(
        ("expression", "problem"),
        [
            ("REMOVE quantity", "attribute quantity is missing."),
            ("REMOVE taken", "attribute taken is missing."),
            ("REMOVE item_id", "attribute item_id is missing."),
            ("SET quantity = :text", "attribute quantity is of type S, not N."),
            ("SET item_id = :text", "attribute item_id is of type S, not N."),
            ("SET taken = :text", "attribute taken is of type S, not M."),
            ("SET taken = :map", "attribute taken does not map shards to tickets."),
            ("SET generation = :fraction", "attribute generation is not a whole number."),
        ],
    )
    def test_unreadable_record(self, world: World, expression: str, problem: str) -> None:
        world.open_sale(stock=5, shards=1)
        bought = sell(world, 2)[0]
        key = f"purchase#{bought.purchase.purchase_id}"
        values = {":text": {"S": "x"}, ":map": {"M": {"x": {"S": "y"}}}, ":fraction": {"N": "1.5"}}
        used = {name: value for name, value in values.items() if name in expression}
        world.client.update_item(
            TableName=TABLE,
            Key={"pk": {"S": key}},
            UpdateExpression=expression,
            **({"ExpressionAttributeValues": used} if used else {}),
        )
        result = world.audit()
        assert f"Record {key}: {problem}" in result.problems
        assert (result.purchase_records, result.sold) == (1, 2)

    @pytest.mark.G4
    @pytest.mark.parametrize("attribute", ["stock", "sold", "generation", "updated_at"])
    def test_unreadable_shard(self, world: World, attribute: str) -> None:
        world.open_sale(stock=5, shards=2)
        sell(world, 2)
        key = "item#1#stock#01"
        world.client.update_item(
            TableName=TABLE, Key={"pk": {"S": key}}, UpdateExpression=f"REMOVE {attribute}"
        )
        result = world.audit()
        assert f"Record {key}: attribute {attribute} is missing." in result.problems
        assert result.purchase_records == 2

    def test_many_unreadable_records(self, world: World) -> None:
        world.open_sale(stock=100, shards=1)
        for bought in sell(world, PROBLEMS_MAX + 3):
            tamper(world, f"purchase#{bought.purchase.purchase_id}", "SET quantity = :n", n=2)
        problems = world.audit().problems
        assert len(problems) == PROBLEMS_MAX + 1
        assert problems[-1] == "There are 3 more such records."

    def test_audit_out_of_time(self, world: World) -> None:
        """Pages of three items, each so slow that one request can read only three of them."""
        world.open_sale(stock=40, shards=4)
        sell(world, 10, quantity=2)

        def slow_page(scan: Any, **request: Any) -> Any:
            world.clock.sleep(6)
            return scan(**request | {"Limit": 3})

        world.client.replace("scan", slow_page)
        results = [world.audit()]
        while results[-1].cursor:
            began = world.clock()
            results.append(world.audit(results[-1].cursor))
            assert world.clock() - began <= AUDIT_BUDGET_SECONDS
        counted = [result.purchase_records for result in results]
        assert len(counted) > 1
        assert counted == sorted(counted)
        assert (results[-1].purchase_records, results[-1].tickets_in_records) == (10, 20)
        assert [result.problems for result in results] == [[]] * len(results), (
            "records that were not counted yet were reported as missing"
        )

    def test_many_pages(self, world: World) -> None:
        """More pages than the attempts of one call: those are for calls that fail."""
        pages = ATTEMPTS_MAX + 20
        world.open_sale(stock=pages, shards=1)
        sell(world, pages)
        world.client.replace("scan", lambda scan, **request: scan(**request | {"Limit": 1}))
        result = world.audit()
        assert (result.cursor, result.problems, result.purchase_records) == (None, [], pages)

    @pytest.mark.G4
    def test_everything_changes_meanwhile(self, world: World) -> None:
        """Purchases, refunds, holds and what becomes of them, before each call that is not the
        first: no change is taken for a difference.
        """
        world.open_sale(stock=600, shards=3, hold_seconds=60, limit=300)
        services, number = world.services(), iter(range(10_000))
        held, changing = list[str](), list[bool]()

        def change() -> None:
            if changing:
                return  # its own calls
            changing.append(True)
            buyer = f"buyer-{next(number) % 3}"
            buys, holds = services.purchases, services.holds
            bought = buys.buy(buys.order(ITEM, 2, buyer, None))
            hold = buys.buy(buys.order(ITEM, 1, buyer, None, is_hold=True))
            assert isinstance(bought, Bought)
            assert isinstance(hold, Held)
            key = f"{next(number):016}"
            services.refunds.refund(bought.purchase.purchase_id, 1 + next(number) % 2, key)
            held.append(hold.hold.purchase_id)
            if len(held) > 2:
                change = (holds.release, holds.extend, lambda id_: holds.confirm(id_, id_))
                change[next(number) % 3](held.pop(0))
            world.clock.now += 0.01
            changing.clear()

        for _ in range(5):
            change()
        for call in ("get_item", "batch_get_item", "scan"):
            world.client.before(call, *[change] * 6)
        small = {"Limit": 12}
        world.client.replace("scan", lambda scan, **request: scan(**request | small))
        results = [world.services().auditor.audit(ITEM)]
        world.client.heal()
        assert results[0].problems == []
        assert results[0].purchase_records > 10

    @pytest.mark.G4
    def test_buyer_changes_between_looks(self, world: World) -> None:
        """A purchase is refunded before each batch read: what its buyer has is never the same."""
        world.open_sale(stock=60, shards=1, limit=60)
        services = world.services()
        orders = [services.purchases.order(ITEM, 1, "ann", None) for _ in range(40)]
        bought = [services.purchases.buy(order) for order in orders]
        purchases = [each.purchase for each in bought if isinstance(each, Bought)]

        def refund() -> None:
            services.refunds.refund(purchases.pop().purchase_id, 1, "k" * 16)

        one = {"Limit": 10}
        world.client.replace("scan", lambda scan, **request: scan(**request | one))
        world.client.before("batch_get_item", lambda: None, *[refund] * 20)
        assert world.audit().problems == []
        assert len(purchases) < 30, "there were doubts"

    @pytest.mark.G4
    def test_hold_released_between_looks(self, world: World) -> None:
        """Made after the shards were read, and released before they are read again."""
        world.open_sale(stock=10, shards=1, hold_seconds=60)
        services, held = world.services(), list[str]()

        def hold() -> None:
            order = services.purchases.order(ITEM, 1, None, None, is_hold=True)
            outcome = services.purchases.buy(order)
            assert isinstance(outcome, Held)
            held.append(outcome.hold.purchase_id)

        world.client.before("scan", hold)
        world.client.before(
            "batch_get_item", lambda: None, lambda: services.holds.release(held.pop())
        )
        assert world.audit().problems == []
        assert held == [], "it was released"

    @pytest.mark.G4
    @pytest.mark.parametrize("off", [-3, 3])
    def test_difference_during_sale(self, world: World, off: int) -> None:
        """The shard sells all the time. What was bought long before is certain."""
        world.open_sale(stock=50, shards=1)
        sell(world, 10)
        tamper(world, "item#1#stock#00", "SET sold = sold + :n, stock = stock - :n", n=off)
        world.clock.now += UNSURE_SECONDS + 1

        def sell_later() -> None:
            world.clock.now += 2
            sell(world, 2)

        world.client.before("scan", sell_later)
        world.client.before("batch_get_item", lambda: None, sell_later)
        (problem,) = world.audit().problems
        said = f"Shard 0: its records hold 10 to 10 tickets, its counter said {10 + off}."
        assert problem == said

    def test_stated_number_of_records(self, world: World) -> None:
        """At most so many in one request."""
        world.open_sale(stock=100, shards=1)
        sell(world, 5)
        one = {"Limit": 1}

        def scan(scan: Any, **request: Any) -> Any:
            page = scan(**request | one)
            return page | {"ScannedCount": request["Limit"]}

        world.client.replace("scan", scan)
        with_cursor = world.audit()
        assert with_cursor.cursor is None  # 5 purchases, one shard, sale, catalogue: 8 pages
        sell(world, 5)
        world.client.calls.clear()
        assert world.audit().cursor
        assert world.client.count("scan") == AUDIT_RECORDS_MAX // AUDIT_PAGE_RECORDS_MAX

    def test_stated_number_in_short_pages(self, world: World) -> None:
        """DynamoDB ends a page at 1 MB, whatever was asked for."""
        world.open_sale(stock=100, shards=1)
        sell(world, 20)
        looked_at: list[int] = []

        def scan(scan: Any, **request: Any) -> Any:
            looked_at.append(min(request["Limit"], 700))
            return scan(**request | {"Limit": 1}) | {"ScannedCount": looked_at[-1]}

        world.client.replace("scan", scan)
        assert world.audit().cursor
        assert sum(looked_at) == AUDIT_RECORDS_MAX

    @pytest.mark.G4
    def test_cursor_of_full_sale(self, world: World) -> None:
        """It fits into a URL, which API Gateway takes up to 10,240 bytes with all headers."""
        world.open_sale(stock=1_000_000, shards=100)
        sale = world.store.read_sale(ITEM)
        assert sale
        shards, _ = world.store.read_stored_shards(sale)
        draw = random.Random(1)
        tally = Tally.begin(sale, shards, began_at=1.8e9, read_at=1.8e9, by_slot=False)
        for index, shard in tally.shards.items():
            figures = [draw.randrange(10_000) for _ in range(6)]
            sold, before, taken, taken_before, sure, unsure = figures
            tally.shards[index] = ShardTally(
                shard.seen, sold, before, True, taken, taken_before, sure, unsure
            )
        for _ in range(PROBLEMS_MAX + 1):
            tally.report(f"Purchase {UUID(int=draw.getrandbits(128))}: it has 3 tickets, and 2.")
        assert len(to_cursor(tally)) < 6_000

    def test_malformed_cursor(self, world: World) -> None:
        world.open_sale(stock=5)
        for cursor in ("x", "eJwDAAAAAAE=", "ö"):
            with pytest.raises(InvalidRequest, match="not the cursor"):
                world.audit(cursor)
