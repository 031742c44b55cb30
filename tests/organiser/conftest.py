"""What organisers do, tested on the simulation's model of DynamoDB.

Each test makes hundreds of calls of the store. The model takes a fraction of moto's time for them,
and is compared with the engines in tests/integration. What buyers do is tested on moto: tests/unit.
"""

from collections.abc import Iterator

import pytest

from tests.organiser.api_server import ApiServer, world_on_model
from tests.support import World


@pytest.fixture
def world() -> World:
    return world_on_model()


@pytest.fixture
def api(world: World) -> Iterator[ApiServer]:
    """The API over HTTP, on that table."""
    with ApiServer(world) as server:
        yield server
