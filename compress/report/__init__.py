"""Pages, tables and charts of a run, from its record and nothing else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compress.report.page import PAGES, render_html, render_markdown, write_report
    from compress.report.terminal import terminal_table

_WHERE = {
    "PAGES": "compress.report.page",
    "render_html": "compress.report.page",
    "render_markdown": "compress.report.page",
    "terminal_table": "compress.report.terminal",
    "write_report": "compress.report.page",
}
__all__ = ["PAGES", "render_html", "render_markdown", "terminal_table", "write_report"]


def __getattr__(name: str) -> Any:
    """Import a name when it is used: a table of artifacts needs nothing that a page does."""
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
