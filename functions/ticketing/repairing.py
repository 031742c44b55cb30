"""Repairs: counters and other records become what the purchase records say.

A repair counts as an audit does, and then puts what should be there, if it has not changed since.
So it never adds a difference, a second one changes nothing, and a purchase that meets one tries
again. All shards change in one transaction: a repair that dies half-way leaves none half mended.
"""

from collections.abc import Sequence
from copy import replace
from functools import partial
from typing import Final

from msgspec import Struct

from ticketing.audit import WAS_RESET, Count, Finding, Stock, all_differences
from ticketing.limits import AUDIT_BUDGET_SECONDS, PROBLEMS_MAX, REPAIR_COUNTS_MAX
from ticketing.model import BuyerTickets, Payment, RepairResult, StockSummary
from ticketing.repair_plan import RepairPlan, repair_plan
from ticketing.retry import Attempts, InDoubt, Runtime, Statistics
from ticketing.rules import timestamp
from ticketing.store.table import Store, Table
from ticketing.tally import Difference, Tally, from_cursor, to_cursor

_IN_DOUBT: Final = InDoubt(
    "Something may have been repaired. Send the same request again: it changes nothing twice."
)
_IS_MOVING: Final = (
    "Shards changed while they were counted. Send the request again, without a cursor; pause the "
    "sale first where many buy."
)


class RepairService:
    """Repairs sales."""

    def __init__(self, table: Table, runtime: Runtime) -> None:
        self._table = table
        self._runtime = runtime

    def repair(
        self,
        item_id: int,
        cursor: str | None = None,
        *,
        apply: bool,
        drop_unrecorded: bool = False,
        statistics: Statistics | None = None,
    ) -> RepairResult:
        """Make the item's shards, buyers and payments what its purchase records say.

        apply: False only returns what would be changed. drop_unrecorded: tickets that are counted
        and have no record leave the sale's capacity, and the limits of buyers; otherwise they are
        reported. cursor: of a repair that has not looked at all records; it continues there, with
        the same values. At most as many records are counted as by an audit.

        Raises NotFound, InvalidRequest for a malformed cursor, and Busy.
        """
        attempts = Attempts[object](
            self._runtime, AUDIT_BUDGET_SECONDS, statistics=statistics, if_in_doubt=_IN_DOUBT
        )
        attempts.statistics.item_id = item_id
        store = self._table.within(attempts.deadline)
        flow = _RepairFlow(store, attempts, self._runtime, apply, drop_unrecorded)
        return flow.run(item_id, cursor)


class _RepairFlow(Struct):
    """One repair in progress. store: bound to the deadline of the attempts.

    repaired: what was changed, or would be. left_out: how many changes of records are not named.
    """

    store: Store
    attempts: Attempts[object]
    runtime: Runtime
    apply: bool
    drop: bool
    repaired: list[str] = []
    left_out: int = 0

    def run(self, item_id: int, cursor: str | None) -> RepairResult:
        """Count and repair; again where a shard that is to be repaired has changed meanwhile."""
        for _ in range(REPAIR_COUNTS_MAX):
            if not self.apply:
                self.repaired, self.left_out = [], 0
            tally = from_cursor(cursor, Tally) if cursor else None
            count = Count.of(item_id, tally, self.store, self.attempts, self.runtime, by_slot=True)
            complete = count.run(partial(count.look, report=self._mend))
            stock = count.read_stock()
            if stock.sale.generation != count.tally.generation:
                return self._result(stock, [WAS_RESET])
            if not complete:
                problems = count.tally.all_problems()
                return self._result(stock, problems, to_cursor(count.tally))
            now = self.runtime.clock()
            differences = [*count.tally.unheld, *all_differences(count.tally, stock, now)]
            plan = self._plan(count.tally, stock, differences, now)
            is_done = self._put_plan(stock, plan)
            left = [each for each in differences if not is_done or each.index not in plan.settled]
            is_moving = not is_done or any(each.index in plan.moving for each in left)
            if not is_moving or cursor is not None:
                break
        problems = [*count.tally.all_problems(), *stock.unreadable.values()]
        problems += [each.problem for each in left] + list(plan.open)
        return self._result(stock, [*problems, *([_IS_MOVING] if is_moving else [])])

    def _mend(self, tally: Tally, finding: Finding) -> None:
        """Put the record that settles a finding, and report what it does not settle."""
        if finding.shard is not None:  # the plan settles it
            if len(tally.unheld) < PROBLEMS_MAX:
                tally.unheld += [Difference(finding.shard, each) for each in finding.problems]
            return
        drops = self.drop and finding.without_unrecorded is not None
        remedy = finding.without_unrecorded if drops else finding.remedy
        settled = [*finding.problems, *(finding.unrecorded if drops else [])]
        is_done = remedy is not None and (not self.apply or self._put(remedy))
        left = list(finding.unrecorded) if not drops else []
        for problem in left if is_done else [*finding.problems, *finding.unrecorded]:
            tally.report(problem)
        for problem in settled if is_done else []:
            if len(self.repaired) < PROBLEMS_MAX:
                self.repaired.append(problem)
            else:
                self.left_out += 1

    def _put(self, remedy: BuyerTickets | Payment | StockSummary) -> bool:
        """Put a record, if it has not changed. False: it has."""
        if isinstance(remedy, StockSummary):
            return self.attempts.run(lambda: self.store.replace_summary(remedy))

        def put() -> bool:
            if isinstance(remedy, Payment):
                return self.store.put_payment(remedy)
            return self.store.put_buyer(remedy)

        done = self.attempts.run(lambda: self.attempts.write(remedy, put))
        if done or remedy not in self.attempts.in_doubt:
            return done
        return self.attempts.run(lambda: self._is_stored(remedy))

    def _is_stored(self, remedy: BuyerTickets | Payment) -> bool:
        """Return whether an attempt without an answer has put a record."""
        if isinstance(remedy, Payment):
            return self.store.read_payments([remedy.reference]) == {remedy.reference: remedy}
        place = remedy.generation, remedy.buyer_id
        return self.store.read_buyers(remedy.item_id, [place]) == {place: remedy}

    def _plan(
        self, tally: Tally, stock: Stock, differences: Sequence[Difference], now: float
    ) -> RepairPlan:
        """Return what to do with the shards."""
        obstacle = None
        if tally.unreadable or stock.unreadable:
            obstacle = "Shards are repaired when all records can be read."
        elif not stock.sale.shards_opened:
            obstacle = "Not all shards are open. Send a change of the item, which opens them."
        if obstacle is not None:
            return RepairPlan(open=[obstacle] if differences else [])
        return repair_plan(tally, stock.sale, stock.shards, now, drop_unrecorded=self.drop)

    def _put_plan(self, stock: Stock, plan: RepairPlan) -> bool:
        """Carry out a plan, if nothing has changed since it was made. False: something has."""
        if not self.apply:
            self.repaired += plan.changes()
            return True
        if not plan.shards and plan.sale is None:
            return True
        sales = None
        if plan.sale is not None:
            sales = stock.sale, replace(plan.sale, revision=stock.sale.revision + 1)
        item_id = stock.sale.item_id
        done = self.attempts.run(
            lambda: self.attempts.write(
                plan, lambda: self.store.repair(item_id, plan.shards, sales)
            )
        )
        done = done or self._was_put(stock, plan)
        self.repaired += plan.changes() if done else []
        return done

    def _was_put(self, stock: Stock, plan: RepairPlan) -> bool:
        """Return whether an attempt without an answer has carried out the plan."""
        if plan not in self.attempts.in_doubt:
            return False
        shards, _ = self.attempts.run(lambda: self.store.read_stored_shards(stock.sale))
        return all(after in shards for _, after in plan.shards.values())

    def _result(
        self, stock: Stock, problems: Sequence[str], cursor: str | None = None
    ) -> RepairResult:
        repaired = list(self.repaired)
        if self.left_out:
            repaired.append(f"There are {self.left_out} more such records.")
        return RepairResult(
            sale=stock.sale,
            is_applied=self.apply,
            repaired=repaired,
            problems=problems,
            checked_at=timestamp(self.runtime.clock()),
            cursor=cursor,
        )
