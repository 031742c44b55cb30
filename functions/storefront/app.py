"""Routes of the shop and its board: pages and assets. A page asks the API, as any client does."""

from collections.abc import Mapping, Sequence
from typing import Final

from storefront.pages import BOARD, INLINE_SCRIPT, SHOP, Pages
from ticketing.api.request import Reply, Request, cacheable, to_item_id
from ticketing.api.routes import GET_ASSET, GET_BOARD, GET_SHOP, GET_SHOP_ITEM, Route
from ticketing.api.serving import Handler
from ticketing.errors import NotFound
from ticketing.limits import ASSET_CACHE_SECONDS, PAGE_CACHE_SECONDS

_SNIFF: Final = {"X-Content-Type-Options": "nosniff"}
# Nothing from another host, one script inside the page, no HTML made of text by a script.
_PAGE_HEADERS: Final = _SNIFF | {
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' {INLINE_SCRIPT}",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    ),
    # A receipt's address is in the fragment, which is never sent; an item's need not be either.
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def shop(request: Request, pages: Pages) -> Reply:
    return _page(request, pages, SHOP, None)


def shop_item(request: Request, pages: Pages) -> Reply:
    return _page(request, pages, SHOP, to_item_id(request.path_parameter("item_id")))


def board(request: Request, pages: Pages) -> Reply:
    return _page(request, pages, BOARD, to_item_id(request.path_parameter("item_id")))


def asset(request: Request, pages: Pages) -> Reply:
    name = request.path_parameter("name")
    found = pages.asset(name)
    if found is None:
        raise NotFound("There is no such asset. Load the page again.")
    if found.name != name:
        # A page of the version before, in the minute after a deployment.
        return Reply(found.text, headers=_SNIFF, media_type=found.media_type)
    headers = _SNIFF | {"Cache-Control": f"public, max-age={ASSET_CACHE_SECONDS}, immutable"}
    return Reply(found.text, headers=headers, media_type=found.media_type)


def _page(request: Request, pages: Pages, loads: Sequence[str], item_id: int | None) -> Reply:
    segments = request.event["resource"].strip("/").count("/") + 1
    path = (request.event.get("requestContext") or {}).get("path") or ""
    text = pages.page(loads, path, segments, item_id)
    reply = Reply(text, headers=_PAGE_HEADERS, media_type="text/html; charset=utf-8")
    return cacheable(request, reply, seconds=PAGE_CACHE_SECONDS)


HANDLERS: Final[Mapping[Route, Handler[Pages]]] = {
    GET_SHOP: shop,
    GET_SHOP_ITEM: shop_item,
    GET_BOARD: board,
    GET_ASSET: asset,
}
