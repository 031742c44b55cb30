"""The store's requests, and the settings of its client."""

from typing import Any

import pytest

from tests.support import ITEM, World, cancelled, raises
from ticketing.store.client import connect


@pytest.mark.G6
def test_client_timeouts() -> None:
    config: Any = connect().meta.config
    assert config.retries["mode"] == "standard"
    assert config.retries["total_max_attempts"] == 1
    assert (config.connect_timeout, config.read_timeout) == (1, 2)


@pytest.mark.G5
def test_sdk_never_retries() -> None:
    """With a real client, so that botocore's own retries would show."""
    sent = []

    def lose(request: Any, **_: Any) -> None:
        sent.append(request)
        raise ConnectionError

    client = connect()
    client.meta.events.register_first("before-send.dynamodb.*", lose)
    with pytest.raises(Exception):  # noqa: B017, PT011 -- whatever botocore turns it into
        client.get_item(TableName="tickets", Key={"pk": {"S": "x"}})
    assert len(sent) == 1


def test_consistent_reads_and_all_old(world: World) -> None:
    world.open_sale(stock=1, shards=1)
    world.client.requests.clear()
    service = world.purchase_service()
    for _ in range(2):
        service.buy(service.order(ITEM, 1, None, "0123456789abcdef"))
    world.client.before("transact_write_items", raises(cancelled("TransactionConflict", "None")))
    service.buy(service.order(ITEM, 1, None, None))
    world.catalogue.inventory(ITEM)
    for name, request in zip(world.client.calls, world.client.requests, strict=True):
        match name:
            case "get_item":
                assert request["ConsistentRead"]
            case "batch_get_item":
                assert request["RequestItems"][world.table_name]["ConsistentRead"]
            case "transact_write_items":
                for action in request["TransactItems"]:
                    (body,) = action.values()
                    assert body["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
                    assert body["ConditionExpression"]
    assert {"get_item", "batch_get_item", "transact_write_items"} <= set(world.client.calls)


@pytest.mark.G4
def test_consistent_scan(world: World) -> None:
    """An eventually consistent scan can miss a record, and report a correct table as wrong."""
    world.open_sale(stock=1)
    world.client.requests.clear()
    world.audit()
    scans = [request for request in world.client.requests if "FilterExpression" in request]
    assert [scan["ConsistentRead"] for scan in scans] == [True]
