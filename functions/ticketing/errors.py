"""All errors of this package.

    TicketingError
    ├── InvalidRequest       malformed or out of bounds: names the field and the remedy
    │   └── BuyerUnknown         the sale has a limit for each buyer, and the order names none
    ├── NotFound             no such item, purchase or route
    ├── SaleNotOpen          the sale has not begun, is paused or is over
    ├── Refused              definite: no attempt of this request can still take effect
    │   ├── GenerationChanged    the sale has another generation than expected
    │   ├── KeyReusedForSale     the key belongs to another change of the sale
    │   ├── CatalogueFull        there are too many items
    │   ├── CapacityTooLow       more tickets are sold and held than the sale shall have
    │   ├── ItemInUse            tickets of an item are sold or held, so it cannot be deleted
    │   └── HoldsNotOffered      the sale has no holds
    ├── Busy                 no definite outcome within the budget: why, and when to send it again
    ├── UnreadableRecord     a record that this software did not write
    ├── DeadlineExceeded     inside the domain: no store call may start any more
    └── StoreError           a store call failed, and may be tried again
        ├── Contended        a conflict or a throttle; nothing was written
        ├── StaleSale        planned with an older state of the sale; nothing was written
        ├── Unreachable      no connection to the store; nothing was sent
        └── OutcomeUnknown   no answer: the write may have committed

Expected outcomes of a purchase (bought, sold out, key reused) are results, in `model`, not errors.
"""

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """Why a request was answered with "busy"."""

    CONTENTION = "contention"
    STORE_UNAVAILABLE = "store_unavailable"
    IN_DOUBT = "in_doubt"


class TicketingError(Exception):
    """Base class of this package's errors."""


class InvalidRequest(TicketingError):
    """The request is malformed (`status` 400) or out of bounds (`status` 422).

    field: the field or header as the caller knows it; None where no single one is to blame.
    """

    def __init__(self, detail: str, *, field: str | None = None, status: int = 422) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.status = status


class BuyerUnknown(InvalidRequest):
    """The sale has a limit for each buyer, and the order names no buyer."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"This sale has a limit of {limit} for each buyer. Send a buyer_id.", field="buyer_id"
        )


class NotFound(TicketingError):
    """The item, purchase or route does not exist."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @classmethod
    def of_item(cls, item_id: int) -> Self:
        """Return the error for an item without a sale."""
        return cls(f"There is no item {item_id}. Ask for another item_id.")


class SaleNotOpen(TicketingError):
    """The sale does not sell now: no tickets can be taken out of its stock.

    phase: why, a `Phase`. opens_at, closes_at: see `Sale`. retry_after_seconds: when it may have
    changed; None: not by itself.
    """

    def __init__(
        self,
        phase: str,
        *,
        opens_at: float | None,
        closes_at: float | None,
        retry_after_seconds: int | None,
    ) -> None:
        super().__init__(phase)
        self.phase = phase
        self.opens_at = opens_at
        self.closes_at = closes_at
        self.retry_after_seconds = retry_after_seconds


class Refused(TicketingError):
    """A definite refusal: no attempt of this request can still take effect."""


class GenerationChanged(Refused):
    """The sale has another generation than the organiser expects."""

    def __init__(self, detail: str, generation: int) -> None:
        super().__init__(detail)
        self.detail = detail
        self.generation = generation


class KeyReusedForSale(Refused):
    """The idempotency key belongs to a change of the sale that asked for something else."""


class CatalogueFull(Refused):
    """The catalogue has as many items as it may have."""


class CapacityTooLow(Refused):
    """More tickets are sold and held than the sale shall have. lowest: as many as they are."""

    def __init__(self, lowest: int) -> None:
        super().__init__(lowest)
        self.lowest = lowest


class ItemInUse(Refused):
    """The item cannot be deleted. tickets: how many of it are sold and held."""

    def __init__(self, tickets: int) -> None:
        super().__init__(tickets)
        self.tickets = tickets


class HoldsNotOffered(Refused):
    """An earlier version opened the sale. It has no holds before its next generation."""


class Busy(TicketingError):
    """The request ended without a definite outcome.

    reason: why. remedy: one sentence that says how to go on safely. retry_after_seconds: when.
    purchase_id: the purchase that an attempt in doubt may have made; None where there is none.
    """

    def __init__(
        self,
        reason: Reason,
        *,
        remedy: str,
        retry_after_seconds: int,
        purchase_id: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.retry_after_seconds = retry_after_seconds
        self.purchase_id = purchase_id


class DeadlineExceeded(TicketingError):
    """The request's deadline has passed, or its attempts are used up."""


class UnreadableRecord(TicketingError):
    """A record lacks an attribute, or has one of another type. The message names both."""


class StoreError(TicketingError):
    """A store call failed. It may be tried again."""

    reason = Reason.CONTENTION


class Contended(StoreError):
    """A conflict with another transaction, or a throttle. Nothing was written."""


class StaleSale(StoreError):
    """The sale has a newer generation than was known, or more shards. Nothing was written."""


class Unreachable(StoreError):
    """No connection, or no credentials to use it. Nothing was sent."""

    reason = Reason.STORE_UNAVAILABLE


class OutcomeUnknown(StoreError):
    """A time-out, a broken connection or a server error: the write may have committed."""

    reason = Reason.STORE_UNAVAILABLE
