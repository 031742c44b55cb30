"""What unit tests share."""

import pytest

from tests.functions import Functions
from tests.support import World


@pytest.fixture
def functions(world: World) -> Functions:
    """All functions on a fresh table."""
    return Functions(world)
