"""The processes of buyers. They share nothing, and end with the process that started them."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Self, cast

import msgspec
from msgspec import Struct

from organiser.client import Target
from proof.client import PlannedRequest
from proof.history import PurchaseRequest
from proof.worker import Job, Message

ROOT = Path(__file__).parent.parent
END_SECONDS = 5.0


class WorkerDied(Exception):
    """A process of buyers ended before all its buyers were served."""


class _Ended(Struct, frozen=True):
    """A process of buyers has ended."""

    exit_status: int


class BuyerProcesses:
    """Processes of buyers, as a context manager. Their buyers wait at the gate of their stage.

    Requests are dealt out in turn, so that every process has buyers of every stage.
    """

    def __init__(
        self,
        target: Target,
        planned: Sequence[PlannedRequest],
        processes: int,
        in_flight: int,
        seed: int,
    ) -> None:
        self.planned = planned
        stages = 1 + max(each.stage for each in planned)
        # The copies of one request must be able to be in flight together.
        shares = _shares(in_flight, processes, least=max(each.copies for each in planned))
        self._jobs = [
            # The same seed draws the same pauses again; each process has its own seed.
            Job(target, planned[number::processes], stages, shares[number], seed + number)
            for number in range(processes)
        ]
        self._messages: SimpleQueue[Message | _Ended] = SimpleQueue()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._readers: list[threading.Thread] = []

    @property
    def requests_total(self) -> int:
        """Return the number of requests that will be reported."""
        return sum(each.copies for each in self.planned)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self._end)
            for _ in self._jobs:
                self._start()
            for process, job in zip(self._processes, self._jobs, strict=True):
                self._send(process, msgspec.json.encode(job))
            for _ in self._jobs:
                self._next()  # READY
            undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def open_gate(self, stage: int) -> None:
        """Let the buyers of a stage start. Raises WorkerDied."""
        for process in self._processes:
            self._send(process, str(stage).encode())

    def requests(self) -> Iterator[PurchaseRequest]:
        """Yield each request when it has its last answer. Raises WorkerDied."""
        for _ in range(self.requests_total):
            yield cast("PurchaseRequest", self._next())

    def _start(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "proof.worker"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C reaches only the first process; its end ends this one.
            start_new_session=True,
        )
        self._processes.append(process)
        reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._readers.append(reader)
        reader.start()

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        for line in cast("IO[bytes]", process.stdout):
            self._messages.put(msgspec.json.decode(line, type=Message))
        self._messages.put(_Ended(process.wait()))

    @staticmethod
    def _send(process: "subprocess.Popen[bytes]", line: bytes) -> None:
        pipe = cast("IO[bytes]", process.stdin)
        try:
            pipe.write(line + b"\n")
            pipe.flush()
        except BrokenPipeError:
            raise WorkerDied(
                f"a process of buyers ended with exit status {process.wait()}"
            ) from None

    def _next(self) -> Message:
        """Return the next message.

        A process that ended normally has reported all its requests, so others have some left.
        """
        while isinstance(message := self._messages.get(), _Ended):
            if message.exit_status != 0:
                raise WorkerDied(
                    f"a process of buyers ended with exit status {message.exit_status}"
                )
        return message

    def _end(self) -> None:
        """End all processes: wait for those that are done, kill the others."""
        for process in self._processes:
            with contextlib.suppress(BrokenPipeError):
                cast("IO[bytes]", process.stdin).close()
        for process in self._processes:
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for reader in self._readers:
            reader.join()
        for process in self._processes:
            cast("IO[bytes]", process.stdout).close()


def _shares(total: int, parts: int, least: int) -> list[int]:
    return [max(least, total // parts + (number < total % parts)) for number in range(parts)]
