"""The page of a proof, opened as a file."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.browser.shop import Shop
from tests.proof.test_report_page import failed_page

WIDE = 1280


@pytest.mark.parametrize("width", [320, WIDE])
def test_page_of_a_proof(browser: Browser, tmp_path: Path, width: int) -> None:
    """Each width shows it, the small one also to people who use aids, and nothing else is asked."""
    path = tmp_path / "proof.html"
    failed_page().write(path)
    context = browser.new_context(viewport={"width": width, "height": 640})
    page = context.new_page()
    asked, said = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri())
    if width != WIDE:
        found = Axe().run(page)
        assert not found.response["violations"], found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.locator("svg").count() == 2
    assert asked == [path.as_uri()]
    assert said == []
    if Shop.pictures is not None and width == WIDE:
        example = page.locator(".broken").first
        example.screenshot(path=Shop.pictures / "report.png")
    context.close()
