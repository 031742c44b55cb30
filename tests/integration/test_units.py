"""The cost of each outcome: store calls, write units, read units. The README has the same table.

The model counts all of it as AWS documents it. No emulator does: DynamoDB Local bills some items of
a writing transaction only, MiniStack no batch reads. So writes are also counted on MiniStack, and
reads on DynamoDB Local.
"""

from typing import Any

import boto3
import pytest

import simulation.world
from benchmarks.units import KEY, OUTCOMES, SHARDS, Metered, count, markdown_table, rows
from simulation.dynamodb import WRITE_UNIT_BYTES, DynamoDB, item_bytes
from tests.support import ITEM, ROOT, World, create_table
from ticketing.limits import (
    GENERATION_MAX,
    HOLD_SECONDS_DEFAULT,
    ITEM_ID_MAX,
    SHARDS_MAX,
    SLOTS_PER_HOLD,
    STOCK_MAX,
    SUMMARIES,
)
from ticketing.model import Held, StockSummary
from ticketing.store.items import SUMMARY, shard_key, summary_key

# Store calls, write units and read units.
EXPECTED = {
    "a purchase": (1, 4, 0),
    "a hold": (1, 4, 0),
    "its confirmation": (2, 4, 1),
    "its confirmation, with a payment": (2, 6, 1),
    "its release": (2, 4, 1),
    "its confirmation, too late": (2, 1, 1),
    "a purchase that reclaims expired holds": (2, 5, 0),
    "a refund": (2, 4, 1),
    "sold out, cached, no key": (0, 0, 0),
    "sold out, cached, with a key": (1, 0, 1),
    "sold out, seen by another process": (1, 0, 1),
    "sold out, not seen by any": (5, 2, 2 + 2 * SHARDS),
    "`GET /inventory`, not cached": (2, 0, 1 + SHARDS),
    "`GET /inventory`, cached": (0, 0, 0),
    "a purchase, with a limit per buyer": (2, 6, 1),
    "a hold, with a limit per buyer": (2, 6, 1),
    "its confirmation, with a limit per buyer": (3, 6, 2),
    "refused for the limit, no key": (1, 0, 1),
}


@pytest.fixture(params=["model", "ministack", "dynamodb_local"])
def engine_client(request: pytest.FixtureRequest, table_name: str) -> Any:
    client: Any
    if request.param == "model":
        client = DynamoDB(simulation.world.World(seed=1)).client()
    else:
        engine = request.getfixturevalue(request.param)
        client = boto3.client("dynamodb", endpoint_url=engine.endpoint)
    create_table(client, table_name)
    return client


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_units(
    engine_client: Any, table_name: str, outcome: str, request: pytest.FixtureRequest
) -> None:
    counted = count(outcome, engine_client, table_name)
    calls, write_units, read_units = EXPECTED[outcome]
    assert counted.calls == calls
    if "dynamodb_local" not in request.node.name:
        assert counted.write_units == write_units
    if "ministack" not in request.node.name:
        assert counted.read_units == read_units


def test_readme_table() -> None:
    """What `make bench` counts."""
    counted = list(rows(lambda _: None))
    assert {each.outcome for each in counted} == set(EXPECTED)
    assert markdown_table(counted) in (ROOT / "README.md").read_text()


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


def test_size_of_summary() -> None:
    """With all shards and the largest numbers it is written for one unit, and read for one."""
    most = StockSummary(
        item_id=ITEM_ID_MAX,
        part=SUMMARIES - 1,
        revision=10**9,
        published=10**9,
        generation=GENERATION_MAX,
        free=dict.fromkeys(range(SHARDS_MAX), STOCK_MAX // SHARDS_MAX - 1),
        next_release_at=1_800_000_000,
        is_snapshot=True,
        written_at=1_800_000_000_123,
    )
    item = SUMMARY.to_item(summary_key(most.item_id, most.part), most)
    assert item_bytes(item) < WRITE_UNIT_BYTES
