"""One buyer over HTTP: sends the same key again until there is a definite answer."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Self

import httpx
from msgspec import Struct

from organiser.client import Target, pause_seconds, retry_after_seconds
from proof.history import NOT_DEFINITE, Attempt, Lookup, PurchaseRequest, Receipt
from proof.responses import (
    STATUS_OK,
    NotAsPromised,
    attempt_of,
    attempt_without_answer,
    body_of,
)

ATTEMPTS_MAX = 200


class PlannedRequest(Struct, frozen=True):
    """A purchase or a hold that a buyer will ask for.

    copies: how many are sent in parallel. stage: the gate that it waits at. is_hold: it holds the
    tickets, and does not buy them.
    """

    key: str
    item_id: int
    quantity: int
    buyer_id: str
    copies: int = 1
    stage: int = 0
    is_hold: bool = False


class Buyers:
    """Many buyers in one process, with at most `in_flight` requests in flight at once.

    A buyer that waits for its next attempt frees its place. clock: one that all processes share; on
    Linux, macOS and Windows the monotonic clock is the machine's.
    """

    def __init__(
        self,
        target: Target,
        in_flight: int,
        draw: random.Random,
        process_id: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
        self._http = httpx.AsyncClient(limits=limits, **target.settings())
        self._target = target
        self._places = asyncio.Semaphore(in_flight)
        self._draw = draw
        self._process_id = process_id
        self._clock = clock

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()

    async def buy(self, planned: PlannedRequest, copy: int = 1) -> PurchaseRequest:
        """Send the request with the same key until a definite answer comes or the patience ends."""
        attempts: list[Attempt] = []
        while True:
            async with self._places:
                attempts.append(await self._attempt(planned))
            last = attempts[-1]
            if last.kind not in NOT_DEFINITE or len(attempts) == ATTEMPTS_MAX:
                break
            patience = attempts[0].started_at + self._target.patience_seconds - self._clock()
            if patience <= (last.retry_after_seconds or 0.0):
                break
            # Shortened, so that the last attempt is at the end of the patience and not long before.
            await asyncio.sleep(
                min(patience, pause_seconds(len(attempts), last.retry_after_seconds, self._draw))
            )
        return PurchaseRequest(
            planned.key,
            planned.item_id,
            planned.quantity,
            planned.buyer_id,
            tuple(attempts),
            copy,
            self._process_id,
            is_hold=planned.is_hold,
        )

    async def _attempt(self, planned: PlannedRequest) -> Attempt:
        body = {
            "item_id": planned.item_id,
            "quantity": planned.quantity,
            "buyer_id": planned.buyer_id,
        }
        started_at = self._clock()
        try:
            path = "/holds" if planned.is_hold else "/buy_ticket"
            headers = {"Idempotency-Key": planned.key}
            response = await self._http.post(path, json=body, headers=headers)
        except httpx.RequestError as error:
            return attempt_without_answer(error, started_at, self._clock())
        return attempt_of(response, started_at, self._clock(), is_hold=planned.is_hold)

    async def look_up(self, purchase_id: str) -> Lookup:
        """Return the receipt of a purchase; retries until the patience ends."""
        deadline = self._clock() + self._target.patience_seconds
        for attempts in range(1, ATTEMPTS_MAX + 1):
            async with self._places:
                lookup, retry_after = await self._lookup_attempt(purchase_id)
            pause = pause_seconds(attempts, retry_after, self._draw)
            if lookup.status is not None or self._clock() + pause > deadline:
                break
            await asyncio.sleep(pause)
        return lookup

    async def _lookup_attempt(self, purchase_id: str) -> tuple[Lookup, float | None]:
        try:
            response = await self._http.get(f"/purchases/{purchase_id}")
        except httpx.RequestError:
            return Lookup(purchase_id, None), None
        status = response.status_code
        if status == STATUS_OK:
            try:
                return Lookup(purchase_id, status, body_of(response, Receipt)), None
            except NotAsPromised:
                return Lookup(purchase_id, status), None
        definite = status < 500 and status != 429  # noqa: PLR2004
        return Lookup(purchase_id, status if definite else None), retry_after_seconds(response)
