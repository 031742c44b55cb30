"""One process of buyers, with its own event loop and connections: python -m proof.worker.

It speaks JSON, one document per line. Its standard input carries a `Job`, then the number of each
stage that opens. Its standard output carries `READY`, then each `PurchaseRequest` when it has its
last answer. When the standard input ends, the proof has ended, and so does this process.
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

from organiser.client import Target
from proof.client import Buyers, PlannedRequest
from proof.history import PurchaseRequest

READY: Final = "ready"
LINE_BYTES_MAX: Final = 2**30  # a job is one line, whatever its number of requests

type Message = Literal["ready"] | PurchaseRequest


class Job(Struct, frozen=True):
    """The work of one process of buyers. stages: the number of gates that its requests wait at."""

    target: Target
    planned: Sequence[PlannedRequest]
    stages: int
    in_flight: int
    seed: int


async def main() -> None:
    """Do one job."""
    lines = StreamReader(limit=LINE_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: StreamReaderProtocol(lines), sys.stdin
    )
    job = msgspec.json.decode(await _line(lines), type=Job)
    gates = [Event() for _ in range(job.stages)]
    opening = asyncio.create_task(_open_gates(lines, gates))
    await _sell(job, gates)
    opening.cancel()


async def _open_gates(lines: StreamReader, gates: Sequence[Event]) -> None:
    while True:
        gates[int(await _line(lines))].set()


async def _sell(job: Job, gates: Sequence[Event]) -> None:
    draw = random.Random(job.seed)
    async with (
        Buyers(job.target, job.in_flight, draw, os.getpid()) as buyers,
        asyncio.TaskGroup() as tasks,
    ):

        async def buy(each: PlannedRequest, copy: int) -> None:
            _report(await buyers.buy(each, copy))

        _report(READY)
        for stage, gate in enumerate(gates):
            await gate.wait()
            # The copies of a request follow each other at once, so that they are in flight
            # together.
            for each in job.planned:
                if each.stage == stage:
                    for copy in range(1, each.copies + 1):
                        tasks.create_task(buy(each, copy))


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
        os._exit(1)  # the reader has ended


if __name__ == "__main__":
    asyncio.run(main())
