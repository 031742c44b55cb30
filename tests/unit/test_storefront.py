"""The shop's pages as they are served: addresses, caching, headers, words and weight."""

import base64
import hashlib
import re
import subprocess
import sys
from copy import deepcopy
from typing import Any
from urllib.parse import urljoin

import pytest

from storefront.pages import BOARD, SHOP, Pages
from tests.functions import Functions, header, load
from tests.support import ROOT, World
from ticketing.api.problems import Code
from ticketing.api.routes import BUY_TICKET, CONFIRM_HOLD, EXTEND_HOLD, HOLD_TICKETS
from ticketing.limits import ASSET_CACHE_SECONDS, DOUBT_SECONDS, QUANTITY_MAX

ASSETS = ROOT / "functions" / "storefront" / "assets"
WEIGHT_MAX = 50_000
# The API answers these with a remedy for programs. A page says that it was refused.
FOR_PROGRAMS = {Code.BUSY, Code.INTERNAL_ERROR}


@pytest.fixture
def functions(world: World) -> Functions:
    return Functions(world)


def get(functions: Functions, name: str, path: str | None = None, **headers: str) -> dict[str, Any]:
    """Return the answer to events/storefront/<name>.json, asked for by another path."""
    event = deepcopy(load(f"storefront/{name}.json"))
    if path is not None:
        event["requestContext"]["path"] = path
    event["multiValueHeaders"] |= {key.replace("_", "-"): [value] for key, value in headers.items()}
    return functions.call("storefront", event)


def get_asset(functions: Functions, name: str) -> dict[str, Any]:
    event = load("storefront/asset.json") | {"pathParameters": {"name": name}}
    return functions.call("storefront", event)


def words(module: str) -> dict[str, str]:
    """Return name → text of a module's table of words."""
    table = (ASSETS / module).read_text().partition("const ")[2].partition("\n};")[0]
    entries = re.findall(r'^  (\w+):\s*((?:"[^"]*"\s*\+?\s*)+),$', table, re.MULTILINE)
    return {name: "".join(re.findall(r'"([^"]*)"', text)) for name, text in entries}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("shop", "/live/shop"),
        ("shop", "/live/shop/"),
        ("shop", "/shop"),
        ("shop", "/a/base/path/shop"),
        ("shop_item", "/live/shop/1"),
        ("shop_item", "/shop/1/"),
        ("shop_item", "/a/base/path/shop/1"),
        ("board", "/live/shop/1/board"),
        ("board", "/a/base/path/shop/1/board/"),
    ],
)
def test_addresses(functions: Functions, name: str, path: str) -> None:
    """Relative ones: right behind each stage and base path, and with a slash at the end."""
    page = get(functions, name, path)["body"]
    root = path.partition("shop")[0]
    (from_page,) = re.findall('data-root="([^"]*)"', page)
    assert urljoin(path, from_page) == root
    loaded = " ".join(re.findall('(?:href|data-files)="([^"]*)"', page)).split()
    assert len(loaded) == 6
    for address in loaded:
        if address != "data:,":
            folder, _, asset = urljoin(path, address).rpartition("/")
            assert folder == f"{root}shop/assets"
            assert get_asset(functions, asset)["statusCode"] == 200


def test_page_headers(functions: Functions) -> None:
    page = get(functions, "shop_item")
    policy = header(page, "Content-Security-Policy") or ""
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert header(page, "Content-Type") == "text/html; charset=utf-8"
    assert header(page, "Referrer-Policy") == "no-referrer"
    assert header(page, "X-Content-Type-Options") == "nosniff"
    assert not re.search(r"<style|\son\w+=|\sstyle=", page["body"])
    (script,) = re.findall("<script[^>]*>(.*?)</script>", page["body"], re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in policy, "the one script in the page"


def test_page_is_revalidated(functions: Functions) -> None:
    page = get(functions, "shop_item")
    tag = header(page, "ETag")
    assert tag is not None
    again = get(functions, "shop_item", If_None_Match=tag)
    assert (again["statusCode"], again["body"]) == (304, "")
    assert header(again, "Content-Security-Policy") is not None


def test_page_knows_limits(functions: Functions) -> None:
    page = get(functions, "shop_item")["body"]
    assert 'data-item="1"' in page
    assert f'data-quantity-max="{QUANTITY_MAX}"' in page
    assert f'data-doubt-seconds="{DOUBT_SECONDS:.0f}"' in page


def test_assets_are_kept(functions: Functions) -> None:
    for asset in Pages.read().assets.values():
        found = get_asset(functions, asset.name)
        assert header(found, "Cache-Control") == f"public, max-age={ASSET_CACHE_SECONDS}, immutable"
        assert header(found, "X-Content-Type-Options") == "nosniff"
        assert found["body"] == asset.text


def test_asset_of_earlier_version(functions: Functions) -> None:
    """A page of the version before finds today's file, and keeps it for this time alone."""
    found = get_asset(functions, "shop.000000000000.js")
    assert found["body"] == Pages.read().assets["shop.js"].text
    assert header(found, "Cache-Control") == "no-store"


@pytest.mark.parametrize("name", ["page.html", "../app.py", "other.js", "shop.", ""])
def test_other_files_are_hidden(functions: Functions, name: str) -> None:
    assert get_asset(functions, name)["statusCode"] == 404


def test_modules_name_hashes() -> None:
    assets = Pages.read().assets
    names = {asset.name for asset in assets.values()}
    for asset in assets.values():
        imported = re.findall(r'(?:from |import\()"\./([^"]*)"', asset.text)
        assert set(imported) <= names, asset.name
        assert re.fullmatch(r"[a-z]+\.[0-9a-f]{12}\.(js|css)", asset.name)


def test_comments_stay_here() -> None:
    """Visitors load the code without its comments, and nothing else is left out."""
    for name, asset in Pages.read().assets.items():
        source = re.sub(r"/\*(.|\n)*?\*/", "", (ASSETS / name).read_text("utf-8"))
        code = [line for line in source.splitlines() if line.strip() and line.strip()[:2] != "//"]
        sent = [line for line in asset.text.splitlines() if line.strip()]
        assert len(sent) == len(code), name
        assert not re.search(r"^ *(//|/\*|\*/)", asset.text, re.MULTILINE)


def test_no_other_host() -> None:
    namespace = "http://www.w3.org/2000/svg"  # a name, which is not loaded
    for path in ASSETS.iterdir():
        text = path.read_text().replace(namespace, "")
        assert not re.search(r"//[\w-]+\.[\w-]+|https?:", text), path.name


def test_weight(functions: Functions) -> None:
    """Each page with all that it may load, before compression."""
    assets = Pages.read().assets
    for name, loads in (("shop_item", SHOP), ("board", BOARD)):
        texts = [assets[each].text for each in (*loads, "german.js")]
        texts.append(get(functions, name)["body"])
        assert sum(len(text.encode()) for text in texts) <= WEIGHT_MAX, name


def test_languages_are_complete() -> None:
    english, german = words("texts.js"), words("german.js")
    assert len(english) > 80
    assert english.keys() == german.keys()
    for name, text in english.items():
        places = re.findall(r"{\w+}", text)
        assert sorted(places) == sorted(re.findall(r"{\w+}", german[name])), name


def test_every_refusal_has_words() -> None:
    known = words("texts.js").keys()
    for route in (BUY_TICKET, HOLD_TICKETS, CONFIRM_HOLD, EXTEND_HOLD):
        for code in route.all_codes - FOR_PROGRAMS - {Code.ALREADY_PAID, Code.HOLD_CONFIRMED}:
            assert any(each.startswith(f"refused_{code}") for each in known), code


def test_texts_and_their_uses() -> None:
    """Each text that is asked for is there, and each is asked for; some names are computed."""
    code = "".join((ASSETS / name).read_text() for name in ("shop.js", "order.js", "board.js"))
    known = words("texts.js").keys()
    assert set(re.findall(r'\b(?:text|plain|heading|button|row)\("(\w+)"', code)) <= known
    computed = ("board_", "free_", "refused_", "state_", "status_", "tickets_")
    lengths = ("days_", "hours_", "minutes_", "seconds_")
    for name in known - set(re.findall(r"\w+", code)):
        assert name.startswith(computed + lengths), name


def test_start_needs_no_client() -> None:
    """It has no store, so boto3 is not loaded."""
    program = (
        "import sys, storefront.lambda_function; "
        "sys.exit(any(name in sys.modules for name in ('boto3', 'botocore.client')))"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT / "functions", check=False)
    assert finished.returncode == 0
