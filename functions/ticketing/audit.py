"""The audit: compare the purchase records with the counters, shard by shard."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Struct

from ticketing.errors import DeadlineExceeded, InvalidRequest, NotFound
from ticketing.retry import Attempts, Runtime, TryAgain
from ticketing.rules import Purchase, Sale, Shard, current_shards, timestamp, totals
from ticketing.store import Store

# No store call starts later, and none takes longer than 3 s (`store.connect`).
BUDGET_SECONDS: Final = 20.0
# Part of the budget, kept for reading the counters again after the last page.
RESERVE_SECONDS: Final = 5.0
PROBLEMS_MAX: Final = 20  # listed by name; the rest is only counted


@dataclass(frozen=True, slots=True)
class AuditResult:
    """The counters and records of one generation, and where they differ.

    cursor: where to continue when the time was over before all records were counted; None where all
    were.
    """

    sale: Sale
    stock: int
    held: int
    sold: int
    purchase_records: int
    tickets_in_records: int
    problems: Sequence[str]
    checked_at: str
    cursor: str | None


class _Progress(Struct):
    """What an audit has counted so far. The caller carries it to the next request as the cursor.

    sold, sold_before: shard → tickets sold in this generation, and in all earlier ones, when the
    audit began. taken, taken_before: shard → tickets in the records of this generation, and of all
    earlier ones.
    """

    item_id: int
    generation: int
    sold: dict[int, int]
    sold_before: dict[int, int]
    taken: dict[int, int] = {}
    taken_before: dict[int, int] = {}
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

    def count(self, record: Purchase) -> None:
        taken = sum(record.taken.values())
        if taken != record.quantity:
            self.report(
                f"Purchase {record.purchase_id}: "
                f"{taken} of {record.quantity} tickets came from stock."
            )
        if record.generation == self.generation:
            self.records += 1
            self.tickets += record.quantity
            _add(self.taken, record.taken)
        elif record.generation < self.generation:
            _add(self.taken_before, record.taken)

    def report(self, problem: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)
        else:
            self.problems_left_out += 1


def audit(
    store: Store, item_id: int, *, runtime: Runtime | None = None, cursor: str | None = None
) -> AuditResult:
    """Count the item's purchase records with consistent reads, and compare them with the counters.

    Exact at rest. While tickets are being sold, the records are counted between two reads of the
    counters, and only a count outside these is a problem. cursor: of an audit that ran out of time;
    it continues there.

    Raises NotFound, InvalidRequest for a malformed cursor, and Busy where the counters could not be
    read.
    """
    runtime = runtime or Runtime()
    attempts = Attempts(runtime, BUDGET_SECONDS)
    store = store.within(attempts.deadline)
    try:
        sale, shards, _ = attempts.run(lambda: _read_counters(store, item_id))
        progress = _Progress.from_cursor(cursor, item_id) if cursor else _begin(sale, shards)
        complete = _count_records(store, progress, attempts)
        sale, shards, unreadable = attempts.run(lambda: _read_counters(store, item_id))
    except DeadlineExceeded:
        raise attempts.busy() from attempts.last_error
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
    _, stock, held, sold = totals(current_shards(sale, shards))
    return AuditResult(
        sale=sale,
        stock=stock,
        held=held,
        sold=sold,
        purchase_records=progress.records,
        tickets_in_records=progress.tickets,
        problems=problems,
        checked_at=timestamp(runtime.clock()),
        cursor=None if complete or sale.generation != progress.generation else progress.cursor(),
    )


def _read_counters(store: Store, item_id: int) -> tuple[Sale, Sequence[Shard], Sequence[str]]:
    sale = store.read_sale(item_id)
    if sale is None:
        raise NotFound(f"There is no item {item_id}. Ask for another item_id.")
    shards, unreadable = store.read_stored_shards(sale)
    if any(shard.generation > sale.generation for shard in shards):
        raise TryAgain  # a reset came between the two reads
    return sale, shards, unreadable


def _begin(sale: Sale, shards: Sequence[Shard]) -> _Progress:
    sold, sold_before = _counts(sale, shards)
    return _Progress(sale.item_id, sale.generation, sold, sold_before)


def _count_records(store: Store, progress: _Progress, attempts: Attempts) -> bool:
    """Count page after page. Return False where the time was over before the last one."""
    while True:
        page = attempts.run(lambda: store.read_purchases(progress.item_id, progress.start))
        for record in page.purchases:
            progress.count(record)
        for problem in page.problems:
            progress.report(problem)
        progress.start = page.end
        if page.end is None:
            return True
        if attempts.deadline.left() < RESERVE_SECONDS:
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
        f"Shard {shard.index}: {name} is {count}."
        for shard in shards
        for name, count in (("stock", shard.stock), ("held", shard.held), ("sold", shard.sold))
        if count < 0
    ]
    capacity = sum(shard.capacity for shard in current_shards(sale, shards))
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
