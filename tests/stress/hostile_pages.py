"""The target `report` of `fuzz_campaign.py`: pages must not run anything from `results.json`."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

from hostile_inputs import CHECKOUT, TOKENS, Finding, changed


def report(rng: Random, folder: Path) -> None:
    """Run `report` on a hostile `results.json`: it must be refused in one line, or give a page that runs nothing."""
    from compress.cli import app

    results = _example()
    if rng.random() < 0.7:
        results = _renamed(results, rng.choice(sorted(_texts(results))), rng.choice(MARKUP) + rng.choice(TOKENS[:10]))
    if rng.random() < 0.6:
        results = changed(results, rng, rng.choice((1, 1, 2, 8)))
    (folder / "results.json").write_text(json.dumps(results))
    app(["report", str(folder)], standalone_mode=False)
    page = _Page()
    page.feed((folder / "report.html").read_text(encoding="utf-8"))
    if page.wrong:
        raise Finding(f"the page holds {page.wrong[0]}")


MARKUP = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "</svg><script>1")


def _texts(value: Any) -> set[str]:
    """Return all texts in plain data: names of classes, variants, layers, machines."""
    if isinstance(value, dict | list):
        return set().union(*(_texts(part) for part in (value.values() if isinstance(value, dict) else value)))
    return {value} if isinstance(value, str) else set()


def _renamed(value: Any, old: str, new: str) -> Any:
    """Replace a text in plain data wherever it occurs, also as a key."""
    if isinstance(value, dict):
        return {_renamed(key, old, new): _renamed(part, old, new) for key, part in value.items()}
    if isinstance(value, list):
        return [_renamed(part, old, new) for part in value]
    return new if value == old else value


def _example() -> Any:
    from results_factory import example

    return example()


class _Page(HTMLParser):
    """Collect elements and attributes of a page that run or load something, except our own script."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.script: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.script = ""
        if tag in ("iframe", "object", "embed", "link", "base", "form", "foreignobject"):
            self.wrong.append(f"<{tag}>")
        for name, value in attrs:
            outside = name in ("href", "src", "xlink:href", "action") and not (value or "").startswith(
                ("#", "data:image/")
            )
            if name.startswith("on") or outside:
                self.wrong.append(f"<{tag} {name}={value!r}>")

    def handle_data(self, data: str) -> None:
        if self.script is not None:
            self.script += data

    def handle_endtag(self, tag: str) -> None:
        ours = CHECKOUT / "compress" / "report" / "templates" / "html" / "sort.js"
        if tag == "script" and self.script is not None:
            if self.script.strip() != ours.read_text(encoding="utf-8").strip():
                self.wrong.append(f"<script>{self.script[:60]!r}")
            self.script = None
