"""CPU time of each outcome, against the bare boto3 call that a purchase needs.

All of it in one process that is set up as Lambda sets up a function. A transport answers each call
at once: both sides build, sign and parse it, and neither pays for the network or the store.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import boto3

import buy_ticket.app
import hold_ticket.app
from benchmarks.process import FUNCTIONS, ROOT, output_of, take_output
from benchmarks.report import Pair, Progress, Row, interleaved
from benchmarks.transport import Answer, Transport, replaying, selling, sold_out
from ticketing.api.serving import Function
from ticketing.store.client import connect
from ticketing.wiring import build_services

PAIRS: Final = 60
CALLS: Final = 200  # in a batch, which takes a part of the second for which "sold out" is cached
HANDLERS: Final = {"buy_ticket": buy_ticket.app.HANDLERS, "hold_ticket": hold_ticket.app.HANDLERS}
CONTEXT: Final = SimpleNamespace(aws_request_id="b5a2ad0c-2f2c-4f4e-9d0b-8a1f0b6f2b11")
WITH_KEY: Final = "buy_ticket/with_key.json"
BARE: Final = "the bare call, tuned client"
HOW: Final = (
    "CPU of the handler, from API Gateway's event to its result, against the bare "
    "`transact_write_items` of the same purchase by a boto3 client with default settings, both on "
    "a transport that answers at once"
)
HOW_BARE: Final = (
    "CPU of a purchase's bare `transact_write_items` by the functions' client, against a boto3 "
    "client with default settings, both on a transport that answers at once"
)
HOW_CALLS: Final = "store calls of that handler, counted on the same transport"


@dataclass(frozen=True, slots=True)
class Case:
    """One outcome of a request.

    event: its file. status: of the response. cpu_at_most: the target, in bare calls; None: it has
    none.
    """

    event: str
    status: HTTPStatus
    cpu_at_most: float | None = None


PURCHASE: Final = "a purchase"
HOLD: Final = "a hold"
CONFIRMATION: Final = "a confirmation"
REPLAY: Final = "a replay"
REFUSAL: Final = "a refusal, no key"
REFUSAL_WITH_KEY: Final = "a refusal, with a key"
CASES: Final[Mapping[str, Case]] = {
    PURCHASE: Case(WITH_KEY, HTTPStatus.CREATED, cpu_at_most=1.0),
    HOLD: Case("hold_ticket/hold.json", HTTPStatus.CREATED),
    CONFIRMATION: Case("hold_ticket/confirm.json", HTTPStatus.CREATED),
    REPLAY: Case(WITH_KEY, HTTPStatus.OK),
    REFUSAL: Case("buy_ticket/empty_body.json", HTTPStatus.CONFLICT, cpu_at_most=0.15),
    REFUSAL_WITH_KEY: Case(WITH_KEY, HTTPStatus.CONFLICT),
}
CALLS_AT_MOST: Final = {PURCHASE: 1, REFUSAL: 0, REFUSAL_WITH_KEY: 1}  # targets, of store calls


def rows(progress: Progress, pairs: int = PAIRS, functions: Path = FUNCTIONS) -> Iterator[Row]:
    """Measure all cases. functions: where they are imported from."""
    calls: dict[str, int] = {}
    measured: dict[str, list[Pair]] = {}
    for name, *figures in output_of("benchmarks.cpu", str(pairs), functions=functions):
        if len(figures) == 1:
            calls[name], measured[name] = figures[0], []
        else:
            measured[name].append((figures[0], figures[1]))
            progress(f"CPU of {name}, {len(measured[name])} of {pairs} pairs")
    yield Row.ratio(f"CPU of {BARE}", measured[BARE], HOW_BARE)
    for name, case in CASES.items():
        yield Row.ratio(f"CPU of {name}", measured[name], HOW, at_most=case.cpu_at_most)
    for name, at_most in CALLS_AT_MOST.items():
        yield Row(f"calls of {name}", calls[name], "", HOW_CALLS, at_most=at_most)


class Lambda:
    """A function in an environment of its own, and the transport below it."""

    def __init__(self, case: Case, answers: Mapping[str, Answer]) -> None:
        self.transport = Transport(answers)
        self.client = self.transport.attach(connect())
        name = case.event.partition("/")[0]
        self._function = Function(HANDLERS[name], build_services(self.client))
        self._event = json.loads((ROOT / "events" / case.event).read_text())
        self._status = case.status

    def __call__(self) -> None:
        """Handle the case's request. Raises AssertionError for another outcome."""
        result = self._function(self._event, CONTEXT)
        if result["statusCode"] != self._status:
            raise AssertionError(result)

    def payload(self) -> Any:
        """Return the arguments with which the case calls transact_write_items."""
        found: list[Any] = []
        event = "provide-client-params.dynamodb.TransactWriteItems"
        self.client.meta.events.register(event, lambda params, **_: found.append(params.copy()))
        self()
        return found[0]


def main(pairs: int) -> None:
    """Print how many store calls each case makes, and its pairs in microseconds of CPU."""
    output = take_output()
    payload = Lambda(CASES[PURCHASE], selling()).payload()
    hold = Lambda(CASES[HOLD], selling()).payload()
    record, held = (each["TransactItems"][1]["Put"]["Item"] for each in (payload, hold))
    default = Transport(selling()).attach(boto3.client("dynamodb"))
    tuned = Transport(selling()).attach(connect())
    answers = {
        CONFIRMATION: selling(held),
        REPLAY: replaying(record),
        REFUSAL: sold_out(),
        REFUSAL_WITH_KEY: sold_out(),
    }

    def measure(name: str, call: Callable[[], object]) -> None:
        ours = partial(_microseconds, call)
        theirs = partial(_microseconds, lambda: default.transact_write_items(**payload))
        for pair in interleaved(ours, theirs, pairs):
            print(json.dumps([name, *pair]), file=output)

    print(json.dumps([BARE, 1]), file=output)
    measure(BARE, lambda: tuned.transact_write_items(**payload))
    for name, case in CASES.items():
        function = Lambda(case, answers.get(name, selling()))
        function()  # now it knows the sale
        before = function.transport.calls
        function()
        print(json.dumps([name, function.transport.calls - before]), file=output)
        measure(name, function)


def _microseconds(call: Callable[[], object]) -> float:
    """Return the CPU time of one call, of a batch after one that refreshes the cache."""
    call()
    began = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - began) / CALLS * 1e6


if __name__ == "__main__":
    main(int(sys.argv[1]))
