"""What a notebook shows of a run: the answer and its charts, which need no style sheet and no theme of the notebook."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any

from compress.report.headline import answer
from compress.report.page import TEMPLATES
from compress.report.plots import accuracy_cost_svg


def notebook_html(results: Mapping[str, Any]) -> str:
    """The first sentence of the report, and accuracy against cost for each reference, on the report's light paper.

    Args:
        results: A `results.json`.
    """
    charts = [accuracy_cost_svg(results, entry) for entry in results.get("efficiency") or []]
    shown = [f'<div style="max-width: 34rem">{chart}</div>' for chart in charts if chart]
    html = "".join([f"<p>{escape(answer(results).sentence)}</p>", *shown])
    page = f'<div style="background: var(--paper); color: var(--ink); padding: 0.5rem 1rem">{html}</div>'
    for name, colour in _colours().items():
        page = page.replace(f"var({name})", colour)
    return page


def _colours() -> dict[str, str]:
    """The light ones of the report."""
    style = (TEMPLATES / "html" / "style.css").read_text(encoding="utf-8")
    light = style[: style.index("}")]
    return dict(re.findall(r"(--\w+): (#\w+);", light))
