"""One simulated sale: from a seed to its history and the verdict on it."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, convert, structs

from proof.checker import check
from proof.history import AuditReport, Evidence, History, Violation
from proof.responses import STATUS_OK, body_of
from simulation.client import Client
from simulation.dynamodb import KEY_READ_UNITS, DynamoDB, Usage
from simulation.faults import ALL_FAULTS, Connection, Fault, Faults, Trouble
from simulation.fleet import COLD_START_SECONDS, Environment, Fleet, Overdue
from simulation.journal import Journal
from simulation.observer import Observer
from simulation.service import Call, FunctionLog, ServiceResponse, serve
from simulation.workload import HOLD_SECONDS, ITEM, Buyer, Callers
from simulation.world import EPOCH_SECONDS, EndlessError, World
from ticketing.limits import CACHE_SECONDS, CLOCK_SKEW_SECONDS
from ticketing.retry import Runtime
from ticketing.rules import make_order
from ticketing.wiring import Services, build_services

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TABLE: Final = "tickets"
# Between the first reset and the first buyer: longer than any cache.
LEAD_SECONDS: Final = 2 * CACHE_SECONDS
# Faults go on for so long after the rush. A caller's patience is longer.
FAULT_SECONDS: Final = 20.0
# An audit of a small sale takes many pages, too.
SCAN_PAGE_BYTES: Final = 8 * 1024
# A sale that has more events than these never ends. One buyer has about 50.
EVENTS_MAX: Final = 100_000
EVENTS_MAX_PER_BUYER: Final = 5_000

type Build = Callable[["DynamoDBClient", str, Runtime], Services]


class Setting(Struct, frozen=True):
    """What a sale is like.

    environments_max, start_seconds: of the functions, see `Fleet`. rush_seconds: in which the
    buyers arrive. resets: in the middle of the sale. key_read_units: see `DynamoDB`. chosen: the
    fields that were not drawn from the seed.
    """

    seed: int
    buyers: int
    tickets: int
    shards: int
    environments_max: int
    rush_seconds: float
    resets: int = 0
    start_seconds: float = COLD_START_SECONDS
    key_read_units: float = KEY_READ_UNITS
    faults: Faults = Faults()
    chosen: Mapping[str, int | float] = {}

    @classmethod
    def drawn(
        cls,
        seed: int,
        buyers: int,
        only: frozenset[Fault] = ALL_FAULTS,
        chosen: Mapping[str, int | float] | None = None,
    ) -> "Setting":
        """Return the setting of a seed.

        only: the faults that it may have. chosen: field → value that is not drawn.
        """
        draw = random.Random(f"{seed}/setting")
        faults = Faults.drawn(seed, only)
        drawn = {
            "tickets": max(1, round(buyers * draw.choice((0.1, 0.3, 0.5, 1.0, 3.0)))),
            "shards": draw.choice((1, 2, 4, 8, 16)),
            "environments_max": draw.choice((4, 16, 64, 1000)),
            "rush_seconds": draw.choice((0.05, 0.3, 1.0, 5.0)),
            "resets": draw.choice((1, 1, 2, 3)) if Fault.RESET in faults else 0,
        }
        chosen = chosen or {}
        content = {"seed": seed, "buyers": buyers, "faults": faults, "chosen": chosen}
        return convert({**drawn, **chosen, **content}, cls)


@dataclass(frozen=True, eq=False, slots=True)
class _Environment:
    """A simulated environment. log: None: it logs nothing."""

    services: Services
    connection: Connection
    log: FunctionLog | None

    @property
    def frozen_seconds(self) -> float:
        return self.connection.frozen_seconds

    def serve(self, call: Call, label: str) -> ServiceResponse:
        self.connection.serving = label
        return serve(call, self.services, self.log)


@dataclass(frozen=True, slots=True)
class SimulatedSale:
    """What happened, and what is wrong with it."""

    setting: Setting
    history: History
    violations: Sequence[Violation]
    usage: Usage
    faults: Counter[Fault]
    environments: int
    virtual_seconds: float
    events: int


def simulate(
    setting: Setting,
    build: Build = build_services,
    journal: Journal | None = None,
    buyers: Sequence[Buyer] | None = None,
    watch: Callable[[World, DynamoDB, Fleet], object] = lambda *_: None,
    *,
    log: list[dict[str, Any]] | None = None,
) -> SimulatedSale:
    """Run a sale to its end, and judge it. The same setting gives the same result.

    build: builds the use cases of an environment; a test may build broken ones. journal: notes all
    store calls. buyers: by default as many as the setting says, with plans drawn from its seed.
    watch: is called before the first buyer, to observe more. log: gets the functions' log lines.
    """
    world = World(setting.seed, EVENTS_MAX + EVENTS_MAX_PER_BUYER * setting.buyers)
    model = DynamoDB(world, setting.key_read_units, scan_page_bytes=SCAN_PAGE_BYTES)
    model.create_table(TABLE, "pk")
    observer = Observer(ITEM)
    model.observers.append(lambda key, before, after: observer.write(key, before, after, world.now))
    trouble = Trouble(world, setting.faults, journal)
    start = _starter(world, model, trouble, setting, build, log=log)
    fleet = Fleet(world, start, setting.environments_max, setting.start_seconds)
    callers = Callers(world, fleet, setting.faults)
    callers.reset(setting.tickets, setting.shards)
    world.sleep(LEAD_SECONDS)
    held_seconds = 2 * HOLD_SECONDS if Fault.HOLD in setting.faults else 0
    trouble.start(setting.rush_seconds + held_seconds + FAULT_SECONDS)
    watch(world, model, fleet)
    if buyers is None:
        callers.start(setting.buyers, setting.rush_seconds, setting.resets)
    else:
        callers.arrive(buyers)
    try:
        world.run()
        history = completed(world, callers)
    except EndlessError as error:
        history = callers.history()
        expected = "a sale that comes to its end"
        callers.failures.append(Violation("G6", "never_ends", expected, str(error)))
    return SimulatedSale(
        setting=setting,
        history=history,
        violations=_judged(history, observer, fleet, callers),
        usage=model.usage,
        faults=trouble.counts,
        environments=fleet.started,
        virtual_seconds=world.now,
        events=world.events,
    )


def _starter(
    world: World,
    model: DynamoDB,
    trouble: Trouble,
    setting: Setting,
    build: Build,
    *,
    log: list[dict[str, Any]] | None,
) -> Callable[[int], Environment]:
    """Return the function that starts an environment."""
    clocks = world.random("clocks")
    skew_max = CLOCK_SKEW_SECONDS if Fault.CLOCK_SKEW in setting.faults else 0.0

    def start(number: int) -> Environment:
        skew = EPOCH_SECONDS + clocks.uniform(0.0, skew_max)
        connection = Connection(number, world, model, trouble)
        client: Any = Client(connection.call)
        runtime = Runtime(
            clock=lambda: skew + world.now,
            random=world.random(f"environment {number}"),
            sleep=world.sleep,
        )
        own_log = None if log is None else FunctionLog(runtime.clock, log)
        return _Environment(build(client, TABLE, runtime), connection, own_log)

    return start


def _judged(
    history: History, observer: Observer, fleet: Fleet, callers: Callers
) -> list[Violation]:
    return [
        *check(history),
        *observer.judge(history, _keys(callers.buyers)),
        *_overdue(fleet.overdue),
        *callers.failures,
    ]


def _keys(buyers: Sequence[Buyer]) -> dict[str, str]:
    """Return purchase id → key of all buyers with a key."""
    unused = random.Random(0)
    return {
        make_order(ITEM, buyer.quantity, buyer.buyer_id, buyer.key, unused).purchase_id: buyer.key
        for buyer in buyers
        if buyer.key is not None
    }


def _overdue(requests: Sequence[Overdue]) -> list[Violation]:
    if not requests:
        return []
    first = requests[0]
    return [
        Violation(
            "G6",
            "over_its_budget",
            f"a request served in {first.seconds_max} s",
            f"{first.seconds:.3f} s",
            (Evidence(f"begun at {first.at:.3f} s", first.at, first.at + first.seconds),),
            len(requests),
        )
    ]


def completed(world: World, callers: Callers) -> History:
    """Buy all tickets that are left, and return the history, with what is seen at rest.

    That they can be bought shows that none is stranded; a refusal would be a violation of G2.
    """
    world.sleep(2 * HOLD_SECONDS)  # no hold lasts longer, extended ones neither
    left = callers.sample()
    callers.buy_the_rest(left.inventory.current_stock if left else 0)
    receipts = {
        attempt.receipt.purchase_id
        for request in callers.requests
        for attempt in request.attempts
        if attempt.receipt is not None
    }
    world.sleep(LEAD_SECONDS)
    lookups = tuple(callers.look_up(purchase_id) for purchase_id in sorted(receipts))
    audit = _whole_audit(callers)
    for shape in ("jsonl", "csv"):
        callers.export(shape)
    return structs.replace(
        callers.history(),
        lookups=lookups,
        final=callers.sample(),
        audit=audit,
    )


def _whole_audit(callers: Callers) -> AuditReport | None:
    """Return the last part of an audit, which has what all parts found; None without an answer."""
    query: dict[str, str] = {}
    while True:
        item = {"item_id": str(ITEM)}
        answer = callers.send(Call("GET /audit/{item_id}", path_parameters=item, query=query))
        if answer is None or answer.status_code != STATUS_OK:
            return None
        report = body_of(answer, AuditReport)
        if report.cursor is None:
            return report
        query = {"cursor": report.cursor}
