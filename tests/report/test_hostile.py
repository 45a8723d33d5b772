"""`report` on a hostile `results.json` writes pages that run nothing, or fails with one line."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hostile_results import everywhere

from compress.cli import app
from compress.utils.errors import UsageError

MARKUP = "\"'></svg></style></title></pre><script>alert(1)</script><img src=x onerror=alert(1)>"
Results = dict[str, Any]


class Page(HTMLParser):
    """Elements and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.scripts: list[str] = []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and self.cdata_elem:
            self.scripts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= set(attrs)


def report(results: Any, folder: Path) -> str:
    (folder / "results.json").write_text(json.dumps(results))
    app(["report", str(folder)], standalone_mode=False)
    return (folder / "report.html").read_text()


def test_markup_in_every_text_is_escaped(results: Results, tmp_path: Path) -> None:
    before, hostile = Page(report(results, tmp_path)), Page(page := report(everywhere(results, MARKUP), tmp_path))
    assert not (hostile.tags - before.tags), hostile.tags - before.tags
    sources = {value for name, value in hostile.attributes if name == "src"}
    assert all((value or "").startswith("data:image/") for value in sources), "pictures that are inside of the page"
    assert hostile.scripts == before.scripts, "ours, and no other"
    assert {name for name, _ in hostile.attributes} <= {name for name, _ in before.attributes}
    assert not any(name.startswith("on") for name, _ in hostile.attributes)
    assert "&lt;script&gt;" in page
    (policy,) = (value for name, value in hostile.attributes if name == "content" and "default-src" in (value or ""))
    digest = base64.b64encode(hashlib.sha256("".join(hostile.scripts).encode()).digest()).decode()
    assert policy and policy.startswith("default-src 'none'") and f"script-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize(
    "path",
    [
        ("variants",),
        ("variants", 2, "accuracy"),
        ("variants", 2, "training", "parts"),
        ("efficiency", 0),
        ("recipe",),
    ],
    ids=str,
)
@pytest.mark.parametrize("value", [7.5, [1]], ids=str)
def test_wrong_types_are_refused_in_one_line(results: Results, tmp_path: Path, path: Any, value: Any) -> None:
    holder: Any = results
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    with pytest.raises(UsageError, match="does not hold the results of a run") as failed:
        report(results, tmp_path)
    assert "\n" not in str(failed.value)
    assert not (tmp_path / "report.html").exists(), "no half of the pages"


def test_deeply_nested_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("[" * 100_000)
    with pytest.raises(UsageError, match="is not JSON"):
        app(["report", str(tmp_path)], standalone_mode=False)
