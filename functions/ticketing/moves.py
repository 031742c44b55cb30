"""The moves: every change of a shard's counters is a row of this table.

A move takes tickets out of one counter and puts them into another, so their sum cannot change. The
store builds the update of a shard and the condition on the purchase record from the row.
"""

from copy import replace
from enum import StrEnum
from typing import Final

from msgspec import Struct


class Counter(StrEnum):
    """A shard's counters: the names of its attributes. They add up to its capacity."""

    STOCK = "stock"
    HELD = "held"
    SOLD = "sold"


class Status(StrEnum):
    """The status of a purchase record."""

    CONFIRMED = "confirmed"
    HELD = "held"
    RELEASED = "released"
    REFUNDED = "refunded"
    REFUSED = "refused"  # not a purchase: it keeps attempts in doubt from buying after a refusal
    EXPIRED = "expired"  # never stored: a held record is read so when its time is over


class Move(Struct, frozen=True):
    """A row of the table.

    debit, credit: the counters that lose and gain the tickets. before, after: the status of the
    purchase record; before: None where there is no record yet. puts_record: reclaiming changes no
    record.
    """

    name: str
    debit: Counter
    credit: Counter
    before: Status | None
    after: Status
    puts_record: bool = True

    @property
    def from_slot(self) -> bool:
        """Return whether the tickets leave the expiry slot of the record before."""
        return self.debit is Counter.HELD

    @property
    def to_slot(self) -> bool:
        """Return whether the tickets enter the expiry slot of the record after."""
        return self.credit is Counter.HELD

    @property
    def takes_payment(self) -> bool:
        """Return whether a payment may be recorded with the move: it makes a hold a purchase."""
        return (self.before, self.after) == (Status.HELD, Status.CONFIRMED)


BUY: Final = Move("buy", Counter.STOCK, Counter.SOLD, None, Status.CONFIRMED)
HOLD: Final = Move("hold", Counter.STOCK, Counter.HELD, None, Status.HELD)
EXTEND: Final = Move("extend", Counter.HELD, Counter.HELD, Status.HELD, Status.HELD)
CONFIRM: Final = Move("confirm", Counter.HELD, Counter.SOLD, Status.HELD, Status.CONFIRMED)
# Its slot is gone, so the tickets come out of the stock, as for a purchase.
CONFIRM_LATE: Final = replace(CONFIRM, name="confirm late", debit=Counter.STOCK)
RELEASE: Final = Move("release", Counter.HELD, Counter.STOCK, Status.HELD, Status.RELEASED)
# Of all holds in an expired slot. Their records stay, and are read as expired.
RECLAIM: Final = replace(RELEASE, name="reclaim", after=Status.HELD, puts_record=False)
REFUND: Final = Move("refund", Counter.SOLD, Counter.STOCK, Status.CONFIRMED, Status.REFUNDED)
REFUND_IN_PART: Final = replace(REFUND, name="refund in part", after=Status.CONFIRMED)

MOVES: Final = (
    BUY,
    HOLD,
    EXTEND,
    CONFIRM,
    CONFIRM_LATE,
    RELEASE,
    RECLAIM,
    REFUND,
    REFUND_IN_PART,
)
