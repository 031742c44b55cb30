"""The organiser's changes of a sale: create, change, pause, delete it, and start it again.

Each change is one conditional write of the sale's record, and takes effect once per idempotency
key. A change says what should be, so one that is sent again without a key changes nothing more.
"""

from collections.abc import Callable
from copy import replace
from typing import Final
from uuid import UUID

from msgspec import UNSET, Struct, structs

from ticketing.catalogue import read_state
from ticketing.errors import (
    CapacityTooLow,
    GenerationChanged,
    InvalidRequest,
    ItemInUse,
    KeyReusedForSale,
    NotFound,
)
from ticketing.limits import CATALOGUE_BUDGET_SECONDS
from ticketing.model import Sale, SaleChange, SaleSettings, SaleState, Shard, UsedKey
from ticketing.resizing import Resizing
from ticketing.retry import Attempts, InDoubt, Runtime, Statistics, TryAgain
from ticketing.rules import changed_sale, digest, next_sale, recorded, timestamp
from ticketing.store.table import Store, Table

# How an organiser finds out whether a change in doubt has taken effect.
_CHANGE_IN_DOUBT: Final = InDoubt(
    "The sale may have been changed. Send the same request again: it changes nothing more."
)
_RESET_IN_DOUBT: Final = InDoubt(
    "The sale may have been reset. Send the same request again: it takes effect once."
)
_RESET_IN_DOUBT_WITHOUT_KEY: Final = InDoubt(
    "The sale may have been reset. Check its generation before you send the request again."
)

# From the sale before, None for a new item, to the one after.
type Change = Callable[[Sale | None], Sale]


class OrganiserService:
    """Creates, changes, pauses, deletes and resets sales."""

    def __init__(self, table: Table, runtime: Runtime) -> None:
        self._table = table
        self._runtime = runtime

    def put(
        self,
        item_id: int,
        settings: SaleSettings,
        *,
        key: str | None = None,
        expected_generation: int | None = None,
        statistics: Statistics | None = None,
    ) -> SaleChange:
        """Create the item, or give its sale these settings, also while it sells.

        Its capacity changes first, in steps, then all the rest at once.

        key: the idempotency key. expected_generation: the one that the sale must have (0: no such
        item); None: any.

        Raises InvalidRequest for what a sale cannot have, CapacityTooLow, GenerationChanged,
        KeyReusedForSale, CatalogueFull and Busy.
        """

        def change(old: Sale | None) -> Sale:
            if old is not None and not old.is_deleted:
                return changed_sale(old, settings)
            for field in ("item_name", "capacity"):
                if getattr(settings, field) is None:
                    raise InvalidRequest("A new item needs it. Send it.", field=field)
            return next_sale(item_id, old, settings, timestamp(self._runtime.clock()))

        return self._run(
            item_id,
            change,
            _request("put", settings),
            key=key,
            capacity=settings.capacity,
            expected_generation=expected_generation,
            statistics=statistics,
        )

    def delete(
        self, item_id: int, key: str | None = None, statistics: Statistics | None = None
    ) -> SaleChange:
        """Delete an item of which no ticket is sold or held; a deleted one stays so.

        Its capacity becomes 0 first, so that nothing can be sold meanwhile. Raises NotFound,
        ItemInUse, KeyReusedForSale and Busy.
        """

        def change(old: Sale | None) -> Sale:
            if old is None:
                raise NotFound.of_item(item_id)
            return replace(old, is_deleted=True)

        try:
            return self._run(
                item_id, change, digest("delete"), key=key, capacity=0, statistics=statistics
            )
        except CapacityTooLow as error:
            raise ItemInUse(error.lowest) from None

    def pause(
        self, item_id: int, key: str | None = None, statistics: Statistics | None = None
    ) -> SaleChange:
        """Sell nothing more until the sale is resumed.

        Every process knows it within CACHE_SECONDS. Raises NotFound, KeyReusedForSale and Busy.
        """
        return self._set_paused(item_id, paused=True, key=key, statistics=statistics)

    def resume(
        self, item_id: int, key: str | None = None, statistics: Statistics | None = None
    ) -> SaleChange:
        """Sell again, within the sale's window. Raises NotFound, KeyReusedForSale and Busy."""
        return self._set_paused(item_id, paused=False, key=key, statistics=statistics)

    def reset(
        self,
        item_id: int,
        settings: SaleSettings,
        *,
        key: str | None = None,
        expected_generation: int | None = None,
        statistics: Statistics | None = None,
    ) -> SaleChange:
        """Start the item's next generation with all tickets free, once per key.

        key: the idempotency key. settings: its window is not part of a reset, and is kept.

        Raises GenerationChanged, KeyReusedForSale, CatalogueFull and Busy. One write of the sale's
        record starts the generation. If the process dies after that, buyers open its shards. When
        this returns, all shards are closed to older generations.
        """
        is_safe_to_repeat = key is not None or expected_generation is not None
        statistics = statistics or Statistics()
        done = self._run(
            item_id,
            lambda old: next_sale(item_id, old, settings, timestamp(self._runtime.clock())),
            _request("reset", settings),
            key=key,
            expected_generation=expected_generation,
            statistics=statistics,
            if_in_doubt=_RESET_IN_DOUBT if is_safe_to_repeat else _RESET_IN_DOUBT_WITHOUT_KEY,
        )
        statistics.generation = done.sale.generation
        return done

    def _set_paused(
        self, item_id: int, *, paused: bool, key: str | None, statistics: Statistics | None
    ) -> SaleChange:
        def change(old: Sale | None) -> Sale:
            if old is None or old.is_deleted:
                raise NotFound.of_item(item_id)
            return replace(old, is_paused=paused)

        request = digest("pause" if paused else "resume")
        return self._run(item_id, change, request, key=key, statistics=statistics)

    def _run(
        self,
        item_id: int,
        change: Change,
        request: str,
        *,
        key: str | None,
        capacity: int | None = None,
        expected_generation: int | None = None,
        statistics: Statistics | None,
        if_in_doubt: InDoubt = _CHANGE_IN_DOUBT,
    ) -> SaleChange:
        """Carry out a change of a sale, once per key.

        request: digest of what is asked for. capacity: that the sale should have; None: any.
        """
        attempts = Attempts[Sale](
            self._runtime,
            CATALOGUE_BUDGET_SECONDS,
            statistics=statistics,
            if_in_doubt=if_in_doubt,
        )
        # A request without a key gets a random one, so that it recognises its own write after a
        # lost reply.
        own_key = key or str(UUID(int=self._runtime.random.getrandbits(128), version=4))
        attempts.statistics.item_id = item_id
        attempts.statistics.key = digest(key) if key else None
        attempts.statistics.capacity = capacity
        store = self._table.within(attempts.deadline)
        flow = _ChangeFlow(
            item_id,
            change,
            digest(own_key),
            request,
            capacity,
            expected_generation,
            attempts,
            store,
            Resizing(attempts, store, self._runtime),
            self._runtime.clock,
            is_keyed=key is not None,
        )
        return attempts.run(flow.attempt)


class _ChangeFlow(Struct, frozen=True):
    """One change of a sale in progress. store: bound to the deadline of the attempts.

    key, request: see `UsedKey`. capacity: that a sale in progress should have; None: any. is_keyed:
    the organiser sent the key.
    """

    item_id: int
    change: Change
    key: str
    request: str
    capacity: int | None
    expected_generation: int | None
    attempts: Attempts[Sale]
    store: Store
    resizing: Resizing
    clock: Callable[[], float]
    is_keyed: bool

    def attempt(self) -> SaleChange:
        """Make one attempt: put the sale's record, and carry out what it says then."""
        old = self.store.read_sale(self.item_id)
        made = old.used_key(self.key) if old else None
        if old and made:
            return self._finish(old, made)
        generation = old.generation if old and not old.is_deleted else 0
        if self.expected_generation not in (None, generation):
            raise GenerationChanged(
                f"The sale has generation {generation}. Nothing was changed.", generation
            )
        changed = self.change(old)
        if old is not None and self._changes_size(old, changed):
            old = self._resized(old)
            changed = self.change(old)
        if old == changed and old.revision and not self.is_keyed:
            return SaleChange(self._settled(old))
        new = recorded(changed, old, self.key, self.request)
        if not self.attempts.write(new, lambda: self.store.put_sale(new, old)):
            raise TryAgain  # another change came first
        # Until the request ends: another attempt finds its own key, and no failure is reported.
        self.attempts.in_doubt.append(new)
        if old is not None and new.generation == old.generation:
            return SaleChange(self._settled(new))
        shards = [Shard.fresh(new, index) for index in range(new.shard_count)]
        opened = self.resizing.started(new)
        return SaleChange(SaleState(opened, shards, self.clock()), is_new=not generation)

    def _changes_size(self, old: Sale, changed: Sale) -> bool:
        """Return whether capacity or shards of a sale in progress are to change."""
        if changed.generation != old.generation:
            return False
        is_other = self.capacity != old.capacity or old.resize is not None
        return (self.capacity is not None and is_other) or changed.shard_count != old.shard_count

    def _resized(self, sale: Sale) -> Sale:
        """Return the sale with the capacity that it should have. Raises CapacityTooLow."""
        if self.capacity is None:
            return self.resizing.settled(sale)
        return self.resizing.resized(sale, self.capacity)

    def _finish(self, sale: Sale, made: UsedKey) -> SaleChange:
        """Return the result of a change whose key is in the sale's record."""
        if made.request != self.request:
            raise KeyReusedForSale
        if made.generation != sale.generation:
            raise GenerationChanged(
                f"This Idempotency-Key took effect in generation {made.generation}. "
                f"The sale has generation {sale.generation} since. Nothing was changed.",
                sale.generation,
            )
        own = [each for each in self.attempts.in_doubt if made in each.used_keys]
        is_new = any(each.revision == 1 for each in own)
        return SaleChange(self._settled(sale), replayed=not own, is_new=is_new)

    def _settled(self, sale: Sale) -> SaleState:
        """Return the sale after everything is finished that its record says."""
        return read_state(self.store, self.resizing.settled(sale), self.clock)


def _request(what: str, settings: SaleSettings) -> str:
    """Return the digest of what is asked for."""
    values = ["kept" if each is UNSET else each for each in structs.astuple(settings)]
    return digest(what, *values)
