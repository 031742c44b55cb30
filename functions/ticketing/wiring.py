"""The composition root: builds the use cases of a process from its parts.

Functions and tests build from here. Each part has a default that a caller may replace.
"""

from typing import TYPE_CHECKING

from msgspec import Struct

from ticketing.audit import Auditor
from ticketing.buying import PurchaseService
from ticketing.catalogue import Catalogue
from ticketing.exporting import Exporter
from ticketing.holding import HoldService
from ticketing.organising import OrganiserService
from ticketing.refunding import RefundService
from ticketing.repairing import RepairService
from ticketing.retry import Runtime
from ticketing.sale_cache import SaleCache
from ticketing.settings import Settings
from ticketing.store.client import connect
from ticketing.store.table import Table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class Services(Struct, frozen=True):
    """The use cases of one process."""

    purchases: PurchaseService
    holds: HoldService
    refunds: RefundService
    catalogue: Catalogue
    organiser: OrganiserService
    auditor: Auditor
    repairs: RepairService
    exporter: Exporter


def build_services(
    client: "DynamoDBClient | None" = None,
    table_name: str | None = None,
    runtime: Runtime | None = None,
) -> Services:
    """Return the use cases of a new process: empty caches, one client.

    client: a boto3 DynamoDB client, by default one with the settings of `store.client.connect`.
    table_name: by default that of the environment (`Settings`). runtime: by default wall clock,
    random numbers of the operating system, and a real sleep.
    """
    table = Table(client or connect(), table_name or Settings.from_environment().table_name)
    runtime = runtime or Runtime()
    cache = SaleCache(runtime)
    return Services(
        purchases=PurchaseService(table, runtime, cache),
        holds=HoldService(table, runtime, cache),
        refunds=RefundService(table, runtime),
        catalogue=Catalogue(table, runtime),
        organiser=OrganiserService(table, runtime),
        auditor=Auditor(table, runtime),
        repairs=RepairService(table, runtime),
        exporter=Exporter(table, runtime),
    )
