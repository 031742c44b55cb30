"""Real processes and threads on real engines: the stock is sold exactly, and each key buys once."""

import multiprocessing
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.integration.conftest import Engine
from tests.support import ITEM, World, create_table
from ticketing.catalogue import Catalogue
from ticketing.errors import Busy
from ticketing.rules import Bought, SoldOut
from ticketing.selling import BoxOffice
from ticketing.store import Store

PATIENCE_SECONDS = 90


@dataclass(frozen=True)
class Answer:
    """What one request heard, and when."""

    key: str
    started_at: float
    ended_at: float
    purchase_id: str | None  # None: sold out
    quantity: int
    replayed: bool


def connect(endpoint: str) -> Any:
    """A client as patient as two cores under 16 processes demand; the domain's own budget stays."""
    return boto3.client(
        "dynamodb", endpoint_url=endpoint, config=Config(read_timeout=30, retries={"total_max_attempts": 1})
    )


def buy(office: BoxOffice, key: str, quantity: int) -> Answer:
    """Buys as a client does: when it is busy, it comes back with the same key."""
    started_at = time.time()
    deadline = started_at + PATIENCE_SECONDS
    while True:
        try:
            outcome = office.buy(office.order(ITEM, quantity, None, key))
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
            quantity,
            replayed=bool(bought and bought.replayed),
        )


def work(endpoint: str, table: str, requests: Sequence[tuple[str, int]], start_at: float) -> list[Answer]:
    """One process: a function environment with a memory of its own."""
    office = BoxOffice(Store(connect(endpoint), table))
    time.sleep(max(0.0, start_at - time.time()))
    return [buy(office, key, quantity) for key, quantity in requests]


def peak(answers: Sequence[Answer]) -> int:
    """How many requests were under way at once, at most."""
    moves = sorted([(a.started_at, 1) for a in answers] + [(a.ended_at, -1) for a in answers])
    most = now = 0
    for _, move in moves:
        now += move
        most = max(most, now)
    return most


def assert_each_key_bought_once(answers: Sequence[Answer]) -> dict[str, int]:
    """purchase id → tickets; every key has one purchase, and at most one answer that calls itself the first."""
    purchases: dict[str, set[str | None]] = {}
    firsts: Counter[str] = Counter()
    for answer in answers:
        purchases.setdefault(answer.key, set()).add(answer.purchase_id)
        firsts[answer.key] += answer.purchase_id is not None and not answer.replayed
    for key, found in purchases.items():
        assert len(found) == 1, f"{key} heard {found}"
    assert max(firsts.values()) == 1
    return {answer.purchase_id: answer.quantity for answer in answers if answer.purchase_id}


@pytest.fixture(params=["dynamodb_local", "ministack"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def world(engine: Engine, table_name: str) -> World:
    client = connect(engine.endpoint)
    create_table(client, table_name)
    return World(client, table_name)


def run_processes(world: World, engine: Engine, shares: Sequence[Sequence[tuple[str, int]]]) -> list[Answer]:
    start_at = time.time() + 3
    with ProcessPoolExecutor(len(shares), mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(work, engine.endpoint, world.table, share, start_at) for share in shares]
        return [answer for future in futures for answer in future.result(timeout=300)]


def test_16_processes_2000_buyers_500_tickets_8_shards_every_request_in_duplicate(world: World, engine: Engine) -> None:
    """Each buyer's two requests go to two processes, at about the same time."""
    processes, buyers, tickets = 16, 2000, 500
    world.open_sale(stock=tickets, shards=8)
    keys = [f"buyer-{number:05}-{'k' * 10}" for number in range(buyers)]
    shares = [
        [(key, 1) for number, key in enumerate(keys) if process in {number % processes, (number + 5) % processes}]
        for process in range(processes)
    ]

    answers = run_processes(world, engine, shares)

    assert len(answers) == 2 * buyers
    assert peak(answers) >= processes // 2, "there was no concurrency to speak of"
    assert len(assert_each_key_bought_once(answers)) == tickets
    world.assert_exact(sold=tickets)


def test_quantities_from_many_processes_leave_nothing_behind(world: World, engine: Engine) -> None:
    world.open_sale(stock=300, shards=25)
    chance = random.Random(7)
    shares = [[(f"{process:02}-{n:03}-{'k' * 12}", chance.randint(1, 5)) for n in range(60)] for process in range(4)]
    singles = [[(f"{process:02}-{n:03}-{'s' * 12}", 1) for n in range(40)] for process in range(4)]

    answers = run_processes(world, engine, [few + one for few, one in zip(shares, singles, strict=True)])

    assert sum(assert_each_key_bought_once(answers).values()) == 300
    world.assert_exact(sold=300)


def test_resets_while_buyers_are_at_work_lose_and_double_nothing(world: World, engine: Engine) -> None:
    world.open_sale(stock=400, shards=8)
    shares = [[(f"{process:02}-{n:04}-{'k' * 12}", 1) for n in range(150)] for process in range(4)]
    catalogue = Catalogue(Store(connect(engine.endpoint), world.table))
    stopped = threading.Event()
    shard_counts = iter([1, 30, 4, 12] * 100)

    def reset_until_stopped() -> int:
        done = 0
        while not stopped.wait(0.7):
            catalogue.reset(ITEM, stock=400, item_name=None, shard_count=next(shard_counts))
            done += 1
        return done

    with ThreadPoolExecutor(1) as pool:
        resets = pool.submit(reset_until_stopped)
        try:
            answers = run_processes(world, engine, shares)
        finally:
            stopped.set()
        assert resets.result() >= 2, "the sale was over before it was reset"

    bought = assert_each_key_bought_once(answers)
    records = {record.purchase_id: record.generation for record in world.store.purchases(ITEM)}
    assert records.keys() == bought.keys()
    present = world.catalogue.inventory(ITEM).sale.generation
    world.assert_exact(sold=sum(generation == present for generation in records.values()))
    assert max(Counter(records.values()).values()) <= 400


@pytest.mark.parametrize("shared", [False, True], ids=["an office each", "one office"])
def test_threads(world: World, engine: Engine, shared: bool) -> None:
    world.open_sale(stock=100, shards=4)
    one = BoxOffice(world.store)
    offices: Callable[[], BoxOffice] = lambda: one if shared else BoxOffice(world.store)  # noqa: E731

    def run(number: int) -> list[Answer]:
        office = offices()
        return [buy(office, f"{number:02}-{n % 10:04}-{'t' * 12}", 1) for n in range(20)]

    with ThreadPoolExecutor(16) as pool:
        answers = [answer for found in pool.map(run, range(16)) for answer in found]

    assert peak(answers) >= 8
    assert len(assert_each_key_bought_once(answers)) == 100
    world.assert_exact(sold=100)
