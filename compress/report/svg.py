"""Charts as SVG that takes its colours from the page around it, so that one chart is right in light and dark."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

from compress.report.formats import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, MUTED, LINE, GOOD, BAD = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
"""Colours that stand for the page's: matplotlib writes them, `themed` replaces them by CSS variables."""

STYLES = ("-", "--", "-.", ":")
"""Lines of one colour that are told apart."""

MARKS = (("o", INK), ("s", BAD), ("^", GOOD), ("D", MUTED), ("v", INK), ("P", BAD), ("X", GOOD), ("*", MUTED))
"""Marks that are told apart by their shape alone, each with its colour."""

WIDTH = 5.2
"""Inches, of every chart: it is about as many pixels as a chart has on a phone, so that text keeps its size there."""

TEXT = 12
"""Size of all text: 11.8 pixels where the page is 400 wide."""

HEIGHT = 4.2
ROW = 0.24
"""Inches, of a legend."""

_LETTER = 0.6 * TEXT  # mean width
_LINE_LETTERS = 42
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", GOOD: "--good", BAD: "--bad"}


def chart_svg(label: str, draw: Callable[[Figure], None], height: float = HEIGHT) -> str:
    """An `<svg>` element for an HTML page with the CSS variables `--ink`, `--muted`, `--line`, `--good` and `--bad`.

    Args:
        label: What it shows, for those who do not see it; it also makes the file's ids the same each time.
        draw: Draws on the figure, whose points are its pixels.
        height: In inches, of which the page keeps the ratio to `WIDTH`.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    settings = {"svg.fonttype": "none", "svg.hashsalt": label, "text.parse_math": False}
    sizes = {"font.size": TEXT, "axes.titlesize": TEXT, "legend.fontsize": TEXT}
    with rc_context(settings | sizes), io.StringIO() as out:
        figure = Figure(figsize=(WIDTH, height), dpi=72, layout="constrained")
        draw(figure)
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return themed(out.getvalue(), label)


def plain_axes(axes: Axes) -> None:
    """Only the two axes that carry figures, in the page's muted colour."""
    axes.tick_params(which="both", colors=MUTED)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)


def log_axis(axis: Axis, low: float, high: float, write: Callable[[float], str]) -> None:
    """Ticks on a log scale between two values: at 1, 2 and 5 where that is no crowd, with plain figures.

    Args:
        write: What stands at a tick.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high < 30 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    axis.set_minor_formatter(NullFormatter())


def percent_axis(axis: Axis, span: float) -> None:
    """Ticks of fractions as percent, none of which is rounded, where the axis goes over so much."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    axis.set_major_formatter(PercentFormatter(1, decimals=0 if span > 0.06 else 1))


def legend(figure: Figure, columns: int = 2) -> None:
    """What the marks of the first axes mean, below the chart, in as many columns of those asked for as fit.

    The figure grows by what goes beyond two rows.
    """
    handles, labels = figure.axes[0].get_legend_handles_labels()
    lines = [textwrap.wrap(short(label, 3 * _LINE_LETTERS), _LINE_LETTERS) for label in labels]
    columns = columns_that_fit(max((len(line) for wrapped in lines for line in wrapped), default=0), columns)
    rows = sum(map(len, lines)) / columns
    figure.set_figheight(figure.get_figheight() + ROW * max(0, rows - 2))
    figure.legend(
        handles,
        ["\n".join(wrapped) for wrapped in lines],
        frameon=False,
        labelcolor=INK,
        loc="outside lower center",
        ncols=columns,
        numpoints=1,
        columnspacing=1,
    )


def columns_that_fit(letters: int, most: int) -> int:
    """Columns of a legend whose longest label has so many letters."""
    return max(1, min(most, int(72 * WIDTH // (letters * _LETTER + 3.5 * TEXT))))


def themed(svg: str, label: str) -> str:
    """Take the element out of its file and give it the page's colours, a label, and no ids that could collide.

    The groups of axes, and of artists with the id `label`, keep that name as their class.
    """
    from html import escape

    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'<g id="(axes|label)[^"]*">', r'<g class="\1">', svg)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label, quote=True)}"', 1)
