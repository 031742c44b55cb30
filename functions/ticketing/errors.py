"""What can go wrong.

    TicketingError
    ├── InvalidRequest      the caller's fault: names the field and the remedy
    ├── NotFound            no such item, purchase or route
    ├── Busy                the budget is spent: the same request with the same key may be sent again
    └── StoreTrouble        the store's: a purchase is tried again, any other request is told "busy"
        ├── Contended       another transaction or a throttle was in the way: nothing was written
        ├── StaleSale       planned with an older generation of the sale: nothing was written
        └── OutcomeUnknown  no answer came: the write may stand or not

Expected ends of a purchase (bought, sold out, key used before) are results, in `rules`, not errors.
"""


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


class Busy(TicketingError):
    """Too much contention, or a store that does not answer.

    purchase_id: the purchase that an attempt without an answer may have made; None where none can have been made.
    retry_after_seconds: when the caller should come back.
    """

    def __init__(self, *, purchase_id: str | None, retry_after_seconds: int) -> None:
        super().__init__("the outcome is unknown" if purchase_id else "nothing was bought")
        self.purchase_id = purchase_id
        self.retry_after_seconds = retry_after_seconds


class StoreTrouble(TicketingError):
    """The store did not carry out a call. Worth another try."""


class Contended(StoreTrouble):
    """A conflict with another transaction, or a throttle. Nothing was written."""


class StaleSale(StoreTrouble):
    """The stock belongs to a newer generation of the sale than the caller knows. Nothing was written."""


class OutcomeUnknown(StoreTrouble):
    """A time-out, a broken connection or an error on the store's side: a write may stand or not."""
