"""Exports: every purchase of a sale, part by part, and a total that is compared with the counters.

It reads as an audit does, pages of the table itself: no index that a purchase would have to write
as well.
"""

from collections.abc import Sequence

from msgspec import Struct

from ticketing.audit import Count, all_problems
from ticketing.errors import InvalidRequest
from ticketing.limits import (
    AUDIT_BUDGET_SECONDS,
    EXPORT_RECORDS_MAX,
    EXPORT_RECORDS_WITH_HOLDS_MAX,
)
from ticketing.model import ExportPart, ExportTotal, Purchase
from ticketing.retry import Attempts, Runtime, Statistics
from ticketing.rules import as_of, current_shards, timestamp, totals
from ticketing.store.table import Page, Table
from ticketing.tally import Tally, from_cursor, to_cursor


class _Progress(Struct):
    """What an export has come to. The caller carries it to the next request as the cursor.

    generation: of the purchases that are exported. with_holds: they come with all holds. quantity,
    refunded: the purchases' tickets.
    """

    tally: Tally
    generation: int
    with_holds: bool = False
    purchases: int = 0
    quantity: int = 0
    refunded: int = 0

    @property
    def records_max(self) -> int:
        """Return how many records one part looks at, at most."""
        return EXPORT_RECORDS_WITH_HOLDS_MAX if self.with_holds else EXPORT_RECORDS_MAX

    def add(self, purchases: Sequence[Purchase]) -> None:
        """Count the purchases of another part."""
        self.purchases += len(purchases)
        self.quantity += sum(each.quantity for each in purchases)
        self.refunded += sum(each.refunded_quantity for each in purchases)


class Exporter:
    """Exports the purchases of sales."""

    def __init__(self, table: Table, runtime: Runtime) -> None:
        self._table = table
        self._runtime = runtime

    def export(
        self,
        item_id: int,
        generation: int | None = None,
        cursor: str | None = None,
        statistics: Statistics | None = None,
        *,
        with_holds: bool = False,
    ) -> ExportPart:
        """Return a part of the item's purchases, in no order; with the last one their total.

        Each purchase that was made before the first part was asked for is in exactly one part, as
        it is then. generation: None exports the current one. cursor: of the part before; it exports
        what that one does. with_holds: the parts also have all holds, confirmed ones too, which are
        purchases as well.

        Raises NotFound, InvalidRequest for a malformed cursor or a generation that has not begun,
        and Busy.
        """
        attempts = Attempts[None](self._runtime, AUDIT_BUDGET_SECONDS, statistics=statistics)
        attempts.statistics.item_id = item_id
        store = self._table.within(attempts.deadline)
        progress = from_cursor(cursor, _Progress) if cursor else None
        tally = progress.tally if progress else None
        count = Count.of(item_id, tally, store, attempts, self._runtime)
        current = count.stock.sale.generation
        progress = progress or _Progress(count.tally, generation or current, with_holds)
        _check(progress, current, generation, with_holds=with_holds)
        records: list[Purchase] = []

        def take(page: Page) -> None:
            records.extend(
                each for each in page.purchases if each.generation == progress.generation
            )
            for problem in page.problems:
                progress.tally.report(problem)

        complete = count.run(take, progress.records_max)
        purchases = [each for each in records if each.is_purchase]
        progress.add(purchases)
        return ExportPart(
            item_id=item_id,
            generation=progress.generation,
            purchases=purchases,
            is_first=not cursor,
            total=self._total(progress, count) if complete else None,
            cursor=None if complete else to_cursor(progress),
            holds=self._holds(records, current) if progress.with_holds else None,
        )

    def _holds(self, records: Sequence[Purchase], current: int) -> list[Purchase]:
        """Return the holds as their owners see them. current: the sale's generation."""
        now = self._runtime.clock()
        return [as_of(each, now, current) for each in records if each.is_hold]

    def _total(self, progress: _Progress, count: Count) -> ExportTotal:
        stock, now = count.read_stock(), self._runtime.clock()
        current = stock.sale.generation
        if current == progress.tally.generation:
            problems = all_problems(progress.tally, stock, now)
        else:
            problems = ["The sale was reset meanwhile, so nothing was compared."]
        _, _, _, sold = totals(current_shards(stock.sale, stock.shards))
        return ExportTotal(
            purchases=progress.purchases,
            quantity=progress.quantity,
            refunded=progress.refunded,
            sold=sold if current == progress.generation else None,
            problems=problems,
            checked_at=timestamp(now),
        )


def _check(progress: _Progress, current: int, generation: int | None, *, with_holds: bool) -> None:
    """Raise InvalidRequest where something else is asked for than can be exported.

    current: the sale's generation. generation, with_holds: asked for beside the cursor.
    """
    if progress.generation > current:
        detail = f"The sale has generation {current}. Ask for that one, or an earlier one."
        raise InvalidRequest(detail, field="generation")
    if generation not in {None, progress.generation}:
        detail = (
            f"The cursor belongs to generation {progress.generation}. Leave the generation out."
        )
        raise InvalidRequest(detail, field="generation")
    if with_holds and not progress.with_holds:
        detail = "The cursor belongs to an export without holds. Leave it out."
        raise InvalidRequest(detail, field="holds")
