"""Many browsers at once, and one that hardly gets through."""

import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Route, expect

from tests.browser.shop import Sale, Shop

BUYERS, TICKETS = 20, 10
LEAD_SECONDS = 2.0
PRESS_AT = "at => setTimeout(() => document.querySelector('form button')?.click(), at - Date.now())"
# A phone at the edge of its cell: bytes a second, and milliseconds.
SLOW = {"offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 20_000}
FIRST_PURCHASE_BYTES_MAX = 90_000


class Cache:
    """A cache before the API, as docs/shop.md recommends: each answer is as old as it may be."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, httpx.Response]] = {}

    def answer(self, route: Route) -> None:
        url = route.request.url
        until, kept = self._kept.get(url, (0.0, None))
        if kept is None or time.monotonic() > until:
            kept = httpx.get(url)
            age = re.search(r"max-age=(\d+)", kept.headers.get("Cache-Control", ""))
            self._kept[url] = time.monotonic() + (float(age[1]) if age else 0.0), kept
        headers = {name: kept.headers[name] for name in ("Content-Type", "Date")}
        route.fulfill(status=kept.status_code, body=kept.content, headers=headers)

    def context(self, browser: Browser) -> BrowserContext:
        """Return a buyer's browser behind this cache."""
        context = browser.new_context(locale="en-GB")
        for path in ("shop/*", "shop/assets/*", "inventory?*"):
            context.route(f"**/live/{path}", self.answer)
        return context


@pytest.mark.G1
@pytest.mark.G2
@pytest.mark.G3
def test_twenty_buyers(browser: Browser, new: Callable[..., Sale]) -> None:
    """All press in the same instant. Ten get a ticket, and the others hear that none is left."""
    sale = new(capacity=TICKETS)
    cache = Cache()
    shops = [Shop(cache.context(browser), sale).open() for _ in range(BUYERS)]
    for shop in shops:
        shop.shows("choose")
    at = 1000 * (time.time() + LEAD_SECONDS)
    for shop in shops:
        shop.page.evaluate(PRESS_AT, at)
    for shop in shops:
        over = re.compile("^(held|refused|all_held)$")
        expect(shop.page.locator("main")).to_have_attribute("data-view", over)
    held = [shop for shop in shops if shop.view == "held"]
    assert len(held) == TICKETS
    for shop in held:
        shop.press("Pay")
    for shop in held:
        shop.shows("receipt", "valid")
    assert sale.counts() == (0, 0, TICKETS)
    assert len({urlsplit(shop.page.url).fragment for shop in held}) == TICKETS
    for shop in shops:
        if shop not in held:
            if shop.view == "refused":
                shop.press("Choose again")
            shop.shows("sold_out")
        shop.page.context.close()


def test_slow_network(context: BrowserContext, new: Callable[..., Sale]) -> None:
    """From the list to the receipt, on a small phone with a bad connection."""
    shop = Shop(context, new())
    network = context.new_cdp_session(shop.page)
    network.send("Network.enable")
    network.send("Network.emulateNetworkConditions", SLOW)
    received = list[int]()
    network.on("Network.loadingFinished", lambda each: received.append(each["encodedDataLength"]))
    shop.page.goto(f"{shop.sale.url}/shop")
    shop.page.locator(f'a[href$="/shop/{shop.sale.item_id}"]').click()
    shop.shows("choose")
    shop.press("Reserve")
    shop.shows("held")
    shop.press("Pay")
    shop.shows("receipt", "valid")
    assert shop.sale.counts() == (9, 0, 1)
    assert sum(received) < FIRST_PURCHASE_BYTES_MAX
    assert shop.errors == []
