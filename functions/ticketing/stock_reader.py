"""Finding out how many tickets a sale has left: from another process, or from its shards.

A snapshot of 100 shards costs 200 read units, and hundreds of processes need one at the same time:
when the last ticket is sold, and each second from then on. So one of them reads the shards and puts
what it saw into a stock summary, and the others read that, for one unit.

A summary is true for a while only, and no timestamp says how old it is, because clocks differ. So a
process first claims the next revision, then reads the shards, and then publishes what it saw. A
process that has read a revision older than the claim knows, by its own clock, that the shards were
read after that. docs/architecture.md has an example.
"""

from copy import replace

from msgspec import Struct

from ticketing.errors import DeadlineExceeded, StaleSale, StoreError, UnreadableRecord
from ticketing.limits import (
    CLAIM_SECONDS,
    LOOK_AGAIN_SECONDS,
    LOOK_SECONDS,
    LOOKS_MAX,
    REFRESH_SECONDS,
    SUMMARY_SECONDS,
)
from ticketing.model import StockSummary, TooFew
from ticketing.retry import Runtime, TryAgain
from ticketing.rules import is_younger
from ticketing.sale_cache import CachedSale
from ticketing.store.table import Store


class StockReader(Struct):
    """Reads how many tickets are left, within one request. store: bound to its deadline."""

    store: Store
    runtime: Runtime

    def read(
        self, cached: CachedSale, quantity: int, *, is_outdated: bool = False
    ) -> TooFew | None:
        """Find out whether enough tickets are left, and cache where.

        is_outdated: a shard had fewer than was cached, so what was published before is of no use.

        Returns what a snapshot showed, where that was too few; None where the cache has enough.
        Raises StaleSale, and TryAgain where a hold expired meanwhile.
        """
        now = self.runtime.clock()
        known = cached.recent_too_few_for(quantity, now)
        if known and is_younger(cached.summary.looked_at, now, LOOK_SECONDS):
            return known
        for _ in range(LOOKS_MAX):
            try:
                due_in = self._look(cached, quantity, is_outdated=is_outdated)
            except StaleSale:
                raise
            except (StoreError, DeadlineExceeded, TryAgain):
                if known:
                    return known
                raise
            if due_in is None:
                return cached.too_few_for(quantity)
            if known:
                return known
            self.runtime.sleep(due_in + 2 * LOOK_AGAIN_SECONDS * self.runtime.random.random())
        self._read_shards(cached, quantity)
        return cached.too_few_for(quantity)

    def refresh(self, cached: CachedSale, quantity: int) -> None:
        """Cache where tickets are left, unless that was done just now. Do not wait for others.

        Raises StaleSale.
        """
        if is_younger(cached.summary.looked_at, self.runtime.clock(), REFRESH_SECONDS):
            return
        try:
            self._look(cached, quantity, is_refresh=True)
        except StaleSale:
            raise
        except (StoreError, DeadlineExceeded, TryAgain):
            pass  # the choice of a shard is made by what was known before

    def _look(
        self,
        cached: CachedSale,
        quantity: int,
        *,
        is_outdated: bool = False,
        is_refresh: bool = False,
    ) -> float | None:
        """Look at the summary once, and read the shards for the next one where that is due.

        Returns None where what is cached of the shards is new and answers the question, otherwise
        in how many seconds the next one is due.
        """
        asked_at, seen = self.runtime.clock(), cached.summary
        seen.looked_at = asked_at
        try:
            summary = self.store.read_summary(cached.sale.item_id, seen.part)
        except UnreadableRecord:  # until a repair each process reads the shards for itself
            self._read_shards(cached, quantity)
            return None
        seen.note(summary.revision, asked_at)
        is_new = cached.see_summary(summary)
        now = self.runtime.clock()
        if is_new and (cached.free >= quantity or cached.recent_too_few_for(quantity, now)):
            return None
        due_in = 0.0
        if summary.is_claimed:
            is_ours = seen.claim == summary.revision
            is_due = is_ours or not is_younger(seen.since, now, CLAIM_SECONDS)
        else:
            # Where a clock is wrong, a summary is renewed too often or too late.
            age = now - summary.written_at / 1000
            valid_seconds = REFRESH_SECONDS if is_refresh else SUMMARY_SECONDS
            due_in = valid_seconds - age if 0 <= age < valid_seconds else 0.0
            says_enough = sum(summary.free.values()) >= quantity  # and we know better
            is_due = is_outdated or (says_enough and not is_refresh) or not due_in
        return None if is_due and self._renew(cached, summary, quantity) else due_in

    def _renew(self, cached: CachedSale, summary: StockSummary, quantity: int) -> bool:
        """Claim the next revision, read the shards, and publish them.

        False: another process was first.
        """
        seen = cached.summary
        if summary.revision != seen.claim:
            seen.claim = summary.revision + 1
            claim = replace(summary, revision=seen.claim, written_at=self._milliseconds())
            if not self.store.put_summary(claim):
                seen.claim = -1
                return False
        try:
            is_snapshot = self._read_shards(cached, quantity)
        except StaleSale:
            self._publish_generation(cached)
            raise
        self._publish(cached, is_snapshot=is_snapshot)
        return True

    def _publish_generation(self, cached: CachedSale) -> None:
        """Tell the others that there is a new generation; its stock is not known yet."""
        now = self.runtime.clock()
        sale = self.store.read_sale(cached.sale.item_id)
        if sale is not None:
            self._publish(CachedSale.of(sale, now, cached.summary), is_snapshot=False)

    def _publish(self, cached: CachedSale, *, is_snapshot: bool) -> None:
        """Publish what is cached. Without an answer, another process takes over the claim."""
        seen = cached.summary
        summary = StockSummary(
            cached.sale.item_id,
            seen.part,
            revision=seen.claim + 1,
            published=seen.claim + 1,
            generation=cached.sale.generation,
            free={index: tickets for index, tickets in cached.stock.items() if tickets},
            next_release_at=cached.next_release_at,
            is_snapshot=is_snapshot,
            written_at=self._milliseconds(),
        )
        asked_at = self.runtime.clock()
        try:
            is_published = self.store.put_summary(summary)
        except (StoreError, DeadlineExceeded):
            return
        if is_published:
            seen.note(summary.revision, asked_at)
            seen.published = summary.revision

    def _read_shards(self, cached: CachedSale, quantity: int) -> bool:
        """Cache how many tickets are free in each shard. Return whether they are a snapshot.

        The plain read comes first: it is cheap and never conflicts with other purchases. It is not
        of one instant, so "too few" is believed only from a snapshot. A process that knows of too
        few tickets takes a snapshot at once (D39).
        """
        if cached.free >= quantity:
            cached.see_all(self.store.read_shards(cached.sale), self.runtime.clock())
            if cached.free >= quantity:
                return False
        asked_at = self.runtime.clock()
        shards = self.store.snapshot(cached.sale)
        now = self.runtime.clock()
        cached.see_all(shards, now)
        if sum(shard.free(asked_at) for shard in shards) != cached.free:
            raise TryAgain  # a hold expired meanwhile: was it of the snapshot's instant?
        sale = self.store.read_sale(cached.sale.item_id)
        if sale is None or sale.generation != cached.sale.generation:
            raise StaleSale  # it may have begun before the snapshot
        is_whole = sale.shard_count == cached.sale.shard_count
        cached.see_sale(sale, now)
        if not is_whole:
            raise TryAgain  # new shards were not in the snapshot, and may have tickets
        cached.see_snapshot(asked_at)
        return True

    def _milliseconds(self) -> int:
        return int(self.runtime.clock() * 1000)
