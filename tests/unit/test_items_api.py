"""The routes of items over HTTP: fields, refusals, names and pages."""

import json
from typing import Any

import pytest

from tests.functions import Functions, buying, header, load
from ticketing.limits import CACHE_SECONDS, PAGE_ITEMS_MAX

# Letter for letter, everywhere: markup, marks that turn the direction of writing, emoji of several
# characters, combining marks, and one spelling of a letter that has two.
NAMES = [
    '<script>alert(1)</script> & "Gala"',
    "\u202eelaS\u202c \u05e9\u05dc\u05d5\u05dd",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 Family",
    "Zoe\u0308 \u00eb",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "=cmd()|'/C calc'!A0",
    "\U0001f39f" * 100,
]
INVISIBLE = [
    "\u200b",
    " \u2060\u00ad ",
    "\u3164",
    "\u2800",
    "\u202e\u202c",
    "\ufe0f",
    "\U000e0041\U000e007f",
    "\u115f\u1160",
]
NOT_ONE_LINE = ["a\nb", "a\u2028b", "a\u2029b", "a\x7fb", "a\x00", "a\n"]


def putting(item_id: str = "1", **body: Any) -> dict[str, Any]:
    event = load("admin/put_item.json")
    return event | {
        "body": json.dumps(body),
        "pathParameters": {"item_id": item_id},
        "headers": {},
        "multiValueHeaders": {},
    }


def put(functions: Functions, item_id: str = "1", **body: Any) -> tuple[int, dict[str, Any]]:
    result = functions.call("admin", putting(item_id, **body))
    return result["statusCode"], json.loads(result["body"])


def listed(functions: Functions, **query: str) -> dict[str, Any]:
    event = load("inventory/list_items.json") | {"queryStringParameters": query}
    result = functions.call("inventory", event | {"multiValueQueryStringParameters": None})
    assert result["statusCode"] == 200
    content: dict[str, Any] = json.loads(result["body"])
    return content


def inventory(functions: Functions) -> dict[str, Any]:
    functions.world.clock.now += CACHE_SECONDS
    result = functions.call("inventory", load("inventory/inventory.json"))
    content: dict[str, Any] = json.loads(result["body"])
    return content


def test_created_then_changed(functions: Functions) -> None:
    status, created = put(functions, item_name="Open Air", capacity=10, shards=2)
    assert status == 201
    assert created == {
        "item_id": 1,
        "item_name": "Open Air",
        "current_stock": 10,
        "initial_stock": 10,
        "total_purchases": 0,
        "last_updated": "2027-01-15T08:00:00.000000Z",
        "held": 0,
        "generation": 1,
        "shard_count": 2,
        "hold_seconds": 600,
        "per_buyer_limit": None,
        "state": "open",
        "opens_at": None,
        "closes_at": None,
        "next_release_at": None,
    }
    assert put(functions) == (200, created)
    status, changed = put(functions, item_name="Gala")
    assert (status, changed) == (200, created | {"item_name": "Gala"})


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ("2030-06-01T10:00:00Z", "2030-06-01T10:00:00.000000Z"),
        ("2030-06-01T10:00:00+05:30", "2030-06-01T04:30:00.000000Z"),
        ("2030-06-01T00:00:00.000001-10:00", "2030-06-01T10:00:00.000001Z"),
        ("2099-12-31T23:59:59Z", "2099-12-31T23:59:59.000000Z"),
        (None, None),
    ],
)
def test_instants(sent: str | None, answered: str | None, functions: Functions) -> None:
    """Answered in UTC, to the microsecond."""
    put(functions, item_name="A", capacity=1, opens_at="2031-01-01T00:00:00Z")
    _, changed = put(functions, opens_at=sent)
    assert changed["opens_at"] == answered
    assert inventory(functions)["opens_at"] == answered
    assert listed(functions)["items"][0]["opens_at"] == answered


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        ("2030-06-01T10:00:00", "An instant needs a zone: end it with Z, or with an offset"),
        ("2030-06-01", "Invalid RFC3339 encoded datetime"),
        ("tomorrow", "Invalid RFC3339 encoded datetime"),
        (1_900_000_000, "Expected"),
        ("1999-12-31T23:59:59Z", "between 2000-01-01T00:00:00.000000Z and 2099-12-31"),
        ("2100-01-01T00:00:00Z", "between 2000-01-01"),
        ("0001-01-01T00:00:00+14:00", "between 2000-01-01"),
    ],
)
@pytest.mark.parametrize("field", ["opens_at", "closes_at"])
def test_bad_instant(field: str, sent: Any, detail: str, functions: Functions) -> None:
    put(functions, item_name="A", capacity=1)
    status, problem = put(functions, **{field: sent})
    assert (status, problem["field"]) == (422, field)
    assert detail in problem["detail"]
    assert inventory(functions)[field] is None


@pytest.mark.parametrize("name", NAMES)
def test_names_letter_for_letter(name: str, functions: Functions) -> None:
    status, created = put(functions, item_name=name, capacity=1)
    assert (status, created["item_name"]) == (201, name)
    assert inventory(functions)["item_name"] == name
    assert listed(functions)["items"][0]["item_name"] == name
    audit = functions.call("admin", load("admin/audit.json"))
    assert json.loads(audit["body"])["item_name"] == name


@pytest.mark.parametrize("name", [*INVISIBLE, *NOT_ONE_LINE])
def test_names_refused(name: str, functions: Functions) -> None:
    for status, problem in (
        put(functions, item_name=name, capacity=1),
        put(functions, "2", item_name=name, capacity=1),
    ):
        assert (status, problem["field"]) == (422, "item_name")
    assert listed(functions)["items"] == []


@pytest.mark.parametrize("item_id", ["0", "-1", "1.5", "1e3", "\u0661", "1000000000"])
def test_bad_item_id(item_id: str, functions: Functions) -> None:
    status, problem = put(functions, item_id, item_name="A", capacity=1)
    assert (status, problem["field"]) == (422, "item_id")


def test_not_open(functions: Functions) -> None:
    """Each state has its reason, its instants, and when to come back."""
    put(functions, item_name="A", capacity=2, opens_at="2027-01-15T08:01:30.500000Z")
    scheduled = functions.buy()
    assert (scheduled["statusCode"], header(scheduled, "Retry-After")) == (409, "91")
    problem = json.loads(scheduled["body"])
    assert problem.pop("request_id")
    assert problem == {
        "title": "Conflict",
        "status": 409,
        "code": "sale_not_open",
        "detail": "The sale opens at 2027-01-15T08:01:30.500000Z. Come back then.",
        "reason": "scheduled",
        "opens_at": "2027-01-15T08:01:30.500000Z",
    }
    functions.lines()
    assert inventory(functions)["state"] == "scheduled"
    put(functions, opens_at=None, closes_at="2027-01-15T08:00:01Z")
    functions.world.clock.now += CACHE_SECONDS
    closed = functions.buy()
    assert header(closed, "Retry-After") is None
    problem = json.loads(closed["body"])
    assert (problem["reason"], problem["closes_at"]) == ("closed", "2027-01-15T08:00:01.000000Z")
    assert "opens_at" not in problem
    assert inventory(functions)["state"] == "closed"


def test_paused(functions: Functions) -> None:
    put(functions, item_name="A", capacity=2)
    paused = functions.call("admin", load("admin/pause.json"))
    assert json.loads(paused["body"])["state"] == "paused"
    refused = functions.buy()
    assert json.loads(refused["body"])["reason"] == "paused"
    assert 1 <= int(header(refused, "Retry-After") or 0) <= 10
    hold = functions.call("hold_ticket", load("hold_ticket/hold.json"))
    assert json.loads(hold["body"])["code"] == "sale_not_open"
    assert inventory(functions)["state"] == "paused"
    (line,) = [each for each in functions.lines() if each["route"] == "POST /buy_ticket"]
    assert (line["outcome"], line["level"], line["NotOpen"]) == ("sale_not_open", "INFO", 1)


def test_states_of_stock(functions: Functions) -> None:
    """Sold out only where no ticket is free or can come back by itself."""
    put(functions, item_name="A", capacity=1, hold_seconds=30)
    functions.call("hold_ticket", load("hold_ticket/hold_empty_body.json"))
    held = inventory(functions)
    assert (held["state"], held["held"], held["current_stock"]) == ("open", 1, 0)
    assert held["next_release_at"] == "2027-01-15T08:00:31.000000Z"
    functions.world.clock.now += 40
    free = inventory(functions)
    assert (free["state"], free["current_stock"], free["next_release_at"]) == ("open", 1, None)
    assert functions.buy()["statusCode"] == 201
    assert inventory(functions)["state"] == "sold_out"
    put(functions, closes_at="2027-01-15T08:00:00Z")
    assert inventory(functions)["state"] == "closed"


def test_pages(functions: Functions) -> None:
    for item_id in (5, 2, 9):
        put(functions, str(item_id), item_name=f"Item {item_id}", capacity=item_id)
    first = listed(functions, limit="2")
    assert [item["item_id"] for item in first["items"]] == [2, 5]
    assert first["items"][0] == {
        "item_id": 2,
        "item_name": "Item 2",
        "state": "open",
        "opens_at": None,
        "closes_at": None,
        "initial_stock": 2,
        "generation": 1,
        "hold_seconds": 600,
        "per_buyer_limit": None,
    }
    assert first["next_after"] == 5
    second = listed(functions, limit="2", after="5")
    assert ([item["item_id"] for item in second["items"]], second["next_after"]) == ([9], None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", str(PAGE_ITEMS_MAX + 1)),
        ("limit", "\u0661"),
        ("after", "-1"),
        ("after", "x"),
        ("after", "9" * 30),
    ],
)
def test_bad_page(name: str, value: str, functions: Functions) -> None:
    event = load("inventory/list_items.json") | {"queryStringParameters": {name: value}}
    result = functions.call("inventory", event | {"multiValueQueryStringParameters": None})
    assert (result["statusCode"], json.loads(result["body"])["field"]) == (422, name)


def test_list_may_be_cached(functions: Functions) -> None:
    put(functions, item_name="A", capacity=1)
    event = load("inventory/list_items.json")
    first = functions.call("inventory", event)
    assert header(first, "Cache-Control") == "public, max-age=1"
    event["headers"]["If-None-Match"] = header(first, "ETag")
    event["multiValueHeaders"]["If-None-Match"] = [header(first, "ETag")]
    assert functions.call("inventory", event)["statusCode"] == 304


@pytest.mark.G3
def test_replays(functions: Functions) -> None:
    """A change that is sent again says that it was made before."""
    event = load("admin/put_item.json")
    assert functions.call("admin", event)["statusCode"] == 201
    again = functions.call("admin", event)
    assert (again["statusCode"], header(again, "Idempotent-Replayed")) == (200, "true")
    other = event | {"body": '{"item_name": "Another"}'}
    assert json.loads(functions.call("admin", other)["body"])["code"] == "idempotency_key_reused"


def test_capacity(functions: Functions) -> None:
    """Sold and held are the lowest possible capacity, and nothing else is changed then."""
    put(functions, item_name="A", capacity=8)
    functions.buy({"quantity": 5})
    status, problem = put(functions, item_name="B", capacity=4)
    assert (status, problem["code"], problem["lowest_capacity"]) == (409, "capacity_too_low", 5)
    assert "Nothing was changed" in problem["detail"]
    for capacity, state in ((5, "sold_out"), (12, "open")):
        status, body = put(functions, capacity=capacity)
        assert (status, body["initial_stock"], body["state"]) == (200, capacity, state)
        assert (body["current_stock"], body["item_name"]) == (capacity - 5, "A")
    functions.world.clock.now += CACHE_SECONDS
    assert inventory(functions)["current_stock"] == 7


def test_more_shards(functions: Functions) -> None:
    put(functions, item_name="A", capacity=8, shards=2)
    status, problem = put(functions, shards=1)
    assert (status, problem["field"]) == (422, "shards")
    status, body = put(functions, shards=4)
    assert (status, body["shard_count"], body["current_stock"]) == (200, 4, 8)


def test_delete(functions: Functions) -> None:
    put(functions, item_name="A", capacity=1)
    bought = functions.buy()
    event = load("admin/delete_item.json")
    refused = functions.call("admin", event)
    assert refused["statusCode"] == 409
    assert json.loads(refused["body"])["code"] == "item_in_use"
    receipt = json.loads(bought["body"])
    refund = load("admin/refund.json")
    refund["pathParameters"] = {"purchase_id": receipt["purchase_id"]}
    assert functions.call("admin", refund)["statusCode"] == 200
    for _ in range(2):
        done = functions.call("admin", event)
        assert (done["statusCode"], json.loads(done["body"])["state"]) == (200, "deleted")
    functions.world.clock.now += CACHE_SECONDS
    assert functions.call("inventory", load("inventory/inventory.json"))["statusCode"] == 404
    assert listed(functions)["items"] == []


def test_limit_needs_generation(functions: Functions) -> None:
    put(functions, item_name="A", capacity=5)
    status, problem = put(functions, per_buyer_limit=2)
    assert (status, problem["field"]) == (422, "per_buyer_limit")
    assert "POST /reset" in problem["detail"]


@pytest.mark.G1
def test_limit_changes_in_mid_sale(functions: Functions) -> None:
    """Raised, lowered and lifted; a lowered one takes nothing away."""
    put(functions, item_name="A", capacity=9, per_buyer_limit=2)

    def bought(limit: int) -> list[int]:
        put(functions, per_buyer_limit=limit)
        functions.world.clock.now += CACHE_SECONDS
        body = buying({"buyer_id": "anna"})
        return [functions.call("buy_ticket", body)["statusCode"] for _ in range(3)]

    assert bought(2) == [201, 201, 409]
    assert bought(1) == [409, 409, 409]
    assert bought(3) == [201, 409, 409]
    assert bought(0) == [201, 201, 201]
    functions.world.assert_exact(sold=6)
