"""Arguments and options that several commands have."""

from typing import Annotated

import typer

type Context = typer.Context

ItemId = Annotated[int, typer.Argument(metavar="ITEM", min=1, help="The item's id.")]
PurchaseId = Annotated[str, typer.Argument(metavar="PURCHASE", help="The purchase's id, a UUID.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, as the API answers it.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show what would be sent, and what it would change.")
]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask for the item's name: for scripts.")
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="The idempotency key: the one of a call whose outcome is not known. By default a "
        "fresh one. A change takes effect once for each key.",
        show_default=False,
    ),
]
