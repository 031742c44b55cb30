"""Starting sales anew, reading them, and holding records against counters."""

from typing import Any

import pytest

from tests.support import ITEM, TABLE, World, raises
from ticketing.audit import audit
from ticketing.errors import Contended, NotFound
from ticketing.rules import MAX_SHARDS, Bought


def sell(world: World, count: int, quantity: int = 1) -> list[Bought]:
    office = world.box_office()
    outcomes = [office.buy(office.order(ITEM, quantity, None, None)) for _ in range(count)]
    assert all(isinstance(outcome, Bought) for outcome in outcomes)
    return [outcome for outcome in outcomes if isinstance(outcome, Bought)]


def tamper(world: World, key: str, expression: str, **values: int) -> None:
    """Writes into the table behind everybody's back."""
    world.client.update_item(
        TableName=TABLE,
        Key={"pk": {"S": key}},
        UpdateExpression=expression.replace("capacity", "#capacity"),
        **({"ExpressionAttributeNames": {"#capacity": "capacity"}} if "capacity" in expression else {}),
        ExpressionAttributeValues={f":{name}": {"N": str(value)} for name, value in values.items()},
    )


class TestReset:
    def test_the_first_one_opens_the_original_item(self, world: World) -> None:
        inventory = world.catalogue.reset(ITEM, stock=None, item_name=None, shard_count=None)
        assert (inventory.sale.item_name, inventory.sale.capacity) == ("Item A - Concert Ticket", 100)
        assert inventory == world.catalogue.inventory(ITEM)

    def test_the_next_one_keeps_what_it_is_not_told_and_counts_the_generation(self, world: World) -> None:
        world.catalogue.reset(ITEM, stock=60, item_name="Concert", shard_count=3)
        sale = world.catalogue.reset(ITEM, stock=None, item_name=None, shard_count=None).sale
        assert (sale.item_name, sale.capacity, sale.shard_count, sale.generation) == ("Concert", 60, 2, 2)

    def test_no_stock_is_a_stock(self, world: World) -> None:
        assert world.catalogue.reset(ITEM, stock=0, item_name=None, shard_count=None).sale.capacity == 0

    @pytest.mark.parametrize(("before", "after"), [(MAX_SHARDS, 1), (1, MAX_SHARDS), (7, 7)])
    def test_every_shard_of_the_old_generation_is_closed(self, world: World, before: int, after: int) -> None:
        world.open_sale(stock=300, shards=before)
        old = world.store.read_sale(ITEM)
        assert old
        world.open_sale(stock=300, shards=after)
        for index in range(before):
            assert not world.store.open_shard(old, index), "an older generation opened a shard again"
        items = world.client.scan(TableName=TABLE)["Items"]
        stock = [item for item in items if "#stock#" in item["pk"]["S"]]
        assert {item["generation"]["N"] for item in stock} == {"2"}
        assert sum(int(item["stock"]["N"]) for item in stock) == 300

    def test_a_reset_after_one_that_died_closes_all_shards_that_ever_were(self, world: World) -> None:
        world.open_sale(stock=100, shards=20)
        office = world.box_office()
        office.buy(office.order(ITEM, 1, None, None))
        world.client.before("put_item", lambda: None, raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.catalogue.reset(ITEM, stock=4, item_name=None, shard_count=4)
        world.catalogue.reset(ITEM, stock=4, item_name=None, shard_count=4)
        bought = [office.buy(office.order(ITEM, 1, None, None)) for _ in range(30)]
        assert {outcome.purchase.generation for outcome in bought if isinstance(outcome, Bought)} == {3}
        world.assert_exact(sold=4)

    def test_a_reset_that_has_no_time_left_stops_and_can_be_repeated(self, world: World) -> None:
        world.client.before("put_item", *[lambda: world.clock.sleep(3)] * 4)
        with pytest.raises(Contended):
            world.catalogue.reset(ITEM, stock=100, item_name=None, shard_count=10)
        assert world.client.count("put_item") == 4, "a call started after the budget was spent"
        world.open_sale(stock=100, shards=10)
        world.assert_exact(sold=0)

    def test_a_rival_reset_comes_first_and_both_take_effect(self, world: World) -> None:
        world.open_sale(stock=5)
        world.client.before("put_item", lambda: world.catalogue.reset(ITEM, stock=7, item_name=None, shard_count=1))
        sale = world.catalogue.reset(ITEM, stock=9, item_name=None, shard_count=1).sale
        assert (sale.generation, sale.capacity) == (3, 9)
        world.assert_exact(sold=0)

    def test_endless_rivals_end_in_contended(self, world: World) -> None:
        world.open_sale(stock=5)

        def rival() -> None:
            sale = world.store.read_sale(ITEM)
            assert sale
            item = {"pk": {"S": "item#1"}}
            world.client._client.update_item(
                TableName=TABLE, Key=item, UpdateExpression="SET generation = generation + :one",
                ExpressionAttributeValues={":one": {"N": "1"}},
            )  # fmt: skip

        world.client.before("put_item", *[rival] * 100)
        with pytest.raises(Contended):
            world.catalogue.reset(ITEM, stock=9, item_name=None, shard_count=1)


class TestInventory:
    def test_an_unknown_item(self, world: World) -> None:
        with pytest.raises(NotFound):
            world.catalogue.inventory(ITEM)

    def test_a_reset_between_its_two_reads_shows_the_new_sale_whole(self, world: World) -> None:
        world.open_sale(stock=5)
        world.client.before(
            "batch_get_item", lambda: world.catalogue.reset(ITEM, stock=8, item_name=None, shard_count=2)
        )
        inventory = world.catalogue.inventory(ITEM)
        assert inventory.sale.capacity == sum(shard.stock for shard in inventory.shards) == 8

    def test_resets_without_end_are_contended(self, world: World) -> None:
        world.open_sale(stock=5)
        again = lambda: world.catalogue.reset(ITEM, stock=8, item_name=None, shard_count=1)  # noqa: E731
        world.client.before("batch_get_item", *[again] * 100)
        with pytest.raises(Contended):
            world.catalogue.inventory(ITEM)

    def test_it_was_updated_when_the_last_ticket_moved(self, world: World) -> None:
        world.open_sale(stock=100)
        world.clock.now += 60
        (bought,) = sell(world, 1)
        assert world.catalogue.inventory(ITEM).updated_at == bought.purchase.created_at


class TestAudit:
    def test_it_agrees_at_rest_with_records_of_older_generations_beside(self, world: World) -> None:
        world.open_sale(stock=20, shards=4)
        sell(world, 3)
        world.open_sale(stock=20, shards=4)
        sell(world, 2, quantity=7)
        result = audit(world.store, ITEM, clock=world.clock)
        assert result.problems == []
        assert (result.purchase_records, result.tickets_in_records, result.sold, result.stock) == (2, 14, 14, 6)

    def test_it_agrees_with_a_sale_that_is_running(self, world: World) -> None:
        world.open_sale(stock=20, shards=1)
        sell(world, 3)
        # A sale comes between the first look at the counters and the scan, and two between the scan and the second.
        world.client.before("batch_get_item", lambda: None, lambda: sell(world, 2))
        world.client.after("batch_get_item", lambda: sell(world, 1))
        assert audit(world.store, ITEM).problems == []

    @pytest.mark.parametrize(
        ("key", "expression", "values", "problem"),
        [
            ("item#1#stock#00", "SET stock = stock - :n", {"n": 1}, "Shard 0: stock 1 + held 0 + sold 3 is not 5."),
            ("item#1#stock#00", "SET stock = stock - :n, sold = sold + :n", {"n": 1}, "Shard 0: its records hold 3"),
            ("item#1#stock#00", "SET stock = stock + :n, sold = sold - :n", {"n": 1}, "Shard 0: its records hold 3"),
            ("item#1#stock#00", "SET stock = stock - :n, held = held + :n", {"n": 9}, "Shard 0: stock is -7."),
            ("item#1#stock#00", "SET stock = stock + :n, held = held - :n", {"n": 1}, "Shard 0: held is -1."),
            ("item#1", "SET capacity = capacity + :n", {"n": 1}, "The shards have a capacity of 5, the sale of 6."),
        ],
    )
    def test_it_names_what_does_not_add_up(
        self, world: World, key: str, expression: str, values: dict[str, int], problem: str
    ) -> None:
        world.open_sale(stock=5, shards=1)
        sell(world, 3)
        tamper(world, key, expression, **values)
        assert any(found.startswith(problem) for found in audit(world.store, ITEM).problems)

    def test_a_record_that_vanished_is_missed(self, world: World) -> None:
        world.open_sale(stock=5, shards=1)
        bought = sell(world, 3)
        world.client.delete_item(TableName=TABLE, Key={"pk": {"S": f"purchase#{bought[0].purchase.purchase_id}"}})
        (problem,) = audit(world.store, ITEM).problems
        assert problem == "Shard 0: its records hold 2 tickets, its counter says 3."

    def test_a_record_that_says_more_than_it_took_is_named(self, world: World) -> None:
        world.open_sale(stock=5, shards=1)
        (bought,) = sell(world, 1)
        tamper(world, f"purchase#{bought.purchase.purchase_id}", "SET quantity = :n", n=2)
        (problem,) = audit(world.store, ITEM).problems
        assert problem == f"Purchase {bought.purchase.purchase_id}: 1 of 2 tickets came from stock."

    def test_a_reset_meanwhile_is_said(self, world: World) -> None:
        world.open_sale(stock=5)
        reset: Any = lambda: world.catalogue.reset(ITEM, stock=8, item_name=None, shard_count=1)  # noqa: E731
        world.client.before("batch_get_item", lambda: None, reset)
        assert "was reset" in audit(world.store, ITEM).problems[-1]
