"""The functions as Lambda calls them, with the events of events/."""

import io
import json
import logging
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import admin.app
import buy_ticket.app
import hold_ticket.app
import inventory.app
import storefront.app
from storefront.pages import Pages
from tests.support import ROOT, World
from ticketing.api.serving import Function
from ticketing.api.telemetry import Telemetry

EVENTS = ROOT / "events"
CONTEXT = SimpleNamespace(aws_request_id="1-2-3")


def load(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / name).read_text())
    return event


def buying(body: Any = None, **headers: str) -> dict[str, Any]:
    """Return events/buy_ticket/empty_body.json with another body and more headers."""
    event = load("buy_ticket/empty_body.json")
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return event | {
        "body": body if body is None or isinstance(body, str) else json.dumps(body),
        "headers": event["headers"] | names,
        "multiValueHeaders": event["multiValueHeaders"]
        | {name: [value] for name, value in names.items()},
    }


class Functions:
    """The functions, each in a process of its own on one store, and the lines that they logged."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._log = io.StringIO()
        # Powertools keeps one logger for a service's name, with the stream that it began with.
        self.service = f"test-{uuid4()}"
        telemetry = Telemetry(service=self.service, stream=self._log)
        self._functions: dict[str, Function[Any]] = {
            app.__name__.partition(".")[0]: Function(app.HANDLERS, world.services(), telemetry)
            for app in (buy_ticket.app, hold_ticket.app, inventory.app, admin.app)
        }
        self._functions["storefront"] = Function(storefront.app.HANDLERS, Pages.read(), telemetry)

    def call(self, function: str, event: Any) -> dict[str, Any]:
        result = self._functions[function](event, CONTEXT)
        json.dumps(result)
        return result

    def buy(self, body: Any = None, **headers: str) -> dict[str, Any]:
        return self.call("buy_ticket", buying(body, **headers))

    def set_level(self, level: str) -> None:
        """Set the log's level, as POWERTOOLS_LOG_LEVEL does at start."""
        logging.getLogger(self.service).setLevel(level)

    def lines(self) -> list[dict[str, Any]]:
        """Return what was logged since the last call."""
        logged = self._log.getvalue()
        self._log.seek(0)
        self._log.truncate()
        return [json.loads(line) for line in logged.splitlines()]


def header(result: dict[str, Any], name: str) -> str | None:
    values = result["multiValueHeaders"].get(name)
    return values[0] if values else None
