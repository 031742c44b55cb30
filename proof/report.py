"""The console output and the JSON report."""

import platform
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore
import httpx
import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from proof.figures import Figures
from proof.history import (
    GUARANTEES,
    RECEIPTS,
    REFUSALS_FOR_NOW,
    Kind,
    PurchaseRequest,
    Sample,
    Violation,
)
from proof.runner import Result, worst
from proof.scenarios import Scenario, Verdict

LINE = "=" * 70
PROGRESS_STEP = 100
MARKS = {Verdict.PASSED: "✓", Verdict.FAILED: "✗", Verdict.INCONCLUSIVE: "?"}
STYLES = {Verdict.PASSED: "green", Verdict.FAILED: "red", Verdict.INCONCLUSIVE: "yellow"}

PROVED = (
    "Zero overselling (inventory never negative)",
    "Zero underselling (no deadlocks)",
    "Thread-safe under high concurrency",
    "Process-safe across multiple servers",
    "Exactly one purchase per key, and every receipt in the records",
    "The system is production-ready for flash sales.",
)


class Screen:
    """The console, with the progress of the running test: a bar on a terminal, lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._scenario: Scenario | None = None
        self._counts: Counter[str] = Counter()
        self._requests = 0
        self._lock = threading.RLock()

    def take_over(self) -> None:
        """End the progress. Output of other threads is dropped from now on."""
        self._lock.acquire()
        self.finished()

    def say(self, text: str = "", style: str | None = None) -> None:
        """Print a line as it is: no markup, no emoji for `:smile:`, no wrapping."""
        with self._lock:
            self._console.print(
                text, style=style, markup=False, emoji=False, highlight=False, soft_wrap=True
            )

    def headline(self, text: str) -> None:
        """Print a title between two lines."""
        self.say(f"\n{LINE}\n{text}\n{LINE}", style="bold")

    def print_header(self) -> None:
        """Print the name of the program and of the tests."""
        self.headline("🔧 INVENTORY SYSTEM - PROOF OF CORRECTNESS")
        self.say(
            "\nThis script proves that the inventory system:\n"
            "1. Prevents overselling (no negative inventory)\n"
            "2. Prevents underselling (no deadlocks)\n"
            "3. Works correctly with high concurrency\n"
            "4. Works across multiple processes\n"
            "5. Sells once per key, whatever is sent twice\n"
            "6. Loses and doubles nothing when it is reset in mid-sale\n"
            "7. Gives refunded tickets and those of forgotten holds back, once\n"
            "8. Keeps each buyer within the limit\n"
            "9. Sells nothing while it is paused\n"
        )

    def note(self, text: str) -> None:
        """Print a remark."""
        self.say(text)

    def begin(self, scenario: Scenario) -> None:
        """Print the title of a test."""
        self._scenario = scenario
        self._counts.clear()
        self._requests = 0
        self.headline(f"TEST {scenario.number}: {scenario.title}")

    def launched(self, scenario: Scenario, requests: int) -> None:
        """Show that the sale of a test has begun."""
        self._requests = requests
        self.say(scenario.launch_text)
        if not self._console.is_terminal:
            return
        columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with self._lock:
            self._progress = Progress(
                *columns, TextColumn("{task.description}"), console=self._console, transient=True
            )
            self._task = self._progress.add_task("", total=requests)
            self._progress.start()

    def answered(self, request: PurchaseRequest) -> None:
        """Count a request that has its last answer."""
        self._counts["answered"] += 1
        self._counts["receipts"] += request.last.kind in RECEIPTS
        self._counts["refused"] += request.last.kind in REFUSALS_FOR_NOW
        self._counts["busy"] += sum(attempt.kind is Kind.BUSY for attempt in request.attempts)
        answered = self._counts["answered"]
        if self._progress:
            shown = ("receipts", "refused", "busy")
            text = "  ".join(f"{name} {self._counts[name]}" for name in shown)
            if "stock" in self._counts:
                text += f"  stock {self._counts['stock']}"
            with self._lock:
                self._progress.update(self._task, completed=answered, description=text)
        elif self._requests > PROGRESS_STEP and (
            answered % PROGRESS_STEP == 0 or answered == self._requests
        ):
            self.say(f"Progress: {answered}/{self._requests}")

    def sampled(self, sample: Sample) -> None:
        """Keep the inventory, for the next progress line."""
        self._counts["stock"] = sample.inventory.current_stock

    def finished(self) -> None:
        """End the progress of a sale."""
        with self._lock:
            if self._progress:
                self._progress.stop()
                self._progress = None

    @property
    def has_begun(self) -> bool:
        """Return whether a test has begun."""
        return self._scenario is not None

    def progress_text(self) -> str:
        """Return the current test and its number of answers, in words."""
        if self._scenario is None:
            return "before the first test"
        answered = self._counts["answered"]
        return f"in TEST {self._scenario.number}, after {answered} of {self._requests} requests"

    def result(self, result: Result) -> None:
        """Print the verdict on a test, and why."""
        self.say(_results_text(result.observation.figures))
        inventory = result.observation.final
        self.say(
            "\n📦 FINAL INVENTORY:\n"
            f"  Current stock: {inventory.current_stock}\n"
            f"  Total purchases in DB: {result.observation.records}\n"
            f"  Tickets sold: {inventory.total_purchases}, held: {inventory.held}, shards: "
            f"{inventory.shard_count}"
        )
        self.say("\nVERIFICATION:")
        for check in result.checks:
            self.say(f"  {MARKS[check.verdict]} {check.text}", style=STYLES[check.verdict])
        for violation in result.observation.violations:
            self.violation(violation)
        number = result.scenario.number
        words = {
            Verdict.PASSED: f"PASSED!{result.scenario.success_text}",
            Verdict.FAILED: "FAILED!",
            Verdict.INCONCLUSIVE: (
                "INCONCLUSIVE: nothing wrong was found, but the lines with ? looked at nothing."
            ),
        }
        self.say(f"\nTEST {number} {words[result.verdict]}", style=f"bold {STYLES[result.verdict]}")

    def violation(self, violation: Violation) -> None:
        """Print a broken guarantee, and what shows it."""
        more = f" ({violation.count} such cases; this is the first)" if violation.count > 1 else ""
        guarantee = GUARANTEES[violation.guarantee]
        self.say(
            f"\nVIOLATION of {violation.guarantee} {guarantee}: {violation.rule}{more}",
            style="bold red",
        )
        self.say(f"  Expected: {violation.expected}\n  Found:    {violation.found}\n  Shown by:")
        for line in violation.evidence:
            self.say(f"    {line}")

    def summary(self, results: Sequence[Result], complete: bool) -> None:
        """Print all tests in a few lines."""
        self.headline("TEST SUMMARY")
        for result in results:
            figures = result.observation.figures
            verdict = result.verdict.upper()
            self.say(
                f"TEST {result.scenario.number}: {result.scenario.name}: {verdict} "
                f"({figures.requests} requests in {figures.seconds:.2f}s, "
                f"{figures.peak_in_flight} in flight at once)",
                style=STYLES[result.verdict],
            )
        match worst(results):
            case Verdict.INCONCLUSIVE:
                self.say(_inconclusive_text(results), style="bold yellow")
            case Verdict.FAILED:
                self.say(_failed_text(results), style="bold red")
            case Verdict.PASSED if not complete:
                self.say("\nThe selected tests passed.", style="bold green")
            case Verdict.PASSED:
                *names, last = [result.scenario.name for result in results]
                self.say(f"\n{', '.join(names)}, and {last}: PASSED", style="bold green")
                self.say("\nThe inventory system is CORRECT:\n", style="bold green")
                self.say("\n\n".join(PROVED))


def _inconclusive_text(results: Sequence[Result]) -> str:
    numbers = [
        str(result.scenario.number) for result in results if result.verdict is Verdict.INCONCLUSIVE
    ]
    return (
        f"\nThe proof is INCONCLUSIVE: tests {', '.join(numbers)} have checks that looked at "
        "nothing.\nNothing wrong was found. Run it again, with more buyers or with more requests "
        "in flight."
    )


def _failed_text(results: Sequence[Result]) -> str:
    broken = {
        violation.guarantee for result in results for violation in result.observation.violations
    }
    named = ", ".join(f"{number} {GUARANTEES[number]}" for number in sorted(broken))
    return f"\nThe inventory system is NOT CORRECT{': ' + named if named else '.'}"


def _results_text(figures: Figures) -> str:
    holds = f" ({figures.holds} of them holds)" if figures.holds else ""
    return (
        "\nRESULTS:\n"
        f"  Total time: {figures.seconds:.2f}s\n"
        f"  Throughput: {figures.requests_per_second:.2f} requests/second\n\n"
        f"  Successful purchases: {figures.successes}{holds}\n"
        f"  Replayed receipts: {figures.replays}\n"
        f"  Sold out responses: {figures.sold_out}\n"
        f"  All held responses: {figures.all_held}\n"
        f"  Not enough left responses: {figures.not_enough_left}\n"
        f"  Buyer limit responses: {figures.buyer_limit_reached}\n"
        f"  Sale not open responses: {figures.not_open}\n"
        f"  Server busy responses: {figures.busy_answers} (each retried with the same key)\n"
        f"  Unknown outcomes: {figures.unknown_outcomes} (each retried with the same key)\n"
        f"  Errors: {figures.errors}\n\n"
        "  Response times:\n"
        f"  Average response time: {figures.latency_average_ms:.2f}ms\n"
        f"  Min: {figures.latency_min_ms:.2f}ms\n"
        f"  Max: {figures.latency_max_ms:.2f}ms\n"
        f"  p50: {figures.latency_p50_ms:.2f}ms\n"
        f"  p99: {figures.latency_p99_ms:.2f}ms\n"
        f"  With all retries: p50 {figures.waiting_p50_ms:.2f}ms, p99 "
        f"{figures.waiting_p99_ms:.2f}ms\n\n"
        f"  Concurrency: {figures.peak_in_flight} requests in flight at once, "
        f"{figures.processes} process{'es' if figures.processes > 1 else ''} of buyers"
    )


def document(
    *,
    url: str,
    item_id: int,
    seed: int,
    started_at: datetime,
    results: Sequence[Result],
    verdict: str,
) -> dict[str, Any]:
    """Return the JSON report.

    verdict: "passed", "failed", "inconclusive", "interrupted" or "not usable".
    """
    return {
        "url": url,
        "item_id": item_id,
        "seed": seed,
        "started_at": started_at.isoformat(timespec="seconds"),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            "httpx": httpx.__version__,
            "botocore": botocore.__version__,
        },
        "verdict": verdict,
        "tests": [
            {
                "number": result.scenario.number,
                "name": result.scenario.name,
                "title": result.scenario.title,
                "verdict": result.verdict,
                "figures": result.observation.figures,
                "resets": result.observation.history.resets,
                "samples": len(result.observation.history.samples),
                "lookups": len(result.observation.history.lookups),
                "final_inventory": result.observation.final,
                "audit": result.observation.audit,
                "checks": result.checks,
                "violations": result.observation.violations,
            }
            for result in results
        ],
    }


def write(path: Path, report: dict[str, Any]) -> None:
    """Write the JSON report. Raises OSError."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
