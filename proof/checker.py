"""The checker: a history in, the violations of G1 to G6 out. It is pure, and it must never accuse a right service.

What it takes for granted, and nothing else: all times come from one clock; nobody else buys the item; within a
generation no ticket comes back (no refunds, no holds that expire), so that free tickets only ever get fewer.

Two bounds carry most rules. A purchase cannot have happened before the first request with its key was sent, and it has
happened once a receipt for it has arrived. So at the instant `t` no more tickets can be gone than the requests sent
before `t` have bought in the end, and no fewer than the receipts that had arrived by `t`.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, pairwise
from math import inf

from msgspec import Struct, structs

from proof.history import NOT_DEFINITE, RECEIPTS, REFUSALS, Attempt, History, Kind, Receipt, Request, Reset, Violation

EVIDENCE_LINES_MAX = 8


def check(history: History) -> list[Violation]:
    """Every violation in the history, one per rule, the gravest rules first."""
    seen = Seen.of(history)
    return [violation for rule in RULES for violation in _one_per_rule(rule(seen))]


class Purchase(Struct, frozen=True):
    """One purchase id and what is known of it: who sent its key when, and which receipt came first."""

    receipt: Receipt
    request: Request
    attempt: Attempt
    first_sent_at: float
    first_told_at: float


class Tally:
    """Tickets that were gone at an instant: a step function of time."""

    def __init__(self, steps: Iterable[tuple[float, int]]) -> None:
        ordered = sorted(steps)
        self._times = [time for time, _ in ordered]
        self._sums = [0, *accumulate(tickets for _, tickets in ordered)]

    def before(self, instant: float) -> int:
        """Tickets of the steps earlier than `instant`."""
        return self._sums[bisect_left(self._times, instant)]

    def until(self, instant: float) -> int:
        """Tickets of the steps not later than `instant`."""
        return self._sums[bisect_right(self._times, instant)]


class Generation(Struct, frozen=True):
    """One generation of the sale: the longest time that it can have lived, and the bounds on what was bought in it."""

    number: int
    capacity: int
    opened_at: float
    closed_at: float
    purchases: list[Purchase]
    possible: Tally
    certain: Tally

    def fewest_free(self, instant: float) -> int:
        """Tickets that were free for certain at the instant, and at every earlier one."""
        return self.capacity - self.possible.before(instant)

    def most_free(self, instant: float) -> int:
        """Tickets that can have been free at the instant, or at any later one."""
        return self.capacity - self.certain.until(instant)


class Seen(Struct, frozen=True):
    """A history, put in order once for all the rules."""

    history: History
    started_at: float
    by_key: dict[str, list[Request]]
    purchases: dict[str, Purchase]
    generations: list[Generation]
    open_keys: list[list[Request]]

    @classmethod
    def of(cls, history: History) -> "Seen":
        """Put a history in order."""
        by_key: dict[str, list[Request]] = defaultdict(list)
        for request in history.requests:
            by_key[request.key].append(request)
        purchases = _purchases(by_key)
        one_generation = len(history.resets) == 1
        open_keys = [requests for requests in by_key.values() if _may_have_bought(requests, one_generation)]
        starts = [attempt.started_at for request in history.requests for attempt in request.attempts]
        generations = _generations(history, purchases.values(), open_keys)
        return cls(history, min(starts, default=0.0), dict(by_key), purchases, generations, open_keys)

    def generations_during(self, attempt: Attempt) -> list[Generation]:
        """The generations that a refusal can have spoken of: those alive within it, or within the memory before it.

        None if it can have spoken of what was before the first reset, of which nothing is known.
        """
        earliest = attempt.started_at - self.history.memory_seconds
        if not self.history.resets or earliest <= self.history.resets[0].ended_at:
            return []
        return [one for one in self.generations if one.opened_at <= attempt.ended_at and one.closed_at >= earliest]

    def line(self, request: Request, attempt: Attempt) -> str:
        """One attempt as a line of evidence; seconds since the first request of the history."""
        start, end = attempt.started_at - self.started_at, attempt.ended_at - self.started_at
        copy = f", copy {request.copy}" if request.copy > 1 else ""
        asked = f"key {request.key}{copy}, {request.buyer_id or 'no buyer id'}, {_tickets(request.quantity)}"
        return f"{start:.3f}-{end:.3f} s  {asked} → {_answer(attempt)}"

    def purchase_line(self, purchase: Purchase) -> str:
        """The answer that first told of a purchase."""
        return self.line(purchase.request, purchase.attempt)


def _answers(requests: Iterable[Request]) -> Iterator[tuple[Request, Attempt]]:
    return ((request, attempt) for request in requests for attempt in request.attempts)


def _receipts(requests: Iterable[Request]) -> Iterator[tuple[Request, Attempt, Receipt]]:
    for request, attempt in _answers(requests):
        if attempt.kind in RECEIPTS and attempt.receipt is not None:
            yield request, attempt, attempt.receipt


def _purchases(by_key: dict[str, list[Request]]) -> dict[str, Purchase]:
    purchases: dict[str, Purchase] = {}
    for requests in by_key.values():
        first_sent_at = min(attempt.started_at for _, attempt in _answers(requests))
        for request, attempt, receipt in _receipts(requests):
            known = purchases.get(receipt.purchase_id)
            if known is None or attempt.ended_at < known.first_told_at:
                sent_at = min(first_sent_at, known.first_sent_at) if known else first_sent_at
                purchases[receipt.purchase_id] = Purchase(receipt, request, attempt, sent_at, attempt.ended_at)
            elif first_sent_at < known.first_sent_at:
                purchases[receipt.purchase_id] = structs.replace(known, first_sent_at=first_sent_at)
    return purchases


def _may_have_bought(requests: list[Request], one_generation: bool) -> bool:
    """Whether a key without a receipt may yet have bought.

    In a sale of one generation a refusal settles it: tickets do not come back, so an earlier attempt whose answer was
    lost cannot buy any more. Across a reset it can: the attempt may still be under way, and find the new stock.
    """
    kinds = {attempt.kind for _, attempt in _answers(requests)}
    if kinds & RECEIPTS:
        return False
    refused = bool(kinds & REFUSALS)
    return not refused or (Kind.UNKNOWN in kinds and not one_generation)


def _generations(history: History, purchases: Iterable[Purchase], open_keys: list[list[Request]]) -> list[Generation]:
    opens = [
        (min(attempt.started_at for _, attempt in _answers(requests)), max(request.quantity for request in requests))
        for requests in open_keys
    ]
    by_number: dict[int, list[Purchase]] = defaultdict(list)
    for purchase in purchases:
        by_number[purchase.receipt.generation].append(purchase)
    generations = []
    for position, reset in enumerate(history.resets):
        following = history.resets[position + 1] if position + 1 < len(history.resets) else None
        mine = by_number[reset.generation]
        generations.append(
            Generation(
                number=reset.generation,
                capacity=reset.capacity,
                opened_at=reset.started_at,
                closed_at=following.ended_at if following else inf,
                purchases=sorted(mine, key=lambda purchase: purchase.first_told_at),
                possible=Tally([(one.first_sent_at, one.receipt.quantity) for one in mine] + opens),
                certain=Tally((one.first_told_at, one.receipt.quantity) for one in mine),
            )
        )
    return generations


def no_oversell(seen: Seen) -> Iterator[Violation]:
    """G1: the receipts of a generation never add up to more than its tickets."""
    for generation in seen.generations:
        sold = 0
        for position, purchase in enumerate(generation.purchases, start=1):
            sold += purchase.receipt.quantity
            if sold > generation.capacity:
                total = sum(one.receipt.quantity for one in generation.purchases)
                yield Violation(
                    "G1",
                    "oversold",
                    f"at most {generation.capacity} tickets sold in generation {generation.number}",
                    f"{total} tickets sold, each with a receipt; receipt number {position} is one too many",
                    _shortened([seen.purchase_line(one) for one in generation.purchases[:position]]),
                    total - generation.capacity,
                )
                break


def counters_add_up(seen: Seen) -> Iterator[Violation]:
    """G1: in every sample, and in the audit, no counter is negative and the three add up to the capacity."""
    capacities = {generation.number: generation.capacity for generation in seen.generations}
    samples = [*seen.history.samples, *([seen.history.final] if seen.history.final else [])]
    faces = [
        (
            f"GET /inventory at {sample.started_at - seen.started_at:.3f}-{sample.ended_at - seen.started_at:.3f} s",
            one.generation,
            one.current_stock,
            one.held,
            one.total_purchases,
            one.initial_stock,
        )
        for sample in samples
        for one in [sample.inventory]
    ]
    if audit := seen.history.audit:
        faces.append(("GET /audit", audit.generation, audit.stock, audit.held, audit.sold, audit.capacity))
    for where, number, stock, held, sold, capacity in faces:
        stated = capacities.get(number, capacity)
        if min(stock, held, sold) < 0:
            rule = "counter_is_negative"
        elif stock + held + sold != capacity or capacity != stated:
            rule = "counters_do_not_add_up"
        else:
            continue
        expected = f"stock, held and sold at least 0, and together {stated}, at every instant"
        found = f"stock {stock}, held {held}, sold {sold}, capacity {capacity} in generation {number}"
        yield Violation("G1", rule, expected, found, (where,))


def no_sale_in_a_wrong_generation(seen: Seen) -> Iterator[Violation]:
    """G1: nothing is sold from a generation that was over before the buyer came, or opened after it was answered."""
    by_number = {generation.number: generation for generation in seen.generations}
    for purchase in seen.purchases.values():
        number = purchase.receipt.generation
        generation = by_number.get(number)
        expected = "a receipt of a generation that was open at some instant between request and answer"
        if generation is None and number in _opened_twice(seen.history):
            continue  # `a_reset_takes_effect_once` reports it
        if generation is None:
            found = f"generation {number}, which no reset of this sale has opened"
        elif purchase.first_sent_at > generation.closed_at:
            found = f"generation {number}, which the next reset had closed before the request was sent"
        elif purchase.first_told_at < generation.opened_at:
            found = f"generation {number}, which was opened only after the answer"
        else:
            continue
        yield Violation("G1", "sold_in_a_wrong_generation", expected, found, (seen.purchase_line(purchase),))


def a_reset_takes_effect_once(seen: Seen) -> Iterator[Violation]:
    """G3: one reset, sent again with its key because no answer came, opens one generation."""
    for number, reset in _opened_twice(seen.history).items():
        yield Violation(
            "G3",
            "reset_took_effect_twice",
            "one generation opened by one reset, however often it is sent with its key",
            f"generation {number} by an attempt without an answer, and generation {reset.generation} by another one",
            (f"POST /reset, {reset.attempts} attempts, {reset.started_at:.3f}-{reset.ended_at:.3f} s",),
        )


def _opened_twice(history: History) -> dict[int, Reset]:
    """Generations between two resets of the history, for which only the second one's earlier attempts can be to blame.

    Of what was before the first reset nothing is known.
    """
    return {
        number: reset
        for before, reset in pairwise(history.resets)
        for number in range(before.generation + 1, reset.generation)
        if reset.attempts > 1
    }


def no_undersell(seen: Seen) -> Iterator[Violation]:
    """G2: nobody is refused while, through the whole of the request, enough tickets were free for certain."""
    for request, attempt in _answers(seen.history.requests):
        generations = seen.generations_during(attempt)
        if attempt.kind not in REFUSALS or not generations:
            continue
        free = min(generation.fewest_free(attempt.ended_at) for generation in generations)
        if free >= request.quantity:
            last = generations[-1]
            total = sum(one.receipt.quantity for one in last.purchases)
            yield Violation(
                "G2",
                "undersold",
                f"{_tickets(request.quantity)} for this buyer: at least {free} were free from before the request until "
                "after the answer",
                f"refused with {attempt.code or attempt.kind}. Of {last.capacity} tickets of generation {last.number}, "
                f"{total} were sold in the whole sale, and {last.capacity - free} can have been gone by then",
                (seen.line(request, attempt),),
            )


def true_figures_in_refusals(seen: Seen) -> Iterator[Violation]:
    """G5: "sold out" means none left, and "only k left" means that k were left at some instant."""
    for request, attempt in _answers(seen.history.requests):
        generations = seen.generations_during(attempt)
        # Next to a reset the answer may speak of either generation; the sure cases suffice.
        if attempt.kind not in REFUSALS or len(generations) != 1:
            continue
        fewest = generations[0].fewest_free(attempt.ended_at)
        most = generations[0].most_free(attempt.started_at - seen.history.memory_seconds)
        left = 0 if attempt.kind is Kind.SOLD_OUT else attempt.left
        # A refusal while enough was free is an undersell, and told as that.
        if fewest >= request.quantity:
            continue
        if left is None or left < fewest or left > most or left >= request.quantity:
            yield Violation(
                "G5",
                "untrue_figure_in_a_refusal",
                f"a figure from {max(fewest, 0)} to {most}, and less than the {request.quantity} asked for",
                "no figure" if left is None else f"{left} left",
                (seen.line(request, attempt),),
            )


def one_key_buys_once(seen: Seen) -> Iterator[Violation]:
    """G3: all receipts for one key are one receipt, and one 201 at most is among them."""
    for requests in seen.by_key.values():
        receipts = list(_receipts(requests))
        if not receipts:
            continue
        first = receipts[0]
        bought = [each for each in receipts if each[1].kind is Kind.BOUGHT]
        for other in receipts[1:]:
            if other[2] == first[2]:
                continue
            twice = other[2].purchase_id != first[2].purchase_id
            yield Violation(
                "G3",
                "sold_twice_for_one_key" if twice else "receipt_differs",
                f"the same receipt for key {first[0].key}, however often it is sent",
                _difference(first[2], other[2]),
                (seen.line(*first[:2]), seen.line(*other[:2])),
            )
            break
        else:
            if len(bought) > 1:
                lines = tuple(seen.line(*each[:2]) for each in bought[:2])
                yield Violation("G3", "two_201_for_one_key", "one 201 for one key, and 200 after it", "two 201", lines)


def a_receipt_is_not_followed_by_a_refusal(seen: Seen) -> Iterator[Violation]:
    """G3: a key that has bought is never told "sold out".

    Nor may its copy be that is under way at the same time: free tickets only get fewer, so when there were too few for
    the copy, the purchase had been made, and its record was there to be found.
    """
    for requests in seen.by_key.values():
        receipts = list(_receipts(requests))
        if not receipts:
            continue
        told_at = min(attempt.ended_at for _, attempt, _ in receipts)
        first = min(receipts, key=lambda each: each[1].ended_at)
        for request, attempt in _answers(requests):
            if attempt.kind not in REFUSALS or request.content != first[0].content:
                continue
            spoken_of = {generation.number for generation in seen.generations_during(attempt)}
            if attempt.started_at > told_at or spoken_of == {first[2].generation}:
                yield Violation(
                    "G3",
                    "refused_although_bought",
                    f"the receipt of {first[2].purchase_id} for every copy of key {request.key}",
                    f"one copy has the receipt, another was refused with {attempt.code or attempt.kind}",
                    (seen.line(*first[:2]), seen.line(request, attempt)),
                )
                break


def a_key_belongs_to_one_request(seen: Seen) -> Iterator[Violation]:
    """G3: the same key with another request is refused, and a key is not refused to the request that it belongs to."""
    for requests in seen.by_key.values():
        contents = {request.content for request in requests}
        receipts = list(_receipts(requests))
        told_at = min((attempt.ended_at for _, attempt, _ in receipts), default=inf)
        owner = min(receipts, key=lambda each: each[1].ended_at)[0].content if receipts else None
        for request, attempt in _answers(requests):
            if attempt.kind is Kind.KEY_REUSED and (len(contents) == 1 or request.content == owner):
                expected, found = "the key accepted: every request with it is the same", "idempotency_key_reused"
            elif (
                owner is not None
                and request.content != owner
                and attempt.started_at > told_at
                and attempt.kind not in {Kind.KEY_REUSED, *NOT_DEFINITE}
            ):
                expected, found = "idempotency_key_reused: the key has bought something else", _answer(attempt)
            else:
                continue
            lines = [seen.line(*each[:2]) for each in receipts[:1]] + [seen.line(request, attempt)]
            yield Violation("G3", "key_and_request", expected, found, tuple(lines))


def one_purchase_belongs_to_one_key(seen: Seen) -> Iterator[Violation]:
    """G3: two keys never share a purchase: one of the two buyers would have nothing."""
    owners: dict[str, tuple[Request, Attempt]] = {}
    for request, attempt, receipt in _receipts(seen.history.requests):
        other = owners.setdefault(receipt.purchase_id, (request, attempt))
        if other[0].key != request.key:
            yield Violation(
                "G3",
                "one_purchase_for_two_keys",
                "a purchase of its own for each key",
                f"purchase {receipt.purchase_id} for both",
                (seen.line(*other), seen.line(request, attempt)),
            )


def records_are_durable(seen: Seen) -> Iterator[Violation]:
    """G5: what a receipt tells of is found again, unchanged."""
    for lookup in seen.history.lookups:
        purchase = seen.purchases.get(lookup.purchase_id)
        if purchase is None or lookup.receipt == purchase.receipt:
            continue
        if lookup.receipt is not None:
            rule, found = "record_differs", _difference(purchase.receipt, lookup.receipt)
        elif lookup.status is not None:
            rule, found = "record_is_missing", f"GET /purchases/{lookup.purchase_id} answers {lookup.status}"
        else:
            rule, found = "record_not_readable", f"GET /purchases/{lookup.purchase_id} got no definite answer"
        expected = f"the purchase {lookup.purchase_id} found again as its receipt says"
        yield Violation("G5", rule, expected, found, (seen.purchase_line(purchase),))


def receipts_say_what_was_asked(seen: Seen) -> Iterator[Violation]:
    """G5: a receipt is of this item, this quantity and this buyer, and confirmed."""
    for request, attempt, receipt in _receipts(seen.history.requests):
        said = (receipt.item_id, receipt.quantity, receipt.buyer_id)
        if said != request.content or receipt.status != "confirmed":
            yield Violation(
                "G5",
                "receipt_of_something_else",
                "a confirmed receipt of item {}, quantity {}, buyer {}".format(*request.content),
                "{} of item {}, quantity {}, buyer {}".format(receipt.status, *said),
                (seen.line(request, attempt),),
            )


def records_agree(seen: Seen) -> Iterator[Violation]:
    """G4: at rest, counters, records and receipts of the current generation are the same sum."""
    if not seen.generations:
        return
    generation = seen.generations[-1]
    receipts = len(generation.purchases)
    tickets = sum(one.receipt.quantity for one in generation.purchases)
    # A key without a definite answer may have bought, or not.
    more_receipts = len(seen.open_keys)
    more_tickets = sum(max(request.quantity for request in requests) for requests in seen.open_keys)
    figures: list[tuple[str, int, int, int]] = []
    if audit := seen.history.audit:
        figures += [
            ("GET /audit: generation", audit.generation, generation.number, 0),
            ("GET /audit: purchase_records", audit.purchase_records, receipts, more_receipts),
            ("GET /audit: tickets_in_records", audit.tickets_in_records, tickets, more_tickets),
            ("GET /audit: sold", audit.sold, tickets, more_tickets),
        ]
        if not audit.agrees or audit.problems:
            found = "; ".join(audit.problems) or "agrees is false, and no problem is named"
            yield Violation("G4", "audit_disagrees", "an audit that agrees", found, ("GET /audit",))
    if final := seen.history.final:
        inventory = final.inventory
        figures += [
            ("GET /inventory: generation", inventory.generation, generation.number, 0),
            ("GET /inventory: total_purchases", inventory.total_purchases, tickets, more_tickets),
        ]
    for name, figure, least, more in figures:
        if not least <= figure <= least + more:
            upto = f" to {least + more}" if more else ""
            told = f"{receipts} receipts of generation {generation.number}, {_tickets(tickets)}"
            yield Violation("G4", "figures_disagree", f"{least}{upto}", f"{figure}", (f"{name} is {figure}", told))


def every_answer_is_in_the_contract(seen: Seen) -> Iterator[Violation]:
    """G6: an answer is a definite one, or 503 with `Retry-After`; a bug's 500 is neither."""
    for request, attempt in _answers(seen.history.requests):
        if attempt.kind is Kind.UNEXPECTED:
            rule, expected = "unexpected_answer", "an answer that the API gives to a well-formed purchase"
        elif attempt.code == "internal_error":
            rule, expected = "internal_error", "a definite answer, or 503: 500 is a bug in the service"
        elif attempt.status == 503 and attempt.code == "busy" and attempt.retry_after_seconds is None:  # noqa: PLR2004
            rule, expected = "busy_without_retry_after", "503 with Retry-After"
        else:
            continue
        yield Violation("G6", rule, expected, _answer(attempt), (seen.line(request, attempt),))


def everybody_is_answered(seen: Seen) -> Iterator[Violation]:
    """G6: nobody is left without a definite answer when the patience of the client ends."""
    for request in seen.history.requests:
        if request.last.kind not in NOT_DEFINITE:
            continue
        seconds = request.last.ended_at - request.attempts[0].started_at
        yield Violation(
            "G6",
            "left_without_an_answer",
            "a definite answer within the client's patience",
            f"{request.buyer_id or 'the buyer'} was still {request.last.kind} after {len(request.attempts)} attempts "
            f"in {seconds:.1f} s",
            _shortened([seen.line(request, attempt) for attempt in request.attempts]),
        )


RULES: tuple[Callable[[Seen], Iterator[Violation]], ...] = (
    no_oversell,
    one_key_buys_once,
    no_undersell,
    counters_add_up,
    no_sale_in_a_wrong_generation,
    a_reset_takes_effect_once,
    a_receipt_is_not_followed_by_a_refusal,
    one_purchase_belongs_to_one_key,
    a_key_belongs_to_one_request,
    records_are_durable,
    receipts_say_what_was_asked,
    true_figures_in_refusals,
    records_agree,
    every_answer_is_in_the_contract,
    everybody_is_answered,
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
    names = [name for name in Receipt.__struct_fields__ if getattr(one, name) != getattr(other, name)]
    return ", ".join(f"{name} {getattr(one, name)!r} and {getattr(other, name)!r}" for name in names)


def _shortened(lines: list[str]) -> tuple[str, ...]:
    if len(lines) <= EVIDENCE_LINES_MAX:
        return tuple(lines)
    # The last lines tell more than the first: they are where it went wrong.
    kept = lines[-(EVIDENCE_LINES_MAX - 2) :]
    return lines[0], f"… {len(lines) - 1 - len(kept)} more …", *kept
