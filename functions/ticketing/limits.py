"""Every bound, with its source, and how the bounds depend on each other.

AWS: a documented quota. Assumed: the guarantees rest on it. Chosen: may be changed, as long as the
relations at the end hold. They are checked at import, so a wrong value cannot be deployed.
"""

from typing import Final

# --- DynamoDB, API Gateway and Lambda ---

# AWS: actions in one TransactWriteItems, and items in one TransactGetItems.
TRANSACTION_ACTIONS_MAX: Final = 100
# AWS: items in one BatchGetItem.
BATCH_READ_ITEMS_MAX: Final = 100
# AWS: API Gateway gives up after this time.
GATEWAY_TIMEOUT_SECONDS: Final = 29

# --- One store call ---

# Chosen: a transaction takes 25 ms (p99 85 ms, AWS); the SDK's default of 60 s is longer than API
# Gateway waits.
CONNECT_TIMEOUT_SECONDS: Final = 1
READ_TIMEOUT_SECONDS: Final = 2
STORE_CALL_SECONDS_MAX: Final = CONNECT_TIMEOUT_SECONDS + READ_TIMEOUT_SECONDS
# Assumed: a store call takes effect within this time of being sent, or never.
LATE_COMMIT_SECONDS: Final = 10

# --- Time budgets: no store call starts later. Chosen. ---

PURCHASE_BUDGET_SECONDS: Final = 5.0
CATALOGUE_BUDGET_SECONDS: Final = 10.0
REFUND_BUDGET_SECONDS: Final = 10.0
AUDIT_BUDGET_SECONDS: Final = 20.0
# Part of the audit's budget, kept for reading the counters again after the last page.
AUDIT_RESERVE_SECONDS: Final = 5.0

# After a purchase that was not answered: for so long it may still take effect.
DOUBT_SECONDS: Final = PURCHASE_BUDGET_SECONDS + STORE_CALL_SECONDS_MAX + LATE_COMMIT_SECONDS

# --- The audit ---

# Chosen: records of the table that one request looks at, and one page. A page is held in memory.
AUDIT_RECORDS_MAX: Final = 10_000
AUDIT_PAGE_RECORDS_MAX: Final = 1_000
# Chosen: records of the table that one request exports at most. Their lines are smaller than the
# 6 MB that a function may answer (AWS), also where all is quoted twice.
EXPORT_RECORDS_MAX: Final = 3_000
# Chosen: the same with all holds, because a confirmed hold has two lines.
EXPORT_RECORDS_WITH_HOLDS_MAX: Final = 1_500
# Chosen: of the time of an audit of all items, kept for reading the counters of each again.
AUDIT_ITEM_SECONDS: Final = 0.1
# Chosen: of the time of the audit by schedule, kept for a last store call and the log.
SCHEDULE_RESERVE_SECONDS: Final = STORE_CALL_SECONDS_MAX + 2
# So long before an audit begins a purchase or refund may say that it was made, and take effect
# after that: it may wait for its whole budget, its call may take effect late, its clock be wrong.
UNSURE_SECONDS: Final = (
    max(PURCHASE_BUDGET_SECONDS, REFUND_BUDGET_SECONDS) + LATE_COMMIT_SECONDS + 1
)
# Chosen: a repair counts again so often where buyers have changed a shard meanwhile.
REPAIR_COUNTS_MAX: Final = 5
# Chosen: longer than any cursor. One of a repair has every expiry slot of 100 shards.
CURSOR_LENGTH_MAX: Final = 65_536

# Chosen: after this time an audit reads counters again that do not fit together. A transaction is
# in progress for milliseconds.
SETTLE_SECONDS: Final = 0.1

# --- Attempts ---

ATTEMPTS_MAX: Final = 100  # chosen: a second bound, because a clock may be frozen
# So often a refund looks for its tickets again before it calls its records contradictory. One look
# may meet a duplicate that is in progress.
CONTRADICTIONS_MAX: Final = 5
BACKOFF_BASE_SECONDS: Final = 0.01  # chosen: a transaction is in progress for about 6 ms
BACKOFF_CAP_SECONDS: Final = 0.5  # chosen
# Chosen. Retry-After is drawn from 1 to this, so that refused buyers do not come back together.
RETRY_AFTER_SECONDS_MAX: Final = 3

# Chosen: where a purchase would leave at most so many tickets in a shard, the shard is read first.
# That costs 1 unit, and a transaction that finds too few costs 4.
NEARLY_EMPTY_TICKETS: Final = 3

# --- What a process caches ---

# How old the sale's settings, a cached "sold out" and a cached inventory may be. G2 allows 1 s.
CACHE_SECONDS: Final = 1.0
# Chosen: how old settings may be where reading them is throttled. They only sell: each shard
# demands the generation that a purchase was planned with, so old settings buy nothing of a newer
# sale. A refusal never rests on them.
CACHE_STALE_SECONDS: Final = 5.0
CACHED_ITEMS_MAX: Final = 1000  # chosen: inventories that a process caches

# --- Stock summaries, see `stock_reader`. Chosen. ---

# Parts of a sale's summary. With 1,000 environments each is read some 1,000 times a second, and a
# key takes 3,000.
SUMMARIES: Final = 2
# How old a summary is when the next one is due, by the clocks of two processes. No refusal depends
# on it: with a wrong clock only the cost is higher.
SUMMARY_SECONDS: Final = 0.4
# How long a process refuses before it looks at the summary again. Two looks must see another
# snapshot between them, and the second of them be over before a second has passed since the first.
LOOK_SECONDS: Final = 0.48
# A conflict shows that a sale is fast. A process then chooses a shard by a stock summary that is no
# older than this.
REFRESH_SECONDS: Final = 0.2
# How long a process that waits for a summary sleeps on average before it looks again.
LOOK_AGAIN_SECONDS: Final = 0.04
# How often it looks before it reads the shards for itself alone.
LOOKS_MAX: Final = 30
# How long it waits for a process that has begun to read the shards.
CLAIM_SECONDS: Final = 0.3

# --- A sale ---

# One snapshot reads all shards: TRANSACTION_ACTIONS_MAX.
SHARDS_MAX: Final = 100
TICKETS_PER_SHARD: Final = 10  # chosen: the default, see `rules.default_shard_count`
STOCK_MAX: Final = 10_000_000  # chosen
QUANTITY_MAX: Final = 10  # chosen: tickets of one purchase
ITEM_ID_MAX: Final = 999_999_999  # chosen
GENERATION_MAX: Final = 999_999_999  # chosen: of `expected_generation`
# Chosen: the sale's record keeps the keys of its last changes, and stays below 4 KB, which one read
# unit reads.
USED_KEYS_MAX: Final = 10
# Chosen: instants that a window may have, in seconds since the epoch: the years 2000 to 2099.
INSTANT_MIN: Final = 946_684_800
INSTANT_MAX: Final = 4_102_444_799
# Chosen. Retry-After of a paused sale is drawn from 1 to this: its buyers look now and then.
PAUSED_RETRY_AFTER_SECONDS_MAX: Final = 10

# --- The catalogue. Chosen. ---

# Their ids are in one record, which has some 60 KB then.
ITEMS_MAX: Final = 10_000
# Items on a page. One batch read reads them: BATCH_READ_ITEMS_MAX.
PAGE_ITEMS_MAX: Final = 100
PAGE_ITEMS_DEFAULT: Final = 50
CACHED_PAGES_MAX: Final = 100  # pages that a process caches

# --- Holds ---

# Chosen. The shortest one outlives a call that takes effect late.
HOLD_SECONDS_MIN: Final = 30
HOLD_SECONDS_MAX: Final = 3600
HOLD_SECONDS_DEFAULT: Final = 600
# Chosen: expiry slots of a shard that are not over, whatever the number of holds.
SLOTS_PER_HOLD: Final = 30
# Chosen: slots that a shard may have before some must be reclaimed. It stays below 1 KB.
SLOTS_MAX: Final = 40
# Chosen: payments that came too late for a hold and that its record names. It stays below 1 KB.
REFUSED_PAYMENTS_MAX: Final = 5
# Assumed: the clocks of two processes are at most this far apart.
CLOCK_SKEW_SECONDS: Final = 1

# --- Buyers. Chosen. ---

# Tickets that a buyer may hold and have bought, at the most that a sale can say.
PER_BUYER_LIMIT_MAX: Final = 1000

# --- The shop's pages. Chosen. ---

# How long caches may keep a page, and its assets, whose names change with them.
PAGE_CACHE_SECONDS: Final = 60
ASSET_CACHE_SECONDS: Final = 31_536_000

# --- Requests and responses. Chosen. ---

BODY_BYTES_MAX: Final = 4096  # the largest useful body has about 600 bytes
KEY_LENGTH_MIN: Final = 16
KEY_LENGTH_MAX: Final = 255
BUYER_ID_LENGTH_MAX: Final = 128
ITEM_NAME_LENGTH_MAX: Final = 100
PAYMENT_REFERENCE_LENGTH_MAX: Final = 128
PROBLEMS_MAX: Final = 20  # problems that an audit lists by name; the rest is only counted


def _check(holds: bool, relation: str) -> None:
    if not holds:
        raise ValueError(f"limits.py: {relation}")


# Lambda's timeouts are in template.yaml; tests/unit/test_template.py compares them.
_check(
    max(
        PURCHASE_BUDGET_SECONDS,
        CATALOGUE_BUDGET_SECONDS,
        REFUND_BUDGET_SECONDS,
        AUDIT_BUDGET_SECONDS,
    )
    + STORE_CALL_SECONDS_MAX
    < GATEWAY_TIMEOUT_SECONDS,
    "a budget and a last store call must end before API Gateway gives up",
)
_check(
    UNSURE_SECONDS >= LATE_COMMIT_SECONDS + CLOCK_SKEW_SECONDS,
    "what an audit is not sure of must include calls that take effect late, by any clock",
)
_check(
    AUDIT_RESERVE_SECONDS < AUDIT_BUDGET_SECONDS,
    "an audit needs more time than the part that it keeps back",
)
_check(
    QUANTITY_MAX + 3 <= TRANSACTION_ACTIONS_MAX,
    "each ticket may come from another shard; record, payment and buyer take three actions more",
)
_check(
    min(TRANSACTION_ACTIONS_MAX, BATCH_READ_ITEMS_MAX) >= SHARDS_MAX,
    "one snapshot and one batch read must reach all shards",
)
_check(PAGE_ITEMS_DEFAULT <= PAGE_ITEMS_MAX <= BATCH_READ_ITEMS_MAX, "one batch read reads a page")
_check(CACHE_SECONDS <= 1, "G2 allows a process to cache a refusal for one second")
_check(
    SUMMARY_SECONDS < LOOK_SECONDS < CACHE_SECONDS / 2,
    "a snapshot must be taken between any two looks, and be in use when its second is over",
)
_check(
    REFRESH_SECONDS <= SUMMARY_SECONDS,
    "a process that sells must not believe a summary longer than one that refuses",
)
_check(
    STORE_CALL_SECONDS_MAX <= LATE_COMMIT_SECONDS,
    "the time in which a call may still take effect must cover its own time-out",
)
_check(
    HOLD_SECONDS_MIN > LATE_COMMIT_SECONDS + CLOCK_SKEW_SECONDS,
    "a hold must not expire before the call that makes it can take effect",
)
_check(
    HOLD_SECONDS_MIN <= HOLD_SECONDS_DEFAULT <= HOLD_SECONDS_MAX,
    "the default must be a length that a hold may have",
)
_check(
    SLOTS_MAX >= SLOTS_PER_HOLD + 3,
    "slots that are not over, and those that are but not yet by every clock, must have room",
)
