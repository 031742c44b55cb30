"""CPU time of each outcome, against the bare boto3 call that a purchase needs.

All of it in one process that is set up as Lambda sets up a function. A transport answers each call
at once: both sides build, sign and parse it, and neither pays for the network or the store.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import boto3

from benchmarks.cases import BARE, CASES, PURCHASE, REFUSAL, REFUSAL_WITH_KEY, Lambda, environments
from benchmarks.process import FUNCTIONS, output_of, take_output
from benchmarks.report import Pair, Progress, Row, interleaved
from benchmarks.transport import Transport, selling
from ticketing.store.client import connect

PAIRS: Final = 60
CALLS: Final = 200  # in a batch, which takes a part of the second for which "sold out" is cached
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


def main(pairs: int) -> None:
    """Print how many store calls each case makes, and its pairs in microseconds of CPU."""
    output = take_output()
    payload = Lambda(CASES[PURCHASE], selling()).payload()
    default = Transport(selling()).attach(boto3.client("dynamodb"))
    tuned = Transport(selling()).attach(connect())

    def measure(name: str, call: Callable[[], object]) -> None:
        ours = partial(_microseconds, call)
        theirs = partial(_microseconds, lambda: default.transact_write_items(**payload))
        for pair in interleaved(ours, theirs, pairs):
            print(json.dumps([name, *pair]), file=output)

    print(json.dumps([BARE, 1]), file=output)
    measure(BARE, lambda: tuned.transact_write_items(**payload))
    for name, function in environments():
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
