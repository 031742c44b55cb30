"""The callers of one sale: they buy, wait, send again, come in five copies, refund and look."""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import UUID

from msgspec import Struct, structs

from organiser.client import pause_seconds, retry_after_seconds
from proof.history import (
    NOT_DEFINITE,
    Attempt,
    CapacityChange,
    Evidence,
    Export,
    History,
    Hold,
    HoldAction,
    HoldChange,
    Inventory,
    Kind,
    Lookup,
    Pause,
    PurchaseRequest,
    Receipt,
    Refund,
    Reset,
    Sample,
    Violation,
)
from proof.responses import (
    STATUS_CONFLICT,
    STATUS_INTERNAL_ERROR,
    STATUS_NOT_FOUND,
    STATUS_OK,
    STATUS_UNPROCESSABLE,
    attempt_of,
    body_of,
    changed,
    export_of,
    next_query,
    problem_of,
)
from simulation.faults import Fault, Faults
from simulation.fleet import Fleet
from simulation.service import Call, ServiceResponse
from simulation.world import EPOCH_SECONDS, World
from ticketing.limits import (
    CACHE_SECONDS,
    CACHE_STALE_SECONDS,
    CLOCK_SKEW_SECONDS,
    HOLD_SECONDS_MIN,
    QUANTITY_MAX,
)
from ticketing.rules import timestamp

ITEM: Final = 1
HOLD_SECONDS: Final = HOLD_SECONDS_MIN
HOLD_ROUTES: Final = MappingProxyType(
    {
        HoldAction.CONFIRM: "POST /holds/{hold_id}/confirm",
        HoldAction.EXTEND: "POST /holds/{hold_id}/extend",
        HoldAction.RELEASE: "DELETE /holds/{hold_id}",
    }
)
# How long a caller waits for an answer: as long as API Gateway does.
TIMEOUT_SECONDS: Final = 29.0
# How long a caller sends a request again.
PATIENCE_SECONDS: Final = 120.0
# Shares of the callers: with a key; of these, with a buyer_id, several copies at once, the same
# request after its answer, and another request for the key. All without a key have a buyer_id.
KEYED: Final = 0.8
NAMED: Final = 0.8
COPIED: Final = 0.05
COMES_BACK: Final = 0.1
REUSED: Final = 0.05
CHANGES_KIND: Final = 0.5
COPIES: Final = 5
COME_BACK_SECONDS: Final = 5.0
# Share of the purchases that the organiser refunds, whole or in part, and how long after their
# receipt.
REFUNDED: Final = 0.4
REFUND_SECONDS: Final = 3.0
# Shares of the refunds: in copies with one key, and followed by another one with a key of its own.
REFUND_COPIED: Final = 0.3
REFUNDED_AGAIN: Final = 0.4
# Share of the callers who hold tickets, where there are holds, and the shares of those who confirm,
# release or extend theirs; the others go away. The time until then in seconds, from the hold or
# from its end; shares of the confirmations that have a payment, and that are sent again with
# another one.
HOLDING: Final = 0.6
CONFIRMED: Final = 0.55
RELEASED: Final = 0.1
EXTENDED: Final = 0.15
AT_ONCE: Final = 0.5
EARLY_SHARE: Final = 0.8
LATE_SECONDS: Final = (-3.0, 6.0)
PAID: Final = 0.6
PAID_AGAIN: Final = 0.2
# How often the organiser stops the sale at most, and for how long; the kinds of that.
PAUSES_MAX: Final = 3
PAUSE_SECONDS: Final = (0.2, 12.0)
# How often the organiser changes capacity or shards at most; what becomes of the capacity, as a
# share of the one before, and of the shards (None: they stay as they are).
RESIZES_MAX: Final = 4
REPAIRS_MAX: Final = 6
EXPORT_ATTEMPTS_MAX: Final = 3  # for a part of an export
CAPACITIES: Final = (None, 0.0, 0.5, 0.8, 1.0, 1.3, 2.0)
MORE_SHARDS: Final = (None, None, 1, 3, 9)
# Share of the callers who come back when a sale that was not open may have opened, and how much
# later than they were told.
COME_WHEN_OPEN: Final = 0.7
# What a change of the item is answered, unless it is to be sent again.
CHANGE_ANSWERS: Final = frozenset({STATUS_OK, STATUS_CONFLICT, STATUS_UNPROCESSABLE})
# Share of the callers who arrive when the first holds expire.
SECOND_RUSH: Final = 0.4
QUANTITIES: Final = (1, 1, 1, 1, 2, 3, 5, 10)
# Limits for each buyer, where the sale has them; 0: a generation without. So many callers are one
# buyer, on average.
LIMITS: Final = (0, 1, 2, 4, 12)
CALLERS_PER_BUYER: Final = 4
# Impatient callers: shares of the attempts after which they end the connection, or go away.
ENDS_EARLY: Final = 0.2
EARLY_SECONDS: Final = (0.02, 3.0)
GIVES_UP: Final = 0.1


class Buyer(Struct, frozen=True):
    """A caller's plan. key: None sends no Idempotency-Key. copies: sent at once with one key.

    comes_back_seconds: how long after the last answer the request is sent once more; None: not.
    other_quantity: what is asked for with the same key at the end, by mistake; None: nothing.
    changes_kind: then it holds instead of buying, or the other way round.
    refunds: how many refunds of the whole purchase the organiser sends at once, each with its key.
    is_hold: it holds the tickets first. sends_once: it goes away after the first answer, also after
    "busy".
    """

    number: int
    key: str | None
    buyer_id: str | None
    quantity: int
    copies: int
    arrives_at: float
    comes_back_seconds: float | None
    other_quantity: int | None
    refunds: int = 0
    is_hold: bool = False
    changes_kind: bool = False
    sends_once: bool = False

    @classmethod
    def drawn(
        cls, number: int, rush_seconds: float, draw: random.Random, hold_seconds: int | None
    ) -> "Buyer":
        """Return the plan of one of many callers. hold_seconds: None: they do not hold tickets."""
        arrives_at, is_hold = draw.uniform(0.0, rush_seconds), False
        if hold_seconds is not None:
            is_hold = draw.random() < HOLDING
            arrives_at += hold_seconds if draw.random() < SECOND_RUSH else 0.0
        is_keyed = draw.random() < KEYED
        key = str(UUID(int=draw.getrandbits(128), version=4)) if is_keyed else None
        comes_back = is_keyed and draw.random() < COMES_BACK
        quantity = draw.choice(QUANTITIES)
        return cls(
            number=number,
            key=key,
            buyer_id=f"buyer-{number}" if not is_keyed or draw.random() < NAMED else None,
            quantity=quantity,
            copies=COPIES if is_keyed and draw.random() < COPIED else 1,
            arrives_at=arrives_at,
            comes_back_seconds=draw.uniform(0.0, COME_BACK_SECONDS) if comes_back else None,
            other_quantity=quantity % 10 + 1 if is_keyed and draw.random() < REUSED else None,
            is_hold=is_hold,
            changes_kind=hold_seconds is not None and draw.random() < CHANGES_KIND,
        )

    @classmethod
    def plain(cls, number: int, arrives_at: float, quantity: int = 1) -> "Buyer":
        """Return the plan of a caller who sends one purchase with a key until it is answered."""
        return cls(
            number=number,
            key=f"key-of-plain-buyer-{number}",
            buyer_id=f"buyer-{number}",
            quantity=quantity,
            copies=1,
            arrives_at=arrives_at,
            comes_back_seconds=None,
            other_quantity=None,
        )

    def without_key(self) -> "Buyer":
        """Return the plan of a caller who does the same without a key."""
        return structs.replace(self, key=None)

    def only_once(self) -> "Buyer":
        """Return the plan of a caller who does the same, and sends nothing again."""
        return structs.replace(self, sends_once=True)

    @property
    def label(self) -> str:
        """Return the name of the purchase in the history: its key, or one that is not sent."""
        return self.key or f"(none of buyer {self.number})"

    @property
    def call(self) -> Call:
        """Return the request."""
        body: dict[str, Any] = {"item_id": ITEM, "quantity": self.quantity}
        if self.buyer_id is not None:
            body["buyer_id"] = self.buyer_id
        return Call("POST /holds" if self.is_hold else "POST /buy_ticket", body, self.key)


def arrivals(
    draw: random.Random, seconds: float, rate: Callable[[float], float]
) -> Iterator[float]:
    """Yield when buyers arrive, each without regard to the others, in so many seconds.

    rate: instant → buyers a second then.
    """
    now = draw.expovariate(rate(0.0))
    while now < seconds:
        yield now
        now += draw.expovariate(rate(now))


class Callers:
    """Everyone who calls the service, and what they saw.

    faults: whether callers are impatient, so that some end the connection early and of these some
    do not come back; whether the organiser refunds purchases, stops the sale, and changes its
    capacity; whether buyers hold tickets; whether there are limits for each buyer.
    """

    def __init__(self, world: World, fleet: Fleet, faults: Faults) -> None:
        self.requests: list[PurchaseRequest] = []
        self.resets: list[Reset] = []
        self.refunds: list[Refund] = []
        self.changes: list[HoldChange] = []
        self.pauses: list[Pause] = []
        self.capacity_changes: list[CapacityChange] = []
        self.samples: list[Sample] = []
        self.exports: list[Export] = []
        self.failures: list[Violation] = []  # that only a caller sees
        self.buyers: list[Buyer] = []
        self._buying = 0
        self._world = world
        self._fleet = fleet
        self._impatient = Fault.IMPATIENCE in faults
        self._refunded = REFUNDED if Fault.REFUND in faults else 0.0
        self._holds = Fault.HOLD in faults
        self._limits = Fault.LIMIT in faults
        self._stops = Fault.PAUSE in faults
        self._resizes = Fault.RESIZE in faults
        self._repairs = Fault.REPAIR in faults
        self._draw = world.random("callers")
        self._holder = world.random("holders")
        self._organiser = world.random("organiser")
        self._limiter = world.random("limits")
        self._stopper = world.random("stops")
        self._resizer = world.random("resizes")
        self._repairer = world.random("repairs")

    def start(self, buyers: int, rush_seconds: float, resets: int) -> None:
        """Let buyers arrive from now on; beside them a watcher, and an organiser who resets."""
        hold_seconds = HOLD_SECONDS if self._holds else None
        drawn = [
            Buyer.drawn(number, rush_seconds, self._draw, hold_seconds) for number in range(buyers)
        ]
        self.arrive([self._named(buyer, buyers) for buyer in drawn] if self._limits else drawn)
        self._world.start(self._watch)
        if resets:
            self._world.start(self._reset_often, resets, rush_seconds)
        if self._stops:
            self._world.start(self._stop_often, rush_seconds)
        if self._resizes:
            self._world.start(self._resize_often, rush_seconds)
        if self._repairs:
            self._world.start(self._repair_often, rush_seconds)

    def _named(self, buyer: Buyer, callers: int) -> Buyer:
        """Return the plan of a caller who is one of fewer buyers."""
        if buyer.buyer_id is None:
            return buyer
        number = self._limiter.randrange(max(1, callers // CALLERS_PER_BUYER))
        return structs.replace(buyer, buyer_id=f"buyer-{number}")

    def arrive(self, buyers: Sequence[Buyer]) -> None:
        """Let these buyers arrive, each at its time from now on."""
        begins_at = self._world.now
        self.buyers += buyers
        for buyer in buyers:
            for copy in range(1, buyer.copies + 1):
                self._buying += 1
                arrives_at = begins_at + buyer.arrives_at
                self._world.at(arrives_at, self._world.start, self._buy, buyer, copy)

    def buy_the_rest(self, free: int) -> None:
        """Buy all tickets that are free, after everyone else has ended, and keep them."""
        self._refunded = 0.0
        most = min(QUANTITY_MAX, self.resets[-1].per_buyer_limit or QUANTITY_MAX)
        while free > 0:
            number, quantity = len(self.buyers), min(free, most)
            self.arrive([Buyer.plain(number, arrives_at=0.0, quantity=quantity)])
            self._world.run()
            free -= quantity

    def history(self) -> History:
        """Return what everyone saw until now."""
        return History(
            requests=tuple(self.requests),
            resets=tuple(self.resets),
            refunds=tuple(self.refunds),
            changes=tuple(self.changes),
            pauses=tuple(self.pauses),
            capacity_changes=tuple(self.capacity_changes),
            samples=tuple(self.samples),
            exports=tuple(self.exports),
            cache_seconds=CACHE_SECONDS,
            # Where reading the sale is throttled, processes sell with older settings.
            pause_seconds=CACHE_STALE_SECONDS,
        )

    # --- buyers ---

    def _buy(self, buyer: Buyer, copy: int) -> None:
        """Send a purchase until a definite answer comes, and again where the plan says so."""
        attempts = self._until_definite(buyer)
        receipt = attempts[-1].receipt
        if receipt is not None and buyer.is_hold:
            receipt = self._end_hold(receipt)
        if receipt is not None:
            for number in range(buyer.refunds):
                self.refund(receipt, None, f"refund-number-{number:04}", copies=1)
            if self._organiser.random() < self._refunded:
                self._world.start(self._refund, receipt)
        if buyer.comes_back_seconds is not None:
            self._world.sleep(buyer.comes_back_seconds)
            attempts += self._until_definite(buyer)
        self._note(buyer, copy, attempts)
        if buyer.other_quantity is not None and copy == 1:
            is_hold = buyer.is_hold != buyer.changes_kind
            quantity = buyer.quantity if buyer.changes_kind else buyer.other_quantity
            other = structs.replace(buyer, quantity=quantity, is_hold=is_hold)
            self._note(other, copy, self._until_definite(other))
        self._buying -= 1

    def _note(self, buyer: Buyer, copy: int, attempts: Sequence[Attempt]) -> None:
        is_definite = attempts[-1].kind not in NOT_DEFINITE
        was_patient = not buyer.sends_once and self._world.now >= self._patience_ends_at(attempts)
        self.requests.append(
            PurchaseRequest(
                key=buyer.label,
                item_id=ITEM,
                quantity=buyer.quantity,
                buyer_id=buyer.buyer_id,
                attempts=tuple(attempts),
                copy=copy,
                given_up=not is_definite and not was_patient,
                is_hold=buyer.is_hold,
            )
        )

    def _until_definite(self, buyer: Buyer) -> list[Attempt]:
        """Return the attempts until a definite answer, or until the caller gives up."""
        attempts: list[Attempt] = []
        while True:
            attempt, response = self._attempt(buyer)
            attempts.append(attempt)
            if attempt.kind is Kind.NOT_OPEN and self._comes_when_open(attempt):
                continue
            if attempt.kind not in NOT_DEFINITE or self._gives_up(buyer, attempts):
                return attempts
            if buyer.key is None and attempt.kind is Kind.UNKNOWN:
                found = self._found(response, is_hold=buyer.is_hold)
                attempts += found
                if found or response is None or "purchase_id" not in problem_of(response):
                    return attempts
                continue
            asked_for = attempt.retry_after_seconds
            self._world.sleep(pause_seconds(len(attempts), asked_for, self._draw))

    def _comes_when_open(self, refusal: Attempt) -> bool:
        """Wait until the sale may be open; return whether to send the request again then."""
        seconds = refusal.retry_after_seconds
        if seconds is None or self._stopper.random() >= COME_WHEN_OPEN:
            return False
        self._world.sleep(seconds + self._stopper.random())
        return True

    def _attempt(self, buyer: Buyer) -> tuple[Attempt, ServiceResponse | None]:
        started_at = self._world.now
        response = self.send(buyer.call, self._timeout_seconds(), buyer.label)
        ended_at = self._world.now
        if response is None:
            return Attempt(started_at, ended_at, Kind.UNKNOWN, detail="no answer"), None
        return attempt_of(response, started_at, ended_at, is_hold=buyer.is_hold), response

    def _end_hold(self, hold: Receipt) -> Receipt | None:
        """Confirm, release or extend a hold, early or late, or forget it.

        Return the receipt of the purchase; None where there is none that we know of.
        """
        draw, held_at = self._holder, self._world.now
        chance = draw.random()
        if chance < CONFIRMED + EXTENDED:
            if chance >= CONFIRMED:
                self._world.sleep(draw.uniform(0.0, HOLD_SECONDS))
                self._change(hold, HoldAction.EXTEND)
                held_at = self._world.now
            self._wait_with_hold(held_at)
            payment = self._payment() if draw.random() < PAID else None
            confirmed = self._change(hold, HoldAction.CONFIRM, payment)
            if draw.random() < PAID_AGAIN:
                self._change(hold, HoldAction.CONFIRM, draw.choice((payment, self._payment())))
            return confirmed.receipt
        if chance < CONFIRMED + EXTENDED + RELEASED:
            self._wait_with_hold(held_at)
            self._change(hold, HoldAction.RELEASE)
        return None

    def _wait_with_hold(self, held_at: float) -> None:
        """Wait for a part of the hold's time, or until about its end."""
        draw = self._holder
        if draw.random() < EARLY_SHARE:
            seconds = draw.uniform(0.0, 0.0 if draw.random() < AT_ONCE else HOLD_SECONDS / 2)
        else:
            seconds = held_at + HOLD_SECONDS + draw.uniform(*LATE_SECONDS) - self._world.now
        self._world.sleep(max(0.0, seconds))

    def _payment(self) -> str:
        """Return a payment, which is used for a hold twice now and then, by mistake."""
        return f"payment-{self._holder.randrange(20 * max(1, len(self.buyers)))}"

    def _change(
        self, hold: Receipt, action: HoldAction, payment_reference: str | None = None
    ) -> HoldChange:
        """Send a change of a hold until it has a definite answer, and note it."""
        body = None if payment_reference is None else {"payment_reference": payment_reference}
        call = Call(HOLD_ROUTES[action], body, path_parameters={"hold_id": hold.purchase_id})
        change = HoldChange(
            hold.purchase_id,
            action,
            self._world.now,
            self._world.now,
            done=None,
            payment_reference=payment_reference,
        )
        for response in self._responses(call, self._holder):
            change = changed(change, response)
            if change.done is not None:
                break
        change = structs.replace(change, ended_at=self._world.now)
        self.changes.append(change)
        return change

    def _timeout_seconds(self) -> float:
        is_impatient = self._impatient and self._draw.random() < ENDS_EARLY
        return self._draw.uniform(*EARLY_SECONDS) if is_impatient else TIMEOUT_SECONDS

    def _gives_up(self, buyer: Buyer, attempts: Sequence[Attempt]) -> bool:
        is_over = buyer.sends_once or self._world.now >= self._patience_ends_at(attempts)
        return is_over or (self._impatient and self._draw.random() < GIVES_UP)

    def _patience_ends_at(self, attempts: Sequence[Attempt]) -> float:
        return attempts[0].started_at + PATIENCE_SECONDS

    def _found(self, response: ServiceResponse | None, *, is_hold: bool) -> list[Attempt]:
        """Look up what is in doubt, as the answer recommends without a key.

        Return the receipt as an attempt; nothing where the purchase was not made, or where its id
        is not known.
        """
        purchase_id = problem_of(response).get("purchase_id") if response else None
        if response is None or purchase_id is None:
            return []
        self._world.sleep(retry_after_seconds(response) or 0.0)
        while True:
            started_at = self._world.now
            lookup = self.look_up(purchase_id, is_hold=is_hold)
            if lookup.receipt is not None:
                kind, receipt = Kind.REPLAYED, lookup.receipt
                return [Attempt(started_at, self._world.now, kind, STATUS_OK, receipt=receipt)]
            if lookup.status == STATUS_NOT_FOUND:
                return []
            self._world.sleep(pause_seconds(1, None, self._draw))

    # --- the organiser and the watcher ---

    def _refund(self, receipt: Receipt) -> None:
        """Refund a purchase after a while, whole or in part, once or again."""
        draw = self._organiser
        while True:
            self._world.sleep(draw.uniform(0.0, REFUND_SECONDS))
            quantity = draw.choice((None, 1, draw.randint(1, receipt.quantity)))
            key = str(UUID(int=draw.getrandbits(128), version=4))
            self.refund(receipt, quantity, key, COPIES if draw.random() < REFUND_COPIED else 1)
            if draw.random() >= REFUNDED_AGAIN:
                return

    def refund(self, receipt: Receipt, quantity: int | None, key: str, copies: int) -> None:
        """Send a refund, in copies at once, until each is answered; note it as one."""
        call = Call(
            "POST /purchases/{purchase_id}/refund",
            {} if quantity is None else {"quantity": quantity},
            key,
            {"purchase_id": receipt.purchase_id},
        )
        started_at = self._world.now
        found: list[Refund] = []

        def send_copy() -> None:
            done, after = self._refunded_until_definite(call)
            asked = receipt.quantity if quantity is None else quantity
            now = self._world.now
            found.append(Refund(receipt.purchase_id, asked, started_at, now, done, after))
            if len(found) == copies:
                self.refunds.append(Refund.of(found))

        for _ in range(copies):
            self._world.start(send_copy)

    def _refunded_until_definite(self, call: Call) -> tuple[bool | None, Receipt | None]:
        """Return whether a refund took effect (None: unknown), and the receipt of the answer."""
        for response in self._responses(call, self._organiser):
            if response.status_code == STATUS_OK:
                return True, body_of(response, Receipt)
            if response.status_code == STATUS_CONFLICT:
                return False, None
        return None, None

    def _responses(self, call: Call, draw: random.Random) -> Iterator[ServiceResponse]:
        """Send a request again and again, and yield its responses, while the patience lasts."""
        patience_ends_at, attempts = self._world.now + PATIENCE_SECONDS, 0
        while self._world.now < patience_ends_at:
            attempts += 1
            response = self.send(call, self._timeout_seconds())
            if response is not None:
                yield response
            asked_for = None if response is None else retry_after_seconds(response)
            self._world.sleep(pause_seconds(attempts, asked_for, draw))

    def reset(self, stock: int, shards: int) -> None:
        """Reset the sale, and note it. Sends the request until it is done."""
        limit = self._limiter.choice(LIMITS) if self._limits else 0
        body = {
            "item_id": ITEM,
            "stock": stock,
            "shards": shards,
            "hold_seconds": HOLD_SECONDS,
            "per_buyer_limit": limit,
        }
        call = Call("POST /reset", body, key=f"reset-number-{len(self.resets):04}")
        started_at, attempts = self._world.now, 0
        while True:
            attempts += 1
            response = self.send(call)
            if response is not None and response.status_code == STATUS_OK:
                break
            self._world.sleep(pause_seconds(attempts, None, self._draw))
        self.resets.append(
            Reset(
                generation=body_of(response, Inventory).generation,
                capacity=stock,
                started_at=started_at,
                ended_at=self._world.now,
                attempts=attempts,
                hold_seconds=HOLD_SECONDS,
                per_buyer_limit=limit or None,
            )
        )

    def _reset_often(self, resets: int, rush_seconds: float) -> None:
        for _ in range(resets):
            self._world.sleep(self._draw.uniform(0.0, rush_seconds))
            stock = max(1, round(len(self.buyers) * self._draw.choice((0.05, 0.3, 1.0))))
            self.reset(stock, self._draw.choice((1, 2, 5, 16)))

    def _stop_often(self, rush_seconds: float) -> None:
        """Stop the sale now and then, in one of three ways, for a while. At the end it is open."""
        draw, longest = self._stopper, rush_seconds + (HOLD_SECONDS if self._holds else 0)
        for _ in range(1 + draw.randrange(PAUSES_MAX)):
            self._world.sleep(draw.uniform(0.0, longest))
            seconds = draw.uniform(*PAUSE_SECONDS)
            stop = draw.choice((self._pause, self._close, self._postpone))
            self.pauses.append(stop(seconds))

    def _pause(self, seconds: float) -> Pause:
        began_at, closed_at = self._until_done("POST /items/{item_id}/pause")
        self._world.sleep(seconds)
        return Pause(began_at, closed_at, *self._until_done("POST /items/{item_id}/resume"))

    def _close(self, seconds: float) -> Pause:
        """Let the window end now, and lift that later."""
        closes_at = {"closes_at": _timestamp(self._world.now)}
        began_at, closed_at = self._until_done("PUT /items/{item_id}", closes_at)
        self._world.sleep(seconds)
        open_again = self._until_done("PUT /items/{item_id}", {"closes_at": None})
        return Pause(began_at, closed_at, *open_again)

    def _postpone(self, seconds: float) -> Pause:
        """Let the window begin later. It does so by itself, by each process's clock."""
        # Every clock is ahead of this one, by less than a second.
        opens_at = self._world.now + seconds + CLOCK_SKEW_SECONDS
        body = {"opens_at": _timestamp(opens_at)}
        began_at, closed_at = self._until_done("PUT /items/{item_id}", body)
        self._world.sleep(max(0.0, opens_at - self._world.now))
        return Pause(began_at, closed_at, opens_at - CLOCK_SKEW_SECONDS, opens_at)

    def _until_done(self, route: str, body: Mapping[str, Any] | None = None) -> tuple[float, float]:
        """Send a change of the item until it is done; return when that began and ended.

        Where it took effect before a reset, that keeps what it has changed.
        """
        began_at = self._world.now
        self._changed_item(route, body, self._stopper)
        return began_at, self._world.now

    def _changed_item(
        self, route: str, body: Mapping[str, Any] | None, draw: random.Random
    ) -> ServiceResponse:
        """Send a change of the item until it is answered, and return that."""
        key = f"change-{draw.getrandbits(64):016x}"
        call = Call(route, body, key, {"item_id": str(ITEM)})
        attempts = 0
        while True:
            attempts += 1
            response = self.send(call)
            if response is not None and response.status_code in CHANGE_ANSWERS:
                return response
            self._world.sleep(pause_seconds(attempts, None, draw))

    def _resize_often(self, rush_seconds: float) -> None:
        """Change capacity and shards now and then."""
        draw, longest = self._resizer, rush_seconds + (HOLD_SECONDS if self._holds else 0)
        for _ in range(1 + draw.randrange(RESIZES_MAX)):
            self._world.sleep(draw.uniform(0.0, longest))
            share, more = draw.choice(CAPACITIES), draw.choice(MORE_SHARDS)
            sample = self.sample()
            if sample is None:
                continue
            before = sample.inventory
            body: dict[str, Any] = {}
            if share is not None:
                body["capacity"] = round(share * before.initial_stock)
            if more is not None:
                body["shards"] = before.shard_count + more
            self._resize(body)

    def _resize(self, body: Mapping[str, Any]) -> None:
        """Send a change of capacity or shards, and note it.

        It may be refused for a reset that came before it, which has more shards.
        """
        began_at = self._world.now
        response = self._changed_item("PUT /items/{item_id}", body, self._resizer)
        problem = problem_of(response)
        is_done = {STATUS_OK: True, STATUS_CONFLICT: False}.get(response.status_code)
        self.capacity_changes.append(
            CapacityChange(
                began_at,
                self._world.now,
                body.get("capacity"),
                None if problem.get("code") == "generation_changed" else is_done,
                problem.get("lowest_capacity"),
            )
        )

    def _repair_often(self, rush_seconds: float) -> None:
        """Audit, repair and export the sale now and then: nothing is broken, or may be found."""
        draw, longest = self._repairer, rush_seconds + (HOLD_SECONDS if self._holds else 0)
        for _ in range(1 + draw.randrange(REPAIRS_MAX)):
            self._world.sleep(draw.uniform(0.0, longest / 2))
            item = {"item_id": str(ITEM)}
            call = Call("GET /audit/{item_id}", path_parameters=item)
            action = draw.choice(("audit", "repair", "export"))
            if action == "export":
                self.export(draw.choice(("jsonl", "csv")))
                continue
            if action == "repair":
                body = {"dry_run": False, "drop_unrecorded": draw.choice((True, False))}
                call = Call("POST /audit/{item_id}/repair", body, path_parameters=item)
            response = self.send(call)
            if response is None or response.status_code != STATUS_OK:
                continue
            report = json.loads(response.text)
            found = [*report["problems"], *report.get("repaired", [])]
            found = [each for each in found if "was reset" not in each]
            if found:
                self.failures.append(
                    Violation("G4", "audit_finds_what_is_not", "no differences", "; ".join(found))
                )

    def export(self, shape: str) -> None:
        """Export the purchases in the format `shape`; a part without an answer is asked for again.

        Where one has none at all, the export is given up.
        """
        started_at, text, query, attempts = self._world.now, "", {"format": shape}, 0
        while attempts < EXPORT_ATTEMPTS_MAX:
            item = {"item_id": str(ITEM)}
            response = self.send(Call("GET /export/{item_id}", path_parameters=item, query=query))
            if response is None or response.status_code != STATUS_OK:
                attempts += 1
                continue
            text, attempts = text + response.text, 0
            following = next_query(response)
            if following is None:
                self.exports.append(export_of(text, shape, started_at, self._world.now))
                return
            query = dict(parse_qsl(following))

    def _watch(self) -> None:
        """Look at the inventory while anyone is still buying."""
        while self._buying:
            sample = self.sample()
            if sample is not None:
                self.samples.append(sample)
            self._world.sleep(self._draw.uniform(0.0, 1.0))

    def sample(self) -> Sample | None:
        """Return the inventory; None where it cannot be had now."""
        started_at = self._world.now
        response = self.send(Call("GET /inventory", query={"item_id": str(ITEM)}))
        if response is None or response.status_code != STATUS_OK:
            return None
        return Sample(started_at, self._world.now, body_of(response, Inventory))

    # --- calls ---

    def look_up(self, purchase_id: str, *, is_hold: bool = False) -> Lookup:
        """Return what `GET /purchases/{purchase_id}` says, or `GET /holds/{hold_id}`."""
        call = Call("GET /purchases/{purchase_id}", path_parameters={"purchase_id": purchase_id})
        if is_hold:
            call = Call("GET /holds/{hold_id}", path_parameters={"hold_id": purchase_id})
        response = self.send(call)
        if response is None or response.status_code != STATUS_OK:
            return Lookup(purchase_id, None if response is None else response.status_code)
        found = body_of(response, Hold).receipt if is_hold else body_of(response, Receipt)
        return Lookup(purchase_id, STATUS_OK, found)

    def send(
        self, call: Call, timeout_seconds: float = TIMEOUT_SECONDS, label: str = ""
    ) -> ServiceResponse | None:
        """Return the response to one request; None without one."""
        response = self._fleet.request(call, timeout_seconds, label or call.route)
        if response is not None and response.status_code == STATUS_INTERNAL_ERROR:
            now = self._world.now
            line = Evidence(f"answered at {now:.3f} s: {call.route}", now, now)
            self.failures.append(Violation("G6", "internal_error", "no bug", "500", (line,)))
        return response


def _timestamp(now: float) -> str:
    """Return an instant of the world as the API takes it."""
    return timestamp(EPOCH_SECONDS + now)
