"""The rules of CONTRIBUTING.md that no other tool checks: lengths, words, names and marks."""

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from functools import cache

import pytest

from proof.history import GUARANTEES
from tests.structure import function_lengths
from tests.support import ROOT

COLUMNS_MAX = 100
FUNCTION_LINES_MAX = 50
TEST_NAME_WORDS_MAX = 5
NOT_WRITTEN_BY_HAND = (
    "benchmarks/results.json",
    "requirements/",
    "functions/requirements.txt",
    "LICENSE",
    "docs/proof.svg",
    "docs/scaling.svg",
    "proof/caught.json",
    "simulation/explored.json",
)
# One API body has one name on both sides: the proof imports nothing of the functions.
BODIES = {"AuditReport", "Hold", "Inventory", "Receipt"}
# Words that readers stumbled over → what to write.
BANNED = {
    r"anew": "again",
    r"nobody|somebody|whoever|everybody": "the caller, the organiser, the process",
    r"twins?|rivals?": "a concurrent duplicate, a concurrent buyer",
    r"under way": "in progress, in flight",
    r"wish(es)?": "a request, an order",
    r"stands once|holds against": "is defined once, compares with",
    r"a miss|misses|shortage": "an empty shard, too few tickets",
    r"of ours|mistake of": "a bug",
    r"store is silent|silent store": "the store did not respond",
    r"accus(e|es|ed|ing)": "false positive, reports",
    r"box office": "the purchase service",
}


@cache
def written_files() -> dict[str, str]:
    """Return path → text of all files of the repository that people write."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [path for path in listed.stdout.splitlines() if (ROOT / path).is_file()]
    return {
        path: (ROOT / path).read_text()
        for path in paths
        if not path.startswith(NOT_WRITTEN_BY_HAND)
        and not path.endswith(".png")
        and path != "tests/test_style.py"
    }


@cache
def trees() -> dict[str, ast.Module]:
    """Return path → syntax tree of all Python files."""
    return {path: ast.parse(text) for path, text in written_files().items() if path.endswith(".py")}


def may_be_long(path: str, line: str) -> bool:
    """Return whether a line cannot be wrapped: a Markdown table or diagram, an event, a URL."""
    if path.startswith("events/"):
        return True
    if path.endswith(".md") and re.match(r"\||.*-->", line):
        return True
    return bool(re.fullmatch(r"\s*\S+", line))


def long_lines(path: str, text: str) -> list[str]:
    return [
        f"{path}:{number}: {len(line)} columns"
        for number, line in enumerate(text.splitlines(), start=1)
        if len(line) > COLUMNS_MAX and not may_be_long(path, line)
    ]


def long_functions(path: str, tree: ast.Module) -> list[str]:
    return [
        f"{path}: {name} has {length} lines"
        for length, name in function_lengths(tree)
        if length > FUNCTION_LINES_MAX
    ]


def banned_words(path: str, text: str) -> list[str]:
    return [
        f"{path}: “{found[0]}”: rather {better}"
        for words, better in BANNED.items()
        for found in re.finditer(rf"\b({words})\b", text, re.IGNORECASE)
    ]


def long_test_names(path: str, tree: ast.Module) -> list[str]:
    return [
        f"{path}: {node.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        if len(node.name.split("_")) - 1 > TEST_NAME_WORDS_MAX
    ]


def stray_limits(path: str, tree: ast.Module) -> list[str]:
    """Return the bounds that a module of the functions defines beside limits.py."""
    if not path.startswith("functions/") or path == "functions/ticketing/limits.py":
        return []
    names = [ast.unparse(node.target) for node in tree.body if isinstance(node, ast.AnnAssign)]
    names += [
        ast.unparse(target)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
    ]
    return [f"{path}: {name}" for name in names if re.search("_(MAX|MIN|SECONDS)$", name)]


def marks(tree: ast.Module) -> set[str]:
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("pytest.mark.")
    }


@pytest.mark.parametrize("check", [long_lines, banned_words])
def test_text(check: Callable[[str, str], list[str]]) -> None:
    assert [line for path, text in written_files().items() for line in check(path, text)] == []


@pytest.mark.parametrize("check", [long_functions, long_test_names, stray_limits])
def test_code(check: Callable[[str, ast.Module], list[str]]) -> None:
    assert [line for path, tree in trees().items() for line in check(path, tree)] == []


def test_limits_end_in_max() -> None:
    """One spelling for limits: SHARDS_MAX."""
    pattern = re.compile(r"^\s*_?(?:MAX|MIN)_[A-Z_]+\b.*=", re.MULTILINE)
    found = {path: pattern.findall(text) for path, text in written_files().items()}
    assert not any(found.values()), found


def test_no_module_is_patched() -> None:
    """Tests replace parts where the composition root takes them."""
    pattern = re.compile(r"monkeypatch\.setattr|mock\.patch|^os\.environ\b.*=", re.MULTILINE)
    assert pattern.search("import os\nos.environ |= {}")
    assert [path for path, text in written_files().items() if pattern.search(text)] == []


def test_class_names_are_unique() -> None:
    """One name for one thing."""
    count = Counter(
        node.name
        for path, tree in trees().items()
        if not path.startswith("tests/")
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    )
    assert {name for name, number in count.items() if number > 1} == BODIES


def test_every_guarantee_is_marked() -> None:
    found = {
        mark for path, tree in trees().items() if path.startswith("tests/") for mark in marks(tree)
    }
    assert found >= GUARANTEES.keys()


@pytest.mark.parametrize(
    ("path", "text", "count"),
    [
        ("a.py", "x" * 50 + " " + "x" * 50, 1),
        ("a.py", "x" * 101, 0),
        ("a.md", "| " + "x " * 60, 0),
        ("a.md", "x " * 60, 1),
        ("a.py", "x " * 50, 0),
    ],
)
def test_long_line_is_found(path: str, text: str, count: int) -> None:
    assert len(long_lines(path, text)) == count


def test_long_function_is_found() -> None:
    body = "    pass\n" * FUNCTION_LINES_MAX
    assert long_functions("a.py", ast.parse("def f():\n" + body))
    assert not long_functions("a.py", ast.parse("def f():\n" + body[9:]))


def test_banned_word_is_found() -> None:
    assert banned_words("a.py", "# Nobody starts it anew.") == [
        "a.py: “anew”: rather again",
        "a.py: “Nobody”: rather the caller, the organiser, the process",
    ]


def test_stray_limit_is_found() -> None:
    for source in ("A_MAX = 1", "A_SECONDS: Final = 1"):
        assert stray_limits("functions/ticketing/a.py", ast.parse(source))
        assert not stray_limits("functions/ticketing/limits.py", ast.parse(source))


def test_long_name_is_found() -> None:
    assert long_test_names("a.py", ast.parse("def test_a_b_c_d_e_f(): pass"))
    assert not long_test_names("a.py", ast.parse("def test_a_b_c_d_e(): pass"))
