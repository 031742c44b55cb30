"""CPU time and calls of each outcome, against the bare boto3 call that a purchase needs.

All of it in one process that is set up as Lambda sets up a function. A transport answers each call
at once: both sides build, sign and parse it, and neither pays for the network or the store.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
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
HOW_FUNCTION_CALLS: Final = (
    "calls of Python's and C's functions in that handler or bare call, counted there as well: what "
    "the tests compare, because a count is the same on a busy machine"
)


CALLS_AT_MOST: Final = {PURCHASE: 1, REFUSAL: 0, REFUSAL_WITH_KEY: 1}  # targets, of store calls
FUNCTION_CALLS_OF: Final = (BARE, PURCHASE, REFUSAL)


def rows(progress: Progress) -> Iterator[Row]:
    """Measure the CPU of all cases, and count their calls."""
    measured: dict[str, list[Pair]] = {name: [] for name in (BARE, *CASES)}
    for name, *pair in output_of("benchmarks.cpu", str(PAIRS)):
        measured[name].append((pair[0], pair[1]))
        progress(f"CPU of {name}, {len(measured[name])} of {PAIRS} pairs")
    yield Row.ratio(f"CPU of {BARE}", measured[BARE], HOW_BARE)
    for name, case in CASES.items():
        yield Row.ratio(f"CPU of {name}", measured[name], HOW, at_most=case.cpu_at_most)
    yield from counts()


def counts(functions: Path = FUNCTIONS) -> Iterator[Row]:
    """Count the calls that cases make. functions: where they are imported from."""
    store, of_functions = dict[str, int](), dict[str, int]()
    for name, *counted in output_of("benchmarks.cpu", functions=functions):
        store[name], of_functions[name] = counted
    for name, at_most in CALLS_AT_MOST.items():
        yield Row(f"calls of {name}", store[name], "", HOW_CALLS, at_most=at_most)
    for name in FUNCTION_CALLS_OF:
        yield Row(f"function calls of {name}", of_functions[name], "", HOW_FUNCTION_CALLS)


def main(pairs: int) -> None:
    """Print each case's pairs, in microseconds of CPU; without pairs, its calls.

    Calls: of the store, and of functions.
    """
    output = take_output()
    payload = Lambda(CASES[PURCHASE], selling()).payload()
    default = Transport(selling()).attach(boto3.client("dynamodb"))
    transport = Transport(selling())
    tuned = transport.attach(connect())

    def measure(name: str, call: Callable[[], object], transport: Transport) -> None:
        call()  # now it knows the sale
        if not pairs:
            print(json.dumps([name, *_calls(call, transport)]), file=output)
        ours = partial(_microseconds, call)
        theirs = partial(_microseconds, lambda: default.transact_write_items(**payload))
        for pair in interleaved(ours, theirs, pairs):
            print(json.dumps([name, *pair]), file=output)

    measure(BARE, lambda: tuned.transact_write_items(**payload), transport)
    for name, function in environments():
        measure(name, function, function.transport)


def _microseconds(call: Callable[[], object]) -> float:
    """Return the CPU time of one call, of a batch after one that refreshes the cache."""
    call()
    began = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - began) / CALLS * 1e6


def _calls(call: Callable[[], object], transport: Transport) -> tuple[int, int]:
    """Return how many calls of the store, and how many of functions, one call makes."""
    before, of_functions = transport.calls, 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal of_functions
        of_functions += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(None)
    return transport.calls - before, of_functions


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 0)
