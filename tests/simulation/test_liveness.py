"""After trouble every request ends, all tickets sell, and the service becomes normal by itself."""

from typing import Any

import pytest

from simulation.dynamodb import KEY_READ_UNITS
from simulation.sale import LEAD_SECONDS, Setting, simulate
from simulation.storm import Course, Second, Storm, course_of, main, report
from simulation.workload import PATIENCE_SECONDS
from ticketing.wiring import Services, build_services

# One shard sells about 140 tickets a second.
SMALL = Storm(rate=30, calm_seconds=4, storm_seconds=4, after_seconds=20, shards=1)


@pytest.mark.G2
@pytest.mark.G6
def test_after_faults() -> None:
    """Every request ends within the caller's patience, and no ticket is stranded."""
    sold_out = 0
    for seed in range(1, 21):
        sale = simulate(Setting.drawn(seed, buyers=100))
        assert sale.violations == []
        assert sale.history.final
        assert sale.history.final.inventory.current_stock == 0
        sold_out += sale.history.final.inventory.total_purchases
        for request in sale.history.requests:
            for attempt in request.attempts:
                assert attempt.ended_at - attempt.started_at < PATIENCE_SECONDS
    assert sold_out > 500


@pytest.mark.G6
def test_many_environments_sold_out() -> None:
    """Finding out that the shards are empty throttles nothing.

    The sale found by 20,000 buyers in 1,000 environments, a tenth of its size, on keys that take a
    tenth of the units. When each environment read the shards for itself, snapshots were throttled,
    and buyers had answers 12 to 19 s later, or with a plain read before each snapshot never.
    """
    setting = Setting(
        seed=1,
        buyers=2000,
        tickets=500,
        shards=50,
        environments_max=120,
        rush_seconds=4.0,
        key_read_units=KEY_READ_UNITS / 10,
    )
    sale = simulate(setting)
    assert sale.violations == []
    assert sale.usage.throttles == 0
    answered_at = [buy.last.ended_at for buy in sale.history.requests]
    assert max(answered_at) - LEAD_SECONDS < 15


class _Deaf:
    """A client whose transactions never come back, but those that create an item and its shards."""

    def __init__(self, client: Any, sleep: Any) -> None:
        self._client, self._sleep = client, sleep

    def transact_write_items(self, **request: Any) -> Any:
        if "catalogue" in str(request) or "'ConditionCheck'" in str(request):
            return self._client.transact_write_items(**request)
        while True:
            self._sleep(1.0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def never_ending(client: Any, table_name: str, runtime: Any) -> Services:
    deaf: Any = _Deaf(client, runtime.sleep)
    return build_services(deaf, table_name, runtime)


@pytest.mark.G6
def test_endless_sale_is_caught() -> None:
    sale = simulate(Setting.drawn(1, buyers=2, only=frozenset()), never_ending)
    assert "never_ends" in {violation.rule for violation in sale.violations}


@pytest.mark.G6
def test_storm() -> None:
    """Ten times the buyers for four seconds: what they leave behind is gone in seconds."""
    course = course_of(SMALL)
    storm = course.seconds[SMALL.calm_seconds : SMALL.storm_ends_at]
    assert max(second.waiting_p99_seconds for second in storm) > 2 * course.normal_seconds
    assert course.recovery_seconds is not None
    assert 0 < course.recovery_seconds < 15
    assert course.violations == []
    assert "normal again" in report(course)


@pytest.mark.parametrize(
    ("after", "recovery"), [([1, 1, 1], 0), ([9, 9, 1], 2), ([9, 1, 9, 1], 3), ([1, 9], None)]
)
def test_recovery(after: list[int], recovery: int | None) -> None:
    """It is normal again when no later second is slow."""
    storm = Storm(calm_seconds=3, storm_seconds=1, after_seconds=len(after))
    seconds = [Second(1, 1, 0, 0.5, float(p99)) for p99 in (9, 1, 40, 50, *after)]
    course = Course(storm, seconds, 0, 0, [])
    assert course.recovery_seconds == recovery
    assert ("not normal again" in report(course)) is (recovery is None)


def test_storm_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rate", "5", "--factor", "3"]) == 0
    assert "5 buyers a second" in capsys.readouterr().out
