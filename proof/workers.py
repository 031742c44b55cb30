"""Real processes full of buyers. Each has an event loop and connections of its own, and shares nothing but a queue."""

import asyncio
import multiprocessing
import os
import queue
import random
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from types import TracebackType
from typing import Self

from msgspec import Struct

from proof.client import Buyers, Order, Target
from proof.history import Request

READY = "ready"
START_SECONDS_MAX = 60.0
JOIN_SECONDS = 5.0
SPAWN = multiprocessing.get_context("spawn")


class WorkerDied(Exception):
    """A process of buyers ended before its buyers did."""


class Crowd:
    """Processes of buyers, as a context: they wait at the gates of their orders' stages, and end with the context.

    The orders are dealt like cards, so that every process has buyers of every stage.
    """

    def __init__(self, target: Target, orders: Sequence[Order], processes: int, in_flight: int, seed: int) -> None:
        self.orders = orders
        self._gates = [SPAWN.Event() for _ in range(1 + max(order.stage for order in orders))]
        self._news: Queue[str | Request] = SPAWN.Queue()
        self._processes: list[SpawnProcess] = []
        # Copies of one request must be able to be under way together.
        shares = _shares(in_flight, processes, least=max(order.copies for order in orders))
        for number in range(processes):
            # Buyers of one process draw the same pauses again with the same seed, and those of another do not.
            shift = Shift(target, orders[number::processes], shares[number], seed + number)
            process = SPAWN.Process(target=_work, args=(shift, self._gates, self._news), daemon=True)
            self._processes.append(process)

    @property
    def requests_total(self) -> int:
        """How many requests there will be to report."""
        return sum(order.copies for order in self.orders)

    def __enter__(self) -> Self:
        # Ctrl-C is for the parent, which ends the others: they inherit that they are deaf to it, imports included.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for process in self._processes:
                process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        for _ in self._processes:
            self._next(START_SECONDS_MAX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            # After an orderly end they have nothing left to do; after an interruption they have, and it is dropped.
            if kind is not None:
                process.terminate()
            process.join(JOIN_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()

    def open_gate(self, stage: int) -> None:
        """Let the buyers of a stage go."""
        self._gates[stage].set()

    def requests(self) -> Iterator[Request]:
        """Each request when its buyer is through with it; raises WorkerDied."""
        for _ in range(self.requests_total):
            news = self._next(None)
            if isinstance(news, Request):
                yield news

    def _next(self, patience_seconds: float | None) -> str | Request:
        waited = 0.0
        while True:
            try:
                return self._news.get(timeout=0.2)
            except queue.Empty:
                waited += 0.2
            failed = [process for process in self._processes if process.exitcode not in (None, 0)]
            if failed:
                raise WorkerDied(f"a process of buyers ended with exit status {failed[0].exitcode}")
            if patience_seconds is not None and waited > patience_seconds:
                raise WorkerDied(f"a process of buyers was not ready after {patience_seconds:.0f} s")


def _shares(total: int, parts: int, least: int) -> list[int]:
    return [max(least, total // parts + (number < total % parts)) for number in range(parts)]


class Shift(Struct, frozen=True):
    """What one process of buyers has to do."""

    target: Target
    orders: Sequence[Order]
    in_flight: int
    seed: int


def _work(shift: Shift, gates: Sequence[Event], news: "Queue[str | Request]") -> None:
    # Ctrl-C goes to the whole group of processes; the first process decides, and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_first_process, daemon=True).start()
    asyncio.run(_sell(shift, gates, news))


def _end_with_the_first_process() -> None:
    # If it is killed, nobody opens the gates any more.
    if first := multiprocessing.parent_process():
        first.join()
        os._exit(1)


async def _sell(shift: Shift, gates: Sequence[Event], news: "Queue[str | Request]") -> None:
    draw = random.Random(shift.seed)
    async with Buyers(shift.target, shift.in_flight, draw, os.getpid()) as buyers, asyncio.TaskGroup() as tasks:

        async def buy(order: Order, copy: int) -> None:
            news.put(await buyers.buy(order, copy))

        news.put(READY)
        for stage, gate in enumerate(gates):
            await asyncio.to_thread(gate.wait)
            # Copies follow each other at once, so that both are under way together.
            for order in shift.orders:
                if order.stage == stage:
                    for copy in range(1, order.copies + 1):
                        tasks.create_task(buy(order, copy))
