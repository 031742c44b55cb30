"""HTTP for all functions: requests in, answers and problem documents out, one log line and the metrics for each."""

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler.api_gateway import APIGatewayRestResolver, Response
from aws_lambda_powertools.metrics import MetricUnit

from ticketing.errors import Busy, GenerationChanged, InvalidRequest, KeyReusedForReset, NotFound, Reason
from ticketing.rules import MAX_ITEM_ID
from ticketing.schemas import KEY_PATTERN, Problem, decode

# Every code that an answer may carry, with its status.
PROBLEMS: Final[Mapping[str, HTTPStatus]] = {
    "sold_out": HTTPStatus.CONFLICT,
    "not_enough_left": HTTPStatus.CONFLICT,
    "generation_changed": HTTPStatus.CONFLICT,
    "idempotency_key_reused": HTTPStatus.UNPROCESSABLE_ENTITY,
    "invalid_request": HTTPStatus.UNPROCESSABLE_ENTITY,  # 400 where it could not be read at all
    "not_found": HTTPStatus.NOT_FOUND,
    "forbidden": HTTPStatus.FORBIDDEN,  # the gateway's own (template.yaml): no signature where one is demanded
    "busy": HTTPStatus.SERVICE_UNAVAILABLE,
    "internal_error": HTTPStatus.INTERNAL_SERVER_ERROR,
}

REPLAYED: Final[Mapping[str, str]] = {"Idempotent-Replayed": "true"}  # an earlier request with this key did it
BUSY: Final[Mapping[Reason, str]] = {
    Reason.CONTENTION: "Too many requests for the same tickets at once. Nothing was carried out.",
    Reason.STORE_UNAVAILABLE: "The store cannot be reached, or did not respond. Nothing was carried out.",
    Reason.IN_DOUBT: "The store did not respond.",
}

# The query parameters of each route that has some.
QUERIES: Final[Mapping[str, frozenset[str]]] = {
    "/inventory": frozenset({"item_id"}),
    "/audit/{item_id}": frozenset({"cursor"}),
}

logger = Logger(location=None, serialize_stacktrace=False)  # what both would add stands in every line already
metrics = Metrics()


@dataclass(slots=True)
class Request:
    """One request as API Gateway hands it over, and what its log line will say.

    request_id: API Gateway's, which its caller sees in the header x-amzn-RequestId and in its access log.
    """

    event: Mapping[str, Any]
    request_id: str
    log: dict[str, Any] = field(default_factory=dict)

    def body[T](self, shape: type[T]) -> T:
        """The JSON body as a `shape`. Raises InvalidRequest."""
        text = self.event.get("body") or ""
        try:
            body = base64.b64decode(text, validate=True) if self.event.get("isBase64Encoded") else text.encode()
        except (binascii.Error, ValueError) as error:  # ValueError: a lone surrogate
            raise InvalidRequest("The body is not valid UTF-8 or base64.", field="body", status=400) from error
        return decode(body, shape)

    def header(self, name: str) -> str | None:
        """The header's only value; None where there is none. Raises InvalidRequest where it was sent twice."""
        values = _values(self.event, "multiValueHeaders", "headers", name.lower())
        if len(values) > 1:
            raise InvalidRequest(f"{name} was sent {len(values)} times. Send it once.", field=name, status=400)
        return values[0] if values else None

    def idempotency_key(self) -> str | None:
        """The buyer's idempotency key. Raises InvalidRequest."""
        key = self.header("Idempotency-Key")
        if key is not None and not re.search(KEY_PATTERN, key):
            raise InvalidRequest(
                "An Idempotency-Key has 16 to 255 visible ASCII characters. Send a fresh UUID.",
                field="Idempotency-Key",
                status=400,
            )
        return key

    def path_parameter(self, name: str) -> str:
        """The route's own parameter, as it was sent."""
        value: str = self.event["pathParameters"][name]
        return value

    def query(self, name: str) -> str | None:
        """The query parameter's only value; None where there is none. Raises InvalidRequest where it was sent twice."""
        values = _values(self.event, "multiValueQueryStringParameters", "queryStringParameters", name)
        if len(values) > 1:
            raise InvalidRequest(f"{name} was given {len(values)} times. Give it once.", field=name)
        return values[0] if values else None

    def refuse_unknown_query(self, known: frozenset[str]) -> None:
        """Raise InvalidRequest for a query parameter that the route does not have."""
        given = self.event.get("multiValueQueryStringParameters") or self.event.get("queryStringParameters") or {}
        for name in given:
            if name not in known:
                raise InvalidRequest("There is no such query parameter. Leave it out.", field=name)


def to_item_id(text: str) -> int:
    """The item id that a path or a query names. Raises InvalidRequest."""
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise InvalidRequest(f"An item_id is a whole number from 1 to {MAX_ITEM_ID}.", field="item_id")
    return int(text)


def create_api() -> APIGatewayRestResolver:
    """A resolver whose unknown routes answer like every other error. Routes find their `Request` with `current`."""
    api = APIGatewayRestResolver()

    @api.not_found
    def unknown_route(_: Exception) -> Response[str]:
        raise NotFound("There is no such route. GET / lists them.")

    return api


def current(api: APIGatewayRestResolver) -> Request:
    """The request that is being answered."""
    request: Request = api.context["request"]
    return request


def answer(body: Any, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response[str]:
    """A JSON answer from one of the `schemas`. No cache keeps it, unless the headers say so."""
    return Response(
        status_code=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
        body=msgspec.json.encode(body).decode(),
    )


def cacheable_answer(request: Request, body: Any, seconds: int) -> Response[str]:
    """A JSON answer that everybody may keep for so long; 304 without a body where the caller has it already."""
    content = msgspec.json.encode(body)
    headers = {"Cache-Control": f"public, max-age={seconds}", "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}
    known = {tag.strip().removeprefix("W/") for tag in (request.header("If-None-Match") or "").split(",")}
    if known & {headers["ETag"], "*"}:
        return Response(HTTPStatus.NOT_MODIFIED, "application/json", "", headers)
    return Response(HTTPStatus.OK, "application/json", content.decode(), headers)


def problem(
    request: Request, code: str, detail: str, *, status: int | None = None, field: str | None = None,
    left: int | None = None, purchase_id: str | None = None, retry_after_seconds: int | None = None,
    reason: str | None = None,
) -> Response[str]:  # fmt: skip
    """A problem document (RFC 9457) with one of the codes in `PROBLEMS`."""
    status = status or PROBLEMS[code]
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
    return Response(status, "application/problem+json", msgspec.json.encode(document).decode(), headers)


def serve(api: APIGatewayRestResolver, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Answers one request of API Gateway, whatever happens, and writes its log line and metrics."""
    started = time.perf_counter()
    lambda_request_id = getattr(context, "aws_request_id", "")
    gateway_request_id = (event.get("requestContext") or {}).get("requestId")
    request = Request(event, gateway_request_id or lambda_request_id)
    bug = None
    try:
        api.append_context(request=request)  # type: ignore[no-untyped-call]  # Powertools leaves it untyped
        request.refuse_unknown_query(QUERIES.get(event.get("resource", ""), frozenset()))
        # Routed by its resource: `path` may begin with a custom domain's base path, and hold whatever was sent.
        result = api.resolve({**event, "path": event.get("resource") or event.get("path") or ""}, context)
    except Exception as error:
        # The last line of defence: an exception that leaves a handler costs a process and tells the caller its text.
        trouble = _to_problem(request, error)
        bug = error if trouble is None or _hides_a_fault(error) else None
        result = _to_result(trouble or _internal_error(request))
    request.log |= {
        "route": f"{event.get('httpMethod')} {event.get('resource')}",
        "status": result["statusCode"],
        "request_id": request.request_id,
        "lambda_request_id": lambda_request_id,
        "duration_ms": round((time.perf_counter() - started) * 1000, 2),
    }
    report = logger.error if bug else logger.info
    report("request", extra={"outcome": "ok"} | request.log, exc_info=bug)
    if metrics.metric_set:
        metrics.flush_metrics()
    return result


def count(name: str, value: int = 1) -> None:
    """Adds to a CloudWatch metric of this request; nothing is no metric."""
    if value:
        metrics.add_metric(name, MetricUnit.Count, value)


def _to_problem(request: Request, error: Exception) -> Response[str] | None:
    match error:
        case InvalidRequest():
            return problem(request, "invalid_request", error.detail, status=error.status, field=error.field)
        case NotFound():
            return problem(request, "not_found", error.detail)
        case GenerationChanged():
            return problem(request, "generation_changed", error.detail)
        case KeyReusedForReset():
            detail = "This Idempotency-Key has reset the sale in another way. Send a fresh one for another reset."
            return problem(request, "idempotency_key_reused", detail, field="Idempotency-Key")
        case Busy():
            count("Busy")
            return problem(
                request,
                "busy",
                f"{BUSY[error.reason]} {error.remedy}",
                purchase_id=error.purchase_id,
                retry_after_seconds=error.retry_after_seconds,
                reason=error.reason,
            )
        case _:
            return None


def _hides_a_fault(error: Exception) -> bool:
    """Whether an operator wants to see what a "busy" stands for: a silent store, or a bug after a lost reply."""
    return isinstance(error, Busy) and error.reason is not Reason.CONTENTION and error.__cause__ is not None


def _internal_error(request: Request) -> Response[str]:
    detail = "This is a fault of ours. Whoever runs the sale finds it by the request_id."
    return problem(request, "internal_error", detail)


def _to_result(response: Response[str]) -> dict[str, Any]:
    headers = {"Content-Type": [response.content_type], **{name: [str(v)] for name, v in response.headers.items()}}
    return {
        "statusCode": response.status_code,
        "body": response.body,
        "isBase64Encoded": False,
        "multiValueHeaders": headers,
    }


def _values(event: Mapping[str, Any], many: str, one: str, name: str) -> list[str]:
    """All values of a header or a query parameter; API Gateway hands both over in two shapes, names in any case."""
    found = [value for key, values in (event.get(many) or {}).items() if key.lower() == name for value in values]
    return found or [value for key, value in (event.get(one) or {}).items() if key.lower() == name]
