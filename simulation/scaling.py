"""How a sale scales: buyers a second against shards, while there are tickets.

python -m simulation.scaling [--write]

Each buyer sends one request without a key, so buyers who hear "busy" are lost and do not come
again. At most 1,000 environments are in use (AWS's default quota), and none is waited for. All
points together take about five minutes of two cores.
"""

import argparse
import multiprocessing
import re
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from proof.figures import percentile
from proof.history import RECEIPTS, Kind
from simulation import pool
from simulation import run as run_command
from simulation.load import Load
from simulation.plots import Line, Panel, draw

POINTS: Final = Path(__file__).with_suffix(".json")
RATES: Final = (500, 1000, 2000, 4000, 8000, 10_000)
SHARDS: Final = (1, 4, 16, 32, 64, 100)
# There are tickets for the buyers of so many seconds, and buyers come for a little longer.
STOCK_SECONDS: Final = 3.0
MORE_SECONDS: Final = 0.6
HEADINGS: Final = (
    "buyers/s",
    "shards",
    "sales/s",
    "sold",
    "busy",
    "transactions",
    "p50",
    "p99",
    "write units",
    "read units",
)


class Point(Struct, frozen=True):
    """What became of one rate on so many shards, while there were tickets.

    rate: buyers a second. sales_per_second: tickets. sold, busy: shares of the buyers who came in
    this time: those who have a ticket when it ends, and those who are told that the service is
    busy. transactions, write_units, read_units: for each ticket, wasted ones as well. p50_ms,
    p99_ms: from a buyer's arrival to the receipt.
    """

    rate: int
    shards: int
    sales_per_second: int
    sold: float
    busy: float
    transactions: float
    p50_ms: int
    p99_ms: int
    write_units: float
    read_units: float


def measure(
    rate: int, shards: int, *, stock_seconds: float = STOCK_SECONDS, seed: int = 1
) -> Point:
    """Run one point. stock_seconds: there are tickets for the buyers of so many seconds."""
    load = Load(
        seed=seed,
        rate=rate,
        seconds=stock_seconds + MORE_SECONDS,
        tickets=round(rate * stock_seconds),
        shards=shards,
        is_warm=True,
        sends_once=True,
    )
    measured = load.run()
    if measured.sale.violations:
        raise ValueError(f"{measured.sale.violations[0]}")
    begin, end = measured.while_stock_lasts
    requests = measured.requests(begin.at, end.at)
    busy = sum(request.last.kind is Kind.BUSY for request in requests)
    waiting = sorted(
        request.waiting_seconds for request in requests if request.last.kind in RECEIPTS
    )
    return Point(
        rate=rate,
        shards=shards,
        sales_per_second=round(end.sold / (end.at - begin.at)),
        sold=round(end.sold / len(requests), 4),
        busy=round(busy / len(requests), 4),
        transactions=round((end.transactions - begin.transactions) / end.sold, 2),
        p50_ms=round(percentile(waiting, 50) * 1000),
        p99_ms=round(percentile(waiting, 99) * 1000),
        write_units=round((end.write_units - begin.write_units) / end.sold, 2),
        read_units=round((end.read_units - begin.read_units) / end.sold, 2),
    )


def measure_all(
    rates: Sequence[int], shards: Sequence[int], *, stock_seconds: float = STOCK_SECONDS
) -> list[Point]:
    """Run all points on all cores, and print which are done. Return them by rate and shards."""
    # The longest first, so that no core is left with them at the end.
    pairs = sorted(product(rates, shards), reverse=True)
    points = []
    with pool(multiprocessing.get_context("forkserver")) as processes:
        task = partial(_point, stock_seconds=stock_seconds)
        for number, point in enumerate(processes.imap_unordered(task, pairs), start=1):
            points.append(point)
            print(f"{number} of {len(pairs)}: {point}", file=sys.stderr)
    return sorted(points, key=lambda point: (point.rate, point.shards))


def _point(pair: tuple[int, int], stock_seconds: float) -> Point:
    return measure(*pair, stock_seconds=stock_seconds)


def documented() -> list[Point]:
    """Return the points that were written last."""
    return msgspec.json.decode(POINTS.read_bytes(), type=list[Point])


def table(points: Iterable[Point]) -> str:
    """Return the points as a Markdown table."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---:|' * len(HEADINGS)}"]
    lines += [
        f"| {point.rate:,} | {point.shards} | {point.sales_per_second:,} | {point.sold:.1%} | "
        f"{point.busy:.2%} | {point.transactions:.2f} | {point.p50_ms} ms | {point.p99_ms} ms | "
        f"{point.write_units:.2f} | {point.read_units:.2f} |"
        for point in points
    ]
    return "\n".join(lines)


def picture(points: Sequence[Point]) -> str:
    """Return the points as SVG: a line for each number of shards."""

    def panel(title: str, unit: str, name: str, *, factor: float = 1.0, log: bool = False) -> Panel:
        lines = [
            Line(
                f"{shards}",
                [point.rate for point in points if point.shards == shards],
                [factor * getattr(point, name) for point in points if point.shards == shards],
            )
            for shards in dict.fromkeys(point.shards for point in points)
        ]
        return Panel(title, "buyers a second", unit, lines, log=log)

    return draw(
        [
            panel("Tickets sold", "a second", "sales_per_second", log=True),
            panel("Buyers told that it is busy", "%", "busy", factor=100.0),
            panel("p99 from arrival to receipt", "ms", "p99_ms", log=True),
            panel("Write units for each ticket", "units", "write_units"),
        ],
        legend="shards",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser("python -m simulation.scaling", description=__doc__)
    add = parser.add_argument
    add("--rates", type=_numbers, default=RATES, metavar="N,…", help="buyers a second")
    add("--shards", type=_numbers, default=SHARDS, metavar="N,…")
    add("--write", action="store_true", help="write the figures of docs/scaling.md")
    options = parser.parse_args(arguments)
    if options.write and (options.rates, options.shards) != (RATES, SHARDS):
        parser.error("--write: only with all points; leave out --rates and --shards")
    points = measure_all(options.rates, options.shards)
    print(table(points))
    if options.write:
        POINTS.write_bytes(msgspec.json.format(msgspec.json.encode(points)) + b"\n")
        print(f"Wrote {POINTS.name}. `make docs` brings it into docs/scaling.md.")
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text):
        raise argparse.ArgumentTypeError("numbers from 1, with commas between them")
    return tuple(int(number) for number in text.split(","))


if __name__ == "__main__":
    sys.exit(run_command(main))
