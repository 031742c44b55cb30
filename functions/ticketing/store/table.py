"""The table: one method per call, all expressions, and what the answers mean.

No other module calls DynamoDB. Each method of `Store` raises DeadlineExceeded where the request's
time is over, and StoreError where the call may be tried again. A bug (a malformed expression, a
missing permission) is raised as botocore raised it. A record that this software did not write
raises UnreadableRecord.
"""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import replace
from itertools import batched
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError
from msgspec import Struct

from ticketing.errors import CatalogueFull, Contended, StaleSale, UnreadableRecord
from ticketing.limits import BATCH_READ_ITEMS_MAX, ITEMS_MAX, SLOTS_MAX
from ticketing.model import BuyerTickets, Payment, Purchase, Sale, Shard, StockSummary
from ticketing.moves import RECLAIM, Move, Status
from ticketing.retry import Deadline
from ticketing.rules import current_shards
from ticketing.store.faults import CALL_ERRORS, ActionResult, reasons_of, results_of, translated
from ticketing.store.items import (
    BUYER,
    BUYER_PART,
    CATALOGUE_KEY,
    NO_SLOTS,
    PAYMENT,
    PAYMENT_PREFIX,
    PURCHASE,
    PURCHASE_PREFIX,
    SALE,
    SHARD,
    SUMMARY,
    SUMMARY_PART,
    Codec,
    Item,
    buyer_key,
    number,
    payment_key,
    purchase_key,
    sale_key,
    shard_key,
    summary_key,
    summary_of,
    text,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# The clauses of the condition expressions, each with what it prevents.
_SAME_GENERATION: Final = "generation = :generation"  # a purchase that was planned before a reset
_SOMETHING_LEFT: Final = "{debit} > :zero"  # an oversell
_ENOUGH_LEFT: Final = "{debit} >= :quantity"  # an oversell by a purchase of several tickets
_FREE_TICKETS: Final = "stock >= :lost"  # a capacity without tickets that are sold or held
# A ticket that is confirmed, released or extended twice, or after its slot was reclaimed.
_IN_ITS_SLOT: Final = "slots.#from >= :quantity"
# A hold in a slot that was reclaimed, see `Shard`.
_NOT_RECLAIMED: Final = "reclaimed_until < :to"
# A shard that grows above 1 KB.
_FEW_SLOTS: Final = "(attribute_exists(slots.#to) OR size(slots) < :slots)"
# A key that buys twice; a payment that pays for two holds; an item that is created twice.
_NOT_THERE: Final = "attribute_not_exists(pk)"
# A shard that opens twice in one generation, or for an older one.
_OLDER: Final = "generation < :generation"
# A shard that opens again, with all its tickets, after it was lost.
_NOT_ALL_OPENED: Final = "attribute_not_exists(shards_opened)"

# A refund that is made twice, or of tickets that another refund has given back since.
_UNCHANGED: Final = "#status = :before AND revision = :seen"
_NEVER_CHANGED: Final = "#status = :before AND attribute_not_exists(revision)"
# Purchases of one buyer that pass the limit together; two processes that read the shards for one
# summary; a change of a sale that overwrites another one.
_SAME_REVISION: Final = "revision = :seen"
# A change of a sale that overwrites another one; of a record that an earlier version has put.
_NO_REVISION: Final = "attribute_not_exists(revision)"
# A catalogue that grows without end.
_ROOM_IN_CATALOGUE: Final = "attribute_not_exists(item_ids) OR size(item_ids) < :most"

# The names of a transaction's actions.
_SALE: Final = "sale"
_CATALOGUE: Final = "catalogue"
_RECORD: Final = "record"
_PAYMENT: Final = "payment"
_BUYER: Final = "buyer"


class Cancellation(Struct, frozen=True):
    """Why the transaction of a move was cancelled. Nothing was written.

    record: the purchase's record, where it is not as the move demands; None otherwise, and where it
    is missing. shards: the shards whose condition failed, as they were found; None for a shard that
    was never opened. contended: a conflict or a throttle stopped at least one action, or what the
    buyer has was changed since it was read. contended_shards: the shards of the actions that a
    conflict or a throttle stopped. is_local: conflicts of shards were all that was wrong, so no
    pause is needed where there are other shards. payment_reused: the payment belongs to another
    purchase.
    """

    record: Purchase | None
    shards: Mapping[int, Shard | None]
    contended: bool
    contended_shards: frozenset[int]
    is_local: bool = False
    payment_reused: bool = False


# A generation of a sale, and a buyer of it.
type BuyerOf = tuple[int, str]


class BrokenSummary(Struct, frozen=True):
    """A stock summary that cannot be read."""

    item_id: int
    part: int
    problem: str


class Page(Struct, frozen=True):
    """One page of an item's records.

    problems: what is wrong with purchases and buyers that cannot be read. summaries: that cannot be
    read. looked_at: how many records of the table, of whatever kind. end: where the next page
    starts; None after the last.
    """

    purchases: Sequence[Purchase]
    buyers: Sequence[BuyerTickets]
    problems: Sequence[str]
    summaries: Sequence[BrokenSummary]
    looked_at: int
    end: str | None

    def by_item(self) -> dict[int, "Page"]:
        """Return item id → its part of the page, without the problems."""
        item_ids = {each.item_id for each in self.purchases}
        item_ids |= {each.item_id for each in self.buyers}
        item_ids |= {each.item_id for each in self.summaries}
        return {
            item_id: replace(
                self,
                purchases=[each for each in self.purchases if each.item_id == item_id],
                buyers=[each for each in self.buyers if each.item_id == item_id],
                summaries=[each for each in self.summaries if each.item_id == item_id],
                problems=[],
            )
            for item_id in item_ids
        }


class Table(Struct, frozen=True):
    """The table `name` of a boto3 DynamoDB client. It makes no call without a deadline."""

    client: "DynamoDBClient"
    name: str

    def within(self, deadline: Deadline) -> "Store":
        """Return the store for one request."""
        return Store(self, deadline)


class Store:
    """The table's calls within one request. After its deadline no call starts."""

    def __init__(self, table: Table, deadline: Deadline) -> None:
        self._client = table.client
        self._table = table.name
        self._deadline = deadline

    def read_sale(self, item_id: int) -> Sale | None:
        """Return the item's sale as it is now; None where there is none."""
        item = self._get(sale_key(item_id))
        return SALE.to_record(item) if item else None

    def read_purchase(self, purchase_id: str) -> Purchase | None:
        """Return the record of a purchase; None where there is none."""
        item = self._get(purchase_key(purchase_id))
        return PURCHASE.to_record(item) if item else None

    def read_payment(self, reference: str) -> Payment | None:
        """Return the record of a payment; None where it has paid for nothing."""
        item = self._get(payment_key(reference))
        return PAYMENT.to_record(item) if item else None

    def read_buyer(self, purchase: Purchase) -> BuyerTickets | None:
        """Return what the buyer of a purchase has of its sale; None where it does not count."""
        if not purchase.is_counted or purchase.buyer_id is None:
            return None
        item_id, generation, buyer_id = purchase.item_id, purchase.generation, purchase.buyer_id
        item = self._get(buyer_key(item_id, generation, buyer_id))
        return BUYER.to_record(item) if item else BuyerTickets(item_id, generation, buyer_id)

    def read_shards(self, sale: Sale) -> list[Shard]:
        """Return the sale's shards, each as it is now, but not of one instant.

        Never conflicts with a transaction.
        """
        return _current(sale, self._read_shards(sale.item_id, sale.shard_count))

    def read_shard(self, sale: Sale, index: int) -> Shard:
        """Return one of the sale's shards as it is now. Never conflicts with a transaction."""
        item = self._get(shard_key(sale.item_id, index))
        return _current(sale, [item] if item else [])[index]

    def read_summary(self, item_id: int, part: int) -> StockSummary:
        """Return a part's stock summary; its revision is 0 where there is none yet."""
        item = self._get(summary_key(item_id, part))
        return SUMMARY.to_record(item) if item else StockSummary(item_id, part)

    def read_stored_shards(self, sale: Sale) -> tuple[list[Shard], dict[int, str]]:
        """Return all stored shards of the item, and index → what is wrong with an unreadable one.

        Shards of every generation, as they are in the table. A shard that was never opened is
        missing.
        """
        shards, problems = _readable(SHARD, self._read_shards(sale.item_id, sale.shards_ever))
        of_index = {int(pk.rpartition("#")[2]): problem for pk, problem in problems.items()}
        return list(shards.values()), of_index

    def read_purchases(self, purchase_ids: Collection[str]) -> dict[str, Purchase | None]:
        """Return purchase id → its record; None for one that cannot be read. Not of one instant."""
        found = self._read_each(PURCHASE, [purchase_key(id_) for id_ in purchase_ids])
        return {pk.removeprefix(PURCHASE_PREFIX): record for pk, record in found.items()}

    def read_buyers(
        self, item_id: int, buyers: Collection[BuyerOf]
    ) -> dict[BuyerOf, BuyerTickets | None]:
        """Return what buyers have; None for a record that cannot be read. Not of one instant.

        One without a record has revision 0.
        """
        keys = {buyer: buyer_key(item_id, *buyer) for buyer in buyers}
        found = self._read_each(BUYER, list(keys.values()))
        return {
            buyer: found.get(key["pk"]["S"], BuyerTickets(item_id, *buyer))
            for buyer, key in keys.items()
        }

    def read_payments(self, references: Collection[str]) -> dict[str, Payment | None]:
        """Return payment reference → its record; None for one that cannot be read."""
        found = self._read_each(PAYMENT, [payment_key(each) for each in references])
        return {pk.removeprefix(PAYMENT_PREFIX): record for pk, record in found.items()}

    def _read_each[Record](
        self, codec: Codec[Record], keys: Sequence[Item]
    ) -> dict[str, Record | None]:
        """Return the `pk` of each item that there is → its record; None: it cannot be read."""
        some = batched(keys, BATCH_READ_ITEMS_MAX, strict=False)
        items = [item for each in some for item in self._read_all(each)]
        records, _ = _readable(codec, items)
        found: dict[str, Record | None] = {item["pk"]["S"]: None for item in items}
        found.update(records)
        return found

    def _read_shards(self, item_id: int, count: int) -> Sequence[Item]:
        return self._read_all([shard_key(item_id, index) for index in range(count)])

    def _read_all(self, keys: Sequence[Item]) -> Sequence[Item]:
        """Return the items of these keys that there are, each as it is now, by a batch read."""
        request: Any = {self._table: {"Keys": keys, "ConsistentRead": True}}
        answer = self._call(self._client.batch_get_item, RequestItems=request)
        if answer["UnprocessedKeys"]:
            raise Contended
        return answer["Responses"].get(self._table, [])

    def snapshot(self, sale: Sale) -> list[Shard]:
        """Return the sale's shards as of one instant. Conflicts with purchases in flight."""
        gets: Any = [
            {"Get": {"TableName": self._table, "Key": shard_key(sale.item_id, index)}}
            for index in range(sale.shard_count)
        ]
        try:
            answer = self._call(self._client.transact_get_items, TransactItems=gets)
        except ClientError as error:
            reasons_of(error)  # raises unless contention is the only reason
            raise Contended from error
        return _current(
            sale, [response["Item"] for response in answer["Responses"] if "Item" in response]
        )

    def move(
        self,
        move: Move,
        record: Purchase,
        tickets: Mapping[int, int],
        now: str,
        seen: Purchase | None = None,
        *,
        buyer: BuyerTickets | None = None,
    ) -> Cancellation | None:
        """Move tickets of the record's generation and put the record, in one transaction.

        A payment that the record gets with the move is put as well.

        record: as it will be. tickets: shard index → how many tickets to move. now: a timestamp.
        seen: the record before, which must not have changed; None where there is none. buyer: what
        the buyer has after the move, which must be the next revision; None where it does not count.

        Returns None when it is done, otherwise why it was cancelled.
        """
        shards = {index: _shard_name(index) for index in tickets}
        actions: dict[str, Any] = {
            shards[index]: self._shard_update(move, record, index, count, now=now, seen=seen)
            for index, count in tickets.items()
        }
        actions[_RECORD] = {"Put": self._record_put(move, record, seen)}
        if move.takes_payment and record.payment_reference is not None:
            payment = Payment(record.payment_reference, record.purchase_id, now)
            actions[_PAYMENT] = {"Put": self._payment_put(payment)}
        if buyer is not None:
            key = buyer_key(buyer.item_id, buyer.generation, buyer.buyer_id)
            actions[_BUYER] = {"Put": self._next_put(BUYER.to_item(key, buyer), buyer.revision)}
        results = self._transact(actions)
        return None if results is None else _cancellation(results, shards, record)

    def touch(self, record: Purchase) -> bool:
        """Give an unchanged record its next revision, so that no earlier attempt can change it.

        record: with the revision that was seen. False: it has changed since.
        """
        touched = replace(record, revision=record.revision + 1)
        put = self._unchanged_put(touched, record.status, record.revision)
        return self._write(self._client.put_item, **put) is None

    def put_refusal(self, refusal: Purchase) -> Purchase | None:
        """Put the record of a refused order. From then on no attempt of the order can buy.

        Returns None when it is done; the record that already has the purchase id where there is
        one.
        """
        put = self._put(PURCHASE.to_item(purchase_key(refusal.purchase_id), refusal), _NOT_THERE)
        found = self._write(self._client.put_item, **put)
        return None if found is None else PURCHASE.to_record(found)

    def put_sale(self, sale: Sale, seen: Sale | None) -> bool:
        """Put a sale's record, if it has not changed. False: it has. Shards open from this record.

        seen: the record before; None where there is none. In the same transaction a new item, and
        one that an earlier version has put, comes into the catalogue, a deleted one leaves it, and
        shards that a running generation gets are created, without tickets. Raises CatalogueFull.
        """
        put = self._sale_put(sale, seen)
        actions: dict[str, Any] = {_SALE: {"Put": put}}
        was_listed = seen is not None and seen.revision > 0 and not seen.is_deleted
        is_listed = not sale.is_deleted
        if is_listed != was_listed:
            actions[_CATALOGUE] = self._listing(sale.item_id, is_listed=is_listed)
        if seen is not None and seen.generation == sale.generation:
            for index in range(seen.shards_ever, sale.shards_ever):
                actions[_shard_name(index)] = {"Update": self._opening(sale, index, _NOT_THERE)}
        if len(actions) == 1:
            return self._write(self._client.put_item, **put) is None
        results = self._transact(actions)
        if results is None:
            return True
        if results[_SALE].condition_failed:
            return False
        if _CATALOGUE in results and results[_CATALOGUE].condition_failed:
            raise CatalogueFull
        raise Contended

    def resize(self, sale: Sale, seen: Sale, tickets: Mapping[int, int], now: str) -> bool:
        """Give shards of a sale more tickets or fewer, in one transaction with the sale's record.

        sale: its record after it. seen: before, which must not have changed. tickets: shard → how
        many it gets; negative: loses. now: a timestamp.

        False: a shard has fewer free tickets than it loses, or is lost. Raises StaleSale where the
        record has changed, and Contended.
        """
        actions: dict[str, Any] = {_SALE: {"Put": self._sale_put(sale, seen)}}
        for index, count in tickets.items():
            update = {
                "TableName": self._table,
                "Key": shard_key(sale.item_id, index),
                "UpdateExpression": (
                    "SET #capacity = #capacity + :tickets, stock = stock + :tickets, "
                    "updated_at = :now"
                ),
                "ConditionExpression": f"{_SAME_GENERATION} AND {_FREE_TICKETS}",
                "ExpressionAttributeNames": {"#capacity": "capacity"},
                "ExpressionAttributeValues": {
                    ":generation": number(sale.generation),
                    ":tickets": number(count),
                    ":lost": number(max(0, -count)),
                    ":now": text(now),
                },
            }
            actions[_shard_name(index)] = {"Update": update}
        results = self._transact(actions)
        if results is None:
            return True
        if results[_SALE].condition_failed:
            raise StaleSale
        if any(result.condition_failed for result in results.values()):
            return False
        raise Contended

    def read_catalogue(self) -> list[int]:
        """Return the ids of all items, in order."""
        item = self._get(CATALOGUE_KEY) or {}
        return sorted(int(item_id) for item_id in item.get("item_ids", {"NS": []})["NS"])

    def read_sales(self, item_ids: Sequence[int]) -> list[Sale]:
        """Return the sales of these items that there are, in the order of their ids."""
        items = self._read_all([sale_key(item_id) for item_id in item_ids]) if item_ids else []
        return sorted((SALE.to_record(item) for item in items), key=lambda sale: sale.item_id)

    def open_shard(self, sale: Sale, index: int) -> bool:
        """Open a shard with its share for the sale's generation, once. False: it was open.

        This also closes the shard to all older generations, whose purchases demand theirs. One that
        is not there yet is created, unless all shards of the generation were opened before: then
        it is lost, and StaleSale is raised, also for a newer generation. Raises Contended.
        """
        found = self._write(self._client.update_item, **self._opening(sale, index, _OLDER))
        if found != {}:
            return found is None
        check = {
            "TableName": self._table,
            "Key": sale_key(sale.item_id),
            "ConditionExpression": f"{_SAME_GENERATION} AND {_NOT_ALL_OPENED}",
            "ExpressionAttributeValues": {":generation": number(sale.generation)},
        }
        name = _shard_name(index)
        results = self._transact(
            {
                _SALE: {"ConditionCheck": check},
                name: {"Update": self._opening(sale, index, _NOT_THERE)},
            }
        )
        if results is None:
            return True
        if results[_SALE].condition_failed:
            raise StaleSale
        if results[name].condition_failed:
            return False
        raise Contended

    def _opening(self, sale: Sale, index: int, condition: str) -> Any:
        """Return the update that opens a shard: with its share, or empty in a running sale."""
        share = 0 if sale.shards_opened else sale.share(index)
        return {
            "TableName": self._table,
            "Key": shard_key(sale.item_id, index),
            "UpdateExpression": (
                "SET generation = :generation, #capacity = :share, stock = :share, "
                "held = :zero, sold = :zero, updated_at = :created_at, "
                "slots = :none, reclaimed_until = :zero, "
                "sold_before = if_not_exists(sold_before, :zero) + if_not_exists(sold, :zero)"
            ),
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {"#capacity": "capacity"},
            "ExpressionAttributeValues": {
                ":generation": number(sale.generation),
                ":share": number(share),
                ":zero": number(0),
                ":none": NO_SLOTS,
                ":created_at": text(sale.created_at),
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def reclaim(
        self, item_id: int, shard: Shard, expired: Collection[int], now: str
    ) -> Shard | None:
        """Put the tickets of expired slots back on sale. One plain write of one shard.

        shard: as it was seen. expired: some of its slots, which are removed. now: a timestamp.

        Returns None when it is done; the shard as it is where it has changed since.
        """
        slots = {f"slot{position}": slot for position, slot in enumerate(expired)}
        debit, credit = RECLAIM.debit.value, RECLAIM.credit.value
        unchanged = [f"slots.#{name} = :{name}" for name in slots]
        clauses = [_SAME_GENERATION, "reclaimed_until = :before", *unchanged]
        update: Any = {
            "TableName": self._table,
            "Key": shard_key(item_id, shard.index),
            "UpdateExpression": (
                f"SET {debit} = {debit} - :quantity, {credit} = {credit} + :quantity, "
                "reclaimed_until = :until, updated_at = :now "
                f"REMOVE {', '.join(f'slots.#{name}' for name in slots)}"
            ),
            "ConditionExpression": " AND ".join(clauses),
            "ExpressionAttributeNames": {f"#{name}": str(slot) for name, slot in slots.items()},
            "ExpressionAttributeValues": {
                **{f":{name}": number(shard.slots[slot]) for name, slot in slots.items()},
                ":generation": number(shard.generation),
                ":before": number(shard.reclaimed_until),
                ":until": number(max(shard.reclaimed_until, *expired)),
                ":quantity": number(sum(shard.slots[slot] for slot in expired)),
                ":now": text(now),
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        found = self._write(self._client.update_item, **update)
        return None if found is None else SHARD.to_record(found)

    def put_summary(self, summary: StockSummary) -> bool:
        """Put a stock summary, if it is the next revision. False: it is not."""
        item = SUMMARY.to_item(summary_key(summary.item_id, summary.part), summary)
        put = self._next_put(item, summary.revision)
        return self._write(self._client.put_item, **put) is None

    def repair(
        self,
        item_id: int,
        shards: Mapping[int, tuple[Shard | None, Shard]],
        sales: tuple[Sale, Sale] | None,
    ) -> bool:
        """Put shards, and perhaps the sale's record, if none of them has changed; otherwise none.

        shards: index → as it was seen, None where it was missing, and as it will be. sales: the
        record as it was seen, and as it will be. False: something has changed. Raises Contended.
        """
        actions = {
            _shard_name(index): {"Put": self._shard_put(item_id, seen, after)}
            for index, (seen, after) in shards.items()
        }
        if sales is not None:
            actions[_SALE] = {"Put": self._sale_put(sales[1], sales[0])}
        results = self._transact(actions)
        if results is None:
            return True
        if any(result.condition_failed for result in results.values()):
            return False
        raise Contended

    def _shard_put(self, item_id: int, seen: Shard | None, after: Shard) -> Any:
        """Return the put of a shard that must be as it was seen; None: missing."""
        # Holds demand these attributes, also without a value.
        needed = {"slots": NO_SLOTS, "reclaimed_until": number(0)}
        item = needed | dict(SHARD.to_item(shard_key(item_id, after.index), after))
        if seen is None:
            return self._put(item, _NOT_THERE)
        before = SHARD.to_item({}, seen)
        names = {f"#{name}": name for name in before}
        return {
            **self._put(item, " AND ".join(f"{name} = :{name[1:]}" for name in names)),
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": {f":{name}": value for name, value in before.items()},
        }

    def put_buyer(self, buyer: BuyerTickets) -> bool:
        """Put what a buyer has, if it is the next revision. False: it is not."""
        key = buyer_key(buyer.item_id, buyer.generation, buyer.buyer_id)
        put = self._next_put(BUYER.to_item(key, buyer), buyer.revision)
        return self._write(self._client.put_item, **put) is None

    def replace_summary(self, summary: StockSummary) -> bool:
        """Put a stock summary in the place of one that cannot be read."""
        item = SUMMARY.to_item(summary_key(summary.item_id, summary.part), summary)
        self._call(self._client.put_item, TableName=self._table, Item=item)
        return True

    def put_payment(self, payment: Payment) -> bool:
        """Put the record of a payment. False: it has one."""
        put = self._payment_put(payment)
        return self._write(self._client.put_item, **put) is None

    def read_records(self, item_id: int | None, start: str | None, most: int) -> Page:
        """Return a page of an item's purchases and buyers, of every generation, by a scan.

        Each record is as it is now. item_id: None: of all items. start: the `end` of the page
        before. most: records of the table to look at. A purchase without a readable item_id is
        counted for every item.
        """
        request: Any = {"TableName": self._table, "ConsistentRead": True, "Limit": most}
        if item_id is not None:
            request["FilterExpression"] = (
                "begins_with(pk, :purchase) AND "
                "(item_id = :item_id OR NOT attribute_type(item_id, :number)) "
                "OR begins_with(pk, :item)"
            )
            request["ExpressionAttributeValues"] = {
                ":purchase": text(PURCHASE_PREFIX),
                ":item": text(f"{sale_key(item_id)['pk']['S']}#"),
                ":item_id": number(item_id),
                ":number": text("N"),
            }
        if start is not None:
            request["ExclusiveStartKey"] = {"pk": {"S": start}}
        answer = self._call(self._client.scan, **request)
        items = answer["Items"]
        purchases, unreadable = _readable(
            PURCHASE, [item for item in items if item["pk"]["S"].startswith(PURCHASE_PREFIX)]
        )
        buyers, unreadable_too = _readable(
            BUYER, [item for item in items if BUYER_PART in item["pk"]["S"]]
        )
        _, broken = _readable(SUMMARY, [item for item in items if SUMMARY_PART in item["pk"]["S"]])
        last: Any = answer.get("LastEvaluatedKey")
        return Page(
            list(purchases.values()),
            list(buyers.values()),
            [*unreadable.values(), *unreadable_too.values()],
            [BrokenSummary(*summary_of(pk), problem) for pk, problem in broken.items()],
            answer["ScannedCount"],
            last["pk"]["S"] if last else None,
        )

    def _call[**Parameters, Answer](
        self,
        operation: Callable[Parameters, Answer],
        *args: Parameters.args,
        **request: Parameters.kwargs,
    ) -> Answer:
        """Make one call of DynamoDB; every call passes here.

        Raises DeadlineExceeded, StoreError, or the error that botocore raised.
        """
        self._deadline.check()
        try:
            return operation(*args, **request)
        except CALL_ERRORS as error:
            if store_error := translated(error):
                raise store_error from error
            raise

    def _write(self, operation: Callable[..., object], **request: Any) -> Item | None:
        """Make a conditional write.

        Returns None when it is done; the item for which its condition was false, where the request
        asks for it, and otherwise {}.
        """
        try:
            self._call(operation, **request)
        except self._client.exceptions.ConditionalCheckFailedException as error:
            answer: Any = error.response
            item: Item = answer.get("Item", {})
            return item
        return None

    def _get(self, key: Any) -> Item | None:
        return self._call(
            self._client.get_item, TableName=self._table, Key=key, ConsistentRead=True
        ).get("Item")

    def _transact(self, actions: Mapping[str, Any]) -> Mapping[str, ActionResult] | None:
        """Send one transaction. actions: name → action.

        Returns None when it is done; where it was cancelled, what became of each action.
        """
        try:
            self._call(self._client.transact_write_items, TransactItems=list(actions.values()))
        except ClientError as error:
            return results_of(error, list(actions))
        return None

    def _record_put(self, move: Move, record: Purchase, seen: Purchase | None) -> Any:
        """Return the put of a purchase's record, with what the move demands of the one before."""
        if move.before is None:
            item = PURCHASE.to_item(purchase_key(record.purchase_id), record)
            return self._put(item, _NOT_THERE)
        return self._unchanged_put(record, move.before, seen.revision if seen else 0)

    def _unchanged_put(self, record: Purchase, before: Status, revision: int) -> Any:
        """Return the put of a record whose status and revision must be these."""
        item = PURCHASE.to_item(purchase_key(record.purchase_id), record)
        values = {":before": text(before)} | ({":seen": number(revision)} if revision else {})
        return {
            **self._put(item, _UNCHANGED if revision else _NEVER_CHANGED),
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": values,
        }

    def _sale_put(self, sale: Sale, seen: Sale | None) -> Any:
        """Return the put of a sale's record that must be as it was seen; None: missing."""
        item = SALE.to_item(sale_key(sale.item_id), sale)
        if seen is None:
            return self._put(item, _NOT_THERE)
        same_revision = _SAME_REVISION if seen.revision else _NO_REVISION
        values = {":seen": number(seen.revision)} if seen.revision else {}
        return {
            **self._put(item, f"{_SAME_GENERATION} AND {same_revision}"),
            "ExpressionAttributeValues": {":generation": number(seen.generation), **values},
        }

    def _payment_put(self, payment: Payment) -> Any:
        """Return the put of a payment that has paid for nothing yet."""
        return self._put(PAYMENT.to_item(payment_key(payment.reference), payment), _NOT_THERE)

    def _listing(self, item_id: int, *, is_listed: bool) -> Any:
        """Return the action that puts an item into the catalogue, or takes it out.

        It may be there already, or not.
        """
        ids = {":item_ids": {"NS": [str(item_id)]}}
        update = {
            "TableName": self._table,
            "Key": CATALOGUE_KEY,
            "UpdateExpression": f"{'ADD' if is_listed else 'DELETE'} item_ids :item_ids",
            "ExpressionAttributeValues": ids,
        }
        if is_listed:
            update["ConditionExpression"] = _ROOM_IN_CATALOGUE
            update["ExpressionAttributeValues"] = {**ids, ":most": number(ITEMS_MAX)}
        return {"Update": update}

    def _next_put(self, item: Item, revision: int) -> Any:
        """Return the put of a record, if `revision` is the next one. The first one is 1."""
        seen = revision - 1
        put = self._put(item, _SAME_REVISION if seen else _NOT_THERE)
        return put | ({"ExpressionAttributeValues": {":seen": number(seen)}} if seen else {})

    def _shard_update(
        self,
        move: Move,
        record: Purchase,
        index: int,
        tickets: int,
        *,
        now: str,
        seen: Purchase | None,
    ) -> Any:
        """Return the action that moves tickets of a shard, between counters and expiry slots."""
        changes, condition = _expressions(move, one=tickets == 1)
        names, values = {}, {}
        if move.from_slot and seen:
            names["#from"] = str(seen.expires_at)
        if move.to_slot and record.expires_at:
            names["#to"], values[":to"] = str(record.expires_at), number(record.expires_at)
            values[":slots"] = number(SLOTS_MAX)
        update: Any = {
            "TableName": self._table,
            "Key": shard_key(record.item_id, index),
            "UpdateExpression": changes,
            "ConditionExpression": condition,
            "ExpressionAttributeValues": {
                **values,
                ":generation": number(record.generation),
                ":zero": number(0),
                ":quantity": number(tickets),
                ":now": text(now),
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        return {"Update": update | ({"ExpressionAttributeNames": names} if names else {})}

    def _put(self, item: Item, condition: str) -> Any:
        return {
            "TableName": self._table,
            "Item": item,
            "ConditionExpression": condition,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }


def _shard_name(index: int) -> str:
    """Return the name of a shard's action."""
    return f"shard {index}"


@functools.cache
def _expressions(move: Move, *, one: bool) -> tuple[str, str]:
    """Return the update and the condition of a shard whose tickets move. one: a single ticket."""
    changes, clauses = ["updated_at = :now"], [_SAME_GENERATION]
    if move.debit is not move.credit:
        debit, credit = move.debit.value, move.credit.value
        changes += [f"{debit} = {debit} - :quantity", f"{credit} = {credit} + :quantity"]
        left = [_SOMETHING_LEFT] if one else [_SOMETHING_LEFT, _ENOUGH_LEFT]
        clauses += [clause.format(debit=debit) for clause in left]
    if move.from_slot:
        changes.append("slots.#from = slots.#from - :quantity")
        clauses.append(_IN_ITS_SLOT)
    if move.to_slot:
        changes.append("slots.#to = if_not_exists(slots.#to, :zero) + :quantity")
        clauses += [_NOT_RECLAIMED, _FEW_SLOTS]
    return f"SET {', '.join(changes)}", " AND ".join(clauses)


def _cancellation(
    results: Mapping[str, ActionResult], shards: Mapping[int, str], record: Purchase
) -> Cancellation:
    """Return why a move was cancelled. shards: index → name of its action."""
    of_record = results[_RECORD]
    refused = {
        index: results[name].item
        for index, name in shards.items()
        if results[name].condition_failed
    }
    is_other = of_record.condition_failed and of_record.item
    is_buyer_changed = _BUYER in results and results[_BUYER].condition_failed
    stopped = {name for name, result in results.items() if result.contended}
    conflicted = {name for name in shards.values() if results[name].conflicted}
    return Cancellation(
        record=PURCHASE.to_record(of_record.item) if is_other else None,
        shards={index: SHARD.to_record(item) if item else None for index, item in refused.items()},
        contended=is_buyer_changed or bool(stopped),
        contended_shards=frozenset(index for index, name in shards.items() if name in stopped),
        is_local=bool(stopped) and stopped == conflicted and not is_buyer_changed,
        payment_reused=_PAYMENT in results and _is_of_another(results[_PAYMENT], record),
    )


def _is_of_another(payment: ActionResult, record: Purchase) -> bool:
    """Return whether a payment has paid for another purchase.

    It may be the record's own: of a concurrent duplicate, whose other writes are still in progress.
    """
    if not payment.condition_failed:
        return False
    return PAYMENT.to_record(payment.item).purchase_id != record.purchase_id


def _current(sale: Sale, items: Sequence[Item]) -> list[Shard]:
    """Return the sale's shards. Raises StaleSale where one has a newer generation."""
    stored = [SHARD.to_record(item) for item in items]
    if any(shard.generation > sale.generation for shard in stored):
        raise StaleSale
    return current_shards(sale, stored)


def _readable[Record](
    codec: Codec[Record], items: Iterable[Item]
) -> tuple[dict[str, Record], dict[str, str]]:
    """Return `pk` → record, and `pk` → what is wrong with an item that cannot be read."""
    records, problems = {}, {}
    for item in items:
        pk = item["pk"]["S"]
        try:
            records[pk] = codec.to_record(item)
        except UnreadableRecord as error:
            problems[pk] = str(error)
    return records, problems
