"""What a newcomer's tools read: editor, git hooks, CI, dependency updates, containers."""

import html
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.picture import picture, result_lines
from tests.support import ROOT
from tests.test_style import COLUMNS_MAX

PRE_COMMIT = Path(sys.executable).absolute().parent / "pre-commit"
HOOKS = ".pre-commit-config.yaml"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def load(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def unpinned(text: str) -> list[str]:
    """Return the actions of a workflow that are not pinned by commit, with their version."""
    used = re.findall(r"uses:\s*(.*)", text)
    return [each for each in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", each)]


def test_editor_settings() -> None:
    assert f"max_line_length = {COLUMNS_MAX}\n" in (ROOT / ".editorconfig").read_text()


def test_hooks_use_own_environment(tmp_path: Path) -> None:
    """Each is a program that `make setup` installs; pre-commit downloads nothing."""
    (repository,) = load(HOOKS)["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system", hook["id"]
        programs = [word for word in shlex.split(hook["entry"]) if word.startswith(".venvs/")]
        assert programs, hook["id"]
        assert all((ROOT / program).is_file() for program in programs), hook["id"]
    finished = subprocess.run(
        [PRE_COMMIT, "run", "--all-files", "codespell"],
        cwd=ROOT,
        env=os.environ | {"PRE_COMMIT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "Passed" in finished.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert unpinned(path.read_text()) == []
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert any(step.get("run", "").endswith(" .ci/run") for step in steps)


def test_unpinned_action_is_found() -> None:
    pinned = f"uses: actions/checkout@{'0' * 40} # v5.0.0"
    assert unpinned(pinned) == []
    assert unpinned("uses: actions/checkout@v5")
    assert unpinned(pinned.removesuffix(" # v5.0.0"))


def test_dependency_updates() -> None:
    folders = [
        folder
        for update in load(".github/dependabot.yml")["updates"]
        for folder in update.get("directories", [])
    ]
    assert folders
    assert all(list((ROOT / folder.lstrip("/")).glob("*.txt")) for folder in folders)


def test_issue_forms() -> None:
    forms = [
        yaml.safe_load(path.read_text())
        for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")
    ]
    assert len(forms) == 2
    for form in forms:
        assert form["name"]
        assert form["description"]
        assert all(field["attributes"]["label"] for field in form["body"])


def test_picture_of_proof() -> None:
    """`make picture` draws it from a real run. It loads nothing from another host."""
    drawn = (ROOT / "docs" / "proof.svg").read_text()
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    shown = html.unescape(re.sub(r"<[^>]+>", "", drawn)).replace("\xa0", " ")
    assert "TEST 2 PASSED!" in shown
    assert shown.count("✓") == 10
    assert not re.search(r"url\(|href=", drawn.replace("url(#", ""))
    assert "(docs/proof.svg)" in (ROOT / "README.md").read_text()


def test_picture_from_output() -> None:
    output = "x\nTEST 2: A\n…\nVERIFICATION:\n  ✓ fine\n\nTEST 2 PASSED!\nmore"
    lines = result_lines(output)
    assert lines[2:] == ["TEST 2: A", "", "VERIFICATION:", "  ✓ fine", "", "TEST 2 PASSED!"]
    assert "font-face" not in picture(lines)


def test_devcontainer() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    python = (ROOT / ".python-version").read_text().strip()
    assert f"python:{python}-" in container["image"]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    make, *named = container["postCreateCommand"].split()
    assert make == "make"
    assert set(named) <= targets
