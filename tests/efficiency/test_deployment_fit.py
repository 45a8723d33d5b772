"""Budgets compared with figures worked out by hand; figures of another device are unknown, and never guessed."""

from __future__ import annotations

from typing import Any

import pytest
from results_factory import TREND, energy_row, inference, latency_row
from results_factory import variant as make_variant

from compress.efficiency.deployment_fit import deployment_fits
from compress.results import (
    Artifact,
    Budgets,
    DeploymentFit,
    DeviceProfile,
    Doublings,
    HostMachine,
    HostMeasurement,
    InferenceEnergy,
    PeakMemoryBasis,
    Savings,
    Variant,
    VariantSavings,
)
from compress.results.savings import FileSavings

EPYC = "AMD EPYC 9V74 80-Core Processor"


def variant(name: str, macs: int, bit_operations: int, p99: float, megabytes: float, **changes: Any) -> Variant:
    """A variant with two rows of latency and two files; `bit_operations` are those of a MAC."""
    rows = [
        latency_row("openvino", 1, p99 / 2, p99_ms=p99),
        latency_row("openvino", 16, 8 * p99, p99_ms=9 * p99),
    ]
    sizes = {"openvino": int(megabytes * 1e6), "ncnn": 99_000_000}
    return make_variant(
        name,
        inference=inference(macs, bit_operations=macs * bit_operations, latency=rows, **changes),
        artifacts=tuple(Artifact(runtime=runtime, format="f", path="p", bytes=size) for runtime, size in sizes.items()),
    )


DENSE = variant("dense", 100, 1024, p99=40, megabytes=40, memory=(300_000_000, "openvino", 16))
PRUNED = variant("pruned", 50, 1024, p99=20, megabytes=20, memory=(200_000_000, "openvino", 16))
INT8 = variant("int8", 50, 64, p99=10, megabytes=5, memory=(150_000_000, "openvino", 16))
ALL = [DENSE, PRUNED, INT8]


def profile(*, budgets: dict[str, float], **changes: Any) -> DeviceProfile:
    about = {"name": "d", "processor": "epyc", "runtime": "openvino", "batch": 1}
    return DeviceProfile(**{**about, **changes}, budgets=Budgets(**budgets))


def entry(*granted: str, reference: str = "dense", others: tuple[str, ...] = ("pruned", "int8")) -> Savings:
    unknown: dict[str, Any] = {
        "files": (),
        "latency_basis": None,
        "energy_basis": None,
        "lifetime": None,
        "break_even_queries": None,
    }
    nothing = Doublings(macs=None, bit_operations=None, latency=None, energy=None)
    records = [
        VariantSavings(
            id=n,
            file="pytorch",
            tested=True,
            granted=n in granted,
            reason="r",
            doublings=nothing,
            months_of_growth=None,
            **unknown,
        )
        for n in others
    ]
    methods: dict[str, Any] = {"interval_method": "m", "exact_method": "m", "reference_files": ()}
    return Savings(reference=reference, tolerance=0.01, trend=TREND, **methods, variants=tuple(records))


def fits(granted: tuple[str, ...] = ("pruned", "int8"), **changes: Any) -> DeploymentFit:
    (found,) = deployment_fits(ALL, [entry(*granted)], [profile(**changes)], EPYC)
    return found


def verdicts(found: DeploymentFit, what: str) -> dict[str, tuple[float | None, str]]:
    budgets = {fit.id: next(b for b in fit.budgets if b.what == what) for fit in found.fits}
    return {name: (budget.value, budget.verdict) for name, budget in budgets.items()}


def test_on_its_own_processor_all_is_judged() -> None:
    found = fits(budgets={"latency_ms": 20, "size_mb": 20})
    assert found.here
    assert verdicts(found, "latency_ms") == {"dense": (40, "not met"), "pruned": (20, "met"), "int8": (10, "met")}
    assert verdicts(found, "size_mb") == {"dense": (40, "not met"), "pruned": (20, "met"), "int8": (5, "met")}
    assert [fit.meets for fit in found.fits] == [False, True, True]
    assert (found.best, found.open) == ("int8", ())  # as many MACs, fewer bit operations


@pytest.mark.parametrize("processor", [None, "Cortex-A78AE"])
def test_elsewhere_only_the_size_is_known(processor: str | None) -> None:
    found = fits(processor=processor, budgets={"latency_ms": 1e9, "memory_mb": 1e9, "energy_j": 1e9, "size_mb": 20})
    assert not found.here and found.best is None
    for what in ("latency_ms", "memory_mb", "energy_j"):
        assert set(verdicts(found, what).values()) == {(None, "not measured")}
    assert {b.basis for b in found.fits[0].budgets if b.what != "size_mb"} == {"another device"}
    assert [fit.meets for fit in found.fits] == [False, None, None]
    assert found.open == ("int8", "pruned"), "the cheapest first; dense is ruled out by its size"


def test_elsewhere_the_size_alone_can_be_enough() -> None:
    assert fits(processor=None, budgets={"size_mb": 20}).best == "int8"
    assert fits(processor=None, budgets={"size_mb": 4}).best is None


def test_what_is_not_as_accurate_is_never_best() -> None:
    assert fits(granted=("pruned",), budgets={"size_mb": 100}).best == "pruned"
    assert fits(granted=(), budgets={"size_mb": 100}).best == "dense"
    assert fits(granted=(), budgets={"size_mb": 10}).best is None
    late = [entry(), entry("int8", reference="pruned", others=("int8",))]
    (found,) = deployment_fits(ALL, late, [profile(budgets={"size_mb": 100})], EPYC)
    assert (found.reference, found.best) == ("dense", "dense"), "accuracy is compared with the first reference, as ever"


def test_nothing_is_met_without_a_budget_or_a_file() -> None:
    assert [fit.meets for fit in fits(budgets={}).fits] == [None] * 3
    assert fits(budgets={}).best is None and fits(budgets={}).open == ("int8", "pruned", "dense")
    timed = [latency_row("tensorrt", 1, 5.0, p99_ms=9.0)]
    bare = make_variant("bare", inference=inference(latency=timed))
    for runtime, meets in (("tensorrt", None), ("pytorch", True)):
        own = bare.model_copy(update={"inference": inference(latency=[latency_row(runtime, 1, 5.0, p99_ms=9.0)])})
        profiles = [profile(budgets={"latency_ms": 10}, runtime=runtime)]
        (found,) = deployment_fits([own], [entry(reference="bare", others=())], profiles, EPYC)
        assert verdicts(found, "latency_ms")["bare"] == (9.0, "met") and found.fits[0].meets is meets


@pytest.mark.parametrize(("measured", "value"), [(4, 100), (1, None), (None, None)])
def test_memory_counts_with_the_threads_of_the_device(measured: int | None, value: float | None) -> None:
    basis = PeakMemoryBasis(runtime="openvino", batch=1, threads=measured)
    cost = DENSE.inference.model_copy(update={"peak_memory_bytes": 100_000_000, "peak_memory_basis": basis})
    dense = DENSE.model_copy(update={"inference": cost})
    for batch in (1, 16):
        larger = basis.model_copy(update={"batch": batch})
        dense = dense.model_copy(update={"inference": cost.model_copy(update={"peak_memory_basis": larger})})
        profiles = [profile(budgets={"memory_mb": 1000}, threads=4)]
        (found,) = deployment_fits([dense], [entry(others=())], profiles, EPYC)
        assert verdicts(found, "memory_mb")["dense"] == (value, "met" if value else "not measured")


def test_only_its_own_runtime_batch_and_threads_count() -> None:
    for changes in ({"runtime": "onnxruntime"}, {"batch": 4}, {"threads": 1}):
        found = fits(budgets={"latency_ms": 1e9}, **changes)
        assert set(verdicts(found, "latency_ms").values()) == {(None, "not measured")}, changes
    assert verdicts(fits(budgets={"latency_ms": 90}, batch=16, threads=2), "latency_ms")["int8"] == (90, "met")
    assert verdicts(fits(budgets={"size_mb": 1e9}, runtime="inductor"), "size_mb")["int8"] == (None, "not measured")


def test_a_99th_percentile_of_few_timings_meets_no_budget() -> None:
    """A row without it: the median alone can only show that a limit is missed."""
    row = latency_row("openvino", 1, 20.0).model_copy(update={"p99_ms": None, "timings": 30})
    for old in (row, row.model_copy(update={"p99_ms": 21.0, "timings": None})):
        slow = make_variant("slow", inference=inference(latency=[old]))
        for limit, found in ((15.0, (20.0, "not met")), (25.0, (None, "not measured"))):
            profiles = [profile(budgets={"latency_ms": limit})]
            (fit,) = deployment_fits([slow], [entry(reference="slow", others=())], profiles, EPYC)
            assert verdicts(fit, "latency_ms")["slow"] == found
    assert "set measure.rounds to 300" in fit.fits[0].budgets[0].basis


def test_the_memory_of_a_larger_batch_is_an_upper_bound() -> None:
    at_16 = fits(budgets={"memory_mb": 200}, batch=16)
    assert verdicts(at_16, "memory_mb") == {"dense": (300, "not met"), "pruned": (200, "met"), "int8": (150, "met")}
    at_1 = fits(budgets={"memory_mb": 200}, batch=1)
    assert verdicts(at_1, "memory_mb") == {
        "dense": (None, "not measured"),
        "pruned": (200, "met"),
        "int8": (150, "met"),
    }
    at_32 = fits(budgets={"memory_mb": 1e9}, batch=32)
    assert set(verdicts(at_32, "memory_mb").values()) == {(None, "not measured")}


def test_energy_is_measured_or_estimated_and_says_which() -> None:
    rows = (energy_row("openvino", 0.3, batch=1, method="measured: RAPL"),)
    energy = InferenceEnergy(value=0.3, method="measured: RAPL", rows=rows)
    measured = variant("measured", 1, 1024, p99=40, megabytes=1, energy=energy)
    plain = variant("plain", 1, 1024, p99=40, megabytes=1)
    profiles = [profile(budgets={"energy_j": 0.4}, watts=watts) for watts in (25, None)]
    savings = [entry(reference="plain", others=("measured",))]
    powered, powerless = deployment_fits([measured, plain], savings, profiles, EPYC)
    assert verdicts(powered, "energy_j") == {"measured": (0.3, "met"), "plain": (None, "not measured")}
    bases = [fit.budgets[0].basis for fit in powered.fits]
    assert bases == ["measured: RAPL", "at most 0.5 J, estimated: 25 W × latency"], "25 W × 20 ms"
    below = profile(budgets={"energy_j": 0.6}, watts=25)
    (met,) = deployment_fits([measured, plain], savings, [below], EPYC)
    assert verdicts(met, "energy_j")["plain"] == (0.5, "met"), "the maximum power is an upper bound"
    (missed,) = deployment_fits([measured], savings, [profile(budgets={"energy_j": 0.2}, watts=25)], EPYC)
    assert verdicts(missed, "energy_j")["measured"] == (0.3, "not met")
    assert verdicts(powerless, "energy_j") == {"measured": (0.3, "met"), "plain": (None, "not measured")}


def test_a_variant_without_measurements() -> None:
    bare = make_variant("bare")
    budgets = dict.fromkeys(("latency_ms", "memory_mb", "size_mb", "energy_j"), 1.0)
    (found,) = deployment_fits([bare], [entry(reference="bare", others=())], [profile(budgets=budgets)], EPYC)
    assert [check.verdict for check in found.fits[0].budgets] == ["not measured"] * 4
    assert (found.best, found.open) == (None, ("bare",))


def host(runtime: str = "openvino", p99: float = 30.0) -> HostMeasurement:
    """Latency of all variants on a Raspberry Pi, all the same, and memory of one."""
    about = {"cores": 4, "threads": 4, "platform": "Linux", "python": "3.11.2", "packages": {}}
    return HostMeasurement(
        host="ssh://pi",
        runtime=runtime,
        batch=1,
        machine=HostMachine(processor="Raspberry Pi 5 Model B", **about),
        latency={each.id: (latency_row(runtime, 1, p99 / 2, p99_ms=p99, threads=4),) for each in ALL},
        peak_memory_bytes={"dense": 90_000_000, "pruned": None},
    )


def test_figures_of_another_machine_count_for_its_device() -> None:
    """This machine has 40, 20 and 10 ms, and 300 MB or less; the other has 30 ms, and 90 MB of one variant."""
    pi = profile(budgets={"latency_ms": 35, "memory_mb": 100}, processor="raspberry pi 5")
    (fit,) = deployment_fits(ALL, [entry("pruned", "int8")], [pi], EPYC, [host()])
    assert (fit.here, fit.host) == (False, "ssh://pi")
    found = {each.id: [(check.value, check.verdict) for check in each.budgets] for each in fit.fits}
    assert found["dense"] == [(30.0, "met"), (90.0, "met")]
    assert found["pruned"] == found["int8"] == [(30.0, "met"), (None, "not measured")]
    assert fit.best == "dense" and fit.open == ("int8", "pruned")


def test_figures_of_another_machine_do_not_count_for_other_devices_and_runtimes() -> None:
    budget = {"latency_ms": 35.0}
    here = profile(budgets=budget)
    other = profile(budgets=budget, processor="Jetson Orin")
    (fit, unknown) = deployment_fits(ALL, [entry("int8")], [here, other], EPYC, [host()])
    assert (fit.here, fit.host) == (True, None) and fit.fits[0].budgets[0].value == 40
    assert (unknown.here, unknown.host) == (False, None) and unknown.fits[0].budgets[0].value is None
    pi = profile(budgets=budget, processor="raspberry")
    (fit,) = deployment_fits(ALL, [entry("int8")], [pi], EPYC, [host("onnxruntime")])
    assert fit.host is None and fit.fits[0].budgets[0].verdict == "not measured"


def of_file(runtime: str, granted: bool, top1: float | None = 0.9) -> FileSavings:
    about: dict[str, Any] = {"path": "p", "bytes": 1, "top1": top1, "ci95": None, "reason": "r"}
    return FileSavings(runtime=runtime, precision="int8", granted=granted, granted_adjusted=granted, **about)


def test_a_device_takes_the_accuracy_of_its_own_runtimes_file() -> None:
    """Files by different methods: OpenVINO's is granted, ncnn's is not, and Core ML's was not run here."""
    own = (of_file("openvino", True), of_file("ncnn", False), of_file("coreml", False, None))
    savings = entry("int8")
    (_, int8) = savings.variants
    savings = savings.model_copy(update={"variants": (int8.model_copy(update={"files": own}),)})
    for runtime, accurate in (("openvino", True), ("ncnn", False), ("coreml", True), ("inductor", True), (None, True)):
        (found,) = deployment_fits(ALL, [savings], [profile(budgets={"size_mb": 1e3}, runtime=runtime)], EPYC)
        assert {fit.id for fit in found.fits if fit.as_accurate} == {"dense", *(["int8"] if accurate else [])}, runtime


def test_a_quantized_reference_stands_for_its_best_file_only() -> None:
    reference = make_variant("int8", inference=inference(bits=8))
    files = (of_file("openvino", True), of_file("ncnn", False))
    savings = entry(reference="int8", others=()).model_copy(update={"reference_files": files})
    for runtime, accurate in (("openvino", True), ("ncnn", False)):
        profiles = [profile(budgets={"size_mb": 1}, runtime=runtime)]
        assert deployment_fits([reference], [savings], profiles, EPYC)[0].fits[0].as_accurate is accurate


def test_files_of_a_float_reference_are_held_to_its_network() -> None:
    """A file of an FP32 reference may be far less accurate, as in FP16 or by another converter."""
    half = of_file("litert", False).model_copy(update={"precision": "fp16"})
    files = (of_file("pytorch", True), of_file("openvino", True), of_file("ncnn", False), half)
    savings = entry().model_copy(update={"reference_files": files})
    for runtime, accurate in (("pytorch", True), ("openvino", True), ("ncnn", False), ("litert", False)):
        (found,) = deployment_fits(ALL, [savings], [profile(budgets={"size_mb": 1e3}, runtime=runtime)], EPYC)
        assert (found.fits[0].id, found.fits[0].as_accurate) == ("dense", accurate), runtime


@pytest.mark.parametrize(
    ("granted", "megabytes", "best"),
    [(True, 100, "dense"), (True, 10, "int8"), (False, 100, "int8")],
    ids=["FP32 meets the budgets too", "FP32 is too large", "FP32 is not shown to be as accurate"],
)
def test_a_slower_quantized_file_gives_way_only_to_one_that_can_be_deployed(
    granted: bool, megabytes: float, best: str
) -> None:
    """INT8 takes 20.6 ms for 20 ms in FP32."""
    whole = variant("dense", 100, 1024, p99=40, megabytes=40)
    slow = variant("int8", 100, 64, p99=41.2, megabytes=5, bits=8).model_copy(update={"parent": "dense"})
    savings = entry("int8", others=("int8",)) if granted else entry("int8", reference="other", others=("int8",))
    (found,) = deployment_fits([whole, slow], [savings], [profile(budgets={"size_mb": megabytes})], EPYC)
    assert (found.best, found.open) == (best, ())
