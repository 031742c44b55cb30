"""After the last ticket: what refusals cost the table, and how many of them one answer serves."""

from copy import replace
from typing import Any

import pytest

from simulation.load import Load, main, measure, report
from ticketing.wiring import Services, build_services

# A tenth of what the README has figures for.
SMALL = Load(rate=1000, seconds=4, tickets=1000, shards=10, environments_max=100)


@pytest.mark.G2
def test_one_reads_for_all() -> None:
    measured = measure(SMALL)
    assert measured.sale.violations == []
    assert measured.last_sale.sold == SMALL.tickets
    assert measured.later_read_units < 3 * SMALL.environments_max
    assert measured.refusal_write_units < 6 * SMALL.environments_max
    assert "a second then" in report(measured)


class _Alone:
    """A client whose process meets no stock summary of another one."""

    def __init__(self, client: Any, process: str) -> None:
        self._client = client
        self._process = process

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        return self._own(call) if name in {"get_item", "put_item"} else call

    def _own(self, call: Any) -> Any:
        def own(**request: Any) -> Any:
            for part in ("Key", "Item"):
                key = request.get(part, {}).get("pk", {}).get("S", "")
                if "#summary#" in key:
                    mine = {**request[part], "pk": {"S": f"{key}#{self._process}"}}
                    request = {**request, part: mine}
            return call(**request)

        return own


def alone(client: Any, table_name: str, runtime: Any) -> Services:
    lone: Any = _Alone(client, str(runtime.random.getrandbits(32)))
    return build_services(lone, table_name, runtime)


def test_without_others() -> None:
    """The measure tells the difference: each environment reads the shards for itself."""
    measured = measure(replace(SMALL, seconds=7), alone)
    assert measured.sale.violations == []
    assert measured.later_read_units > 10 * SMALL.environments_max


def test_load_command(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--rate 200 --tickets 100 --shards 2 --environments 20 --seconds"
    assert main([*options.split(), "3"]) == 0
    assert "sold 100, the last one at second" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*options.split(), "0.5"])
    assert "--seconds: the last ticket is not sold" in capsys.readouterr().err
