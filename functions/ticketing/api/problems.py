"""Problem documents (RFC 9457): every code with its status, and the one for each error."""

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Final, Self

from ticketing.api.request import REPLAYED, Reply, Request
from ticketing.api.schemas import Problem, instant
from ticketing.errors import (
    Busy,
    CapacityTooLow,
    CatalogueFull,
    GenerationChanged,
    HoldsNotOffered,
    InvalidRequest,
    ItemInUse,
    KeyReusedForSale,
    NotFound,
    Reason,
    Refused,
    SaleNotOpen,
)
from ticketing.limits import ITEMS_MAX
from ticketing.model import LimitReached, Phase, SoldOut

MEDIA_TYPE: Final = "application/problem+json"


class Code(StrEnum):
    """Every problem code, with its status. API Gateway gives some of them as well."""

    status: HTTPStatus

    SOLD_OUT = "sold_out", HTTPStatus.CONFLICT
    NOT_ENOUGH_LEFT = "not_enough_left", HTTPStatus.CONFLICT
    ALL_HELD = "all_held", HTTPStatus.CONFLICT
    BUYER_LIMIT_REACHED = "buyer_limit_reached", HTTPStatus.CONFLICT
    SALE_NOT_OPEN = "sale_not_open", HTTPStatus.CONFLICT
    HOLDS_NOT_OFFERED = "holds_not_offered", HTTPStatus.CONFLICT
    HOLD_EXPIRED = "hold_expired", HTTPStatus.GONE
    HOLD_RELEASED = "hold_released", HTTPStatus.GONE
    HOLD_CONFIRMED = "hold_confirmed", HTTPStatus.CONFLICT
    ALREADY_PAID = "already_paid", HTTPStatus.CONFLICT
    PAYMENT_REUSED = "payment_reused", HTTPStatus.CONFLICT
    REFUND_TOO_LARGE = "refund_too_large", HTTPStatus.CONFLICT
    GENERATION_CHANGED = "generation_changed", HTTPStatus.CONFLICT
    CATALOGUE_FULL = "catalogue_full", HTTPStatus.CONFLICT
    CAPACITY_TOO_LOW = "capacity_too_low", HTTPStatus.CONFLICT
    ITEM_IN_USE = "item_in_use", HTTPStatus.CONFLICT
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused", HTTPStatus.UNPROCESSABLE_ENTITY
    INVALID_REQUEST = "invalid_request", HTTPStatus.UNPROCESSABLE_ENTITY  # 400 where unreadable
    NOT_FOUND = "not_found", HTTPStatus.NOT_FOUND
    UNAUTHORIZED = "unauthorized", HTTPStatus.UNAUTHORIZED  # API Gateway's: no valid ID token
    FORBIDDEN = "forbidden", HTTPStatus.FORBIDDEN  # API Gateway's: a signature is missing
    BUSY = "busy", HTTPStatus.SERVICE_UNAVAILABLE  # 429 from API Gateway
    INTERNAL_ERROR = "internal_error", HTTPStatus.INTERNAL_SERVER_ERROR

    def __new__(cls, code: str, status: HTTPStatus) -> Self:
        """Return the code, with its status."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.status = status
        return member


_BUSY: Final[Mapping[Reason, str]] = {
    Reason.CONTENTION: "Too many requests for the same tickets at once. Nothing was carried out.",
    Reason.STORE_UNAVAILABLE: (
        "The store cannot be reached, or did not respond. Nothing was carried out."
    ),
    Reason.IN_DOUBT: "The store did not respond.",
}


def problem(
    request: Request,
    code: Code,
    detail: str,
    *,
    status: HTTPStatus | None = None,
    field: str | None = None,
    left: int | None = None,
    next_release_at: float | None = None,
    payment_reference: str | None = None,
    purchase_id: str | None = None,
    reason: str | None = None,
    opens_at: float | None = None,
    closes_at: float | None = None,
    lowest_capacity: int | None = None,
    headers: Mapping[str, str] | None = None,
    metrics: Mapping[str, int] | None = None,
) -> Reply:
    """Return a problem document as a reply. status: the code's own by default."""
    status = status or code.status
    document = Problem(
        title=status.phrase,
        status=status,
        code=code,
        detail=detail,
        request_id=request.request_id,
        field=field,
        left=left,
        next_release_at=instant(next_release_at),
        payment_reference=payment_reference,
        purchase_id=purchase_id,
        reason=reason,
        opens_at=instant(opens_at),
        closes_at=instant(closes_at),
        lowest_capacity=lowest_capacity,
    )
    return Reply(document, status, headers or {}, MEDIA_TYPE, outcome=code, metrics=metrics or {})


def problem_of(request: Request, error: Exception) -> Reply:
    """Return the problem document for an error. One that has no document of its own is a bug."""
    match error:
        case InvalidRequest():
            return problem(
                request,
                Code.INVALID_REQUEST,
                error.detail,
                status=HTTPStatus(error.status),
                field=error.field,
            )
        case NotFound():
            return problem(request, Code.NOT_FOUND, error.detail)
        case SaleNotOpen():
            return _not_open(request, error)
        case Refused():
            return _refusal(request, error)
        case Busy():
            return problem(
                request,
                Code.BUSY,
                f"{_BUSY[error.reason]} {error.remedy}",
                purchase_id=error.purchase_id,
                reason=error.reason,
                headers={"Retry-After": str(error.retry_after_seconds)},
                metrics={"Busy": 1},
            )
        case _:
            return problem(
                request,
                Code.INTERNAL_ERROR,
                "This is a bug of the service. The operator finds it in the log by the request_id.",
            )


def _refusal(request: Request, error: Refused) -> Reply:
    match error:
        case GenerationChanged():
            return problem(request, Code.GENERATION_CHANGED, error.detail)
        case KeyReusedForSale():
            return key_reused(request, "change of this item")
        case CatalogueFull():
            return problem(
                request, Code.CATALOGUE_FULL, f"There are {ITEMS_MAX} items, and no more can be."
            )
        case CapacityTooLow():
            return problem(
                request,
                Code.CAPACITY_TOO_LOW,
                f"{error.lowest} tickets are sold and held, so the capacity cannot be less. "
                "Nothing was changed.",
                field="capacity",
                lowest_capacity=error.lowest,
            )
        case ItemInUse():
            return problem(
                request,
                Code.ITEM_IN_USE,
                f"{error.tickets} tickets are sold and held. Nothing was changed. "
                "Refund and release them, or let the sale end: PUT the item with a closes_at.",
            )
        case HoldsNotOffered():
            return problem(
                request,
                Code.HOLDS_NOT_OFFERED,
                "This sale has no holds. Buy the tickets at once, with POST /buy_ticket.",
            )
        case _:
            raise AssertionError("every refusal has a problem document") from error


def _not_open(request: Request, error: SaleNotOpen) -> Reply:
    """Return the problem document for a sale that does not sell now."""
    opens_at = error.opens_at if error.phase == Phase.SCHEDULED else None
    closes_at = error.closes_at if error.phase == Phase.CLOSED else None
    match error.phase:
        case Phase.SCHEDULED:
            detail = f"The sale opens at {instant(opens_at)}. Come back then."
        case Phase.PAUSED:
            detail = "The sale is paused. Send the same request again later."
        case _:
            detail = f"The sale ended at {instant(closes_at)}."
    seconds = error.retry_after_seconds
    return problem(
        request,
        Code.SALE_NOT_OPEN,
        detail,
        reason=error.phase,
        opens_at=opens_at,
        closes_at=closes_at,
        headers=None if seconds is None else {"Retry-After": str(seconds)},
        metrics={"NotOpen": 1},
    )


def sold_out(request: Request, refusal: SoldOut) -> Reply:
    """Return the problem document for an order of more tickets than are free."""
    next_release_at = refusal.next_release_at
    if refusal.left:
        code, detail = Code.NOT_ENOUGH_LEFT, f"Only {refusal.left} left. Ask for fewer."
    elif next_release_at is not None:
        code, detail = Code.ALL_HELD, "All tickets are held or sold. Held ones may come back."
    else:
        code, detail = Code.SOLD_OUT, "All tickets are sold."
    return problem(
        request,
        code,
        f"{detail}{_final(refusal)}",
        field="quantity" if refusal.left else None,
        left=refusal.left,
        next_release_at=next_release_at,
        headers=REPLAYED if refusal.replayed else None,
        metrics={"SoldOut": 1},
    )


def limit_reached(request: Request, refusal: LimitReached) -> Reply:
    """Return the problem document for an order of more tickets than the buyer may have."""
    return problem(
        request,
        Code.BUYER_LIMIT_REACHED,
        f"A buyer may have {refusal.limit} tickets of this sale, and this buyer can get "
        f"{refusal.left} more.{_final(refusal)}",
        field="quantity" if refusal.left else "buyer_id",
        left=refusal.left,
        headers=REPLAYED if refusal.replayed else None,
        metrics={"LimitReached": 1},
    )


def _final(refusal: SoldOut | LimitReached) -> str:
    return " A new order needs a fresh Idempotency-Key." if refusal.final else ""


def key_reused(request: Request, owner: str) -> Reply:
    """Return the problem document for a key that belongs to another `owner`."""
    return problem(
        request,
        Code.IDEMPOTENCY_KEY_REUSED,
        f"This Idempotency-Key belongs to another {owner}. Send a fresh key.",
        field="Idempotency-Key",
    )
