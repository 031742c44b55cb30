"""The observer of the store: what it must report, and what it must not report."""

from typing import Any

import pytest
from msgspec import structs

from proof.history import Attempt, History, Kind, PurchaseRequest, Receipt, Reset
from simulation.observer import Observer
from simulation.world import EPOCH_SECONDS
from ticketing.rules import timestamp

FIRST = Reset(generation=1, capacity=4, started_at=0.0, ended_at=0.1)


def number(value: int) -> dict[str, str]:
    return {"N": str(value)}


class Store:
    """Writes a sale of four tickets in two shards, and lets an observer watch."""

    def __init__(self) -> None:
        self.observer = Observer(1)
        self._items: dict[str, Any] = {}
        self.sale(0.0, generation=1)
        for index in range(2):
            self.shard(0.1, index, stock=2, sold=0)

    def write(self, now: float, key: str, item: Any) -> None:
        self.observer.write(key, self._items.get(key), item, now)
        self._items[key] = item

    def sale(self, now: float, generation: int = 1, **settings: Any) -> None:
        names = {"generation": generation, "capacity": 4, "shard_count": 2}
        item = {name: number(value) for name, value in names.items()}
        self.write(now, "item#1", item | settings)

    def shard(
        self,
        now: float,
        index: int,
        *,
        stock: int,
        sold: int,
        held: int = 0,
        in_slots: int | None = None,
        generation: int = 1,
        slot: int = 1_800_000_000,
        reclaimed_until: int = 0,
        capacity: int = 2,
    ) -> None:
        counters = {"generation": generation, "capacity": capacity, "stock": stock, "sold": sold}
        item: dict[str, Any] = {name: number(each) for name, each in counters.items()}
        slots = {str(slot): number(held if in_slots is None else in_slots)}
        item |= {"held": number(held), "slots": {"M": slots}}
        item["reclaimed_until"] = number(reclaimed_until)
        self.write(now, f"item#1#stock#{index:02}", item)

    def record(self, now: float, name: str, taken: dict[int, int], **more: Any) -> None:
        item = {
            "generation": number(1),
            "status": {"S": "confirmed"},
            "quantity": number(sum(taken.values())),
            "taken": {"M": {f"{index:02}": number(each) for index, each in taken.items()}},
            "created_at": {"S": timestamp(EPOCH_SECONDS + now)},
            **more,
        }
        self.write(now, f"purchase#{name}", item)

    def sell(self, now: float, name: str, index: int, *, left: int) -> None:
        """Sell one ticket of a shard; `left` stay."""
        self.shard(now, index, stock=left, sold=2 - left)
        self.record(now, name, {index: 1})

    def broken(self, *requests: PurchaseRequest, **keys: str) -> list[tuple[str, str]]:
        """Return what is wrong. keys: purchase id → key."""
        found = self.observer.judge(History(requests, (FIRST,)), keys)
        return [(violation.guarantee, violation.rule) for violation in found]


@pytest.fixture
def store() -> Store:
    return Store()


def request(key: str, *attempts: Attempt, quantity: int = 1) -> PurchaseRequest:
    return PurchaseRequest(key, 1, quantity, "ann", attempts)


def bought(start: float, end: float, name: str) -> Attempt:
    receipt = Receipt(name, 1, 1, "confirmed", "2026-01-15T12:30:27Z", 1, "ann")
    return Attempt(start, end, Kind.BOUGHT, 201, receipt=receipt)


def refused(start: float, end: float, left: int = 0) -> Attempt:
    kind = Kind.NOT_ENOUGH_LEFT if left else Kind.SOLD_OUT
    return Attempt(start, end, kind, 409, kind, left=left)


def lost(start: float, end: float) -> Attempt:
    return Attempt(start, end, Kind.UNKNOWN)


def test_right_sale(store: Store) -> None:
    store.sell(5.0, "p", 0, left=1)
    store.sell(6.0, "q", 1, left=1)
    requests = [request("a", bought(4.9, 5.1, "p")), request("b", bought(5.0, 6.1, "q"))]
    assert store.broken(*requests, p="a", q="b") == []


@pytest.mark.G1
@pytest.mark.parametrize(
    "counters",
    [
        {"stock": -1, "sold": 3},
        {"stock": 1, "sold": 0},
        {"stock": 1, "sold": 0, "held": 1, "in_slots": 0},
        {"stock": 2, "sold": 0, "in_slots": 1},
    ],
)
def test_shard_counters(store: Store, counters: dict[str, int]) -> None:
    """At every write. That a later write repairs it does not help."""
    store.shard(5.0, 1, **counters)
    store.shard(5.1, 1, stock=2, sold=0)
    assert ("G1", "shard_counters") in store.broken()


@pytest.mark.G1
@pytest.mark.parametrize(
    ("capacity", "shard_at", "is_wrong"), [(4, 5.0, False), (3, 5.1, False), (3, 7.0, True)]
)
def test_capacity_of_shards(store: Store, capacity: int, shard_at: float, is_wrong: bool) -> None:
    """The sale's record and the shards agree, except in a transaction."""
    store.sale(5.0, capacity=number(capacity))
    store.shard(shard_at, 1, stock=capacity - 2, sold=0, capacity=capacity - 2)
    assert store.broken() == ([("G1", "capacity_of_shards")] if is_wrong else [])


@pytest.mark.G1
def test_shards_are_added(store: Store) -> None:
    """They are empty. Tickets move to them, and none is sold twice or lost."""
    store.sale(5.0, shard_count=number(3))
    store.shard(5.0, 2, stock=0, sold=0, capacity=0)
    store.shard(6.0, 0, stock=1, sold=0, capacity=1)
    store.shard(6.0, 2, stock=1, sold=0, capacity=1)
    assert store.broken() == []
    assert store.broken(request("a", refused(7.0, 7.1))) == [
        ("G2", "refused_while_tickets_were_free")
    ]


@pytest.mark.G1
def test_held_tickets(store: Store) -> None:
    store.shard(5.0, 1, stock=1, sold=0, held=1)
    assert store.broken() == []


@pytest.mark.G1
def test_generations_and_shards_stay(store: Store) -> None:
    store.sale(5.0, generation=3)
    store.write(6.0, "item#1#stock#00", None)
    assert store.broken() == [("G1", "generations_do_not_rise"), ("G1", "shard_is_deleted")]


@pytest.mark.G2
def test_refusals(store: Store) -> None:
    """True where too few were free at an instant of the request, or in the second before."""
    store.shard(5.0, 0, stock=0, sold=2)
    store.record(5.0, "p", {0: 2})
    owner = request("a", lost(4.0, 4.5))

    def broken(answer: Attempt, quantity: int) -> list[tuple[str, str]]:
        return store.broken(owner, request("b", answer, quantity=quantity), p="a")

    assert broken(refused(5.5, 5.6, left=2), 3) == []
    assert broken(refused(4.0, 5.1, left=2), 3) == []
    too_early = [("G2", "refused_while_tickets_were_free")]
    assert broken(refused(4.0, 4.9, left=2), 3) == too_early
    assert broken(refused(6.1, 6.2, left=1), 2) == too_early
    assert broken(refused(5.5, 5.6, left=1), 3) == [("G5", "figure_that_never_was")]


@pytest.mark.G2
def test_refusals_at_reset(store: Store) -> None:
    """The old generation may be refused until the first of its shards is closed."""
    store.shard(5.0, 0, stock=0, sold=2)
    store.shard(5.0, 1, stock=0, sold=2)
    store.record(5.0, "p", {0: 2, 1: 2})
    owner = request("a", lost(4.0, 4.5), quantity=4)
    store.sale(6.0, generation=2)
    assert store.broken(owner, request("b", refused(6.5, 6.6)), p="a") == []
    store.shard(7.0, 0, stock=2, sold=0, generation=2)
    assert store.broken(owner, request("b", refused(7.9, 8.5)), p="a") == []
    late = request("b", refused(8.1, 8.5))
    assert store.broken(owner, late, p="a") == [("G2", "refused_while_tickets_were_free")]


@pytest.mark.G3
def test_replaced_record(store: Store) -> None:
    store.sell(5.0, "p", 0, left=1)
    store.record(6.0, "p", {0: 1})
    assert store.broken(request("a", bought(4.9, 5.1, "p")), p="a") == [
        ("G3", "record_is_replaced")
    ]


@pytest.mark.G4
def test_records_and_counters(store: Store) -> None:
    owner = request("a", bought(4.9, 5.1, "p"))
    store.record(5.0, "p", {0: 1})
    assert store.broken(owner, p="a") == [("G4", "records_and_counters")]
    store.shard(5.0, 0, stock=1, sold=1)
    assert store.broken(owner, p="a") == []
    store.shard(5.0, 1, stock=1, sold=1)
    assert store.broken(owner, p="a") == [("G4", "records_and_counters")]


@pytest.mark.G4
def test_taken_and_quantity(store: Store) -> None:
    store.shard(5.0, 0, stock=1, sold=1)
    store.record(5.0, "p", {0: 1}, quantity=number(2))
    assert store.broken(request("a", lost(4.0, 4.5)), p="a") == [("G4", "taken_is_not_quantity")]


@pytest.mark.G5
def test_refused_and_bought(store: Store) -> None:
    """One key is not refused in the generation in which it bought."""
    for index in range(2):
        store.sell(5.0, f"p{index}", index, left=1)
        store.sell(5.1, f"q{index}", index, left=0)
    owners = [request(name, bought(4.9, 5.2, name)) for name in ("p1", "q0", "q1")]
    keys = {"p0": "a", "p1": "p1", "q0": "q0", "q1": "q1"}
    given_up = request("a", lost(4.9, 5.0))
    assert store.broken(*owners, given_up, **keys) == []
    refusal = request("a", lost(4.9, 5.0), refused(6.0, 6.1))
    assert store.broken(*owners, refusal, **keys) == [("G5", "refused_and_bought")]


@pytest.mark.G5
def test_records_without_key(store: Store) -> None:
    """A buyer without a key may have as many records as attempts without a definite answer."""
    store.shard(5.0, 0, stock=0, sold=2)
    store.record(5.0, "p", {0: 1}, buyer_id={"S": "ann"})
    store.record(5.0, "q", {0: 1}, buyer_id={"S": "ann"})
    unknown = lost(4.0, 5.0)
    assert store.broken(request("none", unknown, unknown)) == []
    assert store.broken(request("none", unknown, bought(4.0, 5.0, "p"))) == []
    assert store.broken(request("none", unknown)) == [("G5", "record_without_an_owner")]


@pytest.mark.G5
def test_refusal_on_record(store: Store) -> None:
    """It is no purchase. No attempt buys after it, and a record without one in doubt is wrong."""
    refusal = {"status": {"S": "refused"}}
    for index in range(2):
        store.shard(5.0, index, stock=0, sold=2)
        store.record(5.0, f"p{index}", {index: 2})
    owners = [request(name, lost(4.9, 5.2), quantity=2) for name in ("p0", "p1")]
    keys = {"p0": "p0", "p1": "p1", "r": "r"}
    store.record(6.0, "r", {}, quantity=number(1), **refusal)
    again = structs.replace(refused(8.0, 8.1), replayed=True)
    assert store.broken(*owners, request("r", lost(5.5, 6.1), again), **keys) == []
    store.shard(7.0, 0, stock=1, sold=1)
    store.record(7.0, "p0", {0: 1}, quantity=number(2), refunds={"M": {"k": number(1)}})
    assert store.broken(*owners, request("r", lost(5.5, 6.1), again), **keys) == []
    store.shard(9.0, 0, stock=0, sold=2)
    store.record(9.0, "s", {0: 1})
    keys["s"] = "s"
    assert store.broken(*owners, request("s", lost(5.5, 6.1), refused(6.2, 6.3)), **keys) == []
    answers = request("s", refused(6.2, 6.3))
    assert store.broken(*owners, answers, **keys) == [("G5", "refused_and_bought")]


@pytest.mark.G3
@pytest.mark.parametrize(
    ("refunded", "taken", "rules"),
    [
        (1, 1, []),
        (2, 0, []),
        (0, 1, ["record_is_replaced", "taken_is_not_quantity"]),
        (3, 0, ["record_is_replaced", "taken_is_not_quantity"]),
        (1, 0, ["taken_is_not_quantity"]),
        (1, 3, ["record_is_replaced", "taken_is_not_quantity"]),
    ],
)
def test_refunded_record(store: Store, refunded: int, taken: int, rules: list[str]) -> None:
    """Only a refund changes a record; what it has left is what its shards say."""
    store.shard(5.0, 0, stock=0, sold=2)
    store.record(5.0, "p", {0: 2})
    store.shard(6.0, 0, stock=2 - min(taken, 2), sold=min(taken, 2))
    refunds = {"refunds": {"M": {"k": number(refunded)}}}
    store.record(6.0, "p", {0: taken}, quantity=number(2), **refunds)
    found = store.broken(request("a", lost(4.9, 5.1), quantity=2), p="a")
    assert [rule for _, rule in found if rule != "records_and_counters"] == rules


class TestHolds:
    """A ticket of shard 0 is held until 10 s; no clock is behind, and some are a second ahead."""

    SLOT = 1_800_000_010

    @pytest.fixture(autouse=True)
    def hold(self, store: Store) -> None:
        store.shard(1.0, 0, stock=0, sold=1, held=1, slot=self.SLOT)
        store.record(1.0, "h", {0: 1}, status={"S": "held"}, expires_at=number(self.SLOT))
        store.record(1.0, "p", {0: 1})
        store.shard(1.1, 1, stock=0, sold=2)
        store.record(1.1, "q", {1: 2})

    @pytest.mark.G2
    @pytest.mark.parametrize(
        ("start", "end", "rules"),
        [
            (5.0, 6.0, []),
            (10.5, 11.5, []),  # still held for the last clock
            (12.1, 12.5, [("G2", "refused_while_tickets_were_free")]),
        ],
    )
    def test_refusals(
        self, store: Store, start: float, end: float, rules: list[tuple[str, str]]
    ) -> None:
        attempt = Attempt(start, end, Kind.ALL_HELD, 409, "all_held", left=0)
        found = store.broken(request("c", attempt))
        assert [each for each in found if each[0] == "G2"] == rules

    @pytest.mark.G5
    @pytest.mark.parametrize("kind", [Kind.SOLD_OUT, Kind.ALL_HELD])
    def test_sold_out_or_held(self, store: Store, kind: Kind) -> None:
        while_held = store.broken(request("c", Attempt(5.0, 6.0, kind, 409, kind, left=0)))
        told = ("G5", "figure_that_never_was") in while_held
        assert told == (kind is Kind.SOLD_OUT)
        store.shard(7.0, 0, stock=0, sold=2)
        store.record(7.0, "h", {0: 1}, expires_at=number(self.SLOT), quantity=number(1))
        when_sold = store.broken(request("c", Attempt(8.5, 9.0, kind, 409, kind, left=0)))
        told = ("G5", "figure_that_never_was") in when_sold
        assert told == (kind is Kind.ALL_HELD)

    @pytest.mark.G3
    @pytest.mark.parametrize(
        ("change", "taken", "right"),
        [
            ({"status": {"S": "released"}}, {}, True),
            ({"status": {"S": "released"}}, {0: 1}, False),
            ({"expires_at": number(1_800_000_070)}, {0: 1}, True),
            ({"expires_at": number(1_800_000_001)}, {0: 1}, False),
            ({}, {1: 1}, False),
            ({"status": {"S": "refused"}}, {0: 1}, False),
            ({"buyer_id": {"S": "ann"}}, {0: 1}, False),
        ],
    )
    def test_record(
        self, store: Store, change: dict[str, Any], taken: dict[int, int], right: bool
    ) -> None:
        """What may become of the record of a hold."""
        fields = {"status": {"S": "held"}, "expires_at": number(self.SLOT), "quantity": number(1)}
        store.record(2.0, "h", taken, **fields | change)
        assert (("G3", "record_is_replaced") in store.broken()) != right


class TestOpenings:
    """Tickets are taken while the sale is open, by settings that may be five seconds old."""

    @staticmethod
    def at(now: float) -> dict[str, str]:
        return {"S": timestamp(EPOCH_SECONDS + now)}

    @pytest.mark.G1
    @pytest.mark.parametrize(("sold_at", "is_wrong"), [(4.9, False), (10.9, False), (11.2, True)])
    def test_sold_in_a_pause(self, store: Store, sold_at: float, is_wrong: bool) -> None:
        """Clocks are up to a second ahead, so a time of a record is a second of time."""
        store.sale(5.0, is_paused={"BOOL": True})
        store.sell(sold_at, "p", 0, left=1)
        purchase = request("a", bought(sold_at - 0.1, sold_at + 0.1, "p"))
        expected = [("G1", "sold_while_not_open")] if is_wrong else []
        assert store.broken(purchase, p="a") == expected

    @pytest.mark.G1
    @pytest.mark.parametrize(("sold_at", "is_wrong"), [(19.9, True), (20, False), (30, True)])
    def test_sold_outside_window(self, store: Store, sold_at: float, is_wrong: bool) -> None:
        store.sale(1.0, opens_at=self.at(20), closes_at=self.at(30))
        store.sell(sold_at, "p", 0, left=1)
        purchase = request("a", bought(sold_at - 0.1, sold_at + 0.1, "p"))
        expected = [("G1", "sold_while_not_open")] if is_wrong else []
        assert store.broken(purchase, p="a") == expected

    @pytest.mark.G1
    @pytest.mark.parametrize("is_late", [False, True])
    def test_confirmed_in_a_pause(self, store: Store, is_late: bool) -> None:
        """Out of its slot a hold may be confirmed at any time, out of the stock it may not."""
        about = {"expires_at": number(1_800_000_000), "is_counted": {"BOOL": False}}
        store.shard(2.0, 0, stock=1, sold=0, held=1)
        store.record(2.0, "p", {0: 1}, **about, status={"S": "held"})
        store.sale(5.0, is_paused={"BOOL": True})
        if is_late:
            store.shard(38.0, 0, stock=2, sold=0, reclaimed_until=1_800_000_000)
        store.shard(41.0, 0, stock=1, sold=1, reclaimed_until=1_800_000_000 * is_late)
        store.record(41.0, "p", {0: 1}, **about, confirmed_at=self.at(41))
        expected = [("G1", "sold_while_not_open")] if is_late else []
        assert store.broken(request("a", bought(1, 2.1, "p")), p="a") == expected

    @pytest.mark.G5
    @pytest.mark.parametrize(
        ("start", "reason", "is_wrong"),
        [
            (10, "paused", False),
            (21.5, "paused", True),
            (10, "closed", True),
            (28, "scheduled", False),
            (40.5, "scheduled", True),
            (49.5, "closed", False),
            (48, "closed", True),
        ],
    )
    def test_reason_of_a_refusal(
        self, store: Store, start: float, reason: str, is_wrong: bool
    ) -> None:
        store.sale(5.0, is_paused={"BOOL": True})
        store.sale(20.0)
        store.sale(25.0, opens_at=self.at(40), closes_at=self.at(50))
        attempt = Attempt(start, start + 0.1, Kind.NOT_OPEN, 409, "sale_not_open", reason=reason)
        expected = [("G5", "not_open_yet_open")] if is_wrong else []
        assert store.broken(request("a", attempt)) == expected

    @pytest.mark.G5
    def test_bought_after_the_refusal(self, store: Store) -> None:
        """A request that was told that the sale is not open never buys."""
        store.sale(5.0, is_paused={"BOOL": True})
        store.sell(9.0, "p", 0, left=1)
        attempt = Attempt(8, 8.1, Kind.NOT_OPEN, 409, "sale_not_open", reason="paused")
        assert store.broken(request("a", attempt), p="a") == [("G5", "refused_and_bought")]
        assert store.broken(request("a", lost(5, 6), attempt), p="a") == []
