"""The model of DynamoDB produces contention as AWS documents it."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from proof.figures import percentile
from simulation import latency
from simulation.dynamodb import KEY_READ_UNITS, KEY_WRITE_UNITS, DynamoDB, item_bytes
from simulation.world import World

TABLE = "tickets"
KEYS: Any = [{"AttributeName": "pk", "KeyType": "HASH"}]


class Bench:
    """A world with a model and a client, and what tasks in it got."""

    def __init__(self, seed: int = 1) -> None:
        self.world = World(seed)
        self.model = DynamoDB(self.world)
        self.client: Any = self.model.client()
        self.client.create_table(TableName=TABLE, KeySchema=KEYS)
        self.answers: list[Any] = []

    def put(self, key: str, **numbers: int) -> None:
        content = {name: {"N": str(number)} for name, number in numbers.items()}
        self.client.put_item(TableName=TABLE, Item={"pk": {"S": key}, **content})

    def stock(self, key: str) -> int:
        return int(self.model.items(TABLE)[key]["stock"]["N"])

    def at(self, seconds: float, call: Callable[..., Any], **request: Any) -> None:
        """Make a call in a task of its own, some seconds from now."""

        def task() -> None:
            self.world.sleep(seconds)
            try:
                self.answers.append(call(**request))
            except ClientError as error:
                self.answers.append(error)

        self.world.start(task)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def take(key: str, *, least: int = 1) -> dict[str, Any]:
    """Return the action that takes a ticket where there are at least so many."""
    return {
        "Update": {
            "TableName": TABLE,
            "Key": {"pk": {"S": key}},
            "UpdateExpression": "SET stock = stock - :one",
            "ConditionExpression": "stock >= :least",
            "ExpressionAttributeValues": {":one": {"N": "1"}, ":least": {"N": str(least)}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }


def codes(error: Any) -> list[str]:
    return [reason["Code"] for reason in error.response["CancellationReasons"]]


def test_transactions_meet(bench: Bench) -> None:
    """The one that comes later is cancelled, with a reason for each action in order."""
    bench.put("a", stock=5)
    bench.put("b", stock=5)
    bench.put("c", stock=0)
    transact = bench.client.transact_write_items
    bench.at(0.0, transact, TransactItems=[take("a"), take("b")])
    actions = [take("c"), take("b", least=5), take("d"), take("a", least=5)]
    for step in range(100):
        bench.at(step / 10_000, transact, TransactItems=actions)
    bench.world.run()
    cancelled = [each for each in bench.answers if isinstance(each, ClientError)]
    assert {type(each).__name__ for each in cancelled} == {"TransactionCanceledException"}
    failed, conflict = "ConditionalCheckFailed", "TransactionConflict"
    met = next(each for each in cancelled if codes(each) == [failed, conflict, failed, conflict])
    response: Any = met.response
    assert response["CancellationReasons"][0]["Item"]["stock"] == {"N": "0"}
    assert response["CancellationReasons"][2].get("Item") is None
    assert bench.stock("a") == bench.stock("b")


def test_plain_write_meets_transaction(bench: Bench) -> None:
    bench.put("a", stock=50)
    bench.at(0.0, bench.client.transact_write_items, TransactItems=[take("a")])
    for step in range(40):
        bench.at(step / 1000, bench.client.update_item, **take("a")["Update"])
    bench.world.run()
    names = [type(each).__name__ for each in bench.answers]
    conflicts = names.count("TransactionConflictException")
    assert 0 < conflicts < 20
    assert bench.stock("a") == 50 - 1 - (40 - conflicts)


def test_reads_beside_transaction(bench: Bench) -> None:
    """A plain read sees the item before or after. A batch may see half of the transaction."""
    bench.put("a", stock=5)
    bench.put("b", stock=5)
    bench.at(0.0, bench.client.transact_write_items, TransactItems=[take("a"), take("b")])
    keys = [{"pk": {"S": key}} for key in "ab"]
    for step in range(100):
        request = {TABLE: {"Keys": keys, "ConsistentRead": True}}
        bench.at(step / 3000, bench.client.batch_get_item, RequestItems=request)
    bench.world.run()
    seen = {
        tuple(sorted(item["stock"]["N"] for item in answer["Responses"][TABLE]))
        for answer in bench.answers
        if "Responses" in answer
    }
    assert seen == {("5", "5"), ("4", "5"), ("4", "4")}


def test_reading_transactions(bench: Bench) -> None:
    """They conflict beside a writing one, and never see half of it."""
    bench.put("a", stock=5)
    bench.put("b", stock=5)
    bench.at(0.0, bench.client.transact_write_items, TransactItems=[take("a"), take("b")])
    gets = [{"Get": {"TableName": TABLE, "Key": {"pk": {"S": key}}}} for key in "abc"]
    for step in range(100):
        bench.at(step / 3000, bench.client.transact_get_items, TransactItems=gets)
    bench.world.run()
    conflicts = [codes(each) for each in bench.answers if isinstance(each, ClientError)]
    assert conflicts
    assert all(codes[2] == "None" for codes in conflicts)
    seen = [
        [response.get("Item", {}).get("stock", {}).get("N") for response in each["Responses"]]
        for each in bench.answers
        if not isinstance(each, ClientError) and "Responses" in each
    ]
    assert {tuple(each) for each in seen} == {("5", "5", None), ("4", "4", None)}


def test_eventually_consistent_reads(bench: Bench) -> None:
    """They may see an item as it was, for a moment. Consistent reads never do."""
    bench.put("a", stock=0)
    seen = {True: set[str](), False: set[str]()}
    for count in range(1, 101):
        bench.put("a", stock=count)
        for is_consistent, stale in seen.items():
            answer = bench.client.get_item(
                TableName=TABLE, Key={"pk": {"S": "a"}}, ConsistentRead=is_consistent
            )
            if answer["Item"]["stock"]["N"] != str(count):
                stale.add(str(count))
    assert seen[True] == set()
    assert 10 < len(seen[False]) < 100


def test_write_throttle(bench: Bench) -> None:
    """A key takes a second's units at once, and then no more than come back."""
    item = {"pk": {"S": "a"}, "stock": {"N": "5"}}
    writes, seconds = int(KEY_WRITE_UNITS) + 400, 0.1
    for count in range(writes):
        pause = seconds * count / writes
        bench.at(pause, bench.client.put_item, TableName=TABLE, Item=item)
    transact = bench.client.transact_write_items
    bench.at(seconds - 0.01, transact, TransactItems=[take("b"), take("a")])
    bench.at(2 * seconds, bench.client.put_item, TableName=TABLE, Item=item)
    bench.world.run()
    cancelled = next(each for each in bench.answers if "Canceled" in type(each).__name__)
    assert codes(cancelled) == ["ConditionalCheckFailed", "ThrottlingError"]
    throttled = [each for each in bench.answers if type(each).__name__ == "ThrottlingException"]
    assert 400 - KEY_WRITE_UNITS * 2 * seconds < len(throttled) < 400
    reason = throttled[0].response["throttlingReasons"][0]["reason"]
    assert reason == "TableWriteKeyRangeThroughputExceeded"
    assert bench.answers[-1] == {}


def test_read_throttle(bench: Bench) -> None:
    """A batch leaves the throttled keys to be asked for again."""
    bench.put("a", stock=1)
    keys = [{"pk": {"S": key}} for key in "ab"]
    reads, seconds = int(KEY_READ_UNITS) + 900, 0.1
    for count in range(reads):
        bench.at(
            seconds * count / reads,
            bench.client.get_item,
            TableName=TABLE,
            Key=keys[0],
            ConsistentRead=True,
        )
    wanted = {TABLE: {"Keys": keys, "ConsistentRead": True}}
    bench.at(seconds - 0.005, bench.client.batch_get_item, RequestItems=wanted)
    gets = [{"Get": {"TableName": TABLE, "Key": key}} for key in keys]
    bench.at(seconds - 0.01, bench.client.transact_get_items, TransactItems=gets)
    bench.world.run()
    errors = [each for each in bench.answers if isinstance(each, ClientError)]
    good = [each for each in bench.answers if not isinstance(each, ClientError)]
    batch = next(each for each in good if "UnprocessedKeys" in each)
    assert batch["UnprocessedKeys"][TABLE]["Keys"] == keys[:1]
    cancelled = next(each for each in errors if "CancellationReasons" in each.response)
    assert codes(cancelled) == ["ThrottlingError", "None"]
    assert 900 - KEY_READ_UNITS * 2 * seconds < len(errors) - 1 < 900


def test_failed_conditions_cost_units(bench: Bench) -> None:
    bench.put("a", stock=0)
    before = bench.model.usage.write_units
    bench.at(0.0, bench.client.transact_write_items, TransactItems=[take("a"), take("b")])
    bench.at(1.0, bench.client.update_item, **take("a")["Update"])
    bench.world.run()
    assert bench.model.usage.write_units - before == 2 * 2 + 1


def test_unknown_requests(bench: Bench) -> None:
    """The model ignores nothing that it is asked for."""
    with pytest.raises(NotImplementedError, match="ReturnValues"):
        bench.client.put_item(TableName=TABLE, Item={"pk": {"S": "a"}}, ReturnValues="ALL_OLD")
    with pytest.raises(AttributeError, match="query"):
        bench.client.query(TableName=TABLE)
    with pytest.raises(bench.client.exceptions.ResourceNotFoundException):
        bench.client.get_item(TableName="other", Key={"pk": {"S": "a"}})


def sell_out(seed: int) -> tuple[int, int, float]:
    """Let 60 tasks take 50 tickets of two items; return tickets sold, conflicts, and seconds."""
    bench = Bench(seed)
    bench.put("a", stock=25)
    bench.put("b", stock=25)
    draw = bench.world.random("tasks")
    sold = list[str]()

    def buy(number: int) -> None:
        while bench.stock("a") + bench.stock("b"):
            put = {"Put": {"TableName": TABLE, "Item": {"pk": {"S": f"record-{number}"}}}}
            key = draw.choice("ab")
            try:
                bench.client.transact_write_items(TransactItems=[take(key), put])
            except ClientError:
                bench.world.sleep(draw.random() / 10)
            else:
                sold.append(key)
                return

    for number in range(60):
        bench.world.start(buy, number)
    bench.world.run()
    assert bench.stock("a") == bench.stock("b") == 0
    records = [key for key in bench.model.items(TABLE) if key.startswith("record")]
    assert len(records) == len(sold)
    return len(sold), bench.model.usage.conflicts, bench.world.now


@pytest.mark.parametrize(
    ("median", "spread", "published"),
    [
        (latency.PLAIN_SECONDS, latency.PLAIN, (7.6, 11.3, 16.2)),
        (latency.BATCH_SECONDS, latency.BATCH, (10.2, 16.0, 27.6)),
        (0.0253, latency.TRANSACTION, (25.3, 30.7, 92.5)),
    ],
)
def test_published_latencies(
    median: float, spread: latency.Spread, published: tuple[float, ...]
) -> None:
    draw = random.Random(1)
    drawn = sorted(1000 * median * latency.factor(draw, spread) for _ in range(200_000))
    assert [percentile(drawn, percent) for percent in (50, 90, 99)] == pytest.approx(
        published, rel=0.05
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(({"N": number}, 1) for number in ("0", "0.0")),
        *(({"N": number}, 2) for number in ("1", "12", "100", "1200", "1e20", "0.05", "0.5")),
        *(({"N": number}, 3) for number in ("123", "-1", "-12", "1.5", "12.5", "1.50", "-100")),
        *(({"N": number}, 4) for number in ("-123", "12345")),
        ({"N": "1800000060"}, 6),
        ({"NS": ["100", "2000", "12345"]}, 8),
        ({"S": "é"}, 2),
        ({"M": {"s1": {"N": "1"}, "s2": {"S": "ab"}}}, 13),
        ({"L": [{"S": "a"}, {"N": "1"}]}, 8),
    ],
)
def test_sizes(value: Any, expected: int) -> None:
    """As MiniStack and DynamoDB Local bill them, where the documentation says "approximately"."""
    assert item_bytes({"a": value}) == len("a") + expected


def test_contention_sells_exactly() -> None:
    """Overlapping transactions take each ticket once, and one seed gives one order of events."""
    sold, conflicts, seconds = sell_out(seed=1)
    assert sold == 50
    assert conflicts > 50
    assert sell_out(seed=1) == (sold, conflicts, seconds)
    assert sell_out(seed=2) != (sold, conflicts, seconds)
