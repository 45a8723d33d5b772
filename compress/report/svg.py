"""Charts as SVG that takes its colours from the page around it, so that one chart is right in light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, GOOD, BAD = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
"""Colours that stand for the page's: matplotlib writes them, `themed` replaces them by CSS variables."""

STYLES = ("-", "--", "-.", ":")
"""Lines of one colour that are told apart."""

SIZE = (5.2, 4.2)
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", GOOD: "--good", BAD: "--bad"}


def chart_svg(label: str, draw: Callable[[Figure], None], size: tuple[float, float] = SIZE) -> str:
    """An `<svg>` element for an HTML page with the CSS variables `--ink`, `--muted`, `--line`, `--good` and `--bad`.

    Args:
        label: What it shows, for those who do not see it; it also makes the file's ids the same each time.
        draw: Draws on the figure.
        size: Width and height in inches, of which the page keeps the ratio.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    settings = {"svg.fonttype": "none", "svg.hashsalt": label, "font.size": 10, "text.parse_math": False}
    with rc_context(settings), io.StringIO() as out:
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return themed(out.getvalue(), label)


def plain_axes(axes: Axes) -> None:
    """Only the two axes that carry figures, in the page's muted colour."""
    axes.tick_params(which="both", colors=MUTED)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)


def themed(svg: str, label: str) -> str:
    """Take the element out of its file and give it the page's colours, a label, and no ids that could collide."""
    from html import escape

    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label, quote=True)}"', 1)
