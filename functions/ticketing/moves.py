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
    purchase record; before: None where there is no record yet.
    """

    name: str
    debit: Counter
    credit: Counter
    before: Status | None
    after: Status


BUY: Final = Move(
    "buy", debit=Counter.STOCK, credit=Counter.SOLD, before=None, after=Status.CONFIRMED
)
REFUND: Final = Move(
    "refund",
    debit=Counter.SOLD,
    credit=Counter.STOCK,
    before=Status.CONFIRMED,
    after=Status.REFUNDED,
)
REFUND_IN_PART: Final = replace(REFUND, name="refund in part", after=Status.CONFIRMED)

MOVES: Final = (BUY, REFUND, REFUND_IN_PART)
