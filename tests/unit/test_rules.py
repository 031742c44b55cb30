"""The rules that need no store."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketing.limits import SHARDS_MAX
from ticketing.model import Order, Sale
from ticketing.rules import allocate, default_shard_count, make_order, timestamp

CHANCE = random.Random(1)


def sale(capacity: int, shard_count: int) -> Sale:
    return Sale(1, "A", capacity, shard_count, shard_count, 1, "")


@pytest.mark.G1
@given(capacity=st.integers(0, 10_000_000), shard_count=st.integers(1, SHARDS_MAX))
def test_shares_add_up(capacity: int, shard_count: int) -> None:
    shares = [sale(capacity, shard_count).share(index) for index in range(SHARDS_MAX)]
    assert sum(shares) == capacity
    assert max(shares[:shard_count]) - min(shares[:shard_count]) <= 1
    assert not any(shares[shard_count:])


@pytest.mark.G1
@pytest.mark.G2
@given(
    stock=st.dictionaries(st.integers(0, 99), st.integers(0, 12)),
    quantity=st.integers(1, 10),
    seed=st.integers(),
)
def test_allocate(stock: dict[int, int], quantity: int, seed: int) -> None:
    taken = allocate(stock, quantity, random.Random(seed))
    if taken is None:
        assert sum(stock.values()) < quantity
        return
    assert sum(taken.values()) == quantity
    assert all(0 < tickets <= stock[index] for index, tickets in taken.items())
    if any(tickets >= quantity for tickets in stock.values()):
        assert len(taken) == 1


def test_allocate_spreads() -> None:
    chosen = {next(iter(allocate({0: 5, 1: 2, 2: 3, 3: 9}, 3, CHANCE) or {})) for _ in range(200)}
    assert chosen == {0, 2, 3}


def test_full_shards_first() -> None:
    """Each free ticket is as likely as any other, so all shards are empty at about one time."""
    chosen = Counter(next(iter(allocate({0: 10, 1: 30}, 1, CHANCE) or {})) for _ in range(1000))
    assert 200 < chosen[0] < 300


def test_allocate_few_shards() -> None:
    assert allocate({0: 1, 1: 3, 2: 1, 3: 2}, 5, CHANCE) == {1: 3, 3: 2}


@given(stock=st.integers(0, 10_000_000))
def test_default_shard_count(stock: int) -> None:
    shards = default_shard_count(stock)
    assert 1 <= shards <= 100
    assert shards in {1, 100} or shards == stock // 10


@pytest.mark.G3
def test_same_key_same_purchase() -> None:
    first = make_order(1, 2, "b", "k" * 16, CHANCE)
    assert first == make_order(1, 2, "b", "k" * 16, CHANCE)
    assert first.purchase_id == make_order(1, 3, "b", "k" * 16, CHANCE).purchase_id


@pytest.mark.G3
def test_other_item_buyer_or_key() -> None:
    orders = [
        (1, None, '"1"'),
        (11, None, "1"),
        (1, "a", "b"),
        (1, "ab", ""),
        (1, "", "ab"),
        (1, 'a","b', ""),
        (2, "a", "b"),
    ]
    assert len(
        {make_order(item, 1, buyer, key, CHANCE).purchase_id for item, buyer, key in orders}
    ) == len(orders)


@pytest.mark.G3
def test_no_key() -> None:
    orders = [make_order(1, 1, None, None, CHANCE) for _ in range(100)]
    assert len({order.purchase_id for order in orders}) == 100
    assert not any(order.keyed for order in orders)


@pytest.mark.G3
@pytest.mark.parametrize("other", [(2, 1, "b"), (1, 2, "b"), (1, 1, None), (1, 1, "c")])
def test_fingerprint(other: tuple[int, int, str | None]) -> None:
    assert (
        Order(1, 1, "b", "p", keyed=True).fingerprint != Order(*other, "p", keyed=True).fingerprint
    )


def test_timestamps_sort() -> None:
    instants = [0, 1.0004, 1.001, 1_800_000_000.5, 1_800_000_001]
    stamps = [timestamp(instant) for instant in instants]
    assert stamps == sorted(stamps)
    assert stamps[3] == "2027-01-15T08:00:00.500000Z"
