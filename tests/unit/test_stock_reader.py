"""One process reads the shards, the others what it saw; and none refuses by what is too old."""

from copy import replace

import pytest

from tests.support import ITEM, World, cancelled, lost_reply, raises, service_error
from ticketing.errors import Contended, StaleSale
from ticketing.limits import (
    CLAIM_SECONDS,
    LOOK_SECONDS,
    LOOKS_MAX,
    REFRESH_SECONDS,
    SUMMARY_SECONDS,
)
from ticketing.model import Bought, Sale, StockSummary, TooFew
from ticketing.retry import Runtime
from ticketing.sale_cache import CachedSale, SeenSummary
from ticketing.stock_reader import StockReader
from ticketing.store.table import Store

SNAPSHOT = "transact_get_items"


class Process:
    """A process that has a sale in its cache. skew: how far its clock is ahead."""

    def __init__(self, world: World, *, part: int = 0, skew: float = 0.0) -> None:
        self.store: Store = world.store
        runtime = Runtime(clock=lambda: world.clock() + skew, sleep=world.clock.sleep)
        self.reader = StockReader(self.store, runtime)
        self.seen = SeenSummary(part)
        self.cached = CachedSale.of(self._sale(), runtime.clock(), self.seen)

    def _sale(self) -> Sale:
        sale = self.store.read_sale(ITEM)
        assert sale
        return sale

    def read(self, quantity: int = 1) -> TooFew | None:
        return self.reader.read(self.cached, quantity)

    def read_after_short_shard(self) -> TooFew | None:
        return self.reader.read(self.cached, 1, is_outdated=True)

    def summary(self) -> StockSummary:
        """Return the summary as it is in the table."""
        return self.store.read_summary(ITEM, self.seen.part)

    def claim(self) -> StockSummary:
        """Claim the next summary."""
        before = self.summary()
        claim = replace(before, revision=before.revision + 1)
        assert self.store.put_summary(claim)
        return claim

    def publish(self, free: dict[int, int], *, is_snapshot: bool = True) -> None:
        """Publish that so many tickets are free."""
        claim = self.claim()
        after = replace(
            claim,
            revision=claim.revision + 1,
            published=claim.revision + 1,
            generation=self.cached.sale.generation,
            free=free,
            is_snapshot=is_snapshot,
            written_at=int(self.reader.runtime.clock() * 1000),
        )
        assert self.store.put_summary(after)


@pytest.fixture
def sold_out(world: World) -> World:
    """Return a world whose sale has no ticket left, as no process knows yet."""
    world.open_sale(stock=0, shards=2)
    world.client.calls.clear()
    return world


def snapshots(world: World) -> int:
    count: int = world.client.count(SNAPSHOT)
    return count


@pytest.mark.G2
@pytest.mark.parametrize("skew", [-1.0, 0.0, 1.0])
def test_one_reads_for_all(sold_out: World, skew: float) -> None:
    """A process that has looked before the claim refuses by the summary, whatever its clock."""
    one, other = Process(sold_out), Process(sold_out, skew=skew)
    assert other.read()
    sold_out.clock.now += LOOK_SECONDS
    assert one.read()
    count = snapshots(sold_out)
    assert other.read() == TooFew(other.cached.sale, left=0)
    assert snapshots(sold_out) == count


@pytest.mark.G2
def test_age_counts_from_last_look(sold_out: World) -> None:
    """The snapshot may have been taken just after it."""
    one, other = Process(sold_out), Process(sold_out)
    other.read()
    looked_at = sold_out.clock()
    sold_out.clock.now += 0.6
    one.read()
    other.read()
    assert other.cached.recent_too_few_for(1, looked_at + 0.99)
    assert not other.cached.recent_too_few_for(1, looked_at + 1.0)


@pytest.mark.G2
def test_summary_of_unknown_age(sold_out: World) -> None:
    """A process that looks for the first time waits for the next one."""
    one, other = Process(sold_out), Process(sold_out)
    one.read()
    began_at = sold_out.clock()
    assert other.read()
    assert snapshots(sold_out) == 2
    assert sold_out.clock() - began_at >= SUMMARY_SECONDS


@pytest.mark.G2
def test_taken_after() -> None:
    """Revision 3 is a claim. What was read of the table from then on says nothing of 4."""
    seen = SeenSummary(part=0)
    for revision, asked_at in [(2, 10.0), (2, 10.2), (3, 10.3), (4, 10.4)]:
        seen.note(revision, asked_at)
    assert seen.taken_after(4) == 10.2
    assert seen.taken_after(3) is None
    assert seen.taken_after(6) == 10.4
    seen.note(4, 11.3)
    assert seen.taken_after(4) is None, "a look of more than a second ago was kept"


@pytest.mark.G2
def test_claim_is_taken_over(sold_out: World) -> None:
    """A process that stands still after its claim publishes nothing later."""
    one, other = Process(sold_out), Process(sold_out)
    published = []

    def meanwhile() -> None:
        began_at = sold_out.clock()
        assert other.read()
        assert sold_out.clock() - began_at >= CLAIM_SECONDS
        published.append(other.summary())

    sold_out.client.before(SNAPSHOT, meanwhile)
    assert one.read()
    assert [one.summary()] == published
    assert published[0].revision == published[0].published == 3


@pytest.mark.G2
def test_claim_is_not_new(sold_out: World) -> None:
    """However many there were since the summary."""
    process = Process(sold_out)
    process.publish({1: 1})
    assert process.cached.see_summary(process.summary())
    for _ in range(3):
        process.claim()
        assert not process.cached.see_summary(process.summary())


def test_snapshot_in_conflict(sold_out: World) -> None:
    """The claim is made once, and the next attempt goes on with it at once."""
    process = Process(sold_out)
    sold_out.client.before(SNAPSHOT, raises(cancelled("TransactionConflict")))
    with pytest.raises(Contended):
        process.read()
    assert process.read()
    assert sold_out.client.count("put_item") == 2
    assert sold_out.clock.slept == []


def test_summary_without_answer(sold_out: World) -> None:
    """It was read all the same."""
    process = Process(sold_out)
    sold_out.client.before("put_item", lambda: None, raises(lost_reply()))
    assert process.read() == TooFew(process.cached.sale, left=0)


@pytest.mark.G2
def test_tickets_come_back(sold_out: World) -> None:
    one, other = Process(sold_out), Process(sold_out)
    other.read()
    sold_out.clock.now += LOOK_SECONDS
    one.read()
    one.publish({1: 3})
    assert other.read(quantity=4) == TooFew(other.cached.sale, left=3)
    sold_out.clock.now += LOOK_SECONDS
    one.publish({1: 4})
    assert other.read(quantity=4) is None
    assert other.cached.stock == {0: 0, 1: 4}


@pytest.mark.G2
def test_summary_of_plain_read(sold_out: World) -> None:
    """Shards that were read one by one say where tickets are, and refuse no one."""
    one, other = Process(sold_out), Process(sold_out)
    other.read()
    sold_out.clock.now += LOOK_SECONDS
    one.publish({1: 1}, is_snapshot=False)
    count = snapshots(sold_out)
    assert other.read(quantity=2) == TooFew(other.cached.sale, left=0)
    sold_out.clock.now += LOOK_SECONDS + 0.1
    assert other.read(quantity=2)
    assert snapshots(sold_out) == count + 1


@pytest.mark.G2
def test_bought_since_snapshot(sold_out: World) -> None:
    """What this process took itself is no reason to refuse: others may have given it back."""
    one, other = Process(sold_out), Process(sold_out)
    other.read()
    one.publish({1: 3})
    sold_out.clock.now += LOOK_SECONDS
    assert other.read(quantity=3) is None
    other.cached.stock[1] -= 2
    assert other.cached.recent_too_few_for(2, sold_out.clock()) is None
    assert other.cached.recent_too_few_for(4, sold_out.clock())


def test_short_shard_makes_summary_outdated(sold_out: World) -> None:
    """Its reader does not wait until the next one is due."""
    process = Process(sold_out)
    process.publish({1: 1})
    assert process.read() is None
    process.cached.stock[1] = 0
    assert process.read_after_short_shard()
    assert sold_out.clock.slept == []


class TestRefresh:
    """A process that sells, and met a conflict, wants to know where tickets are left."""

    def test_published_by_another(self, sold_out: World) -> None:
        process = Process(sold_out)
        process.publish({0: 2, 1: 7})
        sold_out.client.calls.clear()
        process.reader.refresh(process.cached, 1)
        process.reader.refresh(process.cached, 1)
        assert process.cached.stock == {0: 2, 1: 7}
        assert sold_out.client.calls == ["get_item"], "it looks once in a while only"

    def test_due(self, sold_out: World) -> None:
        """It reads the shards for all others, and needs no snapshot."""
        sold_out.open_sale(stock=9, shards=2)
        process, other = Process(sold_out), Process(sold_out)
        process.publish({0: 2, 1: 7})
        process.reader.refresh(process.cached, 1)
        sold_out.clock.now += REFRESH_SECONDS + 0.01
        process.reader.refresh(process.cached, 1)
        other.reader.refresh(other.cached, 1)
        assert process.cached.stock == other.cached.stock == {0: 5, 1: 4}
        assert snapshots(sold_out) == 0

    def test_claimed_by_another(self, sold_out: World) -> None:
        """It does not wait for what others read."""
        process = Process(sold_out)
        process.claim()
        process.reader.refresh(process.cached, 1)
        assert sold_out.clock.slept == []
        assert sold_out.client.count("batch_get_item") == 0

    def test_store_error(self, sold_out: World) -> None:
        """The choice is made without it."""
        process = Process(sold_out)
        before = dict(process.cached.stock)
        sold_out.client.before("get_item", raises(service_error("ThrottlingException")))
        process.reader.refresh(process.cached, 1)
        assert process.cached.stock == before

    @pytest.mark.G2
    def test_new_generation(self, sold_out: World) -> None:
        process = Process(sold_out)
        sold_out.open_sale(stock=2, shards=2)
        Process(sold_out).publish({0: 1, 1: 1})
        with pytest.raises(StaleSale):
            process.reader.refresh(process.cached, 1)


class TestGenerations:
    def test_older_summary(self, sold_out: World) -> None:
        Process(sold_out).publish({0: 5})
        sold_out.open_sale(stock=0, shards=2)
        process = Process(sold_out)
        assert process.read()
        assert process.cached.stock == {0: 0, 1: 0}

    @pytest.mark.G2
    def test_reset_meets_reader(self, sold_out: World) -> None:
        """It tells all others, which need not wait for its claim."""
        one, other = Process(sold_out), Process(sold_out)
        other.read()
        sold_out.clock.now += SUMMARY_SECONDS + 0.01
        sold_out.client.before(SNAPSHOT, lambda: sold_out.open_sale(stock=2, shards=2))
        with pytest.raises(StaleSale):
            one.read()
        sold_out.clock.now += LOOK_SECONDS
        with pytest.raises(StaleSale):
            other.read()
        assert sold_out.clock.slept == []

    def test_summaries_go_on(self, world: World) -> None:
        """A process buys and refuses in the next generation, with what it knows of the summary."""
        service = world.purchase_service()
        for _ in range(3):
            world.open_sale(stock=1)
            world.clock.now += 2
            outcomes = [service.buy(service.order(ITEM, 1, None, None)) for _ in range(2)]
            assert [isinstance(outcome, Bought) for outcome in outcomes] == [True, False]
        assert world.clock.slept == []


def test_always_another_claim(sold_out: World) -> None:
    """A process that only ever meets new claims reads the shards for itself in the end."""
    process = Process(sold_out)
    sleep = sold_out.clock.sleep

    def claim_and_sleep(seconds: float) -> None:
        process.claim()
        sleep(seconds)

    claim_and_sleep(0)
    process.reader.runtime = Runtime(clock=sold_out.clock, sleep=claim_and_sleep)
    assert process.read()
    assert len(sold_out.clock.slept) == LOOKS_MAX + 1
    assert process.summary().published == 0
