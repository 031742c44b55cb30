"""Runs one test against a service, from the reset to the verdict."""

import asyncio
import random
import threading
import time
from collections.abc import Sequence
from typing import Protocol, Self

from msgspec import Struct

from proof.admin import Admin
from proof.checker import check
from proof.client import Buyers, Target
from proof.crowd import Crowd
from proof.figures import figures_of
from proof.history import History, Kind, Lookup, Request, Reset, Sample
from proof.scenarios import Check, Outcome, Scenario, Size, Verdict, comeback_orders, common_checks

SAMPLE_INTERVAL_SECONDS = 0.2


class Plan(Struct, frozen=True):
    """How to run the tests.

    `in_flight` counts over all processes. `memory_seconds` is how long after a reset a process of the service may go by
    what it knew before it: buyers wait that long, and the checker allows for it.
    """

    target: Target
    item_id: int
    size: Size
    in_flight: int
    seed: int
    memory_seconds: float
    item_name: str | None = None
    shards: int | None = None


class Result(Struct, frozen=True):
    """What became of one test."""

    scenario: Scenario
    outcome: Outcome
    checks: list[Check]

    @property
    def verdict(self) -> Verdict:
        """Failed if anything is wrong, otherwise inconclusive if any check looked at nothing."""
        verdicts = {check.verdict for check in self.checks}
        if self.outcome.violations or Verdict.FAILED in verdicts:
            return Verdict.FAILED
        return Verdict.INCONCLUSIVE if Verdict.INCONCLUSIVE in verdicts else Verdict.PASSED


def worst(results: Sequence[Result]) -> Verdict:
    """The verdict on all tests together."""
    verdicts = {result.verdict for result in results}
    return next((one for one in (Verdict.FAILED, Verdict.INCONCLUSIVE) if one in verdicts), Verdict.PASSED)


class Watcher(Protocol):
    """Somebody who is told how far a test is."""

    def note(self, text: str) -> None:
        """Something happened that is worth a line."""

    def launched(self, scenario: Scenario, requests: int) -> None:
        """The sale of a test begins."""

    def answered(self, request: Request) -> None:
        """A buyer is through."""

    def sampled(self, sample: Sample) -> None:
        """The inventory was seen. Called from another thread."""

    def landed(self) -> None:
        """The last buyer is through."""


class Sampler:
    """Looks at the inventory every now and then while the sale runs, in a thread, as a context."""

    def __init__(self, admin: Admin, watcher: Watcher) -> None:
        self.samples: list[Sample] = []
        self._admin = admin
        self._watcher = watcher
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            pause = SAMPLE_INTERVAL_SECONDS
            sample = self._admin.sample()
            if sample is not None:
                self.samples.append(sample)
                self._watcher.sampled(sample)


def run(scenario: Scenario, plan: Plan, admin: Admin, watcher: Watcher) -> Result:
    """One test. Raises NotUsable if the service cannot be tested, and WorkerDied if buyers ended before their time."""
    orders = scenario.orders(plan.item_id, random.Random(plan.seed))
    opening = _reset(plan, admin, watcher)
    time.sleep(plan.memory_seconds)
    crowd = Crowd(plan.target, orders, scenario.processes, plan.in_flight, plan.seed)
    with crowd, Sampler(admin, watcher) as sampler:
        watcher.launched(scenario, crowd.requests_total)
        sale, resets = _sell(scenario, crowd, plan, admin, watcher)
        watcher.landed()
    _outwait_lost_requests(sale, plan, watcher)
    after: list[Request] = []
    if scenario.comes_back and (back := comeback_orders(sale)):
        watcher.note("Sending the keys that bought once more...")
        with Crowd(plan.target, back, scenario.processes, plan.in_flight, plan.seed) as comers:
            comers.open_gate(0)
            after = list(comers.requests())
    lookups = asyncio.run(_look_up(plan, [*sale, *after]))
    time.sleep(plan.memory_seconds)  # the inventory may be so old
    final, audit = admin.inventory(), admin.audit()
    history = History(
        requests=(*sale, *after),
        resets=(opening, *resets),
        samples=tuple(sampler.samples),
        lookups=tuple(lookups),
        final=final,
        audit=audit,
        memory_seconds=plan.memory_seconds,
    )
    violations = check(history)
    outcome = Outcome(plan.size, history, sale, after, figures_of(sale), final.inventory, audit, violations)
    checks = [*scenario.checks(outcome), *common_checks(outcome, refuses=scenario.refuses)]
    return Result(scenario, outcome, checks)


def _reset(plan: Plan, admin: Admin, watcher: Watcher) -> Reset:
    reset = admin.reset(plan.size.tickets, plan.item_name, plan.shards)
    watcher.note(f"Inventory reset to {reset.capacity} units")
    return reset


def _sell(
    scenario: Scenario, crowd: Crowd, plan: Plan, admin: Admin, watcher: Watcher
) -> tuple[list[Request], list[Reset]]:
    sale: list[Request] = []
    resets: list[Reset] = []
    crowd.open_gate(0)
    for request in crowd.requests():
        sale.append(request)
        watcher.answered(request)
        if len(sale) == scenario.reset_after:
            crowd.open_gate(1)
            resets.append(_reset(plan, admin, watcher))
            time.sleep(plan.memory_seconds)
            crowd.open_gate(2)
    return sale, resets


def _outwait_lost_requests(sale: Sequence[Request], plan: Plan, watcher: Watcher) -> None:
    """Wait until no request whose answer was lost can be under way any more.

    Otherwise it might buy in the next generation, and that test would find a record without a receipt.
    """
    lost = [each.started_at for request in sale for each in request.attempts if each.kind is Kind.UNKNOWN]
    seconds = max(lost, default=0.0) + plan.target.timeout_seconds - time.monotonic()
    if lost and seconds > 0:
        watcher.note(f"Waiting {seconds:.0f} s for requests whose answer was lost to end...")
        time.sleep(seconds)


async def _look_up(plan: Plan, requests: Sequence[Request]) -> list[Lookup]:
    found = {
        attempt.receipt.purchase_id
        for request in requests
        for attempt in request.attempts
        if attempt.receipt is not None
    }
    async with Buyers(plan.target, plan.in_flight, random.Random(plan.seed)) as buyers:
        return await asyncio.gather(*(buyers.look_up(purchase_id) for purchase_id in sorted(found)))
