"""What a person reads while the proof runs and after it, and the file that a machine reads."""

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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from proof.conductor import Result, worst
from proof.figures import Figures
from proof.history import RECEIPTS, REFUSALS, Kind, Request, Sample, Violation
from proof.scenarios import Scenario, Verdict

LINE = "=" * 70
PROGRESS_STEP = 100
MARKS = {Verdict.PASSED: "✓", Verdict.FAILED: "✗", Verdict.INCONCLUSIVE: "?"}
STYLES = {Verdict.PASSED: "green", Verdict.FAILED: "red", Verdict.INCONCLUSIVE: "yellow"}

GUARANTEES = {
    "G1": "No oversell",
    "G2": "No undersell",
    "G3": "Exactly once",
    "G4": "The records agree",
    "G5": "True answers",
    "G6": "No waiting for ever",
}


class Screen:
    """The console, and the progress of the test that runs: a bar on a terminal, lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._scenario: Scenario | None = None
        self._counts: Counter[str] = Counter()
        self._requests = 0
        self._lock = threading.RLock()

    def take_over(self) -> None:
        """End the progress, and keep other threads from the screen: what they would say from now on is void."""
        self._lock.acquire()
        self.landed()

    def say(self, text: str = "", style: str | None = None) -> None:
        """A line, as it is: no markup, no wrapping."""
        with self._lock:
            self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def headline(self, text: str) -> None:
        """A title between two lines."""
        self.say(f"\n{LINE}\n{text}\n{LINE}", style="bold")

    def greet(self) -> None:
        """What this is."""
        self.headline("🔧 INVENTORY SYSTEM - PROOF OF CORRECTNESS")
        self.say(
            "\nThis script proves that the inventory system:\n"
            "1. Prevents overselling (no negative inventory)\n"
            "2. Prevents underselling (no deadlocks)\n"
            "3. Works correctly with high concurrency\n"
            "4. Works across multiple processes\n"
            "5. Sells once per key, whatever is sent twice\n"
            "6. Loses and doubles nothing when it is reset in mid-sale\n"
        )

    def note(self, text: str) -> None:
        """Something happened that is worth a line."""
        self.say(text)

    def begin(self, scenario: Scenario) -> None:
        """A test begins."""
        self._scenario = scenario
        self._counts.clear()
        self._requests = 0
        self.headline(f"TEST {scenario.number}: {scenario.title}")

    def launched(self, scenario: Scenario, requests: int) -> None:
        """The sale of a test begins."""
        self._requests = requests
        self.say(scenario.launching)
        if not self._console.is_terminal:
            return
        columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with self._lock:
            self._progress = Progress(*columns, TextColumn("{task.description}"), console=self._console, transient=True)
            self._task = self._progress.add_task("", total=requests)
            self._progress.start()

    def answered(self, request: Request) -> None:
        """A buyer is through."""
        self._counts["answered"] += 1
        self._counts["receipts"] += request.last.kind in RECEIPTS
        self._counts["sold out"] += request.last.kind in REFUSALS
        self._counts["busy"] += sum(attempt.kind is Kind.BUSY for attempt in request.attempts)
        answered = self._counts["answered"]
        if self._progress:
            shown = ("receipts", "sold out", "busy")
            text = "  ".join(f"{name} {self._counts[name]}" for name in shown)
            if "stock" in self._counts:
                text += f"  stock {self._counts['stock']}"
            with self._lock:
                self._progress.update(self._task, completed=answered, description=text)
        elif self._requests > PROGRESS_STEP and (answered % PROGRESS_STEP == 0 or answered == self._requests):
            self.say(f"Progress: {answered}/{self._requests}")

    def sampled(self, sample: Sample) -> None:
        """The inventory was seen; the next answer shows it."""
        self._counts["stock"] = sample.inventory.current_stock

    def landed(self) -> None:
        """The last buyer is through, or nobody waits for it any more."""
        with self._lock:
            if self._progress:
                self._progress.stop()
                self._progress = None

    @property
    def has_begun(self) -> bool:
        """Whether a test has begun."""
        return self._scenario is not None

    def how_far(self) -> str:
        """Where the proof stands."""
        if self._scenario is None:
            return "before the first test"
        return f"in TEST {self._scenario.number}, after {self._counts['answered']} of {self._requests} requests"

    def result(self, result: Result) -> None:
        """The verdict on a test, and why."""
        self.say(_results_text(result.outcome.figures))
        inventory = result.outcome.final
        self.say(
            "\n📦 FINAL INVENTORY:\n"
            f"  Current stock: {inventory.current_stock}\n"
            f"  Total purchases in DB: {result.outcome.records}\n"
            f"  Tickets sold: {inventory.total_purchases}, held: {inventory.held}, shards: {inventory.shard_count}"
        )
        self.say("\nVERIFICATION:")
        for check in result.checks:
            self.say(f"  {MARKS[check.verdict]} {check.text}", style=STYLES[check.verdict])
        for violation in result.outcome.violations:
            self._violation(violation)
        number = result.scenario.number
        words = {
            Verdict.PASSED: f"PASSED!{result.scenario.praise}",
            Verdict.FAILED: "FAILED!",
            Verdict.INCONCLUSIVE: "INCONCLUSIVE: nothing wrong was found, but the lines with ? looked at nothing.",
        }
        self.say(f"\nTEST {number} {words[result.verdict]}", style=f"bold {STYLES[result.verdict]}")

    def _violation(self, violation: Violation) -> None:
        more = f" ({violation.count} such cases; this is the first)" if violation.count > 1 else ""
        guarantee = GUARANTEES[violation.guarantee]
        self.say(f"\nVIOLATION of {violation.guarantee} {guarantee}: {violation.rule}{more}", style="bold red")
        self.say(f"  Expected: {violation.expected}\n  Found:    {violation.found}\n  Shown by:")
        for line in violation.evidence:
            self.say(f"    {line}")

    def summary(self, results: Sequence[Result], complete: bool) -> None:
        """All tests in a few lines."""
        self.headline("TEST SUMMARY")
        for result in results:
            figures = result.outcome.figures
            verdict = result.verdict.upper()
            self.say(
                f"TEST {result.scenario.number}: {result.scenario.name}: {verdict} "
                f"({figures.requests} requests in {figures.seconds:.2f}s, {figures.peak_in_flight} in flight at once)",
                style=STYLES[result.verdict],
            )
        overall = worst(results)
        if overall is Verdict.INCONCLUSIVE:
            numbers = [str(result.scenario.number) for result in results if result.verdict is overall]
            self.say(
                f"\nThe proof is INCONCLUSIVE: tests {', '.join(numbers)} could not look at what they are there for.\n"
                "Nothing wrong was found. Run it again, with more buyers or with more requests in flight.",
                style="bold yellow",
            )
        elif overall is Verdict.FAILED:
            broken = sorted({violation.guarantee for result in results for violation in result.outcome.violations})
            named = ", ".join(f"{number} {GUARANTEES[number]}" for number in broken)
            self.say(f"\nThe inventory system is NOT CORRECT{': ' + named if named else '.'}", style="bold red")
        elif not complete:
            self.say("\nThe selected tests passed.", style="bold green")
        else:
            *names, last = [result.scenario.name for result in results]
            self.say(f"\n{', '.join(names)}, and {last}: PASSED", style="bold green")
            self.say("\nThe inventory system is CORRECT:\n", style="bold green")
            self.say(
                "Zero overselling (inventory never negative)\n\n"
                "Zero underselling (no deadlocks)\n\n"
                "Thread-safe under high concurrency\n\n"
                "Process-safe across multiple servers\n\n"
                "Exactly one purchase per key, and every receipt in the records\n\n"
                "The system is production-ready for flash sales."
            )


def _results_text(figures: Figures) -> str:
    return (
        "\nRESULTS:\n"
        f"  Total time: {figures.seconds:.2f}s\n"
        f"  Throughput: {figures.requests_per_second:.2f} requests/second\n\n"
        f"  Successful purchases: {figures.successes}\n"
        f"  Replayed receipts: {figures.replays}\n"
        f"  Sold out responses: {figures.sold_out}\n"
        f"  Not enough left responses: {figures.not_enough_left}\n"
        f"  Server busy responses: {figures.busy_answers} (each retried with the same key)\n"
        f"  Unknown outcomes: {figures.unknown_outcomes} (each retried with the same key)\n"
        f"  Errors: {figures.errors}\n\n"
        "  Response times:\n"
        f"  Average response time: {figures.latency_average_ms:.2f}ms\n"
        f"  Min: {figures.latency_min_ms:.2f}ms\n"
        f"  Max: {figures.latency_max_ms:.2f}ms\n"
        f"  p50: {figures.latency_p50_ms:.2f}ms\n"
        f"  p99: {figures.latency_p99_ms:.2f}ms\n"
        f"  With all retries: p50 {figures.waiting_p50_ms:.2f}ms, p99 {figures.waiting_p99_ms:.2f}ms\n\n"
        f"  Concurrency: {figures.peak_in_flight} requests in flight at once, "
        f"{figures.processes} process{'es' if figures.processes > 1 else ''} of buyers"
    )


def document(
    *, url: str, item_id: int, seed: int, started_at: datetime, results: Sequence[Result], verdict: str
) -> dict[str, Any]:
    """The report for machines. `verdict` is "passed", "failed", "inconclusive", "interrupted" or "not usable"."""
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
                "figures": result.outcome.figures,
                "resets": result.outcome.history.resets,
                "samples": len(result.outcome.history.samples),
                "lookups": len(result.outcome.history.lookups),
                "final_inventory": result.outcome.final,
                "audit": result.outcome.audit,
                "checks": result.checks,
                "violations": result.outcome.violations,
            }
            for result in results
        ],
    }


def write(path: Path, report: dict[str, Any]) -> None:
    """Write the report for machines."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
