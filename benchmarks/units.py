"""The cost of each outcome: store calls, write units, read units.

They are counted on the simulation's model, which counts them as AWS documents it. No emulator does:
DynamoDB Local bills some items of a writing transaction only, MiniStack no batch reads.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import simulation.world
from benchmarks.report import Progress
from simulation.dynamodb import DynamoDB
from ticketing.limits import HOLD_SECONDS_DEFAULT, LOOK_SECONDS
from ticketing.model import Bought, Held, Order, Purchase, SaleSettings
from ticketing.retry import Runtime
from ticketing.wiring import Services, build_services

ITEM: Final = 1
TICKETS: Final = 50
SHARDS: Final = 4
TABLE: Final = "tickets"
KEY: Final = "0123456789abcdef"
BUYER: Final = "buyer-42"
BILLED: Final = {
    "transact_write_items",
    "transact_get_items",
    "get_item",
    "batch_get_item",
    "put_item",
    "update_item",
}


@dataclass(frozen=True, slots=True)
class Units:
    """What an outcome costs."""

    outcome: str
    calls: int
    write_units: float
    read_units: float


class Metered:
    """A boto3 client that asks for the consumed capacity of every call, and adds it up.

    A call that fails does not tell it, so a cancelled transaction counts as a call only.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.reset()

    def reset(self) -> None:
        """Count from zero."""
        self.calls = 0
        self.write_units = 0.0
        self.read_units = 0.0

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if name not in BILLED:
            return attribute

        def call(**request: Any) -> Any:
            self.calls += 1
            answer = attribute(**request, ReturnConsumedCapacity="TOTAL")
            consumed = answer.get("ConsumedCapacity", [])
            for one in consumed if isinstance(consumed, list) else [consumed]:
                units = float(one["CapacityUnits"])
                if "write" in name or "put" in name or "update" in name:
                    self.write_units += units
                else:
                    self.read_units += units
            return answer

        return call


class CountedSale:
    """A sale on a metered client, in a process that has sold a ticket of it.

    services: of that process. now: the time by its clock, in seconds since the epoch.
    """

    def __init__(self, client: Any, table_name: str, limit: int | None = None) -> None:
        self.meter = Metered(client)
        self.now = 1_800_000_000.0
        self._table_name = table_name
        self.services = self.process(1)
        settings = SaleSettings(TICKETS, shard_count=SHARDS, per_buyer_limit=limit)
        self.services.organiser.reset(ITEM, settings)
        self.buy(buyer="another")
        self.meter.reset()

    def process(self, seed: int) -> Services:
        """Return the use cases of a new process. seed: of its random numbers."""
        runtime = Runtime(lambda: self.now, random.Random(seed), self._sleep)
        metered: Any = self.meter
        return build_services(metered, self._table_name, runtime)

    def order(
        self, quantity: int = 1, *, buyer: str = BUYER, key: str | None = None, hold: bool = False
    ) -> Order:
        """Return an order of the item."""
        return self.services.purchases.order(ITEM, quantity, buyer, key, is_hold=hold)

    def buy(self, quantity: int = 1, *, buyer: str = BUYER, key: str | None = None) -> Purchase:
        """Buy tickets. Raises AssertionError where they cannot be bought."""
        outcome = self.services.purchases.buy(self.order(quantity, buyer=buyer, key=key))
        if not isinstance(outcome, Bought):
            raise AssertionError(outcome)  # noqa: TRY004 - a bug
        return outcome.purchase

    def hold(self) -> Purchase:
        """Hold a ticket. Raises AssertionError where that is not possible."""
        outcome = self.services.purchases.buy(self.order(key=KEY, hold=True))
        if not isinstance(outcome, Held):
            raise AssertionError(outcome)  # noqa: TRY004 - a bug
        return outcome.hold

    def refuse(self, key: str | None = None) -> None:
        """Order a ticket that cannot be had. Raises AssertionError where it can."""
        outcome = self.services.purchases.buy(self.order(key=key))
        if isinstance(outcome, Bought | Held):
            raise AssertionError(outcome)  # noqa: TRY004 - a bug

    def sell_out(self) -> None:
        """Sell all tickets that are left, and let all caches grow old."""
        for _ in range(self.services.catalogue.inventory(ITEM).free):
            self.buy()
        self.now += 10

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


def _confirm(payment: str | None) -> Callable[[CountedSale], None]:
    def run(sale: CountedSale) -> None:
        hold = sale.hold()
        sale.services.holds.find(hold.purchase_id)
        sale.meter.reset()
        sale.services.holds.confirm(hold.purchase_id, payment)

    return run


def _confirm_late(sale: CountedSale) -> None:
    hold = sale.hold()
    sale.now += 2 * HOLD_SECONDS_DEFAULT
    sale.services.holds.find(hold.purchase_id)
    sale.meter.reset()
    sale.services.holds.confirm(hold.purchase_id, None)


def _release(sale: CountedSale) -> None:
    hold = sale.hold()
    sale.services.holds.find(hold.purchase_id)
    sale.meter.reset()
    sale.services.holds.release(hold.purchase_id)


def _refund(sale: CountedSale) -> None:
    purchase = sale.buy()
    sale.meter.reset()
    sale.services.refunds.refund(purchase.purchase_id, None, KEY)


def _reclaim(sale: CountedSale) -> None:
    """All tickets that are left belong to expired holds, as the process knows."""
    for _ in range(sale.services.catalogue.inventory(ITEM).free):
        sale.services.purchases.buy(sale.order(hold=True))
    sale.refuse()
    sale.now += HOLD_SECONDS_DEFAULT + 30
    sale.buy(10)  # of one shard
    sale.meter.reset()
    sale.buy(10)


def _limit_reached(sale: CountedSale) -> None:
    sale.buy(2)
    sale.meter.reset()
    sale.refuse()


def _sold_out(key: str | None) -> Callable[[CountedSale], None]:
    def run(sale: CountedSale) -> None:
        sale.sell_out()
        sale.refuse()
        sale.meter.reset()
        sale.refuse(key)

    return run


def _sold_out_by_summary(sale: CountedSale) -> None:
    sale.sell_out()
    sale.refuse()
    sale.now += LOOK_SECONDS
    process = sale.services
    for seed in range(2, 6):  # among them are some with the same part of the summary
        sale.services = sale.process(seed)
        sale.refuse()
    sale.services = process
    sale.meter.reset()
    sale.refuse()


def _sold_out_not_cached(sale: CountedSale) -> None:
    sale.sell_out()
    sale.meter.reset()
    sale.refuse()


def _inventory(sale: CountedSale) -> None:
    sale.services.catalogue.recent_inventory(ITEM)


def _inventory_cached(sale: CountedSale) -> None:
    sale.services.catalogue.recent_inventory(ITEM)
    sale.meter.reset()
    sale.services.catalogue.recent_inventory(ITEM)


# What the last request after `meter.reset()` costs, in a sale without and with a limit.
WITHOUT_LIMIT: Final[Mapping[str, Callable[[CountedSale], object]]] = {
    "a purchase": lambda sale: sale.buy(key=KEY),
    "a hold": lambda sale: sale.hold(),
    "its confirmation": _confirm(None),
    "its confirmation, with a payment": _confirm("pay-1"),
    "its release": _release,
    "its confirmation, too late": _confirm_late,
    "a purchase that reclaims expired holds": _reclaim,
    "a refund": _refund,
    "sold out, cached, no key": _sold_out(None),
    "sold out, cached, with a key": _sold_out(KEY),
    "sold out, seen by another process": _sold_out_by_summary,
    "sold out, not seen by any": _sold_out_not_cached,
    "`GET /inventory`, not cached": _inventory,
    "`GET /inventory`, cached": _inventory_cached,
}
WITH_LIMIT: Final[Mapping[str, Callable[[CountedSale], object]]] = {
    "a purchase, with a limit per buyer": lambda sale: sale.buy(key=KEY),
    "a hold, with a limit per buyer": lambda sale: sale.hold(),
    "its confirmation, with a limit per buyer": _confirm(None),
    "refused for the limit, no key": _limit_reached,
}
LIMIT: Final = 2
OUTCOMES: Final = (*WITHOUT_LIMIT, *WITH_LIMIT)


def count(outcome: str, client: Any, table_name: str) -> Metered:
    """Return what an outcome costs on a new, empty table."""
    if outcome in WITH_LIMIT:
        sale = CountedSale(client, table_name, LIMIT)
        WITH_LIMIT[outcome](sale)
    else:
        sale = CountedSale(client, table_name)
        WITHOUT_LIMIT[outcome](sale)
    return sale.meter


def rows(progress: Progress) -> Iterator[Units]:
    """Count each outcome on the model."""
    for outcome in OUTCOMES:
        progress(f"units of {outcome}")
        model = DynamoDB(simulation.world.World(seed=1))
        model.create_table(TABLE, "pk")
        metered = count(outcome, model.client(), TABLE)
        yield Units(outcome, metered.calls, metered.write_units, metered.read_units)


def markdown_table(units: Sequence[Units]) -> str:
    """Return the counts as a Markdown table."""
    lines = ["| outcome | store calls | write units | read units |", "|---|---:|---:|---:|"]
    lines += [
        f"| {each.outcome} | {each.calls} | {each.write_units:g} | {each.read_units:g} |"
        for each in units
    ]
    return "\n".join(lines)
