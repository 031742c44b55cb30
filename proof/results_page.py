"""The results of the proof as a page."""

from collections.abc import Sequence
from typing import Any

from msgspec import structs

from proof.figures import Figures
from proof.history import GUARANTEES
from proof.page import ReportPage, Section, counter_example, picture_of
from proof.runner import Result


def page_of(document: dict[str, Any], results: Sequence[Result], again: str) -> ReportPage:
    """Return the page. document: the JSON report of the results. again: the command."""
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    return ReportPage(
        title="Proof of correctness",
        verdict=document["verdict"],
        summary=_summary(results, document["verdict"]),
        facts=[
            ("service", document["url"]),
            ("item", str(document["item_id"])),
            ("seed", str(document["seed"])),
            ("from", document["started_at"]),
            ("to", document["finished_at"]),
            ("with", versions),
        ],
        sections=[_section(result) for result in results],
        again=again,
    )


def _summary(results: Sequence[Result], verdict: str) -> str:
    requests = sum(result.observation.figures.requests for result in results)
    tests = "1 test" if len(results) == 1 else f"{len(results)} tests"
    done = f"{tests} with {requests:,} requests"
    broken = {each.guarantee for result in results for each in result.observation.violations}
    if broken:
        named = ", ".join(f"{number} {GUARANTEES[number]}" for number in sorted(broken))
        return f"{done}, which broke {named}."
    more = {
        "inconclusive": " But the checks marked with ? looked at nothing.",
        "interrupted": " It was ended before all tests were complete.",
        "not usable": " Then the service could not be tested any further.",
    }
    return f"{done}, which broke no guarantee.{more.get(verdict, '')}"


def _section(result: Result) -> Section:
    observation, scenario = result.observation, result.scenario
    history = observation.history
    return Section(
        title=f"Test {scenario.number}: {scenario.name}",
        verdict=result.verdict,
        checks=[(check.verdict, check.text) for check in result.checks],
        figures=_figures(observation.figures),
        picture=picture_of(history),
        counter_examples=[counter_example(history, each) for each in observation.violations],
    )


def _figures(figures: Figures) -> list[tuple[str, str]]:
    """Return the figures that are not 0, in words."""
    return [
        (name.replace("_", " "), f"{value:,.2f}" if isinstance(value, float) else f"{value:,}")
        for name, value in structs.asdict(figures).items()
        if value
    ]
