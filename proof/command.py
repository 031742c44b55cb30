"""The command line of the proof: options and exit status."""

import argparse
import contextlib
import os
import random
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final

import httpx
from msgspec import Struct
from rich.console import Console

from organiser.client import Target
from proof import EXIT_INTERRUPTED, judging, report
from proof.admin import Admin, NotUsable, signer
from proof.history import Inventory
from proof.processes import WorkerDied
from proof.runner import Plan, Result, run, worst
from proof.scenarios import Scenario, Size, Verdict, scenarios

LOCAL_URL = "http://127.0.0.1:8000/live"
EXIT_PASSED, EXIT_FAILED, EXIT_NOT_USABLE, EXIT_INCONCLUSIVE = 0, 1, 2, 3
# On this machine as many as the original system's own proof had: its 1,000 requests of 2.05 s took
# 41 s. The local stack has one process per request in flight, four per core, and answers 429 to the
# rest. Lambda has hundreds.
IN_FLIGHT_LOOPBACK, IN_FLIGHT_ELSEWHERE = 50, 200

DESCRIPTION = """\
Proves that the ticket sale sells exactly its stock: ten tests with processes of buyers, and a
check of every answer.

Each test resets the item that it sells, and no one else may buy it meanwhile. At the end the item
gets its stock and its name back, as a new sale.

With --from-logs nothing is bought or reset: a sale that is over is judged by the functions' log
lines and by its table."""

EPILOG = """\
exit status:
  0   all tests passed
  1   a guarantee is broken; the counter-example is printed
  2   the proof could not be carried out: usage, no server, no admin routes, incomplete log
  3   inconclusive: nothing wrong was found, but a check looked at nothing; it says which
  130 interrupted; the item is left in the middle of a test

examples:
  python -m proof
  python -m proof --only 2 --buyers 5000 --tickets 500 --report proof.html
  python -m proof --url https://abc123.execute-api.eu-west-1.amazonaws.com/live \\
    --i-know-this-resets-item 1
  aws logs filter-log-events --log-group-name GROUP --start-time MILLISECONDS > sale.json
  python -m proof --from-logs sale.json --item 7 \\
    --url https://abc123.execute-api.eu-west-1.amazonaws.com/live
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(
        "python -m proof",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_service_options(parser.add_argument_group("the service"))
    _add_size_options(parser.add_argument_group("the tests"))
    _add_time_limits(parser.add_argument_group("time limits, in seconds"))
    add = parser.add_argument_group("the output").add_argument
    kinds = "write a report: FILE.html is a page with pictures, others are JSON; can be repeated"
    add("--report", type=Path, action="append", default=[], metavar="FILE", help=kinds)
    return parser


def _add_service_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--url", default=LOCAL_URL, help="the API with its stage (default: %(default)s)")
    logs = "judge a sale that is over by the functions' log lines in these files; - is the input"
    add("--from-logs", type=Path, nargs="+", metavar="FILE", help=logs)
    resets = "the item to sell, which is RESET, or to judge (default: %(default)s)"
    add("--item", type=int, default=1, metavar="ID", help=resets)
    elsewhere = "required for a service that is not on this machine"
    add("--i-know-this-resets-item", type=int, metavar="ID", help=elsewhere)
    region = "AWS Region to sign for (default: from the URL, then from your configuration)"
    add("--region", help=region)
    add("--profile", help="AWS profile to sign with")


def _add_size_options(group: argparse._ArgumentGroup) -> None:
    def number(name: str, least: int, default: int | None, text: str) -> None:
        group.add_argument(name, type=_at_least(least), default=default, metavar="N", help=text)

    group.add_argument("--only", type=_numbers, metavar="1,2", help="only these tests")
    number("--buyers", 2, 1000, "buyers in tests 2 and 3 (default: %(default)s)")
    number("--tickets", 2, 100, "tickets on sale (default: %(default)s)")
    number("--processes", 2, 4, "processes of buyers (default: %(default)s)")
    in_flight = (
        "requests in flight at once, over all processes "
        f"(default: {IN_FLIGHT_LOOPBACK} on this machine, {IN_FLIGHT_ELSEWHERE} elsewhere)"
    )
    number("--in-flight", 2, None, in_flight)
    number("--shards", 1, None, "stock shards of the sale (default: the service decides)")
    number("--hold-seconds", 1, 30, "how long holds last in test 8 (default: %(default)s)")
    seed = "for quantities and pauses (default: random, and printed)"
    group.add_argument("--seed", type=int, metavar="N", help=seed)


def _add_time_limits(group: argparse._ArgumentGroup) -> None:
    def seconds(name: str, default: float, text: str) -> None:
        group.add_argument(name, type=float, default=default, metavar="SECONDS", help=text)

    seconds("--timeout", 30.0, "for one answer (default: 30; API Gateway waits 29)")
    seconds("--patience", 120.0, "for all attempts of one buyer (default: 120)")
    cache = "how long the service may cache a sale (default: 1.5; it promises 1)"
    seconds("--cache", 1.5, cache)


class Ending(Struct, frozen=True):
    """How the proof ended. text: for the report."""

    exit_status: int
    text: str


ENDINGS: Final = {
    Verdict.PASSED: Ending(EXIT_PASSED, "passed"),
    Verdict.FAILED: Ending(EXIT_FAILED, "failed"),
    Verdict.INCONCLUSIVE: Ending(EXIT_INCONCLUSIVE, "inconclusive"),
}
NOT_USABLE: Final = Ending(EXIT_NOT_USABLE, "not usable")
INTERRUPTED: Final = Ending(EXIT_INTERRUPTED, "interrupted")
END: Final = b"\0"


class _Work(Struct):
    """What the proof has done so far, also where Ctrl-C ends it. admin: None before it began."""

    results: list[Result] = []
    admin: Admin | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the proof and return the exit status."""
    parsed = parser()
    options = parsed.parse_args(arguments)
    _check_options(parsed, options)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    screen = report.Screen(Console())
    if options.from_logs:
        return _judge(options, screen)
    started_at = datetime.now(UTC)
    seed = random.randrange(2**32) if options.seed is None else options.seed
    work = _Work()
    ending = _unless_interrupted(lambda: _carry_out(options, seed, screen, work))
    if ending is INTERRUPTED:
        screen.take_over()
        is_resumed = work.admin is None or work.admin.try_to_resume()
        screen.say(
            f"\nInterrupted {screen.progress_text()}. {len(work.results)} tests were complete.",
            style="bold red",
        )
        if screen.has_begun:
            screen.say(
                f"Item {options.item} is left in the middle of a test: reset it before you sell it."
            )
        if not is_resumed:
            screen.say(f"It may be paused: resume it, with POST /items/{options.item}/resume.")
    for path in options.report:
        content = report.document(
            url=options.url,
            item_id=options.item,
            seed=seed,
            started_at=started_at,
            results=work.results,
            verdict=ending.text,
        )
        _write(path, content, work.results, arguments)
        screen.say(f"Report: {path}")
    return ending.exit_status


def _judge(options: argparse.Namespace, screen: report.Screen) -> int:
    """Judge a sale by its log and its table; return the exit status."""
    target = Target(options.url, options.timeout, options.patience)

    def work() -> Ending:
        try:
            log = judging.read_files(options.from_logs)
            screen.say(f"{len(log.lines)} request lines. Reading the table, at {options.url} ...")
            signed = signer(target, options.region, options.profile)
            with Admin(target, signed, options.item, random.Random(), time.time) as admin:
                judgement = judging.judge(log, admin, options.cache, screen.say)
        except NotUsable as error:
            screen.say(f"\nThe sale cannot be judged: {error.what}\n{error.remedy}", "bold red")
            return NOT_USABLE
        judging.show(judgement, screen)
        for path in options.report:
            report.write(path, judging.document(judgement, options.url))
            screen.say(f"Report: {path}")
        return ENDINGS[judgement.verdict]

    ending = _unless_interrupted(work)
    if ending is INTERRUPTED:
        screen.take_over()
        screen.say("\nInterrupted. Nothing was changed.", style="bold red")
    return ending.exit_status


def _write(
    path: Path,
    content: dict[str, Any],
    results: Sequence[Result],
    arguments: Sequence[str] | None,
) -> None:
    if path.suffix != ".html":
        report.write(path, content)
        return
    from proof.results_page import page_of  # noqa: PLC0415 - matplotlib takes a second

    again = shlex.join(
        ["python", "-m", "proof", *(sys.argv[1:] if arguments is None else arguments)]
    )
    page_of(content, results, again).write(path)


def _unless_interrupted(work: Callable[[], Ending]) -> Ending:
    """Return or raise what `work` does; return INTERRUPTED at Ctrl-C.

    The work runs in a thread of its own, and this one waits. Ctrl-C as an exception inside the work
    could come where exceptions are dropped, or interrupt a clean-up.
    """
    outcomes: list[Ending | BaseException] = []
    # The system may hand a signal to any thread, which wakes no other one. A byte in a pipe does.
    waiting, waking = os.pipe()
    os.set_blocking(waking, False)

    def carry_out() -> None:
        try:
            outcomes.append(work())
        except BaseException as error:
            outcomes.append(error)
        os.write(waking, END)

    handler = signal.signal(signal.SIGINT, lambda *_: None)
    signal.set_wakeup_fd(waking)
    try:
        threading.Thread(target=carry_out, daemon=True).start()
        interrupted = os.read(waiting, 1) != END
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, handler)
    if interrupted:
        return INTERRUPTED
    os.close(waiting)
    os.close(waking)
    (observation,) = outcomes
    if isinstance(observation, BaseException):
        raise observation
    return observation


def _carry_out(
    options: argparse.Namespace, seed: int, screen: report.Screen, work: _Work
) -> Ending:
    try:
        return _prove(options, seed, screen, work)
    except NotUsable as error:
        screen.finished()
        screen.say(
            f"\nThe proof ended {screen.progress_text()}: {error.what}\n{error.remedy}",
            style="bold red",
        )
    except WorkerDied as error:
        screen.finished()
        screen.say(
            f"\nThe proof ended {screen.progress_text()}: {error}. See its traceback above.",
            style="bold red",
        )
    return NOT_USABLE


def _prove(options: argparse.Namespace, seed: int, screen: report.Screen, work: _Work) -> Ending:
    target = Target(options.url, options.timeout, options.patience)
    chosen = _chosen(options)
    screen.print_header()
    screen.say("🕒 Checking if server is running...")
    with Admin(
        target, signer(target, options.region, options.profile), options.item, random.Random(seed)
    ) as admin:
        work.admin, results = admin, work.results
        before = admin.inventory_at_start()
        screen.say(f"Server is running!\n\n{options.url}, seed {seed}")
        named = f" ({before.item_name}, {before.initial_stock} tickets)" if before else ""
        screen.say(f"Item {options.item}{named} is reset in each test.", style="yellow")
        in_flight = options.in_flight or (
            IN_FLIGHT_LOOPBACK if target.is_loopback else IN_FLIGHT_ELSEWHERE
        )
        plan = Plan(
            target=target,
            item_id=options.item,
            size=_size(options),
            in_flight=in_flight,
            seed=seed,
            cache_seconds=options.cache,
            item_name=before.item_name if before else None,
            shards=options.shards,
            hold_seconds=options.hold_seconds,
        )
        try:
            for scenario in chosen:
                screen.begin(scenario)
                results.append(run(scenario, plan, admin, screen))
                screen.result(results[-1])
        finally:
            _restore_item(admin, before, results, screen)
    screen.summary(results, complete=options.only is None)
    return ENDINGS[worst(results)]


def _restore_item(
    admin: Admin, before: Inventory | None, results: Sequence[Result], screen: report.Screen
) -> None:
    """Give the item its stock back, unless its state may show what went wrong."""
    screen.finished()
    if worst(results) is Verdict.FAILED:
        screen.say(f"\nItem {admin.item_id} is left as it is, to be looked into.")
    elif before is not None:
        with contextlib.suppress(NotUsable):
            admin.reset(
                before.initial_stock,
                before.item_name,
                before.shard_count,
                before.hold_seconds,
                before.per_buyer_limit,
            )
            screen.say(
                f"\nItem {before.item_id} is on sale again with {before.initial_stock} tickets."
            )


def _size(options: argparse.Namespace) -> Size:
    return Size(options.tickets, options.buyers, options.processes)


def _chosen(options: argparse.Namespace) -> list[Scenario]:
    every = scenarios(_size(options))
    return [
        scenario for scenario in every if options.only is None or scenario.number in options.only
    ]


def _check_options(parsed: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with status 2 for options that contradict each other."""
    url = httpx.URL(options.url)
    if url.scheme not in ("http", "https") or not url.host:
        parsed.error(f"--url {options.url} is no URL: https://…/live")
    if options.buyers < options.tickets or options.buyers % options.processes:
        parsed.error("--buyers must be at least --tickets, and a multiple of --processes")
    for path in options.report:
        if not path.absolute().parent.is_dir():
            parsed.error(f"--report {path}: there is no such folder")
    if options.only is not None and not _chosen(options):
        parsed.error(f"--only names no test: there are 1 to {len(scenarios(Size()))}")
    if options.from_logs:
        _check_judging(parsed, options)
    elif not Target(options.url).is_loopback and options.i_know_this_resets_item != options.item:
        parsed.error(
            f"the proof resets item {options.item} of {options.url}, which ends its sale. "
            f"If you mean it, add --i-know-this-resets-item {options.item}"
        )


def _check_judging(parsed: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with status 2 for options that do not go with --from-logs."""
    if options.only is not None or options.seed is not None:
        parsed.error("--only and --seed do not go with --from-logs: nothing is bought")
    for path in options.from_logs:
        if path != judging.STDIN and not path.is_file():
            parsed.error(f"--from-logs {path}: there is no such file")
    for path in options.report:
        if path.suffix == ".html":
            parsed.error(f"--report {path}: with --from-logs a report is JSON")


def _numbers(text: str) -> frozenset[int]:
    return frozenset(int(number) for number in text.split(","))


def _at_least(least: int) -> "type[int]":
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}")
        return value

    return number  # type: ignore[return-value]
