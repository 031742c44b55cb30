"""The tests: three of the system before this one, in its words, and three that it never had."""

import random
import uuid
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum

from msgspec import Struct, structs

from proof.client import Order
from proof.figures import Figures
from proof.history import REFUSALS, Audit, History, Inventory, Request, Violation

QUANTITY_MAX = 5
REUSE_PROBES_MAX = 10


class Size(Struct, frozen=True):
    """How large the tests are: tickets on sale, buyers in the large ones, processes in those with several."""

    tickets: int = 100
    buyers: int = 1000
    processes: int = 4


class Verdict(StrEnum):
    """What a check or a test found. INCONCLUSIVE: nothing wrong, but it could not look at what it is there for."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


class Check(Struct, frozen=True):
    """One line of the verdict. looked_at: of how much it speaks; a check that looked at nothing shows nothing."""

    text: str
    holds: bool
    looked_at: int = 1

    @property
    def verdict(self) -> Verdict:
        """What it found."""
        if not self.looked_at:
            return Verdict.INCONCLUSIVE
        return Verdict.PASSED if self.holds else Verdict.FAILED


class Outcome(Struct, frozen=True):
    """All that a verdict is made from. `after` are requests sent once the sale was over."""

    size: Size
    history: History
    sale: Sequence[Request]
    after: Sequence[Request]
    figures: Figures
    final: Inventory
    audit: Audit
    violations: Sequence[Violation]

    def free_of(self, *rules: str) -> bool:
        """Whether none of the checker's rules with these names was broken."""
        return not any(violation.rule in rules for violation in self.violations)

    @property
    def stock(self) -> int:
        """Tickets free at rest."""
        return self.final.current_stock

    @property
    def records(self) -> int:
        """Purchase records of the current generation at rest."""
        return self.audit.purchase_records

    def tickets_of(self, generation: int) -> int:
        """Tickets in the receipts of a generation, each purchase once."""
        receipts = {
            attempt.receipt.purchase_id: attempt.receipt
            for request in self.sale
            for attempt in request.attempts
            if attempt.receipt is not None
        }
        return sum(receipt.quantity for receipt in receipts.values() if receipt.generation == generation)


class Scenario(Struct, frozen=True):
    """One test.

    `orders` makes the buyers of an item; those of stage 1 start together with a reset, those of stage 2 well after it.
    `reset_after` says after how many answers that is. `comes_back` sends the keys that bought once more, afterwards.
    `refuses`: there are more buyers than tickets, so that some must be refused.
    """

    number: int
    name: str
    title: str
    launching: str
    processes: int
    orders: Callable[[int, random.Random], list[Order]]
    checks: Callable[[Outcome], Iterable[Check]]
    praise: str = ""
    reset_after: int | None = None
    comes_back: bool = False
    refuses: bool = True


def scenarios(size: Size) -> list[Scenario]:
    """All tests, at a size."""
    return [_basic(size), _overselling(size), _processes(size), _exactly_once(size), _reset(size), _quantities(size)]


def comeback_orders(sale: Iterable[Request]) -> list[Order]:
    """Every key that bought, sent once more; and some of these keys with another request, which must be refused."""
    bought = {
        request.key: Order(request.key, request.item_id, request.quantity, request.buyer_id or "")
        for request in sale
        if any(attempt.receipt is not None for attempt in request.attempts)
    }
    same = list(bought.values())
    return same + [structs.replace(order, quantity=order.quantity + 1) for order in same[:REUSE_PROBES_MAX]]


def _order(number: int, item_id: int, quantity: int = 1, copies: int = 1, stage: int = 0) -> Order:
    # Keys are fresh in every run, whatever the seed: a key of an earlier run would get that run's receipt.
    return Order(str(uuid.uuid4()), item_id, quantity, f"buyer-{number}", copies, stage)


def _single(buyers: int) -> Callable[[int, random.Random], list[Order]]:
    return lambda item_id, _draw: [_order(number, item_id) for number in range(1, buyers + 1)]


def _basic(size: Size) -> Scenario:
    tickets = size.tickets
    return Scenario(
        number=1,
        name="Basic Concurrency",
        title=f"BASIC CONCURRENCY ({tickets} buyers, {tickets} tickets)",
        launching=f"Launching {tickets} concurrent purchase attempts...",
        processes=1,
        orders=_single(tickets),
        refuses=False,
        checks=lambda outcome: [
            Check(f"All {tickets} purchases succeeded", _purchases(outcome) == tickets),
            Check("Final inventory is 0", outcome.stock == 0),
            Check(f"Database has exactly {tickets} purchase records", outcome.records == tickets),
        ],
    )


def _overselling(size: Size) -> Scenario:
    return Scenario(
        number=2,
        name="Overselling Prevention",
        title=f"OVERSELLING PREVENTION ({size.buyers} buyers, {size.tickets} tickets)",
        launching=f"Launching {size.buyers} concurrent purchase attempts...\n"
        "(This simulates a flash sale with high contention)",
        processes=1,
        orders=_single(size.buyers),
        checks=_exactly,
        refuses=size.buyers > size.tickets,
        praise=" No race conditions detected!",
    )


def _processes(size: Size) -> Scenario:
    attempts = size.buyers // size.processes
    return Scenario(
        number=3,
        name="Multiple Processes",
        title=f"MULTIPLE PROCESSES ({size.processes} processes, {attempts} attempts each)",
        launching=f"Launching {size.processes} processes...\nEach process will attempt {attempts} purchases",
        processes=size.processes,
        orders=_single(attempts * size.processes),
        checks=lambda outcome: [
            *_exactly(outcome),
            Check(
                f"{outcome.figures.processes} of {size.processes} separate processes sent requests",
                True,
                looked_at=int(outcome.figures.processes == size.processes),
            ),
        ],
        refuses=size.buyers > size.tickets,
        praise=" No race conditions between processes!",
    )


def _exactly_once(size: Size) -> Scenario:
    tickets, buyers = size.tickets, min(size.buyers, 2 * size.tickets)
    return Scenario(
        number=4,
        name="Exactly Once",
        title=f"EXACTLY ONCE ({buyers} buyers send each request twice in parallel, {tickets} tickets)",
        launching=f"Launching {2 * buyers} concurrent purchase attempts with {buyers} keys...",
        processes=size.processes,
        orders=lambda item_id, _draw: [_order(number, item_id, copies=2) for number in range(1, buyers + 1)],
        checks=_exactly_once_checks,
        refuses=buyers > tickets,
        praise=" No key bought twice!",
        comes_back=True,
    )


def _reset(size: Size) -> Scenario:
    # So few before the reset that the old generation is not sold out, so many after it that the new one is.
    tickets = size.tickets
    stages = [max(2, tickets // 2), tickets, 2 * tickets + tickets // 2]

    def orders(item_id: int, _draw: random.Random) -> list[Order]:
        of_stages = [stage for stage, buyers in enumerate(stages) for _ in range(buyers)]
        return [_order(number, item_id, stage=stage) for number, stage in enumerate(of_stages, start=1)]

    return Scenario(
        number=5,
        name="Reset in Mid-Sale",
        title=f"RESET IN MID-SALE ({sum(stages)} buyers, {tickets} tickets, and {tickets} new ones while they buy)",
        launching=f"Launching {sum(stages)} concurrent purchase attempts...",
        processes=size.processes,
        orders=orders,
        checks=_reset_checks,
        praise=" No ticket lost or doubled across the reset!",
        reset_after=stages[0] // 2,
    )


def _quantities(size: Size) -> Scenario:
    tickets, buyers = size.tickets, min(size.buyers, 2 * size.tickets)

    def orders(item_id: int, draw: random.Random) -> list[Order]:
        # Those who want a single ticket come last: they leave nothing behind.
        singles = max(1, buyers // 10)
        several = [draw.randint(1, QUANTITY_MAX) for _ in range(buyers - singles)]
        quantities = several + [1] * singles
        return [_order(number, item_id, quantity) for number, quantity in enumerate(quantities, start=1)]

    return Scenario(
        number=6,
        name="Several Tickets at Once",
        title=f"SEVERAL TICKETS AT ONCE ({buyers} buyers of 1 to {QUANTITY_MAX}, {tickets} tickets)",
        launching=f"Launching {buyers} concurrent purchase attempts...",
        processes=size.processes,
        orders=orders,
        checks=_quantity_checks,
        praise=" Nothing stranded!",
    )


def _purchases(outcome: Outcome) -> int:
    """Requests that bought: a replay counts where the first answer was lost, for then it is the only one."""
    return outcome.figures.successes + outcome.figures.replays


def _accounted(outcome: Outcome) -> Check:
    figures = outcome.figures
    definite = figures.successes + figures.replays + figures.sold_out + figures.not_enough_left
    return Check(f"All {figures.requests} requests accounted for", definite == figures.requests)


def _no_overselling(outcome: Outcome) -> Check:
    fine = outcome.free_of("oversold", "counter_is_negative", "sold_in_a_wrong_generation")
    receipts, samples = len(outcome.history.lookups), len(outcome.history.samples)
    text = f"NO OVERSELLING (inventory never went negative): {receipts} receipts, {samples} samples"
    return Check(text, fine, looked_at=receipts)


def _exactly(outcome: Outcome) -> list[Check]:
    tickets = outcome.size.tickets
    return [
        Check(f"Exactly {tickets} purchases succeeded", _purchases(outcome) == tickets),
        _accounted(outcome),
        Check("Final inventory is 0 (not negative!)", outcome.stock == 0),
        Check(f"Database has exactly {tickets} purchase records", outcome.records == tickets),
        _no_overselling(outcome),
    ]


def _exactly_once_checks(outcome: Outcome) -> list[Check]:
    tickets, figures = outcome.size.tickets, outcome.figures
    once = outcome.free_of("sold_twice_for_one_key", "two_201_for_one_key", "one_purchase_for_two_keys")
    same = outcome.free_of("receipt_differs", "refused_although_bought")
    probes = min(REUSE_PROBES_MAX, len(outcome.after) // 2)
    again = [request for request in outcome.after if request.quantity == 1]
    other = [request for request in outcome.after if request.quantity != 1]
    replayed = sum(request.last.receipt is not None for request in again)
    refused = sum(request.last.receipt is None for request in other)
    return [
        Check(f"Exactly {tickets} keys bought, each of them once", once and _purchases(outcome) == 2 * tickets),
        Check(f"Both copies of each got the same receipt ({figures.replays} replays)", same, figures.replays),
        _accounted(outcome),
        Check("Final inventory is 0 (not negative!)", outcome.stock == 0),
        Check(f"Database has exactly {tickets} purchase records", outcome.records == tickets),
        _no_overselling(outcome),
        Check(f"Copies were in flight together ({figures.pairs_overlapping} pairs)", True, figures.pairs_overlapping),
        Check(
            f'{replayed} of {len(again)} keys sent again after the sale got their receipt, not "sold out"',
            replayed == len(again),
            looked_at=len(again),
        ),
        Check(
            f"{refused} of {len(other)} keys sent with another request were refused",
            refused == len(other) >= probes and outcome.free_of("key_and_request"),
            looked_at=len(other),
        ),
    ]


def _reset_checks(outcome: Outcome) -> list[Check]:
    tickets = outcome.size.tickets
    old, new = (reset.generation for reset in outcome.history.resets)
    sold_before, sold_after = outcome.tickets_of(old), outcome.tickets_of(new)
    return [
        Check(f"The reset opened a new generation ({new} after {old})", new != old),
        Check(f"Generation {old} sold {sold_before} of its {tickets} tickets", sold_before <= tickets, sold_before),
        Check(f"Generation {new} sold exactly {tickets}", sold_after == tickets),
        _accounted(outcome),
        Check("Final inventory is 0 (not negative!)", outcome.stock == 0),
        Check(f"Database has exactly {tickets} purchase records of generation {new}", outcome.records == tickets),
        _no_overselling(outcome),
    ]


def _quantity_checks(outcome: Outcome) -> list[Check]:
    tickets = outcome.size.tickets
    sold = outcome.tickets_of(outcome.history.resets[0].generation)
    refused = [request.quantity for request in outcome.sale if request.last.kind in REFUSALS]
    smallest = min(refused, default=0)
    return [
        Check(f"{sold} tickets sold and {outcome.stock} free add up to {tickets}", sold + outcome.stock == tickets),
        Check(
            f"Nothing stranded: {outcome.stock} free, and the smallest of {len(refused)} purchases refused was of "
            f"{smallest}",
            outcome.stock < smallest,
            looked_at=len(refused),
        ),
        _accounted(outcome),
        Check(
            f"Database has exactly {_purchases(outcome)} purchase records for them",
            outcome.records == _purchases(outcome),
        ),
        _no_overselling(outcome),
    ]


def common_checks(outcome: Outcome, *, refuses: bool) -> list[Check]:
    """The checks of every test, beyond those of the system before this one. refuses: some buyers must be refused."""
    history, figures = outcome.history, outcome.figures
    lookups, samples, refusals = len(history.lookups), len(history.samples), figures.sold_out + figures.not_enough_left
    found = outcome.free_of("record_is_missing", "record_differs", "record_not_readable")
    truly_refused = Check(
        f"Every refusal was true: too few tickets were free ({refusals} refusals)",
        outcome.free_of("undersold", "untrue_figure_in_a_refusal"),
        looked_at=refusals,
    )
    return [
        Check(f"Every receipt was found again, unchanged ({lookups} lookups)", found, lookups),
        *([truly_refused] if refuses or refusals else []),
        Check(
            f"Stock, held and sold added up in all {samples} samples taken during the sale",
            outcome.free_of("counter_is_negative", "counters_do_not_add_up"),
            looked_at=samples,
        ),
        Check(
            f"The audit agrees with the receipts ({outcome.records} records)",
            outcome.free_of("audit_disagrees", "figures_disagree"),
        ),
        Check(
            f"Requests really overlapped ({figures.peak_in_flight} in flight at once)",
            True,
            looked_at=int(figures.peak_in_flight > 1),
        ),
    ]
