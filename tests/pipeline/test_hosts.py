"""`measure.on`: a run whose files are also timed on another machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from deployment.bare_python import bare_python
from deployment.fake_machine import Machine
from support import Job, follows_the_schema

from compress.benchmark.hosts import HostTarget, benchmark_on
from compress.deployment.bench_measure import BenchSettings
from compress.pipeline.hosts import check_hosts, measure_on_hosts
from compress.pipeline.plan import make_plan
from compress.pipeline.run_folder import Log
from compress.recipe.load import parse_recipe
from compress.recipe.schema import Recipe
from compress.store.store import Store
from compress.utils.errors import CompressError, RecipeError
from compress.utils.hosts import FORMS, parse_host

DOWN = "#!/bin/sh\necho 'ssh: connect to host pi port 22: No route to host' >&2\nexit 255\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    (tmp_path / "machine").mkdir()
    return Machine(tmp_path / "machine", monkeypatch)


@pytest.mark.slow
def test_files_are_timed_on_another_machine_with_what_it_has(
    done_job: Callable[[], Job], machine: Machine, tmp_path: Path
) -> None:
    address = f"ssh://pi{bare_python(tmp_path / 'venv', ['onnxruntime', 'numpy'])}"
    job = done_job()
    done = job.run_here("--set", f"measure.on=[{address}]")
    assert done.returncode == 0, done.stderr
    assert f"{address}: the runtime openvino is not installed: pip install openvino" in done.stderr
    results = job.results()
    follows_the_schema(results)
    timed, missing = results["hosts"]
    assert timed["host"] == missing["host"] == address
    assert timed["runtime"] == "onnxruntime" and timed["machine"]["packages"].keys() == {"onnxruntime", "numpy"}
    assert timed["latency"].keys() == timed["peak_memory_bytes"].keys() == {"distilled", "int8"}
    rows = timed["latency"]["int8"]
    assert [(row["batch"], row["precision"], row["resolution"]) for row in rows] == [(1, "int8", 32), (4, "int8", 32)]
    assert timed["reference"] == "distilled"  # the first reference, the teacher, has no file
    assert all(row["p50_ms"] > 0 and row["ratio_to_reference"] > 0 for row in rows)
    assert [row["ratio_to_reference"] for row in timed["latency"]["distilled"]] == [1, 1]
    assert missing["machine"] is None and missing["latency"] == {} and "pip install openvino" in missing["reason"]
    page = sorted((job.runs / "tiny").glob("*/report.md"))[-1].read_text().replace("\\", "")
    assert "Latency on other machines" in page and f"Files for openvino on another machine: {address}" in page

    again = job.run_here("--set", f"measure.on=[{address}]")
    assert f"latency of onnxruntime on {address}: taken from the store" in again.stderr
    assert job.results()["hosts"][0] == timed

    machine.install("ssh", DOWN)
    down = job.run_here("--set", f"measure.on=[{address}]")
    assert down.returncode == 1 and down.stderr.splitlines()[-1] == (
        f"error: measure.on: {address}: ssh: connect to host pi port 22: No route to host; `ssh pi true` must work "
        "without a password; fix it, or leave the machine out of `measure.on`"
    )


TEACHER_ONLY = (
    "{id: teacher, kind: teacher, teacher: embedded}, {id: small, kind: distill, from: teacher, student: resnet18}"
)


def recipe(runtimes: str) -> Recipe:
    """A recipe that exports to these runtimes, and is measured on another machine."""
    export = f", {{id: files, kind: export, from: [small], runtimes: {runtimes}}}" if runtimes else ""
    return parse_recipe(
        f"name: sent\ndata: cifar10-sample\nstages: [{TEACHER_ONLY}{export}]\nmeasure: {{on: ['ssh://pi']}}\n"
    )


@pytest.mark.parametrize("runtimes", ["", "[tensorrt]", "[tensorrt, coreml]"])
def test_a_recipe_without_files_that_can_be_sent_is_refused(runtimes: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(runtimes)
    assert [str(problem) for problem in caught.value.problems] == [
        "<recipe>:4: measure.on: no stage exports files that other machines can be sent; add an export to a runtime "
        "that runs there, or remove `on`"
    ]
    assert recipe("auto").measure.on


def test_files_that_cannot_be_sent_are_listed_with_the_reason(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is asked for the other runtimes only, and what it lacks is listed too."""
    asked: list[str] = []

    def missing_on(_: object, runtimes: list[str]) -> dict[str, str]:
        asked.extend(runtimes)
        return {}

    monkeypatch.setattr("compress.pipeline.hosts.missing_on", missing_on)
    plan, store = make_plan(recipe("[tensorrt, onnxruntime]"), Store(tmp_path)), Store(tmp_path)
    check_hosts(plan, store)
    assert asked == ["onnxruntime"]
    sent = store.path(plan.exports[0].key)
    sent.mkdir(parents=True)
    (sent / "artifacts.json").write_text("[]")
    measured = measure_on_hosts(plan, store, Log(tmp_path / "log.jsonl"))
    assert [(each.host, each.runtime) for each in measured] == [("ssh://pi", "tensorrt"), ("ssh://pi", "onnxruntime")]
    reasons = [str(each.reason) for each in measured]
    assert reasons[0].startswith(
        "ssh://pi: files for tensorrt are only written and checked here; run them on a machine"
    )
    assert reasons[1] == "no file for onnxruntime was made"


def test_a_machine_that_describes_itself_wrongly_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not the end of a run, which goes on after any `CompressError` of a machine."""
    answer = {"environment": {"processor": 7}, "artifacts": [], "times": None, "other_cores": []}
    monkeypatch.setattr("compress.benchmark.hosts.measure_on", lambda *_: answer)
    with pytest.raises(
        CompressError, match=r"^ssh://pi: the answer is damaged: (ValidationError|KeyError): .*; try again"
    ):
        benchmark_on(
            parse_host("ssh://pi"),
            "onnxruntime",
            {"a": HostTarget(tmp_path / "model.onnx", "fp32")},
            BenchSettings(),
            [],
        )


@pytest.mark.parametrize(
    ("on", "why"),
    [
        ("[pi]", f"measure.on: host 'pi' is not {FORMS}"),
        ("[ssh://-oProxyCommand=x]", "measure.on: host 'ssh://-oProxyCommand=x': a name must not start with '-'"),
        ("[ssh://pi, ssh://pi]", "measure.on: ssh://pi is named twice"),
    ],
)
def test_addresses_are_checked_with_the_recipe(done_job: Callable[[], Job], on: str, why: str) -> None:
    done = done_job().run_here("--set", f"measure.on={on}")
    assert done.returncode == 2 and why in done.stderr
