"""What every request to the store says, and what the client behind it was told."""

from typing import Any

import pytest

from tests.support import ITEM, World, cancelled, raises
from ticketing.audit import audit
from ticketing.store import connect


def test_the_client_answers_or_gives_up_within_three_seconds() -> None:
    config: Any = connect().meta.config
    assert config.retries["mode"] == "standard"
    assert config.retries["total_max_attempts"] == 1
    assert (config.connect_timeout, config.read_timeout) == (1, 2)


def test_the_sdk_does_not_repeat_a_request() -> None:
    """With a real client, so that botocore's own retries would show."""
    sent = []

    def lose(request: Any, **_: Any) -> None:
        sent.append(request)
        raise ConnectionError

    client = connect()
    client.meta.events.register_first("before-send.dynamodb.*", lose)
    with pytest.raises(Exception):  # noqa: B017, PT011 -- whatever botocore makes of it
        client.get_item(TableName="tickets", Key={"pk": {"S": "x"}})
    assert len(sent) == 1


def test_every_read_is_consistent_and_every_refusal_shows_the_item(world: World) -> None:
    world.open_sale(stock=1, shards=1)
    world.client.requests.clear()
    office = world.box_office()
    for _ in range(2):
        office.buy(office.order(ITEM, 1, None, "0123456789abcdef"))
    world.client.before("transact_write_items", raises(cancelled("TransactionConflict", "None")))
    office.buy(office.order(ITEM, 1, None, None))
    for name, request in zip(world.client.calls, world.client.requests, strict=True):
        match name:
            case "get_item":
                assert request["ConsistentRead"]
            case "batch_get_item":
                assert request["RequestItems"][world.table]["ConsistentRead"]
            case "transact_write_items":
                for action in request["TransactItems"]:
                    (body,) = action.values()
                    assert body["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
                    assert body["ConditionExpression"]
    assert {"get_item", "batch_get_item", "transact_write_items"} <= set(world.client.calls)


def test_the_audit_reads_records_consistently(world: World) -> None:
    """A record that a plain scan does not show yet would be missing in a table that is right."""
    world.open_sale(stock=1)
    world.client.requests.clear()
    audit(world.store, ITEM)
    scans = [request for request in world.client.requests if "FilterExpression" in request]
    assert [scan["ConsistentRead"] for scan in scans] == [True]
