"""What a sale costs on AWS, line by line; the quotas that it needs; and when to warm up.

make cost BUYERS=200000 TICKETS=20000 MINUTES=10

It simulates the opening of the sale, counts what orders cost the table and how long functions wait
for it, and adds what `make bench` measured: CPU, log lines and responses. Nothing is sent to AWS.
"""

import argparse
import json
import math
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from benchmarks import prices, traffic
from benchmarks.bill import (
    BillLine,
    Costs,
    OrderCost,
    PricedSale,
    Quota,
    Remedy,
    Rush,
    inventory_environments,
    lines,
    order_environments,
    quotas,
    standing,
    table_units,
)
from benchmarks.process import ROOT
from benchmarks.report import COLUMNS, README, RESULTS, with_part
from benchmarks.units import Units
from simulation import run as run_command
from simulation.fleet import COLD_START_SECONDS
from simulation.load import Load, Measured, Used
from simulation.plan import RATE_MAX, candidates, recommended
from simulation.scaling import STOCK_SECONDS, measure_all
from ticketing.limits import SHARDS_MAX, STOCK_MAX

BILL: Final = Path(__file__).with_name("cost.json")  # the figures of the README
# A sale's opening has so many times its average of buyers, where the caller does not say.
PEAK: Final = 10
BUYERS_MAX: Final = 100_000_000
READS_MAX: Final = 1000
MINUTES_MAX: Final = 7 * 24 * 60
# At least so many buyers a second are simulated: fewer meet no conflict, and cost the same each.
RATE_MIN: Final = 50
# After the rush has settled, the buyers of so many seconds are simulated.
SETTLE_SECONDS: Final = 1.0
CALM_SECONDS: Final = 4.0


class Bill(Struct, frozen=True):
    """A sale's bill. on: when its prices were read."""

    on: str
    sale: PricedSale
    rush: Rush
    lines: Sequence[BillLine]
    standing: Sequence[BillLine]


def total(part: Sequence[BillLine]) -> float:
    """Return what these lines cost together, in dollars."""
    return sum(line.dollars for line in part)


def simulated(sale: PricedSale) -> Rush:
    """Simulate the sale's opening, and the calm after it.

    Raises ValueError where the shards are too few to sell the tickets about as fast as buyers come.
    """
    rate = max(sale.peak, RATE_MIN)
    tickets = max(1, min(sale.tickets, round(rate * STOCK_SECONDS)))
    rush_seconds = 1.5 * tickets / rate + 2
    refused_per_second = (sale.buyers - sale.sold) / (60 * sale.minutes)
    load = Load(
        rate=rate,
        seconds=rush_seconds + SETTLE_SECONDS + CALM_SECONDS,
        rush_seconds=rush_seconds,
        calm_rate=max(RATE_MIN, min(rate, refused_per_second)),
        tickets=tickets,
        shards=sale.shards,
        environments_max=prices.CONCURRENCY_QUOTA,
        has_keys=True,
    )
    measured = load.run()
    begin, last, end = measured.samples[0], measured.last_sale, measured.samples[-1]
    rush_ends_at = begin.at + rush_seconds
    if last.sold < tickets or last.at + 1 > rush_ends_at:
        raise ValueError(
            f"--shards: {sale.shards} sell too slowly for {rate:,} buyers a second. Leave it out, "
            "and a number is recommended."
        )
    if measured.sale.violations:
        raise RuntimeError(f"{measured.sale.violations[0]}")  # a bug
    late, calm = measured.used_at(last.at + 1), measured.used_at(rush_ends_at + SETTLE_SECONDS)
    throttled = last.throttled - begin.throttled
    answered = throttled + last.served - begin.served
    return Rush(
        opening=_order(measured, begin, last),
        orders_per_ticket=round(len(measured.requests(begin.at, last.at)) / tickets, 3),
        late=_order(measured, last, late),
        late_orders=len(measured.requests(last.at, late.at)),
        refused=_order(measured, calm, end),
        environments=end.environments,
        throttled=round(throttled / max(1, answered), 4),
    )


def _order(measured: Measured, begin: Used, end: Used) -> OrderCost:
    """Return what each order cost on average that came between two instants."""
    requests = measured.requests(begin.at, end.at)
    orders, attempts = len(requests), sum(len(request.attempts) for request in requests)
    return OrderCost(
        requests=round(attempts / orders, 3),
        served=round((end.served - begin.served) / orders, 3),
        calls=round((end.calls - begin.calls) / orders, 3),
        serving_seconds=round((end.serving_seconds - begin.serving_seconds) / orders, 5),
        write_units=round((end.write_units - begin.write_units) / orders, 3),
        read_units=round((end.read_units - begin.read_units) / orders, 3),
    )


def costs() -> Costs:
    """Return what `make bench` measured last, and the traffic, which is measured now."""
    results = json.loads(RESULTS.read_text())
    cpu = {
        row["name"].removeprefix("CPU of "): median(ours for ours, _ in row["samples"]) / 1e6
        for row in results["cpu"]["rows"]
        if row["samples"]
    }
    units = {row["outcome"]: Units(**row) for row in results["units"]["rows"]}
    return Costs(cpu, traffic.measured(), units)


def bill_of(sale: PricedSale) -> Bill:
    """Return the bill of a sale. Raises ValueError where it cannot be priced."""
    rush, each = simulated(sale), costs()
    return Bill(prices.READ_ON, sale, rush, lines(sale, rush, each), standing(sale, each))


def markdown(bill: Bill) -> str:
    """Return the bill for the README."""
    rows = ["| | for | amount | price | dollars |", "|---|---|---:|---|---:|"]
    for part, heading in ((bill.lines, "in all"), (bill.standing, "a month, deployed")):
        rows += [
            f"| {line.service} | {line.what} | {line.amount} | {line.price} | "
            f"{_dollars(line.dollars)} |"
            for line in part
        ]
        rows.append(f"| **{heading}** | | | | **${total(part):.2f}** |")
    return "\n".join([*rows, "", textwrap.fill(summary(bill), COLUMNS)])


def summary(bill: Bill) -> str:
    """Return what the sale is, and what a ticket costs."""
    sale, dollars = bill.sale, total(bill.lines)
    return (
        f"{sale.buyers:,} buyers for {sale.tickets:,} tickets in {sale.minutes:g} min, "
        f"{sale.peak:,} a second at the opening, {sale.shards} shards, {sale.reads} reads of the "
        f"inventory by each buyer: ${dollars:.2f} in all, "
        f"${dollars / sale.sold:.5f} for each ticket. Prices of {prices.REGION} as of "
        f"{bill.on}, without the free tier."
    )


def show(bill: Bill, console: Console) -> None:
    """Print the bill, the quotas and when to warm up."""
    console.print(_bill_table("The sale", bill.lines))
    console.print(_bill_table("Each month, as long as it is deployed", bill.standing))
    console.print(summary(bill), highlight=False)
    found = quotas(bill.sale, bill.rush)
    console.print(_quota_table(found))
    for step in steps(bill.sale, bill.rush, found):
        console.print(f"- {step}", highlight=False)


def _bill_table(title: str, part: Sequence[BillLine]) -> Table:
    table = Table(title=title, show_footer=True)
    table.add_column("")
    table.add_column("for", footer="in all")
    table.add_column("amount", justify="right")
    table.add_column("price")
    table.add_column("dollars", justify="right", footer=f"${total(part):.2f}")
    for line in part:
        table.add_row(line.service, line.what, line.amount, line.price, _dollars(line.dollars))
    return table


def _quota_table(found: Sequence[Quota]) -> Table:
    table = Table(title="Quotas")
    table.add_column("")
    table.add_column("needed", justify="right")
    table.add_column("by default", justify="right")
    table.add_column("what to do")
    for quota in found:
        todo = f"{quota.remedy}{', or put a cache before it' * quota.is_cacheable}"
        todo = "enough" if quota.is_enough else todo
        table.add_row(quota.what, f"{quota.need:,}", f"{quota.has:,}", todo)
    return table


def steps(sale: PricedSale, rush: Rush, found: Sequence[Quota]) -> list[str]:
    """Return what to do before the sale, and when."""
    short = [quota for quota in found if not quota.is_enough]
    asked = sum(quota.remedy is Remedy.ASK for quota in short)
    todo = []
    if any(quota.is_cacheable for quota in short):
        todo.append(
            "Consider a cache before `GET /inventory`, such as CloudFront: the answer may be a "
            "second old, and says so. With --reads 0 this command shows what is left then."
        )
    if asked:
        todo.append(f"Two weeks before: ask AWS for {asked} higher quotas, in Service Quotas.")
    todo.append(f"When the sale is created: {sale.shards} shards.")
    if any(quota.remedy is Remedy.WARM_TABLE for quota in short):
        writes, reads = table_units(sale, rush)
        writes = max(writes, prices.NEW_TABLE_WRITES_MAX)
        reads = max(reads, prices.NEW_TABLE_READS_MAX)
        todo.append(
            "The day before: aws dynamodb update-table --table-name … --warm-throughput "
            f"ReadUnitsPerSecond={reads},WriteUnitsPerSecond={writes}. AWS charges it once; it is "
            "not in the bill above."
        )
    wanted = order_environments(sale, rush)
    rate = math.ceil(wanted / COLD_START_SECONDS)
    todo.append(
        f"Two minutes before: about {wanted:,} environments of the ordering function. "
        f'`make locust URL=… RATE={rate} SECONDS=10 PROCESSES=4 ARGS="--item …"` with another item '
        "starts as many, and tries everything once more. Idle ones stay for minutes."
    )
    if rush.throttled:
        todo.append(
            f"Without that, {rush.throttled:.1%} of the requests until the last ticket are "
            "answered with 429 in the simulation, because no environment is free. They come again, "
            "and are late."
        )
    if sale.reads:
        todo.append(
            "Buyers who wait for the opening keep `GET /inventory` warm: "
            f"{inventory_environments(sale):,} environments."
        )
    return todo


def written(readme: str, bill: Bill) -> str:
    """Return the README with this bill."""
    return with_part(readme, "cost", "make cost ARGS=--write", markdown(bill))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    parser = argparse.ArgumentParser("python -m benchmarks.cost", description=__doc__)
    add = parser.add_argument
    add("--buyers", type=int, default=200_000, metavar="N", help="who order one ticket each")
    add("--tickets", type=int, default=20_000, metavar="N")
    add("--minutes", type=float, default=10, metavar="N", help="in which they come")
    help_ = f"buyers a second at the opening (default: {PEAK} times the average)"
    add("--peak", type=int, metavar="N", help=help_)
    add("--reads", type=int, default=3, metavar="N", help="of the inventory, by each buyer")
    add("--holds", action="store_true", help="tickets are held and paid for, not bought at once")
    add("--shards", type=int, metavar="N", help="by default a number is recommended")
    add("--json", type=Path, metavar="PATH", help="write the figures there")
    add("--write", action="store_true", help="write the README's bill")
    return parser


def refused(options: argparse.Namespace) -> str | None:
    """Return what is wrong with the options; None where they can be priced."""
    bounds = {
        "buyers": (1, BUYERS_MAX),
        "tickets": (1, STOCK_MAX),
        "minutes": (1, MINUTES_MAX),
        "reads": (0, READS_MAX),
        "shards": (1, SHARDS_MAX),
    }
    for name, (least, most) in bounds.items():
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            return f"--{name}: from {least:,} to {most:,}"
    average = options.buyers / (60 * options.minutes)
    if average > RATE_MAX:
        return (
            f"--minutes: these are {average:,.0f} buyers a second. API Gateway admits "
            f"{RATE_MAX:,} by default, so take {options.buyers / RATE_MAX / 60:.1f} minutes or more"
        )
    if options.peak is not None and not average <= options.peak <= RATE_MAX:
        return f"--peak: from the average, {math.ceil(average):,}, to {RATE_MAX:,}"
    return None


def sale_of(options: argparse.Namespace) -> PricedSale:
    """Return the sale that the options describe, with a recommended number of shards."""
    average = options.buyers / (60 * options.minutes)
    peak = options.peak or min(RATE_MAX, math.ceil(PEAK * average))
    shards = options.shards
    if shards is None:
        stock_seconds = min(STOCK_SECONDS, options.tickets / peak)
        tried = candidates(options.tickets)
        shards = recommended(measure_all([peak], tried, stock_seconds=stock_seconds)).shards
    return PricedSale(
        buyers=options.buyers,
        tickets=options.tickets,
        minutes=options.minutes,
        peak=peak,
        shards=shards,
        reads=options.reads,
        is_held=options.holds,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parse = parser()
    options = parse.parse_args(arguments)
    if fault := refused(options):
        parse.error(fault)
    sale = sale_of(options)
    print(
        f"Simulating the opening, {sale.peak:,} buyers a second, and the calm after it …",
        file=sys.stderr,
    )
    try:
        bill = bill_of(sale)
    except ValueError as error:
        parse.error(str(error))
    show(bill, Console(width=None if sys.stdout.isatty() else 160))
    text = msgspec.json.format(msgspec.json.encode(bill)) + b"\n"
    if options.json:
        options.json.write_bytes(text)
    if options.write:
        BILL.write_bytes(text)
        README.write_text(written(README.read_text(), bill))
        print(f"Written: {README.name}, {BILL.relative_to(ROOT)}")
    return 0


def _dollars(dollars: float) -> str:
    return f"${dollars:.2f}" if dollars >= 0.005 else f"${dollars:.4f}"  # noqa: PLR2004 - a cent


if __name__ == "__main__":
    sys.exit(run_command(main))
