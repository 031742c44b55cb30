"""The history of a sale that is over, from the functions' log lines and from the table.

A line says what one request was answered, so it stands for one attempt. A function that was killed
writes none, so the table has the last word: a purchase, a hold, or a change of them that no line
tells of is a request whose outcome was in doubt until the table was read.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from math import inf
from typing import Final

from msgspec import Struct, field, structs

from proof.history import (
    NOT_DEFINITE,
    RECEIPTS,
    SKEW_SECONDS,
    Attempt,
    AuditReport,
    CapacityChange,
    Export,
    ExportedHold,
    ExportLine,
    History,
    HoldAction,
    HoldChange,
    Inventory,
    Kind,
    Lookup,
    Pause,
    PurchaseRequest,
    Receipt,
    Refund,
    Sample,
)
from proof.log_changes import ChangesOfSale
from proof.log_lines import Log, LogLine, digest_of
from proof.responses import STATUS_CONFLICT, STATUS_GONE, STATUS_NOT_FOUND, STATUS_OK

HOLD: Final = "POST /holds"
ORDERS: Final = frozenset({"POST /buy_ticket", HOLD})
HOLD_ACTIONS: Final = {
    "POST /holds/{hold_id}/confirm": HoldAction.CONFIRM,
    "POST /holds/{hold_id}/extend": HoldAction.EXTEND,
    "DELETE /holds/{hold_id}": HoldAction.RELEASE,
}
REFUND: Final = "POST /purchases/{purchase_id}/refund"


class TableState(Struct, frozen=True):
    """What the table holds after the sale. exports: of each generation, the last one is current.

    final: the inventory. read_at: when it was all read, after the last line: seconds since the
    epoch.
    """

    exports: Sequence[Export]
    final: Inventory
    audit: AuditReport
    read_at: float


class LoggedSale(Struct, frozen=True):
    """A sale as its log and the table tell it.

    orders: lines that are judged, by the meaning of their answers. left_out: what is not judged →
    how many lines. without_line: what the table holds that no line tells of → how many.
    """

    history: History
    orders: Counter[Kind]
    left_out: Counter[str]
    without_line: Counter[str]


def since_this_version(log: Log, item_id: int) -> Log:
    """Return the lines after the last one of the item that has no `purchase_digest`.

    An earlier version of the service wrote that one.
    """
    last = max(
        (
            position
            for position, line in enumerate(log.lines, start=1)
            if line.route in ORDERS
            and line.item_id == item_id
            and line.purchase_digest is None
            and line.kind not in {None, *NOT_DEFINITE}
        ),
        default=0,
    )
    return structs.replace(log, lines=log.lines[last:])


def logged_sale(
    log: Log, changes: ChangesOfSale, table: TableState, cache_seconds: float
) -> LoggedSale:
    """Return the sale of an item.

    changes: what the log tells of the organiser. cache_seconds: see `History`. Raises NotJudged.
    """
    return _Reconstruction.of(log, changes, table).sale(cache_seconds)


class _Reconstruction(Struct):
    """What a sale is put together from. records: digest → the purchase or hold; see `_Record`."""

    lines: list[LogLine]
    table: TableState
    changes_of_sale: ChangesOfSale
    records: "dict[str, _Record]"
    orders: Counter[Kind] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    without_line: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, log: Log, changes: ChangesOfSale, table: TableState) -> "_Reconstruction":
        if not changes.resets:
            changes.begin_before_log(table.final)
        lines = [line for line in log.lines if line.item_id == changes.item_id]
        return cls(lines, table, changes, _records(table.exports))

    def sale(self, cache_seconds: float) -> LoggedSale:
        """Return the sale."""
        requests = [*self._requests()]
        table = self.table
        history = History(
            requests=tuple(requests),
            resets=tuple(self.changes_of_sale.limited_resets()),
            refunds=tuple(self._refunds()),
            changes=tuple(self._hold_changes()),
            pauses=tuple(self._pauses()),
            capacity_changes=tuple(self._capacity_changes()),
            lookups=tuple(self._lookups(requests)),
            final=Sample(table.read_at, table.read_at, table.final),
            audit=table.audit,
            exports=(table.exports[-1],),
            cache_seconds=cache_seconds,
            skew_seconds=SKEW_SECONDS,
            pause_seconds=cache_seconds,
        )
        return LoggedSale(history, self.orders, self.left_out, self.without_line)

    @property
    def first_generation(self) -> int:
        """Return the first generation of which all lines are there."""
        return self.changes_of_sale.resets[0].generation

    def _requests(self) -> Iterator[PurchaseRequest]:
        """Yield one request for each line of an order, and those that the table shows."""
        by_key: dict[str, list[tuple[LogLine, Kind]]] = defaultdict(list)
        for line in self.lines:
            kind = line.kind if line.route in ORDERS else None
            if kind is None:
                continue
            if line.purchase_digest is None:
                continue  # it failed before it was an order
            if why := self._why_left_out(line, kind):
                self.left_out[why] += 1
                continue
            by_key[line.purchase_digest].append((line, kind))
        for digest, answered in by_key.items():
            yield from self._of_key(digest, answered)
        for digest, record in self.records.items():
            if digest not in by_key:
                self.without_line["holds" if record.hold else "purchases"] += 1
                yield from self._unseen(record, [])

    def _why_left_out(self, line: LogLine, kind: Kind) -> str | None:
        """Return why a line is not judged; None where it is."""
        if line.generation is not None and line.generation < self.first_generation:
            return "answers of generations before the log began"
        match kind:
            case Kind.BUSY:
                return "503 busy: nothing was carried out"
            case Kind.LIMIT_REACHED:
                return "refusals for the buyer's limit: the log does not name buyers"
            case Kind.NOT_OPEN if line.reason != "paused":
                return "refusals before the sale opened, or after it closed"
            case _:
                return None

    def _of_key(
        self, digest: str, answered: Sequence[tuple[LogLine, Kind]]
    ) -> Iterator[PurchaseRequest]:
        """Yield the requests of one key. Its lines are in the order of time."""
        record = self.records.get(digest)
        if record is None:
            reused = [each for each in answered if each[1] is Kind.KEY_REUSED]
            if reused:
                self.left_out["keys of other orders of which the table has nothing"] += len(reused)
            answered = [each for each in answered if each not in reused]
        kinds = {kind for _, kind in answered}
        if not answered:
            return
        if record is None and kinds == {Kind.UNKNOWN} and not _has_bug(answered):
            self.left_out["outcomes in doubt of which the table has nothing"] += len(answered)
            return
        if answered[0][0].replayed and not kinds & RECEIPTS:
            # When the refusal was true, only the line of a killed function could tell.
            self.left_out["refusals on record whose first answer has no line"] += len(answered)
            return
        requests = [
            self._request(record.id_ if record else digest, line, kind, copy)
            for copy, (line, kind) in enumerate(answered, start=1)
        ]
        self.orders.update(kind for _, kind in answered)
        yield from requests
        if record is not None:
            if not kinds & RECEIPTS:
                self.without_line["holds" if record.hold else "purchases"] += 1
            yield from self._unseen(record, requests)

    def _request(self, key: str, line: LogLine, kind: Kind, copy: int) -> PurchaseRequest:
        """Return a request with one attempt: the line."""
        record, is_hold = self._record(line), line.route == HOLD
        buyer_id = record.receipt.buyer_id if record else None
        receipt = None
        if kind in RECEIPTS:
            receipt = _receipt(line, record)
            if is_hold:
                receipt = _hold_receipt(receipt, line, record)
        attempt = Attempt(
            line.started_at,
            line.ended_at,
            kind,
            line.status,
            line.code,
            receipt,
            left=line.left,
            replayed=bool(line.replayed) and receipt is None,
            reason=line.reason if kind is Kind.NOT_OPEN else None,
        )
        return PurchaseRequest(
            key,
            self.changes_of_sale.item_id,
            line.quantity or 0,
            buyer_id,
            (attempt,),
            copy,
            given_up=True,
            is_hold=is_hold,
        )

    def _unseen(
        self, record: "_Record", requests: Sequence[PurchaseRequest]
    ) -> Iterator[PurchaseRequest]:
        """Yield what must have been sent for the record, as far as no line tells of it.

        That is an attempt in doubt, and the table's answer as if its buyer had come back.
        """
        kinds = {attempt.kind for each in requests for attempt in each.attempts}
        attempts, read_at = list[Attempt](), self.table.read_at
        if Kind.BOUGHT not in kinds:
            sent_at = _seconds(record.created_at) - SKEW_SECONDS
            told = [each.last.ended_at for each in requests if each.last.kind in RECEIPTS]
            attempts.append(Attempt(sent_at, min(told, default=read_at), Kind.UNKNOWN))
        if not kinds & RECEIPTS:
            receipt = record.receipt
            attempts.append(Attempt(read_at, read_at, Kind.REPLAYED, STATUS_OK, receipt=receipt))
        if attempts:
            receipt = record.receipt
            yield PurchaseRequest(
                record.id_,
                self.changes_of_sale.item_id,
                receipt.quantity,
                receipt.buyer_id,
                tuple(attempts),
                len(requests) + 1,
                given_up=True,
                is_hold=receipt.is_hold,
            )

    def _capacity_changes(self) -> Iterator[CapacityChange]:
        """Yield them, with one at the end where the table has another capacity than the lines."""
        changes, final = self.changes_of_sale, self.table.final
        done = [each for each in changes.capacity_changes if each.done]
        known = changes.resets[-1].capacity
        if done and done[-1].started_at > changes.resets[-1].started_at:
            known = done[-1].capacity or 0
        yield from changes.capacity_changes
        if final.initial_stock != known and all(
            each.done is not None for each in changes.capacity_changes
        ):
            self.without_line["changes of the capacity"] += 1
            yield CapacityChange(
                changes.last_ended_at, self.table.read_at, final.initial_stock, done=None
            )

    def _pauses(self) -> Iterator[Pause]:
        """Yield the time in which the sale can have been paused, as one pause."""
        until = self.changes_of_sale.maybe_paused_until
        if self.table.final.state == "paused" and until < inf:
            self.without_line["pauses"] += 1
            until = inf
        if until > -inf:
            yield Pause(began_at=-inf, closed_at=inf, reopens_at=inf, ended_at=until)

    def _refunds(self) -> Iterator[Refund]:
        """Yield the refunds that lines tell of, and what else the table shows of each purchase."""
        copies: dict[tuple[str, str | None], list[Refund]] = defaultdict(list)
        for line in self._lines_of_records({REFUND}):
            if line.is_done and line.purchase_digest:
                copies[line.purchase_digest, line.key_digest].append(self._refund(line))
        told: Counter[str] = Counter()
        for (digest, _), refunds in copies.items():
            told[digest] += refunds[0].quantity
            yield Refund.of(refunds)
        for digest, record in self.records.items():
            more = record.refunded_quantity - told[digest]
            if more > 0:
                self.without_line["refunds"] += 1
                since = _seconds(record.purchased_at) - SKEW_SECONDS
                yield Refund(record.id_, more, since, self.table.read_at, True)

    def _refund(self, line: LogLine) -> Refund:
        record, since = self._record(line), line.started_at
        if line.replayed and record:  # the request that took effect may have been killed
            since = _seconds(record.purchased_at) - SKEW_SECONDS
        receipt = _receipt(line, record, record.quantity if record else None)
        return Refund(receipt.purchase_id, line.quantity or 0, since, line.ended_at, True, receipt)

    def _hold_changes(self) -> Iterator[HoldChange]:
        """Yield the changes that lines tell of, and what else the table shows of each hold."""
        done: set[tuple[str, HoldAction]] = set()
        for line in self._lines_of_records(HOLD_ACTIONS.keys()):
            change = self._hold_change(line, HOLD_ACTIONS[line.route])
            if change is None:
                continue
            if change.done and not change.replayed:
                done.add((change.purchase_id, change.action))
            yield change
        for record in self.records.values():
            for action, since, payment in record.hold_actions():
                if (record.id_, action) not in done:
                    self.without_line["changes of holds"] += 1
                    yield HoldChange(
                        record.id_,
                        action,
                        _seconds(since) - SKEW_SECONDS,
                        self.table.read_at,
                        done=True,
                        payment_reference=payment,
                    )

    def _hold_change(self, line: LogLine, action: HoldAction) -> HoldChange | None:
        """Return what a line says of a hold; None where nothing was asked of a hold, or done."""
        record = self._record(line)
        receipt = _receipt(line, record, record.quantity if record else None)
        change = HoldChange(
            receipt.purchase_id,
            action,
            line.started_at,
            line.ended_at,
            done=None,
            code=line.code,
            replayed=bool(line.replayed),
        )
        if line.is_in_doubt:
            return change
        if action is HoldAction.RELEASE and line.hold_status == "expired":
            return structs.replace(change, done=False, code="hold_expired")
        if line.is_done and action is HoldAction.CONFIRM:
            payment = record.payment_reference if record else None
            return structs.replace(change, done=True, payment_reference=payment, receipt=receipt)
        if line.is_done:
            return structs.replace(change, done=True)
        is_refused = line.status in {STATUS_CONFLICT, STATUS_GONE}
        return structs.replace(change, done=False) if is_refused else None

    def _record(self, line: LogLine) -> "_Record | None":
        """Return what the table has of the purchase or hold that a line is about."""
        return self.records.get(line.purchase_digest or "")

    def _lines_of_records(self, routes: Iterable[str]) -> Iterator[LogLine]:
        """Yield the lines of these routes, without those of generations before the log began."""
        wanted = frozenset(routes)
        for line in self.lines:
            if line.route in wanted and (line.generation or inf) >= self.first_generation:
                yield line

    def _lookups(self, requests: Iterable[PurchaseRequest]) -> Iterator[Lookup]:
        """Yield what the table has of each receipt."""
        purchases = {
            line.purchase_id: line.receipt for each in self.table.exports for line in each.lines
        }
        told = {
            attempt.receipt.purchase_id
            for request in requests
            for attempt in request.attempts
            if attempt.receipt
        }
        for id_ in sorted(told | purchases.keys()):
            found = _without_time(purchases[id_]) if id_ in purchases else None
            yield Lookup(id_, STATUS_OK if found else STATUS_NOT_FOUND, found)


class _Record(Struct):
    """A purchase or a hold in the table; both where a hold was confirmed."""

    id_: str
    purchase: ExportLine | None = None
    hold: ExportedHold | None = None

    @property
    def receipt(self) -> Receipt:
        """Return what its buyer was told: the hold, where it was one. See `_without_time`."""
        if self.hold is not None:
            return _without_time(self.hold.receipt)
        return _without_time(self._purchase.receipt)

    @property
    def quantity(self) -> int:
        """Return the tickets that were bought or held."""
        return self.receipt.quantity

    @property
    def created_at(self) -> str:
        """Return when its request was carried out."""
        return self.hold.held_at if self.hold else self._purchase.purchased_at

    @property
    def purchased_at(self) -> str:
        """Return when it was bought."""
        return self.purchase.purchased_at if self.purchase else self.created_at

    @property
    def refunded_quantity(self) -> int:
        """Return how many of its tickets were refunded."""
        return self.purchase.refunded_quantity if self.purchase else 0

    @property
    def payment_reference(self) -> str | None:
        """Return the payment that it was confirmed with."""
        return self.purchase.payment_reference if self.purchase else None

    def hold_actions(self) -> Iterator[tuple[HoldAction, str, str | None]]:
        """Yield what was done to the hold, since when at the earliest, and with which payment."""
        if self.hold is None:
            return
        if self.hold.extended:
            yield HoldAction.EXTEND, self.hold.held_at, None
        if self.hold.status == "released":
            yield HoldAction.RELEASE, self.hold.held_at, None
        if self.purchase is not None:
            yield HoldAction.CONFIRM, self.purchase.purchased_at, self.purchase.payment_reference

    @property
    def _purchase(self) -> ExportLine:
        if self.purchase is None:
            raise ValueError("a record is a purchase or a hold")
        return self.purchase


def _records(exports: Iterable[Export]) -> dict[str, _Record]:
    """Return digest → record of all purchases and holds."""
    records: dict[str, _Record] = {}
    for export in exports:
        for line in export.lines:
            records[digest_of(line.purchase_id)] = _Record(line.purchase_id, line)
        for hold in export.holds:
            record = records.setdefault(digest_of(hold.hold_id), _Record(hold.hold_id))
            record.hold = hold
    return records


def _receipt(line: LogLine, record: _Record | None, quantity: int | None = None) -> Receipt:
    """Return the receipt that a line tells of. quantity: bought; None: what the line says."""
    bought = line.quantity or 0 if quantity is None else quantity
    refunded = line.refunded_quantity or 0
    return Receipt(
        purchase_id=record.id_ if record else line.purchase_digest or "",
        item_id=line.item_id or 0,
        quantity=bought,
        status="refunded" if refunded == bought else "confirmed",
        purchased_at="",
        generation=line.generation or 0,
        buyer_id=record.receipt.buyer_id if record else None,
        refunded_quantity=refunded,
    )


def _hold_receipt(receipt: Receipt, line: LogLine, record: _Record | None) -> Receipt:
    """Return the receipt of a hold."""
    return structs.replace(
        receipt,
        status=line.hold_status or "",
        refunded_quantity=0,
        expires_at=line.expires_at,
        extended=bool(record and record.hold and record.hold.extended),
    )


def _without_time(receipt: Receipt) -> Receipt:
    """Return it without `purchased_at`, which no line has."""
    return structs.replace(receipt, purchased_at="")


def _has_bug(answered: Iterable[tuple[LogLine, Kind]]) -> bool:
    return any(line.outcome == "internal_error" for line, _ in answered)


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
