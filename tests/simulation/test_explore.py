"""Small worlds are explored to their end, and a broken guarantee has a schedule that shows it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import comb
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from msgspec import structs

from proof.history import History, Violation
from simulation.client import Client, Failure
from simulation.explore import (
    QUICK,
    THOROUGH,
    WorldFigures,
    documented,
    explore,
    main,
    report,
    table,
)
from simulation.explorer import Explorer, State, Step, StepKind
from simulation.small_world import Accident, SmallWorld, conflict
from simulation.verdict import Judges
from tests.simulation.broken import broken
from ticketing.retry import Runtime
from ticketing.wiring import Services, build_services

WORLDS = {(small.name, small.accidents): small for small in THOROUGH + QUICK}
PAID = "a hold that expires, its payment, and a buyer"
RELEASED = "a hold, its confirmation, its release, and a buyer"


CHANGES = {"capacity True", "bought"}
# What callers are told in each of the worlds: where nothing happens, nothing is shown.
ANSWERS = [
    {"bought", "sold_out"},
    {"bought", "replayed", "unknown"},
    {"all_held", "sold_out", "bought", "busy", "confirm True", "confirm hold_expired"},
    {"all_held", "sold_out", "bought", "busy", "confirm True", "confirm hold_expired"},
    {"confirm True", "confirm hold_released", "release True", "release hold_confirmed"},
    {"capacity True", "capacity False", "sold_out", "bought"},
    CHANGES,
    CHANGES,
]


@pytest.mark.G1
@pytest.mark.G2
@pytest.mark.G3
@pytest.mark.G4
@pytest.mark.G5
@pytest.mark.parametrize(
    ("small", "answers"),
    list(zip(QUICK, ANSWERS, strict=True)),
    ids=[small.name for small in QUICK],
)
def test_quick_worlds(small: SmallWorld, answers: set[str]) -> None:
    """No guarantee is broken, and the documents state the figures."""
    explorer = Explorer(small)
    judges, told = Judges(explorer), set[str]()

    def judge(state: State) -> Sequence[Violation]:
        told.update(_told(judges.history(state)))
        return judges.judge(state)

    explored = explorer.explore(judge, judges.judge_change)
    assert explored.violations == []
    assert WorldFigures.of(small, explored) in documented()
    assert answers <= told


def _told(history: History) -> Iterator[str]:
    for request in history.requests:
        yield from (str(attempt.kind) for attempt in request.attempts)
    for change in history.changes:
        yield f"{change.action} {change.code or change.done}"
    for resize in history.capacity_changes:
        yield f"capacity {resize.done}"


def test_documented_worlds() -> None:
    """All of them have their figures."""
    written = [(each.world, each.accidents, each.interruptions) for each in documented()]
    worlds = [(small.name, small.accidents, small.interruptions) for small in QUICK + THOROUGH]
    assert written == worlds
    assert len(set(worlds)) == len(worlds)


@pytest.mark.G1
@pytest.mark.G3
@pytest.mark.G4
@pytest.mark.parametrize(
    ("small", "right", "wrong", "rule"),
    [
        (("three buyers", 0), "stock > :zero", "stock >= :zero", "G1 shard_counters"),
        (
            ("two buyers", 1),
            "attribute_not_exists(pk)",
            "(attribute_not_exists(pk) OR attribute_exists(pk))",
            "G3 record_is_replaced",
        ),
        (
            (RELEASED, 0),
            "#status = :before AND attribute_not_exists(revision)",
            "(#status = :before OR #status <> :before)",
            "G3 record_is_replaced",
        ),
        (
            (PAID, 0),
            "slots.#slot0 = :slot0",
            "(slots.#slot0 = :slot0 OR slots.#slot0 <> :slot0)",
            "G1 shard_counters",
        ),
        (
            ("two capacities, and a buyer", 0),
            "revision = :seen",
            "(revision = :seen OR revision <> :seen)",
            "G1 capacity_of_shards",
        ),
        (
            ("a lower capacity, and a buyer", 0),
            "stock >= :lost",
            "(stock >= :lost OR stock < :lost)",
            "G1 shard_counters",
        ),
    ],
)
def test_broken_functions(small: tuple[str, int], right: str, wrong: str, rule: str) -> None:
    """The mistake is found, with the steps that lead to it."""
    explored = explore(WORLDS[small], broken(right, wrong), quiet=True)
    assert rule in {f"{each.guarantee} {each.rule}" for each in explored.violations}
    assert explored.schedule
    text = report(WORLDS[small], explored)
    assert small[0] in text
    assert rule in text
    assert f"{len(explored.schedule)}. " in text


@pytest.mark.G5
def test_broken_answers() -> None:
    """An accident is never told as a failure. Here the functions take a time-out for a refusal."""

    def build(client: Any, table_name: str, runtime: Runtime) -> Services:
        def send(operation: str, request: Any) -> Any:
            try:
                return client._send(operation, request)
            except ReadTimeoutError:
                if operation != "TransactWriteItems":
                    raise
                return conflict(operation, request, 0)

        altered: Any = Client(send)
        return build_services(altered, table_name, runtime)

    small = WORLDS["two buyers", 1]
    explored = explore(small, build, quiet=True)
    assert explored.violations
    assert any("timed out" in step for step in explored.schedule)


class TestSteps:
    """What can happen from a state."""

    @pytest.fixture
    def explorer(self) -> Explorer:
        return Explorer(WORLDS["two buyers", 1])

    def test_late_call(self, explorer: Explorer) -> None:
        """A write without an answer is carried out by a later step, or lost."""
        state = explorer.initial()
        while not state.on_the_way:
            steps = [each for each in explorer.steps(state) if each.number == 0]
            writes = {"TransactWriteItems"}
            operation, _ = explorer.tables.calls.things[explorer.nodes[state.nodes[0]].pending]
            accident = Accident.KILLED if operation in writes else None
            step = next(each for each in steps if each.accident is accident)
            state = explorer.after(state, step)
        kinds = Counter(step.kind for step in explorer.steps(state))
        assert kinds == {StepKind.CALL: 2, StepKind.LATE: 1, StepKind.LOST: 1}
        late = explorer.after(state, Step(StepKind.LATE))
        lost = explorer.after(state, Step(StepKind.LOST))
        assert late.table != state.table == lost.table
        assert late.on_the_way == lost.on_the_way == ()

    def test_same_state(self, explorer: Explorer) -> None:
        """Two reads in one order, and in the other, lead to one state."""
        first, second = Step(StepKind.CALL, 0), Step(StepKind.CALL, 1)
        start = explorer.initial()
        one = explorer.after(explorer.after(start, first), second)
        other = explorer.after(explorer.after(start, second), first)
        assert one == other != start


def test_wrong_beginning() -> None:
    """A world that begins with a purchase has no sale."""
    small = WORLDS["two buyers", 1]
    with pytest.raises(ValueError, match="two buyers does not begin"):
        explore(structs.replace(small, begun=small.callers[0]), quiet=True)


def test_all_orders() -> None:
    """Two buyers who make two calls each: there are six orders of four calls."""
    explored = explore(structs.replace(WORLDS["two buyers", 1], accidents=0), quiet=True)
    assert (explored.schedules, explored.violations) == (comb(4, 2), [])


def test_conflicts() -> None:
    """They have DynamoDB's shape: of a plain write, and of one item of a transaction."""
    assert conflict("PutItem", {}, 0).code == "TransactionConflictException"
    found = conflict("TransactWriteItems", {"TransactItems": [{}, {}]}, 1)
    assert isinstance(found, Failure)
    codes = [each["Code"] for each in found.more["CancellationReasons"]]
    assert (found.code, codes) == (
        "TransactionCanceledException",
        ["None", "TransactionConflict"],
    )


class TestCommand:
    def test_quick(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--quick", "--only", "three"]) == 0
        output = capsys.readouterr().out
        assert table([documented()[0]]) in output
        assert "449 states, 374 schedules, 0 of 1 worlds with a broken guarantee" in output

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (["--only", "none such"], "--only: none of "),
            (["--write", "--quick"], "--write: only with all worlds"),
            (["--write", "--seed", "2"], "--write: only with all worlds"),
        ],
    )
    def test_wrong_arguments(
        self, arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            main(arguments)
        assert error in capsys.readouterr().err
