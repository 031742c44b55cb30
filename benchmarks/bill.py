"""The bill of a sale, and the quotas that it needs: arithmetic alone, on what was measured."""

import math
from collections.abc import Callable, Iterator, Mapping, Set
from enum import StrEnum
from typing import Final

from msgspec import Struct

from benchmarks import cases, prices
from benchmarks.prices import Price
from benchmarks.traffic import Traffic, access_log_bytes
from benchmarks.units import Units
from simulation import latency
from simulation.fleet import COLD_START_SECONDS
from ticketing.limits import CACHE_SECONDS

# The template's functions: memory, and the share of a core that Lambda gives with it, which has a
# whole one at 1,769 MB (https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html).
MEMORY_GB: Final = 1.0
CORE: Final = 1024 / 1769
# Those with SnapStart: a published version of each is kept as a snapshot.
SNAPSHOTS: Final = 3
# The template's limits, by default: requests a second, and at once.
PARAMETERS: Final = {"RateLimit": 10_000, "BurstLimit": 5_000, "InventoryRateLimit": 1_000}
ROUNDING_SECONDS: Final = 0.0005  # a request is billed in whole milliseconds: half of one more
GATEWAY_METRICS: Final = 5  # of a route: Count, 4XXError, 5XXError, Latency, IntegrationLatency
ITEM_OVERHEAD_BYTES: Final = 100  # of each stored item
CONFIRMATION_UNITS: Final = "its confirmation, with a payment"
# A confirmation reads the hold and writes a transaction.
CONFIRMATION_SECONDS: Final = latency.PLAIN_SECONDS + latency.TRANSACTION_SECONDS
# An inventory that is not cached reads the sale, and then all shards.
INVENTORY_SECONDS: Final = latency.PLAIN_SECONDS + latency.BATCH_SECONDS
INVENTORY_CALLS: Final = 2
# An environment answers so many `GET /inventory` with what it read once.
READS_PER_SNAPSHOT: Final = prices.REQUESTS_PER_ENVIRONMENT_MAX * CACHE_SECONDS


class PricedSale(Struct, frozen=True):
    """A sale whose bill is wanted.

    peak: buyers a second from the opening until the last ticket is sold; the others come evenly
    until the end. reads: `GET /inventory` of each buyer. is_held: tickets are held and paid for;
    otherwise they are bought at once.
    """

    buyers: int
    tickets: int
    minutes: float
    peak: int
    shards: int
    reads: int
    is_held: bool = False

    @property
    def sold(self) -> int:
        """Return how many tickets are sold."""
        return min(self.buyers, self.tickets)

    @property
    def order(self) -> str:
        """Return the case of an order that gets its tickets."""
        return cases.HOLD if self.is_held else cases.PURCHASE


class OrderCost(Struct, frozen=True):
    """What an order costs on average, until it has its definite answer.

    requests: at the gateway. served: those that reached a function. calls: of the store.
    serving_seconds: how long functions wait for the store.
    """

    requests: float
    served: float
    calls: float
    serving_seconds: float
    write_units: float
    read_units: float


class Rush(Struct, frozen=True):
    """What the simulation measured of a sale.

    opening: an order until the last ticket was sold. orders_per_ticket: how many came until then.
    late: an order in the second after that. late_orders: how many came in it. refused: a later
    order. environments: those that were started. throttled: share of the opening's requests that
    found none, and were answered with 429.
    """

    opening: OrderCost
    orders_per_ticket: float
    late: OrderCost
    late_orders: int
    refused: OrderCost
    environments: int
    throttled: float


class Costs(Struct, frozen=True):
    """What requests cost, measured by the other benchmarks.

    cpu_seconds, traffic: of each case in `cases`; the bare store call has CPU only. units: of each
    outcome in `units`.
    """

    cpu_seconds: Mapping[str, float]
    traffic: Mapping[str, Traffic]
    units: Mapping[str, Units]


class BillLine(Struct, frozen=True):
    """A line of the bill. amount, price: with their units."""

    service: str
    what: str
    amount: str
    price: str
    dollars: float

    @classmethod
    def of(cls, price: Price, what: str, quantity: float) -> "BillLine":
        """Return what so many units cost."""
        amount, dollars = price.amount(quantity), round(price.of(quantity), 4)
        return cls(price.service, what, amount, price.text, dollars)


class _Group(Struct, frozen=True):
    """Orders with the same outcome: how many, what each costs, and what its requests send."""

    orders: int
    each: OrderCost
    traffic: Traffic
    cpu_seconds: float


def lines(sale: PricedSale, rush: Rush, costs: Costs) -> list[BillLine]:
    """Return the bill of the sale itself."""
    groups = list(_groups(sale, rush, costs))

    def total(of: Callable[[_Group], float]) -> float:
        return sum(group.orders * of(group) for group in groups)

    requests = total(lambda group: group.each.requests)
    served = total(lambda group: group.each.served)
    log_bytes = total(lambda group: group.each.served * group.traffic.log_bytes)
    response_bytes = total(lambda group: group.each.requests * group.traffic.response_bytes)
    starts = rush.environments + inventory_environments(sale)
    started = f"starting {starts:,} environments"
    traced = min(requests, sale.minutes * 60 * prices.TRACES_PER_SECOND)
    traced += prices.TRACED_SHARE * (requests - traced)
    of = BillLine.of
    return [
        of(prices.GATEWAY_REQUESTS, "requests", requests),
        of(prices.LAMBDA_REQUESTS, "requests", served),
        of(prices.LAMBDA_SECONDS, "serving them", total(_billed_seconds) * MEMORY_GB),
        of(prices.LAMBDA_SECONDS, started, starts * COLD_START_SECONDS * MEMORY_GB),
        of(prices.SNAPSHOT_RESTORES, "from their snapshots", starts * MEMORY_GB),
        of(
            prices.WRITE_UNITS,
            "purchases, conflicts, summaries",
            total(lambda group: group.each.write_units),
        ),
        of(
            prices.READ_UNITS,
            "refusals, inventories, summaries",
            total(lambda group: group.each.read_units),
        ),
        of(
            prices.LOGS,
            "log lines of functions and gateway",
            log_bytes + requests * access_log_bytes(),
        ),
        _metrics(sale, {name for group in groups for name in group.traffic.metrics}),
        of(prices.TRACES, "one a second, and 5 % of the others", traced),
        of(prices.TRANSFER, "responses", response_bytes),
    ]


def _billed_seconds(group: _Group) -> float:
    """Return how long Lambda bills an order of the group."""
    return (
        group.each.serving_seconds + group.cpu_seconds / CORE + group.each.served * ROUNDING_SECONDS
    )


def _metrics(sale: PricedSale, names: Set[str]) -> BillLine:
    """Return the line of the custom metrics, which are billed by the hour."""
    hours = math.ceil(sale.minutes / 60)
    routes = 3 if sale.is_held else 2  # orders, their confirmation, the inventory
    metrics = len(names) + 1 + GATEWAY_METRICS * routes  # any order may add to "Conflicts" as well
    months = metrics * hours / prices.HOURS_PER_MONTH
    return BillLine.of(prices.METRIC_MONTHS, f"{metrics} metrics for {hours} h", months)


def standing(sale: PricedSale, costs: Costs) -> list[BillLine]:
    """Return what the deployed sale costs in a month in which no buyer comes."""
    stored = sale.sold * (costs.traffic[sale.order].record_bytes + ITEM_OVERHEAD_BYTES)
    seconds = prices.HOURS_PER_MONTH * 3600
    return [
        BillLine.of(
            prices.SNAPSHOT_SECONDS,
            f"snapshots of {SNAPSHOTS} functions, one version of each",
            SNAPSHOTS * MEMORY_GB * seconds,
        ),
        BillLine.of(prices.STORED_MONTHS, "purchase records", stored),
        BillLine.of(prices.BACKUP_MONTHS, "their point-in-time recovery", stored),
    ]


def inventory_environments(sale: PricedSale) -> int:
    """Return how many environments the readers of the opening need."""
    return math.ceil(sale.peak * sale.reads / prices.REQUESTS_PER_ENVIRONMENT_MAX)


def order_environments(sale: PricedSale, rush: Rush) -> int:
    """Return how many environments the orders of the opening need, once they have started."""
    served = sale.peak * rush.opening.served
    busy = sale.peak * rush.opening.serving_seconds
    return math.ceil(max(busy, served / prices.REQUESTS_PER_ENVIRONMENT_MAX))


def _groups(sale: PricedSale, rush: Rush, costs: Costs) -> Iterator[_Group]:
    """Yield everything that the buyers order and read."""
    cpu = costs.cpu_seconds
    bare, refusal = cpu[cases.BARE], cpu[cases.REFUSAL]
    opening = min(sale.buyers, round(sale.sold * rush.orders_per_ticket))
    sold = sale.sold / opening
    # A purchase was measured with its one call.
    seconds = sold * (cpu[sale.order] - bare) + (1 - sold) * refusal + rush.opening.calls * bare
    yield _Group(opening, rush.opening, costs.traffic[sale.order], seconds)
    refused = sale.buyers - opening
    late = min(refused, rush.late_orders)
    for orders, each in ((late, rush.late), (refused - late, rush.refused)):
        traffic = costs.traffic[cases.REFUSAL_WITH_KEY]
        yield _Group(orders, each, traffic, refusal + each.calls * bare)
    if sale.is_held:
        units = costs.units[CONFIRMATION_UNITS]
        each = OrderCost(
            requests=1,
            served=1,
            calls=units.calls,
            serving_seconds=CONFIRMATION_SECONDS,
            write_units=units.write_units,
            read_units=units.read_units,
        )
        seconds = cpu[cases.CONFIRMATION]
        yield _Group(sale.sold, each, costs.traffic[cases.CONFIRMATION], seconds)
    read = _inventory_read(sale)
    seconds = cpu[cases.INVENTORY] + read.calls * bare
    yield _Group(sale.buyers * sale.reads, read, costs.traffic[cases.INVENTORY], seconds)


def _inventory_read(sale: PricedSale) -> OrderCost:
    """Return what a `GET /inventory` costs, with its share of what is read for all of them."""
    uncached = 1 / READS_PER_SNAPSHOT
    return OrderCost(
        requests=1,
        served=1,
        calls=uncached * INVENTORY_CALLS,
        serving_seconds=uncached * INVENTORY_SECONDS,
        write_units=0,
        read_units=uncached * (1 + sale.shards),
    )


class Remedy(StrEnum):
    """What to do where a quota is too small."""

    ASK = "ask AWS to raise it"
    PARAMETER = "set the template's parameter"
    WARM_TABLE = "set the table's WarmThroughput"
    WARM_UP = "it cannot be raised: warm up"


class Quota(Struct, frozen=True):
    """A limit of AWS or of the template. need: of this sale. has: by default.

    is_cacheable: readers of the inventory are the most of it, and a cache would answer them.
    """

    what: str
    need: int
    has: int
    remedy: Remedy
    is_cacheable: bool = False

    @property
    def is_enough(self) -> bool:
        """Return whether the default is enough."""
        return self.need <= self.has


def quotas(sale: PricedSale, rush: Rush) -> list[Quota]:
    """Return what the opening of the sale needs, and what there is by default."""
    return [*_gateway_quotas(sale, rush), *_lambda_quotas(sale, rush), *_table_quotas(sale, rush)]


def _gateway_quotas(sale: PricedSale, rush: Rush) -> Iterator[Quota]:
    orders, reads = math.ceil(sale.peak * rush.opening.requests), sale.peak * sale.reads
    every, burst = orders + reads, "API Gateway: requests at once (burst), orders of one second"
    yield Quota(
        "API Gateway: requests a second in the Region",
        every,
        prices.GATEWAY_RATE_QUOTA,
        Remedy.ASK,
        is_cacheable=True,
    )
    yield Quota(burst, orders, prices.GATEWAY_BURST_QUOTA, Remedy.ASK)
    for parameter, need in (("RateLimit", every), ("BurstLimit", orders)):
        has = PARAMETERS[parameter]
        yield Quota(f"Template: {parameter}", need, has, Remedy.PARAMETER)
    has = PARAMETERS["InventoryRateLimit"]
    yield Quota("Template: InventoryRateLimit", reads, has, Remedy.PARAMETER, is_cacheable=True)


def _lambda_quotas(sale: PricedSale, rush: Rush) -> Iterator[Quota]:
    ordering = order_environments(sale, rush)
    yield Quota(
        "Lambda: environments in the Region",
        ordering + inventory_environments(sale),
        prices.CONCURRENCY_QUOTA,
        Remedy.ASK,
        is_cacheable=True,
    )
    # While one starts, each request starts another one.
    yield Quota(
        f"Lambda: new environments of one function in {prices.NEW_ENVIRONMENTS_SECONDS} s",
        math.ceil(sale.peak * COLD_START_SECONDS) + ordering,
        prices.NEW_ENVIRONMENTS_MAX,
        Remedy.WARM_UP,
    )


def table_units(sale: PricedSale, rush: Rush) -> tuple[int, int]:
    """Return how many write units and read units a second the opening takes."""
    reads = rush.opening.read_units + sale.reads * _inventory_read(sale).read_units
    return math.ceil(sale.peak * rush.opening.write_units), math.ceil(sale.peak * reads)


def _table_quotas(sale: PricedSale, rush: Rush) -> Iterator[Quota]:
    writes, reads = table_units(sale, rush)
    quota = prices.TABLE_UNITS_QUOTA
    for table, writes_max, reads_max, remedy in (
        ("a new table", prices.NEW_TABLE_WRITES_MAX, prices.NEW_TABLE_READS_MAX, Remedy.WARM_TABLE),
        ("any table", quota, quota, Remedy.ASK),
    ):
        yield Quota(f"DynamoDB: write units a second of {table}", writes, writes_max, remedy)
        what = f"DynamoDB: read units a second of {table}"
        yield Quota(what, reads, reads_max, remedy, is_cacheable=True)
