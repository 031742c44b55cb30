"""`organiser purchase`: one purchase, by its id."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from organiser.options import AsJson, DryRun, Key, PurchaseId, Yes
from organiser.session import Session, open_session

app = typer.Typer(help="Show and refund a purchase.", no_args_is_help=True)


@app.command()
def show(context: typer.Context, purchase_id: PurchaseId, as_json: AsJson = False) -> None:
    """Show the receipt of a purchase."""
    with open_session(context.obj, as_json=as_json, signed=False) as session:
        _show(session, _receipt(session, purchase_id))


@app.command()
def refund(
    context: typer.Context,
    purchase_id: PurchaseId,
    *,
    quantity: Annotated[
        int | None, typer.Option(help="How many tickets; by default all of them.", min=1)
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Take tickets back: they are on sale again. It moves no money. Asks for the item's name."""
    with open_session(context.obj, as_json=as_json) as session:
        receipt = _receipt(session, purchase_id)
        left = receipt["quantity"] - receipt["refunded_quantity"]
        tickets = receipt["quantity"] if quantity is None else quantity
        path = f"/purchases/{_in_path(purchase_id)}/refund"
        body = {} if quantity is None else {"quantity": quantity}
        if dry_run:
            refunded = receipt["refunded_quantity"]
            changes = {"refunded_quantity": [refunded, refunded + tickets]}
            refusal = f"Only {left} can still be refunded." if tickets > left else None
            session.show_dry_run("POST", path, body, changes, refusal)
            return
        if not yes:
            buyer = receipt["buyer_id"] or "a buyer without an id"
            session.confirm(
                receipt["item_id"],
                f"{tickets} of the {left} tickets that {buyer} has will be taken back.",
            )
        _show(session, session.change("POST", path, body, key))


def _receipt(session: Session, purchase_id: str) -> dict[str, Any]:
    receipt: dict[str, Any] = session.read(f"/purchases/{_in_path(purchase_id)}")
    return receipt


def _in_path(purchase_id: str) -> str:
    """Return the id as a part of a path: what is none reaches the service as one, too."""
    return quote(purchase_id, safe="")


def _show(session: Session, receipt: Mapping[str, Any]) -> None:
    if session.output.as_json:
        session.output.json(receipt)
        return
    session.output.facts(
        {
            "purchase": receipt["purchase_id"],
            "item": str(receipt["item_id"]),
            "status": receipt["status"],
            "quantity": receipt["quantity"],
            "refunded": receipt["refunded_quantity"],
            "buyer": receipt["buyer_id"],
            "purchased": receipt["purchased_at"],
            "generation": receipt["generation"],
        }
    )
