"""One simulated sale: from a seed to its history and the verdict on it."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from proof.checker import check
from proof.history import AuditReport, History, Inventory, Reset, Violation
from proof.responses import STATUS_OK, body_of
from simulation.dynamodb import DynamoDB, Usage
from simulation.fleet import Fleet
from simulation.service import Call
from simulation.workload import ITEM, Callers
from simulation.world import EPOCH_SECONDS, World
from ticketing.limits import CACHE_SECONDS
from ticketing.retry import Runtime
from ticketing.wiring import Services, build_services

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TABLE: Final = "tickets"
# Between the first reset and the first buyer: longer than any cache.
LEAD_SECONDS: Final = 2 * CACHE_SECONDS


class Setting(Struct, frozen=True):
    """What a sale is like.

    environments_max: of the functions. rush_seconds: in which the buyers arrive.
    """

    seed: int
    buyers: int
    tickets: int
    shards: int
    environments_max: int
    rush_seconds: float

    @classmethod
    def drawn(cls, seed: int, buyers: int) -> "Setting":
        """Return the setting of a seed."""
        draw = random.Random(f"{seed}/setting")
        tickets = max(1, round(buyers * draw.choice((0.1, 0.3, 0.5, 1.0, 3.0))))
        return cls(
            seed=seed,
            buyers=buyers,
            tickets=tickets,
            shards=draw.choice((1, 2, 4, 8, 16)),
            environments_max=draw.choice((2, 8, 32, 1000)),
            rush_seconds=draw.choice((0.05, 0.3, 1.0, 5.0)),
        )


@dataclass(frozen=True, slots=True)
class SimulatedSale:
    """What happened, and what is wrong with it."""

    setting: Setting
    history: History
    violations: list[Violation]
    usage: Usage
    environments: int
    virtual_seconds: float
    events: int


type Build = Callable[["DynamoDBClient", str, Runtime], Services]


def simulate(setting: Setting, build: Build = build_services) -> SimulatedSale:
    """Run a sale to its end, and judge it. The same setting gives the same result.

    build: builds the use cases of an environment; a test may build broken ones.
    """
    world = World(setting.seed)
    model = DynamoDB(world)
    model.create_table(TABLE, "pk")

    def start(number: int) -> Services:
        runtime = Runtime(
            clock=lambda: EPOCH_SECONDS + world.now,
            random=world.random(f"environment {number}"),
            sleep=world.sleep,
        )
        return build(model.client(), TABLE, runtime)

    fleet = Fleet(world, start, setting.environments_max)
    callers = Callers(world, fleet)
    reset = _reset(world, callers, setting)
    world.sleep(LEAD_SECONDS)
    callers.start(setting.buyers, setting.rush_seconds)
    world.run()
    history = _completed(callers, reset)
    return SimulatedSale(
        setting=setting,
        history=history,
        violations=check(history),
        usage=model.usage,
        environments=fleet.started,
        virtual_seconds=world.now,
        events=world.events,
    )


def _reset(world: World, callers: Callers, setting: Setting) -> Reset:
    body = {"item_id": ITEM, "stock": setting.tickets, "shards": setting.shards}
    started_at = world.now
    response = callers.send(Call("POST /reset", body, key="the-first-reset-of-this-sale"))
    if response is None or response.status_code != STATUS_OK:
        raise RuntimeError(f"the first reset got {response}")
    generation = body_of(response, Inventory).generation
    return Reset(generation, setting.tickets, started_at, world.now)


def _completed(callers: Callers, reset: Reset) -> History:
    """Return the history, with what is seen at rest."""
    receipts = {
        attempt.receipt.purchase_id
        for request in callers.requests
        for attempt in request.attempts
        if attempt.receipt is not None
    }
    final = callers.sample()
    audit = callers.send(Call("GET /audit/{item_id}", path_parameters={"item_id": str(ITEM)}))
    return History(
        requests=tuple(callers.requests),
        resets=(reset,),
        samples=tuple(callers.samples),
        lookups=tuple(callers.look_up(purchase_id) for purchase_id in sorted(receipts)),
        final=final,
        audit=body_of(audit, AuditReport) if audit and audit.status_code == STATUS_OK else None,
        cache_seconds=CACHE_SECONDS,
    )
