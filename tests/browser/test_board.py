"""The live board in a browser: on the local stack, and on answers of a sale that stalls."""

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.shop import STEP_MS, MadeUp, Sale, Shop

type NewSale = Callable[..., Sale]

# Writes down, in each frame, what the numbers and the bar say.
RECORD_FRAMES = """window.frames_ = [];
const look = () => {
  const numbers = [...document.querySelectorAll("dd")].map((each) => Number(each.textContent));
  const widths = [...document.querySelectorAll(".bar span")].map((each) => each.style.flexGrow);
  frames_.push([numbers, widths.reduce((sum, each) => sum + Number(each), 0)]);
  requestAnimationFrame(look);
};
look();"""


class MadeUpBoard(MadeUp):
    """A board of an inventory that changes as a test says."""

    def __init__(self, page: Page, sale: Sale) -> None:
        super().__init__(page, sale, "/board", ".bar")
        self.pass_on()

    def pass_on(self, **changes: int | str) -> None:
        """Let time pass until the page asks again, and shows these changes."""
        self.body |= changes
        while not self.turn(STEP_MS / 1000):
            pass
        parts = [self.body[each] for each in ("current_stock", "held", "total_purchases")]
        expect(self.page.locator(".parts dd")).to_have_text([str(each) for each in parts])


@pytest.fixture
def board(context: BrowserContext, new: NewSale) -> Shop:
    shop = Shop(context, new())
    shop.page.goto(f"{shop.sale.page}/board")
    shop.shows("board", "10")
    return shop


def test_numbers_add_up(board: Shop) -> None:
    """In every frame, while tickets are held, sold and given back."""
    board.check("open")
    board.page.evaluate(RECORD_FRAMES)
    board.sale.order("holds", 3)
    board.shows("board", "Reserved3")
    board.sale.order("buy_ticket", 2)
    board.shows("board", "Sold2")
    board.shows("board", "The last one was sold")
    board.check("selling")
    frames = board.page.evaluate("frames_")
    assert len({tuple(numbers) for numbers, _ in frames}) >= 3
    assert {sum(numbers) for numbers, _ in frames} == {10}
    assert {width for _, width in frames} == {10}


def test_states(board: Shop) -> None:
    expect(board.page.locator(".state")).to_have_text("on sale")
    board.sale.pause()
    expect(board.page.locator(".state")).to_have_text("paused")
    board.check("paused")
    board.page.goto(f"{board.sale.url}/shop/4999/board")
    board.shows("no_item")
    board.check()


def test_no_answer(board: Shop) -> None:
    """The numbers stay, with the time that they are of."""
    board.page.route("**/live/inventory?item_id=*", lambda route: route.abort())
    board.shows("board", "The service does not answer. These are the numbers of")
    board.check("no_answer")
    board.page.unroute("**/live/inventory?item_id=*")
    expect(board.page.locator(".light.warning")).to_have_count(0)


def test_sales_per_second(context: BrowserContext, new: NewSale) -> None:
    made_up = MadeUpBoard(context.new_page(), new())
    for sold in range(1, 8):
        made_up.pass_on(current_stock=100 - 13 * sold, total_purchases=13 * sold)
    caption = made_up.page.locator("figcaption")
    rate = float((caption.text_content() or "").split()[0])
    assert 9 <= rate <= 18, "13 in each answer, and these are 0.75 to 1.25 s apart"
    columns = made_up.page.locator("svg rect")
    heights = columns.evaluate_all("all => all.map((each) => each.getAttribute('height'))")
    assert len([each for each in heights if float(each) > 8]) == 7


def test_opened_in_mid_sale(context: BrowserContext, new: NewSale) -> None:
    """What was sold before the board was opened was not sold just now."""
    sold = {"current_stock": 6, "total_purchases": 4}
    made_up = MadeUp(context.new_page(), new(), "/board", ".bar", **sold)
    expect(made_up.page.locator(".parts dd")).to_have_text(["6", "0", "4"])
    expect(made_up.page.locator(".light")).to_have_text("")
    expect(made_up.page.locator("figcaption")).to_have_text("0.0 sold per second")


def test_sale_starts_again(context: BrowserContext, new: NewSale) -> None:
    """What was sold before is not part of the new sale, and its tickets were not given back."""
    made_up = MadeUpBoard(context.new_page(), new())
    made_up.pass_on(current_stock=6, total_purchases=4)
    light = made_up.page.locator(".light")
    expect(light).to_contain_text("The last one was sold")
    made_up.pass_on(current_stock=10, total_purchases=0, generation=2)
    expect(light).to_have_text("")
    made_up.pass_on(current_stock=10, total_purchases=0)
    expect(made_up.page.locator("figcaption")).to_have_text("0.0 sold per second")


def test_stalls(context: BrowserContext, new: NewSale) -> None:
    """Tickets are reserved and given back for more than a minute, and none is sold."""
    made_up = MadeUpBoard(context.new_page(), new())
    warning = made_up.page.locator(".light.warning")
    made_up.pass_on(total_purchases=1, current_stock=9)
    last_sale = made_up.seconds

    def reserve_until(seconds: int) -> None:
        held = 0
        while made_up.seconds < last_sale + seconds:
            held = 1 - held
            made_up.pass_on(held=held, current_stock=9 - held, last_updated=f"{made_up.seconds}")

    reserve_until(55)
    expect(warning).to_have_count(0)
    reserve_until(65)
    expect(warning).to_contain_text("Stalled")
    made_up.pass_on(total_purchases=2, held=0, current_stock=8)
    expect(warning).to_have_count(0)


def test_quiet_is_not_stalled(context: BrowserContext, new: NewSale) -> None:
    """No buyer comes, so none is kept from buying."""
    made_up = MadeUpBoard(context.new_page(), new())
    started = made_up.seconds
    while made_up.seconds < started + 70:
        made_up.pass_on()
    expect(made_up.page.locator(".light.warning")).to_have_count(0)
