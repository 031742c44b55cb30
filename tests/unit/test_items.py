"""The codecs: every record can be read back, and an unreadable one says why."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketing.errors import UnreadableRecord
from ticketing.model import Purchase, Sale, Shard, UsedKey
from ticketing.moves import Status
from ticketing.store.items import (
    PURCHASE,
    SALE,
    SHARD,
    Codec,
    purchase_key,
    sale_key,
    shard_key,
)

numbers = st.integers(0, 10**12)
texts = st.text(max_size=20)
purchases = st.builds(
    Purchase,
    purchase_id=st.uuids().map(str),
    item_id=numbers,
    generation=numbers,
    buyer_id=st.none() | texts,
    quantity=numbers,
    status=st.sampled_from(Status),
    taken=st.dictionaries(st.integers(0, 99), numbers, max_size=3),
    fingerprint=texts,
    created_at=texts,
)
sales = st.builds(
    Sale,
    item_id=numbers,
    item_name=texts,
    capacity=numbers,
    shard_count=numbers,
    shards_ever=numbers,
    generation=numbers,
    created_at=texts,
    used_keys=st.lists(st.builds(UsedKey, texts, numbers, texts), max_size=2).map(tuple),
)
SHARD_ITEM: dict[str, Any] = {
    **shard_key(1, 7),
    "generation": {"N": "2"},
    "capacity": {"N": "9"},
    "stock": {"N": "3"},
    "held": {"N": "4"},
    "sold": {"N": "2"},
    "updated_at": {"S": "then"},
}


@given(record=purchases)
def test_purchase_round_trip(record: Purchase) -> None:
    item = PURCHASE.to_item(purchase_key(record.purchase_id), record)
    assert PURCHASE.to_record(item) == record
    assert ("buyer_id" in item) is (record.buyer_id is not None)


@given(record=sales)
def test_sale_round_trip(record: Sale) -> None:
    assert SALE.to_record(SALE.to_item(sale_key(record.item_id), record)) == record


def test_shard_with_slots() -> None:
    """Its held tickets are in expiry slots, a map that each generation opens empty."""
    slots = {"1800000000": {"N": "3"}, "1800000060": {"N": "1"}}
    shard = SHARD.to_record(SHARD_ITEM | {"slots": {"M": slots}})
    assert shard == Shard(7, 2, 9, 3, 4, 2, "then", 0, {1_800_000_000: 3, 1_800_000_060: 1})
    assert SHARD.to_record(SHARD_ITEM | {"sold_before": {"N": "6"}}).sold_before == 6


@pytest.mark.parametrize(
    ("codec", "item", "change", "problem"),
    [
        (
            SHARD,
            SHARD_ITEM,
            {"slots": {"M": {"18": {"N": "1.5"}}}},
            "attribute slots does not map expiry slots to tickets.",
        ),
        (SHARD, SHARD_ITEM, {"slots": {"S": "1"}}, "attribute slots is of type S, not M."),
        (SHARD, SHARD_ITEM, {"held": None}, "attribute held is missing."),
        (
            SALE,
            {**sale_key(1), **{name: {"N": "1"} for name in SALE.attributes}},
            {"item_name": {"S": "A"}, "created_at": {"S": "then"}, "used_keys": {"L": [{}]}},
            "attribute used_keys is not a list of idempotency keys.",
        ),
        (
            PURCHASE,
            {**purchase_key("p"), **{name: {"N": "1"} for name in PURCHASE.attributes}},
            {"buyer_id": None, "status": {"S": "stolen"}},
            "attribute status is not a known status.",
        ),
    ],
)
def test_unreadable_item(codec: Codec[Any], item: Any, change: Any, problem: str) -> None:
    changed = {name: value for name, value in (item | change).items() if value is not None}
    with pytest.raises(UnreadableRecord) as caught:
        codec.to_record(changed)
    assert str(caught.value) == f"Record {item['pk']['S']}: {problem}"
