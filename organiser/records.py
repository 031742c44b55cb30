"""`organiser audit`, `repair` and `export`: the purchase records of a sale."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from organiser.errors import ExitStatus
from organiser.export_file import ExportFormat, WantedExport, to_file, to_stdout
from organiser.options import AsJson, ItemId, Yes
from organiser.session import Session, open_session


def audit(context: typer.Context, item_id: ItemId, as_json: AsJson = False) -> None:
    """Compare the purchase records of a sale with its counters, also while it sells.

    Exit status 1: there are differences.
    """
    with open_session(context.obj, as_json=as_json) as session:
        report = _all_parts(session, item_id)
        if session.output.as_json:
            session.output.json(report)
        else:
            session.output.facts(
                {
                    "item": str(report["item_id"]),
                    "name": report["item_name"],
                    "generation": report["generation"],
                    "capacity": report["capacity"],
                    "free": report["stock"],
                    "held": report["held"],
                    "sold": report["sold"],
                    "purchase records": report["purchase_records"],
                    "tickets in records": report["tickets_in_records"],
                    "agrees": report["agrees"],
                    "checked": report["checked_at"],
                }
            )
            _list(session, "Differences", report["problems"])
        _end(session, report["agrees"], f"Try: organiser repair {item_id}")


def repair(
    context: typer.Context,
    item_id: ItemId,
    *,
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Change it, or only tell what would change.")
    ] = False,
    drop_unrecorded: Annotated[
        bool,
        typer.Option(
            "--drop-unrecorded",
            help="Take tickets that are counted as sold and have no record out of the capacity.",
        ),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make counters what the purchase records say. Tells what it would do, unless --apply.

    It is a state to reach: repeating it is safe and changes nothing. With --drop-unrecorded it asks
    for the item's name. Exit status 1: something is left that cannot be repaired.
    """
    with open_session(context.obj, as_json=as_json) as session:
        if apply and drop_unrecorded and not yes:
            session.confirm(
                item_id, "Tickets that are counted as sold and have no record will leave the sale."
            )
        report = _repaired(session, item_id, apply=apply, drop_unrecorded=drop_unrecorded)
        if session.output.as_json:
            session.output.json(report)
        else:
            done, would = "Repaired", "Dry run. It would repair"
            _list(session, done if apply else would, report["repaired"])
            _list(session, "Left", report["problems"])
            if report["repaired"] and not apply:
                session.output.say(f"To repair it: organiser repair {item_id} --apply")
        _end(
            session, not report["problems"], "What is left cannot be known, or says why it is left."
        )


def export(
    context: typer.Context,
    item_id: ItemId,
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="By default the standard output."),
    ] = None,
    shape: Annotated[
        ExportFormat | None,
        typer.Option("--format", help="By default csv for FILE.csv, otherwise jsonl."),
    ] = None,
    generation: Annotated[
        int | None, typer.Option(help="Of an earlier generation of the sale.", min=1)
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="FILE may be there, and is replaced at the end.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin again where an export was interrupted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Export all purchases of a sale, as JSON lines or CSV, with their total as the last line.

    With --output, the same command goes on where it was interrupted, FILE is there only when it is
    complete, and --json prints the total. Exit status 1: the total does not agree with the
    counters.
    """
    if shape is None:
        is_table = output is not None and output.suffix.lower() == ".csv"
        shape = ExportFormat.CSV if is_table else ExportFormat.JSON_LINES
    wanted = WantedExport(item_id, shape, generation)
    with open_session(context.obj, as_json=as_json) as session:
        if output is None:
            total = to_stdout(session, wanted)
        else:
            total = to_file(session, wanted, output, overwrite=overwrite, restart=restart)
            if as_json:
                session.output.json(total)
            else:
                names = ("purchases", "quantity", "refunded_quantity", "tickets", "sold", "agrees")
                session.output.facts({"file": output} | {name: total[name] for name in names})
        for problem in [] if as_json else total["problems"]:
            session.output.say(problem)
        _end(session, total["agrees"], f"Try: organiser audit {item_id}")


def _all_parts(session: Session, item_id: int) -> dict[str, Any]:
    """Return the last part of an audit, which has what all parts found."""
    query = ""
    requests = 0
    with session.output.progress(f"Auditing item {item_id}") as progress:
        while True:
            report: dict[str, Any] = session.read(f"/audit/{item_id}{query}", signed=True)
            requests += 1
            progress.update(
                f"Auditing item {item_id}: {report['purchase_records']:,} purchase records in "
                f"{requests:,} requests"
            )
            if report["cursor"] is None:
                return report
            query = "?" + urlencode({"cursor": report["cursor"]})


def _repaired(
    session: Session, item_id: int, *, apply: bool, drop_unrecorded: bool
) -> dict[str, Any]:
    """Return the last part of a repair, with what all parts repaired."""
    body: dict[str, Any] = {"dry_run": not apply, "drop_unrecorded": drop_unrecorded}
    repaired: list[str] = []
    requests = 0
    with session.output.progress(f"Repairing item {item_id}") as progress:
        while True:
            report = session.repeatable("POST", f"/audit/{item_id}/repair", body)
            repaired += report["repaired"]
            requests += 1
            progress.update(
                f"Repairing item {item_id}: {len(repaired):,} repairs in {requests:,} requests"
            )
            if report["cursor"] is None:
                return report | {"repaired": repaired}
            body["cursor"] = report["cursor"]


def _list(session: Session, title: str, lines: Sequence[str]) -> None:
    """Print lines below a title; "nothing" without any."""
    session.output.say(f"{title}:" if lines else f"{title}: nothing.")
    session.output.lines([f"  {line}" for line in lines])


def _end(session: Session, agrees: bool, remedy: str) -> None:
    """End with the exit status of differences where there are some."""
    if not agrees:
        session.output.say(remedy)
        raise typer.Exit(ExitStatus.DIFFERENCES)
