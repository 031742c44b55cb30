"""Changes of a sale's capacity and of its shards, while it sells.

At every instant the capacity in the sale's record is the sum of its shards' capacities: each step
gives tickets to one shard, takes free ones from it, or moves them between two, in one transaction
with the record. It raises the record's revision, so no step takes effect twice, and one that comes
late fails. The record also says what is to be reached, so the next change of the sale finishes what
a process has left that died.
"""

from collections.abc import Mapping, Sequence
from copy import replace

from msgspec import Struct

from ticketing.errors import CapacityTooLow, Contended, StaleSale
from ticketing.model import Resize, Sale
from ticketing.retry import Attempts, Runtime, TryAgain
from ticketing.rules import resize_steps, spread_steps, timestamp
from ticketing.store.table import Store


class Resizing(Struct, frozen=True):
    """Changes capacity and shards within one request. store: bound to the attempts' deadline.

    All methods raise TryAgain where another process has changed the sale's record, and the store's
    errors. What they have written is in doubt until the request ends.
    """

    attempts: Attempts[Sale]
    store: Store
    runtime: Runtime

    def resized(self, sale: Sale, capacity: int) -> Sale:
        """Return the sale with another capacity.

        Raises CapacityTooLow where more tickets are sold and held: then the sale has the capacity
        that it had.
        """
        sale = self.settled(sale)
        if capacity == sale.capacity:
            return sale
        lowest = self._lowest(sale, capacity)
        if lowest is None:
            resize = Resize(capacity, before=sale.capacity)
            sale, lowest = self._finish(self._put(replace(sale, resize=resize), sale))
            if lowest is None:
                return sale
        elif self.attempts.in_doubt:
            self._put(sale, sale)  # then no earlier attempt can still take effect
        elif self.store.read_sale(sale.item_id) != sale:
            raise TryAgain  # another change came between reading the record and the shards
        raise CapacityTooLow(lowest)

    def settled(self, sale: Sale) -> Sale:
        """Return the sale after everything that earlier calls have left is finished."""
        settled, _ = self._finish(self._opened(sale))
        return settled

    def started(self, sale: Sale) -> Sale:
        """Return the sale after all shards of its new generation were opened."""
        return self._open(sale, {})

    def _opened(self, sale: Sale) -> Sale:
        """Open the shards that a request which died half-way has left."""
        if sale.shards_opened:
            return sale
        shards, _ = self.store.read_stored_shards(sale)
        return self._open(sale, {shard.index: shard.generation for shard in shards})

    def _open(self, sale: Sale, stored: Mapping[int, int]) -> Sale:
        """Open all shards that are not open yet. stored: shard → its generation, where known."""
        for index in range(sale.shards_ever):
            if stored.get(index, 0) < sale.generation:
                self.store.open_shard(sale, index)
        return self._put(replace(sale, shards_opened=True), sale)

    def _finish(self, sale: Sale) -> tuple[Sale, int | None]:
        """Carry out what the sale's record says is to be reached.

        Returns the sale, and the lowest capacity that it could have where it went back to the one
        before; None where it did not.
        """
        lowest = None
        while (resize := sale.resize) is not None:
            lacking = resize.capacity - sale.capacity
            stock = self._stock(sale)
            if sum(stock.values()) + lacking >= 0:
                steps = resize_steps(stock, lacking)
                sale = self._carry_out(sale, steps, done=replace(sale, resize=None))
            elif too_low := self._lowest(sale, resize.capacity):
                lowest, back = too_low, Resize(resize.before, resize.before)
                sale = self._put(replace(sale, resize=back), sale)
        while sale.is_spreading:
            steps = spread_steps(self._stock(sale))
            sale = self._carry_out(sale, steps, done=replace(sale, is_spreading=False))
        return sale, lowest

    def _carry_out(self, sale: Sale, steps: Sequence[Mapping[int, int]], done: Sale) -> Sale:
        """Return the sale after those steps that could be taken; `done` where there are none.

        A shard may be in other transactions, or have sold what it should lose: it is left out.
        Raises Contended where no step could be taken.
        """
        if not steps:
            return self._put(done, sale)
        before = sale
        for tickets in steps:
            capacity = sale.capacity + sum(tickets.values())
            after = replace(sale, capacity=capacity, revision=sale.revision + 1)
            if self._take(after, sale, tickets):
                sale = after
        if sale is before:
            raise Contended
        return sale

    def _take(self, after: Sale, sale: Sale, tickets: Mapping[int, int]) -> bool:
        """Take one step. False: it could not be taken now."""
        now = timestamp(self.runtime.clock())
        try:
            return self.attempts.write(after, lambda: self.store.resize(after, sale, tickets, now))
        except StaleSale:
            raise TryAgain from None
        except Contended:
            return False

    def _stock(self, sale: Sale) -> dict[int, int]:
        """Return shard → its free tickets, of those that can be read.

        Tickets of expired holds are put back first. Raises Contended where no shard can be read.
        """
        shards, _ = self.store.read_stored_shards(sale)
        now, stock = self.runtime.clock(), {}
        for shard in shards:
            if shard.generation != sale.generation or shard.index >= sale.shard_count:
                continue
            expired = shard.expired(now)
            if expired and self.store.reclaim(sale.item_id, shard, expired, timestamp(now)):
                raise TryAgain  # it has changed since
            stock[shard.index] = shard.free(now)
        if not stock:
            raise Contended
        return stock

    def _lowest(self, sale: Sale, capacity: int) -> int | None:
        """Return the lowest capacity that the sale can have, where that is more than this one.

        As for buyers, the plain read comes first, and only a snapshot says that too few are free.
        """
        for read in (self.store.read_shards, self.store.snapshot):
            shards, now = read(sale), self.runtime.clock()
            lowest = sale.capacity - sum(shard.free(now) for shard in shards)
            if lowest <= capacity:
                return None
        return lowest

    def _put(self, after: Sale, seen: Sale) -> Sale:
        """Put the sale's record, as the next revision, and return it."""
        after = replace(after, revision=seen.revision + 1)
        if not self.attempts.write(after, lambda: self.store.put_sale(after, seen)):
            raise TryAgain
        self.attempts.in_doubt.append(after)
        return after
