"""Line plots as one SVG, the same bytes for the same figures."""

from collections.abc import Sequence
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from msgspec import Struct

from proof.pictures import SETTINGS, svg

_LOG_TICKS: Final = (1.0, 2.0, 5.0)  # and their multiples by powers of ten
_PANELS_PER_ROW: Final = 2
_PANEL_INCHES: Final = (5.0, 3.4)


class Line(Struct, frozen=True):
    """One line: its name in the legend, and the coordinates of its points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


class Panel(Struct, frozen=True):
    """One plot. log: its y axis is logarithmic; the x axis is in any case."""

    title: str
    x_title: str
    y_title: str
    lines: Sequence[Line]
    log: bool = False


def draw(panels: Sequence[Panel], legend: str) -> str:
    """Return the panels as SVG. legend: the title of the legend, which all panels share."""
    rows = -(-len(panels) // _PANELS_PER_ROW)
    width, height = _PANEL_INCHES
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(width * _PANELS_PER_ROW, height * rows), layout="constrained")
        axes = figure.subplots(rows, _PANELS_PER_ROW, squeeze=False).flat
        for panel, plot in zip(panels, axes, strict=True):
            for line in panel.lines:
                plot.plot(line.x, line.y, marker="o", markersize=3, label=line.name)
            plot.set(title=panel.title, xlabel=panel.x_title, ylabel=panel.y_title, xscale="log")
            if panel.log:
                plot.set_yscale("log")
            else:
                plot.set_ylim(bottom=0)
            for axis in (plot.xaxis, plot.yaxis):
                if axis.get_scale() == "log":
                    axis.set_major_locator(LogLocator(subs=_LOG_TICKS))
                    axis.set_minor_locator(NullLocator())
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
            plot.grid(visible=True, alpha=0.3)
        first = panels[0].lines
        figure.legend(
            *figure.axes[0].get_legend_handles_labels(),
            title=legend,
            loc="outside lower center",
            ncols=len(first),
        )
        return svg(figure)
