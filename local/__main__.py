"""The command line of the local stack. `make help` lists the usual commands."""

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from local import dynamodb_local, sam
from local.api import create_first_item
from local.process import LOCAL_DIRECTORY, ROOT, Background, LocalError
from local.sam_local import SamLocal
from local.stack import Stack

DEFAULT_PORT = 8000
SAM_LOCAL_PORT = 3000
STACK_DIRECTORY = LOCAL_DIRECTORY / "stack"
SAM_LOCAL_DIRECTORY = LOCAL_DIRECTORY / "sam-local"
INTERRUPTED = 130  # the exit status of a program that Ctrl-C ended, as a shell reports it

console = Console(highlight=False)


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Show a step while it runs, and afterwards how long it took."""
    started_at = time.monotonic()
    with console.status(f"{title} …"):
        yield
    console.print(f"[green]✓[/] {title} [dim]({time.monotonic() - started_at:.1f} s)[/]")


def running_stack() -> Stack:
    """Return the developer's running stack. Raises LocalError if it does not run."""
    record = Stack(STACK_DIRECTORY, DEFAULT_PORT).record()
    if not record:
        raise LocalError("The local stack is not running. `make start` starts it.")
    return Stack(STACK_DIRECTORY, record["port"])


def start(options: argparse.Namespace) -> None:
    """Start the stack, or deploy changes to the running one. A failure stops what it started."""
    stack = Stack(STACK_DIRECTORY, options.port, workers=options.workers)
    with contextlib.ExitStack() as undo:
        with step(f"Starting MiniStack on port {stack.port}"):
            if stack.start():
                undo.callback(stack.stop)
        with step("Building the functions (sam build)"):
            sam.build()
        with step("Deploying template.yaml (sam deploy)"):
            stack.deploy()
        with step("Putting the first item on sale"):
            create_first_item(stack.url)
        undo.pop_all()
    show(
        stack.url,
        "Use 127.0.0.1: at http://localhost the emulator's other services answer with 404.\n"
        "make logs · make prove · make stop",
    )


def show(url: str, closing: str) -> None:
    """Print the URLs and a `curl`. Nothing is wrapped, so the lines can be pasted."""
    lines = [
        "",
        f"The sale is open  {url}/",
        f"Documentation     {url}/docs",
        f"Shop              {url}/shop",
        f"Buy a ticket      curl -i -X POST {url}/buy_ticket -H 'Idempotency-Key: {uuid.uuid4()}'",
        "",
        closing,
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def stop(_: argparse.Namespace) -> None:
    """Stop the stack; its state is kept."""
    with step("Stopping the local stack"):
        stopped = Stack(STACK_DIRECTORY, DEFAULT_PORT).stop()
    if not stopped:
        console.print("It was not running.")


def status(_: argparse.Namespace) -> None:
    """Print whether the stack runs, and where."""
    stack = running_stack()
    sys.stdout.write(
        f"The local stack runs: {stack.url}/ (process {stack.record()['pid']}, log {stack.log})\n"
    )


def url(_: argparse.Namespace) -> None:
    """Print the URL of the running stack, for other commands."""
    sys.stdout.write(running_stack().url + "\n")


def logs(options: argparse.Namespace) -> None:
    """Print the functions' log lines."""
    with contextlib.suppress(KeyboardInterrupt):
        for line in running_stack().log_lines(follow=options.follow):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def run_sam_local(options: argparse.Namespace) -> None:
    """Serve the API from containers until Ctrl-C."""
    with contextlib.ExitStack() as running:
        sam_local = ready_containers(running, options)
        api = running.enter_context(sam_local.api(options.port))
        show(f"http://127.0.0.1:{options.port}", "Ctrl-C stops it.")
        with contextlib.suppress(KeyboardInterrupt):
            raise LocalError(f"sam local start-api ended with exit status {api.wait()}.")


def run_sam_invoke(options: argparse.Namespace) -> None:
    """Invoke the function of each event once, in a container, and print the answers."""
    with contextlib.ExitStack() as running:
        sam_local = ready_containers(running, options)
        for event in options.events:
            sys.stdout.write(
                json.dumps(sam_local.invoke(event), indent=2, ensure_ascii=False) + "\n"
            )


def ready_containers(running: contextlib.ExitStack, options: argparse.Namespace) -> SamLocal:
    """Return `sam local` over the current functions, with a running store."""
    with step("Building the functions (sam build)"):
        sam.build()
    with step("Starting the store of the containers"):
        return running.enter_context(SamLocal(SAM_LOCAL_DIRECTORY, skip_pull=options.skip_pull))


def get_dynamodb_local(_: argparse.Namespace) -> None:
    """Fetch DynamoDB Local."""
    if missing := dynamodb_local.missing_tools():
        raise LocalError(f"DynamoDB Local needs {' and '.join(missing)}.")
    with step("Fetching DynamoDB Local"):
        dynamodb_local.install()


def clean(_: argparse.Namespace) -> None:
    """Stop everything; delete state and build output."""
    for directory in (STACK_DIRECTORY, SAM_LOCAL_DIRECTORY):
        Background(directory).stop()
    for directory in (
        STACK_DIRECTORY,
        SAM_LOCAL_DIRECTORY,
        sam.folder(),
        ROOT / ".aws-sam",
    ):
        shutil.rmtree(directory, ignore_errors=True)


def port(text: str) -> int:
    """Return the text as a port number. Raises ArgumentTypeError."""
    number = int(text)
    if not 1 <= number <= 65_535:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text} is no port: 1 to 65535")
    return number


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands and options."""
    commands = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    add = commands.add_subparsers(required=True, metavar="COMMAND").add_parser
    command = add("start", help="start the stack, or deploy changes to the running one")
    command.add_argument("--port", type=port, default=DEFAULT_PORT, help=f"default: {DEFAULT_PORT}")
    command.add_argument(
        "--workers", type=int, help="how many functions may run at once (default: four per core)"
    )
    command.set_defaults(function=start)
    add("stop", help="stop the stack; its state is kept").set_defaults(function=stop)
    add("status", help="say whether the stack runs").set_defaults(function=status)
    add("url", help="print the URL of the running stack").set_defaults(function=url)
    command = add("logs", help="print the functions' log lines")
    command.add_argument("--follow", action="store_true", help="continue until Ctrl-C")
    command.set_defaults(function=logs)
    command = add("sam-local", help="serve the API out of containers (sam local start-api)")
    command.add_argument(
        "--port", type=port, default=SAM_LOCAL_PORT, help=f"default: {SAM_LOCAL_PORT}"
    )
    command.add_argument(
        "--skip-pull",
        action="store_true",
        help="use the present Lambda image, without looking for a newer one",
    )
    command.set_defaults(function=run_sam_local)
    command = add("sam-invoke", help="invoke a function in a container (sam local invoke)")
    command.add_argument(
        "--skip-pull",
        action="store_true",
        help="use the present Lambda image, without looking for a newer one",
    )
    command.add_argument(
        "events",
        type=Path,
        nargs="+",
        metavar="EVENT",
        help="a file such as events/inventory/docs.json",
    )
    command.set_defaults(function=run_sam_invoke)
    add("dynamodb-local", help="fetch DynamoDB Local").set_defaults(function=get_dynamodb_local)
    add("clean", help="stop everything, delete state and build output").set_defaults(function=clean)
    return commands


def interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Run one command and return the exit status."""
    # SIGTERM cleans up as Ctrl-C does, and so does Ctrl-C where a shell started this in the
    # background.
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `make logs | head` is not an error
    options = parser().parse_args()
    # No AWS profile, endpoint or credentials: a local command must never reach the developer's
    # account.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    try:
        options.function(options)
    except LocalError as error:
        Console(stderr=True, highlight=False, markup=False).print(
            f"\n{error}", style="red", soft_wrap=True
        )
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
