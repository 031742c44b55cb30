"""`sam local`: the functions in containers, as Lambda runs them, against a store on this machine."""

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
from local.process import ROOT, LocalError, end, free_port, free_port_after, port_is_free, program, run, tail

DOCKER_SECONDS = 60.0
LISTEN_SECONDS = 180.0
TABLE = "TicketsTable"
RESET_EVENT = ROOT / "events" / "admin" / "reset.json"


def docker_answers() -> bool:
    """Whether there is a Docker engine."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        command = ["docker", "info"]
        return subprocess.run(command, capture_output=True, timeout=DOCKER_SECONDS, check=False).returncode == 0
    return False


def store_addresses() -> tuple[str, str]:
    """The address at which the store listens, and the one at which containers find it.

    With the engine on this very machine (Linux) both are the address of Docker's bridge, which containers and this
    machine reach and nobody else does. With the engine in a virtual machine (Docker Desktop) the bridge is not here,
    and containers reach this machine's loopback interface by a name.
    """
    bridge = json.loads(run("docker network inspect", ["docker", "network", "inspect", "bridge"], os.environ))
    for network in bridge[0]["IPAM"]["Config"] or []:
        # A bridge that was given no address takes the first one of its network.
        address = network.get("Gateway") or str(next(ipaddress.ip_network(network["Subnet"]).hosts()))
        with contextlib.suppress(OSError), socket.create_server((address, 0)):
            return address, address
    return "127.0.0.1", "host.docker.internal"


def table_schema(template: Mapping[str, Any]) -> dict[str, Any]:
    """What a call of CreateTable takes of the table in a template that was read: keys, indexes, billing."""
    properties = template["Resources"][TABLE]["Properties"]
    names = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    return {name: properties[name] for name in names}


class SamLocal:
    """`sam local` over what `sam.build()` built, with a store whose state stays in `directory`.

    As a context manager it starts the store, unless another command's store runs there, and stops what it started.
    skip_pull: take the base image that is here, and do not look for a newer one.
    """

    def __init__(self, directory: Path, *, skip_pull: bool = False) -> None:
        self._directory = directory
        self._template = directory / "template.json"
        self._options = ["--skip-pull-image"] if skip_pull else []
        self._built = yaml.safe_load(sam.BUILT_TEMPLATE.read_text())
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if not docker_answers():
            raise LocalError("`sam local` runs functions in containers, and no Docker engine answers. Start Docker.")
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
        """The answer of the event's function, run in a container of its own."""
        command = self._command("invoke", self.function_of(event_file), "--event", event_file.resolve())
        output = run(f"sam local invoke with {event_file}", command, self._environment())
        try:
            answer: dict[str, Any] = json.loads(output)  # what the function logs goes to the standard error output
        except ValueError:
            raise LocalError(f"sam local invoke with {event_file} gives no answer:\n\n{tail(output)}") from None
        return answer

    @contextlib.contextmanager
    def api(self, port: int, log: Path | None = None) -> Iterator["subprocess.Popen[bytes]"]:
        """`sam local start-api` on `port` as long as the context lasts. It writes to `log`, or else to the terminal."""
        if not port_is_free(port):
            raise LocalError(
                f"Port {port} is not free. Choose another one: make sam-local PORT={free_port_after(port)}"
            )
        command = self._command("start-api", "--port", port, "--host", "127.0.0.1", "--warm-containers", "LAZY")
        with contextlib.ExitStack() as files:
            output = files.enter_context(log.open("wb")) if log else None
            # In a session of its own: Ctrl-C reaches it once, from here, and does not cut its tidying short.
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
                end(process, signal.SIGINT)  # upon which it removes its containers

    def function_of(self, event_file: Path) -> str:
        """The logical id of the function that the events of that folder are for; of several, the one with the route."""
        folder = event_file.resolve().parent.name
        route = json.loads(event_file.read_text()).get("resource")
        candidates = {
            logical_id: {event["Properties"]["Path"] for event in resource["Properties"]["Events"].values()}
            for logical_id, resource in self._functions().items()
            if resource["Properties"]["Handler"].startswith(f"{folder}.")
        }
        if not candidates:
            raise LocalError(f"No function of the template has its handler in functions/{folder}/: {event_file}")
        return next((name for name, paths in candidates.items() if route in paths), next(iter(candidates)))

    def _functions(self) -> dict[str, Any]:
        return {
            logical_id: resource
            for logical_id, resource in self._built["Resources"].items()
            if resource["Type"] == "AWS::Serverless::Function"
        }

    def _write_template(self, store_url: str) -> None:
        """The built template with the store's address in the environment of each function.

        A derived template, because `sam local` hands on only variables that the template declares, and what goes to
        AWS should not declare another store's address.
        """
        for resource in self._functions().values():
            code = resource["Properties"]["CodeUri"]
            resource["Properties"]["CodeUri"] = str(sam.BUILD_DIRECTORY / code)
        variables = self._built["Globals"]["Function"]["Environment"]["Variables"]
        variables |= {"TABLE_NAME": TABLE, "AWS_ENDPOINT_URL_DYNAMODB": store_url}
        self._template.write_text(json.dumps(self._built, default=str))

    def _open_sale(self, dynamodb: Any) -> None:
        """Creates the template's table where there is none, and puts the first item on sale."""
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
        """With the developer's Docker settings: where the engine is, and how to log in to a registry.

        `sam local` asks STS whose account it is in, and waits long for no answer: the emulator gives one.
        """
        docker = {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}
        return sam.tool_environment() | docker | {"AWS_ENDPOINT_URL": self._store_url}

    @staticmethod
    def _wait_until_listening(process: "subprocess.Popen[bytes]", port: int) -> None:
        deadline = time.monotonic() + LISTEN_SECONDS
        while port_is_free(port):
            if process.poll() is not None:
                raise LocalError(f"sam local start-api ended with exit status {process.returncode}.")
            if time.monotonic() > deadline:
                raise LocalError(f"sam local start-api does not listen after {LISTEN_SECONDS:.0f} s.")
            time.sleep(0.2)
