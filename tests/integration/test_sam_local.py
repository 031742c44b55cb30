"""The functions in real containers, as `sam local` runs them."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from local import sam
from local.api import call
from local.process import free_port
from local.sam_local import SamLocal, docker_answers
from tests.functions import load
from tests.support import ROOT, eventually, need, template
from tests.unit.test_functions import EXPECTED


def functions_of_routes() -> dict[tuple[str, str], str]:
    """Return method and path of each route → the function that serves it."""
    return {
        (event["Properties"]["Method"], event["Properties"]["Path"]): name
        for name, resource in template()["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
        for event in resource["Properties"]["Events"].values()
        if event["Type"] == "Api"
    }


FUNCTIONS = functions_of_routes()


def one_of_each() -> list[Path]:
    """Return an event for each function that is not refused. Each takes a container of its own."""
    chosen: dict[str, Path] = {}
    for name, (status, _) in EXPECTED.items():
        event = load(name)
        if status < HTTPStatus.BAD_REQUEST:
            function = FUNCTIONS[event["httpMethod"], event["resource"]]
            chosen.setdefault(function, ROOT / "events" / name)
    return sorted(chosen.values())


EVENTS = one_of_each()
NAMES = [str(event.relative_to(ROOT / "events")) for event in EVENTS]


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SamLocal]:
    need([] if docker_answers() else ["a Docker engine that answers"])
    sam.build()
    with SamLocal(tmp_path_factory.mktemp("sam-local"), skip_pull=True) as running:
        yield running


@pytest.fixture(scope="module")
def answers(containers: SamLocal) -> dict[Path, dict[str, Any]]:
    """The answer to each event, each from a container of its own, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(EVENTS, pool.map(containers.invoke, EVENTS), strict=True))


def test_events_of_every_function(containers: SamLocal) -> None:
    assert {containers.function_of(event) for event in EVENTS} == set(FUNCTIONS.values())


@pytest.mark.parametrize("event", EVENTS, ids=NAMES)
def test_no_event_fails(answers: dict[Path, Any], event: Path) -> None:
    assert 200 <= answers[event]["statusCode"] < 500


def test_start_api(containers: SamLocal, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with containers.api(port, tmp_path / "log.txt"):
        assert call("POST", f"{url}/reset", {"item_id": 77, "stock": 3})[0] == 200
        status, before = call("GET", f"{url}/inventory?item_id=77")
        assert (status, json.loads(before)["current_stock"]) == (200, 3)
        status, receipt = call("POST", f"{url}/buy_ticket", {"item_id": 77})
        assert status == 201
        assert call("GET", f"{url}/purchases/{json.loads(receipt)['purchase_id']}")[0] == 200
        after = eventually(  # it may be a second old
            lambda: json.loads(call("GET", f"{url}/inventory?item_id=77")[1]),
            lambda seen: seen["current_stock"] != 3,
        )
        assert (after["current_stock"], after["total_purchases"]) == (2, 1)
