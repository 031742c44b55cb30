"""The audit by schedule: all items in one pass, with a metric for the alarm."""

import io
import json
import logging
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from admin.schedule import PROBLEMS_METRIC, ScheduledAudit
from tests.support import World, lost_reply, raises
from ticketing.api.telemetry import Telemetry
from ticketing.model import Bought, SaleSettings

ITEMS = (1, 2, 30)


@pytest.fixture
def items(world: World) -> World:
    """Return three items, each of which has sold three tickets to a buyer with a limit."""
    for item_id in ITEMS:
        settings = SaleSettings(10, f"Concert {item_id}", shard_count=2, per_buyer_limit=5)
        world.organiser.put(item_id, settings)
        service = world.purchase_service()
        for _ in range(3):
            assert isinstance(service.buy(service.order(item_id, 1, "ann", None)), Bought)
    world.client.calls.clear()
    return world


def run(world: World, seconds: float = 900, level: str = "INFO") -> list[dict[str, Any]]:
    """Run the function, and return its lines."""
    log, service = io.StringIO(), f"test-{uuid4()}"
    audit = ScheduledAudit(world.services().auditor, Telemetry(service, log))
    logging.getLogger(service).setLevel(level)
    audit({}, SimpleNamespace(get_remaining_time_in_millis=lambda: seconds * 1000))
    return [json.loads(line) for line in log.getvalue().splitlines()]


@pytest.mark.G4
def test_all_items_agree(items: World) -> None:
    (line,) = run(items)
    assert (line["level"], line["outcome"], line["items"]) == ("INFO", "agrees", 3)
    assert line["records"] == 1 + 3 * (1 + 2 + 3 + 1)
    assert line[PROBLEMS_METRIC] == 0, "the alarm ends with it"
    assert line["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Name"] == PROBLEMS_METRIC
    assert items.client.count("scan") == 1, "one pass, whatever the number of items"


@pytest.mark.G4
def test_differences_are_named(items: World) -> None:
    items.tamper("item#2#stock#00", stock=9)
    items.lose("item#30#1#buyer#ann")
    of_two, of_thirty, line = run(items)
    assert (of_two["item_id"], of_two["level"], len(of_two["problems"])) == (2, "ERROR", 1)
    assert (of_thirty["item_id"], len(of_thirty["problems"])) == (30, 3)
    assert (line["outcome"], line[PROBLEMS_METRIC], line["level"]) == ("drift", 4, "ERROR")


@pytest.mark.G4
def test_unreadable_record(items: World) -> None:
    record = next(each for each in items.records() if each.is_purchase)
    items.client.update_item(
        TableName=items.table_name,
        Key={"pk": {"S": f"purchase#{record.purchase_id}"}},
        UpdateExpression="REMOVE item_id",
    )
    line = run(items)[-1]
    assert line["problems"] == [
        f"Record purchase#{record.purchase_id}: attribute item_id is missing."
    ]
    assert line[PROBLEMS_METRIC] >= 2


@pytest.mark.G6
def test_time_is_too_short(items: World) -> None:
    """What was not looked at is not called in order, and nothing is called lost."""
    items.client.before("scan", lambda: items.clock.sleep(51))
    one = {"Limit": 1}
    items.client.replace("scan", lambda scan, **request: scan(**request | one))
    (line,) = run(items, seconds=60)
    assert (line["outcome"], line["level"], line[PROBLEMS_METRIC]) == ("incomplete", "ERROR", 1)
    assert line["records"] == 1


def test_store_is_silent(items: World) -> None:
    """No metric: it did not come to its end. Lambda does not repeat it."""
    items.client.before("get_item", *[raises(lost_reply())] * 200)
    (line,) = run(items)
    assert (line["level"], line["outcome"]) == ("ERROR", "failed")
    assert PROBLEMS_METRIC not in line
    assert "ReadTimeoutError" in line["exception"]


def test_metric_without_log(items: World) -> None:
    (line,) = run(items, level="ERROR")
    assert line[PROBLEMS_METRIC] == 0
    assert "items" not in line


def test_unreadable_item(items: World) -> None:
    """It keeps none of the others from being audited."""
    items.client.update_item(
        TableName=items.table_name,
        Key={"pk": {"S": "item#2"}},
        UpdateExpression="REMOVE created_at",
    )
    line = run(items)[-1]
    assert line["problems"] == ["Record item#2: attribute created_at is missing."]
    assert (line["items"], line[PROBLEMS_METRIC]) == (2, 1)


def test_lost_item(items: World) -> None:
    items.lose("item#2")
    line = run(items)[-1]
    assert line["problems"] == ["Item 2: it is in the catalogue, and has no record."]
    assert (line["items"], line["outcome"], line[PROBLEMS_METRIC]) == (2, "drift", 1)
