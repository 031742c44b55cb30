"""The simulation's model answers as DynamoDB Local does: the same calls, drawn at random."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from local.dynamodb_local import DynamoDBLocal
from simulation.dynamodb import DynamoDB
from simulation.world import World
from tests.support import create_table

TABLE = "model"
KEYS = ["item#1", "item#1#stock#00", "item#1#stock#01", "purchase#a"]
NUMBERS = ["0", "1", "2", "3", "-1", "10", "0.5", "1.50", "1e3", "12345678901234567890"]
VALUES: list[dict[str, Any]] = [
    *({"N": number} for number in NUMBERS),
    {"S": "held"},
    {"S": "he"},
    {"S": "é"},
    {"BOOL": True},
    {"NULL": True},
    {"M": {"s1": {"N": "1"}}},
    {"M": {"s1": {"N": "2"}, "s2": {"N": "3"}}},
    {"M": {}},
    {"L": [{"S": "a"}, {"N": "1"}]},
    {"NS": ["1", "2", "30"]},
]
ATTRIBUTES = ["stock", "held", "sold", "generation", "updated_at", "slots"]
MAPS = [value for value in VALUES if "M" in value]
SLOTS = ["s1", "s2"]
CONDITIONS = [
    "attribute_not_exists(pk)",
    "attribute_exists(stock) AND NOT attribute_exists(held)",
    "attribute_not_exists(pk) OR generation < :a",
    "generation = :a AND stock > :b",
    "generation = :a AND stock > :b AND stock >= :c",
    "stock <> :a OR (held <= :b AND sold < :c)",
    "#n BETWEEN :a AND :b",
    "#n IN (:a, :b, :c)",
    "stock = held",
    "stock < held",
    "begins_with(updated_at, :text)",
    "attribute_type(stock, :type) OR NOT attribute_type(#n, :type)",
    "slots.#e = :a AND slots.s1 < :b",
    "attribute_exists(slots.#e) OR NOT attribute_exists(#n.s1)",
    "size(slots) < :b OR size(slots) = :a",
]
UPDATES = [
    "SET stock = stock - :a, held = held + :a, updated_at = :text",
    "SET generation = :a, stock = :b, sold = if_not_exists(sold, :c) + if_not_exists(held, :b)",
    "SET #n = if_not_exists(#n, :a) + :b REMOVE held",
    "SET stock = sold, sold = stock",
    "SET stock = :a - :b",
    "ADD stock :a, #n :b",
    "REMOVE #n, stock",
    "SET stock = :any",
    "SET slots.#e = if_not_exists(slots.#e, :a) + :b, held = held + :b",
    "SET slots.#e = slots.s1 - :a REMOVE slots.s1",
    "SET slots = :map, stock = :a",
    "REMOVE slots.#e, slots.s1 SET held = :a",
    "SET slots.#e = :a, slots.s1 = slots.#e",
    "ADD slots.#e :a",
    "ADD #n :set",
    "DELETE #n :set",
    "SET slots = :map, slots.#e = :a",
]
numbers = st.sampled_from(NUMBERS).map(lambda number: {"N": number})
any_items = st.dictionaries(st.sampled_from(ATTRIBUTES), st.sampled_from(VALUES))
items_with_map = st.fixed_dictionaries({"slots": st.sampled_from(MAPS), "held": numbers})


@st.composite
def expressions(draw: st.DrawFn, *, update: bool, condition: bool) -> dict[str, Any]:
    """Return the arguments with the expressions, and the placeholders that they use."""
    request: dict[str, Any] = {}
    if condition:
        request["ConditionExpression"] = draw(st.sampled_from(CONDITIONS))
        if draw(st.booleans()):
            request["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    if update:
        request["UpdateExpression"] = draw(st.sampled_from(UPDATES))
    text = " ".join(request.values())
    low, high = sorted(draw(st.lists(numbers, min_size=2, max_size=2)), key=lambda n: float(n["N"]))
    possible = {
        ":any": draw(st.sampled_from(VALUES)),
        ":a": low,
        ":b": high,
        ":c": draw(numbers),
        ":map": draw(st.sampled_from(MAPS)),
        ":set": {"NS": draw(st.sampled_from([["1"], ["30", "2", "1"], ["4"]]))},
        ":text": {"S": "he"},
        ":type": draw(st.sampled_from([{"S": "N"}, {"S": "S"}])),
    }
    values = {
        name: value
        for name, value in possible.items()
        if f"{name} " in f"{text} ".replace(")", " ").replace(",", " ")
    }
    if values:
        request["ExpressionAttributeValues"] = values
    names = {"#n": draw(st.sampled_from(ATTRIBUTES)), "#e": draw(st.sampled_from(SLOTS))}
    if used := {name: value for name, value in names.items() if name in text}:
        request["ExpressionAttributeNames"] = used
    return request


@st.composite
def writes(draw: st.DrawFn, *, key: str | None = None) -> tuple[str, dict[str, Any]]:
    """Return one write as its kind and its arguments."""
    kind = draw(st.sampled_from(["Put", "Update", "Update", "Delete", "ConditionCheck"]))
    place = {"pk": {"S": key or draw(st.sampled_from(KEYS))}}
    condition = kind == "ConditionCheck" or draw(st.booleans())
    request = draw(expressions(update=kind == "Update", condition=condition))
    request["TableName"] = TABLE
    if kind == "Put":
        request["Item"] = place | draw(any_items | items_with_map)
    else:
        request["Key"] = place
    return kind, request


METHODS = {"Put": "put_item", "Update": "update_item", "Delete": "delete_item"}


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Return one call as the client's method and its arguments."""
    if draw(st.booleans()):
        kind, request = draw(writes().filter(lambda write: write[0] in METHODS))
        return METHODS[kind], request
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True))
    actions = [{kind: request} for key in keys for kind, request in [draw(writes(key=key))]]
    return "transact_write_items", {"TransactItems": actions}


def plain(value: Any) -> Any:
    """Return a part of an answer with its numbers as numbers. DynamoDB Local keeps some zeros."""
    match value:
        case {"N": str(number), **rest} if not rest:
            return Decimal(number)
        case dict():
            return {name: plain(part) for name, part in value.items()}
        case list() | tuple():
            return [plain(part) for part in value]
        case _:
            return value


def answer(client: Any, method: str, request: Mapping[str, Any]) -> Any:
    """Return what matters of an answer: its content, or its error."""
    return plain(answered(client, method, request))


def answered(client: Any, method: str, request: Mapping[str, Any]) -> Any:
    try:
        content = getattr(client, method)(**request)
    except ClientError as error:
        reasons = [
            (reason["Code"], reason.get("Item"))
            for reason in error.response.get("CancellationReasons", [])
        ]
        response: Any = error.response
        # AWS cancels the transaction and names the action (API reference, "Validation Error").
        # DynamoDB Local refuses the whole call.
        if "ValidationError" in [code for code, _ in reasons]:
            return "ClientError", "ValidationException", [], None
        return type(error).__name__, response["Error"]["Code"], reasons, response.get("Item")
    # DynamoDB Local also states the consumed capacity of some calls that did not ask for it.
    left_out = {"ResponseMetadata", "ConsumedCapacity"}
    return {name: value for name, value in content.items() if name not in left_out}


def contents(client: Any) -> Any:
    gets = [{"Get": {"TableName": TABLE, "Key": {"pk": {"S": key}}}} for key in KEYS]
    scan = {
        "TableName": TABLE,
        "ConsistentRead": True,
        "FilterExpression": "begins_with(pk, :item) AND NOT attribute_type(stock, :type)",
        "ExpressionAttributeValues": {":item": {"S": "item#"}, ":type": {"S": "N"}},
    }
    return (
        answer(client, "transact_get_items", {"TransactItems": gets}),
        sorted(answer(client, "scan", scan)["Items"], key=lambda item: str(item["pk"])),
        [answer(client, "get_item", get["Get"] | {"ConsistentRead": True}) for get in gets],
    )


@pytest.fixture(scope="module")
def engine(dynamodb_local: DynamoDBLocal) -> Iterator[Any]:
    client = boto3.client("dynamodb", endpoint_url=dynamodb_local.endpoint)
    create_table(client, TABLE)
    yield client
    client.delete_table(TableName=TABLE)


def clear(client: Any) -> None:
    for key in KEYS:
        client.delete_item(TableName=TABLE, Key={"pk": {"S": key}})


SLOT_IS_ADDED: list[tuple[str, dict[str, Any]]] = [
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


@settings(max_examples=150)
@example(SLOT_IS_ADDED)
@given(st.lists(calls(), min_size=1, max_size=6))
def test_same_answers(engine: Any, sequence: list[tuple[str, dict[str, Any]]]) -> None:
    """Items, errors, and reasons with their items, call by call, and the whole table at the end."""
    model: Any = DynamoDB(World(seed=1)).client()
    create_table(model, TABLE)
    clear(engine)
    for method, request in sequence:
        assert answer(model, method, request) == answer(engine, method, request), (method, request)
    assert contents(model) == contents(engine)
