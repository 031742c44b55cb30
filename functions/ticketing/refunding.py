"""Refunds: tickets of a purchase go back on sale, once per idempotency key."""

from typing import Final

from msgspec import Struct

from ticketing.errors import Contended, NotFound, UnreadableRecord
from ticketing.limits import CONTRADICTIONS_MAX, REFUND_BUDGET_SECONDS
from ticketing.model import (
    KeyReused,
    Purchase,
    Refunded,
    RefundOutcome,
    RefundTooLarge,
)
from ticketing.moves import REFUND, REFUND_IN_PART
from ticketing.retry import Attempts, InDoubt, Runtime, Statistics, TryAgain
from ticketing.rules import counted, digest, given_back, refund, timestamp
from ticketing.store.table import Cancellation, Store, Table

_IF_IN_DOUBT: Final = InDoubt(
    "The refund may have been made. "
    "Send the same request with the same Idempotency-Key to find out."
)


class RefundService:
    """Refunds purchases. It moves tickets, and no money."""

    def __init__(self, table: Table, runtime: Runtime) -> None:
        self._table = table
        self._runtime = runtime

    def refund(
        self,
        purchase_id: str,
        quantity: int | None,
        key: str,
        statistics: Statistics | None = None,
    ) -> RefundOutcome:
        """Refund tickets of a purchase, once per key.

        quantity: None asks for as many as were bought. key: the idempotency key. The tickets go
        back to the shards that they came from; after a reset only the record changes.

        Raises NotFound, and Busy when the time budget is spent.
        """
        attempts = Attempts[Purchase](
            self._runtime, REFUND_BUDGET_SECONDS, statistics=statistics, if_in_doubt=_IF_IN_DOUBT
        )
        attempts.statistics.purchase_id = purchase_id
        attempts.statistics.key = key_digest = digest(key)
        store = self._table.within(attempts.deadline)
        flow = _RefundFlow(purchase_id, quantity, key_digest, attempts, store, self._runtime)
        return attempts.run(flow.attempt)


class _RefundFlow(Struct):
    """One refund in progress. store: bound to the deadline of the attempts.

    key: digest of the idempotency key. is_closed: a reset has closed the purchase's generation.
    contradictions: how often its tickets were not where they should be.
    """

    purchase_id: str
    quantity: int | None
    key: str
    attempts: Attempts[Purchase]
    store: Store
    runtime: Runtime
    is_closed: bool = False
    contradictions: int = 0

    def attempt(self) -> RefundOutcome:
        """Make one attempt: read the record, and move its tickets if it has not changed since."""
        purchase = self.store.read_purchase(self.purchase_id)
        if purchase is None or not purchase.is_purchase:
            raise NotFound("There is no purchase with this id. Its receipt shows it.")
        self.attempts.statistics.item_id = purchase.item_id
        quantity = purchase.quantity if self.quantity is None else self.quantity
        self.attempts.statistics.quantity = quantity
        made = purchase.refunds.get(self.key)
        if made is not None:
            # What an attempt in doubt of this request may have made is no replay.
            refunded = Refunded(purchase, quantity, replayed=not self.attempts.in_doubt)
            return refunded if made == quantity else KeyReused()
        if quantity > purchase.kept_quantity:
            return RefundTooLarge(purchase.kept_quantity)
        now = timestamp(self.runtime.clock())
        after = refund(purchase, self.key, quantity, now, is_closed=self.is_closed)
        self._move(purchase, after)
        return Refunded(after, quantity, replayed=False)

    def _move(self, before: Purchase, after: Purchase) -> None:
        """Send the transaction. Raises TryAgain or Contended where it was cancelled."""
        move = REFUND if after.status is REFUND.after else REFUND_IN_PART
        tickets = given_back(before, after)
        self.attempts.statistics.shards = sorted(tickets)
        now = self.runtime.clock()
        buyer = None if self.is_closed else self.store.read_buyer(before)
        if buyer is not None:
            buyer = counted(buyer, after, now)
        cancellation = self.attempts.write(
            after,
            lambda: self.store.move(move, after, tickets, timestamp(now), before, buyer=buyer),
        )
        if cancellation is None:
            return
        if cancellation.record is None:
            self._note_closed(before, cancellation)
        raise Contended if cancellation.contended else TryAgain

    def _note_closed(self, purchase: Purchase, cancellation: Cancellation) -> None:
        """Note that a reset has closed the generation. Raises what `_contradiction` returns."""
        for index, shard in cancellation.shards.items():
            if shard is None or shard.generation <= purchase.generation:
                raise self._contradiction(purchase, f"shard {index} has not sold its tickets")
            self.is_closed = True

    def _contradiction(self, purchase: Purchase, found: str) -> Exception:
        """Return the error for tickets of the purchase that are not where they should be.

        A duplicate that is in progress may have moved them already: another attempt will see its
        record. Otherwise the records contradict each other.
        """
        self.contradictions += 1
        if self.contradictions < CONTRADICTIONS_MAX:
            return Contended()
        return UnreadableRecord(f"Purchase {purchase.purchase_id}: {found}.")
