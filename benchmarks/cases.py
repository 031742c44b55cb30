"""Requests of each outcome to the real functions, on a transport that answers each call at once."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, Final

import buy_ticket.app
import hold_ticket.app
import inventory.app
from benchmarks.process import ROOT
from benchmarks.transport import Answer, Transport, replaying, selling, sold_out
from ticketing.api.serving import Function
from ticketing.api.telemetry import Telemetry
from ticketing.store.client import connect
from ticketing.wiring import build_services

HANDLERS: Final = {
    "buy_ticket": buy_ticket.app.HANDLERS,
    "hold_ticket": hold_ticket.app.HANDLERS,
    "inventory": inventory.app.HANDLERS,
}
CONTEXT: Final = SimpleNamespace(aws_request_id="b5a2ad0c-2f2c-4f4e-9d0b-8a1f0b6f2b11")
WITH_KEY: Final = "buy_ticket/with_key.json"


@dataclass(frozen=True, slots=True)
class Case:
    """One outcome of a request.

    event: its file. status: of the response. cpu_at_most: the target, in bare calls; None: it has
    none.
    """

    event: str
    status: HTTPStatus
    cpu_at_most: float | None = None


BARE: Final = "the bare call, tuned client"  # a purchase's store call alone
PURCHASE: Final = "a purchase"
HOLD: Final = "a hold"
CONFIRMATION: Final = "a confirmation"
REPLAY: Final = "a replay"
REFUSAL: Final = "a refusal, no key"
REFUSAL_WITH_KEY: Final = "a refusal, with a key"
INVENTORY: Final = "`GET /inventory`, cached"
CASES: Final[Mapping[str, Case]] = {
    PURCHASE: Case(WITH_KEY, HTTPStatus.CREATED, cpu_at_most=1.0),
    HOLD: Case("hold_ticket/hold.json", HTTPStatus.CREATED),
    CONFIRMATION: Case("hold_ticket/confirm.json", HTTPStatus.CREATED),
    REPLAY: Case(WITH_KEY, HTTPStatus.OK),
    REFUSAL: Case("buy_ticket/empty_body.json", HTTPStatus.CONFLICT, cpu_at_most=0.15),
    REFUSAL_WITH_KEY: Case(WITH_KEY, HTTPStatus.CONFLICT),
    INVENTORY: Case("inventory/inventory.json", HTTPStatus.OK),
}


class Lambda:
    """A function in an environment of its own, and the transport below it.

    telemetry: by default one that writes to the standard output, as on Lambda.
    """

    def __init__(
        self, case: Case, answers: Mapping[str, Answer], telemetry: Telemetry | None = None
    ) -> None:
        self.transport = Transport(answers)
        self.client = self.transport.attach(connect())
        name = case.event.partition("/")[0]
        self._function = Function(HANDLERS[name], build_services(self.client), telemetry)
        self._event = json.loads((ROOT / "events" / case.event).read_text())
        self._status = case.status

    def __call__(self) -> dict[str, Any]:
        """Return the result of the case's request. Raises AssertionError for another outcome."""
        result = self._function(self._event, CONTEXT)
        if result["statusCode"] != self._status:
            raise AssertionError(result)
        return result

    def payload(self) -> Any:
        """Return the arguments with which the case calls transact_write_items."""
        found: list[Any] = []
        event = "provide-client-params.dynamodb.TransactWriteItems"
        events = self.client.meta.events
        events.register(event, lambda params, **_: found.append(params.copy()), "payload")
        self()
        events.unregister(event, unique_id="payload")
        return found[0]


def record_of(payload: Any) -> Any:
    """Return the record that a purchase or a hold puts, from `Lambda.payload`."""
    return payload["TransactItems"][1]["Put"]["Item"]


def environments(telemetry: Telemetry | None = None) -> Iterator[tuple[str, Lambda]]:
    """Yield an environment for each case, one after the other, on the answers that lead to it."""
    bought = Lambda(CASES[PURCHASE], selling(), telemetry).payload()
    held = Lambda(CASES[HOLD], selling(), telemetry).payload()
    answers = {
        CONFIRMATION: selling(record_of(held)),
        REPLAY: replaying(record_of(bought)),
        REFUSAL: sold_out(),
        REFUSAL_WITH_KEY: sold_out(),
    }
    for name, case in CASES.items():
        yield name, Lambda(case, answers.get(name, selling()), telemetry)
