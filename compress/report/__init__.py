"""Pages, tables and charts from `results.json`, and from nothing else."""

from compress.report.page import render_html, render_markdown, write_report
from compress.report.terminal import terminal_table

__all__ = ["render_html", "render_markdown", "terminal_table", "write_report"]
