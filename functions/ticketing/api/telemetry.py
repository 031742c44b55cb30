"""The log line and the metrics of a request: each is assembled here, and nowhere else."""

from typing import IO, Final

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from ticketing.api.request import Reply, Request

NAMESPACE: Final = "TicketSale"  # of the metrics in CloudWatch


class Telemetry:
    """Logger and metrics of one function.

    service: by default POWERTOOLS_SERVICE_NAME. stream: where the log goes, by default the standard
    output. Metrics always go there, in CloudWatch's embedded metric format.
    """

    def __init__(self, service: str | None = None, stream: IO[str] | None = None) -> None:
        # Every line has the route and one traceback already.
        self._logger = Logger(
            service=service, stream=stream, location=None, serialize_stacktrace=False
        )
        self._metrics = Metrics(service=service, namespace=NAMESPACE)

    def report(
        self, request: Request, reply: Reply, *, duration_ms: float, fault: Exception | None
    ) -> None:
        """Write one log line, and what the request adds to the metrics.

        fault: what an operator should see, with its traceback.
        """
        statistics = request.statistics
        about = {
            "item_id": statistics.item_id,
            "quantity": statistics.quantity,
            "generation": statistics.generation,
        }
        line = {
            "route": request.route,
            "status": reply.status,
            "outcome": reply.outcome,
            **{name: value for name, value in about.items() if value is not None},
            "shards": statistics.shards,
            "attempts": statistics.attempts,
            "conflicts": statistics.conflicts,
            "request_id": request.request_id,
            "lambda_request_id": request.lambda_request_id,
            "duration_ms": round(duration_ms, 2),
        }
        log = self._logger.error if fault else self._logger.info
        log("request", extra=line, exc_info=fault)
        self._count({**reply.metrics, "Conflicts": statistics.conflicts})

    def _count(self, metrics: dict[str, int]) -> None:
        counted = {name: value for name, value in metrics.items() if value}
        for name, value in counted.items():
            self._metrics.add_metric(name, MetricUnit.Count, value)
        if counted:
            self._metrics.flush_metrics()
