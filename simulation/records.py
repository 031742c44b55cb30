"""Records as they are stored, read from raw items without the domain's codecs."""

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

from simulation.expressions import Item

SHARD = "#stock#"
PURCHASE = "purchase#"
BUYER = "#buyer#"


class StoredShard(Struct, frozen=True):
    """A shard as it is stored."""

    generation: int
    capacity: int
    stock: int
    held: int
    sold: int
    slots: Mapping[int, int]

    @classmethod
    def of(cls, item: Item) -> "StoredShard":
        """Return the shard of an item."""
        slots = {int(slot): int(each["N"]) for slot, each in item["slots"]["M"].items()}
        counters = {name: int(item[name]["N"]) for name in cls.__struct_fields__ if name != "slots"}
        return cls(**counters, slots=slots)


class StoredPurchase(Struct, frozen=True):
    """The record of a purchase or a hold as it is stored, and when it was put.

    refunded: tickets. expires_at: of a hold, also when it is a purchase; otherwise None.
    is_counted: its tickets count for its buyer.
    """

    purchase_id: str
    generation: int
    buyer_id: str | None
    quantity: int
    taken: Mapping[int, int]
    put_at: float
    status: str
    refunded: int = 0
    expires_at: int | None = None
    is_counted: bool = False

    @classmethod
    def of(cls, key: str, item: Item, put_at: float) -> "StoredPurchase":
        """Return the purchase of an item."""
        refunds = item.get("refunds", {"M": {}})["M"]
        return cls(
            purchase_id=key.removeprefix(PURCHASE),
            generation=int(item["generation"]["N"]),
            buyer_id=item["buyer_id"]["S"] if "buyer_id" in item else None,
            quantity=int(item["quantity"]["N"]),
            taken={int(index): int(each["N"]) for index, each in item["taken"]["M"].items()},
            put_at=put_at,
            status=item["status"]["S"],
            refunded=sum(int(tickets["N"]) for tickets in refunds.values()),
            expires_at=int(item["expires_at"]["N"]) if "expires_at" in item else None,
            is_counted="is_counted" in item and item["is_counted"]["BOOL"],
        )

    @property
    def is_sold(self) -> bool:
        """Return whether its tickets are or were bought."""
        return self.status in {"confirmed", "refunded"}

    def may_become(self, after: "StoredPurchase") -> bool:
        """Return whether a refund, or a change of a hold, may have made this record the other."""
        same = (self.generation, self.buyer_id, self.quantity)
        if same != (after.generation, after.buyer_id, after.quantity):
            return False
        if self.status == "held":
            # Touched, extended, confirmed (late ones out of other shards) or released.
            later = (after.expires_at or 0) >= (self.expires_at or 0)
            return later and (
                (after.status == "held" and after.taken == self.taken)
                or after.status == "confirmed"
                or (after.status == "released" and not after.taken)
            )
        return (
            self.is_sold
            and after.is_sold
            and self.refunded < after.refunded <= self.quantity
            and all(tickets <= self.taken.get(index, 0) for index, tickets in after.taken.items())
        )


class StoredBuyer(Struct, frozen=True):
    """What a buyer has, as it is stored."""

    sold: int
    slots: Mapping[int, int]

    @classmethod
    def of(cls, item: Item) -> "StoredBuyer":
        """Return the record of an item."""
        sold, slots = 0, Counter[int]()
        for each in item["purchases"]["M"].values():
            tickets, *expires_at = (int(part["N"]) for part in each["L"])
            if expires_at:
                slots[expires_at[0]] += tickets
            else:
                sold += tickets
        return cls(sold, slots)
