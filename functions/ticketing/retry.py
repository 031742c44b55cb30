"""One request's attempts at a store that may be busy or not respond: deadline, number and pauses."""

import random as random_module
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ticketing.errors import Busy, Contended, OutOfTime, Reason, StoreTrouble
from ticketing.rules import Random

ATTEMPTS_MAX: Final = 100  # a second bound, for a clock may stand still
BACKOFF_BASE_SECONDS: Final = 0.01  # a transaction is in progress for about 6 ms
BACKOFF_CAP_SECONDS: Final = 0.5
RETRY_AFTER_SECONDS_MAX: Final = 3  # drawn from 1 to this, so that those who were unlucky do not come back together
LATE_COMMIT_SECONDS: Final = 10  # a store call takes effect within this time of being sent, or never


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a process has one of, and a test or a simulation brings its own of.

    clock: seconds since the epoch; a wall clock, because it goes on while a process is frozen or stored as a snapshot.
    random: the operating system's by default, so that processes restored from one snapshot differ. sleep: seconds.
    """

    clock: Callable[[], float] = time.time
    random: Random = field(default_factory=random_module.SystemRandom)
    sleep: Callable[[float], None] = time.sleep


class Again(Exception):
    """Raised by an attempt that has learnt something and asks for another one at once."""


class Deadline:
    """The end of a request's time, by a clock that may be set back."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._began_at = clock()

    def left(self) -> float:
        """Seconds that are left; none where the clock was set back, for then it cannot be known."""
        passed = self._clock() - self._began_at
        return max(0.0, self._seconds - passed) if passed >= 0 else 0.0

    def check(self) -> None:
        """Raise OutOfTime where no time is left."""
        if self.left() <= 0:
            raise OutOfTime


class Attempts:
    """One request's attempts, and their statistics. No store call may start after `deadline`.

    count: attempts begun. conflicts: those that met contention. trouble: what ended the last one that failed.
    """

    def __init__(self, surroundings: Surroundings, seconds: float) -> None:
        self._surroundings = surroundings
        self.deadline = Deadline(surroundings.clock, seconds)
        self.count = 0
        self.conflicts = 0
        self.trouble: StoreTrouble | None = None
        self._pauses = 0

    def run[Result](self, attempt: Callable[[], Result]) -> Result:
        """Return what `attempt` returns. After StoreTrouble it is made again after a pause, after Again at once.

        Raises OutOfTime at the deadline or after ATTEMPTS_MAX attempts, and whatever else `attempt` raises.
        """
        for _ in range(ATTEMPTS_MAX):
            self.count += 1
            try:
                return attempt()
            except Again:
                continue
            except StoreTrouble as trouble:
                self.trouble = trouble
                self.conflicts += isinstance(trouble, Contended)
                self._pause()
        raise OutOfTime

    def busy(self) -> Busy:
        """Return the error of a request that wrote nothing, or nothing that another one like it would write twice."""
        return Busy(
            self.trouble.reason if self.trouble else Reason.CONTENTION,
            remedy="Send the same request again.",
            retry_after_seconds=1 + self._surroundings.random.randrange(RETRY_AFTER_SECONDS_MAX),
        )

    def _pause(self) -> None:
        """Sleep for a time drawn from zero to twice as long each time ("full jitter"), never past the deadline."""
        longest = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0**self._pauses)
        self._pauses += 1
        drawn = longest * self._surroundings.random.random()
        self._surroundings.sleep(min(self.deadline.left(), drawn))
