"""What a request writes and sends: its log line, its metrics, its response and its record."""

import io
import json
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Final

import msgspec
from msgspec import Struct, convert

from benchmarks.cases import HOLD, PURCHASE, environments, record_of
from benchmarks.process import output_of, take_output
from simulation.dynamodb import item_bytes
from ticketing.api.telemetry import Telemetry

# What Lambda writes about each request, in its text format:
# https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
LAMBDA_LINES: Final = (
    "START RequestId: 8f507cfc-xmpl-4697-b07a-ac58fc914c95 Version: 12\n"
    "END RequestId: 8f507cfc-xmpl-4697-b07a-ac58fc914c95\n"
    "REPORT RequestId: 8f507cfc-xmpl-4697-b07a-ac58fc914c95\tDuration: 30.74 ms\t"
    "Billed Duration: 31 ms\tMemory Size: 1024 MB\tMax Memory Used: 96 MB\t\n"
).splitlines(keepends=True)
# A line of API Gateway's access log, in the template's format.
ACCESS_LINE: Final = (
    '{"request_id":"b5a2ad0c-2f2c-4f4e-9d0b-8a1f0b6f2b11","method":"POST","route":"/buy_ticket",'
    '"status":"201","latency_ms":"45","integration_latency_ms":"43","error":"-"}\n'
)
# CloudWatch adds so many bytes to each event:
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
EVENT_BYTES: Final = 26
# Assumed: the status line and the headers that API Gateway adds to a response.
GATEWAY_HEADER_BYTES: Final = 400


class Traffic(Struct, frozen=True):
    """What a request of one kind writes and sends.

    log_bytes: all lines of the function's log. response_bytes: body and headers. metrics: those in
    its line, each with its dimensions. record_bytes: of the record that it stores; 0: it stores
    none.
    """

    log_bytes: int
    response_bytes: int
    metrics: tuple[str, ...]
    record_bytes: int


def measured() -> dict[str, Traffic]:
    """Return the traffic of each case."""
    return {name: convert(figures, Traffic) for name, figures in output_of("benchmarks.traffic")}


def access_log_bytes() -> int:
    """Return what a request adds to API Gateway's access log."""
    return len(ACCESS_LINE) + EVENT_BYTES


def _traffic() -> Iterator[tuple[str, Traffic]]:
    stream = io.StringIO()
    lambda_bytes = sum(len(line) + EVENT_BYTES for line in LAMBDA_LINES)
    for name, environment in environments(Telemetry(stream=stream)):
        environment()  # now it knows the sale
        stream.seek(0)
        stream.truncate()
        result = environment()
        line = stream.getvalue()
        headers = (
            f"{header}: {value}\r\n"
            for header, values in result["multiValueHeaders"].items()
            for value in values
        )
        header_bytes = GATEWAY_HEADER_BYTES + sum(map(len, headers))
        stores = name in {PURCHASE, HOLD}
        yield (
            name,
            Traffic(
                log_bytes=lambda_bytes + len(line.encode()) + EVENT_BYTES,
                response_bytes=header_bytes + len(result["body"].encode()),
                metrics=tuple(_metrics(json.loads(line))),
                record_bytes=item_bytes(record_of(environment.payload())) if stores else 0,
            ),
        )


def _metrics(line: Mapping[str, Any]) -> Iterator[str]:
    """Yield the metrics of a log line, each with its dimensions."""
    for directive in line.get("_aws", {}).get("CloudWatchMetrics", ()):
        for metric, dimensions in product(directive["Metrics"], directive["Dimensions"]):
            yield " ".join([metric["Name"], *(line[name] for name in dimensions)])


def main() -> None:
    """Print the traffic of each case."""
    output = take_output()
    for figures in _traffic():
        print(msgspec.json.encode(figures).decode(), file=output)


if __name__ == "__main__":
    main()
