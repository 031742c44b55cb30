"""What a measurement gives, and how it is shown: on the terminal, in the README and as JSON."""

import statistics
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from rich.console import Group
from rich.table import Table

from benchmarks.process import ROOT

TIMES: Final = "\N{MULTIPLICATION SIGN}"  # the unit of a ratio

README: Final = ROOT / "README.md"
RESULTS: Final = ROOT / "benchmarks" / "results.json"  # the figures of the README
COLUMNS: Final = 100  # of a line in the README

type Pair = tuple[float, float]  # our figure and the one that it is compared with, in one unit
type Progress = Callable[[str], object]  # is told what is measured next


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: a ratio that was measured interleaved, with its spread, or an exact count.

    value: a ratio where the unit is TIMES, otherwise a count. how: what was measured, in a
    sentence. low, high: the middle 80 % of a ratio's pairs; None for a count. at_most,
    at_least: the target; None where the figure has none. samples: the raw figures.
    """

    name: str
    value: float
    unit: str
    how: str
    low: float | None = None
    high: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    samples: Sequence[Any] = ()

    @classmethod
    def ratio(
        cls,
        name: str,
        pairs: Sequence[Pair],
        how: str,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> Self:
        """Return the median ratio of at least two pairs."""
        ratios = [ours / theirs for ours, theirs in pairs]
        deciles = statistics.quantiles(ratios, n=10, method="inclusive")
        samples = [[float(f"{figure:.4g}") for figure in pair] for pair in pairs]
        return cls(
            name,
            round(statistics.median(ratios), 3),
            TIMES,
            how,
            low=round(deciles[0], 3),
            high=round(deciles[-1], 3),
            at_most=at_most,
            at_least=at_least,
            samples=samples,
        )

    @property
    def figure(self) -> str:
        """Return the value with its unit."""
        return f"{_number(self.value)} {self.unit}".rstrip()

    @property
    def spread(self) -> str:
        """Return the middle 80 % of a ratio's pairs; "exact" for a count."""
        if self.low is None or self.high is None:
            return "exact"
        return f"{_number(self.low)} to {_number(self.high)}"

    @property
    def verdict(self) -> str:
        """Return the target and whether it is met; empty without one."""
        if self.at_most is not None:
            return f"≤ {self.at_most:g}{', missed' * (self.value > self.at_most)}"
        if self.at_least is not None:
            return f"≥ {self.at_least:g}{', missed' * (self.value < self.at_least)}"
        return ""


def interleaved[Figure](
    ours: Callable[[], Figure], theirs: Callable[[], Figure], pairs: int
) -> Iterator[tuple[Figure, Figure]]:
    """Measure both in turn, so that whatever else the machine does meets both alike."""
    for number in range(pairs):
        if number % 2:
            their_figure = theirs()
            yield ours(), their_figure
        else:
            our_figure = ours()
            yield our_figure, theirs()


def terminal_table(title: str, rows: Sequence[Row]) -> Group:
    """Return the rows for a terminal, and below them how each was measured."""
    hows = _hows(rows)
    table = Table(title=title)
    for heading in ("", "measured", "spread", "target", "how"):
        table.add_column(heading, justify="right" if heading in {"measured", "how"} else "left")
    for row in rows:
        how = str(hows.index(row.how) + 1)
        table.add_row(row.name, row.figure, row.spread, row.verdict, how)
    return Group(table, *[f"{number}. {how}." for number, how in enumerate(hows, 1)])


def markdown_table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, and below them how each was measured."""
    hows = _hows(rows)
    lines = ["| | measured | spread | target | how |", "|---|---:|---|---|---:|"]
    lines += [
        f"| {row.name} | {row.figure} | {row.spread} | {row.verdict} | {hows.index(row.how) + 1} |"
        for row in rows
    ]
    notes = [
        textwrap.fill(f"{number}. {how}.", COLUMNS, subsequent_indent="   ")
        for number, how in enumerate(hows, 1)
    ]
    return "\n".join([*lines, "", *notes])


def with_part(text: str, name: str, command: str, part: str) -> str:
    """Return a document's text with its generated part `name`, which the command writes.

    Raises ValueError where the text has no place for it.
    """
    begin, end = f"<!-- {name}: written by `{command}` -->\n", f"<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"there is no place for the {name}")
    return f"{before}{begin}\n{part}\n\n{end}{after}"


def _hows(rows: Sequence[Row]) -> list[str]:
    """Return how the rows were measured, each way once."""
    return list(dict.fromkeys(row.how for row in rows))


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:,.3g}"
