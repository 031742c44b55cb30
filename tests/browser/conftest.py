"""Debian's Chromium, driven by playwright, on a local stack."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from local.stack import Stack
from tests.browser.shop import Sale, Shop, new_sale
from tests.support import need

# The shell takes less CPU than the whole browser without a window.
PROGRAMS = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
# Containers have no sandbox; and a browser of tests calls no one.
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
_items = itertools.count(5001)


@pytest.fixture(scope="session", autouse=True)
def pictures(request: pytest.FixtureRequest) -> None:
    """Where `make screenshots` wants pictures of all views that are checked."""
    Shop.pictures = request.config.getoption("--screenshots")


def browser_path() -> str | None:
    """Return where the machine's browser is; None without one."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For a module: while playwright runs, no other test of the process may use asyncio."""
    path = browser_path()
    need([] if path else ["chromium"])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A buyer's browser: a small phone."""
    context = browser.new_context(viewport={"width": 320, "height": 640}, locale="en-GB")
    yield context
    context.close()


@pytest.fixture
def new(stack: Stack) -> Callable[..., Sale]:
    """Make a new item, with these settings."""

    def make(**settings: Any) -> Sale:
        return new_sale(stack, next(_items), **settings)

    return make


@pytest.fixture
def shop(context: BrowserContext, new: Callable[..., Sale]) -> Shop:
    """A tab on the page of a new item with 10 tickets."""
    return Shop(context, new()).open()
