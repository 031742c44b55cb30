"""The purchase flow: from an order to a receipt, a refusal or "busy"."""

from dataclasses import dataclass, field
from typing import Final

from ticketing.errors import (
    Busy,
    Contended,
    DeadlineExceeded,
    NotFound,
    OutcomeUnknown,
    Reason,
    StaleGeneration,
    StoreError,
)
from ticketing.retry import LATE_COMMIT_SECONDS, Attempts, Runtime, TryAgain
from ticketing.rules import (
    Bought,
    KeyReused,
    Order,
    Outcome,
    Purchase,
    Sale,
    SoldOut,
    allocate,
    make_order,
    settle,
    timestamp,
)
from ticketing.store import Cancellation, Store

# No store call starts later, and none takes longer than 3 s (`store.connect`).
BUDGET_SECONDS: Final = 5.0
CACHE_SECONDS: Final = 1.0  # how old the sale's settings and a cached "sold out" may be
# How old settings may be where reading them is throttled. They only sell: each shard demands the
# generation that a purchase was planned with, so old settings buy nothing of a newer sale. A
# refusal never rests on them.
CACHE_STALE_SECONDS: Final = 5.0
SHORT_SHARDS_MAX: Final = 2  # short shards that a purchase meets before it reads all of them


@dataclass(slots=True)
class PurchaseStatistics:
    """What a purchase took, for the log. Kept up to date also where it ends in an error."""

    attempts: int = 0
    conflicts: int = 0
    shards: list[int] = field(default_factory=list)  # of the last attempt


@dataclass(slots=True)
class _SaleCache:
    """What this process knows of one generation of a sale. Hints only: the store decides."""

    sale: Sale
    read_at: float
    stock: dict[int, int]  # shard → the tickets it had when last seen
    too_few_seen: tuple[int, float] | None = (
        None  # free tickets in a snapshot that had too few, and when it was taken
    )

    @classmethod
    def of(cls, sale: Sale, read_at: float) -> "_SaleCache":
        return cls(sale, read_at, {index: sale.share(index) for index in range(sale.shard_count)})


@dataclass(slots=True)
class _OrderState:
    """An order in progress. store: bound to the deadline."""

    order: Order
    statistics: PurchaseStatistics
    attempts: Attempts
    store: Store
    in_doubt: list[Purchase] = field(
        default_factory=list
    )  # attempts without an answer: each may have committed
    short_shards: int = 0  # shards found short since all of them were read
    conflicted: frozenset[int] = frozenset()  # shards with a conflict in the last attempt


class PurchaseService:
    """Sells tickets. One per process: it holds the process's cache of each sale."""

    def __init__(self, store: Store, runtime: Runtime | None = None) -> None:
        self._store = store
        self._runtime = runtime or Runtime()
        self._clock = self._runtime.clock
        self._random = self._runtime.random
        self._caches: dict[int, _SaleCache] = {}

    def order(self, item_id: int, quantity: int, buyer_id: str | None, key: str | None) -> Order:
        """Return the order for a request. key: the buyer's idempotency key, None without one."""
        return make_order(item_id, quantity, buyer_id, key, self._random)

    def buy(self, order: Order, statistics: PurchaseStatistics | None = None) -> Outcome:
        """Carry out the order, exactly once for its purchase id.

        Raises NotFound for an unknown item, and Busy when the time budget is spent.
        """
        attempts = Attempts(self._runtime, BUDGET_SECONDS)
        state = _OrderState(
            order,
            statistics or PurchaseStatistics(),
            attempts,
            self._store.within(attempts.deadline),
        )
        try:
            return self._refuse_from_cache(state) or attempts.run(lambda: self._attempt(state))
        except DeadlineExceeded:
            raise self._busy(state) from attempts.last_error
        except Busy:
            raise
        except Exception as error:
            if state.in_doubt:
                # An earlier attempt may have committed, so this error must not be reported as a
                # failure.
                raise self._busy(state) from error
            raise
        finally:
            state.statistics.attempts = attempts.count
            state.statistics.conflicts = attempts.conflicts

    def find(self, purchase_id: str) -> Purchase:
        """Return the purchase with this id. Raises NotFound and Busy."""
        attempts = Attempts(self._runtime, BUDGET_SECONDS)
        store = self._store.within(attempts.deadline)
        try:
            purchase = attempts.run(lambda: store.read_purchase(purchase_id))
        except DeadlineExceeded:
            raise attempts.busy() from attempts.last_error
        if purchase is None:
            raise NotFound(
                "There is no purchase with this id. "
                "Send the purchase again with its Idempotency-Key."
            )
        return purchase

    def _attempt(self, state: _OrderState) -> Outcome:
        try:
            return self._try(state)
        except StaleGeneration:
            self._caches.pop(state.order.item_id, None)
            raise TryAgain from None

    def _try(self, state: _OrderState) -> Outcome:
        """Make one attempt: choose shards, send one transaction, and use its answer."""
        order = state.order
        cache, stale = self._cached_sale(state)
        taken = self._choose(state, cache)
        if taken is None:
            stock = self._read_all_shards(state, cache)
            taken = allocate(stock, order.quantity, self._random)
            if taken is None:
                if stale:
                    raise stale  # a newer generation may have tickets
                return self._refuse(state, cache.sale.generation, sum(stock.values()))
        state.statistics.shards = sorted(taken)
        purchase = Purchase(
            purchase_id=order.purchase_id,
            item_id=order.item_id,
            generation=cache.sale.generation,
            buyer_id=order.buyer_id,
            quantity=order.quantity,
            status="confirmed",
            taken=taken,
            fingerprint=order.fingerprint,
            created_at=timestamp(self._clock()),
        )
        try:
            cancellation = state.store.sell(cache.sale, purchase)
        except OutcomeUnknown:
            state.in_doubt.append(purchase)
            raise
        if cancellation is None:
            for index, tickets in taken.items():
                cache.stock[index] -= tickets
            return Bought(purchase, replayed=False)
        if cancellation.record is not None:
            return self._settle(state, cancellation.record)
        self._update_cache(state, cache, cancellation)
        if cancellation.contended:
            state.conflicted = cancellation.contended_shards
            raise Contended
        raise TryAgain

    def _cached_sale(self, state: _OrderState) -> tuple[_SaleCache, Contended | None]:
        """Return the sale's cache, its settings at most a second old.

        Where reading them is throttled, return older settings together with the throttle.
        """
        item_id = state.order.item_id
        cache = self._caches.get(item_id)
        now = self._clock()
        if cache is not None and _is_younger(cache.read_at, now, CACHE_SECONDS):
            return cache, None
        try:
            sale = state.store.read_sale(item_id)
        except Contended as throttle:
            if cache is not None and _is_younger(cache.read_at, now, CACHE_STALE_SECONDS):
                return cache, throttle
            raise
        if sale is None:
            self._caches.pop(item_id, None)
            raise NotFound(f"There is no item {item_id}. Ask for another item_id.")
        if cache is None or cache.sale.generation != sale.generation:
            cache = _SaleCache.of(sale, now)
        cache.sale, cache.read_at = sale, now
        self._caches[item_id] = cache
        return cache, None

    def _choose(self, state: _OrderState, cache: _SaleCache) -> dict[int, int] | None:
        """Return a shard that may have enough; None when all shards should be read."""
        if state.short_shards >= SHORT_SHARDS_MAX:
            return None
        quantity = state.order.quantity
        promising = {
            index: tickets for index, tickets in cache.stock.items() if tickets >= quantity
        }
        calm = {
            index: tickets for index, tickets in promising.items() if index not in state.conflicted
        }
        return allocate(calm or promising, quantity, self._random)

    def _read_all_shards(self, state: _OrderState, cache: _SaleCache) -> dict[int, int]:
        """Return how many tickets each shard has, and cache it.

        The plain read comes first: it is cheap and never conflicts with other purchases. It is not
        of one instant, so "too few" is believed only from a snapshot. Too few tickets in a snapshot
        are cached as "sold out".
        """
        state.short_shards = 0
        stock = {shard.index: shard.stock for shard in state.store.read_shards(cache.sale)}
        cache.stock = dict(stock)
        if sum(stock.values()) < state.order.quantity:
            asked_at = self._clock()
            stock = {shard.index: shard.stock for shard in state.store.snapshot(cache.sale)}
            cache.stock = dict(stock)
            left = sum(stock.values())
            if left < state.order.quantity:
                # Counts from the older of both reads: a new generation may have started since the
                # sale was read.
                cache.too_few_seen = left, min(asked_at, cache.read_at)
        return stock

    def _update_cache(
        self, state: _OrderState, cache: _SaleCache, cancellation: Cancellation
    ) -> None:
        """Cache the refused shards as the transaction found them."""
        for index, shard in cancellation.shards.items():
            if shard is None or shard.generation < cache.sale.generation:
                # The reset that started this generation has not reached this shard yet, or has
                # crashed.
                state.store.open_shard(cache.sale, index)
            elif shard.generation > cache.sale.generation:
                raise StaleGeneration
            else:
                cache.stock[index] = shard.stock
                state.short_shards += 1

    def _refuse_from_cache(self, state: _OrderState) -> Outcome | None:
        """Refuse at once where a snapshot of the last second had too few tickets. No write."""
        cache = self._caches.get(state.order.item_id)
        if cache is None or cache.too_few_seen is None:
            return None
        left, seen_at = cache.too_few_seen
        if left >= state.order.quantity or not _is_younger(seen_at, self._clock(), CACHE_SECONDS):
            return None
        try:
            return self._refuse(state, cache.sale.generation, left)
        except StoreError:
            return None

    def _refuse(self, state: _OrderState, generation: int, left: int) -> Outcome:
        """Return "sold out", unless an earlier request or an attempt in doubt has bought.

        The record is read after the snapshot, so a concurrent duplicate that took the last ticket
        is found. An attempt that is still in flight cannot succeed later, because within a
        generation free tickets only get fewer. An attempt of another generation could, until a
        reset reaches its shard: then the outcome stays unknown.
        """
        if state.order.keyed or state.in_doubt:
            found = state.store.read_purchase(state.order.purchase_id)
            if found is not None:
                return self._settle(state, found)
        if any(attempt.generation != generation for attempt in state.in_doubt):
            raise self._busy(state)
        return SoldOut(left)

    def _settle(self, state: _OrderState, found: Purchase) -> Bought | KeyReused:
        # The record of an attempt in doubt of this request is no replay; a concurrent duplicate's
        # is.
        return settle(state.order, found, replayed=found not in state.in_doubt)

    def _busy(self, state: _OrderState) -> Busy:
        if not state.in_doubt:
            return state.attempts.busy()
        if state.order.keyed:
            remedy = (
                "The purchase may have been made. "
                "Send the same request with the same Idempotency-Key to find out."
            )
        else:
            remedy = (
                "The purchase may have been made. "
                "Look its purchase_id up before you send another request: "
                f"if it is not found after {LATE_COMMIT_SECONDS} s, it was not made."
            )
        return Busy(
            Reason.IN_DOUBT,
            remedy=remedy,
            retry_after_seconds=LATE_COMMIT_SECONDS,
            purchase_id=state.order.purchase_id,
        )


def _is_younger(then: float, now: float, seconds: float) -> bool:
    """Return whether `then` was less than `seconds` ago; False where the clock was set back."""
    return 0 <= now - then < seconds
