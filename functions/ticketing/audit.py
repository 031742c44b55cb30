"""The audit: compare the records of a sale with its counters, and with each other.

It reads, and never gets into a buyer's way: no transaction, and no more than a page at a time.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import replace
from functools import partial
from typing import Any, Final

from msgspec import Struct

from ticketing.errors import NotFound, UnreadableRecord
from ticketing.limits import (
    AUDIT_BUDGET_SECONDS,
    AUDIT_ITEM_SECONDS,
    AUDIT_PAGE_RECORDS_MAX,
    AUDIT_RECORDS_MAX,
    AUDIT_RESERVE_SECONDS,
    SETTLE_SECONDS,
)
from ticketing.model import (
    AuditResult,
    BuyerTickets,
    CountedTickets,
    FullAudit,
    Payment,
    Purchase,
    Sale,
    Shard,
    StockSummary,
)
from ticketing.moves import Status
from ticketing.retry import Attempts, Runtime, Statistics, TryAgain
from ticketing.rules import current_shards, timestamp, totals
from ticketing.store.table import BrokenSummary, BuyerOf, Page, Store, Table
from ticketing.tally import (
    Difference,
    Tally,
    capacity_of,
    from_cursor,
    shard_differences,
    to_cursor,
)

WAS_RESET: Final = "The sale was reset meanwhile. Begin again, without a cursor."


class Stock(Struct, frozen=True):
    """A sale and its stored shards, of every generation; unreadable: index → what is wrong."""

    sale: Sale
    shards: Sequence[Shard]
    unreadable: Mapping[int, str]


class Finding(Struct, frozen=True):
    """Records that contradict each other.

    remedy: the record that settles `problems`; None where that cannot be known. unrecorded: what
    may be a purchase whose record was lost. without_unrecorded: the record that settles this too.
    shard: that lacks the tickets of a hold; otherwise None.
    """

    problems: Sequence[str]
    remedy: BuyerTickets | Payment | StockSummary | None = None
    unrecorded: Sequence[str] = ()
    without_unrecorded: BuyerTickets | None = None
    shard: int | None = None


class Auditor:
    """Audits sales."""

    def __init__(self, table: Table, runtime: Runtime) -> None:
        self._table = table
        self._runtime = runtime

    def audit(
        self, item_id: int, cursor: str | None = None, statistics: Statistics | None = None
    ) -> AuditResult:
        """Count the item's records, and compare them with the counters and with each other.

        At most AUDIT_RECORDS_MAX records of the table, within the time budget. cursor: of an audit
        that has not looked at all of them; it continues there. Exact at rest, and for all that does
        not change meanwhile; it never takes a change for a difference.

        Raises NotFound, InvalidRequest for a malformed cursor, and Busy where the counters could
        not be read.
        """
        attempts = Attempts[None](self._runtime, AUDIT_BUDGET_SECONDS, statistics=statistics)
        attempts.statistics.item_id = item_id
        store = self._table.within(attempts.deadline)
        tally = from_cursor(cursor, Tally) if cursor else None
        count = Count.of(item_id, tally, store, attempts, self._runtime)
        complete = count.run(partial(count.look, report=_report))
        return _result(count, complete=complete)

    def audit_all(self, seconds: float) -> FullAudit:
        """Audit all items of the catalogue, in one pass over the table, within this time.

        Raises Busy where it ends before that in no result.
        """
        attempts = Attempts[None](self._runtime, seconds)
        store = self._table.within(attempts.deadline)
        counts, others = {}, list[str]()
        for item_id in attempts.run(store.read_catalogue):
            try:
                counts[item_id] = Count.of(item_id, None, store, attempts, self._runtime)
            except NotFound:
                others.append(f"Item {item_id}: it is in the catalogue, and has no record.")
            except UnreadableRecord as error:
                others.append(str(error))
        reserve = AUDIT_RESERVE_SECONDS + AUDIT_ITEM_SECONDS * len(counts)
        looked_at, start, complete = 0, None, False
        while not complete and attempts.deadline.left() > reserve:
            page = attempts.run(partial(store.read_records, None, start, AUDIT_PAGE_RECORDS_MAX))
            looked_at += page.looked_at
            others += page.problems
            for item_id, of_item in page.by_item().items():
                if item_id in counts:
                    counts[item_id].take(of_item)
                    counts[item_id].look(of_item, _report)
            start, complete = page.end, page.end is None
        results = [_result(count, complete=complete) for count in counts.values()]
        return FullAudit(results, others, looked_at, complete)


def _result(count: "Count", *, complete: bool) -> AuditResult:
    """Return the result of a count. complete: all records were counted."""
    tally, stock = count.tally, count.read_stock()
    is_same = stock.sale.generation == tally.generation
    _, free, held, sold = totals(current_shards(stock.sale, stock.shards))
    now = count.runtime.clock()
    return AuditResult(
        sale=stock.sale,
        stock=free,
        held=held,
        sold=sold,
        purchase_records=tally.records,
        tickets_in_records=tally.tickets,
        problems=_problems(tally, stock, complete=complete, now=now),
        checked_at=timestamp(now),
        cursor=to_cursor(tally) if is_same and not complete else None,
    )


def _report(tally: Tally, finding: Finding) -> None:
    for problem in (*finding.problems, *finding.unrecorded):
        tally.report(problem)


def all_differences(tally: Tally, stock: Stock, now: float) -> list[Difference]:
    """Return what is wrong with the shards, after all records of the generation were counted."""
    sale, shards, unreadable = stock.sale, stock.shards, stock.unreadable
    return [
        *shard_differences(sale, shards, unreadable),
        *tally.differences(sale, shards, unreadable, now),
    ]


def _problems(tally: Tally, stock: Stock, *, complete: bool, now: float) -> list[str]:
    """Return all problems. complete: all records were counted.

    After a reset nothing is certain: a refund since then leaves a record as no earlier one does.
    """
    if stock.sale.generation != tally.generation:
        return [WAS_RESET]
    if complete:
        return all_problems(tally, stock, now)
    differences = shard_differences(stock.sale, stock.shards, stock.unreadable)
    return _with_those_of_records(tally, stock, differences)


def all_problems(tally: Tally, stock: Stock, now: float) -> list[str]:
    """Return all that is wrong, after all records of the generation were counted."""
    return _with_those_of_records(tally, stock, all_differences(tally, stock, now))


def _with_those_of_records(
    tally: Tally, stock: Stock, differences: Iterable[Difference]
) -> list[str]:
    found = [*tally.all_problems(), *stock.unreadable.values()]
    return found + [each.problem for each in differences]


class Count(Struct):
    """Counts the records of an item within one request. store: bound to the attempts' deadline.

    stock: as it was read last.
    """

    tally: Tally
    stock: Stock
    store: Store
    attempts: Attempts[Any]
    runtime: Runtime

    @classmethod
    def of(
        cls,
        item_id: int,
        tally: Tally | None,
        store: Store,
        attempts: Attempts[Any],
        runtime: Runtime,
        *,
        by_slot: bool = False,
    ) -> "Count":
        """Return the count that continues a cursor's tally; None: a new one. by_slot: see `Tally`.

        Raises NotFound, and InvalidRequest for the tally of another count.
        """
        if tally is not None:
            tally.demand(item_id, by_slot=by_slot)
        began_at = runtime.clock()
        stock = attempts.run(lambda: _read_stock(store, item_id, runtime))
        if tally is None:
            tally = Tally.begin(
                stock.sale,
                stock.shards,
                began_at=began_at,
                read_at=runtime.clock(),
                by_slot=by_slot,
            )
        return cls(tally, stock, store, attempts, runtime)

    def run(self, look: Callable[[Page], None], most: int = AUDIT_RECORDS_MAX) -> bool:
        """Count page after page. Return False where not all were counted.

        look: is called with each page. most: records of the table to look at.
        """
        looked_at = 0
        while looked_at < most:
            page = self.attempts.run(partial(self._read_page, most - looked_at))
            looked_at += page.looked_at
            self.take(page)
            look(page)
            self.tally.start = page.end
            if page.end is None:
                return True
            if self.attempts.deadline.left() < AUDIT_RESERVE_SECONDS:
                break
        return False

    def take(self, page: Page) -> None:
        """Count a page of the item's records."""
        slots = {shard.index: tuple(shard.slots) for shard in self.stock.shards}
        for record in page.purchases:
            self.tally.count(record, slots)
        self.tally.unreadable += len(page.problems)

    def look(self, page: Page, report: Callable[[Tally, Finding], None]) -> None:
        """Compare the records of a page with each other, and report what is found."""
        findings = [Finding([problem]) for problem in page.problems]
        findings += [_broken(summary, self.runtime.clock()) for summary in page.summaries]
        for look in (self._look_at_buyers, self._look_at_payments, self._look_at_holds):
            findings += self.attempts.run(partial(look, page))
        for finding in findings:
            report(self.tally, finding)

    def read_stock(self) -> Stock:
        """Return the stock as it is now."""
        item_id = self.tally.item_id
        self.stock = self.attempts.run(lambda: _read_stock(self.store, item_id, self.runtime))
        return self.stock

    def _read_page(self, most: int) -> Page:
        most = min(most, AUDIT_PAGE_RECORDS_MAX)
        return self.store.read_records(self.tally.item_id, self.tally.start, most)

    def _look_at_buyers(self, page: Page) -> list[Finding]:
        """Compare what buyers have with the records of their purchases.

        Records of a page are compared with others that are read later. Where they differ, both are
        read again, and what a buyer has is read before and after: if it is the same, no purchase of
        that buyer has changed in between.
        """
        item_id, now = self.tally.item_id, self.runtime.clock()
        of_page = {_of(buyer): buyer for buyer in page.buyers}
        named = {id_ for buyer in page.buyers for id_ in buyer.purchases}
        purchases: dict[str, Purchase | None] = {each.purchase_id: each for each in page.purchases}
        purchases |= self.store.read_purchases(named - purchases.keys())
        counted = {
            (each.generation, each.buyer_id): each
            for each in page.purchases
            if each.buyer_id is not None and _expected(each) is not None
        }
        buyers = of_page | self.store.read_buyers(item_id, counted.keys() - of_page.keys())
        of_buyers = _by_buyer(buyers, purchases)
        doubtful = {
            place
            for place, buyer in buyers.items()
            if buyer and _differing(buyer, of_buyers[place], now)
        }
        if not doubtful:
            return []
        before = self.store.read_buyers(item_id, doubtful)
        ids = {id_ for buyer in before.values() if buyer for id_ in buyer.purchases}
        ids |= {id_ for id_, each in purchases.items() if each and _place(each) in doubtful}
        again = self.store.read_purchases(ids)
        after = self.store.read_buyers(item_id, doubtful)
        now, of_buyers = self.runtime.clock(), _by_buyer(before, again)
        return [
            _finding(buyer, of_buyers[place], differing)
            for place, buyer in sorted(before.items())
            if buyer is not None and after[place] == buyer
            for differing in [_differing(buyer, of_buyers[place], now)]
            if differing
        ]

    def _look_at_payments(self, page: Page) -> list[Finding]:
        """Find purchases whose payment is not on record as theirs: it could pay twice."""
        paid = {each.payment_reference: each for each in page.purchases if each.payment_reference}
        payments = self.store.read_payments(paid.keys())
        findings = []
        for reference, purchase in paid.items():
            id_, payment = purchase.purchase_id, payments.get(reference)
            if reference not in payments:
                remedy = Payment(reference, id_, purchase.purchased_at)
                findings.append(Finding([f"Purchase {id_}: its payment has no record."], remedy))
            elif payment is not None and payment.purchase_id != id_:
                problem = f"Purchase {id_}: its payment has paid for {payment.purchase_id}."
                findings.append(Finding([problem]))
        return findings

    def _look_at_holds(self, page: Page) -> list[Finding]:
        """Find holds whose tickets are not in their slots.

        A hold that is the same before and after the shards were read has them there in between.
        """
        now = self.runtime.clock()
        holds = [each for each in page.purchases if self._is_held(each, now)]
        if not any(_slots_lacking(hold, self.stock.shards) for hold in holds):
            return []
        self.stock = _read_stock(self.store, self.tally.item_id, self.runtime)
        now = self.runtime.clock()
        lacking = {
            hold.purchase_id: (hold, indexes)
            for hold in holds
            if (indexes := _slots_lacking(hold, self.stock.shards)) and self._is_held(hold, now)
        }
        again = self.store.read_purchases(lacking.keys())
        return [
            Finding(
                [f"Hold {id_}: its tickets are not in slot {hold.expires_at} of shard {index}."],
                shard=index,
            )
            for id_, (hold, indexes) in lacking.items()
            if again.get(id_) == hold
            for index in indexes
        ]

    def _is_held(self, record: Purchase, now: float) -> bool:
        """Return whether a record is a hold of this generation that is not over by any clock."""
        return (
            record.status is Status.HELD
            and record.generation == self.tally.generation
            and (record.expires_at or 0) > now
        )


def _broken(summary: BrokenSummary, now: float) -> Finding:
    """Return the finding about a stock summary that cannot be read.

    Its remedy is a claim that no process carries out, so the next one takes it over. Its revision
    is later than every one before.
    """
    milliseconds = int(now * 1000)
    claim = StockSummary(summary.item_id, summary.part, milliseconds, written_at=milliseconds)
    return Finding([summary.problem], claim)


def _slots_lacking(hold: Purchase, shards: Iterable[Shard]) -> list[int]:
    """Return the shards whose slot has fewer tickets than the hold. Lost ones are left out."""
    slots = {shard.index: shard.slots for shard in shards if shard.generation == hold.generation}
    return [
        index
        for index, tickets in sorted(hold.taken.items())
        if index in slots and slots[index].get(hold.expires_at or 0, 0) < tickets
    ]


def _read_stock(store: Store, item_id: int, runtime: Runtime) -> Stock:
    """Return the sale and its stored shards. Raises NotFound.

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
        if capacity_of(sale, shards) == sale.capacity or sale.revision == revision:
            return Stock(sale, shards, unreadable)
        revision = sale.revision
        runtime.sleep(SETTLE_SECONDS)


# --- what buyers have ---


def _of(buyer: BuyerTickets) -> BuyerOf:
    return buyer.generation, buyer.buyer_id


def _place(purchase: Purchase) -> BuyerOf:
    return purchase.generation, purchase.buyer_id or ""


def _expected(purchase: Purchase) -> CountedTickets | None:
    """Return how a purchase counts for its buyer; None where it does not.

    What is refunded after a reset stays in `taken`, and counts as before.
    """
    if not purchase.is_counted:
        return None
    if purchase.status is Status.HELD:
        return CountedTickets(purchase.quantity, purchase.expires_at)
    tickets = sum(purchase.taken.values()) if purchase.is_purchase else 0
    return CountedTickets(tickets) if tickets else None


def _by_buyer(
    buyers: Mapping[BuyerOf, BuyerTickets | None], purchases: Mapping[str, Purchase | None]
) -> dict[BuyerOf, dict[str, Purchase | None]]:
    """Return for each buyer the purchases that their record names, and those that name them."""
    found: dict[BuyerOf, dict[str, Purchase | None]] = {
        place: {id_: purchases[id_] for id_ in buyer.purchases if id_ in purchases} if buyer else {}
        for place, buyer in buyers.items()
    }
    for id_, purchase in purchases.items():
        if purchase is not None and _place(purchase) in found:
            found[_place(purchase)][id_] = purchase
    return found


def _differing(
    buyer: BuyerTickets, purchases: Mapping[str, Purchase | None], now: float
) -> list[str]:
    """Return the ids of the purchases that do not count as they should.

    purchases: None for a record that cannot be read. A hold that is about over by our clock may be
    over by another.
    """
    differing = []
    for id_ in sorted(buyer.purchases.keys() | purchases.keys()):
        purchase = purchases.get(id_)
        if id_ in purchases and purchase is None:
            continue
        own = purchase is not None and _place(purchase) == _of(buyer)
        expected = _expected(purchase) if purchase and own else None
        counted = buyer.purchases.get(id_)
        if counted == expected or (counted and expected is None and _is_over(counted, now)):
            continue
        if expected and counted is None and _is_over(expected, now):
            continue
        differing.append(id_)
    return differing


def _is_over(counted: CountedTickets, now: float) -> bool:
    return counted.expires_at is not None and counted.expires_at <= now


def _finding(
    buyer: BuyerTickets, purchases: Mapping[str, Purchase | None], differing: Collection[str]
) -> Finding:
    """Return the finding about a buyer. purchases: of the buyer, as they are."""
    problems, unrecorded = [], []
    mended = {id_: each for id_, each in buyer.purchases.items() if id_ not in differing}
    kept = {}
    for id_ in differing:
        counted, purchase = buyer.purchases.get(id_), purchases.get(id_)
        said = f"purchase {id_} counts {counted.tickets if counted else 0} tickets"
        about = f"Buyer {buyer.buyer_id}, generation {buyer.generation}: {said}, and has"
        if purchase is None and counted is not None:
            kept[id_] = counted
            unrecorded.append(f"{about} no record.")
            continue
        expected = _expected(purchase) if purchase and _place(purchase) == _of(buyer) else None
        if expected is not None:
            mended[id_] = expected
        problems.append(f"{about} {expected.tickets if expected else 0}.")
    after = replace(buyer, revision=buyer.revision + 1)
    return Finding(
        problems,
        replace(after, purchases=mended | kept) if problems else None,
        unrecorded,
        replace(after, purchases=mended) if unrecorded else None,
    )
