"""Sales whose functions are real processes on a real engine, killed with SIGKILL at random moments.

Callers, checker and clocks are those of the simulation. Its world runs on real time here, of which
only those seconds are left out in which nothing is in flight.
"""

import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from heapq import heappop
from math import inf
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import Final

import pytest

from proof.checker import check
from proof.history import History, Violation
from simulation.faults import Fault, Faults, Killed
from simulation.fleet import Fleet
from simulation.sale import LEAD_SECONDS, completed
from simulation.service import Call, ServiceResponse
from simulation.workload import HOLD_SECONDS, Callers
from simulation.world import World
from tests.integration.function_process import Build, Job, Replied, Sent, work
from ticketing.wiring import build_services

FORK_SERVER: Final = multiprocessing.get_context("forkserver")
BUYERS: Final = 150
TICKETS: Final = 150
SHARDS: Final = 4
RESETS: Final = 1  # in the rush
ENVIRONMENTS_MAX: Final = 16
RUSH_SECONDS: Final = 5.0
# Share of the requests in which the process is killed, unless they end before the moment drawn.
KILLED: Final = 0.9
KILL_SECONDS: Final = (0.0, 0.3)
# What is in flight to the engine after a kill has to take effect within LATE_COMMIT_SECONDS of the
# world. So much of its time may be left out before so many seconds have really passed.
UNSETTLED_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 4.0
# When store calls fail and processes are killed: in the rush, and when the first holds expire.
TROUBLE_SECONDS: Final = (
    (0.0, RUSH_SECONDS + 5.0),
    (HOLD_SECONDS - 4.0, HOLD_SECONDS + RUSH_SECONDS + 5.0),
)
BETWEEN_CALLS: Final = "between calls"
# What callers and the organiser do: all that changes tickets.
ALL_MOVES: Final = Faults(
    dict.fromkeys(
        (Fault.IMPATIENCE, Fault.REFUND, Fault.HOLD, Fault.LIMIT, Fault.RESIZE, Fault.REPAIR), 1.0
    )
)


def start_fork_server() -> None:
    """Start the process whose forks are the functions: with all that they import."""
    FORK_SERVER.set_forkserver_preload(["tests.integration.preloaded"])
    with pytest.MonkeyPatch.context() as environment:
        # It does not get the path of this process in all versions of Python 3.13.
        environment.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()


class RealTime(World):
    """A world in which time passes by itself, and answers come from processes.

    began_at: its second 0, by the monotonic clock. Where time is left out, that moves back.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.began_at = time.monotonic()
        self._unsettled_at = 0.0  # of the world
        self._settled_at = 0.0  # by the monotonic clock
        self._listeners: dict[Connection, Callable[[], None]] = {}

    def receive(self, connection: Connection, accept: Callable[[object], bool]) -> None:
        """Call `accept` with each message until it returns True, or with None at the end."""

        def listen() -> None:
            try:
                message = connection.recv()
            except (EOFError, ConnectionResetError):
                message = None
            if accept(message) or message is None:
                del self._listeners[connection]

        self._listeners[connection] = listen

    def unsettle(self) -> None:
        """Leave little time out for a while: a call is in flight that has no caller any more."""
        self._unsettled_at = self._clock()
        self._settled_at = time.monotonic() + SETTLE_SECONDS

    def run(self) -> None:
        """Let everything happen until nothing is left to do, and every process is idle."""
        while self._agenda or self._listeners:
            self._step()

    def _clock(self) -> float:
        return time.monotonic() - self.began_at

    def _step(self) -> None:
        self._wait()
        _, _, happen, arguments = heappop(self._agenda)
        self.now = self._clock()
        happen(*arguments)

    def _wait(self) -> None:
        """Wait until something is due, and take messages meanwhile."""
        while True:
            due = self._agenda[0][0] if self._agenda else inf
            if not self._listeners:
                self._leave_out(due)
            seconds = due - self._clock()
            if seconds <= 0:
                return
            if not self._listeners:
                seconds = min(seconds, self._settled_at - time.monotonic())
            connections = list(self._listeners)
            ready = wait(connections, None if seconds == inf else max(seconds, 0.0))
            self.now = self._clock()
            for connection in connections:
                if connection in ready:
                    self._listeners[connection]()

    def _leave_out(self, due: float) -> None:
        """Leave out the time until something is due, or as much as may be."""
        is_settled = time.monotonic() >= self._settled_at
        until = due if is_settled else min(due, self._unsettled_at + UNSETTLED_SECONDS)
        self.began_at -= max(0.0, until - self._clock())


class Function:
    """A process of the functions: an environment of the fleet. It may be killed while it serves."""

    frozen_seconds = 0.0

    def __init__(self, number: int, sale: "KilledSale") -> None:
        self._sale = sale
        self._draw = sale.world.random(f"function {number}")
        self._connection, its = FORK_SERVER.Pipe()
        arguments = (
            its,
            sale.endpoint,
            sale.table_name,
            f"{sale.world.seed}/{number}",
            sale.build,
        )
        self._process = FORK_SERVER.Process(target=work, args=arguments, daemon=True)
        self._process.start()
        its.close()
        self._requests = 0
        self._is_killed = False
        self._kill_seconds: float | None = None  # from the first call of the store on
        self._waits_for: str | None = None  # the operation whose reply has not come

    def serve(self, call: Call, label: str) -> ServiceResponse:
        """Return the process's response. Raises Killed where it was killed before that."""
        world, has_faults = self._sale.world, self._sale.has_faults
        self._connection.send(Job(call, world.began_at, has_faults))
        is_to_die = has_faults and self._draw.random() < KILLED
        self._kill_seconds = self._draw.uniform(*KILL_SECONDS) if is_to_die else None
        response = world.wait_for(self._receive)
        self._requests += 1
        operation, self._waits_for = self._waits_for, None
        if operation is not None:
            world.unsettle()
        if response is not None and not self._is_killed:
            return response
        self._process.join()
        assert self._is_killed, f"it ended with {self._process.exitcode}"
        self._sale.kills[operation or BETWEEN_CALLS] += 1
        raise Killed

    def _receive(self, wake: Callable[[ServiceResponse | None], object]) -> None:
        """Wake the task with the response, or with None where the process has ended."""

        def accept(message: object) -> bool:
            match message:
                case Sent(is_late=True):
                    self._sale.world.unsettle()
                case Sent():
                    self._waits_for = message.operation
                    self._plan_kill()
                case Replied():
                    self._waits_for = None
                case ServiceResponse() | None:
                    self._sale.world.after(0.0, wake, message)
                    return True
            return False

        self._sale.world.receive(self._connection, accept)

    def _plan_kill(self) -> None:
        if self._kill_seconds is not None:
            self._sale.world.after(self._kill_seconds, self._kill, self._requests)
            self._kill_seconds = None

    def _kill(self, requests: int) -> None:
        """Kill the process if it still serves the request after so many."""
        if requests == self._requests:
            self._is_killed = True
            self._process.kill()

    def end(self) -> None:
        """End the process, however it is."""
        self._process.kill()
        self._process.join()
        self._connection.close()


class KilledSale:
    """One sale on an engine.

    faults: what callers and the organiser do. build: builds the use cases of a process; a function
    of `function_process`. kills: the operation whose reply the killed process waited for → number.
    """

    def __init__(
        self,
        endpoint: str,
        table_name: str,
        seed: int,
        faults: Faults = ALL_MOVES,
        build: Build = build_services,
    ) -> None:
        self.endpoint = endpoint
        self.table_name = table_name
        self.build = build
        self.faults = faults
        self.world = RealTime(seed)
        self.kills: Counter[str] = Counter()
        self.has_faults = False
        self._functions: list[Function] = []

    def run(self) -> tuple[History, list[Violation]]:
        """Return what the callers saw, and what is wrong with it."""
        world = self.world
        callers = Callers(world, Fleet(world, self._start, ENVIRONMENTS_MAX, 0.0), self.faults)
        try:
            callers.reset(TICKETS, SHARDS)
            world.sleep(LEAD_SECONDS)
            for begin, end in TROUBLE_SECONDS:
                world.after(begin, setattr, self, "has_faults", True)
                world.after(end, setattr, self, "has_faults", False)
            callers.start(BUYERS, RUSH_SECONDS, RESETS)
            world.run()
            history = completed(world, callers)
        finally:
            for function in self._functions:
                function.end()
        return history, [*check(history), *callers.failures]

    def _start(self, number: int) -> Function:
        self._functions.append(Function(number, self))
        return self._functions[-1]
