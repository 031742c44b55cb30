"""The simulation's model answers as MiniStack and DynamoDB Local do, call by call."""

import itertools
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from local.dynamodb_local import DynamoDBLocal
from local.ministack import MiniStack
from simulation.dynamodb import DynamoDB
from simulation.world import World
from tests.integration.known_differences import DIFFERENCES
from tests.integration.random_calls import KEYS, MAPS, Call, calls
from tests.integration.random_sales import STEPS, StoreMethods
from tests.integration.side_by_side import (
    DYNAMODB_LOCAL,
    MINISTACK,
    MODEL,
    TABLE,
    Difference,
    SideBySide,
)
from tests.support import ROOT, Client
from ticketing.moves import MOVES
from ticketing.store.table import Store

type Engines = Callable[..., SideBySide]

THOROUGH = settings.get_current_profile_name() == "thorough"
SLOT_IS_ADDED: list[Call] = [
    ("put_item", {"TableName": TABLE, "Item": {"pk": {"S": KEYS[0]}, "slots": MAPS[1]}}),
    (
        "update_item",
        {
            "TableName": TABLE,
            "Key": {"pk": {"S": KEYS[0]}},
            "UpdateExpression": "SET slots.#e = if_not_exists(slots.#e, :a) + :b REMOVE slots.s1",
            "ExpressionAttributeNames": {"#e": "s3"},
            "ExpressionAttributeValues": {":a": {"N": "0"}, ":b": {"N": "2"}},
        },
    ),
]
PUBLIC_METHODS = {name for name in vars(Store) if not name.startswith("_")}
_tables = itertools.count(1)


@pytest.fixture(scope="module")
def new(dynamodb_local: DynamoDBLocal, ministack: MiniStack) -> Engines:
    """Return a function that makes a table on each engine. `model`: a client in its place."""
    clients = {
        name: boto3.client("dynamodb", endpoint_url=engine.endpoint)
        for name, engine in ((MINISTACK, ministack), (DYNAMODB_LOCAL, dynamodb_local))
    }

    def make(model: Any = None) -> SideBySide:
        model = model or DynamoDB(World(seed=1)).client()
        name = f"equal-{os.getpid()}-{next(_tables)}"
        return SideBySide({MODEL: model, **clients}, name, DIFFERENCES)

    return make


@settings(max_examples=300 if THOROUGH else 80)
@example(SLOT_IS_ADDED)
@given(st.lists(calls(), min_size=1, max_size=8))
def test_calls(new: Engines, sequence: list[Call]) -> None:
    """Items, errors, reasons with their items, consumed units, and the table after each call."""
    with new() as engines:
        for method, request in sequence:
            engines.call(method, request)


def test_store_methods(new: Engines) -> None:
    """The same of all calls of the store, in any order, with states that may be old."""
    outcomes = Counter[str]()

    def machine() -> StoreMethods:
        return StoreMethods(new(), outcomes)

    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]  # "a class or a function", says its docstring
        settings=settings(
            max_examples=150 if THOROUGH else 18,
            stateful_step_count=len(STEPS) + 1,
            phases=[Phase.generate],  # the step that failed says enough, without a shorter example
        ),
    )
    called = {what.partition(":")[0] for what in outcomes}
    assert called >= {move.name for move in MOVES}
    assert called >= PUBLIC_METHODS - {"move"}
    for what in ("buy", "hold", "confirm", "refund", "reclaim", "resize"):
        assert outcomes[f"{what}: done"], outcomes


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda each: each.text)
def test_known_difference(new: Engines, difference: Difference) -> None:
    """It is still there. One that a new version has mended goes from the list."""
    with new() as engines:
        for method, request in difference.example:
            engines.call(method, request)
        assert difference in engines.explained


def test_decisions_list_differences() -> None:
    text = " ".join((ROOT / "docs/decisions.md").read_text("utf-8").split())
    for difference in DIFFERENCES:
        assert f"{difference.engine} {difference.text}" in text


def loses_write(_real: Any, **request: Any) -> Any:
    return {"ConsumedCapacity": {"CapacityUnits": 1.0}}


def counts_more(real: Any, **request: Any) -> Any:
    return {**real(**request), "ConsumedCapacity": {"CapacityUnits": 3.0}}


def accepts_all(real: Any, **request: Any) -> Any:
    for action in request["TransactItems"]:
        for content in action.values():
            content.pop("ConditionExpression", None)
            content.pop("ExpressionAttributeValues", None)
    return real(**request)


def changes_reasons(change: Callable[[list[Any]], list[Any]]) -> Callable[..., Any]:
    def mistake(real: Any, **request: Any) -> Any:
        try:
            return real(**request)
        except ClientError as error:
            response: Any = error.response
            response["CancellationReasons"] = change(response["CancellationReasons"])
            raise

    return mistake


def without_items(reasons: list[Any]) -> list[Any]:
    return [{"Code": reason["Code"]} for reason in reasons]


def check(key: str, value: str) -> dict[str, Any]:
    content = {
        "TableName": TABLE,
        "Key": {"pk": {"S": key}},
        "ConditionExpression": "stock = :value",
        "ExpressionAttributeValues": {":value": {"N": value}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    return {"ConditionCheck": content}


@pytest.mark.parametrize(
    ("method", "mistake"),
    [
        ("put_item", loses_write),
        ("put_item", counts_more),
        ("transact_write_items", accepts_all),
        ("transact_write_items", changes_reasons(lambda reasons: reasons[::-1])),
        ("transact_write_items", changes_reasons(without_items)),
    ],
)
def test_mistakes_are_caught(new: Engines, method: str, mistake: Any) -> None:
    """Of the model: in answers, reasons, their items, units, and the table."""
    calls: list[Call] = [
        ("put_item", {"TableName": TABLE, "Item": {"pk": {"S": "a"}, "stock": {"N": "1"}}}),
        ("transact_write_items", {"TransactItems": [check("a", "2"), check("a2", "2")]}),
    ]

    def make_calls(engines: SideBySide) -> None:
        for name, request in calls:
            engines.call(name, request)

    broken = Client(DynamoDB(World(seed=1)).client())
    broken.replace(method, mistake)
    with new(broken) as engines, pytest.raises(AssertionError):
        make_calls(engines)
