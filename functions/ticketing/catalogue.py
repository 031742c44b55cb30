"""The catalogue: reading a sale with its stock, and the list of all sales."""

from collections.abc import Callable

from ticketing.errors import NotFound, StaleSale
from ticketing.limits import (
    CACHE_SECONDS,
    CACHED_ITEMS_MAX,
    CACHED_PAGES_MAX,
    CATALOGUE_BUDGET_SECONDS,
)
from ticketing.model import CataloguePage, Sale, SaleState
from ticketing.retry import Attempts, Runtime, Statistics, TryAgain
from ticketing.rules import is_younger
from ticketing.store.table import Store, Table


class Catalogue:
    """Reads sales. One per process; caches what it read for a second."""

    def __init__(self, table: Table, runtime: Runtime) -> None:
        self._table = table
        self._runtime = runtime
        self._recent: dict[int, tuple[SaleState, float]] = {}
        self._pages: dict[tuple[int, int], CataloguePage] = {}

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

    def page(self, after: int, count: int, statistics: Statistics | None = None) -> CataloguePage:
        """Return `count` sales whose item ids come after one, at most CACHE_SECONDS old.

        Raises Busy.
        """
        now = self._runtime.clock()
        cached = self._pages.get((after, count))
        if cached is not None and is_younger(cached.now, now, CACHE_SECONDS):
            return cached
        attempts = Attempts[None](self._runtime, CATALOGUE_BUDGET_SECONDS, statistics=statistics)
        store = self._table.within(attempts.deadline)
        page = attempts.run(lambda: _read_page(store, after, count, now))
        if len(self._pages) >= CACHED_PAGES_MAX:
            self._pages.clear()
        self._pages[after, count] = page
        return page


def _read_page(store: Store, after: int, count: int, now: float) -> CataloguePage:
    item_ids = [item_id for item_id in store.read_catalogue() if item_id > after]
    page = item_ids[:count]
    sales = [sale for sale in store.read_sales(page) if not sale.is_deleted]
    return CataloguePage(sales, page[-1] if len(item_ids) > count else None, now)


def _read_inventory(store: Store, item_id: int, clock: Callable[[], float]) -> SaleState:
    sale = store.read_sale(item_id)
    if sale is None or sale.is_deleted:
        raise NotFound.of_item(item_id)
    return read_state(store, sale, clock)


def read_state(store: Store, sale: Sale, clock: Callable[[], float]) -> SaleState:
    """Return a sale with its shards as they are now. Raises TryAgain where it was reset since."""
    try:
        return SaleState(sale, store.read_shards(sale), clock())
    except StaleSale:
        raise TryAgain from None  # a reset came between the two reads
