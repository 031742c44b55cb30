"""The tests: the original system's three, in its words, and eight new ones."""

import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum

from msgspec import Struct, structs

from proof.client import PlannedRequest
from proof.exports import EXPORT_RULES
from proof.figures import Figures
from proof.history import (
    SHORTAGES,
    AuditReport,
    History,
    Inventory,
    Kind,
    PurchaseRequest,
    Violation,
)

QUANTITY_MAX = 5
# Of the test of limits: tickets for each buyer, and requests that each sends at once.
PER_BUYER_LIMIT = 2
REQUESTS_PER_BUYER = 5
REUSE_PROBES_MAX = 10


class Size(Struct, frozen=True):
    """The size of the tests. buyers: in the large tests. processes: in tests with several."""

    tickets: int = 100
    buyers: int = 1000
    processes: int = 4


class Verdict(StrEnum):
    """The result of a check or a test. INCONCLUSIVE: not wrong, but nothing was shown."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


class Check(Struct, frozen=True):
    """One line of the verdict. looked_at: how many cases it covers; 0 shows nothing."""

    text: str
    holds: bool
    looked_at: int = 1

    @property
    def verdict(self) -> Verdict:
        """Return the result of the check."""
        if not self.looked_at:
            return Verdict.INCONCLUSIVE
        return Verdict.PASSED if self.holds else Verdict.FAILED


class Observation(Struct, frozen=True):
    """Everything that a verdict is made from. after: requests sent after the sale."""

    size: Size
    history: History
    sale: Sequence[PurchaseRequest]
    after: Sequence[PurchaseRequest]
    figures: Figures
    final: Inventory
    audit: AuditReport
    violations: Sequence[Violation]

    def free_of(self, *rules: str) -> bool:
        """Return whether no violation has one of these rule names."""
        return not any(violation.rule in rules for violation in self.violations)

    @property
    def stock(self) -> int:
        """Return the free tickets at rest."""
        return self.final.current_stock

    @property
    def records(self) -> int:
        """Return the number of purchase records of the current generation at rest."""
        return self.audit.purchase_records

    def tickets_of(self, generation: int) -> int:
        """Return the tickets in the receipts of a generation, each purchase once."""
        receipts = {
            attempt.receipt.purchase_id: attempt.receipt
            for request in self.sale
            for attempt in request.attempts
            if attempt.receipt is not None
        }
        return sum(
            receipt.quantity for receipt in receipts.values() if receipt.generation == generation
        )


class Scenario(Struct, frozen=True):
    """One test.

    planned: makes the requests for an item; those of stage 1 start together with a reset, those of
    stage 2 well after it. reset_after: the number of answers before the reset. refunds: how many
    purchases are refunded, as soon as there are so many; then stage 1 starts. vanishing: how many
    holds of stage 0 are forgotten; the others are confirmed, then stage 1 starts, and stage 2 when
    the forgotten ones have expired. pause_after: the number of answers before the sale is paused;
    then stage 1 starts, and when it has its answers the sale is resumed and stage 2 starts.
    capacities: one that is too low and a higher one, which the organiser asks for when stage 0 has
    its answers; stage 1 starts between them, and stage 2 when processes know of it.
    per_buyer_limit: of the sale; None: any number. sends_keys_again: send the keys that bought once
    more after the sale. refuses: more buyers than tickets, so some must be refused.
    """

    number: int
    name: str
    title: str
    launch_text: str
    processes: int
    planned: Callable[[int, random.Random], list[PlannedRequest]]
    checks: Callable[[Observation], Iterable[Check]]
    success_text: str = ""
    reset_after: int | None = None
    refunds: int = 0
    vanishing: int = 0
    per_buyer_limit: int | None = None
    pause_after: int | None = None
    capacities: tuple[int, int] | None = None
    sends_keys_again: bool = False
    refuses: bool = True


def scenarios(size: Size) -> list[Scenario]:
    """Return all tests, at a size."""
    return [
        _basic(size),
        _overselling(size),
        _processes(size),
        _exactly_once(size),
        _reset(size),
        _quantities(size),
        _refunds(size),
        _holds(size),
        _limits(size),
        _pause(size),
        _capacity(size),
    ]


def repeated_requests(sale: Iterable[PurchaseRequest]) -> list[PlannedRequest]:
    """Return each key that bought, once more, and some of these keys with another request."""
    bought = {
        request.key: PlannedRequest(
            request.key, request.item_id, request.quantity, request.buyer_id or ""
        )
        for request in sale
        if any(attempt.receipt is not None for attempt in request.attempts)
    }
    same = list(bought.values())
    return same + [
        structs.replace(each, quantity=each.quantity + 1) for each in same[:REUSE_PROBES_MAX]
    ]


def _planned(
    number: int,
    item_id: int,
    quantity: int = 1,
    copies: int = 1,
    stage: int = 0,
    *,
    is_hold: bool = False,
) -> PlannedRequest:
    """Return a request of the buyer with this number."""
    # Fresh keys in every run, whatever the seed: an old key would get an old receipt.
    key, buyer_id = str(uuid.uuid4()), f"buyer-{number}"
    return PlannedRequest(key, item_id, quantity, buyer_id, copies, stage, is_hold)


def _single(buyers: int) -> Callable[[int, random.Random], list[PlannedRequest]]:
    return lambda item_id, _draw: [_planned(number, item_id) for number in range(1, buyers + 1)]


def _in_stages(item_id: int, buyers: Sequence[int]) -> list[PlannedRequest]:
    """Return a request of each buyer. buyers: how many there are in each stage."""
    stages = [stage for stage, count in enumerate(buyers) for _ in range(count)]
    return [_planned(number, item_id, stage=stage) for number, stage in enumerate(stages, start=1)]


def _basic(size: Size) -> Scenario:
    tickets = size.tickets
    return Scenario(
        number=1,
        name="Basic Concurrency",
        title=f"BASIC CONCURRENCY ({tickets} buyers, {tickets} tickets)",
        launch_text=f"Launching {tickets} concurrent purchase attempts...",
        processes=1,
        planned=_single(tickets),
        refuses=False,
        checks=lambda observation: [
            Check(f"All {tickets} purchases succeeded", _purchases(observation) == tickets),
            Check("Final inventory is 0", observation.stock == 0),
            Check(
                f"Database has exactly {tickets} purchase records", observation.records == tickets
            ),
        ],
    )


def _overselling(size: Size) -> Scenario:
    return Scenario(
        number=2,
        name="Overselling Prevention",
        title=f"OVERSELLING PREVENTION ({size.buyers} buyers, {size.tickets} tickets)",
        launch_text=f"Launching {size.buyers} concurrent purchase attempts...\n"
        "(This simulates a flash sale with high contention)",
        processes=1,
        planned=_single(size.buyers),
        checks=_exactly,
        refuses=size.buyers > size.tickets,
        success_text=" No race conditions detected!",
    )


def _processes(size: Size) -> Scenario:
    attempts = size.buyers // size.processes
    return Scenario(
        number=3,
        name="Multiple Processes",
        title=f"MULTIPLE PROCESSES ({size.processes} processes, {attempts} attempts each)",
        launch_text=f"Launching {size.processes} processes...\nEach process will attempt "
        f"{attempts} purchases",
        processes=size.processes,
        planned=_single(attempts * size.processes),
        checks=lambda observation: [
            *_exactly(observation),
            Check(
                f"{observation.figures.processes} of {size.processes} separate processes sent "
                "requests",
                True,
                looked_at=int(observation.figures.processes == size.processes),
            ),
        ],
        refuses=size.buyers > size.tickets,
        success_text=" No race conditions between processes!",
    )


def _exactly_once(size: Size) -> Scenario:
    tickets, buyers = size.tickets, min(size.buyers, 2 * size.tickets)
    return Scenario(
        number=4,
        name="Exactly Once",
        title=f"EXACTLY ONCE ({buyers} buyers send each request twice in parallel, {tickets} "
        "tickets)",
        launch_text=f"Launching {2 * buyers} concurrent purchase attempts with {buyers} keys...",
        processes=size.processes,
        planned=lambda item_id, _draw: [
            _planned(number, item_id, copies=2) for number in range(1, buyers + 1)
        ],
        checks=_exactly_once_checks,
        refuses=buyers > tickets,
        success_text=" No key bought twice!",
        sends_keys_again=True,
    )


def _reset(size: Size) -> Scenario:
    # Few buyers before the reset, so that the old generation is not sold out; many after it, so
    # that the new one is.
    tickets = size.tickets
    stages = [max(2, tickets // 2), tickets, 2 * tickets + tickets // 2]

    def planned(item_id: int, _draw: random.Random) -> list[PlannedRequest]:
        of_stages = [stage for stage, buyers in enumerate(stages) for _ in range(buyers)]
        return [
            _planned(number, item_id, stage=stage)
            for number, stage in enumerate(of_stages, start=1)
        ]

    return Scenario(
        number=5,
        name="Reset in Mid-Sale",
        title=f"RESET IN MID-SALE ({sum(stages)} buyers, {tickets} tickets, and {tickets} new "
        "ones while they buy)",
        launch_text=f"Launching {sum(stages)} concurrent purchase attempts...",
        processes=size.processes,
        planned=planned,
        checks=_reset_checks,
        success_text=" No ticket lost or doubled across the reset!",
        reset_after=stages[0] // 2,
    )


def _quantities(size: Size) -> Scenario:
    tickets, buyers = size.tickets, min(size.buyers, 2 * size.tickets)

    def planned(item_id: int, draw: random.Random) -> list[PlannedRequest]:
        # Buyers of a single ticket come last, so that no ticket is left.
        singles = max(1, buyers // 10)
        several = [draw.randint(1, QUANTITY_MAX) for _ in range(buyers - singles)]
        quantities = several + [1] * singles
        return [
            _planned(number, item_id, quantity)
            for number, quantity in enumerate(quantities, start=1)
        ]

    return Scenario(
        number=6,
        name="Several Tickets at Once",
        title=f"SEVERAL TICKETS AT ONCE ({buyers} buyers of 1 to {QUANTITY_MAX}, {tickets} "
        "tickets)",
        launch_text=f"Launching {buyers} concurrent purchase attempts...",
        processes=size.processes,
        planned=planned,
        checks=_quantity_checks,
        success_text=" Nothing stranded!",
    )


def _refunds(size: Size) -> Scenario:
    # All tickets are sold to the buyers of stage 0. Those of stage 1 find what comes back.
    tickets, refunds = size.tickets, max(1, size.tickets // 4)
    buyers = [tickets, 2 * refunds]

    def planned(item_id: int, _draw: random.Random) -> list[PlannedRequest]:
        return _in_stages(item_id, buyers)

    return Scenario(
        number=7,
        name="Refunds in Mid-Sale",
        title=f"REFUNDS IN MID-SALE ({sum(buyers)} buyers, {tickets} tickets, {refunds} of them "
        "refunded while they buy)",
        launch_text=f"Launching {sum(buyers)} concurrent purchase attempts...",
        processes=size.processes,
        planned=planned,
        checks=_refund_checks,
        success_text=" Every refunded ticket was sold again, once!",
        refunds=refunds,
    )


def _holds(size: Size) -> Scenario:
    # All tickets are held in stage 0, and half of the holds are confirmed. The buyers of stage 1
    # find the others held, those of stage 2 find them free again.
    tickets, vanishing = size.tickets, max(1, size.tickets // 2)
    buyers = [tickets, vanishing, 2 * vanishing]

    def planned(item_id: int, _draw: random.Random) -> list[PlannedRequest]:
        stages = [stage for stage, count in enumerate(buyers) for _ in range(count)]
        return [
            _planned(number, item_id, stage=stage, is_hold=stage == 0)
            for number, stage in enumerate(stages, start=1)
        ]

    return Scenario(
        number=8,
        name="Holds That Vanish",
        title=f"HOLDS THAT VANISH ({tickets} buyers hold {tickets} tickets, {vanishing} of them go "
        f"away, {sum(buyers[1:])} others buy)",
        launch_text=f"Launching {sum(buyers)} concurrent attempts to hold or to buy...",
        processes=size.processes,
        planned=planned,
        checks=_hold_checks,
        success_text=" Every forgotten ticket was sold again, once!",
        vanishing=vanishing,
    )


def _limits(size: Size) -> Scenario:
    # Tickets enough for each buyer to reach the limit. In stage 0 each sends more requests than
    # that; some purchases are refunded, and in stage 1 each sends as many again as the limit.
    buyers = max(1, size.tickets // PER_BUYER_LIMIT)
    refunds = max(1, buyers // 2)
    requests = buyers * (REQUESTS_PER_BUYER + PER_BUYER_LIMIT)

    def planned(item_id: int, _draw: random.Random) -> list[PlannedRequest]:
        return [
            _planned(number, item_id, stage=stage)
            for stage, times in enumerate((REQUESTS_PER_BUYER, PER_BUYER_LIMIT))
            for number in range(1, buyers + 1)
            for _ in range(times)
        ]

    return Scenario(
        number=9,
        name="Limits per Buyer",
        title=f"LIMITS PER BUYER ({buyers} buyers of at most {PER_BUYER_LIMIT} of {size.tickets} "
        f"tickets, {refunds} purchases refunded while they buy)",
        launch_text=f"Launching {requests} concurrent purchase attempts, {REQUESTS_PER_BUYER} of "
        "each buyer at once...",
        processes=size.processes,
        planned=planned,
        checks=_limit_checks,
        refuses=False,
        success_text=" No buyer got past the limit, and none was kept below it!",
        refunds=refunds,
        per_buyer_limit=PER_BUYER_LIMIT,
    )


def _pause(size: Size) -> Scenario:
    # The sale is paused while the buyers of stage 0 buy half of the tickets. Those of stage 1 come
    # in the pause: some send a key of stage 0 again, the others are new. Those of stage 2 buy what
    # is left.
    tickets = size.tickets
    buyers = [max(2, tickets // 2), tickets, 2 * tickets]
    again = buyers[0]

    def planned(item_id: int, _draw: random.Random) -> list[PlannedRequest]:
        new = _in_stages(item_id, buyers)
        return new + [structs.replace(each, stage=1) for each in new[:again]]

    return Scenario(
        number=10,
        name="Pause in Mid-Sale",
        title=f"PAUSE IN MID-SALE ({sum(buyers)} buyers, {tickets} tickets, paused while they buy)",
        launch_text=f"Launching {sum(buyers) + again} concurrent purchase attempts...",
        processes=size.processes,
        planned=planned,
        checks=_pause_checks,
        success_text=" Nothing was sold in the pause, and nothing was lost by it!",
        pause_after=buyers[0] // 2,
    )


def _capacity(size: Size) -> Scenario:
    # Stage 0 buys all tickets, and some buyers are told that they are sold out. Then as many again
    # come on sale. Stage 1 is at work meanwhile, and stage 2 buys what is left.
    tickets = size.tickets
    buyers = [tickets + max(1, tickets // 4), tickets // 4, tickets + tickets // 2]

    def planned(item_id: int, _draw: random.Random) -> list[PlannedRequest]:
        return _in_stages(item_id, buyers)

    return Scenario(
        number=11,
        name="More Tickets in Mid-Sale",
        title=f"MORE TICKETS ({sum(buyers)} buyers, {tickets} tickets, then {2 * tickets})",
        launch_text=f"Launching {sum(buyers)} concurrent purchase attempts...",
        processes=size.processes,
        planned=planned,
        checks=_capacity_checks,
        success_text=" The hall got bigger, and not one seat was lost or sold twice!",
        capacities=(tickets // 2, 2 * tickets),
    )


def _purchases(observation: Observation) -> int:
    """Return the number of requests that bought; a replay counts where the 201 was lost."""
    return observation.figures.successes + observation.figures.replays


def _accounted(observation: Observation) -> Check:
    figures = observation.figures
    refused = figures.refusals + figures.buyer_limit_reached + figures.not_open
    definite = figures.successes + figures.replays + refused
    return Check(f"All {figures.requests} requests accounted for", definite == figures.requests)


def _no_overselling(observation: Observation) -> Check:
    fine = observation.free_of("oversold", "counter_is_negative", "sold_in_a_wrong_generation")
    receipts, samples = len(observation.history.lookups), len(observation.history.samples)
    text = f"NO OVERSELLING (inventory never went negative): {receipts} receipts, {samples} samples"
    return Check(text, fine, looked_at=receipts)


def _exactly(observation: Observation) -> list[Check]:
    tickets = observation.size.tickets
    return [
        Check(f"Exactly {tickets} purchases succeeded", _purchases(observation) == tickets),
        _accounted(observation),
        Check("Final inventory is 0 (not negative!)", observation.stock == 0),
        Check(f"Database has exactly {tickets} purchase records", observation.records == tickets),
        _no_overselling(observation),
    ]


def _exactly_once_checks(observation: Observation) -> list[Check]:
    tickets, figures = observation.size.tickets, observation.figures
    once = observation.free_of(
        "sold_twice_for_one_key", "two_201_for_one_key", "one_purchase_for_two_keys"
    )
    same = observation.free_of("receipt_differs", "refused_although_bought")
    probes = min(REUSE_PROBES_MAX, len(observation.after) // 2)
    again = [request for request in observation.after if request.quantity == 1]
    other = [request for request in observation.after if request.quantity != 1]
    replayed = sum(request.last.receipt is not None for request in again)
    refused = sum(request.last.receipt is None for request in other)
    return [
        Check(
            f"Exactly {tickets} keys bought, each of them once",
            once and _purchases(observation) == 2 * tickets,
        ),
        Check(
            f"Both copies of each got the same receipt ({figures.replays} replays)",
            same,
            figures.replays,
        ),
        _accounted(observation),
        Check("Final inventory is 0 (not negative!)", observation.stock == 0),
        Check(f"Database has exactly {tickets} purchase records", observation.records == tickets),
        _no_overselling(observation),
        Check(
            f"Copies were in flight together ({figures.pairs_overlapping} pairs)",
            True,
            figures.pairs_overlapping,
        ),
        Check(
            f"{replayed} of {len(again)} keys sent again after the sale got their receipt, not "
            '"sold out"',
            replayed == len(again),
            looked_at=len(again),
        ),
        Check(
            f"{refused} of {len(other)} keys sent with another request were refused",
            refused == len(other) >= probes and observation.free_of("key_and_request"),
            looked_at=len(other),
        ),
    ]


def _reset_checks(observation: Observation) -> list[Check]:
    tickets = observation.size.tickets
    old, new = (reset.generation for reset in observation.history.resets)
    sold_before, sold_after = observation.tickets_of(old), observation.tickets_of(new)
    return [
        Check(f"The reset started a new generation ({new} after {old})", new != old),
        Check(
            f"Generation {old} sold {sold_before} of its {tickets} tickets",
            sold_before <= tickets,
            sold_before,
        ),
        Check(f"Generation {new} sold exactly {tickets}", sold_after == tickets),
        _accounted(observation),
        Check("Final inventory is 0 (not negative!)", observation.stock == 0),
        Check(
            f"Database has exactly {tickets} purchase records of generation {new}",
            observation.records == tickets,
        ),
        _no_overselling(observation),
    ]


def _quantity_checks(observation: Observation) -> list[Check]:
    tickets = observation.size.tickets
    sold = observation.tickets_of(observation.history.resets[0].generation)
    refused = [request.quantity for request in observation.sale if request.last.kind in SHORTAGES]
    smallest = min(refused, default=0)
    return [
        Check(
            f"{sold} tickets sold and {observation.stock} free add up to {tickets}",
            sold + observation.stock == tickets,
        ),
        Check(
            f"Nothing stranded: {observation.stock} free, and the smallest of {len(refused)} "
            "purchases refused was of "
            f"{smallest}",
            observation.stock < smallest,
            looked_at=len(refused),
        ),
        _accounted(observation),
        Check(
            f"Database has exactly {_purchases(observation)} purchase records for them",
            observation.records == _purchases(observation),
        ),
        _no_overselling(observation),
    ]


def _refund_checks(observation: Observation) -> list[Check]:
    tickets, refunds = observation.size.tickets, observation.history.refunds
    done = sum(bool(refund.done) for refund in refunds)
    kept = observation.audit.tickets_in_records
    return [
        Check(
            f"{done} of {len(refunds)} refunds made once, each sent twice in parallel",
            done == len(refunds) and observation.free_of("refunded_twice", "untrue_refund"),
            looked_at=len(refunds),
        ),
        Check(
            f"Exactly {tickets + done} purchases succeeded, {done} of them of what came back",
            _purchases(observation) == tickets + done,
        ),
        _accounted(observation),
        Check("Final inventory is 0 (not negative!)", observation.stock == 0),
        Check(
            f"Database has {kept} tickets in {observation.records} purchase records",
            kept == tickets and observation.records == tickets + done,
        ),
        _no_overselling(observation),
    ]


def _hold_checks(observation: Observation) -> list[Check]:
    tickets, changes = observation.size.tickets, observation.history.changes
    holds = [request for request in observation.sale if request.is_hold]
    held = sum(request.last.receipt is not None for request in holds)
    confirmed = {change.purchase_id for change in changes if change.done}
    vanished = {change.purchase_id for change in changes if not change.done}
    late = sum(change.code == "hold_expired" for change in changes)
    bought = _purchases(observation) - held
    kept = observation.free_of(
        "hold_expired_too_early", "confirmed_twice", "confirmation_is_missing", "payment_refused"
    )
    return [
        Check(f"{held} of {tickets} tickets were held", held == tickets),
        Check(
            f"{len(confirmed)} holds confirmed once, each sent twice in parallel",
            kept and len(confirmed) == held - len(vanished),
            looked_at=len(confirmed),
        ),
        Check(
            f"{observation.figures.all_held} buyers came while the others were held",
            True,
            looked_at=observation.figures.all_held,
        ),
        Check(
            f"{bought} of {len(vanished)} tickets of holds that expired were sold again",
            bought == len(vanished),
            looked_at=len(vanished),
        ),
        Check(
            f"{late} of {len(vanished)} late payments were refused, to be refunded",
            late == len(vanished),
            looked_at=len(vanished),
        ),
        _accounted(observation),
        Check("Final inventory is 0 (not negative!)", observation.stock == 0),
        Check(f"Database has exactly {tickets} purchase records", observation.records == tickets),
        _no_overselling(observation),
    ]


def _limit_checks(observation: Observation) -> list[Check]:
    refunds = [refund for refund in observation.history.refunds if refund.done]
    buyers = {request.buyer_id for request in observation.sale}
    receipts = {
        request.last.receipt.purchase_id: request.buyer_id
        for request in observation.sale
        if request.last.receipt is not None
    }
    kept = Counter(receipts.values())
    kept.subtract(receipts[refund.purchase_id] for refund in refunds)
    right = sum(kept[buyer_id] == PER_BUYER_LIMIT for buyer_id in buyers)
    tickets, reached = PER_BUYER_LIMIT * len(buyers), observation.figures.buyer_limit_reached
    true = observation.free_of("buyer_over_limit", "refused_within_limit", "untrue_figure_of_limit")
    return [
        Check(
            f"{right} of {len(buyers)} buyers have exactly {PER_BUYER_LIMIT} tickets",
            right == len(buyers),
        ),
        Check(
            f"Every refusal for the limit was true ({reached} of {observation.figures.requests} "
            "requests)",
            true,
            looked_at=reached,
        ),
        Check(
            f"{_purchases(observation) - tickets} of {len(refunds)} tickets that were refunded "
            "could be bought again by their buyers",
            _purchases(observation) == tickets + len(refunds),
            looked_at=len(refunds),
        ),
        _accounted(observation),
        Check(
            f"Database has {observation.audit.tickets_in_records} tickets in "
            f"{observation.records} purchase records",
            observation.audit.tickets_in_records == tickets
            and observation.records == _purchases(observation),
        ),
        _no_overselling(observation),
    ]


def _pause_checks(observation: Observation) -> list[Check]:
    tickets, (pause,) = observation.size.tickets, observation.history.pauses
    began = pause.closed_at + observation.history.pause_seconds
    inside = [
        request
        for request in observation.sale
        if began <= request.attempts[0].started_at and request.last.ended_at <= pause.reopens_at
    ]
    refused = sum(request.last.kind is Kind.NOT_OPEN for request in inside)
    replays = sum(request.last.kind is Kind.REPLAYED for request in inside)
    sold = observation.tickets_of(observation.history.resets[0].generation)
    return [
        Check(
            f"{refused} of {len(inside) - replays} new orders in the pause were refused",
            refused == len(inside) - replays and observation.free_of("sold_while_paused"),
            looked_at=refused,
        ),
        Check(
            f"{replays} keys that had bought got their receipts in the pause",
            observation.free_of("refused_although_bought"),
            looked_at=replays,
        ),
        Check(
            "No order was refused while the sale was open",
            observation.free_of("refused_while_open"),
        ),
        Check(f"Exactly {tickets} purchases succeeded", sold == tickets),
        _accounted(observation),
        Check("Final inventory is 0 (not negative!)", observation.stock == 0),
        Check(f"Database has exactly {tickets} purchase records", observation.records == tickets),
        _no_overselling(observation),
    ]


def _capacity_checks(observation: Observation) -> list[Check]:
    tickets, most = observation.size.tickets, 2 * observation.size.tickets
    lower, higher = observation.history.capacity_changes
    sold = observation.tickets_of(observation.history.resets[0].generation)
    before = sum(request.last.ended_at <= lower.started_at for request in observation.sale)
    told = sum(
        request.last.kind in SHORTAGES and request.last.ended_at <= lower.started_at
        for request in observation.sale
    )
    return [
        Check(
            f"A capacity of {lower.capacity} was refused: {lower.lowest} were sold",
            lower.done is False
            and lower.lowest == tickets
            and observation.free_of("capacity_refused_wrongly"),
        ),
        Check(f"A capacity of {most} was reached, asked for twice", higher.done is True),
        Check(
            f"No buyer was refused while tickets were free: {told} of {before} before the change",
            observation.free_of("undersold"),
            looked_at=told,
        ),
        Check(f"Exactly {most} purchases succeeded", sold == _purchases(observation) == most),
        _accounted(observation),
        Check("Final inventory is 0 (not negative!)", observation.stock == 0),
        Check(f"Database has exactly {most} purchase records", observation.records == most),
        _no_overselling(observation),
    ]


def common_checks(observation: Observation, *, refuses: bool) -> list[Check]:
    """Return the checks that every test has. refuses: some buyers must be refused."""
    history, figures = observation.history, observation.figures
    confirmed = {change.purchase_id for change in history.changes if change.done}
    forgotten = {
        request.last.receipt.purchase_id
        for request in history.requests
        if request.is_hold and request.last.receipt is not None
    } - confirmed
    lookups = sum(lookup.purchase_id not in forgotten for lookup in history.lookups)
    samples, refusals = len(history.samples), figures.refusals
    exported = sum(len(export.lines) for export in history.exports)
    found = observation.free_of("record_is_missing", "record_differs", "record_not_readable")
    truly_refused = Check(
        f"Every refusal was true: too few tickets were free ({refusals} refusals)",
        observation.free_of("undersold", "untrue_figure_in_a_refusal"),
        looked_at=refusals,
    )
    return [
        Check(f"Every receipt was found again, unchanged ({lookups} lookups)", found, lookups),
        *([truly_refused] if refuses or refusals else []),
        Check(
            f"Stock, held and sold added up in all {samples} samples taken during the sale",
            observation.free_of("counter_is_negative", "counters_do_not_add_up"),
            looked_at=samples,
        ),
        Check(
            f"The audit agrees with the receipts ({observation.records} records)",
            observation.free_of("audit_disagrees", "figures_disagree"),
        ),
        Check(
            f"Both exports have each purchase once, and their totals are right ({exported} lines)",
            observation.free_of(*EXPORT_RULES),
            looked_at=len(history.exports),
        ),
        Check(
            f"Requests really overlapped ({figures.peak_in_flight} in flight at once)",
            True,
            looked_at=int(figures.peak_in_flight > 1),
        ),
    ]
