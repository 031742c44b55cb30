"""The audit: purchase records against counters, record by record, believing neither."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ticketing.catalogue import Catalogue
from ticketing.rules import Purchase, Sale, Shard, timestamp, totals
from ticketing.store import Store


@dataclass(frozen=True, slots=True)
class Audit:
    """What the counters and the records of one generation say, and where they differ."""

    sale: Sale
    stock: int
    held: int
    sold: int
    purchase_records: int
    tickets_in_records: int
    problems: Sequence[str]
    checked_at: str


def audit(store: Store, item_id: int, *, clock: Callable[[], float] = time.time) -> Audit:
    """Counts the item's purchase records with consistent reads, and holds them against the counters. Raises NotFound.

    Exact at rest. While tickets are being sold the records are counted between two readings of the counters,
    and only what lies outside these is a problem.
    """
    catalogue = Catalogue(store)
    before = catalogue.inventory(item_id)
    records = [record for record in store.purchases(item_id) if record.generation == before.sale.generation]
    after = catalogue.inventory(item_id)
    problems = [*_shard_problems(after.sale, after.shards), *_record_problems(records)]
    if before.sale.generation == after.sale.generation:
        problems += _count_problems(records, before.shards, after.shards)
    else:
        problems.append("The sale was reset while it was audited. Audit it again.")
    _, stock, held, sold = totals(after.shards)
    return Audit(
        sale=after.sale,
        stock=stock,
        held=held,
        sold=sold,
        purchase_records=len(records),
        tickets_in_records=sum(record.quantity for record in records),
        problems=problems,
        checked_at=timestamp(clock()),
    )


def _shard_problems(sale: Sale, shards: Sequence[Shard]) -> list[str]:
    problems = [
        f"Shard {shard.index}: stock {shard.stock} + held {shard.held} + sold {shard.sold} is not {shard.capacity}."
        for shard in shards
        if shard.stock + shard.held + shard.sold != shard.capacity
    ]
    problems += [
        f"Shard {shard.index}: {name} is {count}."
        for shard in shards
        for name, count in (("stock", shard.stock), ("held", shard.held), ("sold", shard.sold))
        if count < 0
    ]
    capacity = sum(shard.capacity for shard in shards)
    if capacity != sale.capacity:
        problems.append(f"The shards have a capacity of {capacity}, the sale of {sale.capacity}.")
    return problems


def _record_problems(records: Sequence[Purchase]) -> list[str]:
    return [
        f"Purchase {record.purchase_id}: {sum(record.taken.values())} of {record.quantity} tickets came from stock."
        for record in records
        if sum(record.taken.values()) != record.quantity
    ]


def _count_problems(records: Sequence[Purchase], before: Sequence[Shard], after: Sequence[Shard]) -> list[str]:
    taken = Counter[int]()
    for record in records:
        taken.update(record.taken)
    sold = {old.index: (old.sold, new.sold) for old, new in zip(before, after, strict=True)}
    return [
        f"Shard {index}: its records hold {taken[index]} tickets, its counter says {least}"
        + (f" to {most}." if most != least else ".")
        for index in sorted(sold.keys() | taken.keys())
        for least, most in [sold.get(index, (0, 0))]
        if not least <= taken[index] <= most
    ]
