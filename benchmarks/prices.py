"""What AWS charges, as published for us-east-1, and its default quotas.

Prices are those of the first tier, without the free tier and without discounts.
"""

from dataclasses import dataclass
from typing import Final

READ_ON: Final = "2026-11-27"
REGION: Final = "us-east-1"

GIGABYTE: Final = 1_000_000_000.0
MILLION: Final = 1_000_000.0
_PER: Final = {1.0: "", MILLION: "million ", GIGABYTE: "GB of "}


@dataclass(frozen=True, slots=True)
class Price:
    """A price: dollars for so many of a unit. source: where AWS publishes it."""

    service: str
    unit: str
    dollars: float
    per: float
    source: str

    def of(self, quantity: float) -> float:
        """Return what so many units cost, in dollars."""
        return quantity / self.per * self.dollars

    @property
    def text(self) -> str:
        """Return the price with its unit."""
        dollars = f"{self.dollars:.2f}"
        if float(dollars) != self.dollars:
            dollars = f"{self.dollars:.10f}".rstrip("0")
        return f"${dollars} per {_PER[self.per]}{self.unit}"

    def amount(self, quantity: float) -> str:
        """Return so many units as a text."""
        if self.per == GIGABYTE:
            return f"{quantity / GIGABYTE:,.3f} GB"
        return f"{quantity:,.0f}" if quantity >= 1 else f"{quantity:.3f}"


_GATEWAY: Final = "https://aws.amazon.com/api-gateway/pricing/"
_LAMBDA: Final = "https://aws.amazon.com/lambda/pricing/"
_DYNAMODB: Final = "https://aws.amazon.com/dynamodb/pricing/on-demand/"
_CLOUDWATCH: Final = "https://aws.amazon.com/cloudwatch/pricing/"

GATEWAY_REQUESTS: Final = Price("API Gateway", "requests", 3.50, MILLION, _GATEWAY)
LAMBDA_REQUESTS: Final = Price("Lambda", "requests", 0.20, MILLION, _LAMBDA)
LAMBDA_SECONDS: Final = Price("Lambda", "GB-s, arm64", 0.0000133334, 1.0, _LAMBDA)
SNAPSHOT_RESTORES: Final = Price("Lambda", "GB restored", 0.0001397998, 1.0, _LAMBDA)
SNAPSHOT_SECONDS: Final = Price("Lambda", "GB-s of a snapshot", 0.0000015046, 1.0, _LAMBDA)
WRITE_UNITS: Final = Price("DynamoDB", "write units", 0.625, MILLION, _DYNAMODB)
READ_UNITS: Final = Price("DynamoDB", "read units", 0.125, MILLION, _DYNAMODB)
STORED_MONTHS: Final = Price("DynamoDB", "storage in a month", 0.25, GIGABYTE, _DYNAMODB)
BACKUP_MONTHS: Final = Price("DynamoDB", "back-up in a month", 0.20, GIGABYTE, _DYNAMODB)
LOGS: Final = Price("CloudWatch", "logs", 0.50, GIGABYTE, _CLOUDWATCH)
METRIC_MONTHS: Final = Price("CloudWatch", "custom metric in a month", 0.30, 1.0, _CLOUDWATCH)
TRACES: Final = Price("X-Ray", "traces", 5.00, MILLION, "https://aws.amazon.com/xray/pricing/")
TRANSFER: Final = Price(
    "Data transfer",
    "responses",
    0.09,
    GIGABYTE,
    "https://aws.amazon.com/ec2/pricing/on-demand/",
)

HOURS_PER_MONTH: Final = 730.0

# Default quotas, and what AWS writes about them:
# https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html
GATEWAY_RATE_QUOTA: Final = 10_000  # requests a second of an account in a Region
GATEWAY_BURST_QUOTA: Final = 5_000
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
CONCURRENCY_QUOTA: Final = 1_000  # environments of an account in a Region
NEW_ENVIRONMENTS_MAX: Final = 1_000  # of one function, in ten seconds; cannot be raised
NEW_ENVIRONMENTS_SECONDS: Final = 10
REQUESTS_PER_ENVIRONMENT_MAX: Final = 10  # a second
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html
TABLE_UNITS_QUOTA: Final = 40_000  # read units, and write units, a second
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/warm-throughput.html
NEW_TABLE_WRITES_MAX: Final = 4_000  # write units a second
NEW_TABLE_READS_MAX: Final = 12_000  # read units a second
# https://docs.aws.amazon.com/xray/latest/devguide/xray-console-sampling.html: the default rule.
TRACES_PER_SECOND: Final = 1
TRACED_SHARE: Final = 0.05
