"""The table: all keys and expressions, and the meaning of DynamoDB's answers.

No other module calls DynamoDB, and each method of `Store` is one call. It raises DeadlineExceeded
where the request's time is over, and StoreError where the call may be tried again. A bug (a
malformed expression, a missing permission) is raised as botocore raised it. A record that this
software did not write raises UnreadableRecord.
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

from ticketing.errors import (
    Contended,
    OutcomeUnknown,
    StaleGeneration,
    StoreError,
    Unreachable,
    UnreadableRecord,
)
from ticketing.limits import CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS
from ticketing.model import Purchase, ResetKey, Sale, Shard
from ticketing.retry import Deadline
from ticketing.rules import current_shards

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

type Item = Mapping[
    str, Any
]  # an item of DynamoDB's low-level API: attribute → {"S": …} or {"N": …}

# The clauses of the condition expressions, each with what it prevents.
_SAME_GENERATION: Final = "generation = :generation"  # a purchase that was planned before a reset
_SOMETHING_LEFT: Final = "stock > :zero"  # an oversell
_ENOUGH_LEFT: Final = "stock >= :quantity"  # an oversell by a purchase of several tickets
# A key that buys twice; a sale that is started twice.
_NOT_THERE: Final = "attribute_not_exists(pk)"
# A shard that opens twice in one generation, or for an older one.
_OLDER: Final = "generation < :generation"

# Cancellation reasons that allow another attempt (TransactWriteItems, API reference).
_CONTENTION_REASONS: Final = {
    "TransactionConflict",
    "ThrottlingError",
    "ProvisionedThroughputExceeded",
}
# Errors of a whole call that was refused before anything was written.
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
# Errors after which the call may have been carried out, as after every status of 500 and above.
_UNKNOWN_ERRORS: Final = {
    "RequestTimeout",
    "RequestTimeoutException",
    "TransactionInProgressException",
}


def connect() -> "DynamoDBClient":
    """Return a DynamoDB client with settings for a sale; the SDK's defaults suit batch jobs.

    One attempt per call. The domain retries better: on another shard, within the request's budget.
    And a retry inside the SDK hides what happened: a lost reply followed by a throttle looks as if
    nothing was written. No call takes longer than limits.STORE_CALL_SECONDS_MAX.
    """
    return boto3.client(
        "dynamodb",
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            tcp_keepalive=True,
        ),
    )


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Why a purchase's transaction was cancelled. Nothing was written.

    record: the record that already has this purchase id. shards: the shards whose condition failed,
    as they were found; None for a shard that was never opened. contended: a conflict or a throttle
    stopped at least one action. contended_shards: the shards of these actions.
    """

    record: Purchase | None
    shards: Mapping[int, Shard | None]
    contended: bool
    contended_shards: frozenset[int]


@dataclass(frozen=True, slots=True)
class Page:
    """One page of purchase records.

    problems: what is wrong with records that cannot be read. end: where the next page starts; None
    after the last.
    """

    purchases: Sequence[Purchase]
    problems: Sequence[str]
    end: str | None


@dataclass(frozen=True, slots=True)
class Table:
    """The table `name` of a boto3 DynamoDB client. It makes no call without a deadline."""

    client: "DynamoDBClient"
    name: str

    def within(self, deadline: Deadline) -> "Store":
        """Return the store for one request."""
        return Store(self, deadline)


class Store:
    """The table's calls within one request. After its deadline no call starts."""

    def __init__(self, table: Table, deadline: Deadline) -> None:
        self._client = table.client
        self._table = table.name
        self._deadline = deadline

    def read_sale(self, item_id: int) -> Sale | None:
        """Return the item's sale as it is now; None where there is none."""
        item = self._get(_sale_key(item_id))
        return _to_sale(item_id, item) if item else None

    def read_purchase(self, purchase_id: str) -> Purchase | None:
        """Return the record of a purchase; None where there is none."""
        item = self._get(_purchase_key(purchase_id))
        return _to_purchase(item) if item else None

    def read_shards(self, sale: Sale) -> list[Shard]:
        """Return the sale's shards, each as it is now, but not of one instant.

        Never conflicts with a transaction.
        """
        return _current(sale, self._read_shards(sale.item_id, sale.shard_count))

    def read_stored_shards(self, sale: Sale) -> tuple[list[Shard], list[str]]:
        """Return all stored shards of the item, and what is wrong with those that cannot be read.

        Shards of every generation, as they are in the table. A shard that was never opened is
        missing.
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
        """Return the sale's shards as of one instant. Conflicts with purchases in flight."""
        gets: Any = [
            {"Get": {"TableName": self._table, "Key": _shard_key(sale.item_id, index)}}
            for index in range(sale.shard_count)
        ]
        try:
            answer = self._call(self._client.transact_get_items, TransactItems=gets)
        except ClientError as error:
            _reasons(error)  # raises unless contention is the only reason
            raise Contended from error
        return _current(
            sale, [response["Item"] for response in answer["Responses"] if "Item" in response]
        )

    def sell(self, sale: Sale, purchase: Purchase) -> Cancellation | None:
        """Take the purchase's tickets from its shards and put its record, in one transaction.

        Returns None when it is done, otherwise why it was cancelled.
        """
        indexes = list(purchase.taken)
        actions: Any = [self._take(sale, purchase, index) for index in indexes]
        actions.append({"Put": self._put(_from_purchase(purchase), _NOT_THERE)})
        try:
            self._call(self._client.transact_write_items, TransactItems=actions)
        except ClientError as error:
            *shard_reasons, record_reason = _reasons(error)
            reasons = dict(zip(indexes, shard_reasons, strict=True))
            record = _failed(record_reason)
            contended_shards = frozenset(
                i for i, reason in reasons.items() if reason["Code"] in _CONTENTION_REASONS
            )
            return Cancellation(
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
        """Put the sale's record, if it is the next generation. False: another reset was first.

        Shards open from this record.
        """
        put = self._put(_from_sale(sale), f"{_NOT_THERE} OR {_OLDER}")
        values = {":generation": _number(sale.generation)}
        try:
            self._call(self._client.put_item, **put, ExpressionAttributeValues=values)
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def open_shard(self, sale: Sale, index: int) -> bool:
        """Open a shard with its share for the sale's generation, once. False: it was open.

        This also closes the shard to all older generations, whose purchases demand theirs. A shard
        is never deleted, because an old generation could open a missing one again.
        """
        update: Any = {
            "TableName": self._table,
            "Key": _shard_key(sale.item_id, index),
            "UpdateExpression": (
                "SET generation = :generation, #capacity = :share, stock = :share, "
                "held = :zero, sold = :zero, updated_at = :created_at, "
                "sold_before = if_not_exists(sold_before, :zero) + if_not_exists(sold, :zero)"
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

    def read_purchases(self, item_id: int, start: str | None) -> Page:
        """Return a page of an item's purchase records, of every generation, by a consistent scan.

        start: the `end` of the page before. A record without a readable item_id is counted for
        every item.
        """
        request: Any = {
            "TableName": self._table,
            "ConsistentRead": True,
            "FilterExpression": (
                "begins_with(pk, :purchase) AND "
                "(item_id = :item_id OR NOT attribute_type(item_id, :number))"
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
        self,
        operation: Callable[Parameters, Answer],
        *args: Parameters.args,
        **request: Parameters.kwargs,
    ) -> Answer:
        """Make one call of DynamoDB; every call passes here.

        Raises DeadlineExceeded, StoreError, or the error that botocore raised.
        """
        self._deadline.check()
        try:
            return operation(*args, **request)
        except (exceptions.BotoCoreError, ClientError, ResponseParserError) as error:
            if translated := _translated(error):
                raise translated from error
            raise

    def _get(self, key: Any) -> Item | None:
        return self._call(
            self._client.get_item, TableName=self._table, Key=key, ConsistentRead=True
        ).get("Item")

    def _take(self, sale: Sale, purchase: Purchase, index: int) -> Any:
        quantity = purchase.taken[index]
        clauses = [_SAME_GENERATION, _SOMETHING_LEFT] + [_ENOUGH_LEFT] * (quantity > 1)
        return {
            "Update": {
                "TableName": self._table,
                "Key": _shard_key(sale.item_id, index),
                "UpdateExpression": (
                    "SET stock = stock - :quantity, sold = sold + :quantity, updated_at = :now"
                ),
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


def _translated(error: Exception) -> StoreError | None:
    """Return the StoreError for a failed call that may be tried again; None for a bug."""
    match error:
        case exceptions.EndpointConnectionError() | exceptions.ConnectTimeoutError():
            return Unreachable()
        case exceptions.ProxyConnectionError() | exceptions.CredentialRetrievalError():
            return Unreachable()
        case exceptions.ConnectionError() | exceptions.HTTPClientError() | ResponseParserError():
            return OutcomeUnknown()
        case ClientError():
            code, status = (
                error.response["Error"]["Code"],
                error.response["ResponseMetadata"]["HTTPStatusCode"],
            )
            if code in _CONTENTION_ERRORS or status == HTTPStatus.TOO_MANY_REQUESTS:
                return Contended()
            timed_out = status == HTTPStatus.REQUEST_TIMEOUT or code in _UNKNOWN_ERRORS
            return (
                OutcomeUnknown()
                if timed_out or status >= HTTPStatus.INTERNAL_SERVER_ERROR
                else None
            )
        case _:
            return None


def _reasons(error: ClientError) -> Sequence[Any]:
    """Return why each action of a cancelled transaction failed, in the request's order.

    Raises the error itself where one reason is a bug.
    """
    reasons: Sequence[Any] = error.response.get("CancellationReasons", [])
    expected = _CONTENTION_REASONS | {
        "None",
        "ConditionalCheckFailed",
    }  # "None": this action was in order
    if not reasons or any(reason["Code"] not in expected for reason in reasons):
        raise error
    return reasons


def _failed(reason: Any) -> Item | None:
    """Return the item that failed the action's condition; {} where it was missing.

    None where the condition did not fail.
    """
    return reason.get("Item", {}) if reason["Code"] == "ConditionalCheckFailed" else None


def _current(sale: Sale, items: Sequence[Item]) -> list[Shard]:
    """Return the sale's shards. Raises StaleGeneration where one has a newer generation."""
    stored = [_to_shard(item) for item in items]
    if any(shard.generation > sale.generation for shard in stored):
        raise StaleGeneration
    return current_shards(sale, stored)


def _sale_key(item_id: int) -> Any:
    return {"pk": {"S": f"item#{item_id}"}}


def _shard_key(item_id: int, index: int) -> Any:
    return {"pk": {"S": f"item#{item_id}#stock#{index:02}"}}


def _purchase_key(purchase_id: str) -> Any:
    return {"pk": {"S": f"purchase#{purchase_id}"}}


def _number(value: int) -> Any:
    return {"N": str(value)}


def _readable[Record](
    to_record: Callable[[Item], Record], items: Iterable[Item]
) -> tuple[list[Record], list[str]]:
    """Return the records of these items, and what is wrong with those that cannot be read."""
    records, problems = [], []
    for item in items:
        try:
            records.append(to_record(item))
        except UnreadableRecord as error:
            problems.append(str(error))
    return records, problems


def _value(item: Item, name: str, kind: str) -> Any:
    """Return an attribute's value.

    Raises UnreadableRecord, with the record's key, where it is missing or of another type.
    """
    key = item["pk"]["S"]
    if name not in item:
        raise UnreadableRecord(f"Record {key}: attribute {name} is missing.")
    if kind not in item[name]:
        raise UnreadableRecord(
            f"Record {key}: attribute {name} is of type {next(iter(item[name]))}, not {kind}."
        )
    return item[name][kind]


def _text(item: Item, name: str) -> str:
    text: str = _value(item, name, "S")
    return text


def _integer(item: Item, name: str) -> int:
    number = _value(item, name, "N")
    try:
        return int(number)
    except ValueError:
        raise UnreadableRecord(
            f"Record {item['pk']['S']}: attribute {name} is not a whole number."
        ) from None


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
                {
                    "M": {
                        "key": {"S": each.key},
                        "generation": _number(each.generation),
                        "request": {"S": each.request},
                    }
                }
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
        reset_keys=tuple(
            ResetKey(key["key"]["S"], int(key["generation"]["N"]), key["request"]["S"])
            for key in keys
        ),
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
        "taken": {
            "M": {f"{index:02}": _number(tickets) for index, tickets in purchase.taken.items()}
        },
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
        raise UnreadableRecord(
            f"Record {item['pk']['S']}: attribute taken does not map shards to tickets."
        ) from None
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
