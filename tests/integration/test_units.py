"""The cost of each outcome: store calls, write units, read units. The README has the same table.

The model counts all of it as AWS documents it. No emulator does: DynamoDB Local bills a
transaction's writes once instead of twice, MiniStack no batch reads. So writes are also counted on
MiniStack, and reads on DynamoDB Local.
"""

from collections.abc import Callable
from typing import Any

import boto3
import pytest

import simulation.world
from simulation.dynamodb import WRITE_UNIT_BYTES, DynamoDB, item_bytes
from tests.support import ITEM, ROOT, World, create_table
from ticketing.limits import HOLD_SECONDS_DEFAULT, SLOTS_PER_HOLD, STOCK_MAX
from ticketing.model import Held, LimitReached, Purchase
from ticketing.store.items import shard_key

KEY = "0123456789abcdef"
SHARDS = 4
BILLED = {
    "transact_write_items",
    "transact_get_items",
    "get_item",
    "batch_get_item",
    "put_item",
    "update_item",
}


class Metered:
    """A client that asks for the consumed capacity of every call, and adds it up."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.reset()

    def reset(self) -> None:
        self.calls = 0
        self.write_units = 0.0
        self.read_units = 0.0

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if name not in BILLED:
            return attribute

        def call(**request: Any) -> Any:
            self.calls += 1
            answer = attribute(**request, ReturnConsumedCapacity="TOTAL")
            consumed = answer.get("ConsumedCapacity", [])
            for one in consumed if isinstance(consumed, list) else [consumed]:
                units = float(one["CapacityUnits"])
                if "write" in name or "put" in name or "update" in name:
                    self.write_units += units
                else:
                    self.read_units += units
            return answer

        return call


@pytest.fixture(params=["model", "ministack", "dynamodb_local"])
def metered(request: pytest.FixtureRequest, table_name: str) -> World:
    if request.param == "model":
        client = Metered(DynamoDB(simulation.world.World(seed=1)).client())
    else:
        engine = request.getfixturevalue(request.param)
        client = Metered(boto3.client("dynamodb", endpoint_url=engine.endpoint))
    create_table(client, table_name)
    return World(client, table_name)


def purchase(world: World) -> None:
    service = world.purchase_service()
    service.buy(service.order(ITEM, 1, "another", None))
    meter(world).reset()
    service.buy(service.order(ITEM, 1, "buyer-42", KEY))


def purchase_with_limit(world: World) -> None:
    world.open_sale(stock=50, shards=SHARDS, limit=2)
    purchase(world)


def hold_with_limit(world: World) -> None:
    world.open_sale(stock=50, shards=SHARDS, limit=2)
    service = world.purchase_service()
    service.buy(service.order(ITEM, 1, "another", None))
    meter(world).reset()
    service.buy(service.order(ITEM, 1, "buyer-42", KEY, is_hold=True))


def confirm_with_limit(world: World) -> None:
    world.open_sale(stock=50, shards=SHARDS, limit=2)
    confirm(None)(world)


def limit_reached(world: World) -> None:
    world.open_sale(stock=50, shards=SHARDS, limit=1)
    purchase(world)
    meter(world).reset()
    service = world.purchase_service()
    service.buy(service.order(ITEM, 2, "another", None))
    meter(world).reset()
    assert service.buy(service.order(ITEM, 1, "buyer-42", None)) == LimitReached(1, 0)


def sold_out(key: str | None) -> Callable[[World], None]:
    def run(world: World) -> None:
        service = world.purchase_service()
        for _ in range(100):
            service.buy(service.order(ITEM, 1, None, None))
        world.clock.now += 10
        service.buy(service.order(ITEM, 1, None, None))
        meter(world).reset()
        service.buy(service.order(ITEM, 1, None, key))

    return run


def read_all_shards(world: World) -> None:
    service = world.purchase_service()
    for _ in range(100):
        service.buy(service.order(ITEM, 1, None, None))
    world.clock.now += 10
    meter(world).reset()
    service.buy(service.order(ITEM, 1, None, None))


def held(world: World) -> Purchase:
    service = world.purchase_service()
    outcome = service.buy(service.order(ITEM, 1, "buyer-42", KEY, is_hold=True))
    assert isinstance(outcome, Held)
    return outcome.hold


def hold(world: World) -> None:
    service = world.purchase_service()
    service.buy(service.order(ITEM, 1, None, None))
    meter(world).reset()
    service.buy(service.order(ITEM, 1, "buyer-42", KEY, is_hold=True))


def confirm(payment: str | None) -> Callable[[World], None]:
    def run(world: World) -> None:
        hold, holds = held(world), world.services().holds
        holds.find(hold.purchase_id)
        meter(world).reset()
        holds.confirm(hold.purchase_id, payment)

    return run


def release(world: World) -> None:
    hold, holds = held(world), world.services().holds
    holds.find(hold.purchase_id)
    meter(world).reset()
    holds.release(hold.purchase_id)


def confirm_late(world: World) -> None:
    hold, holds = held(world), world.services().holds
    world.clock.now += 2 * HOLD_SECONDS_DEFAULT
    holds.find(hold.purchase_id)
    meter(world).reset()
    holds.confirm(hold.purchase_id, None)


def reclaim(world: World) -> None:
    """A purchase that takes an expired hold's tickets back, in a process that knows of them."""
    service = world.purchase_service()
    for _ in range(50):
        assert isinstance(service.buy(service.order(ITEM, 1, None, None, is_hold=True)), Held)
    service.buy(service.order(ITEM, 1, None, None))
    world.clock.now += HOLD_SECONDS_DEFAULT + 30
    service.buy(service.order(ITEM, 1, None, None))
    meter(world).reset()
    service.buy(service.order(ITEM, 10, None, None))


def inventory(world: World) -> None:
    meter(world).reset()
    world.catalogue.recent_inventory(ITEM)


def inventory_again(world: World) -> None:
    world.catalogue.recent_inventory(ITEM)
    meter(world).reset()
    world.catalogue.recent_inventory(ITEM)


def meter(world: World) -> Metered:
    inner = world.client._client
    assert isinstance(inner, Metered)
    return inner


OUTCOMES: dict[str, tuple[Callable[[World], None], int, float, float]] = {
    "a purchase": (purchase, 1, 4, 0),
    "a hold": (hold, 1, 4, 0),
    "its confirmation": (confirm(None), 2, 4, 1),
    "its confirmation, with a payment": (confirm("pay-1"), 2, 6, 1),
    "its release": (release, 2, 4, 1),
    "its confirmation, too late": (confirm_late, 2, 1, 1),
    "a purchase that reclaims expired holds": (reclaim, 2, 5, 0),
    "a purchase, with a limit per buyer": (purchase_with_limit, 2, 6, 1),
    "a hold, with a limit per buyer": (hold_with_limit, 2, 6, 1),
    "its confirmation, with a limit per buyer": (confirm_with_limit, 3, 6, 2),
    "refused for the limit, no key": (limit_reached, 1, 0, 1),
    "sold out, cached, no key": (sold_out(None), 0, 0, 0),
    "sold out, cached, with a key": (sold_out(KEY), 1, 0, 1),
    "sold out, not cached": (read_all_shards, 2, 0, 1 + 2 * SHARDS),
    "`GET /inventory`, not cached": (inventory, 2, 0, 1 + SHARDS),
    "`GET /inventory`, cached": (inventory_again, 0, 0, 0),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_units(metered: World, outcome: str, request: pytest.FixtureRequest) -> None:
    metered.open_sale(stock=50, shards=SHARDS)
    run, calls, write_units, read_units = OUTCOMES[outcome]
    run(metered)
    counted = meter(metered)
    assert counted.calls == calls
    if "dynamodb_local" not in request.node.name:
        assert counted.write_units == write_units
    if "ministack" not in request.node.name:
        assert counted.read_units == read_units


def test_readme_table() -> None:
    readme = (ROOT / "README.md").read_text()
    for outcome, (_, calls, write_units, read_units) in OUTCOMES.items():
        assert f"| {outcome} | {calls} | {write_units:.0f} | {read_units:.0f} |" in readme


@pytest.mark.G1
def test_ten_thousand_holds() -> None:
    """Live holds in one sale: shard items stay below 1 KB, a purchase costs 4 write units."""
    model = DynamoDB(simulation.world.World(seed=1))
    client = Metered(model.client())
    create_table(client)
    world = World(client)
    world.open_sale(stock=STOCK_MAX, shards=SHARDS)
    service = world.purchase_service()
    for number in range(10_000):
        world.clock.now += (HOLD_SECONDS_DEFAULT - 1) / 10_000
        order = service.order(ITEM, 1, f"buyer-{number}", f"{KEY}-{number}", is_hold=True)
        assert isinstance(service.buy(order), Held)
    state = world.services().catalogue.inventory(ITEM)
    assert state.held == 10_000
    assert min(len(shard.slots) for shard in state.shards) >= SLOTS_PER_HOLD
    sizes = [
        item_bytes(
            world.client.get_item(TableName=world.table_name, Key=shard_key(ITEM, index))["Item"]
        )
        for index in range(SHARDS)
    ]
    assert max(sizes) < WRITE_UNIT_BYTES
    client.reset()
    service.buy(service.order(ITEM, 1, "another", KEY))
    assert (client.calls, client.write_units) == (1, 4)
