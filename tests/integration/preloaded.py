"""What the fork server imports and does, so that its children need not.

pytest: where it is the main module of the tests' process, each child imports that again.
"""

import pytest  # noqa: F401

from tests.integration import function_process  # noqa: F401
from ticketing.store.client import connect

connect()  # It loads and keeps the SDK's description of the API.
