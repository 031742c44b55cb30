"""The log line of a request, which carries its metrics: assembled here, and nowhere else."""

import hashlib
import logging
import sys
import time
from collections.abc import Mapping
from typing import IO, Any, Final

import msgspec
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from msgspec import Struct

from ticketing.api.request import REPLAYED_HEADER, Reply, Request
from ticketing.api.schemas import Hold, Inventory, Problem, Receipt

NAMESPACE: Final = "TicketSale"  # of the metrics in CloudWatch


class Telemetry:
    """Logger and metrics of one function.

    service: by default POWERTOOLS_SERVICE_NAME. stream: where the lines go, by default the standard
    output.
    """

    def __init__(self, service: str | None = None, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout
        self._logger = Logger(
            service=service,
            stream=self._stream,
            # Every line has the route and one traceback already.
            location=None,
            serialize_stacktrace=False,
            utc=True,
            use_rfc3339=True,
            json_serializer=_to_json,
            json_deserializer=str,  # a message is a text, also where it looks like JSON
        )
        self._metrics = Metrics(service=service, namespace=NAMESPACE)
        self._formats: dict[tuple[str, ...], Mapping[str, Any]] = {}

    def report(
        self, request: Request, reply: Reply, *, duration_ms: float, fault: Exception | None
    ) -> None:
        """Write one line: what the request did, and what it adds to the metrics.

        Where the level hides the line, only the metrics are written. fault: what an operator should
        see, with its traceback.
        """
        counted = {**reply.metrics, "Conflicts": request.statistics.conflicts}
        metrics = {name: value for name, value in counted.items() if value}
        line = log_line(request, reply, duration_ms)
        self.write("request", line, metrics, is_error=fault is not None, fault=fault)

    def write(
        self,
        message: str,
        line: Mapping[str, Any],
        metrics: Mapping[str, int],
        *,
        is_error: bool,
        fault: Exception | None = None,
    ) -> None:
        """Write one line with metrics. fault: is shown with its traceback.

        Where the level hides the line, only the metrics are written.
        """
        embedded = self._embedded(metrics)
        if self._logger.log_level <= (logging.ERROR if is_error else logging.INFO):
            log = self._logger.error if is_error else self._logger.info
            log(message, extra={**line, **embedded}, exc_info=fault)
        elif embedded:
            print(_to_json(embedded), file=self._stream, flush=True)

    def _embedded(self, metrics: Mapping[str, int]) -> Mapping[str, Any]:
        """Return metrics in CloudWatch's embedded metric format."""
        if not metrics:
            return {}
        # Powertools writes the format, once for these names; time and values are this request's.
        names = tuple(metrics)
        if names not in self._formats:
            for name in names:
                self._metrics.add_metric(name, MetricUnit.Count, 1)
            self._formats[names] = self._metrics.serialize_metric_set()
            self._metrics.clear_metrics()
        written = self._formats[names]
        about = {**written["_aws"], "Timestamp": int(time.time() * 1000)}
        return {**written, **metrics, "_aws": about}


def log_line(request: Request, reply: Reply, duration_ms: float) -> dict[str, Any]:
    """Return what a request's line says: what was asked for, what was done and what was answered.

    `python -m proof --from-logs` judges a sale by these lines. They have nothing about the buyer: a
    purchase id shows whose it is, so there is only its digest. What is None is left out here:
    Powertools would do so too, and takes longer for each.
    """
    statistics = request.statistics
    line = {
        "route": request.route,
        "status": reply.status,
        "outcome": reply.outcome,
        "replayed": REPLAYED_HEADER in reply.headers or None,
        "item_id": statistics.item_id,
        "purchase_digest": _digest(statistics.purchase_id),
        "key_digest": statistics.key,
        "quantity": statistics.quantity,
        "capacity": statistics.capacity,
        "generation": statistics.generation,
        **_answered(reply.body),
        "shards": statistics.shards,
        "attempts": statistics.attempts,
        "conflicts": statistics.conflicts,
        "request_id": request.request_id,
        "lambda_request_id": request.lambda_request_id,
        "duration_ms": round(duration_ms, 2),
    }
    return {name: value for name, value in line.items() if value is not None}


def _digest(purchase_id: str | None) -> str | None:
    """Return the first 32 digits of the SHA-256 of an id, as `sha256sum` prints it."""
    return purchase_id and hashlib.sha256(purchase_id.encode()).hexdigest()[:32]


def _answered(body: Struct | str) -> dict[str, Any]:
    match body:
        case Receipt():
            refunded = body.refunded_quantity or None
            return {"generation": body.generation, "refunded_quantity": refunded}
        case Hold():
            return {
                "generation": body.generation,
                "hold_status": body.status,
                "expires_at": body.expires_at,
            }
        case Inventory():
            return {
                "generation": body.generation,
                "capacity": body.initial_stock,
                "hold_seconds": body.hold_seconds,
                "per_buyer_limit": body.per_buyer_limit,
            }
        case Problem(left=left, reason=reason, lowest_capacity=lowest):
            return {"left": left, "reason": reason, "lowest_capacity": lowest}
        case _:
            return {}


def _to_json(line: Mapping[str, Any]) -> str:
    return msgspec.json.encode(line).decode()
