"""What each buyer had at every instant, from the purchase records; and their limits.

It compares that with each refusal for the limit, and with the record that the store has of the
buyer.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from proof.history import Attempt, PurchaseRequest, Violation
from simulation.expressions import Item
from simulation.records import BUYER, StoredBuyer, StoredPurchase
from simulation.world import EPOCH_SECONDS
from ticketing.limits import CLOCK_SKEW_SECONDS


class Tickets(NamedTuple):
    """How many tickets count at an instant. A hold that ends just then counts for some clocks."""

    least: int
    most: int


class BuyerLedger:
    """The tickets of one buyer in one generation, as a step function of time."""

    def __init__(self) -> None:
        self._purchases: dict[str, StoredPurchase] = {}
        self._times = [0.0]
        self._states = [StoredBuyer(0, {})]

    @property
    def state(self) -> StoredBuyer:
        """Return what the records say now. Slots that are over are among them."""
        return self._states[-1]

    def note(self, purchase: StoredPurchase, now: float) -> None:
        """Note a record as it is from now on."""
        self._purchases[purchase.purchase_id] = purchase
        slots: Counter[int] = Counter()
        for each in self._purchases.values():
            if each.status == "held" and each.expires_at is not None:
                slots[each.expires_at] += each.quantity
        sold = sum(sum(each.taken.values()) for each in self._purchases.values() if each.is_sold)
        self._times.append(now)
        self._states.append(StoredBuyer(sold, slots))

    def at(self, instant: float) -> Tickets:
        """Return how many tickets count at an instant."""
        return _tickets(self._states[bisect_right(self._times, instant) - 1], instant)

    def between(self, start: float, end: float) -> Iterator[Tickets]:
        """Yield how many tickets count, at all instants from `start` to `end`."""
        first, last = bisect_right(self._times, start) - 1, bisect_right(self._times, end)
        for state in self._states[first:last]:
            ends = {slot - EPOCH_SECONDS + late for slot in state.slots for late in (0, 1)}
            for instant in (start, end, *(each for each in ends if start < each < end)):
                yield _tickets(state, instant)


def _tickets(state: StoredBuyer, instant: float) -> Tickets:
    """Return how many tickets count. Clocks are up to a second ahead."""
    now = EPOCH_SECONDS + instant
    least = sum(tickets for slot, tickets in state.slots.items() if slot > now)
    most = sum(tickets for slot, tickets in state.slots.items() if slot + CLOCK_SKEW_SECONDS > now)
    return Tickets(state.sold + least, state.sold + most)


class Limits:
    """The limits of a sale, and what its buyers have. by_generation: None: any number."""

    def __init__(self) -> None:
        self.by_generation: dict[int, int | None] = {}
        self._had: dict[tuple[int, str | None], BuyerLedger] = {}
        self._stored: dict[tuple[int, str | None], StoredBuyer] = {}

    def _of(self, generation: int, buyer_id: str | None) -> BuyerLedger:
        return self._had.get((generation, buyer_id)) or BuyerLedger()

    def note_record(self, key: str, item: Item) -> None:
        """Note what the store has of a buyer. key: item#<item>#<generation>#buyer#<buyer>."""
        place, _, buyer_id = key.partition(BUYER)
        self._stored[int(place.rpartition("#")[2]), buyer_id] = StoredBuyer.of(item)

    def note_purchase(self, purchase: StoredPurchase, now: float) -> Violation | None:
        """Note a record of a purchase or a hold, and return what is wrong with it."""
        limit = self.by_generation.get(purchase.generation)
        if limit is None or purchase.status == "refused":
            return None
        had = self._had.setdefault((purchase.generation, purchase.buyer_id), BuyerLedger())
        before = had.at(now).most
        had.note(purchase, now)
        tickets = had.at(now).least
        if purchase.buyer_id is None or not purchase.is_counted:
            expected = "a purchase that counts for its buyer"
            return Violation("G1", "purchase_is_not_counted", expected, f"{purchase}")
        if tickets > limit and tickets > before:
            expected = f"at most {limit} tickets for {purchase.buyer_id}"
            return Violation("G1", "buyer_over_limit", expected, f"{tickets}")
        return None

    def is_true(
        self, refusal: Attempt, request: PurchaseRequest, generation: int, start: float
    ) -> bool:
        """Return whether the limit left too few at an instant, and as many as the refusal says.

        start: from then on until the answer.
        """
        limit = self.by_generation[generation]
        return limit is not None and any(
            max(0, limit - had.most) <= (refusal.left or 0) <= max(0, limit - had.least)
            and had.most + request.quantity > limit
            for had in self._of(generation, request.buyer_id).between(start, refusal.ended_at)
        )

    def differences(self) -> Iterator[Violation]:
        """G4: what the store has of a buyer is what the purchase records say.

        Its slots are a part of theirs: those that are over may have been dropped.
        """
        for place in sorted(self._stored.keys() | self._had.keys(), key=str):
            said, stored = self._of(*place).state, self._stored.get(place)
            if (
                stored is None
                or stored.sold != said.sold
                or not (stored.slots.items() <= said.slots.items())
            ):
                generation, buyer_id = place
                yield Violation(
                    "G4",
                    "records_and_buyers",
                    f"of {buyer_id} in generation {generation}: {said}, as the records say",
                    f"{stored}",
                )
