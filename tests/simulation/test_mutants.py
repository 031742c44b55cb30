"""Mistakes in the functions, and the simulation that catches them."""

import subprocess
import sys
from dataclasses import replace

import pytest

from simulation.faults import ALL_FAULTS, Fault
from simulation.mutants import BUYERS, MUTANTS, check, run
from simulation.sale import Setting, simulate
from tests.simulation.test_simulation import CI_SEEDS
from tests.support import ROOT


@pytest.mark.G1
@pytest.mark.G2
@pytest.mark.G3
@pytest.mark.G4
@pytest.mark.G5
@pytest.mark.G6
def test_mutants_are_caught() -> None:
    """All of them, each by its guarantee and with its seed; and reports list what they broke."""
    command = [sys.executable, "-m", "simulation.mutants"]
    ended = subprocess.run(
        ["env", "PYTHONPATH=functions", *command], cwd=ROOT, check=False, stdout=subprocess.PIPE
    )
    output = ended.stdout.decode()
    assert ended.returncode == 0, output
    assert output.count("\n") == len(MUTANTS) + 1
    assert {mutant.guarantee for mutant in MUTANTS} == {"G1", "G2", "G3", "G4", "G5", "G6"}


def test_no_false_positives() -> None:
    """The functions as they are break nothing with the same seeds.

    `test_hundred_sales` has run the first of them.
    """
    seeds = {(mutant.seed, mutant.only) for mutant in MUTANTS}
    others = {(seed, only) for seed, only in seeds if seed > CI_SEEDS or only}
    assert others
    for seed, only in others:
        faults = frozenset(map(Fault, only)) or ALL_FAULTS
        assert simulate(Setting.drawn(seed, BUYERS, faults)).violations == []


def test_survivors(capsys: pytest.CaptureFixture[str]) -> None:
    """A change that breaks nothing is not caught. One must break the stated guarantee."""
    harmless = replace(MUTANTS[0], wrong='"{debit} > :zero AND {debit} > :zero"')
    other = replace(MUTANTS[1], guarantee="G6")
    caught = check([harmless, other, MUTANTS[2]])
    assert [each.mistake for each in caught] == [MUTANTS[2].mistake]
    output = capsys.readouterr().out
    assert "NOT CAUGHT" in output
    assert "(not G6)" in output
    assert "1 of 3 mutants" in output


def test_fork_server_with_functions() -> None:
    """It is no obstacle that the process's fork server has imported the right functions."""
    script = """
import multiprocessing
from simulation.mutants import MUTANTS, check
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["simulation.sale", "admin.app"])
first = context.Process(target=print)
first.start()
first.join()
assert check([MUTANTS[2]])
"""
    command = ["env", "PYTHONPATH=functions", sys.executable, "-c", script]
    subprocess.run(command, cwd=ROOT, check=True)


def test_unknown_text() -> None:
    with pytest.raises(ValueError, match="once"):
        run(replace(MUTANTS[0], right="no such text"), [1])
