"""How many shards a sale should have: simulates its rush with several numbers of them.

python -m simulation.plan --buyers 20000 --tickets 5000 [--seconds 10]

It recommends the number that costs the fewest units, among those with which the tickets are sold
nearly as fast as with any, and no more buyers are told that it is busy. A long sale is simulated
for three seconds.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from simulation import run as run_command
from simulation.scaling import RATES, STOCK_SECONDS, Point, measure_all, table
from ticketing.limits import SHARDS_MAX, STOCK_MAX
from ticketing.rules import default_shard_count

RATE_MAX: Final = RATES[-1]
# As good as the best: at least this share of its sales a second, and at most this share of the
# buyers more who are told that it is busy.
AS_FAST: Final = 0.9
AS_BUSY: Final = 0.001
# On demand in us-east-1, a write unit costs as much as so many read units.
READS_PER_WRITE: Final = 5


def candidates(tickets: int) -> list[int]:
    """Return the numbers of shards to try: the default, and fractions and multiples of it."""
    default = default_shard_count(tickets)
    tried = (default // 8, default // 4, default // 2, default, default * 2, default * 4)
    return sorted({max(1, min(SHARDS_MAX, shards)) for shards in tried})


def recommended(points: Sequence[Point]) -> Point:
    """Return the cheapest point of those that are as good as the best. All are of one rate."""
    least_busy = min(point.busy for point in points)
    calm = [point for point in points if point.busy <= least_busy + AS_BUSY]
    fastest = max(point.sales_per_second for point in calm)
    good = [point for point in calm if point.sales_per_second >= AS_FAST * fastest]
    return min(good, key=lambda point: READS_PER_WRITE * point.write_units + point.read_units)


def report(points: Sequence[Point], tickets: int) -> str:
    """Return the points, and what is recommended."""
    best, default = recommended(points), default_shard_count(tickets)
    rate = best.rate
    writes = best.sales_per_second * best.write_units
    advice = (
        f"shards: {best.shards}, the default, so leave it out of the reset"
        if best.shards == default
        else f"shards: {best.shards} (the default for {tickets:,} tickets is {default})"
    )
    lines = [
        table(points),
        "",
        advice,
        (
            f"At {rate:,} buyers a second the tickets are sold in about "
            f"{tickets / best.sales_per_second:.1f} s, one receipt in a hundred takes "
            f"{best.p99_ms} ms or more, and {best.busy:.2%} of the buyers are told that it is busy."
        ),
        (
            f"The table takes {writes:,.0f} write units a second then. A new on-demand table takes "
            "4,000, and by default none takes more than 40,000."
        ),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser("python -m simulation.plan", description=__doc__)
    add = parser.add_argument
    add("--buyers", type=int, required=True, metavar="N", help='people who press "buy"')
    add("--tickets", type=int, required=True, metavar="N")
    add("--seconds", type=float, default=10.0, metavar="N", help="in which they do (default: 10)")
    options = parser.parse_args(arguments)
    if not 1 <= options.tickets <= STOCK_MAX:
        parser.error(f"--tickets: from 1 to {STOCK_MAX:,}")
    if options.buyers < 1 or options.seconds <= 0:
        parser.error("--buyers and --seconds: more than 0")
    rate = max(1, round(options.buyers / options.seconds))
    if rate > RATE_MAX:
        parser.error(
            f"--seconds: these are {rate:,} buyers a second. API Gateway admits {RATE_MAX:,} by "
            f"default, so plan with {options.buyers / RATE_MAX:.1f} s or more: the others are "
            "answered with 429 and come back."
        )
    stock_seconds = min(STOCK_SECONDS, options.tickets / rate)
    points = measure_all([rate], candidates(options.tickets), stock_seconds=stock_seconds)
    print(report(points, options.tickets))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
