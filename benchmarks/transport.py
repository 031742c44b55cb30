"""A transport that answers each call of a boto3 client at once, as DynamoDB would."""

import json
from collections.abc import Mapping
from copy import replace
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, Final
from zlib import crc32

from botocore.awsrequest import AWSResponse

from benchmarks.process import TABLE_NAME
from ticketing.limits import HOLD_SECONDS_DEFAULT
from ticketing.model import Sale, Shard
from ticketing.store.items import SALE, SHARD, Item, sale_key, shard_key

ITEM: Final = 1
SHARDS: Final = 16
SALE_RECORD: Final = Sale(
    ITEM,
    "Item A - Concert Ticket",
    capacity=1_000_000,  # more than a benchmark buys
    shard_count=SHARDS,
    shards_ever=SHARDS,
    generation=1,
    created_at="2026-01-14T12:30:27.000000+00:00",
    hold_seconds=HOLD_SECONDS_DEFAULT,
)
_SHARDS: Final = [Shard.fresh(SALE_RECORD, index) for index in range(SHARDS)]

# Kinds of records that have answers of their own.
_KINDS: Final = ("purchase", "summary")

type Answer = tuple[HTTPStatus, Any]


class Transport:
    """Answers calls, and counts them. It stands where botocore hands requests to its HTTP session.

    answers: the call's name → its answer; "GetItem purchase" for the record of a purchase, and
    "GetItem summary" for a stock summary.
    """

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._answers = {
            call: (status.value, json.dumps(body).encode())
            for call, (status, body) in answers.items()
        }
        self.calls = 0

    def attach(self, client: Any) -> Any:
        """Return the client, which reaches no network any more."""
        client.meta.events.register_first("before-send.dynamodb", self._answer)
        return client

    def _answer(self, request: Any, event_name: str, **_: Any) -> AWSResponse:
        call = event_name.rpartition(".")[2]
        self.calls += 1
        if call == "GetItem":
            call += next((f" {kind}" for kind in _KINDS if f"{kind}#".encode() in request.body), "")
        status, body = self._answers[call]
        headers: Any = {
            "server": "Server",
            "date": "Wed, 14 Jan 2026 12:30:27 GMT",
            "content-type": "application/x-amz-json-1.0",
            "content-length": str(len(body)),
            "connection": "keep-alive",
            "x-amzn-requestid": "B7MO5M2HJAQGIG4O9R9HJ8VQ2RVV4KQNSO5AEMVJF66Q9ASUAAJG",
            "x-amz-crc32": str(crc32(body)),
        }
        content: Any = SimpleNamespace(stream=lambda: [body])
        return AWSResponse(request.url, status, headers, content)


def selling(record: Item | None = None) -> dict[str, Answer]:
    """Return the answers while tickets are left. record: of the purchase that is looked up."""
    shards = [SHARD.to_item(shard_key(ITEM, index), shard) for index, shard in enumerate(_SHARDS)]
    read = {"Responses": {TABLE_NAME: shards}, "UnprocessedKeys": {}}
    return {
        "BatchGetItem": (HTTPStatus.OK, read),
        "TransactWriteItems": (HTTPStatus.OK, {}),
        "GetItem": (HTTPStatus.OK, {"Item": SALE.to_item(sale_key(ITEM), SALE_RECORD)}),
        "GetItem purchase": (HTTPStatus.OK, {"Item": record} if record else {}),
    }


def replaying(record: Item) -> dict[str, Answer]:
    """Return the answers where the key has bought: `record`."""
    reasons = [{"Code": "None"}, {"Code": "ConditionalCheckFailed", "Item": record}]
    error = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"
    cancelled = {"__type": error, "CancellationReasons": reasons}
    return selling() | {"TransactWriteItems": (HTTPStatus.BAD_REQUEST, cancelled)}


def sold_out() -> dict[str, Answer]:
    """Return the answers for a sale without a ticket."""
    sale = replace(SALE_RECORD, capacity=0)
    shards = [
        {"Item": SHARD.to_item(shard_key(ITEM, index), Shard.fresh(sale, index))}
        for index in range(SHARDS)
    ]
    return {
        "GetItem": (HTTPStatus.OK, {"Item": SALE.to_item(sale_key(ITEM), sale)}),
        "GetItem purchase": (HTTPStatus.OK, {}),
        "GetItem summary": (HTTPStatus.OK, {}),
        "PutItem": (HTTPStatus.OK, {}),
        "TransactGetItems": (HTTPStatus.OK, {"Responses": shards}),
    }
