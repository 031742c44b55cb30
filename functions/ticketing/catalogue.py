"""The catalogue: reading a sale, and resetting it while buyers are buying."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ticketing.errors import (
    Busy,
    DeadlineExceeded,
    GenerationChanged,
    KeyReusedForReset,
    NotFound,
    Reason,
    StaleGeneration,
)
from ticketing.retry import LATE_COMMIT_SECONDS, Attempts, Runtime, TryAgain
from ticketing.rules import (
    RESET_KEYS_MAX,
    ResetKey,
    Sale,
    Shard,
    default_shard_count,
    digest,
    timestamp,
)
from ticketing.store import Store

# No store call starts later, and none takes longer than 3 s (`store.connect`).
BUDGET_SECONDS: Final = 10.0
CACHE_SECONDS: Final = 1.0  # how old the result of `recent_inventory` may be
CACHED_ITEMS_MAX: Final = 1000
FIRST_ITEM_ID: Final = 1
FIRST_ITEM_NAME: Final = "Item A - Concert Ticket"
FIRST_STOCK: Final = 100


@dataclass(frozen=True, slots=True)
class SaleState:
    """A sale with its shards, each as it was when it was read or opened."""

    sale: Sale
    shards: Sequence[Shard]

    @property
    def updated_at(self) -> str:
        """Return when the last ticket moved. ISO 8601 in UTC sorts as time does."""
        return max(shard.updated_at for shard in self.shards)


@dataclass(frozen=True, slots=True)
class ResetResult:
    """The sale that a reset started. replayed: an earlier request with this key started it."""

    inventory: SaleState
    replayed: bool

    @property
    def sale(self) -> Sale:
        """Return the sale's record."""
        return self.inventory.sale


@dataclass(slots=True)
class _ResetPlan:
    """One reset request.

    key, request: digests. sent: the sale's record has been sent, so it may have been written.
    """

    item_id: int
    stock: int | None
    item_name: str | None
    shard_count: int | None
    key: str
    request: str
    expected_generation: int | None
    sent: bool = False


class Catalogue:
    """Reads and resets sales. One per process; caches what it read for a second."""

    def __init__(self, store: Store, runtime: Runtime | None = None) -> None:
        self._store = store
        self._runtime = runtime or Runtime()
        self._recent: dict[int, tuple[SaleState, float]] = {}

    def inventory(self, item_id: int) -> SaleState:
        """Return the item's sale and shards as they are now. Raises NotFound and Busy."""
        attempts = Attempts(self._runtime, BUDGET_SECONDS)
        store = self._store.within(attempts.deadline)
        try:
            return attempts.run(lambda: self._read_inventory(store, item_id))
        except DeadlineExceeded:
            raise attempts.busy() from attempts.last_error

    def recent_inventory(self, item_id: int) -> SaleState:
        """Return the item's sale and shards, at most CACHE_SECONDS old. Raises NotFound and Busy.

        Whatever the number of readers, a process reads the sale's record once a second, because
        purchases read the same key.
        """
        now = self._runtime.clock()
        if item_id in self._recent:
            inventory, read_at = self._recent[item_id]
            if 0 <= now - read_at < CACHE_SECONDS:
                return inventory
        inventory = self.inventory(item_id)
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
        key: str | None = None,
        expected_generation: int | None = None,
    ) -> ResetResult:
        """Start the item's next generation with all tickets free, once per key.

        stock, item_name: None keeps the sale's value. shard_count: None takes the default for the
        stock. key: the idempotency key. expected_generation: the one that the sale must have (0: no
        sale yet).

        Raises GenerationChanged, KeyReusedForReset and Busy. One write of the sale's record starts
        the generation. If the process dies after that, buyers open its shards. When this returns,
        all shards are closed to older generations.
        """
        # A request without a key gets a random one, so that it recognises its own write after a
        # lost reply.
        own_key = key or str(UUID(int=self._runtime.random.getrandbits(128), version=4))
        reset = _ResetPlan(
            item_id,
            stock,
            item_name,
            shard_count,
            key=digest(own_key),
            request=digest(stock, item_name, shard_count),
            expected_generation=expected_generation,
        )
        attempts = Attempts(self._runtime, BUDGET_SECONDS)
        store = self._store.within(attempts.deadline)
        try:
            return attempts.run(lambda: self._try_reset(store, reset))
        except DeadlineExceeded:
            is_safe = key is not None or expected_generation is not None
            raise self._reset_busy(
                attempts, reset, is_safe_to_repeat=is_safe
            ) from attempts.last_error

    @staticmethod
    def _read_inventory(store: Store, item_id: int) -> SaleState:
        sale = store.read_sale(item_id)
        if sale is None:
            raise NotFound(f"There is no item {item_id}. Ask for another item_id.")
        try:
            return SaleState(sale, store.read_shards(sale))
        except StaleGeneration:
            raise TryAgain from None  # a reset came between the two reads

    def _try_reset(self, store: Store, reset: _ResetPlan) -> ResetResult:
        old = store.read_sale(reset.item_id)
        made = old.reset_key(reset.key) if old else None
        if old and made:
            return self._finish(store, old, made, reset)
        generation = old.generation if old else 0
        if reset.expected_generation is not None and reset.expected_generation != generation:
            raise GenerationChanged(
                f"The sale has generation {generation}. Nothing was changed.", generation
            )
        new = self._next_sale(old, reset)
        reset.sent = True
        if not store.announce(new):
            raise TryAgain  # another reset came first
        for index in range(new.shards_ever):
            store.open_shard(new, index)
        return ResetResult(
            SaleState(new, [Shard.fresh(new, index) for index in range(new.shard_count)]),
            replayed=False,
        )

    def _next_sale(self, old: Sale | None, reset: _ResetPlan) -> Sale:
        first_name = FIRST_ITEM_NAME if reset.item_id == FIRST_ITEM_ID else f"Item {reset.item_id}"
        capacity = reset.stock if reset.stock is not None else old.capacity if old else FIRST_STOCK
        shard_count = reset.shard_count or default_shard_count(capacity)
        generation = old.generation + 1 if old else 1
        keys = (*(old.reset_keys if old else ()), ResetKey(reset.key, generation, reset.request))
        return Sale(
            item_id=reset.item_id,
            item_name=reset.item_name or (old.item_name if old else first_name),
            capacity=capacity,
            shard_count=shard_count,
            shards_ever=max(shard_count, old.shards_ever if old else 0),
            generation=generation,
            created_at=timestamp(self._runtime.clock()),
            reset_keys=keys[-RESET_KEYS_MAX:],
        )

    @staticmethod
    def _finish(store: Store, sale: Sale, made: ResetKey, reset: _ResetPlan) -> ResetResult:
        """Return the result of a reset whose key is in the sale's record.

        Shards that are not open yet are opened.
        """
        if made.request != reset.request:
            raise KeyReusedForReset
        if made.generation != sale.generation:
            raise GenerationChanged(
                f"This Idempotency-Key started generation {made.generation}. "
                f"The sale has generation "
                f"{sale.generation} since. Nothing was changed.",
                sale.generation,
            )
        shards, _ = store.read_stored_shards(sale)
        stored = {shard.index: shard.generation for shard in shards}
        for index in range(sale.shards_ever):
            if stored.get(index, 0) < sale.generation:
                store.open_shard(sale, index)
        try:
            return ResetResult(SaleState(sale, store.read_shards(sale)), replayed=not reset.sent)
        except StaleGeneration:
            raise TryAgain from None

    @staticmethod
    def _reset_busy(attempts: Attempts, reset: _ResetPlan, *, is_safe_to_repeat: bool) -> Busy:
        if not reset.sent:
            return attempts.busy()
        remedy = (
            "The sale may have been reset. Check its generation before you send the request again."
        )
        if is_safe_to_repeat:
            remedy = (
                "The sale may have been reset. Send the same request again: it takes effect once."
            )
        return Busy(Reason.IN_DOUBT, remedy=remedy, retry_after_seconds=LATE_COMMIT_SECONDS)
