"""Buyers who all come at once, over HTTP: the same client for every server."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp
import uvloop

from local.process import LocalError

SOLD: Final = (HTTPStatus.OK, HTTPStatus.CREATED)
ANSWER_SECONDS: Final = 60.0  # from the start of the crowd to each answer


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many buyers for so many tickets. in_flight: requests at once, each on its connection."""

    buyers: int
    tickets: int
    in_flight: int

    def buy(self, url: str) -> float:
        """Send each buyer's request once, and return the requests per second.

        Raises LocalError unless each ticket is sold, and each other buyer is refused.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            seconds, answers = runner.run(self._rush(url))
        sold = min(self.tickets, self.buyers)
        refused = answers[HTTPStatus.CONFLICT]
        if (sum(answers[status] for status in SOLD), refused) != (sold, self.buyers - sold):
            raise LocalError(f"{url}, {self}: these were the answers: {dict(answers)}")
        return self.buyers / seconds

    async def _rush(self, url: str) -> tuple[float, Counter[int | str]]:
        """Return how long it took, and how often each status came, or each failure by its name."""
        answers = Counter[int | str]()

        async def buy_one() -> None:
            try:
                async with session.post(url) as response:
                    await response.read()
                    answers[response.status] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                answers[type(error).__name__] += 1

        connector = aiohttp.TCPConnector(limit=self.in_flight)
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            began = time.perf_counter()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self.buyers):
                    tasks.create_task(buy_one())
            return time.perf_counter() - began, answers
