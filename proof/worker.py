"""One process of buyers, with an event loop and connections of its own: python -m proof.worker.

Speaks JSON, one document a line. Its standard input carries a `Shift`, then the number of each stage that opens; its
standard output carries `READY`, then each `Request` when its buyer is through with it. When the standard input ends,
the proof has ended, whatever ended it, and so does this process.
"""

import asyncio
import os
import random
import sys
from asyncio import Event, StreamReader, StreamReaderProtocol
from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from msgspec import Struct

from proof.client import Buyers, Order, Target
from proof.history import Request

READY: Final = "ready"
LINE_BYTES_MAX: Final = 2**30  # a shift is one line, whatever its number of orders

type Message = Literal["ready"] | Request


class Shift(Struct, frozen=True):
    """What one process of buyers has to do. `stages` is how many gates its orders wait at."""

    target: Target
    orders: Sequence[Order]
    stages: int
    in_flight: int
    seed: int


async def main() -> None:
    """Work one shift."""
    lines = StreamReader(limit=LINE_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(lambda: StreamReaderProtocol(lines), sys.stdin)
    shift = msgspec.json.decode(await _line(lines), type=Shift)
    gates = [Event() for _ in range(shift.stages)]
    opening = asyncio.create_task(_open_gates(lines, gates))
    await _sell(shift, gates)
    opening.cancel()


async def _open_gates(lines: StreamReader, gates: Sequence[Event]) -> None:
    while True:
        gates[int(await _line(lines))].set()


async def _sell(shift: Shift, gates: Sequence[Event]) -> None:
    draw = random.Random(shift.seed)
    async with Buyers(shift.target, shift.in_flight, draw, os.getpid()) as buyers, asyncio.TaskGroup() as tasks:

        async def buy(order: Order, copy: int) -> None:
            _report(await buyers.buy(order, copy))

        _report(READY)
        for stage, gate in enumerate(gates):
            await gate.wait()
            # Copies follow each other at once, so that both are in flight together.
            for order in shift.orders:
                if order.stage == stage:
                    for copy in range(1, order.copies + 1):
                        tasks.create_task(buy(order, copy))


async def _line(lines: StreamReader) -> bytes:
    line = await lines.readline()
    if not line:
        os._exit(1)
    return line


def _report(message: Message) -> None:
    try:
        sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os._exit(1)  # the reader has ended: as when the standard input ends


if __name__ == "__main__":
    asyncio.run(main())
