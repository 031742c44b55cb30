"""Checks of style, types, imports, the template, the locks and the documents."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support import ROOT

BIN = Path(sys.executable).absolute().parent
SAM = ROOT / ".venvs" / "deployment" / "bin" / "sam"
CHECKS: dict[str, list[str | Path]] = {
    "ruff check": [BIN / "ruff", "check", "."],
    "ruff format": [BIN / "ruff", "format", "--check", "."],
    "codespell": [BIN / "codespell"],
    "mypy": [BIN / "mypy"],
    "import rules": [BIN / "lint-imports", "--no-logo"],
    "cfn-lint": [BIN / "cfn-lint", "template.yaml"],
    "sam validate": [
        SAM,
        "validate",
        "--lint",
        "--region",
        "us-east-1",
        "--template",
        "template.yaml",
    ],
}
LOCKS = {
    "functions": "functions/requirements.txt",
    "development": "requirements/development.txt",
    "deployment": "requirements/deployment.txt",
    "local": "requirements/local.txt",
    "locust": "requirements/locust.txt",
}


@pytest.mark.parametrize("check", CHECKS)
def test_check(check: str) -> None:
    path = f"{BIN}:/usr/bin:/bin"
    environment = {
        "PATH": path,
        "PYTHONPATH": "functions",
        "SAM_CLI_TELEMETRY": "0",
        "HOME": str(Path.home()),
    }
    finished = subprocess.run(
        CHECKS[check], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize("group", LOCKS)
def test_dependencies_are_locked(group: str) -> None:
    lock = (ROOT / LOCKS[group]).read_text()
    for dependency in tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"][
        group
    ]:
        if isinstance(dependency, str):
            name = re.split(r"[\[=<>]", dependency)[0]
            assert re.search(
                rf"^{re.escape(name)}==\S+ .*\\\n    --hash=sha256:", lock, re.MULTILINE
            ), name
    assert "://" not in lock, "a lock names no package index"


def test_dependencies_have_reasons() -> None:
    reasons = (ROOT / "docs" / "decisions.md").read_text()
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    for dependency in {
        entry for group in groups.values() for entry in group if isinstance(entry, str)
    }:
        assert f"`{re.split(r'[=<>]', dependency)[0]}`" in reasons, dependency


def test_documented_commands() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        named = set(re.findall(r"`make ([a-z-]+)", document.read_text()))
        named |= set(re.findall(r"^make ([a-z-]+)", document.read_text(), re.MULTILINE))
        assert named <= targets, document.name


def test_document_links() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
