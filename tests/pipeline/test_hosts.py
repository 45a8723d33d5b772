"""`measure.on`: a run whose files are also timed on another machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from deployment.bare_python import bare_python
from deployment.fake_machine import Machine
from support import Job, follows_the_schema

DOWN = "#!/bin/sh\necho 'ssh: connect to host pi port 22: No route to host' >&2\nexit 255\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    (tmp_path / "machine").mkdir()
    return Machine(tmp_path / "machine", monkeypatch)


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


@pytest.mark.parametrize(
    ("on", "why"),
    [
        ("[pi]", "measure.on: host 'pi' is not ssh://[USER@]HOST[:PORT][/PYTHON] or adb:SERIAL[/PYTHON]"),
        ("[ssh://-oProxyCommand=x]", "measure.on: host 'ssh://-oProxyCommand=x': a name must not start with '-'"),
        ("[ssh://pi, ssh://pi]", "measure.on: ssh://pi is named twice"),
    ],
)
def test_addresses_are_checked_with_the_recipe(done_job: Callable[[], Job], on: str, why: str) -> None:
    done = done_job().run_here("--set", f"measure.on={on}")
    assert done.returncode == 2 and why in done.stderr
