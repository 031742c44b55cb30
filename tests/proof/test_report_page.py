"""The pages of the proof: what they say, what they draw, and what they must not contain."""

import html
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from msgspec import structs

from proof import caught
from proof.checker import check
from proof.command import main
from proof.history import Evidence, History, Pause, Violation
from proof.page import MEANINGS, ReportPage, Section, counter_example, picture_of
from proof.pictures import StoreCall, counter_example_picture, sale_picture
from tests.proof import reference_service as services
from tests.proof.test_proof_checker import (
    ALL_SOLD,
    SECOND,
    bought,
    buyer,
    history,
    lost,
    replayed,
    sample,
    sold_out,
)
from tests.proof.test_proof_cli import command

OVERSOLD = history(
    *ALL_SOLD,
    buyer("one-too-many", lost(0, 1), replayed(1.5, 3, "r")),
    buyer("in-flight", sold_out(2.5, 4)),
    buyer("long-before", sold_out(0.1, 0.2)),
)
HOSTILE = '<script src="https://elsewhere.example/x.js">alert("&")</script>'


class Elements(HTMLParser):
    """Collects the names of all elements, and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += attrs


def failed_page(facts: History = OVERSOLD, text: str = "") -> ReportPage:
    """Return the page of a history, with all of its violations. text: stands in each place."""
    shown = [
        structs.replace(each, found=each.found + text, evidence=(*each.evidence, Evidence(text)))
        for each in check(facts)
    ]
    section = Section(
        title=f"Test 2{text}",
        verdict="failed",
        checks=[("passed", f"fine{text}"), ("failed", "wrong"), ("inconclusive", "nothing")],
        figures=[("requests", f"6{text}")],
        picture=picture_of(facts),
        counter_examples=[counter_example(facts, each, lines=[text]) for each in shown],
    )
    return ReportPage(
        f"Proof{text}", "failed", text, [("service", text)], [section], f"make prove{text}"
    )


def written(page: ReportPage, folder: Path) -> str:
    page.write(folder / "page.html")
    return (folder / "page.html").read_text(encoding="utf-8")


def texts(drawing: str) -> list[str]:
    """Return all texts of a picture."""
    return [
        element.text or ""
        for element in ElementTree.fromstring(drawing).iter()
        if element.tag.endswith("}text")
    ]


def test_page_of_broken_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The counter-example, its picture, the figures, and JSON beside it."""
    page, machines = tmp_path / "proof.html", tmp_path / "proof.json"
    options = ["--only", "2", "--report", str(page), "--report", str(machines)]
    with services.Server(services.Oversells()) as server:
        assert main(command(server.url, *options)[3:]) == 1
    assert f"Report: {page}" in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert "<strong>FAILED</strong>: 1 test with 100 requests, which broke G1 No oversell" in text
    assert "G1 is broken: oversold" in text
    assert "receipt number 21 is one too many" in text
    assert "G1 is broken at the red line: oversold" in text
    assert '<th scope="row">requests</th><td>100</td>' in text
    assert "python -m proof --url http://127.0.0.1" in text
    assert b'"rule": "oversold"' in machines.read_bytes()


def test_page_of_unusable_service(tmp_path: Path) -> None:
    page = tmp_path / "proof.html"
    assert main(["--url", "http://127.0.0.1:9/live", "--report", str(page)]) == 2
    assert "<strong>NOT USABLE</strong>: 0 tests with 0 requests" in page.read_text("utf-8")


def test_mistakes_that_were_caught(tmp_path: Path) -> None:
    """Beside the verdict, all of them."""
    text = html.unescape(written(failed_page(), tmp_path))
    assert all(f"<td>{each.mistake}</td>" in text for each in caught.read())
    assert {each.guarantee for each in caught.read()} == MEANINGS.keys()


def test_broken_guarantees_are_counted() -> None:
    facts = history(*ALL_SOLD, buyer("d", bought(1, 3, "r")), buyer("e", bought(1, 4, "s")))
    broken = {name: times for name, _, times in failed_page(facts).guarantees()}
    assert broken.pop("G1 No oversell") == 2
    assert set(broken.values()) == {0}


def test_text_of_service_is_escaped(tmp_path: Path) -> None:
    text = written(failed_page(text=HOSTILE), tmp_path)
    assert text.count("&lt;script") >= 8
    elements = Elements(text)
    assert "script" not in elements.names
    assert not {name for name, _ in elements.attributes if name.startswith("on")}


def test_page_needs_nothing_else(tmp_path: Path) -> None:
    """No script, no other file, no other host."""
    elements = Elements(written(failed_page(), tmp_path))
    assert not elements.names & {"script", "link", "img", "iframe", "object", "a"}
    for name, value in elements.attributes:
        if name in {"src", "href", "xlink:href"}:
            assert (value or "").startswith("#")
    assert "svg" in elements.names


def test_lanes() -> None:
    """Those of the evidence and of requests in flight at that instant, in order of their start."""
    [violation] = check(OVERSOLD)
    drawing = counter_example_picture(OVERSOLD, violation) or ""
    lanes = [text.partition(":")[0] for text in texts(drawing) if "→" in text]
    assert lanes == ["a", "b", "one-too-many", "in-flight"]
    assert "one-too-many: 1 ticket → 200 replayed" in texts(drawing)
    assert "G1 is broken at the red line: oversold" in texts(drawing)
    assert "no answer: sent again" in texts(drawing)


def test_red_line() -> None:
    """It is where the answer came that shows the violation."""
    [violation] = check(OVERSOLD)
    drawing = counter_example_picture(OVERSOLD, violation) or ""
    paths = [each.attrib for each in ElementTree.fromstring(drawing).iter() if "d" in each.attrib]
    red = "#b3261e; stroke-width: 1.5; stroke-linecap: square"
    lines = [each["d"] for each in paths if red in each.get("style", "")]
    receipts = [each["d"] for each in paths if "fill: #2e7d5b" in each.get("style", "")]
    ends = [max(map(float, re.findall(r"[ML] ([\d.]+)", each))) for each in receipts]
    assert len(lines) == 2, "in the lanes, and in the plot of the tickets below"
    assert [float(each.split()[1]) for each in lines] == [pytest.approx(max(ends), abs=0.01)] * 2


def test_bounds_of_the_tickets() -> None:
    """From the first request on all three may be sold; from the answers on two certainly are."""
    [violation] = check(OVERSOLD)
    drawing = counter_example_picture(OVERSOLD, violation) or ""
    paths = [each.attrib for each in ElementTree.fromstring(drawing).iter() if "d" in each.attrib]

    def corners(style: str) -> list[tuple[float, float]]:
        (line,) = [each["d"] for each in paths if style in each.get("style", "")][:1]
        found = re.findall(r"[ML] ([\d.]+) ([\d.]+)", line)
        return [(float(x), float(y)) for x, y in found]

    def first_rise(line: list[tuple[float, float]]) -> float:
        return next(x for x, y in line if y < line[0][1])

    possible = corners("stroke-dasharray: 0.8,1.32")
    certain = corners("stroke: #3566a8; stroke-width: 1.5")
    assert first_rise(possible) < first_rise(certain)
    assert possible[-1][1] == pytest.approx(certain[-1][1]), "at the end both agree"


def test_calls_of_the_store() -> None:
    """They are drawn below their request, with what went wrong."""
    [violation] = check(OVERSOLD)
    calls = [StoreCall(1.6, 1.7, "one-too-many"), StoreCall(1.8, 2.9, "one-too-many", "reply_lost")]
    drawing = counter_example_picture(OVERSOLD, violation, calls) or ""
    assert "reply_lost" in texts(drawing)
    others = [structs.replace(call, key="long-before") for call in calls]
    drawing = counter_example_picture(OVERSOLD, violation, others) or ""
    assert "reply_lost" not in texts(drawing)


def test_without_time_no_picture() -> None:
    """What is found at rest is told, not drawn."""
    found = Violation(
        "G4", "audit_disagrees", "an audit that agrees", "", (Evidence("GET /audit"),)
    )
    assert counter_example_picture(OVERSOLD, found) is None


def test_picture_of_a_sale() -> None:
    """The same bytes each time; a reset and a pause are explained where there are any."""
    facts = history(
        *ALL_SOLD,
        buyer("d", bought(11, 12, "r", generation=2)),
        resets=(*OVERSOLD.resets, SECOND),
        pauses=(Pause(3, 4, 5, 6),),
        samples=(sample(0, 2),),
    )
    drawing = sale_picture(facts)
    assert drawing == sale_picture(facts)
    assert {"capacity", "a reset", "paused", "receipt", "refused"} <= set(texts(drawing))
    assert not {"a reset", "paused"} & set(texts(sale_picture(OVERSOLD)))
    assert not re.search(r' id="[a-z]+_\d+"', drawing), "pages have several pictures"


def test_large_sale_stays_small() -> None:
    many = [buyer(f"k{n}", bought(n / 100, n / 100 + 1, f"p{n}")) for n in range(5000)]
    resets = (structs.replace(OVERSOLD.resets[0], capacity=5000),)
    assert len(sale_picture(history(*many, resets=resets))) < 100_000
