"""A storm: ten times the buyers for some seconds, and how long until the service is normal again.

python -m simulation.storm

Before the storm the sale is at about a third of what its shards can sell. Every buyer retries until
there is an answer, so a storm leaves a queue of retries behind it. A service whose retries keep it
busy never becomes normal again (a metastable failure; Bronson et al., HotOS 2021).
"""

import argparse
import random
import sys
from collections.abc import Sequence

from msgspec import Struct

from proof.history import Kind, PurchaseRequest, Violation
from simulation import run as run_command
from simulation.sale import Build, Setting, simulate
from simulation.workload import Buyer, arrivals
from ticketing.wiring import build_services


class Storm(Struct, frozen=True):
    """Buyers per second: `rate` all the time, `factor` times as many during the storm."""

    seed: int = 1
    rate: float = 100.0
    factor: float = 10.0
    calm_seconds: int = 5
    storm_seconds: int = 5
    after_seconds: int = 40
    shards: int = 2
    environments_max: int = 200

    @property
    def storm_ends_at(self) -> int:
        """Return the second in which the storm is over."""
        return self.calm_seconds + self.storm_seconds

    def buyers(self) -> list[Buyer]:
        """Return all buyers."""
        draw, seconds = random.Random(f"{self.seed}/storm"), self.storm_ends_at + self.after_seconds
        return [
            Buyer.plain(number, instant)
            for number, instant in enumerate(arrivals(draw, seconds, self._rate_at))
        ]

    def _rate_at(self, instant: float) -> float:
        is_storm = self.calm_seconds <= instant < self.storm_ends_at
        return self.rate * (self.factor if is_storm else 1.0)


class Second(Struct, frozen=True):
    """The buyers who arrived in one second. waiting_*: from arrival to the definite answer."""

    buyers: int
    attempts: int
    busy: int
    waiting_p50_seconds: float
    waiting_p99_seconds: float


class Course(Struct, frozen=True):
    """What became of a storm, second by second. conflicts: of the whole run."""

    storm: Storm
    seconds: Sequence[Second]
    conflicts: int
    store_calls: int
    violations: Sequence[Violation]

    @property
    def normal_seconds(self) -> float:
        """Return twice the longest p99 before the storm: up to there, waiting is normal.

        The first second starts environments, and buyers of the last one meet the storm.
        """
        calm = self.seconds[1 : self.storm.calm_seconds - 1]
        return 2 * max(second.waiting_p99_seconds for second in calm)

    @property
    def recovery_seconds(self) -> int | None:
        """Return how long after the storm all waiting is normal again; None: not in this time."""
        after = self.seconds[self.storm.storm_ends_at :]
        disturbed = [
            number
            for number, second in enumerate(after, start=1)
            if second.waiting_p99_seconds > self.normal_seconds
        ]
        last = max(disturbed, default=0)
        return None if last == len(after) else last


def course_of(storm: Storm, build: Build = build_services) -> Course:
    """Run a storm."""
    buyers = storm.buyers()
    setting = Setting(
        seed=storm.seed,
        buyers=len(buyers),
        tickets=2 * len(buyers),
        shards=storm.shards,
        environments_max=storm.environments_max,
        rush_seconds=0.0,
    )
    sale = simulate(setting, build, buyers=buyers)
    began_at = min(request.attempts[0].started_at for request in sale.history.requests)
    seconds: list[list[PurchaseRequest]] = [
        [] for _ in range(storm.storm_ends_at + storm.after_seconds)
    ]
    for request in sale.history.requests:
        arrived = int(request.attempts[0].started_at - began_at)
        if arrived < len(seconds):
            seconds[arrived].append(request)
    return Course(
        storm=storm,
        seconds=[_second(requests) for requests in seconds],
        conflicts=sale.usage.conflicts,
        store_calls=sale.usage.calls.total(),
        violations=sale.violations,
    )


def _second(requests: Sequence[PurchaseRequest]) -> Second:
    waiting = sorted(request.waiting_seconds for request in requests)
    kinds = [attempt.kind for request in requests for attempt in request.attempts]
    return Second(
        buyers=len(requests),
        attempts=len(kinds),
        busy=kinds.count(Kind.BUSY),
        waiting_p50_seconds=waiting[len(waiting) // 2],
        waiting_p99_seconds=waiting[int(len(waiting) * 0.99)],
    )


def report(course: Course) -> str:
    """Return the course as a table, and the time until the service was normal again."""
    storm = course.storm
    title = (
        f"{storm.rate:.0f} buyers a second, {storm.rate * storm.factor:.0f} from second "
        f"{storm.calm_seconds} to {storm.storm_ends_at}; {storm.shards} shards, at most "
        f"{storm.environments_max} environments"
    )
    lines = [
        title,
        f"{'second':>6} {'buyers':>7} {'attempts':>9} {'busy':>6} {'p50 ms':>8} {'p99 ms':>8}",
    ]
    for number, second in enumerate(course.seconds):
        lines.append(
            f"{number:>6} {second.buyers:>7} {second.attempts:>9} {second.busy:>6} "
            f"{second.waiting_p50_seconds * 1000:>8.0f} {second.waiting_p99_seconds * 1000:>8.0f}"
        )
    recovery = course.recovery_seconds
    normal = f"p99 up to {course.normal_seconds * 1000:.0f} ms"
    lines.append(f"{course.store_calls} store calls, {course.conflicts} conflicts")
    lines.append(
        f"normal again ({normal}) {recovery} s after the storm"
        if recovery is not None
        else f"not normal again ({normal}) within {storm.after_seconds} s"
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status is 1 where the service does not become normal again."""
    parser = argparse.ArgumentParser("python -m simulation.storm", description=__doc__)
    add = parser.add_argument
    add("--seed", type=int, default=1, metavar="N")
    add("--rate", type=float, default=100.0, metavar="N", help="buyers a second (default: 100)")
    add("--factor", type=float, default=10.0, metavar="N", help="of the storm (default: 10)")
    add("--shards", type=int, default=2, metavar="N", help="(default: 2)")
    add("--environments", type=int, default=200, metavar="N", help="at most (default: 200)")
    options = parser.parse_args(arguments)
    course = course_of(
        Storm(
            seed=options.seed,
            rate=options.rate,
            factor=options.factor,
            shards=options.shards,
            environments_max=options.environments,
        )
    )
    print(report(course))
    return 1 if course.recovery_seconds is None or course.violations else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
