"""What a process remembers of the sales that it sells. Hints only: the store decides."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from ticketing.errors import Contended, NotFound
from ticketing.limits import CACHE_SECONDS, CACHE_STALE_SECONDS
from ticketing.model import Sale, Shard, TooFew
from ticketing.rules import is_younger
from ticketing.store.table import Store


class CachedSale(Struct):
    """One generation of a sale, and what was last seen of its shards.

    read_at: when the settings were read. stock: shard → the tickets that were free when it was last
    seen. with_expired: the shards among these of which some belong to expired holds, as they were
    seen. next_release_at: see `TooFew`; of all shards when they were last read. too_few_seen: what
    a snapshot showed that had too few, and when it was taken.
    """

    sale: Sale
    read_at: float
    stock: dict[int, int]
    with_expired: dict[int, Shard] = {}
    next_release_at: int | None = None
    too_few_seen: tuple[TooFew, float] | None = None

    @classmethod
    def of(cls, sale: Sale, read_at: float) -> "CachedSale":
        """Return the cache of a sale of which nothing was sold yet."""
        return cls(sale, read_at, {index: sale.share(index) for index in range(sale.shard_count)})

    @property
    def free(self) -> int:
        """Return how many tickets all shards together had when last seen."""
        return sum(self.stock.values())

    def see(self, shard: Shard, now: float) -> None:
        """Note a shard as it was read, or as a refused write found it."""
        self.stock[shard.index] = shard.free(now)
        self.with_expired.pop(shard.index, None)
        if shard.expired(now):
            self.with_expired[shard.index] = shard

    def see_all(self, shards: Sequence[Shard], now: float) -> None:
        """Note all shards as they were read."""
        for shard in shards:
            self.see(shard, now)
        releases = [shard.next_release_at(now) for shard in shards]
        self.next_release_at = min(filter(None, releases), default=None)

    def shards_with(self, quantity: int) -> list[int]:
        """Return the shards that may have enough."""
        return [index for index, tickets in self.stock.items() if tickets >= quantity]

    @property
    def too_few(self) -> TooFew:
        """Return what was last seen of all shards, where it is too few tickets."""
        return TooFew(self.sale, self.free, self.next_release_at)

    def remember_too_few(self, asked_at: float) -> None:
        """Remember a snapshot that had too few tickets. asked_at: before it was asked for.

        Its age counts from the older of both reads: a new generation may have started since the
        sale was read.
        """
        self.too_few_seen = self.too_few, min(asked_at, self.read_at)

    def too_few_for(self, quantity: int, now: float) -> TooFew | None:
        """Return what a recent snapshot showed that had too few tickets; None without one."""
        if self.too_few_seen is None:
            return None
        seen, seen_at = self.too_few_seen
        return seen if seen.left < quantity and is_younger(seen_at, now, CACHE_SECONDS) else None


class SaleCache:
    """The cached sales of a process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sales: dict[int, CachedSale] = {}

    def get(self, item_id: int) -> CachedSale | None:
        """Return what is cached of the item, however old; None for an unknown item."""
        return self._sales.get(item_id)

    def forget(self, item_id: int) -> None:
        """Read the sale again before its next use."""
        self._sales.pop(item_id, None)

    def current(self, store: Store, item_id: int) -> tuple[CachedSale, Contended | None]:
        """Return the item's sale, its settings at most CACHE_SECONDS old.

        Where reading them is throttled, return settings of up to CACHE_STALE_SECONDS together with
        the throttle. Raises NotFound for an unknown item, and the store's errors.
        """
        cached = self._sales.get(item_id)
        now = self._clock()
        if cached is not None and is_younger(cached.read_at, now, CACHE_SECONDS):
            return cached, None
        try:
            sale = store.read_sale(item_id)
        except Contended as throttle:
            if cached is not None and is_younger(cached.read_at, now, CACHE_STALE_SECONDS):
                return cached, throttle
            raise
        if sale is None:
            self.forget(item_id)
            raise NotFound.of_item(item_id)
        if cached is None or cached.sale.generation != sale.generation:
            cached = self._sales[item_id] = CachedSale.of(sale, now)
        else:
            cached.sale, cached.read_at = sale, now
        return cached, None
