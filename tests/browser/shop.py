"""The shop's pages in a real browser, and what they ask the API."""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, Request, Route, expect

from local.api import SIGNER, call
from local.stack import Stack
from tests.support import eventually

WAIT_MS = 120_000  # until a page shows what it should; on an idle machine it takes far less
expect.set_options(timeout=WAIT_MS)
START = 1_800_000_000  # seconds since the epoch, of a sale that is made up
STEP_MS = 250


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

    def refund(self, purchase_id: str, quantity: int) -> None:
        url = f"{self.url}/purchases/{purchase_id}/refund"
        content, media_type = json.dumps({"quantity": quantity}), "application/json"
        headers = SIGNER.headers("POST", url, content.encode(), media_type)
        key = {"Idempotency-Key": str(uuid.uuid4())}
        answer = httpx.post(url, content=content, headers={**headers, **key})
        assert answer.status_code == 200, answer.text

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
    """One tab of a buyer's browser, on a sale's page.

    pictures: the folder for those of all views that are checked; None: they are not wanted.
    """

    pictures: ClassVar[Path | None] = None

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
        """Load the page, again where the gateway is too busy for it, as people do."""
        eventually(
            lambda: self.page.goto(self.sale.page + fragment),
            lambda answer: answer is None or answer.status != 429,
        )
        return self

    @property
    def view(self) -> str | None:
        return self.page.locator("main").get_attribute("data-view")

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
            return self.view

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

    def check(self, variant: str = "") -> None:
        """Raise AssertionError where people who use aids would be stopped, in both schemes.

        variant: of the view, in the name of its picture, if pictures are wanted.
        """
        view = self.view
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            # The scheme changes colours alone.
            only = None if scheme == "light" else {"runOnly": ["color-contrast"]}
            found = Axe().run(self.page, options=only)
            assert not found.response["violations"], (scheme, found.generate_report())
            if self.pictures is not None:
                name = "-".join(filter(None, (view, variant, scheme)))
                self.page.screenshot(path=self.pictures / f"{name}.png", full_page=True)
        width = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert width <= 0, "nothing is wider than the window"
        assert self.errors == []


class MadeUp:
    """An inventory that is as a test says, with a clock that it turns.

    shown: what is on the page when it is loaded.
    """

    def __init__(self, page: Page, sale: Sale, path: str, shown: str, **changes: Any) -> None:
        self.page = page
        self.seconds = float(START)
        self.requests = 0
        self.answers = 0
        self.body: dict[str, Any] = json.loads(
            call("GET", f"{sale.url}/inventory?item_id={sale.item_id}")[1]
        )
        self.body |= changes
        page.clock.install(time=START)
        page.on("request", self.count)
        page.route("**/live/inventory?item_id=*", self.answer)
        page.goto(f"{sale.page}{path}")
        page.wait_for_selector(shown)
        self.seconds += 60  # more than loading takes
        page.clock.pause_at(self.seconds)

    def count(self, request: Request) -> None:
        self.requests += "/inventory?" in request.url

    def answer(self, route: Route) -> None:
        self.answers += 1
        route.fulfill(json=self.body, headers={"Date": formatdate(self.seconds, usegmt=True)})

    def turn(self, seconds: float) -> int:
        """Let so much time pass, and return how often the page asked."""
        before, until = self.answers, self.seconds + seconds
        while self.seconds < until:
            self.seconds += STEP_MS / 1000
            self.page.clock.run_for(STEP_MS)
            eventually(self.open_requests, lambda found: found == 0)
        return self.answers - before

    def open_requests(self) -> int:
        """Return how many requests have no answer yet, once the page has done what it can."""
        self.page.evaluate("new Promise((resolve) => queueMicrotask(resolve))")
        return self.requests - self.answers


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
