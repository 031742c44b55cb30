"""A correct service in memory, and broken variants of it, each a few lines. The proof is tested on
them.

Run one by hand: python tests/proof/reference_service.py [NAME] [PORT]
"""

import csv
import io
import itertools
import json
import sys
import threading
import time
import uuid
from dataclasses import asdict, dataclass, field, replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Text:
    """A body that is no JSON document. following: the query of the next part."""

    content: str
    following: str | None = None


Answer = tuple[int, dict[str, Any]]


@dataclass(frozen=True)
class Record:
    """A purchase record; `asdict` of it is the receipt."""

    purchase_id: str
    item_id: int
    quantity: int
    buyer_id: str | None
    generation: int
    status: str = "confirmed"
    purchased_at: str = field(
        default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    )
    refunded_quantity: int = 0


@dataclass
class Hold:
    """A hold. ends_at: by the monotonic clock. status: held, or confirmed."""

    record: Record
    ends_at: float
    expires_at: str
    status: str = "held"
    is_reclaimed: bool = False

    @property
    def body(self) -> dict[str, Any]:
        """Return the body that GET /holds/{hold_id} would have."""
        record = asdict(self.record)
        return {
            "hold_id": record.pop("purchase_id"),
            "held_at": record.pop("purchased_at"),
            **record,
            "status": self.status,
            "expires_at": self.expires_at,
            "extended": False,
        }


def problem(status: int, code: str, **more: Any) -> Answer:
    """A problem document."""
    return status, {
        "type": "about:blank",
        "status": status,
        "code": code,
        "request_id": str(uuid.uuid4()),
        **more,
    }


class Service:
    """Sells exactly its stock: one lock around everything that must happen at once."""

    admin_routes = True

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.generation = 1
        self.capacity = self.stock = 100
        self.sold = 0
        self.item_name = "Item A - Concert Ticket"
        self.records: dict[str, Record] = {}
        self.used_keys: set[str | None] = set()
        self.refund_keys: set[str | None] = set()
        self.holds: dict[str, Hold] = {}
        self.hold_seconds = 600.0
        self.limit = 0
        self.is_paused = False
        self._calls = itertools.count(1)

    def now_and_then(self) -> bool:
        """Return True at every eighth call."""
        return next(self._calls) % 8 == 0

    def buy(self, purchase_id: str, item_id: int, quantity: int, buyer_id: str | None) -> Answer:
        """Make one purchase, exactly once per purchase id."""
        with self.lock:
            if known := self.records.get(purchase_id):
                return self.again(known, quantity)
            if self.refuses_all():
                return problem(409, "sale_not_open", reason="paused")
            self.reclaim()
            if self.limit and self.tickets_of(buyer_id) + quantity > self.limit:
                left = max(0, self.limit - self.tickets_of(buyer_id))
                return problem(409, "buyer_limit_reached", left=left)
            if self.stock < quantity:
                return self.refusal(self.stock)
            self.stock -= quantity
            return self.sell(Record(purchase_id, item_id, quantity, buyer_id, self.generation))

    def refuses_all(self) -> bool:
        """Return whether the sale is paused."""
        return self.is_paused

    def set_paused(self, paused: bool) -> Answer:
        """POST /items/{item_id}/pause and /resume."""
        self.is_paused = paused
        return self.inventory()

    def resize(self, capacity: int) -> Answer:
        """PUT /items/{item_id} with another capacity."""
        with self.lock:
            if capacity < self.sold + self.held:
                return self.too_low(self.sold + self.held)
            self.stock += capacity - self.capacity
            self.capacity = capacity
        return self.inventory()

    def too_low(self, lowest: int) -> Answer:
        """Answer where more tickets are sold and held."""
        return problem(409, "capacity_too_low", lowest_capacity=lowest)

    def tickets_of(self, buyer_id: str | None) -> int:
        """Return the tickets that a buyer has, which count for the limit."""
        return sum(
            record.quantity - record.refunded_quantity
            for record in self.records.values()
            if record.buyer_id == buyer_id and record.generation == self.generation
        )

    def hold(self, hold_id: str, item_id: int, quantity: int, buyer_id: str | None) -> Answer:
        """POST /holds."""
        with self.lock:
            if known := self.holds.get(hold_id):
                return 200, known.body
            self.reclaim()
            if self.stock < quantity:
                return self.refusal(self.stock)
            self.stock -= quantity
            record = Record(hold_id, item_id, quantity, buyer_id, self.generation)
            ends_at = time.monotonic() + self.hold_seconds
            self.holds[hold_id] = Hold(record, ends_at, time.strftime("%FT%TZ", time.gmtime()))
            return 201, self.holds[hold_id].body

    @property
    def held(self) -> int:
        """Return the tickets that are held, until they are reclaimed."""
        return sum(
            hold.record.quantity
            for hold in self.holds.values()
            if hold.status == "held"
            and not hold.is_reclaimed
            and hold.record.generation == self.generation
        )

    def reclaim(self) -> None:
        """Put the tickets of expired holds back on sale."""
        for hold in self.holds.values():
            if (
                hold.status == "held"
                and not hold.is_reclaimed
                and hold.ends_at <= time.monotonic()
                and hold.record.generation == self.generation
            ):
                hold.is_reclaimed = True
                self.stock += hold.record.quantity

    def confirm(self, hold_id: str) -> Answer:
        """POST /holds/{hold_id}/confirm, with the payment of the hold."""
        with self.lock:
            if known := self.records.get(hold_id):
                return 200, asdict(known)
            hold = self.holds[hold_id]
            if self.is_over(hold):
                return problem(410, "hold_expired")
            hold.status = "confirmed"
            return self.sell(hold.record)

    def is_over(self, hold: Hold) -> bool:
        """Return whether it is too late to confirm a hold."""
        return hold.is_reclaimed

    def again(self, known: Record, quantity: int) -> Answer:
        """Answer a key that has bought."""
        if known.quantity != quantity:
            return problem(422, "idempotency_key_reused")
        return 200, asdict(known)

    def refusal(self, left: int) -> Answer:
        """Answer where too few tickets are left."""
        if left > 0:
            return problem(409, "not_enough_left", left=left)
        return problem(409, "all_held" if self.held else "sold_out", left=0)

    def sell(self, record: Record) -> Answer:
        """Count and record a purchase whose tickets have been taken."""
        self.sold += record.quantity
        self.records[record.purchase_id] = record
        return 201, asdict(record)

    def look_up(self, purchase_id: str) -> Answer:
        """GET /purchases/{purchase_id}."""
        record = self.records.get(purchase_id)
        return (200, asdict(record)) if record else problem(404, "not_found")

    def refund(self, purchase_id: str, key: str | None) -> Answer:
        """POST /purchases/{purchase_id}/refund of a whole purchase, once per key."""
        with self.lock:
            record = self.records[purchase_id]
            if key in self.refund_keys:
                return 200, asdict(record)
            self.refund_keys.add(key)
            return self.give_back(record)

    def give_back(self, record: Record) -> Answer:
        """Refund a purchase that has not been refunded."""
        self.stock += record.quantity
        self.sold -= record.quantity
        after = replace(record, status="refunded", refunded_quantity=record.quantity)
        self.records[record.purchase_id] = after
        return 200, asdict(after)

    def reset(self, stock: int, key: str | None) -> Answer:
        """POST /reset, once per key."""
        with self.lock:
            if key is None or key not in self.used_keys:
                self.open_generation(stock)
                self.used_keys.add(key)
        return self.inventory()

    def open_generation(self, stock: int) -> None:
        """Start the sale again."""
        self.generation += 1
        self.capacity = self.stock = stock
        self.sold = 0

    def inventory(self) -> Answer:
        """GET /inventory."""
        with self.lock:
            return 200, {
                "item_id": 1,
                "item_name": self.item_name,
                "current_stock": self.stock,
                "initial_stock": self.capacity,
                "total_purchases": self.sold,
                "last_updated": "2026-01-15 12:30:27",
                "held": self.held,
                "generation": self.generation,
                "shard_count": 1,
                "hold_seconds": 600,
                "state": "paused" if self.is_paused else "open",
            }

    def audit(self) -> Answer:
        """GET /audit/{item_id}."""
        with self.lock:
            mine = [
                record
                for record in list(self.records.values())
                if record.generation == self.generation
            ]
            tickets = sum(record.quantity - record.refunded_quantity for record in mine)
            problems = (
                []
                if tickets == self.sold
                else [f"records add up to {tickets}, sold is {self.sold}"]
            )
            return 200, {
                "item_id": 1,
                "item_name": self.item_name,
                "generation": self.generation,
                "capacity": self.capacity,
                "stock": self.stock,
                "held": self.held,
                "sold": self.sold,
                "purchase_records": len(mine),
                "tickets_in_records": tickets,
                "agrees": not problems,
                "problems": problems,
                "checked_at": "2026-01-15T12:30:27Z",
            }

    def purchase_id(self, key: str) -> str:
        """Return the purchase id that belongs to a key."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, key))

    def exported(self) -> list[Record]:
        """Return the purchases that an export lists."""
        return [each for each in self.records.values() if each.generation == self.generation]

    def export(self, query: str) -> Text:
        """GET /export/{item_id}, in two parts."""
        asked = dict(pair.split("=") for pair in query.split("&"))
        with self.lock:
            records = self.exported()
            half, is_last = len(records) // 2, "cursor" in asked
            lines = [
                {
                    "type": "purchase",
                    **asdict(each),
                    "tickets": each.quantity - each.refunded_quantity,
                }
                for each in (records[half:] if is_last else records[:half])
            ]
            names = ("quantity", "refunded_quantity")
            quantity, refunded = (sum(getattr(each, name) for each in records) for name in names)
            total = {
                "type": "total",
                "item_id": 1,
                "generation": self.generation,
                "purchases": len(records),
                "quantity": quantity,
                "refunded_quantity": refunded,
                "tickets": quantity - refunded,
                "sold": self.sold,
                "agrees": quantity - refunded == self.sold,
            }
        lines += [total] if is_last else []
        following = None if is_last else f"{query}&cursor=half"
        if asked["format"] == "jsonl":
            return Text("".join(f"{json.dumps(line)}\n" for line in lines), following)
        text = io.StringIO()
        columns = ["type", *Record.__dataclass_fields__, "tickets", "purchases", "sold", "agrees"]
        writer = csv.DictWriter(text, columns)
        if not is_last:
            writer.writeheader()
        for line in lines:
            writer.writerow(line | {"agrees": str(line.get("agrees", "")).lower()})
        return Text(text.getvalue(), following)


class Oversells(Service):
    """Decides by a replica that does not show the last purchase yet."""

    taken_last = 0

    def buy(self, purchase_id: str, item_id: int, quantity: int, buyer_id: str | None) -> Answer:
        with self.lock:
            if known := self.records.get(purchase_id):
                return self.again(known, quantity)
            seen = self.stock + self.taken_last
            if seen < quantity:
                return self.refusal(seen)
            self.stock -= quantity
            self.taken_last = quantity
            return self.sell(Record(purchase_id, item_id, quantity, buyer_id, self.generation))

    def open_generation(self, stock: int) -> None:
        super().open_generation(stock)
        self.taken_last = 0


class OversellsInSilence(Oversells):
    """Sells too many as well, and corrects its counters: only the receipts are too many."""

    def inventory(self) -> Answer:
        self.stock, self.sold = max(self.stock, 0), min(self.sold, self.capacity)
        return super().inventory()


class Undersells(Service):
    """Takes the ticket first, and does not give it back after a conflict."""

    def buy(self, purchase_id: str, item_id: int, quantity: int, buyer_id: str | None) -> Answer:
        if purchase_id not in self.records and self.now_and_then():
            with self.lock:
                self.stock = max(0, self.stock - quantity)
        return super().buy(purchase_id, item_id, quantity, buyer_id)


class RefusesTooEarly(Service):
    """Answers one buyer in eight with "sold out" from an old cache, yet sells all tickets."""

    def buy(self, purchase_id: str, item_id: int, quantity: int, buyer_id: str | None) -> Answer:
        if purchase_id not in self.records and self.now_and_then():
            return problem(409, "sold_out")
        return super().buy(purchase_id, item_id, quantity, buyer_id)


class SellsTwicePerKey(Service):
    """Looks for the record where it shows late: the second copy of a request finds none."""

    def __init__(self) -> None:
        super().__init__()
        self.repeated: set[str] = set()

    def buy(self, purchase_id: str, item_id: int, quantity: int, buyer_id: str | None) -> Answer:
        with self.lock:
            if purchase_id in self.records and purchase_id not in self.repeated:
                self.repeated.add(purchase_id)
                purchase_id = str(uuid.uuid4())
        return super().buy(purchase_id, item_id, quantity, buyer_id)


class ForgetsTheReceipt(Service):
    """Answers a key that has bought with "sold out" once nothing is left."""

    def again(self, known: Record, quantity: int) -> Answer:
        return super().again(known, quantity) if self.stock else problem(409, "sold_out")


class LosesRecords(Service):
    """Answers 201 before the record is durable, and loses some."""

    def sell(self, record: Record) -> Answer:
        answer = super().sell(record)
        if self.now_and_then():
            del self.records[record.purchase_id]
        return answer


class ChangesReceipts(Service):
    """Gives a receipt a new date whenever it is asked for again."""

    def again(self, known: Record, quantity: int) -> Answer:
        status, body = super().again(known, quantity)
        return status, body | {"purchased_at": str(time.time_ns())}


class AuditLies(LosesRecords):
    """Loses records and reports that all agrees."""

    def audit(self) -> Answer:
        status, body = super().audit()
        return status, body | {"agrees": True, "problems": []}


class ExportsTooLittle(Service):
    """Leaves purchases out of an export."""

    def exported(self) -> list[Record]:
        return super().exported()[1:]


class MiscountsAtReset(Service):
    """Counts the first purchases after a reset with those before it: its reset is not atomic."""

    miscounted = 0

    def open_generation(self, stock: int) -> None:
        before = self.sold
        super().open_generation(stock)
        self.sold = before
        self.miscounted = 3

    def sell(self, record: Record) -> Answer:
        answer = super().sell(record)
        self.miscounted -= 1
        if self.miscounted == 0:
            self.sold = 0
        return answer


class StrandsTickets(Service):
    """Near the end, concurrent purchases of several tickets remove what is left from the sale."""

    def buy(self, purchase_id: str, item_id: int, quantity: int, buyer_id: str | None) -> Answer:
        with self.lock:
            if quantity > 1 and self.stock <= 10:
                self.stock = 0
        return super().buy(purchase_id, item_id, quantity, buyer_id)


class Fails(Service):
    """Has a bug that some requests meet."""

    def buy(self, purchase_id: str, item_id: int, quantity: int, buyer_id: str | None) -> Answer:
        if self.now_and_then():
            return problem(500, "internal_error")
        return super().buy(purchase_id, item_id, quantity, buyer_id)


class Hangs(Service):
    """Never answers some buyers, however often they send their key."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: set[str] = set()

    def buy(self, purchase_id: str, item_id: int, quantity: int, buyer_id: str | None) -> Answer:
        if purchase_id in self.waiting or self.now_and_then():
            self.waiting.add(purchase_id)
            time.sleep(30)
        return super().buy(purchase_id, item_id, quantity, buyer_id)


class Deaf(Service):
    """Always busy."""

    def buy(self, purchase_id: str, item_id: int, quantity: int, buyer_id: str | None) -> Answer:
        return problem(503, "busy")


class Crowded(Service):
    """Correct but overloaded: few at once, 429 for the rest, and sometimes the answer is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.places = threading.Semaphore(4)
        self.answers = itertools.count(1)

    def buy(self, purchase_id: str, item_id: int, quantity: int, buyer_id: str | None) -> Answer:
        if self.now_and_then() or not self.places.acquire(blocking=False):
            return 429, {"message": "Too Many Requests"}
        try:
            time.sleep(0.002)
            answer = super().buy(purchase_id, item_id, quantity, buyer_id)
        finally:
            self.places.release()
        is_lost = next(self.answers) % 8 == 0
        return (502, {"message": "Internal server error"}) if is_lost else answer


class LosesResetReplies(Service):
    """Correct: loses the first reply to each reset after it took effect; the key identifies it."""

    def reset(self, stock: int, key: str | None) -> Answer:
        is_first = key not in self.used_keys
        answer = super().reset(stock, key)
        return problem(503, "busy") if is_first else answer


class ResetsTwice(LosesResetReplies):
    """Loses the first reply as well, and forgets the key."""

    def reset(self, stock: int, key: str | None) -> Answer:
        answer = super().reset(stock, key)
        if answer[0] == 200:
            with self.lock:
                self.open_generation(stock)
            return self.inventory()
        return answer


class ShowsNothing(Service):
    """Correct, but shows no inventory from a reset until the first receipt is looked up."""

    shows = True

    def reset(self, stock: int, key: str | None) -> Answer:
        self.shows = True
        answer = super().reset(stock, key)
        self.shows = False
        return answer

    def look_up(self, purchase_id: str) -> Answer:
        self.shows = True
        return super().look_up(purchase_id)

    def inventory(self) -> Answer:
        return super().inventory() if self.shows else problem(503, "busy")


class RefundsTwice(Service):
    """Looks for the key where it shows late: the second copy of a refund finds none."""

    def __init__(self) -> None:
        super().__init__()
        self.repeated: set[str | None] = set()

    def refund(self, purchase_id: str, key: str | None) -> Answer:
        with self.lock:
            if key in self.refund_keys and key not in self.repeated:
                self.repeated.add(key)
                return self.give_back(self.records[purchase_id])
        return super().refund(purchase_id, key)


class StrandsRefunds(Service):
    """Refunds, and does not put the tickets on sale again."""

    def give_back(self, record: Record) -> Answer:
        answer = super().give_back(record)
        self.stock -= record.quantity
        self.capacity -= record.quantity
        return answer


class HidesRefunds(Service):
    """Refunds, and shows the buyer's receipt as it was."""

    def look_up(self, purchase_id: str) -> Answer:
        status, body = super().look_up(purchase_id)
        return status, body | {"status": "confirmed", "refunded_quantity": 0}


class StrandsHolds(Service):
    """Never gives the tickets of a forgotten hold back."""

    def reclaim(self) -> None:
        """Do nothing."""


class ConfirmsExpired(Service):
    """Confirms a hold whose tickets were sold to another buyer."""

    def is_over(self, hold: Hold) -> bool:
        return False


class BreaksHolds(Service):
    """Sells the tickets of some holds at once to others, and refuses their confirmation."""

    def hold(self, hold_id: str, item_id: int, quantity: int, buyer_id: str | None) -> Answer:
        answer = super().hold(hold_id, item_id, quantity, buyer_id)
        if self.now_and_then() and answer[0] == 201:
            with self.lock:
                self.holds[hold_id].ends_at = 0.0
                self.reclaim()
        return answer


class RefusesWhileHeld(Service):
    """Calls it sold out while tickets come back from holds."""

    def buy(self, purchase_id: str, item_id: int, quantity: int, buyer_id: str | None) -> Answer:
        with self.lock:
            if self.holds and not self.stock and purchase_id not in self.records:
                return self.refusal(0)
        return super().buy(purchase_id, item_id, quantity, buyer_id)


class PassesLimits(Service):
    """Decides by a replica that does not show a buyer's last purchase yet."""

    def tickets_of(self, buyer_id: str | None) -> int:
        return max(0, super().tickets_of(buyer_id) - 1)


class LimitsForgetRefunds(Service):
    """Gives the tickets of a refund back to the stock, and not to the buyer's limit."""

    def tickets_of(self, buyer_id: str | None) -> int:
        return sum(
            record.quantity
            for record in self.records.values()
            if record.buyer_id == buyer_id and record.generation == self.generation
        )


class SellsInPauses(Service):
    """Reads the sale once, and never again."""

    def refuses_all(self) -> bool:
        return False


class StaysPaused(Service):
    """Some buyers still meet the pause when it is over."""

    has_paused = False

    def refuses_all(self) -> bool:
        self.has_paused |= self.is_paused
        return self.is_paused or (self.has_paused and self.now_and_then())


class HidesReceiptsInPauses(Service):
    """Refuses a key that has bought, while the sale is paused."""

    def again(self, known: Record, quantity: int) -> Answer:
        if self.is_paused:
            return problem(409, "sale_not_open", reason="paused")
        return super().again(known, quantity)


class LowersTooFar(Service):
    """Sets a capacity that is too low, and forgets what is sold above it."""

    def too_low(self, lowest: int) -> Answer:
        self.capacity, self.stock, self.sold = lowest // 2, 0, lowest // 2
        return 200, {}


class StaysSoldOut(Service):
    """Some processes never forget that it was sold out."""

    was_sold_out = False

    def buy(self, purchase_id: str, item_id: int, quantity: int, buyer_id: str | None) -> Answer:
        self.was_sold_out |= not self.stock
        if self.was_sold_out and purchase_id not in self.records and self.now_and_then():
            return self.refusal(0)
        return super().buy(purchase_id, item_id, quantity, buyer_id)


class MiscountsTheSold(Service):
    """Says that fewer are sold than are."""

    def too_low(self, lowest: int) -> Answer:
        return super().too_low(lowest - 1)


class WithoutAdmin(Service):
    """Deployed without POST /reset."""

    admin_routes = False


def answer_to(
    service: Service, method: str, path: str, headers: Message, body: dict[str, Any]
) -> tuple[int, dict[str, Any] | Text]:
    """Return the answer of the route."""
    route = [method, *path.removeprefix("/live").partition("?")[0].split("/")[1:]]
    match route:
        case ["POST", "buy_ticket" | "holds" as kind]:
            purchase_id = service.purchase_id(headers["Idempotency-Key"])
            order = service.buy if kind == "buy_ticket" else service.hold
            return order(purchase_id, body["item_id"], body["quantity"], body["buyer_id"])
        case ["POST", "holds", hold_id, "confirm"]:
            return service.confirm(hold_id)
        case ["GET", "purchases", purchase_id]:
            return service.look_up(purchase_id)
        case ["GET", "inventory"]:
            return service.inventory()
    signature = headers.get("Authorization", "")
    is_signed = service.admin_routes and signature.startswith("AWS4-HMAC-SHA256 Credential=")
    if is_signed and route[:2] == ["GET", "export"]:
        return 200, service.export(path.partition("?")[2])
    return answer_to_organiser(service, route, headers, body) if is_signed else forbidden()


def answer_to_organiser(
    service: Service, route: list[str], headers: Message, body: dict[str, Any]
) -> Answer:
    """Return the answer of a signed route."""
    match route:
        case ["POST", "purchases", purchase_id, "refund"]:
            return service.refund(purchase_id, headers["Idempotency-Key"])
        case ["POST", "reset"]:
            service.hold_seconds = body.get("hold_seconds", service.hold_seconds)
            service.limit = body["per_buyer_limit"]
            return service.reset(body["stock"], headers["Idempotency-Key"])
        case ["POST", "items", _, "pause" | "resume" as change]:
            return service.set_paused(change == "pause")
        case ["PUT", "items", _]:
            return service.resize(body["capacity"])
        case ["GET", "audit", _]:
            return service.audit()
    return forbidden()


def forbidden() -> Answer:
    """Return the answer of API Gateway where a route or a signature is missing."""
    return 403, {"message": "Missing Authentication Token"}


def handler_of(service: Service) -> type[BaseHTTPRequestHandler]:
    """Return a request handler for a service."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # One packet for head and body: a second one would wait for the client's delayed
        # acknowledgement.
        wbufsize = -1

        def log_message(self, *_: object) -> None:
            """Log nothing."""

        def do_GET(self) -> None:
            self.reply(answer_to(service, self.command, self.path, self.headers, {}))

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length) or b"{}")
            self.reply(answer_to(service, self.command, self.path, self.headers, body))

        do_PUT = do_POST  # noqa: N815 - the base class's names

        def reply(self, answer: tuple[int, dict[str, Any] | Text]) -> None:
            status, document = answer
            self.send_response(status)
            if isinstance(document, Text):
                if document.following:
                    self.send_header("Link", f'<?{document.following}>; rel="next"')
                content, document = document.content.encode(), {}
            else:
                content = json.dumps(document).encode()
            self.send_header("Content-Length", str(len(content)))
            self.send_header(
                "Content-Type", "application/json" if status < 400 else "application/problem+json"
            )
            is_order = "purchase_id" in document or "hold_id" in document
            if status == 200 and self.command == "POST" and is_order:
                self.send_header("Idempotent-Replayed", "true")
            if status == 503:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(content)

    return Handler


class Server(ThreadingHTTPServer):
    """Serves one service on a free port of this machine, as a context manager."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, service: Service, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), handler_of(service))
        self.service = service
        self.url = f"http://127.0.0.1:{self.server_port}/live"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that close the connection early."""


if __name__ == "__main__":
    chosen = globals()[sys.argv[1] if len(sys.argv) > 1 else "Service"]
    with Server(chosen(), int(sys.argv[2]) if len(sys.argv) > 2 else 0) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        threading.Event().wait()
