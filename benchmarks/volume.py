"""Audit, export and repair of a large sale, part by part, on DynamoDB Local.

make volume [ARGS="--records 200000"]

It fills a table with a sale that has a limit for each buyer: half of the records are purchases,
half are buyers. Then it audits and exports the sale, breaks it in three ways, and repairs it twice.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from copy import replace
from itertools import batched
from multiprocessing import get_context
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from rich.console import Console

from local.dynamodb_local import DynamoDBLocal
from ticketing.api.export import export_text
from ticketing.api.schemas import Format
from ticketing.limits import SHARDS_MAX
from ticketing.model import (
    AuditResult,
    BuyerTickets,
    CountedTickets,
    ExportPart,
    Purchase,
    RepairResult,
    SaleSettings,
)
from ticketing.moves import Status
from ticketing.retry import Deadline
from ticketing.store.items import BUYER, PURCHASE, Item, buyer_key, purchase_key, shard_key
from ticketing.store.table import Table
from ticketing.wiring import build_services

ITEM: Final = 1
TABLE: Final = "tickets"
RECORDS: Final = 200_000
RECORDS_MIN: Final = 20 * SHARDS_MAX  # some sold tickets in each shard
LOADERS: Final = 3
AT_ONCE: Final = 25  # AWS: items in one BatchWriteItem
BROKEN: Final = (7, 8, 9)  # shards


class PartSize(Struct, frozen=True):
    """What is kept of a part of an export, which would fill the memory. size: in bytes."""

    lines: int
    size: int
    cursor: str | None
    problems: Sequence[str]

    @classmethod
    def of(cls, part: ExportPart) -> "PartSize":
        text = export_text(part, Format.CSV)
        problems = part.total.problems if part.total else ()
        return cls(text.count("\n"), len(text), part.cursor, problems)


class Pass[Result: (AuditResult, RepairResult, PartSize)](Struct, frozen=True):
    """One pass over the table. results: of each request. peaks: the process's memory after each."""

    seconds: float
    results: Sequence[Result]
    peaks: Sequence[int]

    def line(self, what: str) -> str:
        """Return a line about it."""
        cursor = max(len(result.cursor or "") for result in self.results)
        return (
            f"{what:<8} {len(self.results)} requests in {self.seconds:.0f} s, memory "
            f"{self.peaks[0] / 1e6:.1f} MB after the first and {self.peaks[-1] / 1e6:.1f} MB after "
            f"the last, cursor {cursor:,} bytes, {len(self.results[-1].problems)} problems"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status is 1 where audit or repair is wrong."""
    parser = argparse.ArgumentParser("python -m benchmarks.volume", description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS, help="of the table (%(default)s)")
    records = parser.parse_args(arguments).records
    if records < RECORDS_MIN:
        parser.error(f"--records must be at least {RECORDS_MIN}")
    console = Console(highlight=False, soft_wrap=True)
    with DynamoDBLocal() as engine:
        return measure(engine, records // 2, lambda text: console.print(text, markup=False))


def measure(engine: DynamoDBLocal, purchases: int, say: Callable[[str], object]) -> int:
    """Fill a table, and measure on it. Returns the exit status."""
    began_at, client = time.monotonic(), engine.client()
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
    )
    services = build_services(client, TABLE)
    fill(engine, purchases)
    say(f"{2 * purchases:,} records in {time.monotonic() - began_at:.0f} s")
    audit = passed(lambda cursor: services.auditor.audit(ITEM, cursor))
    say(audit.line("audit"))
    export = passed(lambda cursor: PartSize.of(services.exporter.export(ITEM, cursor=cursor)))
    lines = sum(part.lines for part in export.results)
    size = sum(part.size for part in export.results)
    say(export.line("export"))
    say(f"         {lines:,} lines of CSV, {size / 1e6:.1f} MB")
    break_sale(client)
    changes = []
    for what in ("repair", "again"):
        repair = passed(lambda cursor: services.repairs.repair(ITEM, cursor, apply=True))
        say(repair.line(what))
        changes.append([change for each in repair.results for change in each.repaired])
        for change in changes[-1]:
            say(f"         {change}")
    is_right = (
        not audit.results[-1].problems
        and audit.results[-1].purchase_records == purchases
        and lines == purchases + len(("columns", "total"))
        and not export.results[-1].problems
        and [len(each) for each in changes] == [len(BROKEN) + 1, 0]
        and not repair.results[-1].problems
    )
    say("as expected" if is_right else "NOT AS EXPECTED")
    return 0 if is_right else 1


def fill(engine: DynamoDBLocal, purchases: int) -> None:
    """Put a sale whose shards have sold so many tickets, with a record for each of them.

    In other processes, so that this one's memory is that of audit, export and repair.
    """
    client = engine.client()
    settings = SaleSettings(2 * purchases, "Stadium", SHARDS_MAX, per_buyer_limit=4)
    build_services(client, TABLE).organiser.put(ITEM, settings)
    store = Table(client, TABLE).within(Deadline(time.time, 60.0))
    sale = store.read_sale(ITEM)
    if sale is None:
        raise LookupError("the sale is not there")
    shards, _ = store.read_stored_shards(sale)
    for shard in shards:
        sold = len(range(shard.index, purchases, SHARDS_MAX))
        after = replace(shard, stock=shard.stock - sold, sold=sold)
        store.repair(ITEM, {shard.index: (shard, after)}, None)
    with get_context("spawn").Pool(LOADERS) as pool:
        parts = [(engine.port, range(start, purchases, LOADERS)) for start in range(LOADERS)]
        pool.starmap(_load, parts)


def _load(port: int, numbers: range) -> None:
    """Put purchases and buyers of these numbers."""
    client = DynamoDBLocal(port).client()
    for items in batched(_items(numbers), AT_ONCE, strict=False):
        puts = [{"PutRequest": {"Item": item}} for item in items]
        while puts:
            answer = client.batch_write_item(RequestItems={TABLE: puts})
            puts = answer["UnprocessedItems"].get(TABLE, [])


def _items(numbers: range) -> Iterator[Item]:
    for number in numbers:
        purchase = Purchase(
            str(UUID(int=number)),
            ITEM,
            1,
            f"buyer-{number}",
            1,
            Status.CONFIRMED,
            {number % SHARDS_MAX: 1},
            f"{number:064}",
            "2026-01-15T12:30:28.000000Z",
            is_counted=True,
        )
        buyer = BuyerTickets(
            ITEM, 1, f"buyer-{number}", {purchase.purchase_id: CountedTickets(1)}, 1
        )
        yield PURCHASE.to_item(purchase_key(purchase.purchase_id), purchase)
        yield BUYER.to_item(buyer_key(ITEM, 1, buyer.buyer_id), buyer)


def break_sale(client: Any) -> None:
    """Strand a ticket, count one in the wrong shard, and lose a buyer's record."""
    stranded, one, other = BROKEN
    for index, change in (
        (stranded, "SET stock = stock - :one"),
        (one, "SET sold = sold - :one, stock = stock + :one"),
        (other, "SET sold = sold + :one, stock = stock - :one"),
    ):
        client.update_item(
            TableName=TABLE,
            Key=shard_key(ITEM, index),
            UpdateExpression=change,
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
    client.delete_item(TableName=TABLE, Key=buyer_key(ITEM, 1, "buyer-1"))


def passed[Result: (AuditResult, RepairResult, PartSize)](
    request: Callable[[str | None], Result],
) -> Pass[Result]:
    """Send requests until the whole table was looked at."""
    began_at, results, peaks = time.monotonic(), [request(None)], [_peak_bytes()]
    while (cursor := results[-1].cursor) is not None:
        results.append(request(cursor))
        peaks.append(_peak_bytes())
    return Pass(time.monotonic() - began_at, results, peaks)


def _peak_bytes() -> int:
    """Return the most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    sys.exit(main())
