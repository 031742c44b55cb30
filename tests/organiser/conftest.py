"""What organisers do, tested on the simulation's model of DynamoDB.

Each test makes hundreds of calls of the store. The model takes a fraction of moto's time for them,
and is compared with the engines in tests/integration. What buyers do is tested on moto: tests/unit.
"""

from collections.abc import Iterator

import pytest

import simulation.world
from simulation.dynamodb import DynamoDB
from tests.organiser.api_server import ApiServer
from tests.support import World, create_table


@pytest.fixture
def world() -> World:
    """Return a fresh table."""
    client = DynamoDB(simulation.world.World(seed=1)).client()
    create_table(client)
    return World(client)


@pytest.fixture
def api(world: World) -> Iterator[ApiServer]:
    """The API over HTTP, on that table."""
    with ApiServer(world) as server:
        yield server
