"""The functions' log lines: one for each request that a function has answered."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from proof.history import SKEW_SECONDS, Kind
from proof.responses import STATUS_CREATED, STATUS_OK, kind_of


class LogLine(Struct, frozen=True):
    """What a function says of one request.

    purchase_digest: see `digest_of`. key_digest: stands for the idempotency key of an organiser's
    call. capacity: asked for, or of the sale afterwards.
    """

    timestamp: datetime
    route: str
    status: int
    outcome: str
    duration_ms: float
    request_id: str = ""
    lambda_request_id: str = ""
    replayed: bool | None = None
    item_id: int | None = None
    purchase_digest: str | None = None
    key_digest: str | None = None
    quantity: int | None = None
    generation: int | None = None
    refunded_quantity: int | None = None
    hold_status: str | None = None
    expires_at: str | None = None
    left: int | None = None
    reason: str | None = None
    capacity: int | None = None
    lowest_capacity: int | None = None
    hold_seconds: int | None = None
    per_buyer_limit: int | None = None

    @property
    def started_at(self) -> float:
        """Return when the request began, at the earliest by any clock: seconds since the epoch."""
        return self.timestamp.timestamp() - self.duration_ms / 1000 - SKEW_SECONDS

    @property
    def ended_at(self) -> float:
        """Return when it was answered, at the latest by any clock: seconds since the epoch."""
        return self.timestamp.timestamp() + SKEW_SECONDS

    @property
    def is_done(self) -> bool:
        """Return whether it took effect, now or before."""
        return self.status in (STATUS_OK, STATUS_CREATED)

    @property
    def is_in_doubt(self) -> bool:
        """Return whether it may have taken effect."""
        return self.kind is Kind.UNKNOWN

    @property
    def code(self) -> str | None:
        """Return the problem's code, as a caller takes it: in doubt is not busy."""
        return None if self.is_done or self.reason == "in_doubt" else self.outcome

    @property
    def kind(self) -> Kind | None:
        """Return what it means for an order; None where the request was none, as one of 404."""
        if self.is_done:
            return Kind.BOUGHT if self.status == STATUS_CREATED else Kind.REPLAYED
        return kind_of(self.status, self.outcome, self.reason)


class Log(Struct, frozen=True):
    """Lines in the order of time, each once. unreadable: how many more there were."""

    lines: list[LogLine]
    unreadable: int


def digest_of(purchase_id: str) -> str:
    """Return what stands for a purchase id in the log: the first 32 digits of its SHA-256."""
    return hashlib.sha256(purchase_id.encode()).hexdigest()[:32]


def read_log(texts: Iterable[str]) -> Log:
    """Return the request lines of some files; other lines are left out.

    A text has JSON objects in it, also over several lines and after anything else, as `make logs`,
    `sam logs` and `aws logs tail` print them; or it is the document of `aws logs
    filter-log-events`. A line may be in several texts.
    """
    lines: dict[tuple[str, str, datetime], LogLine] = {}
    unreadable = 0
    for found in (found for text in texts for found in _objects(text)):
        if found is None:
            unreadable += 1
        elif "route" in found:
            try:
                line = msgspec.convert(found, LogLine)
            except msgspec.ValidationError:
                unreadable += 1
                continue
            lines[line.request_id, line.lambda_request_id, line.timestamp] = line
    return Log(sorted(lines.values(), key=lambda line: line.timestamp), unreadable)


def _objects(text: str) -> Iterator[dict[str, Any] | None]:
    """Yield the JSON objects in a text; None for what is cut off of a request's line."""
    decoder, position = json.JSONDecoder(), 0
    while (begin := text.find("{", position)) >= 0:
        try:
            found, position = decoder.raw_decode(text, begin)
        except (json.JSONDecodeError, RecursionError):
            position = text.find("\n", begin)
            position = len(text) if position < 0 else position
            if '"route"' in text[begin:position]:
                yield None
            continue
        events = found.get("events")
        if isinstance(events, list):
            for event in events:
                yield from _objects(str(event["message"]) if "message" in event else "")
        else:
            yield found
