"""The organiser's command line as a program: the README's session, Ctrl-C, pipes, completion."""

import os
import re
import signal
import socket
import subprocess
import tomllib
from pathlib import Path
from typing import Final

import pytest

from local.api import call
from local.stack import Stack
from organiser import VERSION
from organiser.command import EXIT_STATUSES
from organiser.errors import ExitStatus
from tests.support import ROOT

BIN: Final = ROOT / ".venvs" / "organiser" / "bin"
PROGRAM: Final = BIN / "organiser"
ITEM: Final = 7  # of the README's session
README: Final = (ROOT / "README.md").read_text()


def environment(url: str, **more: str) -> dict[str, str]:
    path = f"{BIN}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "TICKET_SALE_URL": url} | more


def session() -> list[tuple[str, str]]:
    """Return the commands of the README's session, and what each prints."""
    (block,) = re.findall(r"```console\n(\$ organiser sale open .*?)```", README, re.DOTALL)
    steps = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    found = [re.fullmatch(r"((?:[^\n]*\\\n)*[^\n]*)\n(.*)", step, re.DOTALL) for step in steps]
    return [(step[1], step[2]) for step in found if step]


def steady(text: str) -> str:
    """Return a text without what differs from day to day."""
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "(instant)", text)


def test_readme_session(stack: Stack, tmp_path: Path) -> None:
    """Each command of the README prints what is there."""
    call("DELETE", f"{stack.url}/items/{ITEM}", signed=True)
    steps = session()
    assert len(steps) > 8
    for command, expected in steps:
        ended = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment(stack.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert steady(ended.stdout) == steady(expected), command
        assert ended.returncode == 0, command


def test_readme_statuses() -> None:
    """The README has each exit status, as `--help` explains it."""
    rows = dict(re.findall(r"^\| (\d+) \| ([^|]*) \|$", README, re.MULTILINE))
    assert rows == {f"{status:d}": meaning for status, meaning in EXIT_STATUSES.items()}


def test_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    printed = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    assert printed.stdout == f"organiser {VERSION}\n" == f"organiser {version}\n"


def test_interrupted_change() -> None:
    """Ctrl-C while a change is sent: the key is named, because it may have been carried out."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/live"
        with subprocess.Popen(
            [PROGRAM, "sale", "pause", "1"],
            env=environment(url),
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            connection, _ = server.accept()
            with connection:
                request = connection.recv(10_000).decode()
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=60)
    key = re.findall(r"Idempotency-Key: (\S+)", request, re.IGNORECASE)[0]
    assert process.returncode == ExitStatus.INTERRUPTED
    assert f"--key {key}" in said
    assert "Traceback" not in said


def test_closed_pipe(stack: Stack) -> None:
    """`| head` is no error."""
    ended = subprocess.run(
        ["bash", "-c", "set -o pipefail; organiser sale list | true"],
        env=environment(stack.url),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize(("typed", "expected"), [("sa", "sale"), ("exp", "export")])
def test_completion(typed: str, expected: str) -> None:
    asked = {
        "_ORGANISER_COMPLETE": "complete_bash",
        "COMP_WORDS": f"organiser {typed}",
        "COMP_CWORD": "1",
    }
    ended = subprocess.run(
        [PROGRAM], env=environment("", **asked), stdout=subprocess.PIPE, text=True, check=False
    )
    assert expected in ended.stdout.split()
