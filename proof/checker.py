"""The checker: a history in, the violations of G1 to G6 out. Pure, and without false positives.

Assumptions: all times come from one clock. Only the buyers of the history buy or hold the item.
Only its refunds, and the ends of its holds, give tickets back.

Two bounds carry most rules. A purchase cannot have happened before the first request with its key
was sent, and it has happened when a receipt for it has arrived. So at the instant `t` the tickets
sold are at most those of requests sent before `t`, and at least those of receipts that arrived by
`t`. Refunds are bounded in the same way, and so are holds: a hold is a purchase whose tickets come
back when it is released or expires, unless it was confirmed before (`proof.holds`).
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from math import inf

from msgspec import Struct, structs

from proof.exports import exports_are_complete
from proof.facts import (
    Capacity,
    Facts,
    Generation,
    RunningTotal,
    Taken,
    answer_text,
    answers_of,
    certain_refunds,
    possible_refunds,
    receipts_of,
    tickets_text,
)
from proof.history import (
    NONE_LEFT,
    NOT_DEFINITE,
    REFUSALS,
    REFUSALS_FOR_NOW,
    SHORTAGES,
    Attempt,
    Evidence,
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

HOLD_STATUSES = frozenset({"held", "expired", "released", "confirmed", "refunded"})
EVIDENCE_LINES_MAX = 8
STATUS_UNAVAILABLE = 503


def check(history: History) -> list[Violation]:
    """Return all violations in the history, one per rule, the most serious rules first."""
    facts = Facts.of(history)
    return [violation for rule in RULES for violation in _one_per_rule(rule(facts))]


def no_oversell(facts: Facts) -> Iterator[Violation]:
    """G1: the receipts of a generation never add up to more than its tickets."""
    for generation in facts.generations:
        taken = generation.taken
        capacity = generation.capacity
        if above := taken.first_above(capacity):
            told_at, position = above
            most = capacity.most(told_at, told_at)
            back = taken.possibly_back.before(told_at)
            total = taken.certain.until(inf) - back
            yield Violation(
                "G1",
                "oversold",
                f"at most {most} tickets sold in generation {generation.number}",
                f"{total} tickets sold, each with a receipt; receipt number {position} is "
                f"one too many{f', although {back} can have come back' if back else ''}",
                _receipt_lines(facts, taken, told_at),
                total - most,
            )


def no_buyer_over_limit(facts: Facts) -> Iterator[Violation]:
    """G1: the receipts of a buyer never add up to more than the limit; all name their buyer."""
    for generation in facts.generations:
        limit = generation.per_buyer_limit
        if limit is None:
            continue
        for buyer_id, taken in generation.by_buyer.items():
            most = 0 if buyer_id is None else limit
            above = taken.first_above(Capacity.fixed(most))
            if above is None:
                continue
            expected = f"at most {tickets_text(limit)} for each buyer"
            if buyer_id is None:
                expected = "a buyer_id in each request of a sale with a limit"
            yield Violation(
                "G1",
                "buyer_over_limit",
                f"{expected}, in generation {generation.number}",
                f"receipt number {above[1]} of {buyer_id or 'buyers without one'} is one too many",
                _receipt_lines(facts, taken, above[0]),
            )


def _receipt_lines(facts: Facts, taken: Taken, told_at: float) -> tuple[Evidence, ...]:
    """Return the receipts that had arrived by then."""
    return _shortened(
        [facts.purchase_line(one) for one in taken.purchases if one.first_told_at <= told_at]
    )


class Counters(Struct, frozen=True):
    """What the inventory or the audit says of a generation. window: between these instants."""

    where: Evidence
    generation: int
    stock: int
    held: int
    sold: int
    capacity: int
    window: tuple[float, float]

    @classmethod
    def all_of(cls, facts: Facts) -> Iterator["Counters"]:
        """Yield those of all samples, and of the audit, which was at rest."""
        final = facts.history.final
        for sample in [*facts.history.samples, *([final] if final else [])]:
            one, start, end = sample.inventory, sample.started_at, sample.ended_at
            yield cls(
                where=facts.read_line("GET /inventory", sample),
                generation=one.generation,
                stock=one.current_stock,
                held=one.held,
                sold=one.total_purchases,
                capacity=one.initial_stock,
                window=(start - facts.history.cache_seconds, end),
            )
        if audit := facts.history.audit:
            counters = audit.stock, audit.held, audit.sold, audit.capacity
            yield cls(Evidence("GET /audit"), audit.generation, *counters, window=(inf, inf))

    @property
    def text(self) -> str:
        """Return them in words."""
        return (
            f"stock {self.stock}, held {self.held}, sold {self.sold}, capacity {self.capacity} "
            f"in generation {self.generation}"
        )


def counters_add_up(facts: Facts) -> Iterator[Violation]:
    """G1: in all samples and the audit, counters are not negative and add up to the capacity.

    While the organiser changes that, a sample may show tickets twice that move between two shards,
    or not at all, because it does not read them at one instant.
    """
    generations = {generation.number: generation for generation in facts.generations}
    for seen in Counters.all_of(facts):
        least = most = seen.capacity
        if seen.generation in generations and not facts.is_capacity_changed_in(*seen.window):
            capacity = generations[seen.generation].capacity
            least, most = capacity.least(*seen.window), capacity.most(*seen.window)
        if min(seen.stock, seen.held, seen.sold) < 0:
            rule = "counter_is_negative"
        elif (
            seen.stock + seen.held + seen.sold != seen.capacity
            or not least <= seen.capacity <= most
        ):
            rule = "counters_do_not_add_up"
        else:
            continue
        stated = str(least) if least == most else f"{least} to {most}"
        expected = f"stock, held and sold at least 0, and together {stated}, at every instant"
        yield Violation("G1", rule, expected, seen.text, (seen.where,))


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
            (facts.read_line(f"POST /reset, {reset.attempts} attempts,", reset),),
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
    for request, attempt in answers_of(facts.history.requests):
        start, end = facts.window(request, attempt)
        generations = facts.generations_during(start, end)
        if attempt.kind not in SHORTAGES or not generations:
            continue
        free = min(generation.fewest_free(start, end) for generation in generations)
        if free >= request.quantity:
            last = generations[-1]
            least = last.capacity.least(start, end)
            total = sum(one.receipt.quantity for one in last.purchases)
            yield Violation(
                "G2",
                "undersold",
                f"{tickets_text(request.quantity)} for this buyer: at least {free} were free from "
                "before the request until "
                "after the answer",
                f"refused with {attempt.code or attempt.kind}. Of {least} tickets of "
                f"generation {last.number}, "
                f"{total} were sold in the whole sale, and {least - free} can have been "
                "gone by then",
                (facts.line(request, attempt),),
            )


def nothing_is_sold_while_paused(facts: Facts) -> Iterator[Violation]:
    """G1: no request buys that begins in a pause and ends in it.

    Processes need some time to learn of it: `History.pause_seconds`.
    """
    for request, attempt in answers_of(facts.history.requests):
        for pause in facts.history.pauses:
            known_at = pause.closed_at + facts.history.pause_seconds
            if (
                attempt.kind is Kind.BOUGHT
                and attempt.started_at >= known_at
                and attempt.ended_at <= pause.reopens_at
            ):
                start, end = (at - facts.started_at for at in (pause.closed_at, pause.reopens_at))
                yield Violation(
                    "G1",
                    "sold_while_paused",
                    f"nothing sold from {start:.3f} to {end:.3f} s, when the sale was paused",
                    answer_text(attempt),
                    (facts.line(request, attempt),),
                )


def a_sale_is_not_open_only_in_a_pause(facts: Facts) -> Iterator[Violation]:
    """G2: no request is told that the sale is not open, which was open all the time."""
    for request, attempt in answers_of(facts.history.requests):
        start, end = facts.window(request, attempt)
        if attempt.kind is Kind.NOT_OPEN and not any(
            pause.began_at <= end and start <= pause.ended_at for pause in facts.history.pauses
        ):
            yield Violation(
                "G2",
                "refused_while_open",
                "an order accepted: the sale was open from before the request until after the "
                "answer",
                answer_text(attempt),
                (facts.line(request, attempt),),
            )


def a_capacity_is_refused_truly(facts: Facts) -> Iterator[Violation]:
    """G5: a capacity is refused only where more tickets are sold and held, by their number."""
    for change in facts.history.capacity_changes:
        generations = facts.generations_during(change.started_at, change.ended_at)
        if change.done is not False or len(generations) != 1 or change.capacity is None:
            continue
        taken = generations[0].taken
        fewest = max(taken.fewest(change.started_at, change.ended_at), change.capacity + 1)
        most = taken.most(change.started_at, change.ended_at)
        if change.lowest is None or not fewest <= change.lowest <= most:
            yield Violation(
                "G5",
                "capacity_refused_wrongly",
                f"a capacity of {change.capacity}, or a refusal with {fewest} to {most}",
                f"refused with {change.lowest}",
                (facts.capacity_line(change),),
            )


def limits_are_true(facts: Facts) -> Iterator[Violation]:
    """G2, G5: a buyer is refused for the limit only where it is, or may be, used up.

    A missing buyer_id is refused only where the sale has a limit.
    """
    for request, attempt in answers_of(facts.history.requests):
        start, end = facts.window(request, attempt)
        generations = facts.generations_during(start, end)
        if attempt.kind is Kind.BUYER_UNKNOWN and generations:
            is_limited = any(each.per_buyer_limit is not None for each in generations)
            if request.buyer_id is None and is_limited:
                continue
            rule, guarantee = "buyer_known_or_not_needed", "G5"
            expected = "an order: it names its buyer, or the sale has no limit"
        elif attempt.kind is Kind.LIMIT_REACHED and generations:
            bounds = [each.left_of_limit(request.buyer_id, start, end) for each in generations]
            least, most = min(low for low, _ in bounds), max(high for _, high in bounds)
            left = attempt.left
            if least >= request.quantity:
                rule, guarantee = "refused_within_limit", "G2"
                expected = f"an order of {request.quantity}: this buyer could get at least {least}"
            elif left is None or not least <= left <= min(most, request.quantity - 1):
                rule, guarantee = "untrue_figure_of_limit", "G5"
                expected = f"a figure from {least} to {most}, and less than {request.quantity}"
            else:
                continue
        else:
            continue
        line = facts.line(request, attempt)
        yield Violation(guarantee, rule, expected, answer_text(attempt), (line,))


def true_figures_in_refusals(facts: Facts) -> Iterator[Violation]:
    """G5: "sold out" means none left; "only k left" means that k were left at some instant."""
    for request, attempt in answers_of(facts.history.requests):
        start, end = facts.window(request, attempt)
        generations = facts.generations_during(start, end)
        # Next to a reset the answer may refer to either generation; the certain cases are enough.
        if attempt.kind not in SHORTAGES or len(generations) != 1:
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
        receipts = list(receipts_of(requests))
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
    it includes every copy with a refusal that is on record, because that is final. A sale that is
    not open is so for one copy sooner than for another.
    """
    for requests in facts.by_key.values():
        receipts = list(receipts_of(requests))
        if not receipts:
            continue
        told_at = min(attempt.ended_at for _, attempt, _ in receipts)
        first = min(receipts, key=lambda each: each[1].ended_at)
        for request, attempt in answers_of(requests):
            if attempt.kind not in REFUSALS_FOR_NOW or request.content != first[0].content:
                continue
            spoken_of = facts.generations_during(*facts.window(request, attempt))
            numbers = {one.number for one in spoken_of}
            had_bought = (
                attempt.kind in REFUSALS
                and numbers == {first[2].generation}
                and all(one.only_gets_fewer(max(told_at, attempt.ended_at)) for one in spoken_of)
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
            (each for each in answers_of(requests) if each[1].kind is Kind.REPLAYED),
            key=lambda each: each[1].ended_at,
            default=None,
        )
        if replay is None:
            continue
        earlier = [
            each for each in answers_of(requests) if each[1].started_at <= replay[1].ended_at
        ]
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
        receipts = list(receipts_of(requests))
        told_at = min((attempt.ended_at for _, attempt, _ in receipts), default=inf)
        owner = min(receipts, key=lambda each: each[1].ended_at)[0].content if receipts else None
        for request, attempt in answers_of(requests):
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
                    answer_text(attempt),
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
    for request, attempt, receipt in receipts_of(facts.history.requests):
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
    for request, attempt, receipt in receipts_of(facts.history.requests):
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
        for _, attempt, receipt in receipts_of(facts.history.requests)
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
        certain = RunningTotal(certain_refunds(refunds)).until(start)
        possible = RunningTotal(possible_refunds(receipt, refunds)).before(end)
        if certain > receipt.quantity:
            rule, found = "refunded_twice", f"{certain} refunded"
        elif not certain <= receipt.refunded_quantity <= possible:
            rule, found = "untrue_refund", f"the receipt says {receipt.refunded_quantity}"
        else:
            continue
        yield Violation(
            "G3" if rule == "refunded_twice" else "G5",
            rule,
            f"of {tickets_text(receipt.quantity)} from {certain} to {possible} refunded",
            found,
            (
                Evidence(f"purchase {receipt.purchase_id}"),
                *_shortened([facts.refund_line(refund) for refund in refunds]),
            ),
        )


def holds_are_kept(facts: Facts) -> Iterator[Violation]:
    """G5: a hold is not called expired or released before its time, or after its confirmation.

    Without a payment it is not confirmed after its time.
    """
    for purchase_id, hold in facts.holds.items():
        for change in hold.changes:
            kept_until = min(hold.kept_until(change.started_at), hold.closes_at)
            is_sold = change.action is HoldAction.CONFIRM and change.done and not change.replayed
            if is_sold and not change.payment_reference and change.started_at > hold.is_over_at:
                rule, expected = "confirmed_too_late", "hold_expired: it was not paid for"
            elif change.done is not False:
                continue
            elif change.code == "hold_expired" and change.ended_at < kept_until:
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
            found = f"{change.action}: {change.code or 'done'}"
            yield Violation("G5", rule, expected, found, facts.hold_lines(purchase_id))


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
        answer = f"lookup: {lookup and lookup.status}"
        yield Violation("G3", rule, expected, answer, facts.hold_lines(purchase_id))


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
            each.done
            and (each.payment_reference or (not each.replayed and each.ended_at < one.started_at))
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


class ExpectedRecords(Struct, frozen=True):
    """What the records of a generation must add up to, and how much more they may.

    tickets: sold and not refunded. refunded: can have been.
    """

    records: int
    more_records: int
    tickets: int
    more_tickets: int
    refunded: int

    @classmethod
    def of(cls, facts: Facts, generation: Generation) -> "ExpectedRecords":
        """Return what the receipts of a generation say. Only confirmed holds are purchases."""
        purchases = generation.purchases
        holds = {
            one.receipt.purchase_id: facts.holds[one.receipt.purchase_id]
            for one in purchases
            if one.receipt.purchase_id in facts.holds
        }
        sold = [
            one.receipt.quantity
            for one in purchases
            if one.receipt.purchase_id not in holds or holds[one.receipt.purchase_id].is_confirmed
        ]
        sent = [facts.refunds.get(one.receipt.purchase_id, []) for one in purchases]
        possible = [
            tickets
            for one, refunds in zip(purchases, sent, strict=True)
            for _, tickets in possible_refunds(one.receipt, refunds)
        ]
        certain = [tickets for refunds in sent for _, tickets in certain_refunds(refunds)]
        # A key, a confirmation or a refund without a definite answer may have taken effect or not.
        open_sales = [
            max(request.quantity for request in requests if not request.is_hold)
            for requests in facts.open_keys
            if not all(request.is_hold for request in requests)
        ] + [
            hold.quantity
            for hold in holds.values()
            if hold.may_be_confirmed and not hold.is_confirmed
        ]
        return cls(
            records=len(sold),
            more_records=len(open_sales),
            tickets=sum(sold) - sum(possible),
            more_tickets=sum(open_sales) + sum(possible) - sum(certain),
            refunded=sum(possible),
        )


def records_agree(facts: Facts) -> Iterator[Violation]:
    """G4: at rest, counters, records and receipts of the current generation add up to the same."""
    if not facts.generations:
        return
    generation = facts.generations[-1]
    right = ExpectedRecords.of(facts, generation)
    records, tickets = (right.records, right.more_records), (right.tickets, right.more_tickets)
    figures: list[tuple[str, int, tuple[int, int]]] = []
    if audit := facts.history.audit:
        figures += [
            ("GET /audit: generation", audit.generation, (generation.number, 0)),
            ("GET /audit: purchase_records", audit.purchase_records, records),
            ("GET /audit: tickets_in_records", audit.tickets_in_records, tickets),
            ("GET /audit: sold", audit.sold, tickets),
        ]
        if not audit.agrees or audit.problems:
            found = "; ".join(audit.problems) or "agrees is false, and no problem is named"
            shown = (Evidence("GET /audit"),)
            yield Violation("G4", "audit_disagrees", "an audit that agrees", found, shown)
    if final := facts.history.final:
        inventory = final.inventory
        figures += [
            ("GET /inventory: generation", inventory.generation, (generation.number, 0)),
            ("GET /inventory: total_purchases", inventory.total_purchases, tickets),
        ]
    for name, figure, (least, more) in figures:
        if not least <= figure <= least + more:
            upto = f" to {least + more}" if more else ""
            bought = tickets_text(right.tickets + right.refunded)
            back = f", of which {right.refunded} can have been refunded" if right.refunded else ""
            told = f"{right.records} receipts of generation {generation.number}, {bought}{back}"
            yield Violation(
                "G4",
                "figures_disagree",
                f"{least}{upto}",
                f"{figure}",
                (Evidence(f"{name} is {figure}"), Evidence(told)),
            )


def every_answer_is_in_the_contract(facts: Facts) -> Iterator[Violation]:
    """G6: every answer is definite, or 503 with `Retry-After`. A 500 is neither."""
    for request, attempt in answers_of(facts.history.requests):
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
        yield Violation("G6", rule, expected, answer_text(attempt), (facts.line(request, attempt),))


def no_change_of_a_hold_fails(facts: Facts) -> Iterator[Violation]:
    """G6: no change of a hold is answered with 500."""
    for change in facts.history.changes:
        if change.code == "internal_error":
            expected = "a definite answer, or 503: 500 is a bug in the service"
            line = facts.change_line(change)
            yield Violation("G6", "internal_error", expected, change.code, (line,))


def every_request_is_answered(facts: Facts) -> Iterator[Violation]:
    """G6: every request has a definite answer before the client's patience ends."""
    for request in facts.history.requests:
        if request.last.kind not in NOT_DEFINITE or request.given_up:
            continue
        seconds = request.waiting_seconds
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
    no_buyer_over_limit,
    one_key_buys_once,
    no_undersell,
    nothing_is_sold_while_paused,
    a_sale_is_not_open_only_in_a_pause,
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
    a_capacity_is_refused_truly,
    limits_are_true,
    true_figures_in_refusals,
    records_agree,
    exports_are_complete,
    every_answer_is_in_the_contract,
    no_change_of_a_hold_fails,
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


def _difference(one: Receipt, other: Receipt) -> str:
    names = [
        name for name in Receipt.__struct_fields__ if getattr(one, name) != getattr(other, name)
    ]
    return ", ".join(
        f"{name} {getattr(one, name)!r} and {getattr(other, name)!r}" for name in names
    )


def _shortened(lines: list[Evidence]) -> tuple[Evidence, ...]:
    if len(lines) <= EVIDENCE_LINES_MAX:
        return tuple(lines)
    # The last lines show where it went wrong.
    kept = lines[-(EVIDENCE_LINES_MAX - 2) :]
    return lines[0], Evidence(f"… {len(lines) - 1 - len(kept)} more …"), *kept
