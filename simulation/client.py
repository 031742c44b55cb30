"""A client with the methods and the exceptions of boto3's, in front of the model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from types import MappingProxyType
from typing import Any, Final

import botocore.session
from botocore.errorfactory import ClientExceptionsFactory

OPERATIONS: Final = MappingProxyType(
    {
        "batch_get_item": "BatchGetItem",
        "batch_write_item": "BatchWriteItem",
        "create_table": "CreateTable",
        "delete_item": "DeleteItem",
        "delete_table": "DeleteTable",
        "get_item": "GetItem",
        "put_item": "PutItem",
        "scan": "Scan",
        "transact_get_items": "TransactGetItems",
        "transact_write_items": "TransactWriteItems",
        "update_item": "UpdateItem",
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error answer: DynamoDB's code, message, HTTP status, and what else the response has."""

    code: str
    message: str
    more: Mapping[str, Any] = field(default_factory=dict)
    status: int = 400


@cache
def exceptions() -> Any:
    """Return botocore's own exception classes of DynamoDB."""
    service = botocore.session.get_session().get_service_model("dynamodb")
    return ClientExceptionsFactory().create_client_exceptions(service)


class Client:
    """Has the methods of a boto3 DynamoDB client that the model knows, with keyword arguments.

    send: carries out one call; returns the answer or a Failure. What the client returns belongs to
    the store: do not change it.
    """

    def __init__(self, send: Callable[[str, Mapping[str, Any]], Any]) -> None:
        self._send = send

    @property
    def exceptions(self) -> Any:
        """Return the exception classes, as a boto3 client has them."""
        return exceptions()

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method not in OPERATIONS:
            raise AttributeError(f"the model of DynamoDB does not know {method}")
        return partial(self._call, OPERATIONS[method])

    def _call(self, operation: str, **request: Any) -> Any:
        answer = self._send(operation, request)
        if isinstance(answer, Failure):
            response = {
                "Error": {"Code": answer.code, "Message": answer.message},
                "ResponseMetadata": {"HTTPStatusCode": answer.status},
                **answer.more,
            }
            raise exceptions().from_code(answer.code)(response, operation)
        return answer
