"""The OpenAPI document against the document's own standard, the template and the code."""

import json
import re
from typing import Any

from openapi_spec_validator import validate

from inventory import openapi
from tests.unit.test_functions import EXPECTED, load
from tests.unit.test_template import methods
from ticketing.http import PROBLEMS

DOCUMENT: dict[str, Any] = json.loads(openapi.document())
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}


def test_it_is_openapi_3_1() -> None:
    validate(DOCUMENT)
    assert DOCUMENT["openapi"] == "3.1.0"


def test_it_describes_exactly_what_the_template_deploys() -> None:
    assert OPERATIONS.keys() == methods().keys()
    assert openapi.endpoints().keys() == OPERATIONS.keys()


def test_it_demands_a_signature_where_the_template_does() -> None:
    signed = {route for route, operation in methods().items() if "AWS_IAM" in json.dumps(operation)}
    assert signed == {route for route, operation in OPERATIONS.items() if operation.get("security")}


def test_every_expected_answer_is_described() -> None:
    for name, (status, _) in EXPECTED.items():
        event = load(name)
        route = f"{event['httpMethod']} {event['resource']}"
        if route in OPERATIONS:
            assert str(status) in OPERATIONS[route]["responses"], name


def test_every_code_is_described() -> None:
    assert set(DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == PROBLEMS.keys()


def test_bounds_are_the_ones_that_are_enforced() -> None:
    quantity = DOCUMENT["components"]["schemas"]["BuyTicket"]["properties"]["quantity"]
    assert (quantity["minimum"], quantity["maximum"], quantity["default"]) == (1, 10, 1)


def test_patterns_mean_the_same_to_readers_of_json_schema() -> None:
    """Python's \\Z and friends mean nothing in ECMAScript, and Python's $ admits a final line feed."""
    patterns = re.findall(r'"pattern":\s*"((?:[^"\\]|\\.)*)"', openapi.document())
    assert len(patterns) == 4
    for pattern in patterns:
        assert not re.search(r"\\\\[AZ]|\(\?P", pattern)
        assert not re.search(json.loads(f'"{pattern}"'), "k" * 20 + "\n")
