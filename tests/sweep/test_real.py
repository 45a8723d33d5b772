"""A sweep of real runs, from the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest
from support import Job, typed

SPACE = """\
parameters:
  stages.pruned.target_macs: [0.6, 0.5]
variants: [pruned]
objectives: [validation, macs, latency.pytorch.1]
sampler: grid
"""


@pytest.mark.slow
def test_tiny_sweep(done_job: Callable[[], Job]) -> None:
    """Everything but one pruned network and the timings is in the store."""
    job = done_job()
    job.write(deployed=False)
    job.recipe.write_text(job.recipe.read_text().replace("[teacher, distilled]", "[distilled]"))  # one above chance
    (job.root / "space.yaml").write_text(SPACE)
    shutil.rmtree(job.runs / "tiny")
    call = ("sweep", job.recipe, "--space", job.root / "space.yaml", "--runs", job.runs, "--no-dry-run")
    done = typed(*call, "--tolerance", 0.9)
    assert done.returncode == 0, done.stderr
    assert "2 trials of 2 combinations: 2 done." in done.stdout and "This one: trial 1 (" in done.stdout
    assert "Finding it took" in done.stdout and "trial 0: validation " in done.stderr

    runs = sorted((job.runs / "tiny").iterdir())
    results = [json.loads((run / "results.json").read_text()) for run in runs]
    assert [each["run"]["made"] for each in results] == [[], ["pruned"]]
    ledgers = [{each["id"]: each["training"]["macs"] for each in one["variants"]} for one in results]
    before = ledgers[0]["distilled"]
    spent = sum(one["pruned"] - before for one in ledgers) + before + ledgers[0]["scratch"]
    page = job.runs / "sweeps/tiny-space/sweep.html"
    for run, one in zip(runs, results, strict=True):
        assert '<a href="../../sweeps/tiny-space/sweep.html">' in (run / "report.html").read_text()
        assert one["command"] in page.read_text() and one["command"].endswith(f" --runs {job.runs}")

    asked = typed(*call, "--trials", 0, "--budget", "macs<=1k", "--json")
    found = json.loads(asked.stdout)
    assert found["compute"]["macs"] == spent
    assert found["answer"]["sentence"].startswith("none keeps macs<=1k; closest is trial 1")
    assert {point["figures"]["validation"] for point in found["points"]} == {
        next(each for each in one["variants"] if each["id"] == "pruned")["validation"]["top1"] for one in results
    }
    assert sorted((job.runs / "tiny").iterdir()) == runs, "nothing was run again"


def test_mistakes_end_with_a_line_each(done_job: Callable[[], Job]) -> None:
    job = done_job()
    (job.root / "bad.yaml").write_text("parameters: {stages.pruned.target_macs: {low: 1}}\nobjectives: [speed]\n")
    done = typed("sweep", job.recipe, "--space", job.root / "bad.yaml", "--runs", job.runs)
    assert done.returncode == 2 and done.stdout == ""
    assert [line.split(": ")[2] for line in done.stderr.splitlines()] == [
        "parameters.stages.pruned.target_macs",
        "objectives",
    ]
