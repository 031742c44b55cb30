"""The command line: the commands, the options of all of them, and the exit status."""

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from organiser import VERSION, purchase, records, sale
from organiser.client import Target
from organiser.errors import ExitStatus, OrganiserError
from organiser.output import Output
from organiser.session import ServiceOptions

LOCAL_URL: Final = "http://127.0.0.1:8000/live"
EXIT_STATUSES: Final[Mapping[ExitStatus, str]] = {
    ExitStatus.DONE: "done",
    ExitStatus.DIFFERENCES: "an audit, a repair or an export found differences",
    ExitStatus.USAGE: "wrong use, or not confirmed: nothing was changed",
    ExitStatus.REFUSED: "the service refused: nothing was changed",
    ExitStatus.DENIED: "no credentials, or a permission is missing",
    ExitStatus.NO_ANSWER: "no answer that counts: repeat a change with the key that is printed",
    ExitStatus.INTERRUPTED: "interrupted: an export goes on, a change is repeated with its key",
}
EPILOG: Final = "\n\n".join(
    [
        "Data is printed on the standard output, all else on the standard error.",
        "Exit status:",
        *(f"{status:d} {meaning}" for status, meaning in EXIT_STATUSES.items()),
    ]
)


class _Commands(TyperGroup):
    """Ends a command with what went wrong and what to do about it, instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except OrganiserError as error:
            _say(error.what, error.remedy)
            raise typer.Exit(error.exit_status) from error
        except KeyboardInterrupt as interrupt:
            _say("Interrupted.")
            raise typer.Exit(ExitStatus.INTERRUPTED) from interrupt


app = typer.Typer(
    name="organiser",
    cls=_Commands,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(sale.app, name="sale")
app.add_typer(purchase.app, name="purchase")
app.command()(records.audit)
app.command()(records.repair)
app.command()(records.export)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        sys.stdout.write(f"organiser {VERSION}\n")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    *,
    url: Annotated[
        str, typer.Option(envvar="TICKET_SALE_URL", help="The API, with its stage.")
    ] = LOCAL_URL,
    region: Annotated[
        str | None,
        typer.Option(
            help="The AWS Region to sign for; by default the URL's, or that of your configuration.",
            show_default=False,
        ),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="The AWS profile to sign with.", show_default=False)
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="For one answer.", min=0.1)
    ] = 30.0,
    patience: Annotated[
        float, typer.Option(metavar="SECONDS", help="For all attempts of one call.", min=0)
    ] = 60.0,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Run the sales of an organiser, over the API of the ticket sale."""
    if not url.startswith(("https://", "http://")):
        raise typer.BadParameter(f"{url} is no URL: https://…/live", param_hint="--url")
    context.obj = ServiceOptions(Target(url.rstrip("/"), timeout, patience), region, profile)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command, and exit with its status."""
    app(args=arguments, prog_name="organiser")


def _say(what: str, remedy: str = "") -> None:
    output = Output(as_json=False)
    output.say(what, "bold red")
    if remedy:
        output.say(remedy)
