"""What an HTTP response means. Any response becomes an observation; nothing here fails."""

import csv
import io
import re
from collections.abc import Mapping
from typing import Any, Protocol

import httpx
import msgspec
from msgspec import structs

from organiser.client import BUSY_STATUSES, UNKNOWN_STATUSES, retry_after_seconds
from proof.history import (
    Attempt,
    Export,
    ExportedHold,
    ExportFigures,
    ExportLine,
    Hold,
    HoldAction,
    HoldChange,
    Kind,
    Receipt,
)

STATUS_CREATED = 201
STATUS_OK = 200
STATUS_NOT_FOUND = 404
STATUS_CONFLICT = 409
STATUS_GONE = 410
STATUS_UNPROCESSABLE = 422
STATUS_INTERNAL_ERROR = 500
KINDS_BY_CODE = {
    (409, "sold_out"): Kind.SOLD_OUT,
    (409, "not_enough_left"): Kind.NOT_ENOUGH_LEFT,
    (409, "all_held"): Kind.ALL_HELD,
    (409, "buyer_limit_reached"): Kind.LIMIT_REACHED,
    (409, "sale_not_open"): Kind.NOT_OPEN,
    (422, "idempotency_key_reused"): Kind.KEY_REUSED,
}
DETAIL_CHARACTERS_MAX = 200


# Wrong UTF-8 and a depth of a hundred thousand brackets raise other exceptions.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Response(Protocol):
    """The part of `httpx.Response` that is read here."""

    @property
    def status_code(self) -> int: ...
    @property
    def content(self) -> bytes: ...
    @property
    def text(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


class NotAsPromised(Exception):
    """A 2xx response whose body is not what the API promises. The text says why."""


def body_of[Shape](response: Response, shape: type[Shape]) -> Shape:
    """Return the JSON body as a `shape`. Raises NotAsPromised."""
    try:
        return msgspec.json.decode(response.content, type=shape)
    except NOT_JSON as error:
        raise NotAsPromised(f"{error}: {excerpt(response)}") from error


def export_of(text: str, shape: str, started_at: float, ended_at: float) -> Export:
    """Return an export in the format `shape`, all of its parts. Raises NotAsPromised."""
    lines: list[ExportLine | ExportedHold | ExportFigures]
    try:
        if shape == "csv":
            rows = [_row(row) for row in csv.DictReader(io.StringIO(text, newline=""))]
            lines = msgspec.convert(
                rows, list[ExportLine | ExportedHold | ExportFigures], strict=False
            )
        else:
            decoder = msgspec.json.Decoder(ExportLine | ExportedHold | ExportFigures)
            lines = decoder.decode_lines(text)
    except (*NOT_JSON, csv.Error) as error:
        raise NotAsPromised(f"{error}: {text[:DETAIL_CHARACTERS_MAX]}") from error
    purchases = [line for line in lines if isinstance(line, ExportLine)]
    holds = [line for line in lines if isinstance(line, ExportedHold)]
    totals = [line for line in lines[-1:] if isinstance(line, ExportFigures)]
    if len(purchases) + len(holds) + len(totals) != len(lines):
        raise NotAsPromised("there is a total before the last line")
    return Export(started_at, ended_at, shape, purchases, totals[0] if totals else None, holds)


def _row(row: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a line of CSV: an empty one has none."""
    fields: dict[str, Any] = {name: value or None for name, value in row.items()}
    problems = fields.pop("problems", None)
    return fields | ({"problems": [problems]} if problems else {})


def next_query(response: Response) -> str | None:
    """Return the query of the next part, from the header `Link`; None in the last part."""
    match = re.fullmatch(r'<\?([^>]*)>; rel="next"', response.headers.get("Link", ""))
    return match[1] if match else None


def excerpt(response: Response) -> str:
    """Return the start of a body, on one line."""
    text = " ".join(response.text.split())
    return text if len(text) <= DETAIL_CHARACTERS_MAX else text[:DETAIL_CHARACTERS_MAX] + "…"


def problem_of(response: Response) -> dict[str, Any]:
    """Return the problem document; an empty one where the body is none."""
    try:
        document = msgspec.json.decode(response.content)
    except NOT_JSON:
        return {}
    return document if isinstance(document, dict) else {}


def kind_of(status: int, code: str | None, reason: object) -> Kind | None:
    """Return what a problem document means for an order; None where an order gets no such one."""
    if status in UNKNOWN_STATUSES or reason == "in_doubt":
        return Kind.UNKNOWN
    if status in BUSY_STATUSES:
        return Kind.BUSY
    return KINDS_BY_CODE.get((status, code or ""))


def attempt_of(
    response: Response, started_at: float, ended_at: float, *, is_hold: bool = False
) -> Attempt:
    """Return the attempt with this response to `POST /buy_ticket`, or to `POST /holds`."""
    status = response.status_code
    if status in (STATUS_CREATED, STATUS_OK):
        return _receipt_attempt(response, started_at, ended_at, is_hold=is_hold)
    problem = problem_of(response)
    code = problem.get("code") if isinstance(problem.get("code"), str) else None
    left = problem.get("left") if isinstance(problem.get("left"), int) else None
    if (status, code, problem.get("field")) == (422, "invalid_request", "buyer_id"):
        kind = Kind.BUYER_UNKNOWN
    else:
        kind = kind_of(status, code, problem.get("reason")) or Kind.UNEXPECTED
    return Attempt(
        started_at,
        ended_at,
        kind,
        status,
        code,
        left=left,
        retry_after_seconds=retry_after_seconds(response),
        detail=excerpt(response) if kind in (Kind.UNKNOWN, Kind.UNEXPECTED) else "",
        replayed=_is_replayed(response),
        reason=problem.get("reason") if kind is Kind.NOT_OPEN else None,
    )


def changed(change: HoldChange, response: Response) -> HoldChange:
    """Return a change of a hold with what the response says of it. done: None where it is open."""
    if response.status_code in (STATUS_OK, STATUS_CREATED):
        replayed = _is_replayed(response)
        if change.action is HoldAction.CONFIRM:
            receipt = body_of(response, Receipt)
            return structs.replace(change, done=True, replayed=replayed, receipt=receipt)
        status = body_of(response, Hold).status
        if change.action is HoldAction.RELEASE and status == "expired":
            return structs.replace(change, done=False, code="hold_expired")
        return structs.replace(change, done=True, replayed=replayed)
    if response.status_code in (STATUS_CONFLICT, STATUS_GONE):
        return structs.replace(change, done=False, code=problem_of(response).get("code"))
    if problem_of(response).get("code") == "internal_error":
        return structs.replace(change, code="internal_error")
    return change


def _is_replayed(response: Response) -> bool:
    return response.headers.get("Idempotent-Replayed") == "true"


def _receipt_attempt(
    response: Response, started_at: float, ended_at: float, *, is_hold: bool
) -> Attempt:
    status = response.status_code
    replayed = _is_replayed(response)
    try:
        receipt = body_of(response, Hold).receipt if is_hold else body_of(response, Receipt)
    except NotAsPromised as error:
        detail = f"not a receipt: {error}"
        return Attempt(started_at, ended_at, Kind.UNEXPECTED, status, detail=detail)
    if replayed != (status == STATUS_OK):
        detail = (
            f"{status} {'with' if replayed else 'without'} Idempotent-Replayed: {excerpt(response)}"
        )
        return Attempt(started_at, ended_at, Kind.UNEXPECTED, status, detail=detail)
    return Attempt(
        started_at, ended_at, Kind.REPLAYED if replayed else Kind.BOUGHT, status, receipt=receipt
    )


def attempt_without_answer(
    error: httpx.RequestError, started_at: float, ended_at: float
) -> Attempt:
    """Return the attempt that got no response. Without a connection, nothing was sent."""
    not_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    kind = Kind.BUSY if not_sent else Kind.UNKNOWN
    return Attempt(started_at, ended_at, kind, detail=f"{type(error).__name__} {error}".strip())
