"""What the organiser did to a sale, from the functions' log lines.

A call that was killed half-way has no line. What it did is told by the line of the next call, with
its key or of another one, or by no line at all. So a line says when something was done at the
latest, and hardly ever when at the earliest.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import inf, nextafter
from typing import Final

from msgspec import Struct, structs

from proof.history import CapacityChange, Inventory, Reset
from proof.log_lines import Log, LogLine

RESET: Final = "POST /reset"
PUT: Final = "PUT /items/{item_id}"
DELETE: Final = "DELETE /items/{item_id}"
PAUSE: Final = "POST /items/{item_id}/pause"
RESUME: Final = "POST /items/{item_id}/resume"
ROUTES: Final = frozenset({RESET, PUT, DELETE, PAUSE, RESUME})
# Of a call that changed nothing, or undid what it had changed.
REFUSED: Final = frozenset({"capacity_too_low", "item_in_use"})
# More tickets than any sale has.
CAPACITY_MAX: Final = 1_000_000_000
# A store call takes effect within this time, or never: an assumption of the service.
LATE_COMMIT_SECONDS: Final = 10.0


class NotJudged(Exception):
    """The sale cannot be judged by these lines. what: is missing. remedy: what to do about it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


class ChangesOfSale(Struct):
    """What the organiser did to the sale itself.

    resets: the starts of generations, from the first one that has a line. maybe_paused_until: -inf
    where no line tells of a pause. limits, hold_seconds: generation → what it had. last_ended_at:
    of the last change.
    """

    item_id: int
    resets: list[Reset]
    capacity_changes: list[CapacityChange]
    maybe_paused_until: float
    limits: dict[int, set[int | None]]
    hold_seconds: dict[int, set[int]]
    last_ended_at: float

    @classmethod
    def of(cls, log: Log, item_id: int) -> "ChangesOfSale":
        """Return what the lines tell of an item."""
        lines = [line for line in log.lines if line.item_id == item_id and line.route in ROUTES]
        told = {line.key_digest for line in lines if line.is_done and not line.replayed}
        # A copy of a call that has a line of its own says nothing more. A replay without one is the
        # line of a call that was killed.
        lines = [line for line in lines if not (line.replayed and line.key_digest in told)]
        done = [line for line in lines if line.is_done]
        limits: dict[int, set[int | None]] = defaultdict(set)
        hold_seconds: dict[int, set[int]] = defaultdict(set)
        for line in done:
            limits[line.generation or 0].add(line.per_buyer_limit)
            if line.hold_seconds:
                hold_seconds[line.generation or 0].add(line.hold_seconds)
        resets = _resets(done)
        return cls(
            item_id=item_id,
            resets=resets,
            capacity_changes=[
                *_capacity_changes(lines, resets),
                *_unknown_capacities(lines, resets),
            ],
            maybe_paused_until=_maybe_paused_until(lines),
            limits=limits,
            hold_seconds=hold_seconds,
            last_ended_at=max((line.ended_at for line in done), default=-inf),
        )

    def generations(self, current: int) -> range:
        """Return the generations that the log tells of, up to the current one.

        Raises NotJudged where it tells of a later one, or lacks the start of one in between.
        """
        numbers = [reset.generation for reset in self.resets] or [current]
        for before, after in pairwise([*numbers, current]):
            if after > before + 1 or (after == before + 1 and after not in numbers):
                raise NotJudged(
                    f"The log has no line of the start of generation {before + 1} of item "
                    f"{self.item_id}.",
                    "Give the log of all functions since the sale's first reset, until now.",
                )
            if after < before:
                raise NotJudged(
                    f"The log tells of generation {before} of item {self.item_id}, and the table "
                    f"has generation {after}.",
                    "Give the log of the service with this URL.",
                )
        return range(numbers[0], current + 1)

    def begin_before_log(self, final: Inventory) -> None:
        """Let the sale have begun before the log, as it is in the end. Raises NotJudged."""
        if self.capacity_changes:
            raise NotJudged(
                "The log has changes of the capacity, but no line of the start of the sale.",
                "Give the log since the sale's start: POST /reset, or PUT /items/{item_id}.",
            )
        self.limits[final.generation].add(final.per_buyer_limit)
        seconds = final.hold_seconds or inf
        self.resets = [
            Reset(final.generation, final.initial_stock, -inf, -inf, hold_seconds=seconds)
        ]

    def limited_resets(self) -> Iterator[Reset]:
        """Yield the starts of generations, with the highest limit that each had.

        Raises NotJudged where holds of a generation did not last equally long.
        """
        for reset in self.resets:
            if len(seconds := self.hold_seconds.get(reset.generation, set())) > 1:
                raise NotJudged(
                    f"Holds of generation {reset.generation} lasted {sorted(seconds)} s.",
                    "A sale whose hold_seconds were changed while it sold is not judged.",
                )
            limits = self.limits.get(reset.generation, {None})
            known = [limit for limit in limits if limit is not None]
            limit = max(known) if len(known) == len(limits) else None
            yield structs.replace(reset, per_buyer_limit=limit)


def _is_start(line: LogLine) -> bool:
    return line.route == RESET or line.outcome == "created"


def _resets(done: Iterable[LogLine]) -> list[Reset]:
    """Return the starts of generations. Each can have begun at any time since the one before."""
    best: dict[int, LogLine] = {}
    for line in sorted(done, key=lambda line: (not _is_start(line), bool(line.replayed))):
        best.setdefault(line.generation or 0, line)
    first = min((number for number, line in best.items() if _is_start(line)), default=inf)
    resets: list[Reset] = []
    for number in sorted(number for number in best if number >= first):
        line = best[number]
        began_at = resets[-1].started_at if resets else line.started_at
        seconds = line.hold_seconds or inf
        resets.append(
            Reset(number, line.capacity or 0, began_at, line.ended_at, hold_seconds=seconds)
        )
    return resets


def _capacity_changes(
    lines: Iterable[LogLine], resets: Sequence[Reset]
) -> Iterator[CapacityChange]:
    """Yield the changes, each from the end of the one before."""
    known_at = -inf
    for line in lines:
        is_change = line.route in {PUT, DELETE} and not _is_start(line)
        if not is_change or not (line.is_done or line.is_in_doubt or line.outcome in REFUSED):
            continue
        begun = [reset for reset in resets if reset.started_at <= line.started_at]
        settled_at = max(known_at, begun[-1].ended_at if begun else -inf)
        began_at = min(line.started_at, nextafter(settled_at, inf))
        if line.replayed:
            began_at = begun[-1].started_at if begun else -inf
        lowest = line.lowest_capacity
        done = True if line.is_done else None if lowest is None else False
        yield CapacityChange(began_at, line.ended_at, line.capacity, done, lowest)
        known_at = max(known_at, line.ended_at)


def _unknown_capacities(
    lines: Sequence[LogLine], resets: Iterable[Reset]
) -> Iterator[CapacityChange]:
    """Yield changes that allow a generation any capacity, where its first one is not known.

    That is so where its start has no line of its own, and a change of the capacity can have come
    between it and the line that tells of it.
    """
    own = {line.generation for line in lines if _is_start(line) and not line.replayed}
    changes = [line for line in lines if line.route in {PUT, DELETE} and not _is_start(line)]
    for reset in resets:
        start, end = reset.started_at, reset.ended_at
        if reset.generation not in own and any(
            line.started_at <= end and start <= line.ended_at for line in changes
        ):
            for capacity in (0, CAPACITY_MAX):
                yield CapacityChange(start, end, capacity, done=None)


def _maybe_paused_until(lines: Sequence[LogLine]) -> float:
    """Return until when the sale can have been paused.

    It was not certainly open before the last resume: a pause that was killed has no line. Where two
    calls overlap, the clocks do not tell which one was the last.
    """
    called = [line for line in lines if line.is_done or line.is_in_doubt]
    resumed = [line for line in called if line.route == RESUME and line.is_done]
    until = max((line.ended_at for line in resumed), default=-inf)
    for line in called:
        if line.route == PAUSE:
            known_at = line.ended_at + (LATE_COMMIT_SECONDS if line.is_in_doubt else 0.0)
            over = [each.ended_at for each in resumed if each.started_at > known_at]
            until = max(until, min(over, default=inf))
    return until
