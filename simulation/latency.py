"""How long calls of DynamoDB take in the model: published figures, and what is assumed.

- Alex DeBrie, "The Performance of DynamoDB Transactions" (2020), seen by the client, in ms: PutItem
  p50 7.6, p90 11.3, p99 16.2; BatchWriteItem of 25 items 10.2, 16.0, 27.6; TransactWriteItems of 5
  items 25.3, 30.7, 92.5. A cancelled transaction takes as long as a good one.
- Idziorek et al., "Distributed Transactions at Scale in Amazon DynamoDB" (USENIX ATC 2023): a
  transaction prepares all items and then commits all items; a reading one reads everything twice.
- Assumed, because nothing is published: a read takes as long as a put, and of a transaction's 25 ms
  an item is occupied for about 6.
"""

import random
from typing import Final, NamedTuple

# Medians, in seconds. A plain call reaches its item half-way.
PLAIN_SECONDS: Final = 0.0076
BATCH_SECONDS: Final = 0.0102
TRANSACTION_REQUEST_SECONDS: Final = 0.0115
PREPARE_SECONDS: Final = 0.0014
DECIDE_SECONDS: Final = 0.003
COMMIT_SECONDS: Final = 0.0014
TRANSACTION_REPLY_SECONDS: Final = 0.0075
TRANSACTION_SECONDS: Final = (
    TRANSACTION_REQUEST_SECONDS
    + PREPARE_SECONDS
    + DECIDE_SECONDS
    + COMMIT_SECONDS
    + TRANSACTION_REPLY_SECONDS
)
# A reading transaction takes twice as long as a read. Between its two reads is this time.
READ_AGAIN_SECONDS: Final = 0.0038


class Spread(NamedTuple):
    """How calls of one kind differ.

    sigma: of the lognormal distribution with the published ratio of p90 to p50. slowest: factor of
    the slowest among the few slow calls that give the published p99.
    """

    sigma: float
    slowest: float


PLAIN: Final = Spread(0.31, 1.8)
BATCH: Final = Spread(0.35, 3.6)
TRANSACTION: Final = Spread(0.15, 6.0)
# One call in fifty is slow, by this factor at least.
OUTLIERS: Final = 0.02
OUTLIER_FACTOR_MIN: Final = 1.3

# How far a replica is behind that answers an eventually consistent read: a mean. Usually it
# is under a second (AWS).
REPLICA_LAG_SECONDS: Final = 0.1


def factor(draw: random.Random, spread: Spread) -> float:
    """Return how much slower than its median one call is."""
    is_slow = draw.random() < OUTLIERS
    slow = draw.uniform(OUTLIER_FACTOR_MIN, spread.slowest) if is_slow else 1.0
    return slow * draw.lognormvariate(0.0, spread.sigma)
