"""When the sale was open, from its record, and whether tickets were taken at other times."""

from collections.abc import Iterator
from datetime import datetime
from math import inf
from typing import Final, NamedTuple

from proof.history import Attempt, Violation
from simulation.expressions import Item
from simulation.records import StoredPurchase
from simulation.world import EPOCH_SECONDS
from ticketing.limits import CACHE_STALE_SECONDS, CLOCK_SKEW_SECONDS

# In this time all items of a transaction have changed.
TRANSACTION_SECONDS_MAX: Final = 1.0


class _Settings(NamedTuple):
    """What the sale's record says from an instant of the world on. The window is of clocks."""

    since: float
    opens_at: float
    closes_at: float
    is_paused: bool

    def state(self, clock: float) -> str:
        """Return what a process says whose clock shows this."""
        if clock >= self.closes_at:
            return "closed"
        if self.is_paused:
            return "paused"
        return "scheduled" if clock < self.opens_at else "open"


class Openings:
    """The settings of the sale at every instant, and when tickets were taken out of its stock.

    A process decides by settings that are as old as CACHE_STALE_SECONDS at most, where reading them
    is throttled, and by its own clock, which is up to CLOCK_SKEW_SECONDS ahead. What it decides is
    in the record, with the time by that clock.
    """

    def __init__(self) -> None:
        self._settings: list[_Settings] = []
        self._reclaimed: dict[tuple[int, int], tuple[int, float]] = {}
        self._takings: list[tuple[float, str]] = []

    def note_sale(self, item: Item, now: float) -> None:
        """Note the sale's record."""
        self._settings.append(
            _Settings(
                now,
                _seconds(item["opens_at"]["S"]) if "opens_at" in item else -inf,
                _seconds(item["closes_at"]["S"]) if "closes_at" in item else inf,
                "is_paused" in item and item["is_paused"]["BOOL"],
            )
        )

    def note_shard(self, index: int, item: Item, now: float) -> None:
        """Note until when a shard's slots are reclaimed."""
        place, until = (int(item["generation"]["N"]), index), item.get("reclaimed_until")
        if until is not None and self._reclaimed.get(place, (0, now))[0] != int(until["N"]):
            self._reclaimed[place] = int(until["N"]), now

    def note_purchase(
        self, key: str, before: StoredPurchase | None, after: Item, now: float
    ) -> None:
        """Note a record. Its tickets are out of the stock, unless they were held until now."""
        if before is None and after["status"]["S"] != "refused":
            self._takings.append((_seconds(after["created_at"]["S"]), key))
        is_confirmed = before is not None and before.status == "held" and "confirmed_at" in after
        if before is not None and is_confirmed and self._has_no_slot(before, now):
            self._takings.append((_seconds(after["confirmed_at"]["S"]), key))

    def _has_no_slot(self, hold: StoredPurchase, now: float) -> bool:
        """Return whether a slot of the hold was gone, so that it was confirmed out of stock.

        One that went just now may have gone after the tickets had left it: the shards and the
        record of a transaction change within milliseconds.
        """
        places = [self._reclaimed.get((hold.generation, index), (0, now)) for index in hold.taken]
        return any(
            until >= (hold.expires_at or inf) and at < now - TRANSACTION_SECONDS_MAX
            for until, at in places
        )

    def wrong_sales(self) -> Iterator[Violation]:
        """G1: no ticket is taken while the sale is not open."""
        for clock, key in self._takings:
            end = clock - EPOCH_SECONDS
            start = end - CLOCK_SKEW_SECONDS - CACHE_STALE_SECONDS
            states = {each.state(clock) for each in self._between(start, end)}
            if "open" not in states:
                expected = "tickets taken only while the sale is open"
                found = f"{key}, at {end:.3f} s by its clock: {', '.join(sorted(states))}"
                yield Violation("G1", "sold_while_not_open", expected, found)

    def is_true(self, refusal: Attempt, cache_seconds: float) -> bool:
        """Return whether the sale was not open, for the reason that a refusal gives.

        By the time between request and answer, and by settings that may be cached.
        """
        start, end = refusal.started_at, refusal.ended_at
        clocks = (start + EPOCH_SECONDS, end + EPOCH_SECONDS + CLOCK_SKEW_SECONDS)
        return any(
            each.state(clock) == refusal.reason
            for each in self._between(start - cache_seconds, end)
            for clock in clocks
        )

    def _between(self, start: float, end: float) -> Iterator[_Settings]:
        """Yield the settings that were in the record at any instant from start to end."""
        ends = [each.since for each in self._settings[1:]] + [inf]
        for settings, until in zip(self._settings, ends, strict=True):
            if settings.since <= end and start <= until:
                yield settings


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
