"""The model of DynamoDB as a function: from a table and a call to its answer and a table."""

import json
import random
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from simulation.client import Client, Failure
from simulation.dynamodb import DynamoDB
from simulation.expressions import Item
from simulation.sale import TABLE, Build
from simulation.world import EPOCH_SECONDS, World
from ticketing.retry import Runtime
from ticketing.wiring import Services

# Before each call: no throttle and no replica that is behind is left of an earlier one.
REST_SECONDS: Final = 1000.0


@dataclass(frozen=True)
class Interned[Thing]:
    """A number for each of all different things."""

    things: list[Thing] = field(default_factory=list)
    _numbers: dict[Hashable, int] = field(default_factory=dict)

    def number(self, thing: Thing, key: Hashable) -> int:
        """Return the number of a thing. key: equal where things are."""
        number = self._numbers.setdefault(key, len(self.things))
        if number == len(self.things):
            self.things.append(thing)
        return number


class Tables:
    """All tables, calls and answers that there were, by number; and the model, with one of them."""

    def __init__(self) -> None:
        world = World(seed=0)
        self.tables = Interned[Mapping[str, Item]]()
        self.calls = Interned[tuple[str, Mapping[str, Any]]]()
        self.answers = Interned[Any]()
        self._sleep = world.sleep
        self._model = DynamoDB(world)
        self._model.create_table(TABLE, "pk")
        self._carried_out: dict[tuple[int, int], tuple[int, int]] = {}

    def send(self, operation: str, request: Mapping[str, Any]) -> Any:
        """Return the answer of the model to a call, or a Failure."""
        self._sleep(REST_SECONDS)
        return self._model.call(operation, request)

    @property
    def current(self) -> int:
        """Return the number of the model's table."""
        items = dict(self._model.items(TABLE))
        return self.tables.number(items, text_of(items))

    def load(self, table: int) -> None:
        """Make the model's table equal to one that there was."""
        wanted, items = self.tables.things[table], dict(self._model.items(TABLE))
        for key in items.keys() - wanted.keys():
            self.send("DeleteItem", {"TableName": TABLE, "Key": {"pk": {"S": key}}})
        for key, item in wanted.items():
            if items.get(key) != item:
                self.send("PutItem", {"TableName": TABLE, "Item": item})

    def carry_out(self, table: int, call: int) -> tuple[int, int]:
        """Return the answer to a call, and the table after it."""
        known = self._carried_out.get((table, call))
        if known is None:
            self.load(table)
            answer = self.send(*self.calls.things[call])
            known = self.answer_number(answer), self.current
            self._carried_out[table, call] = known
        return known

    def services(self, build: Build, seconds: float) -> Services:
        """Return use cases that work on the model's table, after so many seconds."""
        client: Any = Client(self.send)
        draw = random.Random("at once")
        runtime = Runtime(lambda: EPOCH_SECONDS + seconds, draw, lambda _seconds: None)
        return build(client, TABLE, runtime)

    def call_number(self, operation: str, request: Mapping[str, Any]) -> int:
        """Return the number of a call."""
        return self.calls.number((operation, request), text_of([operation, request]))

    def answer_number(self, answer: Any) -> int:
        """Return the number of an answer, a Failure or an accident."""
        return self.answers.number(answer, text_of(answer))


def text_of(thing: Any) -> str:
    """Return a text that is equal for equal tables, calls and answers."""
    if isinstance(thing, Failure):
        thing = [thing.code, thing.message, thing.more, thing.status]
    return json.dumps(thing, sort_keys=True)
