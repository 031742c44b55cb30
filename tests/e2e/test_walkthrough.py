"""A buyer's and an organiser's way through the API: against E2E_URL, or a local stack of its own.

E2E_URL=https://… with AWS credentials in the environment runs it against a deployment with
AllowReset=true. It resets the sale of item 987654321, and no other.
"""

import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from local.stack import Stack
from organiser.client import SigV4
from organiser.signing import signer_for
from tests.support import eventually

ITEM = 987654321


@dataclass
class Api:
    """The sale's API."""

    url: str
    client: httpx.Client

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.client.request(method, self.url + path, **more)

    def signed(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Make one call as an organiser, signed with the environment's credentials."""
        auth = SigV4(signer_for(self.url))
        return self.call(method, path, json=body, headers=headers, auth=auth)

    def reset(self, stock: int, **more: Any) -> dict[str, Any]:
        answer = self.signed("POST", "/reset", {"item_id": ITEM, "stock": stock} | more)
        assert answer.status_code == 200, answer.text
        sale: dict[str, Any] = answer.json()
        return sale

    def hold(self, key: str) -> httpx.Response:
        """Hold one ticket."""
        body = {"item_id": ITEM, "buyer_id": "ann"}
        return self.call("POST", "/holds", json=body, headers={"Idempotency-Key": key})

    def buy(self, body: dict[str, Any] | None = None, key: str | None = None) -> httpx.Response:
        """Buy; after "busy", from the gateway or the service, try again with the same key."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        for _ in range(20):
            answer = self.call(
                "POST", "/buy_ticket", json={"item_id": ITEM} | (body or {}), headers=headers
            )
            if answer.status_code not in {429, 502, 503, 504}:
                break
        return answer


@pytest.fixture(scope="module")
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    url = os.environ.get("E2E_URL")
    if url is None:
        stack: Stack = request.getfixturevalue("stack")
        url = stack.url
    with httpx.Client(timeout=30) as client:
        yield Api(url.rstrip("/"), client)


def test_service(api: Api) -> None:
    service = api.call("GET", "/").json()
    assert service["service"] == "High-Concurrency Inventory System"
    assert service["endpoints"]["POST /buy_ticket"] == "Purchase a ticket"


@pytest.mark.G3
def test_buy_replay_look_up(api: Api) -> None:
    api.reset(3)
    key = str(uuid.uuid4())
    first, second = api.buy(key=key), api.buy(key=key)
    assert (first.status_code, second.status_code) == (201, 200), second.text
    assert first.json() == second.json()
    assert second.headers["Idempotent-Replayed"] == "true"
    assert api.call("GET", f"/purchases/{first.json()['purchase_id']}").json() == first.json()
    assert api.buy({"quantity": 2}, key=key).json()["code"] == "idempotency_key_reused"
    # It may be a second old.
    inventory = eventually(
        lambda: api.call("GET", f"/inventory?item_id={ITEM}").json(),
        lambda seen: seen["total_purchases"] == 1,
    )
    assert (inventory["current_stock"], inventory["initial_stock"]) == (2, 3)


@pytest.mark.G1
@pytest.mark.G2
def test_end_of_sale(api: Api) -> None:
    api.reset(5, shards=3)
    assert api.buy({"quantity": 4}).status_code == 201
    few = api.buy({"quantity": 2})
    assert (few.status_code, few.json()["code"], few.json()["left"]) == (409, "not_enough_left", 1)
    assert api.buy().status_code == 201
    none = api.buy()
    assert (none.status_code, none.json()["code"]) == (409, "sold_out")
    audit = api.signed("GET", f"/audit/{ITEM}").json()
    assert audit["agrees"], audit
    assert (audit["stock"], audit["sold"], audit["purchase_records"]) == (0, 5, 2)


@pytest.mark.G3
def test_hold_confirm_release(api: Api) -> None:
    api.reset(2, hold_seconds=30)
    held = [api.hold(key=str(uuid.uuid4())) for _ in range(2)]
    assert [answer.status_code for answer in held] == [201, 201], held[0].text
    first, second = [f"/holds/{answer.json()['hold_id']}" for answer in held]
    assert api.call("GET", first).json() == held[0].json()
    # "Sold out" of the generation before may be a second old.
    none = eventually(api.buy, lambda answer: answer.json()["code"] != "sold_out")
    assert (none.status_code, none.json()["code"]) == (409, "all_held")
    assert none.json()["next_release_at"] > held[0].json()["held_at"]
    paid, again = [
        api.call("POST", f"{first}/confirm", json={"payment_reference": f"{first}/pay"})
        for _ in range(2)
    ]
    assert (paid.status_code, again.status_code) == (201, 200), paid.text
    assert paid.json() == again.json()
    assert api.call("GET", f"/purchases/{paid.json()['purchase_id']}").json() == paid.json()
    other = api.call("POST", f"{first}/confirm", json={"payment_reference": f"{first}/other"})
    assert (other.status_code, other.json()["code"]) == (409, "already_paid")
    assert other.json()["payment_reference"] == f"{first}/other"
    reused = api.call("POST", f"{second}/confirm", json={"payment_reference": f"{first}/pay"})
    assert (reused.status_code, reused.json()["code"]) == (409, "payment_reused")
    assert api.call("POST", f"{second}/extend").status_code == 200
    released = api.call("DELETE", second)
    assert (released.status_code, released.json()["status"]) == (200, "released")
    gone = api.call("POST", f"{second}/confirm")
    assert (gone.status_code, gone.json()["code"]) == (410, "hold_released")
    assert eventually(api.buy, lambda answer: answer.status_code == 201)
    audit = api.signed("GET", f"/audit/{ITEM}").json()
    assert audit["agrees"], audit
    assert (audit["stock"], audit["held"], audit["sold"]) == (0, 0, 2)


def test_unsigned_calls(api: Api) -> None:
    assert api.call("POST", "/reset").status_code == 403
    assert api.call("GET", f"/audit/{ITEM}").status_code == 403


@pytest.mark.G5
@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("GET", "/nowhere", None),
        ("PUT", "/buy_ticket", b"{}"),
        ("DELETE", "/inventory", None),
        ("GET", "/purchases/1", None),
        ("GET", "/purchases/00000000-0000-4000-8000-000000000000", None),
        ("GET", "/inventory?item_id=x", None),
        ("GET", "/inventory?item_id=1&item_id=2", None),
        ("POST", "/buy_ticket", b"{"),
        ("POST", "/buy_ticket", b"\xff\xfe"),
        ("POST", "/buy_ticket", b"[" * 100_000),
        ("POST", "/buy_ticket", b" " * 1_000_000),
        ("POST", "/buy_ticket", b'{"quantity": NaN}'),
        ("POST", "/buy_ticket", b'{"quantity": 1e99}'),
        ("POST", "/buy_ticket", b'{"buyer_id": "\\ud800"}'),
        ("POST", "/buy_ticket", '{"buyer_id": "é"}'.encode()),
        ("POST", "/buy_ticket", b'{"quantity": 1, "quantity": 1}'),
        ("POST", "/buy_ticket?quantity=1", b"{}"),
        ("GET", "/purchases/%221%22", None),
        ("GET", "/purchases/a%20b", None),
    ],
    ids=str,
)
def test_bad_requests(api: Api, method: str, path: str, content: bytes | None) -> None:
    api.reset(1)
    answer = api.call(method, path, content=content)
    assert 400 <= answer.status_code < 500, answer.text
    assert api.signed("GET", f"/audit/{ITEM}").json()["stock"] == 1


@pytest.mark.G3
def test_reset_sent_twice(api: Api) -> None:
    """Reset to 3, buy 3, the same reset again: there are three seats, and they are sold."""
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    item = ITEM + 1  # an item that no process has cached
    body = {"item_id": item, "stock": 3}
    first = api.signed("POST", "/reset", body, headers)
    assert api.buy({"item_id": item, "quantity": 3}).status_code == 201
    again = api.signed("POST", "/reset", body, headers)
    assert (first.status_code, again.status_code) == (200, 200), again.text
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["generation"] == first.json()["generation"]
    assert again.json()["current_stock"] == 0
    assert api.buy({"item_id": item}).json()["code"] == "sold_out"
    other = api.signed(
        "POST", "/reset", body | {"expected_generation": first.json()["generation"] + 7}
    )
    assert (other.status_code, other.json()["code"]) == (409, "generation_changed")


def test_inventory_caching(api: Api) -> None:
    api.reset(3)
    answer = api.call("GET", f"/inventory?item_id={ITEM}")
    assert answer.headers["Cache-Control"] == "public, max-age=1"
    again = api.call(
        "GET", f"/inventory?item_id={ITEM}", headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert again.status_code in {200, 304}, "another process may have read it at another moment"


def test_two_keys(api: Api) -> None:
    keys = [("Idempotency-Key", str(uuid.uuid4())), ("Idempotency-Key", str(uuid.uuid4()))]
    answer = api.client.post(f"{api.url}/buy_ticket", json={"item_id": ITEM}, headers=keys)
    assert (answer.status_code, answer.json()["field"]) == (400, "Idempotency-Key")


def test_docs_behind_stage_path(api: Api) -> None:
    page = api.call("GET", "/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "SwaggerUIBundle" in page.text
    document = api.call("GET", "/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert "/buy_ticket" in document["paths"]


@pytest.mark.G1
def test_opens_pauses_closes(api: Api) -> None:
    """As an organiser runs a sale: it opens by itself, is paused, goes on, and is closed."""
    api.reset(1000)
    path, name = f"/items/{ITEM}", "<b>Gala</b> \u202eelaS\u202c \N{ADMISSION TICKETS}"
    opens_at = datetime.now(UTC) + timedelta(seconds=3)
    settings = {"item_name": name, "opens_at": opens_at.isoformat(), "closes_at": None}
    changed = api.signed("PUT", path, settings)
    assert changed.status_code == 200, changed.text
    assert (changed.json()["state"], changed.json()["item_name"]) == ("scheduled", name)
    # Processes may sell with settings that are a second old.
    early = eventually(api.buy, lambda answer: answer.status_code == 409)
    assert (early.json()["code"], early.json()["reason"]) == ("sale_not_open", "scheduled")
    assert datetime.fromisoformat(early.json()["opens_at"]) == opens_at
    assert 1 <= int(early.headers["Retry-After"]) <= 3
    key = str(uuid.uuid4())
    bought = eventually(lambda: api.buy(key=key), lambda answer: answer.status_code != 409)
    assert bought.status_code == 201
    assert datetime.fromisoformat(bought.json()["purchased_at"]) >= opens_at
    assert api.signed("POST", f"{path}/pause").json()["state"] == "paused"
    eventually(api.buy, lambda answer: answer.json().get("reason") == "paused")
    assert api.buy(key=key).json() == bought.json(), "no receipt in the pause"
    assert api.signed("POST", f"{path}/resume").json()["state"] == "open"
    closed = api.signed("PUT", path, {"opens_at": None, "closes_at": "2026-01-01T00:00:00+01:00"})
    assert (closed.json()["state"], closed.json()["closes_at"]) == (
        "closed",
        "2025-12-31T23:00:00.000000Z",
    )
    late = eventually(api.buy, lambda answer: answer.json().get("reason") == "closed")
    assert "Retry-After" not in late.headers
    items = api.call("GET", f"/items?after={ITEM - 1}").json()["items"]
    assert [(each["item_name"], each["state"]) for each in items[:1]] == [(name, "closed")]
    opened = api.signed("PUT", path, {"closes_at": None, "item_name": "Item"})
    assert opened.json()["closes_at"] is None
    assert api.signed("GET", f"/audit/{ITEM}").json()["agrees"]


@pytest.mark.G1
@pytest.mark.G2
def test_hall_gets_bigger(api: Api) -> None:
    """100 tickets in 4 shards, 90 sold and 5 held: how far the capacity goes down, and up again."""
    api.reset(100, shards=4, per_buyer_limit=0)
    time.sleep(1)  # until then a process may know the sale that was reset
    path = f"/items/{ITEM}"
    for _ in range(9):
        assert api.buy({"item_id": ITEM, "quantity": 10, "buyer_id": "ann"}).status_code == 201
    held = [api.hold(str(uuid.uuid4())) for _ in range(5)]
    assert {answer.status_code for answer in held} == {201}

    def audited() -> tuple[int, int]:
        audit = api.signed("GET", f"/audit/{ITEM}").json()
        assert audit["agrees"], audit["problems"]
        return audit["capacity"], audit["stock"]

    for capacity in (60, 94):
        for _ in range(2):
            refused = api.signed("PUT", path, {"capacity": capacity})
            assert refused.status_code == 409, refused.text
            assert refused.json()["code"] == "capacity_too_low"
            assert refused.json()["lowest_capacity"] == 95
            assert audited() == (100, 5)
    for _ in range(2):
        lowest = api.signed("PUT", path, {"capacity": 95})
        assert (lowest.status_code, lowest.json()["current_stock"]) == (200, 0)
        assert audited() == (95, 0)
    assert api.buy().json()["code"] == "all_held"
    with ThreadPoolExecutor(8) as pool:
        buying = [pool.submit(api.buy) for _ in range(40)]
        change = {"capacity": 200, "shards": 8}
        for _ in range(2):
            # All functions may be at work on purchases, then the gateway answers 429.
            raised = eventually(
                lambda: api.signed("PUT", path, change),
                lambda answer: answer.status_code not in {429, 503},
            )
            assert raised.status_code == 200, raised.text
            assert (raised.json()["initial_stock"], raised.json()["shard_count"]) == (200, 8)
        time.sleep(1)  # from then on every process knows of it
        bought = [future.result() for future in buying]
        sold = sum(answer.status_code == 201 for answer in bought)
        late = list(pool.map(lambda _: api.buy(), range(8)))
    assert {answer.status_code for answer in late} == {201}, "refused a second after the change"
    assert audited() == (200, 200 - 95 - sold - 8)
    assert api.signed("DELETE", path).json()["code"] == "item_in_use"
