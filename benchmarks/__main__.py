"""Measure what a sale costs, in one table. Each row is a ratio measured interleaved, or a count.

make bench [ARGS="--only cpu"]
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

from benchmarks import cpu, package, startup, units
from benchmarks.process import ROOT
from benchmarks.report import Progress, Row, markdown_table, terminal_table, with_part
from local.process import LocalError
from simulation import run

README: Final = ROOT / "README.md"
RESULTS: Final = ROOT / "benchmarks" / "results.json"  # the figures of the README
PACKAGES: Final = ("boto3", "aws-lambda-powertools", "msgspec")

type Measure = Callable[[Progress], Any]

PARTS: Final[Mapping[str, Measure]] = {
    "cpu": cpu.rows,
    "startup": startup.rows,
    "package": package.rows,
    "units": units.rows,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--only", action="append", choices=PARTS, help="measure this part; may be repeated")
    add("--json", type=Path, metavar="PATH", help="write the raw figures there")
    add("--write", action="store_true", help=f"write the README's tables and {RESULTS.name}")
    options = parser.parse_args(arguments)
    if options.write and options.only:
        parser.error("--write needs all parts: leave --only out")
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        results = measure(options.only or list(PARTS), console)
    except (subprocess.CalledProcessError, LocalError) as error:
        print(error, file=sys.stderr)
        return 1
    rows, counted = tables(results)
    if rows:
        console.print(terminal_table(rows))
    if counted:
        console.print(units.markdown_table(counted), markup=False)
    if options.json:
        options.json.write_text(_text(results))
    if options.write:
        RESULTS.write_text(_text(results))
        README.write_text(written(README.read_text(), results))
        print(f"Written: {README.name}, {RESULTS.relative_to(ROOT)}")
    return 0


def measure(parts: Sequence[str], console: Console) -> dict[str, Any]:
    """Return the figures of these parts, and on what they were measured."""
    results: dict[str, Any] = {
        "measured": {
            "on": time.strftime("%Y-%m-%d", time.gmtime()),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "packages": {name: version(name) for name in PACKAGES},
        }
    }
    with console.status("") as status:
        for part in parts:
            results[part] = [asdict(row) for row in PARTS[part](status.update)]
    return results


def tables(results: Mapping[str, Any]) -> tuple[list[Row], list[units.Units]]:
    """Return the rows of both tables."""
    rows = [Row(**row) for part in PARTS if part != "units" for row in results.get(part, ())]
    return rows, [units.Units(**row) for row in results.get("units", ())]


def written(readme: str, results: Mapping[str, Any]) -> str:
    """Return the README with the tables of these results."""
    rows, counted = tables(results)
    contents = {"units": units.markdown_table(counted), "benchmarks": markdown_table(rows)}
    for name, table in contents.items():
        readme = with_part(readme, name, "make bench ARGS=--write", table)
    return readme


def _text(results: Mapping[str, Any]) -> str:
    """Return JSON with one line for each row, so that a difference shows which have changed."""
    parts = []
    for name, content in results.items():
        lines = json.dumps(content, ensure_ascii=False)
        if isinstance(content, list):
            rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in content)
            lines = f"[\n{rows}\n]"
        parts.append(f'"{name}": {lines}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.exit(run(main))
