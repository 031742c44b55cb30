"""The transformed template: permissions, signatures, limits, and what outlives the stack."""

import json
import time
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec
import pytest
from samtranslator.translator.managed_policy_translator import ManagedPolicyLoader
from samtranslator.translator.transform import transform

from admin.schedule import PROBLEMS_METRIC
from tests.support import eventually, template
from ticketing import limits
from ticketing.api.routes import ROUTES
from ticketing.api.schemas import Problem
from ticketing.api.telemetry import NAMESPACE

PARTITION_POLICIES = {
    name: f"arn:aws:iam::aws:policy/{name}"
    for name in (
        "service-role/AWSLambdaBasicExecutionRole",
        "AWSXrayWriteOnlyAccess",
        "AWSXRayDaemonWriteAccess",
    )
}
READ = {"dynamodb:GetItem", "dynamodb:BatchGetItem"}
# A shard that is missing is created in a transaction that checks the sale's record.
WRITE = {"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:ConditionCheckItem"}
# The table permissions of each function: exactly those of the store calls that it makes.
ACTIONS = {
    "BuyTicketFunctionRole": READ | WRITE,
    "HoldTicketFunctionRole": READ | WRITE,
    "InventoryFunctionRole": READ,
    "StorefrontFunctionRole": set(),
    "ItemsFunctionRole": READ | WRITE,
    "AuditFunctionRole": READ | {"dynamodb:Scan"},
    "ScheduledAuditFunctionRole": READ | {"dynamodb:Scan"},
    "RepairFunctionRole": READ | {"dynamodb:Scan", "dynamodb:PutItem"},
    "RefundFunctionRole": {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"},
    "ResetFunctionRole": READ | WRITE,
}


class _Policies(ManagedPolicyLoader):  # type: ignore[misc]
    """The managed policies that SAM adds by name, without a call of AWS."""

    def __init__(self) -> None:
        super().__init__(None)

    def load(self) -> dict[str, str]:
        names = {policy.rpartition("/")[2]: arn for policy, arn in PARTITION_POLICIES.items()}
        return names | PARTITION_POLICIES


@cache
def resources() -> dict[str, Any]:
    """Return the template's resources after the SAM transform."""
    source = template()
    source["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"  # as `sam package` leaves it
    transformed = transform(source, {"AWS::Region": "us-east-1"}, _Policies())
    found: dict[str, Any] = transformed["Resources"]
    return found


def of_type(kind: str) -> dict[str, Any]:
    return {name: resource for name, resource in resources().items() if resource["Type"] == kind}


def methods() -> dict[str, Any]:
    """Return "POST /reset" → its OpenAPI operation, with its condition."""
    (api,) = of_type("AWS::ApiGateway::RestApi").values()
    found: dict[str, Any] = {}
    for path, operations in api["Properties"]["Body"]["paths"].items():
        condition = None
        if "Fn::If" in operations:
            condition, operations, _ = operations["Fn::If"]  # noqa: PLW2901
        for method, operation in operations.items():
            if isinstance(operation, dict) and "Fn::If" in operation:
                condition, operation, _ = operation["Fn::If"]  # noqa: PLW2901
            found[f"{method.upper()} {path}"] = operation | {"condition": condition}
    return found


def test_one_role_per_function() -> None:
    roles = [
        function["Properties"]["Role"]["Fn::GetAtt"][0]
        for function in of_type("AWS::Lambda::Function").values()
    ]
    assert sorted(roles) == sorted(ACTIONS)


@pytest.mark.parametrize("role", ACTIONS)
def test_table_permissions(role: str) -> None:
    policies = resources()[role]["Properties"].get("Policies", [])
    if not ACTIONS[role]:
        assert policies == []
        return
    (policy,) = policies
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert set(statement["Action"]) == ACTIONS[role]
    assert statement["Resource"] == {"Fn::GetAtt": ["TicketsTable", "Arn"]}
    assert statement["Effect"] == "Allow"


@pytest.mark.parametrize("role", ACTIONS)
def test_other_permissions(role: str) -> None:
    """Only logs and traces."""
    managed = resources()[role]["Properties"]["ManagedPolicyArns"]
    assert len(managed) == 2
    assert {str(arn).rpartition("/")[2].strip("'}") for arn in managed} <= {
        "AWSLambdaBasicExecutionRole",
        "AWSXrayWriteOnlyAccess",
        "AWSXRayDaemonWriteAccess",
    }


def test_no_wildcard() -> None:
    statements = [
        statement
        for role in of_type("AWS::IAM::Role").values()
        for policy in role["Properties"].get("Policies", [])
        for statement in policy["PolicyDocument"]["Statement"]
    ]
    assert len(statements) == sum(map(bool, ACTIONS.values()))
    assert not any("*" in str(statement) for statement in statements)


def test_signed_routes() -> None:
    signed = {route for route, operation in methods().items() if "AWS_IAM" in str(operation)}
    assert signed == {str(route) for route in ROUTES if route.is_signed}
    assert len(signed) == 9


def test_buyers_sign_in() -> None:
    """Where a user pool is named, on the routes that name a buyer; otherwise nothing changes."""
    nothing = {"Ref": "AWS::NoValue"}
    assert template()["Parameters"]["UserPoolArn"]["Default"] == ""
    security = {
        route: operation["security"]
        for route, operation in methods().items()
        if "security" in operation and "AWS_IAM" not in str(operation["security"])
    }
    on_condition = {"Fn::If": ["BuyersSignIn", [{"Buyers": []}], nothing]}
    assert security == {str(route): on_condition for route in ROUTES if route.names_buyer}
    (api,) = of_type("AWS::ApiGateway::RestApi").values()
    assert api["Properties"]["Body"]["info"]["title"] == {"Ref": "AWS::StackName"}
    schemes = api["Properties"]["Body"]["components"]["securitySchemes"]
    assert schemes.keys() == {"AWS_IAM", "Buyers"}
    assert schemes["AWS_IAM"]["x-amazon-apigateway-authtype"] == "awsSigv4"
    condition, scheme, otherwise = schemes["Buyers"]["Fn::If"]
    assert (condition, otherwise) == ("BuyersSignIn", nothing)
    authorizer = scheme["x-amazon-apigateway-authorizer"]
    assert authorizer == {"type": "cognito_user_pools", "providerARNs": [{"Ref": "UserPoolArn"}]}


def test_reset_needs_parameter() -> None:
    assert methods()["POST /reset"]["condition"] == "ResetAllowed"
    assert template()["Parameters"]["AllowReset"]["Default"] == "false"
    assert [route for route, operation in methods().items() if operation["condition"]] == [
        "POST /reset"
    ]
    for name, resource in resources().items():
        if name.startswith("ResetFunction"):
            assert resource.get("Condition") == "ResetAllowed", name


def test_new_deployment_for_reset() -> None:
    """With the same deployment the route would stay as it was: missing, or still there."""
    first = [
        name
        for name, resource in resources().items()
        if resource["Type"] == "AWS::ApiGateway::Deployment"
    ]
    resources.cache_clear()
    # SAM derives the name from the current second.
    began = int(time.time())
    eventually(lambda: int(time.time()), lambda second: second != began)
    second = [
        name
        for name, resource in resources().items()
        if resource["Type"] == "AWS::ApiGateway::Deployment"
    ]
    assert first != second


def test_production_keeps_table() -> None:
    table = resources()["TicketsTable"]
    retained = {"Fn::If": ["IsProduction", "Retain", "Delete"]}
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == (retained, retained)
    properties = table["Properties"]
    assert properties["DeletionProtectionEnabled"] == {"Fn::If": ["IsProduction", True, False]}
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["SSESpecification"] == {"SSEEnabled": True}
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert template()["Parameters"]["Stage"]["Default"] == "production"


def test_function_settings() -> None:
    functions = of_type("AWS::Lambda::Function")
    for function in functions.values():
        properties = function["Properties"]
        assert properties["Runtime"] == "python3.13"
        assert properties["TracingConfig"] == {"Mode": "Active"}
        can_wait = properties["Handler"].startswith(("admin.", "storefront."))
        assert properties["SnapStart"] == {"ApplyOn": "None" if can_wait else "PublishedVersions"}
        assert properties["Architectures"] == [{"Ref": "Architecture"}]
        assert properties["LoggingConfig"] == {"LogGroup": {"Ref": "FunctionLogs"}}
    assert (
        len(of_type("AWS::Lambda::Alias")) == len(of_type("AWS::Lambda::Version")) == len(functions)
    )


@pytest.mark.G6
def test_time_limits() -> None:
    """Budget + slowest store call < Lambda's timeout < API Gateway's, which gives up then."""
    budgets = {
        "BuyTicketFunction": limits.PURCHASE_BUDGET_SECONDS,
        "HoldTicketFunction": limits.PURCHASE_BUDGET_SECONDS,
        "InventoryFunction": limits.CATALOGUE_BUDGET_SECONDS,
        "StorefrontFunction": 0,  # it calls no store
        "ItemsFunction": limits.CATALOGUE_BUDGET_SECONDS,
        "AuditFunction": limits.AUDIT_BUDGET_SECONDS,
        "RepairFunction": limits.AUDIT_BUDGET_SECONDS,
        "RefundFunction": limits.REFUND_BUDGET_SECONDS,
        "ResetFunction": limits.CATALOGUE_BUDGET_SECONDS,
    }
    functions = of_type("AWS::Lambda::Function")
    scheduled = functions.pop("ScheduledAuditFunction")["Properties"]
    assert scheduled["Timeout"] == 900, "no one waits for it; Lambda allows no more"
    assert functions.keys() == budgets.keys()
    for name, function in functions.items():
        last_answer = budgets[name] + limits.STORE_CALL_SECONDS_MAX
        timeout = function["Properties"]["Timeout"]
        assert last_answer < timeout < limits.GATEWAY_TIMEOUT_SECONDS, name


def test_audit_by_schedule() -> None:
    """The alarm is on the metric that the function writes, and no rule is forgotten."""
    (rule,) = of_type("AWS::Events::Rule").values()
    assert rule["Properties"]["ScheduleExpression"] == {"Ref": "AuditSchedule"}
    (target,) = rule["Properties"]["Targets"]
    assert target["Arn"] == {"Ref": "ScheduledAuditFunctionAliaslive"}
    function = resources()["ScheduledAuditFunction"]["Properties"]
    assert function["Handler"] == "admin.lambda_function.scheduled_audit"
    (alarm,) = of_type("AWS::CloudWatch::Alarm").values()
    properties = alarm["Properties"]
    service = function["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]
    assert properties["Dimensions"] == [{"Name": "service", "Value": service}]
    assert (properties["Namespace"], properties["MetricName"]) == (NAMESPACE, PROBLEMS_METRIC)
    assert (properties["Statistic"], properties["Threshold"]) == ("Maximum", 0)
    assert properties["ComparisonOperator"] == "GreaterThanThreshold"


def test_rate_limits() -> None:
    """Readers are throttled before buyers."""
    (stage,) = of_type("AWS::ApiGateway::Stage").values()
    everything, looking, listing = stage["Properties"]["MethodSettings"]
    assert (everything["ResourcePath"], everything["ThrottlingRateLimit"]) == (
        "/*",
        {"Ref": "RateLimit"},
    )
    assert (looking["ResourcePath"], looking["HttpMethod"]) == ("/inventory", "GET")
    assert (listing["ResourcePath"], listing["HttpMethod"]) == ("/items", "GET")
    for readers in (looking, listing):
        assert readers["ThrottlingRateLimit"] == {"Ref": "InventoryRateLimit"}
    parameters = template()["Parameters"]
    assert parameters["InventoryRateLimit"]["Default"] * 3 <= parameters["RateLimit"]["Default"]


def test_log_retention() -> None:
    groups = of_type("AWS::Logs::LogGroup")
    assert len(groups) == 2
    assert all(
        group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
        for group in groups.values()
    )


def test_stage_waits_for_logs_role() -> None:
    (stage,) = of_type("AWS::ApiGateway::Stage").values()
    waits_for = {"Fn::If": ["CreatesApiGatewayLogsRole", {"Ref": "ApiGatewayAccount"}, "existing"]}
    assert stage["Properties"]["Variables"] == {"AccessLogsRole": waits_for}


def test_access_log_format() -> None:
    """It names no caller."""
    (stage,) = of_type("AWS::ApiGateway::Stage").values()
    log_format = stage["Properties"]["AccessLogSetting"]["Format"]
    for private in ("identity", "$context.path", "$context.authorizer", "header"):
        assert private not in log_format
    assert "$context.resourcePath" in log_format
    assert stage["Properties"]["StageName"] == "live"


# Every response type of the documentation ("Gateway response types for API Gateway") → status and
# code. A default covers several types, and cannot tell their status.
GATEWAY_RESPONSES = {
    "ACCESS_DENIED": (403, "forbidden"),
    "API_CONFIGURATION_ERROR": (500, "internal_error"),
    "AUTHORIZER_CONFIGURATION_ERROR": (500, "internal_error"),
    "AUTHORIZER_FAILURE": (500, "internal_error"),
    "BAD_REQUEST_BODY": (400, "invalid_request"),
    "BAD_REQUEST_PARAMETERS": (400, "invalid_request"),
    "DEFAULT_4XX": (None, "invalid_request"),
    "DEFAULT_5XX": (None, "busy"),
    "EXPIRED_TOKEN": (403, "forbidden"),
    "INTEGRATION_FAILURE": (504, "busy"),
    "INTEGRATION_TIMEOUT": (504, "busy"),
    "INVALID_API_KEY": (403, "forbidden"),
    "INVALID_SIGNATURE": (403, "forbidden"),
    "MISSING_AUTHENTICATION_TOKEN": (403, "forbidden"),
    "QUOTA_EXCEEDED": (429, "busy"),
    "REQUEST_TOO_LARGE": (413, "invalid_request"),
    "RESOURCE_NOT_FOUND": (404, "not_found"),
    "THROTTLED": (429, "busy"),
    "UNAUTHORIZED": (401, "unauthorized"),
    "UNSUPPORTED_MEDIA_TYPE": (415, "invalid_request"),
    "WAF_FILTERED": (403, "forbidden"),
}


def gateway_responses() -> dict[str, Any]:
    (api,) = of_type("AWS::ApiGateway::RestApi").values()
    found: dict[str, Any] = api["Properties"]["Body"]["x-amazon-apigateway-gateway-responses"]
    return found


def test_every_gateway_response_type() -> None:
    assert gateway_responses().keys() == GATEWAY_RESPONSES.keys()


@pytest.mark.parametrize("kind", GATEWAY_RESPONSES)
def test_gateway_response_shape(kind: str) -> None:
    status, code = GATEWAY_RESPONSES[kind]
    response = gateway_responses()[kind]
    (media_type,) = response["responseTemplates"]
    text = response["responseTemplates"][media_type].replace(
        "$context.error.messageString", '"Why."'
    )
    if status is None:
        problem = json.loads(text)
        assert problem.keys() == {"title", "code", "request_id", "detail"}
        assert problem["code"] == code
    else:
        full = msgspec.json.decode(text, type=Problem)
        assert (full.status, full.code, full.title) == (status, code, HTTPStatus(status).phrase)
        assert response["statusCode"] == str(status)
    assert '"request_id":"$context.requestId"' in text
    headers = response["responseParameters"]
    assert headers["gatewayresponse.header.Content-Type"] == "'application/problem+json'"


@pytest.mark.G5
def test_gateway_response_remedies() -> None:
    """A retry without a key is safe only where nothing was carried out."""
    for kind, response in gateway_responses().items():
        (text,) = response["responseTemplates"].values()
        if "again" in text and "sign again" not in text:
            assert "Nothing was carried out." in text or "If it had an Idempotency-Key" in text, (
                kind
            )
        if "gatewayresponse.header.Retry-After" in response["responseParameters"]:
            assert "again" in text, kind
        if "may have been carried out" in text:
            assert response["responseParameters"]["gatewayresponse.header.Retry-After"] == "'10'", (
                kind
            )
