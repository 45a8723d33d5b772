"""The pages of a run: `report.html`, self-contained, `report.md` and `model_card.md`."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.report import formats as f
from compress.report import tables
from compress.report.classes import chosen_changes, classes_table
from compress.report.deployments import deployment_tables
from compress.report.disagreements import disagreements
from compress.report.formats import field
from compress.report.headline import answer, not_measured
from compress.report.ledgers import ledgers
from compress.report.lineage import lineage
from compress.report.model_card import model_card
from compress.report.pruning import pruning_tables
from compress.report.quantization import quantization_tables
from compress.report.reproduce import same_again, store_use, versions
from compress.report.tooltips import about
from compress.utils.atomic import write_atomic

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
PAGES = ("report.html", "report.md", "model_card.md")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~$#&])")
_LIST_START = re.compile(r"^(\s*)([-+]|\d+[.)])(?=\s)")


def write_report(results: Mapping[str, Any], folder: Path) -> None:
    """Write the `PAGES` of a run.

    All are made before any is written, and each is written aside and renamed: a reader never sees half a page.

    Args:
        results: A `results.json`; what it lacks is called not measured.
        folder: The run's folder, which exists.

    Raises:
        OSError: When the folder cannot be written to.
    """
    context = _context(results)
    text = _markdown(results, context)
    for name, page in zip(PAGES, (_html(results, context), text, model_card(results, text)), strict=True):
        write_atomic(folder / name, page)


def render_html(results: Mapping[str, Any]) -> str:
    """The page as one self-contained HTML file: no network, charts and the script that sorts its tables inside."""
    return _html(results, _context(results))


def _html(results: Mapping[str, Any], context: dict[str, Any]) -> str:
    from compress.report.sections import sections

    return html_page("report.html.j2", {**context, "sections": sections(results, context)})


def html_page(template: str, context: Mapping[str, Any]) -> str:
    """A page of a template that has the common head and script.

    Its policy lets no script run but ours, which the policy knows by its digest.
    """
    script = (TEMPLATES / "html" / "sort.js").read_text(encoding="utf-8")
    digest = "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _environment(autoescape=True).get_template(template)
    return page.render(context, script=script, script_digest=digest)


def render_markdown(results: Mapping[str, Any]) -> str:
    """The page as GitHub-flavoured Markdown, without charts, fit for a comment on a pull request."""
    return _markdown(results, _context(results))


def _markdown(results: Mapping[str, Any], context: dict[str, Any]) -> str:
    changes = chosen_changes(results, context["answer"].reference, context["answer"].variant)
    own = {
        "classes": [classes_table(entry) for entry in changes],
        "disagreements": disagreements(results),
        "roots": lineage(results),
        "store": store_use(results),
        "same_again": same_again(results),
        "versions": versions(results),
    }
    return _environment(autoescape=False).get_template("report.md.j2").render(context, **own)


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
    environment.filters |= {"md": markdown, "fenced": fenced, "plain": f.plain}
    environment.globals |= {"about": about, "sort_value": f.sort_value}
    return environment


def _context(results: Mapping[str, Any]) -> dict[str, Any]:
    import yaml

    resolved = field(results.get("recipe"), "resolved")
    return {
        "title": f.text(field(results.get("recipe"), "name") or "run"),
        "sha256": field(results.get("recipe"), "sha256"),
        "run": results.get("run") or {},
        "wall": f.seconds(field(results.get("run"), "wall_s")),
        "command": results.get("command"),
        "answer": answer(results),
        "variants": tables.variants_table(results),
        "artifacts": tables.artifacts_table(results),
        "latency": tables.latency_table(results),
        "worths": [tables.worth_table(entry) for entry in results.get("efficiency") or []],
        "reasons": [list(_reasons(entry)) for entry in results.get("efficiency") or []],
        "parts": _parts(results),
        "missing": not_measured(results),
        "settings": yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True, width=100) if resolved else "",
        "environment": list(_flat(results.get("environment") or {})),
        "data": list(_flat(results.get("data") or {})),
    }


def _parts(results: Mapping[str, Any]) -> list[tuple[tables.Table, str | None]]:
    """The tables that not every run has rows for, each with its chart where it has one."""
    quantized = [(table, None) for table in quantization_tables(results)]
    return [*deployment_tables(results), *pruning_tables(results), *quantized, *ledgers(results)]


def _reasons(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for record in entry.get("variants") or []:
        if record.get("reason"):
            yield f.plain(record.get("id")), f.plain(record["reason"])


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(name, value) of every leaf, nested names joined by spaces; a list is one value."""
    for key, value in record.items():
        name = f"{prefix}{f.plain(key)}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} ")
        elif isinstance(value, list):
            yield name, ", ".join(f.plain(item) for item in value) or "none"
        else:
            yield name, "none" if value is None else f.plain(value)


def markdown(text: str) -> str:
    """Text with everything escaped that Markdown would read as markup, in one line."""
    line = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return _LIST_START.sub(lambda match: f"{match[1]}\\{match[2]}" if match[2] in "-+" else f"\u200b{match[0]}", line)


def fenced(text: str, language: str = "") -> str:
    """Text as a fenced block, whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
