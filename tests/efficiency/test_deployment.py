"""Cost of a million inferences, and of making a variant on top of its reference."""

from __future__ import annotations

from typing import Any

import pytest
from results_factory import DATE, TREND, accuracy, energy_row, inference, latency_row, right, training
from results_factory import variant as make_variant

from compress.efficiency.deployment import costs_of_million, price_per_million, seconds_per_million
from compress.efficiency.deployment_fit import deployment_fits
from compress.efficiency.savings import savings
from compress.results import DeviceProfile, InferenceEnergy, MillionImages, Variant
from compress.results.deployment import Budgets


def test_a_million_images() -> None:
    assert seconds_per_million(batch_ms=32, batch=16) == 2000
    assert price_per_million(seconds=1800, price_per_hour=0.5) == 0.25
    with pytest.raises(ValueError):
        seconds_per_million(0, 16)


ROWS = [latency_row("onnxruntime", 1, 3.0), latency_row("openvino", 16, 32.0, precision="int8")]
ENERGY = InferenceEnergy(value=0.002, method="m", rows=(energy_row("openvino", 0.002), energy_row("ncnn", 0.001)))
TIMED = [make_variant("a", inference=inference(latency=ROWS, energy=ENERGY)), make_variant("b")]
HERE = {"name": "d", "processor": "EPYC", "runtime": "openvino", "batch": 16, "price_per_hour": 0.9}


def costs(**changes: Any) -> tuple[MillionImages, MillionImages]:
    first, second = costs_of_million(TIMED, DeviceProfile(**{**HERE, **changes}), "AMD EPYC 9V74")
    return first, second


def test_a_million_images_cost_what_the_matching_row_says() -> None:
    cost, untimed = costs(threads=2)
    assert (cost.runtime, cost.precision, cost.batch, cost.threads) == ("openvino", "int8", 16, 2)
    assert (cost.seconds, cost.price, cost.energy_j) == (2000, pytest.approx(0.5), pytest.approx(2000))
    assert untimed.seconds is None and untimed.reason == "nothing was timed in openvino, batch 16, 2 threads"
    assert costs(price_per_hour=None)[0].price is None and costs(price_per_hour=None)[0].seconds == 2000
    onnx = costs(runtime="onnxruntime", batch=1)[0]
    assert (onnx.seconds, onnx.energy_j) == (3000, None), "its energy was not measured"
    assert costs(runtime="onnxruntime", batch=1, watts=10)[0].energy_j == pytest.approx(10 * 3000)


@pytest.mark.parametrize(
    ("method", "watts", "value", "said"),
    [
        ("measured: RAPL", 10, 0.002, "measured: RAPL"),
        ("estimated: 5 W × latency", 10, 10 * 0.002, "estimated: 10 W × latency"),  # the device's power, not the run's
        ("estimated: 5 W × latency", None, 0.002, "estimated: 5 W × latency"),
    ],
)
def test_energy_of_a_device_is_measured_or_by_its_own_power(
    method: str, watts: float | None, value: float, said: str
) -> None:
    rows = (energy_row("openvino", 0.002, method=method),)
    energy = InferenceEnergy(value=0.002, method=method, rows=rows)
    timed = [make_variant("a", inference=inference(latency=ROWS, energy=energy))]
    profile = DeviceProfile(**{**HERE, "watts": watts})
    (cost,) = costs_of_million(timed, profile, "AMD EPYC 9V74")
    assert (cost.energy_j, cost.energy_method) == (pytest.approx(value * 10**6), said)
    limited = profile.model_copy(update={"budgets": Budgets(energy_j=1)})
    entry = savings(timed, "a", 0.01, TREND, DATE)
    (fit,) = deployment_fits(timed, [entry], [limited], "AMD EPYC 9V74")[0].fits
    assert (fit.budgets[0].value, fit.budgets[0].basis) == (pytest.approx(value), said)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"processor": "Xeon"}, "measured on AMD EPYC 9V74, not on Xeon"),
        ({"processor": None}, "no processor is stated"),
        ({"runtime": None}, "nothing was timed in no stated runtime, batch 16"),
        ({"batch": 1}, "nothing was timed in openvino, batch 1"),
        ({"threads": 8}, "nothing was timed in openvino, batch 16, 8 threads"),
    ],
)
def test_nothing_is_priced_by_a_row_of_another_setting(changes: dict[str, Any], reason: str) -> None:
    cost = costs(**changes)[0]
    assert (cost.seconds, cost.price, cost.energy_j, cost.reason) == (None, None, None, reason)


def variant(id: str, kind: str, parent: str | None, macs: int, *spent: int) -> Variant:
    parts = [(f"part {number}", part) for number, part in enumerate(spent)]
    return make_variant(
        id,
        kind,
        parent=parent,
        accuracy=accuracy(800, 1000, right(800, 20 if parent else 0, 20 if parent else 0, 1000)),
        inference=inference(macs, 8 if kind == "quantize" else 32),
        training=training(sum(spent), parts=parts),
    )


CHAIN = [
    variant("teacher", "teacher", None, 4000),
    variant("distilled", "distill", "teacher", 1000, 9_000_000),
    variant("pruned", "prune", "distilled", 500, 9_000_000, 2_000_000),
    variant("int8", "quantize", "pruned", 500, 9_000_000, 2_000_000, 500),
    variant("shrunk", "shrink", "pruned", 480, 10_000_000),
]


@pytest.mark.parametrize(
    ("reference", "name", "extra"),
    [
        ("distilled", "pruned", 2_000_000),  # made from it: its ledger has the reference's
        ("distilled", "shrunk", 1_000_000),  # trained from scratch: its ledger is its own
        ("teacher", "pruned", 11_000_000),  # the ledger of a student does not start with the teacher's
    ],
)
def test_making_a_variant_counts_once(reference: str, name: str, extra: int) -> None:
    entry = savings(CHAIN, reference, 0.05, TREND, DATE)
    record = next(record for record in entry.variants if record.id == name)
    c_b = next(v for v in CHAIN if v.id == reference).inference.macs
    c_v = next(v for v in CHAIN if v.id == name).inference.macs
    assert record.granted and record.lifetime is not None
    assert record.lifetime.variant_training - record.lifetime.reference_training == extra
    assert record.break_even_queries == pytest.approx(extra / (c_b - c_v))


def test_equal_totals_have_an_equal_lifetime_whatever_their_lineage() -> None:
    base = variant("base", "distill", None, 1000, 9_000_000)
    made_from_it = variant("a", "prune", "base", 400, 9_000_000, 2_000_000)
    from_scratch = variant("b", "train", None, 400, 11_000_000)
    (one,) = savings([base, made_from_it], "base", 0.05, TREND, DATE).variants
    (other,) = savings([base, from_scratch], "base", 0.05, TREND, DATE).variants
    assert one.lifetime and one.lifetime == other.lifetime
    assert one.break_even_queries == other.break_even_queries


def test_a_deployment_has_its_own_queries_cache_and_share() -> None:
    profile = DeviceProfile(name="d", queries=5e7, hit_rate=0.5, inference_share=0.9)
    entry = savings(CHAIN, "distilled", 0.05, TREND, DATE, profile)
    record = next(record for record in entry.variants if record.id == "pruned")
    life = record.lifetime
    assert life is not None
    assert record.break_even_queries == pytest.approx(2e6 / 500 / (1 - 0.5))
    ratios = {at.queries: at.ratio for at in life.at_queries}
    assert ratios[5e7] == pytest.approx((9e6 + 2.5e7 * 1000) / (11e6 + 2.5e7 * 500))
    assert life.at_inference_share is not None and life.at_inference_share.model_dump() == {
        "share": 0.9,
        "effort": pytest.approx(0.1 * 2 / 9),
        "ratio": pytest.approx(1 / (0.1 + 0.9 / 2 + 0.1 * 2 / 9)),
        "ceiling": pytest.approx(10),
    }
