"""The shop in a browser, against the deployed local stack: each order is sold once."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Route, expect

from tests.browser.shop import START, MadeUp, Sale, Shop, Unanswered, answered, lost, unsent
from tests.support import eventually
from ticketing.limits import CACHE_SECONDS, SLOTS_PER_HOLD

type NewSale = Callable[..., Sale]

# A device whose clock is wrong by an hour and a half.
WRONG_CLOCK = "const right = Date.now; Date.now = () => right() + 5_400_000;"
RECORD_VIEWS = """window.views = [];
new MutationObserver(() => views.push(document.querySelector("main").dataset.view)).observe(
  document.querySelector("main"), { attributes: true });"""
NO_STORAGE = """Object.defineProperty(window, "localStorage", {
  get() { throw new DOMException("denied", "SecurityError"); },
});"""


def stalled(_: Route) -> None:
    """Leave a request without any answer."""


def test_from_list_to_receipt(shop: Shop, browser: Browser) -> None:
    """A purchase by a phone, and its receipt on another one. No other host is asked."""
    page = shop.page
    page.goto(f"{shop.sale.url}/shop")
    shop.shows("list")
    page.locator(f'a[href$="/shop/{shop.sale.item_id}"]').click()
    shop.shows("choose", "10 tickets are free")
    shop.check()
    page.get_by_label("How many?").select_option("3")
    shop.press("Reserve")
    shop.shows("held", "3 tickets")
    expect(page.get_by_role("heading", name="Reserved for you")).to_be_focused()
    shop.check()
    assert shop.sale.counts() == (7, 3, 0)
    shop.press("Pay")
    shop.shows("receipt", "valid")
    expect(page.get_by_role("heading", name="Receipt")).to_be_focused()
    shop.check()
    assert shop.sale.counts() == (7, 0, 3)
    assert shop.hosts() == {urlsplit(shop.sale.url).netloc}

    other = browser.new_context()
    shown = Shop(other, shop.sale).open(f"#{urlsplit(page.url).fragment}")
    shown.shows("receipt", "3 tickets")
    other.close()


def test_list_goes_on(shop: Shop, new: NewSale) -> None:
    """One item on a page here; the next page is below, and its first item has the focus."""
    new()
    shop.page.route(
        "**/live/items?after=*", lambda route: route.continue_(url=f"{route.request.url}&limit=1")
    )
    shop.page.goto(f"{shop.sale.url}/shop")
    links = shop.page.locator("main li a")
    expect(links).to_have_count(1)
    shop.press("More")
    expect(links).to_have_count(2)
    expect(links.last).to_be_focused()
    shop.check()


def test_keyboard_only(shop: Shop) -> None:
    """Each control is reached by Tab, in the order in which it is read."""
    shop.shows("choose")
    for key in ("Tab", "Tab", "ArrowDown", "Tab", "Enter"):
        shop.page.keyboard.press(key)
    shop.shows("held", "2 tickets")
    for key in ("Tab", "Enter"):
        shop.page.keyboard.press(key)
    shop.shows("receipt")
    for key in ("Tab", "Enter"):
        shop.page.keyboard.press(key)
    shop.shows("choose")


def test_receipt_of_other_item(shop: Shop, new: NewSale) -> None:
    """The page of the item takes over."""
    other = new(item_name="Indoors")
    bought = other.order("buy_ticket", 2)
    shop.open(f"#receipt={bought['purchase_id']}")
    shop.shows("receipt", "Indoors")
    assert shop.page.url.startswith(f"{other.page}#")


def test_unknown_receipt(context: BrowserContext, new: NewSale) -> None:
    shop = Shop(context, new()).open("#receipt=00000000-0000-4000-8000-000000000000")
    shop.shows("no_receipt")
    shop.check()
    shop.press("Choose again")
    shop.shows("choose")


@pytest.mark.G3
def test_lost_answer(shop: Shop) -> None:
    """The page says so, and sends the same key again by itself. A fault of the service is one."""
    shop.shows("choose")
    failed = answered(500, {"code": "internal_error"}, Retry_After="60")
    shop.intercept("holds", lost, lost, failed)
    shop.press("Reserve")
    shop.shows("place", "no answer")
    shop.has_sent(3)
    shop.check("no_answer")
    shop.press("Send now")
    shop.shows("held", "1 ticket")
    assert len(shop.keys()) >= 3
    assert len(set(shop.keys())) == 1
    assert shop.sale.counts() == (9, 1, 0)


@pytest.mark.G3
def test_busy(shop: Shop) -> None:
    """429 and 503: nothing was carried out; it waits as long as the service says."""
    shop.shows("choose")
    busy = answered(503, {"code": "busy", "reason": "contention"}, Retry_After="60")
    shop.intercept("holds", answered(429, {"code": "busy"}, Retry_After="1"), busy)
    shop.press("Reserve")
    shop.shows("place", "The shop is busy")
    expect(shop.page.get_by_role("button", name="Send now")).to_be_visible()
    shop.has_sent(2)
    shop.check("busy")
    shop.press("Send now")
    expect(shop.page.locator("main")).to_have_attribute("data-view", "held")
    assert len(shop.keys()) == 3
    assert len(set(shop.keys())) == 1


@pytest.mark.G3
def test_reload_in_flight(shop: Shop) -> None:
    shop.shows("choose")
    shop.intercept("holds", request := Unanswered())
    shop.press("Reserve")
    shop.shows("place")
    shop.check("asking")
    shop.until(lambda: request.carried_out)
    shop.page.reload()
    shop.shows("held")
    assert len(shop.keys()) >= 2
    assert len(set(shop.keys())) == 1
    assert shop.sale.counts() == (9, 1, 0)


@pytest.mark.G3
def test_reload_while_paying(shop: Shop) -> None:
    """The confirmation is sent again, with the same payment."""
    shop.shows("choose")
    shop.press("Reserve")
    shop.shows("held")
    shop.intercept("holds/*/confirm", request := Unanswered())
    shop.press("Pay")
    shop.shows("confirm")
    shop.check()
    shop.until(lambda: request.carried_out)
    shop.page.reload()
    shop.shows("receipt")
    sent = [each.post_data for each in shop.requests if each.url.endswith("/confirm")]
    assert len(sent) >= 2
    assert len(set(sent)) == 1
    assert shop.sale.counts() == (9, 0, 1)


@pytest.mark.G3
def test_killed_tab(context: BrowserContext, shop: Shop) -> None:
    shop.shows("choose")
    shop.intercept("holds", request := Unanswered())
    shop.press("Reserve")
    shop.shows("place")
    shop.until(lambda: request.carried_out)
    shop.page.close()
    again = Shop(context, shop.sale).open()
    again.shows("held")
    assert set(again.keys()) == set(shop.keys())
    assert shop.sale.counts() == (9, 1, 0)


@pytest.mark.G3
def test_double_click(shop: Shop) -> None:
    shop.shows("choose")
    shop.page.get_by_role("button", name="Reserve").dblclick()
    shop.shows("held")
    assert len(shop.keys()) == 1
    assert shop.sale.counts() == (9, 1, 0)


@pytest.mark.G3
def test_two_tabs(context: BrowserContext, shop: Shop) -> None:
    """Both press at once. One order is made, and both show it."""
    other = Shop(context, shop.sale).open()
    for tab in (shop, other):
        tab.shows("choose")
        tab.intercept("holds", lost)
    for tab in (shop, other):
        tab.page.evaluate("setTimeout(() => document.querySelector('form button').click(), 300)")
    for tab in (shop, other):
        tab.shows("held")
    assert len({*shop.keys(), *other.keys()}) == 1
    assert shop.sale.counts() == (9, 1, 0)
    shop.press("Pay")
    for tab in (shop, other):
        tab.shows("receipt")


@pytest.mark.G3
def test_second_tab_waits(context: BrowserContext, shop: Shop) -> None:
    """While one tab asks, no other does; when that one is gone, the other takes over."""
    shop.shows("choose")
    shop.intercept("holds", request := Unanswered())
    shop.press("Reserve")
    shop.until(lambda: request.carried_out)
    other = Shop(context, shop.sale).open()
    other.shows("place", "Another tab of this browser is at it")
    other.check("other_tab")
    assert other.keys() == []
    shop.page.close()
    other.shows("held")
    assert set(other.keys()) == set(shop.keys())
    assert shop.sale.counts() == (9, 1, 0)


@pytest.mark.G3
def test_offline(context: BrowserContext, shop: Shop) -> None:
    shop.shows("choose")
    context.set_offline(True)
    shop.press("Reserve")
    shop.shows("place", "You are offline")
    shop.check("offline")
    context.set_offline(False)
    shop.shows("held")
    assert len(set(shop.keys())) == 1
    assert shop.sale.counts() == (9, 1, 0)


@pytest.mark.G5
def test_gone_at_submit(shop: Shop) -> None:
    """Others buy all tickets after the page has seen them."""
    shop.shows("choose")
    inventory = "**/live/inventory?item_id=*"
    shop.page.route(inventory, stalled)
    shop.sale.order("buy_ticket", 10)
    shop.press("Reserve")
    shop.shows("refused", "Another buyer was faster")
    shop.check("sold_out")
    # An inventory may be so old in a function, and again in the browser.
    shop.page.wait_for_timeout(2 * 1000 * CACHE_SECONDS)
    shop.page.unroute(inventory)
    shop.page.evaluate(RECORD_VIEWS)
    shop.press("Choose again")
    shop.shows("sold_out")
    assert "choose" not in shop.page.evaluate("views"), "what the page had seen is no longer true"
    shop.check()


@pytest.mark.G5
def test_all_held(shop: Shop) -> None:
    shop.shows("choose")
    shop.sale.order("holds", 10)
    shop.shows("all_held", "The first of these may come back at")
    shop.check()


@pytest.mark.G5
def test_refused_in_doubt(context: BrowserContext, shop: Shop) -> None:
    """A refusal does not count while an attempt without an answer may still take effect."""

    def hasty(route: Route) -> None:
        answer = route.fetch()
        text = answer.text()
        assert 'data-doubt-seconds="18"' in text
        text = text.replace('data-doubt-seconds="18"', 'data-doubt-seconds="4"')
        route.fulfill(response=answer, body=text)

    shop.intercept(f"shop/{shop.sale.item_id}", hasty)
    shop.open().shows("choose")
    shop.sale.order("buy_ticket", 10)
    shop.intercept("holds", unsent)
    shop.press("Reserve")
    shop.shows("place", "an earlier request of yours was not answered")
    shop.check("in_doubt")
    shop.shows("refused", "All tickets are sold")
    assert len(shop.keys()) >= 3
    assert len(set(shop.keys())) == 1


def test_not_enough_left(shop: Shop) -> None:
    shop.shows("choose")
    shop.sale.order("buy_ticket", 8)
    shop.page.get_by_label("How many?").select_option("3")
    shop.shows("choose", "less than you have chosen")
    shop.check("few")
    shop.press("Reserve")
    shop.shows("refused", "Only 2 are left")
    shop.check("not_enough_left")


def test_opening(context: BrowserContext, new: NewSale) -> None:
    """The countdown goes by the service's clock, whatever the device says."""
    context.add_init_script(WRONG_CLOCK)
    opens_at = datetime.now(UTC) + timedelta(seconds=6)
    shop = Shop(context, new(opens_at=opens_at.isoformat())).open()
    shop.shows("scheduled", "It opens in 0:0")
    shop.check()
    shop.shows("choose")
    assert abs((datetime.now(UTC) - opens_at).total_seconds()) < 5
    shop.press("Reserve")
    shop.shows("held")
    assert len(set(shop.keys())) == 1


def test_paused_and_closed(shop: Shop) -> None:
    shop.sale.pause()
    shop.shows("paused")
    shop.check()
    shop.sale.put(closes_at=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    shop.reload_until("closed")
    shop.shows("closed", "It ended")
    shop.check()


def test_no_such_item(shop: Shop) -> None:
    shop.page.goto(f"{shop.sale.url}/shop/4999")
    shop.shows("no_item")
    shop.check()


def test_expires_before_eyes(context: BrowserContext, new: NewSale) -> None:
    shop = Shop(context, new(hold_seconds=30)).open()
    shop.shows("choose", "30 seconds to pay")
    shop.press("Reserve")
    shop.shows("held")
    expect(shop.page.locator("main")).to_have_attribute("data-view", "expired")
    expect(shop.page.get_by_role("heading", name="has ended")).to_be_focused()
    shop.check()
    shop.press("Choose again")
    shop.shows("choose", "10 tickets are free")
    shop.press("Reserve")
    shop.shows("held")
    assert len(set(shop.keys())) == 2


def test_extend_too_early(shop: Shop) -> None:
    """Nothing is gained, so the one extension is not used up, and the page says so."""
    shop.shows("choose")
    shop.press("Reserve")
    shop.shows("held")
    hold = shop.page.evaluate("Object.values(localStorage).map(JSON.parse)[0].order")
    same = {name: hold[name] for name in ("hold_id", "expires_at", "extended")}
    shop.intercept("holds/*/extend", answered(200, same))
    shop.press("More time")
    shop.shows("held", "Later you can ask for more")
    shop.check("too_early")
    expect(shop.page.get_by_role("button", name="More time")).to_be_visible()


def test_extend_and_release(context: BrowserContext, new: NewSale) -> None:
    shop = Shop(context, new(hold_seconds=60)).open()
    shop.shows("choose")
    shop.press("Reserve")
    shop.shows("held")
    shop.page.wait_for_timeout(1000 * 60 / SLOTS_PER_HOLD + 1500)  # until there is time to add
    failed = answered(500, {"code": "internal_error"}, Retry_After="60")
    shop.intercept("holds/*/extend", failed)
    shop.press("More time")
    shop.shows("extend", "no answer")
    shop.check()
    shop.press("Send now")
    shop.shows("held")
    expect(shop.page.get_by_role("button", name="Give back")).to_be_visible()
    expect(shop.page.get_by_role("button", name="More time")).to_have_count(0)
    shop.intercept("holds/*", failed)
    shop.press("Give back")
    shop.shows("release", "no answer")
    shop.check()
    shop.press("Send now")
    shop.shows("released")
    shop.check()
    assert shop.sale.counts() == (10, 0, 0)


def test_paid_elsewhere(shop: Shop) -> None:
    """The hold was confirmed by the payment's back end: the page finds it when it is loaded."""
    shop.shows("choose")
    shop.press("Reserve")
    shop.shows("held")
    stored = "Object.values(localStorage).map(JSON.parse)[0].order.hold_id"
    hold_id = shop.page.evaluate(stored)
    answer = shop.page.request.post(f"{shop.sale.url}/holds/{hold_id}/confirm")
    assert answer.status == 201
    shop.page.reload()
    shop.shows("bought", "1 ticket")
    shop.check()


def test_limit(context: BrowserContext, new: NewSale) -> None:
    shop = Shop(context, new(per_buyer_limit=2)).open()
    shop.shows("choose")
    shop.press("Reserve")
    field = shop.page.get_by_label("e-mail")
    expect(field).to_be_focused()
    shop.shows("choose", "Please say who you are")
    shop.check("limit")
    field.fill("ann@example.org")
    shop.page.get_by_label("How many?").select_option("2")
    shop.press("Reserve")
    shop.shows("held")
    shop.press("Pay")
    shop.shows("receipt", "ann@example.org")
    shop.press("Buy another")
    shop.shows("choose")
    shop.press("Reserve")
    shop.shows("refused", "as many tickets as the sale allows")
    shop.check("limit")


@pytest.mark.G3
def test_another_has_own_key(shop: Shop) -> None:
    for number in (1, 2):
        shop.shows("choose")
        shop.press("Reserve")
        shop.shows("held")
        shop.press("Pay")
        shop.shows("receipt")
        assert len(set(shop.keys())) == number
        shop.press("Buy another")
    shop.shows("choose", "Your receipts")
    shop.check("receipts")
    assert shop.page.locator("main ul a").count() == 2
    assert shop.sale.counts() == (8, 0, 2)


def test_new_generation(shop: Shop) -> None:
    """A sale that starts again has no order of this browser, and its receipts stay."""
    shop.shows("choose")
    shop.press("Reserve")
    shop.shows("held")
    shop.press("Pay")
    shop.shows("receipt")
    shop.sale.reset(stock=5)
    shop.page.goto(shop.sale.page)
    shop.reload_until("choose")
    shop.shows("choose", "5 tickets are free")
    shop.shows("choose", "Your receipts")


def test_no_storage(context: BrowserContext, new: NewSale) -> None:
    """Where the browser keeps nothing, the page says so, and buys once all the same."""
    context.add_init_script(NO_STORAGE)
    shop = Shop(context, new()).open()
    shop.shows("choose")
    shop.intercept("holds", lost)
    shop.press("Reserve")
    shop.shows("held", "This browser keeps no data")
    shop.check("not_kept")
    assert len(set(shop.keys())) == 1
    assert shop.sale.counts() == (9, 1, 0)


def test_names_are_letters(context: BrowserContext, new: NewSale) -> None:
    name = "<b>Öl & Σ</b>  \u05e9\u05dc\u05d5\u05dd ٣ 👩‍🎤"
    shop = Shop(context, new(item_name=name)).open()
    shop.shows("choose")
    assert shop.page.locator("h1").text_content() == name
    assert shop.page.locator("h1 b").count() == 0
    shop.check()


def test_german(browser: Browser, new: NewSale) -> None:
    context = browser.new_context(locale="de-AT", viewport={"width": 320, "height": 640})
    shop = Shop(context, new()).open()
    shop.shows("choose", "10 Tickets sind frei")
    assert shop.page.locator("html").get_attribute("lang") == "de"
    shop.check("german")
    shop.press("Reservieren")
    shop.shows("held", "reserviert")
    context.close()


HIDEABLE = """Object.defineProperty(document, "hidden", { get: () => window.isHidden ?? false });"""
HIDE = """hidden => {
  window.isHidden = hidden;
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_hidden_page_asks_less(context: BrowserContext, new: NewSale) -> None:
    """Once a second while it is seen, ten times less often otherwise, and at once when it is."""
    context.add_init_script(HIDEABLE)
    made_up = MadeUp(context.new_page(), new(), "", "form")
    assert 6 <= made_up.turn(15) <= 20
    made_up.page.evaluate(HIDE, arg=True)
    made_up.turn(1.5)
    assert 1 <= made_up.turn(45) <= 6
    before = made_up.requests
    made_up.page.evaluate(HIDE, arg=False)
    eventually(made_up.open_requests, lambda _: made_up.requests == before + 1)  # in no time
    assert 6 <= made_up.turn(15) <= 20


RECORD_WORDS = """window.said = [];
new MutationObserver(() => said.push(document.querySelector("#announcer").textContent)).observe(
  document.querySelector("#announcer"), { childList: true });"""


def test_countdown_is_spoken(context: BrowserContext, new: NewSale) -> None:
    """In whole minutes, and at most once in each."""
    opens_at = datetime.fromtimestamp(START + 600, UTC).isoformat()
    made_up = MadeUp(context.new_page(), new(), "", ".timer", state="scheduled", opens_at=opens_at)
    made_up.page.evaluate(RECORD_WORDS)
    made_up.turn(200)
    said = made_up.page.evaluate("said")
    assert len(said) in {3, 4}
    assert said == [f"The sale opens in {9 - number} minutes." for number in range(len(said))]


@pytest.mark.parametrize("asset", ["shop.*.js", "texts.*.js", "shop.*.css"])
def test_asset_refused(context: BrowserContext, new: NewSale, asset: str) -> None:
    """In the rush: a module, one that it imports, or the style. The page asks until it has it."""
    shop = Shop(context, new())
    busy = answered(429, {"code": "busy"})
    shop.intercept(f"shop/assets/{asset}", busy, busy)
    shop.open()
    if asset.endswith("js"):
        expect(shop.page.locator("main")).to_contain_text("The shop does not answer")
    shop.shows("choose")
    expect(shop.page.locator("button")).to_have_css("cursor", "pointer")
    shop.check()


def test_other_language_refused(browser: Browser, new: NewSale) -> None:
    context = browser.new_context(locale="de-DE")
    shop = Shop(context, new())
    shop.intercept("shop/assets/german.*.js", answered(429, {"code": "busy"}))
    shop.open().shows("choose", "10 tickets are free")
    assert shop.page.locator("html").get_attribute("lang") == "en"
    context.close()


def test_refused_after_payment(shop: Shop) -> None:
    """The hold had ended and its tickets were sold: the page names the payment to refund."""
    shop.shows("choose")
    shop.press("Reserve")
    shop.shows("held")
    gone = {"code": "hold_expired", "detail": "The hold has expired."}
    shop.intercept("holds/*/confirm", answered(410, gone))
    shop.press("Pay")
    shop.shows("refused", "is refunded")
    shop.check("after_payment")
    shop.page.route("**/live/inventory?item_id=*", lambda route: route.abort())
    shop.press("Choose again")
    shop.shows("loading", "The shop does not answer")
    shop.check("unreachable")


def test_opening_by_another_clock(shop: Shop) -> None:
    """The process that answers is behind: the order waits, and is sent again with its key."""
    shop.shows("choose")
    early = {"code": "sale_not_open", "reason": "scheduled", "opens_at": "2026-01-01T00:00:00Z"}
    shop.intercept("holds", answered(409, early, Retry_After="60"))
    shop.press("Reserve")
    shop.shows("place", "The sale opens in a moment")
    shop.check("opening")
    shop.press("Send now")
    shop.shows("held")
    assert len(shop.keys()) >= 2
    assert len(set(shop.keys())) == 1


def test_refunded_receipt(shop: Shop) -> None:
    """A part, and then all of it: the receipt says so."""
    bought = shop.sale.order("buy_ticket", 3)
    for quantity, words in ((1, "1 of them are refunded"), (2, "refunded")):
        shop.sale.refund(bought["purchase_id"], quantity)
        again = Shop(shop.page.context, shop.sale).open(f"#receipt={bought['purchase_id']}")
        again.shows("receipt", words)
        again.check(f"refunded_{quantity}")
