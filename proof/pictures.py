"""Pictures of a sale as SVG: tickets and latencies over time, and a counter-example as lanes.

The same history gives the same bytes. No text of a service is drawn.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import chain
from math import floor, inf, log10, nextafter
from types import MappingProxyType
from typing import Any, Final

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from msgspec import Struct

from proof.facts import Facts, Generation, answers_of, tickets_text
from proof.history import (
    RECEIPTS,
    REFUSALS_FOR_NOW,
    Attempt,
    Evidence,
    History,
    Kind,
    PurchaseRequest,
    Violation,
)

# Text stays text; no date and no random id, so that a picture changes only with its figures.
SETTINGS: Final[Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "scaling",
    "font.family": "sans-serif",
    "text.parse_math": False,
    "hatch.linewidth": 0.5,
}
_INCHES: Final = (10.0, 3.2)
_LANE_INCHES: Final = 0.36
_LANES_MAX: Final = 12
_POINTS_MAX: Final = 200  # of a line
_KEY_CHARACTERS_MAX: Final = 24
_KEY_CHARACTERS: Final = 8  # of a longer one
_COLUMNS_PER_DECADE: Final = 8
_RED: Final = "#b3261e"


class Style(Struct, frozen=True):
    """How answers of one sort look. hatch: tells them apart without colours."""

    name: str
    colour: str
    hatch: str = ""


_RECEIPT: Final = Style("receipt", "#2e7d5b")
_REFUSED: Final = Style("refused", "#e3a02b", "///")
_BUSY: Final = Style("busy: sent again", "#9aa5b1", "\\\\\\")
_UNKNOWN: Final = Style("no answer: sent again", "#ffffff", "xxx")
_OTHER: Final = Style("another answer", "#7b5ea7", "|||")
_CALL: Final = Style("call of the store, or of the organiser", "#3566a8")
STYLES: Final = MappingProxyType(
    dict.fromkeys(RECEIPTS, _RECEIPT)
    | dict.fromkeys(REFUSALS_FOR_NOW, _REFUSED)
    | {Kind.BUSY: _BUSY, Kind.UNKNOWN: _UNKNOWN}
)


class StoreCall(Struct, frozen=True):
    """A call of the store. key: of the request that it was made for. fault: None: nothing."""

    started_at: float
    ended_at: float
    key: str
    fault: str | None = None


class Span(Struct, frozen=True):
    """One bar of a lane: an attempt."""

    started_at: float
    ended_at: float
    style: Style


class Lane(Struct, frozen=True):
    """A request over time, with the calls of the store that were made for it.

    is_shown: it is a part of the evidence.
    """

    name: str
    spans: Sequence[Span]
    calls: Sequence[StoreCall] = ()
    is_shown: bool = True


def svg(figure: Figure) -> str:
    """Return a figure as SVG, without what only a file of its own needs.

    Draw it in `mpl.rc_context(SETTINGS)`, which also applies here.
    """
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def inline(drawing: str) -> str:
    """Return an SVG file as a part of a page: without prolog, and without names that repeat."""
    element = drawing[drawing.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>\s*", "", element, flags=re.DOTALL)
    return re.sub(r' id="[\w.]+_\d+"', "", element)


def sale_picture(history: History) -> str:
    """Draw the tickets that are sold and held over time, and the latencies of all attempts."""
    facts = Facts.of(history)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=_INCHES, layout="constrained")
        tickets, latencies = figure.subplots(1, 2, width_ratios=(3, 2))
        _draw_tickets(tickets, facts, _time_of(history))
        _draw_latencies(latencies, [attempt for _, attempt in answers_of(history.requests)])
        return inline(svg(figure))


def counter_example_picture(
    history: History, violation: Violation, calls: Sequence[StoreCall] = ()
) -> str | None:
    """Draw the requests that show a violation over time, and where it breaks.

    Returns None where no line of the evidence has a time: it was found at rest.
    """
    facts = Facts.of(history)
    timed = [line for line in violation.evidence if line.ended_at is not None]
    if not timed:
        return None
    breaks_at = max(line.ended_at or 0.0 for line in timed)
    lanes = _lanes(facts, timed, breaks_at, calls)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(10.0, 3.2 + _LANE_INCHES * len(lanes)), layout="constrained")
        heights = (len(lanes) * _LANE_INCHES + 0.3, 2.0)
        requests, tickets = figure.subplots(2, 1, sharex=True, height_ratios=heights)
        time = _time_around(timed, breaks_at)
        _draw_lanes(requests, lanes, facts.started_at)
        _draw_tickets(tickets, facts, time)
        for plot in (requests, tickets):
            plot.axvline(breaks_at - facts.started_at, color=_RED, linewidth=1.5)
        figure.suptitle(
            f"{violation.guarantee} is broken at the red line: {violation.rule}",
            color=_RED,
            fontsize=10,
        )
        return inline(svg(figure))


def _time_of(history: History) -> tuple[float, float]:
    """Return the first and the last instant of a history."""
    attempts = [attempt for _, attempt in answers_of(history.requests)]
    return min(each.started_at for each in attempts), max(each.ended_at for each in attempts)


def _time_around(timed: Sequence[Evidence], breaks_at: float) -> tuple[float, float]:
    """Return an instant before the evidence, and one after it."""
    start = min(line.started_at for line in timed if line.started_at is not None)
    margin = 0.2 * (breaks_at - start) or 0.05
    return start - margin, breaks_at + margin


def _draw_tickets(plot: Axes, facts: Facts, time: tuple[float, float]) -> None:
    """Draw the bounds on the tickets that are taken, and what the service says of them."""
    start, end = time
    origin = facts.started_at
    for generation in facts.generations:
        since, until = max(start, generation.opened_at), min(end, generation.closed_at)
        if since > until:
            continue
        instants = _thinned(sorted({since, until, *_steps(generation, since, until)}))
        seconds = [instant - origin for instant in instants]
        after = [nextafter(instant, inf) for instant in instants]  # what holds from each one on
        fewest = [generation.taken.fewest(instant, instant) for instant in after]
        most = [generation.taken.most(instant, instant) for instant in after]
        capacity = [generation.capacity.most(instant, instant) for instant in after]
        plot.fill_between(seconds, fewest, most, step="post", color="#3566a8", alpha=0.15)
        plot.step(seconds, most, where="post", color="#3566a8", linewidth=0.8, linestyle=":")
        plot.step(seconds, fewest, where="post", color="#3566a8", linewidth=1.5)
        plot.step(seconds, capacity, where="post", color=_RED, linestyle="--", linewidth=1)
        if generation is not facts.generations[0] and since > start:
            plot.axvline(since - origin, color="#555555", linestyle="-.", linewidth=0.8)
    for pause in facts.history.pauses:
        plot.axvspan(
            pause.closed_at - origin, pause.reopens_at - origin, color="#9aa5b1", alpha=0.4
        )
    samples = [each for each in facts.history.samples if start <= each.ended_at <= end]
    plot.plot(
        [sample.ended_at - origin for sample in samples],
        [sample.inventory.total_purchases + sample.inventory.held for sample in samples],
        marker="x",
        markersize=4,
        linestyle="",
        color="#222222",
    )
    plot.set(xlabel="seconds", ylabel="tickets", xlim=(start - origin, end - origin))
    highest = [each.capacity.most(start, end) for each in facts.generations]
    highest += [each.taken.fewest(end, end) for each in facts.generations]
    plot.set_ylim(0, 1.15 * max(highest, default=1) or 1)  # all is possible where answers are lost
    plot.grid(visible=True, alpha=0.3)
    plot.legend(
        handles=_ticket_handles(facts.history),
        fontsize=7,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncols=3,
    )


def _ticket_handles(history: History) -> list[Artist]:
    """Return what the legend of the tickets explains."""
    handles: list[Artist] = [
        Line2D([], [], color=_RED, linestyle="--", label="capacity"),
        Line2D([], [], color="#3566a8", label="certainly sold or held"),
        Line2D([], [], color="#3566a8", linestyle=":", label="possibly"),
        Line2D([], [], color="#222222", linestyle="", marker="x", label="GET /inventory"),
    ]
    if history.resets[1:]:
        handles.append(Line2D([], [], color="#555555", linestyle="-.", label="a reset"))
    if history.pauses:
        handles.append(Patch(color="#9aa5b1", alpha=0.4, label="paused"))
    return handles


def _thinned(instants: Sequence[float]) -> Sequence[float]:
    """Return some of the instants, the first and the last among them. They are ordered."""
    every = -(-len(instants) // _POINTS_MAX)
    return [*instants[:-1:every], instants[-1]]


def _steps(generation: Generation, since: float, until: float) -> Iterator[float]:
    """Yield the instants at which its bounds change."""
    taken = generation.taken
    totals = (taken.possible, taken.certain, taken.possibly_back, taken.certainly_back)
    times = chain(
        (instant for total in totals for instant, _ in total.steps),
        (instant for instant, _, _ in generation.capacity.steps),
    )
    return (instant for instant in times if since <= instant <= until and instant != -inf)


def _draw_latencies(plot: Axes, attempts: Sequence[Attempt]) -> None:
    """Draw how many attempts took how long, by their answers, one sort on top of another."""
    counts: dict[Style, Counter[int]] = defaultdict(Counter)
    for attempt in attempts:
        milliseconds = max(1000 * (attempt.ended_at - attempt.started_at), 0.1)
        column = floor(log10(milliseconds) * _COLUMNS_PER_DECADE)
        counts[STYLES.get(attempt.kind, _OTHER)][column] += 1
    styles = [each for each in (_RECEIPT, _REFUSED, _BUSY, _UNKNOWN, _OTHER) if each in counts]
    below = Counter[int]()
    for style in styles:
        columns = sorted(counts[style])
        edges = [10 ** (column / _COLUMNS_PER_DECADE) for column in columns]
        plot.bar(
            edges,
            [counts[style][column] for column in columns],
            [edge * (10 ** (1 / _COLUMNS_PER_DECADE) - 1) for edge in edges],
            [below[column] for column in columns],
            align="edge",
            color=style.colour,
            hatch=style.hatch,
            edgecolor="#333333",
            linewidth=0.5,
        )
        below += counts[style]
    plot.set(xscale="log", xlabel="milliseconds of an attempt", ylabel="attempts")
    plot.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    plot.grid(visible=True, axis="y", alpha=0.3)
    plot.legend(handles=[_patch(style) for style in styles], fontsize=7)


def _patch(style: Style) -> Patch:
    return Patch(
        facecolor=style.colour,
        hatch=style.hatch,
        edgecolor="#333333",
        linewidth=0.5,
        label=style.name,
    )


def _lanes(
    facts: Facts, timed: Sequence[Evidence], breaks_at: float, calls: Sequence[StoreCall]
) -> list[Lane]:
    """Return the lanes of the evidence, and of some other requests that were in flight."""
    keys = {line.key for line in timed}
    shown = [request for key in sorted(filter(None, keys)) for request in facts.by_key[key]]
    lanes = [_lane_of_evidence(line) for line in timed if line.key not in facts.by_key]
    lanes += [_lane(request, calls, is_shown=True) for request in shown]
    others = [
        request
        for request in facts.history.requests
        if request.key not in keys
        and any(each.started_at <= breaks_at <= each.ended_at for each in request.attempts)
    ]
    others.sort(key=lambda request: request.attempts[0].started_at)
    lanes += [_lane(each, calls, is_shown=False) for each in others][: _LANES_MAX - len(lanes)]
    return sorted(lanes, key=lambda lane: lane.spans[0].started_at)


def _lane_of_evidence(line: Evidence) -> Lane:
    """Return a lane of what is no request of a buyer. Its text has the times before it."""
    start, end = line.started_at or 0.0, line.ended_at or 0.0
    name = line.text.partition(" s  ")[2].partition(" → ")[0] or line.text.partition(" at ")[0]
    return Lane(name[:32], [Span(start, end, _CALL)])


def _lane(request: PurchaseRequest, calls: Sequence[StoreCall], *, is_shown: bool) -> Lane:
    key = request.key
    if len(key) > _KEY_CHARACTERS_MAX:
        key = f"{key[:_KEY_CHARACTERS]}…"
    copy = f", copy {request.copy}" if request.copy > 1 else ""
    name = f"{key}{copy}: {'hold of ' if request.is_hold else ''}{tickets_text(request.quantity)}"
    answer = f"{request.last.status or 'no answer'} {request.last.kind}"
    if request.last.left is not None:
        answer += f", {request.last.left} left"
    spans = [
        Span(each.started_at, each.ended_at, STYLES.get(each.kind, _OTHER))
        for each in request.attempts
    ]
    own = [call for call in calls if call.key == request.key]
    return Lane(f"{name} → {answer}", spans, own, is_shown)


def _draw_lanes(plot: Axes, lanes: Sequence[Lane], origin: float) -> None:
    """Draw a bar for each attempt, and below it the calls of the store, with their faults."""
    styles = dict.fromkeys(span.style for lane in lanes for span in lane.spans)
    if any(lane.calls for lane in lanes):
        styles[_CALL] = None
    for row, lane in enumerate(lanes):
        for span in lane.spans:
            plot.barh(
                row,
                span.ended_at - span.started_at,
                left=span.started_at - origin,
                height=0.5,
                color=span.style.colour,
                hatch=span.style.hatch,
                edgecolor="#222222",
                linewidth=0.8,
                alpha=1.0 if lane.is_shown else 0.35,
            )
        for call in lane.calls:
            plot.barh(
                row + 0.38,
                call.ended_at - call.started_at,
                left=call.started_at - origin,
                height=0.16,
                color=_RED if call.fault else _CALL.colour,
            )
        faults = {call.fault: call.started_at for call in reversed(lane.calls) if call.fault}
        for fault, started_at in faults.items():
            text = {"va": "top", "fontsize": 6, "color": _RED, "clip_on": True}
            plot.text(started_at - origin, row + 0.38, fault, **text)  # type: ignore[arg-type]
    plot.set_yticks(range(len(lanes)), [lane.name for lane in lanes], fontsize=7)
    for label, lane in zip(plot.get_yticklabels(), lanes, strict=True):
        label.set_fontweight("bold" if lane.is_shown else "normal")
    plot.set_ylim(len(lanes) - 0.4, -0.6)
    plot.grid(visible=True, axis="x", alpha=0.3)
    handles = [_patch(style) for style in styles]
    plot.legend(handles=handles, fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
