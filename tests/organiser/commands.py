"""Runs the organiser's command line in the tests' own process."""

import json
from typing import Any

from typer.testing import CliRunner, Result

from organiser.command import app
from tests.organiser.api_server import ApiServer


def run(api: ApiServer | str, *arguments: str, typed: str | None = None, **how: str) -> Result:
    """Run a command against the API. typed: on the standard input. how: global options."""
    url = api if isinstance(api, str) else api.url
    options = {"url": url, "patience": "300", "timeout": "60"} | how
    given = [word for name, value in options.items() for word in (f"--{name}", value)]

    def invoke() -> Result:
        return CliRunner().invoke(app, [*given, *arguments], input=typed, prog_name="organiser")

    return invoke() if isinstance(api, str) else api.serve_during(invoke)


def done(api: ApiServer, *arguments: str, typed: str | None = None) -> Any:
    """Run a command with --json and return what it prints, which it does without an error."""
    result = run(api, *arguments, "--json", typed=typed)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)
