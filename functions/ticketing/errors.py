"""What can go wrong.

    TicketingError
    ├── InvalidRequest        the caller's fault: names the field and the remedy
    ├── NotFound              no such item, purchase or route
    ├── GenerationChanged     the sale is not the one that the organiser expects: nothing was written
    ├── KeyReusedForReset     the organiser's key belongs to another reset: nothing was written
    ├── Busy                  the request's time is over: says why, and when and how it may be sent again
    ├── UnreadableRecord      the table holds what nothing of ours wrote
    ├── OutOfTime             the same inside the domain: no store call may start any more
    └── StoreTrouble          a store call had no success, and may be tried again
        ├── Contended         another transaction or a throttle was in the way: nothing was written
        ├── StaleSale         planned with an older generation of the sale: nothing was written
        ├── Unreachable       there was no connection to the store: nothing was sent
        └── OutcomeUnknown    no answer came: the write may have been committed

Expected ends of a purchase (bought, sold out, key used before) are results, in `rules`, not errors.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why a request was told "busy"."""

    CONTENTION = "contention"
    STORE_UNAVAILABLE = "store_unavailable"
    IN_DOUBT = "in_doubt"


class TicketingError(Exception):
    """Root of all errors that this package raises on purpose."""


class InvalidRequest(TicketingError):
    """The request is malformed (`status` 400) or out of bounds (422).

    field: the offending field or header as the caller knows it, None where no single one is to blame.
    """

    def __init__(self, detail: str, *, field: str | None = None, status: int = 422) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.status = status


class NotFound(TicketingError):
    """What the request names does not exist."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class GenerationChanged(TicketingError):
    """The sale's generation is not the expected one."""

    def __init__(self, detail: str, generation: int) -> None:
        super().__init__(detail)
        self.detail = detail
        self.generation = generation


class KeyReusedForReset(TicketingError):
    """The idempotency key has reset the sale in another way."""


class Busy(TicketingError):
    """A request ended without an outcome.

    reason: why. remedy: how to go on safely, a sentence. retry_after_seconds: when.
    purchase_id: the purchase that an attempt in doubt may have made; None where there is none.
    """

    def __init__(
        self, reason: Reason, *, remedy: str, retry_after_seconds: int, purchase_id: str | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.retry_after_seconds = retry_after_seconds
        self.purchase_id = purchase_id


class OutOfTime(TicketingError):
    """The request's deadline has passed, or its attempts are used up."""


class UnreadableRecord(TicketingError):
    """A record lacks an attribute, or has one of another type. The message names both, and the record's key."""


class StoreTrouble(TicketingError):
    """A store call had no success. It may be tried again."""

    reason = Reason.CONTENTION


class Contended(StoreTrouble):
    """A conflict with another transaction, or a throttle. Nothing was written."""


class StaleSale(StoreTrouble):
    """The stock belongs to a newer generation of the sale than the caller knows. Nothing was written."""


class Unreachable(StoreTrouble):
    """No connection, or no credentials to use it. Nothing was sent."""

    reason = Reason.STORE_UNAVAILABLE


class OutcomeUnknown(StoreTrouble):
    """A time-out, a broken connection or an error on the store's side: a write may have been committed or not."""

    reason = Reason.STORE_UNAVAILABLE
