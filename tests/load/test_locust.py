"""The load for the whole API: every answer that the API does not promise is a failure."""

import re
import subprocess

import pytest

from tests.proof import reference_service as services
from tests.support import ROOT

LOCUST = ROOT / ".venvs" / "locust" / "bin" / "locust"


def load(url: str, *options: str) -> tuple[int, str]:
    """Return exit status and output of a load of two seconds."""
    command = [LOCUST, "--locustfile", ROOT / "tests" / "load" / "locustfile.py", "--headless"]
    command += ["--only-summary", "--host", url, "--users", "1", "--seconds", "2", *options]
    done = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, timeout=200, check=False
    )
    return done.returncode, done.stdout + done.stderr


def load_of(service: services.Service) -> tuple[int, str]:
    """Return the same for a service with more tickets than the load buys."""
    service.open_generation(stock=5000)
    with services.Server(service) as server:
        return load(server.url, "--rate", "100")


@pytest.mark.G3
def test_second_sale_is_caught() -> None:
    status, output = load_of(services.SellsTwicePerKey())
    assert status == 1, output
    assert re.search("not the same receipt: 201|one key, and two orders", output), output


@pytest.mark.G5
def test_lost_record_is_caught() -> None:
    status, output = load_of(services.LosesRecords())
    assert status == 1, output
    assert "/purchases/{purchase_id} → 404 not_found: not an answer for a buyer" in output


def test_no_service() -> None:
    status, output = load("http://127.0.0.1:9/live")
    assert status == 1, output
    assert "answers nothing. Is the URL right, with its stage" in output


def test_two_processes() -> None:
    """Together they send the rate, and end when the last buyer of both has left."""
    with services.Server(services.Service()) as server:
        options = ("--rate", "20", "--users", "2", "--spawn-rate", "2", "--processes", "2")
        _, output = load(server.url, *options)
    assert "The last worker quit" in output
    assert "buyer    only looked " in output, output
