"""The record of `compress-model gap`: gaps of trends, and what the savings of a run offset."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from results_factory import example, example_record

from compress.efficiency.doublings import outside_data
from compress.efficiency.months import savings_in_months
from compress.gap import gap_record, to_dict
from compress.gap.points import read_year, this_year
from compress.gap.record import basis_of
from compress.gap.trend import load_trend
from compress.report import months as cells
from compress.report.ledgers import ledgers
from compress.results import RunRecord, SavingInMonths
from compress.utils.errors import UsageError


def run(
    doublings: float, censored: str | None = None, ci95: tuple[float | None, float | None] | None = None
) -> RunRecord:
    """The example with one doubling of inference compute, and so many of training compute."""
    record = example_record()
    entry = record.efficiency[0]
    int8 = next(each for each in entry.variants if each.id == "int8")
    saved = int8.model_copy(update={"doublings": int8.doublings.model_copy(update={"macs": 1.0})})
    pair = next(pair for pair in record.training_efficiency if pair.primary)
    full = pair.with_teacher_pretraining.model_copy(update={"doublings": doublings, "doublings_ci95": ci95})
    learned = pair.model_copy(update={"with_teacher_pretraining": full, "censored": censored})
    efficiency = (entry.model_copy(update={"variants": (saved,)}),)
    return record.model_copy(update={"efficiency": efficiency, "training_efficiency": (learned,)})


def months(trend: str, record: RunRecord, date: float) -> tuple[SavingInMonths, ...]:
    return savings_in_months(record.efficiency, record.training_efficiency, load_trend(trend), date)


def test_gains_and_losses_are_listed_alike() -> None:
    found = example_record().months
    assert [(saving.of, saving.variant, saving.against, saving.bound) for saving in found] == [
        ("inference", "teacher", "distilled", None),  # as accurate, and dearer
        ("inference", "pruned", "distilled", None),
        ("inference", "int8", "distilled", None),
        ("training", "distilled", "scratch", "at least"),
        ("training", "pruned", "scratch", "at least"),
        ("training", "int8", "scratch", "at least"),
    ]
    assert found[0].doublings < 0 and found[1].doublings == pytest.approx(1.01, abs=0.01)


def test_gap_by_the_trend_of_a_run_has_the_rows_of_its_report(tmp_path: Path) -> None:
    trend = load_trend("notable")
    record = example_record()
    months = savings_in_months(record.efficiency, record.training_efficiency, trend, read_year(record.run.started) or 0)
    record = record.model_copy(update={"months": months})
    (tmp_path / "results.json").write_text(record.to_json())
    (basis,) = gap_record(["notable"], 2012, run=tmp_path).bases
    assert basis.savings == months
    table = next(table for table in ledgers(record) if table.key == "gap")
    assert [row[1:4] for row in table.rows] == [(s.variant, s.against, cells.doublings(s)) for s in basis.savings]


@pytest.mark.parametrize(("censored", "doublings", "gap"), [("baseline", -2.0, None), ("baseline", 2.0, 15.0)])
def test_a_bound_on_a_loss_has_no_months(censored: str, doublings: float, gap: float | None) -> None:
    saving = months("epoch-fp32", run(doublings, censored), 2024)[-1]
    assert saving.bound == "at least" and saving.doublings == doublings
    assert saving.months_of_gap == (gap and pytest.approx(gap, abs=0.1))


def test_only_training_delays_the_gap() -> None:
    inference, training = months("epoch-fp32", run(2.0), 2024)
    assert inference.months_of_growth == pytest.approx(5.9, abs=0.05) and inference.months_of_gap is None
    assert training.months_of_gap == pytest.approx(15, abs=0.1)
    assert training.hold == "To hold the gap, you would need this again every 15.0 months."


def test_months_of_training_have_the_uncertainty_of_the_doublings_too() -> None:
    trend, exact, unsure = (months("epoch-fp32", run(1.0, ci95=ci95), 2024)[-1] for ci95 in (None, (1, 1), (0.5, 2.0)))
    wider = 1.959964 / 1.644854  # the trend's intervals are of 90%, those of doublings of 95%
    assert trend.gap_interval is not None and exact.gap_interval is not None
    assert unsure.gap_interval is not None and unsure.months_of_gap and unsure.doublings_ci95 == (0.5, 2.0)
    for end, by_trend, times in zip(unsure.gap_interval, trend.gap_interval, (0.5, 2.0), strict=True):
        distance = math.hypot(wider * math.log(by_trend / unsure.months_of_gap), math.log(times))
        assert abs(math.log(end / unsure.months_of_gap)) == pytest.approx(distance)
    assert unsure.growth_interval is not None and unsure.growth_interval[1] > 2 * 12 / math.log2(4.1)


@pytest.mark.parametrize("ci95", [(-0.5, 2.5), (None, 2.5)])
def test_doublings_that_may_be_none_hold_nothing(ci95: tuple[float | None, float]) -> None:
    saving = months("epoch-fp32", run(1.0, ci95=ci95), 2024)[-1]
    assert saving.hold is None and saving.months_of_gap
    if ci95[0] is None:
        assert saving.gap_interval is None
    else:
        assert saving.gap_interval is not None and saving.gap_interval[0] < 0 < saving.gap_interval[1]
        assert cells.of_gap(saving).startswith("+7.5 [−3.8 to +18.")
    sure = months("epoch-fp32", run(1.0, "baseline", (0.5, None)), 2024)[-1]
    assert sure.hold and sure.gap_interval and sure.gap_interval[0] < 3.8


def test_a_trend_is_not_extrapolated() -> None:
    basis = basis_of(load_trend("openai"), 2012, 2024)
    assert basis.gap is basis.gap_interval is basis.years_to_catch_up is None
    assert basis.reason == "its data end in 2017"
    assert basis_of(load_trend("openai"), 2012, 2018).gap is not None
    assert basis_of(load_trend("frontier"), 2012, 2024).reason == "its data start in 2020"


def test_data_of_a_year_reach_to_its_end() -> None:
    trend = load_trend("epoch-fp32")  # growth to May 2024, hardware to 2023
    assert outside_data(trend, 2024.0, hardware=True) is None
    assert outside_data(trend, 2024.1, hardware=True) == "its data end in 2023"
    assert outside_data(trend, 2024.9) is None and outside_data(trend, 2025.1) == "its data end in 2024"
    assert outside_data(trend, 2009.9) == "its data start in 2010"


def test_months_are_null_beyond_the_data_with_the_reason() -> None:
    saved = run(2.0)
    inside, training = months("epoch-fp32", saved, 2024.5)
    assert inside.months_of_growth is not None and inside.reason is None
    assert training.months_of_growth is not None, "training compute is known to the end of 2024"
    assert training.months_of_gap is None and training.hold is None and training.reason == "its data end in 2023"
    for one in months("epoch-fp32", saved, 2026):
        assert one.months_of_growth is one.months_of_gap is one.growth_interval is None
        assert one.reason == "its data end in 2024"


def test_without_an_end_a_trend_runs_to_the_end_of_its_data() -> None:
    record = gap_record([], 2012)
    ends = {basis.name: basis.end for basis in record.bases if basis.gap}
    assert record.end == this_year()
    assert ends["essay"] == ends["epoch-fp32"] == 2024 and ends["openai"] == 2018
    assert ends["notable"] == min(this_year(), 2027)


def test_months_have_the_interval_of_their_rates() -> None:
    one = basis_of(load_trend("epoch-fp32"), 2012, 2024).one_doubling
    assert one.growth_interval == pytest.approx((12 / math.log2(4.6), 12 / math.log2(3.7)))
    assert one.gap_interval is not None and one.months_of_gap is not None
    assert one.gap_interval[0] < one.months_of_gap < one.gap_interval[1]


def test_the_range_is_over_bases_of_the_same_years_without_the_essay() -> None:
    found = gap_record([], 2012, 2024).range
    assert found is not None and (found.start, found.end) == (2012, 2024)
    assert (found.low_basis, found.high_basis) == ("best-format", "leading-hardware-energy")
    assert found.low == pytest.approx((4.1 / 1.6165) ** 12) and found.high == pytest.approx((4.7 / 1.40) ** 12)
    assert gap_record(["essay", "energy"], 2012, 2024).range is None
    two = gap_record(["best-format", "epoch-fp32"], 2012).range
    assert two is not None and (two.end, two.bases) == (2024, 2)
    unset = gap_record([], 2012).range
    assert unset is not None and unset.end == 2024, "the latest date that most bases reach"


def test_before_2012_there_was_no_gap_to_speak_of() -> None:
    basis = basis_of(load_trend("moore"), 1960, 2010)
    assert basis.gap == pytest.approx(9.1, abs=0.05)
    assert basis.gap_interval is not None and basis.gap_interval.low < 1 < basis.gap_interval.high


def test_algorithmic_progress_is_as_published() -> None:
    language, images, alexnet = gap_record(["energy"], 2012, 2024).algorithms
    assert (language.months_per_doubling, language.interval) == (8, (5, 14))
    assert language.growth == pytest.approx(3, rel=0.06), "Epoch AI's 3x a year"
    assert (images.months_per_doubling, images.interval) == (9, (4, 25))
    assert alexnet.months_per_doubling == 16 and alexnet.interval is None


def test_the_interval_needs_both_growths() -> None:
    both, one = (basis_of(load_trend(name), 2012, 2018) for name in ("epoch-fp32", "energy"))
    assert both.gap_interval is not None and both.gap is not None and both.gap_interval.level == 0.9
    assert both.gap_interval.low < both.gap < both.gap_interval.high
    assert one.gap_interval is None


def test_json_leaves_out_what_a_trend_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(example()))
    record = to_dict(gap_record(["energy"], 2012, 2024, tmp_path))
    (basis,) = record["bases"]
    assert basis["gap_interval"] is None and "hardware_ci90" not in basis and basis["until"] == 2024
    assert "points" not in record
    assert [saving["variant"] for saving in basis["savings"]][:3] == ["teacher", "pruned", "int8"]
    assert record["headline"]["variant"] == "int8"
    assert json.loads(json.dumps(record, allow_nan=False))["run"] == str(tmp_path)


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown trend 'gordon'"):
        gap_record(["gordon"], 2012, 2024)
    with pytest.raises(UsageError, match="must be later"):
        gap_record([], 2024, 2012)
    with pytest.raises(UsageError, match="is not a run"):
        gap_record([], 2012, 2024, tmp_path)
