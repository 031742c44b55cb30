"""The command against the reference service and its broken variants."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proof.command import main
from tests.proof import reference_service as services
from tests.support import END_SECONDS_MAX, ROOT

SMALL = [
    "--tickets",
    "20",
    "--buyers",
    "100",
    "--processes",
    "2",
    "--in-flight",
    "12",
    "--cache",
    "0.1",
    "--hold-seconds",
    "8",  # so long may a busy machine take until the other buyers come
    "--seed",
    "1",
]

Proved = tuple[int, str, dict[str, Any]]
ProveHere = Callable[..., Proved]


def command(url: str, *options: str) -> list[str]:
    """Return the command as a person types it."""
    return [sys.executable, "-m", "proof", "--url", url, *SMALL, *options]


def prove(service: services.Service, report: Path, *options: str) -> Proved:
    """Return exit status, output and report of the proof of a service, run as a command."""
    with services.Server(service) as server:
        line = command(server.url, "--report", str(report), *options)
        done = subprocess.run(
            line, cwd=ROOT, capture_output=True, text=True, timeout=END_SECONDS_MAX, check=False
        )
    return done.returncode, done.stdout + done.stderr, json.loads(report.read_bytes())


@pytest.fixture
def prove_here(report: Path, capsys: pytest.CaptureFixture[str]) -> ProveHere:
    """Return the same, run in this process with buyers in others: saves a second of imports."""

    def prove(service: services.Service, *options: str) -> Proved:
        with services.Server(service) as server:
            status = main(command(server.url, "--report", str(report), *options)[3:])
        return status, capsys.readouterr().out, json.loads(report.read_bytes())

    return prove


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """The path of the JSON report."""
    return tmp_path / "report.json"


@pytest.mark.G1
@pytest.mark.G2
@pytest.mark.G3
@pytest.mark.G4
@pytest.mark.G5
@pytest.mark.G6
def test_correct_service(report: Path) -> None:
    status, output, document = prove(services.Service(), report)
    assert status == 0, output
    assert "TEST 2: OVERSELLING PREVENTION (100 buyers, 20 tickets)" in output
    assert "✓ Exactly 20 purchases succeeded" in output
    assert "TEST 2 PASSED! No race conditions detected!" in output
    assert "The inventory system is CORRECT:" in output
    assert document["verdict"] == "passed"
    assert [test["number"] for test in document["tests"]] == list(range(1, 12))
    assert all(test["figures"]["peak_in_flight"] > 1 for test in document["tests"])
    assert document["tests"][2]["figures"]["processes"] == 2
    assert document["tests"][3]["figures"]["replays"] == 20


def test_correct_but_overloaded_service(report: Path) -> None:
    status, output, document = prove(services.Crowded(), report, "--only", "3,4", "--timeout", "3")
    assert status == 0, output
    assert all(test["figures"]["busy_answers"] > 0 for test in document["tests"])
    assert sum(test["figures"]["unknown_outcomes"] for test in document["tests"]) > 0


@pytest.mark.G1
@pytest.mark.G2
@pytest.mark.G3
@pytest.mark.parametrize(
    ("service", "test", "guarantee", "rule"),
    [
        (services.Oversells, 2, "G1", "oversold"),
        (services.Undersells, 2, "G2", "undersold"),
        (services.SellsTwicePerKey, 4, "G3", "sold_twice_for_one_key"),
    ],
)
def test_three_broken_services_as_command(
    service: type[services.Service], test: int, guarantee: str, rule: str, report: Path
) -> None:
    status, output, document = prove(service(), report, "--only", str(test))
    assert status == 1, output
    assert f"TEST {test} FAILED!" in output
    assert f"VIOLATION of {guarantee}" in output
    assert "The inventory system is NOT CORRECT: " in output
    assert document["verdict"] == "failed"
    demand_violation(document, guarantee, rule)


@pytest.mark.G1
@pytest.mark.G2
@pytest.mark.G3
@pytest.mark.G4
@pytest.mark.G5
@pytest.mark.parametrize(
    ("service", "test", "guarantee", "rule"),
    [
        (services.OversellsInSilence, 3, "G1", "oversold"),
        (services.MiscountsAtReset, 5, "G1", "counters_do_not_add_up"),
        (services.RefusesTooEarly, 2, "G2", "undersold"),
        (services.StrandsTickets, 6, "G2", "undersold"),
        (services.ForgetsTheReceipt, 4, "G3", "refused_although_bought"),
        (services.ChangesReceipts, 4, "G3", "receipt_differs"),
        (services.LosesRecords, 1, "G4", "audit_disagrees"),
        (services.ExportsTooLittle, 1, "G4", "not_exported"),
        (services.AuditLies, 1, "G5", "record_is_missing"),
        (services.RefundsTwice, 7, "G1", "oversold"),
        (services.StrandsRefunds, 7, "G2", "undersold"),
        (services.HidesRefunds, 7, "G5", "untrue_refund"),
        (services.StrandsHolds, 8, "G2", "undersold"),
        (services.PassesLimits, 9, "G1", "buyer_over_limit"),
        (services.LimitsForgetRefunds, 9, "G2", "refused_within_limit"),
        (services.RefusesWhileHeld, 8, "G2", "undersold"),
        (services.ConfirmsExpired, 8, "G1", "oversold"),
        (services.BreaksHolds, 8, "G1", "oversold"),
        (services.SellsInPauses, 10, "G1", "sold_while_paused"),
        (services.StaysPaused, 10, "G2", "refused_while_open"),
        (services.HidesReceiptsInPauses, 10, "G3", "refused_although_bought"),
        (services.LowersTooFar, 11, "G1", "oversold"),
        (services.StaysSoldOut, 11, "G2", "undersold"),
        (services.MiscountsTheSold, 11, "G5", "capacity_refused_wrongly"),
        (services.Fails, 2, "G6", "internal_error"),
    ],
)
def test_broken_service(
    service: type[services.Service], test: int, guarantee: str, rule: str, prove_here: ProveHere
) -> None:
    status, output, document = prove_here(service(), "--only", str(test), "--timeout", "5")
    assert status == 1, output
    demand_violation(document, guarantee, rule)


def test_name_letter_for_letter(prove_here: ProveHere) -> None:
    """What looks like markup, or like the code of an emoji, is a part of the name."""
    service = services.Service()
    service.item_name = "[bold]Gala[/bold] :tada: \u202eelaS\u202c"
    status, output, _ = prove_here(service, "--only", "1")
    assert status == 0, output
    assert f"({service.item_name}, 100 tickets)" in output


@pytest.mark.G6
@pytest.mark.parametrize("service", [services.Hangs, services.Deaf])
def test_service_without_answers(service: type[services.Service], prove_here: ProveHere) -> None:
    status, output, document = prove_here(
        service(), "--only", "1", "--timeout", "0.5", "--patience", "1.5"
    )
    assert status == 1, output
    demand_violation(document, "G6", "left_without_an_answer")


@pytest.mark.G6
def test_refunds_without_purchases(prove_here: ProveHere) -> None:
    """The buyers who wait for the refunds start all the same, and the test comes to its end."""
    status, output, document = prove_here(
        services.Deaf(), "--only", "7", "--timeout", "0.5", "--patience", "1.5"
    )
    assert status == 1, output
    assert document["tests"][0]["figures"]["requests"] == 30
    demand_violation(document, "G6", "left_without_an_answer")


def demand_violation(document: dict[str, Any], guarantee: str, rule: str) -> None:
    """Assert that a report has this violation, with a counter-example."""
    found = {each["rule"]: each for each in document["tests"][0]["violations"]}
    assert found[rule]["guarantee"] == guarantee
    assert found[rule]["evidence"]


@pytest.mark.G3
def test_lost_reset_reply_is_fine(
    prove_here: ProveHere,
) -> None:
    status, output, document = prove_here(services.LosesResetReplies(), "--only", "1,5")
    assert status == 0, output
    assert [reset["attempts"] for test in document["tests"] for reset in test["resets"]] == [
        2,
        2,
        2,
    ]


@pytest.mark.G3
def test_reset_taking_effect_twice(prove_here: ProveHere) -> None:
    status, output, document = prove_here(services.ResetsTwice(), "--only", "5")
    assert status == 1, output
    demand_violation(document, "G3", "reset_took_effect_twice")
    assert "which no reset of this sale has opened" not in output


def test_inconclusive(prove_here: ProveHere) -> None:
    status, output, document = prove_here(services.ShowsNothing(), "--only", "2")
    assert status == 3, output
    assert "? Stock, held and sold added up in all 0 samples" in output
    assert "TEST 2 INCONCLUSIVE" in output
    assert "The proof is INCONCLUSIVE: tests 2 have checks that looked at nothing" in output
    assert "PASSED" not in output
    assert "is CORRECT" not in output
    assert "NOT CORRECT" not in output
    assert document["verdict"] == document["tests"][0]["verdict"] == "inconclusive"


def test_failed_beats_inconclusive(prove_here: ProveHere) -> None:
    class Both(services.ShowsNothing, services.Oversells):
        """Two faults."""

    status, output, document = prove_here(Both(), "--only", "2")
    assert status == 1, output
    assert document["verdict"] == "failed"


@pytest.mark.parametrize(
    ("sizes", "only"),
    # The eighth waits for its holds to expire: once is enough.
    [((3, 200, 4, 1), "2,4,5,9"), ((2, 2, 2, 100), "1,2,3,4,5,6,7,8,9,10,11")],
)
def test_odd_sizes(sizes: tuple[int, int, int, int], only: str, prove_here: ProveHere) -> None:
    names = ("--tickets", "--buyers", "--processes", "--shards")
    options = [str(each) for pair in zip(names, sizes, strict=True) for each in pair]
    status, output, document = prove_here(services.Service(), *options, "--only", only)
    assert status in {0, 3}, output
    for test in document["tests"]:
        unseen = [check for check in test["checks"] if not check["looked_at"]]
        assert test["verdict"] == ("inconclusive" if unseen else "passed")
        assert not test["violations"]
    assert (status == 3) == ("INCONCLUSIVE" in output)


def test_no_server(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--url", "http://127.0.0.1:9/live", "--report", str(report)])
    output = capsys.readouterr().out
    assert status == 2
    assert "No server answers" in output
    assert "make start" in output
    assert json.loads(report.read_bytes())["verdict"] == "not usable"


def test_no_admin_routes(prove_here: ProveHere) -> None:
    status, output, _ = prove_here(services.WithoutAdmin(), "--only", "1")
    assert status == 2
    assert "POST /reset answers 403" in output
    assert "AllowReset=true" in output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--url", "https://tickets.example/live"], "--i-know-this-resets-item 1"),
        (
            ["--url", "https://tickets.example/live", "--i-know-this-resets-item", "2"],
            "--i-know-this-resets-item 1",
        ),
        (["--url", "tickets"], "no URL"),
        (["--only", "12"], "1 to 11"),
        (["--buyers", "10"], "at least --tickets"),
        (["--in-flight", "1"], "at least 2"),
    ],
)
def test_usage(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
