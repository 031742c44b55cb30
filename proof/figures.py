"""Figures of a sale: counts, latencies and concurrency."""

from collections import defaultdict
from collections.abc import Sequence

from msgspec import Struct

from proof.history import NOT_DEFINITE, RECEIPTS, Attempt, Kind, PurchaseRequest


class Figures(Struct, frozen=True):
    """Counts, latencies and concurrency of a sale.

    Counts are of requests; `busy_answers` and `unknown_outcomes` are of attempts, which were
    retried. Latencies, in milliseconds, are of each request's last attempt. `waiting` is from a
    request's first attempt to its last answer.
    """

    requests: int
    successes: int
    holds: int
    replays: int
    sold_out: int
    all_held: int
    not_enough_left: int
    buyer_limit_reached: int
    not_open: int
    keys_refused: int
    errors: int
    busy_answers: int
    unknown_outcomes: int
    seconds: float
    requests_per_second: float
    latency_average_ms: float
    latency_min_ms: float
    latency_max_ms: float
    latency_p50_ms: float
    latency_p99_ms: float
    waiting_p50_ms: float
    waiting_p99_ms: float
    peak_in_flight: int
    processes: int
    pairs_overlapping: int

    @property
    def refusals(self) -> int:
        """Return the number of requests for which too few tickets were free."""
        return self.sold_out + self.all_held + self.not_enough_left


def figures_of(requests: Sequence[PurchaseRequest]) -> Figures:
    """Return the figures of at least one request."""
    last_kinds = [request.last.kind for request in requests]
    attempts = [attempt for request in requests for attempt in request.attempts]
    kinds = [attempt.kind for attempt in attempts]
    latencies = sorted(
        _milliseconds(request.last.started_at, request.last.ended_at) for request in requests
    )
    waiting = sorted(
        _milliseconds(request.attempts[0].started_at, request.last.ended_at) for request in requests
    )
    seconds = max(attempt.ended_at for attempt in attempts) - min(
        attempt.started_at for attempt in attempts
    )
    return Figures(
        requests=len(requests),
        successes=last_kinds.count(Kind.BOUGHT),
        holds=sum(request.is_hold and request.last.kind in RECEIPTS for request in requests),
        replays=last_kinds.count(Kind.REPLAYED),
        sold_out=last_kinds.count(Kind.SOLD_OUT),
        all_held=last_kinds.count(Kind.ALL_HELD),
        not_enough_left=last_kinds.count(Kind.NOT_ENOUGH_LEFT),
        buyer_limit_reached=last_kinds.count(Kind.LIMIT_REACHED),
        not_open=last_kinds.count(Kind.NOT_OPEN),
        keys_refused=last_kinds.count(Kind.KEY_REUSED),
        errors=sum(kind in NOT_DEFINITE or kind is Kind.UNEXPECTED for kind in last_kinds),
        busy_answers=kinds.count(Kind.BUSY),
        unknown_outcomes=kinds.count(Kind.UNKNOWN),
        seconds=seconds,
        requests_per_second=len(requests) / seconds if seconds else 0.0,
        latency_average_ms=sum(latencies) / len(latencies),
        latency_min_ms=latencies[0],
        latency_max_ms=latencies[-1],
        latency_p50_ms=percentile(latencies, 50),
        latency_p99_ms=percentile(latencies, 99),
        waiting_p50_ms=percentile(waiting, 50),
        waiting_p99_ms=percentile(waiting, 99),
        peak_in_flight=peak_in_flight(attempts),
        processes=len({request.process_id for request in requests}),
        pairs_overlapping=_pairs_overlapping(requests),
    )


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Return the smallest value that `percent` of the values do not exceed (nearest rank)."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def peak_in_flight(attempts: Sequence[Attempt]) -> int:
    """Return the most attempts in flight at one instant.

    An attempt that ends as another starts does not count with it.
    """
    steps = [(attempt.started_at, 1) for attempt in attempts] + [
        (attempt.ended_at, -1) for attempt in attempts
    ]
    now = peak = 0
    for _, step in sorted(steps):
        now += step
        peak = max(peak, now)
    return peak


def _pairs_overlapping(requests: Sequence[PurchaseRequest]) -> int:
    """Return the number of keys with two copies in flight at one instant."""
    copies: dict[str, list[Attempt]] = defaultdict(list)
    for request in requests:
        copies[request.key].append(request.attempts[0])
    return sum(peak_in_flight(firsts) > 1 for firsts in copies.values())


def _milliseconds(start: float, end: float) -> float:
    return (end - start) * 1000
