"""The generated parts of the documents: records, moves, tests by guarantee, and what was measured.

make docs
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import with_part
from proof.history import GUARANTEES
from simulation import explore, scaling
from simulation.mutants import table
from ticketing.moves import MOVES
from ticketing.store.items import (
    BUYER,
    CATALOGUE_KEY,
    PAYMENT,
    PURCHASE,
    SALE,
    SHARD,
    SUMMARY,
    Codec,
    buyer_key,
    payment_key,
    purchase_key,
    sale_key,
    shard_key,
    summary_key,
)

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "architecture.md"
MUTANTS = ROOT / "docs" / "mutants.md"
SCALING = ROOT / "docs" / "scaling.md"
SMALL_WORLDS = ROOT / "docs" / "small-worlds.md"
README = ROOT / "README.md"
# Buyers a second and shards of the points that the README shows.
README_POINTS = {(500, 16), (8000, 16), (8000, 100)}


def records() -> str:
    """Return a table of the records, with their keys and attributes."""
    item: Any = "<item_id>"
    index: Any = "<nn>"
    generation: Any = "<generation>"
    part: Any = "<part>"
    kinds: list[tuple[str, Any, Codec[Any]]] = [
        ("sale", sale_key(item), SALE),
        ("stock shard", shard_key(item, index), SHARD),
        ("purchase", purchase_key("<purchase_id>"), PURCHASE),
        ("buyer", buyer_key(item, generation, "<buyer_id>"), BUYER),
        ("payment", payment_key("<payment_reference>"), PAYMENT),
        ("stock summary", summary_key(item, part), SUMMARY),
    ]
    rows = ["| record | `pk` | attributes |", "|---|---|---|"]
    for name, key, codec in kinds:
        attributes = [f"`{each}`" for each in codec.attributes]
        rows.append(f"| {name} | `{key['pk']['S']}` | {', '.join(attributes)} |")
    rows.append(f"| catalogue | `{CATALOGUE_KEY['pk']['S']}` | `item_ids` |")
    return "\n".join(rows)


SLOT_USES = {
    (False, False): "",
    (False, True): "adds to its slot",
    (True, True): "to a later slot",
    (True, False): "takes from its slot",
}


def moves() -> str:
    """Return the table of moves, and a diagram of the purchase record's statuses."""
    rows = ["| move | debit → credit | purchase record | expiry slot |", "|---|---|---|---|"]
    arrows = []
    for move in MOVES:
        before = move.before or "none"
        record = f"{before} → {move.after}" if move.puts_record else f"{before}, unchanged"
        slot = SLOT_USES[move.from_slot, move.to_slot]
        rows.append(f"| {move.name} | {move.debit} → {move.credit} | {record} | {slot} |")
        if move.puts_record:
            arrows.append(f"    {move.before or '[*]'} --> {move.after}: {move.name}")
    return "\n".join([*rows, "", "```mermaid", "stateDiagram-v2", *arrows, "```"])


def guarantees() -> str:
    """Return a table of the test files that show each guarantee."""
    shown: dict[str, list[str]] = {name: [] for name in GUARANTEES}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        marks = set(re.findall(r"^\s*@pytest\.mark\.(G\d)$", path.read_text(), re.MULTILINE))
        for mark in marks:
            shown[mark].append(f"`{path.relative_to(ROOT / 'tests')}`")
    rows = ["| | shown by tests in |", "|---|---|"]
    rows += [f"| {name} {GUARANTEES[name]} | {', '.join(shown[name])} |" for name in shown]
    return "\n".join(rows)


def some_points() -> str:
    """Return a table of few measured points."""
    points = scaling.documented()
    return scaling.table(one for one in points if (one.rate, one.shards) in README_POINTS)


# Document → its generated parts.
PARTS: Mapping[Path, Mapping[str, Callable[[], str]]] = {
    DOCUMENT: {"records": records, "moves": moves, "guarantees": guarantees},
    MUTANTS: {"mutants": table},
    SCALING: {"scaling": lambda: scaling.table(scaling.documented())},
    SMALL_WORLDS: {"worlds": lambda: explore.table(explore.documented())},
    README: {"scaling": some_points},
}


def generated(text: str, document: Path = DOCUMENT) -> str:
    """Return the document's text with its generated parts as they are now."""
    for name, part in PARTS[document].items():
        text = with_part(text, name, "make docs", part())
    return text


if __name__ == "__main__":
    for document in PARTS:
        document.write_text(generated(document.read_text(), document))
    SCALING.with_suffix(".svg").write_text(scaling.picture(scaling.documented()))
