"""Shared by the tests: the template's table, a manual clock and a client with faults on cue."""

import contextlib
import functools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from samtranslator.yaml_helper import yaml_parse

from local.sam_local import table_schema
from ticketing.buying import PurchaseService
from ticketing.model import AuditResult, Purchase, RepairResult, SaleChange, SaleSettings
from ticketing.retry import Deadline, Runtime
from ticketing.rules import totals
from ticketing.store.table import Store, Table
from ticketing.wiring import Services, build_services

ROOT = Path(__file__).parent.parent
TABLE = "tickets"
ITEM = 1
# After this time a process counts as hanging; no test depends on a machine's speed.
END_SECONDS_MAX = 300.0


def silent(_: str) -> None:
    """Show no progress."""


def template() -> dict[str, Any]:
    """Return template.yaml with its short forms (!Ref, !If …) expanded."""
    loaded: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())
    return loaded


@functools.cache
def _schema() -> dict[str, Any]:
    """Return the table's schema. Reading the template takes longer than most tests."""
    return table_schema(template())


def create_table(client: Any, name: str = TABLE) -> None:
    """Create the table with the template's keys."""
    client.create_table(TableName=name, **_schema())


class Clock:
    """A clock that moves when it is told to, or when a caller sleeps."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


type Fault = Callable[[], object]


class Client:
    """A real client that counts its calls, with faults on cue before or after them.

    `before(call, fault)` and `after(call, fault)` queue a fault for the next such call. A fault is
    a function. One that raises fails the call there (after: the call has been carried out, its
    reply is lost). Any other is run there, for example a concurrent purchase. `replace(call,
    answer)` puts a function in the place of every such call; it gets the real one.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._before: dict[str, list[Fault]] = {}
        self._after: dict[str, list[Fault]] = {}
        self._replaced: dict[str, Callable[..., Any]] = {}
        self.calls: list[str] = []
        self.requests: list[Any] = []

    def before(self, call: str, *faults: Fault) -> None:
        self._before.setdefault(call, []).extend(faults)

    def after(self, call: str, *faults: Fault) -> None:
        self._after.setdefault(call, []).extend(faults)

    def replace(self, call: str, answer: Callable[..., Any]) -> None:
        self._replaced[call] = answer

    def heal(self) -> None:
        """Remove the faults that are still queued."""
        self._before.clear()
        self._after.clear()

    def count(self, call: str) -> int:
        return self.calls.count(call)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if name in {"exceptions", "get_paginator", "meta"}:
            return attribute

        def call(**request: Any) -> Any:
            self.calls.append(name)
            self.requests.append(request)
            if self._before.get(name):
                self._before[name].pop(0)()
            replaced = self._replaced.get(name)
            with untraced():  # boto3 and an emulator
                answer = replaced(attribute, **request) if replaced else attribute(**request)
            if self._after.get(name):
                self._after[name].pop(0)()
            return answer

        return call


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Let coverage trace nothing meanwhile: it doubles the CPU of what it traces."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
        _traced()


def _traced() -> None:
    """Do nothing, which coverage's tracer sees as a call.

    It takes over at the next call, and has to see each function that was open end: it counts them.
    """


def raises(error: BaseException) -> Fault:
    def fault() -> None:
        raise error

    return fault


def service_error(code: str, status: int = 400, **more: Any) -> ClientError:
    """Return an error as botocore raises it."""
    response: Any = {
        "Error": {"Code": code, "Message": code},
        "ResponseMetadata": {"HTTPStatusCode": status},
        **more,
    }
    return ClientError(response, "TransactWriteItems")


def cancelled(*codes: str) -> ClientError:
    """Return a cancelled transaction with these reasons, by position."""
    return service_error(
        "TransactionCanceledException", CancellationReasons=[{"Code": code} for code in codes]
    )


def lost_reply() -> ReadTimeoutError:
    return ReadTimeoutError(endpoint_url="http://store")


class World:
    """A store on a given client, and the use cases on it."""

    def __init__(self, client: Any, table_name: str = TABLE) -> None:
        self.client: Any = Client(client)
        self.table_name = table_name
        self.clock = Clock()
        self._processes = 0
        services = self.services()
        self.catalogue, self.organiser = services.catalogue, services.organiser

    @property
    def store(self) -> Store:
        """Return the store, without an end of its time."""
        return Table(self.client, self.table_name).within(Deadline(lambda: 0.0, seconds=1))

    def services(self) -> Services:
        """Return the use cases of a new process: empty caches, its own random numbers."""
        self._processes += 1
        runtime = Runtime(self.clock, random.Random(self._processes), self.clock.sleep)
        return build_services(self.client, self.table_name, runtime)

    def purchase_service(self) -> PurchaseService:
        """Return the purchase service of a new process."""
        return self.services().purchases

    def audit(self, cursor: str | None = None) -> AuditResult:
        """Audit the item in a new process."""
        return self.services().auditor.audit(ITEM, cursor)

    def repair(self, cursor: str | None = None, *, drop: bool = False) -> RepairResult:
        """Repair the item in a new process."""
        repairs = self.services().repairs
        return repairs.repair(ITEM, cursor, apply=True, drop_unrecorded=drop)

    def tamper(self, pk: str, **attributes: int) -> None:
        """Set numbers of an item, past the store."""
        self.client.update_item(
            TableName=self.table_name,
            Key={"pk": {"S": pk}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            ExpressionAttributeNames={f"#{name}": name for name in attributes},
            ExpressionAttributeValues={f":{n}": {"N": str(v)} for n, v in attributes.items()},
        )

    def lose(self, pk: str) -> None:
        """Delete an item, past the store."""
        self.client.delete_item(TableName=self.table_name, Key={"pk": {"S": pk}})

    def records(self) -> list[Purchase]:
        """Return all purchase records of the item, of every generation."""
        found, start = list[Purchase](), None
        while True:
            page = self.store.read_records(ITEM, start, 1000)
            assert page.problems == []
            found += page.purchases
            start = page.end
            if start is None:
                return found

    def reset(
        self,
        stock: int | None = None,
        shard_count: int | None = None,
        *,
        item_name: str | None = None,
        hold_seconds: int | None = None,
        per_buyer_limit: int | None = None,
        **how: Any,
    ) -> SaleChange:
        """Start the item's next generation in one process of the organiser. how: of `reset`."""
        settings = SaleSettings(stock, item_name, shard_count, hold_seconds, per_buyer_limit)
        return self.organiser.reset(ITEM, settings, **how)

    def open_sale(
        self,
        stock: int,
        shards: int | None = None,
        hold_seconds: int | None = None,
        limit: int | None = None,
    ) -> None:
        """Start the item's next generation. limit: for each buyer."""
        self.reset(stock, shards, hold_seconds=hold_seconds, per_buyer_limit=limit)
        self.client.calls.clear()

    def assert_exact(self, *, sold: int) -> None:
        """Assert G1 and G4: each shard's counters add up, and equal the generation's records."""
        inventory = self.catalogue.inventory(ITEM)
        for shard in inventory.shards:
            assert shard.stock >= 0
            assert shard.held >= 0
            assert shard.stock + shard.held + shard.sold == shard.capacity
            assert shard.held == sum(shard.slots.values())
        capacity, _, _, counted = totals(inventory.shards)
        records = [
            record
            for record in self.records()
            if record.generation == inventory.sale.generation and record.is_purchase
        ]
        assert capacity == inventory.sale.capacity
        kept = [record.kept_quantity for record in records]
        assert kept == [sum(record.taken.values()) for record in records]
        assert counted == sum(kept) == sold


def need(missing: list[str]) -> None:
    """Skip a test whose tools are missing on this machine. In CI, which installs them, it fails."""
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs {' and '.join(missing)}")


@contextlib.contextmanager
def running(command: Sequence[object]) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a process group of its own, as a terminal does, with pipes for its output.

    However the test ends, the group is killed and the pipes are closed.
    """
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def wait_for_end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the output of the process and all that it started, once all of them have ended.

    They inherit its standard error, which ends with the last of them. It does not matter which
    process reaps them, or when.
    """
    return process.communicate(timeout=END_SECONDS_MAX)


def eventually[Value](read: Callable[[], Value], accepts: Callable[[Value], bool]) -> Value:
    """Return the value of `read` as soon as `accepts` is true for it."""
    deadline = time.monotonic() + END_SECONDS_MAX
    while not accepts(value := read()):
        assert time.monotonic() < deadline, f"after {END_SECONDS_MAX:.0f} s the value is {value}"
        time.sleep(0.05)
    return value
