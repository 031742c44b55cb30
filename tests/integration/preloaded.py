"""What the fork server imports and does, so that its children need not."""

from tests.integration import function_process

function_process.connect("http://127.0.0.1")  # It loads and keeps the SDK's description of the API.
