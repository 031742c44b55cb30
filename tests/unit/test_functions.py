"""The functions as Lambda calls them: every file in events/, failures, and the log."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.functions import EVENTS, Functions, buying, header, load
from tests.support import (
    END_SECONDS_MAX,
    ITEM,
    ROOT,
    lost_reply,
    raises,
    service_error,
    template,
)
from ticketing.api.problems import Code
from ticketing.api.schemas import (
    AuditReport,
    Hold,
    Inventory,
    ItemList,
    Problem,
    Receipt,
    RepairReport,
    Service,
)
from ticketing.limits import ATTEMPTS_MAX, BODY_BYTES_MAX

GATEWAY_REQUEST_ID = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"  # in every event
KEY = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

# The answer to each event, with 100 tickets free, after the purchase of buy_ticket/with_key.json
# and the hold of hold_ticket/hold.json.
EXPECTED: dict[str, tuple[int, Any]] = {
    "buy_ticket/empty_body.json": (201, Receipt),
    "buy_ticket/with_key.json": (200, Receipt),
    "buy_ticket/key_reused.json": (422, "idempotency_key_reused"),
    "buy_ticket/base64_body.json": (201, Receipt),
    "buy_ticket/broken_base64.json": (400, "invalid_request"),
    "buy_ticket/more_than_left.json": (201, Receipt),
    "buy_ticket/unknown_item.json": (404, "not_found"),
    "buy_ticket/malformed_json.json": (400, "invalid_request"),
    "buy_ticket/not_an_object.json": (422, "invalid_request"),
    "buy_ticket/unknown_field.json": (422, "invalid_request"),
    "buy_ticket/quantity_zero.json": (422, "invalid_request"),
    "buy_ticket/quantity_negative.json": (422, "invalid_request"),
    "buy_ticket/quantity_huge.json": (422, "invalid_request"),
    "buy_ticket/quantity_fractional.json": (422, "invalid_request"),
    "buy_ticket/quantity_nan.json": (400, "invalid_request"),
    "buy_ticket/quantity_text.json": (422, "invalid_request"),
    "buy_ticket/buyer_unicode.json": (422, "invalid_request"),
    "buy_ticket/buyer_lone_surrogate.json": (400, "invalid_request"),
    "buy_ticket/key_short.json": (400, "invalid_request"),
    "buy_ticket/key_twice.json": (400, "invalid_request"),
    "buy_ticket/behind_a_base_path.json": (201, Receipt),
    "buy_ticket/get_purchase.json": (200, Receipt),
    "buy_ticket/get_purchase_unknown.json": (404, "not_found"),
    "buy_ticket/get_purchase_no_uuid.json": (422, "invalid_request"),
    "hold_ticket/hold.json": (200, Hold),
    "hold_ticket/hold_empty_body.json": (201, Hold),
    "hold_ticket/hold_key_reused.json": (422, "idempotency_key_reused"),
    "hold_ticket/hold_key_of_purchase.json": (422, "idempotency_key_reused"),
    "hold_ticket/hold_unknown_item.json": (404, "not_found"),
    "hold_ticket/hold_unknown_field.json": (422, "invalid_request"),
    "hold_ticket/get_hold.json": (200, Hold),
    "hold_ticket/get_hold_unknown.json": (404, "not_found"),
    "hold_ticket/get_hold_no_uuid.json": (422, "invalid_request"),
    "hold_ticket/confirm.json": (201, Receipt),
    "hold_ticket/confirm_paid.json": (201, Receipt),
    "hold_ticket/confirm_payment_empty.json": (422, "invalid_request"),
    "hold_ticket/confirm_unknown.json": (404, "not_found"),
    "hold_ticket/extend.json": (200, Hold),
    "hold_ticket/extend_unknown.json": (404, "not_found"),
    "hold_ticket/release.json": (200, Hold),
    "hold_ticket/release_unknown.json": (404, "not_found"),
    "inventory/service.json": (200, Service),
    "inventory/inventory.json": (200, Inventory),
    "inventory/inventory_of_item.json": (200, Inventory),
    "inventory/inventory_unknown_item.json": (404, "not_found"),
    "inventory/inventory_no_number.json": (422, "invalid_request"),
    "inventory/inventory_item_twice.json": (422, "invalid_request"),
    "inventory/list_items.json": (200, ItemList),
    "inventory/list_items_page.json": (200, ItemList),
    "inventory/list_items_no_number.json": (422, "invalid_request"),
    "inventory/docs.json": (200, str),
    "inventory/openapi.json": (200, dict),
    "inventory/unknown_route.json": (404, "not_found"),
    "storefront/shop.json": (200, str),
    "storefront/shop_item.json": (200, str),
    "storefront/shop_item_no_number.json": (422, "invalid_request"),
    "storefront/board.json": (200, str),
    "storefront/asset.json": (200, str),
    "storefront/asset_unknown.json": (404, "not_found"),
    "admin/reset.json": (200, Inventory),
    "admin/reset_with_all.json": (200, Inventory),
    "admin/reset_too_many_shards.json": (422, "invalid_request"),
    "admin/reset_control_character.json": (422, "invalid_request"),
    "admin/put_item.json": (201, Inventory),
    "admin/put_item_changed.json": (200, Inventory),
    "admin/put_item_no_name.json": (422, "invalid_request"),
    "admin/put_item_no_zone.json": (422, "invalid_request"),
    "admin/put_item_closes_first.json": (422, "invalid_request"),
    "admin/put_item_invisible_name.json": (422, "invalid_request"),
    "admin/put_item_no_number.json": (422, "invalid_request"),
    "admin/delete_item.json": (409, "item_in_use"),
    "admin/delete_item_unknown.json": (404, "not_found"),
    "admin/pause.json": (200, Inventory),
    "admin/pause_unknown.json": (404, "not_found"),
    "admin/resume.json": (200, Inventory),
    "admin/resume_unknown.json": (404, "not_found"),
    "admin/refund.json": (200, Receipt),
    "admin/refund_too_large.json": (409, "refund_too_large"),
    "admin/refund_no_key.json": (400, "invalid_request"),
    "admin/refund_unknown.json": (404, "not_found"),
    "admin/refund_quantity_zero.json": (422, "invalid_request"),
    "admin/refund_no_uuid.json": (422, "invalid_request"),
    "admin/audit.json": (200, AuditReport),
    "admin/audit_unknown_item.json": (404, "not_found"),
    "admin/audit_no_number.json": (422, "invalid_request"),
    "admin/repair.json": (200, RepairReport),
    "admin/repair_applied.json": (200, RepairReport),
    "admin/repair_unknown_item.json": (404, "not_found"),
    "admin/repair_no_cursor.json": (422, "invalid_request"),
    "admin/export.json": (200, str),
    "admin/export_csv.json": (200, str),
    "admin/export_unknown_item.json": (404, "not_found"),
    "admin/export_format_unknown.json": (422, "invalid_request"),
    "admin/export_generation_later.json": (422, "invalid_request"),
    "admin/export_no_cursor.json": (422, "invalid_request"),
    "admin/export_holds.json": (200, str),
    "admin/export_holds_unclear.json": (422, "invalid_request"),
}

# The handlers that template.yaml names.
HANDLERS = sorted(
    {
        resource["Properties"]["Handler"]
        for resource in template()["Resources"].values()
        if "Handler" in resource.get("Properties", {})
    }
)


def start(handler: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Import a handler as Lambda does, in a process of its own, and call it with nothing."""
    module, _, name = handler.rpartition(".")
    return subprocess.run(
        [sys.executable, "-c", f"import {module} as m; print(m.{name}({{}}, None)['statusCode'])"],
        cwd=ROOT / "functions",
        env=os.environ | {"POWERTOOLS_SERVICE_NAME": "test"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("handler", HANDLERS)
def test_entry_point(handler: str) -> None:
    """What template.yaml names can be imported, and answers; the audit by schedule fails."""
    finished = start(handler, TABLE_NAME="tickets")
    if "schedule" in handler:
        assert "has no attribute 'get_remaining_time_in_millis'" in finished.stderr
    else:
        assert finished.stdout.splitlines()[-1:] == ["500"], finished.stderr


def test_no_table_name() -> None:
    """A guessed name would sell from another table."""
    assert "KeyError: 'TABLE_NAME'" in start(HANDLERS[0]).stderr


def test_every_event_has_expectation() -> None:
    assert {str(path.relative_to(EVENTS)) for path in EVENTS.glob("*/*.json")} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_event(name: str, functions: Functions) -> None:
    functions.world.open_sale(stock=100, shards=2)
    functions.call("buy_ticket", load("buy_ticket/with_key.json"))
    functions.call("hold_ticket", load("hold_ticket/hold.json"))
    writes = len(
        [call for call in functions.world.client.calls if "write" in call or "put" in call]
    )
    functions.lines()
    status, body = EXPECTED[name]

    result = functions.call(name.partition("/")[0], load(name))

    assert result["statusCode"] == status
    if isinstance(body, str):
        assert header(result, "Content-Type") == "application/problem+json"
        problem = msgspec.json.decode(result["body"], type=Problem)
        assert (problem.code, problem.status, problem.request_id) == (
            body,
            status,
            GATEWAY_REQUEST_ID,
        )
        assert problem.detail.endswith(".")
        if body == "invalid_request":
            assert problem.field
            assert (
                len(
                    [
                        call
                        for call in functions.world.client.calls
                        if "write" in call or "put" in call
                    ]
                )
                == writes
            )
    elif body is not str:
        msgspec.json.decode(result["body"], type=body)
    (line,) = functions.lines()
    assert line["status"] == status
    assert line["route"] == f"{load(name)['httpMethod']} {load(name)['resource']}"
    assert (line["request_id"], line["lambda_request_id"]) == (GATEWAY_REQUEST_ID, "1-2-3")
    assert line["duration_ms"] > 0


def test_receipt(functions: Functions) -> None:
    functions.world.open_sale(stock=5)
    result = functions.buy({"quantity": 2, "buyer_id": "buyer-42"}, Idempotency_Key=KEY)
    receipt = json.loads(result["body"])
    assert receipt.pop("purchase_id")
    assert receipt == {
        "item_id": 1,
        "quantity": 2,
        "status": "confirmed",
        "buyer_id": "buyer-42",
        "purchased_at": "2027-01-15T08:00:00.000000Z",
        "generation": 1,
        "refunded_quantity": 0,
    }


@pytest.mark.G3
def test_replay(functions: Functions) -> None:
    functions.world.open_sale(stock=5)
    first, second = functions.buy(Idempotency_Key=KEY), functions.buy(Idempotency_Key=KEY)
    assert (first["statusCode"], second["statusCode"]) == (201, 200)
    assert first["body"] == second["body"]
    assert header(first, "Idempotent-Replayed") is None
    assert header(second, "Idempotent-Replayed") == "true"
    assert header(first, "Cache-Control") == "no-store"


@pytest.mark.parametrize("name", ["idempotency-key", "IDEMPOTENCY-KEY"])
def test_header_names_ignore_case(name: str, functions: Functions) -> None:
    functions.world.open_sale(stock=5)
    event = buying() | {"headers": {name: KEY}, "multiValueHeaders": None}
    assert functions.call("buy_ticket", event)["statusCode"] == 201
    event = buying() | {"headers": None, "multiValueHeaders": {name: [KEY]}}
    assert functions.call("buy_ticket", event)["statusCode"] == 200


@pytest.mark.G5
def test_refusals_tell_left(functions: Functions) -> None:
    functions.world.open_sale(stock=2)
    few = json.loads(functions.buy({"quantity": 3})["body"])
    assert (few["code"], few["left"], few["field"]) == ("not_enough_left", 2, "quantity")
    functions.buy({"quantity": 2})
    none = json.loads(functions.buy()["body"])
    assert (none["code"], none["left"]) == ("sold_out", 0)


def test_limit_per_buyer(functions: Functions) -> None:
    """It is set by a reset, shown by the inventory, and told in the refusals."""
    reset = load("admin/reset.json") | {"body": '{"stock": 9, "per_buyer_limit": 2}'}
    shown = json.loads(functions.call("admin", reset)["body"])
    assert shown["per_buyer_limit"] == 2
    buyer = {"buyer_id": "buyer-42"}
    functions.buy(buyer)
    few = json.loads(functions.buy(buyer | {"quantity": 2})["body"])
    assert (few["code"], few["left"], few["field"]) == ("buyer_limit_reached", 1, "quantity")
    holding = load("hold_ticket/hold_empty_body.json")
    functions.call("hold_ticket", holding | {"body": json.dumps(buyer)})
    functions.lines()
    none = functions.buy(buyer)
    problem = json.loads(none["body"])
    assert (none["statusCode"], problem["left"], problem["field"]) == (409, 0, "buyer_id")
    (line,) = functions.lines()
    assert (line["outcome"], line["LimitReached"]) == ("buyer_limit_reached", 1)
    for function, event in (("buy_ticket", buying()), ("hold_ticket", holding)):
        missing = functions.call(function, event)
        problem = json.loads(missing["body"])
        assert (missing["statusCode"], problem["field"]) == (422, "buyer_id")
        assert problem["detail"] == "This sale has a limit of 2 for each buyer. Send a buyer_id."


@pytest.mark.G3
@pytest.mark.parametrize("name", ["buy_ticket/with_key.json", "hold_ticket/hold.json"])
def test_buyer_has_signed_in(functions: Functions, name: str) -> None:
    """The token names the buyer. A key of another buyer is another key."""
    functions.world.open_sale(stock=9)
    event = load(name)

    def order(sub: str, **body: str) -> tuple[int, dict[str, Any]]:
        context = event["requestContext"] | {"authorizer": {"claims": {"sub": sub}}}
        signed_in = event | {"body": json.dumps(body), "requestContext": context}
        result = functions.call(name.partition("/")[0], signed_in)
        return result["statusCode"], json.loads(result["body"])

    status, first = order("ann")
    assert (status, first["buyer_id"]) == (201, "ann")
    assert order("ann", buyer_id="ann") == (200, first)
    status, other = order("bob")
    assert (status, other["buyer_id"]) == (201, "bob")
    status, problem = order("ann", buyer_id="bob")
    assert (status, problem["field"]) == (422, "buyer_id")
    assert "signed in" in problem["detail"]


@pytest.mark.parametrize("limit", [-1, 1001, "2", 1.5])
def test_bad_limit(limit: Any, functions: Functions) -> None:
    event = load("admin/reset.json") | {"body": json.dumps({"per_buyer_limit": limit})}
    result = functions.call("admin", event)
    assert (result["statusCode"], json.loads(result["body"])["field"]) == (422, "per_buyer_limit")
    assert functions.world.client.calls == []


@pytest.mark.G3
def test_refund(functions: Functions) -> None:
    """Once per key; its metric counts tickets."""
    functions.world.open_sale(stock=5)
    functions.buy({"quantity": 3, "buyer_id": "buyer-42"}, Idempotency_Key=KEY)
    receipt = json.loads(
        functions.buy({"quantity": 3, "buyer_id": "buyer-42"}, Idempotency_Key=KEY)["body"]
    )
    event = load("admin/refund.json") | {
        "pathParameters": {"purchase_id": receipt["purchase_id"].upper()}
    }
    functions.lines()
    first = functions.call("admin", event | {"body": '{"quantity": 2}'})
    (line,) = functions.lines()
    assert first["statusCode"] == 200
    assert json.loads(first["body"]) == receipt | {"refunded_quantity": 2}
    assert header(first, "Idempotent-Replayed") is None
    assert (line["outcome"], line["quantity"], line["Refunded"]) == ("refunded", 2, 2)
    second = functions.call("admin", event | {"body": '{"quantity": 2}'})
    assert header(second, "Idempotent-Replayed") == "true"
    assert second["body"] == first["body"]
    other = functions.call("admin", event | {"body": '{"quantity": 1}'})
    problem = json.loads(other["body"])
    assert (other["statusCode"], problem["code"]) == (422, "idempotency_key_reused")
    fresh = {"Idempotency-Key": KEY + "-2"}
    more = event | {"headers": fresh, "multiValueHeaders": None, "body": '{"quantity": 2}'}
    problem = json.loads(functions.call("admin", more)["body"])
    assert (problem["code"], problem["left"]) == ("refund_too_large", 1)
    rest = functions.call("admin", more | {"body": '{"quantity": 1}'})
    assert json.loads(rest["body"])["status"] == "refunded"
    functions.world.assert_exact(sold=0)
    everything = more | {"headers": {"Idempotency-Key": KEY + "-3"}, "body": None}
    problem = json.loads(functions.call("admin", everything)["body"])
    assert "refunded already" in problem["detail"]


@pytest.mark.G5
@pytest.mark.parametrize(("quantity", "code"), [(1, "sold_out"), (3, "not_enough_left")])
def test_refusal_on_record(functions: Functions, quantity: int, code: str) -> None:
    """An attempt was in doubt, so the refusal is final: the same answer with more tickets."""
    stock = quantity - 1
    functions.world.open_sale(stock=quantity, shards=1)
    service = functions.world.purchase_service()

    def sell_one_and_lose_it() -> None:
        service.buy(service.order(ITEM, 1, None, None))
        raise lost_reply()

    functions.world.client.before("transact_write_items", sell_one_and_lose_it)
    first = functions.buy({"quantity": quantity}, Idempotency_Key=KEY)
    functions.world.open_sale(stock=10)
    second = functions.buy({"quantity": quantity}, Idempotency_Key=KEY)
    for answer in (first, second):
        problem = json.loads(answer["body"])
        assert (answer["statusCode"], problem["code"], problem["left"]) == (409, code, stock)
        assert "needs a fresh Idempotency-Key" in problem["detail"]
    assert header(first, "Idempotent-Replayed") is None
    assert header(second, "Idempotent-Replayed") == "true"


@pytest.mark.G5
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"quantity": 11}, "quantity"),
        ({"quantity": True}, "quantity"),
        ({"quantity": None}, "quantity"),
        ('{"quantity": 1e400}', "quantity"),
        ('{"quantity": Infinity}', "body"),
        ({"item_id": 0}, "item_id"),
        ({"item_id": 10**9}, "item_id"),
        ({"item_id": "1"}, "item_id"),
        ({"buyer_id": ""}, "buyer_id"),
        ({"buyer_id": "b" * 129}, "buyer_id"),
        ({"buyer_id": "line feed\n"}, "buyer_id"),
        ({"buyer_id": "end\n"}, "buyer_id"),
        ({"buyer_id": 1}, "buyer_id"),
        ({"buyer_id": "\u0000"}, "buyer_id"),
        ({"x\ny": 1}, "x\ny"),
        ({"a - at `$.b": 1}, "a - at `$.b"),
        ("\x0b", "body"),
        ("null", "body"),
        ('"text"', "body"),
        ("[" * 4000, "body"),
        ('{"a":' * 800, "a"),
        ('{"quantity": 1, "quantity": 10}', "quantity"),
        ('{"quantity": 1, "quantit\\u0079": 1}', "quantity"),
        ('{"item_id": 1, "buyer_id": "a", "buyer_id": "a"}', "buyer_id"),
        ("\ufeff{}", "body"),
        ("{} {}", "body"),
        ("\ud800", "body"),
        ("x" * (BODY_BYTES_MAX + 1), "body"),
        (" " * 1_000_000, "body"),
        ('{"buyer_id": "' + "b" * 1_000_000 + '"}', "body"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_bad_body(body: Any, field: str, functions: Functions) -> None:
    """The problem names the field, and the store is not called."""
    functions.world.open_sale(stock=5)
    result = functions.buy(body)
    problem = json.loads(result["body"])
    assert result["statusCode"] in {400, 422}
    assert (problem["code"], problem["field"]) == ("invalid_request", field)
    assert functions.world.client.calls == []


@pytest.mark.G5
@pytest.mark.parametrize(
    "key", ["k" * 15, "k" * 256, "spaces are not seen", "k" * 16 + "\n", "ключ" * 5, ""]
)
def test_bad_key(key: str, functions: Functions) -> None:
    functions.world.open_sale(stock=5)
    result = functions.buy(Idempotency_Key=key)
    assert result["statusCode"] == 400
    assert json.loads(result["body"])["field"] == "Idempotency-Key"
    assert functions.world.client.calls == []


def test_key_sent_twice(functions: Functions) -> None:
    """Also where the header has two spellings."""
    functions.world.open_sale(stock=5)
    event = buying(Idempotency_Key=KEY)
    event["multiValueHeaders"]["idempotency-key"] = ["8" + KEY[1:]]
    assert functions.call("buy_ticket", event)["statusCode"] == 400


@pytest.mark.parametrize("name", [" ", "\u0085", "a\n", "", "x" * 101])
def test_unreadable_item_name(name: str, functions: Functions) -> None:
    event = load("admin/reset.json") | {"body": json.dumps({"item_name": name})}
    result = functions.call("admin", event)
    assert (result["statusCode"], json.loads(result["body"])["field"]) == (422, "item_name")
    assert functions.world.client.calls == []


@pytest.mark.G5
@pytest.mark.G6
def test_busy(functions: Functions) -> None:
    functions.world.open_sale(stock=5)
    functions.world.client.before(
        "transact_write_items", *[raises(service_error("ThrottlingException"))] * 200
    )
    result = functions.buy(Idempotency_Key=KEY)
    assert result["statusCode"] == 503
    assert json.loads(result["body"])["code"] == "busy"
    assert header(result, "Retry-After") in {"1", "2", "3"}
    (line,) = functions.lines()
    assert (line["outcome"], line["conflicts"] > 5) == ("busy", True)
    assert line["Busy"] == 1
    assert line["Conflicts"] == line["conflicts"]
    assert "may have been made" not in result["body"]


@pytest.mark.G5
def test_busy_in_doubt(functions: Functions) -> None:
    functions.world.open_sale(stock=5)
    functions.world.client.before("transact_write_items", *[raises(lost_reply())] * 200)
    result = functions.buy(Idempotency_Key=KEY)
    problem = json.loads(result["body"])
    assert "may have been made" in problem["detail"]
    assert problem["purchase_id"]
    assert problem["reason"] == "in_doubt"
    assert header(result, "Retry-After") == "10", (
        "when a late attempt has taken effect, or never does"
    )


@pytest.mark.G5
def test_bug_after_lost_reply(
    functions: Functions,
) -> None:
    """ "busy" for the buyer, an error in the log."""
    functions.world.open_sale(stock=5, shards=1)
    functions.world.client.after("transact_write_items", raises(lost_reply()))
    functions.world.client.before(
        "transact_write_items", lambda: None, raises(ZeroDivisionError("ours"))
    )
    assert functions.buy(Idempotency_Key=KEY)["statusCode"] == 503
    line = functions.lines()[0]
    assert (line["level"], "ZeroDivisionError" in line["exception"]) == ("ERROR", True)


@pytest.mark.G6
@pytest.mark.parametrize(
    ("function", "event", "call"),
    [
        ("inventory", "inventory/inventory.json", "get_item"),
        ("inventory", "inventory/inventory.json", "batch_get_item"),
        ("buy_ticket", "buy_ticket/get_purchase.json", "get_item"),
        ("admin", "admin/reset.json", "get_item"),
        ("admin", "admin/reset.json", "put_item"),
        ("admin", "admin/reset.json", "update_item"),
        ("admin", "admin/audit.json", "get_item"),
        ("admin", "admin/audit.json", "scan"),
    ],
)
def test_every_route_retries(function: str, event: str, call: str, functions: Functions) -> None:
    """The first call after a freeze meets a broken connection. Only a store that never responds
    means busy.
    """
    functions.world.open_sale(stock=5)
    functions.buy(Idempotency_Key=KEY)
    once = load(event)
    functions.world.client.before(call, raises(lost_reply()))
    assert functions.call(function, once)["statusCode"] in {200, 404}
    functions.world.clock.now += 1
    functions.world.client.before(call, *[raises(lost_reply())] * ATTEMPTS_MAX)
    result = functions.call(function, once)
    assert result["statusCode"] == 503
    assert json.loads(result["body"])["reason"] in {"store_unavailable", "in_doubt"}
    assert int(header(result, "Retry-After") or 0) >= 1
    line = [line for line in functions.lines() if "status" in line][-1]
    assert (line["level"], "ReadTimeoutError" in line["exception"]) == ("ERROR", True), (
        "why is for the operator to see"
    )


def test_bug(
    functions: Functions,
) -> None:
    """The problem has the request id; the log has one line with the traceback."""
    functions.world.open_sale(stock=5)
    functions.lines()
    functions.world.client.before("transact_write_items", raises(ZeroDivisionError("a secret")))
    result = functions.buy({"buyer_id": "ann"})
    assert result["statusCode"] == 500
    problem = json.loads(result["body"])
    assert (problem["code"], problem["request_id"]) == ("internal_error", GATEWAY_REQUEST_ID)
    assert "secret" not in result["body"]
    (line,) = functions.lines()
    assert line["level"] == "ERROR"
    assert "ZeroDivisionError: a secret" in line["exception"]
    assert functions.buy()["statusCode"] == 201
    assert "exception" not in functions.lines()[0]


@pytest.mark.parametrize("value", ['"1"', "a/b", "a b", "1/", "{item_id}", "<>", "ä", "..", "%2F"])
@pytest.mark.parametrize(
    ("function", "event", "field"),
    [
        ("admin", "admin/audit.json", "item_id"),
        ("buy_ticket", "buy_ticket/get_purchase.json", "purchase_id"),
    ],
)
def test_malformed_path_parameter(
    function: str, event: str, field: str, value: str, functions: Functions
) -> None:
    result = functions.call(
        function, load(event) | {"pathParameters": {field: value}, "path": f"/somewhere/{value}"}
    )
    assert (result["statusCode"], json.loads(result["body"])["field"]) == (422, field)
    assert functions.world.client.calls == []


@pytest.mark.parametrize(
    ("function", "event"),
    [
        ("buy_ticket", "buy_ticket/with_key.json"),
        ("buy_ticket", "buy_ticket/get_purchase.json"),
        ("inventory", "inventory/inventory.json"),
        ("inventory", "inventory/service.json"),
        ("admin", "admin/reset.json"),
    ],
)
def test_unknown_query_parameter(function: str, event: str, functions: Functions) -> None:
    """POST /buy_ticket?quantity=5 would otherwise buy one ticket."""
    query = {"quantity": "5"}
    more = {"queryStringParameters": query, "multiValueQueryStringParameters": {"quantity": ["5"]}}
    for event_with_query in (load(event) | more, load(event) | {"queryStringParameters": query}):
        result = functions.call(function, event_with_query)
        assert (result["statusCode"], json.loads(result["body"])["field"]) == (422, "quantity")
    assert functions.world.client.calls == []


def test_no_gateway_request_id(functions: Functions) -> None:
    """Then Lambda's own request id is used."""
    event = load("inventory/inventory_no_number.json") | {"requestContext": {}}
    assert json.loads(functions.call("inventory", event)["body"])["request_id"] == "1-2-3"


def test_receipt_status(functions: Functions) -> None:
    functions.world.open_sale(stock=5)
    purchase_id = json.loads(functions.buy(Idempotency_Key=KEY)["body"])["purchase_id"]
    functions.world.client.update_item(
        TableName=functions.world.table_name,
        Key={"pk": {"S": f"purchase#{purchase_id}"}},
        UpdateExpression="SET #status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": "refunded"}},
    )
    event = load("buy_ticket/get_purchase.json") | {"pathParameters": {"purchase_id": purchase_id}}
    assert json.loads(functions.call("buy_ticket", event)["body"])["status"] == "refunded"
    assert json.loads(functions.buy(Idempotency_Key=KEY)["body"])["status"] == "refunded"


def test_foreign_event(functions: Functions) -> None:
    assert functions.call("buy_ticket", {})["statusCode"] == 500


def test_log_line(functions: Functions) -> None:
    """One line, without anything about the buyer."""
    functions.world.open_sale(stock=5)
    functions.lines()
    result = functions.buy({"buyer_id": "jane@example.org"}, Idempotency_Key=KEY)
    (line,) = functions.lines()
    purchase_id = json.loads(result["body"])["purchase_id"]
    assert (
        line.items()
        >= {
            "outcome": "bought",
            "item_id": ITEM,
            "purchase_digest": hashlib.sha256(purchase_id.encode()).hexdigest()[:32],
            "generation": 1,
            "quantity": 1,
            "shards": [0],
            "attempts": 1,
            "conflicts": 0,
            "status": 201,
        }.items()
    )
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)
    for private in ("jane", KEY, purchase_id):
        assert private not in json.dumps(line)


def test_log_line_tells_answer(functions: Functions) -> None:
    """What the proof needs to judge a sale by its log."""
    reset = '{"stock": 4, "hold_seconds": 60, "per_buyer_limit": 3}'
    functions.call("admin", load("admin/reset.json") | {"body": reset})
    holding = load("hold_ticket/hold_empty_body.json")
    functions.call("hold_ticket", holding | {"body": '{"buyer_id": "ann", "quantity": 2}'})
    key = {"Idempotency_Key": KEY}
    bought = functions.buy({"buyer_id": "bob", "quantity": 2}, **key)
    refunding = load("admin/refund.json") | {
        "pathParameters": {"purchase_id": json.loads(bought["body"])["purchase_id"]},
        "body": '{"quantity": 1}',
    }
    functions.call("admin", refunding)
    functions.buy({"buyer_id": "bob", "quantity": 2}, **key)
    functions.buy({"buyer_id": "cem", "quantity": 2})
    put = {"pathParameters": {"item_id": "1"}, "body": '{"capacity": 1}'}
    functions.call("admin", load("admin/put_item.json") | put)
    opened, held, bought, refunded, again, refused, lower = functions.lines()
    assert (opened["capacity"], opened["hold_seconds"], opened["per_buyer_limit"]) == (4, 60, 3)
    assert (held["hold_status"], held["expires_at"][:10]) == ("held", "2027-01-15")
    assert (bought["purchase_digest"], refunded["refunded_quantity"]) == (
        refunded["purchase_digest"],
        1,
    )
    assert (again["replayed"], again["refunded_quantity"]) == (True, 1)
    assert (refused["left"], "replayed" in refused) == (1, False)
    assert (lower["capacity"], lower["lowest_capacity"]) == (1, 3)


def test_log_line_of_lookup(functions: Functions) -> None:
    functions.call("buy_ticket", load("buy_ticket/get_purchase_unknown.json"))
    (line,) = functions.lines()
    assert line["route"] == "GET /purchases/{purchase_id}"
    assert "00000000-0000-4000-8000-000000000000" not in json.dumps(line)


def test_metrics(functions: Functions) -> None:
    """In the request's line, in CloudWatch's embedded metric format (AWS documentation)."""
    functions.world.open_sale(stock=2)
    functions.buy({"quantity": 2}, Idempotency_Key=KEY)
    functions.buy({"quantity": 2}, Idempotency_Key=KEY)
    functions.buy()
    functions.call("inventory", load("inventory/inventory.json"))
    sold, replayed, sold_out, other = functions.lines()
    about = sold.pop("_aws")
    assert abs(about.pop("Timestamp") / 1000 - time.time()) < END_SECONDS_MAX
    metric = {"Name": "Sold", "Unit": "Count"}
    directive = {"Namespace": "TicketSale", "Dimensions": [["service"]], "Metrics": [metric]}
    assert about == {"CloudWatchMetrics": [directive]}
    assert (sold["Sold"], sold["service"]) == (2, functions.service)
    assert (replayed["Replays"], sold_out["SoldOut"]) == (1, 1)
    assert "_aws" not in other


def test_metrics_without_log(functions: Functions) -> None:
    """A level that hides the line hides no metric."""
    functions.world.open_sale(stock=2)
    functions.set_level("WARNING")
    functions.buy()
    functions.call("inventory", load("inventory/inventory.json"))
    (line,) = functions.lines()
    assert set(line) == {"_aws", "service", "Sold"}
    assert line["Sold"] == 1


def test_field_order(functions: Functions) -> None:
    functions.world.open_sale(stock=100)
    inventory = json.loads(functions.call("inventory", load("inventory/inventory.json"))["body"])
    original = {
        "item_id": 1,
        "item_name": "Item A - Concert Ticket",
        "current_stock": 100,
        "initial_stock": 100,
        "total_purchases": 0,
    }
    assert list(inventory)[:6] == [*original, "last_updated"]
    assert inventory.items() >= original.items()
    service = json.loads(functions.call("inventory", load("inventory/service.json"))["body"])
    assert list(service) == ["service", "version", "endpoints", "concurrency_model", "guarantees"]
    assert list(service["endpoints"])[:4] == [
        "POST /buy_ticket",
        "GET /inventory",
        "POST /reset",
        "GET /docs",
    ]
    assert service["guarantees"][0] == "Zero overselling (inventory never negative)"


def test_reset_keeps_omitted_values(functions: Functions) -> None:
    functions.call("admin", load("admin/reset_with_all.json"))
    functions.buy()
    again = json.loads(functions.call("admin", load("admin/reset.json"))["body"])
    assert (again["initial_stock"], again["current_stock"], again["total_purchases"]) == (50, 50, 0)
    assert again["item_name"] == "Item A – Concert Ticket"  # noqa: RUF001
    assert again["generation"] == 2


def resetting(body: Any, **headers: str) -> dict[str, Any]:
    """Return events/admin/reset.json with another body and more headers."""
    event = load("admin/reset.json")
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return event | {"body": json.dumps(body), "headers": names, "multiValueHeaders": None}


@pytest.mark.G3
def test_repeated_reset(functions: Functions) -> None:
    event = resetting({"stock": 3}, Idempotency_Key=KEY)
    first = functions.call("admin", event)
    assert header(first, "Idempotent-Replayed") is None
    for _ in range(3):
        assert functions.buy()["statusCode"] == 201
    again = functions.call("admin", event)
    assert (again["statusCode"], header(again, "Idempotent-Replayed")) == (200, "true")
    sale = json.loads(again["body"])
    assert (sale["generation"], sale["current_stock"], sale["total_purchases"]) == (1, 0, 3)
    assert functions.buy()["statusCode"] == 409


@pytest.mark.parametrize(
    ("event", "status", "code"),
    [
        (resetting({"stock": 4}, Idempotency_Key=KEY), 422, "idempotency_key_reused"),
        (resetting({"stock": 4, "expected_generation": 7}), 409, "generation_changed"),
        (resetting({"stock": 4, "expected_generation": -1}), 422, "invalid_request"),
        (resetting({"stock": 4}, Idempotency_Key="short"), 400, "invalid_request"),
    ],
)
def test_refused_reset(event: Any, status: int, code: str, functions: Functions) -> None:
    functions.call("admin", resetting({"stock": 3}, Idempotency_Key=KEY))
    result = functions.call("admin", event)
    assert (result["statusCode"], json.loads(result["body"])["code"]) == (status, code)
    assert functions.world.catalogue.inventory(ITEM).sale.generation == 1


def test_inventory_caching(functions: Functions) -> None:
    functions.world.open_sale(stock=5)
    event = load("inventory/inventory.json")
    first = functions.call("inventory", event)
    assert header(first, "Cache-Control") == "public, max-age=1"
    tag = header(first, "ETag")
    assert tag
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = functions.call(
            "inventory", event | {"headers": {"If-None-Match": known}, "multiValueHeaders": None}
        )
        assert (again["statusCode"], again["body"], header(again, "ETag")) == (304, "", tag)
    functions.buy()
    functions.world.clock.now += 1
    changed = functions.call(
        "inventory", event | {"headers": {"If-None-Match": tag}, "multiValueHeaders": None}
    )
    assert changed["statusCode"] == 200
    assert header(changed, "ETag") != tag


def test_docs(functions: Functions) -> None:
    page = functions.call("inventory", load("inventory/docs.json"))["body"]
    assert "SwaggerUIBundle({" in page
    assert 'new URL("openapi.json"' in page
    assert not re.search(r'(?:src|href)="?https?://', page.partition("<script>")[0]), (
        "no other host is asked"
    )


def test_every_code_has_status() -> None:
    source = "".join(path.read_text() for path in Path(ROOT / "functions").rglob("*.py"))
    used = {Code[name] for name in re.findall(r"\bCode\.([A-Z_]+)\b", source)}
    assert used | {Code.FORBIDDEN} == set(Code)
    gateway = json.dumps(template()["Resources"]["Api"]["Properties"]["GatewayResponses"])
    assert set(re.findall(r'"code\\\\*":\\\\*"(\w+)', gateway.replace("\\", ""))) <= set(Code)
