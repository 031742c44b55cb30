"""The audit: compare the purchase records with the counters, shard by shard."""

import base64
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf

import msgspec
from msgspec import Struct

from ticketing.errors import InvalidRequest, NotFound
from ticketing.limits import (
    AUDIT_BUDGET_SECONDS,
    AUDIT_RESERVE_SECONDS,
    CLOCK_SKEW_SECONDS,
    PROBLEMS_MAX,
    SETTLE_SECONDS,
)
from ticketing.model import AuditResult, Purchase, Sale, Shard
from ticketing.moves import Status
from ticketing.retry import Attempts, Runtime, Statistics, TryAgain
from ticketing.rules import current_shards, digest, timestamp, totals
from ticketing.store.table import Store, Table


class _Progress(Struct):
    """What an audit has counted so far. The caller carries it to the next request as the cursor.

    sold, sold_before: shard → tickets sold in this generation, and in all earlier ones, when the
    audit began. changes: shard → digest of the time of its last change then. taken, taken_before:
    shard → tickets in the purchases of this generation, and of all earlier ones. held: shard →
    tickets in the holds of this generation whose expiry slot is still there.
    """

    item_id: int
    generation: int
    sold: dict[int, int]
    sold_before: dict[int, int]
    changes: dict[int, str] = {}
    taken: dict[int, int] = {}
    taken_before: dict[int, int] = {}
    held: dict[int, int] = {}
    records: int = 0
    tickets: int = 0
    problems: list[str] = []
    problems_left_out: int = 0
    start: str | None = None

    def cursor(self) -> str:
        return base64.urlsafe_b64encode(zlib.compress(msgspec.json.encode(self), 9)).decode()

    @classmethod
    def from_cursor(cls, cursor: str, item_id: int) -> "_Progress":
        try:
            progress = msgspec.json.decode(
                zlib.decompress(base64.urlsafe_b64decode(cursor)), type=cls
            )
        except (ValueError, zlib.error, msgspec.MsgspecError) as error:
            raise InvalidRequest(
                "This is not the cursor of an audit. Leave it out.", field="cursor"
            ) from error
        if progress.item_id != item_id:
            raise InvalidRequest(
                f"This cursor belongs to an audit of item {progress.item_id}.", field="cursor"
            )
        return progress

    def count(self, record: Purchase, slots: Mapping[int, Collection[int]]) -> None:
        """Count a record. slots: shard → its expiry slots."""
        if record.status is Status.HELD:
            self._count_hold(record, slots)
        elif record.is_purchase:
            self._count_purchase(record)

    def _count_hold(self, record: Purchase, slots: Mapping[int, Collection[int]]) -> None:
        taken = sum(record.taken.values())
        if taken != record.quantity:
            self.report(
                f"Hold {record.purchase_id}: it has {record.quantity} tickets, and {taken} from "
                "stock."
            )
        if record.generation == self.generation:
            live = {
                index: tickets
                for index, tickets in record.taken.items()
                if record.expires_at in slots.get(index, ())
            }
            _add(self.held, live)

    def _count_purchase(self, record: Purchase) -> None:
        taken, kept = sum(record.taken.values()), record.kept_quantity
        # What is refunded after a reset stays in `taken`.
        most = kept if record.generation == self.generation else record.quantity
        if not kept <= taken <= most:
            self.report(
                f"Purchase {record.purchase_id}: it has {kept} tickets, and {taken} from stock."
            )
        if record.generation == self.generation:
            self.records += 1
            self.tickets += kept
            _add(self.taken, record.taken)
        elif record.generation < self.generation:
            _add(self.taken_before, record.taken)

    def report(self, problem: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)
        else:
            self.problems_left_out += 1


class Auditor:
    """Audits sales."""

    def __init__(self, table: Table, runtime: Runtime) -> None:
        self._table = table
        self._runtime = runtime

    def audit(
        self, item_id: int, cursor: str | None = None, statistics: Statistics | None = None
    ) -> AuditResult:
        """Count the item's records with consistent reads, and compare them with the counters.

        Exact at rest. While tickets are being sold, the records are counted between two reads of
        the counters, and only a count outside these is a problem. cursor: of an audit that ran out
        of time; it continues there.

        Raises NotFound, InvalidRequest for a malformed cursor, and Busy where the counters could
        not be read.
        """
        attempts = Attempts[None](self._runtime, AUDIT_BUDGET_SECONDS, statistics=statistics)
        attempts.statistics.item_id = item_id
        store = self._table.within(attempts.deadline)
        sale, shards, _ = attempts.run(lambda: _read_counters(store, item_id, self._runtime))
        progress = _Progress.from_cursor(cursor, item_id) if cursor else _begin(sale, shards)
        slots = {shard.index: tuple(shard.slots) for shard in shards}
        complete = _count_records(store, progress, attempts, slots)
        sale, shards, unreadable = attempts.run(
            lambda: _read_counters(store, item_id, self._runtime)
        )
        is_same = sale.generation == progress.generation
        _, stock, held, sold = totals(current_shards(sale, shards))
        now = self._runtime.clock()
        return AuditResult(
            sale=sale,
            stock=stock,
            held=held,
            sold=sold,
            purchase_records=progress.records,
            tickets_in_records=progress.tickets,
            problems=_problems(progress, sale, shards, unreadable, complete=complete, now=now),
            checked_at=timestamp(now),
            cursor=progress.cursor() if is_same and not complete else None,
        )


def _problems(
    progress: _Progress,
    sale: Sale,
    shards: Sequence[Shard],
    unreadable: Sequence[str],
    *,
    complete: bool,
    now: float,
) -> list[str]:
    """Return all problems.

    unreadable: what is wrong with shards that cannot be read. complete: all records were counted.
    """
    problems = list(progress.problems)
    if progress.problems_left_out:
        problems.append(f"There are {progress.problems_left_out} more such records.")
    problems += [*unreadable, *_shard_problems(sale, shards)]
    if sale.generation != progress.generation:
        problems.append(
            "The sale was reset while it was audited. Audit it again from the beginning."
        )
    elif complete:
        problems += _count_problems(progress, _counts(sale, shards))
        problems += _hold_problems(progress, shards, now)
    return problems


def _read_counters(
    store: Store, item_id: int, runtime: Runtime
) -> tuple[Sale, Sequence[Shard], Sequence[str]]:
    """Return the sale, its stored shards, and what is wrong with those that cannot be read.

    While the capacity changes, sale and shards may not fit together. They are read until they do,
    or until the sale's record is the same as before.
    """
    revision = None
    while True:
        sale = store.read_sale(item_id)
        if sale is None:
            raise NotFound.of_item(item_id)
        shards, unreadable = store.read_stored_shards(sale)
        if any(shard.generation > sale.generation for shard in shards):
            raise TryAgain  # a reset came between the two reads
        if _capacity(sale, shards) == sale.capacity or sale.revision == revision:
            return sale, shards, unreadable
        revision = sale.revision
        runtime.sleep(SETTLE_SECONDS)


def _capacity(sale: Sale, shards: Iterable[Shard]) -> int:
    """Return the capacity of all shards together."""
    return totals(current_shards(sale, shards))[0]


def _begin(sale: Sale, shards: Sequence[Shard]) -> _Progress:
    sold, sold_before = _counts(sale, shards)
    changes = {shard.index: _last_change(shard) for shard in shards}
    return _Progress(sale.item_id, sale.generation, sold, sold_before, changes)


def _last_change(shard: Shard) -> str:
    """Return a short digest: the cursor carries one for each shard."""
    return digest(shard.generation, shard.updated_at)[:8]


def _count_records(
    store: Store,
    progress: _Progress,
    attempts: Attempts[None],
    slots: Mapping[int, Collection[int]],
) -> bool:
    """Count page after page. Return False where the time was over before the last one."""
    while True:
        page = attempts.run(lambda: store.read_purchases(progress.item_id, progress.start))
        for record in page.purchases:
            progress.count(record, slots)
        for problem in page.problems:
            progress.report(problem)
        progress.start = page.end
        if page.end is None:
            return True
        if attempts.deadline.left() < AUDIT_RESERVE_SECONDS:
            return False


def _add(total: dict[int, int], more: Mapping[int, int]) -> None:
    for index, tickets in more.items():
        total[index] = total.get(index, 0) + tickets


def _counts(sale: Sale, shards: Sequence[Shard]) -> tuple[dict[int, int], dict[int, int]]:
    """Return shard → tickets sold in the sale's generation, and in all earlier ones.

    What a shard sold that is not open yet belongs to the earlier ones.
    """
    current = {shard.index: shard.generation == sale.generation for shard in shards}
    sold = {shard.index: shard.sold if current[shard.index] else 0 for shard in shards}
    before = {
        shard.index: shard.sold_before + (0 if current[shard.index] else shard.sold)
        for shard in shards
    }
    return sold, before


def _shard_problems(sale: Sale, shards: Sequence[Shard]) -> list[str]:
    problems = [
        f"Shard {shard.index}: stock {shard.stock} + held {shard.held} + sold {shard.sold} "
        f"is not {shard.capacity}."
        for shard in shards
        if shard.stock + shard.held + shard.sold != shard.capacity
    ]
    problems += [
        f"Shard {shard.index}: held is {shard.held}, its expiry slots have "
        f"{sum(shard.slots.values())}."
        for shard in shards
        if shard.held != sum(shard.slots.values())
    ]
    problems += [
        f"Shard {shard.index}: {name} is {count}."
        for shard in shards
        for name, count in (("stock", shard.stock), ("held", shard.held), ("sold", shard.sold))
        if count < 0
    ]
    capacity = _capacity(sale, shards)
    if capacity != sale.capacity:
        problems.append(f"The shards have a capacity of {capacity}, the sale of {sale.capacity}.")
    return problems


def _count_problems(
    progress: _Progress, after: tuple[Mapping[int, int], Mapping[int, int]]
) -> list[str]:
    sold, sold_before = after
    return [
        *_differences("its records hold", progress.taken, progress.sold, sold),
        *_differences(
            "its records of earlier generations hold",
            progress.taken_before,
            progress.sold_before,
            sold_before,
        ),
    ]


def _hold_problems(progress: _Progress, shards: Sequence[Shard], now: float) -> list[str]:
    """Compare the holds with each shard that has not changed since the audit began.

    A hold that was paid for after its time may have left its tickets in its slot, until that is
    reclaimed. now: by our clock.
    """
    unchanged = [
        shard for shard in shards if progress.changes.get(shard.index) == _last_change(shard)
    ]
    return [
        f"Shard {shard.index}: its holds have {counted} tickets, its counter says {shard.held}."
        for shard in unchanged
        if shard.generation == progress.generation
        for counted in [progress.held.get(shard.index, 0)]
        if counted > shard.held
        or (counted < shard.held and min(shard.slots, default=inf) > now + CLOCK_SKEW_SECONDS)
    ]


def _differences(
    what: str, taken: Mapping[int, int], before: Mapping[int, int], after: Mapping[int, int]
) -> list[str]:
    return [
        f"Shard {index}: {what} {taken.get(index, 0)} tickets, its counter says {least}"
        + (f" to {most}." if most != least else ".")
        for index in sorted(taken.keys() | before.keys() | after.keys())
        for least, most in [(before.get(index, 0), after.get(index, 0))]
        if not least <= taken.get(index, 0) <= most
    ]
