"""The callers of one sale, and what they do: buy, wait, send again, come in five copies, look."""

import random
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from proof.client import pause_seconds
from proof.history import (
    NOT_DEFINITE,
    Attempt,
    Inventory,
    Kind,
    Lookup,
    PurchaseRequest,
    Receipt,
    Sample,
)
from proof.responses import STATUS_OK, attempt_of, body_of
from simulation.fleet import Fleet, NoAnswer
from simulation.service import Call, ServiceResponse, gateway_response, serve
from simulation.world import World

ITEM: Final = 1
# How long a caller waits for an answer: as long as API Gateway does.
TIMEOUT_SECONDS: Final = 29.0
# How long a caller sends a request again.
PATIENCE_SECONDS: Final = 120.0
# Shares of the callers: with a key; with a buyer_id; with several copies at once; who send the same
# request once more after its answer.
KEYED: Final = 0.9
NAMED: Final = 0.8
COPIED: Final = 0.05
COMES_BACK: Final = 0.1
COPIES: Final = 5
COME_BACK_SECONDS: Final = 5.0
QUANTITIES: Final = (1, 1, 1, 1, 2, 3, 5, 10)


class Buyer(Struct, frozen=True):
    """A caller's plan. key: None sends no Idempotency-Key. copies: sent at once with one key.

    comes_back_seconds: how long after the last answer the request is sent once more; None: not.
    """

    number: int
    key: str | None
    buyer_id: str | None
    quantity: int
    copies: int
    arrives_at: float
    comes_back_seconds: float | None

    @classmethod
    def drawn(cls, number: int, rush_seconds: float, draw: random.Random) -> "Buyer":
        """Return the plan of one of many callers."""
        is_keyed = draw.random() < KEYED
        key = str(UUID(int=draw.getrandbits(128), version=4)) if is_keyed else None
        comes_back = is_keyed and draw.random() < COMES_BACK
        return cls(
            number=number,
            key=key,
            buyer_id=f"buyer-{number}" if draw.random() < NAMED else None,
            quantity=draw.choice(QUANTITIES),
            copies=COPIES if is_keyed and draw.random() < COPIED else 1,
            arrives_at=draw.uniform(0.0, rush_seconds),
            comes_back_seconds=draw.uniform(0.0, COME_BACK_SECONDS) if comes_back else None,
        )


class Callers:
    """Everyone who calls the service, and what they saw."""

    def __init__(self, world: World, fleet: Fleet) -> None:
        self.requests: list[PurchaseRequest] = []
        self.samples: list[Sample] = []
        self.waiting = 0
        self._world = world
        self._fleet = fleet
        self._draw = world.random("callers")

    def start(self, buyers: int, rush_seconds: float) -> None:
        """Let buyers arrive from now on, and one watcher beside them."""
        begins_at = self._world.now
        for number in range(buyers):
            buyer = Buyer.drawn(number, rush_seconds, self._draw)
            for copy in range(1, buyer.copies + 1):
                self.waiting += 1
                self._world.at(
                    begins_at + buyer.arrives_at, self._world.start, self._buy, buyer, copy
                )
        self._world.start(self._watch)

    def _buy(self, buyer: Buyer, copy: int) -> None:
        """Send a purchase until a definite answer comes, and once more where the plan says so."""
        attempts = self._until_definite(buyer)
        if buyer.comes_back_seconds is not None:
            self._world.sleep(buyer.comes_back_seconds)
            attempts += self._until_definite(buyer)
        self.waiting -= 1
        key = buyer.key or f"none-{buyer.number}"
        self.requests.append(
            PurchaseRequest(key, ITEM, buyer.quantity, buyer.buyer_id, tuple(attempts), copy)
        )

    def _until_definite(self, buyer: Buyer) -> list[Attempt]:
        body: dict[str, Any] = {"item_id": ITEM, "quantity": buyer.quantity}
        if buyer.buyer_id is not None:
            body["buyer_id"] = buyer.buyer_id
        call = Call("POST /buy_ticket", body, buyer.key)
        attempts = [self._attempt(call)]
        ends_at = self._world.now + PATIENCE_SECONDS
        while attempts[-1].kind in NOT_DEFINITE and self._world.now < ends_at:
            asked_for = attempts[-1].retry_after_seconds
            self._world.sleep(pause_seconds(len(attempts), asked_for, self._draw))
            attempts.append(self._attempt(call))
        return attempts

    def _attempt(self, call: Call) -> Attempt:
        started_at = self._world.now
        response = self.send(call)
        if response is None:
            return Attempt(started_at, self._world.now, Kind.UNKNOWN, detail="no answer")
        return attempt_of(response, started_at, self._world.now)

    def send(self, call: Call) -> ServiceResponse | None:
        """Return the response to one request; None without one."""
        answer = self._fleet.request(lambda services: serve(call, services), TIMEOUT_SECONDS)
        return gateway_response(answer) if isinstance(answer, NoAnswer) else answer

    def _watch(self) -> None:
        """Look at the inventory while anyone is still buying."""
        while self.waiting:
            sample = self.sample()
            if sample is not None:
                self.samples.append(sample)
            self._world.sleep(self._draw.uniform(0.0, 1.0))

    def sample(self) -> Sample | None:
        """Return the inventory; None where it cannot be had now."""
        started_at = self._world.now
        response = self.send(Call("GET /inventory", query={"item_id": str(ITEM)}))
        if response is None or response.status_code != STATUS_OK:
            return None
        return Sample(started_at, self._world.now, body_of(response, Inventory))

    def look_up(self, purchase_id: str) -> Lookup:
        """Return what `GET /purchases/{purchase_id}` says."""
        call = Call("GET /purchases/{purchase_id}", path_parameters={"purchase_id": purchase_id})
        response = self.send(call)
        if response is None or response.status_code != STATUS_OK:
            return Lookup(purchase_id, None if response is None else response.status_code)
        return Lookup(purchase_id, STATUS_OK, body_of(response, Receipt))

    def run(self, work: Callable[[], None]) -> None:
        """Do some work in a task, and let everything happen that follows."""
        self._world.start(work)
        self._world.run()
