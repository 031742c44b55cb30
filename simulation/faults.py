"""What goes wrong between a function and its store, each with a rate.

A call that is lost or late ends for the function as a time-out of the SDK, with the settings of
`ticketing.store.client`. Faults stop at an instant, so that every request can end.
"""

import random
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from itertools import accumulate
from typing import Any, Final

from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from greenlet import GreenletExit
from msgspec import Struct

from simulation.client import Failure
from simulation.dynamodb import DynamoDB
from simulation.journal import Entry, Journal
from simulation.latency import PLAIN_SECONDS
from simulation.world import World
from ticketing.limits import CONNECT_TIMEOUT_SECONDS, LATE_COMMIT_SECONDS, READ_TIMEOUT_SECONDS

ENDPOINT: Final = "https://dynamodb"
# A call that takes effect late does so within the time that the guarantees assume, of which one
# second is left for the call itself.
LATE_SECONDS_MAX: Final = LATE_COMMIT_SECONDS - 1.0
FREEZE_SECONDS: Final = (0.05, 12.0)
OUTAGE_SECONDS: Final = (0.5, 6.0)
# A seed draws the share of faults that it has at all, a rate for each of them, and a factor for all
# rates. What many faults hide, a calm seed shows; what needs several of them, a stormy one.
SHARES: Final = (0.15, 0.5, 0.8)
RATES: Final = (0.003, 0.01, 0.04)
FACTORS: Final = (0.3, 1.0, 3.0)


class Fault(StrEnum):
    """What may happen to a store call, or to the environment that makes it."""

    UNREACHABLE = "unreachable"  # no connection: nothing is sent
    REQUEST_LOST = "request_lost"  # sent, and never carried out
    REPLY_LOST = "reply_lost"  # carried out, and the answer never comes
    LATE = "late"  # carried out up to LATE_SECONDS_MAX later
    THROTTLED = "throttled"  # refused for the table's or the account's limit
    ERROR_BEFORE = "error_before"  # a server error; not carried out
    ERROR_AFTER = "error_after"  # a server error; carried out
    KILLED_BEFORE = "killed_before"  # the environment dies before it sends
    KILLED_IN_FLIGHT = "killed_in_flight"  # it dies after it sent
    KILLED_AFTER = "killed_after"  # it dies with the answer
    FROZEN_BEFORE = "frozen_before"  # it stands still, and sends later what it had planned
    FROZEN_AFTER = "frozen_after"  # it stands still, and reads the answer later
    # Not of one call:
    CLOCK_SKEW = "clock_skew"  # clocks are apart
    OUTAGE = "outage"  # the store does not respond to anyone for seconds
    RESET = "reset"  # the organiser resets the sale in the middle
    IMPATIENCE = "impatience"  # callers end the connection, and send again or not
    REFUND = "refund"  # the organiser refunds purchases
    HOLD = "hold"  # buyers hold tickets before they buy them, or go away
    LIMIT = "limit"  # the sale has a limit for each buyer, and buyers send several requests
    PAUSE = "pause"  # the organiser pauses and resumes the sale, and moves its window
    RESIZE = "resize"  # the organiser changes the sale's capacity and adds shards
    REPAIR = "repair"  # the organiser audits and repairs the sale, of which nothing is broken


ALL_FAULTS: Final = frozenset(Fault)
OF_A_CALL: Final = tuple(Fault)[: tuple(Fault).index(Fault.CLOCK_SKEW)]


class Faults(Struct, frozen=True):
    """The faults of one simulation. rates: fault → share of the store calls; others: 1 or 0."""

    rates: Mapping[Fault, float] = {}

    @classmethod
    def drawn(cls, seed: int, only: frozenset[Fault]) -> "Faults":
        """Return the faults of a seed, of these only. The others' rates do not depend on it."""
        draw = random.Random(f"{seed}/faults")
        share, factor = draw.choice(SHARES), draw.choice(FACTORS)
        drawn = {
            fault: factor * draw.choice(RATES) if fault in OF_A_CALL else 1.0
            for fault in Fault
            if draw.random() < share
        }
        return cls({fault: rate for fault, rate in drawn.items() if fault in only})

    def __contains__(self, fault: Fault) -> bool:
        return fault in self.rates


class Killed(GreenletExit):
    """Ends a function in the middle, as SIGKILL does: no `except Exception` can see it."""


class Trouble:
    """All faults of one run: decides what happens to each call, and counts it.

    There are none before `start`, and none after the seconds that it is given.
    """

    def __init__(self, world: World, faults: Faults, journal: Journal | None) -> None:
        self.counts: Counter[Fault] = Counter()
        self.journal = journal
        self._world = world
        self._draw = world.random("trouble")
        self._has_outages = Fault.OUTAGE in faults
        self._ends_at = 0.0
        of_a_call = {fault: rate for fault, rate in faults.rates.items() if fault in OF_A_CALL}
        self._kinds = tuple(of_a_call)
        self._bounds = tuple(accumulate(of_a_call.values()))
        self._outages: list[tuple[float, float]] = []

    def start(self, seconds: float) -> None:
        """Let faults happen from now on, for so many seconds; outages early in them."""
        self._ends_at = self._world.now + seconds
        if self._has_outages:
            start = self._world.now + seconds * self._draw.random() ** 3
            end = min(self._ends_at, start + self._draw.uniform(*OUTAGE_SECONDS))
            self._outages.append((start, end))

    def next(self) -> Fault | None:
        """Return what happens to the next call; None: nothing."""
        now = self._world.now
        if now >= self._ends_at:
            return None
        fault = self._drawn(now)
        if fault is not None:
            self.counts[fault] += 1
        return fault

    def _drawn(self, now: float) -> Fault | None:
        if any(start <= now < end for start, end in self._outages):
            return self._draw.choice((Fault.REQUEST_LOST, Fault.REPLY_LOST, Fault.LATE))
        if not self._bounds:
            return None
        chance = self._draw.random()
        for fault, bound in zip(self._kinds, self._bounds, strict=True):
            if chance < bound:
                return fault
        return None

    def late_seconds(self) -> float:
        """Return how late a late call arrives."""
        return self._draw.uniform(0.0, LATE_SECONDS_MAX)

    def freeze_seconds(self) -> float:
        """Return how long an environment stands still: mostly short."""
        low, high = FREEZE_SECONDS
        return low + (high - low) * self._draw.random() ** 3


class Connection:
    """The connection of one environment to the store. `call` is what a `Client` sends with.

    serving: the label of the request that the environment serves.
    """

    def __init__(self, number: int, world: World, model: DynamoDB, trouble: Trouble) -> None:
        self.frozen_seconds = 0.0
        self.serving = ""
        self._number = number
        self._world = world
        self._model = model
        self._trouble = trouble

    def call(self, operation: str, request: Mapping[str, Any]) -> Any:
        """Return the answer of a call. Raises what botocore raises, and Killed."""
        fault = self._trouble.next()
        if self._trouble.journal is None:
            return self._carry_out(fault, operation, request)
        began_at, answer = self._world.now, None
        try:
            answer = self._carry_out(fault, operation, request)
        except BaseException as error:
            answer = error
            raise
        finally:
            self._trouble.journal.note(
                Entry(
                    began_at=began_at,
                    ended_at=self._world.now,
                    environment=self._number,
                    serving=self.serving,
                    operation=operation,
                    request=request,
                    fault=fault,
                    answer=answer,
                )
            )
        return answer

    def _carry_out(self, fault: Fault | None, operation: str, request: Mapping[str, Any]) -> Any:
        match fault:
            case None:
                return self._answer(operation, request)
            case Fault.UNREACHABLE:
                self._world.sleep(CONNECT_TIMEOUT_SECONDS)
                raise ConnectTimeoutError(endpoint_url=ENDPOINT)
            case Fault.REQUEST_LOST:
                self._time_out()
            case Fault.REPLY_LOST:
                self._model.submit(operation, request, _drop)
                self._time_out()
            case Fault.LATE:
                return self._answer(operation, request, self._trouble.late_seconds())
            case Fault.THROTTLED:
                self._world.sleep(PLAIN_SECONDS)
                return Failure("ThrottlingException", "Throughput exceeds the current capacity")
            case Fault.ERROR_BEFORE | Fault.ERROR_AFTER:
                if fault is Fault.ERROR_AFTER:
                    self._answer(operation, request)
                return Failure("InternalServerError", "Internal server error", status=500)
            case Fault.KILLED_BEFORE | Fault.KILLED_IN_FLIGHT | Fault.KILLED_AFTER:
                self._die(fault, operation, request)
            case _:
                return self._frozen(fault, operation, request)
        raise AssertionError("the call has ended")

    def _answer(self, operation: str, request: Mapping[str, Any], delay: float = 0.0) -> Any:
        def send(reply: Any) -> None:
            if delay:
                self._world.after(delay, self._model.submit, operation, request, reply)
            else:
                self._model.submit(operation, request, reply)

        try:
            return self._world.wait_at_most(READ_TIMEOUT_SECONDS, send)
        except TimeoutError:
            raise ReadTimeoutError(endpoint_url=ENDPOINT) from None

    def _time_out(self) -> None:
        self._world.sleep(READ_TIMEOUT_SECONDS)
        raise ReadTimeoutError(endpoint_url=ENDPOINT)

    def _die(self, fault: Fault, operation: str, request: Mapping[str, Any]) -> None:
        if fault is Fault.KILLED_IN_FLIGHT:
            self._model.submit(operation, request, _drop)
        if fault is Fault.KILLED_AFTER:
            self._answer(operation, request)
        raise Killed

    def _frozen(self, fault: Fault, operation: str, request: Mapping[str, Any]) -> Any:
        if fault is Fault.FROZEN_BEFORE:
            self._freeze()
            return self._answer(operation, request)
        answer = self._answer(operation, request)
        self._freeze()
        return answer

    def _freeze(self) -> None:
        seconds = self._trouble.freeze_seconds()
        self.frozen_seconds += seconds
        self._world.sleep(seconds)


def _drop(_answer: object) -> None:
    """Take an answer that no one waits for."""
