"""Judges a sale that is over, by the functions' log lines and the table; it changes nothing."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from proof.admin import Admin, NotUsable
from proof.checker import check
from proof.history import GUARANTEES, Violation
from proof.log_changes import LATE_COMMIT_SECONDS, ChangesOfSale, NotJudged
from proof.log_history import LoggedSale, TableState, logged_sale, since_this_version
from proof.log_lines import Log, read_log
from proof.report import Screen
from proof.scenarios import Verdict

STDIN = Path("-")
_REMEDY = "Give the log of all functions, written with LogLevel INFO."


class Judgement(Struct, frozen=True):
    """The verdict on a sale, and what it was judged by."""

    item_id: int
    log: Log
    table: TableState
    sale: LoggedSale
    violations: Sequence[Violation]

    @property
    def verdict(self) -> Verdict:
        """Return inconclusive where no line tells of an order."""
        if self.violations:
            return Verdict.FAILED
        return Verdict.PASSED if self.sale.orders else Verdict.INCONCLUSIVE


def read_files(paths: Sequence[Path]) -> Log:
    """Return the log lines of some files; `-` is the standard input. Raises NotUsable."""
    return read_log([_text(path) for path in paths])


def judge(log: Log, admin: Admin, cache_seconds: float, say: Callable[[str], object]) -> Judgement:
    """Judge the sale of the organiser's item.

    admin: with the time since the epoch as its clock. cache_seconds: see `proof.history.History`.
    say: is told what goes on.

    Raises NotUsable where the service does not answer, or the log lacks what is needed.
    """
    item_id, lines = admin.item_id, len(log.lines)
    log = since_this_version(log, item_id)
    if older := lines - len(log.lines):
        say(f"Left out: the first {older} lines. An earlier version wrote some of them.")
    _outwait_late_commits(log, say)
    try:
        final = admin.inventory().inventory
        changes = ChangesOfSale.of(log, item_id)
        generations = changes.generations(final.generation)
        exports = []
        for number in generations:
            say(f"Exporting generation {number}, of {generations[-1]}...")
            exports.append(admin.export("jsonl", number, with_holds=True))
        audit = admin.audit()
        # Whatever this machine's clock says, the table was read after the last line.
        read_at = max(time.time(), _newest(log))
        table = TableState(exports, final, audit, read_at)
        sale = logged_sale(log, changes, table, cache_seconds)
    except NotJudged as error:
        raise NotUsable(error.what, error.remedy) from error
    return Judgement(item_id, log, table, sale, check(sale.history))


def show(judgement: Judgement, screen: Screen) -> None:
    """Print what was judged, and the verdict."""
    log, sale, table = judgement.log, judgement.sale, judgement.table
    screen.headline(f"ITEM {judgement.item_id}, BY ITS LOG AND ITS TABLE")
    lines = [line for line in log.lines if line.item_id == judgement.item_id]
    span = f", {lines[0].timestamp:%F %T} to {lines[-1].timestamp:%F %T} UTC" if lines else ""
    screen.say(f"\nLOG:\n  Lines of the item: {len(lines)} of {len(log.lines)}{span}")
    if log.unreadable:
        screen.say(f"  Not readable: {log.unreadable} lines", style="yellow")
    screen.say("  Answers to orders, each judged:")
    _counted(screen, sale.orders)
    if sale.left_out:
        screen.say("  Lines of orders that are not judged:")
        _counted(screen, sale.left_out)
    current = table.exports[-1].total
    screen.say(
        f"\nTABLE:\n  Generations: {len(sale.history.resets)}\n"
        f"  Tickets sold: {table.final.total_purchases} of {table.final.initial_stock}, "
        f"held: {table.final.held}, purchases: {current.purchases if current else 'not known'}"
    )
    if sale.without_line:
        screen.say("  Without a line, because a function was killed or lines are missing:")
        _counted(screen, sale.without_line)
    for violation in judgement.violations:
        screen.violation(violation)
    screen.say(*_verdict_text(judgement))


def document(judgement: Judgement, url: str) -> dict[str, Any]:
    """Return the JSON report."""
    sale = judgement.sale
    return {
        "url": url,
        "item_id": judgement.item_id,
        "verdict": judgement.verdict,
        "lines": len(judgement.log.lines),
        "unreadable_lines": judgement.log.unreadable,
        "orders": sale.orders,
        "not_judged": sale.left_out,
        "without_line": sale.without_line,
        "resets": sale.history.resets,
        "final_inventory": judgement.table.final,
        "audit": judgement.table.audit,
        "violations": judgement.violations,
    }


def _verdict_text(judgement: Judgement) -> tuple[str, str]:
    """Return the verdict in words, and its style."""
    match judgement.verdict:
        case Verdict.FAILED:
            broken = sorted({each.guarantee for each in judgement.violations})
            names = ", ".join(f"{number} {GUARANTEES[number]}" for number in broken)
            return f"\nTHE SALE WAS NOT CORRECT: {names}", "bold red"
        case Verdict.INCONCLUSIVE:
            return f"\nINCONCLUSIVE: no line tells of an order. {_REMEDY}", "bold yellow"
        case Verdict.PASSED:
            return "\nTHE SALE WAS CORRECT: nothing contradicts the guarantees.", "bold green"


def _counted(screen: Screen, counts: dict[Any, int]) -> None:
    for name, count in counts.items():
        screen.say(f"    {count:>7}  {name}")


def _text(path: Path) -> str:
    try:
        if path == STDIN:
            return sys.stdin.read()
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise NotUsable(f"{path}: {error.strerror}.", "Give files with log lines.") from error


def _outwait_late_commits(log: Log, say: Callable[[str], object]) -> None:
    """Wait until nothing can take effect any more of what the last lines tell of."""
    seconds = min(_newest(log) + LATE_COMMIT_SECONDS - time.time(), 2 * LATE_COMMIT_SECONDS)
    if seconds > 0:
        say(f"Waiting {seconds:.0f} s: until then a request in doubt may still take effect.")
        time.sleep(seconds)


def _newest(log: Log) -> float:
    return max((line.ended_at for line in log.lines), default=0.0)
