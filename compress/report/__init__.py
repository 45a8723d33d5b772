"""Pages, tables and charts of a run, from its record and nothing else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compress.report.page import PAGES, render_html, render_markdown, write_report
    from compress.report.terminal import terminal_table

__all__ = ["PAGES", "render_html", "render_markdown", "terminal_table", "write_report"]


def __getattr__(name: str) -> Any:
    """Import a name when it is used: output of artifacts needs nothing that a page does."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"compress.report.{'terminal' if name == 'terminal_table' else 'page'}"), name)
