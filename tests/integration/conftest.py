"""The engines of the integration tests, one process each for the whole run."""

import itertools
import os
from collections.abc import Iterator

import pytest

from local.dynamodb_local import DynamoDBLocal, missing_tools
from local.ministack import MiniStack
from local.process import free_port
from tests.support import need

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
