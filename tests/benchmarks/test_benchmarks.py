"""What must not become dearer: counts, which are the same on a busy machine. And the command."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from benchmarks import cpu, startup
from benchmarks.__main__ import main, written
from benchmarks.report import README, RESULTS, Row, interleaved
from tests.support import ROOT, silent

STARTUP_PAIRS = 2
# At most. Those of functions are a twentieth above what `make bench` shows.
CALL_GATES = {
    "function calls of the bare call, tuned client": 2_215,
    "function calls of a purchase": 2_560,
    "function calls of a refusal, no key": 227,
    "calls of a purchase": 1,
    "calls of a refusal, no key": 0,
    "calls of a refusal, with a key": 1,
}
STARTUP_GATES = {
    "page faults of `buy_ticket`": 1.3,
    "page faults of `hold_ticket`": 1.3,
    "page faults of `inventory`": 1.3,
    "modules of `buy_ticket`": 500,
    "modules of `hold_ticket`": 500,
    "modules of `inventory`": 500,
}


def closed(rows: Iterable[Row], gates: Mapping[str, float]) -> list[str]:
    """Return the gates that these rows do not pass."""
    found = {row.name.partition(" (")[0]: row.value for row in rows}
    return [name for name, at_most in gates.items() if found[name] > at_most]


def changed(folder: Path, file: str, before: str, after: str) -> Path:
    """Return a copy of the functions with one change."""
    copy = folder / "functions"
    shutil.copytree(ROOT / "functions", copy, ignore=shutil.ignore_patterns("__pycache__"))
    text = (copy / file).read_text()
    assert text.count(before) == 1
    (copy / file).write_text(text.replace(before, after))
    return copy


def test_calls() -> None:
    assert closed(cpu.counts(), CALL_GATES) == []


def test_start() -> None:
    assert closed(startup.rows(silent, STARTUP_PAIRS), STARTUP_GATES) == []


def test_uncached_refusal_is_caught(tmp_path: Path) -> None:
    """A process that forgets "sold out" asks the store for each refusal."""
    functions = changed(
        tmp_path,
        "ticketing/sale_cache.py",
        "if is_younger(taken_after, now, CACHE_SECONDS) else None",
        "if False else None",
    )
    gates = closed(cpu.counts(functions), CALL_GATES)
    assert {"function calls of a refusal, no key", "calls of a refusal, no key"} <= set(gates)


def test_default_client_is_caught(tmp_path: Path) -> None:
    functions = changed(
        tmp_path,
        "ticketing/store/client.py",
        "            parameter_validation=False,\n",
        "            parameter_validation=True,\n",
    )
    client = functions / "ticketing" / "store" / "client.py"
    client.write_text(client.read_text().replace(" user_agent=", " user_agent_extra="))
    gates = closed(cpu.counts(functions), CALL_GATES)
    assert "function calls of the bare call, tuned client" in gates
    assert "function calls of a purchase" in gates


def test_more_imports_are_caught(tmp_path: Path) -> None:
    functions = changed(tmp_path, "ticketing/settings.py", "import os\n", "import os, moto.core\n")
    gates = closed(startup.rows(silent, 2, functions), STARTUP_GATES)
    assert {"page faults of `buy_ticket`", "modules of `buy_ticket`"} <= set(gates)


def test_readme_shows_results() -> None:
    readme = README.read_text()
    assert written(readme, json.loads(RESULTS.read_text())) == readme


def test_ratio() -> None:
    row = Row.ratio("a", [(1, 2), (3, 2), (2, 2)], "how", at_most=0.9)
    assert (row.value, row.low, row.high) == (1.0, 0.6, 1.4)
    assert "missed" in row.verdict
    assert "missed" not in Row.ratio("a", [(1, 2), (1, 2)], "how", at_most=0.5).verdict


def test_interleaved() -> None:
    """Each is first in every other pair, and a pair's own figure stays on its side."""
    order: list[str] = []

    def measured(name: str) -> str:
        order.append(name)
        return name

    pairs = list(interleaved(lambda: measured("ours"), lambda: measured("theirs"), 2))
    assert order == ["ours", "theirs", "theirs", "ours"]
    assert pairs == [("ours", "theirs")] * 2


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "raw.json"
    assert main(["--only", "units", "--json", str(path)]) == 0
    assert "| a purchase | 1 | 4 | 0 |" in capsys.readouterr().out
    raw = json.loads(path.read_text())
    assert raw["units"]["rows"][0] == {
        "outcome": "a purchase",
        "calls": 1,
        "write_units": 4,
        "read_units": 0,
    }
    assert set(raw) == {"units"}
