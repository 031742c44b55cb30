"""Measure what a sale costs, in one table. Each row is a ratio measured interleaved, or a count.

make bench [ARGS="--only cpu"]
make compare: against other ways to sell tickets
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks import cpu, others, package, stack, startup, units
from benchmarks.process import ROOT
from benchmarks.report import (
    README,
    RESULTS,
    Progress,
    Row,
    markdown_table,
    terminal_table,
    with_part,
)
from local.process import LocalError
from simulation import run

PACKAGES: Final = ("boto3", "aws-lambda-powertools", "msgspec")

type Measure = Callable[[Progress], Any]

COST: Final[Mapping[str, Measure]] = {
    "cpu": cpu.rows,
    "startup": startup.rows,
    "package": package.rows,
}
UNITS: Final[Mapping[str, Measure]] = {"units": units.rows}
COMPARISON: Final[Mapping[str, Measure]] = {"others": others.rows, "stack": stack.rows}
BY_DEFAULT: Final = [*COST, *UNITS]
PARTS: Final = {**COST, **UNITS, **COMPARISON}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add(
        "--only",
        action="append",
        choices=PARTS,
        help=f"measure this part; may be repeated; by default {', '.join(BY_DEFAULT)}",
    )
    add("--json", type=Path, metavar="PATH", help="write the raw figures there")
    add(
        "--write",
        action="store_true",
        help=f"write the README's tables of these parts, and {RESULTS.name}",
    )
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        results = measure(options.only or BY_DEFAULT, console)
    except (subprocess.CalledProcessError, LocalError) as error:
        print(error, file=sys.stderr)
        return 1
    for title, rows in (("What a sale costs", COST), ("Against others", COMPARISON)):
        if found := _rows(results, rows):
            console.print(terminal_table(title, found))
    if counted := _units(results):
        console.print(units.markdown_table(counted), markup=False)
    if options.json:
        options.json.write_text(_text(results))
    if options.write:
        results = json.loads(RESULTS.read_text()) | results
        RESULTS.write_text(_text(results))
        README.write_text(written(README.read_text(), results))
        print(f"Written: {README.name}, {RESULTS.relative_to(ROOT)}")
    return 0


def measure(parts: Sequence[str], console: Console) -> dict[str, Any]:
    """Return the figures of these parts, and on what they were measured."""
    results: dict[str, Any] = {}
    with console.status("") as status:
        for part in parts:
            rows = [asdict(row) for row in PARTS[part](status.update)]
            results[part] = {
                "on": time.strftime("%Y-%m-%d", time.gmtime()),
                "python": platform.python_version(),
                "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
                "packages": {name: version(name) for name in PACKAGES},
                "rows": rows,
            }
    return results


def written(readme: str, results: Mapping[str, Any]) -> str:
    """Return the README with the tables of all these results."""
    contents = {
        "units": ("make bench", units.markdown_table(_units(results))),
        "benchmarks": ("make bench", markdown_table(_rows(results, COST))),
        "comparison": ("make compare", markdown_table(_rows(results, COMPARISON))),
    }
    for name, (command, table) in contents.items():
        readme = with_part(readme, name, f"{command} ARGS=--write", table)
    return readme


def _rows(results: Mapping[str, Any], parts: Mapping[str, Measure]) -> list[Row]:
    """Return the rows of those parts that were measured."""
    measured = [results[part]["rows"] for part in parts if part in results]
    return [Row(**row) for rows in measured for row in rows]


def _units(results: Mapping[str, Any]) -> list[units.Units]:
    """Return the units of each outcome, if they were counted."""
    return [units.Units(**row) for row in results.get("units", {}).get("rows", ())]


def _text(results: Mapping[str, Any]) -> str:
    """Return JSON with one line for each row, so that a difference shows which have changed."""
    parts = []
    for name, part in results.items():
        facts = {fact: value for fact, value in part.items() if fact != "rows"}
        lines = [json.dumps(row, ensure_ascii=False) for row in part["rows"]]
        head = json.dumps(facts, ensure_ascii=False).removesuffix("}")
        parts.append(f'"{name}": {head}, "rows": [\n' + ",\n".join(lines) + "\n]}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.exit(run(main))
