"""A quantized file that is slower than the FP32 file of its network is never recommended, whatever it saves in bits."""

from __future__ import annotations

import pytest
from results_factory import DATE, TREND, N, accuracy, inference, latency_row, right, training
from results_factory import variant as make_variant

from compress.efficiency.deployment_fit import deployment_fits
from compress.efficiency.headline import headline
from compress.efficiency.savings import savings
from compress.efficiency.slower import against_float, ever_slower, slow_settings
from compress.results import (
    Artifact,
    Budgets,
    DeviceProfile,
    HostMachine,
    HostMeasurement,
    LatencyRow,
    Savings,
    Variant,
)


def rows(**milliseconds: tuple[float, float]) -> list[LatencyRow]:
    """Latency at batch 1 and 16 by runtime."""
    return [
        latency_row(name, batch, ms, resolution=64)
        for name, times in milliseconds.items()
        for batch, ms in zip((1, 16), times, strict=True)
    ]


def network(id: str, bits: int, latency: list[LatencyRow], **changes: object) -> Variant:
    """A network that is right as often as any other, in files for every runtime that it was timed in."""
    seen = right(2000)
    about = {"bytes": 1, "top1": 0.8, "ci95": (0.79, 0.81), "right": seen, "integer_macs_share": float(bits == 8)}
    files = tuple(
        Artifact(runtime=name, format=name, path=f"{name}/m", **about)  # type: ignore[arg-type]
        for name in dict.fromkeys(row.runtime for row in latency)
    )
    kind = str(changes.pop("kind", "train"))
    made = {"accuracy": accuracy(2000, N, seen), "inference": inference(100, bits, latency=latency)}
    return make_variant(id, kind, **{**made, "training": training(5), "artifacts": files, **changes})


DENSE = network("dense", 32, rows(a=(2.0, 20.0), b=(3.0, 30.0)))


def quantized(**milliseconds: tuple[float, float]) -> Variant:
    return network("int8", 8, rows(**milliseconds), kind="quantize", parent="dense")


def saved(*variants: Variant) -> Savings:
    return savings(variants, "dense", 0.01, TREND, DATE)


def test_files_are_compared_in_the_same_runtime_and_batch() -> None:
    found = against_float([DENSE, quantized(a=(1.0, 40.0), b=(6.0, 60.0), c=(9.0, 9.0))])
    assert set(found) == {"int8"}
    ratios = {(entry.runtime, entry.batch): (entry.ratio.ratio, entry.slower) for entry in found["int8"]}
    assert ratios == {
        ("a", 1): (pytest.approx(2.0), False),
        ("a", 16): (pytest.approx(0.5), True),
        ("b", 1): (pytest.approx(0.5), True),
        ("b", 16): (pytest.approx(0.5), True),
    }
    assert slow_settings(found["int8"]) == {("a", 16), ("b", 1), ("b", 16)}
    assert ever_slower(found["int8"]) == {"a", "b"}


def test_the_origin_is_the_nearest_float_network_in_the_same_setting() -> None:
    others = network("pruned", 32, rows(a=(1.0, 9.0)), parent="dense")
    own = network("int8", 8, rows(a=(1.5, 5.0)), parent="pruned")
    assert [entry.float_variant for entry in against_float([DENSE, others, own])["int8"]] == ["pruned", "pruned"]
    assert slow_settings(against_float([DENSE, others, own])["int8"]) == {("a", 1)}
    assert against_float([DENSE, others]) == {} and not against_float([own]).get("int8")


def test_a_ratio_that_may_be_chance_is_no_finding() -> None:
    unsure = [row.model_copy(update={"rounds_ms": ((1.0,) * 9, (9.0,) * 9, (3.0,) * 9)}) for row in rows(a=(3.0, 30.0))]
    one = [row.model_copy(update={"rounds_ms": ()}) for row in rows(a=(3.0, 30.0))]
    for latency in (unsure, one):
        found = against_float([DENSE, network("int8", 8, latency, parent="dense")])["int8"]
        assert found and not slow_settings(found)


def test_latency_is_that_of_a_file_that_is_not_slower() -> None:
    basis = saved(DENSE, quantized(a=(4.0, 21.0), b=(1.0, 22.0))).variants[0].latency_basis
    assert basis and (basis.runtime, basis.batch) == ("b", 16), "the faster of the two is slower than in FP32"


def test_the_batch_is_chosen_before_the_file() -> None:
    """INT8 is faster at batch 1 and slower at 16: at the batch that is compared there is nothing to deploy."""
    variants = [DENSE, quantized(a=(1.0, 40.0))]
    entry = saved(*variants)
    assert entry.variants[0].granted and entry.variants[0].latency_basis is None
    assert headline(variants, [entry], [], DATE).file is None
    other = [DENSE, quantized(a=(1.0, 40.0), b=(9.0, 29.0))]
    (record,) = saved(*other).variants
    assert record.latency_basis and (record.latency_basis.runtime, record.latency_basis.batch) == ("b", 16)
    assert record.latency_basis.reference_runtime == "a" and record.doublings.latency is not None
    assert record.doublings.latency < 0, "slower than the reference's best file, and that is said"


def test_no_file_is_recommended_where_all_are_slower() -> None:
    variants = [DENSE, quantized(a=(4.0, 40.0))]
    entry = saved(*variants)
    first = headline(variants, [entry], [], DATE)
    assert first.granted and first.variant == "int8" and first.file is None
    assert entry.variants[0].latency_basis is None and entry.variants[0].doublings.latency is None
    faster = [DENSE, quantized(a=(4.0, 40.0), b=(1.0, 10.0))]
    chosen = headline(faster, [saved(*faster)], [], DATE).file
    assert chosen and chosen.runtime == "b"


def test_a_device_is_not_recommended_a_slower_file() -> None:
    variants = [DENSE, quantized(a=(4.0, 4.0))]

    def best(batch: int, here: bool = True) -> str | None:
        about = {"name": "d", "processor": "epyc", "runtime": "a", "batch": batch}
        profile = DeviceProfile(**about, budgets=Budgets(latency_ms=50.0))  # type: ignore[arg-type]
        (fit,) = deployment_fits(variants, [saved(*variants)], [profile], "AMD EPYC" if here else "other")
        return fit.best or ",".join(fit.open)

    assert best(1) == "dense" and best(16) == "int8"
    assert best(1, here=False) == "int8,dense", "what is slower here may be faster there"


def test_on_another_machine_its_own_timings_decide() -> None:
    """INT8 is faster here and slower there, so it is not what to deploy there, and the other way round."""
    about = {"cores": 4, "threads": 2, "platform": "Linux", "python": "3.11.2", "packages": {}}
    machine = HostMachine(processor="Raspberry Pi 5", **about)
    profile = DeviceProfile(name="pi", processor="Raspberry", runtime="a", budgets=Budgets(latency_ms=50))
    for here, there, best in (((1.0, 1.0), 6.0, "dense"), ((9.0, 99.0), 1.0, "int8")):
        variants = [DENSE, quantized(a=here)]
        timed = {"dense": rows(a=(2.0, 20.0)), "int8": rows(a=(there, there))}
        latency = {name: tuple(own) for name, own in timed.items()}
        host = HostMeasurement(host="ssh://pi", runtime="a", batch=16, machine=machine, latency=latency)
        (fit,) = deployment_fits(variants, [saved(*variants)], [profile], "AMD EPYC", [host])
        assert (fit.host, fit.best) == ("ssh://pi", best)
