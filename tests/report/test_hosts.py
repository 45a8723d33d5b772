"""The table of latency on other machines."""

from __future__ import annotations

from typing import Any

from results_factory import latency_row

from compress.report.deployments import deployment_tables
from compress.report.hosts import host_tables
from compress.report.not_measured import not_measured
from compress.report.page import render_html
from compress.results import HostMachine, HostMeasurement, RunRecord

Results = dict[str, Any]


def with_hosts(results: Results) -> RunRecord:
    """A record with ONNX Runtime measured on a Raspberry Pi, and OpenVINO missing there."""
    about = {"cores": 4, "threads": 4, "platform": "Linux", "python": "3.11.2"}
    machine = HostMachine(
        processor="Raspberry <b>Pi</b> 5", packages={"onnxruntime": "1.22.0", "numpy": "2.0"}, **about
    )
    rows = {
        "distilled": (latency_row("onnxruntime", 1, 12.0, p99_ms=15.0, threads=4, ratio_to_reference=1.0),),
        "int8": (latency_row("onnxruntime", 1, 4.0, p99_ms=5.0, threads=4, ratio_to_reference=3.0),),
    }
    memory = {"distilled": 90_000_000, "int8": None}
    timed = HostMeasurement(
        host="ssh://pi", runtime="onnxruntime", batch=16, machine=machine, latency=rows, peak_memory_bytes=memory
    )
    reason = "ssh://pi: the runtime openvino is not installed: pip install openvino"
    absent = HostMeasurement(host="ssh://pi", runtime="openvino", batch=16, reason=reason)
    return RunRecord.model_validate(results).model_copy(update={"hosts": (timed, absent)})


def test_a_table_has_each_row_with_its_machine(results: Results) -> None:
    (table,) = host_tables(with_hosts(results))
    rows = [dict(zip(table.headings, row, strict=True)) for row in table.rows]
    assert [row["variant"] for row in rows] == ["distilled", "int8"]
    assert {row["machine"] for row in rows} == {"ssh://pi"} and rows[0]["runtime"] == "onnxruntime 1.22.0"
    assert (rows[1]["median"], rows[1]["99th percentile"], rows[1]["threads"]) == ("4 ms", "5 ms", "4")
    assert rows[1]["speedup there (95% interval)"].startswith("3.00×")
    assert rows[0]["peak memory"] == "90 MB" and rows[1]["peak memory"] != "0 B"


def test_what_could_not_be_measured_there_is_said(results: Results) -> None:
    lines = not_measured(with_hosts(results))
    assert any(
        line.startswith("Files for openvino on another machine: ssh://pi: the runtime openvino") for line in lines
    )
    assert "Raspberry" in lines[-1]


def test_names_of_machines_are_escaped_on_the_page(results: Results) -> None:
    page = render_html(with_hosts(results))
    assert "Latency on other machines" in page and "<b>Pi</b>" not in page and "&lt;b&gt;Pi" in page


def test_no_table_without_machines(results: Results) -> None:
    assert host_tables(RunRecord.model_validate(results)) == []


def test_a_device_that_another_machine_is_names_it(results: Results) -> None:
    from compress.efficiency.deployment_fit import deployment_fits
    from compress.results import Budgets, DeviceProfile

    record = with_hosts(results)
    device = DeviceProfile(
        name="pi", processor="Raspberry", runtime="onnxruntime", batch=1, budgets=Budgets(latency_ms=10)
    )
    fits = deployment_fits(record.variants, record.efficiency, [device], "another processor", record.hosts or ())
    _, budgets = deployment_tables(fits)
    cells = {row[1]: row[2] for row in budgets.rows}
    assert cells["int8"] == "met: 5 ms of 10 ms" and cells["distilled"] == "not met: 15 ms of 10 ms"
    assert budgets.note.endswith("that was measured: pi (ssh://pi).")
