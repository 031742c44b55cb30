"""Small worlds, explored to their end: all orders of a few callers' store calls, all accidents.

python -m simulation.explore

Every end is judged by the proof's checker and by a search for an order that explains it, every
change of the table by an observer. For a broken guarantee the shortest schedule that breaks it is
printed.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from proof.history import HoldAction
from simulation import pool
from simulation import run as run_command
from simulation.explorer import Explored, Explorer
from simulation.sale import Build
from simulation.service import Call
from simulation.small_world import BUY, HOLD, SEED, SmallWorld, purchase_id
from simulation.verdict import Judges
from simulation.workload import HOLD_ROUTES, HOLD_SECONDS, ITEM
from ticketing.wiring import build_services

FIGURES: Final = Path(__file__).parent / "explored.json"
HEADINGS: Final = ("world", "accidents", "interruptions", "states", "schedules", "ends", "tables")
STEP_CHARACTERS_MAX: Final = 400


def _reset(tickets: int, shards: int) -> Call:
    body = {"stock": tickets, "shards": shards, "hold_seconds": HOLD_SECONDS}
    return Call("POST /reset", {"item_id": ITEM, **body}, "key-of-the-reset")


def _order(route: str, buyer: int) -> Call:
    body = {"item_id": ITEM, "quantity": 1, "buyer_id": f"buyer-{buyer}"}
    return Call(route, body, f"key-of-buyer-{buyer:04}")


def _of_hold(action: HoldAction, hold: Call, body: dict[str, Any] | None = None) -> Call:
    return Call(HOLD_ROUTES[action], body, path_parameters={"hold_id": purchase_id(hold)})


def _capacity(tickets: int, number: int) -> Call:
    item = {"item_id": str(ITEM)}
    return Call("PUT /items/{item_id}", {"capacity": tickets}, f"key-of-change-{number:04}", item)


TWO_SHARDS: Final = (_reset(tickets=2, shards=2),)
BUYS: Final = [(_order(BUY, buyer),) for buyer in range(3)]
HELD: Final = _order(HOLD, 9)
ONE_HELD: Final = (_reset(tickets=1, shards=1), HELD)
CONFIRM: Final = (_of_hold(HoldAction.CONFIRM, HELD),)
PAY: Final = (_of_hold(HoldAction.CONFIRM, HELD, {"payment_reference": "payment-1"}),)
RELEASE: Final = (_of_hold(HoldAction.RELEASE, HELD),)
SALE_RECORD: Final = frozenset({f"item#{ITEM}"})


def _with_hold(name: str, *changes: Sequence[Call]) -> SmallWorld:
    callers = [*changes, BUYS[0]]
    return SmallWorld(name, ONE_HELD, callers, SALE_RECORD, resting=2.0 * HOLD_SECONDS)


THREE_BUYERS: Final = SmallWorld("three buyers", TWO_SHARDS, BUYS, SALE_RECORD)
TWO_BUYERS: Final = SmallWorld("two buyers", TWO_SHARDS, BUYS[:2], SALE_RECORD)
CONFIRMED: Final = _with_hold("a hold that expires, its confirmation, and a buyer", CONFIRM)
PAID: Final = _with_hold("a hold that expires, its payment, and a buyer", PAY)
PAID_SLOWLY: Final = replace(PAID, name="a hold that expires slowly, its payment, and a buyer")
RELEASED: Final = _with_hold("a hold that expires, its release, and a buyer", RELEASE)
CHANGED_TWICE: Final = _with_hold(
    "a hold, its confirmation, its release, and a buyer", CONFIRM, RELEASE
)
LOWER: Final = SmallWorld(
    "a lower capacity, and a buyer", TWO_SHARDS, [(_capacity(0, 1),), BUYS[0]]
)
LOWER_TWICE: Final = SmallWorld(
    "one lower capacity twice, and a buyer",
    TWO_SHARDS,
    [(_capacity(1, 1),), (_capacity(1, 2),), BUYS[0]],
)
TWO_CAPACITIES: Final = SmallWorld(
    "two capacities, and a buyer",
    TWO_SHARDS,
    [(_capacity(3, 1),), (_capacity(1, 2),), BUYS[0]],
)
# The hold is over for the buyer's clock alone, then it is free for it, then for every clock.
SLOWLY: Final = (HOLD_SECONDS - 0.5, 1.0, 4.0)
SOON: Final = (HOLD_SECONDS - 0.5, 5.0)
AT_ONCE: Final = (HOLD_SECONDS + 4.0,)
AHEAD: Final = (0.0, 0.9)

# Those that are explored in seconds, and so on each run of the tests.
QUICK: Final = (
    THREE_BUYERS,
    replace(TWO_BUYERS, accidents=1),
    replace(CONFIRMED, passing=SOON, ahead=AHEAD),
    replace(PAID, passing=SOON, ahead=AHEAD),
    CHANGED_TWICE,
    LOWER,
    replace(LOWER_TWICE, interruptions=2),
    replace(TWO_CAPACITIES, interruptions=1),
)
THOROUGH: Final = (
    replace(THREE_BUYERS, accidents=1),
    replace(TWO_BUYERS, accidents=2),
    replace(CONFIRMED, passing=AT_ONCE, accidents=1),
    replace(PAID, passing=AT_ONCE, accidents=1),
    replace(PAID_SLOWLY, passing=SLOWLY, ahead=AHEAD),
    replace(RELEASED, passing=AT_ONCE, accidents=1),
    replace(CHANGED_TWICE, accidents=1),
    replace(LOWER, accidents=1),
    LOWER_TWICE,
    replace(TWO_CAPACITIES, interruptions=2),
)


class WorldFigures(Struct, frozen=True):
    """What exploring a small world took. interruptions: None: as many as possible."""

    world: str
    accidents: int
    interruptions: int | None
    states: int
    schedules: int
    ends: int
    tables: int

    @classmethod
    def of(cls, small: SmallWorld, explored: Explored) -> "WorldFigures":
        """Return the figures of an exploration."""
        return cls(
            small.name,
            small.accidents,
            small.interruptions,
            explored.states,
            explored.schedules,
            explored.ends,
            explored.tables,
        )


def explore(small: SmallWorld, build: Build = build_services, *, quiet: bool = False) -> Explored:
    """Explore a small world, and judge it. quiet: print no progress."""
    explorer = Explorer(small, build)
    judges = Judges(explorer)
    began_at = time.monotonic()

    def progress(states: int, left: int) -> None:
        seconds = time.monotonic() - began_at
        text = f"{small.name}: {states:,} states after {seconds:.0f} s, {left:,} to be visited"
        print(text, file=sys.stderr, flush=True)

    if quiet:
        return explorer.explore(judges.judge, judges.judge_change)
    return explorer.explore(judges.judge, judges.judge_change, progress)


def documented() -> list[WorldFigures]:
    """Return the figures that were written last."""
    return msgspec.json.decode(FIGURES.read_bytes(), type=list[WorldFigures])


def table(figures: Iterable[WorldFigures]) -> str:
    """Return figures as a Markdown table."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"|---|{'---:|' * (len(HEADINGS) - 1)}"]
    lines += [
        f"| {each.world} | {each.accidents} | {_or_all(each.interruptions)} | {each.states:,} | "
        f"{each.schedules:,} | {each.ends:,} | {each.tables:,} |"
        for each in figures
    ]
    return "\n".join(lines)


def _or_all(number: int | None) -> str:
    return "all" if number is None else str(number)


def report(small: SmallWorld, explored: Explored) -> str:
    """Return what is wrong with a small world, and the schedule that shows it."""
    lines = [f"{small.name}:"]
    for violation in explored.violations:
        lines.append(f"  {violation.guarantee} {violation.rule}")
        lines.append(f"    expected: {violation.expected}")
        lines.append(f"    found: {violation.found}")
    lines += [
        f"  {number}. {shorten(step, STEP_CHARACTERS_MAX, placeholder=' …')}"
        for number, step in enumerate(explored.schedule, 1)
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status is 1 where a guarantee is broken."""
    parser = argparse.ArgumentParser("python -m simulation.explore", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="worlds with this text")
    parser.add_argument("--quick", action="store_true", help="those that take seconds")
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"write {FIGURES.name}, of which `make docs` has a table",
    )
    parser.add_argument(
        "--seed", type=int, default=SEED, metavar="N", help=f"of the functions' draws ({SEED})"
    )
    options = parser.parse_args(arguments)
    worlds = QUICK if options.quick else QUICK + THOROUGH
    chosen = [replace(each, seed=options.seed) for each in worlds if options.only in each.name]
    if not chosen:
        parser.error(f"--only: none of {', '.join(sorted({each.name for each in worlds}))}")
    if options.write and (len(chosen) < len(QUICK + THOROUGH) or options.seed != SEED):
        parser.error("--write: only with all worlds; leave out --only, --quick and --seed")
    figures, broken = [], 0
    with pool(multiprocessing.get_context()) as processes:
        found = processes.imap(partial(explore, quiet=options.quick), chosen)
        for small, explored in zip(chosen, found, strict=True):
            figures.append(WorldFigures.of(small, explored))
            if explored.violations:
                broken += 1
                print(report(small, explored), flush=True)
    print(table(figures))
    print(
        f"{sum(each.states for each in figures):,} states, "
        f"{sum(each.schedules for each in figures):,} schedules, "
        f"{broken} of {len(chosen)} worlds with a broken guarantee"
    )
    if options.write and not broken:
        FIGURES.write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
        print(f"Wrote {FIGURES.name}. `make docs` brings it into docs/small-worlds.md.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
