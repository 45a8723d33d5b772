"""Figures that others published, each with its source, and the shipped trends."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from compress.efficiency.doublings import doublings, months_of_gap, months_of_growth
from compress.efficiency.lifetime import ceiling
from compress.efficiency.trends import fit_growth, gap, holding_rate, years_to_catch_up
from compress.gap.points import BEST_RATE, read_points

ROOT = Path(__file__).resolve().parents[2]
TRENDS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "configs/trends").glob("*.yaml"))}
HARDWARE = ROOT / "configs/trends/points/hardware.csv"
ACCUMULATED_IN_16_BITS = "Tensor-FP16 performance with FP16 accumulation (FLOP/s)"


def test_shipped_trends_are_whole() -> None:
    assert set(TRENDS) == {
        *("epoch-fp32", "energy", "price", "best-format", "notable", "frontier", "leading-hardware-energy"),
        *("openai", "essay", "moore"),
    }
    for name, trend in TRENDS.items():
        optional = {"hardware_until", *(f"{what}_ci{level}" for what in ("growth", "hardware") for level in (90, 95))}
        assert set(trend) - optional == {"name", "growth", "hardware", "basis", "source", "since", "until"}
        for what in ("growth", "hardware"):
            low, high = trend.get(f"{what}_ci90") or trend.get(f"{what}_ci95") or (0, 99)
            assert low <= trend[what] <= high
        assert trend["name"] == name
        assert trend["growth"] > trend["hardware"] > 1
        assert trend["basis"] and "http" in trend["source"]
        assert trend["since"] < trend["until"]


@pytest.mark.parametrize(
    ("name", "times", "years"),
    [("essay", 37_905, 19.8), ("epoch-fp32", 606_000, 44), ("energy", 1_410_000, 61)],
)
def test_gap_of_2012_to_2024(name: str, times: float, years: float) -> None:
    growth, hardware = TRENDS[name]["growth"], TRENDS[name]["hardware"]
    assert gap(growth, hardware, 2012, 2024) == pytest.approx(times, rel=1e-3)
    assert years_to_catch_up(growth, hardware, 2012, 2024) == pytest.approx(years, rel=6e-3)


def test_best_format_is_the_fit_of_the_shipped_table() -> None:
    (best,) = (p for p in read_points(HARDWARE, "hardware", 2010) if p.quantity == BEST_RATE)
    fit = fit_growth(best.years, best.values, 0.90)
    for name in ("best-format", "notable", "frontier"):
        assert TRENDS[name]["hardware"] == pytest.approx(fit.growth, abs=5e-4)
        assert TRENDS[name]["hardware_ci90"] == pytest.approx((fit.low, fit.high), abs=5e-4)
    growth = TRENDS["best-format"]["growth"]
    assert gap(growth, fit.growth, 2012, 2024) == pytest.approx(70_900, rel=1e-3)
    assert years_to_catch_up(growth, fit.growth, 2012, 2024) == pytest.approx(23.3, abs=0.05)


def test_accelerators_have_one_rate_a_column_and_a_source_each() -> None:
    rows = list(csv.DictReader(HARDWARE.open(newline="", encoding="utf-8")))
    assert len({row["Hardware name"] for row in rows}) == len(rows)
    assert all(row["Source"].startswith("https://") for row in rows)
    for row in rows:
        tensor, less = row["Tensor-FP16/BF16 performance (FLOP/s)"], row[ACCUMULATED_IN_16_BITS]
        assert not less or float(less) >= float(tensor), "a wider accumulator is never faster"
    assert {"B200", "GB200", "B300", "GB300", "Instinct MI350X", "Instinct MI355X", "TPU v6e", "Trainium 2"} <= {
        row["Hardware name"] for row in rows
    }


@pytest.mark.parametrize(
    ("name", "years"),
    # Hobbhahn, Heim and Aydos 2023: FP32 rate, energy efficiency, price-performance.
    [("epoch-fp32", 2.3), ("energy", 3.0), ("price", 2.1)],
)
def test_hardware_growth_is_its_doubling_time(name: str, years: float) -> None:
    assert TRENDS[name]["hardware"] == pytest.approx(2 ** (1 / years), rel=1e-5)


def test_essay_counts_two_trends_at_once() -> None:
    product = TRENDS["epoch-fp32"]["hardware"] * TRENDS["energy"]["hardware"]
    assert TRENDS["essay"]["hardware"] == pytest.approx(product, rel=1e-5)


def test_openai_doubles_in_months() -> None:
    assert months_of_growth(1, TRENDS["openai"]["growth"]) == pytest.approx(3.4, abs=0.01)


def test_one_doubling_in_months() -> None:
    trend = TRENDS["epoch-fp32"]
    assert months_of_growth(1, trend["growth"]) == pytest.approx(5.9, abs=0.05)
    assert months_of_gap(1, trend["growth"], trend["hardware"]) == pytest.approx(7.5, abs=0.05)


def test_rate_that_holds_the_gap() -> None:
    trend = TRENDS["epoch-fp32"]
    assert holding_rate(trend["growth"], trend["hardware"]) == pytest.approx(3.03, abs=0.005)


def test_ceilings() -> None:
    assert ceiling(0.9) == pytest.approx(10)
    assert doublings(ceiling(0.9)) == pytest.approx(3.32, abs=0.005)
    assert ceiling(0.6) == pytest.approx(2.5)
    assert math.isinf(ceiling(1))


def test_imports_nothing_heavy() -> None:
    names = [path.stem for path in (ROOT / "compress/efficiency").glob("[a-z]*.py")]
    arithmetic = ["doublings", "intervals", "lifetime", "trends"]
    heavy = {"torch", "scipy", "yaml", "matplotlib"}
    resampled = {
        "confidence",
        "curves",
        "ood",
        "retrieval",
        "robustness",
        "temperature",
        "training",
    }  # on arrays, with numpy
    plain = [name for name in names if name not in resampled]
    checks = ((names, heavy), (plain, {*heavy, "numpy"}), (arithmetic, {*heavy, "numpy", "pydantic"}))
    for imported, unwanted in checks:
        modules = ", ".join(f"compress.efficiency.{name}" for name in imported)
        code = f"import sys; import {modules}; bad = {unwanted} & set(sys.modules); assert not bad, bad"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    code = "import compress.gap, sys; assert not {'torch', 'numpy', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
