"""The organiser's calls: reset, pause, capacity, refund, audit, export; signed with SigV4."""

import os
import random
import re
import time
import urllib.parse
import uuid
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Any, Self

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.exceptions
import botocore.session
import httpx
from msgspec import structs

from proof.client import Target, pause_seconds
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
    BUSY_STATUSES,
    STATUS_CONFLICT,
    STATUS_NOT_FOUND,
    STATUS_OK,
    UNKNOWN_STATUSES,
    NotAsPromised,
    body_of,
    changed,
    excerpt,
    export_of,
    next_query,
    problem_of,
    retry_after_seconds,
)

CALLS_IN_FLIGHT = 8
NOT_OPEN_STATES = frozenset({"scheduled", "paused", "closed"})
LAST_CALL_SECONDS = 5.0
LOOPBACK_REGION = "us-east-1"
# Without 500: that is a bug, and would be one again.
SENT_AGAIN = BUSY_STATUSES | UNKNOWN_STATUSES - {500}


class NotUsable(Exception):
    """The proof cannot run. what: what happened. remedy: what to do about it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


class SigV4(httpx.Auth):
    """Signs a request when it is sent, so credentials may be renewed between requests."""

    requires_request_body = True

    def __init__(self, credentials: botocore.credentials.Credentials, region: str) -> None:
        self._signer = botocore.auth.SigV4Auth(credentials, "execute-api", region)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        """Add the signature's headers. Host and content type are signed as well."""
        headers = (
            {"Content-Type": request.headers["Content-Type"]}
            if "Content-Type" in request.headers
            else {}
        )
        draft = botocore.awsrequest.AWSRequest(
            request.method, str(request.url), headers, request.content
        )
        self._signer.add_auth(draft)
        request.headers.update(dict(draft.headers.items()))
        yield request


def signer(target: Target, region: str | None, profile: str | None) -> SigV4:
    """Return a signer with credentials of the normal chain; on loopback, test credentials will do.

    Raises NotUsable where credentials or the Region are missing.
    """
    try:
        # botocore takes its defaults from the environment and the shared files, as all AWS tools
        # do.
        session = botocore.session.Session(profile=profile or os.environ.get("AWS_PROFILE"))
        if target.is_loopback:
            # Without this, a laptop without credentials waits for the metadata service of an EC2
            # instance.
            session.get_component("credential_provider").remove("iam-role")
        credentials = session.get_credentials()
        region = region or region_of(target.url) or session.get_config_variable("region")
    except botocore.exceptions.BotoCoreError as error:
        raise NotUsable(
            f"No AWS credentials: {error}", "Check --profile and AWS_PROFILE."
        ) from error
    if target.is_loopback:
        credentials = credentials or botocore.credentials.Credentials("test", "test")
        region = region or LOOPBACK_REGION
    if credentials is None:
        raise NotUsable(
            "No AWS credentials: POST /reset and GET /audit must be signed.",
            "Log in, choose --profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        )
    if region is None:
        raise NotUsable("The Region of the API is not known.", "Set it with --region.")
    return SigV4(credentials, region)


def region_of(url: str) -> str | None:
    """Return the Region in the host name of an API on AWS; None for a custom domain."""
    match = re.search(r"\.execute-api\.([a-z0-9-]+)\.amazonaws\.com", httpx.URL(url).host)
    return match[1] if match else None


class Admin:
    """The organiser's client for one item. Every method may raise NotUsable."""

    def __init__(self, target: Target, auth: SigV4, item_id: int, draw: random.Random) -> None:
        self._http = httpx.Client(**target.settings())  # type: ignore[arg-type]
        self._target = target
        self._auth = auth
        self.item_id = item_id
        self.may_be_paused = False  # by us
        self._draw = draw

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def inventory_at_start(self) -> Inventory | None:
        """Return the item's inventory before the tests; None if there is no such item.

        As the first call, it reports a URL where no service answers.
        """
        try:
            response = self._call("GET", f"/inventory?item_id={self.item_id}")
        except NotUsable as error:
            remedy = "Start it with `make start`, or set its address with --url."
            raise NotUsable(
                error.what, remedy if self._target.is_loopback else error.remedy
            ) from error
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
        started_at = time.monotonic()
        response = self._call("GET", f"/inventory?item_id={self.item_id}")
        self._demand_ok(response, "GET /inventory", "See the service's log.")
        return Sample(started_at, time.monotonic(), _shaped(response, Inventory, "GET /inventory"))

    def sample(self) -> Sample | None:
        """Return the inventory during the sale; None without an answer. One attempt."""
        started_at = time.monotonic()
        try:
            response = self._http.get("/inventory", params={"item_id": self.item_id})
        except httpx.RequestError:
            return None
        if response.status_code != STATUS_OK:
            return None
        return Sample(started_at, time.monotonic(), _shaped(response, Inventory, "GET /inventory"))

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
        started_at = time.monotonic()
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
            time.monotonic(),
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
            response = self._http.post(path, auth=self._auth, timeout=LAST_CALL_SECONDS)
        except httpx.RequestError:
            return False
        return response.status_code == STATUS_OK

    def _set_paused(self, call: str) -> tuple[float, float]:
        started_at = time.monotonic()
        path = f"/items/{self.item_id}/{call}"
        response, _ = self._send("POST", path, key=str(uuid.uuid4()))
        self._demand_ok(
            response, f"POST /items/{{item_id}}/{call}", "Sign with credentials that may call it."
        )
        return started_at, time.monotonic()

    def resize(self, capacity: int) -> CapacityChange:
        """Set the capacity, twice with one key; return whether it was reached, or refused."""
        started_at, key = time.monotonic(), str(uuid.uuid4())
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
            time.monotonic(),
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
        started_at = time.monotonic()
        path = f"/purchases/{receipt.purchase_id}/refund"
        response, _ = self._send("POST", path, {}, key)
        if response.status_code != STATUS_CONFLICT:
            self._demand_ok(response, "POST /purchases/{id}/refund", "See the service's log.")
        done = response.status_code == STATUS_OK
        after = _shaped(response, Receipt, "POST /purchases/{id}/refund") if done else None
        ended_at = time.monotonic()
        return Refund(receipt.purchase_id, receipt.quantity, started_at, ended_at, done, after)

    def confirm(self, holds: Sequence[Receipt], copies: int) -> list[HoldChange]:
        """Confirm each hold with a payment of its own, in copies that are sent in parallel."""
        paid = [(hold, f"payment-{uuid.uuid4()}") for hold in holds]
        return _in_parallel(self._confirm, paid, copies)

    def _confirm(self, hold: Receipt, payment_reference: str) -> HoldChange:
        change = HoldChange(
            hold.purchase_id,
            HoldAction.CONFIRM,
            time.monotonic(),
            inf,
            done=None,
            payment_reference=payment_reference,
        )
        body = {"payment_reference": payment_reference}
        response, _ = self._send("POST", f"/holds/{hold.purchase_id}/confirm", body)
        change = changed(change, response)
        if change.done is None:
            self._demand_ok(response, "POST /holds/{id}/confirm", "See the service's log.")
        return structs.replace(change, ended_at=time.monotonic())

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

    def export(self, shape: str) -> Export:
        """Return the purchases of the current generation, in the format `shape`."""
        started_at, text, query = time.monotonic(), "", f"format={shape}"
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
            return export_of(text, shape, started_at, time.monotonic())
        except NotAsPromised as error:
            raise _not_this_api("GET /export", error) from error

    def _call(self, method: str, path: str) -> httpx.Response:
        return self._send(method, path)[0]

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None = None, key: str | None = None
    ) -> tuple[httpx.Response, int]:
        """Make a signed call; return the response and the number of attempts.

        It is sent again while the service is busy or does not answer, until the patience ends. So
        it must have a key or change nothing.
        """
        auth = None if path.startswith("/inventory") else self._auth
        headers = {} if key is None else {"Idempotency-Key": key}
        deadline = time.monotonic() + self._target.patience_seconds
        attempts = 0
        while True:
            attempts += 1
            response, lost = None, None
            try:
                response = self._http.request(method, path, json=body, auth=auth, headers=headers)
            except httpx.ConnectError as error:
                raise NotUsable(
                    f"No server answers at {self._target.url} ({error}).", "Check --url."
                ) from error
            except httpx.RequestError as error:
                lost = error
            asked_for = None if response is None else retry_after_seconds(response)
            pause = pause_seconds(attempts, asked_for, self._draw)
            is_over = time.monotonic() + pause > deadline
            if response is not None and (is_over or response.status_code not in SENT_AGAIN):
                return response, attempts
            if is_over:
                what = f"{method} {path} got no answer: {type(lost).__name__} {lost}".strip()
                raise NotUsable(what, "See the service's log, or raise --timeout.") from lost
            time.sleep(pause)

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
