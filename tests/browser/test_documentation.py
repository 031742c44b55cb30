"""The API's documentation page in a browser."""

from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, expect

from local.stack import Stack


def test_try_it_out(context: BrowserContext, stack: Stack) -> None:
    """It asks the API that it is part of, and no other host."""
    page = context.new_page()
    hosts = set[str]()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.goto(f"{stack.url}/docs")
    operation = page.locator(".opblock-get", has=page.locator('[data-path="/inventory"]'))
    operation.get_by_role("button").first.click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table")
    expect(answer.locator(".response-col_status").last).to_contain_text("200")
    expect(answer).to_contain_text('"current_stock"')
    assert hosts - {""} == {urlsplit(stack.url).netloc}
