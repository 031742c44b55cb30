"""The start of a function's process: its CPU time until it is ready, and what it imports."""

import json
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.process import FUNCTIONS, variables
from benchmarks.report import Pair, Progress, Row, interleaved

PAIRS: Final = 25
BARE: Final = "import boto3; boto3.client('dynamodb')"
NAMES: Final = ("buy_ticket", "hold_ticket", "inventory", "admin")
TARGETS: Final = {"buy_ticket": 1.15, "hold_ticket": 1.15, "inventory": 1.15}
PACKAGES_SHOWN: Final = 3
HOW: Final = (
    "CPU of a Python process until `lambda_handler` is there, against one that makes a boto3 "
    "client; both with their bytecode cached"
)
HOW_FAULTS: Final = "page faults of these processes: how often memory was new to them"
HOW_MODULES: Final = "modules of such a process, and the packages that bring most of the others"


def rows(progress: Progress, pairs: int = PAIRS, functions: Path = FUNCTIONS) -> Iterator[Row]:
    """Measure the start of each function. functions: where they are imported from."""
    bare = _modules(BARE, functions)
    yield Row("modules of a boto3 client", len(bare), "", HOW_MODULES)
    for name in NAMES:
        program = f"import {name}.lambda_function"
        modules = _modules(program, functions)
        start, start_bare = partial(_usage, program, functions), partial(_usage, BARE, functions)
        cpu, faults = list[Pair](), list[Pair]()
        for ours, theirs in interleaved(start, start_bare, pairs):
            cpu.append((ours.milliseconds, theirs.milliseconds))
            faults.append((ours.page_faults, theirs.page_faults))
            progress(f"start of {name}, {len(cpu)} of {pairs} pairs")
        yield Row.ratio(f"start of `{name}`", cpu, HOW, at_most=TARGETS.get(name))
        yield Row.ratio(f"page faults of `{name}`", faults, HOW_FAULTS)
        packages = Counter(module.partition(".")[0] for module in modules - bare)
        shown = ", ".join(f"{package} {n}" for package, n in packages.most_common(PACKAGES_SHOWN))
        yield Row(f"modules of `{name}` ({shown})", len(modules), "", HOW_MODULES)


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What a process took. milliseconds: of CPU."""

    milliseconds: float
    page_faults: int


def _usage(program: str, functions: Path) -> ProcessUsage:
    """Run the program in a process of its own, from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _python(program, functions)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ProcessUsage(
        (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3,
        after.ru_minflt - before.ru_minflt,
    )


def _modules(program: str, functions: Path) -> set[str]:
    """Return the modules that a process has after the program. Caches their bytecode."""
    listing = "import json, sys; print(json.dumps([*sys.modules]))"
    return set(json.loads(_python(f"{program}\n{listing}", functions)))


def _python(program: str, functions: Path) -> bytes:
    """Return what a program prints, run as Lambda would run it."""
    # In a session of its own: Ctrl-C ends this process, and not also that one with a traceback.
    return subprocess.run(
        [sys.executable, "-c", program],
        env=variables(functions),
        stdout=subprocess.PIPE,
        check=True,
        start_new_session=True,
    ).stdout
