"""The real template on the emulator, for `make start` and for tests."""

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
DOMAIN = "127.0.0.1"  # for "localhost" the emulator's other services answer, not the API
STAGE = "live"
ANSWER_SECONDS = 120.0
LOG_EVENTS_AT_ONCE = 10_000  # limit of FilterLogEvents, as on AWS
LAMBDAS_OWN_LINES = ("INIT_START", "START RequestId:", "END RequestId:", "REPORT RequestId:")


class Stack(MiniStack):
    """The ticket sale on its own MiniStack, as a context manager.

    sam.build()
    with Stack(directory, free_port()) as stack:
        stack.deploy()
        call("GET", f"{stack.url}/inventory")
    """

    @property
    def url(self) -> str:
        """Return the API's URL with its stage path, as on AWS."""
        return f"{self.endpoint}/{STAGE}"

    def deploy(self, template: Path | None = None, **parameters: str) -> None:
        """Deploy the output of `sam.build()` and wait until the API answers.

        parameters: template parameters and their values.
        """
        defaults = {"Stage": "test", "AllowReset": "true", "Architecture": sam.architecture()}
        built = template or sam.built_template()
        sam.deploy(self.endpoint, STACK_NAME, built, defaults | parameters)
        self._map_domain()
        self._wait_for_answer()

    def resource(self, logical_id: str, stack_name: str = STACK_NAME) -> str:
        """Return the physical name of a resource of a deployed template."""
        try:
            answer = self.client("cloudformation").describe_stack_resource(
                StackName=stack_name, LogicalResourceId=logical_id
            )
        except ClientError as error:
            raise LocalError(f"There is no {logical_id} on {self.endpoint}: {error}") from error
        name: str = answer["StackResourceDetail"]["PhysicalResourceId"]
        return name

    def log_lines(self, *, follow: bool = False) -> Iterator[str]:
        """Yield the functions' log lines since the stack was created.

        follow: also new ones, endlessly.
        """
        logs = self.client("logs")
        group = self.resource("FunctionLogs")
        since, shown = 0, set[tuple[int, str]]()
        while True:
            events = {
                (event["timestamp"], event["message"].rstrip())
                for event in _log_events(logs, group, since)
            }
            yield from (
                message
                for _, message in sorted(events - shown)
                if not message.startswith(LAMBDAS_OWN_LINES)
            )
            if not follow:
                return
            # The next read starts a little earlier: functions run in parallel, and a line may come
            # late.
            shown = events
            since = max(0, max((timestamp for timestamp, _ in events), default=0) - 5_000)
            time.sleep(0.5)

    def _map_domain(self) -> None:
        """Map the API to a URL that stays.

        Needed after each deployment: a changed route makes a new API.
        """
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
        gateway.create_base_path_mapping(
            domainName=DOMAIN, basePath=STAGE, restApiId=api, stage=STAGE
        )

    def _wait_for_answer(self) -> None:
        deadline = time.monotonic() + ANSWER_SECONDS
        while (answer := call("GET", f"{self.url}/"))[0] != HTTPStatus.OK:
            if time.monotonic() > deadline:
                raise LocalError(
                    f"GET {self.url}/ answers {answer[0]}: {answer[1]}\n\n{self.log_tail()}"
                )
            time.sleep(0.5)


def _log_events(logs: Any, group: str, since: int) -> Iterator[Any]:
    """Return the log group's events since `since` (ms).

    The emulator returns the oldest ones and does not say that there are more.
    """
    while True:
        events = logs.filter_log_events(logGroupName=group, startTime=since)["events"]
        yield from events
        if len(events) < LOG_EVENTS_AT_ONCE:
            return
        since = max(events[-1]["timestamp"], since + 1)
