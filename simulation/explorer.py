"""Every order in which the store calls of a few callers can happen, and every accident at each.

The callers run the real handlers. A state is what the table contains, how far each caller is, which
calls are still on their way, and in which order requests were sent and answered until then. From
each state every step is taken that is possible, and each state is visited once, the fewest steps
first: so nothing is left to chance but what the functions draw, which is the seed's.

A step is one store call, all of it at one instant; a batch read is one step for each of its items.
So two calls never conflict, but any write may be refused for a conflict, as an accident. A request
is sent with its first step and answered with its last: had it been sent sooner, more answers would
be right. What is not here is left to `simulation.sale`: plain reads that see half of a transaction,
replicas that are behind, throttling, and more than these few callers.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from proof.history import Violation
from simulation.client import Failure
from simulation.sale import Build
from simulation.service import ServiceResponse, serve
from simulation.small_world import (
    Accident,
    Answered,
    Heard,
    Replay,
    SmallWorld,
    conflict,
    is_done,
)
from simulation.tables import Tables
from ticketing.wiring import build_services

READS: Final = ("GetItem", "TransactGetItems")
PROGRESS_STATES: Final = 50_000
ENDED: Final = -1
TIME_HAS_PASSED: Final = -1


type HeardNumber = tuple[int, int, bool]  # `Heard`, with the number of the answer


class StepKind(StrEnum):
    """What a step is."""

    CALL = "call"  # the next one of a caller, with or without an accident
    LATE = "late"  # a call on its way is carried out
    LOST = "lost"  # a call on its way never is
    TIME = "time"  # passes


class Step(NamedTuple):
    """What happens next. number: of the caller, or of the call on its way. position: `conflict`."""

    kind: StepKind
    number: int = 0
    accident: Accident | None = None
    position: int = 0


class Events(NamedTuple):
    """Requests that were sent, or answered, one after the other: whose they are, in any order."""

    are_answers: bool
    passed: int
    callers: tuple[int, ...]


class State(NamedTuple):
    """Where all are. table, nodes, on_the_way: numbers of `Tables` and of `Node`.

    accidents, interruptions: how many may still happen. passed: how many parts of time have passed.
    running: who made the last call; -1 where that is not counted.
    """

    table: int
    nodes: tuple[int, ...]
    on_the_way: tuple[int, ...]
    accidents: int
    passed: int
    running: int
    interruptions: int
    events: tuple[Events, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A caller's `Replay`.

    heard: with numbers of answers. pending: the number of its next call; ENDED: there is none.
    """

    caller: int
    heard: tuple[HeardNumber, ...]
    pending: int
    has_begun: bool
    begun_at: int
    answered: tuple[Answered, ...]


@dataclass(slots=True)
class Explored:
    """What was found. schedules: all ways from the first state to an end; ends: different ones.

    violations: of the first state that has any, after the fewest steps. schedule: these steps.
    """

    states: int = 0
    ends: int = 0
    schedules: int = 0
    tables: int = 0
    violations: Sequence[Violation] = ()
    schedule: list[str] = field(default_factory=list)


class Explorer:
    """Explores a small world. build: builds an environment's use cases; a test may break them."""

    def __init__(self, small: SmallWorld, build: Build = build_services) -> None:
        self.small = small
        self.build = build
        self.tables = Tables()
        self.nodes: list[Node] = []
        self.begun: Sequence[ServiceResponse] = ()
        self._numbers: dict[tuple[int, tuple[HeardNumber, ...]], int] = {}
        self._after_answers: dict[tuple[int, HeardNumber], int] = {}

    def explore(
        self,
        judge: Callable[[State], Sequence[Violation]],
        judge_change: Callable[[int, int], Sequence[Violation]],
        progress: Callable[[int, int], object] = lambda _states, _left: None,
    ) -> Explored:
        """Visit all states, until one has violations.

        judge: returns those of an end. judge_change: those of a change from a table to another.
        progress: is called now and then with the states that were visited, and that are known.
        """
        start, explored = self.initial(), Explored()
        ways, came_from = {start: 1}, dict[State, tuple[State, Step]]()
        agenda = deque([start])
        while agenda and not explored.violations:
            state = agenda.popleft()
            explored.states += 1
            if explored.states % PROGRESS_STATES == 0:
                progress(explored.states, len(agenda))
            steps = list(self.steps(state))
            if all(step.kind is StepKind.TIME for step in steps):
                explored.ends += 1
                explored.schedules += ways[state]
                explored.violations = judge(state)
                explored.schedule = self._schedule(state, came_from) if explored.violations else []
                continue
            for step in steps:
                after = self.after(state, step)
                if after not in ways:
                    ways[after], came_from[after] = 0, (state, step)
                    agenda.append(after)
                    if found := judge_change(state.table, after.table):
                        explored.violations = found
                        explored.schedule = self._schedule(after, came_from)
                        break
                ways[after] += ways[state]
        explored.tables = len(self.tables.tables.things)
        return explored

    # --- states and steps ---

    def initial(self) -> State:
        """Return the state in which the sale has begun, and no caller has made a call."""
        small = self.small
        services = self.tables.services(self.build, 0.0)
        self.begun = [serve(call, services) for call in small.begun]
        for call, response in zip(small.begun, self.begun, strict=True):
            if not is_done(response):
                raise ValueError(f"{small.name} does not begin: {call}: {response.text}")
        table = self.tables.current
        nodes = tuple(
            self._settled(table, self._node(caller, ()), 0) for caller in range(len(small.callers))
        )
        return State(table, nodes, (), small.accidents, 0, -1, small.interruptions or 0, ())

    def steps(self, state: State) -> Iterator[Step]:
        """Yield all that can happen next."""
        for caller, number in enumerate(state.nodes):
            pending = self.nodes[number].pending
            if pending == ENDED or (not state.interruptions and self._interrupts(state, caller)):
                continue
            yield Step(StepKind.CALL, caller)
            if state.accidents:
                yield from self._accidents(caller, pending)
        for number in range(len(state.on_the_way)):
            yield Step(StepKind.LATE, number)
            yield Step(StepKind.LOST, number)
        if state.passed < len(self.small.passing) and not state.on_the_way:
            yield Step(StepKind.TIME)

    def _interrupts(self, state: State, caller: int) -> bool:
        """Return whether another caller could go on, where that is counted."""
        is_other = state.running not in (-1, caller)
        return is_other and self.nodes[state.nodes[state.running]].pending != ENDED

    def _accidents(self, caller: int, pending: int) -> Iterator[Step]:
        operation, request = self.tables.calls.things[pending]
        yield Step(StepKind.CALL, caller, Accident.TIMED_OUT)
        yield Step(StepKind.CALL, caller, Accident.KILLED)
        if operation != "GetItem":
            for position in range(len(request.get("TransactItems", [request]))):
                yield Step(StepKind.CALL, caller, Accident.CONFLICT, position)

    def after(self, state: State, step: Step) -> State:
        """Return the state after a step."""
        match step.kind:
            case StepKind.CALL:
                return self._after_call(state, step)
            case StepKind.TIME:
                return self._after_time(state)
        table, on_the_way = state.table, list(state.on_the_way)
        call = on_the_way.pop(step.number)
        if step.kind is StepKind.LATE:
            _, table = self.tables.carry_out(table, call)
        return state._replace(table=table, on_the_way=tuple(on_the_way))

    def _after_time(self, state: State) -> State:
        """Let time pass. What was not sent yet is sent after it."""
        passed, nodes = state.passed + 1, list(state.nodes)
        for caller, number in enumerate(nodes):
            node = self.nodes[number]
            if node.pending != ENDED and not node.has_begun:
                heard = (*node.heard[: node.begun_at], (TIME_HAS_PASSED, passed, False))
                nodes[caller] = self._settled(state.table, self._node(caller, heard), passed)
        return state._replace(nodes=tuple(nodes), passed=passed)

    def _after_call(self, state: State, step: Step) -> State:
        number = state.nodes[step.number]
        call = self.nodes[number].pending
        operation, request = self.tables.calls.things[call]
        table, on_the_way = state.table, state.on_the_way
        if step.accident is None:
            answer, table = self.tables.carry_out(table, call)
        elif step.accident is Accident.CONFLICT:
            answer = self.tables.answer_number(conflict(operation, request, step.position))
        else:
            answer = self.tables.answer_number(step.accident)
            on_the_way = on_the_way if operation in READS else tuple(sorted((*on_the_way, call)))
        after = self._answered(number, (answer, state.passed, True))
        after = self._settled(table, after, state.passed)
        nodes = (*state.nodes[: step.number], after, *state.nodes[step.number + 1 :])
        return State(
            table=table,
            nodes=nodes,
            on_the_way=on_the_way,
            accidents=state.accidents - (step.accident is not None),
            passed=state.passed,
            running=-1 if self.small.interruptions is None else step.number,
            interruptions=state.interruptions - self._interrupts(state, step.number),
            events=self._events(state, self.nodes[number], self.nodes[after]),
        )

    def _events(self, state: State, before: Node, after: Node) -> tuple[Events, ...]:
        """Return the events with those of a step. Two at once may be in either order."""
        are_answers = [] if before.has_begun else [False]
        if ended := len(after.answered) - len(before.answered):
            # What it sent after its first answer was answered without a step.
            are_answers += [True, *[False, True] * (ended - 1)]
        events = list(state.events)
        for each in are_answers:
            callers: tuple[int, ...] = (before.caller,)
            if events and (events[-1].are_answers, events[-1].passed) == (each, state.passed):
                callers = tuple(sorted((*events.pop().callers, before.caller)))
            events.append(Events(each, state.passed, callers))
        return tuple(events)

    # --- callers ---

    def _node(self, caller: int, heard: tuple[HeardNumber, ...]) -> int:
        """Return the number of the node of a caller who has heard this."""
        number = self._numbers.get((caller, heard))
        if number is None:
            answers = self.tables.answers.things
            replay = Replay(
                self.small,
                caller,
                [
                    Heard(None if answer == TIME_HAS_PASSED else answers[answer], passed, is_step)
                    for answer, passed, is_step in heard
                ],
                self.build,
            )
            call = replay.pending
            pending = ENDED if call is None else self.tables.call_number(*call)
            number = self._numbers[caller, heard] = len(self.nodes)
            self.nodes.append(
                Node(
                    caller,
                    heard,
                    pending,
                    replay.has_begun,
                    replay.begun_at,
                    tuple(replay.answered),
                )
            )
        return number

    def _answered(self, node: int, heard: HeardNumber) -> int:
        """Return the node after it has heard one more answer."""
        if (node, heard) not in self._after_answers:
            before = self.nodes[node]
            after = self._node(before.caller, (*before.heard, heard))
            self._after_answers[node, heard] = after
        return self._after_answers[node, heard]

    def _settled(self, table: int, node: int, passed: int) -> int:
        """Return the node at its next call that is a step: not a read of what never changes."""
        while (pending := self.nodes[node].pending) != ENDED:
            operation, request = self.tables.calls.things[pending]
            if operation != "GetItem" or request["Key"]["pk"]["S"] not in self.small.constant:
                break
            answer, _ = self.tables.carry_out(table, pending)
            node = self._answered(node, (answer, passed, False))
        return node

    # --- the way to a state ---

    def _schedule(self, state: State, came_from: Mapping[State, tuple[State, Step]]) -> list[str]:
        """Return the steps from the first state to this one, in words."""
        lines = []
        while state in came_from:
            before, step = came_from[state]
            lines.append(self._line(before, step, state))
            state = before
        return lines[::-1]

    def _line(self, state: State, step: Step, after: State) -> str:
        match step.kind:
            case StepKind.TIME:
                return f"{self.small.passing[state.passed]} s pass"
            case StepKind.LATE | StepKind.LOST:
                done = "is carried out late" if step.kind is StepKind.LATE else "is lost"
                return f"on its way: {self._call_text(state.on_the_way[step.number])} {done}"
        before, now = self.nodes[state.nodes[step.number]], self.nodes[after.nodes[step.number]]
        answer, _, _ = now.heard[len(before.heard)]
        outcome = step.accident or _answer_text(self.tables.answers.things[answer])
        line = f"caller {step.number}: {self._call_text(before.pending)}: {outcome}"
        for number, response in now.answered[len(before.answered) :]:
            call = self.small.callers[step.number][number]
            line += f" → {call.route}: "
            line += "no answer" if response is None else f"{response.status_code} {response.text}"
        return line

    def _call_text(self, call: int) -> str:
        operation, request = self.tables.calls.things[call]
        actions = [each for entry in request.get("TransactItems", []) for each in entry.values()]
        keys = [(each.get("Key") or each["Item"])["pk"]["S"] for each in actions or [request]]
        return f"{operation} {', '.join(keys)}"


def _answer_text(answer: Any) -> str:
    if isinstance(answer, Failure):
        reasons = [each["Code"] for each in answer.more.get("CancellationReasons", [])]
        return f"{answer.code} {reasons}" if reasons else answer.code
    numbers = {name: value["N"] for name, value in answer.get("Item", {}).items() if "N" in value}
    return " ".join(f"{name}={number}" for name, number in sorted(numbers.items())) or "done"
