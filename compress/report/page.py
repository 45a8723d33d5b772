"""The pages of a run: `report.html`, self-contained, `report.md` and `model_card.md`."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from compress.report import formats as f
from compress.report.content import Report, build_report
from compress.report.model_card import model_card
from compress.report.sections import sections
from compress.report.tooltips import tooltip
from compress.results import RunRecord
from compress.utils.atomic import write_atomic

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
PAGES = ("report.html", "report.md", "model_card.md")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~$#&])")
_LIST_START = re.compile(r"^(\s*)([-+]|\d+[.)])(?=\s)")


def write_report(record: RunRecord, folder: Path) -> None:
    """Write the `PAGES` of a run into its folder, which exists.

    All are rendered before any is written, and each is replaced atomically: a reader never sees half a page.
    """
    report = build_report(record)
    text = _markdown(report)
    for name, page in zip(PAGES, (_html(report), text, model_card(record, text)), strict=True):
        write_atomic(folder / name, page)


def render_html(record: RunRecord) -> str:
    """Render one self-contained HTML file: no network; charts and the script that sorts tables are inside."""
    return _html(build_report(record))


def render_markdown(record: RunRecord) -> str:
    """Render GitHub-flavoured Markdown without charts, e.g. for a comment on a pull request."""
    return _markdown(build_report(record))


def _html(report: Report) -> str:
    return html_page("report.html.j2", title=report.title, report=report, sections=sections(report))


def _markdown(report: Report) -> str:
    return _environment(autoescape=False).get_template("report.md.j2").render(report=report)


def html_page(template: str, **context: object) -> str:
    """Render a template that has the common head and script.

    The page's policy allows no script but ours, identified by its digest.
    """
    script = (TEMPLATES / "html" / "sort.js").read_text(encoding="utf-8")
    digest = "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _environment(autoescape=True).get_template(template)
    return page.render(context, script=script, script_digest=digest)


def _environment(autoescape: bool) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"md": markdown, "fenced": fenced}
    environment.globals |= {"tooltip": tooltip, "sort_value": f.sort_value}
    return environment


def markdown(text: str) -> str:
    """Escape everything that Markdown would read as markup, and join lines."""
    line = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return _LIST_START.sub(lambda match: f"{match[1]}\\{match[2]}" if match[2] in "-+" else f"\u200b{match[0]}", line)


def fenced(text: str, language: str = "") -> str:
    """Fence a block of text, with a fence longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
