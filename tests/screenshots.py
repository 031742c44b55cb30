"""Write the pictures of all pages in docs/: what the browser tests have checked, on sheets.

make screenshots
"""

import html
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import OPTIONS, browser_path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
# In the order in which a buyer meets them; variants of a view follow it.
VIEWS = (
    "list", "scheduled", "choose", "place", "held", "extend", "release", "confirm", "bought",
    "receipt", "refused", "sold_out", "all_held", "expired", "released", "paused", "closed",
    "loading", "no_item", "no_receipt",
)  # fmt: skip
PER_ROW = 6
STYLE = """body { margin: 16px; font: 15px sans-serif; background: #d8dce0; width: max-content; }
main { display: grid; gap: 16px; align-items: start; }
figure { margin: 0; width: 320px; }
figcaption { padding: 4px 0; font-weight: bold; }
div { max-height: 560px; overflow: hidden; }
img { display: block; max-width: 100%; }"""


def sheet(pictures: Sequence[Path], per_row: int) -> str:
    """Return a page with pictures, each with its name."""
    figures = "".join(
        f"<figure><figcaption>{html.escape(path.stem.rpartition('-')[0])}</figcaption>"
        f'<div><img src="{path.as_uri()}"></div></figure>'
        for path in pictures
    )
    grid = f"grid-template-columns: repeat({per_row}, 320px)"
    return f'<meta charset="utf-8"><style>{STYLE}</style><main style="{grid}">{figures}</main>'


def draw(browser: Browser, pictures: Sequence[Path], name: str, per_row: int = PER_ROW) -> None:
    """Write a sheet as docs/<name>.png."""
    page = browser.new_page(viewport={"width": 400, "height": 400})
    written = pictures[0].with_name("sheet.html")
    written.write_text(sheet(pictures, per_row), encoding="utf-8")
    page.goto(written.as_uri())
    page.locator("body").screenshot(path=DOCS / f"{name}.png")
    print(f"Wrote docs/{name}.png: {len(pictures)} pictures")


def of_shop(folder: Path, scheme: str) -> list[Path]:
    """Return the pictures of the shop in the order of VIEWS."""
    found = [path for path in folder.glob(f"*-{scheme}.png") if not path.stem.startswith("board")]
    return sorted(found, key=lambda path: (VIEWS.index(path.stem.partition("-")[0]), path.stem))


def main() -> int:
    """Run the browser tests, and write the sheets; the exit status is that of the tests."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "pytest", "tests/browser", "--screenshots", name]
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        if status:
            return status
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=browser_path(), args=OPTIONS)
            draw(browser, of_shop(folder, "light"), "shop")
            draw(browser, of_shop(folder, "dark")[:PER_ROW], "shop-dark")
            boards = [
                *sorted(folder.glob("board-*-light.png")),
                *sorted(folder.glob("board-*-dark.png")),
            ]
            draw(browser, boards, "board", per_row=len(boards) // 2)
            (folder / "report.png").replace(DOCS / "report.png")
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
