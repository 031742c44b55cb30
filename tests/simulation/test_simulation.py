"""Simulated sales: reproducible from a seed, with contention, and exact."""

import os
import subprocess
import sys
from typing import Any

import pytest

from proof.history import Kind
from simulation.__main__ import EXIT_PASSED, main
from simulation.sale import Setting, simulate
from tests.support import ROOT
from ticketing.wiring import Services, build_services

SEEDS = range(1, 11)


def printed(seed: int, hash_seed: str) -> str:
    """Return what the command prints in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "simulation", "--seed", str(seed)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "functions", "PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_one_seed_one_history() -> None:
    """Byte for byte, in every process. Another seed gives another history."""
    first = printed(3, hash_seed="1")
    assert first == printed(3, hash_seed="2")
    assert "no violation" in first
    assert first.splitlines()[-2] != printed(4, hash_seed="1").splitlines()[-2]


@pytest.mark.G1
@pytest.mark.G2
@pytest.mark.G3
@pytest.mark.G4
@pytest.mark.G6
def test_sales_with_contention() -> None:
    """No guarantee is broken, although buyers meet conflicts, full environments and copies."""
    kinds, conflicts = set[Kind](), 0
    for seed in SEEDS:
        sale = simulate(Setting.drawn(seed, buyers=200))
        assert sale.violations == [], seed
        assert sale.history.final
        assert sale.history.audit
        conflicts += sale.usage.conflicts
        kinds |= {attempt.kind for request in sale.history.requests for attempt in request.attempts}
    expected = {Kind.BOUGHT, Kind.REPLAYED, Kind.SOLD_OUT, Kind.NOT_ENOUGH_LEFT, Kind.BUSY}
    assert kinds == expected
    assert conflicts > 100


def without_stock_condition(client: Any, table_name: str, runtime: Any) -> Services:
    """Build use cases that sell also what is sold out."""

    class Broken:
        def transact_write_items(self, **request: Any) -> Any:
            for action in request["TransactItems"]:
                for update in action.values():
                    condition = update["ConditionExpression"]
                    always = "(stock > :zero OR stock <= :zero)"
                    update["ConditionExpression"] = condition.replace("stock > :zero", always)
            return client.transact_write_items(**request)

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

    broken: Any = Broken()
    return build_services(broken, table_name, runtime)


def test_broken_service_is_caught() -> None:
    violations = [
        violation
        for seed in SEEDS
        for violation in simulate(Setting.drawn(seed, 200), without_stock_condition).violations
    ]
    assert "oversold" in {violation.rule for violation in violations}


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "1", "--buyers", "5"]) == EXIT_PASSED
    assert "5 within" in capsys.readouterr().out
