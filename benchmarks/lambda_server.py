"""Lambda functions behind a plain ASGI adapter: a process serves one request at a time, as there.

uvicorn --factory benchmarks.lambda_server:sale
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final
from uuid import uuid4

import boto3

BARE_TABLE: Final = "bare"
BARE_STOCK: Final = "stock"  # the key of its one stock item

type Application = Callable[[Any, Any, Any], Awaitable[None]]
type Handler = Callable[[Mapping[str, Any], Any], Mapping[str, Any]]


def sale() -> Application:
    """Return the function that sells tickets, as it runs on Lambda."""
    from buy_ticket.lambda_function import lambda_handler  # noqa: PLC0415 - connects at import

    return _adapted(lambda_handler)


def bare() -> Application:
    """Return a function that does nothing but the transaction of a purchase.

    boto3's default client, one stock item, no checks, no log: as far as one can go with boto3.
    """
    client = boto3.client("dynamodb")

    def handler(_event: Mapping[str, Any], _context: Any) -> Mapping[str, Any]:
        purchase_id = str(uuid4())
        try:
            client.transact_write_items(
                TransactItems=[
                    {
                        "Update": {
                            "TableName": BARE_TABLE,
                            "Key": {"pk": {"S": BARE_STOCK}},
                            "UpdateExpression": "SET stock = stock - :one",
                            "ConditionExpression": "stock > :zero",
                            "ExpressionAttributeValues": {":one": {"N": "1"}, ":zero": {"N": "0"}},
                        }
                    },
                    {
                        "Put": {
                            "TableName": BARE_TABLE,
                            "Item": {"pk": {"S": purchase_id}, "quantity": {"N": "1"}},
                            "ConditionExpression": "attribute_not_exists(pk)",
                        }
                    },
                ]
            )
        except client.exceptions.TransactionCanceledException:
            return {"statusCode": 409, "body": json.dumps({"detail": "Sold out."})}
        return {"statusCode": 201, "body": json.dumps({"purchase_id": purchase_id})}

    return _adapted(handler)


def _adapted(handler: Handler) -> Application:
    """Return the ASGI application of a Lambda function. It blocks while the function works."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        result = handler(
            _event(scope, await _body(receive)), SimpleNamespace(aws_request_id=str(uuid4()))
        )
        headers = [
            (name.lower().encode(), value.encode())
            for name, values in result.get("multiValueHeaders", {}).items()
            for value in values
        ]
        status = result["statusCode"]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": result["body"].encode()})

    return application


async def _body(receive: Any) -> bytes:
    body, is_complete = b"", False
    while not is_complete:
        message = await receive()
        body += message.get("body", b"")
        is_complete = not message.get("more_body", False)
    return body


def _event(scope: Any, body: bytes) -> Mapping[str, Any]:
    """Return API Gateway's event of a request. Its path is the route: none has a parameter."""
    values: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        values.setdefault(name.decode(), []).append(value.decode())
    path = scope["path"]
    return {
        "resource": path,
        "path": path,
        "httpMethod": scope["method"],
        "headers": {name: found[-1] for name, found in values.items()},
        "multiValueHeaders": values,
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {"requestId": str(uuid4()), "resourcePath": path, "stage": "live"},
        "body": body.decode() or None,
        "isBase64Encoded": False,
    }
