"""The organiser's calls: reset, pause, capacity, refund, audit, export; signed with SigV4."""

import random
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Any, Self

import httpx
from msgspec import structs

from organiser.client import ApiClient, Target
from organiser.errors import NoCredentials, Unanswered
from organiser.signing import Signer, signer_for
from proof.history import (
    AuditReport,
    CapacityChange,
    Export,
    HoldAction,
    HoldChange,
    Inventory,
    Receipt,
    Refund,
    Reset,
    Sample,
)
from proof.responses import (
    STATUS_CONFLICT,
    STATUS_NOT_FOUND,
    STATUS_OK,
    NotAsPromised,
    body_of,
    changed,
    excerpt,
    export_of,
    next_query,
    problem_of,
)

CALLS_IN_FLIGHT = 8
NOT_OPEN_STATES = frozenset({"scheduled", "paused", "closed"})
LAST_CALL_SECONDS = 5.0


class NotUsable(Exception):
    """The proof cannot run. what: what happened. remedy: what to do about it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


def signer(target: Target, region: str | None, profile: str | None) -> Signer:
    """Return a signer for the target. Raises NotUsable where there is nothing to sign with."""
    try:
        return signer_for(target.url, region, profile)
    except NoCredentials as error:
        raise NotUsable(error.what, error.remedy) from error


class Admin:
    """The organiser's client for one item. Every method may raise NotUsable.

    clock: of the instants in what it returns.
    """

    def __init__(
        self,
        target: Target,
        signer: Signer,
        item_id: int,
        draw: random.Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = ApiClient(target, signer, draw)
        self._clock = clock
        self.item_id = item_id
        self.may_be_paused = False  # by us

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.__exit__(*error)

    def inventory_at_start(self) -> Inventory | None:
        """Return the item's inventory before the tests; None if there is no such item.

        It is the first call, so it finds out whether a service answers.
        """
        response = self._call("GET", f"/inventory?item_id={self.item_id}")
        code = problem_of(response).get("code")
        if response.status_code == STATUS_NOT_FOUND and code == "not_found":
            return None
        self._demand_ok(
            response, "GET /inventory", "Check the URL: it ends in the stage, as in …/live."
        )
        inventory = _shaped(response, Inventory, "GET /inventory")
        if inventory.state in NOT_OPEN_STATES:
            raise NotUsable(
                f"The sale of item {self.item_id} is {inventory.state}.",
                "Open it: POST /items/{item_id}/resume, or PUT /items/{item_id} with another "
                "opens_at or closes_at. Or test another --item.",
            )
        return inventory

    def inventory(self) -> Sample:
        """Return the inventory at rest; retries until there is one."""
        started_at = self._clock()
        response = self._call("GET", f"/inventory?item_id={self.item_id}")
        self._demand_ok(response, "GET /inventory", "See the service's log.")
        return Sample(started_at, self._clock(), _shaped(response, Inventory, "GET /inventory"))

    def sample(self) -> Sample | None:
        """Return the inventory during the sale; None without an answer. One attempt."""
        started_at = self._clock()
        try:
            path = f"/inventory?item_id={self.item_id}"
            response = self._client.attempt("GET", path, signed=False)
        except httpx.RequestError:
            return None
        if response.status_code != STATUS_OK:
            return None
        return Sample(started_at, self._clock(), _shaped(response, Inventory, "GET /inventory"))

    def reset(
        self,
        stock: int,
        item_name: str | None = None,
        shards: int | None = None,
        hold_seconds: int | None = None,
        per_buyer_limit: int | None = None,
    ) -> Reset:
        """Start a new generation with `stock` tickets."""
        body: dict[str, Any] = {"item_id": self.item_id, "stock": stock}
        body |= {"per_buyer_limit": per_buyer_limit or 0}
        body |= {} if item_name is None else {"item_name": item_name}
        body |= {} if shards is None else {"shards": shards}
        body |= {} if hold_seconds is None else {"hold_seconds": hold_seconds}
        started_at = self._clock()
        response, attempts = self._send("POST", "/reset", body, key=str(uuid.uuid4()))
        self._demand_ok(
            response,
            "POST /reset",
            "Deploy a test stage with the parameter AllowReset=true, and sign with credentials "
            "that may call it.",
        )
        inventory = _shaped(response, Inventory, "POST /reset")
        return Reset(
            inventory.generation,
            stock,
            started_at,
            self._clock(),
            attempts,
            hold_seconds or inventory.hold_seconds or 0,
            per_buyer_limit,
        )

    def pause(self) -> tuple[float, float]:
        """Stop selling; return when the call began and ended."""
        self.may_be_paused = True  # an interrupted call may take effect all the same
        return self._set_paused("pause")

    def resume(self) -> tuple[float, float]:
        """Sell again; return when the call began and ended."""
        instants = self._set_paused("resume")
        self.may_be_paused = False
        return instants

    def try_to_resume(self) -> bool:
        """Sell again where we may have paused the sale; return whether it is resumed.

        One attempt of a few seconds: the proof was interrupted, and must end.
        """
        if not self.may_be_paused:
            return True
        path = f"/items/{self.item_id}/resume"
        try:
            response = self._client.attempt("POST", path, timeout_seconds=LAST_CALL_SECONDS)
        except httpx.RequestError:
            return False
        return response.status_code == STATUS_OK

    def _set_paused(self, call: str) -> tuple[float, float]:
        started_at = self._clock()
        path = f"/items/{self.item_id}/{call}"
        response, _ = self._send("POST", path, key=str(uuid.uuid4()))
        self._demand_ok(
            response, f"POST /items/{{item_id}}/{call}", "Sign with credentials that may call it."
        )
        return started_at, self._clock()

    def resize(self, capacity: int) -> CapacityChange:
        """Set the capacity, twice with one key; return whether it was reached, or refused."""
        started_at, key = self._clock(), str(uuid.uuid4())
        answers = [
            self._send("PUT", f"/items/{self.item_id}", {"capacity": capacity}, key)[0]
            for _ in range(2)
        ]
        for response in answers:
            if problem_of(response).get("code") != "capacity_too_low":
                self._demand_ok(
                    response, "PUT /items/{item_id}", "Sign with credentials that may call it."
                )
        first, again = (response.status_code == STATUS_OK for response in answers)
        return CapacityChange(
            started_at,
            self._clock(),
            capacity,
            first if first == again else None,
            problem_of(answers[0]).get("lowest_capacity"),
        )

    def refund(self, receipts: Sequence[Receipt]) -> list[Refund]:
        """Refund purchases, each twice in parallel with one key."""
        keyed = [(receipt, str(uuid.uuid4())) for receipt in receipts]
        sent = _in_parallel(self._refund, keyed, copies=2)
        return [Refund.of(pair) for pair in zip(sent[::2], sent[1::2], strict=True)]

    def _refund(self, receipt: Receipt, key: str) -> Refund:
        started_at = self._clock()
        path = f"/purchases/{receipt.purchase_id}/refund"
        response, _ = self._send("POST", path, {}, key)
        if response.status_code != STATUS_CONFLICT:
            self._demand_ok(response, "POST /purchases/{id}/refund", "See the service's log.")
        done = response.status_code == STATUS_OK
        after = _shaped(response, Receipt, "POST /purchases/{id}/refund") if done else None
        ended_at = self._clock()
        return Refund(receipt.purchase_id, receipt.quantity, started_at, ended_at, done, after)

    def confirm(self, holds: Sequence[Receipt], copies: int) -> list[HoldChange]:
        """Confirm each hold with a payment of its own, in copies that are sent in parallel."""
        paid = [(hold, f"payment-{uuid.uuid4()}") for hold in holds]
        return _in_parallel(self._confirm, paid, copies)

    def _confirm(self, hold: Receipt, payment_reference: str) -> HoldChange:
        change = HoldChange(
            hold.purchase_id,
            HoldAction.CONFIRM,
            self._clock(),
            inf,
            done=None,
            payment_reference=payment_reference,
        )
        body = {"payment_reference": payment_reference}
        response, _ = self._send("POST", f"/holds/{hold.purchase_id}/confirm", body)
        change = changed(change, response)
        if change.done is None:
            self._demand_ok(response, "POST /holds/{id}/confirm", "See the service's log.")
        return structs.replace(change, ended_at=self._clock())

    def audit(self) -> AuditReport:
        """Return the counters and records of the current generation, at rest."""
        path = f"/audit/{self.item_id}"
        while True:
            response = self._call("GET", path)
            self._demand_ok(
                response,
                "GET /audit",
                "Sign with credentials that may call it: --profile, --region.",
            )
            audit = _shaped(response, AuditReport, "GET /audit")
            if not audit.cursor:
                return audit
            path = f"/audit/{self.item_id}?{urllib.parse.urlencode({'cursor': audit.cursor})}"

    def export(
        self, shape: str, generation: int | None = None, *, with_holds: bool = False
    ) -> Export:
        """Return the purchases of a generation, in the format `shape`.

        generation: None: the current one. with_holds: also all holds.
        """
        asked = {"format": shape}
        if generation is not None:
            asked["generation"] = str(generation)
        if with_holds:
            asked["holds"] = "true"
        started_at, text, query = self._clock(), "", urllib.parse.urlencode(asked)
        while True:
            response = self._call("GET", f"/export/{self.item_id}?{query}")
            self._demand_ok(
                response,
                "GET /export",
                "Sign with credentials that may call it: --profile, --region.",
            )
            text += response.text
            following = next_query(response)
            if following is None:
                break
            query = following
        try:
            return export_of(text, shape, started_at, self._clock())
        except NotAsPromised as error:
            raise _not_this_api("GET /export", error) from error

    def _call(self, method: str, path: str) -> httpx.Response:
        return self._send(method, path)[0]

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None = None, key: str | None = None
    ) -> tuple[httpx.Response, int]:
        """Make a call until there is an answer; return it with the number of attempts.

        All calls are signed but those of everyone's route.
        """
        signed = not path.startswith("/inventory")
        try:
            return self._client.send(method, path, body, key=key, signed=signed)
        except Unanswered as error:
            raise NotUsable(error.what, error.remedy) from error

    def _demand_ok(self, response: httpx.Response, call: str, remedy: str) -> None:
        if response.status_code != STATUS_OK:
            raise NotUsable(f"{call} answers {response.status_code}: {excerpt(response)}", remedy)


def _in_parallel[Result](
    call: Callable[[Receipt, str], Result], calls: Iterable[tuple[Receipt, str]], copies: int
) -> list[Result]:
    """Return the results of these calls, each made in copies that follow each other at once."""
    sent = [each for each in calls for _ in range(copies)]
    with ThreadPoolExecutor(CALLS_IN_FLIGHT) as pool:
        return list(pool.map(lambda each: call(*each), sent))


def _shaped[Shape](response: httpx.Response, shape: type[Shape], call: str) -> Shape:
    try:
        return body_of(response, shape)
    except NotAsPromised as error:
        raise _not_this_api(call, error) from error


def _not_this_api(call: str, error: NotAsPromised) -> NotUsable:
    return NotUsable(f"{call} has an unexpected body: {error}", "Is it the API of the ticket sale?")
