"""What can have become of a hold, as far as its callers know: bounds on when its tickets moved."""

from collections.abc import Iterator
from math import ceil, inf

from msgspec import Struct

from proof.history import HoldAction, HoldChange

# A hold expires at the end of an expiry slot; there are so many in the time that it lasts.
SLOTS_PER_HOLD = 30


def longest_hold_seconds(hold_seconds: float, skew_seconds: float) -> float:
    """Return after what time a hold is over for every clock: it ends with a slot."""
    if hold_seconds == inf:
        return inf
    return hold_seconds + ceil(hold_seconds / SLOTS_PER_HOLD) + skew_seconds


class HoldBounds(Struct, frozen=True):
    """One hold, and all changes that were asked for.

    hold_seconds: of its generation. skew_seconds: how far the service's clocks may be apart.
    closes_at: when the next reset was sent.

    A process whose clock is ahead may call a hold expired up to `skew_seconds` too early. Its
    tickets come back no earlier than `skew_seconds` after that.
    """

    quantity: int
    first_sent_at: float
    first_told_at: float
    hold_seconds: float
    skew_seconds: float
    closes_at: float
    changes: tuple[HoldChange, ...]

    @property
    def is_confirmed(self) -> bool:
        """Return whether it is a purchase."""
        return any(self._of(HoldAction.CONFIRM, certain=True))

    @property
    def may_be_confirmed(self) -> bool:
        """Return whether it can be a purchase."""
        return any(self._of(HoldAction.CONFIRM))

    @property
    def is_released(self) -> bool:
        """Return whether a release has given its tickets back."""
        return any(self._of(HoldAction.RELEASE, certain=True))

    def kept_until(self, now: float) -> float:
        """Return until when a change may not be refused as too late. now: when it was sent."""
        extensions = [
            change.started_at
            for change in self._of(HoldAction.EXTEND, certain=True)
            if change.ended_at < now and not change.replayed
        ]
        return max([self.first_sent_at, *extensions]) + self.hold_seconds - self.skew_seconds

    def possibly_back(self) -> Iterator[tuple[float, int]]:
        """Yield when its tickets can have come back, at the earliest."""
        released = [change.started_at for change in self._of(HoldAction.RELEASE)]
        confirmed = [change.ended_at for change in self._of(HoldAction.CONFIRM, certain=True)]
        at = min([self._expires_at, *released])
        if at < min(confirmed, default=inf):
            yield at, self.quantity

    @property
    def is_over_at(self) -> float:
        """Return when it has expired for every process, at the latest."""
        extended = [change.ended_at for change in self._of(HoldAction.EXTEND)]
        lasts = longest_hold_seconds(self.hold_seconds, self.skew_seconds)
        return max([self.first_told_at, *extended]) + lasts

    def certainly_back(self) -> Iterator[tuple[float, int]]:
        """Yield when its tickets have come back, at the latest: `skew_seconds` after its end."""
        released = [change.ended_at for change in self._of(HoldAction.RELEASE, certain=True)]
        at = min([self.is_over_at + self.skew_seconds, *released])
        if at < min((change.started_at for change in self._of(HoldAction.CONFIRM)), default=inf):
            yield at, self.quantity

    def possibly_taken_again(self) -> Iterator[tuple[float, int]]:
        """Yield when a confirmation after its time can have taken other tickets."""
        late = [
            change.started_at
            for change in self._of(HoldAction.CONFIRM)
            if change.ended_at >= self._expires_at
        ]
        if late:
            yield max(min(late), self._expires_at), self.quantity

    def certainly_taken_again(self) -> Iterator[tuple[float, int]]:
        """Yield when it was certainly a purchase, where its tickets can have come back before."""
        confirmed = [change.ended_at for change in self._of(HoldAction.CONFIRM, certain=True)]
        if confirmed and any(self.possibly_back()):
            yield min(confirmed), self.quantity

    @property
    def _expires_at(self) -> float:
        """Return when it can have expired for every process, at the earliest."""
        return self.first_sent_at + self.hold_seconds

    def _of(self, action: HoldAction, *, certain: bool = False) -> Iterator[HoldChange]:
        """Yield the changes of this kind that took effect, or can have."""
        for change in self.changes:
            if change.action is action and (change.done or (change.done is None and not certain)):
                yield change
