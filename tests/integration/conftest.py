"""The engines of the integration tests, one process each for the whole run."""

import itertools
import os
from collections.abc import Iterator

import boto3
import pytest
from botocore.config import Config

from local.dynamodb_local import DynamoDBLocal, missing_tools
from local.ministack import MiniStack
from local.process import free_port
from tests.support import END_SECONDS_MAX, World, create_table, need

type Engine = DynamoDBLocal | MiniStack

_tables = itertools.count(1)


@pytest.fixture
def table_name() -> str:
    """A table name that no other test has."""
    return f"tickets-{os.getpid()}-{next(_tables)}"


@pytest.fixture(scope="session")
def dynamodb_local() -> Iterator[DynamoDBLocal]:
    """AWS's own engine."""
    need(missing_tools())
    with DynamoDBLocal() as engine:
        yield engine


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniStack]:
    """The local stack's store, alone."""
    engine = MiniStack(tmp_path_factory.mktemp("ministack"), free_port(), services="dynamodb")
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture(params=["dynamodb_local", "ministack"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Return one engine after the other."""
    found: Engine = request.getfixturevalue(request.param)
    return found


def opened(engine: Engine, table_name: str) -> World:
    """Return a new table of an engine.

    Its client is patient enough for two cores under 50 threads. The domain's own budget stays.
    """
    client = boto3.client(
        "dynamodb",
        endpoint_url=engine.endpoint,
        config=Config(read_timeout=END_SECONDS_MAX, retries={"total_max_attempts": 1}),
    )
    create_table(client, table_name)
    return World(client, table_name)
