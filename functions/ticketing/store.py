"""The table: all key shapes and expressions, and what DynamoDB's answers mean. No other module calls DynamoDB.

Every method is one call of DynamoDB. It raises `OutOfTime` where the request's time is over, and `StoreTrouble` where
the call was refused for a reason that passes, or got no answer. An answer that means a bug (a malformed expression, a
missing permission) is raised as botocore raised it, and a record that nothing of ours wrote as `UnreadableRecord`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore import exceptions
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from ticketing.errors import Contended, OutcomeUnknown, StaleSale, StoreTrouble, Unreachable, UnreadableRecord
from ticketing.retry import Deadline
from ticketing.rules import Purchase, ResetKey, Sale, Shard, current_shards

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

type Item = Mapping[str, Any]  # an item as DynamoDB's low-level API has it: attribute → {"S": …} or {"N": …}

# The clauses of our conditions. Each stands for one way to go wrong.
_SAME_GENERATION: Final = "generation = :generation"  # planned for this generation: a reset came between otherwise
_SOMETHING_LEFT: Final = "stock > :zero"  # never one ticket too many
_ENOUGH_LEFT: Final = "stock >= :quantity"  # several tickets: as many as are taken
_NOT_THERE: Final = "attribute_not_exists(pk)"  # a key buys once; a sale is not announced twice
_OLDER: Final = "generation < :generation"  # each shard opens once per generation, and generations only rise

# Reasons for which a transaction may be sent again (API reference of TransactWriteItems, "CancellationReasons").
_CONTENTION_REASONS: Final = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
# The same as errors of a whole call: refused before anything was written.
_CONTENTION_ERRORS: Final = {
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionConflictException",
}
# Errors that leave open whether the call was carried out; so does every status of 500 and above.
_UNKNOWN_ERRORS: Final = {"RequestTimeout", "RequestTimeoutException", "TransactionInProgressException"}


def connect() -> "DynamoDBClient":
    """A DynamoDB client for a sale; the SDK's defaults are for batch jobs.

    One attempt, because the domain retries better: on another shard, within the buyer's budget. And because a retry
    inside the SDK hides what happened: a lost reply, followed by a throttle, looks as if nothing had been written.
    Time-outs: a transaction takes 25 ms (p99 85 ms), and the default of 60 s outlives API Gateway's 29 s. So no call
    takes longer than 1 s + 2 s.
    """
    return boto3.client(
        "dynamodb",
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=1,
            read_timeout=2,
            tcp_keepalive=True,
        ),
    )


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a purchase's transaction was cancelled; nothing of it was written.

    record: the purchase that stands under this id already.
    shards: the shards whose condition failed, as they were found; None for a shard that was never opened.
    contended: another transaction or a throttle was in the way of at least one action.
    contended_shards: the shards among these.
    """

    record: Purchase | None
    shards: Mapping[int, Shard | None]
    contended: bool
    contended_shards: frozenset[int]


@dataclass(frozen=True, slots=True)
class Page:
    """Purchase records, and what is wrong with those that cannot be read. end: where the next page starts, if any."""

    purchases: Sequence[Purchase]
    problems: Sequence[str]
    end: str | None


class Store:
    """The table `table_name` behind a boto3 DynamoDB client. deadline: after it no call starts (OutOfTime)."""

    def __init__(self, client: "DynamoDBClient", table_name: str, deadline: Deadline | None = None) -> None:
        self._client = client
        self._table = table_name
        self._deadline = deadline

    def within(self, deadline: Deadline) -> "Store":
        """Return the same store for one request, whose every call checks the request's deadline."""
        return Store(self._client, self._table, deadline)

    def read_sale(self, item_id: int) -> Sale | None:
        """The item's sale as it stands now; None where there is none."""
        item = self._get(_sale_key(item_id))
        return _to_sale(item_id, item) if item else None

    def read_purchase(self, purchase_id: str) -> Purchase | None:
        """The record of a purchase; None where there is none."""
        item = self._get(_purchase_key(purchase_id))
        return _to_purchase(item) if item else None

    def read_shards(self, sale: Sale) -> list[Shard]:
        """The sale's shards, each as it stands now, but not all of one instant. Never conflicts with a sale."""
        return _current(sale, self._read_shards(sale.item_id, sale.shard_count))

    def read_stored_shards(self, sale: Sale) -> tuple[list[Shard], list[str]]:
        """All shards that the item ever had, each as it is in the table, and what is wrong with unreadable ones.

        Those that were never opened are not there.
        """
        return _readable(_to_shard, self._read_shards(sale.item_id, sale.shards_ever))

    def _read_shards(self, item_id: int, count: int) -> Sequence[Item]:
        keys = [_shard_key(item_id, index) for index in range(count)]
        request: Any = {self._table: {"Keys": keys, "ConsistentRead": True}}
        answer = self._call(self._client.batch_get_item, RequestItems=request)
        if answer["UnprocessedKeys"]:
            raise Contended
        return answer["Responses"].get(self._table, [])

    def snapshot(self, sale: Sale) -> list[Shard]:
        """The sale's shards, all of one instant. Conflicts with sales that are under way."""
        gets: Any = [
            {"Get": {"TableName": self._table, "Key": _shard_key(sale.item_id, index)}}
            for index in range(sale.shard_count)
        ]
        try:
            answer = self._call(self._client.transact_get_items, TransactItems=gets)
        except ClientError as error:
            _reasons(error)  # raises unless all that stood in the way was contention
            raise Contended from error
        return _current(sale, [response["Item"] for response in answer["Responses"] if "Item" in response])

    def sell(self, sale: Sale, purchase: Purchase) -> Refusal | None:
        """Takes the purchase's tickets from its shards and puts its record, in one transaction; None: done."""
        indexes = list(purchase.taken)
        actions: Any = [self._take(sale, purchase, index) for index in indexes]
        actions.append({"Put": self._put(_from_purchase(purchase), _NOT_THERE)})
        try:
            self._call(self._client.transact_write_items, TransactItems=actions)
        except ClientError as error:
            *shard_reasons, record_reason = _reasons(error)
            reasons = dict(zip(indexes, shard_reasons, strict=True))
            record = _failed(record_reason)
            contended_shards = frozenset(i for i, reason in reasons.items() if reason["Code"] in _CONTENTION_REASONS)
            return Refusal(
                record=_to_purchase(record) if record else None,
                shards={
                    index: _to_shard(reason["Item"]) if reason.get("Item") else None
                    for index, reason in reasons.items()
                    if _failed(reason) is not None
                },
                contended=bool(contended_shards) or record_reason["Code"] in _CONTENTION_REASONS,
                contended_shards=contended_shards,
            )
        return None

    def announce(self, sale: Sale) -> bool:
        """Makes `sale` the item's sale, if it is the next generation; shards open from it. False: another was first."""
        put = self._put(_from_sale(sale), f"{_NOT_THERE} OR {_OLDER}")
        values = {":generation": _number(sale.generation)}
        try:
            self._call(self._client.put_item, **put, ExpressionAttributeValues=values)
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def open_shard(self, sale: Sale, index: int) -> bool:
        """Opens one shard for the sale's generation with its share, once; False when it was opened before.

        This is also what closes a shard to all older generations, whose sales demand theirs. A shard is never
        deleted: an old generation could open a missing one again.
        """
        update: Any = {
            "TableName": self._table,
            "Key": _shard_key(sale.item_id, index),
            "UpdateExpression": (
                "SET generation = :generation, #capacity = :share, stock = :share, held = :zero, sold = :zero, "
                "sold_before = if_not_exists(sold_before, :zero) + if_not_exists(sold, :zero), updated_at = :created_at"
            ),
            "ConditionExpression": f"{_NOT_THERE} OR {_OLDER}",
            "ExpressionAttributeNames": {"#capacity": "capacity"},
            "ExpressionAttributeValues": {
                ":generation": _number(sale.generation),
                ":share": _number(sale.share(index)),
                ":zero": _number(0),
                ":created_at": {"S": sale.created_at},
            },
        }
        try:
            self._call(self._client.update_item, **update)
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def read_purchases(self, item_id: int, start: str | None) -> "Page":
        """One page of an item's purchase records, of every generation, by a consistent scan of the table.

        start: where the page before ended. Records without a readable item_id belong to every item.
        """
        request: Any = {
            "TableName": self._table,
            "ConsistentRead": True,
            "FilterExpression": (
                "begins_with(pk, :purchase) AND (item_id = :item_id OR NOT attribute_type(item_id, :number))"
            ),
            "ExpressionAttributeValues": {
                ":purchase": _purchase_key("")["pk"],
                ":item_id": _number(item_id),
                ":number": {"S": "N"},
            },
        }
        if start is not None:
            request["ExclusiveStartKey"] = {"pk": {"S": start}}
        answer = self._call(self._client.scan, **request)
        purchases, problems = _readable(_to_purchase, answer["Items"])
        last: Any = answer.get("LastEvaluatedKey")
        return Page(purchases, problems, last["pk"]["S"] if last else None)

    def _call[**Parameters, Answer](
        self, operation: Callable[Parameters, Answer], *args: Parameters.args, **request: Parameters.kwargs
    ) -> Answer:
        """Every call of DynamoDB goes through here. Raises OutOfTime, StoreTrouble, or what botocore raised."""
        if self._deadline:
            self._deadline.check()
        try:
            return operation(*args, **request)
        except (exceptions.BotoCoreError, ClientError, ResponseParserError) as error:
            if trouble := _trouble(error):
                raise trouble from error
            raise

    def _get(self, key: Any) -> Item | None:
        return self._call(self._client.get_item, TableName=self._table, Key=key, ConsistentRead=True).get("Item")

    def _take(self, sale: Sale, purchase: Purchase, index: int) -> Any:
        quantity = purchase.taken[index]
        clauses = [_SAME_GENERATION, _SOMETHING_LEFT] + [_ENOUGH_LEFT] * (quantity > 1)
        return {
            "Update": {
                "TableName": self._table,
                "Key": _shard_key(sale.item_id, index),
                "UpdateExpression": "SET stock = stock - :quantity, sold = sold + :quantity, updated_at = :now",
                "ConditionExpression": " AND ".join(clauses),
                "ExpressionAttributeValues": {
                    ":generation": _number(sale.generation),
                    ":zero": _number(0),
                    ":quantity": _number(quantity),
                    ":now": {"S": purchase.created_at},
                },
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    def _put(self, item: Item, condition: str) -> Any:
        return {
            "TableName": self._table,
            "Item": item,
            "ConditionExpression": condition,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }


def _trouble(error: Exception) -> StoreTrouble | None:
    """What a failed call means where it may be tried again; None where it is a bug of ours."""
    match error:
        case exceptions.EndpointConnectionError() | exceptions.ConnectTimeoutError():
            return Unreachable()
        case exceptions.ProxyConnectionError() | exceptions.CredentialRetrievalError():
            return Unreachable()
        case exceptions.ConnectionError() | exceptions.HTTPClientError() | ResponseParserError():
            return OutcomeUnknown()
        case ClientError():
            code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
            if code in _CONTENTION_ERRORS or status == HTTPStatus.TOO_MANY_REQUESTS:
                return Contended()
            timed_out = status == HTTPStatus.REQUEST_TIMEOUT or code in _UNKNOWN_ERRORS
            return OutcomeUnknown() if timed_out or status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
        case _:
            return None


def _reasons(error: ClientError) -> Sequence[Any]:
    """Why each action of a cancelled transaction failed, in the request's order; raises where it is our mistake."""
    reasons: Sequence[Any] = error.response.get("CancellationReasons", [])
    expected = _CONTENTION_REASONS | {"None", "ConditionalCheckFailed"}  # "None": nothing was wrong with this action
    if not reasons or any(reason["Code"] not in expected for reason in reasons):
        raise error
    return reasons


def _failed(reason: Any) -> Item | None:
    """The item that failed this action's condition, {} where it was missing; None where the condition did not fail."""
    return reason.get("Item", {}) if reason["Code"] == "ConditionalCheckFailed" else None


def _current(sale: Sale, items: Sequence[Item]) -> list[Shard]:
    """The sale's shards from the table's items. Raises StaleSale where one belongs to a newer generation."""
    stored = [_to_shard(item) for item in items]
    if any(shard.generation > sale.generation for shard in stored):
        raise StaleSale
    return current_shards(sale, stored)


def _sale_key(item_id: int) -> Any:
    return {"pk": {"S": f"item#{item_id}"}}


def _shard_key(item_id: int, index: int) -> Any:
    return {"pk": {"S": f"item#{item_id}#stock#{index:02}"}}


def _purchase_key(purchase_id: str) -> Any:
    return {"pk": {"S": f"purchase#{purchase_id}"}}


def _number(value: int) -> Any:
    return {"N": str(value)}


def _readable[Record](to_record: Callable[[Item], Record], items: Iterable[Item]) -> tuple[list[Record], list[str]]:
    """The records of these items, and what is wrong with those that cannot be read."""
    records, problems = [], []
    for item in items:
        try:
            records.append(to_record(item))
        except UnreadableRecord as error:
            problems.append(str(error))
    return records, problems


def _value(item: Item, name: str, kind: str) -> Any:
    """An attribute's value. Raises UnreadableRecord with the record's key where it is not there or of another type."""
    key = item["pk"]["S"]
    if name not in item:
        raise UnreadableRecord(f"Record {key}: attribute {name} is missing.")
    if kind not in item[name]:
        raise UnreadableRecord(f"Record {key}: attribute {name} is of type {next(iter(item[name]))}, not {kind}.")
    return item[name][kind]


def _text(item: Item, name: str) -> str:
    text: str = _value(item, name, "S")
    return text


def _integer(item: Item, name: str) -> int:
    number = _value(item, name, "N")
    try:
        return int(number)
    except ValueError:
        raise UnreadableRecord(f"Record {item['pk']['S']}: attribute {name} is no whole number.") from None


def _from_sale(sale: Sale) -> Item:
    return {
        **_sale_key(sale.item_id),
        "item_name": {"S": sale.item_name},
        "capacity": _number(sale.capacity),
        "shard_count": _number(sale.shard_count),
        "shards_ever": _number(sale.shards_ever),
        "generation": _number(sale.generation),
        "created_at": {"S": sale.created_at},
        "reset_keys": {
            "L": [
                {"M": {"key": {"S": each.key}, "generation": _number(each.generation), "request": {"S": each.request}}}
                for each in sale.reset_keys
            ]
        },
    }


def _to_sale(item_id: int, item: Item) -> Sale:
    keys = [each["M"] for each in item.get("reset_keys", {"L": []})["L"]]
    return Sale(
        item_id=item_id,
        item_name=_text(item, "item_name"),
        capacity=_integer(item, "capacity"),
        shard_count=_integer(item, "shard_count"),
        shards_ever=_integer(item, "shards_ever"),
        generation=_integer(item, "generation"),
        created_at=_text(item, "created_at"),
        reset_keys=tuple(ResetKey(key["key"]["S"], int(key["generation"]["N"]), key["request"]["S"]) for key in keys),
    )


def _to_shard(item: Item) -> Shard:
    return Shard(
        index=int(item["pk"]["S"].rpartition("#")[2]),
        generation=_integer(item, "generation"),
        capacity=_integer(item, "capacity"),
        stock=_integer(item, "stock"),
        held=_integer(item, "held"),
        sold=_integer(item, "sold"),
        updated_at=_text(item, "updated_at"),
        sold_before=_integer(item, "sold_before") if "sold_before" in item else 0,
    )


def _from_purchase(purchase: Purchase) -> Item:
    item = {
        **_purchase_key(purchase.purchase_id),
        "item_id": _number(purchase.item_id),
        "generation": _number(purchase.generation),
        "quantity": _number(purchase.quantity),
        "status": {"S": purchase.status},
        "taken": {"M": {f"{index:02}": _number(tickets) for index, tickets in purchase.taken.items()}},
        "fingerprint": {"S": purchase.fingerprint},
        "created_at": {"S": purchase.created_at},
    }
    if purchase.buyer_id is not None:
        item["buyer_id"] = {"S": purchase.buyer_id}
    return item


def _to_purchase(item: Item) -> Purchase:
    taken = _value(item, "taken", "M")
    try:
        taken_from = {int(index): int(tickets["N"]) for index, tickets in taken.items()}
    except (ValueError, KeyError):
        raise UnreadableRecord(f"Record {item['pk']['S']}: attribute taken does not map shards to tickets.") from None
    return Purchase(
        purchase_id=item["pk"]["S"].partition("#")[2],
        item_id=_integer(item, "item_id"),
        generation=_integer(item, "generation"),
        buyer_id=_text(item, "buyer_id") if "buyer_id" in item else None,
        quantity=_integer(item, "quantity"),
        status=_text(item, "status"),
        taken=taken_from,
        fingerprint=_text(item, "fingerprint"),
        created_at=_text(item, "created_at"),
    )
