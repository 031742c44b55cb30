"""Buyers who arrive at one rate until after the last ticket: what they cost the table.

python -m simulation.load [--rate 10000] [--environments 1000] [--shards 100] [--warm]

It prints the units that were read and written in each half second, and how many of them after the
last ticket: most requests of a flash sale come then.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from math import inf

from msgspec import Struct

from proof.figures import percentile
from proof.history import Kind, PurchaseRequest
from simulation import run as run_command
from simulation.dynamodb import DynamoDB
from simulation.fleet import COLD_START_SECONDS, Fleet
from simulation.sale import Build, Setting, SimulatedSale, simulate
from simulation.workload import Buyer, arrivals
from simulation.world import World
from ticketing.wiring import build_services

# Of a purchase: two actions of a transaction, each written twice.
SALE_WRITE_UNITS = 4
SAMPLES_PER_SECOND = 10


class Load(Struct, frozen=True):
    """Buyers per second, for so many seconds. Each wants one ticket.

    rush_seconds, calm_rate: after so many seconds, so many a second come. has_keys: buyers send a
    key. Then a refusal reads one unit more, of a record of its own. is_warm: enough environments
    are kept ready, so none is waited for. sends_once: a buyer who hears "busy" goes away.
    """

    seed: int = 1
    rate: float = 10_000.0
    seconds: float = 8.0
    rush_seconds: float = inf
    calm_rate: float = 0.0
    tickets: int = 20_000
    shards: int = 100
    environments_max: int = 1000
    has_keys: bool = False
    is_warm: bool = False
    sends_once: bool = False

    def buyers(self) -> list[Buyer]:
        """Return all buyers."""
        draw = random.Random(f"{self.seed}/load")
        buyers = [
            Buyer.plain(number, instant)
            for number, instant in enumerate(arrivals(draw, self.seconds, self._rate))
        ]
        if not self.has_keys:
            buyers = [buyer.without_key() for buyer in buyers]
        return [buyer.only_once() for buyer in buyers] if self.sends_once else buyers

    def _rate(self, instant: float) -> float:
        return self.rate if instant < self.rush_seconds else self.calm_rate

    def run(self, build: Build = build_services) -> "Measured":
        """Simulate the load."""
        buyers, meter = self.buyers(), _Meter(self.seconds)
        setting = Setting(
            seed=self.seed,
            buyers=len(buyers),
            tickets=self.tickets,
            shards=self.shards,
            environments_max=self.environments_max,
            start_seconds=0.0 if self.is_warm else COLD_START_SECONDS,
            rush_seconds=0.0,
        )
        sale = simulate(setting, build, buyers=buyers, watch=meter.watch)
        return Measured(self, sale, meter.samples, meter.last_sale)


class Used(Struct, frozen=True):
    """What had happened until an instant, which is in seconds of the simulation.

    sold: tickets. calls: of the store. transactions: those of them that write, cancelled ones as
    well. throttled: requests that found no environment. served: requests by a function.
    serving_seconds: how long, all together. environments: those that were started.
    """

    at: float = 0.0
    sold: int = 0
    calls: int = 0
    transactions: int = 0
    throttled: int = 0
    served: int = 0
    serving_seconds: float = 0.0
    environments: int = 0
    read_units: float = 0.0
    write_units: float = 0.0


class _Meter:
    """Notes what happened, at fixed intervals and when the last ticket was sold."""

    def __init__(self, seconds: float) -> None:
        self.samples: list[Used] = []
        self.last_sale = Used()
        self._seconds = seconds

    def watch(self, world: World, model: DynamoDB, fleet: Fleet) -> None:
        """Begin now, when the first buyer comes."""
        ends_at = world.now + self._seconds

        def now(sold: int) -> Used:
            usage = model.usage
            return Used(
                at=world.now,
                sold=sold,
                calls=usage.calls.total(),
                transactions=usage.calls["TransactWriteItems"],
                throttled=fleet.throttled,
                served=fleet.served,
                serving_seconds=fleet.serving_seconds,
                environments=fleet.started,
                read_units=usage.read_units,
                write_units=usage.write_units,
            )

        def note(key: str, _before: object, _after: object) -> None:
            if key.startswith("purchase#") and world.now <= ends_at:
                self.last_sale = now(self.last_sale.sold + 1)

        model.observers.append(note)
        for number in range(int(self._seconds * SAMPLES_PER_SECOND) + 1):
            instant = world.now + number / SAMPLES_PER_SECOND
            world.at(instant, lambda: self.samples.append(now(self.last_sale.sold)))


class Measured(Struct, frozen=True):
    """What became of a load. samples: from the first to the last buyer's arrival."""

    load: Load
    sale: SimulatedSale
    samples: Sequence[Used]
    last_sale: Used

    @property
    def while_stock_lasts(self) -> tuple[Used, Used]:
        """Return the begin and the end of the time in which there were tickets and buyers."""
        is_sold_out = self.last_sale.sold == self.load.tickets
        return self.samples[0], self.last_sale if is_sold_out else self.samples[-1]

    def requests(self, begin: float, end: float) -> list[PurchaseRequest]:
        """Return the requests of the buyers who came between two instants."""
        return [
            request
            for request in self.sale.history.requests
            if begin <= request.attempts[0].started_at < end
        ]

    @property
    def late_requests(self) -> list[PurchaseRequest]:
        """Return those of the buyers who came a second or more after the last ticket."""
        return self.requests(self.last_sale.at + 1, self.samples[-1].at)

    @property
    def sale_write_units(self) -> int:
        """Return the write units of the purchases alone."""
        return SALE_WRITE_UNITS * self.last_sale.sold

    @property
    def refusal_write_units(self) -> float:
        """Return the write units after the last ticket."""
        return self.samples[-1].write_units - self.last_sale.write_units

    @property
    def first_read_units(self) -> float:
        """Return the read units of the first second after the last ticket."""
        return self.used_at(self.last_sale.at + 1).read_units - self.last_sale.read_units

    @property
    def later_read_units(self) -> float:
        """Return the read units a second from then on."""
        begin, end = self.used_at(self.last_sale.at + 1), self.samples[-1]
        return (end.read_units - begin.read_units) / (end.at - begin.at)

    def used_at(self, instant: float) -> Used:
        """Return what had happened until an instant, or shortly after it."""
        return next(used for used in self.samples if used.at >= instant)


def measure(load: Load, build: Build = build_services) -> Measured:
    """Run a load. Its seconds must be enough for the last ticket and a second after it."""
    measured = load.run(build)
    if measured.last_sale.sold < load.tickets or not measured.late_requests:
        raise ValueError("the last ticket is not sold a second before the last buyer comes")
    return measured


def report(measured: Measured) -> str:
    """Return the use of the table, half a second in each line, and what was made of it."""
    load, samples, last = measured.load, measured.samples, measured.last_sale
    requests = measured.requests(samples[0].at, samples[-1].at)
    kinds = [attempt.kind for request in requests for attempt in request.attempts]
    refused = sorted(request.waiting_seconds for request in measured.late_requests)
    step = SAMPLES_PER_SECOND // 2
    lines = [
        (
            f"{load.rate:.0f} buyers a second, {load.tickets} tickets in {load.shards} shards, "
            f"{load.environments_max} {'warm ' * load.is_warm}environments"
        ),
        f"{'second':>7} {'read units/s':>13} {'write units/s':>14}",
    ]
    for before, after in zip(samples[::step], samples[step::step], strict=False):
        lines.append(
            f"{before.at - samples[0].at:7.1f} "
            f"{(after.read_units - before.read_units) * 2:13.0f} "
            f"{(after.write_units - before.write_units) * 2:14.0f}"
        )
    wasted = measured.refusal_write_units
    lines += [
        (
            f"sold {last.sold}, the last one at second {last.at - samples[0].at:.2f}; "
            f"{kinds.count(Kind.BUSY)} of {len(kinds)} answers were busy"
        ),
        (
            f"read units after it: {measured.first_read_units:.0f} in the first second, "
            f"{measured.later_read_units:.0f} a second then; p99 of a refusal "
            f"{percentile(refused, 99) * 1000:.0f} ms"
        ),
        (
            f"write units: {measured.sale_write_units} of purchases, {wasted:.0f} after the last "
            f"one ({wasted / measured.sale_write_units:.2%})"
        ),
        *(f"violation of {one.guarantee}: {one.rule}" for one in measured.sale.violations),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status is 1 where a guarantee was broken."""
    parser = argparse.ArgumentParser("python -m simulation.load", description=__doc__)
    add, default = parser.add_argument, Load()
    add("--seed", type=int, default=default.seed, metavar="N")
    add("--rate", type=float, default=default.rate, metavar="N", help="buyers a second")
    add("--seconds", type=float, default=default.seconds, metavar="N", help="in which they come")
    add("--tickets", type=int, default=default.tickets, metavar="N")
    add("--shards", type=int, default=default.shards, metavar="N")
    add("--environments", type=int, default=default.environments_max, metavar="N", help="at most")
    add("--warm", action="store_true", help="environments are kept ready: a start takes no time")
    options = parser.parse_args(arguments)
    load = Load(
        seed=options.seed,
        rate=options.rate,
        seconds=options.seconds,
        tickets=options.tickets,
        shards=options.shards,
        environments_max=options.environments,
        is_warm=options.warm,
    )
    try:
        measured = measure(load)
    except ValueError as error:
        parser.error(f"--seconds: {error}")
    print(report(measured))
    return 1 if measured.sale.violations else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
