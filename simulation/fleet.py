"""Function environments behind a gateway, as Lambda starts, uses and loses them."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

from simulation.faults import Killed
from simulation.service import Call, ServiceResponse
from simulation.world import World

# Chosen: one way between a caller and a function, and what starting an environment takes.
GATEWAY_SECONDS = (0.002, 0.02)
COLD_START_SECONDS = 0.4
# Gateway responses of the template: all environments are busy, and the function was not called; and
# its environment died.
_TOO_MANY: Final = ServiceResponse(
    HTTPStatus.TOO_MANY_REQUESTS, b'{"code":"busy"}', {"Retry-After": "1"}
)
_BAD_GATEWAY: Final = ServiceResponse(HTTPStatus.BAD_GATEWAY, b"{}", {})


class Environment(Protocol):
    """A process of the functions: its own caches, clock and connection. Serves one request."""

    @property
    def frozen_seconds(self) -> float:
        """Return how long it stood still until now, all together."""

    def serve(self, call: Call, label: str) -> ServiceResponse:
        """Return the function's response. Raises Killed where the process ends before it.

        label: of the request, for the journal.
        """


@dataclass(frozen=True, slots=True)
class Overdue:
    """A request that was served for longer than it may take, standstills not counted."""

    at: float
    seconds: float
    seconds_max: float


@dataclass(frozen=True, slots=True)
class _Request:
    call: Call
    label: str
    reply: Callable[[ServiceResponse], object]


class Fleet:
    """All environments. Serves each request in an idle one, or starts one.

    throttled: requests that found no environment. served, serving_seconds: those that ended, and
    how long they were served, all together.
    start: returns environment number n. environments_max: of the account's quota. start_seconds:
    what a start takes; 0 where enough environments are kept ready.
    """

    def __init__(
        self,
        world: World,
        start: Callable[[int], Environment],
        environments_max: int,
        start_seconds: float,
    ) -> None:
        self.started = 0
        self.deaths = 0
        self.throttled = 0
        self.served = 0
        self.serving_seconds = 0.0
        self.overdue: list[Overdue] = []
        self._world = world
        self._start = start
        self._environments_max = environments_max
        self._draw = world.random("fleet")
        self._start_seconds = start_seconds
        self._idle: list[Environment] = []

    def request(self, call: Call, timeout_seconds: float, label: str) -> ServiceResponse | None:
        """Return the response to one request; None where the caller has waited long enough.

        label: of the request, for the journal.
        """

        def send(reply: Callable[[ServiceResponse], object]) -> None:
            self._world.after(self._way(), self._arrive, _Request(call, label, reply))

        try:
            return self._world.wait_at_most(timeout_seconds, send)
        except TimeoutError:
            return None

    def _arrive(self, request: _Request) -> None:
        if self._idle:
            position = self._draw.randrange(len(self._idle))
            self._idle[position], self._idle[-1] = self._idle[-1], self._idle[position]
            self._world.start(self._serve, self._idle.pop(), request)
        elif self.started - self.deaths < self._environments_max:
            self.started += 1
            environment = self._start(self.started)
            self._world.after(
                self._start_seconds, self._world.start, self._serve, environment, request
            )
        else:
            self.throttled += 1
            self._world.after(self._way(), request.reply, _TOO_MANY)

    def _serve(self, environment: Environment, request: _Request) -> None:
        began_at, stood_still = self._world.now, environment.frozen_seconds
        try:
            response = environment.serve(request.call, request.label)
        except Killed:
            self.deaths += 1
            response = _BAD_GATEWAY
        else:
            self._idle.append(environment)
        seconds = self._world.now - began_at - (environment.frozen_seconds - stood_still)
        self.served += 1
        self.serving_seconds += seconds
        if seconds > request.call.seconds_max:
            self.overdue.append(Overdue(began_at, seconds, request.call.seconds_max))
        self._world.after(self._way(), request.reply, response)

    def _way(self) -> float:
        return self._draw.uniform(*GATEWAY_SECONDS)
