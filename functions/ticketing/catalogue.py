"""The catalogue: reading a sale, and resetting it while buyers are buying."""

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct

from ticketing.errors import GenerationChanged, KeyReusedForReset, NotFound, StaleGeneration
from ticketing.limits import CACHE_SECONDS, CACHED_ITEMS_MAX, CATALOGUE_BUDGET_SECONDS
from ticketing.model import ResetKey, ResetOrder, ResetResult, Sale, SaleState, Shard
from ticketing.retry import Attempts, InDoubt, Runtime, Statistics, TryAgain
from ticketing.rules import digest, is_younger, next_sale, timestamp
from ticketing.store.table import Store, Table

# How an organiser finds out whether a reset in doubt has taken effect.
_IF_SAFE_TO_REPEAT: Final = InDoubt(
    "The sale may have been reset. Send the same request again: it takes effect once."
)
_IF_NOT_SAFE_TO_REPEAT: Final = InDoubt(
    "The sale may have been reset. Check its generation before you send the request again."
)


class Catalogue:
    """Reads and resets sales. One per process; caches what it read for a second."""

    def __init__(self, table: Table, runtime: Runtime) -> None:
        self._table = table
        self._runtime = runtime
        self._recent: dict[int, tuple[SaleState, float]] = {}

    def inventory(self, item_id: int, statistics: Statistics | None = None) -> SaleState:
        """Return the item's sale and shards as they are now. Raises NotFound and Busy."""
        attempts = Attempts[None](self._runtime, CATALOGUE_BUDGET_SECONDS, statistics=statistics)
        store = self._table.within(attempts.deadline)
        return attempts.run(lambda: _read_inventory(store, item_id, self._runtime.clock))

    def recent_inventory(self, item_id: int, statistics: Statistics | None = None) -> SaleState:
        """Return the item's sale and shards, at most CACHE_SECONDS old. Raises NotFound and Busy.

        Whatever the number of readers, a process reads the sale's record once a second, because
        purchases read the same key.
        """
        if statistics:
            statistics.item_id = item_id
        now = self._runtime.clock()
        if item_id in self._recent:
            inventory, read_at = self._recent[item_id]
            if is_younger(read_at, now, CACHE_SECONDS):
                return inventory
        inventory = self.inventory(item_id, statistics)
        if len(self._recent) >= CACHED_ITEMS_MAX:
            self._recent.clear()
        self._recent[item_id] = inventory, now
        return inventory

    def reset(
        self,
        item_id: int,
        *,
        stock: int | None,
        item_name: str | None,
        shard_count: int | None,
        hold_seconds: int | None = None,
        per_buyer_limit: int | None = None,
        key: str | None = None,
        expected_generation: int | None = None,
        statistics: Statistics | None = None,
    ) -> ResetResult:
        """Start the item's next generation with all tickets free, once per key.

        key: the idempotency key. The other values: see `ResetOrder`.

        Raises GenerationChanged, KeyReusedForReset and Busy. One write of the sale's record starts
        the generation. If the process dies after that, buyers open its shards. When this returns,
        all shards are closed to older generations.
        """
        # A request without a key gets a random one, so that it recognises its own write after a
        # lost reply.
        own_key = key or str(UUID(int=self._runtime.random.getrandbits(128), version=4))
        order = ResetOrder(
            item_id,
            stock,
            item_name,
            shard_count,
            hold_seconds,
            per_buyer_limit,
            key=digest(own_key),
            request=_digest((stock, item_name, shard_count), (hold_seconds, per_buyer_limit)),
            expected_generation=expected_generation,
        )
        is_safe_to_repeat = key is not None or expected_generation is not None
        attempts = Attempts[Sale](
            self._runtime,
            CATALOGUE_BUDGET_SECONDS,
            statistics=statistics,
            if_in_doubt=_IF_SAFE_TO_REPEAT if is_safe_to_repeat else _IF_NOT_SAFE_TO_REPEAT,
        )
        store = self._table.within(attempts.deadline)
        attempts.statistics.item_id = item_id
        done = attempts.run(_ResetFlow(order, attempts, store, self._runtime).attempt)
        attempts.statistics.generation = done.sale.generation
        return done


class _ResetFlow(Struct, frozen=True):
    """One reset in progress. store: bound to the deadline of the attempts."""

    order: ResetOrder
    attempts: Attempts[Sale]
    store: Store
    runtime: Runtime

    def attempt(self) -> ResetResult:
        """Make one attempt: put the sale's record, then open all of its shards."""
        old = self.store.read_sale(self.order.item_id)
        made = old.reset_key(self.order.key) if old else None
        if old and made:
            return self._finish(old, made)
        generation = old.generation if old else 0
        if self.order.expected_generation not in (None, generation):
            raise GenerationChanged(
                f"The sale has generation {generation}. Nothing was changed.", generation
            )
        new = next_sale(old, self.order, timestamp(self.runtime.clock()))
        if not self.attempts.write(new, lambda: self.store.announce(new)):
            raise TryAgain  # another reset came first
        self.attempts.in_doubt.append(new)  # announced, and not finished before all shards are open
        for index in range(new.shards_ever):
            self.store.open_shard(new, index)
        shards = [Shard.fresh(new, index) for index in range(new.shard_count)]
        return ResetResult(SaleState(new, shards, self.runtime.clock()), replayed=False)

    def _finish(self, sale: Sale, made: ResetKey) -> ResetResult:
        """Return the result of a reset whose key is in the sale's record.

        Shards that are not open yet are opened.
        """
        if made.request != self.order.request:
            raise KeyReusedForReset
        if made.generation != sale.generation:
            raise GenerationChanged(
                f"This Idempotency-Key started generation {made.generation}. "
                f"The sale has generation {sale.generation} since. Nothing was changed.",
                sale.generation,
            )
        shards, _ = self.store.read_stored_shards(sale)
        stored = {shard.index: shard.generation for shard in shards}
        for index in range(sale.shards_ever):
            if stored.get(index, 0) < sale.generation:
                self.store.open_shard(sale, index)
        replayed = sale not in self.attempts.in_doubt
        return ResetResult(_read_shards_of(self.store, sale, self.runtime.clock), replayed)


def _digest(first: Sequence[object], later: Sequence[object]) -> str:
    """Return a digest of the values asked for.

    later: values that earlier versions did not know. A key that they have stored keeps its digest.
    """
    asked = [*later]
    while asked and asked[-1] is None:
        asked.pop()
    return digest(*first, *asked)


def _read_inventory(store: Store, item_id: int, clock: Callable[[], float]) -> SaleState:
    sale = store.read_sale(item_id)
    if sale is None:
        raise NotFound.of_item(item_id)
    return _read_shards_of(store, sale, clock)


def _read_shards_of(store: Store, sale: Sale, clock: Callable[[], float]) -> SaleState:
    try:
        return SaleState(sale, store.read_shards(sale), clock())
    except StaleGeneration:
        raise TryAgain from None  # a reset came between the two reads
