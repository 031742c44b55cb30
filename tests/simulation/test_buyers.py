"""What each buyer had, and its limit: what the observer must report, and what it must not."""

from typing import Any

import pytest

from proof.history import Attempt, Kind, PurchaseRequest
from tests.simulation.test_observer import Store, number

SLOT = 1_800_000_010  # an expiry slot ten seconds after the sale's beginning


class LimitedStore(Store):
    """Writes a sale in which a buyer may have two tickets."""

    def sale(self, now: float, generation: int = 1, **settings: Any) -> None:
        super().sale(now, generation, per_buyer_limit=number(2), **settings)

    def put(self, now: float, name: str, tickets: int = 1, **more: Any) -> None:
        """Put a purchase of Ann's."""
        fields: dict[str, Any] = {"buyer_id": {"S": "ann"}, "is_counted": {"BOOL": True}}
        self.record(now, name, {0: tickets}, **fields | more)

    def hold(self, now: float, name: str, tickets: int = 1) -> None:
        """Put a hold of Ann's."""
        self.put(now, name, tickets, status={"S": "held"}, expires_at=number(SLOT))

    def buyer(self, now: float, sold: int, slots: dict[int, int]) -> None:
        """Put the record of what Ann has."""
        counted = [[number(sold)], *([number(slots[slot]), number(slot)] for slot in slots)]
        purchases = {f"purchase-{place}": {"L": each} for place, each in enumerate(counted)}
        self.write(now, "item#1#1#buyer#ann", {"purchases": {"M": purchases}})


@pytest.fixture
def store() -> LimitedStore:
    return LimitedStore()


def of_buyers(store: Store, *requests: PurchaseRequest) -> list[tuple[str, str]]:
    """Return what is wrong with buyers and limits."""
    rules = {
        "buyer_over_limit",
        "purchase_is_not_counted",
        "records_and_buyers",
        "refused_within_limit",
        "buyer_known_or_not_needed",
    }
    return [each for each in store.broken(*requests) if each[1] in rules]


def refused(start: float, end: float, left: int, quantity: int = 1) -> PurchaseRequest:
    attempt = Attempt(start, end, Kind.LIMIT_REACHED, 409, "buyer_limit_reached", left=left)
    return PurchaseRequest("refused", 1, quantity, "ann", (attempt,))


@pytest.mark.G1
class TestLimit:
    def test_purchases(self, store: LimitedStore) -> None:
        store.put(1.0, "p")
        store.put(2.0, "q")
        store.buyer(2.0, 2, {})
        assert of_buyers(store) == []
        store.put(3.0, "r")
        store.buyer(3.0, 3, {})
        assert of_buyers(store) == [("G1", "buyer_over_limit")]

    @pytest.mark.parametrize(("now", "right"), [(9.9, False), (10.1, True)])
    def test_hold(self, store: LimitedStore, now: float, right: bool) -> None:
        """It counts until it may be over by the first clock."""
        store.hold(1.0, "h")
        store.put(now, "p", tickets=2)
        store.buyer(now, 2, {})
        assert of_buyers(store) == ([] if right else [("G1", "buyer_over_limit")])

    def test_not_counted(self, store: LimitedStore) -> None:
        store.put(1.0, "p", is_counted={"BOOL": False})
        store.buyer(1.0, 1, {})
        assert of_buyers(store) == [("G1", "purchase_is_not_counted")]

    def test_no_buyer(self, store: LimitedStore) -> None:
        store.record(1.0, "p", {0: 1}, is_counted={"BOOL": True})
        assert ("G1", "purchase_is_not_counted") in of_buyers(store)


@pytest.mark.G4
@pytest.mark.parametrize(
    ("sold", "slots", "right"),
    [
        (1, {SLOT: 1}, True),
        (1, {}, True),  # it was dropped when it was over
        (2, {SLOT: 1}, False),
        (1, {SLOT: 2}, False),
        (1, {SLOT + 1: 1}, False),
    ],
)
def test_records_and_buyers(
    store: LimitedStore, sold: int, slots: dict[int, int], right: bool
) -> None:
    store.put(1.0, "p")
    store.hold(2.0, "h")
    store.buyer(2.0, sold, slots)
    assert of_buyers(store) == ([] if right else [("G4", "records_and_buyers")])


class TestRefusals:
    @pytest.fixture(autouse=True)
    def bought(self, store: LimitedStore) -> None:
        store.put(1.0, "p")
        store.hold(2.0, "h")
        store.buyer(2.0, 1, {SLOT: 1})

    @pytest.mark.G2
    @pytest.mark.parametrize(
        ("refusal", "right"),
        [
            (refused(2.5, 3.0, left=0), True),
            (refused(1.5, 2.5, left=1, quantity=2), True),
            (refused(1.2, 1.8, left=1), False),
            (refused(2.5, 3.0, left=1), False),
            (refused(10.5, 10.9, left=0), True),  # the hold counts for the last clock
            (refused(11.1, 11.5, left=0), False),
            (refused(11.1, 11.5, left=1, quantity=2), True),
        ],
    )
    def test_true_at_instant(
        self, store: LimitedStore, refusal: PurchaseRequest, right: bool
    ) -> None:
        found = of_buyers(store, refusal)
        assert found == ([] if right else [("G2", "refused_within_limit")])

    @pytest.mark.G5
    @pytest.mark.parametrize(("buyer_id", "right"), [(None, True), ("ann", False)])
    def test_buyer_unknown(self, store: LimitedStore, buyer_id: str | None, right: bool) -> None:
        attempt = Attempt(2.5, 3.0, Kind.BUYER_UNKNOWN, 422, "invalid_request")
        found = of_buyers(store, PurchaseRequest("unknown", 1, 1, buyer_id, (attempt,)))
        assert found == ([] if right else [("G5", "buyer_known_or_not_needed")])
