"""The comparison with others: who does not sell exactly the tickets is found out."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.crowd import Crowd
from benchmarks.others import BARE, POSTGRES, rows
from benchmarks.servers import PostgresSale, Shop, postgres, serving
from benchmarks.stack import compared
from local.process import LocalError, free_port
from local.stack import Stack
from tests.support import silent

STORM = Crowd(buyers=60, tickets=20, in_flight=4)


class Lax(PostgresSale):
    """A sale with another number of tickets or of records."""

    def __init__(self, url: str, *, tickets: int = 0, records: int = 0) -> None:
        super().__init__(url)
        self._tickets = tickets
        self._records = records

    def open(self, stock: int) -> None:
        super().open(stock + self._tickets)

    def records(self) -> int:
        return super().records() + self._records


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory, postgres(Path(directory) / "data") as url:
        yield url


@pytest.fixture(scope="module")
def original(database: str) -> Iterator[str]:
    """Where the original's row lock sells."""
    with serving("benchmarks.original:row_lock", 1, PostgresSale(database).variables) as url:
        yield url


def test_all_sell_exactly() -> None:
    measured = list(rows(silent, 1, {"storm": STORM}))
    assert [row.name for row in measured] == [f"storm: {other.name}" for other in (*POSTGRES, BARE)]
    assert all(row.value > 0 for row in measured)


@pytest.mark.parametrize("tickets", [1, -1])
def test_other_number_sold(database: str, original: str, tickets: int) -> None:
    with pytest.raises(LocalError, match=f"200: {STORM.tickets + tickets}"):
        Shop(original, Lax(database, tickets=tickets)).sell(STORM)


@pytest.mark.parametrize("records", [1, -1])
def test_other_number_recorded(database: str, original: str, records: int) -> None:
    with pytest.raises(LocalError, match=f"there are {STORM.tickets + records} purchase records"):
        Shop(original, Lax(database, records=records)).sell(STORM)


def test_server_that_is_gone() -> None:
    with pytest.raises(LocalError, match="ClientConnectorError': 60"):
        STORM.buy(f"http://127.0.0.1:{free_port()}/buy_ticket")


def test_server_that_cannot_start() -> None:
    with (
        pytest.raises(LocalError, match="DATABASE_URL"),
        serving("benchmarks.original:row_lock_with_orm", 1, {}),
    ):
        pass


def test_on_local_stack(stack: Stack) -> None:
    (row,) = compared(stack, silent, 2, {"storm": STORM})
    assert row.value > 0
