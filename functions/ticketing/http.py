"""HTTP for all functions: requests, responses and problem documents, log line and metrics."""

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import IO, Any, Final, Self

import msgspec
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler.api_gateway import APIGatewayRestResolver, Response
from aws_lambda_powertools.metrics import MetricUnit

from ticketing.errors import (
    Busy,
    GenerationChanged,
    InvalidRequest,
    KeyReusedForReset,
    NotFound,
    Reason,
)
from ticketing.limits import ITEM_ID_MAX, KEY_LENGTH_MAX, KEY_LENGTH_MIN
from ticketing.schemas import KEY_PATTERN, Problem, decode
from ticketing.wiring import Services


class Code(StrEnum):
    """Every problem code, with its status. API Gateway gives some of them as well."""

    status: HTTPStatus

    SOLD_OUT = "sold_out", HTTPStatus.CONFLICT
    NOT_ENOUGH_LEFT = "not_enough_left", HTTPStatus.CONFLICT
    GENERATION_CHANGED = "generation_changed", HTTPStatus.CONFLICT
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused", HTTPStatus.UNPROCESSABLE_ENTITY
    INVALID_REQUEST = "invalid_request", HTTPStatus.UNPROCESSABLE_ENTITY  # 400 where unreadable
    NOT_FOUND = "not_found", HTTPStatus.NOT_FOUND
    FORBIDDEN = "forbidden", HTTPStatus.FORBIDDEN  # API Gateway's own: a signature is missing
    BUSY = "busy", HTTPStatus.SERVICE_UNAVAILABLE
    INTERNAL_ERROR = "internal_error", HTTPStatus.INTERNAL_SERVER_ERROR

    def __new__(cls, code: str, status: HTTPStatus) -> Self:
        """Return the code, with its status."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.status = status
        return member


REPLAYED: Final[Mapping[str, str]] = {
    "Idempotent-Replayed": "true"
}  # an earlier request with this key took effect
BUSY: Final[Mapping[Reason, str]] = {
    Reason.CONTENTION: "Too many requests for the same tickets at once. Nothing was carried out.",
    Reason.STORE_UNAVAILABLE: (
        "The store cannot be reached, or did not respond. Nothing was carried out."
    ),
    Reason.IN_DOUBT: "The store did not respond.",
}

# The query parameters of each route that has any.
QUERIES: Final[Mapping[str, frozenset[str]]] = {
    "/inventory": frozenset({"item_id"}),
    "/audit/{item_id}": frozenset({"cursor"}),
}


@dataclass(slots=True)
class Request:
    """One request from API Gateway, and what is recorded of it.

    request_id: API Gateway's id, which is in the header x-amzn-RequestId and in the access log.
    log: fields of its log line. metrics: what it adds to CloudWatch's metrics.
    """

    event: Mapping[str, Any]
    request_id: str
    log: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, value: int = 1) -> None:
        """Add to a metric. Zero adds nothing."""
        if value:
            self.metrics[name] = self.metrics.get(name, 0) + value

    def body[T](self, shape: type[T]) -> T:
        """Return the JSON body as a `shape`. Raises InvalidRequest."""
        text = self.event.get("body") or ""
        try:
            body = (
                base64.b64decode(text, validate=True)
                if self.event.get("isBase64Encoded")
                else text.encode()
            )
        except (binascii.Error, ValueError) as error:  # ValueError: a lone surrogate
            raise InvalidRequest(
                "The body is not valid UTF-8 or base64.", field="body", status=400
            ) from error
        return decode(body, shape)

    def header(self, name: str) -> str | None:
        """Return the header's value; None without one. Raises InvalidRequest for two."""
        values = _values(self.event, "multiValueHeaders", "headers", name.lower())
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

    def path_parameter(self, name: str) -> str:
        """Return the route's parameter, as it was sent."""
        value: str = self.event["pathParameters"][name]
        return value

    def query(self, name: str) -> str | None:
        """Return the query parameter's value; None without one. Raises InvalidRequest for two."""
        values = _values(
            self.event, "multiValueQueryStringParameters", "queryStringParameters", name
        )
        if len(values) > 1:
            raise InvalidRequest(f"{name} was given {len(values)} times. Give it once.", field=name)
        return values[0] if values else None

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


def to_item_id(text: str) -> int:
    """Return the item id in a path or a query. Raises InvalidRequest."""
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise InvalidRequest(
            f"An item_id is a whole number from 1 to {ITEM_ID_MAX}.", field="item_id"
        )
    return int(text)


def json_response(
    body: Any, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response[str]:
    """Return a JSON response with one of the `schemas`; not cacheable unless headers say so."""
    return Response(
        status_code=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
        body=msgspec.json.encode(body).decode(),
    )


def cacheable_response(request: Request, body: Any, seconds: int) -> Response[str]:
    """Return a JSON response that caches may keep; 304 where the caller has it already."""
    content = msgspec.json.encode(body)
    headers = {
        "Cache-Control": f"public, max-age={seconds}",
        "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    }
    known = {
        tag.strip().removeprefix("W/") for tag in (request.header("If-None-Match") or "").split(",")
    }
    if known & {headers["ETag"], "*"}:
        return Response(HTTPStatus.NOT_MODIFIED, "application/json", "", headers)
    return Response(HTTPStatus.OK, "application/json", content.decode(), headers)


def problem_response(
    request: Request,
    code: Code,
    detail: str,
    *,
    status: int | None = None,
    field: str | None = None,
    left: int | None = None,
    purchase_id: str | None = None,
    retry_after_seconds: int | None = None,
    reason: str | None = None,
) -> Response[str]:
    """Return a problem document (RFC 9457)."""
    status = status or code.status
    request.log.setdefault("outcome", code)
    document = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        request_id=request.request_id,
        field=field,
        left=left,
        purchase_id=purchase_id,
        reason=reason,
    )
    headers = {"Cache-Control": "no-store"}
    if retry_after_seconds is not None:
        headers["Retry-After"] = str(retry_after_seconds)
    return Response(
        status, "application/problem+json", msgspec.json.encode(document).decode(), headers
    )


type Handler = Callable[[Request, Services], Response[str]]


def create_logger(service: str | None = None, stream: IO[str] | None = None) -> Logger:
    """Return the logger of a function. Every line has its route, and one traceback, already.

    service: by default POWERTOOLS_SERVICE_NAME. stream: by default the standard output.
    """
    return Logger(service=service, stream=stream, location=None, serialize_stacktrace=False)


class Function:
    """A Lambda function: its routes on the use cases of its process. Call it as Lambda does.

    routes: "GET /inventory" → handler. One call at a time: Powertools' resolver, logger and metrics
    are not made for more.
    """

    def __init__(
        self,
        routes: Mapping[str, Handler],
        services: Services,
        logger: Logger | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._services = services
        self._logger = logger or create_logger()
        self._metrics = metrics or Metrics()
        self._resolver = APIGatewayRestResolver()
        self._resolver.not_found(_unknown_route)
        for route, handler in routes.items():
            method, path = route.split()
            self._resolver.route(path, method)(self._bind(handler))

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Handle one request of API Gateway, and write its log line and metrics. Never raises."""
        started = time.perf_counter()
        lambda_request_id = getattr(context, "aws_request_id", "")
        gateway_request_id = (event.get("requestContext") or {}).get("requestId")
        request = Request(event, gateway_request_id or lambda_request_id)
        bug = None
        try:
            result = self._resolve(request, context)
        except Exception as error:
            # An exception that leaves the handler ends the process and shows its text to the
            # caller.
            problem = _to_problem(request, error)
            bug = error if problem is None or _hides_a_fault(error) else None
            result = _to_result(problem or _internal_error(request))
        request.log |= {
            "route": f"{event.get('httpMethod')} {event.get('resource')}",
            "status": result["statusCode"],
            "request_id": request.request_id,
            "lambda_request_id": lambda_request_id,
            "duration_ms": round((time.perf_counter() - started) * 1000, 2),
        }
        report = self._logger.error if bug else self._logger.info
        report("request", extra={"outcome": "ok"} | request.log, exc_info=bug)
        self._write_metrics(request)
        return result

    def _resolve(self, request: Request, context: Any) -> dict[str, Any]:
        event = request.event
        resource = event.get("resource") or ""
        # Powertools leaves it untyped.
        self._resolver.append_context(request=request)  # type: ignore[no-untyped-call]
        request.refuse_unknown_query(QUERIES.get(resource, frozenset()))
        # Routed by resource: `path` may begin with a base path, and holds what the caller sent.
        path = resource or event.get("path") or ""
        result: dict[str, Any] = self._resolver.resolve({**event, "path": path}, context)
        return result

    def _bind(self, handler: Handler) -> Callable[[], Response[str]]:
        def call() -> Response[str]:
            return handler(self._resolver.context["request"], self._services)

        return call

    def _write_metrics(self, request: Request) -> None:
        for name, value in request.metrics.items():
            self._metrics.add_metric(name, MetricUnit.Count, value)
        if request.metrics:
            self._metrics.flush_metrics()


def _unknown_route(_: Exception) -> Response[str]:
    raise NotFound("There is no such route. GET / lists the routes.")


def _to_problem(request: Request, error: Exception) -> Response[str] | None:
    match error:
        case InvalidRequest():
            return problem_response(
                request, Code.INVALID_REQUEST, error.detail, status=error.status, field=error.field
            )
        case NotFound():
            return problem_response(request, Code.NOT_FOUND, error.detail)
        case GenerationChanged():
            return problem_response(request, Code.GENERATION_CHANGED, error.detail)
        case KeyReusedForReset():
            detail = "This Idempotency-Key belongs to another reset. Send a fresh key."
            return problem_response(
                request, Code.IDEMPOTENCY_KEY_REUSED, detail, field="Idempotency-Key"
            )
        case Busy():
            request.count("Busy")
            return problem_response(
                request,
                Code.BUSY,
                f"{BUSY[error.reason]} {error.remedy}",
                purchase_id=error.purchase_id,
                retry_after_seconds=error.retry_after_seconds,
                reason=error.reason,
            )
        case _:
            return None


def _hides_a_fault(error: Exception) -> bool:
    """Return whether a "busy" has a cause that an operator should see: an outage or a bug."""
    return (
        isinstance(error, Busy)
        and error.reason is not Reason.CONTENTION
        and error.__cause__ is not None
    )


def _internal_error(request: Request) -> Response[str]:
    detail = "This is a bug of the service. The operator finds it in the log by the request_id."
    return problem_response(request, Code.INTERNAL_ERROR, detail)


def _to_result(response: Response[str]) -> dict[str, Any]:
    headers = {
        "Content-Type": [response.content_type],
        **{name: [str(v)] for name, v in response.headers.items()},
    }
    return {
        "statusCode": response.status_code,
        "body": response.body,
        "isBase64Encoded": False,
        "multiValueHeaders": headers,
    }


def _values(event: Mapping[str, Any], many: str, one: str, name: str) -> list[str]:
    """Return all values of a header or a query parameter; names in any case.

    API Gateway passes both in two shapes.
    """
    found = [
        value
        for key, values in (event.get(many) or {}).items()
        if key.lower() == name
        for value in values
    ]
    return found or [value for key, value in (event.get(one) or {}).items() if key.lower() == name]
