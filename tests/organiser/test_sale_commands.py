"""`organiser sale` and `organiser purchase`, over HTTP against the real handlers."""

import json
from itertools import pairwise
from typing import Any

import pytest

from organiser.errors import ExitStatus
from tests.organiser.api_server import LOST, Answer, ApiServer
from tests.organiser.commands import done, run
from tests.support import World
from ticketing.model import Bought, SaleSettings

NAME = "Open Air"
NEW = ("sale", "open", "2", "--name", NAME, "--capacity", "500")
BUSY = Answer(503, {"code": "busy", "detail": "Busy.", "reason": "contention"})
WRITES = [
    NEW,
    ("sale", "raise", "2", "600"),
    ("sale", "pause", "2"),
    ("sale", "resume", "2"),
    ("sale", "delete", "2", "--yes"),
]


@pytest.fixture
def sale(api: ApiServer) -> ApiServer:
    """An item 2 with 500 tickets."""
    done(api, *NEW)
    api.sent.clear()
    return api


def buy(world: World, quantity: int = 1) -> str:
    """Return the id of a purchase of item 2."""
    service = world.purchase_service()
    outcome = service.buy(service.order(2, quantity, "ann", None))
    assert isinstance(outcome, Bought)
    return outcome.purchase.purchase_id


def denied(method: str, path: str) -> Answer:
    """Return API Gateway's answer for a missing permission."""
    resource = f"arn:aws:execute-api:us-east-1:1:abc/live/{method}{path}"
    what = f"is not authorized to perform: execute-api:Invoke on resource: {resource}"
    return Answer(403, {"message": f"User: arn:aws:iam::1:user/a {what}"})


class TestOpen:
    def test_new_item(self, api: ApiServer) -> None:
        created = done(api, *NEW)
        assert (created["item_name"], created["initial_stock"]) == (NAME, 500)
        assert created["state"] == "open"
        assert created == done(api, "sale", "show", "2")

    def test_again(self, sale: ApiServer) -> None:
        before = done(sale, "sale", "show", "2")
        assert done(sale, *NEW) == before

    def test_only_what_is_given(self, sale: ApiServer) -> None:
        done(sale, "sale", "open", "2", "--limit", "0", "--opens-at", "now", "--closes-at", "never")
        (change,) = sale.changes
        assert change.body == {"per_buyer_limit": 0, "opens_at": None, "closes_at": None}

    def test_window(self, sale: ApiServer) -> None:
        result = run(sale, "sale", "open", "2", "--opens-at", "2099-12-01T10:00:00+01:00")
        assert result.exit_code == 0
        assert "2099-12-01T09:00:00" in result.stdout
        assert "not open yet" in result.stderr

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            (("--opens-at", "2026-12-01T10:00:00"), "zone"),
            (("--shards", "101"), "shards"),
            (("--capacity", "9999999999"), "capacity"),
            (("--expect-generation", "7"), "generation"),
        ],
    )
    def test_refused(self, sale: ApiServer, options: tuple[str, ...], named: str) -> None:
        before = done(sale, "sale", "show", "2")
        result = run(sale, "sale", "open", "2", *options)
        assert result.exit_code == ExitStatus.REFUSED
        assert named in result.stderr
        assert result.stdout == ""
        assert done(sale, "sale", "show", "2") == before

    def test_capacity_too_low(self, sale: ApiServer) -> None:
        buy(sale.world, 5)
        result = run(sale, "sale", "open", "2", "--capacity", "4")
        assert result.exit_code == ExitStatus.REFUSED
        assert "lowest_capacity: 5" in result.stderr


class TestRaise:
    def test_more(self, sale: ApiServer) -> None:
        assert done(sale, "sale", "raise", "2", "600")["current_stock"] == 600

    def test_less(self, sale: ApiServer) -> None:
        """It is asked for by another command, so that a wrong digit does not lower a capacity."""
        result = run(sale, "sale", "raise", "2", "60")
        assert result.exit_code == ExitStatus.USAGE
        assert "sale open 2 --capacity 60" in result.stderr
        assert sale.changes == []


class TestPause:
    def test_pause_and_resume(self, sale: ApiServer) -> None:
        assert done(sale, "sale", "pause", "2")["state"] == "paused"
        shown = run(sale, "sale", "show", "2")
        assert "sale resume 2" in shown.stderr
        assert done(sale, "sale", "resume", "2")["state"] == "open"
        assert len({change.key for change in sale.changes}) == 2


class TestDelete:
    @pytest.mark.parametrize("typed", ["open air\n", "2\n", "\n", ""])
    def test_wrong_name(self, sale: ApiServer, typed: str) -> None:
        result = run(sale, "sale", "delete", "2", typed=typed)
        assert result.exit_code == ExitStatus.USAGE, result.stderr
        assert "--yes" in result.stderr
        assert sale.changes == []

    def test_name(self, sale: ApiServer) -> None:
        result = run(sale, "sale", "delete", "2", "--json", typed=f"{NAME}\n")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["state"] == "deleted"
        assert run(sale, "sale", "show", "2").exit_code == ExitStatus.REFUSED

    def test_sold(self, sale: ApiServer) -> None:
        buy(sale.world)
        result = run(sale, "sale", "delete", "2", "--yes")
        assert result.exit_code == ExitStatus.REFUSED
        assert "item_in_use" in result.stderr


class TestDryRun:
    @pytest.mark.parametrize("command", WRITES[1:])
    def test_sends_nothing(self, sale: ApiServer, command: tuple[str, ...]) -> None:
        before = done(sale, "sale", "show", "2")
        report = done(sale, *command, "--dry-run")
        assert report["dry_run"] is True
        assert report["path"].startswith("/items/2")
        assert sale.changes == []
        assert done(sale, "sale", "show", "2") == before

    def test_changes(self, sale: ApiServer) -> None:
        options = ("--capacity", "600", "--name", NAME, "--limit", "0", "--opens-at", "now")
        report = done(sale, "sale", "open", "2", *options, "--dry-run")
        assert report["changes"] == {"capacity": [500, 600]}
        assert "500 → 600" in run(sale, "sale", "open", "2", *options, "--dry-run").stdout

    def test_would_be_refused(self, sale: ApiServer) -> None:
        buy(sale.world, 5)
        for command in (("delete", "2"), ("open", "2", "--capacity", "4")):
            assert "5 tickets" in run(sale, "sale", *command, "--dry-run").stderr
            assert run(sale, "sale", *command, *["--yes"][: command[0] == "delete"]).exit_code == 3

    def test_same_instant(self, sale: ApiServer) -> None:
        """One instant has many spellings."""
        done(sale, "sale", "open", "2", "--closes-at", "2099-12-01T10:00:00+01:00")
        again = ("sale", "open", "2", "--closes-at", "2099-12-01T09:00:00Z", "--dry-run")
        assert done(sale, *again)["changes"] == {}

    def test_new_item(self, api: ApiServer) -> None:
        changes = done(api, *NEW, "--dry-run")["changes"]
        assert changes == {"item_name": [None, NAME], "capacity": [None, 500]}
        assert run(api, "sale", "show", "2").exit_code == ExitStatus.REFUSED

    def test_states(self, sale: ApiServer) -> None:
        assert done(sale, "sale", "resume", "2", "--dry-run")["changes"] == {}
        changes = done(sale, "sale", "pause", "2", "--dry-run")["changes"]
        assert changes == {"state": ["open", "paused"]}


class TestKeys:
    @pytest.mark.G3
    @pytest.mark.parametrize("command", WRITES[1:])
    def test_lost_reply(self, sale: ApiServer, command: tuple[str, ...]) -> None:
        """It is sent again with the same key, and takes effect once."""
        sale.after.append(LOST)
        result = run(sale, *command, "--json")
        assert result.exit_code == 0, result.stderr
        first, again = sale.changes
        assert first == again
        assert first.key
        assert "nothing was changed twice" in result.stderr.lower()

    @pytest.mark.G3
    @pytest.mark.G5
    def test_busy_until_patience_ends(self, sale: ApiServer) -> None:
        """The key is named, and a repetition with it takes effect once."""
        purchase_id = buy(sale.world, 3)
        command = ("purchase", "refund", purchase_id, "--quantity", "1", "--yes")
        sale.sent.clear()
        sale.after.append(LOST)
        result = run(sale, *command, patience="0")
        assert result.exit_code == ExitStatus.NO_ANSWER
        (change,) = sale.changes
        assert f"--key {change.key}" in result.stderr
        assert done(sale, *command, "--key", str(change.key))["refunded_quantity"] == 1

    def test_each_has_its_own(self, sale: ApiServer) -> None:
        for command in WRITES:
            assert run(sale, *command).exit_code == 0
        keys = [change.key for change in sale.changes]
        assert len(set(keys)) == len(WRITES)
        assert None not in keys


class TestRefund:
    def test_whole(self, sale: ApiServer) -> None:
        purchase_id = buy(sale.world, 3)
        receipt = done(sale, "purchase", "refund", purchase_id, typed=f"{NAME}\n")
        assert (receipt["status"], receipt["refunded_quantity"]) == ("refunded", 3)
        assert done(sale, "purchase", "show", purchase_id) == receipt

    def test_not_confirmed(self, sale: ApiServer) -> None:
        purchase_id = buy(sale.world)
        result = run(sale, "purchase", "refund", purchase_id, typed="no\n")
        assert result.exit_code == ExitStatus.USAGE
        assert sale.changes == []

    def test_dry_run(self, sale: ApiServer) -> None:
        purchase_id = buy(sale.world, 3)
        command = ("purchase", "refund", purchase_id, "--dry-run")
        assert done(sale, *command, "--quantity", "2")["changes"] == {"refunded_quantity": [0, 2]}
        too_many = done(sale, *command, "--quantity", "4")
        assert (too_many["changes"], too_many["refusal"]) == ({}, "Only 3 can still be refunded.")
        assert sale.changes == []

    @pytest.mark.parametrize("purchase_id", ["no-uuid", "../items/2", "a b/c?d"])
    def test_no_purchase(self, sale: ApiServer, purchase_id: str) -> None:
        result = run(sale, "purchase", "show", purchase_id)
        assert result.exit_code == ExitStatus.REFUSED
        assert "purchase_id" in result.stderr


class TestDenied:
    @pytest.mark.parametrize(
        ("command", "permission"),
        [
            (WRITES[0], "live/PUT/items/2"),
            (WRITES[2], "live/POST/items/2/pause"),
            (WRITES[4], "live/DELETE/items/2"),
            (("audit", "2"), "live/GET/audit/2"),
            (("repair", "2"), "live/POST/audit/2/repair"),
            (("export", "2"), "live/GET/export/2"),
        ],
    )
    def test_permission_is_named(
        self, api: ApiServer, command: tuple[str, ...], permission: str
    ) -> None:
        api.instead.append(denied("GET", "/"))
        result = run(api, *command)
        assert result.exit_code == ExitStatus.DENIED
        assert "Missing permission: execute-api:Invoke on arn:aws:execute-api:" in result.stderr
        assert permission in result.stderr
        assert result.stdout == ""

    def test_wrong_signature(self, api: ApiServer) -> None:
        """Another refusal of the gateway is no missing permission."""
        api.instead.append(Answer(403, {"code": "forbidden", "detail": "The signature is wrong."}))
        result = run(api, *NEW)
        assert result.exit_code == ExitStatus.DENIED
        assert "The signature is wrong." in result.stderr
        assert "permission" not in result.stderr


class TestNoAnswer:
    def test_no_server(self) -> None:
        result = run("http://127.0.0.1:1/live", *NEW)
        assert result.exit_code == ExitStatus.NO_ANSWER
        assert "No server answers" in result.stderr
        assert "--key" not in result.stderr, "nothing was sent"

    def test_busy(self, sale: ApiServer) -> None:
        sale.instead.extend([BUSY, BUSY])
        result = run(sale, "sale", "show", "2", "--json")
        assert result.exit_code == 0
        assert "Trying again" in result.stderr
        assert json.loads(result.stdout)["item_id"] == 2

    @pytest.mark.parametrize("body", [b"<html>", b"", b"[" * 100_000, b"\xff"])
    def test_another_server(self, api: ApiServer, body: bytes) -> None:
        api.instead.append(Answer(200, body))
        result = run(api, "sale", "show", "2")
        assert result.exit_code == ExitStatus.NO_ANSWER
        assert "ends in the stage" in result.stderr

    def test_bug(self, sale: ApiServer) -> None:
        """A 500 may come after the change was made."""
        sale.instead.append(Answer(500, {"code": "internal_error", "detail": "A bug."}))
        result = run(sale, "sale", "pause", "2")
        assert result.exit_code == ExitStatus.NO_ANSWER
        assert f"--key {sale.changes[0].key}" in result.stderr


class TestList:
    def test_all_pages(self, api: ApiServer) -> None:
        for item_id in range(1, 131):
            api.world.organiser.put(item_id, SaleSettings(1, f"No. {item_id}"))
        listed = done(api, "sale", "list")
        assert [item["item_id"] for item in listed["items"]] == list(range(1, 131))
        assert listed["next_after"] is None
        assert len(run(api, "sale", "list").stdout.splitlines()) == 131

    def test_none(self, api: ApiServer) -> None:
        assert done(api, "sale", "list") == {"items": [], "next_after": None}


class TestWatch:
    def test_each_change(self, sale: ApiServer) -> None:
        """One document for each change, until the sale is closed."""
        changes: list[Any] = [{"state": "open", "n": 1}, {"state": "open", "n": 1}]
        changes += [{"state": "paused", "n": 2}, {"state": "closed", "n": 3}]
        shown = done(sale, "sale", "show", "2")
        sale.instead.extend(Answer(200, shown | change) for change in changes)
        result = run(sale, "sale", "watch", "2", "--every", "0.5", "--json")
        assert result.exit_code == 0
        states = [json.loads(line)["state"] for line in result.stdout.splitlines()]
        assert states == ["open", "paused", "closed"]

    def test_end(self, sale: ApiServer) -> None:
        result = run(sale, "sale", "watch", "2", "--for", "0")
        assert result.exit_code == 0
        assert "free 500" in result.stdout

    def test_deleted(self, sale: ApiServer) -> None:
        gone = Answer(404, {"code": "not_found", "status": 404, "detail": "No item 2."})
        sale.instead.extend([Answer(200, done(sale, "sale", "show", "2")), gone])
        result = run(sale, "sale", "watch", "2", "--every", "0.5")
        assert result.exit_code == 0
        assert "deleted" in result.stderr


class TestOutput:
    def test_pipe_has_no_colours(self, sale: ApiServer) -> None:
        for command in (("sale", "show", "2"), ("sale", "list"), ("sale", "show", "3")):
            result = run(sale, *command)
            assert "\x1b" not in result.stdout + result.stderr

    @pytest.mark.parametrize(("no_color", "is_red"), [("", True), ("1", False)])
    def test_no_color(
        self, api: ApiServer, monkeypatch: pytest.MonkeyPatch, no_color: str, is_red: bool
    ) -> None:
        """As https://no-color.org asks for."""
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("NO_COLOR", no_color)
        assert ("31m" in run(api, "sale", "show", "3").stderr) == is_red

    @pytest.mark.parametrize("name", ["[bold]Rock[/bold] :tada:", "مهرجان", "a\u202eb", "{x} %s"])
    def test_name_letter_for_letter(self, api: ApiServer, name: str) -> None:
        """Markup is text, and a direction of writing ends with the name."""
        created = done(api, "sale", "open", "2", "--name", name, "--capacity", "1")
        assert created["item_name"] == name
        shown = run(api, "sale", "show", "2").stdout
        assert name in shown
        has_direction = name in {"مهرجان", "a\u202eb"}
        assert (f"\u2068{name}\u2069" in shown) == has_direction

    def test_control_characters(self, sale: ApiServer) -> None:
        """No text of a service moves the terminal's cursor."""
        shown = done(sale, "sale", "show", "2")
        sale.instead.append(Answer(200, shown | {"item_name": "a\x1b[2Jb\x07"}))
        assert r"a\x1b[2Jb\x07" in run(sale, "sale", "show", "2").stdout

    def test_long_names_are_whole(self, api: ApiServer) -> None:
        name = "x" * 100
        done(api, "sale", "open", "2", "--name", name, "--capacity", "1")
        shown = run(api, "sale", "list").stdout
        assert "".join(shown.split()).count("x") == 100


def test_usage() -> None:
    for arguments in (("sale", "show", "zero"), ("sale", "show", "0"), ("sale", "sing"), ("x",)):
        assert run("http://127.0.0.1:1", *arguments).exit_code == ExitStatus.USAGE
    assert run("ftp://x", "sale", "list").exit_code == ExitStatus.USAGE
    help_text = run("http://127.0.0.1:1", "--help").stdout
    for one, other in pairwise(ExitStatus):
        assert one < other
    assert all(f" {status:d} " in help_text for status in ExitStatus)
