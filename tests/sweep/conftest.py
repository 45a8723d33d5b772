"""Sweeps whose runs are arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Job as TinyJob
from sweep.arithmetic import Bench


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A recipe to sweep over; drawing the page takes seconds, so that only the tests of it do."""
    if request.node.path.name != "test_page.py":
        monkeypatch.setattr("compress.sweep.page.sweep_page", lambda sweep: "<html>")
    TinyJob(tmp_path).write()
    bench = Bench(tmp_path)
    recipe = bench.recipe.read_text()
    bench.recipe.write_text(recipe.replace("from: [distilled, int8]", "from: [distilled, pruned, int8]"))
    return bench
