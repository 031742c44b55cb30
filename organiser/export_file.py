"""An export, part by part: to the standard output, or to a file that can be resumed."""

import csv
import fcntl
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Final, Self
from urllib.parse import urlencode

from organiser.answers import demand_success, next_part
from organiser.errors import Unexpected, Unusable
from organiser.session import Session

PARTIAL: Final = ".partial"  # the file, until it is complete
NEXT: Final = ".partial.json"  # where it goes on
_RESTART: Final = "Add --restart to begin again, or choose another file."


class ExportFormat(StrEnum):
    """How the lines are written."""

    JSON_LINES = "jsonl"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class WantedExport:
    """What is exported. generation: None for the current one."""

    item_id: int
    shape: ExportFormat
    generation: int | None

    @property
    def first(self) -> str:
        """Return the query of the first part."""
        query: dict[str, str | int] = {"format": self.shape}
        if self.generation is not None:
            query["generation"] = self.generation
        return urlencode(query)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an export goes on. query: of the next part. bytes, purchases: what came before it.

    columns: of CSV, which only the first part names.
    """

    query: str
    bytes: int = 0
    purchases: int = 0
    columns: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """Lines of an export. total: the last line. following: None in the last part."""

    content: bytes
    total: dict[str, Any]
    following: Place | None


def part_at(session: Session, export: WantedExport, place: Place) -> Part:
    """Return the part at a place. Raises Unexpected where it is not what the API promises."""
    path = f"/export/{export.item_id}?{place.query}"
    response, _ = session.client.send("GET", path)
    demand_success(response, session.url, "GET", path)
    query = next_part(response)
    try:
        columns, lines = _lines(response.content.decode(), export.shape, place.columns)
        purchases = sum(line["type"] == "purchase" for line in lines)
        others = [line for line in lines if line["type"] != "purchase"]
        if len(others) != (query is None) or others != lines[purchases:]:
            raise ValueError("its total is not the last line")
        counted = place.purchases + purchases
        if others and others[0]["purchases"] != counted:
            raise ValueError(f"{counted} purchases, and a total of {others[0]['purchases']}")
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise Unexpected(
            f"The export is not complete: {error}.", "Run it again, with --restart."
        ) from error
    size = place.bytes + len(response.content)
    following = None if query is None else Place(query, size, counted, columns)
    return Part(response.content, others[0] if others else {}, following)


def parts_from(session: Session, export: WantedExport, place: Place) -> Iterator[Part]:
    """Yield the parts from a place to the end, and show how far it is."""
    next_place: Place | None = place
    doing = f"Exporting item {export.item_id}"
    with session.output.progress(doing) as progress:
        while next_place is not None:
            progress.update(f"{doing}: {next_place.purchases:,} purchases")
            part = part_at(session, export, next_place)
            yield part
            next_place = part.following


def to_stdout(session: Session, export: WantedExport) -> dict[str, Any]:
    """Print all parts; return the total."""
    total: dict[str, Any] = {}
    for part in parts_from(session, export, Place(export.first)):
        sys.stdout.buffer.write(part.content)
        sys.stdout.buffer.flush()
        total = part.total
    return total


def to_file(
    session: Session, export: WantedExport, path: Path, *, overwrite: bool, restart: bool
) -> dict[str, Any]:
    """Write all parts to a file; return the total. Raises Unusable for a file that will not do."""
    try:
        with _Download(session, export, path, overwrite=overwrite, restart=restart) as download:
            return download.run()
    except OSError as error:  # of the file: the client has errors of its own
        raise Unusable(f"{path}: {error.strerror}.", "Choose another file.") from error


class _Download:
    """An export to a file, which is there when it is complete.

    Until then it is FILE.partial, and FILE.partial.json says where it goes on. Raises Unusable for
    a file that will not do, and OSError.
    """

    def __init__(
        self, session: Session, export: WantedExport, path: Path, *, overwrite: bool, restart: bool
    ) -> None:
        self._session = session
        self._export = export
        self._path = path
        self._restart = restart
        self._partial = path.with_name(path.name + PARTIAL)
        self._next = path.with_name(path.name + NEXT)
        self._of = f"{session.url} item {export.item_id}, {export.first}"
        if path.exists() and not overwrite:
            raise Unusable(f"{path} is there already.", "Choose another file, or add --overwrite.")
        self._file: BinaryIO = self._partial.open("ab+")

    def __enter__(self) -> Self:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise Unusable(
                f"Another export writes {self._path}.", "Wait for it, or choose another file."
            ) from error
        return self

    def __exit__(self, *error: object) -> None:
        if not os.fstat(self._file.fileno()).st_size:  # not even one part came
            self._partial.unlink(missing_ok=True)
        elif self._next.exists():
            self._session.output.say("The same command goes on where this one stopped.")
        self._file.close()

    def run(self) -> dict[str, Any]:
        """Fetch all parts that are missing; return the total."""
        place, total = self._begun(), dict[str, Any]()
        self._file.truncate(place.bytes)
        for part in parts_from(self._session, self._export, place):
            self._file.write(part.content)
            self._file.flush()
            os.fsync(self._file.fileno())
            if part.following is not None:
                self._save(part.following)
            total = part.total
        self._partial.replace(self._path)
        self._next.unlink(missing_ok=True)
        return total

    def _begun(self) -> Place:
        """Return where the export goes on: at its beginning, or where it was interrupted."""
        if self._restart:
            self._next.unlink(missing_ok=True)
        try:
            saved = json.loads(self._next.read_text())
            of, place = saved["of"], Place(**saved["place"])
        except FileNotFoundError:
            return Place(self._export.first)
        except (ValueError, TypeError, KeyError) as error:
            raise Unusable(f"{self._next} is damaged: {error}.", _RESTART) from error
        if of != self._of:
            raise Unusable(f"{self._partial} is part of another export: {of}.", _RESTART)
        if os.fstat(self._file.fileno()).st_size < place.bytes:
            raise Unusable(f"{self._partial} is shorter than it was.", _RESTART)
        self._session.output.say(f"Going on after {place.purchases:,} purchases.")
        return place

    def _save(self, place: Place) -> None:
        """Write where it goes on; a crash leaves the place before it, or this one."""
        new = self._next.with_name(self._next.name + ".new")
        new.write_text(json.dumps({"of": self._of, "place": asdict(place)}))
        new.replace(self._next)


def _lines(
    text: str, shape: ExportFormat, columns: Sequence[str]
) -> tuple[Sequence[str], list[dict[str, Any]]]:
    """Return the names of the columns, and the lines of a part."""
    if shape is ExportFormat.JSON_LINES:
        return (), [json.loads(line) for line in text.split("\n") if line]
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    if not columns and rows:
        columns = rows.pop(0)
    named = [dict(zip(columns, row, strict=True)) for row in rows]
    return columns, [_figures(row) if row["type"] == "total" else row for row in named]


def _figures(row: Mapping[str, str]) -> dict[str, Any]:
    """Return a total in CSV as JSON lines have it."""
    figures = {name: int(value) for name, value in row.items() if value.isdecimal()}
    return {
        **row,
        **figures,
        "sold": figures.get("sold"),
        "agrees": row["agrees"] == "true",
        "problems": [row["problems"]] if row["problems"] else [],
    }
