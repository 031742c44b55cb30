"""The OpenAPI document, compared with its standard, the template and the code."""

import json
import re
from typing import Any

from openapi_spec_validator import validate

import admin.app
import buy_ticket.app
import hold_ticket.app
import inventory.app
import storefront.app
from tests.functions import load
from tests.support import ROOT
from tests.unit.test_functions import EXPECTED
from tests.unit.test_template import methods
from ticketing.api import openapi
from ticketing.api.problems import Code
from ticketing.api.routes import ROUTES

DOCUMENT: dict[str, Any] = json.loads(openapi.document())
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}


def test_valid_openapi_3_1() -> None:
    validate(DOCUMENT)
    assert DOCUMENT["openapi"] == "3.1.0"


def test_routes_equal_template() -> None:
    assert OPERATIONS.keys() == methods().keys()
    assert {str(route) for route in ROUTES} == OPERATIONS.keys()


def test_readme_routes() -> None:
    """Its API section has a row for each route, with who calls it, and one for each code."""
    section = (ROOT / "README.md").read_text().partition("## The API")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([A-Z]+ /\S*)` \| (\w+)", section, re.MULTILINE))
    assert rows == {str(route): route.audience for route in ROUTES}
    for code in Code:
        (statuses,) = re.findall(rf"^\|[^|]*\|([^|]*)\|[^|]*`{code}`", section, re.MULTILINE)[:1]
        assert str(code.status.value) in statuses, code


def test_every_route_has_handler() -> None:
    assert {
        route
        for app in (buy_ticket.app, hold_ticket.app, inventory.app, admin.app, storefront.app)
        for route in app.HANDLERS
    } == set(ROUTES)
    assert len({route.name for route in ROUTES}) == len(ROUTES)


def test_signed_routes_equal_template() -> None:
    signed = {route for route, operation in methods().items() if "AWS_IAM" in json.dumps(operation)}
    documented = {
        route
        for route, operation in OPERATIONS.items()
        if "sigv4" in str(operation.get("security"))
    }
    assert signed == documented


def test_every_expected_status() -> None:
    for name, (status, body) in EXPECTED.items():
        event = load(name)
        route = f"{event['httpMethod']} {event['resource']}"
        if route in OPERATIONS:
            assert str(status) in OPERATIONS[route]["responses"], name
            codes = next(each.all_codes for each in ROUTES if str(each) == route)
            assert not isinstance(body, str) or body in codes, name


def test_every_code() -> None:
    assert set(DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == set(
        Code
    )


def test_bounds() -> None:
    quantity = DOCUMENT["components"]["schemas"]["BuyTicket"]["properties"]["quantity"]
    assert (quantity["minimum"], quantity["maximum"], quantity["default"]) == (1, 10, 1)


def test_patterns_are_ecmascript() -> None:
    """Python's `\\Z` means nothing in ECMAScript, and Python's $ accepts a final line feed."""
    patterns = re.findall(r'"pattern":\s*"((?:[^"\\]|\\.)*)"', openapi.document())
    assert len(patterns) == 13
    for pattern in patterns:
        assert not re.search(r"\\\\[AZ]|\(\?P", pattern)
        assert not re.search(json.loads(f'"{pattern}"'), "k" * 20 + "\n")
