"""Settings for every test: no real account, no real table, and a fresh table on moto where asked
for.
"""

import contextlib
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from hypothesis import HealthCheck, settings
from moto import mock_aws
from xdist.scheduler import LoadScopeScheduling

from local import sam
from local.api import create_first_item
from local.process import LOCAL_DIRECTORY, free_port
from local.stack import Stack
from tests.support import World, create_table, untraced

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# A shell starts what runs in its background deaf to Ctrl-C, and all that tests start would inherit
# that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, however long a machine takes to draw them.
settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("steady"), derandomize=False)
settings.load_profile("steady")


MEASURED = ("tests/organiser/", "tests/unit/")

# Integration tests that need an engine of DynamoDB, and no stack.
ON_AN_ENGINE = {
    "test_concurrency.py",
    "test_model_as_engines.py",
    "test_store_contract.py",
    "test_units.py",
    "test_volume.py",
}


# Those that build the functions, and deploy them to stacks of their own.
BUILDERS = {
    "test_comparison.py",
    "test_local_stack.py",
    "test_package.py",
    "test_sam_local.py",
}


class _ByFolder(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps tests that share an engine or a stack in one process."""

    def _split_scope(self, nodeid: str) -> str:
        folder, _, file = nodeid.partition("::")[0].removeprefix("tests/").rpartition("/")
        if file in ON_AN_ENGINE:
            return "engines"
        if file in BUILDERS:
            return "builders"
        return {"browser": "stack", "e2e": "stack", "integration": "stack", "proof": "proof"}.get(
            folder, nodeid
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `make screenshots` passes."""
    text = "put pictures of the pages here that the tests in tests/browser check"
    parser.addoption("--screenshots", type=Path, metavar="FOLDER", help=text)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Distribute the tests of `make test` over its processes."""
    return _ByFolder(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure the coverage of the functions by their own tests alone."""
    is_measured = item.nodeid.startswith(MEASURED)
    with contextlib.nullcontext() if is_measured else untraced():
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def no_account() -> Iterator[None]:
    """Credentials and a Region that exist nowhere, also for the processes that tests start."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        if worker := os.environ.get("PYTEST_XDIST_WORKER"):
            environment.setenv(sam.FOLDER_VARIABLE, str(LOCAL_DIRECTORY / f"sam-{worker}"))
        yield


@pytest.fixture(scope="session")
def client(no_account: None) -> "DynamoDBClient":
    """One client for all tests on moto: creating one takes longer than most of them."""
    return boto3.client("dynamodb")


@pytest.fixture
def world(client: "DynamoDBClient") -> Iterator[World]:
    """A fresh table on moto. One thread only: moto takes no lock and oversells."""
    with mock_aws():
        create_table(client)
        yield World(client)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole template on a local stack of its own, with its own port and state."""
    sam.build()
    with Stack(tmp_path_factory.mktemp("stack"), free_port()) as running:
        running.deploy()
        create_first_item(running.url)
        yield running
