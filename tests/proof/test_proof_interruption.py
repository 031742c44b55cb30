"""Ctrl-C at any moment ends the proof and all its processes: exit status 130, no traceback."""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from tests.proof import reference_service as services
from tests.proof.test_proof_cli import SMALL
from tests.support import END_SECONDS_MAX, running, wait_for_end

# Runs the proof as `python -m proof` does, and interrupts its process group as a terminal does, at
# the n-th event of a kind: an import, the start of a process, a connection. These moments do not
# depend on a machine's speed.
INTERRUPT = """
import os, runpy, signal, sys
kind, number = sys.argv[1], int(sys.argv[2])
left = number
def hook(event, details):
    global left
    if event == kind and signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        left -= 1
        if left == 0:
            os.killpg(os.getpid(), signal.SIGINT)
sys.addaudithook(hook)
sys.argv[1:3] = []
runpy.run_module("proof", run_name="__main__", alter_sys=True)
"""
EVENTS = {
    "imports": [("import", 1), ("import", 20), ("import", 150), ("import", 400)],
    "the first connection": [("socket.connect", 1)],
    "the start of a process": [("subprocess.Popen", 1), ("subprocess.Popen", 2)],
    "another thread": [("_thread.start_joinable_thread", number) for number in (1, 2, 3, 4)],
    "looking up what was bought": [("socket.connect", 3), ("socket.connect", 6)],
    "the second test": [("subprocess.Popen", 3)],
}
MOMENTS = [event for events in EVENTS.values() for event in events]


@pytest.mark.parametrize(("kind", "number"), MOMENTS)
def test_interrupted_at_event(kind: str, number: int, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with services.Server(services.Service()) as server:
        options = ["--url", server.url, *SMALL, "--only", "3,5", "--report", report]
        with running([sys.executable, "-c", INTERRUPT, kind, number, *options]) as process:
            output, errors = wait_for_end(process)
    assert process.returncode == 130, output + errors
    assert "Interrupted" in output + errors
    assert "Traceback" not in output + errors
    if report.exists():
        assert json.loads(report.read_bytes())["verdict"] == "interrupted"


class Waits(services.Service):
    """Answers no buyer, and tells when the first of them waits."""

    def __init__(self) -> None:
        super().__init__()
        self.a_buyer_waits = threading.Event()
        self.over = threading.Event()

    def buy(
        self, purchase_id: str, item_id: int, quantity: int, buyer_id: str | None
    ) -> services.Answer:
        self.a_buyer_waits.set()
        self.over.wait()
        return super().buy(purchase_id, item_id, quantity, buyer_id)


@pytest.mark.parametrize(
    ("how", "status"),
    [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)],
    ids=["Ctrl-C", "kill"],
)
def test_interrupted_during_sale(how: signal.Signals, status: int, tmp_path: Path) -> None:
    """A killed process cannot end the others, so they must notice it."""
    report = tmp_path / "report.json"
    service = Waits()
    with services.Server(service) as server:
        options = ["--url", server.url, *SMALL, "--only", "3", "--report", report]
        with running([sys.executable, "-m", "proof", *options]) as process:
            assert service.a_buyer_waits.wait(END_SECONDS_MAX)
            os.killpg(process.pid, how)
            output, errors = wait_for_end(process)
        service.over.set()
    assert process.returncode == status
    assert "Traceback" not in output + errors
    if how is signal.SIGINT:
        assert "Interrupted in TEST 3, after 0 of 100 requests" in output
        assert "Item 1 is left in the middle of a test" in output
        assert json.loads(report.read_bytes())["verdict"] == "interrupted"


class WaitsInPauses(Waits):
    """Answers no buyer in a pause."""

    def buy(
        self, purchase_id: str, item_id: int, quantity: int, buyer_id: str | None
    ) -> services.Answer:
        if self.is_paused:
            return super().buy(purchase_id, item_id, quantity, buyer_id)
        return services.Service.buy(self, purchase_id, item_id, quantity, buyer_id)


def test_interrupted_during_pause(tmp_path: Path) -> None:
    """The sale is resumed: an item must not stay closed because its proof was ended."""
    service = WaitsInPauses()
    with services.Server(service) as server:
        options = ["--url", server.url, *SMALL, "--only", "10", "--report", tmp_path / "report"]
        with running([sys.executable, "-m", "proof", *options]) as process:
            assert service.a_buyer_waits.wait(END_SECONDS_MAX)
            assert service.is_paused
            os.killpg(process.pid, signal.SIGINT)
            output, errors = wait_for_end(process)
        service.over.set()
    assert process.returncode == 130, output + errors
    assert "Traceback" not in output + errors
    assert not service.is_paused
