"""What a process remembers of the sales that it sells. Hints only: the store decides."""

from collections.abc import Container, Sequence

from msgspec import Struct

from ticketing.errors import Contended, NotFound, StaleSale
from ticketing.limits import CACHE_SECONDS, CACHE_STALE_SECONDS, SUMMARIES
from ticketing.model import Sale, Shard, StockSummary, TooFew
from ticketing.retry import Runtime
from ticketing.rules import is_younger
from ticketing.store.table import Store


class SeenSummary(Struct):
    """What a process has seen of a sale's stock summaries.

    part: the one that it reads. published: the last revision whose content it has used. claim: the
    revision of its last claim; -1: none. looked_at: when it looked last. latest, since: the
    revision that it saw last, and when it saw that first. reads: revision → when the table last had
    it, at the earliest: before the call was sent.
    """

    part: int
    published: int = 0
    claim: int = -1
    looked_at: float = 0.0
    latest: int = -1
    since: float = 0.0
    reads: dict[int, float] = {}

    def note(self, revision: int, asked_at: float) -> None:
        """Note the revision that the table had when it answered. asked_at: before that."""
        if revision != self.latest:
            self.latest, self.since = revision, asked_at
        self.reads[revision] = asked_at
        for other, then in list(self.reads.items()):
            if not is_younger(then, asked_at, CACHE_SECONDS):
                del self.reads[other]

    def taken_after(self, published: int) -> float | None:
        """Return an instant, by our clock, before which a revision's shards were not read.

        The claim came first, and it was not in the table yet when that had an older revision.
        """
        older = [then for revision, then in self.reads.items() if revision <= published - 2]
        return max(older, default=None)


class CachedSale(Struct):
    """One generation of a sale, and what was last seen of its shards.

    read_at: when the settings were read. stock: shard → the tickets that were free when it was last
    seen. with_expired: the shards among these of which some belong to expired holds, as they were
    seen. next_release_at: see `TooFew`; of all shards when they were last read. snapshot_seen: what
    the last snapshot showed, and an instant before which it was not taken. summary: what was seen
    of the sale's summaries.
    """

    sale: Sale
    read_at: float
    stock: dict[int, int]
    summary: SeenSummary
    with_expired: dict[int, Shard] = {}
    next_release_at: int | None = None
    snapshot_seen: tuple[TooFew, float] | None = None

    @classmethod
    def of(cls, sale: Sale, read_at: float, summary: SeenSummary) -> "CachedSale":
        """Return the cache of a sale of which nothing was sold yet."""
        stock = {index: sale.share(index) for index in range(sale.shard_count)}
        return cls(sale, read_at, stock, summary)

    @property
    def free(self) -> int:
        """Return how many tickets all shards together had when last seen."""
        return sum(self.stock.values())

    def see_sale(self, sale: Sale, now: float) -> None:
        """Note the sale's record. Where it has more shards, no ticket of them is known yet."""
        self.sale, self.read_at = sale, now
        for index in range(len(self.stock), sale.shard_count):
            self.stock[index] = 0

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

    def shards_with(self, quantity: int, *, without: Container[int] = ()) -> dict[int, int]:
        """Return the shards that may have enough, except for some → free tickets."""
        return {
            index: tickets
            for index, tickets in self.stock.items()
            if tickets >= quantity and index not in without
        }

    @property
    def too_few(self) -> TooFew:
        """Return what was last seen of all shards, where it is too few tickets."""
        return TooFew(self.sale, self.free, self.next_release_at)

    def see_snapshot(self, taken_after: float) -> None:
        """Remember what was last seen of all shards as a snapshot, not taken before an instant."""
        self.snapshot_seen = self.too_few, taken_after

    def see_summary(self, summary: StockSummary) -> bool:
        """Note all shards as another process has read them. Return whether this is new.

        Raises StaleSale where they are of a newer generation, or where there are more of them.
        """
        if summary.generation > self.sale.generation:
            raise StaleSale
        is_same_generation = summary.generation == self.sale.generation
        if is_same_generation and max(summary.free, default=0) >= self.sale.shard_count:
            raise StaleSale
        is_new = summary.published > self.summary.published
        if not is_new or not is_same_generation:
            return False
        self.summary.published = summary.published
        self.stock = {index: summary.free.get(index, 0) for index in self.stock}
        self.with_expired.clear()
        self.next_release_at = summary.next_release_at
        taken_after = self.summary.taken_after(summary.published)
        if summary.is_snapshot and taken_after is not None:
            self.see_snapshot(taken_after)
        return True

    def too_few_for(self, quantity: int) -> TooFew | None:
        """Return what the last snapshot showed, where it had too few tickets.

        None where it had enough, or where what was seen since then is enough.
        """
        if self.snapshot_seen is None or self.free >= quantity:
            return None
        seen, _ = self.snapshot_seen
        return seen if seen.left < quantity else None

    def recent_too_few_for(self, quantity: int, now: float) -> TooFew | None:
        """Return the same where the snapshot is recent enough to refuse by it."""
        if self.snapshot_seen is None:
            return None
        _, taken_after = self.snapshot_seen
        return self.too_few_for(quantity) if is_younger(taken_after, now, CACHE_SECONDS) else None


class SaleCache:
    """The cached sales of a process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._sales: dict[int, CachedSale] = {}
        self._summaries: dict[int, SeenSummary] = {}

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
        now = self._runtime.clock()
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
            cached = self._sales[item_id] = CachedSale.of(sale, now, self._summary(item_id))
        else:
            cached.see_sale(sale, now)
        return cached, None

    def _summary(self, item_id: int) -> SeenSummary:
        """Return what was seen of the item's summaries; they go on in a new generation."""
        if item_id not in self._summaries:
            self._summaries[item_id] = SeenSummary(self._runtime.random.randrange(SUMMARIES))
        return self._summaries[item_id]
