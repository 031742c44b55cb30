"""docs/architecture.md, compared with the code; decisions, and what else points at them."""

import ast
import re
from functools import cache

import pytest

from tests.architecture import DOCUMENT, PARTS, generated
from tests.structure import purchase_trace
from tests.support import ROOT

TEST_FOLDERS = (
    "tests/",
    "unit/",
    "integration/",
    "load/",
    "organiser/",
    "proof/",
    "simulation/",
    "e2e/",
    "browser/",
)
TEXT = DOCUMENT.read_text()
FLOW = TEXT.partition("## How a purchase passes through")[2].partition("\n## ")[0]


@cache
def names_in(file: str) -> set[str]:
    """Return the names that a file of the functions defines: `name` and `Class.method`."""
    for folder in ("functions", "functions/ticketing"):
        if (ROOT / folder / file).is_file():
            tree = ast.parse((ROOT / folder / file).read_text())
            break
    else:
        raise AssertionError(f"there is no {file}")
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.AnnAssign):
            names.add(ast.unparse(node.target))
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{each.name}"
                for each in node.body
                if isinstance(each, ast.FunctionDef)
            }
    return names


def missing(text: str) -> list[str]:
    """Return the names of this text that the code does not have."""
    files = set(re.findall(r"`([\w/]+\.py)`", text))
    named = re.findall(r"`([\w/]+\.py)` `([\w.]+)`", text)
    known = {file: names_in(file) for file in files if not file.startswith(TEST_FOLDERS)}
    return [f"{file} {name}" for file, name in named if name not in known[file]]


def test_generated_parts() -> None:
    """`make docs` writes them."""
    for document in PARTS:
        assert generated(document.read_text(), document) == document.read_text()
    changed = TEXT.replace("stock → sold", "sold → stock")
    assert changed != TEXT
    assert generated(changed) == TEXT


def test_named_code_exists() -> None:
    assert missing(TEXT) == []
    assert len(re.findall(r"\.py` `", TEXT)) > 20


def test_missing_name_is_found() -> None:
    assert missing("`rules.py` `no_such_rule`") == ["rules.py no_such_rule"]
    with pytest.raises(AssertionError, match="no_such_file"):
        missing("`no_such_file.py`")


def test_flow_names_all_files() -> None:
    """Every file that a purchase runs, as a trace of one shows."""
    named = set(re.findall(r"`([\w/]+\.py)`", FLOW))
    assert {file.removeprefix("ticketing/") for file in purchase_trace(ROOT)} <= named


def test_decisions_have_ids() -> None:
    """Numbered without a gap, and every reference to one leads somewhere."""
    decisions = (ROOT / "docs" / "decisions.md").read_text()
    ids = re.findall(r"^\*\*(D\d+) · \d{4}-\d\d-\d\d · .", decisions, re.MULTILINE)
    assert sorted(ids, key=lambda name: int(name[1:])) == [f"D{n + 1}" for n in range(len(ids))]
    assert len(ids) == len(re.findall(r"^\*\*", decisions, re.MULTILINE))
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("functions/**/*.py")]
    for document in documents:
        assert set(re.findall(r"\bD\d+\b", document.read_text())) <= set(ids), document.name
