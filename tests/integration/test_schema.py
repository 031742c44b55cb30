"""Generated requests, valid and invalid by the OpenAPI document, against the running API."""

import os
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path

from local.api import call
from local.stack import Stack
from tests.support import ROOT
from ticketing.api.routes import ROUTES

# Left out: the gateway's answer to a method that a route does not have (403 on AWS, 404 locally,
# never 405).
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
]


def test_api_matches_document(stack: Stack, tmp_path: Path) -> None:
    program = Path(sys.executable).absolute().parent / "schemathesis"
    command: list[str | Path] = [program, "run", f"{stack.url}/openapi.json", "--url", stack.url]
    command += ["--checks", ",".join(CHECKS), "--max-examples", "8", "--seed", "1"]
    hooks = Path(__file__).parent
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": "sigv4_hooks",
        "PYTHONPATH": f"{hooks}:{ROOT}",
    }
    finished = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    # Other tests sell the first item, which may have been deleted.
    assert call("POST", f"{stack.url}/reset", {"stock": 100}, signed=True)[0] == HTTPStatus.OK
    open_window = {"opens_at": None, "closes_at": None}
    assert call("PUT", f"{stack.url}/items/1", open_window, signed=True)[0] == HTTPStatus.OK
    assert call("POST", f"{stack.url}/items/1/resume", signed=True)[0] == HTTPStatus.OK
    assert finished.returncode == 0, finished.stdout[-8000:] + finished.stderr[-2000:]
    # Every operation except the document's own, which it has already read.
    others = len(ROUTES) - 1
    assert f"{others} selected / {others} total" in finished.stdout, finished.stdout[:2000]
    assert "Authentication failed" not in finished.stdout, finished.stdout[-4000:]
