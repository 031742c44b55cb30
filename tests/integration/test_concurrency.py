"""Threads on real engines: the stock is sold exactly, each key buys once.

Processes: see `test_crashes`.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.integration.conftest import Engine, opened
from tests.support import END_SECONDS_MAX, ITEM, World
from ticketing.buying import PurchaseService
from ticketing.errors import Busy
from ticketing.limits import HOLD_SECONDS_MIN
from ticketing.model import Bought, Held, LimitReached, Outcome, SoldOut
from ticketing.wiring import Services, build_services


@dataclass(frozen=True)
class Answer:
    """The answer to one request, and its times."""

    key: str
    started_at: float
    ended_at: float
    purchase_id: str | None  # None: sold out
    replayed: bool


def buy(service: PurchaseService, key: str) -> Answer:
    """Buy as a client does: after "busy", try again with the same key."""
    started_at = time.time()
    deadline = started_at + END_SECONDS_MAX
    while True:
        try:
            outcome = service.buy(service.order(ITEM, 1, None, key))
        except Busy:
            if time.time() > deadline:
                raise
            time.sleep(random.uniform(0.1, 0.5))
            continue
        bought = outcome if isinstance(outcome, Bought) else None
        assert bought or isinstance(outcome, SoldOut)
        return Answer(
            key,
            started_at,
            time.time(),
            bought.purchase.purchase_id if bought else None,
            replayed=bool(bought and bought.replayed),
        )


def peak(answers: Sequence[Answer]) -> int:
    """Return the most requests in flight at once."""
    moves = sorted([(a.started_at, 1) for a in answers] + [(a.ended_at, -1) for a in answers])
    most = now = 0
    for _, move in moves:
        now += move
        most = max(most, now)
    return most


def purchases_of(answers: Sequence[Answer]) -> set[str]:
    """Return the ids of all purchases.

    Asserts that every key has one purchase, and at most one answer that is not a replay.
    """
    purchases: dict[str, set[str | None]] = {}
    firsts: Counter[str] = Counter()
    for answer in answers:
        purchases.setdefault(answer.key, set()).add(answer.purchase_id)
        firsts[answer.key] += answer.purchase_id is not None and not answer.replayed
    for key, found in purchases.items():
        assert len(found) == 1, f"{key} was answered {found}"
    assert max(firsts.values()) == 1
    return {answer.purchase_id for answer in answers if answer.purchase_id}


@pytest.fixture
def world(engine: Engine, table_name: str) -> World:
    return opened(engine, table_name)


@pytest.mark.G1
@pytest.mark.G2
@pytest.mark.G3
@pytest.mark.G4
@pytest.mark.parametrize("shared", [False, True], ids=["a service each", "one service"])
def test_threads(world: World, engine: Engine, shared: bool) -> None:
    world.open_sale(stock=100, shards=4)
    one = build_services(world.client, world.table_name).purchases
    start = threading.Barrier(16)

    def run(number: int) -> list[Answer]:
        service = one if shared else build_services(world.client, world.table_name).purchases
        start.wait(END_SECONDS_MAX)
        return [buy(service, f"{number:02}-{n % 10:04}-{'t' * 12}") for n in range(20)]

    with ThreadPoolExecutor(16) as pool:
        answers = [answer for found in pool.map(run, range(16)) for answer in found]

    assert peak(answers) >= 8
    assert len(purchases_of(answers)) == 100
    world.assert_exact(sold=100)


@pytest.mark.G1
@pytest.mark.G4
def test_parallel_purchases_of_buyer(world: World, engine: Engine) -> None:
    """20 at once by one buyer with 20 keys, on 8 shards, with a limit of 2: exactly 2 are made."""
    world.open_sale(stock=40, shards=8, limit=2)
    start = threading.Barrier(20)

    def run(number: int) -> Outcome:
        service = build_services(world.client, world.table_name).purchases
        order = service.order(ITEM, 1, "buyer-42", f"{number:02}-{'t' * 16}", is_hold=number < 10)
        start.wait(END_SECONDS_MAX)
        return patient(service.buy, order)

    with ThreadPoolExecutor(20) as pool:
        outcomes = Counter(type(outcome) for outcome in pool.map(run, range(20)))
    assert outcomes[Bought] + outcomes[Held] == 2
    assert outcomes[LimitReached] == 18
    world.assert_exact(sold=outcomes[Bought])
    assert world.audit().problems == []


def patient[**Arguments, Result](
    call: Callable[Arguments, Result], *args: Arguments.args, **named: Arguments.kwargs
) -> Result:
    """Return the result of a call that is sent again after "busy"."""
    deadline = time.time() + END_SECONDS_MAX
    while True:
        try:
            return call(*args, **named)
        except Busy:
            assert time.time() < deadline


HALL = 140  # tickets


def break_hall(world: World) -> None:
    """Break a sale of which some is sold and held, in each way that a repair mends by itself.

    Tickets without a counter are not among them: until they are repaired they can be sold again.
    """
    sale = world.store.read_sale(ITEM)
    assert sale
    shards = {shard.index: shard for shard in world.store.read_stored_shards(sale)[0]}
    full = [shard for shard in shards.values() if shard.sold > 1]
    stranded, one, other = full[:3]
    world.tamper(pk_of(stranded.index), stock=stranded.stock - 5)
    world.tamper(pk_of(one.index), sold=one.sold - 1, stock=one.stock + 1, updated=1)
    world.tamper(pk_of(other.index), sold=other.sold + 1, stock=other.stock - 1)
    world.lose(f"item#{ITEM}#{sale.generation}#buyer#early-0")
    world.lose("payment#early-1")


def pk_of(index: int) -> str:
    return f"item#{ITEM}#stock#{index:02}"


def repair_all(services: Services) -> None:
    """Repair until there is nothing left to repair."""
    deadline = time.time() + END_SECONDS_MAX
    while True:
        result = patient(services.repairs.repair, ITEM, apply=True)
        if not result.problems and not result.repaired:
            return
        assert time.time() < deadline, result.problems


@pytest.mark.G1
@pytest.mark.G2
@pytest.mark.G4
@pytest.mark.parametrize("engine", ["dynamodb_local"], indirect=True)
def test_repair_among_buyers(world: World, engine: Engine) -> None:
    """Fifty buyers, and a broken sale that is audited and repaired beside them: no purchase fails,
    and all tickets are sold exactly, those that were stranded too.
    """
    world.open_sale(stock=HALL, shards=8, hold_seconds=HOLD_SECONDS_MIN, limit=10)
    early = build_services(world.client, world.table_name)
    for number in range(20):
        order = early.purchases.order(ITEM, 2, f"early-{number}", None, is_hold=number < 4)
        outcome = early.purchases.buy(order)
        if isinstance(outcome, Held):
            early.holds.confirm(outcome.hold.purchase_id, f"early-{number}")
    break_hall(world)
    repaired, start = threading.Event(), threading.Barrier(51)

    def shop(number: int) -> int:
        services, bought = build_services(world.client, world.table_name).purchases, 0
        start.wait(END_SECONDS_MAX)
        while True:
            is_last = repaired.is_set()
            order = services.order(ITEM, 1, f"buyer-{number}", None)
            outcome = patient(services.buy, order)
            if isinstance(outcome, Bought):
                bought += 1
            elif is_last or isinstance(outcome, LimitReached):
                return bought

    with ThreadPoolExecutor(50) as pool:
        shoppers = [pool.submit(shop, number) for number in range(50)]
        start.wait(END_SECONDS_MAX)
        try:
            repair_all(build_services(world.client, world.table_name))
        finally:
            repaired.set()
        bought = sum(shopper.result() for shopper in shoppers)
    assert bought == HALL - 40
    assert world.audit().problems == []
    world.assert_exact(sold=HALL)
