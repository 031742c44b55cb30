"""What is printed: data on the standard output, and all else on the standard error.

Colours and progress are rich's, which leaves them out where they are not wanted (NO_COLOR) or not
seen (a pipe).
"""

import json
import sys
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from organiser.errors import Unusable

PIPE_COLUMNS: Final = 160  # of a table that no terminal shows
PROGRESS_SECONDS: Final = 10.0  # between two lines of progress, where no terminal shows it
# Classes of characters that leave the order of a line as it is (UAX #9).
_LEFT_TO_RIGHT: Final = frozenset({"", "L", "EN", "ES", "ET", "CS", "NSM", "BN", "S", "WS", "ON"})
_ISOLATE, _POP_ISOLATE = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"


def shown(text: object) -> str:
    """Return a text of the service as a terminal may show it.

    Control characters are spelt out, so none moves the cursor, and what changes the direction of
    writing ends with the text.
    """
    spelt = "".join(
        character if unicodedata.category(character) != "Cc" else repr(character)[1:-1]
        for character in str(text)
    )
    has_direction = any(unicodedata.bidirectional(each) not in _LEFT_TO_RIGHT for each in spelt)
    return f"{_ISOLATE}{spelt}{_POP_ISOLATE}" if has_direction else spelt


class Output:
    """Prints what one command finds, as JSON or for people."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        width = None if sys.stdout.isatty() else PIPE_COLUMNS
        self._data = Console(width=width, markup=False, emoji=False, highlight=False)
        self._talk = Console(stderr=True, markup=False, emoji=False, highlight=False)

    def json(self, document: Any) -> None:
        """Print a document on one line."""
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def facts(self, facts: Mapping[str, object]) -> None:
        """Print names and values, one pair on a line. One without a value is left out."""
        self._data.print(_facts(facts), soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table. Numbers are on the right."""
        table = Table(box=None, pad_edge=False)
        for index, column in enumerate(columns):
            numbers = all(isinstance(row[index], int) for row in rows)
            table.add_column(column, justify="right" if numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        self._data.print(table)

    def lines(self, lines: Sequence[str]) -> None:
        """Print lines as they are, unwrapped."""
        for line in lines:
            self._data.print(Text(shown(line)), soft_wrap=True)

    def say(self, text: str, style: str = "") -> None:
        """Say something that is no data."""
        self._talk.print(Text(text, style), soft_wrap=True)

    @contextmanager
    def progress(self, text: str) -> Iterator["Progress"]:
        """Show what a long command has done so far, until it ends."""
        with self._talk.status(Text(text)) as status:
            yield Progress(self._talk, status)

    @contextmanager
    def live(self) -> Iterator["Watch"]:
        """Show facts that change: in place on a terminal, otherwise a line for each change."""
        with Live(console=self._data, auto_refresh=False, transient=False) as live:
            yield Watch(self, live if self._data.is_terminal and not self.as_json else None)

    def confirm(self, item_name: str, consequence: str) -> None:
        """Demand that the item's name is typed. Raises Unusable where it is not."""
        self.say(consequence, "bold")
        self._talk.print(f"Type the item's name to go on ({shown(item_name)}): ", end="")
        typed = sys.stdin.readline()
        if not sys.stdin.isatty():
            self.say("")  # ends the line, which on a terminal the typed one does
        if _composed(typed) != _composed(item_name):
            raise Unusable(
                "Not confirmed: nothing was changed.",
                "Type the item's name letter for letter, or add --yes.",
            )


class Progress:
    """What a long command has done so far."""

    def __init__(self, talk: Console, status: Any) -> None:
        self._talk = talk
        self._status = status
        self._said_at = time.monotonic()

    def update(self, text: str) -> None:
        """Show it: always on a terminal, and now and then elsewhere."""
        self._status.update(Text(text))
        now = time.monotonic()
        if not self._talk.is_terminal and now - self._said_at >= PROGRESS_SECONDS:
            self._said_at = now
            self._talk.print(Text(text), soft_wrap=True)


class Watch:
    """Facts that change. live: None where no terminal shows them."""

    def __init__(self, output: Output, live: Live | None) -> None:
        self._output = output
        self._live = live

    def show(self, document: Mapping[str, Any], facts: Mapping[str, object], line: str) -> None:
        """Show the facts of a document. line: them, on one line."""
        if self._output.as_json:
            self._output.json(document)
        elif self._live is None:
            self._output.lines([line])
            sys.stdout.flush()
        else:
            self._live.update(_facts(facts), refresh=True)


def _facts(facts: Mapping[str, object]) -> Text:
    known = {name: value for name, value in facts.items() if value is not None}
    width = max(map(len, known), default=0)
    lines = [
        Text.assemble((name.ljust(width), "dim"), "  ", _cell(value))
        for name, value in known.items()
    ]
    return Text("\n").join(lines)


def _cell(value: object) -> Text:
    match value:
        case None:
            return Text("-")
        case bool():
            return Text("yes" if value else "no")
        case int():
            return Text(f"{value:,}")
        case _:
            return Text(shown(value))


def _composed(text: str) -> str:
    """Return a text in the form in which equal letters are equal (Unicode's NFC)."""
    return unicodedata.normalize("NFC", text.strip())
