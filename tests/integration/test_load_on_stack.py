"""The load for the whole API, on the local stack: no answer there is one that is not promised."""

from http import HTTPStatus

import pytest

from local.api import call
from local.stack import Stack
from tests.load.test_locust import load

ITEM = 300


@pytest.mark.G5
def test_whole_api(stack: Stack) -> None:
    sale = {"item_id": ITEM, "stock": 500}
    assert call("POST", f"{stack.url}/reset", sale, signed=True)[0] == HTTPStatus.OK
    status, output = load(stack.url, "--rate", "30", "--item", str(ITEM))
    assert status == 0, output
    for row in ("/buy_ticket → 201", "/holds → 201", "/confirm → 201", "/inventory → 200"):
        assert row in output
    for outcome in ("only looked", "bought", "held and bought"):
        assert f"buyer    {outcome} " in output


def test_unknown_item(stack: Stack) -> None:
    status, output = load(stack.url, "--item", "404404")
    assert status == 1, output
    assert "answers 404. Is the URL right" in output
