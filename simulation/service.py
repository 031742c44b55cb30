"""The API without HTTP: the real handlers and problem documents, called in one environment.

`ticketing.api.serving.Function` is left out, because Powertools' logger and metrics are one for the
whole process, and here many environments share it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import admin.app
import buy_ticket.app
import hold_ticket.app
import inventory.app
from ticketing.api.problems import problem_of
from ticketing.api.request import Reply, Request
from ticketing.api.serving import Handler
from ticketing.api.telemetry import log_line
from ticketing.limits import (
    AUDIT_BUDGET_SECONDS,
    CATALOGUE_BUDGET_SECONDS,
    PURCHASE_BUDGET_SECONDS,
    REFUND_BUDGET_SECONDS,
    STORE_CALL_SECONDS_MAX,
)
from ticketing.rules import timestamp
from ticketing.wiring import Services

HANDLERS: Final[Mapping[str, Handler[Services]]] = {
    str(route): handler
    for function in (buy_ticket.app, hold_ticket.app, inventory.app, admin.app)
    for route, handler in function.HANDLERS.items()
}


_BUDGETS_SECONDS: Final[Mapping[str, float]] = {
    "POST /buy_ticket": PURCHASE_BUDGET_SECONDS,
    "GET /purchases/{purchase_id}": PURCHASE_BUDGET_SECONDS,
    "POST /holds": PURCHASE_BUDGET_SECONDS,
    "GET /holds/{hold_id}": PURCHASE_BUDGET_SECONDS,
    "POST /holds/{hold_id}/confirm": PURCHASE_BUDGET_SECONDS,
    "POST /holds/{hold_id}/extend": PURCHASE_BUDGET_SECONDS,
    "DELETE /holds/{hold_id}": PURCHASE_BUDGET_SECONDS,
    "GET /inventory": CATALOGUE_BUDGET_SECONDS,
    "POST /purchases/{purchase_id}/refund": REFUND_BUDGET_SECONDS,
    "POST /reset": CATALOGUE_BUDGET_SECONDS,
    "PUT /items/{item_id}": CATALOGUE_BUDGET_SECONDS,
    "POST /items/{item_id}/pause": CATALOGUE_BUDGET_SECONDS,
    "POST /items/{item_id}/resume": CATALOGUE_BUDGET_SECONDS,
    "GET /audit/{item_id}": AUDIT_BUDGET_SECONDS,
    "POST /audit/{item_id}/repair": AUDIT_BUDGET_SECONDS,
    "GET /export/{item_id}": AUDIT_BUDGET_SECONDS,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request. route: method and resource. key: its Idempotency-Key."""

    route: str
    body: Mapping[str, Any] | None = None
    key: str | None = None
    path_parameters: Mapping[str, str] | None = None
    query: Mapping[str, str] | None = None

    @property
    def seconds_max(self) -> float:
        """Return how long the call may be served: its budget, and a last store call."""
        return _BUDGETS_SECONDS[self.route] + STORE_CALL_SECONDS_MAX


@dataclass(frozen=True, slots=True)
class ServiceResponse:
    """What a caller gets: the part of a response that `proof.responses` reads."""

    status_code: int
    content: bytes
    headers: Mapping[str, str]

    @property
    def text(self) -> str:
        """Return the body as text."""
        return self.content.decode()


@dataclass(frozen=True, slots=True)
class FunctionLog:
    """The log of one environment. clock: its own. lines: of all environments."""

    clock: Callable[[], float]
    lines: list[dict[str, Any]]

    def report(self, request: Request, reply: Reply, began_at: float) -> None:
        """Add the line of a request, as `Telemetry` writes it."""
        now = self.clock()
        line = log_line(request, reply, (now - began_at) * 1000)
        number = str(len(self.lines))
        self.lines.append(line | {"timestamp": timestamp(now), "request_id": number})


def serve(call: Call, services: Services, log: FunctionLog | None = None) -> ServiceResponse:
    """Return the response of the call's handler, as `Function` makes it.

    log: None: nothing is logged.
    """
    began_at = log.clock() if log else 0.0
    method, resource = call.route.split()
    event = {
        "httpMethod": method,
        "resource": resource,
        "headers": {} if call.key is None else {"Idempotency-Key": call.key},
        "body": None if call.body is None else json.dumps(call.body),
        "pathParameters": call.path_parameters,
        "queryStringParameters": call.query,
    }
    request = Request(event, "request", "lambda-request")
    try:
        reply = HANDLERS[call.route](request, services)
    except Exception as error:
        reply = problem_of(request, error)
    if log is not None:
        log.report(request, reply, began_at)
    return ServiceResponse(reply.status, reply.text.encode(), reply.headers)
