"""Keys and codecs: how each record is an item of the table."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from ticketing.errors import UnreadableRecord
from ticketing.model import (
    BuyerTickets,
    CountedTickets,
    Payment,
    Purchase,
    Resize,
    Sale,
    Shard,
    StockSummary,
    UsedKey,
)
from ticketing.moves import Status
from ticketing.rules import seconds_of, timestamp

# An item of DynamoDB's low-level API: attribute → {"S": …} or {"N": …}.
type Item = Mapping[str, Any]

PURCHASE_PREFIX: Final = "purchase#"
PAYMENT_PREFIX: Final = "payment#"
BUYER_PART: Final = "#buyer#"
SUMMARY_PART: Final = "#summary#"


def sale_key(item_id: int) -> Item:
    """Return the key of an item's sale."""
    return {"pk": {"S": f"item#{item_id}"}}


# The record that has the ids of all items.
CATALOGUE_KEY: Final[Item] = {"pk": {"S": "catalogue"}}


def shard_key(item_id: int, index: int) -> Item:
    """Return the key of a stock shard."""
    return {"pk": {"S": f"item#{item_id}#stock#{index:02}"}}


def summary_key(item_id: int, part: int) -> Item:
    """Return the key of a stock summary."""
    return {"pk": {"S": f"item#{item_id}{SUMMARY_PART}{part}"}}


def summary_of(pk: str) -> tuple[int, int]:
    """Return the item and the part of a stock summary's key."""
    _, item_id, _, part = pk.split("#")
    return int(item_id), int(part)


def buyer_key(item_id: int, generation: int, buyer_id: str) -> Item:
    """Return the key of what a buyer has of one generation of a sale."""
    return {"pk": {"S": f"item#{item_id}#{generation}#buyer#{buyer_id}"}}


def purchase_key(purchase_id: str) -> Item:
    """Return the key of a purchase."""
    return {"pk": {"S": f"{PURCHASE_PREFIX}{purchase_id}"}}


def payment_key(reference: str) -> Item:
    """Return the key of a payment."""
    return {"pk": {"S": f"{PAYMENT_PREFIX}{reference}"}}


def number(value: int) -> Any:
    """Return an attribute's value."""
    return {"N": str(value)}


def text(value: str) -> Any:
    """Return an attribute's value."""
    return {"S": value}


class AttributeType(Struct, frozen=True):
    """A type of attribute.

    descriptor: DynamoDB's data type descriptor. write, read: between a value and DynamoDB's.
    not_readable: what is said of an attribute that `read` refuses with ValueError, KeyError or
    TypeError.
    """

    descriptor: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    not_readable: str


TEXT: Final = AttributeType("S", str, str, "is not a text")
INTEGER: Final = AttributeType("N", str, int, "is not a whole number")
INSTANT: Final = AttributeType("S", timestamp, seconds_of, "is not a timestamp")
YES: Final = AttributeType("BOOL", bool, bool, "is not true or false")
STATUS: Final = AttributeType("S", str, Status, "is not a known status")


TEXTS: Final = AttributeType(
    "L",
    lambda texts: [text(one) for one in texts],
    lambda texts: tuple(one["S"] for one in texts),
    "is not a list of texts",
)


def _tickets_by(
    what: str, read: Callable[[str], Any], write: Callable[[Any], str]
) -> AttributeType:
    """Return the type of a map to tickets. read, write: between its keys and DynamoDB's."""
    return AttributeType(
        "M",
        lambda tickets: {write(key): number(count) for key, count in tickets.items()},
        lambda tickets: {read(key): int(count["N"]) for key, count in tickets.items()},
        f"does not map {what} to tickets",
    )


TICKETS_BY_SHARD: Final = _tickets_by("shards", read=int, write=lambda index: f"{index:02}")
TICKETS_BY_SLOT: Final = _tickets_by("expiry slots", read=int, write=str)
TICKETS_BY_NAME: Final = _tickets_by("names", read=str, write=str)
# The attribute `slots` of a shard without held tickets.
NO_SLOTS: Final = {"M": TICKETS_BY_SLOT.write({})}


def _write_used_key(key: UsedKey) -> Any:
    content = {
        "key": text(key.key),
        "generation": number(key.generation),
        "request": text(key.request),
    }
    return {"M": content}


def _read_used_key(value: Any) -> UsedKey:
    content = value["M"]
    return UsedKey(content["key"]["S"], int(content["generation"]["N"]), content["request"]["S"])


def _write_counted(counted: CountedTickets) -> Any:
    numbers = (counted.tickets, counted.expires_at)
    return {"L": [number(each) for each in numbers if each is not None]}


def _read_counted(value: Any) -> CountedTickets:
    return CountedTickets(*(int(each["N"]) for each in value["L"]))


COUNTED_TICKETS: Final = AttributeType(
    "M",
    lambda purchases: {id_: _write_counted(each) for id_, each in purchases.items()},
    lambda purchases: {id_: _read_counted(each) for id_, each in purchases.items()},
    "does not map purchases to tickets",
)
USED_KEYS: Final = AttributeType(
    "L",
    lambda keys: [_write_used_key(key) for key in keys],
    lambda keys: tuple(_read_used_key(value) for value in keys),
    "is not a list of idempotency keys",
)


def _read_resize(value: Any) -> Resize:
    return Resize(int(value["capacity"]["N"]), int(value["before"]["N"]))


RESIZE: Final = AttributeType(
    "M",
    lambda resize: {"capacity": number(resize.capacity), "before": number(resize.before)},
    _read_resize,
    "is not a change of the capacity",
)


class Codec[Record](Struct, frozen=True):
    """How a type of record is an item.

    key_field: the record's field that the key has, and how it is read from `pk`. attributes: field
    of the record, which is also the attribute's name → type. optional: attributes that may be
    missing → the value that this means.
    """

    record: type[Record]
    key_field: tuple[str, Callable[[str], Any]]
    attributes: Mapping[str, AttributeType]
    optional: Mapping[str, Any] = {}

    def to_item(self, key: Item, record: Record) -> Item:
        """Return the item of a record. What has the value of a missing attribute is left out."""
        item = dict(key)
        for name, type_ in self.attributes.items():
            value = getattr(record, name)
            if name not in self.optional or value != self.optional[name]:
                item[name] = {type_.descriptor: type_.write(value)}
        return item

    def to_record(self, item: Item) -> Record:
        """Return the record of an item.

        Raises UnreadableRecord, with the item's key, where an attribute is missing or of another
        type.
        """
        name, read = self.key_field
        fields = {name: read(item["pk"]["S"])}
        for name, type_ in self.attributes.items():
            if name not in item and name in self.optional:
                fields[name] = self.optional[name]
            else:
                fields[name] = _read(item, name, type_)
        return self.record(**fields)


def _last_number(pk: str) -> int:
    return int(pk.rpartition("#")[2])


def _read(item: Item, name: str, type_: AttributeType) -> Any:
    key = item["pk"]["S"]
    if name not in item:
        raise UnreadableRecord(f"Record {key}: attribute {name} is missing.")
    if type_.descriptor not in item[name]:
        found = next(iter(item[name]))
        raise UnreadableRecord(
            f"Record {key}: attribute {name} is of type {found}, not {type_.descriptor}."
        )
    try:
        return type_.read(item[name][type_.descriptor])
    except (ValueError, KeyError, TypeError):
        raise UnreadableRecord(f"Record {key}: attribute {name} {type_.not_readable}.") from None


SALE: Final = Codec(
    Sale,
    key_field=("item_id", _last_number),
    attributes={
        "item_name": TEXT,
        "capacity": INTEGER,
        "shard_count": INTEGER,
        "shards_ever": INTEGER,
        "generation": INTEGER,
        "created_at": TEXT,
        "used_keys": USED_KEYS,
        "hold_seconds": INTEGER,
        "per_buyer_limit": INTEGER,
        "opens_at": INSTANT,
        "closes_at": INSTANT,
        "is_paused": YES,
        "slot_seconds": INTEGER,
        "revision": INTEGER,
        "shards_opened": YES,
        "resize": RESIZE,
        "is_spreading": YES,
        "is_deleted": YES,
    },
    optional={
        "used_keys": (),
        "hold_seconds": None,
        "per_buyer_limit": None,
        "opens_at": None,
        "closes_at": None,
        "is_paused": False,
        "slot_seconds": 0,
        "revision": 0,
        "shards_opened": False,
        "resize": None,
        "is_spreading": False,
        "is_deleted": False,
    },
)
SHARD: Final = Codec(
    Shard,
    key_field=("index", _last_number),
    attributes={
        "generation": INTEGER,
        "capacity": INTEGER,
        "stock": INTEGER,
        "held": INTEGER,
        "sold": INTEGER,
        "updated_at": TEXT,
        "sold_before": INTEGER,
        "slots": TICKETS_BY_SLOT,
        "reclaimed_until": INTEGER,
    },
    optional={"sold_before": 0, "slots": {}, "reclaimed_until": 0},
)
SUMMARY: Final = Codec(
    StockSummary,
    key_field=("part", _last_number),
    attributes={
        "item_id": INTEGER,
        "revision": INTEGER,
        "published": INTEGER,
        "generation": INTEGER,
        "free": TICKETS_BY_SHARD,
        "next_release_at": INTEGER,
        "is_snapshot": YES,
        "written_at": INTEGER,
    },
    optional={"next_release_at": None},
)
PURCHASE: Final = Codec(
    Purchase,
    key_field=("purchase_id", lambda pk: pk.removeprefix(PURCHASE_PREFIX)),
    attributes={
        "item_id": INTEGER,
        "generation": INTEGER,
        "buyer_id": TEXT,
        "quantity": INTEGER,
        "status": STATUS,
        "taken": TICKETS_BY_SHARD,
        "fingerprint": TEXT,
        "created_at": TEXT,
        "refunds": TICKETS_BY_NAME,
        "revision": INTEGER,
        "is_counted": YES,
        "left": INTEGER,
        "next_release_at": INTEGER,
        "limit": INTEGER,
        "expires_at": INTEGER,
        "extended_at": TEXT,
        "confirmed_at": TEXT,
        "refunded_at": TEXT,
        "payment_reference": TEXT,
        "refused_payments": TEXTS,
    },
    optional={
        "buyer_id": None,
        "refunds": {},
        "revision": 0,
        "is_counted": False,
        "left": None,
        "next_release_at": None,
        "limit": None,
        "expires_at": None,
        "extended_at": None,
        "confirmed_at": None,
        "refunded_at": None,
        "payment_reference": None,
        "refused_payments": (),
    },
)
BUYER: Final = Codec(
    BuyerTickets,
    key_field=("buyer_id", lambda pk: pk.partition(BUYER_PART)[2]),
    attributes={
        "item_id": INTEGER,
        "generation": INTEGER,
        "purchases": COUNTED_TICKETS,
        "revision": INTEGER,
    },
)
PAYMENT: Final = Codec(
    Payment,
    key_field=("reference", lambda pk: pk.removeprefix(PAYMENT_PREFIX)),
    attributes={"purchase_id": TEXT, "created_at": TEXT},
)
