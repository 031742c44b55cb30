"""What is explored: a few callers, and how far each of them is."""

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from itertools import accumulate
from typing import Any, Final, NamedTuple

from botocore.exceptions import ReadTimeoutError
from msgspec import Struct

from organiser.client import BUSY_STATUSES, UNKNOWN_STATUSES
from proof.responses import STATUS_CREATED, STATUS_OK
from simulation.client import Client, Failure
from simulation.dynamodb import CONFLICT, IN_ORDER, cancelled
from simulation.faults import ENDPOINT, Killed
from simulation.sale import TABLE, Build
from simulation.service import Call, ServiceResponse, serve
from simulation.workload import ITEM
from simulation.world import EPOCH_SECONDS
from ticketing.retry import Runtime
from ticketing.rules import make_order
from ticketing.wiring import Services

SEED: Final = 1
BUY: Final = "POST /buy_ticket"
HOLD: Final = "POST /holds"
# Clocks of two environments differ by so much at least, and so does what they write.
CLOCK_STEP_SECONDS: Final = 0.001


class Accident(StrEnum):
    """What may happen to a store call.

    After TIMED_OUT and KILLED the call is still on its way: a later step carries it out, at once or
    after many others, or it is lost.
    """

    TIMED_OUT = "timed out"  # the function gets no answer
    KILLED = "killed"  # its environment dies
    CONFLICT = "conflict"  # refused, because another transaction has one of its items


class SmallWorld(Struct, frozen=True):
    """What is explored.

    begun: what was done before: a reset, then purchases and holds. callers: the requests of each,
    in order. Each is sent until its answer is definite, the next one only after a success.
    constant: keys that no call of the callers writes, so that reading them is no step. accidents:
    how many happen at most. interruptions: how often, at most, a caller who can go on waits for
    another one; None: in all possible ways. passing: seconds that pass at some instant, one after
    the other; otherwise the clock stands still. ahead: by how many seconds each caller's clocks are
    ahead. resting: seconds until all is looked at, at the end. seed: of what the functions draw.
    """

    name: str
    begun: Sequence[Call]
    callers: Sequence[Sequence[Call]]
    constant: frozenset[str] = frozenset()
    accidents: int = 0
    interruptions: int | None = None
    passing: Sequence[float] = ()
    ahead: Sequence[float] = ()
    resting: float = 2.0
    seed: int = SEED

    def seconds(self, passed: int) -> float:
        """Return the time after so many parts of it have passed."""
        return [0.0, *accumulate(self.passing)][passed]


def purchase_id(call: Call) -> str:
    """Return the id of the purchase or hold that a request with a key makes."""
    body = call.body or {}
    order = make_order(
        ITEM,
        body["quantity"],
        body.get("buyer_id"),
        call.key,
        random.Random(0),
        is_hold=call.route == HOLD,
    )
    return order.purchase_id


class Answered(NamedTuple):
    """An attempt that has ended. number: of the request. response: None where it was killed."""

    number: int
    response: ServiceResponse | None


class Heard(NamedTuple):
    """What a caller's functions heard from the store, or that time has passed.

    answer: None where time has passed before a request is sent. passed: how many parts of it.
    is_step: others may have made calls before this one.
    """

    answer: Any
    passed: int
    is_step: bool


class _Unanswered(BaseException):
    """Ends a replay at a call that was not answered yet. No `except Exception` can see it."""


class Replay:
    """A caller, from its first request to the first store call that is not answered yet.

    All of it is a function of what it heard. pending: the call that it makes next; None: it has
    ended. has_begun: others may have made calls since the attempt in progress was sent. begun_at:
    how much it had heard before that. answered: the attempts that have ended.
    """

    def __init__(
        self, small: SmallWorld, caller: int, heard: Sequence[Heard], build: Build
    ) -> None:
        self.pending: tuple[str, Mapping[str, Any]] | None = None
        self.has_begun = False
        self.begun_at = 0
        self.answered: list[Answered] = []
        self._small = small
        self._caller = caller
        self._heard = heard
        self._build = build
        self._used = 0
        self._environments = 0
        self._slept = 0.0
        with suppress(_Unanswered):
            self._send_all()

    def _send_all(self) -> None:
        services = self._start_environment()
        for number, call in enumerate(self._small.callers[self._caller]):
            response = None
            while response is None or not _is_definite(response):
                self._begin()
                try:
                    response = serve(call, services)
                except Killed:
                    response, services = None, self._start_environment()
                self.answered.append(Answered(number, response))
            if not is_done(response):
                return

    def _begin(self) -> None:
        """Begin an attempt, after the time that passed before it."""
        self.has_begun, self.begun_at = False, self._used
        while self._used < len(self._heard) and self._heard[self._used].answer is None:
            self._used += 1

    def _start_environment(self) -> Services:
        self._environments += 1
        draw = random.Random(f"{self._small.seed}/{self._caller}/{self._environments}")
        client: Any = Client(self._call)
        return self._build(client, TABLE, Runtime(self._clock, draw, self._sleep))

    def _clock(self) -> float:
        """Return the time. Sleeping takes no time for others: they are as fast as they like."""
        passed = self._heard[self._used - 1].passed if self._used else 0
        ahead = self._small.ahead[self._caller] if self._small.ahead else 0.0
        number = self._caller * 10 + self._environments
        seconds = self._small.seconds(passed) + ahead + number * CLOCK_STEP_SECONDS
        return EPOCH_SECONDS + seconds + self._slept

    def _sleep(self, seconds: float) -> None:
        self._slept += seconds

    def _call(self, operation: str, request: Mapping[str, Any]) -> Any:
        if operation != "BatchGetItem":
            return self._answer(operation, request)
        ((table, wanted),) = request["RequestItems"].items()
        found = []
        for key in wanted["Keys"]:
            one = {"TableName": table, "Key": key, "ConsistentRead": wanted["ConsistentRead"]}
            answer = self._answer("GetItem", one)
            found += [answer["Item"]] if "Item" in answer else []
        return {"Responses": {table: found}, "UnprocessedKeys": {}}

    def _answer(self, operation: str, request: Mapping[str, Any]) -> Any:
        if self._used == len(self._heard):
            self.pending = operation, request
            raise _Unanswered
        answer, _, is_step = self._heard[self._used]
        self._used += 1
        self.has_begun |= is_step
        match answer:
            case Accident.TIMED_OUT:
                raise ReadTimeoutError(endpoint_url=ENDPOINT)
            case Accident.KILLED:
                raise Killed
        return answer


def is_done(response: ServiceResponse) -> bool:
    """Return whether a request was carried out."""
    return response.status_code in (STATUS_OK, STATUS_CREATED)


def _is_definite(response: ServiceResponse) -> bool:
    return response.status_code not in BUSY_STATUSES | UNKNOWN_STATUSES


def conflict(operation: str, request: Mapping[str, Any], position: int) -> Failure:
    """Return the answer to a write that meets a transaction. position: at which of its items."""
    if not operation.startswith("Transact"):
        return Failure("TransactionConflictException", CONFLICT["Message"])
    reasons = [IN_ORDER] * len(request["TransactItems"])
    reasons[position] = CONFLICT
    return cancelled(reasons)
