"""A report as one HTML page: no script, no other file, and pictures as inlined SVG."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from msgspec import Struct

from proof import caught
from proof.history import GUARANTEES, History, Violation
from proof.pictures import StoreCall, counter_example_picture, sale_picture

MEANINGS: Final = MappingProxyType(
    {
        "G1": "Never more tickets are sold and held than there are.",
        "G2": "No one is refused while enough tickets are free.",
        "G3": "One key buys once, however often it is sent.",
        "G4": "Counters, purchase records and exports agree.",
        "G5": "Receipts are found again, and refusals say what was true.",
        "G6": "Each request has a definite answer, in time.",
    }
)
_FOLDER: Final = Path(__file__).parent


class CounterExample(Struct, frozen=True):
    """A violation, its picture (None: it was found at rest), and the store's calls as lines."""

    violation: Violation
    picture: Markup | None
    calls: Sequence[str] = ()


class Section(Struct, frozen=True):
    """One sale: verdict ("passed", "failed", "inconclusive"), checks, figures and pictures.

    checks: verdict → text of each. figures: name → value. picture: None without any request.
    """

    title: str
    verdict: str
    checks: Sequence[tuple[str, str]]
    figures: Sequence[tuple[str, str]]
    picture: Markup | None
    counter_examples: Sequence[CounterExample]


class ReportPage(Struct, frozen=True):
    """What a report says.

    verdict: as of a section, or "interrupted", or "not usable". summary: it in words. facts: name →
    value: of what, when, with which seed. again: the command that repeats it.
    """

    title: str
    verdict: str
    summary: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    again: str

    def write(self, path: Path) -> None:
        """Write the page. Raises OSError."""
        environment = Environment(
            loader=FileSystemLoader(_FOLDER),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        path.write_text(
            environment.get_template("page.html").render(
                page=self, guarantees=self.guarantees(), caught=caught.read()
            ),
            encoding="utf-8",
        )

    def guarantees(self) -> list[tuple[str, str, int]]:
        """Return of each guarantee its name and meaning, and how often it was broken."""
        broken = Counter[str]()
        for section in self.sections:
            for example in section.counter_examples:
                broken[example.violation.guarantee] += example.violation.count
        return [
            (f"{number} {name}", MEANINGS[number], broken[number])
            for number, name in GUARANTEES.items()
        ]


def picture_of(history: History) -> Markup | None:
    """Return the picture of a sale. Its text is escaped; None without any request."""
    return Markup(sale_picture(history)) if history.requests else None  # noqa: S704


def counter_example(
    history: History,
    violation: Violation,
    calls: Sequence[StoreCall] = (),
    lines: Sequence[str] = (),
) -> CounterExample:
    """Return a violation with its picture. calls, lines: of the store, if they are known."""
    drawn = counter_example_picture(history, violation, calls)
    return CounterExample(violation, Markup(drawn) if drawn else None, lines)  # noqa: S704
