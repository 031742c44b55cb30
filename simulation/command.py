"""The command line of the simulation: options, many seeds on all cores, and the exit status."""

import argparse
import multiprocessing
import os
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import track

from simulation import pool
from simulation.faults import ALL_FAULTS, Fault
from simulation.journal import Journal
from simulation.report import OPTIONS, Totals, counter_example, replay, summary
from simulation.sale import Setting, SimulatedSale, simulate
from simulation.shrink import smallest
from ticketing.wiring import build_services

EXIT_PASSED, EXIT_FAILED = 0, 1

DESCRIPTION = """\
Simulates sales: the real handlers and use cases in many function environments, on a model of
DynamoDB with contention, in virtual time, with calls that get lost, environments that die and
clocks that differ. One seed gives one history, byte for byte."""

EPILOG: Final = f"""\
exit status:
  0   no guarantee is broken
  1   a guarantee is broken; the smallest example found is printed
  130 interrupted

faults, of which each seed has about half:
  {", ".join(tuple(Fault)[:8])},
  {", ".join(tuple(Fault)[8:])}

examples:
  python -m simulation --seed 7
  python -m simulation --seed 7 --buyers 20 --faults reset,late
  python -m simulation --seeds 1000
  python -m simulation --buyers 10000 --tickets 500 --shards 20 --environments 1000 --faults none
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is kept of one of many sales. failed: it breaks a guarantee."""

    setting: Setting
    totals: Totals
    failed: bool


def parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(
        "python -m simulation",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seed", type=int, default=1, metavar="N", help="the seed, or the first (default: 1)")
    add("--seeds", type=_at_least_one, metavar="N", help="simulate so many seeds, on all cores")
    add("--buyers", type=_at_least_one, default=200, metavar="N", help="of a sale (default: 200)")
    add("--tickets", type=_at_least_one, metavar="N", help="(default: drawn from the seed)")
    add("--shards", type=_at_least_one, metavar="N", help="(default: drawn)")
    add("--environments", type=_at_least_one, metavar="N", help="at most (default: drawn)")
    add("--rush", type=float, metavar="SECONDS", help="in which buyers arrive (default: drawn)")
    add(
        "--faults",
        type=_faults,
        default=ALL_FAULTS,
        metavar="FAULT,…",
        help="of the faults of each seed only these; or “none”",
    )
    add("--report", type=Path, metavar="FILE.html", help="write a page with pictures")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    parsed = parser()
    options = parsed.parse_args(arguments)
    if options.report and not options.report.absolute().parent.is_dir():
        parsed.error(f"--report {options.report}: there is no such folder")
    seeds = range(options.seed, options.seed + (options.seeds or 1))
    chosen = {
        name: value
        for name, option in OPTIONS.items()
        if (value := getattr(options, option)) is not None
    }
    settings = [Setting.drawn(seed, options.buyers, options.faults, chosen) for seed in seeds]
    if options.seeds is None:
        return _one(settings[0], options.report)
    return _many(settings, options.report)


def _one(setting: Setting, report: Path | None) -> int:
    """Simulate one setting, and print its summary; where it breaks a guarantee, also why."""
    sale = simulate(setting)
    print(summary(sale))
    failed = bool(sale.violations)
    _show(sale, Totals.of(sale), failed, report)
    return EXIT_FAILED if failed else EXIT_PASSED


def _show(sale: SimulatedSale, totals: Totals, failed: int, report: Path | None) -> None:
    """Print why a sale breaks a guarantee, if it does, and write the report, if one is wanted.

    totals, failed: of all sales, and how many of them break a guarantee.
    """
    journal = Journal()
    if sale.violations:
        simulate(sale.setting, journal=journal)
        print(counter_example(sale, journal))
    if report:
        from simulation.page import page_of  # noqa: PLC0415 - matplotlib takes a second

        page_of(sale, journal, totals, failed, replay(sale.setting)).write(report)
        print(f"report       {report}")


def _many(settings: Sequence[Setting], report: Path | None) -> int:
    """Simulate all settings, report each that breaks a guarantee, and print the totals."""
    began = time.monotonic()
    totals, failed = Totals(), list[Setting]()
    for outcome in _on_all_cores(settings):
        totals.add(outcome.totals)
        if outcome.failed:
            failed.append(outcome.setting)
    seconds = time.monotonic() - began
    print("\n".join(f"{name:<13}{text}" for name, text in totals.pairs()))
    cores = os.cpu_count() or 1
    megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"took         {seconds:.0f} s on {cores} cores, {totals.buyers / seconds / cores:.0f} "
        f"buyers per second and core, {megabytes:.0f} MB in a process"
    )
    failed.sort(key=lambda setting: setting.seed)
    if failed or report:
        shown = simulate((failed or settings)[0])
        if failed:
            print(f"seed {failed[0].seed}: looking for a smaller example …", flush=True)
            shown = smallest(shown, build_services)
        _show(shown, totals, len(failed), report)
    seeds = f"{len(settings)} seeds"
    if failed:
        numbers = ", ".join(str(setting.seed) for setting in failed[:20])
        print(f"verdict      {len(failed)} of {seeds} break a guarantee: {numbers}")
        return EXIT_FAILED
    print(f"verdict      no violation of G1 to G6 in {seeds}")
    return EXIT_PASSED


def _on_all_cores(settings: Sequence[Setting]) -> Iterator[Outcome]:
    """Simulate in one process per core. Ctrl-C ends them all."""
    with pool(multiprocessing.get_context()) as processes:
        outcomes = processes.imap_unordered(_outcome, settings, chunksize=4)
        console = Console(stderr=True)
        yield from track(
            outcomes,
            "Simulating",
            total=len(settings),
            console=console,
            disable=not console.is_terminal,
        )


def _outcome(setting: Setting) -> Outcome:
    sale = simulate(setting)
    return Outcome(setting, Totals.of(sale), failed=bool(sale.violations))


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _faults(text: str) -> frozenset[Fault]:
    if text == "none":
        return frozenset()
    try:
        return frozenset(Fault(name) for name in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}. The faults are: {', '.join(Fault)}") from error
