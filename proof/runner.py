"""Runs one test, from the reset to the verdict."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, Self

from msgspec import Struct

from organiser.client import Target
from proof.admin import Admin
from proof.checker import check
from proof.client import Buyers
from proof.figures import figures_of
from proof.history import (
    SKEW_SECONDS,
    CapacityChange,
    History,
    HoldChange,
    Kind,
    Lookup,
    Pause,
    PurchaseRequest,
    Receipt,
    Refund,
    Reset,
    Sample,
)
from proof.holds import longest_hold_seconds
from proof.processes import BuyerProcesses
from proof.scenarios import (
    Check,
    Observation,
    Scenario,
    Size,
    Verdict,
    common_checks,
    repeated_requests,
)

SAMPLE_INTERVAL_SECONDS = 0.2


class Plan(Struct, frozen=True):
    """How to run the tests.

    in_flight: over all processes. cache_seconds: how long a process of the service may use what it
    read before a reset. Buyers wait that long, and the checker allows for it.
    """

    target: Target
    item_id: int
    size: Size
    in_flight: int
    seed: int
    cache_seconds: float
    item_name: str | None = None
    shards: int | None = None
    hold_seconds: int = 30


class Result(Struct, frozen=True):
    """The result of one test."""

    scenario: Scenario
    observation: Observation
    checks: list[Check]

    @property
    def verdict(self) -> Verdict:
        """Return failed if any check failed, otherwise inconclusive if any looked at nothing."""
        verdicts = {check.verdict for check in self.checks}
        if self.observation.violations or Verdict.FAILED in verdicts:
            return Verdict.FAILED
        return Verdict.INCONCLUSIVE if Verdict.INCONCLUSIVE in verdicts else Verdict.PASSED


def worst(results: Sequence[Result]) -> Verdict:
    """Return the verdict on all tests together."""
    verdicts = {result.verdict for result in results}
    return next(
        (one for one in (Verdict.FAILED, Verdict.INCONCLUSIVE) if one in verdicts), Verdict.PASSED
    )


class Watcher(Protocol):
    """Receives the progress of a test."""

    def note(self, text: str) -> None:
        """Receive a remark."""

    def launched(self, scenario: Scenario, requests: int) -> None:
        """Receive that the sale of a test has begun."""

    def answered(self, request: PurchaseRequest) -> None:
        """Receive a request that has its last answer."""

    def sampled(self, sample: Sample) -> None:
        """Receive a sample. Called from another thread."""

    def finished(self) -> None:
        """Receive that all requests have their last answer."""


class Sampler:
    """Reads the inventory at intervals during the sale, in a thread, as a context manager."""

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
    """Run one test.

    Raises NotUsable if the service cannot be tested, and WorkerDied if a process of buyers died.
    """
    planned = scenario.planned(plan.item_id, random.Random(plan.seed))
    opening = _reset(scenario, plan, admin, watcher)
    time.sleep(plan.cache_seconds)
    buyers = BuyerProcesses(plan.target, planned, scenario.processes, plan.in_flight, plan.seed)
    with buyers, Sampler(admin, watcher) as sampler:
        watcher.launched(scenario, buyers.requests_total)
        sold = _sell(scenario, buyers, plan, admin, watcher)
        watcher.finished()
    sale = sold.sale
    _outwait_lost_requests(sale, plan, watcher)
    after: list[PurchaseRequest] = []
    if scenario.sends_keys_again and (repeated := repeated_requests(sale)):
        watcher.note("Sending the keys that bought once more...")
        with BuyerProcesses(
            plan.target, repeated, scenario.processes, plan.in_flight, plan.seed
        ) as buyers_again:
            buyers_again.open_gate(0)
            after = list(buyers_again.requests())
    lookups = asyncio.run(_look_up(plan, [*sale, *after]))
    time.sleep(plan.cache_seconds)  # GET /inventory may be that old
    final, audit = admin.inventory(), admin.audit()
    exports = admin.export("jsonl"), admin.export("csv")
    history = History(
        requests=(*sale, *after),
        resets=(opening, *sold.resets),
        refunds=tuple(sold.refunds),
        changes=tuple(sold.changes),
        pauses=tuple(sold.pauses),
        capacity_changes=tuple(sold.capacity_changes),
        samples=tuple(sampler.samples),
        lookups=tuple(lookups),
        final=final,
        audit=audit,
        exports=exports,
        cache_seconds=plan.cache_seconds,
        skew_seconds=SKEW_SECONDS,
        pause_seconds=plan.cache_seconds,
    )
    violations = check(history)
    observation = Observation(
        plan.size, history, sale, after, figures_of(sale), final.inventory, audit, violations
    )
    checks = [*scenario.checks(observation), *common_checks(observation, refuses=scenario.refuses)]
    return Result(scenario, observation, checks)


class _Sold(Struct):
    """What happened during a sale."""

    sale: list[PurchaseRequest] = []
    resets: list[Reset] = []
    refunds: list[Refund] = []
    changes: list[HoldChange] = []
    pauses: list[Pause] = []
    capacity_changes: list[CapacityChange] = []


class _Pausing(AbstractContextManager["_Pausing"]):
    """Pauses the sale once, where the test says so. It is resumed also where the test fails."""

    def __init__(
        self, scenario: Scenario, buyers: BuyerProcesses, plan: Plan, admin: Admin, watcher: Watcher
    ) -> None:
        stages = Counter(each.stage for each in buyers.planned for _ in range(each.copies))
        self._pause_after = scenario.pause_after
        self._resume_after = stages[0] + stages[1]
        self._buyers = buyers
        self._seconds = plan.cache_seconds
        self._admin = admin
        self._watcher = watcher
        self._began: tuple[float, float] | None = None

    def __exit__(self, *error: object) -> None:
        if self._admin.may_be_paused:
            self._admin.resume()

    def answered(self, answers: int) -> list[Pause]:
        """Pause or resume, where so many answers are the time to; return a pause that is over."""
        if answers == self._pause_after:
            self._watcher.note("Pausing the sale...")
            self._began = self._admin.pause()
            time.sleep(self._seconds)
            self._buyers.open_gate(1)
        if self._began is None or answers != self._resume_after:
            return []
        pause = Pause(*self._began, *self._admin.resume())
        self._began = None
        self._watcher.note("Sale resumed")
        time.sleep(self._seconds)
        self._buyers.open_gate(2)
        return [pause]


def _reset(scenario: Scenario, plan: Plan, admin: Admin, watcher: Watcher) -> Reset:
    reset = admin.reset(
        plan.size.tickets,
        plan.item_name,
        plan.shards,
        plan.hold_seconds if scenario.vanishing else None,
        scenario.per_buyer_limit,
    )
    watcher.note(f"Inventory reset to {reset.capacity} units")
    return reset


def _sell(
    scenario: Scenario, buyers: BuyerProcesses, plan: Plan, admin: Admin, watcher: Watcher
) -> _Sold:
    sold, pausing = _Sold(), _Pausing(scenario, buyers, plan, admin, watcher)
    are_refunded, vanished = not scenario.refunds, list[Receipt]()
    first_stage = sum(each.copies for each in buyers.planned if each.stage == 0)
    buyers.open_gate(0)
    with pausing:
        for request in buyers.requests():
            sold.sale.append(request)
            watcher.answered(request)
            sold.pauses += pausing.answered(len(sold.sale))
            if len(sold.sale) == scenario.reset_after:
                buyers.open_gate(1)
                sold.resets.append(_reset(scenario, plan, admin, watcher))
                time.sleep(plan.cache_seconds)
                buyers.open_gate(2)
            if scenario.capacities and len(sold.sale) == first_stage:
                lower, higher = scenario.capacities
                watcher.note(f"Setting the capacity to {lower}, and then to {higher}...")
                sold.capacity_changes.append(admin.resize(lower))
                buyers.open_gate(1)
                sold.capacity_changes.append(admin.resize(higher))
                time.sleep(plan.cache_seconds)
                buyers.open_gate(2)
            if not are_refunded and _is_time_to_refund(scenario, sold.sale, first_stage):
                are_refunded = True
                receipts = _receipts(sold.sale)
                watcher.note(f"Refunding {len(receipts)} purchases, each twice in parallel...")
                sold.refunds = admin.refund(receipts)
                time.sleep(plan.cache_seconds)
                buyers.open_gate(1)
            if scenario.vanishing and len(sold.sale) == first_stage:
                holds = _receipts(sold.sale)
                vanished, kept = holds[: scenario.vanishing], holds[scenario.vanishing :]
                watcher.note(f"Confirming {len(kept)} holds, each twice in parallel...")
                sold.changes = admin.confirm(kept, copies=2)
                buyers.open_gate(1)
                _open_when_expired(buyers, plan, watcher)
    if vanished:
        watcher.note(f"Confirming the {len(vanished)} others, too late...")
        sold.changes += admin.confirm(vanished, copies=1)
    return sold


def _open_when_expired(buyers: BuyerProcesses, plan: Plan, watcher: Watcher) -> None:
    """Let the last buyers in when all holds have expired, for every clock and every cache."""
    lasts = longest_hold_seconds(plan.hold_seconds, SKEW_SECONDS)
    seconds = lasts + SKEW_SECONDS + plan.cache_seconds
    watcher.note(f"Waiting {seconds:.0f} s for the other holds to expire...")
    timer = threading.Timer(seconds, buyers.open_gate, [2])
    timer.daemon = True  # an interrupted proof does not wait for it
    timer.start()


def _is_time_to_refund(
    scenario: Scenario, sale: Sequence[PurchaseRequest], first_stage: int
) -> bool:
    """Return whether there are enough purchases, or no more will be made before the next stage."""
    return len(_receipts(sale)) == scenario.refunds or len(sale) == first_stage


def _receipts(sale: Sequence[PurchaseRequest]) -> list[Receipt]:
    return [request.last.receipt for request in sale if request.last.receipt is not None]


def _outwait_lost_requests(sale: Sequence[PurchaseRequest], plan: Plan, watcher: Watcher) -> None:
    """Wait until no request in doubt can be in flight any more.

    It could buy in the next generation, and the next test would find a record without a receipt.
    """
    lost = [
        each.started_at
        for request in sale
        for each in request.attempts
        if each.kind is Kind.UNKNOWN
    ]
    seconds = max(lost, default=0.0) + plan.target.timeout_seconds - time.monotonic()
    if lost and seconds > 0:
        watcher.note(f"Waiting {seconds:.0f} s for requests whose answer was lost to end...")
        time.sleep(seconds)


async def _look_up(plan: Plan, requests: Sequence[PurchaseRequest]) -> list[Lookup]:
    found = {
        attempt.receipt.purchase_id
        for request in requests
        for attempt in request.attempts
        if attempt.receipt is not None
    }
    async with Buyers(plan.target, plan.in_flight, random.Random(plan.seed)) as buyers:
        return await asyncio.gather(*(buyers.look_up(purchase_id) for purchase_id in sorted(found)))
