"""The same calls on the simulation's model, on MiniStack and on DynamoDB Local, side by side."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, Self

from botocore.exceptions import ClientError

from tests.support import World, create_table
from ticketing.errors import TicketingError
from ticketing.store.table import Store

MODEL, MINISTACK, DYNAMODB_LOCAL = "the model", "MiniStack", "DynamoDB Local"
TABLE = "the table's name"
# Those of which the model tells what they consume.
BILLED = {
    "batch_get_item",
    "delete_item",
    "get_item",
    "put_item",
    "scan",
    "transact_get_items",
    "transact_write_items",
    "update_item",
}


class Answer(NamedTuple):
    """What an engine answered to a call.

    content: without what describes the transport; numbers as numbers, and in a fixed order what has
    none. error: its code, the reasons of a cancelled transaction with their items, and the item of
    a failed condition. units: None where the answer has none.
    """

    method: str
    request: Any
    content: Any = None
    error: tuple[str, Sequence[tuple[str, Any]], Any] | None = None
    units: float | None = None

    def differs_in_units_only(self, other: "Answer") -> bool:
        """Return whether nothing else differs."""
        return self._replace(units=other.units) == other


def plain(value: Any) -> Any:
    """Return a part of an answer, with numbers as numbers and sets in order."""
    match value:
        case {"N": str(number), **rest} if not rest:
            return Decimal(number)
        case {"NS": [*members], **rest} if not rest:
            return "NS", sorted(Decimal(member) for member in members)
        case dict():
            return {name: plain(part) for name, part in value.items()}
        case list() | tuple():
            return [plain(part) for part in value]
        case _:
            return value


def _units(content: Mapping[str, Any]) -> float | None:
    consumed = content.get("ConsumedCapacity")
    if not consumed:
        return None
    each = consumed if isinstance(consumed, list) else [consumed]
    return sum(float(one["CapacityUnits"]) for one in each)


def _answer(method: str, request: Any, content: Mapping[str, Any]) -> Answer:
    kept = {
        name: plain(part)
        for name, part in content.items()
        if name not in {"ResponseMetadata", "ConsumedCapacity"}
    }
    if method == "scan":  # each engine has an order of its own
        kept["Items"].sort(key=_pk)
    if method == "batch_get_item":
        kept["Responses"] = {
            table: sorted(items, key=_pk) for table, items in kept["Responses"].items() if items
        }
    return Answer(method, request, kept, units=_units(content) if method in BILLED else None)


def _pk(item: Any) -> str:
    pk: str = item["pk"]["S"]
    return pk


def _error(method: str, request: Any, error: ClientError) -> Answer:
    response: Any = error.response
    reasons = [
        (reason["Code"], plain(reason.get("Item")))
        for reason in response.get("CancellationReasons", [])
    ]
    code = response["Error"]["Code"]
    return Answer(method, request, error=(code, reasons, plain(response.get("Item"))))


class Spy:
    """A client that asks each call for the units that it consumes, and notes the answers."""

    def __init__(self, client: Any) -> None:
        self.answers: list[Answer] = []
        self._client = client

    def __getattr__(self, method: str) -> Any:
        attribute = getattr(self._client, method)
        if method == "exceptions":
            return attribute

        def call(**request: Any) -> Any:
            more = {"ReturnConsumedCapacity": "TOTAL"} if method in BILLED else {}
            try:
                content = attribute(**request, **more)
            except ClientError as error:
                self.answers.append(_error(method, request, error))
                raise
            self.answers.append(_answer(method, request, content))
            return content

        return call


class Difference(NamedTuple):
    """Where an emulator is not as AWS documents it.

    text: what it does, as docs/decisions.md has it. explains: of the answers of the model and of
    the engine to one call, whether this is why they differ. example: calls, of which the last one
    shows it; `TABLE` is the table's name.
    """

    engine: str
    text: str
    explains: Callable[[Answer, Answer], bool]
    example: Sequence[tuple[str, Mapping[str, Any]]]


type Step = Callable[[Store], object]


class SideBySide:
    """One table on each engine. What is done on all of them must have the same answers.

    clients: engine → its client. explained: the differences that were met.
    """

    def __init__(
        self, clients: Mapping[str, Any], table_name: str, differences: Sequence[Difference]
    ) -> None:
        self.table_name = table_name
        self.explained = list[Difference]()
        self._differences = differences
        self._clients = clients
        self._spies = {engine: Spy(client) for engine, client in clients.items()}
        for client in clients.values():
            create_table(client, table_name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the tables."""
        for client in self._clients.values():
            client.delete_table(TableName=self.table_name)

    def store(self, step: Step) -> Any:
        """Do something with the store of each engine. Return what the model's returned."""

        def on(spy: Spy) -> object:
            try:
                return step(World(spy, self.table_name).store)
            except TicketingError as error:
                return type(error).__name__, str(error)
            except ClientError as error:
                return type(error).__name__

        return self._same(on)

    def call(self, method: str, request: Mapping[str, Any]) -> None:
        """Make a call. `TABLE` in its request becomes the table's name."""

        def on(spy: Spy) -> object:
            try:
                getattr(spy, method)(**_with_name(request, self.table_name))
            except ClientError as error:
                return type(error).__name__
            return None

        self._same(on)

    def contents(self, engine: str) -> dict[str, Any]:
        """Return the items of an engine's table by their keys."""
        client = self._clients[engine]
        items = client.scan(TableName=self.table_name, ConsistentRead=True)["Items"]
        return {_pk(item): item for item in items}

    def _same(self, on: Callable[[Spy], object]) -> Any:
        outcomes = {}
        for engine, spy in self._spies.items():
            spy.answers.clear()
            outcomes[engine] = on(spy)
        for engine in self._spies.keys() - {MODEL}:
            if self._compare(engine):
                assert outcomes[engine] == outcomes[MODEL], engine
        return outcomes[MODEL]

    def _compare(self, engine: str) -> bool:
        """Compare the answers of a step, and the tables after it.

        Returns False where an answer differs for a reason that is known. The engine's table is then
        made as the model's is.
        """
        ours, theirs = self._spies[MODEL].answers, self._spies[engine].answers
        for model, other in zip(ours, theirs, strict=False):
            if model == other:
                continue
            difference = self._explanation(engine, model, other)
            assert difference, (engine, model, other)
            self.explained.append(difference)
            if not model.differs_in_units_only(other):
                self._make_equal(engine)
                return False
        assert len(ours) == len(theirs), engine
        assert plain(self.contents(engine)) == plain(self.contents(MODEL)), engine
        return True

    def _explanation(self, engine: str, model: Answer, other: Answer) -> Difference | None:
        return next(
            (
                each
                for each in self._differences
                if each.engine == engine and each.explains(model, other)
            ),
            None,
        )

    def _make_equal(self, engine: str) -> None:
        wanted, found = self.contents(MODEL), self.contents(engine)
        client = self._clients[engine]
        for pk in found.keys() - wanted.keys():
            client.delete_item(TableName=self.table_name, Key={"pk": {"S": pk}})
        for item in wanted.values():
            client.put_item(TableName=self.table_name, Item=item)


def _with_name(value: Any, table_name: str) -> Any:
    """Return a request with the table's name in the place of `TABLE`."""
    match value:
        case dict():
            return {
                table_name if name == TABLE else name: _with_name(part, table_name)
                for name, part in value.items()
            }
        case list():
            return [_with_name(part, table_name) for part in value]
        case _:
            return table_name if value == TABLE else value
