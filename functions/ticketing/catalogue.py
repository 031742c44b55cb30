"""The catalogue: what is for sale, and starting a sale again while buyers are at work."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ticketing.errors import Busy, GenerationChanged, KeyReusedForReset, NotFound, OutOfTime, Reason, StaleSale
from ticketing.retry import LATE_COMMIT_SECONDS, Again, Attempts, Surroundings
from ticketing.rules import RESET_KEYS_MAX, ResetKey, Sale, Shard, default_shard_count, digest, timestamp
from ticketing.store import Store

BUDGET_SECONDS: Final = 10.0  # no store call starts later, and none takes longer than 3 s (`store.connect`)
CACHE_SECONDS: Final = 1.0  # how old an inventory of `recent_inventory` may be
CACHED_ITEMS_MAX: Final = 1000
FIRST_ITEM_ID: Final = 1
FIRST_ITEM_NAME: Final = "Item A - Concert Ticket"
FIRST_STOCK: Final = 100


@dataclass(frozen=True, slots=True)
class Inventory:
    """A sale with its shards, each as it stood when it was read or opened."""

    sale: Sale
    shards: Sequence[Shard]

    @property
    def updated_at(self) -> str:
        """When the last ticket moved; ISO 8601 in UTC sorts as time does."""
        return max(shard.updated_at for shard in self.shards)


@dataclass(frozen=True, slots=True)
class ResetDone:
    """A sale that a reset opened. replayed: an earlier request with its key had opened it."""

    inventory: Inventory
    replayed: bool

    @property
    def sale(self) -> Sale:
        """The sale."""
        return self.inventory.sale


@dataclass(slots=True)
class _Reset:
    """One request of an organiser. key, request: digests. sent: an announcement has been sent, and may take effect."""

    item_id: int
    stock: int | None
    item_name: str | None
    shard_count: int | None
    key: str
    request: str
    expected_generation: int | None
    sent: bool = False


class Catalogue:
    """Reads and starts sales. One per process; keeps what it read for a second."""

    def __init__(self, store: Store, surroundings: Surroundings | None = None) -> None:
        self._store = store
        self._surroundings = surroundings or Surroundings()
        self._recent: dict[int, tuple[Inventory, float]] = {}

    def inventory(self, item_id: int) -> Inventory:
        """Return the item's sale and stock as they are now. Raises NotFound and Busy."""
        attempts = Attempts(self._surroundings, BUDGET_SECONDS)
        store = self._store.within(attempts.deadline)
        try:
            return attempts.run(lambda: self._read_inventory(store, item_id))
        except OutOfTime:
            raise attempts.busy() from attempts.trouble

    def recent_inventory(self, item_id: int) -> Inventory:
        """Return an inventory that is at most CACHE_SECONDS old. Raises NotFound and Busy.

        However many readers there are, a process reads the sale's record once a second: buying needs the same key.
        """
        now = self._surroundings.clock()
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
    ) -> ResetDone:
        """Start the item's sale again: the next generation, with all tickets free. Once per key.

        stock, item_name: None keeps what the sale has. shard_count: None takes the default for the stock.
        key: the idempotency key. expected_generation: the one that the sale must have (0: there is none yet).

        Raises GenerationChanged, KeyReusedForReset and Busy. The sale's record alone defines a generation, so it is
        announced by one write. If the process dies after that, buyers open the sale shard by shard. When this returns,
        all shards are closed to older generations.
        """
        # Without a key the attempts of this request have one of their own: its own lost reply is no other reset.
        own_key = key or str(UUID(int=self._surroundings.random.getrandbits(128), version=4))
        reset = _Reset(
            item_id,
            stock,
            item_name,
            shard_count,
            key=digest(own_key),
            request=digest(stock, item_name, shard_count),
            expected_generation=expected_generation,
        )
        attempts = Attempts(self._surroundings, BUDGET_SECONDS)
        store = self._store.within(attempts.deadline)
        try:
            return attempts.run(lambda: self._try_reset(store, reset))
        except OutOfTime:
            is_safe = key is not None or expected_generation is not None
            raise self._reset_busy(attempts, reset, is_safe_to_repeat=is_safe) from attempts.trouble

    @staticmethod
    def _read_inventory(store: Store, item_id: int) -> Inventory:
        sale = store.read_sale(item_id)
        if sale is None:
            raise NotFound(f"There is no item {item_id}. Ask for another item_id.")
        try:
            return Inventory(sale, store.read_shards(sale))
        except StaleSale:
            raise Again from None  # a reset came between the two reads

    def _try_reset(self, store: Store, reset: _Reset) -> ResetDone:
        old = store.read_sale(reset.item_id)
        made = old.reset_key(reset.key) if old else None
        if old and made:
            return self._finish(store, old, made, reset)
        generation = old.generation if old else 0
        if reset.expected_generation is not None and reset.expected_generation != generation:
            raise GenerationChanged(f"The sale is at generation {generation}. Nothing was changed.", generation)
        new = self._next_sale(old, reset)
        reset.sent = True
        if not store.announce(new):
            raise Again  # another reset came first
        for index in range(new.shards_ever):
            store.open_shard(new, index)
        return ResetDone(Inventory(new, [Shard.fresh(new, index) for index in range(new.shard_count)]), replayed=False)

    def _next_sale(self, old: Sale | None, reset: _Reset) -> Sale:
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
            created_at=timestamp(self._surroundings.clock()),
            reset_keys=keys[-RESET_KEYS_MAX:],
        )

    @staticmethod
    def _finish(store: Store, sale: Sale, made: ResetKey, reset: _Reset) -> ResetDone:
        """Answer a reset that was made before, by this request or an earlier one, and open what is not open yet."""
        if made.request != reset.request:
            raise KeyReusedForReset
        if made.generation != sale.generation:
            raise GenerationChanged(
                f"This Idempotency-Key opened generation {made.generation}. The sale is at generation "
                f"{sale.generation} since. Nothing was changed.",
                sale.generation,
            )
        shards, _ = store.read_stored_shards(sale)
        stored = {shard.index: shard.generation for shard in shards}
        for index in range(sale.shards_ever):
            if stored.get(index, 0) < sale.generation:
                store.open_shard(sale, index)
        try:
            return ResetDone(Inventory(sale, store.read_shards(sale)), replayed=not reset.sent)
        except StaleSale:
            raise Again from None

    @staticmethod
    def _reset_busy(attempts: Attempts, reset: _Reset, *, is_safe_to_repeat: bool) -> Busy:
        if not reset.sent:
            return attempts.busy()
        remedy = "The sale may have been reset. Look at its generation before you send the request again."
        if is_safe_to_repeat:
            remedy = "The sale may have been reset. Send the same request again: it takes effect once."
        return Busy(Reason.IN_DOUBT, remedy=remedy, retry_after_seconds=LATE_COMMIT_SECONDS)
