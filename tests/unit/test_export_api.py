"""The export over HTTP: two formats, parts that are one file, and cells that are no formulas."""

import csv
import io
import json
import re
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.functions import Functions, header, load
from ticketing.api.export import COLUMNS, export_text
from ticketing.api.schemas import Format
from ticketing.limits import (
    BUYER_ID_LENGTH_MAX,
    EXPORT_RECORDS_MAX,
    EXPORT_RECORDS_WITH_HOLDS_MAX,
    PAYMENT_REFERENCE_LENGTH_MAX,
)
from ticketing.model import ExportPart, ExportTotal, Purchase
from ticketing.moves import Status

DELIMITERS = ",;\t|"
LAMBDA_RESPONSE_BYTES_MAX = 6 * 1024 * 1024  # AWS


def asking(**query: str) -> dict[str, Any]:
    return load("admin/export.json") | {
        "queryStringParameters": query,
        "multiValueQueryStringParameters": {name: [value] for name, value in query.items()},
    }


def export(functions: Functions, **query: str) -> tuple[list[str], str]:
    """Return the bodies of all parts, and their content type. Follows the links."""
    texts, types = [], set()
    while True:
        result = functions.call("admin", asking(**query))
        assert result["statusCode"] == 200, result["body"]
        assert header(result, "Cache-Control") == "no-store"
        texts.append(result["body"])
        types.add(header(result, "Content-Type"))
        link = header(result, "Link")
        if link is None:
            (type_,) = types
            assert type_
            return texts, type_
        match = re.fullmatch(r'<\?(.*)>; rel="next"', link)
        assert match
        query = {name: value for name, (value,) in parse_qs(match[1]).items()}


def part(text: str, *, is_first: bool = True) -> ExportPart:
    """Return an export with this text wherever a buyer or a record may have put it."""
    purchase = Purchase(
        "id", 1, 1, text, 2, Status.CONFIRMED, {0: 2}, "f", "now", payment_reference=text
    )
    return ExportPart(1, 1, [purchase], is_first, ExportTotal(1, 2, 0, 2, [text], "now"), None)


@pytest.fixture
def sold(functions: Functions) -> Functions:
    functions.world.open_sale(stock=50, shards=2)
    for number in range(5):
        functions.buy({"quantity": 2, "buyer_id": f"=cmd|'/C calc'!A{number}".replace(" ", "")})
    return functions


def one_record_a_page(functions: Functions) -> None:
    def scan(scan: Any, **request: Any) -> Any:
        return scan(**request | {"Limit": 1}) | {"ScannedCount": request["Limit"]}

    functions.world.client.replace("scan", scan)


@pytest.mark.G4
def test_json_lines(sold: Functions) -> None:
    (text,), type_ = export(sold)
    assert type_ == "application/jsonl"
    assert text.endswith("\n")
    *purchases, total = [json.loads(line) for line in text.splitlines()]
    assert len(purchases) == 5
    for number, line in enumerate(sorted(purchases, key=lambda line: str(line["buyer_id"]))):
        assert line.pop("purchase_id")
        assert line == {
            "type": "purchase",
            "item_id": 1,
            "generation": 1,
            "status": "confirmed",
            "quantity": 2,
            "refunded_quantity": 0,
            "tickets": 2,
            "buyer_id": f"=cmd|'/Ccalc'!A{number}",
            "purchased_at": "2027-01-15T08:00:00.000000Z",
            "refunded_at": None,
            "payment_reference": None,
        }
    assert total == {
        "type": "total",
        "item_id": 1,
        "generation": 1,
        "quantity": 10,
        "refunded_quantity": 0,
        "tickets": 10,
        "purchases": 5,
        "sold": 10,
        "agrees": True,
        "checked_at": "2027-01-15T08:00:00.000000Z",
        "problems": [],
    }


@pytest.mark.G4
def test_holds(sold: Functions) -> None:
    """They come after the purchases, where they are asked for, and are no part of the total."""
    sold.world.open_sale(stock=9, shards=2)
    holding = load("hold_ticket/hold_empty_body.json")
    kept, confirmed, released = (
        json.loads(sold.call("hold_ticket", holding)["body"]) for _ in range(3)
    )
    for name, hold in (("confirm_paid", confirmed), ("release", released)):
        of_hold = {"pathParameters": {"hold_id": hold["hold_id"]}}
        sold.call("hold_ticket", load(f"hold_ticket/{name}.json") | of_hold)
    (text,), _ = export(sold, holds="true")
    purchase, *holds, total = [json.loads(line) for line in text.splitlines()]
    assert purchase["purchase_id"] == confirmed["hold_id"]
    assert {each["hold_id"]: each for each in holds} == {
        each["hold_id"]: each | {"type": "hold", "status": status}
        for each, status in ((kept, "held"), (confirmed, "confirmed"), (released, "released"))
    }
    assert (total["purchases"], total["tickets"], total["agrees"]) == (1, 1, True)
    one_record_a_page(sold)
    parts, _ = export(sold, holds="true")
    assert len(parts) > 2
    assert sorted("".join(parts).splitlines()) == sorted(text.splitlines())
    tables, _ = export(sold, format="csv", holds="true")
    rows = list(csv.DictReader(io.StringIO("".join(tables))))
    assert [row["hold_id"] for row in rows if row["type"] == "hold"] == [
        each["hold_id"] for each in holds
    ]


def test_holds_with_another_cursor(sold: Functions) -> None:
    one_record_a_page(sold)
    link = header(sold.call("admin", asking()), "Link")
    assert link
    (cursor,) = parse_qs(link)["cursor"]
    result = sold.call("admin", asking(cursor=cursor.partition(">")[0], holds="true"))
    assert (result["statusCode"], json.loads(result["body"])["field"]) == (422, "holds")


@pytest.mark.G4
def test_csv(sold: Functions) -> None:
    (text,), type_ = export(sold, format="csv")
    assert type_ == "text/csv; charset=utf-8"
    assert text.count("\r\n") == text.count("\n") == 7, "RFC 4180"
    *purchases, total = csv.DictReader(io.StringIO(text))
    assert {each["type"] for each in purchases} == {"purchase"}
    assert {each["buyer_id"] for each in purchases} == {
        f"'=cmd|'/Ccalc'!A{number}" for number in range(5)
    }
    assert sum(int(each["tickets"]) for each in purchases) == int(total["tickets"]) == 10
    given = {name: value for name, value in total.items() if value}
    assert given == {
        "type": "total",
        "item_id": "1",
        "generation": "1",
        "quantity": "10",
        "refunded_quantity": "0",
        "tickets": "10",
        "purchases": "5",
        "sold": "10",
        "agrees": "true",
        "checked_at": "2027-01-15T08:00:00.000000Z",
    }


@pytest.mark.G4
@pytest.mark.parametrize("shape", Format)
def test_parts_are_one_file(sold: Functions, shape: Format) -> None:
    (whole,), type_ = export(sold, format=shape)
    one_record_a_page(sold)
    texts, type_of_parts = export(sold, format=shape)
    assert len(texts) > 2
    assert "".join(texts) == whole
    assert type_of_parts == type_


def test_empty_cursor(sold: Functions) -> None:
    """It is none, so the part is the first one."""
    (text,), _ = export(sold, format="csv", cursor="")
    assert text.startswith("type,")


def test_generation(sold: Functions) -> None:
    sold.world.open_sale(stock=5, shards=1)
    ((text,), _), ((before,), _) = export(sold), export(sold, generation="1")
    assert len(text.splitlines()) == 1
    assert len(before.splitlines()) == 6
    assert json.loads(before.splitlines()[-1])["sold"] is None


@given(st.text(alphabet="=+-@,;|\t\r\n\"' a1\uff1d", max_size=12))
def test_no_formulas(text: str) -> None:
    """Wherever a spreadsheet splits lines, no cell begins as a formula does."""
    content = export_text(part(text), Format.CSV)
    for delimiter in DELIMITERS:
        for row in csv.reader(io.StringIO(content, newline=""), delimiter=delimiter):
            for cell in row:
                assert not re.match(r'["\s]*[=+\-@\uff1d]', cell), (delimiter, row)


@given(st.text(alphabet="ab,;|\t\r\n\"' 1", max_size=12))
def test_other_cells_are_exact(text: str) -> None:
    content = io.StringIO(export_text(part(text), Format.CSV), newline="")
    row, total = csv.DictReader(content)
    assert (row["buyer_id"], row["payment_reference"], total["problems"]) == (text,) * 3


def test_header_stands_once() -> None:
    assert export_text(part("a"), Format.CSV).startswith(",".join(COLUMNS))
    assert "buyer_id" not in export_text(part("a", is_first=False), Format.CSV)


@pytest.mark.parametrize("shape", Format)
def test_largest_part(shape: Format) -> None:
    """It is smaller than a function may answer, though each quote is written with two others."""
    many = (1 << 53) - 1
    largest = Purchase(
        "7c9e6679-7425-40de-944b-e07fc1f90ae7",
        many,
        many,
        '"' * BUYER_ID_LENGTH_MAX,
        many,
        Status.CONFIRMED,
        {0: many},
        "f",
        "2027-01-15T08:00:00.000000Z",
        payment_reference='"' * PAYMENT_REFERENCE_LENGTH_MAX,
        refunded_at="2027-01-15T08:00:00.000000Z",
    )
    for records, with_holds in ((EXPORT_RECORDS_MAX, False), (EXPORT_RECORDS_WITH_HOLDS_MAX, True)):
        many_of_them = [largest] * records
        holds = many_of_them if with_holds else None
        most = ExportPart(1, 1, many_of_them, True, None, "cursor", holds)
        response = json.dumps({"body": export_text(most, shape)})
        assert len(response) < LAMBDA_RESPONSE_BYTES_MAX
