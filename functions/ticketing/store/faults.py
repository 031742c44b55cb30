"""What DynamoDB's errors mean: which may be tried again, and why a transaction was cancelled."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from botocore import exceptions
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from msgspec import Struct

from ticketing.errors import Contended, OutcomeUnknown, StoreError, Unreachable
from ticketing.store.items import Item

# Every exception that a call of the client raises.
CALL_ERRORS: Final = (exceptions.BotoCoreError, ClientError, ResponseParserError)

# Cancellation reasons that allow another attempt (TransactWriteItems, API reference).
_CONFLICT: Final = "TransactionConflict"
_THROTTLES: Final = {"ThrottlingError", "ProvisionedThroughputExceeded"}
_CONDITION_FAILED: Final = "ConditionalCheckFailed"
# "None": nothing was wrong with this action. Any other reason is a bug.
_EXPECTED_REASONS: Final = {_CONFLICT, *_THROTTLES, _CONDITION_FAILED, "None"}
# Errors of a whole call that was refused before anything was written.
_CONTENTION_ERRORS: Final = {
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionConflictException",
}
# Errors after which the call may have been carried out, as after every status of 500 and above.
_UNKNOWN_ERRORS: Final = {
    "RequestTimeout",
    "RequestTimeoutException",
    "TransactionInProgressException",
}


class ActionResult(Struct, frozen=True):
    """What became of one action of a cancelled transaction.

    condition_failed: its condition was false for `item`, the item as it was then ({}: missing).
    conflicted: its item is in another transaction. throttled: its key, or the table, has no units
    left. None of these: it was in order.
    """

    condition_failed: bool
    conflicted: bool
    throttled: bool
    item: Item

    @property
    def contended(self) -> bool:
        """Return whether another attempt may find nothing wrong."""
        return self.conflicted or self.throttled


def translated(error: Exception) -> StoreError | None:
    """Return the StoreError for a failed call that may be tried again; None for a bug."""
    match error:
        case exceptions.EndpointConnectionError() | exceptions.ConnectTimeoutError():
            return Unreachable()
        case exceptions.ProxyConnectionError() | exceptions.CredentialRetrievalError():
            return Unreachable()
        case exceptions.ConnectionError() | exceptions.HTTPClientError() | ResponseParserError():
            return OutcomeUnknown()
        case ClientError():
            code = error.response["Error"]["Code"]
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if code in _CONTENTION_ERRORS or status == HTTPStatus.TOO_MANY_REQUESTS:
                return Contended()
            timed_out = status == HTTPStatus.REQUEST_TIMEOUT or code in _UNKNOWN_ERRORS
            is_unknown = timed_out or status >= HTTPStatus.INTERNAL_SERVER_ERROR
            return OutcomeUnknown() if is_unknown else None
        case _:
            return None


def reasons_of(error: ClientError) -> Sequence[Any]:
    """Return why each action of a cancelled transaction failed, in the request's order (AWS).

    Raises the error itself where one reason is a bug, whatever the others are.
    """
    reasons: Sequence[Any] = error.response.get("CancellationReasons", [])
    if not reasons or any(reason["Code"] not in _EXPECTED_REASONS for reason in reasons):
        raise error
    return reasons


def results_of(error: ClientError, names: Sequence[str]) -> Mapping[str, ActionResult]:
    """Return what became of each action of a cancelled transaction, by its name.

    names: of the actions, in the request's order. Raises the error itself for a bug.
    """
    return {
        name: ActionResult(
            condition_failed=reason["Code"] == _CONDITION_FAILED,
            conflicted=reason["Code"] == _CONFLICT,
            throttled=reason["Code"] in _THROTTLES,
            item=reason.get("Item", {}),
        )
        for name, reason in zip(names, reasons_of(error), strict=True)
    }
