"""What the command prints: the summary of a simulated sale."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from proof.history import Violation
from simulation.sale import SimulatedSale


def summary(sale: SimulatedSale) -> str:
    """Return the summary of one history. Equal histories have equal summaries."""
    setting, usage, history = sale.setting, sale.usage, sale.history
    attempts = [attempt for request in history.requests for attempt in request.attempts]
    kinds = Counter(attempt.kind.value for attempt in attempts)
    rows = {
        "seed": f"{setting.seed}",
        "sale": f"{setting.tickets} tickets in {setting.shards} shards",
        "buyers": f"{setting.buyers} within {setting.rush_seconds} s",
        "environments": f"{sale.environments}, at most {setting.environments_max}",
        "requests": f"{len(history.requests)}, attempts {len(attempts)}: {_counted(kinds)}",
        "latency": _latencies([attempt.ended_at - attempt.started_at for attempt in attempts]),
        "store calls": _counted(usage.calls),
        "contention": f"{usage.conflicts} conflicts, {usage.throttles} throttles",
        "units": f"{usage.write_units:.0f} written, {usage.read_units:.0f} read",
        "virtual time": f"{sale.virtual_seconds:.3f} s, {sale.events} events",
        "history": hashlib.sha256(msgspec.json.encode(history)).hexdigest(),
    }
    if history.final:
        inventory = history.final.inventory
        rows["at the end"] = f"{inventory.total_purchases} sold, {inventory.current_stock} free"
    lines = [f"{name:<13}{text}" for name, text in rows.items()]
    return "\n".join([*lines, *verdict(sale.violations)])


def verdict(violations: Sequence[Violation]) -> list[str]:
    """Return the violations as lines, or one line that says that there is none."""
    if not violations:
        return ["verdict      no violation of G1 to G6"]
    lines = []
    for violation in violations:
        lines += [
            f"VIOLATION    {violation.guarantee} {violation.rule}, {violation.count} times",
            f"  expected: {violation.expected}",
            f"  found:    {violation.found}",
            *(f"  {line}" for line in violation.evidence),
        ]
    return lines


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {counts[name]}" for name in sorted(counts))


def _latencies(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    half, most = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return f"p50 {half * 1000:.0f} ms, p99 {most * 1000:.0f} ms"
