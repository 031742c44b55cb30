"""Holds: confirm, extend and release tickets that are held, each once, and look a hold up."""

from copy import replace
from typing import Final

from msgspec import Struct

from ticketing.errors import Contended, NotFound, SaleNotOpen
from ticketing.limits import PURCHASE_BUDGET_SECONDS, REFUSED_PAYMENTS_MAX
from ticketing.model import (
    Bought,
    ConfirmOutcome,
    Held,
    HoldOutcome,
    HoldProblem,
    Purchase,
    Sale,
    TooFew,
)
from ticketing.moves import CONFIRM, CONFIRM_LATE, EXTEND, RELEASE, Move, Status
from ticketing.retry import Attempts, InDoubt, Runtime, Statistics, TryAgain
from ticketing.rules import as_of, digest, expiry_slot, timestamp
from ticketing.sale_cache import SaleCache
from ticketing.store.table import Cancellation, Store, Table
from ticketing.taking import Taking, count

_IF_IN_DOUBT: Final = "The hold may have been changed. Send the same request again to find out."
# What stands for a transaction that is not sent: the hold stopped counting for its buyer, who has
# too many other tickets since.
_OVER_LIMIT: Final = Cancellation(None, {}, contended=False, contended_shards=frozenset())


class HoldService:
    """Changes holds. cache: what the process remembers of each sale."""

    def __init__(self, table: Table, runtime: Runtime, cache: SaleCache) -> None:
        self._table = table
        self._runtime = runtime
        self._cache = cache

    def find(self, hold_id: str, statistics: Statistics | None = None) -> Purchase:
        """Return the hold with this id as it is now. Raises NotFound and Busy."""
        flow = self._flow(hold_id, statistics)
        return flow.attempts.run(flow.read)

    def confirm(
        self, hold_id: str, payment_reference: str | None, statistics: Statistics | None = None
    ) -> ConfirmOutcome:
        """Make a hold a purchase, once. payment_reference: of its payment, which pays only for it.

        A hold whose time is over is refused, unless it was paid for: then its tickets are taken
        where they are still there, or others out of stock, while the sale is open.

        Raises NotFound, and Busy when the time budget is spent.
        """
        flow = self._flow(hold_id, statistics, payment_reference)
        return flow.attempts.run(flow.confirm)

    def extend(self, hold_id: str, statistics: Statistics | None = None) -> HoldOutcome:
        """Let a hold last as long as one that is made now, once. Raises NotFound and Busy."""
        flow = self._flow(hold_id, statistics)
        return flow.attempts.run(flow.extend)

    def release(self, hold_id: str, statistics: Statistics | None = None) -> HoldOutcome:
        """Give the tickets of a hold back. Raises NotFound and Busy."""
        flow = self._flow(hold_id, statistics)
        return flow.attempts.run(flow.release)

    def _flow(
        self, hold_id: str, statistics: Statistics | None, payment_reference: str | None = None
    ) -> "_HoldFlow":
        attempts = Attempts[Purchase](
            self._runtime,
            PURCHASE_BUDGET_SECONDS,
            statistics=statistics,
            if_in_doubt=InDoubt(_IF_IN_DOUBT, hold_id),
        )
        attempts.statistics.purchase_id = hold_id
        store = self._table.within(attempts.deadline)
        return _HoldFlow(hold_id, attempts, store, self._cache, self._runtime, payment_reference)


class _HoldFlow(Struct):
    """One change of a hold in progress. store: bound to the deadline of the attempts.

    payment_reference: that a confirmation comes with; None without one, and for other changes.
    late: takes tickets out of stock for a hold that was paid for after its time.
    """

    hold_id: str
    attempts: Attempts[Purchase]
    store: Store
    cache: SaleCache
    runtime: Runtime
    payment_reference: str | None = None
    late: Taking | None = None

    def read(self) -> Purchase:
        """Return the hold as it is now. Raises NotFound."""
        hold = self.store.read_purchase(self.hold_id)
        if hold is None or not hold.is_hold:
            raise NotFound(
                "There is no hold with this id. Send the hold again with its Idempotency-Key."
            )
        self.attempts.statistics.item_id = hold.item_id
        self.attempts.statistics.quantity = hold.quantity
        if hold.status is not Status.HELD:
            return hold
        cached, _ = self.cache.current(self.store, hold.item_id)
        if cached.sale.generation < hold.generation:
            self.cache.forget(hold.item_id)
            raise TryAgain
        return as_of(hold, self.runtime.clock(), cached.sale.generation)

    def confirm(self) -> ConfirmOutcome:
        """Make one attempt to confirm."""
        hold = self.read()
        if hold.is_purchase:
            if self.payment_reference not in (None, hold.payment_reference):
                return self._refuse(HoldProblem.ALREADY_PAID, hold)
            return Bought(hold, replayed=not self._is_own(hold))
        if hold.status is Status.RELEASED:
            return self._refuse(HoldProblem.RELEASED, hold)
        if self._was_refused(hold):
            return self._refuse(HoldProblem.EXPIRED, hold)
        if hold.status is Status.EXPIRED and not self._may_be_late(hold):
            return self._refuse_expired(hold)
        return self._confirm_late(hold, self.late) if self.late else self._confirm(hold)

    def _confirm(self, hold: Purchase) -> ConfirmOutcome:
        """Take its tickets out of its slot."""
        confirmed = self._confirmed(hold)
        cancellation = self._move(CONFIRM, confirmed, hold)
        if cancellation is None:
            return Bought(confirmed, replayed=False)
        if cancellation.payment_reused:
            return HoldProblem.PAYMENT_REUSED
        # Its slot is gone, in one of its shards at least, or it no longer counts for its buyer.
        if self._may_be_late(hold):
            self.late = self._taking(hold)
            raise TryAgain
        return self._refuse_expired(hold)

    def extend(self) -> HoldOutcome:
        """Make one attempt to extend."""
        hold = self.read()
        if hold.is_purchase:
            return HoldProblem.CONFIRMED
        if hold.status is Status.RELEASED:
            return HoldProblem.RELEASED
        cached, _ = self.cache.current(self.store, hold.item_id)
        sale = cached.sale
        if hold.status is Status.EXPIRED or sale.hold_seconds is None:
            return self._refuse_expired(hold)
        if hold.extended_at is not None:
            return Held(hold, replayed=not self._is_own(hold))
        now = self.runtime.clock()
        return self._extend(hold, expiry_slot(sale.hold_seconds, now, sale.slot_seconds))

    def _extend(self, hold: Purchase, expires_at: int) -> HoldOutcome:
        """Move its tickets to a later slot."""
        if expires_at <= (hold.expires_at or 0):
            return Held(hold, replayed=False)  # nothing to gain yet
        extended = replace(
            hold,
            expires_at=expires_at,
            extended_at=timestamp(self.runtime.clock()),
            revision=hold.revision + 1,
        )
        cancellation = self._move(EXTEND, extended, hold)
        if cancellation is None:
            return Held(extended, replayed=False)
        self._make_room(hold, cancellation)
        return self._refuse_expired(hold)

    def release(self) -> HoldOutcome:
        """Make one attempt to release."""
        hold = self.read()
        if hold.is_purchase:
            return HoldProblem.CONFIRMED
        if hold.status is Status.RELEASED:
            return Held(hold, replayed=not self._is_own(hold))
        if hold.status is Status.EXPIRED:
            return Held(hold, replayed=False)  # its tickets are free already
        released = replace(hold, status=RELEASE.after, taken={}, revision=hold.revision + 1)
        cancellation = self._move(RELEASE, released, hold)
        if cancellation is None:
            return Held(released, replayed=False)
        return Held(replace(hold, status=Status.EXPIRED), replayed=False)  # its slot is gone

    def _move(self, move: Move, after: Purchase, hold: Purchase) -> Cancellation | None:
        """Send the transaction that makes the hold's record `after`.

        Returns None when it is done; the cancellation where a shard, the payment or the buyer's
        limit refused it. Raises TryAgain where the record has changed, and Contended.
        """
        cached, _ = self.cache.current(self.store, hold.item_id)
        now = self.runtime.clock()
        buyer = count(self.store, cached.sale, after, now)
        if isinstance(buyer, TooFew):
            return _OVER_LIMIT
        self.attempts.statistics.shards = sorted(hold.taken)
        cancellation = self.attempts.write(
            after,
            lambda: self.store.move(move, after, hold.taken, timestamp(now), hold, buyer=buyer),
        )
        if cancellation is not None:
            if cancellation.record is not None:
                raise TryAgain
            if cancellation.contended and not cancellation.payment_reused:
                raise Contended
        return cancellation

    def _confirm_late(self, hold: Purchase, late: Taking) -> ConfirmOutcome:
        """Take tickets out of stock for a hold whose slot is gone."""
        late.seen = hold  # its revision may be another one than at the attempt before
        try:
            outcome = late.attempt()
        except (NotFound, SaleNotOpen):
            return self._refuse_expired(hold)
        match outcome:
            case Purchase() as confirmed:
                return Bought(confirmed, replayed=False)
            case Cancellation(payment_reused=True, record=None):
                return HoldProblem.PAYMENT_REUSED
            case Cancellation():
                raise TryAgain  # the record has changed
            case TooFew():
                return self._refuse_expired(hold)

    def _taking(self, hold: Purchase) -> Taking:
        def make_record(_sale: Sale) -> Purchase:
            return self._confirmed(late.seen or hold)

        late = Taking(
            CONFIRM_LATE,
            hold.item_id,
            hold.quantity,
            make_record,
            self.attempts,
            self.store,
            self.cache,
            self.runtime,
        )
        return late

    def _confirmed(self, hold: Purchase) -> Purchase:
        """Return the record of the purchase that the hold becomes."""
        return replace(
            hold,
            status=CONFIRM.after,
            confirmed_at=timestamp(self.runtime.clock()),
            payment_reference=self.payment_reference,
            refused_payments=(),
            revision=hold.revision + 1,
        )

    def _make_room(self, hold: Purchase, cancellation: Cancellation) -> None:
        """Reclaim shards that refused the hold's new slot. Raises TryAgain where there were any."""
        now = self.runtime.clock()
        for shard in cancellation.shards.values():
            if shard is None or shard.generation != hold.generation:
                continue
            if shard.slots.get(hold.expires_at or 0, 0) >= hold.taken[shard.index]:
                if expired := shard.expired(now):
                    self.store.reclaim(hold.item_id, shard, expired, timestamp(now))
                raise TryAgain

    def _refuse_expired(self, hold: Purchase) -> HoldProblem:
        """Refuse a hold whose time is over.

        An attempt of this request, or of an earlier one, may still be on its way. The record's next
        revision makes it fail. An earlier request may also go on with new attempts, and find
        tickets: the record names the payment, because one that is to be refunded must not buy
        anything.
        """
        stored = replace(hold, status=Status.HELD, refused_payments=self._refused_payments(hold))
        if not self.attempts.write(stored, lambda: self.store.touch(stored)):
            raise TryAgain
        return self._refuse(HoldProblem.EXPIRED, hold)

    def _refused_payments(self, hold: Purchase) -> tuple[str, ...]:
        """Return the digests of payments that came too late, with this one as the newest."""
        if self.payment_reference is None:
            return hold.refused_payments
        payments = (*hold.refused_payments, digest(self.payment_reference))
        return payments[-REFUSED_PAYMENTS_MAX:]

    def _was_refused(self, hold: Purchase) -> bool:
        """Return whether this payment came too late before, and was to be refunded."""
        if self.payment_reference is None:
            return False
        return digest(self.payment_reference) in hold.refused_payments

    def _refuse(self, problem: HoldProblem, hold: Purchase) -> HoldProblem:
        """Return the problem, or another one where the payment belongs to another hold.

        A payment that has paid for nothing is to be refunded.
        """
        if self.payment_reference is not None:
            payment = self.store.read_payment(self.payment_reference)
            if payment is not None and payment.purchase_id != hold.purchase_id:
                return HoldProblem.PAYMENT_REUSED
        return problem

    def _may_be_late(self, hold: Purchase) -> bool:
        """Return whether the hold may be confirmed after its time: it was paid for.

        Not after a reset, which has closed its generation.
        """
        cached = self.cache.get(hold.item_id)
        is_open = cached is not None and cached.sale.generation == hold.generation
        return is_open and self.payment_reference is not None

    def _is_own(self, hold: Purchase) -> bool:
        """Return whether an attempt in doubt of this request has made the hold what it is."""
        return any(
            (hold.status, hold.extended_at, hold.confirmed_at)
            == (attempt.status, attempt.extended_at, attempt.confirmed_at)
            for attempt in self.attempts.in_doubt
        )
