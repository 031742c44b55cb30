"""The meaning of responses, retries with the same key, and the signature of admin calls."""

import asyncio
import json
import random
from collections.abc import Iterator

import httpx
import pytest

from organiser.client import Target
from proof.admin import Admin, NotUsable, signer
from proof.client import Buyers, PlannedRequest
from proof.figures import figures_of, peak_in_flight, percentile
from proof.history import Attempt, Kind, Lookup, PurchaseRequest
from proof.responses import attempt_of, attempt_without_answer
from tests.proof import reference_service as services

RECEIPT = {
    "purchase_id": "p",
    "item_id": 1,
    "quantity": 1,
    "status": "confirmed",
    "buyer_id": None,
    "purchased_at": "2026-01-15T12:30:27Z",
    "generation": 1,
}


def answer(status: int, body: object = None, **headers: str) -> Attempt:
    """Return the attempt with this HTTP response."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return attempt_of(httpx.Response(status, content=content, headers=headers), 1.0, 2.0)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (201, RECEIPT, Kind.BOUGHT),
        (201, RECEIPT | {"a_field_of_tomorrow": 1}, Kind.BOUGHT),
        (409, {"code": "sold_out"}, Kind.SOLD_OUT),
        (409, {"code": "not_enough_left", "left": 2}, Kind.NOT_ENOUGH_LEFT),
        (422, {"code": "idempotency_key_reused"}, Kind.KEY_REUSED),
        (429, {"message": "Too Many Requests"}, Kind.BUSY),
        (503, {"code": "busy"}, Kind.BUSY),
        (503, {"code": "busy", "reason": "contention"}, Kind.BUSY),
        (503, {"code": "busy", "reason": "in_doubt"}, Kind.UNKNOWN),
        (503, b"<html>", Kind.BUSY),
        (500, {"code": "internal_error"}, Kind.UNKNOWN),
        (502, {"message": "Internal server error"}, Kind.UNKNOWN),
        (504, b"", Kind.UNKNOWN),
        (200, RECEIPT, Kind.UNEXPECTED),
        (201, b"", Kind.UNEXPECTED),
        (201, b"\xff\xfe", Kind.UNEXPECTED),
        (201, b'{"purchase_id": "\xff"}', Kind.UNEXPECTED),
        (201, b"[" * 100_000, Kind.UNEXPECTED),
        (409, b"[" * 100_000, Kind.UNEXPECTED),
        (201, [], Kind.UNEXPECTED),
        (201, RECEIPT | {"quantity": "1"}, Kind.UNEXPECTED),
        (201, {"purchase_id": "p"}, Kind.UNEXPECTED),
        (204, b"", Kind.UNEXPECTED),
        (302, b"", Kind.UNEXPECTED),
        (400, {"code": "invalid_request"}, Kind.UNEXPECTED),
        (403, {"message": "Forbidden"}, Kind.UNEXPECTED),
        (409, {"code": "no such code"}, Kind.UNEXPECTED),
        (409, {"code": 7}, Kind.UNEXPECTED),
        (409, [], Kind.UNEXPECTED),
        (422, {"code": "sold_out"}, Kind.UNEXPECTED),
    ],
)
def test_meaning_of_response(status: int, body: object, kind: Kind) -> None:
    attempt = answer(status, body)
    assert attempt.kind is kind
    assert attempt.status == status
    assert (attempt.receipt is not None) == (kind is Kind.BOUGHT)


def test_replay_header() -> None:
    assert answer(200, RECEIPT, **{"Idempotent-Replayed": "true"}).kind is Kind.REPLAYED
    assert answer(201, RECEIPT, **{"Idempotent-Replayed": "true"}).kind is Kind.UNEXPECTED


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectError("refused"), Kind.BUSY),
        (httpx.ConnectTimeout("slow"), Kind.BUSY),
        (httpx.ReadTimeout("slow"), Kind.UNKNOWN),
        (httpx.WriteError("broken"), Kind.UNKNOWN),
        (httpx.RemoteProtocolError("gone"), Kind.UNKNOWN),
    ],
)
def test_no_response(error: httpx.TransportError, kind: Kind) -> None:
    """A request that was sent may have bought."""
    assert attempt_without_answer(error, 1.0, 2.0).kind is kind


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3.0), ("0", 0.0), ("soon", None), ("", None), ("-1", None)]
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert answer(503, {"code": "busy"}, **{"Retry-After": value}).retry_after_seconds == seconds


@pytest.fixture
def server() -> Iterator[services.Server]:
    """A correct service."""
    with services.Server(services.Service()) as server:
        yield server


def test_buyer_retries_with_same_key() -> None:
    with services.Server(services.Crowded()) as server:

        async def buy() -> list[PurchaseRequest]:
            async with Buyers(Target(server.url), 16, random.Random(1), process_id=7) as buyers:
                planned = [PlannedRequest(f"key-{number:020}", 1, 1, "ann") for number in range(30)]
                return await asyncio.gather(*(buyers.buy(each) for each in planned))

        requests = asyncio.run(buy())
    assert len(server.service.records) == 30
    assert {request.last.kind for request in requests} <= {Kind.BOUGHT, Kind.REPLAYED}
    figures = figures_of(requests)
    assert figures.busy_answers > 0
    assert figures.unknown_outcomes > 0
    assert figures.replays > 0
    assert 1 < figures.peak_in_flight <= 16
    assert figures.processes == 1


def test_lookup(server: services.Server) -> None:
    server.service.buy("p", 1, 1, "ann")

    async def look_up() -> list[Lookup]:
        async with Buyers(Target(server.url), 2, random.Random(1)) as buyers:
            return [await buyers.look_up("p"), await buyers.look_up("q")]

    found, missing = asyncio.run(look_up())
    assert found.receipt is not None
    assert found.receipt.buyer_id == "ann"
    assert (missing.status, missing.receipt) == (404, None)


def test_admin(server: services.Server) -> None:
    target = Target(server.url)
    with Admin(target, signer(target, None, None), 1, random.Random(1)) as admin:
        before = admin.inventory_at_start()
        assert before is not None
        reset = admin.reset(7)
        assert (reset.generation, reset.capacity) == (before.generation + 1, 7)
        assert reset.started_at < reset.ended_at
        assert admin.inventory().inventory.current_stock == 7
        assert admin.audit().agrees


def test_admin_without_routes() -> None:
    with services.Server(services.WithoutAdmin()) as server:
        target = Target(server.url)
        with Admin(target, signer(target, None, None), 1, random.Random(1)) as admin:
            with pytest.raises(NotUsable) as refused:
                admin.reset(7)
            assert "403" in refused.value.what
            assert "AllowReset" in refused.value.remedy


def test_unknown_profile() -> None:
    with pytest.raises(NotUsable, match="nowhere"):
        signer(Target("https://abc.execute-api.eu-west-1.amazonaws.com/live"), None, "nowhere")


def test_percentiles() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (
        50.0,
        99.0,
        100.0,
    )
    assert percentile([3.0], 99) == 3.0


def test_peak_in_flight() -> None:
    spans = [(0, 1), (1, 2), (1.5, 3), (1.7, 1.8)]
    assert peak_in_flight([Attempt(start, end, Kind.BUSY) for start, end in spans]) == 3
    assert peak_in_flight([Attempt(0, 1, Kind.BUSY), Attempt(1, 2, Kind.BUSY)]) == 1
