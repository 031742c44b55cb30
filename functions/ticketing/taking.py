"""Taking free tickets out of a sale's stock: for a purchase, a hold or a late confirmation.

Only this demands that the sale is open. Tickets that are held can be confirmed, extended and
released while it is paused and after it has closed: the hold's time was promised.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from copy import replace

from msgspec import Struct

from ticketing.errors import (
    Contended,
    InvalidRequest,
    NotFound,
    Refused,
    SaleNotOpen,
    StaleSale,
)
from ticketing.limits import NEARLY_EMPTY_TICKETS, PAUSED_RETRY_AFTER_SECONDS_MAX
from ticketing.model import BuyerTickets, Phase, Purchase, Sale, TooFew
from ticketing.moves import Move
from ticketing.retry import Attempts, Runtime, TryAgain
from ticketing.rules import allocate, choose, counted, is_within, timestamp
from ticketing.sale_cache import CachedSale, SaleCache
from ticketing.stock_reader import StockReader
from ticketing.store.table import Cancellation, Store


def count(store: Store, sale: Sale, after: Purchase, now: float) -> BuyerTickets | TooFew | None:
    """Return what the buyer has after a move of a purchase; None where it does not count.

    `TooFew` where that is more than the limit. One read, before any shard is touched, so buyers of
    too much are in no one's way. after, now: see `rules.counted`.
    """
    buyer = store.read_buyer(after)
    if buyer is None:
        return None
    limit = sale.per_buyer_limit
    then = counted(buyer, after, now)
    if limit is None or is_within(limit, buyer, then, now):
        return then
    return TooFew(sale, max(0, limit - buyer.tickets(now)), limit=limit)


class Taking(Struct):
    """Takes tickets of an item, with one of the moves out of stock. It keeps what it has learnt.

    make_record: returns the record for a sale, before its tickets are chosen. seen: the record
    before; None where there is none. store: bound to the deadline of the attempts. is_outdated: a
    shard was found short since the stock was last read. conflicted: shards with a conflict, or a
    throttle, in an earlier attempt.
    """

    move: Move
    item_id: int
    quantity: int
    make_record: Callable[[Sale], Purchase]
    attempts: Attempts[Purchase]
    store: Store
    cache: SaleCache
    runtime: Runtime
    seen: Purchase | None = None
    is_outdated: bool = False
    conflicted: frozenset[int] = frozenset()

    @property
    def reader(self) -> StockReader:
        """Return what reads the stock for this request."""
        return StockReader(self.store, self.runtime)

    def attempt(self) -> Purchase | Cancellation | TooFew:
        """Make one attempt: choose shards, send one transaction, and use its answer.

        Returns the record when it is done; the cancellation where the record is not as the move
        demands, or the payment is used; and what a snapshot showed, where it had too few tickets,
        or what the buyer had, where the limit leaves too few. Raises SaleNotOpen, and NotFound for
        an item that was deleted.
        """
        cached, throttle = self.cache.current(self.store, self.item_id)
        try:
            outcome = self._attempt(cached)
        except (InvalidRequest, NotFound, Refused, SaleNotOpen):
            if throttle:
                raise throttle from None
            raise
        if throttle and isinstance(outcome, TooFew):
            raise throttle  # a newer generation may have tickets, or no limit
        return outcome

    def _attempt(self, cached: CachedSale) -> Purchase | Cancellation | TooFew:
        now = self.runtime.clock()
        if (phase := cached.sale.phase(now)) is not Phase.OPEN:
            raise self._not_open(cached.sale, phase, now)
        record = self.make_record(cached.sale)
        buyer = count(self.store, cached.sale, record, now)
        if isinstance(buyer, TooFew):
            return buyer
        try:
            taken = self._choose(cached)
            if isinstance(taken, TooFew):
                return taken
            self._reclaim(cached, taken)
            return self._take(cached, replace(record, taken=taken), buyer)
        except StaleSale:
            self.cache.forget(self.item_id)
            raise TryAgain from None

    def _not_open(self, sale: Sale, phase: Phase, now: float) -> SaleNotOpen | NotFound:
        if phase is Phase.DELETED:
            return NotFound.of_item(self.item_id)
        seconds = None
        if phase is Phase.PAUSED:
            seconds = 1 + self.runtime.random.randrange(PAUSED_RETRY_AFTER_SECONDS_MAX)
        elif phase is Phase.SCHEDULED and sale.opens_at is not None:
            seconds = math.ceil(sale.opens_at - now)
        return SaleNotOpen(
            phase, opens_at=sale.opens_at, closes_at=sale.closes_at, retry_after_seconds=seconds
        )

    def _choose(self, cached: CachedSale) -> dict[int, int] | TooFew:
        """Return shard index → tickets to take, or what a snapshot showed that had too few.

        A conflict says that the sale is fast, so what was cached of the shards is soon wrong.
        """
        random = self.runtime.random
        if not self.is_outdated:
            if self.conflicted:
                self.reader.refresh(cached, self.quantity)
            if chosen := choose(self._promising(cached), self.quantity, random):
                (index,) = chosen
                self._read_nearly_empty(cached, index)
                return chosen
        too_few = self.reader.read(cached, self.quantity, is_outdated=self.is_outdated)
        self.is_outdated = False
        if too_few:
            return too_few
        found = allocate(cached.stock, self.quantity, random)
        if found is None:
            raise TryAgain
        return found

    def _promising(self, cached: CachedSale) -> dict[int, int]:
        """Return the shards that may have enough, those without a conflict where there are some."""
        calm = cached.shards_with(self.quantity, without=self.conflicted)
        return calm or cached.shards_with(self.quantity)

    def _read_nearly_empty(self, cached: CachedSale, index: int) -> None:
        """Read a shard if it is nearly empty. Raises TryAgain where it has too few tickets.

        Any other one, and one with expired holds to reclaim, is checked by a write at once.
        """
        left = cached.stock[index] - self.quantity
        if left > NEARLY_EMPTY_TICKETS or index in cached.with_expired:
            return
        cached.see(self.store.read_shard(cached.sale, index), self.runtime.clock())
        if cached.stock[index] < self.quantity:
            self.is_outdated = True
            raise TryAgain

    def _take(
        self, cached: CachedSale, record: Purchase, buyer: BuyerTickets | None
    ) -> Purchase | Cancellation:
        """Send the transaction. buyer: what the buyer has after it."""
        taken = record.taken
        self.attempts.statistics.shards = sorted(taken)
        now = timestamp(self.runtime.clock())
        cancellation = self.attempts.write(
            record, lambda: self.store.move(self.move, record, taken, now, self.seen, buyer=buyer)
        )
        if cancellation is None:
            for index, tickets in taken.items():
                cached.stock[index] -= tickets
            return record
        if cancellation.record is not None or cancellation.payment_reused:
            return cancellation
        self._update_cache(cached, cancellation, taken)
        if not cancellation.contended:
            raise TryAgain
        self.conflicted |= cancellation.contended_shards
        if cancellation.is_local and cached.shards_with(self.quantity, without=self.conflicted):
            self.attempts.statistics.conflicts += 1
            raise TryAgain
        raise Contended

    def _reclaim(self, cached: CachedSale, indexes: Iterable[int]) -> None:
        """Put tickets of expired holds back on sale in these shards.

        Raises TryAgain where a shard has changed since it was seen.
        """
        for index in indexes:
            shard = cached.with_expired.get(index)
            if shard is None:
                continue
            now = self.runtime.clock()
            expired = shard.expired(now)
            found = self.store.reclaim(self.item_id, shard, expired, timestamp(now))
            if found is not None:
                cached.see(found, now)
                raise TryAgain
            del cached.with_expired[index]

    def _update_cache(
        self, cached: CachedSale, cancellation: Cancellation, taken: Mapping[int, int]
    ) -> None:
        """Cache the refused shards as the transaction found them."""
        for index, shard in cancellation.shards.items():
            if shard is None and cached.sale.shards_opened:
                cached.stock[index] = 0  # it is lost
            elif shard is None or shard.generation < cached.sale.generation:
                # The reset that started this generation has not reached this shard yet, or has
                # crashed.
                self.store.open_shard(cached.sale, index)
            elif shard.generation > cached.sale.generation:
                raise StaleSale
            else:
                cached.see(shard, self.runtime.clock())
                self.is_outdated |= cached.stock[index] < taken[index]
