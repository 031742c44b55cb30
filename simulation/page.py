"""The report of simulated sales as a page."""

from proof.history import GUARANTEES
from proof.page import CounterExample, ReportPage, Section, counter_example, picture_of
from proof.pictures import StoreCall
from simulation.journal import Journal
from simulation.report import Totals, call_lines, pairs
from simulation.sale import SimulatedSale

_PASSED, _FAILED = "passed", "failed"


def page_of(
    sale: SimulatedSale,
    journal: Journal,
    totals: Totals,
    failed: int,
    again: str,
) -> ReportPage:
    """Return the page.

    sale: the one that it shows, with its journal. totals, failed: of all sales, and how many of
    them broke a guarantee. again: the command that simulates the one again.
    """
    number = "1 sale" if totals.seeds == 1 else f"{totals.seeds:,} sales"
    broken = ", ".join(
        f"{each} {GUARANTEES[each]}" for each in sorted({v.guarantee for v in sale.violations})
    )
    summary = f"{number} simulated, none of which broke a guarantee."
    if failed:
        summary = f"{number} simulated, {failed:,} of which broke a guarantee: {broken} below."
    return ReportPage(
        title="Simulation",
        verdict=_FAILED if failed else _PASSED,
        summary=summary,
        facts=totals.pairs(),
        sections=[_section(sale, journal)],
        again=again,
    )


def _section(sale: SimulatedSale, journal: Journal) -> Section:
    return Section(
        title=f"The sale of seed {sale.setting.seed}",
        verdict=_FAILED if sale.violations else _PASSED,
        checks=[],
        figures=pairs(sale),
        picture=picture_of(sale.history),
        counter_examples=counter_examples(sale, journal),
    )


def counter_examples(sale: SimulatedSale, journal: Journal) -> list[CounterExample]:
    """Return the violations of a sale with the calls of the store that its journal has."""
    calls = [
        StoreCall(entry.began_at, entry.ended_at, entry.serving, entry.fault)
        for entry in journal.entries
    ]
    return [
        counter_example(sale.history, violation, calls, call_lines(sale, violation, journal))
        for violation in sale.violations
    ]
