"""The local stack: ports, state and clean-up, and roles as on AWS."""

import contextlib
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import boto3
import httpx
import pytest
import yaml
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from msgspec import structs

from local import sam
from local.api import FIRST_ITEM, call, create_first_item
from local.ministack import MiniStack
from local.process import Background, LocalError, free_port, port_is_free
from local.stack import Stack
from organiser.client import ApiClient, Target
from organiser.errors import Denied
from organiser.output import Output
from organiser.session import Session
from organiser.signing import Signer
from proof.admin import Admin, signer
from proof.history import Kind
from proof.judging import judge
from proof.log_lines import Log, read_log
from proof.scenarios import Verdict
from tests.support import eventually, running, wait_for_end
from ticketing.limits import CACHE_SECONDS

ITEM_KEY = {"pk": {"S": "item#1"}}


@contextlib.contextmanager
def variant(change: Any) -> Iterator[Path]:
    """Write the built template after `change`, next to the built one, whose paths are relative."""
    template = yaml.safe_load(sam.built_template().read_text())
    change(template["Resources"])
    path = sam.build_directory() / f"variant-{os.getpid()}.yaml"
    path.write_text(yaml.safe_dump(template))
    try:
        yield path
    finally:
        path.unlink()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that enforces the policies of the functions' roles."""
    sam.build()
    with Stack(tmp_path_factory.mktemp("guarded"), free_port(), auth=True) as running:
        running.deploy()
        create_first_item(running.url)
        yield running


class TestRoles:
    """A function can do what it needs, and nothing else. audits: their lines that were seen."""

    audits: ClassVar[list[str]] = []

    @staticmethod
    def as_role_of(stack: Stack, function: str) -> Any:
        """Return a DynamoDB client with the credentials that this function has on Lambda."""
        role = stack.client("iam").get_role(RoleName=stack.resource(f"{function}Role"))["Role"][
            "Arn"
        ]
        credentials = stack.client("sts").assume_role(RoleArn=role, RoleSessionName="test")[
            "Credentials"
        ]
        return boto3.client(
            "dynamodb",
            endpoint_url=stack.endpoint,
            region_name="us-east-1",
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
        )

    def test_organiser_needs_permission(self, guarded: Stack) -> None:
        """The command line names the permission that IAM did not find."""
        iam = guarded.client("iam")
        iam.create_user(UserName="clerk")
        allowed = {
            "Effect": "Allow",
            "Action": "execute-api:Invoke",
            "Resource": "arn:aws:execute-api:*:*:*/live/GET/audit/*",
        }
        policy = {"Version": "2012-10-17", "Statement": [allowed]}
        iam.put_user_policy(
            UserName="clerk", PolicyName="audits", PolicyDocument=json.dumps(policy)
        )
        key = iam.create_access_key(UserName="clerk")["AccessKey"]
        signer = Signer(Credentials(key["AccessKeyId"], key["SecretAccessKey"]), "us-east-1")
        with ApiClient(Target(guarded.url), signer, random.Random()) as client:
            session = Session(client, Output(as_json=True))
            assert session.read("/audit/1", signed=True)["agrees"]
            with pytest.raises(Denied) as caught:
                session.change("POST", "/items/1/pause", None, None)
        assert caught.value.remedy.endswith("/live/POST/items/1/pause")

    def test_functions_work(self, guarded: Stack) -> None:
        assert call("GET", f"{guarded.url}/inventory")[0] == 200
        assert call("POST", f"{guarded.url}/buy_ticket")[0] == 201
        assert call("GET", f"{guarded.url}/audit/1", signed=True)[0] == 200
        assert (
            call("POST", f"{guarded.url}/reset", {"item_id": 2, "stock": 5}, signed=True)[0] == 200
        )
        change = {"capacity": 9, "shards": 3}
        assert call("PUT", f"{guarded.url}/items/2", change, signed=True)[0] == 200
        assert call("DELETE", f"{guarded.url}/items/2", signed=True)[0] == 200

    @pytest.mark.parametrize(
        ("function", "allowed"),
        [
            ("BuyTicketFunction", {"get_item", "put_item", "update_item"}),
            ("HoldTicketFunction", {"get_item", "put_item", "update_item"}),
            ("InventoryFunction", {"get_item"}),
            ("ItemsFunction", {"get_item", "put_item", "update_item"}),
            ("RefundFunction", {"get_item", "put_item", "update_item"}),
            ("AuditFunction", {"get_item", "scan"}),
            ("ScheduledAuditFunction", {"get_item", "scan"}),
            ("RepairFunction", {"get_item", "put_item", "scan"}),
            ("ResetFunction", {"get_item", "put_item", "update_item"}),
        ],
    )
    def test_role_permissions(self, guarded: Stack, function: str, allowed: set[str]) -> None:
        table = guarded.resource("TicketsTable")
        missing = {"Key": {"pk": {"S": "missing"}}}
        calls: dict[str, dict[str, Any]] = {
            "get_item": {"Key": ITEM_KEY},
            "put_item": {"Item": {"pk": {"S": "stranger"}}},
            "update_item": missing,
            "delete_item": missing,
            "scan": {},
            "describe_table": {},
        }
        dynamodb = self.as_role_of(guarded, function)
        carried_out, denied = set(), set()
        for name, arguments in calls.items():
            try:
                getattr(dynamodb, name)(TableName=table, **arguments)
                carried_out.add(name)
            except dynamodb.exceptions.ClientError as error:
                denied |= (
                    {name} if error.response["Error"]["Code"] == "AccessDeniedException" else set()
                )
        assert carried_out == allowed
        assert denied == calls.keys() - allowed

    def test_transaction_permissions(self, guarded: Stack) -> None:
        """A transaction needs the permission of each of its actions."""
        table = guarded.resource("TicketsTable")
        put = {"Put": {"TableName": table, "Item": {"pk": {"S": "in a transaction"}}}}
        delete = {"Delete": {"TableName": table, "Key": {"pk": {"S": "missing"}}}}
        dynamodb = self.as_role_of(guarded, "BuyTicketFunction")
        dynamodb.transact_write_items(TransactItems=[put])
        with pytest.raises(ClientError, match="AccessDenied"):
            dynamodb.transact_write_items(TransactItems=[put, delete])

    def test_audit_and_repair(self, guarded: Stack) -> None:
        """A broken table of the deployed stack: named by schedule and by request, and repaired."""
        item = {"item_id": 3, "stock": 5, "shards": 2}
        assert call("POST", f"{guarded.url}/reset", item, signed=True)[0] == 200
        shard = {"pk": {"S": "item#3#stock#01"}}
        guarded.client("dynamodb").update_item(
            TableName=guarded.resource("TicketsTable"),
            Key=shard,
            UpdateExpression="SET stock = :n",
            ExpressionAttributeValues={":n": {"N": "99"}},
        )
        assert self.scheduled_audit(guarded)["AuditProblems"] == 1
        repair = f"{guarded.url}/audit/3/repair"
        bodies = [None, {"dry_run": False}, {"dry_run": False}]
        answers = [call("POST", repair, body, signed=True) for body in bodies]
        assert [status for status, _ in answers] == [200] * 3
        change = "Shard 1: stock 99 → 2."
        reports = [json.loads(text) for _, text in answers]
        assert [report["repaired"] for report in reports] == [[change], [change], []]
        assert [report["problems"] for report in reports] == [[]] * 3
        assert json.loads(call("GET", f"{guarded.url}/audit/3", signed=True)[1])["agrees"]
        assert self.scheduled_audit(guarded)["AuditProblems"] == 0

    def test_export(self, guarded: Stack) -> None:
        """The link of a part leads to the next one, below the stage's path."""
        url = f"{guarded.url}/export/1"
        status, text = call("GET", f"{url}?format=csv", signed=True)
        assert (status, text.splitlines()[0].split(",")[0]) == (200, "type")
        total = json.loads(call("GET", url, signed=True)[1].splitlines()[-1])
        assert (total["type"], total["agrees"]) == ("total", True)

    @staticmethod
    def scheduled_audit(stack: Stack) -> dict[str, Any]:
        """Invoke the function, as its schedule does, and return its last line."""
        done = stack.client("lambda").invoke(
            FunctionName=stack.resource("ScheduledAuditFunction"), Qualifier="live", Payload=b"{}"
        )
        assert "FunctionError" not in done, done["Payload"].read()
        lines = eventually(
            lambda: [line for line in stack.log_lines() if '"message":"audit"' in line],
            lambda found: len(found) > len(TestRoles.audits),
        )
        TestRoles.audits = lines
        line: dict[str, Any] = json.loads(lines[-1])
        return line

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/reset"),
            ("GET", "/audit/1"),
            ("POST", "/audit/1/repair"),
            ("GET", "/export/1"),
        ],
    )
    def test_unsigned_call(self, guarded: Stack, method: str, path: str) -> None:
        assert call(method, f"{guarded.url}{path}")[0] == 403

    def test_missing_permission(self, guarded: Stack) -> None:
        """The checks above can fail: without GetItem one function stops working, and its log says
        so.
        """

        def take_get_item_away(resources: dict[str, Any]) -> None:
            policies = resources["InventoryFunction"]["Properties"]["Policies"]
            policies[0]["Statement"][0]["Action"].remove("dynamodb:GetItem")

        with variant(take_get_item_away) as template:
            guarded.deploy(template)
        try:
            # A warm function caches the item for a second.
            status, body = eventually(
                lambda: call("GET", f"{guarded.url}/inventory"), lambda answer: answer[0] != 200
            )
            assert status == 500
            assert "AccessDenied" not in body, "no internals in an answer"
            assert (
                "AccessDeniedException"
                in [line for line in guarded.log_lines() if '"ERROR"' in line][-1]
            )
        finally:
            guarded.deploy()
        assert call("GET", f"{guarded.url}/inventory")[0] == 200

    def test_reset_needs_parameter(self, guarded: Stack) -> None:
        guarded.deploy(AllowReset="false")
        try:
            assert call("POST", f"{guarded.url}/reset", FIRST_ITEM, signed=True)[0] == 403
            with pytest.raises(LocalError, match="ResetFunction"):
                guarded.resource("ResetFunction")
            # A changed route makes a new API behind the same URL.
            assert call("GET", f"{guarded.url}/audit/1", signed=True)[0] == 200
        finally:
            guarded.deploy()
        assert call("POST", f"{guarded.url}/reset", {"item_id": 2}, signed=True)[0] == 200


def id_token(cognito: Any, pool: str, app: str, name: str) -> str:
    """Create a member, sign in, and return the token."""
    cognito.admin_create_user(UserPoolId=pool, Username=name)
    password = {"Username": name, "Password": "Correct-Horse-7"}
    cognito.admin_set_user_password(UserPoolId=pool, Permanent=True, **password)
    answer = cognito.initiate_auth(
        ClientId=app,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={each.upper(): value for each, value in password.items()},
    )
    token: str = answer["AuthenticationResult"]["IdToken"]
    return token


@pytest.fixture(scope="class")
def tokens(guarded: Stack) -> Iterator[dict[str, str]]:
    """Let members of a pool buy only; return the ID tokens of two of them."""
    cognito = guarded.client("cognito-idp")
    pool = cognito.create_user_pool(PoolName="buyers")["UserPool"]
    app = cognito.create_user_pool_client(
        UserPoolId=pool["Id"], ClientName="shop", ExplicitAuthFlows=["USER_PASSWORD_AUTH"]
    )["UserPoolClient"]["ClientId"]
    guarded.deploy(UserPoolArn=pool["Arn"])
    limited = {"stock": 20, "per_buyer_limit": 2}
    answer = call("POST", f"{guarded.url}/reset", limited, signed=True)
    assert answer[0] == 200, answer
    yield {name: id_token(cognito, pool["Id"], app, name) for name in ("ann", "bob")}
    guarded.deploy()


class TestSignIn:
    """A user pool, real tokens of it, and the gateway's authorizer, which verifies them."""

    @staticmethod
    def order(stack: Stack, path: str, token: str, **body: Any) -> tuple[int, dict[str, Any]]:
        response = httpx.post(f"{stack.url}{path}", json=body, headers={"Authorization": token})
        return response.status_code, response.json()

    def test_no_valid_token(self, guarded: Stack, tokens: dict[str, str]) -> None:
        head, body, signature = tokens["ann"].split(".")
        forged = f"{head}.{body}.{signature[::-1]}"
        for path in ("/buy_ticket", "/holds"):
            assert call("POST", guarded.url + path)[0] == 401
            assert self.order(guarded, path, forged)[0] == 401
        assert call("GET", f"{guarded.url}/inventory")[0] == 200
        assert call("GET", f"{guarded.url}/audit/1", signed=True)[0] == 200

    def test_buyer_is_who_signed_in(self, guarded: Stack, tokens: dict[str, str]) -> None:
        """The limit counts for a member, whatever the body says."""
        status, receipt = self.order(guarded, "/buy_ticket", tokens["ann"])
        assert status == 201, receipt
        ann = receipt["buyer_id"]
        assert (status, len(ann)) == (201, 36)
        status, held = self.order(guarded, "/holds", tokens["ann"], buyer_id=ann)
        assert (status, held["buyer_id"]) == (201, ann)
        status, problem = self.order(guarded, "/buy_ticket", tokens["ann"])
        assert (status, problem["code"]) == (409, "buyer_limit_reached")
        status, problem = self.order(guarded, "/buy_ticket", tokens["ann"], buyer_id="bob")
        assert (status, problem["field"]) == (422, "buyer_id")
        status, receipt = self.order(guarded, "/buy_ticket", tokens["bob"])
        assert status == 201
        assert receipt["buyer_id"] not in {ann, "bob"}


class TestStack:
    def test_loopback_only(self, stack: Stack) -> None:
        with socket.socket() as outside:
            # Every address of 127.0.0.0/8 reaches a listener on 0.0.0.0, but not one on 127.0.0.1.
            if sys.platform == "linux":
                assert outside.connect_ex(("127.0.0.2", stack.port)) != 0
        assert call("GET", f"{stack.url}/")[0] == 200

    def test_state_survives_restart(self, tmp_path: Path) -> None:
        """Stop, and start on another port: the sale, its records, the API and the functions are
        still there. Temporary files are not.
        """
        sam.build()
        stack = Stack(tmp_path, free_port())
        with stack:
            stack.deploy()
            create_first_item(stack.url)
            status, receipt = call("POST", f"{stack.url}/buy_ticket")
            assert status == 201
            assert list(stack.temporary.iterdir()), "workers keep their code there"
        assert not stack.temporary.exists()
        assert not stack.is_running
        assert port_is_free(stack.port)
        with Stack(tmp_path, free_port()) as again:
            purchase = json.loads(receipt)["purchase_id"]
            assert call("GET", f"{again.url}/purchases/{purchase}")[0] == 200
            create_first_item(again.url)
            inventory = json.loads(call("GET", f"{again.url}/inventory")[1])
            assert (inventory["current_stock"], inventory["total_purchases"]) == (99, 1), (
                "the sale was reset"
            )

    def test_second_start(self, stack: Stack) -> None:
        """It deploys to the running process, which does not end with the second start."""
        process = stack.record()["pid"]
        second = Stack(stack.directory, stack.port)
        assert second.start() is False

        def describe(resources: dict[str, Any]) -> None:
            resources["InventoryFunction"]["Properties"]["Description"] = "changed"

        with variant(describe) as template:
            second.deploy(template)
        configuration = stack.client("lambda").get_function_configuration(
            FunctionName=stack.resource("InventoryFunction")
        )
        assert configuration["Description"] == "changed"
        assert stack.record()["pid"] == process
        stack.deploy()

    def test_second_start_on_other_port(self, stack: Stack) -> None:
        with pytest.raises(LocalError, match=rf"already running on port {stack.port}"):
            Stack(stack.directory, free_port()).start()

    def test_port_taken(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            stack = Stack(tmp_path, port)
            with pytest.raises(LocalError, match=rf"Port {port} is not free.*make start PORT=\d+"):
                stack.start()
            assert not stack.is_running

    def test_log_lines(self, stack: Stack) -> None:
        before = len(list(stack.log_lines()))
        call("GET", f"{stack.url}/inventory")
        lines = list(stack.log_lines())
        assert len(lines) == before + 1
        assert json.loads(lines[-1])["route"] == "GET /inventory"

    @pytest.mark.G1
    @pytest.mark.G4
    def test_sale_judged_by_log(self, stack: Stack) -> None:
        """By the lines that the stack's log service has, and by its table, also a damaged one."""
        item = {"item_id": 40, "stock": 3, "shards": 1}
        assert call("POST", f"{stack.url}/reset", item, signed=True)[0] == 200
        orders = [{"item_id": 40, "quantity": 2}] * 2 + [{"item_id": 40}] * 2
        bought = [call("POST", f"{stack.url}/buy_ticket", order) for order in orders]
        assert [status for status, _ in bought] == [201, 409, 201, 409]

        def read() -> Log:
            lines = read_log(["\n".join(stack.log_lines())])
            return structs.replace(
                lines, lines=[each for each in lines.lines if each.item_id == 40]
            )

        log = eventually(read, lambda log: len(log.lines) == 1 + len(orders))
        target = Target(stack.url)
        signed = signer(target, None, None)
        with Admin(target, signed, 40, random.Random(1), time.time) as admin:
            right = judge(log, admin, CACHE_SECONDS, print)
            assert (right.verdict, right.violations) == (Verdict.PASSED, [])
            assert right.sale.orders == {Kind.BOUGHT: 2, Kind.NOT_ENOUGH_LEFT: 1, Kind.SOLD_OUT: 1}
            stack.client("dynamodb").delete_item(
                TableName=stack.resource("TicketsTable"),
                Key={"pk": {"S": f"purchase#{json.loads(bought[0][1])['purchase_id']}"}},
            )
            rules = {each.rule for each in judge(log, admin, CACHE_SECONDS, print).violations}
        assert rules >= {"record_is_missing", "not_exported", "audit_disagrees"}

    def test_failing_deployment(self, stack: Stack) -> None:
        with pytest.raises(LocalError, match=r"(?s)sam deploy failed.*LogLevel"):
            stack.deploy(LogLevel="LOUD")
        assert call("GET", f"{stack.url}/inventory")[0] == 200, "what ran goes on"


@pytest.fixture
def background(tmp_path: Path) -> Iterator[Background]:
    """A background process that ends with the test."""
    process = Background(tmp_path)
    yield process
    process.stop()


class TestBackground:
    """The process that outlives its command."""

    SLEEPER = (sys.executable, "-c", "import time; time.sleep(3600)")

    def test_foreign_process(self, background: Background) -> None:
        """A record may name an id that the system has given to another process since."""
        background.spawn(self.SLEEPER, os.environ, port=1)
        path = background.directory / "process.json"
        record = json.loads(path.read_text())
        assert background.stop()
        with running(self.SLEEPER) as stranger:
            path.write_text(json.dumps(record | {"pid": stranger.pid}))
            assert background.record() == {}
            assert not background.stop()
            assert stranger.poll() is None

    def test_one_at_a_time(self, background: Background) -> None:
        background.spawn(self.SLEEPER, os.environ)
        with pytest.raises(LocalError, match="is working in"):
            Background(background.directory).spawn(self.SLEEPER, os.environ)

    def test_server_dies_at_start(self, tmp_path: Path) -> None:
        server = MiniStack(tmp_path, free_port())
        server.spawn(
            [sys.executable, "-c", "raise SystemExit('no such thing')"],
            os.environ,
            port=server.port,
        )
        with pytest.raises(LocalError, match="no such thing"):
            server.wait_until_ready()
        assert not server.stop()


class TestCommandLine:
    """`python -m local`, as the Makefile calls it."""

    def test_error_message(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            running(
                [sys.executable, "-m", "local", "start", "--port", listener.getsockname()[1]]
            ) as process,
        ):
            _, errors = wait_for_end(process)
        assert process.returncode == 1
        assert "Traceback" not in errors
        assert "not free" in errors or "already" in errors

    def test_ctrl_c(self, background: Background) -> None:
        port = free_port()
        with running([sys.executable, "-c", START_IN, background.directory, port]) as process:
            eventually(lambda: port_is_free(port), lambda free: not free)
            process.send_signal(signal.SIGINT)
            _, errors = wait_for_end(process)
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        assert not background.is_running
        assert port_is_free(port)


START_IN = """
import sys
import time
from pathlib import Path
from local import __main__ as command_line
command_line.STACK_DIRECTORY = Path(sys.argv[1])
sys.argv = ["local", "start", "--port", sys.argv[2]]
sys.exit(command_line.main())
"""
