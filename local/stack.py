"""The real template on the emulator: what `make start` brings up, and what tests bring up for themselves."""

import contextlib
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from local import sam
from local.api import call
from local.ministack import MiniStack
from local.process import LocalError

STACK_NAME = "ticket-sale"
DOMAIN = "127.0.0.1"  # the emulator takes no API for "localhost": there its other services answer
STAGE = "live"
ANSWER_SECONDS = 120.0
LOG_EVENTS_AT_ONCE = 10_000  # of FilterLogEvents, on AWS too
LAMBDAS_OWN_LINES = ("INIT_START", "START RequestId:", "END RequestId:", "REPORT RequestId:")


class Stack(MiniStack):
    """The ticket sale on a MiniStack of its own.

    As a context manager it starts, and stops at the end:

        sam.build()
        with Stack(directory, free_port()) as stack:
            stack.deploy()
            call("GET", f"{stack.url}/inventory")
    """

    @property
    def url(self) -> str:
        """The API behind its stage path, as on AWS."""
        return f"{self.endpoint}/{STAGE}"

    def deploy(self, template: Path = sam.BUILT_TEMPLATE, **parameters: str) -> None:
        """Deploys what `sam.build()` built, and comes back when the API answers. `parameters` are the template's."""
        defaults = {"Stage": "test", "AllowReset": "true", "Architecture": sam.architecture()}
        sam.deploy(self.endpoint, STACK_NAME, template, defaults | parameters)
        self._map_domain()
        self._wait_for_answer()

    def resource(self, logical_id: str) -> str:
        """The name that a resource of the template has here."""
        try:
            answer = self.client("cloudformation").describe_stack_resource(
                StackName=STACK_NAME, LogicalResourceId=logical_id
            )
        except ClientError as error:
            raise LocalError(f"There is no {logical_id} on {self.endpoint}: {error}") from error
        name: str = answer["StackResourceDetail"]["PhysicalResourceId"]
        return name

    def log_lines(self, *, follow: bool = False) -> Iterator[str]:
        """The functions' log lines since the stack was created; with `follow`, those to come as well, for ever."""
        logs = self.client("logs")
        group = self.resource("FunctionLogs")
        since, shown = 0, set[tuple[int, str]]()
        while True:
            events = {(event["timestamp"], event["message"].rstrip()) for event in _log_events(logs, group, since)}
            yield from (message for _, message in sorted(events - shown) if not message.startswith(LAMBDAS_OWN_LINES))
            if not follow:
                return
            # The next look starts a little earlier: workers run side by side, and a line may come late.
            shown = events
            since = max(0, max((timestamp for timestamp, _ in events), default=0) - 5_000)
            time.sleep(0.5)

    def _map_domain(self) -> None:
        """Lets the API answer at a URL that stays. Needed after each deployment: a changed route makes a new API."""
        gateway = self.client("apigateway")
        api = self.resource("Api")
        with contextlib.suppress(gateway.exceptions.ConflictException):
            gateway.create_domain_name(domainName=DOMAIN)
        try:
            mapped = gateway.get_base_path_mapping(domainName=DOMAIN, basePath=STAGE)["restApiId"]
        except gateway.exceptions.NotFoundException:
            mapped = None
        if mapped == api:
            return
        if mapped is not None:
            gateway.delete_base_path_mapping(domainName=DOMAIN, basePath=STAGE)
        gateway.create_base_path_mapping(domainName=DOMAIN, basePath=STAGE, restApiId=api, stage=STAGE)

    def _wait_for_answer(self) -> None:
        deadline = time.monotonic() + ANSWER_SECONDS
        while (answer := call("GET", f"{self.url}/"))[0] != HTTPStatus.OK:
            if time.monotonic() > deadline:
                raise LocalError(f"GET {self.url}/ answers {answer[0]}: {answer[1]}\n\n{self.log_tail()}")
            time.sleep(0.5)


def _log_events(logs: Any, group: str, since: int) -> Iterator[Any]:
    """The group's events since `since` (ms): the emulator gives the oldest ones and hides that it has more."""
    while True:
        events = logs.filter_log_events(logGroupName=group, startTime=since)["events"]
        yield from events
        if len(events) < LOG_EVENTS_AT_ONCE:
            return
        since = max(events[-1]["timestamp"], since + 1)
