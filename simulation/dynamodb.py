"""A model of DynamoDB in virtual time, with what no emulator produces: contention.

- A transaction occupies each of its items from its prepare to its commit. Another transaction that
  meets one is cancelled with the reason TransactionConflict, a plain write fails with
  TransactionConflictException. Reasons come in the order of the actions, for several items at once.
- TransactGetItems reads everything twice, and conflicts with writes between and around.
- A consistent read sees each item as it is; an eventually consistent one may see it as it was.
- A partition key takes 1,000 write and 3,000 read units a second, then calls are throttled.
- Every call consumes units as AWS documents it, failed conditions included. Latencies: `latency`.

It is a test double for a boto3 client on its own; no other one has these. Without tasks, a call
returns when its virtual time is over:

    world = World(seed=1)
    client = DynamoDB(world).client()
    client.create_table(TableName="t", KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}])
    client.put_item(TableName="t", Item={"pk": {"S": "a"}})

With tasks, calls overlap: `world.start(buy, client)` for each buyer, then `world.run()`. A request
that the model does not know raises NotImplementedError. Left out: sort keys, indexes, queries,
streams, TTL, ClientRequestToken, and validation of types, which botocore does.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from simulation import latency
from simulation.client import Client, Failure
from simulation.expressions import (
    Expressions,
    InvalidExpression,
    Item,
    Values,
    canonical,
    compiled,
)
from simulation.world import World

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

type Request = Mapping[str, Any]  # the arguments of a call of boto3
type Reply = Callable[[Any], object]  # takes the answer, or a Failure
type Reason = Mapping[str, Any]  # why an action of a transaction was refused: Code, Message, Item
type Observer = Callable[[str, Item | None, Item | None], object]  # key, item before, item after

# Units of one partition key and second ("Burst and adaptive capacity", developer guide).
KEY_WRITE_UNITS: Final = 1000.0
KEY_READ_UNITS: Final = 3000.0
# That page keeps 300 s of unused units for bursts, and it says that a partition throttles above its
# maximum. A key that is alone in its partition is always at this maximum, so it has no more than a
# second's units in hand.
BURST_SECONDS: Final = 1.0

WRITE_UNIT_BYTES: Final = 1024
READ_UNIT_BYTES: Final = 4096
SCAN_PAGE_BYTES: Final = 1024 * 1024
ACTIONS_MAX: Final = 100  # of a transaction, and keys of a batch read
BATCH_WRITES_MAX: Final = 25
# A batch reads its items at several instants.
BATCH_PARTS: Final = 4

# Cancellation reasons (TransactWriteItems, API reference).
_CONDITION_FAILED: Final = "ConditionalCheckFailed"
_INVALID: Final = "ValidationError"
IN_ORDER: Final[Reason] = {"Code": "None"}
CONFLICT: Final[Reason] = {
    "Code": "TransactionConflict",
    "Message": "Transaction is ongoing for the item",
}
_THROTTLED: Final[Reason] = {
    "Code": "ThrottlingError",
    "Message": "Throughput exceeds the current capacity of your table or index",
}
_WRITE_KINDS: Final = {"PutItem": "Put", "UpdateItem": "Update", "DeleteItem": "Delete"}


@dataclass(slots=True)
class Usage:
    """What was asked of the model. conflicts, throttles: calls that met one."""

    calls: Counter[str] = field(default_factory=Counter)
    write_units: float = 0.0
    read_units: float = 0.0
    conflicts: int = 0
    throttles: int = 0


class _Bucket:
    """The units that a key has left."""

    __slots__ = ("at", "burst_seconds", "rate", "units")

    def __init__(self, rate: float, burst_seconds: float, now: float) -> None:
        self.rate, self.burst_seconds, self.at = rate, burst_seconds, now
        self.units = rate * burst_seconds

    def take(self, units: float, now: float) -> bool:
        """Take units. Return False, and take none, where too few are left."""
        refilled = self.units + (now - self.at) * self.rate
        self.units = min(self.rate * self.burst_seconds, refilled)
        self.at = now
        if self.units < units:
            return False
        self.units -= units
        return True


class _Table:
    """Items by key. An item is replaced, never changed, so `is` tells whether it was written.

    occupied: the keys that a transaction has prepared. replaced: key → when it was last written,
    and what was there before. sizes: key → bytes of the item.
    """

    def __init__(self, name: str, key_name: str) -> None:
        self.name = name
        self.key_name = key_name
        self.items: dict[str, Item] = {}
        self.sizes: dict[str, int] = {}
        self.occupied: dict[str, _Transaction] = {}
        self.replaced: dict[str, tuple[float, Item | None]] = {}

    def key_of(self, attributes: Item) -> str:
        try:
            key: str = attributes[self.key_name]["S"]
        except KeyError as error:
            raise InvalidExpression("The provided key element does not match the schema") from error
        return key

    def write_units(self, key: str, after: Item | None) -> int:
        """Return the units of a write: of the larger of the item before and the item after."""
        size = max(self.sizes.get(key, 0), item_bytes(after) if after else 0)
        return max(1, -(-size // WRITE_UNIT_BYTES))

    def read_units(self, key: str) -> int:
        """Return the units of a consistent read."""
        return max(1, -(-self.sizes.get(key, 0) // READ_UNIT_BYTES))


class _Write:
    """One write of an item: Put, Update, Delete or ConditionCheck."""

    __slots__ = ("expressions", "key", "kind", "request", "table", "values")

    def __init__(self, kind: str, request: Request, table: _Table) -> None:
        self.kind = kind
        self.request = request
        self.table = table
        self.key = table.key_of(request["Item" if kind == "Put" else "Key"])
        self.expressions = _checked_expressions(request, "ConditionExpression")
        self.values: Values = request.get("ExpressionAttributeValues", {})

    def judged(self, before: Item | None) -> tuple[Item | None, Reason]:
        """Return the item after the write (None: deleted), and what is wrong with the write."""
        test = self.expressions.test
        try:
            if test is None or test(before or {}, self.values):
                return self._after(before), IN_ORDER
        except InvalidExpression as error:
            return before, {"Code": _INVALID, "Message": str(error)}
        reason = {"Code": _CONDITION_FAILED, "Message": "The conditional request failed"}
        shown = self.request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
        return before, reason | ({"Item": before} if shown and before is not None else {})

    def _after(self, before: Item | None) -> Item | None:
        change = self.expressions.change
        match self.kind:
            case "Put":
                return {name: canonical(value) for name, value in self.request["Item"].items()}
            case "Update":
                item = self.request["Key"] if before is None else before
                return change(item, self.values) if change else item
            case "Delete":
                return None
            case _:
                return before


class _Transaction:
    """A TransactWriteItems in progress. reasons, plans: of each action, in order."""

    __slots__ = ("plans", "reasons", "to_finish", "to_prepare", "units", "writes")

    def __init__(self, writes: Sequence[_Write]) -> None:
        self.writes = writes
        self.reasons: list[Reason] = [IN_ORDER] * len(writes)
        self.plans: list[Item | None] = [None] * len(writes)
        self.to_prepare = self.to_finish = len(writes)
        self.units = 0.0

    @property
    def is_cancelled(self) -> bool:
        return any(reason is not IN_ORDER for reason in self.reasons)


class DynamoDB:
    """The model. `submit` begins a call, whose answer comes later; `call` waits for it.

    key_read_units: of a key and second; fewer than AWS's let a small sale show what a large one
    does; likewise scan_page_bytes. burst_seconds: how many seconds' units an idle key may have in
    hand.
    observers: are called at every change of an item.
    """

    def __init__(
        self,
        world: World,
        key_read_units: float = KEY_READ_UNITS,
        burst_seconds: float = BURST_SECONDS,
        scan_page_bytes: int = SCAN_PAGE_BYTES,
    ) -> None:
        self.usage = Usage()
        self.observers: list[Observer] = []
        self._world = world
        self._key_read_units = key_read_units
        self._burst_seconds = burst_seconds
        self._scan_page_bytes = scan_page_bytes
        self._draw = world.random("dynamodb")
        self._tables: dict[str, _Table] = {}
        self._write_buckets: dict[str, _Bucket] = {}
        self._read_buckets: dict[str, _Bucket] = {}
        self._operations: Mapping[str, Callable[[Request, Reply], None]] = {
            "BatchGetItem": self._batch_get,
            "BatchWriteItem": self._batch_write,
            "CreateTable": self._create_table,
            "DeleteItem": lambda request, reply: self._plain_write("DeleteItem", request, reply),
            "DeleteTable": self._delete_table,
            "GetItem": self._get,
            "PutItem": lambda request, reply: self._plain_write("PutItem", request, reply),
            "Scan": self._scan,
            "TransactGetItems": self._transact_get,
            "TransactWriteItems": self._transact_write,
            "UpdateItem": lambda request, reply: self._plain_write("UpdateItem", request, reply),
        }

    def client(self) -> "DynamoDBClient":
        """Return a client of this model, as boto3 would."""
        client: Any = Client(self.call)
        return client  # type: ignore[no-any-return]

    def call(self, operation: str, request: Request) -> Any:
        """Return the answer of a call, or a Failure, when it has arrived."""
        return self._world.wait_for(lambda reply: self.submit(operation, request, reply))

    def submit(self, operation: str, request: Request, reply: Reply) -> None:
        """Begin a call. `reply` takes its answer, or a Failure, later."""
        self.usage.calls[operation] += 1
        _refuse_unknown(operation, request)
        try:
            self._operations[operation](request, reply)
        except InvalidExpression as error:
            self._world.after(latency.PLAIN_SECONDS, reply, _invalid(error))

    def items(self, table_name: str) -> Mapping[str, Item]:
        """Return the items of a table by their keys, as they are now."""
        return self._tables[table_name].items

    def create_table(self, name: str, key_name: str) -> None:
        """Create a table at once."""
        self._tables[name] = _Table(name, key_name)

    # --- tables ---

    def _create_table(self, request: Request, reply: Reply) -> None:
        keys = request["KeySchema"]
        if len(keys) != 1:
            raise NotImplementedError("the model knows no sort keys")
        self.create_table(request["TableName"], keys[0]["AttributeName"])
        self._world.after(latency.PLAIN_SECONDS, reply, {})

    def _delete_table(self, request: Request, reply: Reply) -> None:
        self._tables.pop(request["TableName"], None)
        self._world.after(latency.PLAIN_SECONDS, reply, {})

    def _table(self, request: Request) -> _Table:
        name = request["TableName"]
        if name not in self._tables:
            raise InvalidExpression(f"Requested resource not found: table {name}")
        return self._tables[name]

    # --- plain writes ---

    def _plain_write(self, operation: str, request: Request, reply: Reply) -> None:
        write = _Write(_WRITE_KINDS[operation], request, self._table(request))
        half = latency.PLAIN_SECONDS / 2 * latency.factor(self._draw, latency.PLAIN)
        self._world.after(half, self._write_now, write, reply, half)

    def _write_now(self, write: _Write, reply: Reply, reply_seconds: float) -> None:
        self._world.after(reply_seconds, reply, self._written(write))

    def _written(self, write: _Write) -> Any:
        """Carry out a plain write now, and return its answer."""
        table, key = write.table, write.key
        before = table.items.get(key)
        if key in table.occupied:
            self.usage.conflicts += 1
            return Failure("TransactionConflictException", CONFLICT["Message"])
        after, reason = write.judged(before)
        units = table.write_units(key, after)
        if not self._take_write_units(key, units):
            self.usage.throttles += 1
            return _throttled("TableWriteKeyRangeThroughputExceeded")
        if reason is not IN_ORDER:
            return _failed_write(reason)
        self._put(table, key, after)
        return _with_units({}, write.request, units)

    def _put(self, table: _Table, key: str, after: Item | None) -> None:
        before = table.items.get(key)
        table.replaced[key] = self._world.now, before
        if after is None:
            table.items.pop(key, None)
            table.sizes.pop(key, None)
        else:
            table.items[key] = after
            table.sizes[key] = item_bytes(after)
        for observer in self.observers:
            observer(key, before, after)

    def _batch_write(self, request: Request, reply: Reply) -> None:
        wanted = [
            (name, entry) for name, entries in request["RequestItems"].items() for entry in entries
        ]
        _check_count(wanted, BATCH_WRITES_MAX)
        writes = [
            _Write(operation.removesuffix("Request"), parts, self._table({"TableName": name}))
            for name, entry in wanted
            for operation, parts in entry.items()
        ]
        _check_distinct(write.key for write in writes)
        seconds = latency.BATCH_SECONDS * latency.factor(self._draw, latency.BATCH)
        unprocessed: dict[str, list[Any]] = {}
        for position, write in enumerate(writes):
            name, entry = wanted[position]
            instant = seconds * (position + 1) / (len(writes) + 1)
            self._world.after(instant, self._write_of_batch, write, unprocessed, name, entry)
        self._world.after(seconds, reply, {"UnprocessedItems": unprocessed})

    def _write_of_batch(
        self, write: _Write, unprocessed: dict[str, list[Any]], name: str, entry: Any
    ) -> None:
        if isinstance(self._written(write), Failure):
            unprocessed.setdefault(name, []).append(entry)

    # --- writing transactions ---

    def _transact_write(self, request: Request, reply: Reply) -> None:
        entries = [pair for entry in request["TransactItems"] for pair in entry.items()]
        _check_count(entries, ACTIONS_MAX)
        writes = [_Write(kind, action, self._table(action)) for kind, action in entries]
        _check_distinct(f"{write.table.name}/{write.key}" for write in writes)
        factor = latency.factor(self._draw, latency.TRANSACTION)
        transaction = _Transaction(writes)
        arrived = latency.TRANSACTION_REQUEST_SECONDS * factor
        for position in range(len(writes)):
            instant = arrived + latency.PREPARE_SECONDS * factor * self._jitter()
            self._world.after(instant, self._prepare, transaction, position, factor, request, reply)

    def _prepare(
        self,
        transaction: _Transaction,
        position: int,
        factor: float,
        request: Request,
        reply: Reply,
    ) -> None:
        """Check one action and occupy its item. After the last one the transaction is decided."""
        transaction.reasons[position] = self._prepared(transaction, position)
        transaction.to_prepare -= 1
        if transaction.to_prepare:
            return
        self._count_contention(transaction.reasons)
        for each in range(len(transaction.writes)):
            instant = (latency.DECIDE_SECONDS + latency.COMMIT_SECONDS * self._jitter()) * factor
            self._world.after(instant, self._finish, transaction, each, factor, request, reply)

    def _prepared(self, transaction: _Transaction, position: int) -> Reason:
        write = transaction.writes[position]
        table, key = write.table, write.key
        before = table.items.get(key)
        is_occupied = key in table.occupied
        after, reason = (before, CONFLICT) if is_occupied else write.judged(before)
        units = 2 * table.write_units(key, after)
        if not self._take_write_units(key, units):
            return _THROTTLED
        transaction.units += units
        if reason is IN_ORDER:
            transaction.plans[position] = after
            table.occupied[key] = transaction
        return reason

    def _finish(
        self,
        transaction: _Transaction,
        position: int,
        factor: float,
        request: Request,
        reply: Reply,
    ) -> None:
        """Commit one action, or release its item where the transaction is cancelled."""
        write = transaction.writes[position]
        if write.table.occupied.get(write.key) is transaction:
            del write.table.occupied[write.key]
            if not transaction.is_cancelled and write.kind != "ConditionCheck":
                self._put(write.table, write.key, transaction.plans[position])
        transaction.to_finish -= 1
        if transaction.to_finish:
            return
        answer: Any
        if transaction.is_cancelled:
            answer = cancelled(transaction.reasons)
        else:
            answer = _with_units({}, request, transaction.units)
        self._world.after(latency.TRANSACTION_REPLY_SECONDS * factor, reply, answer)

    # --- reads ---

    def _get(self, request: Request, reply: Reply) -> None:
        table = self._table(request)
        key = table.key_of(request["Key"])
        half = latency.PLAIN_SECONDS / 2 * latency.factor(self._draw, latency.PLAIN)
        self._world.after(half, self._get_now, table, key, request, reply, half)

    def _get_now(
        self, table: _Table, key: str, request: Request, reply: Reply, reply_seconds: float
    ) -> None:
        is_consistent = request.get("ConsistentRead", False)
        item = self._read(table, key, consistent=is_consistent)
        units = table.read_units(key) * (1.0 if is_consistent else 0.5)
        answer: Any
        if not self._take_read_units(key, units):
            self.usage.throttles += 1
            answer = _throttled("TableReadKeyRangeThroughputExceeded")
        else:
            answer = _with_units({} if item is None else {"Item": item}, request, units)
        self._world.after(reply_seconds, reply, answer)

    def _read(self, table: _Table, key: str, *, consistent: bool) -> Item | None:
        if not consistent and key in table.replaced:
            written_at, before = table.replaced[key]
            lag = self._draw.expovariate(1 / latency.REPLICA_LAG_SECONDS)
            if self._world.now - written_at < lag:
                return before
        return table.items.get(key)

    def _batch_get(self, request: Request, reply: Reply) -> None:
        ((name, wanted),) = request["RequestItems"].items()
        table = self._table({"TableName": name})
        keys = [table.key_of(key) for key in wanted["Keys"]]
        _check_count(keys, ACTIONS_MAX)
        _check_distinct(keys)
        order = self._draw.sample(range(len(keys)), len(keys))
        seconds = latency.BATCH_SECONDS * latency.factor(self._draw, latency.BATCH)
        batch = _BatchRead(table, wanted)
        for part in range(BATCH_PARTS):
            instant = seconds * (part + 1) / (BATCH_PARTS + 1)
            positions = order[part::BATCH_PARTS]
            self._world.after(instant, self._read_of_batch, batch, positions)
        self._world.after(seconds, lambda: reply(_with_units(batch.answer(), request, batch.units)))

    def _read_of_batch(self, batch: "_BatchRead", positions: Sequence[int]) -> None:
        is_consistent = batch.wanted.get("ConsistentRead", False)
        for position in positions:
            attributes = batch.wanted["Keys"][position]
            key = batch.table.key_of(attributes)
            item = self._read(batch.table, key, consistent=is_consistent)
            units = batch.table.read_units(key) * (1.0 if is_consistent else 0.5)
            if not self._take_read_units(key, units):
                batch.unprocessed.append(attributes)
                continue
            batch.units += units
            if item is not None:
                batch.found.append(item)

    def _scan(self, request: Request, reply: Reply) -> None:
        table = self._table(request)
        expressions = _checked_expressions(request, "FilterExpression")
        half = latency.BATCH_SECONDS / 2 * latency.factor(self._draw, latency.BATCH)
        self._world.after(half, self._scan_now, table, expressions, request, reply, half)

    def _scan_now(
        self,
        table: _Table,
        expressions: Expressions,
        request: Request,
        reply: Reply,
        reply_seconds: float,
    ) -> None:
        """Read one page, in an order that does not depend on when items were put."""
        keys = sorted(table.items, key=_position_of)
        start = request.get("ExclusiveStartKey")
        if start is not None:
            after = _position_of(table.key_of(start))
            keys = [key for key in keys if _position_of(key) > after]
        page, size = list[str](), 0
        for key in keys[: request.get("Limit")]:
            page.append(key)
            size += table.sizes[key]
            if size >= self._scan_page_bytes:
                break
        values = request.get("ExpressionAttributeValues", {})
        items = [table.items[key] for key in page]
        found = [item for item in items if not expressions.test or expressions.test(item, values)]
        units = max(1, -(-size // READ_UNIT_BYTES)) * (1 if request.get("ConsistentRead") else 0.5)
        self.usage.read_units += units
        answer: dict[str, Any] = {
            "Items": found,
            "Count": len(found),
            "ScannedCount": len(page),
        }
        if len(page) < len(keys):
            answer["LastEvaluatedKey"] = {table.key_name: {"S": page[-1]}}
        self._world.after(reply_seconds, reply, _with_units(answer, request, units))

    # --- reading transactions ---

    def _transact_get(self, request: Request, reply: Reply) -> None:
        gets = [entry["Get"] for entry in request["TransactItems"]]
        _check_count(gets, ACTIONS_MAX)
        places = [(table, table.key_of(get["Key"])) for get in gets for table in [self._table(get)]]
        _check_distinct(f"{table.name}/{key}" for table, key in places)
        factor = latency.factor(self._draw, latency.PLAIN)
        arrived = latency.PLAIN_SECONDS * factor
        self._world.after(arrived, self._read_first, places, factor, request, reply)

    def _read_first(
        self,
        places: Sequence[tuple[_Table, str]],
        factor: float,
        request: Request,
        reply: Reply,
    ) -> None:
        """Read all items, of which none may be occupied."""
        items, reasons, total = list[Item | None](), list[Reason](), 0.0
        for table, key in places:
            item = table.items.get(key)
            units = 2.0 * table.read_units(key)
            items.append(item)
            if not self._take_read_units(key, units):
                reasons.append(_THROTTLED)
                continue
            total += units
            reasons.append(CONFLICT if key in table.occupied else IN_ORDER)
        again = latency.READ_AGAIN_SECONDS * factor

        def read_again() -> None:
            answer = self._read_again(places, items, reasons)
            if not isinstance(answer, Failure):
                answer = _with_units(answer, request, total)
            self._world.after(again, reply, answer)

        self._world.after(again, read_again)

    def _read_again(
        self,
        places: Sequence[tuple[_Table, str]],
        items: Sequence[Item | None],
        reasons: list[Reason],
    ) -> Any:
        """Return the answer. What was written or occupied since the first read is a conflict."""
        for position, (table, key) in enumerate(places):
            has_changed = table.items.get(key) is not items[position] or key in table.occupied
            if reasons[position] is IN_ORDER and has_changed:
                reasons[position] = CONFLICT
        self._count_contention(reasons)
        if any(reason is not IN_ORDER for reason in reasons):
            return cancelled(reasons)
        return {"Responses": [{} if item is None else {"Item": item} for item in items]}

    # --- units and chance ---

    def _take_write_units(self, key: str, units: float) -> bool:
        bucket = self._write_buckets.get(key)
        if bucket is None:
            bucket = _Bucket(KEY_WRITE_UNITS, self._burst_seconds, self._world.now)
            self._write_buckets[key] = bucket
        is_taken = bucket.take(units, self._world.now)
        self.usage.write_units += units if is_taken else 0.0
        return is_taken

    def _take_read_units(self, key: str, units: float) -> bool:
        bucket = self._read_buckets.get(key)
        if bucket is None:
            bucket = _Bucket(self._key_read_units, self._burst_seconds, self._world.now)
            self._read_buckets[key] = bucket
        is_taken = bucket.take(units, self._world.now)
        self.usage.read_units += units if is_taken else 0.0
        return is_taken

    def _count_contention(self, reasons: Sequence[Reason]) -> None:
        self.usage.conflicts += any(reason is CONFLICT for reason in reasons)
        self.usage.throttles += any(reason is _THROTTLED for reason in reasons)

    def _jitter(self) -> float:
        return 0.6 + 0.8 * self._draw.random()


@dataclass(slots=True)
class _BatchRead:
    """A BatchGetItem in progress. wanted: what it asks of its table."""

    table: _Table
    wanted: Request
    found: list[Item] = field(default_factory=list)
    unprocessed: list[Any] = field(default_factory=list)
    units: float = 0.0

    def answer(self) -> dict[str, Any]:
        left = {**self.wanted, "Keys": self.unprocessed}
        return {
            "Responses": {self.table.name: self.found},
            "UnprocessedKeys": {self.table.name: left} if self.unprocessed else {},
        }


# All parameters that the model knows. It ignores none.
_WRITE_PARAMETERS: Final = {
    "TableName",
    "Key",
    "Item",
    "UpdateExpression",
    "ConditionExpression",
    "ExpressionAttributeNames",
    "ExpressionAttributeValues",
    "ReturnValuesOnConditionCheckFailure",
}
_PARAMETERS: Final[Mapping[str, frozenset[str]]] = {
    "BatchGetItem": frozenset({"RequestItems", "ReturnConsumedCapacity"}),
    "BatchWriteItem": frozenset({"RequestItems"}),
    "DeleteItem": frozenset({*_WRITE_PARAMETERS, "ReturnConsumedCapacity"}),
    "GetItem": frozenset({"TableName", "Key", "ConsistentRead", "ReturnConsumedCapacity"}),
    "PutItem": frozenset({*_WRITE_PARAMETERS, "ReturnConsumedCapacity"}),
    "Scan": frozenset(
        {
            "TableName",
            "ConsistentRead",
            "FilterExpression",
            "ExpressionAttributeNames",
            "ExpressionAttributeValues",
            "ExclusiveStartKey",
            "Limit",
            "ReturnConsumedCapacity",
        }
    ),
    "TransactGetItems": frozenset({"TransactItems", "ReturnConsumedCapacity"}),
    "TransactWriteItems": frozenset({"TransactItems", "ReturnConsumedCapacity"}),
    "UpdateItem": frozenset({*_WRITE_PARAMETERS, "ReturnConsumedCapacity"}),
}


def _refuse_unknown(operation: str, request: Request) -> None:
    known = _PARAMETERS.get(operation)
    if known is not None and not request.keys() <= known:
        unknown = sorted(request.keys() - known)
        raise NotImplementedError(f"the model does not know {unknown} of {operation}")


def _checked_expressions(request: Request, test: str) -> Expressions:
    """Return a request's expressions. Each name and value must be used, and each used be there."""
    names = request.get("ExpressionAttributeNames", {})
    values = request.get("ExpressionAttributeValues", {})
    expressions = compiled(request.get(test), request.get("UpdateExpression"), tuple(names.items()))
    if expressions.values != values.keys() or expressions.names != names.keys():
        used = sorted(expressions.values | expressions.names)
        raise InvalidExpression(f"used: {used}, given: {sorted({*values, *names})}")
    return expressions


def _check_count(entries: Sequence[object], most: int) -> None:
    if not 1 <= len(entries) <= most:
        raise InvalidExpression(f"Member must have length between 1 and {most}")


def _check_distinct(keys: Iterable[str]) -> None:
    if any(count > 1 for count in Counter(keys).values()):
        raise InvalidExpression("The request has two operations on one item")


def _invalid(error: InvalidExpression) -> Failure:
    message = str(error)
    is_missing = message.startswith("Requested resource not found")
    return Failure("ResourceNotFoundException" if is_missing else "ValidationException", message)


def _failed_write(reason: Reason) -> Failure:
    """Return the answer to a plain write that is not in order."""
    is_invalid = reason["Code"] == _INVALID
    code = "ValidationException" if is_invalid else "ConditionalCheckFailedException"
    more = {"Item": reason["Item"]} if "Item" in reason else {}
    return Failure(code, reason["Message"], more)


def _throttled(reason: str) -> Failure:
    reasons = [{"reason": reason, "resource": "arn:aws:dynamodb:::table"}]
    return Failure("ThrottlingException", _THROTTLED["Message"], {"throttlingReasons": reasons})


def cancelled(reasons: Sequence[Reason]) -> Failure:
    """Return the answer to a transaction that was cancelled. reasons: of each action, in order."""
    codes = ", ".join(reason["Code"] for reason in reasons)
    return Failure(
        "TransactionCanceledException",
        f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]",
        {"CancellationReasons": reasons},
    )


def _with_units(answer: dict[str, Any], request: Request, units: float) -> dict[str, Any]:
    """Add the consumed capacity where the request asks for it."""
    if request.get("ReturnConsumedCapacity", "NONE") != "NONE":
        consumed = {"CapacityUnits": units}
        is_single = "TableName" in request
        answer["ConsumedCapacity"] = consumed if is_single else [consumed]
    return answer


def _position_of(key: str) -> tuple[int, str]:
    return zlib.crc32(key.encode()), key


def item_bytes(item: Item) -> int:
    """Return an item's bytes ("DynamoDB item sizes and formats", developer guide)."""
    return sum(len(name) + _value_size(value) for name, value in item.items())


@lru_cache(maxsize=10_000)
def _number_size(text: str) -> int:
    """Return a number's bytes: one, one for each two digits, and one for a minus.

    The documentation says "approximately". The two digits are those of base 100: MiniStack and
    DynamoDB Local count so.
    """
    sign, digits, exponent = Decimal(text).as_tuple()
    value = int("".join(map(str, digits))) * 10 ** (int(exponent) % 2)
    if value == 0:
        return 1
    while value % 100 == 0:
        value //= 100
    return 1 + (len(str(value)) + 1) // 2 + sign


def _value_size(value: Mapping[str, Any]) -> int:
    ((type_, content),) = value.items()
    match type_:
        case "N":
            return _number_size(content)
        case "S":
            return len(content) if content.isascii() else len(content.encode())
        case "M":
            parts = content.items()
            return 3 + sum(1 + len(name) + _value_size(part) for name, part in parts)
        case "L":
            return 3 + sum(1 + _value_size(part) for part in content)
        case "BOOL" | "NULL":
            return 1
        case _:  # a set: of its members
            return sum(_value_size({type_[0]: member}) for member in content)
