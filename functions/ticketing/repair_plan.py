"""What a repair writes: the state of the shards that the records of a sale say.

Purchases and holds on record are the truth, because buyers have seen them. A plan takes nothing
away from them, and puts no ticket on sale of which it is not known that it has no buyer. The sale's
capacity is what the organiser has asked for, and falls only where the organiser says so.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import replace
from typing import Final

from msgspec import Struct

from ticketing.limits import TRANSACTION_ACTIONS_MAX
from ticketing.model import Sale, Shard
from ticketing.rules import timestamp
from ticketing.tally import ShardTally, Tally, is_lost

_DROP: Final = "Send drop_unrecorded to take them off the sale."


class RepairPlan(Struct, frozen=True):
    """What a repair writes: all of it at once, or nothing.

    shards: index → as it was seen, None where it was missing, and as it will be. sale: its record
    as it will be; None: it stays. settled: the shards that agree with their records then, and None
    where their capacities add up to the sale's. open: what it cannot settle, and why. moving:
    shards that cannot be repaired while buyers change them, or others.
    """

    shards: Mapping[int, tuple[Shard | None, Shard]] = {}
    sale: Sale | None = None
    settled: Collection[int | None] = ()
    open: Sequence[str] = ()
    moving: Collection[int] = ()

    def changes(self) -> Iterator[str]:
        """Yield what it changes, shard by shard."""
        for index, (seen, after) in sorted(self.shards.items()):
            fields = [
                f"{name} {'none' if seen is None else getattr(seen, name)} → {value}"
                for name in ("capacity", "stock", "held", "sold", "sold_before", "slots")
                for value in [getattr(after, name)]
                if seen is None or getattr(seen, name) != value
            ]
            yield f"Shard {index}: {', '.join(fields)}."
        if self.sale is not None:
            yield f"The sale: its capacity is {self.sale.capacity}."


class _Draft(Struct):
    """A shard as it will be. is_lost: it is missing, or older than the sale.

    surplus: tickets that it counts as sold and that have no record. held_surplus: expiry slot →
    tickets that it counts as held, likewise. before_surplus: sold in earlier generations, likewise.
    """

    index: int
    seen: Shard | None
    is_lost: bool
    capacity: int
    sold: int
    sold_before: int
    slots: dict[int, int]
    surplus: int = 0
    held_surplus: dict[int, int] = {}
    before_surplus: int = 0

    @property
    def held(self) -> int:
        return sum(self.slots.values())

    @property
    def stock(self) -> int:
        return self.capacity - self.held - self.sold

    @property
    def miscounts_sold(self) -> bool:
        return not self.is_lost and self.seen is not None and self.seen.sold != self.sold

    @property
    def is_settled(self) -> bool:
        return not (self.surplus or self.held_surplus or self.before_surplus)

    def shard(self, sale: Sale, now: float) -> Shard:
        """Return the shard. One that was lost takes no hold whose time may be over."""
        before = self.seen
        if before is None or self.is_lost:
            before = replace(Shard.fresh(sale, self.index), reclaimed_until=int(now))
        after = replace(
            before,
            capacity=self.capacity,
            stock=self.stock,
            held=self.held,
            sold=self.sold,
            sold_before=self.sold_before,
            slots=self.slots,
        )
        return after if after == self.seen else replace(after, updated_at=timestamp(now))


def repair_plan(
    tally: Tally, sale: Sale, shards: Sequence[Shard], now: float, *, drop_unrecorded: bool
) -> RepairPlan:
    """Return how the shards become what the records say, after all records were counted by slot.

    shards: all that are stored, all of them readable, of a sale whose shards were all opened.
    drop_unrecorded: tickets that are counted without a record leave the sale's capacity.

    Shards that have changed since the count began are left out, and where there are such, also
    those that count too many or too few as sold: what one has too many may be what another lacks.
    """
    stored = {shard.index: shard for shard in shards}
    seen = {index: stored.get(index) for index in range(sale.shard_count)}
    moving = {index for index, shard in seen.items() if not tally.is_quiet(index, shard)}
    drafts = [
        _draft(sale, index, shard, tally.shards.get(index, ShardTally()), now)
        for index, shard in seen.items()
        if index not in moving
    ]
    if moving:
        moving |= {each.index for each in drafts if each.miscounts_sold}
        drafts = [each for each in drafts if each.index not in moving]
    of_others = sum(shard.capacity for i, shard in seen.items() if shard and i in moving)
    planner = _Planner(drafts, sale.capacity - of_others, drop_unrecorded)
    if not planner.run():
        return RepairPlan(open=planner.open, moving=moving)
    after = {draft.index: draft.shard(sale, now) for draft in planner.drafts}
    changed = {i: (seen[i], shard) for i, shard in after.items() if shard != seen[i]}
    capacity = planner.capacity + of_others
    if len(changed) + (capacity != sale.capacity) > TRANSACTION_ACTIONS_MAX:
        problem = "All shards and the sale's record would change, more than one transaction can."
        return RepairPlan(open=[*planner.open, problem], moving=moving)
    settled: set[int | None] = {each.index for each in planner.drafts if each.is_settled}
    if sum(draft.capacity for draft in planner.drafts) == planner.capacity:
        settled.add(None)
    changed_sale = None if capacity == sale.capacity else replace(sale, capacity=capacity)
    return RepairPlan(changed, changed_sale, settled, planner.open, moving)


def _draft(sale: Sale, index: int, seen: Shard | None, counted: ShardTally, now: float) -> _Draft:
    """Return a shard as its records say, with all that it counts besides as a surplus.

    Slots that are over stay as they are: their tickets are free.
    """
    live = {slot: tickets for slot, tickets in counted.held.items() if slot > now}
    if seen is None or is_lost(sale, index, seen):
        return _Draft(index, seen, True, 0, counted.taken, counted.taken_before, live)
    slots = {
        slot: max(0, live.get(slot, 0), seen.slots.get(slot, 0))
        for slot in sorted(seen.slots.keys() | live.keys())
    }
    held_surplus = {
        slot: tickets - live.get(slot, 0)
        for slot, tickets in slots.items()
        if slot > now and tickets > live.get(slot, 0)
    }
    before = max(counted.taken_before, seen.sold_before)
    return _Draft(
        index,
        seen,
        False,
        seen.capacity,
        counted.taken,
        before,
        slots,
        max(0, seen.sold - counted.taken),
        held_surplus,
        before - counted.taken_before,
    )


class _Planner(Struct):
    """Makes drafts add up. capacity: of all of them together, as the sale has it."""

    drafts: list[_Draft]
    capacity: int
    drop: bool
    open: list[str] = []

    def run(self) -> bool:
        """Settle what can be. False: nothing can, because more is sold than there is."""
        self._explain()
        self._mend_capacities()
        for draft in self.drafts:
            self._settle_surplus(draft)
        return self._settle_capacity()

    def _explain(self) -> None:
        """Take off the surplus what other shards lack: those tickets are in the wrong shard."""
        lacking = sum(
            max(0, draft.sold - draft.seen.sold)
            for draft in self.drafts
            if draft.seen and not draft.is_lost
        )
        for draft in self.drafts:
            explained = min(draft.surplus, lacking)
            draft.surplus -= explained
            lacking -= explained

    def _mend_capacities(self) -> None:
        """Give each shard the capacity of its tickets, where only then they add up to the sale's.

        Of a shard that is lost nothing is known but its records.
        """
        present = [draft.seen for draft in self.drafts if draft.seen and not draft.is_lost]
        if len(present) < len(self.drafts):
            for draft in self.drafts:
                if draft.is_lost:
                    draft.capacity = draft.held + draft.sold
        elif sum(shard.capacity for shard in present) != self.capacity:
            tickets = [shard.stock + shard.held + shard.sold for shard in present]
            if sum(tickets) == self.capacity:
                for draft, count in zip(self.drafts, tickets, strict=True):
                    draft.capacity = count

    def _settle_surplus(self, draft: _Draft) -> None:
        """Drop what a shard counts without a record, or keep and report it."""
        shard, held = f"Shard {draft.index}", sum(draft.held_surplus.values())
        if self.drop:
            draft.capacity -= draft.surplus + held
            draft.sold_before -= draft.before_surplus
            for slot, tickets in draft.held_surplus.items():
                draft.slots[slot] -= tickets
            draft.surplus, draft.held_surplus, draft.before_surplus = 0, {}, 0
            return
        draft.sold += draft.surplus
        if draft.surplus:
            self.open.append(f"{shard}: {draft.surplus} sold tickets have no record. {_DROP}")
        if held:
            self.open.append(f"{shard}: {held} held tickets have no record. {_DROP}")
        if draft.before_surplus:
            self.open.append(
                f"{shard}: {draft.before_surplus} tickets sold in earlier generations have no "
                "record. Send drop_unrecorded to forget them."
            )

    def _settle_capacity(self) -> bool:
        """Make the shards' capacities add up to the sale's."""
        rest = self.capacity - sum(draft.capacity for draft in self.drafts)
        lost = [draft for draft in self.drafts if draft.is_lost]
        if rest > 0 and self.drop:
            self.capacity -= rest
        elif rest > 0 and lost:
            indexes = ", ".join(str(draft.index) for draft in lost)
            self.open.append(f"Missing shards ({indexes}): {rest} tickets have no record. {_DROP}")
            self.drafts = [draft for draft in self.drafts if not draft.is_lost]
        elif rest > 0:
            self.open.append(f"The shards have {rest} tickets fewer than the sale. {_DROP}")
        elif rest < 0 and not lost and not self.drop:
            self.open.append(f"The shards have {-rest} tickets more than the sale. {_DROP}")
            rest = 0
        return self._share(too_many=max(0, -rest))

    def _share(self, too_many: int) -> bool:
        """Move free tickets to shards that have sold more than they had, and take some off.

        too_many: how many to take off. False: too few are free.
        """
        lacking = {draft.index: -draft.stock for draft in self.drafts if draft.stock < 0}
        free = sum(draft.stock for draft in self.drafts if draft.stock > 0)
        needed = too_many + sum(lacking.values())
        if needed > free:
            self.open.append(
                f"{needed - free} more tickets are sold and held than there are. Raise the "
                "capacity by as many, and repair it again."
            )
            return False
        for draft in sorted(self.drafts, key=lambda draft: -draft.stock):
            if draft.stock > 0:
                given = min(draft.stock, needed)
                draft.capacity -= given
                needed -= given
            elif draft.index in lacking:
                draft.capacity += lacking[draft.index]
        return True
