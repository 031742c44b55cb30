"""The bill: its arithmetic by hand, its constants against the template, and the command."""

import json
from copy import replace
from pathlib import Path

import msgspec
import pytest

from benchmarks import bill, cases, prices, traffic
from benchmarks.bill import Costs, OrderCost, PricedSale, Rush, lines, quotas, standing
from benchmarks.cost import BILL, Bill, costs, main, simulated, steps, written
from benchmarks.prices import GIGABYTE, MILLION, Price
from benchmarks.report import README
from benchmarks.traffic import Traffic
from benchmarks.units import SHARDS, Units
from tests.support import template

SALE = PricedSale(buyers=1000, tickets=100, minutes=10, peak=20, shards=10, reads=2)
PRICES = [price for price in vars(prices).values() if isinstance(price, Price)]
NOTHING = OrderCost(requests=1, served=1, calls=0, serving_seconds=0, write_units=0, read_units=0)
RUSH = Rush(
    opening=replace(NOTHING, requests=1.5, calls=2, serving_seconds=0.03, write_units=5),
    orders_per_ticket=1.25,
    late=replace(NOTHING, calls=1, serving_seconds=0.01, read_units=4),
    late_orders=50,
    refused=replace(NOTHING, calls=1, serving_seconds=0.02, read_units=2),
    environments=40,
    throttled=0.25,
)
KINDS = {
    name: Traffic(log_bytes=1000, response_bytes=500, metrics=(name,), record_bytes=200)
    for name in cases.CASES
}
COSTS = Costs(
    cpu_seconds=dict.fromkeys((cases.BARE, *cases.CASES), 0.001),
    traffic=KINDS,
    units={bill.CONFIRMATION_UNITS: Units("", 2, 6, 1)},
)


def dollars(sale: PricedSale = SALE, rush: Rush = RUSH) -> dict[str, float]:
    """Return what each line of the bill costs."""
    return {f"{line.service}: {line.price}": line.dollars for line in lines(sale, rush, COSTS)}


def test_price() -> None:
    per_million = Price("a", "requests", 3.5, MILLION, "")
    assert (per_million.of(2_000_000), per_million.text) == (7.0, "$3.50 per million requests")
    per_gigabyte = Price("a", "logs", 0.625, GIGABYTE, "")
    assert (per_gigabyte.of(2e9), per_gigabyte.text) == (1.25, "$0.625 per GB of logs")
    assert per_gigabyte.amount(1.5e9) == "1.500 GB"
    assert len(PRICES) > 10
    assert all(price.source.startswith("https://aws.amazon.com/") for price in PRICES)


def test_bill_by_hand() -> None:
    """125 orders for 100 tickets, 50 just after them, 825 later, 2,000 reads of the inventory."""
    found = {line.what: line.amount for line in lines(SALE, RUSH, COSTS)}
    gateway, served, seconds, *_ = lines(SALE, RUSH, COSTS)
    assert (gateway.amount, served.amount) == ("3,062", "3,000")
    waited = 125 * 0.03 + 50 * 0.01 + 825 * 0.02 + 200 * bill.INVENTORY_SECONDS
    # A purchase has its call in it; of 125 orders 25 are refused, and all make two calls.
    opening = 100 * (1 - 1) + 25 * 1 + 125 * 2
    computed = 0.001 * (opening + 875 * 2 + 2000 * 1.2) / bill.CORE + 3000 * 0.0005
    assert seconds.amount == f"{waited + computed:.0f}"
    assert found["purchases, conflicts, summaries"] == "625"
    assert found["refusals, inventories, summaries"] == f"{50 * 4 + 825 * 2 + 200 * 11:,}"
    assert found["starting 44 environments"] == "18"
    logs = 3000 * 1000 + 3062.5 * traffic.access_log_bytes()
    assert found["log lines of functions and gateway"] == f"{logs / 1e9:.3f} GB"
    assert found["responses"] == f"{3062.5 * 500 / 1e9:.3f} GB"
    assert found["one a second, and 5 % of the others"] == f"{600 + 0.05 * 2462.5:,.0f}"
    # Metrics: of the three kinds, "Conflicts", and the gateway's of two routes.
    assert "14 metrics for 1 h" in found


def test_holds_cost_their_confirmation() -> None:
    bought, held = dollars(), dollars(replace(SALE, is_held=True))
    writes = f"DynamoDB: {prices.WRITE_UNITS.text}"
    assert held[writes] == pytest.approx(bought[writes] + prices.WRITE_UNITS.of(600), abs=1e-4)
    assert all(held[name] >= bought[name] for name in bought)


def test_all_can_buy() -> None:
    """No refusal is in the bill where there are more tickets than buyers."""
    found = {line.what: line.amount for line in lines(replace(SALE, tickets=5000), RUSH, COSTS)}
    assert found["refusals, inventories, summaries"] == "2,200"
    (_, records, _) = standing(replace(SALE, tickets=5000), COSTS)
    assert records.dollars == pytest.approx(1000 * 300 / 1e9 * 0.25, abs=1e-4)


def test_quotas_of_small_sale() -> None:
    assert all(quota.is_enough for quota in quotas(SALE, RUSH))
    todo = "\n".join(steps(SALE, RUSH, quotas(SALE, RUSH)))
    assert "higher quotas" not in todo
    assert "warm-throughput" not in todo


def test_quotas_of_big_sale() -> None:
    sale = replace(SALE, peak=9000, shards=100)
    short = {quota.what: quota.need for quota in quotas(sale, RUSH) if not quota.is_enough}
    assert short["API Gateway: requests a second in the Region"] == 13_500 + 18_000
    assert short["Lambda: environments in the Region"] == 900 + 1800
    assert short["DynamoDB: write units a second of any table"] == 45_000
    assert short["Template: InventoryRateLimit"] == 18_000
    todo = "\n".join(steps(sale, RUSH, quotas(sale, RUSH)))
    assert "WriteUnitsPerSecond=45000" in todo
    assert "ask AWS for 5 higher quotas" in todo
    assert "Consider a cache" in todo


def test_constants_are_the_templates() -> None:
    loaded = template()
    of_all = loaded["Globals"]["Function"]
    assert of_all["MemorySize"] == bill.MEMORY_GB * 1024
    assert loaded["Parameters"]["Architecture"]["Default"] == "arm64"
    assert "arm64" in prices.LAMBDA_SECONDS.unit
    limits = {name: loaded["Parameters"][name]["Default"] for name in bill.PARAMETERS}
    assert limits == bill.PARAMETERS
    functions = [
        resource["Properties"]
        for resource in loaded["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    ]
    with_snapshot = [each for each in functions if "SnapStart" not in each]
    assert of_all["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    assert len(with_snapshot) == bill.SNAPSHOTS
    assert loaded["Resources"]["TicketsTable"]["Properties"]["BillingMode"] == "PAY_PER_REQUEST"


def test_inventory_is_as_counted() -> None:
    counted = costs().units["`GET /inventory`, not cached"]
    assert (counted.calls, counted.read_units) == (bill.INVENTORY_CALLS, 1 + SHARDS)


def test_access_line_is_the_templates() -> None:
    stage = template()["Resources"]["Api"]["Properties"]
    assert list(json.loads(stage["AccessLogSetting"]["Format"])) == list(
        json.loads(traffic.ACCESS_LINE)
    )


def test_traffic() -> None:
    found = traffic.measured()
    assert list(found) == list(cases.CASES)
    assert found[cases.PURCHASE].metrics == ("Sold buy-ticket",)
    assert found[cases.REFUSAL_WITH_KEY].metrics == ("SoldOut buy-ticket",)
    assert all(700 < each.log_bytes < 1200 for each in found.values())
    assert 100 < found[cases.PURCHASE].record_bytes < 1000


def test_simulated_sale() -> None:
    """A purchase costs its 4 write units and its conflicts, a refusal with a key a read."""
    rush = simulated(PricedSale(buyers=2000, tickets=150, minutes=1, peak=100, shards=15, reads=0))
    assert 4 <= rush.opening.write_units < 8
    assert rush.opening.served == pytest.approx(1, abs=0.1)
    assert 0.025 < rush.opening.serving_seconds < 0.1
    assert rush.refused.write_units < 0.5
    assert 1 <= rush.refused.read_units < 20
    assert rush.throttled == 0


def test_few_tickets_for_many() -> None:
    """Most orders of the opening are refused, and none is counted twice."""
    rush = simulated(PricedSale(buyers=9000, tickets=1, minutes=1, peak=1500, shards=1, reads=0))
    assert rush.orders_per_ticket > 20
    assert rush.opening.write_units < 4
    sale = replace(SALE, buyers=9000, tickets=1, reads=0)
    gateway = lines(sale, replace(rush, opening=NOTHING, late=NOTHING, refused=NOTHING), COSTS)[0]
    assert gateway.amount == "9,000"


def test_too_few_shards(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--buyers 20000 --tickets 400 --minutes 1 --peak 400 --shards 1"
    with pytest.raises(SystemExit):
        main(options.split())
    assert "--shards: 1 sell too slowly for 400 buyers a second" in capsys.readouterr().err


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bill.json"
    options = f"--buyers 300 --tickets 20 --minutes 1 --holds --json {path}"
    assert main(options.split()) == 0
    output = capsys.readouterr().out
    assert "300 buyers for 20 tickets in 1 min, 50 a second at the opening" in output
    assert "InventoryRateLimit" in output
    found = json.loads(path.read_text())
    total = sum(line["dollars"] for line in found["lines"])
    assert f"${total:.2f} in all" in output.replace("\n", " ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--buyers 0", "--buyers: from 1"),
        ("--tickets 0", "--tickets: from 1"),
        ("--shards 101", "--shards: from 1 to 100"),
        ("--buyers 90000000 --minutes 10", "--minutes: these are 150,000 buyers a second"),
        ("--buyers 60000 --minutes 1 --peak 10", "--peak: from the average, 1,000, to 10,000"),
    ],
)
def test_bad_options(options: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(options.split())
    assert words in capsys.readouterr().err


def test_readme_shows_bill() -> None:
    result = msgspec.json.decode(BILL.read_bytes(), type=Bill)
    readme = README.read_text()
    assert written(readme, result) == readme
    assert result.on == prices.READ_ON
    known = {price.text for price in PRICES}
    assert {line.price for line in (*result.lines, *result.standing)} <= known
