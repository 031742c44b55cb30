"""What the fork server imports and does, so that its children need not.

pytest: where it is the main module of the tests' process, each child imports that again.
"""

import pytest  # noqa: F401

from tests.integration import function_process

function_process.connect("http://127.0.0.1")  # It loads and keeps the SDK's description of the API.
