"""`python -m proof --from-logs` on real handlers over HTTP, and what it says."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from rich.console import Console

from organiser.client import Target
from proof.admin import Admin, NotUsable, signer
from proof.command import main
from proof.history import Kind
from proof.judging import Judgement, judge, read_files, show
from proof.report import Screen
from proof.scenarios import Verdict
from simulation.service import Call, FunctionLog, serve
from tests.organiser.api_server import ApiServer, world_on_model
from tests.support import END_SECONDS_MAX, ITEM, ROOT, World

TICKETS = 5


@pytest.fixture
def world() -> World:
    world = world_on_model()
    world.clock.now = time.time() - 100  # so nothing that a line tells of is in flight any more
    return world


@pytest.fixture
def api(world: World) -> Iterator[ApiServer]:
    with ApiServer(world) as server:
        yield server


class Sale:
    """A sale over the handlers, whose lines a file gets."""

    def __init__(self, api: ApiServer, file: Path) -> None:
        self._api, self.file = api, file
        self.send("POST /reset", {"stock": TICKETS, "hold_seconds": 60})
        api.world.clock.now += 10  # of the time before the end of the first reset nothing is known

    def send(self, route: str, body: Any, **parameters: str) -> Any:
        """Return the answer to a request with a key of its own."""
        world = self._api.world
        world.clock.now += 0.1
        call = Call(route, body, str(uuid4()), parameters)
        log = FunctionLog(world.clock, self._api.log)
        return json.loads(serve(call, world.services(), log).text)

    def write(self) -> None:
        lines = [json.dumps(line) for line in self._api.log]
        self.file.write_text("\n".join(["START RequestId: 1-2-3", *lines, "END"]))

    def judge(self, item_id: int = ITEM) -> Judgement:
        """Return the judgement, and print it."""
        self.write()
        screen = Screen(Console(width=200))
        target = Target(self._api.url)
        signed = signer(target, None, None)

        def work() -> Judgement:
            with Admin(target, signed, item_id, random.Random(1), time.time) as admin:
                judgement = judge(read_files([self.file]), admin, 1.0, screen.say)
            show(judgement, screen)
            return judgement

        return self._api.serve_during(work)

    def command(self, *options: str) -> tuple[int, str]:
        """Return exit status and output of the command."""
        self.write()
        url = ["--url", self._api.url]
        command = [sys.executable, "-m", "proof", "--from-logs", str(self.file), *url, *options]
        run = partial(subprocess.run, command, cwd=ROOT, capture_output=True, text=True)
        done = self._api.serve_during(partial(run, timeout=END_SECONDS_MAX))
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def sale(api: ApiServer, tmp_path: Path) -> Sale:
    return Sale(api, tmp_path / "sale.log")


@pytest.mark.G1
@pytest.mark.G2
@pytest.mark.G3
@pytest.mark.G4
@pytest.mark.G5
def test_right_sale(sale: Sale, api: ApiServer, tmp_path: Path) -> None:
    """All moves; one purchase and one release of killed functions; it changes nothing."""
    bought = sale.send("POST /buy_ticket", {"quantity": 2, "buyer_id": "ann"})
    paid, released = (sale.send("POST /holds", {"quantity": 1}) for _ in range(2))
    sale.send("POST /holds/{hold_id}/extend", {}, hold_id=paid["hold_id"])
    confirm = {"payment_reference": "pay-1"}
    sale.send("POST /holds/{hold_id}/confirm", confirm, hold_id=paid["hold_id"])
    sale.send("DELETE /holds/{hold_id}", {}, hold_id=released["hold_id"])
    api.log.pop()
    sale.send("POST /buy_ticket", {"quantity": 2})
    api.log.pop()
    sale.send("POST /buy_ticket", {"quantity": 1})
    refund = {"quantity": 1}
    sale.send("POST /purchases/{purchase_id}/refund", refund, purchase_id=bought["purchase_id"])
    report = tmp_path / "report.json"
    status, output = sale.command("--report", str(report))
    assert status == 0, output
    assert "THE SALE WAS CORRECT" in output
    assert "Tickets sold: 4 of 5" in output
    written = json.loads(report.read_text())
    assert written["verdict"] == "passed"
    assert written["orders"] == {"bought": 3, "sold_out": 1}
    assert written["without_line"] == {"changes of holds": 1, "purchases": 1}
    assert api.changes == []
    assert bought["purchase_id"] not in sale.file.read_text()


@pytest.mark.G1
@pytest.mark.G4
@pytest.mark.G5
def test_wrong_sale(sale: Sale, world: World) -> None:
    """Record and counter of a purchase are lost: its line is still there."""
    bought = [sale.send("POST /buy_ticket", {}) for _ in range(TICKETS)]
    world.lose(f"purchase#{bought[0]['purchase_id']}")
    world.tamper(f"item#{ITEM}#stock#00", stock=1, sold=TICKETS - 1)
    sale.send("POST /buy_ticket", {})
    status, output = sale.command()
    assert status == 1, output
    for rule in ("G1 No oversell: oversold", "not_exported", "record_is_missing"):
        assert rule in output, output
    assert "THE SALE WAS NOT CORRECT: G1 No oversell" in output


@pytest.mark.G2
@pytest.mark.G5
def test_untrue_refusals(sale: Sale, api: ApiServer) -> None:
    sale.send("POST /buy_ticket", {"quantity": TICKETS + 1})
    line = api.log[-1]
    line |= {"outcome": "sold_out", "left": 0}
    judgement = sale.judge()
    assert [each.rule for each in judgement.violations] == ["untrue_figure_in_a_refusal"]
    line |= {"quantity": 1}
    judgement = sale.judge()
    assert [each.rule for each in judgement.violations] == ["undersold"]


def test_nothing_to_judge(sale: Sale, capsys: pytest.CaptureFixture[str]) -> None:
    assert sale.judge().verdict is Verdict.INCONCLUSIVE
    assert "INCONCLUSIVE: no line tells of an order. Give" in capsys.readouterr().out


def test_line_of_an_earlier_version(
    sale: Sale, api: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """What comes before it is left out, and then the sale began before the log."""
    sale.send("POST /buy_ticket", {})
    del api.log[-1]["purchase_digest"]
    sale.send("POST /buy_ticket", {})
    judgement = sale.judge()
    assert judgement.verdict is Verdict.PASSED
    assert judgement.sale.orders == {Kind.BOUGHT: 1}
    assert judgement.sale.without_line == {"purchases": 1}
    assert "An earlier version wrote some of them" in capsys.readouterr().out


def test_incomplete_log(sale: Sale, api: ApiServer) -> None:
    sale.send("POST /reset", {"stock": TICKETS})
    api.log.pop()
    with pytest.raises(NotUsable, match="no line of the start of generation 2"):
        sale.judge()


def test_no_such_item(sale: Sale) -> None:
    with pytest.raises(NotUsable, match="GET /inventory answers 404"):
        sale.judge(item_id=7)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only", "1"], "do not go with --from-logs"),
        (["--report", "page.html"], "a report is JSON"),
        (["--from-logs", "missing.log"], "there is no such file"),
    ],
)
def test_bad_options(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sale.log"
    file.write_text("")
    with pytest.raises(SystemExit) as ended:
        main(["--from-logs", str(file), *options])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
