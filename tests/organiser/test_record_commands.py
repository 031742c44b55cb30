"""`organiser audit`, `repair` and `export`, over HTTP against the real handlers."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from organiser.errors import ExitStatus
from tests.organiser.api_server import Answer, ApiServer
from tests.organiser.commands import done, run
from tests.organiser.test_exporting import buy, one_record_a_page
from tests.support import ITEM, World
from ticketing.store.items import shard_key

NAME = "Item A - Concert Ticket"
PURCHASES = 8
CUT_OFF = Answer(400, {"code": "invalid_request", "detail": "Cut off."})


@pytest.fixture
def sold(api: ApiServer) -> ApiServer:
    """A sale with purchases, read in many parts."""
    api.world.open_sale(stock=40, shards=4)
    for _ in range(PURCHASES):
        buy(api.world, 2)
    one_record_a_page(api.world)
    return api


@pytest.fixture
def broken(sold: ApiServer) -> ApiServer:
    """The same, where a shard counts two tickets more as sold than there are records."""
    world = sold.world
    shard = world.catalogue.inventory(1).shards[0]
    world.tamper(shard_key(ITEM, 0)["pk"]["S"], sold=shard.sold + 2, capacity=shard.capacity + 2)
    return sold


class TestAudit:
    def test_agrees(self, sold: ApiServer) -> None:
        """All parts are one report."""
        report = done(sold, "audit", "1")
        assert (report["agrees"], report["complete"], report["cursor"]) == (True, True, None)
        assert report["purchase_records"] == PURCHASES
        assert len(sold.sent) > 1

    def test_differences(self, broken: ApiServer) -> None:
        result = run(broken, "audit", "1")
        assert result.exit_code == ExitStatus.DIFFERENCES
        assert "agrees" in result.stdout
        assert "shard 0" in result.stdout.lower()
        assert "organiser repair 1" in result.stderr
        report = json.loads(run(broken, "audit", "1", "--json").stdout)
        assert report["problems"]

    def test_no_item(self, api: ApiServer) -> None:
        result = run(api, "audit", "7")
        assert result.exit_code == ExitStatus.REFUSED
        assert "not_found" in result.stderr


class TestRepair:
    def test_dry_run_by_default(self, broken: ApiServer) -> None:
        before = broken.world.catalogue.inventory(1).shards
        run(broken, "repair", "1")
        run(broken, "repair", "1", "--drop-unrecorded", "--dry-run")
        assert all(sent.body["dry_run"] for sent in broken.changes)
        assert broken.world.catalogue.inventory(1).shards == before

    def test_unrecorded_tickets_are_left(self, broken: ApiServer) -> None:
        result = run(broken, "repair", "1", "--apply")
        assert result.exit_code == ExitStatus.DIFFERENCES
        assert "Left:" in result.stderr
        assert "Shard 0" in result.stdout

    def test_drop_asks_for_name(self, broken: ApiServer) -> None:
        command = ("repair", "1", "--apply", "--drop-unrecorded")
        assert run(broken, *command, typed="no\n").exit_code == ExitStatus.USAGE
        assert broken.changes == []
        report = done(broken, *command, typed=f"{NAME}\n")
        assert report["repaired"]
        assert report["problems"] == []
        assert done(broken, *command, "--yes")["repaired"] == [], "the second changes nothing"
        assert done(broken, "audit", "1")["agrees"]

    def test_lost_counters(self, sold: ApiServer) -> None:
        """What all parts repaired is one report."""
        sold.world.lose(shard_key(ITEM, 1)["pk"]["S"])
        report = done(sold, "repair", "1", "--apply", "--drop-unrecorded", "--yes")
        assert report["problems"] == []
        assert any("hard 1" in line for line in report["repaired"])
        assert len(sold.changes) > 1

    def test_all_parts(self, api: ApiServer) -> None:
        """What each part repaired is in the report."""
        api.world.open_sale(stock=1)
        report = done(api, "repair", "1")
        first = report | {"repaired": ["One."], "complete": False, "cursor": "next"}
        api.instead.extend([Answer(200, first), Answer(200, report | {"repaired": ["Two."]})])
        assert done(api, "repair", "1")["repaired"] == ["One.", "Two."]
        assert api.sent[-1].body["cursor"] == "next"


def purchases_in(path: Path) -> list[Any]:
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if row["type"] == "purchase"]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["type"] == "purchase"]


class TestExport:
    @pytest.mark.parametrize("name", ["all.jsonl", "all.csv", "all"])
    def test_file(self, sold: ApiServer, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        total = done(sold, "export", "1", "--output", str(path))
        assert (total["type"], total["purchases"], total["tickets"]) == ("total", 8, 16)
        assert (total["sold"], total["agrees"], total["problems"]) == (16, True, [])
        assert len({each["purchase_id"] for each in purchases_in(path)}) == PURCHASES
        assert list(tmp_path.iterdir()) == [path]
        assert len(sold.sent) > 2

    def test_standard_output(self, sold: ApiServer, tmp_path: Path) -> None:
        """The same bytes, and nothing else."""
        path = tmp_path / "all.csv"
        assert run(sold, "export", "1", "-o", str(path)).exit_code == 0
        result = run(sold, "export", "1", "--format", "csv")
        assert result.exit_code == 0
        ours, theirs = result.stdout_bytes.splitlines(), path.read_bytes().splitlines()
        assert ours[:-1] == theirs[:-1], "the total has the time"

    def test_differences(self, broken: ApiServer, tmp_path: Path) -> None:
        for name in ("all.jsonl", "all.csv"):
            result = run(broken, "export", "1", "-o", str(tmp_path / name))
            assert result.exit_code == ExitStatus.DIFFERENCES
            assert "organiser audit 1" in result.stderr
            assert len(purchases_in(tmp_path / name)) == PURCHASES

    def test_earlier_generation(self, sold: ApiServer) -> None:
        sold.world.reset(40)
        lines = run(sold, "export", "1", "--generation", "1").stdout.splitlines()
        assert len(lines) == PURCHASES + 1
        assert len(run(sold, "export", "1").stdout.splitlines()) == 1

    def test_file_is_kept(self, sold: ApiServer, tmp_path: Path) -> None:
        path = tmp_path / "all.csv"
        path.write_text("mine")
        result = run(sold, "export", "1", "-o", str(path))
        assert result.exit_code == ExitStatus.USAGE
        assert "--overwrite" in result.stderr
        assert (path.read_text(), sold.sent) == ("mine", [])
        assert run(sold, "export", "1", "-o", str(path), "--overwrite").exit_code == 0
        assert len(purchases_in(path)) == PURCHASES

    def test_no_folder(self, sold: ApiServer, tmp_path: Path) -> None:
        result = run(sold, "export", "1", "-o", str(tmp_path / "none" / "all.csv"))
        assert result.exit_code == ExitStatus.USAGE
        assert "No such file" in result.stderr
        assert sold.sent == []

    def test_no_item(self, api: ApiServer, tmp_path: Path) -> None:
        """Nothing is left of a file that never began."""
        assert run(api, "export", "7", "-o", str(tmp_path / "x")).exit_code == ExitStatus.REFUSED
        assert list(tmp_path.iterdir()) == []


def cut_after(api: ApiServer, parts: int) -> Callable[..., Any]:
    """Let the export's next request after so many be refused."""
    answer = api.answer
    left = [parts]

    def cut(sent: Any, *, is_signed: bool) -> Any:
        left[0] -= 1
        return CUT_OFF if left[0] < 0 else answer(sent, is_signed=is_signed)

    return cut


class TestResume:
    @pytest.fixture(params=["all.jsonl", "all.csv"])
    def half(
        self, request: pytest.FixtureRequest, sold: ApiServer, tmp_path: Path
    ) -> tuple[ApiServer, Path]:
        """An export that was cut off after two parts."""
        path: Path = tmp_path / request.param
        whole = sold.answer
        sold.answer = cut_after(sold, 2)  # type: ignore[method-assign]
        result = run(sold, "export", "1", "-o", str(path))
        assert result.exit_code == ExitStatus.REFUSED
        assert "where this one stopped" in result.stderr
        sold.answer = whole  # type: ignore[method-assign]
        assert not path.exists()
        sold.sent.clear()
        return sold, path

    def test_goes_on(self, half: tuple[ApiServer, Path]) -> None:
        api, path = half
        result = run(api, "export", "1", "-o", str(path))
        assert result.exit_code == 0, result.stderr
        assert "Going on after" in result.stderr
        assert "where this one stopped" not in result.stderr
        resumed = path.read_bytes().splitlines()
        requests = len(api.sent)
        assert run(api, "export", "1", "-o", str(path), "--overwrite").exit_code == 0
        assert len(api.sent) - requests == requests + 2, "two parts were not fetched again"
        assert path.read_bytes().splitlines()[:-1] == resumed[:-1]
        assert list(path.parent.iterdir()) == [path]

    def test_half_written_part(self, half: tuple[ApiServer, Path]) -> None:
        """What was written after the last whole part is written again."""
        api, path = half
        with path.with_name(path.name + ".partial").open("ab") as partial:
            partial.write(b'{"type": "purch')
        assert run(api, "export", "1", "-o", str(path)).exit_code == 0
        assert len({each["purchase_id"] for each in purchases_in(path)}) == PURCHASES

    def test_restart(self, half: tuple[ApiServer, Path]) -> None:
        api, path = half
        assert run(api, "export", "1", "-o", str(path), "--restart").exit_code == 0
        assert "cursor" not in api.sent[0].path
        assert len(purchases_in(path)) == PURCHASES

    def test_another_export(self, half: tuple[ApiServer, Path]) -> None:
        api, path = half
        result = run(api, "export", "1", "--generation", "1", "-o", str(path))
        assert result.exit_code == ExitStatus.USAGE
        assert "--restart" in result.stderr
        assert api.sent == []

    @pytest.mark.parametrize("damage", ["", "{", "[]", '{"of": 1}', '{"of": "x", "place": 3}'])
    def test_damaged_place(self, half: tuple[ApiServer, Path], damage: str) -> None:
        api, path = half
        path.with_name(path.name + ".partial.json").write_text(damage)
        result = run(api, "export", "1", "-o", str(path))
        assert result.exit_code == ExitStatus.USAGE
        assert "--restart" in result.stderr

    def test_shorter_file(self, half: tuple[ApiServer, Path]) -> None:
        api, path = half
        path.with_name(path.name + ".partial").write_bytes(b"")
        assert run(api, "export", "1", "-o", str(path)).exit_code == ExitStatus.USAGE
        assert run(api, "export", "1", "-o", str(path), "--restart").exit_code == 0


@pytest.mark.parametrize(
    ("content", "link"),
    [
        (b"<html>", None),
        (b"\xff", None),
        (b'{"type":"purchase"}\n', None),
        (b'{"type":"total","purchases":1}\n', None),
        (b'{"type":"total","purchases":0}\n{"type":"purchase"}\n', None),
        (b'{"type":"total","purchases":0}\n', '<?cursor=x>; rel="next"'),
        (b"[]\n", None),
    ],
)
def test_not_complete(api: ApiServer, tmp_path: Path, content: bytes, link: str | None) -> None:
    """An export that lacks its total, or has other purchases than it says, is no file."""
    api.instead.append(Answer(200, content, {} if link is None else {"Link": link}))
    result = run(api, "export", "1", "-o", str(tmp_path / "all.jsonl"))
    assert result.exit_code == ExitStatus.NO_ANSWER
    assert "not complete" in result.stderr
    assert not (tmp_path / "all.jsonl").exists()


def test_total_of_a_sale(world: World) -> None:
    """The item of the tests has the name that the confirmation asks for."""
    world.open_sale(stock=1)
    assert world.catalogue.inventory(1).sale.item_name == NAME
