"""Function environments behind a gateway, as Lambda starts, uses and loses them."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from greenlet import GreenletExit

from simulation.world import World
from ticketing.wiring import Services

# Chosen: one way between a caller and a function, and what starting an environment takes.
GATEWAY_SECONDS = (0.002, 0.02)
COLD_START_SECONDS = 0.4


class Killed(GreenletExit):
    """Ends a function in the middle, as SIGKILL does: no `except Exception` can see it."""


class NoAnswer(StrEnum):
    """What the caller gets where the function gives no answer."""

    THROTTLED = "throttled"  # 429: all environments are busy, and the function was not called
    FAILED = "failed"  # 502: the environment died
    TIMED_OUT = "timed_out"  # the caller waited long enough


@dataclass(eq=False, slots=True)
class Environment:
    """A process of the functions: its own caches, clock and connection. Serves one request."""

    number: int
    services: Services


class Fleet:
    """All environments. Serves each request in an idle one, or starts one.

    start: returns the use cases of a new environment. environments_max: of the account's quota.
    """

    def __init__(
        self, world: World, start: Callable[[int], Services], environments_max: int
    ) -> None:
        self.started = 0
        self.deaths = 0
        self._world = world
        self._start = start
        self._environments_max = environments_max
        self._draw = world.random("fleet")
        self._idle: list[Environment] = []

    def request[Answer](
        self, serve: Callable[[Services], Answer], timeout_seconds: float
    ) -> Answer | NoAnswer:
        """Return what a function answers to one request.

        serve: the handler. It has the environment's use cases, and catches their errors.
        """

        def send(reply: Callable[[Answer | NoAnswer], object]) -> None:
            self._world.after(self._way(), self._arrive, serve, reply)

        try:
            return self._world.wait_at_most(timeout_seconds, send)
        except TimeoutError:
            return NoAnswer.TIMED_OUT

    def _arrive[Answer](
        self,
        serve: Callable[[Services], Answer],
        reply: Callable[[Answer | NoAnswer], object],
    ) -> None:
        if self._idle:
            position = self._draw.randrange(len(self._idle))
            self._idle[position], self._idle[-1] = self._idle[-1], self._idle[position]
            self._world.start(self._serve, self._idle.pop(), serve, reply)
        elif self.started - self.deaths < self._environments_max:
            self.started += 1
            environment = Environment(self.started, self._start(self.started))
            self._world.after(
                COLD_START_SECONDS, self._world.start, self._serve, environment, serve, reply
            )
        else:
            self._world.after(self._way(), reply, NoAnswer.THROTTLED)

    def _serve[Answer](
        self,
        environment: Environment,
        serve: Callable[[Services], Answer],
        reply: Callable[[Answer | NoAnswer], object],
    ) -> None:
        answer: Answer | NoAnswer
        try:
            answer = serve(environment.services)
        except Killed:
            self.deaths += 1
            answer = NoAnswer.FAILED
        else:
            self._idle.append(environment)
        self._world.after(self._way(), reply, answer)

    def _way(self) -> float:
        return self._draw.uniform(*GATEWAY_SECONDS)
