"""Virtual time: an agenda of what happens when, and tasks that wait in it without a thread.

A task is a greenlet, so the code inside needs no `await`: what it calls to sleep or to reach the
store switches to the agenda, and is switched back to at its instant. One seed gives one order of
events, the same in every process.
"""

import random
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Any

from greenlet import getcurrent, greenlet

# Wall clocks start here, so that timestamps look like timestamps.
EPOCH_SECONDS = 1_800_000_000.0


class EndlessError(Exception):
    """More has happened than was allowed: something never stops."""


class _Wait[Result]:
    """A wait that ends with a result, or without one when its time is over.

    Once it has ended it holds nothing, because the end of its time is still in the agenda.
    """

    __slots__ = ("results", "wake")

    def __init__(self) -> None:
        self.results: tuple[Result, ...] = ()
        self.wake: Callable[[None], object] | None = None

    def end(self, *results: Result) -> None:
        """End the wait, unless it has ended."""
        if self.wake is not None:
            wake, self.wake, self.results = self.wake, None, results
            wake(None)


class World:
    """Seconds since the simulation began, what is still to happen, and all randomness of one seed.

    events_max: after so many events a run counts as endless.
    """

    def __init__(self, seed: int, events_max: float = inf) -> None:
        self.seed = seed
        self.now = 0.0
        self.events = 0
        self._events_max = events_max
        self._agenda: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = 0
        self._hub = getcurrent()

    def random(self, name: str) -> random.Random:
        """Return the random numbers of one part. Other parts do not change them."""
        return random.Random(f"{self.seed}/{name}")

    def at(self, instant: float, happen: Callable[..., object], *arguments: Any) -> None:
        """Call `happen` at the instant. What is due at one instant happens in order of asking."""
        self._order += 1
        heappush(self._agenda, (max(instant, self.now), self._order, happen, arguments))

    def after(self, seconds: float, happen: Callable[..., object], *arguments: Any) -> None:
        """Call `happen` in so many seconds."""
        self._order += 1
        heappush(self._agenda, (self.now + seconds, self._order, happen, arguments))

    def start(self, function: Callable[..., object], *arguments: Any) -> greenlet:
        """Start a task now. An exception that it does not handle ends the run."""
        task = greenlet(function, parent=self._hub)
        self.after(0.0, task.switch, *arguments)
        return task

    def wait_for[Result](self, begin: Callable[[Callable[[Result], object]], object]) -> Result:
        """Call `begin` with a function that hands over the result, and wait until it is called.

        It must be called once, from the agenda. Outside a task, waiting lets everything happen that
        is due before the result.
        """
        task = getcurrent()
        if task is self._hub:
            results: list[Result] = []
            begin(results.append)
            while not results:
                self._step()
            return results[0]
        begin(task.switch)
        result: Result = self._hub.switch()
        return result

    def wait_at_most[Result](
        self, seconds: float, begin: Callable[[Callable[[Result], object]], object]
    ) -> Result:
        """Wait as `wait_for` does, but not for ever.

        Raises TimeoutError when the time is over. A result that comes later is dropped.
        """
        wait = _Wait[Result]()

        def begin_both(wake: Callable[[None], object]) -> None:
            wait.wake = wake
            self.after(seconds, wait.end)
            begin(wait.end)

        self.wait_for(begin_both)
        results, wait.results = wait.results, ()
        if not results:
            raise TimeoutError
        return results[0]

    def sleep(self, seconds: float) -> None:
        """Wait. Only the running task stands still."""
        self.wait_for(lambda wake: self.after(seconds, wake, None))

    def run(self) -> None:
        """Let everything happen until nothing is left to do."""
        while self._agenda:
            self._step()

    def _step(self) -> None:
        self.now, _, happen, arguments = heappop(self._agenda)
        self.events += 1
        if self.events > self._events_max:
            raise EndlessError(f"more than {self._events_max} events")
        happen(*arguments)
