"""Selling: the purchase flow from an order to a receipt, whatever the store does meanwhile."""

from dataclasses import dataclass, field
from typing import Final

from ticketing.errors import Busy, Contended, NotFound, OutcomeUnknown, OutOfTime, Reason, StaleSale, StoreTrouble
from ticketing.retry import LATE_COMMIT_SECONDS, Again, Attempts, Surroundings
from ticketing.rules import (
    Bought,
    KeyReused,
    Order,
    Outcome,
    Purchase,
    Sale,
    SoldOut,
    allocate,
    make_order,
    settle,
    timestamp,
)
from ticketing.store import Refusal, Store

BUDGET_SECONDS: Final = 5.0  # no store call starts later, and none takes longer than 3 s (`store.connect`)
MEMORY_SECONDS: Final = 1.0  # how old the sale's settings and "sold out" may be
# How old settings may be where reading them is throttled. They only sell: each shard demands the generation that a
# purchase was planned with, so an older one buys nothing. A refusal never rests on them.
STALE_SECONDS: Final = 5.0
MISSES_BEFORE_LOOKING: Final = 2  # empty shards that a purchase meets before it looks at all of them at once


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
    """One order in progress. store: bound to its deadline."""

    order: Order
    effort: Effort
    attempts: Attempts
    store: Store
    in_doubt: list[Purchase] = field(default_factory=list)  # tried without an answer: each may have committed
    misses: int = 0  # empty shards met since the last look at all of them
    avoid: frozenset[int] = frozenset()  # shards that were contended a moment ago


class BoxOffice:
    """Sells tickets. One per process; keeps what the process remembers between requests."""

    def __init__(self, store: Store, surroundings: Surroundings | None = None) -> None:
        self._store = store
        self._surroundings = surroundings or Surroundings()
        self._clock = self._surroundings.clock
        self._random = self._surroundings.random
        self._memories: dict[int, _Memory] = {}

    def order(self, item_id: int, quantity: int, buyer_id: str | None, key: str | None) -> Order:
        """The order for a wish to buy; key: the buyer's idempotency key, if it sent one."""
        return make_order(item_id, quantity, buyer_id, key, self._random)

    def buy(self, order: Order, effort: Effort | None = None) -> Outcome:
        """Carry the order out, exactly once for its purchase id.

        Raises NotFound for an unknown item and Busy when the budget is spent.
        """
        attempts = Attempts(self._surroundings, BUDGET_SECONDS)
        request = _Request(order, effort or Effort(), attempts, self._store.within(attempts.deadline))
        try:
            return self._refuse_from_memory(request) or attempts.run(lambda: self._attempt(request))
        except OutOfTime:
            raise self._busy(request) from attempts.trouble
        except Busy:
            raise
        except Exception as error:
            if request.in_doubt:
                # Whatever broke, an earlier attempt may have bought: that must not be called a failure.
                raise self._busy(request) from error
            raise
        finally:
            request.effort.attempts, request.effort.conflicts = attempts.count, attempts.conflicts

    def find(self, purchase_id: str) -> Purchase:
        """Return the purchase with this id. Raises NotFound and Busy."""
        attempts = Attempts(self._surroundings, BUDGET_SECONDS)
        store = self._store.within(attempts.deadline)
        try:
            purchase = attempts.run(lambda: store.read_purchase(purchase_id))
        except OutOfTime:
            raise attempts.busy() from attempts.trouble
        if purchase is None:
            raise NotFound("There is no purchase with this id. Send the purchase again with its Idempotency-Key.")
        return purchase

    def _attempt(self, request: _Request) -> Outcome:
        try:
            return self._try(request)
        except StaleSale:
            self._memories.pop(request.order.item_id, None)
            raise Again from None

    def _try(self, request: _Request) -> Outcome:
        """One attempt: plan with what is known, one transaction, and what it teaches."""
        order = request.order
        memory, stale = self._recall(request)
        taken = self._choose(request, memory)
        if taken is None:
            stock = self._look(request, memory)
            taken = allocate(stock, order.quantity, self._random)
            if taken is None:
                if stale:
                    raise stale  # a newer generation may have tickets
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
        try:
            refusal = request.store.sell(memory.sale, purchase)
        except OutcomeUnknown:
            request.in_doubt.append(purchase)
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
        raise Again

    def _recall(self, request: _Request) -> tuple[_Memory, Contended | None]:
        """Return what is known of the sale, its settings read again once they are a second old.

        Where that is throttled, older ones and the throttle are returned.
        """
        item_id = request.order.item_id
        memory = self._memories.get(item_id)
        now = self._clock()
        if memory is not None and _is_younger(memory.read_at, now, MEMORY_SECONDS):
            return memory, None
        try:
            sale = request.store.read_sale(item_id)
        except Contended as throttle:
            if memory is not None and _is_younger(memory.read_at, now, STALE_SECONDS):
                return memory, throttle
            raise
        if sale is None:
            self._memories.pop(item_id, None)
            raise NotFound(f"There is no item {item_id}. Ask for another item_id.")
        if memory is None or memory.sale.generation != sale.generation:
            memory = _Memory.of(sale, now)
        memory.sale, memory.read_at = sale, now
        self._memories[item_id] = memory
        return memory, None

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
        stock = {shard.index: shard.stock for shard in request.store.read_shards(memory.sale)}
        memory.stock = dict(stock)
        if sum(stock.values()) < request.order.quantity:
            asked_at = self._clock()
            stock = {shard.index: shard.stock for shard in request.store.snapshot(memory.sale)}
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
                request.store.open_shard(memory.sale, index)
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
        if left >= request.order.quantity or not _is_younger(seen_at, self._clock(), MEMORY_SECONDS):
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
        if request.order.keyed or request.in_doubt:
            found = request.store.read_purchase(request.order.purchase_id)
            if found is not None:
                return self._settle(request, found)
        if any(attempt.generation != generation for attempt in request.in_doubt):
            raise self._busy(request)
        return SoldOut(left)

    def _settle(self, request: _Request, found: Purchase) -> Bought | KeyReused:
        # An attempt of this very request that went unanswered is no replay; a twin's purchase is.
        return settle(request.order, found, replayed=found not in request.in_doubt)

    def _busy(self, request: _Request) -> Busy:
        if not request.in_doubt:
            return request.attempts.busy()
        if request.order.keyed:
            remedy = "The purchase may have been made. Send the same request with the same Idempotency-Key to find out."
        else:
            remedy = (
                "The purchase may have been made. Look its purchase_id up before you send another request; "
                f"not found after {LATE_COMMIT_SECONDS} s means that it was not made."
            )
        return Busy(
            Reason.IN_DOUBT,
            remedy=remedy,
            retry_after_seconds=LATE_COMMIT_SECONDS,
            purchase_id=request.order.purchase_id,
        )


def _is_younger(then: float, now: float, seconds: float) -> bool:
    """Whether that was less than so many seconds ago; not where the clock was set back."""
    return 0 <= now - then < seconds
