"""Selling: the way of a purchase from a wish to a receipt, whatever the store does meanwhile."""

import random as random_module
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ticketing.errors import Busy, Contended, NotFound, OutcomeUnknown, StaleSale, StoreTrouble, TicketingError
from ticketing.rules import (
    Bought,
    KeyReused,
    Order,
    Outcome,
    Purchase,
    Random,
    Sale,
    SoldOut,
    allocate,
    make_order,
    settle,
    timestamp,
)
from ticketing.store import Refusal, Store

BUDGET_SECONDS: Final = 5.0  # no store call starts later, and none takes longer than 3 s (`store.connect`)
MAX_ATTEMPTS: Final = 100  # a second bound, for a clock may stand still
MEMORY_SECONDS: Final = 1.0  # how old the sale's settings and "sold out" may be
MISSES_BEFORE_LOOKING: Final = 2  # empty shards that a purchase meets before it looks at all of them at once
BACKOFF_BASE_SECONDS: Final = 0.01  # a transaction is under way for about 6 ms
BACKOFF_CAP_SECONDS: Final = 0.5
RETRY_AFTER_SECONDS: Final = 3  # at most; drawn, so that the unlucky do not come back together


@dataclass(slots=True)
class Effort:
    """What a purchase took, for the log; kept up to date also where it ends in an error."""

    attempts: int = 0
    conflicts: int = 0
    shards: list[int] = field(default_factory=list)  # of the last attempt


@dataclass(slots=True)
class _Memory:
    """What this process knows of one generation of a sale. Hints only: the store decides."""

    sale: Sale
    read_at: float
    stock: dict[int, int]  # shard → the tickets it had when last seen
    shortage: tuple[int, float] | None = None  # tickets free in a snapshot that had too few for somebody, and its time

    @classmethod
    def of(cls, sale: Sale, read_at: float) -> "_Memory":
        return cls(sale, read_at, {index: sale.share(index) for index in range(sale.shard_count)})


@dataclass(slots=True)
class _Request:
    """One order on its way."""

    order: Order
    effort: Effort
    started_at: float
    unanswered: list[Purchase] = field(default_factory=list)  # tried, and never heard of again: each may stand
    misses: int = 0  # empty shards met since the last look at all of them
    avoid: frozenset[int] = frozenset()  # shards that were contended a moment ago
    backoffs: int = 0


class BoxOffice:
    """Sells tickets. One per process; keeps what the process remembers between requests.

    store: the table. clock: seconds since the epoch; a wall clock, because it goes on while a process is frozen or
    stored as a snapshot, and the age of memories is what it is for. random: the operating system's by default, so that
    processes restored from one snapshot differ. sleep: seconds.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float] = time.time,
        random: Random | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._clock = clock
        self._random = random or random_module.SystemRandom()
        self._sleep = sleep
        self._memories: dict[int, _Memory] = {}

    def order(self, item_id: int, quantity: int, buyer_id: str | None, key: str | None) -> Order:
        """The order for a wish to buy; key: the buyer's idempotency key, if it sent one."""
        return make_order(item_id, quantity, buyer_id, key, self._random)

    def buy(self, order: Order, effort: Effort | None = None) -> Outcome:
        """Carries the order out, exactly once for its purchase id.

        Raises NotFound for an unknown item and Busy when the budget is spent; then the same order may be sent again.
        """
        request = _Request(order, effort or Effort(), self._clock())
        outcome = self._refuse_from_memory(request)
        while outcome is None and request.effort.attempts < MAX_ATTEMPTS:
            request.effort.attempts += 1
            try:
                outcome = self._attempt(request)
            except StaleSale:
                self._memories.pop(order.item_id, None)
            except StoreTrouble as trouble:
                request.effort.conflicts += isinstance(trouble, Contended)
                self._back_off(request)
            except TicketingError:
                raise
            except Exception as bug:
                if request.unanswered:
                    # Whatever broke, an earlier attempt may have bought: that must not be called a failure.
                    raise self._busy(request) from bug
                raise
        if outcome is None:
            raise self._busy(request)
        return outcome

    def find(self, purchase_id: str) -> Purchase:
        """The purchase with this id. Raises NotFound."""
        purchase = self._store.read_purchase(purchase_id)
        if purchase is None:
            raise NotFound("There is no purchase with this id. Send the purchase again with its Idempotency-Key.")
        return purchase

    def _attempt(self, request: _Request) -> Outcome | None:
        """One try: plan with what is known, one transaction, and what it teaches. None: try again."""
        order = request.order
        memory = self._recall(request)
        taken = self._choose(request, memory)
        if taken is None:
            stock = self._look(request, memory)
            taken = allocate(stock, order.quantity, self._random)
            if taken is None:
                return self._refuse(request, memory.sale.generation, sum(stock.values()))
        request.effort.shards = sorted(taken)
        purchase = Purchase(
            purchase_id=order.purchase_id,
            item_id=order.item_id,
            generation=memory.sale.generation,
            buyer_id=order.buyer_id,
            quantity=order.quantity,
            status="confirmed",
            taken=taken,
            fingerprint=order.fingerprint,
            created_at=timestamp(self._clock()),
        )
        self._check_budget(request)
        try:
            refusal = self._store.sell(memory.sale, purchase)
        except OutcomeUnknown:
            request.unanswered.append(purchase)
            raise
        if refusal is None:
            for index, tickets in taken.items():
                memory.stock[index] -= tickets
            return Bought(purchase, replayed=False)
        if refusal.record is not None:
            return self._settle(request, refusal.record)
        self._learn(request, memory, refusal)
        if refusal.contended:
            request.avoid = refusal.contended_shards
            raise Contended
        return None

    def _recall(self, request: _Request) -> _Memory:
        """What is known of the sale, its settings read again once they are a second old."""
        item_id = request.order.item_id
        memory = self._memories.get(item_id)
        now = self._clock()
        if memory is not None and _fresh(memory.read_at, now):
            return memory
        self._check_budget(request)
        sale = self._store.read_sale(item_id)
        if sale is None:
            self._memories.pop(item_id, None)
            raise NotFound(f"There is no item {item_id}. Ask for another item_id.")
        if memory is None or memory.sale.generation != sale.generation:
            memory = _Memory.of(sale, now)
        memory.sale, memory.read_at = sale, now
        self._memories[item_id] = memory
        return memory

    def _choose(self, request: _Request, memory: _Memory) -> dict[int, int] | None:
        """A shard that may have enough, as far as this process knows; None when it is time to look at all of them."""
        if request.misses >= MISSES_BEFORE_LOOKING:
            return None
        quantity = request.order.quantity
        promising = {index: tickets for index, tickets in memory.stock.items() if tickets >= quantity}
        calm = {index: tickets for index, tickets in promising.items() if index not in request.avoid}
        return allocate(calm or promising, quantity, self._random)

    def _look(self, request: _Request, memory: _Memory) -> dict[int, int]:
        """Where tickets are: in one instant, if they are too few in all shards together, and then it is remembered.

        The plain read comes first because it is cheap and never conflicts with the sales under way. It may be torn,
        so "too few" is believed from the snapshot alone.
        """
        request.misses = 0
        self._check_budget(request)
        stock = {shard.index: shard.stock for shard in self._store.read_shards(memory.sale)}
        memory.stock = dict(stock)
        if sum(stock.values()) < request.order.quantity:
            self._check_budget(request)
            asked_at = self._clock()
            stock = {shard.index: shard.stock for shard in self._store.snapshot(memory.sale)}
            memory.stock = dict(stock)
            left = sum(stock.values())
            if left < request.order.quantity:
                # As old as its older half: since the sale was read, another generation may have been announced.
                memory.shortage = left, min(asked_at, memory.read_at)
        return stock

    def _learn(self, request: _Request, memory: _Memory, refusal: Refusal) -> None:
        """Takes in how the refused shards were found."""
        for index, shard in refusal.shards.items():
            if shard is None or shard.generation < memory.sale.generation:
                # Whoever announced this generation has not come to this shard yet, or died before.
                self._check_budget(request)
                self._store.open_shard(memory.sale, index)
            elif shard.generation > memory.sale.generation:
                raise StaleSale
            else:
                memory.stock[index] = shard.stock
                request.misses += 1

    def _refuse_from_memory(self, request: _Request) -> Outcome | None:
        """Refuses at once where a snapshot of the last second had too few tickets. It costs no write."""
        memory = self._memories.get(request.order.item_id)
        if memory is None or memory.shortage is None:
            return None
        left, seen_at = memory.shortage
        if left >= request.order.quantity or not _fresh(seen_at, self._clock()):
            return None
        try:
            return self._refuse(request, memory.sale.generation, left)
        except StoreTrouble:
            return None

    def _refuse(self, request: _Request, generation: int, left: int) -> Outcome:
        """Says "sold out", unless the purchase was made before: by an earlier request, or an attempt lost from sight.

        The record is read after the snapshot, so a twin that took the last ticket is seen. An attempt still under way
        cannot succeed later: within a generation free tickets only become fewer. One of another generation could, as
        long as a reset has not come to its shard: its outcome stays unknown.
        """
        if request.order.keyed or request.unanswered:
            self._check_budget(request)
            found = self._store.read_purchase(request.order.purchase_id)
            if found is not None:
                return self._settle(request, found)
        if any(attempt.generation != generation for attempt in request.unanswered):
            raise self._busy(request)
        return SoldOut(left)

    def _settle(self, request: _Request, found: Purchase) -> Bought | KeyReused:
        # An attempt of this very request that went unanswered is no replay; a twin's purchase is.
        return settle(request.order, found, replayed=found not in request.unanswered)

    def _back_off(self, request: _Request) -> None:
        """Sleeps for a while drawn from zero to twice as long each time ("full jitter"), never past the deadline."""
        longest = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0**request.backoffs)
        request.backoffs += 1
        left = request.started_at + BUDGET_SECONDS - self._clock()
        self._sleep(max(0.0, min(left, longest * self._random.random())))

    def _check_budget(self, request: _Request) -> None:
        """Ends the request where its time is over, or where the clock was set back and nobody can tell."""
        if not 0 <= self._clock() - request.started_at < BUDGET_SECONDS:
            raise self._busy(request)

    def _busy(self, request: _Request) -> Busy:
        return Busy(
            purchase_id=request.order.purchase_id if request.unanswered else None,
            retry_after_seconds=1 + self._random.randrange(RETRY_AFTER_SECONDS),
        )


def _fresh(then: float, now: float) -> bool:
    """Within the last second; not where the clock was set back."""
    return 0 <= now - then < MEMORY_SECONDS
