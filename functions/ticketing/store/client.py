"""The DynamoDB client, with settings for a sale."""

from typing import TYPE_CHECKING

import boto3
import botocore
from botocore.config import Config

from ticketing.limits import CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def connect() -> "DynamoDBClient":
    """Return a DynamoDB client with settings for a sale; the SDK's defaults suit batch jobs.

    One attempt per call. The domain retries better: on another shard, within the request's budget.
    And a retry inside the SDK hides what happened: a lost reply followed by a throttle looks as if
    nothing was written. No call takes longer than limits.STORE_CALL_SECONDS_MAX.
    """
    return boto3.client(
        "dynamodb",
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            tcp_keepalive=True,
            parameter_validation=False,
            user_agent=f"ticket-sale Botocore/{botocore.__version__}",
        ),
    )
