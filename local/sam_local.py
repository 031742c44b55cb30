"""`sam local`: the functions in containers, as Lambda runs them, with a store on this machine."""

import contextlib
import ipaddress
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from local import sam
from local.ministack import MiniStack
from local.process import (
    ROOT,
    LocalError,
    end,
    free_port,
    free_port_after,
    port_is_free,
    program,
    run,
    tail,
)

DOCKER_SECONDS = 60.0
LISTEN_SECONDS = 180.0
TABLE = "TicketsTable"
RESET_EVENT = ROOT / "events" / "admin" / "reset.json"


def docker_answers() -> bool:
    """Return whether there is a running Docker engine."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        command = ["docker", "info"]
        return (
            subprocess.run(
                command, capture_output=True, timeout=DOCKER_SECONDS, check=False
            ).returncode
            == 0
        )
    return False


def store_addresses() -> tuple[str, str]:
    """Return the store's address to listen on, and its address for containers.

    With the engine on this machine (Linux) both are the address of Docker's bridge, which only
    containers and this machine reach. With the engine in a virtual machine (Docker Desktop)
    containers reach this machine's loopback interface by a name.
    """
    bridge = json.loads(
        run("docker network inspect", ["docker", "network", "inspect", "bridge"], os.environ)
    )
    for network in bridge[0]["IPAM"]["Config"] or []:
        # A bridge without an address of its own takes the first one of its network.
        address = network.get("Gateway") or str(
            next(ipaddress.ip_network(network["Subnet"]).hosts())
        )
        with contextlib.suppress(OSError), socket.create_server((address, 0)):
            return address, address
    return "127.0.0.1", "host.docker.internal"


def table_schema(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return the CreateTable request for the template's table: keys and billing."""
    properties = template["Resources"][TABLE]["Properties"]
    names = ("BillingMode", "AttributeDefinitions", "KeySchema")
    return {name: properties[name] for name in names}


class SamLocal:
    """`sam local` with the output of `sam.build()`, and a store with its state in `directory`.

    As a context manager it starts the store, unless another command's store is running, and stops
    what it started. skip_pull: use the present base image, without looking for a newer one.
    """

    def __init__(self, directory: Path, *, skip_pull: bool = False) -> None:
        self._directory = directory
        self._template = directory / "template.json"
        self._options = ["--skip-pull-image"] if skip_pull else []
        self._built = yaml.safe_load(sam.built_template().read_text())
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if not docker_answers():
            raise LocalError(
                "`sam local` runs functions in containers, and no Docker engine answers. Start "
                "Docker."
            )
        host, host_in_container = store_addresses()
        port = MiniStack(self._directory, 0).record().get("port") or free_port(host)
        store = MiniStack(self._directory, port, host=host, services="dynamodb,sts")
        with contextlib.ExitStack() as undo:
            if store.start():
                undo.callback(store.stop)
            self._store_url = store.endpoint
            self._write_template(f"http://{host_in_container}:{port}")
            self._open_sale(store.client("dynamodb"))
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._undo.close()

    def invoke(self, event_file: Path) -> dict[str, Any]:
        """Return the answer of the event's function, run in a container of its own."""
        command = self._command(
            "invoke", self.function_of(event_file), "--event", event_file.resolve()
        )
        output = run(f"sam local invoke with {event_file}", command, self._environment())
        try:
            answer: dict[str, Any] = json.loads(output)  # the function's log goes to standard error
        except ValueError:
            raise LocalError(
                f"sam local invoke with {event_file} gives no answer:\n\n{tail(output)}"
            ) from None
        return answer

    @contextlib.contextmanager
    def api(self, port: int, log: Path | None = None) -> Iterator["subprocess.Popen[bytes]"]:
        """Run `sam local start-api` on `port` during the context.

        log: where it writes; None for the terminal.
        """
        if not port_is_free(port):
            raise LocalError(
                f"Port {port} is not free. Choose another: make sam-local "
                f"PORT={free_port_after(port)}"
            )
        command = self._command(
            "start-api", "--port", port, "--host", "127.0.0.1", "--warm-containers", "LAZY"
        )
        with contextlib.ExitStack() as files:
            output = files.enter_context(log.open("wb")) if log else None
            # In a session of its own: Ctrl-C then reaches it once, from here, and does not
            # interrupt its clean-up.
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                self._wait_until_listening(process, port)
                yield process
            finally:
                end(process, signal.SIGINT)  # it then removes its containers

    def function_of(self, event_file: Path) -> str:
        """Return the logical id of the function for an event file.

        The handler's folder is the event's folder. Where several functions share it, the one with
        the event's route counts.
        """
        folder = event_file.resolve().parent.name
        route = json.loads(event_file.read_text()).get("resource")
        candidates = {
            logical_id: {
                event["Properties"].get("Path")
                for event in resource["Properties"]["Events"].values()
            }
            for logical_id, resource in self._functions().items()
            if resource["Properties"]["Handler"].startswith(f"{folder}.")
        }
        if not candidates:
            raise LocalError(
                f"No function of the template has its handler in functions/{folder}/: {event_file}"
            )
        return next(
            (name for name, paths in candidates.items() if route in paths), next(iter(candidates))
        )

    def _functions(self) -> dict[str, Any]:
        return {
            logical_id: resource
            for logical_id, resource in self._built["Resources"].items()
            if resource["Type"] == "AWS::Serverless::Function"
        }

    def _write_template(self, store_url: str) -> None:
        """Write the built template with the store's address in each function's environment.

        `sam local` passes only variables that the template declares, and the template for AWS
        should not declare another store.
        """
        for resource in self._functions().values():
            code = resource["Properties"]["CodeUri"]
            resource["Properties"]["CodeUri"] = str(sam.build_directory() / code)
        variables = self._built["Globals"]["Function"]["Environment"]["Variables"]
        variables |= {"TABLE_NAME": TABLE, "AWS_ENDPOINT_URL_DYNAMODB": store_url}
        self._template.write_text(json.dumps(self._built, default=str))

    def _open_sale(self, dynamodb: Any) -> None:
        """Create the template's table if it is missing, and put the first item on sale."""
        if TABLE not in dynamodb.list_tables()["TableNames"]:
            dynamodb.create_table(TableName=TABLE, **table_schema(self._built))
        if not dynamodb.scan(TableName=TABLE, Limit=1)["Items"]:
            answer = self.invoke(RESET_EVENT)
            if answer["statusCode"] != 200:  # noqa: PLR2004
                raise LocalError(f"The first item is not on sale: {answer}")

    def _command(self, name: str, *options: object) -> list[str]:
        sam_local = [str(program("deployment", "sam")), "local", name, *map(str, options)]
        parameters = ["--parameter-overrides", f"Architecture={sam.architecture()}"]
        return [*sam_local, "--template", str(self._template), *parameters, *self._options]

    def _environment(self) -> dict[str, str]:
        """Return the environment for `sam local`, with the developer's Docker settings.

        These say where the engine is, and how to log in to a registry. `sam local` asks STS for the
        account id and waits long without an answer, so the emulator answers.
        """
        docker = {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}
        return sam.tool_environment() | docker | {"AWS_ENDPOINT_URL": self._store_url}

    @staticmethod
    def _wait_until_listening(process: "subprocess.Popen[bytes]", port: int) -> None:
        deadline = time.monotonic() + LISTEN_SECONDS
        while port_is_free(port):
            if process.poll() is not None:
                raise LocalError(
                    f"sam local start-api ended with exit status {process.returncode}."
                )
            if time.monotonic() > deadline:
                raise LocalError(
                    f"sam local start-api does not listen after {LISTEN_SECONDS:.0f} s."
                )
            time.sleep(0.2)
