"""The shop's pages in a real browser, and what they ask the API."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Request, Route, expect

from local.api import call
from local.stack import Stack
from tests.support import eventually

WAIT_MS = 30_000  # until a page shows what it should; it takes far less
expect.set_options(timeout=WAIT_MS)


@dataclass
class Sale:
    """An item of its own on the local stack."""

    url: str
    item_id: int

    @property
    def page(self) -> str:
        return f"{self.url}/shop/{self.item_id}"

    def put(self, **settings: Any) -> None:
        """Create the item, or change it."""
        body = json.loads(self._organise("PUT", "", settings))
        assert body["item_id"] == self.item_id

    def pause(self) -> None:
        self._organise("POST", "/pause")

    def resume(self) -> None:
        self._organise("POST", "/resume")

    def reset(self, **settings: Any) -> None:
        status, answer = call(
            "POST", f"{self.url}/reset", {"item_id": self.item_id} | settings, signed=True
        )
        assert status == 200, answer

    def order(self, kind: str, quantity: int) -> dict[str, Any]:
        """Buy or hold tickets, as another buyer. kind: "buy_ticket" or "holds"."""
        body = {"item_id": self.item_id, "quantity": quantity}
        status, answer = eventually(
            lambda: call("POST", f"{self.url}/{kind}", body), lambda found: found[0] != 429
        )
        assert status == 201, answer
        made: dict[str, Any] = json.loads(answer)
        return made

    def counts(self) -> tuple[int, int, int]:
        """Return how many tickets are free, held and sold. An audit confirms it by the records."""
        url = f"{self.url}/audit/{self.item_id}"
        status, answer = eventually(
            lambda: call("GET", url, signed=True), lambda found: found[0] != 429
        )
        report = json.loads(answer)
        assert (status, report["agrees"]) == (200, True), report
        return report["stock"], report["held"], report["sold"]

    def _organise(self, method: str, path: str, body: dict[str, Any] | None = None) -> str:
        status, answer = call(method, f"{self.url}/items/{self.item_id}{path}", body, signed=True)
        assert status in {200, 201}, answer
        return answer


class Shop:
    """One tab of a buyer's browser, on a sale's page."""

    def __init__(self, context: BrowserContext, sale: Sale) -> None:
        self.sale = sale
        self.page = context.new_page()
        self.errors: list[str] = []
        self.requests: list[Request] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._request)

    def _request(self, request: Request) -> None:
        self.requests.append(request)

    def open(self, fragment: str = "") -> "Shop":
        self.page.goto(self.sale.page + fragment)
        return self

    def shows(self, view: str, words: str = "") -> None:
        """Wait until this view is shown, with these words."""
        expect(self.page.locator("main")).to_have_attribute("data-view", view)
        expect(self.page.locator("main")).to_contain_text(words)

    def reload_until(self, view: str) -> None:
        """Load the page until it shows this view: the service may answer what is a second old."""

        def shown() -> str | None:
            self.page.reload()
            expect(self.page.locator("h1")).to_be_visible()
            self.page.wait_for_load_state("networkidle")
            return self.page.locator("main").get_attribute("data-view")

        eventually(shown, lambda found: found == view)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name).click()

    def keys(self) -> list[str]:
        """Return the idempotency keys that were sent, with repetitions."""
        sent = [each.headers.get("idempotency-key") for each in self.requests]
        return [each for each in sent if each is not None]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until this is true of the requests."""

        def found() -> bool:
            self.page.wait_for_timeout(50)  # lets playwright report requests
            return condition()

        eventually(found, bool)

    def has_sent(self, count: int) -> None:
        """Wait until so many requests had a key."""
        self.until(lambda: len(self.keys()) >= count)

    def hosts(self) -> set[str]:
        return {urlsplit(each.url).netloc for each in self.requests if each.url[:5] != "data:"}

    def intercept(self, path: str, *handlers: Callable[[Route], None]) -> None:
        """Let the next requests of a path go through these, one each; later ones as they are."""
        waiting = list(handlers)

        def handle(route: Route) -> None:
            handler = waiting.pop(0) if waiting else None
            if handler is None:
                route.continue_()
            else:
                handler(route)

        self.page.route(f"**/live/{path}", handle)

    def check(self) -> None:
        """Raise AssertionError where people who use aids would be stopped, in both schemes."""
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            found = Axe().run(self.page)
            assert not found.response["violations"], (scheme, found.generate_report())
        width = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert width <= 0, "nothing is wider than the window"
        assert self.errors == []


def lost(route: Route) -> None:
    """Carry the request out, and lose the answer."""
    route.fetch()
    route.abort("connectionreset")


class Unanswered:
    """Carries a request out, and leaves it without any answer."""

    def __init__(self) -> None:
        self.carried_out = False

    def __call__(self, route: Route) -> None:
        route.fetch()
        self.carried_out = True


def unsent(route: Route) -> None:
    """Lose the request before it arrives."""
    route.abort("connectionreset")


def answered(status: int, body: dict[str, Any], **headers: str) -> Callable[[Route], None]:
    """Answer in the API's place, without carrying the request out."""

    def answer(route: Route) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        route.fulfill(
            status=status, json=body, headers=named | {"Content-Type": "application/problem+json"}
        )

    return answer


def new_sale(stack: Stack, item_id: int, **settings: Any) -> Sale:
    """Return a new item on the stack."""
    sale = Sale(stack.url, item_id)
    sale.put(**{"item_name": "Open Air", "capacity": 10, "shards": 2} | settings)
    return sale
