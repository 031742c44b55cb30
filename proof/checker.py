"""The checker: a history in, the violations of G1 to G6 out. Pure, and without false positives.

Assumptions: all times come from one clock. Only the buyers of the history buy or hold the item.
Only its refunds, and the ends of its holds, give tickets back.

Two bounds carry most rules. A purchase cannot have happened before the first request with its key
was sent, and it has happened when a receipt for it has arrived. So at the instant `t` the tickets
sold are at most those of requests sent before `t`, and at least those of receipts that arrived by
`t`. Refunds are bounded in the same way, and so are holds: a hold is a purchase whose tickets come
back when it is released or expires, unless it was confirmed before (`proof.holds`).
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate, pairwise
from math import inf

from msgspec import Struct, structs

from proof.history import (
    NONE_LEFT,
    NOT_DEFINITE,
    RECEIPTS,
    REFUSALS,
    Attempt,
    History,
    HoldAction,
    HoldChange,
    Kind,
    PurchaseRequest,
    Receipt,
    Refund,
    Reset,
    Violation,
)
from proof.holds import HoldBounds

HOLD_STATUSES = frozenset({"held", "expired", "released", "confirmed", "refunded"})
EVIDENCE_LINES_MAX = 8
STATUS_UNAVAILABLE = 503


def check(history: History) -> list[Violation]:
    """Return all violations in the history, one per rule, the most serious rules first."""
    facts = Facts.of(history)
    return [violation for rule in RULES for violation in _one_per_rule(rule(facts))]


class PurchaseBounds(Struct, frozen=True):
    """One purchase id: when its key was first sent, and which receipt arrived first."""

    receipt: Receipt
    request: PurchaseRequest
    attempt: Attempt
    first_sent_at: float
    first_told_at: float


class RunningTotal:
    """The number of tickets sold, or given back, as a step function of time."""

    def __init__(self, steps: Iterable[tuple[float, int]]) -> None:
        self.steps = sorted(steps)
        self._times = [time for time, _ in self.steps]
        self._sums = [0, *accumulate(tickets for _, tickets in self.steps)]

    def before(self, instant: float) -> int:
        """Return the tickets of all steps before `instant`."""
        return self._sums[bisect_left(self._times, instant)]

    def until(self, instant: float) -> int:
        """Return the tickets of all steps up to and including `instant`."""
        return self._sums[bisect_right(self._times, instant)]


class Generation(Struct, frozen=True):
    """One generation of the sale: the longest time it can have lasted, and bounds on its sales.

    possible, certain: tickets sold. possibly_back, certainly_back: tickets given back.
    """

    number: int
    capacity: int
    opened_at: float
    closed_at: float
    purchases: list[PurchaseBounds]
    possible: RunningTotal
    certain: RunningTotal
    possibly_back: RunningTotal
    certainly_back: RunningTotal

    def only_gets_fewer(self, until: float) -> bool:
        """Return whether free tickets have only become fewer: none can have come back."""
        return self.possibly_back.before(until) == 0

    def fewest_free(self, start: float, end: float) -> int:
        """Return the tickets that were certainly free, at every instant from start to end."""
        return self.capacity - self.possible.before(end) + self.certainly_back.until(start)

    def most_free(self, start: float, end: float) -> int:
        """Return the tickets that can have been free, at any instant from start to end."""
        return self.capacity - self.certain.until(start) + self.possibly_back.before(end)


class Facts(Struct, frozen=True):
    """A history, sorted once for all rules."""

    history: History
    started_at: float
    by_key: dict[str, list[PurchaseRequest]]
    purchases: dict[str, PurchaseBounds]
    generations: list[Generation]
    open_keys: list[list[PurchaseRequest]]
    refunds: dict[str, list[Refund]]
    holds: dict[str, HoldBounds]

    @classmethod
    def of(cls, history: History) -> "Facts":
        """Sort a history."""
        by_key: dict[str, list[PurchaseRequest]] = defaultdict(list)
        for request in history.requests:
            by_key[request.key].append(request)
        purchases = _purchases(by_key)
        can_come_back = tickets_can_come_back(history)
        open_keys = [
            requests for requests in by_key.values() if _may_have_bought(requests, can_come_back)
        ]
        starts = [
            attempt.started_at for request in history.requests for attempt in request.attempts
        ]
        refunds: dict[str, list[Refund]] = defaultdict(list)
        for refund in history.refunds:
            refunds[refund.purchase_id].append(refund)
        holds = _holds(history, purchases.values())
        return cls(
            history,
            min(starts, default=0.0),
            dict(by_key),
            purchases,
            _generations(history, purchases.values(), open_keys, refunds, holds),
            open_keys,
            refunds,
            holds,
        )

    def window(self, request: PurchaseRequest, attempt: Attempt) -> tuple[float, float]:
        """Return between which instants a refusal must have been true.

        A replayed one had its time in an earlier attempt with the key.
        """
        started_at = attempt.started_at
        if attempt.replayed:
            started_at = min(each.started_at for _, each in _answers(self.by_key[request.key]))
        return started_at - self.history.cache_seconds, attempt.ended_at

    def generations_during(self, start: float, end: float) -> list[Generation]:
        """Return the generations that existed at any instant from start to end.

        None if the time begins before the end of the first reset, of which nothing is known.
        """
        if not self.history.resets or start <= self.history.resets[0].ended_at:
            return []
        return [one for one in self.generations if one.opened_at <= end and one.closed_at >= start]

    def line(self, request: PurchaseRequest, attempt: Attempt) -> str:
        """Return one attempt as a line of evidence, in seconds since the first request."""
        start, end = attempt.started_at - self.started_at, attempt.ended_at - self.started_at
        copy = f", copy {request.copy}" if request.copy > 1 else ""
        asked = (
            f"key {request.key}{copy}, {request.buyer_id or 'no buyer id'}, "
            f"{_tickets(request.quantity)}"
        )
        return f"{start:.3f}-{end:.3f} s  {asked} → {_answer(attempt)}"

    def refund_line(self, refund: Refund) -> str:
        """Return one refund as a line of evidence, in seconds since the first request."""
        start, end = refund.started_at - self.started_at, refund.ended_at - self.started_at
        answer = {True: "refunded", False: "refused", None: "unknown"}[refund.done]
        return f"{start:.3f}-{end:.3f} s  refund of {_tickets(refund.quantity)} → {answer}"

    def change_line(self, change: HoldChange) -> str:
        """Return one change of a hold as a line of evidence, in seconds since the first request."""
        start, end = change.started_at - self.started_at, change.ended_at - self.started_at
        answer = {True: "done", False: change.code or "refused", None: "unknown"}[change.done]
        payment = f" with payment {change.payment_reference}" if change.payment_reference else ""
        return f"{start:.3f}-{end:.3f} s  {change.action} of hold{payment} → {answer}"

    def purchase_line(self, purchase: PurchaseBounds) -> str:
        """Return the first answer with this purchase as a line of evidence."""
        return self.line(purchase.request, purchase.attempt)


def _answers(requests: Iterable[PurchaseRequest]) -> Iterator[tuple[PurchaseRequest, Attempt]]:
    return ((request, attempt) for request in requests for attempt in request.attempts)


def _receipts(
    requests: Iterable[PurchaseRequest],
) -> Iterator[tuple[PurchaseRequest, Attempt, Receipt]]:
    for request, attempt in _answers(requests):
        if attempt.kind in RECEIPTS and attempt.receipt is not None:
            yield request, attempt, attempt.receipt


def _purchases(by_key: dict[str, list[PurchaseRequest]]) -> dict[str, PurchaseBounds]:
    purchases: dict[str, PurchaseBounds] = {}
    for requests in by_key.values():
        first_sent_at = min(attempt.started_at for _, attempt in _answers(requests))
        for request, attempt, receipt in _receipts(requests):
            known = purchases.get(receipt.purchase_id)
            if known is None or attempt.ended_at < known.first_told_at:
                sent_at = min(first_sent_at, known.first_sent_at) if known else first_sent_at
                purchases[receipt.purchase_id] = PurchaseBounds(
                    receipt, request, attempt, sent_at, attempt.ended_at
                )
            elif first_sent_at < known.first_sent_at:
                purchases[receipt.purchase_id] = structs.replace(known, first_sent_at=first_sent_at)
    return purchases


def tickets_can_come_back(history: History) -> bool:
    """Return whether an attempt that once found too few tickets may later find enough."""
    is_held = any(request.is_hold for request in history.requests)
    return len(history.resets) > 1 or bool(history.refunds) or is_held


def _holds(history: History, purchases: Iterable[PurchaseBounds]) -> dict[str, HoldBounds]:
    """Return purchase id → what can have become of it, of all holds."""
    changes: dict[str, list[HoldChange]] = defaultdict(list)
    for change in history.changes:
        changes[change.purchase_id].append(change)
    seconds = {reset.generation: reset.hold_seconds for reset in history.resets}
    ends = {before.generation: after.started_at for before, after in pairwise(history.resets)}
    return {
        one.receipt.purchase_id: HoldBounds(
            quantity=one.receipt.quantity,
            first_sent_at=one.first_sent_at,
            first_told_at=one.first_told_at,
            hold_seconds=seconds.get(one.receipt.generation, inf),
            skew_seconds=history.skew_seconds,
            closes_at=ends.get(one.receipt.generation, inf),
            changes=tuple(changes[one.receipt.purchase_id]),
        )
        for one in purchases
        if one.receipt.is_hold
    }


def _may_have_bought(requests: list[PurchaseRequest], can_come_back: bool) -> bool:
    """Return whether a key without a receipt may have bought.

    A refusal settles it that is on record. Any other one settles it unless tickets can come back:
    then an earlier attempt in doubt may still be in flight, and find them.
    """
    kinds = {attempt.kind for _, attempt in _answers(requests)}
    if kinds & RECEIPTS or any(attempt.replayed for _, attempt in _answers(requests)):
        return False
    refused = bool(kinds & REFUSALS)
    return not refused or (Kind.UNKNOWN in kinds and can_come_back)


def _generations(
    history: History,
    purchases: Iterable[PurchaseBounds],
    open_keys: list[list[PurchaseRequest]],
    refunds: Mapping[str, list[Refund]],
    holds: Mapping[str, HoldBounds],
) -> list[Generation]:
    opens = [
        (
            min(attempt.started_at for _, attempt in _answers(requests)),
            max(request.quantity for request in requests),
        )
        for requests in open_keys
    ]
    by_number: dict[int, list[PurchaseBounds]] = defaultdict(list)
    for purchase in purchases:
        by_number[purchase.receipt.generation].append(purchase)
    generations = []
    for position, reset in enumerate(history.resets):
        following = history.resets[position + 1] if position + 1 < len(history.resets) else None
        mine = by_number[reset.generation]
        refunded = [(one.receipt, refunds.get(one.receipt.purchase_id, ())) for one in mine]
        held = [holds[one.receipt.purchase_id] for one in mine if one.receipt.purchase_id in holds]
        # A refund may come after the next reset: then its tickets do not come back.
        taken_back_until = following.started_at if following else inf
        generations.append(
            Generation(
                number=reset.generation,
                capacity=reset.capacity,
                opened_at=reset.started_at,
                closed_at=following.ended_at if following else inf,
                purchases=sorted(mine, key=lambda purchase: purchase.first_told_at),
                possible=RunningTotal(
                    [
                        *((one.first_sent_at, one.receipt.quantity) for one in mine),
                        *opens,
                        *(step for one in held for step in one.possibly_taken_again()),
                    ]
                ),
                certain=RunningTotal(
                    [
                        *((one.first_told_at, one.receipt.quantity) for one in mine),
                        *(step for one in held for step in one.certainly_taken_again()),
                    ]
                ),
                possibly_back=RunningTotal(
                    [
                        *(step for one in refunded for step in _possible_refunds(*one)),
                        *(step for one in held for step in one.possibly_back()),
                    ]
                ),
                certainly_back=RunningTotal(
                    step
                    for step in [
                        *(step for _, sent in refunded for step in _certain_refunds(sent)),
                        *(step for one in held for step in one.certainly_back()),
                    ]
                    if step[0] < taken_back_until
                ),
            )
        )
    return generations


def _possible_refunds(receipt: Receipt, refunds: Iterable[Refund]) -> Iterator[tuple[float, int]]:
    """Yield when tickets of the purchase can have been refunded, at the earliest, and how many."""
    left = receipt.quantity
    for refund in sorted(refunds, key=lambda refund: refund.started_at):
        if refund.done is not False:
            yield refund.started_at, min(left, refund.quantity)
            left -= min(left, refund.quantity)


def _certain_refunds(refunds: Iterable[Refund]) -> Iterator[tuple[float, int]]:
    """Yield when tickets of the purchase were refunded, at the latest, and how many."""
    return ((refund.ended_at, refund.quantity) for refund in refunds if refund.done)


def no_oversell(facts: Facts) -> Iterator[Violation]:
    """G1: the receipts of a generation never add up to more than its tickets."""
    for generation in facts.generations:
        sold = 0
        for position, (told_at, tickets) in enumerate(generation.certain.steps, start=1):
            sold += tickets
            back = generation.possibly_back.before(told_at)
            if sold - back > generation.capacity:
                total = generation.certain.until(inf) - back
                lines = [
                    facts.purchase_line(one)
                    for one in generation.purchases
                    if one.first_told_at <= told_at
                ]
                yield Violation(
                    "G1",
                    "oversold",
                    f"at most {generation.capacity} tickets sold in generation {generation.number}",
                    f"{total} tickets sold, each with a receipt; receipt number {position} is "
                    f"one too many{f', although {back} can have come back' if back else ''}",
                    _shortened(lines),
                    total - generation.capacity,
                )
                break


def counters_add_up(facts: Facts) -> Iterator[Violation]:
    """G1: in all samples and the audit, counters are not negative and add up to the capacity."""
    capacities = {generation.number: generation.capacity for generation in facts.generations}
    samples = [*facts.history.samples, *([facts.history.final] if facts.history.final else [])]
    counters = [
        (
            (
                f"GET /inventory at {sample.started_at - facts.started_at:.3f}-"
                f"{sample.ended_at - facts.started_at:.3f} s"
            ),
            one.generation,
            one.current_stock,
            one.held,
            one.total_purchases,
            one.initial_stock,
        )
        for sample in samples
        for one in [sample.inventory]
    ]
    if audit := facts.history.audit:
        counters.append(
            ("GET /audit", audit.generation, audit.stock, audit.held, audit.sold, audit.capacity)
        )
    for where, number, stock, held, sold, capacity in counters:
        stated = capacities.get(number, capacity)
        if min(stock, held, sold) < 0:
            rule = "counter_is_negative"
        elif stock + held + sold != capacity or capacity != stated:
            rule = "counters_do_not_add_up"
        else:
            continue
        expected = f"stock, held and sold at least 0, and together {stated}, at every instant"
        found = (
            f"stock {stock}, held {held}, sold {sold}, capacity {capacity} in generation {number}"
        )
        yield Violation("G1", rule, expected, found, (where,))


def no_sale_in_a_wrong_generation(facts: Facts) -> Iterator[Violation]:
    """G1: no purchase from a generation that was over before it, or began after it."""
    by_number = {generation.number: generation for generation in facts.generations}
    for purchase in facts.purchases.values():
        number = purchase.receipt.generation
        generation = by_number.get(number)
        expected = (
            "a receipt of a generation that was open at some instant between request and answer"
        )
        if generation is None and number in _opened_twice(facts.history):
            continue  # `a_reset_takes_effect_once` reports it
        if generation is None:
            found = f"generation {number}, which no reset of this sale has opened"
        elif purchase.first_sent_at > generation.closed_at:
            found = (
                f"generation {number}, which the next reset had closed before the request was sent"
            )
        elif purchase.first_told_at < generation.opened_at:
            found = f"generation {number}, which was opened only after the answer"
        else:
            continue
        yield Violation(
            "G1", "sold_in_a_wrong_generation", expected, found, (facts.purchase_line(purchase),)
        )


def a_reset_takes_effect_once(facts: Facts) -> Iterator[Violation]:
    """G3: a reset that was sent several times with one key starts one generation."""
    for number, reset in _opened_twice(facts.history).items():
        yield Violation(
            "G3",
            "reset_took_effect_twice",
            "one generation opened by one reset, however often it is sent with its key",
            f"generation {number} by an attempt without an answer, and generation "
            f"{reset.generation} by another one",
            (
                (
                    f"POST /reset, {reset.attempts} attempts, "
                    f"{reset.started_at:.3f}-{reset.ended_at:.3f} s"
                ),
            ),
        )


def _opened_twice(history: History) -> dict[int, Reset]:
    """Return the generations that only a repeated attempt of a reset can have started.

    These lie between two resets of the history. Of the time before the first reset nothing is
    known.
    """
    return {
        number: reset
        for before, reset in pairwise(history.resets)
        for number in range(before.generation + 1, reset.generation)
        if reset.attempts > 1
    }


def no_undersell(facts: Facts) -> Iterator[Violation]:
    """G2: no refusal while enough tickets were certainly free during the whole request."""
    for request, attempt in _answers(facts.history.requests):
        start, end = facts.window(request, attempt)
        generations = facts.generations_during(start, end)
        if attempt.kind not in REFUSALS or not generations:
            continue
        free = min(generation.fewest_free(start, end) for generation in generations)
        if free >= request.quantity:
            last = generations[-1]
            total = sum(one.receipt.quantity for one in last.purchases)
            yield Violation(
                "G2",
                "undersold",
                f"{_tickets(request.quantity)} for this buyer: at least {free} were free from "
                "before the request until "
                "after the answer",
                f"refused with {attempt.code or attempt.kind}. Of {last.capacity} tickets of "
                f"generation {last.number}, "
                f"{total} were sold in the whole sale, and {last.capacity - free} can have been "
                "gone by then",
                (facts.line(request, attempt),),
            )


def true_figures_in_refusals(facts: Facts) -> Iterator[Violation]:
    """G5: "sold out" means none left; "only k left" means that k were left at some instant."""
    for request, attempt in _answers(facts.history.requests):
        start, end = facts.window(request, attempt)
        generations = facts.generations_during(start, end)
        # Next to a reset the answer may refer to either generation; the certain cases are enough.
        if attempt.kind not in REFUSALS or len(generations) != 1:
            continue
        fewest = generations[0].fewest_free(start, end)
        most = generations[0].most_free(start, end)
        left = 0 if attempt.kind in NONE_LEFT else attempt.left
        # A refusal while enough tickets were free is reported as an undersell.
        if fewest >= request.quantity:
            continue
        if left is None or left < fewest or left > most or left >= request.quantity:
            yield Violation(
                "G5",
                "untrue_figure_in_a_refusal",
                f"a figure from {max(fewest, 0)} to {most}, and less than the {request.quantity} "
                "asked for",
                "no figure" if left is None else f"{left} left",
                (facts.line(request, attempt),),
            )


def one_key_buys_once(facts: Facts) -> Iterator[Violation]:
    """G3: all receipts for one key are the same receipt, and at most one came with a 201."""
    for requests in facts.by_key.values():
        receipts = list(_receipts(requests))
        if not receipts:
            continue
        first = receipts[0]
        bought = [each for each in receipts if each[1].kind is Kind.BOUGHT]
        for other in receipts[1:]:
            if _is_same(first[2], other[2]):
                continue
            twice = other[2].purchase_id != first[2].purchase_id
            yield Violation(
                "G3",
                "sold_twice_for_one_key" if twice else "receipt_differs",
                f"the same receipt for key {first[0].key}, however often it is sent",
                _difference(first[2].as_bought, other[2].as_bought),
                (facts.line(*first[:2]), facts.line(*other[:2])),
            )
            break
        else:
            if len(bought) > 1:
                lines = tuple(facts.line(*each[:2]) for each in bought[:2])
                yield Violation(
                    "G3",
                    "two_201_for_one_key",
                    "one 201 for one key, and 200 after it",
                    "two 201",
                    lines,
                )


def _is_same(one: Receipt, other: Receipt) -> bool:
    """Return whether both are of one purchase or hold, before and after a change of it."""
    if one.extended or other.extended:
        one, other = (structs.replace(each, expires_at="extended") for each in (one, other))
    return one.as_bought == other.as_bought


def a_receipt_is_not_followed_by_a_refusal(facts: Facts) -> Iterator[Violation]:
    """G3: a key that has bought is never answered with "sold out".

    This includes its copy in flight at the same time, as long as free tickets only get fewer: when
    there were too few for the copy, the purchase had been made and its record could be found. And
    it includes every copy with a refusal that is on record, because that is final.
    """
    for requests in facts.by_key.values():
        receipts = list(_receipts(requests))
        if not receipts:
            continue
        told_at = min(attempt.ended_at for _, attempt, _ in receipts)
        first = min(receipts, key=lambda each: each[1].ended_at)
        for request, attempt in _answers(requests):
            if attempt.kind not in REFUSALS or request.content != first[0].content:
                continue
            spoken_of = facts.generations_during(*facts.window(request, attempt))
            had_bought = {one.number for one in spoken_of} == {first[2].generation} and all(
                one.only_gets_fewer(max(told_at, attempt.ended_at)) for one in spoken_of
            )
            if attempt.started_at > told_at or attempt.replayed or had_bought:
                yield Violation(
                    "G3",
                    "refused_although_bought",
                    f"the receipt of {first[2].purchase_id} for every copy of key {request.key}",
                    "one copy has the receipt, another was refused with "
                    f"{attempt.code or attempt.kind}",
                    (facts.line(*first[:2]), facts.line(request, attempt)),
                )
                break


def a_replay_follows_a_purchase(facts: Facts) -> Iterator[Violation]:
    """G5: a key that has a replay has bought before, in an attempt that did not say otherwise.

    "Busy" says that nothing was carried out.
    """
    for requests in facts.by_key.values():
        replay = min(
            (each for each in _answers(requests) if each[1].kind is Kind.REPLAYED),
            key=lambda each: each[1].ended_at,
            default=None,
        )
        if replay is None:
            continue
        earlier = [each for each in _answers(requests) if each[1].started_at <= replay[1].ended_at]
        if not any(_can_have_bought(attempt) for _, attempt in earlier):
            yield Violation(
                "G5",
                "replay_of_nothing",
                f"an attempt with key {replay[0].key} that bought, or whose outcome was unknown, "
                "before a replay of it",
                f"only: {', '.join(sorted({attempt.kind for _, attempt in earlier}))}",
                _shortened([facts.line(*each) for each in earlier]),
            )


def _can_have_bought(attempt: Attempt) -> bool:
    """Return whether the answer allows that this attempt has bought first."""
    if attempt.kind is Kind.BUSY:
        return attempt.status == STATUS_UNAVAILABLE and attempt.code != "busy"  # not the service's
    return attempt.kind in {Kind.BOUGHT, Kind.UNKNOWN, Kind.UNEXPECTED}


def a_key_belongs_to_one_request(facts: Facts) -> Iterator[Violation]:
    """G3: a key is refused to another request, and never to its own."""
    for requests in facts.by_key.values():
        contents = {request.content for request in requests}
        receipts = list(_receipts(requests))
        told_at = min((attempt.ended_at for _, attempt, _ in receipts), default=inf)
        owner = min(receipts, key=lambda each: each[1].ended_at)[0].content if receipts else None
        for request, attempt in _answers(requests):
            if attempt.kind is Kind.KEY_REUSED and (len(contents) == 1 or request.content == owner):
                expected, found = (
                    "the key accepted: every request with it is the same",
                    "idempotency_key_reused",
                )
            elif (
                owner is not None
                and request.content != owner
                and attempt.started_at > told_at
                and attempt.kind not in {Kind.KEY_REUSED, *NOT_DEFINITE}
            ):
                expected, found = (
                    "idempotency_key_reused: the key has bought something else",
                    _answer(attempt),
                )
            else:
                continue
            lines = [facts.line(*each[:2]) for each in receipts[:1]] + [
                facts.line(request, attempt)
            ]
            yield Violation("G3", "key_and_request", expected, found, tuple(lines))


def one_purchase_belongs_to_one_key(facts: Facts) -> Iterator[Violation]:
    """G3: two keys never share a purchase, because one of the buyers would have nothing."""
    owners: dict[str, tuple[PurchaseRequest, Attempt]] = {}
    for request, attempt, receipt in _receipts(facts.history.requests):
        other = owners.setdefault(receipt.purchase_id, (request, attempt))
        if other[0].key != request.key:
            yield Violation(
                "G3",
                "one_purchase_for_two_keys",
                "a purchase of its own for each key",
                f"purchase {receipt.purchase_id} for both",
                (facts.line(*other), facts.line(request, attempt)),
            )


def records_are_durable(facts: Facts) -> Iterator[Violation]:
    """G5: the purchase of every receipt is found again, unchanged."""
    for lookup in facts.history.lookups:
        purchase = facts.purchases.get(lookup.purchase_id)
        if purchase is None or purchase.receipt.is_hold:
            continue
        bought, again = purchase.receipt.as_bought, lookup.receipt and lookup.receipt.as_bought
        if again == bought:
            continue
        if again is not None:
            rule, found = "record_differs", _difference(bought, again)
        elif lookup.status is not None:
            rule, found = (
                "record_is_missing",
                f"GET /purchases/{lookup.purchase_id} answers {lookup.status}",
            )
        else:
            rule, found = (
                "record_not_readable",
                f"GET /purchases/{lookup.purchase_id} got no definite answer",
            )
        expected = f"the purchase {lookup.purchase_id} found again as its receipt says"
        yield Violation("G5", rule, expected, found, (facts.purchase_line(purchase),))


def receipts_say_what_was_asked(facts: Facts) -> Iterator[Violation]:
    """G5: a receipt has the item, quantity and buyer of its request, and the status of a purchase.

    It is confirmed, or refunded where all of its tickets are.
    """
    for request, attempt, receipt in _receipts(facts.history.requests):
        said = (receipt.item_id, receipt.quantity, receipt.buyer_id, receipt.is_hold)
        refunded = receipt.refunded_quantity == receipt.quantity
        status = "refunded" if refunded else "held" if receipt.is_hold else "confirmed"
        fits = receipt.status in HOLD_STATUSES if receipt.is_hold else receipt.status == status
        if said != request.content or not fits:
            yield Violation(
                "G5",
                "receipt_of_something_else",
                f"a {status} receipt of "
                + "item {}, quantity {}, buyer {}".format(*request.content[:3]),
                "{} of item {}, quantity {}, buyer {}".format(receipt.status, *said[:3]),
                (facts.line(request, attempt),),
            )


def refunds_take_effect_once(facts: Facts) -> Iterator[Violation]:
    """G3, G5: what a receipt says of refunds is what was refunded, and no more than was bought."""
    shown = [
        (attempt.started_at, attempt.ended_at, receipt)
        for _, attempt, receipt in _receipts(facts.history.requests)
        if not receipt.is_hold
    ]
    answers: tuple[Refund | HoldChange, ...] = (*facts.history.refunds, *facts.history.changes)
    shown += [
        (each.started_at, each.ended_at, each.receipt)
        for each in answers
        if each.receipt is not None
    ]
    shown += [(inf, inf, lookup.receipt) for lookup in facts.history.lookups if lookup.receipt]
    for start, end, receipt in shown:
        refunds = facts.refunds.get(receipt.purchase_id, [])
        certain = RunningTotal(_certain_refunds(refunds)).until(start)
        possible = RunningTotal(_possible_refunds(receipt, refunds)).before(end)
        if certain > receipt.quantity:
            rule, found = "refunded_twice", f"{certain} refunded"
        elif not certain <= receipt.refunded_quantity <= possible:
            rule, found = "untrue_refund", f"the receipt says {receipt.refunded_quantity}"
        else:
            continue
        yield Violation(
            "G3" if rule == "refunded_twice" else "G5",
            rule,
            f"of {_tickets(receipt.quantity)} from {certain} to {possible} refunded",
            found,
            (
                f"purchase {receipt.purchase_id}",
                *_shortened([facts.refund_line(refund) for refund in refunds]),
            ),
        )


def holds_are_kept(facts: Facts) -> Iterator[Violation]:
    """G5: a hold is not called expired or released before its time, or after its confirmation."""
    for purchase_id, hold in facts.holds.items():
        for change in hold.changes:
            if change.done is not False:
                continue
            kept_until = hold.kept_until(change.started_at)
            if change.code == "hold_expired" and change.ended_at < min(kept_until, hold.closes_at):
                rule = "hold_expired_too_early"
                expected = f"the tickets held until {kept_until - facts.started_at:.3f} s at least"
            elif change.code == "hold_released" and not any(
                other.action is HoldAction.RELEASE and other.started_at < change.ended_at
                for other in hold.changes
            ):
                rule, expected = "hold_never_released", "a release before"
            elif change.code in {"hold_expired", "hold_released"} and any(
                other.action is HoldAction.CONFIRM
                and other.done
                and other.ended_at < change.started_at
                for other in hold.changes
            ):
                rule, expected = "refused_although_confirmed", "the receipt of the purchase"
            else:
                continue
            lines = (
                facts.purchase_line(facts.purchases[purchase_id]),
                *(facts.change_line(each) for each in hold.changes),
            )
            yield Violation("G5", rule, expected, f"{change.action}: {change.code}", lines)


def holds_end_once(facts: Facts) -> Iterator[Violation]:
    """G3, G5: a hold is confirmed or released, with one receipt, which is found or is not."""
    lookups = {lookup.purchase_id: lookup for lookup in facts.history.lookups}
    for purchase_id, hold in facts.holds.items():
        receipts = [change.receipt for change in hold.changes if change.receipt is not None]
        lookup = lookups.get(purchase_id)
        found = lookup.receipt if lookup else None
        shown = [*receipts, *([found] if found else [])]
        if any(each.as_bought != shown[0].as_bought for each in shown[1:]):
            rule, expected = "confirmed_twice", "one receipt for all confirmations"
        elif hold.is_confirmed and hold.is_released:
            rule, expected = "confirmed_and_released", "one of both"
        elif hold.is_confirmed and lookup and lookup.status and not found:
            rule, expected = "confirmation_is_missing", "the purchase found again"
        elif found and not hold.may_be_confirmed:
            rule, expected = "bought_without_confirmation", "no purchase"
        else:
            continue
        lines = (
            facts.purchase_line(facts.purchases[purchase_id]),
            *(facts.change_line(each) for each in hold.changes),
        )
        yield Violation("G3", rule, expected, f"lookup: {lookup and lookup.status}", lines)


def payments_pay_once(facts: Facts) -> Iterator[Violation]:
    """G3: a payment pays for one hold, a hold is paid for once, and no payment is refused wrongly.

    Refused are a payment that was used for another hold, and one for a hold that was confirmed.
    """
    confirmations = [
        change
        for change in facts.history.changes
        if change.action is HoldAction.CONFIRM and change.payment_reference is not None
    ]
    for one in confirmations:
        others = [
            other
            for other in facts.history.changes
            if other.action is HoldAction.CONFIRM and other.started_at < one.ended_at
        ]
        same_hold = [each for each in others if each.purchase_id == one.purchase_id]
        same_payment = [
            each
            for each in others
            if each.payment_reference == one.payment_reference
            and each.purchase_id != one.purchase_id
        ]
        different = [each for each in same_hold if each.payment_reference != one.payment_reference]
        if one.done and any(each.done for each in same_payment):
            rule, shown = "payment_pays_for_two_holds", same_payment
        elif one.done and any(
            each.done and (each.payment_reference or each.ended_at < one.started_at)
            for each in different
        ):
            rule, shown = "hold_is_paid_for_twice", different
        elif (one.code == "payment_reused" and not same_payment) or (
            one.code == "already_paid" and all(each.done is False for each in different)
        ):
            rule, shown = "payment_refused", same_hold
        else:
            continue
        lines = [facts.change_line(each) for each in (*shown, one)]
        expected = "one payment for one hold"
        yield Violation("G3", rule, expected, f"{one.code or one.done}", _shortened(lines))


def records_agree(facts: Facts) -> Iterator[Violation]:
    """G4: at rest, counters, records and receipts of the current generation add up to the same."""
    if not facts.generations:
        return
    generation = facts.generations[-1]
    holds = [
        facts.holds[one.receipt.purchase_id]
        for one in generation.purchases
        if one.receipt.purchase_id in facts.holds
    ]
    certain = [
        one
        for one in generation.purchases
        if one.receipt.purchase_id not in facts.holds
        or facts.holds[one.receipt.purchase_id].is_confirmed
    ]
    receipts = len(certain)
    bought = sum(one.receipt.quantity for one in certain)
    sent = [facts.refunds.get(one.receipt.purchase_id, []) for one in generation.purchases]
    refunded = sum(
        tickets
        for one, refunds in zip(generation.purchases, sent, strict=True)
        for _, tickets in _possible_refunds(one.receipt, refunds)
    )
    tickets = bought - refunded
    # A refund without a definite answer may have taken effect or not.
    undecided = refunded - sum(
        tickets for refunds in sent for _, tickets in _certain_refunds(refunds)
    )
    # Neither may a key or a confirmation without one.
    open_keys = [requests for requests in facts.open_keys if not requests[0].is_hold]
    open_holds = [hold for hold in holds if hold.may_be_confirmed and not hold.is_confirmed]
    more_receipts = len(open_keys) + len(open_holds)
    more_tickets = (
        undecided
        + sum(max(request.quantity for request in requests) for requests in open_keys)
        + sum(hold.quantity for hold in open_holds)
    )
    figures: list[tuple[str, int, int, int]] = []
    if audit := facts.history.audit:
        figures += [
            ("GET /audit: generation", audit.generation, generation.number, 0),
            ("GET /audit: purchase_records", audit.purchase_records, receipts, more_receipts),
            ("GET /audit: tickets_in_records", audit.tickets_in_records, tickets, more_tickets),
            ("GET /audit: sold", audit.sold, tickets, more_tickets),
        ]
        if not audit.agrees or audit.problems:
            found = "; ".join(audit.problems) or "agrees is false, and no problem is named"
            yield Violation("G4", "audit_disagrees", "an audit that agrees", found, ("GET /audit",))
    if final := facts.history.final:
        inventory = final.inventory
        figures += [
            ("GET /inventory: generation", inventory.generation, generation.number, 0),
            ("GET /inventory: total_purchases", inventory.total_purchases, tickets, more_tickets),
        ]
    for name, figure, least, more in figures:
        if not least <= figure <= least + more:
            upto = f" to {least + more}" if more else ""
            back = f", of which {refunded} can have been refunded" if refunded else ""
            told = (
                f"{receipts} receipts of generation {generation.number}, {_tickets(bought)}{back}"
            )
            yield Violation(
                "G4",
                "figures_disagree",
                f"{least}{upto}",
                f"{figure}",
                (f"{name} is {figure}", told),
            )


def every_answer_is_in_the_contract(facts: Facts) -> Iterator[Violation]:
    """G6: every answer is definite, or 503 with `Retry-After`. A 500 is neither."""
    for request, attempt in _answers(facts.history.requests):
        if attempt.kind is Kind.UNEXPECTED:
            rule, expected = (
                "unexpected_answer",
                "an answer that the API gives to a well-formed purchase",
            )
        elif attempt.code == "internal_error":
            rule, expected = (
                "internal_error",
                "a definite answer, or 503: 500 is a bug in the service",
            )
        elif (
            attempt.status == STATUS_UNAVAILABLE
            and attempt.code == "busy"
            and attempt.retry_after_seconds is None
        ):
            rule, expected = "busy_without_retry_after", "503 with Retry-After"
        else:
            continue
        yield Violation("G6", rule, expected, _answer(attempt), (facts.line(request, attempt),))


def every_request_is_answered(facts: Facts) -> Iterator[Violation]:
    """G6: every request has a definite answer before the client's patience ends."""
    for request in facts.history.requests:
        if request.last.kind not in NOT_DEFINITE or request.given_up:
            continue
        seconds = request.last.ended_at - request.attempts[0].started_at
        yield Violation(
            "G6",
            "left_without_an_answer",
            "a definite answer within the client's patience",
            f"{request.buyer_id or 'the buyer'} was still {request.last.kind} after "
            f"{len(request.attempts)} attempts "
            f"in {seconds:.1f} s",
            _shortened([facts.line(request, attempt) for attempt in request.attempts]),
        )


RULES: tuple[Callable[[Facts], Iterator[Violation]], ...] = (
    no_oversell,
    one_key_buys_once,
    no_undersell,
    counters_add_up,
    no_sale_in_a_wrong_generation,
    a_reset_takes_effect_once,
    a_receipt_is_not_followed_by_a_refusal,
    one_purchase_belongs_to_one_key,
    a_replay_follows_a_purchase,
    a_key_belongs_to_one_request,
    records_are_durable,
    receipts_say_what_was_asked,
    refunds_take_effect_once,
    holds_are_kept,
    holds_end_once,
    payments_pay_once,
    true_figures_in_refusals,
    records_agree,
    every_answer_is_in_the_contract,
    every_request_is_answered,
)


def _one_per_rule(violations: Iterable[Violation]) -> list[Violation]:
    first: dict[str, Violation] = {}
    for violation in violations:
        known = first.get(violation.rule)
        if known is None:
            first[violation.rule] = violation
        else:
            first[violation.rule] = structs.replace(known, count=known.count + violation.count)
    return list(first.values())


def _answer(attempt: Attempt) -> str:
    status = "no answer" if attempt.status is None else str(attempt.status)
    if attempt.receipt is not None:
        receipt = attempt.receipt
        bought = f"{_tickets(receipt.quantity)}, generation {receipt.generation}"
        return f"{status}, purchase {receipt.purchase_id}, {bought}"
    figure = "" if attempt.left is None else f" ({attempt.left} left)"
    detail = f": {attempt.detail}" if attempt.detail else ""
    return f"{status} {attempt.code or attempt.kind}{figure}{detail}"


def _tickets(quantity: int) -> str:
    return "1 ticket" if quantity == 1 else f"{quantity} tickets"


def _difference(one: Receipt, other: Receipt) -> str:
    names = [
        name for name in Receipt.__struct_fields__ if getattr(one, name) != getattr(other, name)
    ]
    return ", ".join(
        f"{name} {getattr(one, name)!r} and {getattr(other, name)!r}" for name in names
    )


def _shortened(lines: list[str]) -> tuple[str, ...]:
    if len(lines) <= EVIDENCE_LINES_MAX:
        return tuple(lines)
    # The last lines show where it went wrong.
    kept = lines[-(EVIDENCE_LINES_MAX - 2) :]
    return lines[0], f"… {len(lines) - 1 - len(kept)} more …", *kept
