"""The purchase flow: from an order to a receipt, a refusal or "busy"."""

from dataclasses import dataclass
from typing import Final

from ticketing.errors import Contended, DeadlineExceeded, NotFound, StaleGeneration, StoreError
from ticketing.limits import LATE_COMMIT_SECONDS, PURCHASE_BUDGET_SECONDS, SHORT_SHARDS_MAX
from ticketing.model import Bought, Order, Outcome, Purchase, Sale, SoldOut
from ticketing.moves import BUY, Status
from ticketing.retry import Attempts, InDoubt, Runtime, Statistics, TryAgain
from ticketing.rules import allocate, make_order, settle, timestamp
from ticketing.sale_cache import CachedSale, SaleCache
from ticketing.store.table import Cancellation, Store, Table

# How a buyer finds out whether an attempt in doubt has bought.
_IF_KEYED: Final = (
    "The purchase may have been made. "
    "Send the same request with the same Idempotency-Key to find out."
)
_IF_NOT_KEYED: Final = (
    "The purchase may have been made. "
    "Look its purchase_id up before you send another request: "
    f"if it is not found after {LATE_COMMIT_SECONDS} s, it was not made."
)


class PurchaseService:
    """Sells tickets. One per process: it holds the process's cache of each sale."""

    def __init__(self, table: Table, runtime: Runtime) -> None:
        self._table = table
        self._runtime = runtime
        self._cache = SaleCache(runtime.clock)

    def order(self, item_id: int, quantity: int, buyer_id: str | None, key: str | None) -> Order:
        """Return the order for a request. key: the buyer's idempotency key, None without one."""
        return make_order(item_id, quantity, buyer_id, key, self._runtime.random)

    def buy(self, order: Order, statistics: Statistics | None = None) -> Outcome:
        """Carry out the order, exactly once for its purchase id.

        Raises NotFound for an unknown item, and Busy when the time budget is spent.
        """
        attempts = Attempts[Purchase](
            self._runtime,
            PURCHASE_BUDGET_SECONDS,
            statistics=statistics,
            if_in_doubt=InDoubt(_IF_KEYED if order.keyed else _IF_NOT_KEYED, order.purchase_id),
        )
        attempts.statistics.item_id = order.item_id
        attempts.statistics.quantity = order.quantity
        store = self._table.within(attempts.deadline)
        flow = _PurchaseFlow(order, attempts, store, self._cache, self._runtime)
        return flow.refuse_from_cache() or attempts.run(flow.attempt)

    def find(self, purchase_id: str, statistics: Statistics | None = None) -> Purchase:
        """Return the purchase with this id. Raises NotFound and Busy."""
        attempts = Attempts[None](self._runtime, PURCHASE_BUDGET_SECONDS, statistics=statistics)
        store = self._table.within(attempts.deadline)
        purchase = attempts.run(lambda: store.read_purchase(purchase_id))
        if purchase is None:
            raise NotFound(
                "There is no purchase with this id. "
                "Send the purchase again with its Idempotency-Key."
            )
        if purchase.is_refused:
            raise NotFound("The order with this id was refused: too few tickets were left.")
        return purchase


@dataclass(slots=True)
class _PurchaseFlow:
    """One order in progress. store: bound to the deadline of the attempts.

    short_shards: shards found short since all of them were read. conflicted: shards with a conflict
    in the last attempt.
    """

    order: Order
    attempts: Attempts[Purchase]
    store: Store
    cache: SaleCache
    runtime: Runtime
    short_shards: int = 0
    conflicted: frozenset[int] = frozenset()

    def refuse_from_cache(self) -> Outcome | None:
        """Refuse at once where a snapshot of the last second had too few tickets. No write."""
        cached = self.cache.get(self.order.item_id)
        if cached is None:
            return None
        left = cached.too_few_for(self.order.quantity, self.runtime.clock())
        if left is None:
            return None
        try:
            return self._refuse(cached.sale, left)
        except (StoreError, DeadlineExceeded):
            return None  # an attempt decides

    def attempt(self) -> Outcome:
        """Make one attempt: choose shards, send one transaction, and use its answer."""
        cached, throttle = self.cache.current(self.store, self.order.item_id)
        try:
            taken = self._choose(cached)
            if taken is None:
                self._read_all_shards(cached)
                taken = allocate(cached.stock, self.order.quantity, self.runtime.random)
                if taken is None:
                    if throttle:
                        raise throttle  # a newer generation may have tickets
                    return self._refuse(cached.sale, cached.free)
            return self._sell(cached, taken)
        except StaleGeneration:
            self.cache.forget(self.order.item_id)
            raise TryAgain from None

    def _sell(self, cached: CachedSale, taken: dict[int, int]) -> Outcome:
        """Send the transaction. taken: shard → tickets to take from it."""
        self.attempts.statistics.shards = sorted(taken)
        purchase = self._record(cached.sale, BUY.after, taken)
        cancellation = self.attempts.write(
            purchase, lambda: self.store.move(BUY, purchase, taken, purchase.created_at)
        )
        if cancellation is None:
            for index, tickets in taken.items():
                cached.stock[index] -= tickets
            return Bought(purchase, replayed=False)
        if cancellation.record is not None:
            return self._settle(cancellation.record)
        self._update_cache(cached, cancellation)
        if cancellation.contended:
            self.conflicted = cancellation.contended_shards
            raise Contended
        raise TryAgain

    def _choose(self, cached: CachedSale) -> dict[int, int] | None:
        """Return a shard that may have enough; None when all shards should be read."""
        if self.short_shards >= SHORT_SHARDS_MAX:
            return None
        promising = cached.shards_with(self.order.quantity)
        calm = {
            index: tickets for index, tickets in promising.items() if index not in self.conflicted
        }
        return allocate(calm or promising, self.order.quantity, self.runtime.random)

    def _read_all_shards(self, cached: CachedSale) -> None:
        """Cache how many tickets each shard has.

        The plain read comes first: it is cheap and never conflicts with other purchases. It is not
        of one instant, so "too few" is believed only from a snapshot. Too few tickets in a snapshot
        are cached as "sold out". A process that knows of too few tickets takes a snapshot at once:
        with both reads, a thousand processes together would throttle the shards (D39).
        """
        if cached.free >= self.order.quantity:
            cached.see(self.store.read_shards(cached.sale))
        if cached.free < self.order.quantity:
            asked_at = self.runtime.clock()
            cached.see(self.store.snapshot(cached.sale))
            if cached.free < self.order.quantity:
                cached.remember_too_few(cached.free, asked_at)
        self.short_shards = 0

    def _update_cache(self, cached: CachedSale, cancellation: Cancellation) -> None:
        """Cache the refused shards as the transaction found them."""
        for index, shard in cancellation.shards.items():
            if shard is None or shard.generation < cached.sale.generation:
                # The reset that started this generation has not reached this shard yet, or has
                # crashed.
                self.store.open_shard(cached.sale, index)
            elif shard.generation > cached.sale.generation:
                raise StaleGeneration
            else:
                cached.stock[index] = shard.stock
                self.short_shards += 1

    def _refuse(self, sale: Sale, left: int) -> Outcome:
        """Return "sold out", unless an earlier request or an attempt in doubt has bought.

        The record is read after the snapshot, so a concurrent duplicate that took the last ticket
        is found.
        """
        if self._can_still_buy():
            refusal = self._record(sale, Status.REFUSED, {}, left)
            found = self.attempts.write(refusal, lambda: self.store.put_refusal(refusal))
            if found is None:
                return SoldOut(left, final=self.order.keyed)
            return self._settle(found)
        found = self.store.read_purchase(self.order.purchase_id) if self.order.keyed else None
        return self._settle(found) if found else SoldOut(left)

    def _can_still_buy(self) -> bool:
        """Return whether an attempt of this request may commit after its refusal.

        Tickets can come back, and a reset may not have reached a shard yet. The record of the
        refusal makes such an attempt fail.
        """
        return bool(self.attempts.in_doubt)

    def _record(
        self, sale: Sale, status: Status, taken: dict[int, int], left: int | None = None
    ) -> Purchase:
        """Return the record of this order."""
        order = self.order
        return Purchase(
            purchase_id=order.purchase_id,
            item_id=order.item_id,
            generation=sale.generation,
            buyer_id=order.buyer_id,
            quantity=order.quantity,
            status=status,
            taken=taken,
            fingerprint=order.fingerprint,
            created_at=timestamp(self.runtime.clock()),
            left=left,
        )

    def _settle(self, found: Purchase) -> Outcome:
        # A record that an attempt in doubt of this request has put is no replay.
        is_own = any(found.was_put_by(attempt) for attempt in self.attempts.in_doubt)
        return settle(self.order, found, replayed=not is_own)
