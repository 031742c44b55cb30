"""The retry engine: one request's attempts, their deadline and the pauses between them."""

import random as random_module
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ticketing.errors import Busy, Contended, DeadlineExceeded, Reason, StoreError
from ticketing.rules import Random

ATTEMPTS_MAX: Final = 100  # a second bound, because a clock may be frozen
BACKOFF_BASE_SECONDS: Final = 0.01  # a transaction is in progress for about 6 ms
BACKOFF_CAP_SECONDS: Final = 0.5
# Drawn from 1 to this, so that refused buyers do not come back together.
RETRY_AFTER_SECONDS_MAX: Final = 3
# A store call takes effect within this time of being sent, or never.
LATE_COMMIT_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Runtime:
    """Clock, random source and sleep of a process. Tests and simulations bring their own.

    clock: seconds since the epoch. A wall clock, because it goes on while a process is frozen or
    stored as a snapshot. random: the operating system's by default, so that processes restored from
    one snapshot differ. sleep: takes seconds.
    """

    clock: Callable[[], float] = time.time
    random: Random = field(default_factory=random_module.SystemRandom)
    sleep: Callable[[float], None] = time.sleep


class TryAgain(Exception):
    """An attempt has learnt something and asks for another attempt at once."""


class Deadline:
    """The end of a request's time, by a clock that may be set back."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._began_at = clock()

    def left(self) -> float:
        """Return the seconds that are left; 0 where the clock was set back."""
        passed = self._clock() - self._began_at
        return max(0.0, self._seconds - passed) if passed >= 0 else 0.0

    def check(self) -> None:
        """Raise DeadlineExceeded where no time is left."""
        if self.left() <= 0:
            raise DeadlineExceeded


class Attempts:
    """One request's attempts, and their statistics. No store call starts after `deadline`.

    count: attempts begun. conflicts: attempts that met contention. last_error: of the last failed
    attempt.
    """

    def __init__(self, runtime: Runtime, seconds: float) -> None:
        self._runtime = runtime
        self.deadline = Deadline(runtime.clock, seconds)
        self.count = 0
        self.conflicts = 0
        self.last_error: StoreError | None = None
        self._pauses = 0

    def run[Result](self, attempt: Callable[[], Result]) -> Result:
        """Return the result of `attempt`, repeated after StoreError (with a pause) and TryAgain.

        Raises DeadlineExceeded at the deadline or after ATTEMPTS_MAX attempts, and whatever else
        `attempt` raises.
        """
        for _ in range(ATTEMPTS_MAX):
            self.count += 1
            try:
                return attempt()
            except TryAgain:
                continue
            except StoreError as error:
                self.last_error = error
                self.conflicts += isinstance(error, Contended)
                self._pause()
        raise DeadlineExceeded

    def busy(self) -> Busy:
        """Return the error for a request that may safely be sent again."""
        return Busy(
            self.last_error.reason if self.last_error else Reason.CONTENTION,
            remedy="Send the same request again.",
            retry_after_seconds=1 + self._runtime.random.randrange(RETRY_AFTER_SECONDS_MAX),
        )

    def _pause(self) -> None:
        """Sleep for a random time with full jitter.

        It is drawn from zero to a bound that doubles with each pause, and never passes the
        deadline.
        """
        longest = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0**self._pauses)
        self._pauses += 1
        drawn = longest * self._runtime.random.random()
        self._runtime.sleep(min(self.deadline.left(), drawn))
