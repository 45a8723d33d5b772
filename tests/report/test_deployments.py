"""Tables of devices: every budget with what was measured, and never a figure that was not."""

from __future__ import annotations

from typing import Any

from compress.efficiency.deployment_fit import deployment_fits
from compress.report import render_html, render_markdown
from compress.report.deployments import deployment_tables
from compress.report.ledgers import ledgers
from compress.results import Deployment, DeviceProfile, MillionImages, RunRecord
from compress.results.deployment import Budgets

Results = dict[str, Any]
CPU = "AMD EPYC 9V74 80-Core Processor"


def profile(name: str, budgets: dict[str, float], **about: Any) -> dict[str, Any]:
    source = "Budgets: an example"
    return {"name": name, "runtime": "openvino", "batch": 1, "budgets": budgets, "source": source, **about}


def with_devices(results: Results) -> RunRecord:
    profiles = [
        profile("here", {"latency_ms": 2}, processor="EPYC", watts=90, price_per_hour=0.09, currency="USD"),
        profile("phone", {"latency_ms": 16, "size_mb": 20}, hardware="<b>A17</b> | Pro"),
    ]
    record, devices = RunRecord.model_validate(results), [DeviceProfile.model_validate(one) for one in profiles]
    fits = deployment_fits(record.variants, record.efficiency, devices, CPU)
    results["deployments"] = [fit.model_dump(mode="json") for fit in fits]
    return RunRecord.model_validate(results)


def test_tables_state_the_best_variant_and_every_budget(results: Results) -> None:
    devices, budgets = deployment_tables(with_devices(results).deployments)
    assert [row[:3] for row in devices.rows] == [
        ("here", "int8", "none"),
        ("phone", "unknown: not everything was measured", "int8, pruned, teacher"),
    ]
    assert devices.rows[0][-2:] == ("90 W", "0.09 USD") and devices.rows[1][-2:] == ("not stated", "not stated")
    assert "here: Budgets: an example." in devices.note
    assert budgets.headings == ("device", "variant", "latency", "size", "fits")
    by_name = {row[:2]: row[2:] for row in budgets.rows}
    assert by_name["here", "int8"] == ("met: 0.717 ms of 2 ms", "no budget", "best")
    assert by_name["here", "distilled"] == ("not met: 3.77 ms of 2 ms", "no budget", "no")
    assert by_name["phone", "int8"] == ("not measured here: another device", "met: 4.49 MB of 20 MB", "unknown")
    assert by_name["phone", "distilled"][1:] == ("not met: 44.8 MB of 20 MB", "no")
    assert by_name["phone", "scratch"][2] == "no" and by_name["phone", "teacher"][1].startswith("not measured here: no")
    assert budgets.note.endswith("with the processor of a machine that was measured: here (this machine).")


def test_a_device_without_a_runtime_here_names_its_toolchain(results: Results) -> None:
    record = RunRecord.model_validate(results)
    device = DeviceProfile(name="npu", toolchain="its compiler", budgets=Budgets(latency_ms=5))
    devices, budgets = deployment_tables(deployment_fits(record.variants, record.efficiency, [device], CPU))
    assert dict(zip(devices.headings, devices.rows[0], strict=True))["runtime"] == "its compiler"
    assert {row[2:] for row in budgets.rows if row[1] == "int8"} == {("not measured here: another device", "unknown")}


def test_both_pages_show_devices_and_escape_names(results: Results) -> None:
    record = with_devices(results)
    html, text = render_html(record), render_markdown(record)
    for page in (html, text):
        assert "Which variant fits which device" in page and "met: 0.717 ms of 2 ms" in page
        assert "<b>A17</b>" not in page
    assert "\\| Pro" in text


def test_costs_of_a_million_images_say_how_energy_is_known(results: Results) -> None:
    device = DeviceProfile.model_validate(profile("d", {}, price_per_hour=9e6, currency="KRW", watts=1500))
    costs = {"seconds": 0.6, "price": 1500.0}
    rows = [
        MillionImages(id="a", energy_j=7200, energy_method="estimated: 1500 W × latency", **costs),
        MillionImages(id="b", energy_j=5, energy_method="measured: RAPL", **costs),
        MillionImages(id="c"),
    ]
    record = RunRecord.model_validate(results)
    record = record.model_copy(update={"deployment": Deployment(profile=device, variants=tuple(rows))})
    (table,) = (table for table in ledgers(record) if table.key == "million")
    assert [row[-2:] for row in table.rows] == [
        ("1,500 KRW", "7.2 kJ, estimated"),
        ("1,500 KRW", "5 J, measured"),
        ("not measured", "not measured"),
    ]
    devices, _ = deployment_tables(deployment_fits(record.variants, record.efficiency, [device], CPU))
    assert devices.rows[0][-2:] == ("1,500 W", "9,000,000 KRW")


def test_no_tables_without_devices(results: Results) -> None:
    assert deployment_tables(()) == []
    assert "fits which device" not in render_markdown(RunRecord.model_validate(results))
