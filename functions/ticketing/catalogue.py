"""The catalogue: what is for sale, and starting a sale anew while buyers are at work."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ticketing.errors import Contended, NotFound, StaleSale
from ticketing.rules import Sale, Shard, default_shard_count, timestamp
from ticketing.store import Store

MAX_ATTEMPTS: Final = 5  # against resets that come at the same time
BUDGET_SECONDS: Final = 10.0  # no store call starts later, and none takes longer than 3 s (`store.connect`)
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


class Catalogue:
    """Reads and starts sales. store: the table. clock: seconds since the epoch."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def inventory(self, item_id: int) -> Inventory:
        """The item's sale and stock. Raises NotFound."""
        deadline = self._clock() + BUDGET_SECONDS
        for _ in range(MAX_ATTEMPTS):
            self._check(deadline)
            sale = self._store.read_sale(item_id)
            if sale is None:
                raise NotFound(f"There is no item {item_id}. Ask for another item_id.")
            try:
                return Inventory(sale, self._store.read_shards(sale))
            except StaleSale:
                continue  # a reset came between the two reads
        raise Contended

    def reset(self, item_id: int, *, stock: int | None, item_name: str | None, shard_count: int | None) -> Inventory:
        """Starts the item's sale anew: the next generation, with all tickets free.

        None keeps the stock and the name that the sale has, and takes the default for the shards.

        The sale's record is the whole truth of a generation, so announcing it is one write; whoever dies after it
        leaves a sale that buyers open shard by shard. When this returns, all shards are closed to older generations.
        """
        deadline = self._clock() + BUDGET_SECONDS
        for _ in range(MAX_ATTEMPTS):
            self._check(deadline)
            old = self._store.read_sale(item_id)
            capacity = stock if stock is not None else old.capacity if old else FIRST_STOCK
            first_name = FIRST_ITEM_NAME if item_id == FIRST_ITEM_ID else f"Item {item_id}"
            shards = shard_count or default_shard_count(capacity)
            new = Sale(
                item_id=item_id,
                item_name=item_name or (old.item_name if old else first_name),
                capacity=capacity,
                shard_count=shards,
                shards_ever=max(shards, old.shards_ever if old else 0),
                generation=old.generation + 1 if old else 1,
                created_at=timestamp(self._clock()),
            )
            if self._store.announce(new):
                for index in range(new.shards_ever):
                    self._check(deadline)
                    self._store.open_shard(new, index)
                return Inventory(new, [Shard.fresh(new, index) for index in range(new.shard_count)])
        raise Contended

    def _check(self, deadline: float) -> None:
        if self._clock() >= deadline:
            raise Contended
