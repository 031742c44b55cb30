"""Log lines as the tools print them, and what the organiser did by them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from proof.history import CapacityChange, Inventory, Kind
from proof.log_changes import ChangesOfSale, NotJudged
from proof.log_lines import Log, read_log

ITEM = 1
STARTED = 1_800_000_000.0
LINE = {
    "level": "INFO",
    "message": "request",
    "timestamp": "2027-01-15T08:00:01.500+00:00",
    "service": "buy_ticket",
    "route": "POST /buy_ticket",
    "status": 409,
    "outcome": "sold_out",
    "item_id": 1,
    "purchase_digest": "d" * 32,
    "quantity": 2,
    "left": 0,
    "shards": [],
    "attempts": 0,
    "conflicts": 0,
    "request_id": "6a41",
    "lambda_request_id": "b6ee",
    "duration_ms": 500.0,
}
TEXT = json.dumps(LINE)
OTHERS = 'START RequestId: 1-2-3\n{"message": "audit", "outcome": "agrees"}\nREPORT {x} ms\n'


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"{OTHERS}{TEXT}\n{OTHERS}",
        f"2026/11/28/[$LATEST]ab 2027-01-15T08:00:01 {TEXT}\n",
        f"\x1b[34mstream\x1b[0m {json.dumps(LINE, indent=2)}\n",
        json.dumps({"events": [{"message": TEXT + "\n"}, {"message": OTHERS}, {}]}, indent=4),
        TEXT * 2,
    ],
    ids=["make logs", "others", "aws logs tail", "sam logs", "filter-log-events", "twice"],
)
def test_formats(text: str) -> None:
    log = read_log([text, ""])
    (line,) = log.lines
    assert log.unreadable == 0
    assert (line.kind, line.left, line.quantity) == (Kind.SOLD_OUT, 0, 2)
    assert (line.started_at, line.ended_at) == (STARTED, STARTED + 2.5), "a second for the clocks"


def test_order_and_copies() -> None:
    """Lines are in the order of time, and those of two files are there once."""
    later = json.dumps(LINE | {"timestamp": "2027-01-15T08:00:09.000Z", "request_id": "77"})
    log = read_log([later, f"{TEXT}\n{later}"])
    assert [line.request_id for line in log.lines] == ["6a41", "77"]


@pytest.mark.parametrize(
    "text", [TEXT[:-20], TEXT.replace("409", '"409"'), TEXT.replace("2027-01-15", "yesterday")]
)
def test_unreadable_lines(text: str) -> None:
    log = read_log([f"{text}\n{TEXT}"])
    assert (len(log.lines), log.unreadable) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"status": 201, "outcome": "bought"}, Kind.BOUGHT),
        ({"status": 200, "outcome": "replayed"}, Kind.REPLAYED),
        ({"status": 503, "outcome": "busy", "reason": "in_doubt"}, Kind.UNKNOWN),
        ({"status": 503, "outcome": "busy", "reason": "contention"}, Kind.BUSY),
        ({"status": 500, "outcome": "internal_error"}, Kind.UNKNOWN),
        ({"status": 422, "outcome": "idempotency_key_reused"}, Kind.KEY_REUSED),
        ({"status": 422, "outcome": "invalid_request"}, None),
        ({"status": 404, "outcome": "not_found"}, None),
    ],
)
def test_kinds(changes: dict[str, Any], kind: Kind | None) -> None:
    (line,) = read_log([json.dumps(LINE | changes)]).lines
    assert line.kind is kind


class Organiser:
    """Writes the lines of an organiser's calls, one every ten seconds."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def call(self, route: str, outcome: str, status: int = 200, **fields: Any) -> None:
        second = 10 * len(self.lines)
        line = {
            "timestamp": f"2027-01-15T08:{second // 60:02}:{second % 60:02}Z",
            "route": route,
            "status": status,
            "outcome": outcome,
            "item_id": ITEM,
            "duration_ms": 0,
            "key_digest": str(len(self.lines)),
            "request_id": str(len(self.lines)),
        }
        self.lines.append(json.dumps(line | fields))

    def reset(self, generation: int, capacity: int, **fields: Any) -> None:
        defaults: dict[str, Any] = {
            "outcome": "reset",
            "generation": generation,
            "capacity": capacity,
        }
        self.call("POST /reset", **defaults | {"hold_seconds": 60} | fields)

    def put(self, capacity: int, **fields: Any) -> None:
        defaults: dict[str, Any] = {"outcome": "changed", "capacity": capacity, "generation": 1}
        self.call("PUT /items/{item_id}", **defaults | {"hold_seconds": 60} | fields)

    @property
    def log(self) -> Log:
        return read_log(self.lines)

    @property
    def changes(self) -> ChangesOfSale:
        return ChangesOfSale.of(self.log, ITEM)


@pytest.fixture
def organiser() -> Organiser:
    return Organiser()


FINAL = Inventory(ITEM, "A", 7, 7, 0, 0, 3, hold_seconds=60, per_buyer_limit=2)


def test_changes_of_capacity(organiser: Organiser) -> None:
    """A call that was killed may have begun before the call that has the line."""
    organiser.reset(1, 10)
    organiser.put(20)
    organiser.put(5, outcome="capacity_too_low", status=409, lowest_capacity=6, generation=None)
    organiser.put(30, outcome="busy", status=503, reason="in_doubt", generation=None)
    organiser.put(40, outcome="busy", status=503, reason="contention", generation=None)
    after = structs.replace
    first, refused, doubtful = organiser.changes.capacity_changes
    times = [(round(c.started_at - STARTED), round(c.ended_at - STARTED)) for c in (first, refused)]
    assert times == [(1, 11), (11, 21)]
    expected = CapacityChange(0, 0, 20, True), CapacityChange(0, 0, 5, False, 6)
    assert (after(first, started_at=0, ended_at=0), after(refused, started_at=0, ended_at=0)) == (
        expected
    )
    assert (doubtful.capacity, doubtful.done) == (30, None)


def test_replays(organiser: Organiser) -> None:
    """A replay tells of the first call only where that has no line."""
    organiser.reset(1, 10)
    organiser.reset(2, 20, key_digest="a")
    organiser.reset(2, 20, key_digest="a", outcome="replayed", replayed=True)
    organiser.reset(3, 30, key_digest="b", outcome="replayed", replayed=True)
    resets = organiser.changes.resets
    assert [(reset.generation, reset.capacity) for reset in resets] == [(1, 10), (2, 20), (3, 30)]
    assert {reset.started_at for reset in resets} == {STARTED - 1}, "since the one before"
    assert [round(reset.ended_at - STARTED) for reset in resets] == [1, 11, 31]
    assert organiser.changes.capacity_changes == []
    organiser.put(7, generation=3, replayed=True, outcome="replayed")
    assert len(organiser.changes.capacity_changes) == 1, "after the replay: its capacity is known"


def test_unknown_first_capacity(organiser: Organiser) -> None:
    organiser.reset(1, 10)
    organiser.put(7, generation=2)
    organiser.reset(2, 7, outcome="replayed", replayed=True)
    capacities = {each.capacity for each in organiser.changes.capacity_changes}
    assert min(each or 0 for each in capacities) == 0
    assert max(each or 0 for each in capacities) > 1_000_000


def test_limits(organiser: Organiser) -> None:
    """The highest of a generation counts."""
    organiser.reset(1, 10, per_buyer_limit=2)
    organiser.put(10, per_buyer_limit=4)
    organiser.put(10, per_buyer_limit=3)
    assert [reset.per_buyer_limit for reset in organiser.changes.limited_resets()] == [4]
    organiser.put(10)
    assert [reset.per_buyer_limit for reset in organiser.changes.limited_resets()] == [None]


@pytest.mark.parametrize(
    ("calls", "until"),
    [
        ([], None),
        (["pause", "resume"], 12),
        (["pause"], "for ever"),
        (["pause", "resume", "pause"], "for ever"),
        (["resume"], 2),
    ],
)
def test_pauses(organiser: Organiser, calls: list[str], until: Any) -> None:
    for call in calls:
        organiser.call(f"POST /items/{{item_id}}/{call}", f"{call}d", duration_ms=1000)
    last = organiser.changes.maybe_paused_until - STARTED + 1
    expected = {None: float("-inf"), "for ever": float("inf")}.get(until, until)
    assert last == pytest.approx(expected)


def hold_seconds_change(organiser: Organiser) -> None:
    organiser.reset(1, 10)
    organiser.put(10, hold_seconds=90)
    list(organiser.changes.limited_resets())


def start_is_missing(organiser: Organiser) -> None:
    organiser.reset(1, 10)
    organiser.changes.generations(2)


def start_in_between_is_missing(organiser: Organiser) -> None:
    organiser.reset(1, 10)
    organiser.reset(3, 10)
    organiser.changes.generations(3)


def log_of_another_service(organiser: Organiser) -> None:
    organiser.reset(8, 10)
    organiser.changes.generations(3)


def capacity_before_is_not_known(organiser: Organiser) -> None:
    organiser.put(7, generation=3)
    organiser.changes.begin_before_log(FINAL)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (hold_seconds_change, r"lasted \[60, 90\] s"),
        (start_is_missing, "start of generation 2"),
        (start_in_between_is_missing, "start of generation 2"),
        (log_of_another_service, "table has generation 3"),
        (capacity_before_is_not_known, "no line of the start"),
    ],
)
def test_not_judged(organiser: Organiser, write: Callable[[Organiser], None], words: str) -> None:
    with pytest.raises(NotJudged, match=words) as caught:
        write(organiser)
    assert caught.value.remedy.endswith(".")


def test_sale_before_log(organiser: Organiser) -> None:
    changes = organiser.changes
    changes.begin_before_log(FINAL)
    (reset,) = changes.limited_resets()
    assert (reset.generation, reset.capacity, reset.per_buyer_limit) == (3, 7, 2)
    assert list(organiser.changes.generations(3)) == [3]
