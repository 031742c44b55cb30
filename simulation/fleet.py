"""Function environments behind a gateway, as Lambda starts, uses and loses them."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from simulation.faults import Connection, Killed
from simulation.world import World
from ticketing.wiring import Services

# Chosen: one way between a caller and a function, and what starting an environment takes.
GATEWAY_SECONDS = (0.002, 0.02)
COLD_START_SECONDS = 0.4


class NoAnswer(StrEnum):
    """What the caller gets where the function gives no answer."""

    THROTTLED = "throttled"  # 429: all environments are busy, and the function was not called
    FAILED = "failed"  # 502: the environment died
    TIMED_OUT = "timed_out"  # the caller waited long enough


@dataclass(frozen=True, eq=False, slots=True)
class Environment:
    """A process of the functions: its own caches, clock and connection. Serves one request."""

    services: Services
    connection: Connection


@dataclass(frozen=True, slots=True)
class Overdue:
    """A request that was served for longer than it may take, standstills not counted."""

    at: float
    seconds: float
    seconds_max: float


@dataclass(frozen=True, slots=True)
class _Handler[Answer]:
    serve: Callable[[Services], Answer]
    seconds_max: float
    label: str


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

    def request[Answer](
        self,
        serve: Callable[[Services], Answer],
        *,
        timeout_seconds: float,
        seconds_max: float,
        label: str,
    ) -> Answer | NoAnswer:
        """Return what a function answers to one request.

        serve: the handler. It has the environment's use cases, and catches their errors.
        timeout_seconds: how long the caller waits. seconds_max: how long it may be served. label:
        of the request, for the journal.
        """
        handler = _Handler(serve, seconds_max, label)

        def send(reply: Callable[[Answer | NoAnswer], object]) -> None:
            self._world.after(self._way(), self._arrive, handler, reply)

        try:
            return self._world.wait_at_most(timeout_seconds, send)
        except TimeoutError:
            return NoAnswer.TIMED_OUT

    def _arrive[Answer](
        self,
        handler: "_Handler[Answer]",
        reply: Callable[[Answer | NoAnswer], object],
    ) -> None:
        if self._idle:
            position = self._draw.randrange(len(self._idle))
            self._idle[position], self._idle[-1] = self._idle[-1], self._idle[position]
            self._world.start(self._serve, self._idle.pop(), handler, reply)
        elif self.started - self.deaths < self._environments_max:
            self.started += 1
            environment = self._start(self.started)
            self._world.after(
                self._start_seconds, self._world.start, self._serve, environment, handler, reply
            )
        else:
            self.throttled += 1
            self._world.after(self._way(), reply, NoAnswer.THROTTLED)

    def _serve[Answer](
        self,
        environment: Environment,
        handler: "_Handler[Answer]",
        reply: Callable[[Answer | NoAnswer], object],
    ) -> None:
        answer: Answer | NoAnswer
        began_at, connection = self._world.now, environment.connection
        stood_still = connection.frozen_seconds
        connection.serving = handler.label
        try:
            answer = handler.serve(environment.services)
        except Killed:
            self.deaths += 1
            answer = NoAnswer.FAILED
        else:
            self._idle.append(environment)
        seconds = self._world.now - began_at - (connection.frozen_seconds - stood_still)
        self.served += 1
        self.serving_seconds += seconds
        if seconds > handler.seconds_max:
            self.overdue.append(Overdue(began_at, seconds, handler.seconds_max))
        self._world.after(self._way(), reply, answer)

    def _way(self) -> float:
        return self._draw.uniform(*GATEWAY_SECONDS)
