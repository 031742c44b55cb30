"""Buyers for the whole API: they look, buy, hold, pay, give up, press twice and come back.

make locust URL=https://…/live RATE=200 SECONDS=60

They arrive at a rate of their own, each without regard to the others, however slow the service
becomes (an open load). Locust's table shows each route by the answer it gave, and `buyer` rows with
what became of the buyers and how long it took, from the first click on, thinking included. An
answer that the API does not promise is a failure, and then the exit status is 1. Whether the stock
was sold exactly is judged by `make prove`.
"""

import logging
import random
import time
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import gevent
from gevent.pool import Pool
from locust import events
from locust.contrib.fasthttp import FastHttpUser
from locust.exception import StopUser

# Shares of the buyers: who only look; who hold tickets before they pay, and of these who extend the
# hold, release it, and forget it; who press twice at once; who load the page again afterwards.
ONLY_LOOKS: Final = 0.3
HOLDS: Final = 0.5
EXTENDS: Final = 0.1
RELEASES: Final = 0.1
FORGETS: Final = 0.2
PRESSES_TWICE: Final = 0.1
COMES_BACK: Final = 0.2
# Of the answers "busy", and of those that never came: after them the buyer goes away.
GIVES_UP: Final = 0.05
# How long a buyer thinks between two pages, and tries to get an answer.
THINKS_SECONDS: Final = (0.1, 2.0)
PATIENCE_SECONDS: Final = 60.0
PAUSE_BASE_SECONDS: Final = 0.2
PAUSE_CAP_SECONDS: Final = 5.0
# API Gateway answers after 29 s at the latest.
ANSWER_SECONDS_MAX: Final = 30.0
# So often the service may be busy before the load begins.
PATIENT_LOOKS: Final = 10
# More at once are more than one process can serve: start it with PROCESSES.
BUYERS_MAX: Final = 5000
QUANTITIES: Final = (1, 1, 1, 2, 2, 4)

CLOSED: Final = "entrance closed"  # the message of a process whose last buyer has left

NO_ANSWER: Final = 0  # Locust's status where there is none
BUSY: Final = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
# API Gateway's own, where the function gave no answer: the request may have been carried out.
UNKNOWN: Final = {HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT, NO_ANSWER}
REFUSALS: Final = {
    "sold_out",
    "not_enough_left",
    "all_held",
    "buyer_limit_reached",
    "sale_not_open",
}
GONE: Final = {"hold_expired", "hold_released"}

type Body = dict[str, Any]
type Answer = tuple[int, Body, Mapping[str, str]]  # status, body and headers


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: Any) -> None:
    """Add the options of this load."""
    add = parser.add_argument
    add("--rate", type=float, default=20.0, help="buyers a second, of all processes together")
    add("--seconds", type=float, default=30.0, help="in which they arrive")
    add("--item", type=int, default=1, help="the item that they want")


@events.init.add_listener  # type: ignore[untyped-decorator]
def end_with_last_buyer(environment: Any, **_: Any) -> None:
    """End the load when all entrances are closed, of all processes."""
    closed: list[Any] = []

    def close(environment: Any, msg: Any, **_: Any) -> None:
        closed.append(msg)
        if len(closed) == (environment.parsed_options.num_users or 1):
            gevent.spawn(environment.runner.quit)

    environment.runner.register_message(CLOSED, close)


class GaveUp(Exception):
    """The buyer went away without a definite answer."""


class Entrance(FastHttpUser):  # type: ignore[misc]
    """Lets buyers in at its part of the rate, and closes after the last one has left."""

    network_timeout = ANSWER_SECONDS_MAX
    connection_timeout = 10.0
    concurrency = BUYERS_MAX
    insecure = False

    def let_in(self) -> None:
        """Start buyers at the times of a Poisson process, where the item is on sale."""
        options, buyers = self.environment.parsed_options, Pool(BUYERS_MAX)
        if self._is_on_sale(options.item):
            rate = options.rate / (options.num_users or 1)
            arrives_at = time.monotonic()
            ends_at = arrives_at + options.seconds
            while (arrives_at := arrives_at + random.expovariate(rate)) < ends_at:
                gevent.sleep(max(0.0, arrives_at - time.monotonic()))
                if buyers.full():
                    fault = "one process cannot serve more at once: PROCESSES=n"
                    self.note("not let in", 0.0, fault)
                else:
                    buyers.spawn(Buyer(self, options.item).visit)
            buyers.join(timeout=2 * PATIENCE_SECONDS)
        self.environment.runner.send_message(CLOSED)
        raise StopUser

    def _is_on_sale(self, item_id: int) -> bool:
        """Return whether the service answers for this item. Otherwise say what to do."""
        path = f"/inventory?item_id={item_id}"
        for _ in range(PATIENT_LOOKS):
            response = self.client.get(path, name=path)
            if response.status_code not in BUSY:
                break
            gevent.sleep(1)
        if response.status_code == HTTPStatus.OK:
            return True
        logging.error(
            "%s%s answers %s. Is the URL right, with its stage, and was the item's sale started?",
            self.host,
            path,
            response.status_code or "nothing",
        )
        return False

    def note(self, outcome: str, seconds: float, fault: str | None = None) -> None:
        """Add what became of a buyer to Locust's table."""
        self.environment.events.request.fire(
            request_type="buyer",
            name=outcome,
            response_time=seconds * 1000,
            response_length=0,
            exception=None if fault is None else RuntimeError(fault),
            context={},
        )

    tasks = (let_in,)


class Buyer:
    """A person with a browser."""

    def __init__(self, entrance: Entrance, item_id: int) -> None:
        self._entrance = entrance
        self._item_id = item_id
        self._order = {
            "item_id": item_id,
            "quantity": random.choice(QUANTITIES),
            "buyer_id": f"buyer-{uuid.uuid4()}",
        }

    def visit(self) -> None:
        """Look at the item, and perhaps order it."""
        began_at = time.monotonic()
        try:
            self._look()
            if random.random() < ONLY_LOOKS:
                outcome = "only looked"
            else:
                self._think()
                began_at = time.monotonic()
                outcome = self._hold() if random.random() < HOLDS else self._buy()
        except GaveUp:
            outcome = "gave up"
        self._entrance.note(outcome, time.monotonic() - began_at)

    def _look(self) -> None:
        """Load the page, and once more: the second time only what has changed."""
        tag = None
        for _ in range(2):
            headers: dict[str, str] = {} if tag is None else {"If-None-Match": tag}
            path = f"/inventory?item_id={self._item_id}"
            status, body, answered = self._until_definite("GET", "/inventory", path, None, headers)
            if status == HTTPStatus.OK and not 0 <= body["current_stock"] <= body["initial_stock"]:
                self._entrance.note("inventory", 0.0, f"the stock does not add up: {body}")
            tag = answered.get("ETag")
            self._think()

    def _buy(self) -> str:
        key = str(uuid.uuid4())
        status, receipt, _ = self._ordered("/buy_ticket", key)
        if status == HTTPStatus.CONFLICT:
            return str(receipt["code"])
        self._see_receipt(receipt)
        if random.random() < COMES_BACK:
            self._think()
            self._come_back(key, receipt)
        return "bought"

    def _hold(self) -> str:
        """Hold tickets, and pay, let them go, or forget them."""
        key = str(uuid.uuid4())
        status, hold, _ = self._ordered("/holds", key)
        if status == HTTPStatus.CONFLICT:
            return str(hold["code"])
        path, chance = f"/holds/{hold['hold_id']}", random.random()
        self._think()
        if chance < FORGETS:
            return "forgot the hold"
        if chance < FORGETS + RELEASES:
            self._until_definite("DELETE", "/holds/{hold_id}", path)
            _, seen, _ = self._until_definite("GET", "/holds/{hold_id}", path)
            if seen["status"] not in {"released", "expired"}:
                self._entrance.note("release", 0.0, f"the hold is released, and is said: {seen}")
            return "released the hold"
        if chance < FORGETS + RELEASES + EXTENDS:
            self._until_definite("POST", "/holds/{hold_id}/extend", f"{path}/extend")
            self._think()
        payment = {"payment_reference": f"pay-{uuid.uuid4()}"}
        status, receipt, _ = self._until_definite(
            "POST", "/holds/{hold_id}/confirm", f"{path}/confirm", payment
        )
        if status == HTTPStatus.GONE:
            return "paid too late"
        self._see_receipt(receipt)
        return "held and bought"

    def _ordered(self, route: str, key: str) -> Answer:
        """Order, and perhaps press twice. Return the definite answer."""
        orders = 2 if random.random() < PRESSES_TWICE else 1
        sent = [gevent.spawn(self._order_or_none, route, key) for _ in range(orders)]
        gevent.joinall(sent, raise_error=True)
        answers: list[Answer] = [each.value for each in sent if each.value is not None]
        if not answers:
            raise GaveUp
        name = "hold_id" if route == "/holds" else "purchase_id"
        ids = {body[name] for status, body, _ in answers if status < HTTPStatus.BAD_REQUEST}
        if len(ids) > 1:
            self._entrance.note("pressed twice", 0.0, f"one key, and two orders: {sorted(ids)}")
        return min(answers, key=lambda answer: answer[0])

    def _order_once(self, route: str, key: str) -> Answer:
        headers = {"Idempotency-Key": key}
        return self._until_definite("POST", route, route, self._order, headers)

    def _order_or_none(self, route: str, key: str) -> Answer | None:
        """Return None where the buyer gave up: gevent would print an exception."""
        try:
            return self._order_once(route, key)
        except GaveUp:
            return None

    def _come_back(self, key: str, receipt: Body) -> None:
        """Send a purchase again: the answer is the same receipt, and says so."""
        status, body, headers = self._order_once("/buy_ticket", key)
        if (
            status != HTTPStatus.OK
            or body.get("purchase_id") != receipt["purchase_id"]
            or headers.get("Idempotent-Replayed") != "true"
        ):
            self._entrance.note("came back", 0.0, f"not the same receipt: {status} {body}")

    def _see_receipt(self, receipt: Body) -> None:
        path = f"/purchases/{receipt['purchase_id']}"
        _, seen, _ = self._until_definite("GET", "/purchases/{purchase_id}", path)
        if seen.get("quantity") != receipt["quantity"]:
            self._entrance.note("receipt", 0.0, f"{receipt}, and then {seen}")

    def _until_definite(
        self,
        method: str,
        route: str,
        path: str,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return status, body and headers of the definite answer to the same request, sent again.

        Raises GaveUp.
        """
        began_at, attempts = time.monotonic(), 0
        while True:
            status, answer, answered = self._send(method, route, path, body, headers)
            if status not in BUSY | UNKNOWN:
                return status, answer, answered
            attempts += 1
            is_over = time.monotonic() - began_at > PATIENCE_SECONDS
            if is_over or random.random() < GIVES_UP:
                raise GaveUp
            most = min(PAUSE_CAP_SECONDS, PAUSE_BASE_SECONDS * 2**attempts)
            gevent.sleep(float(answered.get("Retry-After", 0)) + random.uniform(0.0, most))

    def _send(
        self,
        method: str,
        route: str,
        path: str,
        body: Body | None,
        headers: Mapping[str, str] | None,
    ) -> Answer:
        """Send a request once. Its row in the table has the answer's code."""
        client = self._entrance.client
        with client.request(
            method, path, name=route, json=body, headers=headers, catch_response=True
        ) as response:
            status = response.status_code or NO_ANSWER
            is_json = "json" in (response.headers or {}).get("Content-Type", "")
            answer = response.json() if is_json and response.content else {}
            code = answer.get("code", "") if status >= HTTPStatus.BAD_REQUEST else ""
            response.request_meta["name"] = f"{route} → {status or 'no answer'} {code}".rstrip()
            fault = _fault(status, code, response.headers or {})
            if fault is None:
                response.success()
            else:
                response.failure(f"{fault}: {answer or (response.text or '')[:200]!r}")
        if fault is not None and status not in UNKNOWN:
            raise GaveUp
        return status, answer, response.headers or {}

    def _think(self) -> None:
        gevent.sleep(random.uniform(*THINKS_SECONDS))


def _fault(status: int, code: str, headers: Mapping[str, str]) -> str | None:
    """Return what is wrong with an answer; None where the API promises such answers."""
    if status == NO_ANSWER:
        return "no answer, or the connection broke"
    if status in {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NOT_MODIFIED} | UNKNOWN:
        return None
    if status in BUSY:
        # API Gateway's own 429 says so on AWS, and the emulated one does not.
        is_told = "Retry-After" in headers or status == HTTPStatus.TOO_MANY_REQUESTS
        return None if is_told else "busy, and does not say when to come back"
    if status == HTTPStatus.CONFLICT and code in REFUSALS:
        return None
    if status == HTTPStatus.GONE and code in GONE:
        return None
    return "not an answer for a buyer"
