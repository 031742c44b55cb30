"""One request from API Gateway, and the reply of a handler."""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from copy import replace
from http import HTTPStatus
from typing import Any, Final, Self
from uuid import UUID

import msgspec
from msgspec import Struct, field

from ticketing.api.schemas import KEY_PATTERN, decode
from ticketing.errors import InvalidRequest
from ticketing.limits import ITEM_ID_MAX, KEY_LENGTH_MAX, KEY_LENGTH_MIN
from ticketing.retry import Statistics

JSON: Final = "application/json"
# An earlier request with this key took effect.
REPLAYED_HEADER: Final = "Idempotent-Replayed"
REPLAYED: Final[Mapping[str, str]] = {REPLAYED_HEADER: "true"}


class Reply(Struct, frozen=True):
    """What a handler answers.

    body: one of the `schemas`, or the text itself. headers: not cacheable unless they say so.
    outcome: for the log line. metrics: what it adds to CloudWatch's metrics; zero adds nothing.
    """

    body: Struct | str
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = {}
    media_type: str = JSON
    outcome: str = "ok"
    metrics: Mapping[str, int] = {}

    @property
    def text(self) -> str:
        """Return the body as it is sent."""
        return self.body if isinstance(self.body, str) else msgspec.json.encode(self.body).decode()

    @property
    def all_headers(self) -> dict[str, str]:
        """Return the headers as they are sent."""
        return {"Content-Type": self.media_type, "Cache-Control": "no-store", **self.headers}


class Request(Struct, frozen=True):
    """One request.

    request_id: API Gateway's id, which is in the header x-amzn-RequestId and in the access log.
    lambda_request_id: Lambda's. statistics: what the use case did, for the log.
    """

    event: Mapping[str, Any]
    request_id: str
    lambda_request_id: str
    statistics: Statistics = field(default_factory=Statistics)

    @classmethod
    def of(cls, event: Mapping[str, Any], context: Any) -> Self:
        """Return the request of an event and Lambda's context."""
        lambda_request_id = getattr(context, "aws_request_id", "")
        request_id = (event.get("requestContext") or {}).get("requestId")
        return cls(event, request_id or lambda_request_id, lambda_request_id)

    @property
    def route(self) -> str:
        """Return method and resource: "GET /inventory". It names no caller, unlike the path."""
        return f"{self.event.get('httpMethod')} {self.event.get('resource')}"

    def body[T](self, shape: type[T]) -> T:
        """Return the JSON body as a `shape`. Raises InvalidRequest."""
        content = self.event.get("body") or ""
        try:
            body = (
                base64.b64decode(content, validate=True)
                if self.event.get("isBase64Encoded")
                else content.encode()
            )
        except (binascii.Error, ValueError) as error:  # ValueError: a lone surrogate
            raise InvalidRequest(
                "The body is not valid UTF-8 or base64.", field="body", status=400
            ) from error
        return decode(body, shape)

    def header(self, name: str) -> str | None:
        """Return the header's value; None without one. Raises InvalidRequest for two."""
        values = self._values("multiValueHeaders", "headers", name.lower())
        if len(values) > 1:
            raise InvalidRequest(
                f"{name} was sent {len(values)} times. Send it once.", field=name, status=400
            )
        return values[0] if values else None

    def idempotency_key(self) -> str | None:
        """Return the idempotency key; None without one. Raises InvalidRequest."""
        key = self.header("Idempotency-Key")
        if key is not None and not re.search(KEY_PATTERN, key):
            raise InvalidRequest(
                f"An Idempotency-Key has {KEY_LENGTH_MIN} to {KEY_LENGTH_MAX} "
                "visible ASCII characters. Send a fresh UUID.",
                field="Idempotency-Key",
                status=400,
            )
        return key

    def buyer_id(self, named: str | None) -> str | None:
        """Return the buyer: who has signed in where API Gateway demands it, otherwise as named.

        named: by the body. Raises InvalidRequest where it names another one.
        """
        authorizer = (self.event.get("requestContext") or {}).get("authorizer") or {}
        if "claims" not in authorizer:
            return named
        signed_in: str = authorizer["claims"]["sub"]
        if named not in {None, signed_in}:
            raise InvalidRequest(
                "This is not the id of the buyer who has signed in. Leave it out.", field="buyer_id"
            )
        return signed_in

    def uuid(self, name: str) -> str:
        """Return the route's parameter, an id as the table has it. Raises InvalidRequest."""
        try:
            return str(UUID(self.path_parameter(name)))
        except ValueError as error:
            raise InvalidRequest(
                f"A {name} is a UUID. Send the one that the service has answered.", field=name
            ) from error

    def path_parameter(self, name: str) -> str:
        """Return the route's parameter, as it was sent."""
        value: str = self.event["pathParameters"][name]
        return value

    def query(self, name: str) -> str | None:
        """Return the query parameter's value; None without one. Raises InvalidRequest for two."""
        values = self._values("multiValueQueryStringParameters", "queryStringParameters", name)
        if len(values) > 1:
            raise InvalidRequest(f"{name} was given {len(values)} times. Give it once.", field=name)
        return values[0] if values else None

    def number(self, name: str, least: int, most: int) -> int | None:
        """Return the query parameter's whole number; None without one. Raises InvalidRequest."""
        value = self.query(name)
        return None if value is None else _whole_number(value, name, least, most)

    def flag(self, name: str) -> bool:
        """Return whether the query parameter says "true"; no without one. Raises InvalidRequest."""
        value = self.query(name)
        if value not in {None, "true", "false"}:
            raise InvalidRequest("It must be true or false.", field=name)
        return value == "true"

    def refuse_unknown_query(self, known: frozenset[str]) -> None:
        """Raise InvalidRequest for a query parameter that the route does not have."""
        given = (
            self.event.get("multiValueQueryStringParameters")
            or self.event.get("queryStringParameters")
            or {}
        )
        for name in given:
            if name not in known:
                raise InvalidRequest("There is no such query parameter. Leave it out.", field=name)

    def _values(self, many: str, one: str, name: str) -> list[str]:
        """Return all values of a header or a query parameter; names in any case.

        API Gateway passes both in two shapes.
        """
        found = [
            value
            for key, values in (self.event.get(many) or {}).items()
            if key.lower() == name
            for value in values
        ]
        return found or [
            value for key, value in (self.event.get(one) or {}).items() if key.lower() == name
        ]


def replay(body: Struct) -> Reply:
    """Return the reply to a buyer's request that took effect before."""
    return Reply(body, headers=REPLAYED, outcome="replayed", metrics={"Replays": 1})


def to_item_id(text: str) -> int:
    """Return the item id in a path or a query. Raises InvalidRequest."""
    return _whole_number(text, "item_id", 1, ITEM_ID_MAX)


def _whole_number(text: str, field: str, least: int, most: int) -> int:
    if not re.fullmatch("0|[1-9][0-9]{0,18}", text) or not least <= int(text) <= most:
        raise InvalidRequest(f"It must be a whole number from {least} to {most}.", field=field)
    return int(text)


def cacheable(request: Request, reply: Reply, seconds: int) -> Reply:
    """Return a reply that caches may keep; 304 where the caller has it already."""
    content = reply.text
    headers = {
        **reply.headers,
        "Cache-Control": f"public, max-age={seconds}",
        "ETag": f'"{hashlib.sha256(content.encode()).hexdigest()[:32]}"',
    }
    known = {
        tag.strip().removeprefix("W/") for tag in (request.header("If-None-Match") or "").split(",")
    }
    if known & {headers["ETag"], "*"}:
        return Reply("", HTTPStatus.NOT_MODIFIED, headers)
    return replace(reply, body=content, headers=headers)
