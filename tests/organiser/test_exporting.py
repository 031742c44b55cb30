"""Exports: each purchase in exactly one part, and a total that is compared with the counters."""

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from tests.support import ITEM, World, lost_reply, raises
from ticketing.errors import Busy, InvalidRequest, NotFound
from ticketing.limits import (
    AUDIT_PAGE_RECORDS_MAX,
    AUDIT_RECORDS_MAX,
    EXPORT_RECORDS_MAX,
    HOLD_SECONDS_MIN,
    SHARDS_MAX,
)
from ticketing.model import Bought, ExportPart, Held, Purchase, SaleSettings
from ticketing.moves import Status

OTHER_ITEM = 2


def buy(world: World, quantity: int = 1, item_id: int = ITEM) -> Purchase:
    service = world.purchase_service()
    outcome = service.buy(service.order(item_id, quantity, "buyer-42", None))
    assert isinstance(outcome, Bought)
    return outcome.purchase


def hold(world: World) -> str:
    service = world.purchase_service()
    outcome = service.buy(service.order(ITEM, 1, "buyer-42", None, is_hold=True))
    assert isinstance(outcome, Held)
    return outcome.hold.purchase_id


def refund(world: World, purchase: Purchase, quantity: int) -> None:
    world.services().refunds.refund(purchase.purchase_id, quantity, f"{purchase.purchase_id}-key")


def parts(world: World, generation: int | None = None) -> list[ExportPart]:
    """Return all parts of an export, each asked for in a new process."""
    found = [world.services().exporter.export(ITEM, generation)]
    while cursor := found[-1].cursor:
        found.append(world.services().exporter.export(ITEM, cursor=cursor))
    return found


def ids(found: list[ExportPart]) -> Counter[str]:
    return Counter(each.purchase_id for part in found for each in part.purchases)


def one_record_a_page(world: World) -> None:
    """Let each part look at EXPORT_RECORDS_MAX // AUDIT_PAGE_RECORDS_MAX records."""

    def scan(scan: Any, **request: Any) -> Any:
        return scan(**request | {"Limit": 1}) | {"ScannedCount": request["Limit"]}

    world.client.replace("scan", scan)


@pytest.fixture
def sold(world: World) -> World:
    """Return a sale with a purchase of each kind, and with records that are none of its own."""
    world.open_sale(stock=40, shards=4, hold_seconds=HOLD_SECONDS_MIN)
    buy(world, 3)  # of an earlier generation
    world.open_sale(stock=40, shards=4, hold_seconds=HOLD_SECONDS_MIN)
    world.organiser.put(OTHER_ITEM, SaleSettings(10, "Another"))
    buy(world, 2, OTHER_ITEM)
    buy(world, 1)
    for returned in (1, 2):
        refund(world, buy(world, 2), returned)
    holds = world.services().holds
    holds.confirm(hold(world), "pay-42")
    holds.release(hold(world))
    hold(world)
    return world


@pytest.mark.G4
def test_purchases_and_total(sold: World) -> None:
    sold.client.calls.clear()
    (part,) = parts(sold)
    assert set(sold.client.calls) <= {"get_item", "batch_get_item", "scan"}, "it writes nothing"
    kinds = sorted((each.status, each.quantity, each.kept_quantity) for each in part.purchases)
    assert kinds == [
        (Status.CONFIRMED, 1, 1),
        (Status.CONFIRMED, 1, 1),
        (Status.CONFIRMED, 2, 1),
        (Status.REFUNDED, 2, 0),
    ]
    assert {(each.item_id, each.generation) for each in part.purchases} == {(ITEM, 2)}
    total = part.total
    assert total
    assert (total.purchases, total.quantity, total.refunded, total.sold) == (4, 6, 3, 3)
    assert total.problems == []


@pytest.mark.G4
def test_earlier_generation(sold: World) -> None:
    (part,) = parts(sold, generation=1)
    assert [each.quantity for each in part.purchases] == [3]
    total = part.total
    assert total
    assert (total.purchases, total.quantity, total.sold, total.problems) == (1, 3, None, [])


@pytest.mark.G4
def test_parts_are_whole(sold: World) -> None:
    """However small they are. A part that is asked for twice is the same."""
    whole = parts(sold)
    one_record_a_page(sold)
    found = parts(sold)
    assert len(found) > 4
    assert ids(found) == ids(whole)
    assert found[-1].total == whole[-1].total
    assert [part.is_first for part in found] == [True] + [False] * (len(found) - 1)
    assert [part.total is None for part in found] == [True] * (len(found) - 1) + [False]
    for before, part in pairwise(found):
        assert sold.services().exporter.export(ITEM, cursor=before.cursor) == part


def test_size_of_a_part(sold: World) -> None:
    one_record_a_page(sold)
    sold.client.calls.clear()
    sold.services().exporter.export(ITEM)
    assert sold.client.count("scan") == EXPORT_RECORDS_MAX // AUDIT_PAGE_RECORDS_MAX
    assert EXPORT_RECORDS_MAX <= AUDIT_RECORDS_MAX


@pytest.mark.G4
def test_while_it_sells(world: World) -> None:
    """Purchases and refunds before each page: all that was bought before is there once."""
    world.open_sale(stock=600, shards=3)
    before = [buy(world, 2) for _ in range(30)]
    waiting = list(before)
    one_record_a_page(world)

    def change() -> None:
        buy(world, 3)
        refund(world, waiting.pop(), 1)

    world.client.before("scan", *[change] * len(before))
    found = parts(world)
    counted = ids(found)
    assert set(counted.values()) == {1}
    assert counted.keys() >= {each.purchase_id for each in before}
    assert len(counted) > len(before), "some of the later ones are there as well"
    total = found[-1].total
    assert total
    assert (total.purchases, total.problems) == (len(counted), [])
    assert total.sold != total.quantity - total.refunded, "which is no problem"


@pytest.mark.G4
@pytest.mark.parametrize("off", [-1, 1])
def test_counter_is_wrong(sold: World, off: int) -> None:
    shard = next(each for each in sold.catalogue.inventory(ITEM).shards if each.sold)
    sold.tamper(f"item#1#stock#{shard.index:02}", sold=shard.sold + off, stock=shard.stock - off)
    (part,) = parts(sold)
    total = part.total
    assert total
    (problem,) = total.problems
    assert f"its counter says {shard.sold + off}" in problem
    assert total.sold == 3 + off


@pytest.mark.G4
def test_unreadable_purchase(sold: World) -> None:
    """It is named: an export that leaves it out says so."""
    id_ = next(iter(ids(parts(sold))))
    sold.tamper(f"purchase#{id_}", created_at=5)
    (part,) = parts(sold)
    assert id_ not in ids([part])
    assert part.total
    assert any(id_ in problem for problem in part.total.problems)


@pytest.mark.G4
def test_reset_meanwhile(sold: World) -> None:
    """The purchases that were asked for are all there; nothing is said of the counters."""
    whole = ids(parts(sold))
    one_record_a_page(sold)
    first = sold.services().exporter.export(ITEM)
    sold.open_sale(stock=5, shards=1)
    found = [first]
    while cursor := found[-1].cursor:
        found.append(sold.services().exporter.export(ITEM, cursor=cursor))
    assert ids(found) == whole
    total = found[-1].total
    assert total
    assert total.sold is None
    assert total.problems == ["The sale was reset meanwhile, so nothing was compared."]


def test_nothing_sold(world: World) -> None:
    world.open_sale(stock=5)
    (part,) = parts(world)
    assert part.purchases == []
    assert part.total
    assert (part.total.purchases, part.total.sold, part.total.problems) == (0, 0, [])


def test_bad_requests(sold: World) -> None:
    """None of them takes the place of another one."""
    one_record_a_page(sold)
    export, audit = sold.services().exporter.export, sold.audit()
    cursor, other = export(ITEM).cursor, export(OTHER_ITEM).cursor
    assert cursor
    for wrong in ("x", "eJwDAAAAAAE=", audit.cursor):
        with pytest.raises(InvalidRequest, match="not the cursor"):
            export(ITEM, cursor=wrong)
    with pytest.raises(InvalidRequest, match="not the cursor"):
        sold.audit(cursor)
    with pytest.raises(InvalidRequest, match="belongs to item 2"):
        export(ITEM, cursor=other)
    with pytest.raises(InvalidRequest, match=r"generation 2\. Ask for"):
        export(ITEM, 3)
    with pytest.raises(InvalidRequest, match="belongs to generation 2"):
        export(ITEM, 1, cursor)
    with pytest.raises(NotFound):
        export(999)


@pytest.mark.G6
@pytest.mark.parametrize("call", ["get_item", "batch_get_item", "scan"])
def test_store_is_silent(sold: World, call: str) -> None:
    sold.client.before(call, raises(lost_reply()))
    assert parts(sold)[-1].total, "one silence costs another attempt"
    sold.client.before(call, *[raises(lost_reply())] * 200)
    with pytest.raises(Busy):
        parts(sold)


def test_length_of_a_cursor(world: World) -> None:
    """It fits into a header and a URL, which API Gateway takes up to 10,240 bytes together."""
    world.open_sale(stock=10_000, shards=SHARDS_MAX)
    for _ in range(300):
        buy(world, 2)
    one_record_a_page(world)
    assert max(len(part.cursor or "") for part in parts(world)) < 6_000
