"""Charts as SVG with the colours of the page around them, so that one chart fits the light and the dark scheme."""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from compress.report.formats import count, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, MUTED, LINE, GOOD, BAD = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
"""Placeholders for the page's colours: matplotlib writes them, `themed` replaces them by CSS variables."""

STYLES = ("-", "--", "-.", ":")  # line styles

MARKS = (("o", INK), ("s", BAD), ("^", GOOD), ("D", MUTED), ("v", INK), ("P", BAD), ("X", GOOD), ("*", MUTED))
"""Markers of distinct shapes, each with a colour."""

WIDTH = 5.2  # width of every chart in inches, about a phone's width in pixels, so that text keeps its size there

TEXT = 12  # size of all text in points: 11.8 pixels on a page of 400

HEIGHT = 4.2  # default height of a chart in inches

ROW = 0.24  # height of a row of a legend in inches

_LETTER_WIDTH = 0.6 * TEXT  # mean
_LINE_LETTERS = 42
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", GOOD: "--good", BAD: "--bad"}


def chart_svg(label: str, draw: Callable[[Figure], None], height: float = HEIGHT) -> str:
    """Draw an `<svg>` for an HTML page with the CSS variables `--ink`, `--muted`, `--line`, `--good` and `--bad`.

    Args:
        label: Accessible description; it also makes the ids deterministic.
        height: Height in inches; the page keeps its ratio to `WIDTH`.
    """
    return themed(_drawn(label, draw, height), label)


def _drawn(label: str, draw: Callable[[Figure], None], height: float) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    settings = {"svg.fonttype": "none", "svg.hashsalt": label, "text.parse_math": False}
    sizes = {"font.size": TEXT, "axes.titlesize": TEXT, "legend.fontsize": TEXT}
    with rc_context(settings | sizes), warnings.catch_warnings(), io.StringIO() as out:
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's own fonts draw the text
        figure = Figure(figsize=(WIDTH, height), dpi=72, layout="constrained")
        draw(figure)
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return out.getvalue()


def plain_axes(axes: Axes) -> None:
    """Show only the two axes with figures, in the page's muted colour."""
    axes.tick_params(which="both", colors=MUTED)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)


def log_axis(axis: Axis, low: float, high: float, write: Callable[[float], str]) -> None:
    """Set ticks on a log scale, formatted by `write`: at 1, 2 and 5 where values from `low` to `high` are close."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high < 30 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    axis.set_minor_formatter(NullFormatter())


def percent_axis(axis: Axis, span: float) -> None:
    """Label fractions as percent, with the decimals that ticks over this span need."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    axis.set_major_formatter(PercentFormatter(1, decimals=0 if span > 0.06 else 1))


def count_axis(axis: Axis) -> None:
    """Label ticks with a prefix, 10 M, in place of powers of ten."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axis.set_minor_formatter(NullFormatter())


def legend(figure: Figure, columns: int = 2) -> None:
    """Add a legend of the first axes below the chart, in at most so many columns as fit.

    The figure grows by the rows beyond two.
    """
    handles, labels = figure.axes[0].get_legend_handles_labels()
    lines = [textwrap.wrap(short(label, 3 * _LINE_LETTERS), _LINE_LETTERS) for label in labels]
    letters = max((len(line) for wrapped in lines for line in wrapped), default=0)
    columns = max(1, min(columns, int(72 * WIDTH // (letters * _LETTER_WIDTH + 3.5 * TEXT))))
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


def themed(svg: str, label: str) -> str:
    """Extract the element from its file, with the page's colours, a label, and no ids that could collide.

    The ids of axes, and the id `label` of artists, become classes.
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
