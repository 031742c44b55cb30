"""`organiser sale`: the items and their sales."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from organiser.errors import ServiceBusy, Unanswered, Unusable
from organiser.options import AsJson, DryRun, ItemId, Key, Yes
from organiser.output import shown
from organiser.session import Session, open_session

app = typer.Typer(help="Create, show, change and watch the sale of an item.", no_args_is_help=True)

NOW, NEVER = "now", "never"  # of the window: no opening instant, no closing instant
# What PUT /items/{item_id} takes, and what GET /inventory calls it.
SHOWN_AS: Final[Mapping[str, str]] = {
    "item_name": "item_name",
    "capacity": "initial_stock",
    "shards": "shard_count",
    "hold_seconds": "hold_seconds",
    "per_buyer_limit": "per_buyer_limit",
    "opens_at": "opens_at",
    "closes_at": "closes_at",
}
# The calls that have no body, by the state of the sale after them.
BRINGS_TO: Final[Mapping[str, tuple[str, str]]] = {
    "paused": ("POST", "/items/{item_id}/pause"),
    "open": ("POST", "/items/{item_id}/resume"),
    "deleted": ("DELETE", "/items/{item_id}"),
}
# A sale that is in one of these states sells nothing, and why.
NOT_SELLING: Final[Mapping[str, str]] = {
    "scheduled": "It is not open yet: it opens at {opens_at}.",
    "paused": "It is paused: nothing is sold until `organiser sale resume {item_id}`.",
    "closed": "It is closed since {closes_at}: change that with --closes-at.",
}


@app.command("list")
def list_items(context: typer.Context, as_json: AsJson = False) -> None:
    """List all items."""
    with open_session(context.obj, as_json=as_json, signed=False) as session:
        items: list[dict[str, Any]] = []
        after: int | None = 0
        with session.output.progress("Listing the items") as progress:
            while after is not None:
                page = session.read(f"/items?limit=100&after={after}")
                items += page["items"]
                after = page["next_after"]
                progress.update(f"{len(items):,} items")
        if session.output.as_json:
            session.output.json({"items": items, "next_after": None})
        else:
            names = ("item_id", "item_name", "state", "initial_stock", "opens_at", "closes_at")
            rows = [[str(item["item_id"]), *(item[name] for name in names[1:])] for item in items]
            session.output.table(["item", "name", "state", "capacity", "opens", "closes"], rows)


@app.command()
def show(context: typer.Context, item_id: ItemId, as_json: AsJson = False) -> None:
    """Show the sale of an item: stock, state and window."""
    with open_session(context.obj, as_json=as_json, signed=False) as session:
        _show(session, session.inventory(item_id))


@app.command("open")
def open_sale(
    context: typer.Context,
    item_id: ItemId,
    *,
    name: Annotated[str | None, typer.Option(help="The name; a new item needs one.")] = None,
    capacity: Annotated[
        int | None,
        typer.Option(help="All tickets: free, held and sold; a new item needs it.", min=0),
    ] = None,
    opens_at: Annotated[
        str | None,
        typer.Option(
            metavar="INSTANT", help=f"2026-12-01T10:00:00+01:00, with a zone; or {NOW}: at once."
        ),
    ] = None,
    closes_at: Annotated[
        str | None, typer.Option(metavar="INSTANT", help=f"When it ends; or {NEVER}.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Tickets that a buyer may have; 0: any number.", min=0)
    ] = None,
    hold_seconds: Annotated[int | None, typer.Option(help="How long a hold lasts.", min=1)] = None,
    shards: Annotated[
        int | None, typer.Option(help="Stock shards; later more, never fewer.", min=1)
    ] = None,
    expect_generation: Annotated[
        int | None,
        typer.Option(help="Only where the sale has this generation; 0: only a new item.", min=0),
    ] = None,
    dry_run: DryRun = False,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Create an item, or change its sale, also while it sells. What is left out stays as it is."""
    wanted: dict[str, str | int | None] = {
        "item_name": name,
        "capacity": capacity,
        "shards": shards,
        "hold_seconds": hold_seconds,
        "per_buyer_limit": limit,
        "expected_generation": expect_generation,
    }
    given = {field: value for field, value in wanted.items() if value is not None}
    body = given | _window(opens_at, closes_at)
    with open_session(context.obj, as_json=as_json) as session:
        _put(session, item_id, body, key, dry_run=dry_run)


@app.command("raise")
def raise_capacity(
    context: typer.Context,
    item_id: ItemId,
    capacity: Annotated[int, typer.Argument(help="All tickets: free, held and sold.", min=1)],
    *,
    shards: Annotated[int | None, typer.Option(help="Also this many stock shards.", min=1)] = None,
    dry_run: DryRun = False,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Raise the capacity of a sale. Buyers get the new tickets within a second."""
    body = {"capacity": capacity} | ({} if shards is None else {"shards": shards})
    with open_session(context.obj, as_json=as_json) as session:
        before = session.inventory(item_id)["initial_stock"]
        if capacity < before:
            raise Unusable(
                f"The capacity is {before:,}, so {capacity:,} would lower it.",
                f"If you mean it: organiser sale open {item_id} --capacity {capacity}",
            )
        _put(session, item_id, body, key, dry_run=dry_run)


@app.command()
def pause(
    context: typer.Context,
    item_id: ItemId,
    *,
    dry_run: DryRun = False,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Stop selling within a second, until the sale is resumed."""
    with open_session(context.obj, as_json=as_json) as session:
        _bring_to(session, item_id, "paused", key, dry_run=dry_run)


@app.command()
def resume(
    context: typer.Context,
    item_id: ItemId,
    *,
    dry_run: DryRun = False,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Sell again, after a pause."""
    with open_session(context.obj, as_json=as_json) as session:
        _bring_to(session, item_id, "open", key, dry_run=dry_run)


@app.command()
def delete(
    context: typer.Context,
    item_id: ItemId,
    *,
    dry_run: DryRun = False,
    yes: Yes = False,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Delete an item of which no ticket is sold or held. Asks for its name."""
    with open_session(context.obj, as_json=as_json) as session:
        if not (yes or dry_run):
            session.confirm(item_id, f"Item {item_id} will be deleted, with its sale.")
        _bring_to(session, item_id, "deleted", key, dry_run=dry_run)


@app.command()
def watch(
    context: typer.Context,
    item_id: ItemId,
    *,
    seconds: Annotated[
        float | None,
        typer.Option("--for", metavar="SECONDS", help="Stop after this time.", min=0),
    ] = None,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", help="How often to look.", min=0.5)
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Watch a sale until it is closed or deleted, or until Ctrl-C.

    A terminal shows it in place. A pipe gets a line for each change, with --json a document.
    """
    until = None if seconds is None else time.monotonic() + seconds
    seen: dict[str, Any] | None = None
    with (
        open_session(context.obj, as_json=as_json, signed=False) as session,
        session.output.live() as view,
    ):
        while True:
            now = session.inventory(item_id) if seen is None else _latest(session, item_id, seen)
            if now is not None and now != seen:
                seen = now
                view.show(now, _facts(now), _line(now))
            if now is None or now["state"] == "closed":
                return
            if until is not None and time.monotonic() + every > until:
                return
            time.sleep(every)


def _latest(session: Session, item_id: int, seen: dict[str, Any]) -> dict[str, Any] | None:
    """Return the sale now; as it was seen where there is no answer, None where it is deleted."""
    try:
        now = session.find(item_id)
    except (ServiceBusy, Unanswered) as error:
        session.output.say(error.what, "dim")
        return seen
    if now is None:
        session.output.say(f"Item {item_id} is deleted.")
    return now


def _window(opens_at: str | None, closes_at: str | None) -> dict[str, str | None]:
    """Return the fields of the window: None for an instant that there shall not be."""
    window: dict[str, str | None] = {}
    if opens_at is not None:
        window["opens_at"] = None if opens_at == NOW else opens_at
    if closes_at is not None:
        window["closes_at"] = None if closes_at == NEVER else closes_at
    return window


def _put(
    session: Session, item_id: int, body: Mapping[str, Any], key: str | None, *, dry_run: bool
) -> None:
    path = f"/items/{item_id}"
    if dry_run:
        before = session.find(item_id) or {}
        refusal = _refusal(before, body["capacity"]) if before and "capacity" in body else None
        session.show_dry_run("PUT", path, body, _changes(before, body), refusal)
        return
    _show(session, session.change("PUT", path, body, key))


def _bring_to(
    session: Session, item_id: int, after: str, key: str | None, *, dry_run: bool
) -> None:
    """Bring a sale to the state `after`, one of BRINGS_TO."""
    method, path = BRINGS_TO[after]
    path = path.format(item_id=item_id)
    if not dry_run:
        _show(session, session.change(method, path, None, key))
        return
    before = session.inventory(item_id)
    state, is_deleted = before["state"], after == "deleted"
    is_changed = is_deleted or (state == "paused") != (after == "paused")
    refusal = _refusal(before, capacity=0) if is_deleted else None
    changes = {"state": [state, after]} if is_changed else {}
    session.show_dry_run(method, path, None, changes, refusal)


def _refusal(sale: Mapping[str, Any], capacity: int) -> str | None:
    """Return why the sale cannot have this capacity; None where it can."""
    in_use = sale["held"] + sale["total_purchases"]
    return f"{in_use:,} tickets are sold and held." if capacity < in_use else None


def _changes(before: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what would be other than it is: by name, what it is and what it would be."""
    changes = {}
    for field, name in SHOWN_AS.items():
        if field not in body:
            continue
        old, new = before.get(name), body[field]
        if field == "per_buyer_limit":
            new = new or None  # 0: none
        if _comparable(old) != _comparable(new):
            changes[field] = [old, new]
    return changes


def _comparable(value: Any) -> Any:
    """Return an instant as such: it has many spellings."""
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _show(session: Session, sale: Mapping[str, Any]) -> None:
    """Print a sale, and say what a reader may overlook."""
    if session.output.as_json:
        session.output.json(sale)
        return
    session.output.facts(_facts(sale))
    hint = NOT_SELLING.get(sale["state"])
    if hint:
        session.output.say(shown(hint.format_map(sale)))


def _facts(sale: Mapping[str, Any]) -> dict[str, object]:
    return {
        "item": str(sale["item_id"]),
        "name": sale["item_name"],
        "state": sale["state"],
        "capacity": sale["initial_stock"],
        "free": sale["current_stock"],
        "held": sale["held"],
        "sold": sale["total_purchases"],
        "opens": sale["opens_at"],
        "closes": sale["closes_at"],
        "next release": sale["next_release_at"],
        "limit": sale["per_buyer_limit"],
        "hold seconds": sale["hold_seconds"],
        "shards": sale["shard_count"],
        "generation": sale["generation"],
        "last updated": sale["last_updated"],
    }


def _line(sale: Mapping[str, Any]) -> str:
    return (
        f"{sale['last_updated']}  {sale['state']}  free {sale['current_stock']:,}  "
        f"held {sale['held']:,}  sold {sale['total_purchases']:,} of {sale['initial_stock']:,}"
    )
