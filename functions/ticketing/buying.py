"""The purchase flow: from an order to a receipt or a hold, a refusal or "busy"."""

from copy import replace
from typing import Final

from ticketing.errors import (
    BuyerUnknown,
    DeadlineExceeded,
    HoldsNotOffered,
    NotFound,
    SaleNotOpen,
    StoreError,
)
from ticketing.limits import LATE_COMMIT_SECONDS, PURCHASE_BUDGET_SECONDS
from ticketing.model import Held, Order, Outcome, Phase, Purchase, Sale, TooFew
from ticketing.moves import BUY, HOLD, Status
from ticketing.retry import Attempts, InDoubt, Runtime, Statistics, TryAgain
from ticketing.rules import as_of, expiry_slot, make_order, refused, settle, timestamp
from ticketing.sale_cache import SaleCache
from ticketing.store.table import Cancellation, Store, Table
from ticketing.taking import Taking

# How a buyer finds out whether an attempt in doubt has bought.
_IF_KEYED: Final = (
    "The purchase may have been made. "
    "Send the same request with the same Idempotency-Key to find out."
)
_IF_NOT_KEYED: Final = (
    "The purchase may have been made. "
    "Look its purchase_id up before you send another request: "
    f"if it is not found after {LATE_COMMIT_SECONDS} s, it was not made."
)
# How a buyer finds out whether an attempt in doubt has held tickets.
_HOLD_IF_KEYED: Final = _IF_KEYED.replace("purchase", "hold")
_HOLD_IF_NOT_KEYED: Final = (
    "The tickets may be held. Look the hold up, by the purchase_id, before you send another "
    f"request: if it is not found after {LATE_COMMIT_SECONDS} s, it was not made."
)


class PurchaseService:
    """Sells and holds tickets. cache: what the process remembers of each sale."""

    def __init__(self, table: Table, runtime: Runtime, cache: SaleCache) -> None:
        self._table = table
        self._runtime = runtime
        self._cache = cache

    def order(
        self,
        item_id: int,
        quantity: int,
        buyer_id: str | None,
        key: str | None,
        *,
        is_hold: bool = False,
    ) -> Order:
        """Return the order for a request. key: the buyer's idempotency key, None without one."""
        random = self._runtime.random
        return make_order(item_id, quantity, buyer_id, key, random, is_hold=is_hold)

    def buy(self, order: Order, statistics: Statistics | None = None) -> Outcome:
        """Carry out the order, exactly once for its purchase id: buy the tickets, or hold them.

        Raises NotFound for an unknown item, SaleNotOpen, HoldsNotOffered, BuyerUnknown, and Busy
        when the time budget is spent.
        """
        attempts: Attempts[Purchase] = Attempts(
            self._runtime,
            PURCHASE_BUDGET_SECONDS,
            statistics=statistics,
            if_in_doubt=InDoubt(_remedy(order), order.purchase_id),
        )
        attempts.statistics.item_id = order.item_id
        attempts.statistics.purchase_id = order.purchase_id
        attempts.statistics.quantity = order.quantity
        store = self._table.within(attempts.deadline)
        flow = _PurchaseFlow(order, attempts, store, self._cache, self._runtime)
        outcome = flow.refuse_from_cache() or attempts.run(flow.attempt)
        cached = self._cache.get(order.item_id)
        if isinstance(outcome, Held) and cached is not None:
            hold = as_of(outcome.hold, self._runtime.clock(), cached.sale.generation)
            return Held(hold, outcome.replayed)
        return outcome

    def find(self, purchase_id: str, statistics: Statistics | None = None) -> Purchase:
        """Return the purchase with this id. Raises NotFound and Busy."""
        attempts = Attempts[None](self._runtime, PURCHASE_BUDGET_SECONDS, statistics=statistics)
        store = self._table.within(attempts.deadline)
        purchase = attempts.run(lambda: store.read_purchase(purchase_id))
        if purchase is None:
            raise NotFound(
                "There is no purchase with this id. "
                "Send the purchase again with its Idempotency-Key."
            )
        if purchase.is_refused:
            raise NotFound("The order with this id was refused: it got no tickets.")
        if not purchase.is_purchase:
            raise NotFound("This is a hold that is not confirmed. GET /holds/{hold_id} shows it.")
        return purchase


def _remedy(order: Order) -> str:
    """Return how the buyer finds out what an attempt in doubt has done."""
    if order.is_hold:
        return _HOLD_IF_KEYED if order.keyed else _HOLD_IF_NOT_KEYED
    return _IF_KEYED if order.keyed else _IF_NOT_KEYED


class _PurchaseFlow:
    """One order in progress. store: bound to the deadline of the attempts."""

    def __init__(
        self,
        order: Order,
        attempts: Attempts[Purchase],
        store: Store,
        cache: SaleCache,
        runtime: Runtime,
    ) -> None:
        self._order = order
        self._attempts = attempts
        self._store = store
        self._cache = cache
        self._runtime = runtime
        self._taking = Taking(
            HOLD if order.is_hold else BUY,
            order.item_id,
            order.quantity,
            self._record,
            attempts,
            store,
            cache,
            runtime,
        )

    def refuse_from_cache(self) -> Outcome | None:
        """Refuse where a snapshot of the last second had too few tickets, before any attempt."""
        cached = self._cache.get(self._order.item_id)
        quantity = self._order.quantity
        if cached is None or cached.free >= quantity or self._lacks_buyer(cached.sale):
            return None
        if cached.sale.phase(self._runtime.clock()) is not Phase.OPEN:
            return None
        try:
            too_few = self._taking.reader.read(cached, quantity)
            return self._refuse(too_few) if too_few else None
        except (StoreError, DeadlineExceeded, TryAgain):
            return None  # an attempt decides

    def attempt(self) -> Outcome:
        """Make one attempt, and settle the order where its outcome is definite."""
        try:
            outcome = self._taking.attempt()
        except (BuyerUnknown, NotFound, SaleNotOpen):
            found = self._look_up()
            if found is None:
                raise
            return self._settle(found)
        match outcome:
            case Purchase() as record:
                return settle(self._order, record, replayed=False)
            case Cancellation(record=Purchase() as found):
                return self._settle(found)
            case TooFew() as too_few:
                return self._refuse(too_few)
            case _:
                raise AssertionError("an order without a payment is refused for its record only")

    def _refuse(self, too_few: TooFew) -> Outcome:
        """Refuse the order, unless an earlier request or an attempt in doubt has bought.

        The record is read after the snapshot, so a concurrent duplicate that took the last ticket
        is found.
        """
        if not self._can_still_buy():
            found = self._look_up()
            return self._settle(found) if found else refused(too_few, final=False)
        refusal = replace(
            self._empty_record(too_few.sale, Status.REFUSED),
            left=too_few.left,
            next_release_at=too_few.next_release_at,
            limit=too_few.limit,
        )
        found = self._attempts.write(refusal, lambda: self._store.put_refusal(refusal))
        return self._settle(found) if found else refused(too_few, final=self._order.keyed)

    def _look_up(self) -> Purchase | None:
        """Return the record that an earlier request with this key has put; None without one."""
        order = self._order
        return self._store.read_purchase(order.purchase_id) if order.keyed else None

    def _can_still_buy(self) -> bool:
        """Return whether an attempt of this request may commit after its refusal.

        Tickets can come back, and a reset may not have reached a shard yet. The record of the
        refusal makes such an attempt fail.
        """
        return bool(self._attempts.in_doubt)

    def _lacks_buyer(self, sale: Sale) -> bool:
        """Return whether the sale has a limit for each buyer, and the order names none."""
        return sale.per_buyer_limit is not None and self._order.buyer_id is None

    def _record(self, sale: Sale) -> Purchase:
        """Return the record of this order, without tickets.

        Raises BuyerUnknown and HoldsNotOffered.
        """
        if self._lacks_buyer(sale):
            raise BuyerUnknown(sale.per_buyer_limit or 0)
        if not self._order.is_hold:
            return self._empty_record(sale, BUY.after)
        if sale.hold_seconds is None:
            raise HoldsNotOffered
        expires_at = expiry_slot(sale.hold_seconds, self._runtime.clock(), sale.slot_seconds)
        return self._empty_record(sale, HOLD.after, expires_at)

    def _empty_record(self, sale: Sale, status: Status, expires_at: int | None = None) -> Purchase:
        order = self._order
        return Purchase(
            purchase_id=order.purchase_id,
            item_id=order.item_id,
            generation=sale.generation,
            buyer_id=order.buyer_id,
            quantity=order.quantity,
            status=status,
            taken={},
            fingerprint=order.fingerprint,
            created_at=timestamp(self._runtime.clock()),
            is_counted=sale.per_buyer_limit is not None,
            expires_at=expires_at,
        )

    def _settle(self, found: Purchase) -> Outcome:
        # A record that an attempt in doubt of this request has put is no replay.
        is_own = any(found.was_put_by(attempt) for attempt in self._attempts.in_doubt)
        return settle(self._order, found, replayed=not is_own)
