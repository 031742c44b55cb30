"""What the command prints: one sale, a counter-example, or the sum of many sales."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from proof.history import Violation
from simulation.journal import Journal
from simulation.observer import began_at
from simulation.sale import Setting, SimulatedSale

CALLS_SHOWN_MAX = 40
_CHANGED: Final = MappingProxyType({True: "done", False: "refused", None: "unknown"})
# Fields of a setting that the command line can choose → its option.
OPTIONS: Final = MappingProxyType(
    {
        "tickets": "tickets",
        "shards": "shards",
        "environments_max": "environments",
        "rush_seconds": "rush",
    }
)


def summary(sale: SimulatedSale) -> str:
    """Return the summary of one history. Equal histories have equal summaries."""
    lines = [f"{name:<13}{text}" for name, text in pairs(sale)]
    return "\n".join([*lines, *verdict(sale.violations)])


def pairs(sale: SimulatedSale) -> list[tuple[str, str]]:
    """Return the figures of one history, each with its name."""
    setting, usage, history = sale.setting, sale.usage, sale.history
    attempts = [attempt for request in history.requests for attempt in request.attempts]
    kinds = Counter(attempt.kind.value for attempt in attempts)
    rows = {
        "seed": f"{setting.seed}",
        "sale": f"{setting.tickets} tickets in {setting.shards} shards",
        "buyers": f"{setting.buyers} within {setting.rush_seconds} s",
        "generations": f"{len(history.resets)}",
        "refunds": f"{len(history.refunds)}, done {sum(bool(one.done) for one in history.refunds)}",
        "hold changes": _counted(
            Counter(f"{one.action} {_CHANGED[one.done]}" for one in history.changes)
        )
        or "none",
        "environments": f"{sale.environments}, at most {setting.environments_max}",
        "faults": _counted(sale.faults) or "none",
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
    return list(rows.items())


def verdict(violations: Sequence[Violation]) -> list[str]:
    """Return the violations as lines, or one line that says that there is none."""
    if not violations:
        return ["verdict      no violation of G1 to G6"]
    lines = []
    for violation in violations:
        lines += [
            f"VIOLATION    {violation.guarantee} {violation.rule} (cases: {violation.count})",
            f"  expected   {violation.expected}",
            f"  found      {violation.found}",
            *(f"  {line}" for line in violation.evidence),
        ]
    return lines


def replay(setting: Setting) -> str:
    """Return the command that runs a sale again."""
    faults = ",".join(setting.faults.rates) or "none"
    chosen = " ".join(f"--{OPTIONS[name]} {value}" for name, value in setting.chosen.items())
    arguments = f' ARGS="{chosen}"' if chosen else ""
    return f"make simulate SEED={setting.seed} BUYERS={setting.buyers} FAULTS={faults}{arguments}"


def counter_example(sale: SimulatedSale, journal: Journal) -> str:
    """Return a violation with the store calls that led to it. journal: of the same sale."""
    return "\n".join(
        [
            *verdict(sale.violations[:1]),
            "  store calls for these requests, in the order in which they ended:",
            *(f"    {line}" for line in call_lines(sale, sale.violations[0], journal)),
            f"  replay it with: {replay(sale.setting)}",
        ]
    )


def call_lines(sale: SimulatedSale, violation: Violation, journal: Journal) -> list[str]:
    """Return the store calls that led to a violation, the last ones. journal: of the same sale."""
    evidence = "\n".join(map(str, violation.evidence))
    entries = journal.about(evidence) or journal.entries
    origin = began_at(sale.history)
    lines = [entry.line(origin) for entry in entries[-CALLS_SHOWN_MAX:]]
    hidden = len(entries) - len(lines)
    return [*([f"… {hidden} earlier ones …"] if hidden > 0 else []), *lines]


class Totals(Struct):
    """The sum of many sales. audited: those that were judged to their end, with an audit."""

    seeds: int = 0
    audited: int = 0
    buyers: int = 0
    requests: int = 0
    attempts: int = 0
    store_calls: int = 0
    conflicts: int = 0
    throttles: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    given_up: int = 0
    resets: int = 0
    refunds: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, sale: SimulatedSale) -> "Totals":
        """Return the totals of one sale."""
        history = sale.history
        attempts = [each for request in history.requests for each in request.attempts]
        return cls(
            seeds=1,
            audited=int(bool(history.final and history.audit)),
            buyers=sale.setting.buyers,
            requests=len(history.requests),
            attempts=len(attempts),
            store_calls=sale.usage.calls.total(),
            conflicts=sale.usage.conflicts,
            throttles=sale.usage.throttles,
            faults=Counter(sale.faults),
            kinds=Counter(attempt.kind for attempt in attempts),
            given_up=sum(request.given_up for request in history.requests),
            resets=len(history.resets) - 1,
            refunds=Counter(_CHANGED[refund.done] for refund in history.refunds),
        )

    def add(self, other: "Totals") -> None:
        """Add the totals of other sales."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def pairs(self) -> list[tuple[str, str]]:
        """Return the totals, each with its name."""
        contention = f"{self.conflicts} conflicts, {self.throttles} throttles"
        return [
            ("sales", f"{self.seeds} with {self.buyers} buyers, {self.audited} audited"),
            ("requests", f"{self.requests}, attempts {self.attempts}: {_counted(self.kinds)}"),
            ("given up", f"{self.given_up}"),
            ("resets", f"{self.resets}"),
            ("refunds", _counted(self.refunds) or "none"),
            ("store calls", f"{self.store_calls}, {contention}"),
            ("faults", f"{self.faults.total()}: {_counted(self.faults)}"),
        ]


def _counted(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{name} {counts[name]}" for name in sorted(counts))


def _latencies(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    half, most = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return f"p50 {half * 1000:.0f} ms, p99 {most * 1000:.0f} ms"
