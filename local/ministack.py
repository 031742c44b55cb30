"""MiniStack, an emulator of AWS, as a background process."""

import os
import time
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import boto3

from local.process import (
    Background,
    LocalError,
    clean_environment,
    free_port_after,
    port_is_free,
    program,
)

REGION = "us-east-1"
# MiniStack's root account. These credentials are valid nowhere else.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
READY_SECONDS = 120.0

# No proxy between this machine and itself.
open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def worker_limit() -> int:
    """Return how many functions may run at once. A request beyond it gets 429, as on AWS.

    MiniStack starts a process for every request that finds none idle, and a start costs 0.8 s of
    CPU. Without a limit the first buyers would start hundreds and stall the machine. On two cores
    16 buyers who come at once are served within 2 s by 8 processes and within 7 s by 16. Once warm,
    both sell equally fast, because MiniStack itself is one process. The limit is four per core, at
    most 16 (46 MB each).
    """
    return min(4 * (os.cpu_count() or 1), 16)


class MiniStack(Background):
    """MiniStack on one address, with its state in one folder, as a context manager.

    auth: enforce the policies of IAM roles and users. services: start only these, separated by
    commas. workers: how many functions may run at once.
    """

    def __init__(
        self,
        directory: Path,
        port: int,
        *,
        host: str = "127.0.0.1",
        auth: bool = False,
        services: str = "",
        workers: int | None = None,
    ) -> None:
        super().__init__(directory)
        self.host = host
        self.port = port
        self._settings = {
            "GATEWAY_PORT": str(port),
            "BIND_HOST": host,  # the default is 0.0.0.0, which the whole network can reach
            "IOT_MTLS_ENABLED": "0",  # its port ignores BIND_HOST
            "PERSIST_STATE": "1",
            "STATE_DIR": str(directory / "state"),
            "LAMBDA_ACCOUNT_CONCURRENCY": str(workers or worker_limit()),
            "AUTH": str(auth).lower(),
            "SERVICES": services,
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """Return the endpoint URL for AWS's own tools."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> bool:
        """Start it and wait until it answers. Return False if it was already running.

        Raises LocalError if another program has the port. A failure leaves nothing running.
        """
        if record := self.record():
            if record["port"] != self.port:
                raise LocalError(
                    f"The stack is already running on port {record['port']}. `make stop` ends it."
                )
            self.wait_until_ready()
            return False
        if not port_is_free(self.port, self.host):
            raise LocalError(
                f"Port {self.port} is not free: another program listens on it, or you lack the "
                "permission. "
                f"Choose another: make start PORT={free_port_after(self.port, self.host)}"
            )
        self.spawn(
            [program("local", "ministack")], clean_environment() | self._settings, port=self.port
        )
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return True

    def client(self, service: str) -> Any:
        """Return a boto3 client for one of its services."""
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if not self.is_running:
                raise LocalError(f"MiniStack ended while it started:\n\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise LocalError(
                    f"MiniStack is not ready after {READY_SECONDS:.0f} s:\n\n{self.log_tail()}"
                )
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            with open_url(f"{self.endpoint}/_ministack/ready", timeout=5) as response:
                return response.status == HTTPStatus.OK and b'"completed"' in response.read()
        except OSError:
            return False
