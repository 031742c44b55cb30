"""Calls of DynamoDB, drawn at random: all that the model knows, valid and not."""

from typing import Any

from hypothesis import strategies as st

from simulation.dynamodb import READ_UNIT_BYTES, WRITE_UNIT_BYTES, item_bytes
from tests.integration.side_by_side import TABLE

type Call = tuple[str, dict[str, Any]]  # method of the client, and its request

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
def items(draw: st.DrawFn, key: str) -> dict[str, Any]:
    """Return an item, perhaps of the size of a unit, or of one byte more or less."""
    item = place_of(key) | draw(any_items | items_with_map)
    unit = draw(st.sampled_from([None, None, WRITE_UNIT_BYTES, READ_UNIT_BYTES]))
    if unit:
        length = unit + draw(st.integers(-1, 1)) - item_bytes(item | {"padding": {"S": ""}})
        item["padding"] = {"S": "x" * length}
    return item


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
    key = key or draw(st.sampled_from(KEYS))
    condition = kind == "ConditionCheck" or draw(st.booleans())
    request = draw(expressions(update=kind == "Update", condition=condition))
    request["TableName"] = TABLE
    if kind == "Put":
        request["Item"] = draw(items(key))
    else:
        request["Key"] = place_of(key)
    return kind, request


METHODS = {"Put": "put_item", "Update": "update_item", "Delete": "delete_item"}
some_keys = st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True)


def calls() -> st.SearchStrategy[Call]:
    """Return one call, mostly one that writes."""
    plain = writes().filter(lambda write: write[0] in METHODS)
    plain = plain.map(lambda write: (METHODS[write[0]], write[1]))
    return st.one_of(plain, plain, transactions(), transactions(), reads(), batches())


@st.composite
def transactions(draw: st.DrawFn) -> Call:
    """Return a writing transaction."""
    actions = [
        {kind: request} for key in draw(some_keys) for kind, request in [draw(writes(key=key))]
    ]
    return "transact_write_items", {"TransactItems": actions}


@st.composite
def batches(draw: st.DrawFn) -> Call:
    """Return a batch of writes."""
    entries = [
        {"PutRequest": {"Item": draw(items(key))}}
        if draw(st.booleans())
        else {"DeleteRequest": {"Key": place_of(key)}}
        for key in draw(some_keys)
    ]
    return "batch_write_item", {"RequestItems": {TABLE: entries}}


@st.composite
def reads(draw: st.DrawFn) -> Call:
    """Return a consistent read."""
    places = [place_of(key) for key in draw(some_keys)]
    condition = draw(expressions(update=False, condition=True))
    condition.pop("ReturnValuesOnConditionCheckFailure", None)
    condition["FilterExpression"] = condition.pop("ConditionExpression")
    gets = [{"Get": {"TableName": TABLE, "Key": place}} for place in places]
    one = {"TableName": TABLE, "Key": places[0], "ConsistentRead": True}
    batch = {"RequestItems": {TABLE: {"Keys": places, "ConsistentRead": True}}}
    requests: list[Call] = [
        ("get_item", one),
        ("batch_get_item", batch),
        ("transact_get_items", {"TransactItems": gets}),
        ("scan", {"TableName": TABLE, "ConsistentRead": True, **condition}),
    ]
    return draw(st.sampled_from(requests))


def place_of(key: str) -> dict[str, Any]:
    """Return a key as the requests have it."""
    return {"pk": {"S": key}}
