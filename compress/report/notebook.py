"""A run in a notebook: headline and charts, independent of the notebook's style sheet and theme."""

from __future__ import annotations

import re
from html import escape

from compress.report.headline import sentence
from compress.report.page import TEMPLATES
from compress.report.plots import accuracy_cost_svg
from compress.results import RunRecord


def notebook_html(record: RunRecord) -> str:
    """Render the headline, and accuracy against cost for each reference, on the report's light background."""
    charts = [accuracy_cost_svg(record, savings) for savings in record.efficiency]
    figures = [f'<div style="max-width: 34rem">{chart}</div>' for chart in charts if chart]
    html = "".join([f"<p>{escape(sentence(record))}</p>", *figures])
    page = f'<div style="background: var(--paper); color: var(--ink); padding: 0.5rem 1rem">{html}</div>'
    for name, colour in _light_colours().items():
        page = page.replace(f"var({name})", colour)
    return page


def _light_colours() -> dict[str, str]:
    """The report's CSS variables in its light scheme."""
    style = (TEMPLATES / "html" / "style.css").read_text(encoding="utf-8")
    light = style[: style.index("}")]
    return dict(re.findall(r"(--\w+): (#\w+);", light))
