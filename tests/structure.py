"""The structure of the code in figures, and its CPU, of this tree or beside an older revision.

make structure [REV=v2.0.0]
"""

import argparse
import ast
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("functions", "proof", "local", "tests")
# This route is the example: its path names every place to edit for a route like it.
ROUTE = re.compile(r"/audit/\{item_id\}")

# How both programs below load a function of a tree, and call it.
PRELUDE = """
import importlib, json, os, sys, time
from importlib.util import find_spec
from types import SimpleNamespace
import boto3, moto
context = SimpleNamespace(aws_request_id="r", function_name="f", memory_limit_in_mb=1,
    invoked_function_arn="a", function_version="1")
def load(package):  # before lambda_function.py the handler was in app.py
    entry = package + ".lambda_function"
    module = importlib.import_module(entry if find_spec(entry) else package + ".app")
    return lambda event: module.lambda_handler(event, context)
def event(name):
    return json.load(open("events/" + name))
"""

# Buys a ticket through the function's handler on moto; prints the files of functions/ that ran.
TRACE = """
root = os.path.join(os.getcwd(), "functions") + os.sep
with moto.mock_aws():
    boto3.client("dynamodb").create_table(
        TableName="tickets", BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}])
    admin, buy = load("admin"), load("buy_ticket")
    assert admin(event("admin/reset.json"))["statusCode"] == 200
    order = event("buy_ticket/with_key.json")
    files = {}
    def note(frame, event, _):
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(root):
            files.setdefault(name.removeprefix(root), set()).add(frame.f_code.co_qualname)
    sys.setprofile(note)
    answer = buy(order)
    sys.setprofile(None)
    assert answer["statusCode"] == 201, answer
    print("files:" + json.dumps({name: len(called) for name, called in files.items()}))
"""

# Buys tickets through the function's handler from a store that answers at once, so that only the
# code's own CPU counts. Prints microseconds per purchase. Seconds of two runs do not compare on a
# shared machine, so the trees take turns.
CPU = """
number = lambda value: {"N": str(value)}
sale = {"pk": {"S": "item#1"}, "item_name": {"S": "A"}, "capacity": number(10_000_000),
    "shard_count": number(8), "shards_ever": number(8), "generation": number(1),
    "created_at": {"S": "2026-01-15T12:30:27.000000Z"}, "used_keys": {"L": []}}
boto3.client = lambda *_, **__: SimpleNamespace(
    get_item=lambda **_: {"Item": sale}, transact_write_items=lambda **_: {})
result, sys.stdout = sys.stdout, open(os.devnull, "w")
buy, order = load("buy_ticket"), event("buy_ticket/with_key.json")
def purchases(count):
    for _ in range(count):
        assert buy(order)["statusCode"] == 201
purchases(300)
began = time.process_time()
purchases(2000)
print("cpu:", (time.process_time() - began) / 2000 * 1e6, file=result)
"""
ROUNDS = 7


def python_files(root: Path, package: str) -> list[Path]:
    return sorted(path for path in (root / package).rglob("*.py") if ".venvs" not in path.parts)


def function_lengths(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield length in lines and name of each function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            yield node.end_lineno - node.lineno + 1, node.name


def import_rules(root: Path) -> list[str]:
    """Return the import rules of the tree (pyproject.toml), each with KEPT or BROKEN."""
    finished = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-logo", "--no-cache"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": "functions", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return re.findall(r"^.* (?:KEPT|BROKEN)$", finished.stdout, re.MULTILINE)


def places_of_route(root: Path) -> dict[str, int]:
    """Return file → number of lines that name the route."""
    suffixes = {".py", ".yaml", ".md", ".json"}
    places = {}
    for path in sorted(path for path in root.rglob("*") if path.suffix in suffixes):
        local = path.relative_to(root)
        if not any(part.startswith(".") for part in local.parts) and path != Path(__file__):
            lines = sum(bool(ROUTE.search(line)) for line in path.read_text().splitlines())
            if lines and local.name not in {"decisions.md", "CHANGELOG.md"}:
                places[str(local)] = lines
    return places


def run_in(root: Path, program: str) -> str:
    """Return what a program prints with the functions of a tree."""
    environment = os.environ | {
        "PYTHONPATH": "functions",
        "TABLE_NAME": "tickets",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "POWERTOOLS_SERVICE_NAME": "structure",
        "POWERTOOLS_METRICS_NAMESPACE": "structure",
    }
    finished = subprocess.run(
        [sys.executable, "-c", PRELUDE + program],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise SystemExit(finished.stderr)
    return finished.stdout


def purchase_trace(root: Path) -> dict[str, int]:
    """Return file → functions called, of the files of functions/ that one purchase runs."""
    (found,) = re.findall(r"^files:(.*)$", run_in(root, TRACE), re.MULTILINE)
    files: dict[str, int] = json.loads(found)
    return files


def compare_cpu(before: Path, after: Path) -> None:
    """Print the CPU of a purchase in two trees, which take turns, and their ratio."""
    rounds = [
        tuple(float(run_in(tree, CPU).partition("cpu:")[2]) for tree in (before, after))
        for _ in range(ROUNDS)
    ]
    old, new = (median(column) for column in zip(*rounds, strict=True))
    ratio = median(later / earlier for earlier, later in rounds)
    print(f"\nCPU of a purchase, without store and network, {ROUNDS} rounds in turn:")
    print(f"  then {old:.0f} µs, now {new:.0f} µs; ratio of each pair: {ratio:.2f} (median)")


def report(root: Path) -> None:
    """Print all figures of the tree at `root`."""
    print(f"{'':12}{'files':>7}{'lines':>8}{'functions':>11}{'> 30 lines':>12}{'> 50 lines':>12}")
    for package in PACKAGES:
        paths = python_files(root, package)
        lines = sum(len(path.read_text().splitlines()) for path in paths)
        trees = [ast.parse(path.read_text()) for path in paths]
        lengths = [length for tree in trees for length, _ in function_lengths(tree)]
        over = [sum(length > limit for length in lengths) for limit in (30, 50)]
        print(f"{package:12}{len(paths):7}{lines:8}{len(lengths):11}{over[0]:12}{over[1]:12}")
    print("\nimports in functions/:", *import_rules(root), sep="\n  ")
    places = places_of_route(root)
    code = {name: lines for name, lines in places.items() if name.startswith("functions/")}
    print(f"\nfiles that name the route {ROUTE.pattern}: {len(places)}, in functions/: {len(code)}")
    for name, lines in places.items():
        print(f"  {name}: {lines}")
    files = purchase_trace(root)
    print(f"\nfiles that a purchase runs: {len(files)}, with {sum(files.values())} functions")
    for name, count in sorted(files.items()):
        print(f"  {name}: {count}")


def main() -> None:
    """Print the figures of the tree or of a revision."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `make structure | head` is not an error
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision", nargs="?", help="a commit or a tag (default: this tree)")
    revision = parser.parse_args().revision
    if revision is None:
        report(ROOT)
        return
    archive = subprocess.run(
        ["git", "archive", revision], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        raise SystemExit(archive.stderr.decode())
    with (
        tempfile.TemporaryDirectory() as folder,
        tarfile.open(fileobj=BytesIO(archive.stdout)) as t,
    ):
        t.extractall(folder, filter="data")
        report(Path(folder))
        compare_cpu(Path(folder), ROOT)


if __name__ == "__main__":
    main()
