"""Our function against other ways to sell tickets on one machine: requests a second, interleaved.

Each way is a server on loopback with processes of its own, and all get the same requests from the
same client. Ours has MiniStack beneath, an emulator in Python, for there is no DynamoDB here; those
of the original have PostgreSQL. So the figures compare machines of one kind, and not AWS.
"""

import tempfile
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.crowd import Crowd
from benchmarks.report import Progress, Row
from benchmarks.servers import (
    BareSale,
    DynamoDBSale,
    PostgresSale,
    Shop,
    postgres,
    serving,
)
from local.ministack import MiniStack
from local.process import free_port

ROUNDS: Final = 5
IN_FLIGHT: Final = 100
CROWDS: Final = {
    "storm": Crowd(buyers=1000, tickets=100, in_flight=IN_FLIGHT),
    "sale": Crowd(buyers=2000, tickets=1000, in_flight=IN_FLIGHT),
}
WARM_UP: Final = Crowd(buyers=200, tickets=100, in_flight=IN_FLIGHT)
HOW: Final = (
    "requests answered in a second, ours against theirs, in rounds of one run. Storm: 1,000 buyers "
    "for 100 tickets; sale: 2,000 buyers for 1,000 tickets; 100 requests at once, without keys"
)


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """A way to sell tickets. application: "module:factory". targets: crowd → of our ratio to it."""

    name: str
    application: str
    processes: int
    targets: Mapping[str, float]


# Each has as many processes as sell fastest on two cores.
OURS: Final = Contender("ours", "benchmarks.lambda_server:sale", 3, {})
BARE: Final = Contender("a bare DynamoDB transaction", "benchmarks.lambda_server:bare", 3, {})
ORIGINAL: Final = {"storm": 2.5, "sale": 1.0}  # the targets against the original
POSTGRES: Final = (
    Contender(
        "the original, with SQLAlchemy", "benchmarks.original:row_lock_with_orm", 2, ORIGINAL
    ),
    Contender("the original, by hand", "benchmarks.original:row_lock", 2, ORIGINAL),
    Contender("the same, caching sold out", "benchmarks.original:row_lock_with_cache", 2, {}),
    Contender("one `UPDATE … RETURNING`", "benchmarks.original:conditional_update", 3, {}),
)


def rows(
    progress: Progress, rounds: int = ROUNDS, crowds: Mapping[str, Crowd] = CROWDS
) -> Iterator[Row]:
    """Measure all contenders in rounds. Raises LocalError where one sells another number."""
    rates: dict[tuple[str, Contender], list[float]] = defaultdict(list)
    with _all_serving() as shops:
        for contender, shop in shops.items():
            progress(f"{contender.name}: warming up")
            shop.sell(WARM_UP)
        order = deque(shops)
        for number in range(1, rounds + 1):
            for name, crowd in crowds.items():
                for contender in order:
                    progress(f"{name}, round {number} of {rounds}: {contender.name}")
                    rates[name, contender].append(shops[contender].sell(crowd))
            order.rotate(-1)
    for name in crowds:
        for contender in (*POSTGRES, BARE):
            yield Row.ratio(
                f"{name}: {contender.name}",
                list(zip(rates[name, OURS], rates[name, contender], strict=True)),
                HOW,
                at_least=contender.targets.get(name),
            )


@contextmanager
def _all_serving() -> Iterator[Mapping[Contender, Shop]]:
    """Serve all contenders."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        emulator = MiniStack(directory / "emulator", free_port(), services="dynamodb")
        stack.enter_context(emulator)
        database = PostgresSale(stack.enter_context(postgres(directory / "postgres")))
        sales: dict[Contender, PostgresSale | DynamoDBSale | BareSale] = dict.fromkeys(
            POSTGRES, database
        )
        sales |= {OURS: DynamoDBSale(emulator), BARE: BareSale(emulator)}
        shops = {}
        for contender, sale in sales.items():
            server = serving(contender.application, contender.processes, sale.variables)
            shops[contender] = Shop(stack.enter_context(server), sale)
        yield shops
