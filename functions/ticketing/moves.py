"""The moves: every change of a shard's counters is a row of this table.

A move takes tickets out of one counter and puts them into another, so their sum cannot change. The
store builds the update of a shard and the condition on the purchase record from the row.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


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


@dataclass(frozen=True, slots=True)
class Move:
    """A row of the table.

    debit, credit: the counters that lose and gain the tickets. before, after: the status of the
    purchase record; before: None where there is no record yet. from_slot: takes the tickets out of
    the expiry slot of the record before. to_slot: puts them into that of the record after.
    puts_record: reclaiming changes no record.
    """

    name: str
    debit: Counter
    credit: Counter
    before: Status | None
    after: Status
    from_slot: bool = False
    to_slot: bool = False
    puts_record: bool = True


BUY: Final = Move("buy", Counter.STOCK, Counter.SOLD, before=None, after=Status.CONFIRMED)
HOLD: Final = Move(
    "hold", Counter.STOCK, Counter.HELD, before=None, after=Status.HELD, to_slot=True
)
EXTEND: Final = Move(
    "extend",
    Counter.HELD,
    Counter.HELD,
    before=Status.HELD,
    after=Status.HELD,
    from_slot=True,
    to_slot=True,
)
CONFIRM: Final = Move(
    "confirm",
    Counter.HELD,
    Counter.SOLD,
    before=Status.HELD,
    after=Status.CONFIRMED,
    from_slot=True,
)
# Its slot is gone, so the tickets come out of the stock, as for a purchase.
CONFIRM_LATE: Final = Move(
    "confirm late", Counter.STOCK, Counter.SOLD, before=Status.HELD, after=Status.CONFIRMED
)
RELEASE: Final = Move(
    "release",
    Counter.HELD,
    Counter.STOCK,
    before=Status.HELD,
    after=Status.RELEASED,
    from_slot=True,
)
# Of all holds in an expired slot. Their records stay, and are read as expired.
RECLAIM: Final = Move(
    "reclaim",
    Counter.HELD,
    Counter.STOCK,
    before=Status.HELD,
    after=Status.HELD,
    from_slot=True,
    puts_record=False,
)
REFUND: Final = Move(
    "refund", Counter.SOLD, Counter.STOCK, before=Status.CONFIRMED, after=Status.REFUNDED
)
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
