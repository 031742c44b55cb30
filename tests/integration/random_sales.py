"""All methods of the store, called in any order and at random, on several engines side by side."""

from collections import Counter
from collections.abc import Callable, Sequence
from copy import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.integration.side_by_side import TABLE, SideBySide
from tests.support import ITEM
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
from ticketing.moves import (
    BUY,
    CONFIRM,
    CONFIRM_LATE,
    EXTEND,
    HOLD,
    REFUND,
    REFUND_IN_PART,
    RELEASE,
    Move,
    Status,
)
from ticketing.store.items import purchase_key, sale_key, shard_key
from ticketing.store.table import Cancellation, Page, Store

SHARDS = 3
TIMES = ["2026-01-15T12:30:27.000000Z", "2026-01-15T12:30:28.500000Z"]
SLOTS = [1_800_000_020, 1_800_000_040, 1_800_000_060]
REFERENCES = ["pay-1", "pay-2"]
NUMBERS = list(range(1, 11))
SALE = Sale(
    ITEM,
    "Concert ★",
    capacity=60,
    shard_count=SHARDS,
    shards_ever=SHARDS,
    generation=1,
    created_at=TIMES[0],
    revision=1,
)
CHANGES: Sequence[dict[str, Any]] = [
    {"shards_opened": True},
    {"is_paused": True, "opens_at": 1_800_000_000.25},
    {"is_deleted": True},
    {"is_deleted": False, "capacity": 4},
    {"shard_count": 4, "shards_ever": 4, "is_spreading": True},
    {"resize": Resize(90, 60), "per_buyer_limit": 2},
    {"used_keys": (UsedKey("k", 1, "r"),), "hold_seconds": 600, "slot_seconds": 20},
    {"generation": 2, "shards_opened": False, "item_name": "x" * 1100},
]
# What is never written by the store, and what it must refuse.
DAMAGES: Sequence[dict[str, Any]] = [
    {"UpdateExpression": "SET stock = :x", "ExpressionAttributeValues": {":x": {"S": "?"}}},
    {"UpdateExpression": "SET stock = :x", "ExpressionAttributeValues": {":x": {"N": "-1"}}},
    {"UpdateExpression": "REMOVE slots"},
    {"UpdateExpression": "REMOVE generation"},
]

CHANGES_OF_RECORDS = [EXTEND, CONFIRM, CONFIRM_LATE, RELEASE, REFUND, REFUND_IN_PART]
# What a run does in some order, one thing in a step.
STEPS = [
    *["order"] * 6,
    *["change"] * 8,
    *["put_sale", "open_shard", "resize", "reclaim", "repair"] * 2,
    *["put_others", "touch", "put_refusal", "put_other_sale", "damage"],
    *["read_shards", "read_all"],
]

rarely = st.sampled_from([False, False, False, False, False, True])
# Which of the versions that were seen: 0 is the last one, others may have changed since.
versions = st.sampled_from([0, 0, 0, 0, 1, 3])
shard_numbers = st.integers(0, SHARDS)
times = st.sampled_from(TIMES)
slots = st.sampled_from(SLOTS)
splits = st.dictionaries(st.integers(0, SHARDS - 1), st.integers(1, 3), min_size=1, max_size=2)

type Draw = Callable[[st.SearchStrategy[Any]], Any]


class StoreMethods(RuleBasedStateMachine):
    """Each step calls a method of the store on all engines. They must agree on all of it.

    It keeps each version of the records that the model had, so a method can get one that is old.
    outcomes: counts what became of each method.
    """

    def __init__(self, engines: SideBySide, outcomes: Counter[str]) -> None:
        super().__init__()
        self._engines = engines
        self._outcomes = outcomes
        self._steps = list[str]()
        self._sales = [SALE]
        self._records = list[Purchase]()
        self._buyers = [BuyerTickets(ITEM, 1, "ann")]
        self._summaries = [StockSummary(ITEM, 0)]
        self._shards = list[Shard]()

    def teardown(self) -> None:
        """Delete the tables."""
        self._engines.close()

    @initialize(steps=st.permutations(STEPS), opened=st.sampled_from([SHARDS, SHARDS, SHARDS, 1]))
    def begins(self, steps: list[str], opened: int) -> None:
        """Open the sale, perhaps not all of it."""
        self._steps = steps
        self._do("put_sale", lambda store: store.put_sale(SALE, None))
        for index in range(opened):
            self._open(SALE, index)

    @precondition(lambda self: self._steps)
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        """Do the next thing."""
        getattr(self, f"_{self._steps.pop()}")(data.draw)

    def _do(self, what: str, step: Callable[[Store], Any]) -> Any:
        outcome = self._engines.store(step)
        match outcome:
            case None | True:
                done = "done"
            case str(error) | (str(error), *_):
                done = error
            case False:
                done = "refused"
            case _:
                done = type(outcome).__name__
        self._outcomes[f"{what}: {done}"] += 1
        return outcome

    # --- the sale ---

    def _put_sale(self, draw: Draw) -> None:
        seen = _version(self._sales, draw(versions))
        changes: dict[str, Any] = draw(st.sampled_from(CHANGES))
        after = replace(seen, **changes, revision=seen.revision + 1)
        before = None if draw(rarely) else seen
        if self._do("put_sale", lambda store: store.put_sale(after, before)) is True:
            self._sales.append(after)

    def _put_other_sale(self, draw: Draw) -> None:
        sale = replace(SALE, item_id=draw(st.integers(2, 12)))
        self._do("put_sale", lambda store: store.put_sale(sale, None))

    def _open_shard(self, draw: Draw) -> None:
        self._open(_version(self._sales, draw(versions)), draw(shard_numbers))

    def _open(self, sale: Sale, index: int) -> None:
        self._do("open_shard", lambda store: store.open_shard(sale, index))

    def _resize(self, draw: Draw) -> None:
        seen = _version(self._sales, draw(versions))
        tickets = draw(
            st.dictionaries(st.integers(0, 2), st.sampled_from([-9, -1, 1, 5]), min_size=1)
        )
        capacity = seen.capacity + sum(tickets.values())
        after = replace(seen, capacity=capacity, revision=seen.revision + 1)
        now = draw(times)
        if self._do("resize", lambda store: store.resize(after, seen, tickets, now)) is True:
            self._sales.append(after)

    # --- purchases ---

    def _order(self, draw: Draw) -> None:
        move, tickets, counts = draw(st.sampled_from([BUY, HOLD])), draw(splits), draw(rarely)
        record = Purchase(
            purchase_id=f"p{draw(st.sampled_from(NUMBERS))}",
            item_id=ITEM,
            generation=7 if draw(rarely) else self._sales[-1].generation,
            buyer_id="ann" if counts else None,
            quantity=sum(tickets.values()),
            status=move.after,
            taken=tickets,
            fingerprint="f",
            created_at=draw(times),
            is_counted=counts,
            expires_at=draw(slots) if move is HOLD else None,
        )
        self._move(move, record, tickets)

    def _change(self, draw: Draw) -> None:
        """Mostly a move that the record's status allows."""
        move, now = draw(st.sampled_from(CHANGES_OF_RECORDS)), draw(times)
        latest = {record.purchase_id: record for record in self._records}
        some = [each for each in latest.values() if each.status is move.before]
        if draw(rarely):
            some = self._records
        if move.from_slot:
            some = [each for each in some if each.expires_at is not None]
        if not some:
            return
        seen = _version(some, draw(versions))
        after = replace(seen, status=move.after, revision=seen.revision + 1)
        tickets = dict(seen.taken)
        if move is EXTEND:
            after = replace(after, expires_at=draw(slots), extended_at=now)
        elif move.takes_payment:
            reference = draw(st.sampled_from([None, *REFERENCES]))
            after = replace(after, confirmed_at=now, payment_reference=reference)
        elif move is REFUND_IN_PART:
            index, count = next(iter(tickets.items()))
            tickets = {index: 1}
            after = replace(after, taken={**seen.taken, index: count - 1}, refunds={"r": 1})
        self._move(move, after, tickets, seen)

    def _move(
        self, move: Move, record: Purchase, tickets: dict[int, int], seen: Purchase | None = None
    ) -> None:
        buyer = self._next_buyer(record) if record.is_counted else None

        def step(store: Store) -> Cancellation | None:
            return store.move(move, record, tickets, TIMES[1], seen, buyer=buyer)

        if self._do(move.name, step) is None:
            self._records.append(record)
            self._buyers += [buyer] if buyer else []

    def _next_buyer(self, record: Purchase) -> BuyerTickets:
        seen = self._buyers[-1]
        counted = CountedTickets(record.quantity, record.expires_at)
        purchases = {**seen.purchases, record.purchase_id: counted}
        return replace(seen, purchases=purchases, revision=seen.revision + 1)

    def _touch(self, draw: Draw) -> None:
        if self._records:
            record = _version(self._records, draw(versions))
            if self._do("touch", lambda store: store.touch(record)) is True:
                self._records.append(replace(record, revision=record.revision + 1))

    def _put_refusal(self, draw: Draw) -> None:
        name = f"p{draw(st.sampled_from(NUMBERS))}"
        refusal = Purchase(
            name, ITEM, 1, None, 2, Status.REFUSED, {}, "f", TIMES[0], left=1, limit=3
        )
        self._do("put_refusal", lambda store: store.put_refusal(refusal))

    # --- shards ---

    def _see_shards(self, sale: Sale) -> None:
        found = self._do("read_stored_shards", lambda store: _stored_shards(store, sale))
        self._shards += found if isinstance(found, list) else []

    def _read_shards(self, draw: Draw) -> None:
        sale, index = _version(self._sales, draw(versions)), draw(shard_numbers)
        self._see_shards(sale)
        self._do("read_shards", lambda store: store.read_shards(sale))
        self._do("snapshot", lambda store: store.snapshot(sale))
        if index < sale.shard_count:
            self._do("read_shard", lambda store: store.read_shard(sale, index))

    def _reclaim(self, draw: Draw) -> None:
        if not draw(rarely):
            self._see_shards(self._sales[-1])
        held = [shard for shard in self._shards if shard.slots]
        if held:
            shard, now = _version(held, draw(versions)), draw(times)
            some = st.lists(st.sampled_from(sorted(shard.slots)), min_size=1, unique=True)
            expired = draw(some)
            self._do("reclaim", lambda store: store.reclaim(ITEM, shard, expired, now))

    def _repair(self, draw: Draw) -> None:
        if not draw(rarely):
            self._see_shards(self._sales[-1])
        seen = _version(self._shards, draw(versions)) if self._shards else None
        after = replace(seen, stock=draw(st.integers(0, 9))) if seen else Shard.fresh(SALE, 1)
        sale = _version(self._sales, draw(versions))
        sales = (sale, replace(sale, revision=sale.revision + 1)) if draw(rarely) else None
        shards = {after.index: (seen, after)}
        if self._do("repair", lambda store: store.repair(ITEM, shards, sales)) is True and sales:
            self._sales.append(sales[1])

    # --- the other records ---

    def _put_others(self, draw: Draw) -> None:
        revision = _version(self._summaries, draw(versions)).revision + 1
        free = draw(st.dictionaries(st.integers(0, 2), st.integers(1, 9)))
        summary = StockSummary(ITEM, 0, revision=revision, published=revision, free=free)
        if self._do("put_summary", lambda store: store.put_summary(summary)) is True:
            self._summaries.append(summary)
        if draw(st.booleans()):
            self._do("replace_summary", lambda store: store.replace_summary(self._summaries[0]))
            self._summaries.append(self._summaries[0])
        payment = Payment(draw(st.sampled_from(REFERENCES)), "p1", draw(times))
        self._do("put_payment", lambda store: store.put_payment(payment))
        seen = _version(self._buyers, draw(versions))
        buyer = replace(seen, revision=seen.revision + 1)
        if self._do("put_buyer", lambda store: store.put_buyer(buyer)) is True:
            self._buyers.append(buyer)

    def _read_all(self, _draw: Draw) -> None:
        ids = [f"p{number}" for number in NUMBERS]
        who = [(1, "ann"), (2, "ann")]
        self._do("read_sale", lambda store: store.read_sale(ITEM))
        self._do("read_catalogue", lambda store: store.read_catalogue())
        self._do("read_sales", lambda store: store.read_sales([1, 2, 3]))
        self._do("read_summary", lambda store: store.read_summary(ITEM, 0))
        self._do("read_purchase", lambda store: store.read_purchase(ids[0]))
        self._do("read_purchases", lambda store: store.read_purchases(ids))
        self._do("read_payment", lambda store: store.read_payment(REFERENCES[0]))
        self._do("read_payments", lambda store: store.read_payments(REFERENCES))
        if self._records:
            self._do("read_buyer", lambda store: store.read_buyer(self._records[-1]))
        self._do("read_buyers", lambda store: store.read_buyers(ITEM, who))
        self._do("read_records", lambda store: _in_order(store.read_records(None, None, 1000)))
        self._do("read_records", lambda store: _in_order(store.read_records(ITEM, None, 1000)))

    def _damage(self, draw: Draw) -> None:
        """Change a record, past the store."""
        keys = [sale_key(ITEM), shard_key(ITEM, 0), purchase_key("p1")]
        place = {"TableName": TABLE, "Key": draw(st.sampled_from(keys))}
        damage = draw(st.sampled_from([None, *DAMAGES]))
        if damage is None:
            self._engines.call("delete_item", place)
        else:
            self._engines.call("update_item", place | damage)


def _version[Record](records: Sequence[Record], version: int) -> Record:
    return records[-1 - version % len(records)]


def _stored_shards(store: Store, sale: Sale) -> list[Shard]:
    """Return all shards that can be read, in order: each engine has an order of its own."""
    shards, _ = store.read_stored_shards(sale)
    return sorted(shards, key=lambda shard: shard.index)


def _in_order(page: Page) -> Page:
    return replace(
        page,
        purchases=sorted(page.purchases, key=lambda record: record.purchase_id),
        buyers=sorted(page.buyers, key=lambda buyer: (buyer.item_id, buyer.generation)),
        problems=sorted(page.problems),
        summaries=sorted(page.summaries, key=lambda summary: summary.part),
    )
