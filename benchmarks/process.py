"""Processes that are set up as Lambda sets up a function: its variables and import path."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
FUNCTIONS: Final = ROOT / "functions"
TABLE_NAME: Final = "tickets"

# What the template gives a function, and what Lambda gives it and a library reads:
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
VARIABLES: Final = {
    "TABLE_NAME": TABLE_NAME,
    "POWERTOOLS_LOG_LEVEL": "INFO",
    "POWERTOOLS_SERVICE_NAME": "buy-ticket",
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
    "AWS_LAMBDA_FUNCTION_NAME": "buy-ticket",
    "AWS_LAMBDA_FUNCTION_VERSION": "1",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    # The documentation's example; a role's session token is about as long, and is sent each time.
    "AWS_ACCESS_KEY_ID": "ASIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AWS_SESSION_TOKEN": "x" * 700,
    "_X_AMZN_TRACE_ID": (
        "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0"
    ),
    "LC_CTYPE": "C.UTF-8",
    "TZ": ":UTC",
}


def variables(functions: Path = FUNCTIONS) -> dict[str, str]:
    """Return the whole environment of a process. functions: where it imports them from."""
    path = os.pathsep.join([str(functions), str(ROOT)])
    return VARIABLES | {"PATH": os.environ["PATH"], "PYTHONPATH": path}


def output_of(module: str, *arguments: str, functions: Path = FUNCTIONS) -> Iterator[Any]:
    """Run a module in a process of its own, and yield the lines of JSON that it prints.

    Raises CalledProcessError where it fails.
    """
    command = [sys.executable, "-m", module, *arguments]
    # In a session of its own: Ctrl-C ends this process alone, which then ends the other one.
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=variables(functions),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield from map(json.loads, process.stdout or ())
            if process.wait():
                raise subprocess.CalledProcessError(process.returncode, command)
        finally:
            process.kill()


def take_output() -> IO[str]:
    """Return the standard output, for figures alone. The function's log goes to /dev/null."""
    output = os.fdopen(os.dup(1), "w", buffering=1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    return output
