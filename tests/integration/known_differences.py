"""Where MiniStack and DynamoDB Local are not as AWS documents DynamoDB, each with an example.

The simulation's model follows the documentation. docs/decisions.md has the list.
"""

import re
from collections.abc import Mapping
from typing import Any

from tests.integration.side_by_side import (
    DYNAMODB_LOCAL,
    MINISTACK,
    TABLE,
    Answer,
    Difference,
)

KEY = {"pk": {"S": "a"}}
ONE = {":one": {"N": "1"}}
_INVALID = "ValidationException"
_CONDITIONS = ("ConditionExpression", "FilterExpression")


def _update(expression: str, key: str = "a", **more: Any) -> dict[str, Any]:
    return {"TableName": TABLE, "Key": {"pk": {"S": key}}, "UpdateExpression": expression, **more}


def _conditions(request: Any) -> list[str]:
    """Return all conditions and filters of a request."""
    match request:
        case dict():
            own = [request[name] for name in _CONDITIONS if name in request]
            return own + [each for part in request.values() for each in _conditions(part)]
        case list():
            return [each for part in request for each in _conditions(part)]
        case _:
            return []


def _updates(request: Mapping[str, Any]) -> list[str]:
    """Return all updates of a request."""
    actions = [
        action["Update"] for action in request.get("TransactItems", []) if "Update" in action
    ]
    return [each["UpdateExpression"] for each in [*actions, request] if "UpdateExpression" in each]


def _codes(answer: Answer) -> set[str]:
    """Return the code of an error, and those of its reasons."""
    return {answer.error[0], *(code for code, _ in answer.error[1])} if answer.error else set()


def _other_transaction_units(model: Answer, other: Answer) -> bool:
    return model.method == "transact_write_items" and model.differs_in_units_only(other)


def _missing_are_free(model: Answer, other: Answer) -> bool:
    if model.method != "batch_get_item" or not model.differs_in_units_only(other):
        return False
    ((wanted),) = model.request["RequestItems"].values()
    found = [item for items in model.content["Responses"].values() for item in items]
    missing = len(wanted["Keys"]) - len(found)
    return (model.units or 0) - (other.units or 0) == missing > 0


def _empty_scan_is_free(model: Answer, other: Answer) -> bool:
    is_empty = model.method == "scan" and model.content["ScannedCount"] == 0
    return is_empty and model.differs_in_units_only(other) and other.units == 0


def _batch_is_free(model: Answer, other: Answer) -> bool:
    is_free = model.method == "batch_get_item" and other.units is None
    return is_free and model.differs_in_units_only(other)


def _whole_call_is_refused(model: Answer, other: Answer) -> bool:
    return "ValidationError" in _codes(model) and _codes(other) == {_INVALID}


def _found_false(model: Answer, text: str) -> bool:
    """Return whether the model found a condition with this text false, or filtered by it."""
    is_false = any(code.startswith("ConditionalCheckFailed") for code in _codes(model))
    is_filter = model.method == "scan"
    return (is_false or is_filter) and any(text in each for each in _conditions(model.request))


def _billed_as_small(model: Answer, other: Answer) -> bool:
    items = len(model.request.get("TransactItems", []))
    least = {"get_item": 1.0, "scan": 1.0, "transact_get_items": 2.0 * items}
    return model.differs_in_units_only(other) and other.units == least.get(model.method)


def _missing_are_equal(model: Answer, other: Answer) -> bool:
    return _found_false(model, "stock = held")


def _makes_maps(model: Answer, other: Answer) -> bool:
    nested = any(re.search(r"(ADD|REMOVE) slots\.", each) for each in _updates(model.request))
    return nested and not _codes(model).isdisjoint({_INVALID, "ValidationError"})


def _adds_to_any_type(model: Answer, other: Answer) -> bool:
    adds = any(re.search(r" [+-] |ADD", each) for each in _updates(model.request))
    return adds and "ValidationError" in _codes(model)


def _finds_mistakes_late(model: Answer, other: Answer) -> bool:
    return _codes(model) == {_INVALID} and bool(_updates(model.request))


DIFFERENCES = (
    Difference(
        DYNAMODB_LOCAL,
        "bills only some items of a writing transaction, AWS all of them",
        _other_transaction_units,
        [
            (
                "transact_write_items",
                {
                    "TransactItems": [
                        {"Put": {"TableName": TABLE, "Item": {"pk": {"S": key}}}} for key in "ab"
                    ]
                },
            )
        ],
    ),
    Difference(
        DYNAMODB_LOCAL,
        "bills no missing item of a batch read, AWS one unit for each",
        _missing_are_free,
        [
            (
                "batch_get_item",
                {"RequestItems": {TABLE: {"Keys": [KEY], "ConsistentRead": True}}},
            )
        ],
    ),
    Difference(
        DYNAMODB_LOCAL,
        "bills no scan of an empty table",
        _empty_scan_is_free,
        [("scan", {"TableName": TABLE, "ConsistentRead": True})],
    ),
    Difference(
        DYNAMODB_LOCAL,
        "refuses a transaction with an update that does not fit its item; AWS cancels it, and "
        "names the action",
        _whole_call_is_refused,
        [
            (
                "transact_write_items",
                {"TransactItems": [{"Update": _update("SET stock = sold, sold = stock")}]},
            )
        ],
    ),
    Difference(
        MINISTACK,
        "bills no batch read",
        _batch_is_free,
        [
            (
                "batch_get_item",
                {"RequestItems": {TABLE: {"Keys": [KEY], "ConsistentRead": True}}},
            )
        ],
    ),
    Difference(
        MINISTACK,
        "bills any other read as one of 4 KB",
        _billed_as_small,
        [
            ("put_item", {"TableName": TABLE, "Item": KEY | {"padding": {"S": "x" * 5000}}}),
            ("get_item", {"TableName": TABLE, "Key": KEY, "ConsistentRead": True}),
        ],
    ),
    Difference(
        MINISTACK,
        "finds two attributes equal that are both missing",
        _missing_are_equal,
        [
            (
                "put_item",
                {"TableName": TABLE, "Item": KEY, "ConditionExpression": "stock = held"},
            )
        ],
    ),
    Difference(
        MINISTACK,
        "gives numbers, and others without a size, the size 0; AWS finds the condition false",
        lambda model, other: _found_false(model, "size("),
        [
            ("put_item", {"TableName": TABLE, "Item": KEY | {"slots": {"N": "5"}}}),
            (
                "put_item",
                {
                    "TableName": TABLE,
                    "Item": KEY,
                    "ConditionExpression": "size(slots) < :one",
                    "ExpressionAttributeValues": ONE,
                },
            ),
        ],
    ),
    Difference(
        MINISTACK,
        "refuses `begins_with` of an attribute that is no text; AWS finds the condition false",
        lambda model, other: _found_false(model, "begins_with(") and _INVALID in _codes(other),
        [
            ("put_item", {"TableName": TABLE, "Item": KEY | {"updated_at": {"N": "5"}}}),
            (
                "put_item",
                {
                    "TableName": TABLE,
                    "Item": KEY,
                    "ConditionExpression": "begins_with(updated_at, :text)",
                    "ExpressionAttributeValues": {":text": {"S": "5"}},
                },
            ),
        ],
    ),
    Difference(
        MINISTACK,
        "adds to a map that is missing, or removes from it; AWS refuses the update",
        _makes_maps,
        [("update_item", _update("ADD slots.s1 :one", ExpressionAttributeValues=ONE))],
    ),
    Difference(
        MINISTACK,
        "adds to an attribute that is no number, in a transaction; AWS cancels it",
        _adds_to_any_type,
        [
            ("put_item", {"TableName": TABLE, "Item": KEY | {"stock": {"S": "many"}}}),
            (
                "transact_write_items",
                {
                    "TransactItems": [
                        {
                            "Update": _update("SET stock = stock + :one")
                            | {"ExpressionAttributeValues": ONE}
                        }
                    ]
                },
            ),
        ],
    ),
    Difference(
        MINISTACK,
        "checks an update only where its condition holds, and removes an attribute twice; AWS "
        "refuses such a call first",
        _finds_mistakes_late,
        [
            (
                "update_item",
                _update("SET stock = :one, stock = :one", ExpressionAttributeValues=ONE)
                | {"ConditionExpression": "attribute_exists(pk)"},
            )
        ],
    ),
)
