"""The retry engine: one request's attempts, their deadline, and what they leave in doubt."""

import random as random_module
import time
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct, field

from ticketing.errors import (
    Busy,
    Contended,
    DeadlineExceeded,
    OutcomeUnknown,
    Reason,
    Refused,
    StoreError,
)
from ticketing.limits import (
    ATTEMPTS_MAX,
    BACKOFF_BASE_SECONDS,
    BACKOFF_CAP_SECONDS,
    LATE_COMMIT_SECONDS,
    RETRY_AFTER_SECONDS_MAX,
)
from ticketing.rules import Random


class Runtime(Struct, frozen=True):
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


class Statistics(Struct):
    """What a request did, for the log. Up to date also where the request ends in an error.

    Use cases write it. It has nothing about the buyer. purchase_id: of the purchase or hold that
    the request is about, also where it is refused. key: digest of the idempotency key that an
    organiser sent. capacity: that an organiser asked for. attempts: begun. conflicts: attempts that
    met contention. shards: those of the last attempt.
    """

    item_id: int | None = None
    purchase_id: str | None = None
    key: str | None = None
    quantity: int | None = None
    capacity: int | None = None
    generation: int | None = None
    shards: Sequence[int] = ()
    attempts: int = 0
    conflicts: int = 0


class InDoubt(Struct, frozen=True):
    """What to tell the caller of a request that may have taken effect.

    remedy: one sentence that says how to find out. purchase_id: see `errors.Busy`.
    """

    remedy: str
    purchase_id: str | None = None


_LOOK: Final = InDoubt("Look at its effect before you send it again.")


class Attempts[Written]:
    """One request's attempts, within a time budget. No store call starts after `deadline`.

    in_doubt: what this request has, or may have, written without a definite answer so far. While
    there is any, the request ends in a result, in a `Refused`, or in a `Busy` that says so; never
    in another error, which would report it as failed.
    """

    def __init__(
        self,
        runtime: Runtime,
        budget_seconds: float,
        *,
        statistics: Statistics | None = None,
        if_in_doubt: InDoubt = _LOOK,
    ) -> None:
        self._runtime = runtime
        self._if_in_doubt = if_in_doubt
        self._pauses = 0
        self._last_error: StoreError | None = None
        self.deadline = Deadline(runtime.clock, budget_seconds)
        self.statistics = statistics or Statistics()
        self.in_doubt: list[Written] = []

    def run[Result](self, attempt: Callable[[], Result]) -> Result:
        """Return the result of `attempt`, repeated after StoreError (with a pause) and TryAgain.

        Raises Busy at the deadline and after ATTEMPTS_MAX attempts, and whatever else `attempt`
        raises while nothing is in doubt.
        """
        try:
            return self._repeat(attempt)
        except (Busy, Refused):
            raise
        except DeadlineExceeded:
            raise self.busy() from self._last_error
        except Exception as error:
            if self.in_doubt:
                raise self.busy() from error  # it may have committed: not to be reported as failed
            raise

    def write[Result](self, written: Written, call: Callable[[], Result]) -> Result:
        """Return the result of a write. Without an answer `written` is in doubt."""
        try:
            return call()
        except OutcomeUnknown:
            self.in_doubt.append(written)
            raise

    def busy(self) -> Busy:
        """Return the error for a request that ends without a definite outcome."""
        if self.in_doubt:
            return Busy(
                Reason.IN_DOUBT,
                remedy=self._if_in_doubt.remedy,
                retry_after_seconds=LATE_COMMIT_SECONDS,
                purchase_id=self._if_in_doubt.purchase_id,
            )
        return Busy(
            self._last_error.reason if self._last_error else Reason.CONTENTION,
            remedy="Send the same request again.",
            retry_after_seconds=1 + self._runtime.random.randrange(RETRY_AFTER_SECONDS_MAX),
        )

    def _repeat[Result](self, attempt: Callable[[], Result]) -> Result:
        for _ in range(ATTEMPTS_MAX):
            self.statistics.attempts += 1
            try:
                return attempt()
            except TryAgain:
                continue
            except StoreError as error:
                self._last_error = error
                self.statistics.conflicts += isinstance(error, Contended)
                self._pause()
        raise DeadlineExceeded

    def _pause(self) -> None:
        """Sleep for a random time with full jitter.

        It is drawn from zero to a bound that doubles with each pause, and never passes the
        deadline.
        """
        longest = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0**self._pauses)
        self._pauses += 1
        drawn = longest * self._runtime.random.random()
        self._runtime.sleep(min(self.deadline.left(), drawn))
