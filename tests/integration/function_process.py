"""A process of the functions on a real engine, with faults at the transport under botocore.

It tells its parent before each call of the engine and after each reply, so that the parent knows
in which moment it killed it.
"""

import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from multiprocessing.connection import Connection
from typing import Any, Final, cast

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session
from moto.core.botocore_stubber import MockRawResponse
from msgspec import Struct

from simulation.client import Failure
from simulation.dynamodb import CONFLICT, IN_ORDER, cancelled
from simulation.service import Call, serve
from simulation.world import EPOCH_SECONDS
from ticketing.limits import (
    CLOCK_SKEW_SECONDS,
    CONNECT_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
)
from ticketing.retry import Runtime
from ticketing.store.client import connect
from ticketing.wiring import Services, build_services

WRITES: Final = frozenset({"TransactWriteItems", "UpdateItem", "PutItem", "DeleteItem"})
DELAY_SECONDS: Final = (0.0, 0.4)
LATE_SECONDS: Final = (0.0, 2.0)


class TransportFault(StrEnum):
    """What happens to a call at the transport."""

    REQUEST_LOST = "request lost"  # not carried out, and the SDK times out
    REPLY_LOST = "reply lost"  # carried out, and the SDK times out
    LATE = "late"  # the SDK times out, and then it is carried out, unless the process is killed
    CONFLICT = "conflict"  # refused for another transaction
    THROTTLED = "throttled"
    ERROR = "error"  # carried out, and answered with a server error
    REQUEST_DELAYED = "request delayed"
    REPLY_DELAYED = "reply delayed"


# Chosen: how often, of 100. Delays make the moments long in which a kill proves something.
READ_RATES: Final = {
    None: 90,
    TransportFault.REQUEST_LOST: 2,
    TransportFault.THROTTLED: 3,
    TransportFault.ERROR: 2,
    TransportFault.REPLY_DELAYED: 3,
}
WRITE_RATES: Final = {
    None: 10,
    TransportFault.REQUEST_LOST: 2,
    TransportFault.REPLY_LOST: 5,
    TransportFault.LATE: 3,
    TransportFault.CONFLICT: 8,
    TransportFault.THROTTLED: 4,
    TransportFault.ERROR: 3,
    TransportFault.REQUEST_DELAYED: 5,
    TransportFault.REPLY_DELAYED: 60,
}


class Job(Struct, frozen=True):
    """What the parent asks for.

    began_at: second 0 of its world, by the monotonic clock. has_faults: whether the store's calls
    meet some.
    """

    call: Call
    began_at: float
    has_faults: bool


class Sent(Struct, frozen=True):
    """A call of the engine begins. is_late: it will be carried out later."""

    operation: str
    is_late: bool = False


class Replied(Struct, frozen=True):
    """Its reply has come."""


def operation_of(request: AWSPreparedRequest) -> str:
    """Return the operation of DynamoDB that is called."""
    target: Any = request.headers["X-Amz-Target"]
    return str(target.decode().split(".")[1])


class Transport:
    """Sends all calls of one client, and lets some of them fail."""

    def __init__(self, tell: Callable[[object], None], draw: random.Random) -> None:
        self.has_faults = False
        self._tell = tell
        self._draw = draw
        settings: Any = {
            "timeout": (CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS),
            "socket_options": [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],  # as a client's own
        }
        self._session = URLLib3Session(**settings)

    def send(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        """Return the reply to a call, in the place of botocore's own transport."""
        fault: TransportFault | None = None
        operation = operation_of(request)
        if self.has_faults:
            rates = WRITE_RATES if operation in WRITES else READ_RATES
            fault = self._draw.choices(tuple(rates), tuple(rates.values()))[0]
        match fault:
            case TransportFault.REQUEST_LOST:
                raise ReadTimeoutError(endpoint_url=request.url)
            case TransportFault.LATE:
                self._send_late(operation, request)
                raise ReadTimeoutError(endpoint_url=request.url)
            case TransportFault.THROTTLED:
                return _refusal(request, Failure("ThrottlingException", "Too many requests"))
            case TransportFault.CONFLICT:
                return self._conflict(operation, request)
            case TransportFault.REQUEST_DELAYED:
                self._delay()
        is_delayed = fault is TransportFault.REPLY_DELAYED
        response = self._carry_out(operation, request, is_delayed=is_delayed)
        if fault is TransportFault.REPLY_LOST:
            raise ReadTimeoutError(endpoint_url=request.url)
        if fault is TransportFault.ERROR:
            return _refusal(request, Failure("InternalServerError", "Failed", status=500))
        return response

    def _carry_out(
        self, operation: str, request: AWSPreparedRequest, *, is_delayed: bool
    ) -> AWSResponse:
        self._tell(Sent(operation))
        response = self._session.send(request)
        if is_delayed:
            self._delay()
        self._tell(Replied())
        return response

    def _delay(self) -> None:
        time.sleep(self._draw.uniform(*DELAY_SECONDS))

    def _send_late(self, operation: str, request: AWSPreparedRequest) -> None:
        self._tell(Sent(operation, is_late=True))
        seconds = self._draw.uniform(*LATE_SECONDS)
        late = threading.Timer(seconds, self._session.send, [request])
        late.daemon = True  # It ends with the process.
        late.start()

    def _conflict(self, operation: str, request: AWSPreparedRequest) -> AWSResponse:
        if operation != "TransactWriteItems":
            failure = Failure("TransactionConflictException", CONFLICT["Message"])
            return _refusal(request, failure)
        body = json.loads(cast("bytes", request.body))
        reasons = [IN_ORDER] * len(body["TransactItems"])
        reasons[self._draw.randrange(len(reasons))] = CONFLICT
        return _refusal(request, cancelled(reasons))


def _refusal(request: AWSPreparedRequest, failure: Failure) -> AWSResponse:
    """Return an error as DynamoDB sends it."""
    body = {
        "__type": f"com.amazonaws.dynamodb.v20120810#{failure.code}",
        "message": failure.message,
        **failure.more,
    }
    raw: Any = MockRawResponse(json.dumps(body).encode())
    return AWSResponse(request.url, failure.status, HTTPHeaders(), raw)


type Build = Callable[[Any, str, Runtime], Services]


def work(connection: Connection, endpoint: str, table_name: str, seed: str, build: Build) -> None:
    """Serve one call after the other, until the parent ends the connection.

    seed: of its faults and its clock.
    """
    draw, began_at = random.Random(seed), 0.0
    transport, skew_seconds = Transport(connection.send, draw), draw.uniform(0, CLOCK_SKEW_SECONDS)
    os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = endpoint
    client: Any = connect()
    client.meta.events.register("before-send.dynamodb", transport.send)
    runtime = Runtime(clock=lambda: EPOCH_SECONDS + skew_seconds + time.monotonic() - began_at)
    services = build(client, table_name, runtime)
    while True:
        try:
            job: Job = connection.recv()
        except EOFError:
            return
        began_at, transport.has_faults = job.began_at, job.has_faults
        connection.send(serve(job.call, services))


def build_two_steps(client: Any, table_name: str, runtime: Runtime) -> Services:
    """Return use cases that take tickets in one transaction and write their record in another.

    The first one checks the record's condition, too. So most is well until a process dies between
    the two.
    """
    two_steps: Any = TwoSteps(client)
    return build_services(two_steps, table_name, runtime)


class TwoSteps:
    """A client that makes two transactions of one with a new record."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def transact_write_items(self, *, TransactItems: Sequence[Any]) -> Any:  # noqa: N803
        """Carry out the transaction, counters first."""
        records = [action for action in TransactItems if _is_new_record(action)]
        first = [_check_of(each) if _is_new_record(each) else each for each in TransactItems]
        answer = self._client.transact_write_items(TransactItems=first)
        return self._client.transact_write_items(TransactItems=records) if records else answer


def _is_new_record(action: Any) -> bool:
    put = action.get("Put", {})
    is_new = put.get("ConditionExpression") == "attribute_not_exists(pk)"
    return is_new and str(put["Item"]["pk"]["S"]).startswith("purchase#")


def _check_of(action: Any) -> Any:
    """Return the check of a put's condition alone."""
    put = action["Put"]
    kept = ("TableName", "ConditionExpression", "ReturnValuesOnConditionCheckFailure")
    check = {name: put[name] for name in kept if name in put}
    return {"ConditionCheck": {**check, "Key": {"pk": put["Item"]["pk"]}}}
