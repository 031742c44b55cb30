"""The pages and their assets, read once per process. The name of an asset has a hash of it."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Final, Self

from msgspec import Struct

from ticketing.limits import DOUBT_SECONDS, QUANTITY_MAX

_FOLDER: Final = files("storefront") / "assets"
_MEDIA_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}
_IMPORT: Final = re.compile(r'((?: from |import\()"\./)([a-z]+\.js)')
# Whole lines of a comment: a tenth of what visitors would load.
_COMMENTS: Final = re.compile(r"^ *(?://.*|/\*(?:.|\n)*?\*/)\n", re.MULTILINE)
_PAGE: Final = (_FOLDER / "page.html").read_text("utf-8")
_INLINE: Final = _PAGE.partition('<script data-files="$modules">')[2].partition("</script>")[0]
_DIGEST: Final = base64.b64encode(hashlib.sha256(_INLINE.encode()).digest()).decode()
# The one script that is in the page, as a Content-Security-Policy names it.
INLINE_SCRIPT: Final = f"'sha256-{_DIGEST}'"

# What each page loads: styles, then modules, of which the last one runs.
SHOP: Final = ("shop.css", "api.js", "order.js", "texts.js", "shop.js")
BOARD: Final = ("shop.css", "board.css", "api.js", "texts.js", "board.js")


class Asset(Struct, frozen=True):
    """A file that pages load. name: with its hash, as in "shop.0123456789ab.js"."""

    name: str
    text: str
    media_type: str


class Pages(Struct, frozen=True):
    """The pages of a process. assets: by their names without a hash."""

    assets: Mapping[str, Asset]

    @classmethod
    def read(cls) -> Self:
        """Return the pages. A module that imports another one names it with its hash."""
        found: dict[str, Asset] = {}

        def add(plain: str) -> str:
            if plain not in found:
                text = _COMMENTS.sub("", (_FOLDER / plain).read_text("utf-8"))
                text = _IMPORT.sub(lambda match: match[1] + add(match[2]), text)
                digest = hashlib.sha256(text.encode()).hexdigest()[:12]
                stem, _, suffix = plain.rpartition(".")
                found[plain] = Asset(f"{stem}.{digest}.{suffix}", text, _MEDIA_TYPES[suffix])
            return found[plain].name

        for each in _FOLDER.iterdir():
            if each.name.rpartition(".")[2] in _MEDIA_TYPES:
                add(each.name)
        return cls(found)

    def page(self, loads: Sequence[str], path: str, segments: int, item_id: int | None) -> str:
        """Return a page, for an item or for all of them.

        loads: SHOP or BOARD. path: as the browser asked for it. segments: of the route. All
        addresses in the page are relative, so it works behind any stage and base path.
        """
        root = "../" * (segments - 1 + path.endswith("/")) or "./"
        files = [f"{root}shop/assets/{self.assets[each].name}" for each in loads]
        styles = [each for each in files if each.endswith(".css")]
        return Template(_PAGE).substitute(
            root=root,
            modules=" ".join(each for each in files if each.endswith(".js")),
            links="\n".join(f'<link rel="stylesheet" href="{each}">' for each in styles),
            item_id="" if item_id is None else item_id,
            quantity_max=QUANTITY_MAX,
            doubt_seconds=round(DOUBT_SECONDS),
        )

    def asset(self, name: str) -> Asset | None:
        """Return the asset; also by the hash of another version, which is no longer there."""
        stem, _, rest = name.partition(".")
        return self.assets.get(f"{stem}.{rest.rpartition('.')[2]}")
