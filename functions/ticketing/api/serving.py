"""A Lambda function: from API Gateway's event to its result, whatever happens."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from ticketing.api.problems import problem_of
from ticketing.api.request import Reply, Request
from ticketing.api.routes import Route
from ticketing.api.telemetry import Telemetry
from ticketing.errors import Busy, InvalidRequest, NotFound, Reason, Refused, SaleNotOpen

type Handler[Services] = Callable[[Request, Services], Reply]


class Function[Services]:
    """A Lambda function: its routes on what its process has built. Call it as Lambda does.

    One call at a time: Powertools' logger and metrics are not made for more.
    """

    def __init__(
        self,
        handlers: Mapping[Route, Handler[Services]],
        services: Services,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._services = services
        self._telemetry = telemetry or Telemetry()
        self._handlers = {str(route): (route.query, handler) for route, handler in handlers.items()}

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Handle one request of API Gateway, and report it. Never raises.

        An exception that leaves a function ends its process and shows its text to the caller.
        """
        started = time.perf_counter()
        request = Request.of(event, context)
        fault = None
        try:
            reply = self._reply(request)
        except Exception as error:
            fault = error if _is_fault(error) else None
            reply = problem_of(request, error)
        duration_ms = (time.perf_counter() - started) * 1000
        self._telemetry.report(request, reply, duration_ms=duration_ms, fault=fault)
        return {
            "statusCode": reply.status.value,
            "body": reply.text,
            "isBase64Encoded": False,
            "multiValueHeaders": {name: [value] for name, value in reply.all_headers.items()},
        }

    def _reply(self, request: Request) -> Reply:
        """Return the reply of the route's handler. Raises what it raises, and NotFound.

        API Gateway has matched the path already: `resource` is the route's. The path itself may
        begin with a base path, and holds what the caller sent.
        """
        # A KeyError: the event does not come from API Gateway.
        found = self._handlers.get(f"{request.event['httpMethod']} {request.event['resource']}")
        if found is None:
            raise NotFound("There is no such route. GET / lists the routes.")
        query, handler = found
        request.refuse_unknown_query(query)
        return handler(request, self._services)


def _is_fault(error: Exception) -> bool:
    """Return whether an operator should see the error: an outage or a bug, also behind "busy"."""
    if isinstance(error, Busy):
        return error.reason is not Reason.CONTENTION and error.__cause__ is not None
    return not isinstance(error, InvalidRequest | NotFound | Refused | SaleNotOpen)
