"""Mistakes that are easy to make, and the simulation that catches each of them.

python -m simulation.mutants

A mutant is the functions with one line changed. It is built in a folder of its own and simulated in
a new process, with the seed that is stated beside it. That was the first from 1 on that broke the
stated guarantee when it was last searched (`--find`): change it where the simulation has changed.
The functions as they are break no guarantee with these seeds.
"""

import argparse
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import proof.caught
from proof.caught import Caught
from simulation import pool
from simulation import run as run_command

ROOT: Final = Path(__file__).resolve().parent.parent
FUNCTIONS: Final = ROOT / "functions"
BUYERS: Final = 200
SEEDS_MAX: Final = 2000  # of a search
# What all mutants have in common, and what takes longest to import.
PACKAGES: Final = [
    "aws_lambda_powertools",
    "boto3",
    "greenlet",
    "httpx",
    "moto.dynamodb.comparisons",
    "moto.dynamodb.parsing.expressions",
    "msgspec",
]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake. guarantee: that it breaks. seed: with which it is caught.

    file: below functions/ticketing. right, wrong: text of it, and what the mistake makes of that.
    only: the faults that the seed may have, where others hide the mistake; (): all of them.
    """

    mistake: str
    guarantee: str
    seed: int
    file: str
    right: str
    wrong: str
    only: tuple[str, ...] = ()


MUTANTS: Final = (
    Mutant(
        "a shard without tickets sells one more",
        "G1",
        1,
        "store/table.py",
        '"{debit} > :zero"',
        '"{debit} >= :zero"',
    ),
    Mutant(
        "several tickets are taken where one is left",
        "G1",
        2,
        "store/table.py",
        "if one else [_SOMETHING_LEFT, _ENOUGH_LEFT]",
        "",
    ),
    Mutant(
        "the shard's generation is not checked",
        "G4",
        13,
        "store/table.py",
        '["updated_at = :now"], [_SAME_GENERATION]',
        '["updated_at = :now"], ["generation <= :generation"]',
    ),
    Mutant(
        "a shard can be opened twice in one generation",
        "G4",
        28,
        "store/table.py",
        "self._opening(sale, index, _OLDER)",
        'self._opening(sale, index, "generation <= :generation")',
    ),
    Mutant(
        "a shard opens with the whole capacity",
        "G1",
        1,
        "store/table.py",
        "else sale.share(index)",
        "else sale.capacity",
    ),
    Mutant(
        "a reset leaves the last shard open to the old generation",
        "G1",
        1,
        "resizing.py",
        "for index in range(sale.shards_ever):",
        "for index in range(sale.shards_ever - 1):",
    ),
    Mutant(
        "a reset that is sent again does not finish the first",
        "G1",
        7,
        "resizing.py",
        "if stored.get(index, 0) < sale.generation:",
        "if index not in stored:",
    ),
    Mutant(
        "a sale forgets the shards of larger generations",
        "G4",
        2,
        "rules.py",
        "shards_ever=max(shard_count, before.shards_ever)",
        "shards_ever=shard_count",
    ),
    Mutant(
        "a conflict is read as sold out",
        "G2",
        7,
        "taking.py",
        "            raise TryAgain\n        raise Contended\n",
        "            raise TryAgain\n        return cached.too_few\n",
    ),
    Mutant(
        "the last shard is never visited",
        "G4",
        1,
        "rules.py",
        "for index in range(sale.shard_count)]",
        "for index in range(sale.shard_count - 1)]",
    ),
    Mutant(
        "a cached refusal has no end",
        "G2",
        8,
        "sale_cache.py",
        "if is_younger(taken_after, now, CACHE_SECONDS) else None",
        "if taken_after else None",
    ),
    Mutant(
        "the age of a stock summary is its writer's word",
        "G2",
        44,
        "sale_cache.py",
        "taken_after = self.summary.taken_after(summary.published)",
        "taken_after = summary.written_at / 1000",
    ),
    Mutant(
        "a stock summary is as young as the look that finds it",
        "G2",
        8,
        "sale_cache.py",
        "if revision <= published - 2]",
        "]",
    ),
    Mutant(
        "the claim of a stock summary counts as a new one",
        "G2",
        161,
        "stock_reader.py",
        "claim = replace(summary, revision=seen.claim, ",
        "claim = replace(summary, revision=seen.claim, published=seen.claim, ",
    ),
    Mutant(
        "what a process took itself counts as sold out",
        "G5",
        2,
        "sale_cache.py",
        "return seen if seen.left < quantity else None",
        "return seen",
    ),
    Mutant(
        "the record is put unconditionally",
        "G3",
        1,
        "store/table.py",
        "record)\n            return self._put(item, _NOT_THERE)",
        'record)\n            return {"TableName": self._table, "Item": item}',
    ),
    Mutant(
        "a refusal does not look the record up",
        "G3",
        1,
        "buying.py",
        "if order.keyed else None",
        "if False else None",
    ),
    Mutant(
        "the record is looked up with an eventually consistent read",
        "G3",
        6,
        "store/table.py",
        "Key=key, ConsistentRead=True",
        "Key=key",
    ),
    Mutant(
        "the purchase id is random although there is a key",
        "G3",
        1,
        "rules.py",
        "    if key is None:\n",
        "    if key:\n",
    ),
    Mutant(
        "the key counts together with the quantity",
        "G3",
        2,
        "rules.py",
        "json.dumps([item_id, buyer_id, key])",
        "json.dumps([item_id, buyer_id, key, quantity])",
    ),
    Mutant(
        "the key of another request is not refused",
        "G3",
        2,
        "rules.py",
        "if found.fingerprint != order.fingerprint:",
        "if not found:",
    ),
    Mutant(
        "a reset forgets its key",
        "G3",
        7,
        "organising.py",
        "made = old.used_key(self.key) if old else None",
        "made = None",
    ),
    Mutant(
        "cancellation reasons are read in another order than the actions",
        "G6",
        1,
        "store/faults.py",
        "zip(names, reasons_of(error), strict=True)",
        "zip(sorted(names), reasons_of(error), strict=True)",
    ),
    Mutant(
        "more tickets are taken than were asked for",
        "G4",
        9,
        "rules.py",
        "taken[index] = min(stock[index], quantity)",
        "taken[index] = stock[index]",
    ),
    Mutant(
        "a shard forgets what it sold in earlier generations",
        "G4",
        2,
        "store/table.py",
        '"sold_before = if_not_exists(sold_before, :zero) + if_not_exists(sold, :zero)"',
        '"sold_before = if_not_exists(sold_before, :zero)"',
    ),
    Mutant(
        "a lost reply is reported as a failure",
        "G5",
        2,
        "store/faults.py",
        "ResponseParserError():\n            return OutcomeUnknown()",
        "ResponseParserError():\n            return Contended()",
    ),
    Mutant(
        "a lost reply is taken for a success",
        "G5",
        1,
        "retry.py",
        "            self.in_doubt.append(written)\n            raise\n",
        "            return None\n",
    ),
    Mutant(
        "what is in doubt is forgotten",
        "G5",
        4,
        "retry.py",
        "            self.in_doubt.append(written)\n            raise\n",
        "            raise\n",
    ),
    Mutant(
        "a refusal without a key forgets what is in doubt",
        "G5",
        25,
        "buying.py",
        "return bool(self._attempts.in_doubt)",
        "return self._order.keyed and bool(self._attempts.in_doubt)",
    ),
    Mutant(
        "a receipt of an earlier attempt is called a replay",
        "G5",
        4,
        "buying.py",
        "replayed=not is_own",
        "replayed=True",
    ),
    Mutant(
        "store calls start after the deadline",
        "G6",
        4,
        "store/table.py",
        "        self._deadline.check()\n",
        "",
    ),
    Mutant(
        "busy does not say when to come back",
        "G6",
        4,
        "api/problems.py",
        'headers={"Retry-After": str(error.retry_after_seconds)}',
        "headers={}",
    ),
    Mutant(
        "a throttle is taken for a bug",
        "G6",
        1,
        "store/faults.py",
        '    "ThrottlingException",\n',
        "",
    ),
    Mutant(
        "a plain read of all shards decides that too few are left",
        "G5",
        69,
        "stock_reader.py",
        "shards = self.store.snapshot(cached.sale)",
        "shards = self.store.read_shards(cached.sale)",
        only=("refund",),
    ),
    Mutant(
        "a refusal with an attempt in doubt is not put on record",
        "G5",
        25,
        "buying.py",
        "if not self._can_still_buy():",
        "if True:",
    ),
    Mutant(
        "a refusal on record is not the answer for its key",
        "G5",
        4,
        "rules.py",
        "if found.is_refused:",
        "if False:",
    ),
    Mutant(
        "a refund does not check that its record is unchanged",
        "G3",
        10,
        "store/table.py",
        '"#status = :before AND attribute_not_exists(revision)"',
        '"#status = :before"',
    ),
    Mutant(
        "a refund forgets its key",
        "G3",
        9,
        "refunding.py",
        "made = purchase.refunds.get(self.key)",
        "made = None",
    ),
    Mutant(
        "more is refunded than was bought",
        "G3",
        9,
        "refunding.py",
        "if quantity > purchase.kept_quantity:",
        "if quantity > purchase.quantity:",
    ),
    Mutant(
        "a refund in part gives all tickets back",
        "G4",
        9,
        "rules.py",
        "else _from_fullest(purchase.taken, quantity)",
        "else dict(purchase.taken)",
    ),
    Mutant(
        "the audit expects tickets back that were refunded after a reset",
        "G4",
        7,
        "tally.py",
        "most = kept if record.generation == self.generation else record.quantity",
        "most = kept",
    ),
    Mutant(
        "a receipt does not show its refunds",
        "G5",
        7,
        "api/schemas.py",
        "refunded_quantity=purchase.refunded_quantity",
        "refunded_quantity=0",
    ),
    Mutant(
        "a receipt that was refunded before its answer is called a replay",
        "G5",
        181,
        "buying.py",
        "any(found.was_put_by(attempt) for attempt in self._attempts.in_doubt)",
        "found in self._attempts.in_doubt",
        only=("refund", "reply_lost", "frozen_after", "late"),
    ),
    Mutant(
        "a hold is confirmed after its time without a payment",
        "G5",
        10,
        "holding.py",
        "if hold.status is Status.EXPIRED and not self._may_be_late(hold):",
        "if False:",
    ),
    Mutant(
        "a confirmation that finds no slot takes free tickets unpaid",
        "G5",
        10,
        "holding.py",
        "return is_open and self.payment_reference is not None",
        "return is_open",
    ),
    Mutant(
        "a hold is released whatever became of it",
        "G3",
        8,
        "store/table.py",
        '"#status = :before AND attribute_not_exists(revision)"',
        '"#status = :before OR attribute_exists(pk)"',
    ),
    Mutant(
        "a slot is reclaimed before it is over",
        "G5",
        8,
        "model.py",
        "return slot + CLOCK_SKEW_SECONDS <= now",
        "return slot - 10 <= now",
    ),
    Mutant(
        "a slot is over as soon as the first clock says so",
        "G5",
        61,
        "model.py",
        "return slot + CLOCK_SKEW_SECONDS <= now",
        "return slot <= now",
    ),
    Mutant(
        "a slot is reclaimed although tickets have left it",
        "G1",
        25,
        "store/table.py",
        'unchanged = [f"slots.#{name} = :{name}" for name in slots]',
        'unchanged = [f"slots.#{name} <= :{name}" for name in slots]',
    ),
    Mutant(
        "expired holds do not count as free",
        "G6",
        9,
        "sale_cache.py",
        "self.stock[shard.index] = shard.free(now)",
        "self.stock[shard.index] = shard.stock",
    ),
    Mutant(
        "a hold's time begins again when it is sent again",
        "G3",
        7,
        "buying.py",
        "Held(hold, outcome",
        "Held(replace(hold, expires_at=round(self._runtime.clock()) + 30), outcome",
    ),
    Mutant(
        "a payment pays for several holds",
        "G3",
        24,
        "store/table.py",
        "PAYMENT.to_item(payment_key(payment.reference), payment), _NOT_THERE)",
        'PAYMENT.to_item(payment_key(payment.reference), payment), "NOT pk = :never") | {\n'
        '            "ExpressionAttributeValues": {":never": text("never")}\n'
        "        }",
    ),
    Mutant(
        "a second payment of a hold is accepted",
        "G3",
        7,
        "holding.py",
        "if self.payment_reference not in (None, hold.payment_reference):",
        "if False:",
    ),
    Mutant(
        "a refusal of a hold ignores an attempt in doubt",
        "G3",
        132,
        "holding.py",
        "if not self.attempts.write(stored, lambda: self.store.touch(stored)):",
        "if False:",
    ),
    Mutant(
        "a process behind a reset calls newer holds expired",
        "G5",
        38,
        "holding.py",
        "            self.cache.forget(hold.item_id)\n            raise TryAgain\n",
        "            return replace(hold, status=Status.EXPIRED)\n",
    ),
    Mutant(
        "one key holds and buys",
        "G3",
        8,
        "model.py",
        '*(["hold"] * self.is_hold)',
        "",
    ),
    Mutant(
        "all tickets are held, and the answer is sold out",
        "G5",
        8,
        "sale_cache.py",
        "return TooFew(self.sale, self.free, self.next_release_at)",
        "return TooFew(self.sale, self.free, None)",
    ),
    Mutant(
        "held tickets are in no slot",
        "G1",
        7,
        "store/table.py",
        "if_not_exists(slots.#to, :zero) + :quantity",
        "if_not_exists(slots.#to, :zero) + :zero",
    ),
    Mutant(
        "purchases of one buyer pass the limit together",
        "G1",
        11,
        "store/table.py",
        '_SAME_REVISION: Final = "revision = :seen"',
        '_SAME_REVISION: Final = "revision >= :seen"',
    ),
    Mutant(
        "a buyer gets one ticket more than the limit",
        "G1",
        7,
        "rules.py",
        "after.tickets(now) <= max(limit, before.tickets(now))",
        "after.tickets(now) <= max(limit + 1, before.tickets(now))",
    ),
    Mutant(
        "holds do not count for the limit",
        "G1",
        7,
        "rules.py",
        "if after.status is Status.HELD:\n        purchases",
        "if False:\n        purchases",
    ),
    Mutant(
        "a late confirmation may pass the limit",
        "G1",
        42,
        "taking.py",
        "if limit is None or is_within(limit, buyer, then, now):",
        "if limit is None or after.confirmed_at or is_within(limit, buyer, then, now):",
        only=("hold", "limit", "reply_lost"),
    ),
    Mutant(
        "an order without a buyer is sold in spite of the limit",
        "G1",
        2,
        "buying.py",
        "return sale.per_buyer_limit is not None and self._order.buyer_id is None",
        "return False",
    ),
    Mutant(
        "a hold that is released still counts for the limit",
        "G4",
        7,
        "rules.py",
        "purchases.pop(after.purchase_id, None)",
        "after.is_purchase or purchases.pop(after.purchase_id, None)",
    ),
    Mutant(
        "a refund gives the limit nothing back",
        "G4",
        33,
        "rules.py",
        "CountedTickets(after.kept_quantity)",
        "CountedTickets(after.quantity)",
    ),
    Mutant(
        "a refund after a reset gives the limit its tickets back",
        "G4",
        7,
        "refunding.py",
        "None if self.is_closed else self.store.read_buyer(before)",
        "self.store.read_buyer(before)",
    ),
    Mutant(
        "a duplicate of a refund is taken for a broken record",
        "G6",
        207,
        "refunding.py",
        "if self.contradictions < CONTRADICTIONS_MAX:",
        "if False:",
    ),
    Mutant(
        "tickets of earlier generations count for the limit",
        "G4",
        2,
        "store/items.py",
        'f"item#{item_id}#{generation}#buyer#{buyer_id}"',
        'f"item#{item_id}#{generation and 1}#buyer#{buyer_id}"',
    ),
    Mutant(
        "expired holds count for the limit for ever",
        "G2",
        96,
        "model.py",
        "for each in self.live(now).values())",
        "for each in self.purchases.values())",
    ),
    Mutant(
        "a refusal for the limit does not say how many are left",
        "G5",
        2,
        "taking.py",
        "max(0, limit - buyer.tickets(now))",
        "0",
    ),
    Mutant(
        "a paused sale sells on",
        "G1",
        19,
        "model.py",
        "        if self.is_paused:\n",
        "        if False:\n",
    ),
    Mutant(
        "a sale does not end",
        "G1",
        8,
        "model.py",
        "if self.closes_at is not None and now >= self.closes_at:",
        "if False:",
    ),
    Mutant(
        "a sale opens too early",
        "G1",
        76,
        "model.py",
        "now < self.opens_at:",
        "now + 2 < self.opens_at:",
    ),
    Mutant(
        "the settings of a sale are read once",
        "G1",
        16,
        "sale_cache.py",
        "if cached is not None and is_younger(cached.read_at, now, CACHE_SECONDS):",
        "if cached is not None:",
    ),
    Mutant(
        "a late confirmation takes tickets of a sale that is not open",
        "G1",
        243,
        "taking.py",
        "if (phase := cached.sale.phase(now)) is not Phase.OPEN:",
        "if (phase := cached.sale.phase(now)) is not Phase.OPEN and not self.seen:",
        only=("hold", "pause", "late", "frozen_before", "frozen_after", "outage"),
    ),
    Mutant(
        "a key that has bought meets the pause",
        "G3",
        2,
        "buying.py",
        "except (BuyerUnknown, NotFound, SaleNotOpen):",
        "except BuyerUnknown:",
    ),
    Mutant(
        "a pause settles what is in doubt",
        "G5",
        88,
        "retry.py",
        "            if self.in_doubt:\n                raise self.busy() from error",
        "            if self.in_doubt and type(error).__name__ != 'SaleNotOpen':\n"
        "                raise self.busy() from error",
    ),
    Mutant(
        "old settings refuse where new ones cannot be read",
        "G5",
        106,
        "taking.py",
        "except (InvalidRequest, NotFound, Refused, SaleNotOpen):",
        "except (InvalidRequest, Refused):",
        only=("pause", "throttled"),
    ),
    Mutant(
        "a change of a sale overwrites another one",
        "G1",
        13,
        "store/table.py",
        "same_revision = _SAME_REVISION if",
        'same_revision = "revision >= :seen" if',
    ),
    Mutant(
        "a capacity is lowered by tickets that are sold",
        "G1",
        46,
        "store/table.py",
        '":lost": number(max(0, -count))',
        '":lost": number(0)',
    ),
    Mutant(
        "a step of a change of the capacity may be taken twice",
        "G1",
        43,
        "resizing.py",
        "capacity=capacity, revision=sale.revision + 1)",
        "capacity=capacity)",
    ),
    Mutant(
        "the record has the new capacity before the shards",
        "G1",
        13,
        "resizing.py",
        "resize = Resize(capacity, before=sale.capacity)",
        "resize, sale = Resize(capacity, before=sale.capacity), replace(sale, capacity=capacity)",
    ),
    Mutant(
        "new shards come with a share of their own",
        "G1",
        17,
        "store/table.py",
        "share = 0 if sale.shards_opened else sale.share(index)",
        "share = sale.share(index)",
    ),
    Mutant(
        "a snapshot without the new shards says sold out",
        "G2",
        102,
        "stock_reader.py",
        "        if not is_whole:\n            raise TryAgain",
        "        if False:\n            raise TryAgain",
    ),
    Mutant(
        "a stock summary with new shards is read by the old ones",
        "G5",
        98,
        "sale_cache.py",
        "max(summary.free, default=0) >= self.sale.shard_count",
        "False",
        only=("resize",),
    ),
    Mutant(
        "tickets of expired holds count as held for the lowest capacity",
        "G5",
        24,
        "resizing.py",
        "sum(shard.free(now) for shard in shards)",
        "sum(shard.stock for shard in shards)",
        only=("hold", "resize"),
    ),
    Mutant(
        "a capacity that is too low is not put back",
        "G1",
        81,
        "resizing.py",
        "Resize(resize.before, resize.before)",
        "Resize(sale.capacity, sale.capacity)",
        only=("resize",),
    ),
    Mutant(
        "an audit compares exactly what has changed meanwhile",
        "G4",
        17,
        "tally.py",
        'return seen == (fingerprint(shard) if shard else "")',
        "return True",
    ),
    Mutant(
        "an audit is sure of a purchase that may not have been made yet",
        "G4",
        85,
        "tally.py",
        "is_sure = bought_at < settled_before",
        "is_sure = bought_at < self.began_at",
    ),
    Mutant(
        "an audit forgets what was refunded meanwhile",
        "G4",
        87,
        "tally.py",
        "if refunded_at >= settled_before:",
        "if False:",
    ),
    Mutant(
        "a repair writes shards that have changed since they were counted",
        "G4",
        7,
        "repair_plan.py",
        "if not tally.is_quiet(index, shard)}",
        "if False}",
        only=("repair",),
    ),
    Mutant(
        "an export leaves out what was refunded",
        "G4",
        7,
        "exporting.py",
        "if each.is_purchase]",
        "if each.is_purchase and each.kept_quantity]",
    ),
    Mutant(
        "an export lists holds as purchases",
        "G4",
        7,
        "exporting.py",
        "if each.is_purchase]",
        "if not each.is_refused]",
    ),
    Mutant(
        "an export is complete after its first page",
        "G4",
        2,
        "exporting.py",
        "complete = count.run(take, progress.records_max)",
        "complete = count.run(take, 1) or True",
    ),
)


@dataclass(frozen=True, slots=True)
class Catch:
    """The first seed that broke a guarantee, and the rules that it broke: "G1 oversold"."""

    seed: int
    rules: Sequence[str]


def run(mutant: Mutant, seeds: Sequence[int]) -> Catch | None:
    """Simulate a mutant with these seeds until one breaks the stated guarantee.

    Where none does, return a catch by another guarantee; None: none breaks any. Only in a new
    process: what has imported the right functions keeps them.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "functions"
        shutil.copytree(FUNCTIONS, copy)
        file = copy / "ticketing" / mutant.file
        text = file.read_text()
        if text.count(mutant.right) != 1:
            raise ValueError(f"{mutant.mistake}: its text is not in {mutant.file} once")
        file.write_text(text.replace(mutant.right, mutant.wrong))
        sys.path.insert(0, str(copy))
        from simulation.faults import ALL_FAULTS, Fault  # noqa: PLC0415 - of the mutant
        from simulation.sale import Setting, simulate  # noqa: PLC0415 - of the mutant

        only = frozenset(map(Fault, mutant.only)) or ALL_FAULTS
        other = None
        for seed in seeds:
            violations = simulate(Setting.drawn(seed, BUYERS, only)).violations
            rules = sorted({f"{each.guarantee} {each.rule}" for each in violations})
            if any(rule.startswith(mutant.guarantee) for rule in rules):
                return Catch(seed, rules)
            if rules:
                other = Catch(seed, rules)
    return other


def _forget_functions() -> None:
    """Forget what is imported of the functions, and what has imported them.

    The process may be a copy of one that had them: a process has one fork server only, which
    another caller may have started.
    """
    roots = {path.name for path in FUNCTIONS.iterdir()} | {"simulation"}
    kept = {"simulation", "simulation.mutants"}
    for name in [*sys.modules]:
        if name.partition(".")[0] in roots and name not in kept:
            del sys.modules[name]


def table() -> str:
    """Return all mutants as a Markdown table."""
    rows = ["| mistake | in | breaks | caught within |", "|---|---|---|---|"]
    for mutant in MUTANTS:
        seeds = "1 seed" if mutant.seed == 1 else f"{mutant.seed} seeds"
        if mutant.only:
            seeds += f", with no faults but {' and '.join(mutant.only)}"
        rows.append(f"| {mutant.mistake} | `{mutant.file}` | {mutant.guarantee} | {seeds} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status is 1 where a mutant is not caught as stated."""
    parser = argparse.ArgumentParser("python -m simulation.mutants", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="mutants with this text")
    parser.add_argument(
        "--find", action="store_true", help=f"search seeds 1 to {SEEDS_MAX}, not the stated one"
    )
    written = proof.caught.PATH.relative_to(ROOT)
    parser.add_argument(
        "--write", action="store_true", help=f"write {written}, which must be true otherwise"
    )
    options = parser.parse_args(arguments)
    mutants = [mutant for mutant in MUTANTS if options.only in mutant.mistake]
    found = check(mutants, find=options.find)
    if len(found) < len(mutants):
        return 1
    if options.write:
        proof.caught.write(found)
    elif len(mutants) == len(MUTANTS) and not options.find and found != proof.caught.read():
        print(f"{written} says something else. Write it with `make mutants ARGS=--write`.")
        return 1
    return 0


def check(mutants: Sequence[Mutant], *, find: bool = False) -> list[Caught]:
    """Run mutants on all cores, print what caught each, and return those caught as stated.

    find: search for the first seed, instead of taking the stated one.
    """

    stated = list[Caught]()
    # All processes are copies of one that has imported the packages, and none has the functions.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PACKAGES)
    with pool(context, tasks_per_process=1) as processes:
        caught = processes.imap(partial(_run, find=find), mutants)
        for mutant, catch in zip(mutants, caught, strict=True):
            rules = catch.rules if catch else ()
            is_caught = any(rule.startswith(mutant.guarantee) for rule in rules)
            if catch and is_caught:
                stated.append(
                    Caught(mutant.mistake, mutant.file, mutant.guarantee, catch.seed, catch.rules)
                )
            result = f"seed {catch.seed}: {', '.join(rules)}" if catch else "NOT CAUGHT"
            wrong = "" if is_caught else f"  (not {mutant.guarantee})"
            print(f"{mutant.mistake:<62} {result}{wrong}", flush=True)
    print(f"{len(stated)} of {len(mutants)} mutants are caught as stated")
    return stated


def _run(mutant: Mutant, *, find: bool) -> Catch | None:
    """Run a mutant in a process of its own."""
    _forget_functions()
    return run(mutant, range(1, SEEDS_MAX + 1) if find else [mutant.seed])


if __name__ == "__main__":
    sys.exit(run_command(main))
