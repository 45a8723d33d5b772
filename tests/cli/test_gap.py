from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from results_factory import example
from support import environment


def gap(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "compress", "gap", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment())


def bases(*arguments: str) -> dict[str, dict[str, Any]]:
    done = gap(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return {basis["name"]: basis for basis in json.loads(done.stdout)["bases"]}


def test_trends_give_the_published_gaps() -> None:
    found = bases("--end", "2024")
    for name, times, years in (("essay", 37_905, 19.8), ("epoch-fp32", 606_000, 44), ("energy", 1_410_000, 61)):
        assert found[name]["gap"] == pytest.approx(times, rel=1e-3)
        assert found[name]["years_to_catch_up"] == pytest.approx(years, rel=6e-3)
        assert found[name]["source"] and found[name]["basis"]
    one = found["epoch-fp32"]["one_doubling"]
    assert one["months_of_growth"] == pytest.approx(5.9, abs=0.05)
    assert one["months_of_gap"] == pytest.approx(7.5, abs=0.05)
    assert one["hold"] == "To hold the gap, you would need this again every 7.5 months."


def test_algorithmic_progress_is_as_published() -> None:
    # Hernandez and Brown 2020: 44x (30x by the footnote), 16 months as stated, from Table 3's 3.1 and 0.069 tfs-days.
    record = json.loads(gap("--json").stdout)["ai_and_efficiency"]
    assert record["reduction"] == 44 and record["reduction_with_alexnet_stopped_at_epoch_62"] == 30
    assert record["reduction_of_end_points"] == pytest.approx(3.1 / 0.069)
    assert record["months_per_doubling_stated"] == 16
    assert record["months_per_doubling_of_end_points"] == pytest.approx(15.3, abs=0.05)
    assert "2005.04305" in record["source"]


def test_fits_of_shipped_points_contain_the_published_rates() -> None:
    fits = {fit["quantity"]: fit for fit in json.loads(gap("--json").stdout)["fits"]}
    # AI and Compute: doubling in 3.43 months; Hobbhahn, Heim and Aydos 2023: in 2.3 years.
    for quantity, years in (("FP32 rate", 2.3), ("training compute", 3.43 / 12)):
        low, high = fits[quantity]["ci95"]
        assert low < 2 ** (1 / years) < high, "the published rate is inside the interval of our fit"
        assert low < fits[quantity]["growth"] < high < 1.15 * fits[quantity]["growth"] or quantity == "training compute"
    assert fits["FP32 rate"]["points"] >= 50
    assert [12 * end for end in fits["training compute"]["doubling_ci95"]] == pytest.approx([2.3, 5.3], abs=0.05)


def test_own_tables_are_fitted(tmp_path: Path) -> None:
    models = [f"m{n},{2012 + n}-01-01,{10.0**n:g}" for n in range(8)]
    chips = [f"c{n},{2012 + n}-01-01,{1e12 * 1.4**n:g},{100 * 1.1**n:g}" for n in range(8)]
    (tmp_path / "models.csv").write_text("Model,Publication date,Training compute (FLOP)\n" + "\n".join(models))
    heading = "Hardware name,Release date,FP32 (single precision) performance (FLOP/s),TDP (W)\n"
    (tmp_path / "chips.csv").write_text(heading + "\n".join(chips))
    both = bases("--models", str(tmp_path / "models.csv"), "--hardware", str(tmp_path / "chips.csv"), "--end", "2019")
    assert both["fitted FP32 rate"]["growth"] == pytest.approx(10, rel=1e-3)
    assert both["fitted FP32 rate"]["hardware"] == pytest.approx(1.4, rel=1e-3)
    assert both["fitted energy efficiency"]["hardware"] == pytest.approx(1.4 / 1.1, rel=1e-3)
    assert bases("--hardware", str(tmp_path / "chips.csv"))["fitted FP32 rate"]["growth"] == 4.7
    late = bases("--hardware", str(tmp_path / "chips.csv"), "--end", "2024")["fitted FP32 rate"]
    assert late["gap"] is None and late["reason"] == "its data end in 2019"


def test_only_the_essay_is_flagged_for_counting_efficiency_twice() -> None:
    output = gap("--basis", "essay").stdout
    assert "37,910×" in output and "19.8" in output
    assert "counts efficiency twice" in output and "one-off step" in output
    assert "counts efficiency twice" not in gap("--basis", "energy").stdout


def test_a_trend_is_not_extrapolated_beyond_its_years() -> None:
    assert bases("--end", "2024")["openai"]["gap"] is None
    assert "data end in" in " ".join(gap("--basis", "openai", "--end", "2024").stdout.split())
    assert bases("--end", "2018")["openai"]["gap"] > 1e5


def test_the_default_is_a_range_over_bases() -> None:
    first = " ".join(gap().stdout.partition("\n\n")[0].split())
    assert first.startswith("2012–2024: training compute outgrew hardware 71,000× (best-format) to 2,000,000×")
    assert "sampling error" in first


def test_no_figure_is_cut_off_at_80_columns() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "compress", "gap"],
        capture_output=True,
        text=True,
        env={**environment(), "COLUMNS": "80"},
    )
    tables = done.stdout.split("A saving is")[0].split("\n", 2)[2]
    assert "…" not in tables and max(map(len, tables.splitlines())) <= 80
    for figure in ("606,500×", "160k–2.5M", "37,910×", "1.41M×", "3.2 months (2.3–5.3)"):
        assert figure in tables


def test_savings_of_a_run_become_months(tmp_path: Path) -> None:
    results = example()
    saving = results["efficiency"][0]["variants"][0]
    doublings = {"half": (True, 1.0), "worse": (False, 3.0), "same": (True, 0.0)}
    results["efficiency"] = [
        {
            **results["efficiency"][0],
            "reference": "dense",
            "variants": [
                {**saving, "id": id, "granted": granted, "doublings": {**saving["doublings"], "macs": macs}}
                for id, (granted, macs) in doublings.items()
            ],
        }
    ]
    full = {"macs": 0, "ratio": 4.0, "doublings": 2.0}
    results["training_efficiency"][0] |= {"with_teacher_pretraining": full, "censored": None}
    del results["training_efficiency"][1:]
    (tmp_path / "results.json").write_text(json.dumps(results))
    half, same, distilled = bases("--run", str(tmp_path), "--end", "2024")["epoch-fp32"]["savings"]
    assert same["variant"] == "same" and same["months_of_growth"] == 0
    assert half["variant"] == "half" and half["months_of_gap"] is None
    assert half["months_of_growth"] == pytest.approx(5.9, abs=0.05)
    assert distilled["months_of_gap"] == pytest.approx(2 * 7.5, abs=0.1)
    assert "none: inference" in " ".join(gap("--run", str(tmp_path), "--basis", "energy").stdout.split())
    today = bases("--run", str(tmp_path))
    assert today["epoch-fp32"]["savings"][0]["months_of_growth"] is None
    assert today["epoch-fp32"]["savings"][0]["reason"] == "its data end in 2024"


def test_plot_writes_an_svg(tmp_path: Path) -> None:
    assert gap("--plot", str(tmp_path / "gap.svg")).returncode == 0
    drawn = (tmp_path / "gap.svg").read_text()
    assert drawn.startswith("<?xml") and "</svg>" in drawn
    assert "published: training compute" in drawn and "Moore's law" in drawn


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--basis", "gordon"], 2, "unknown trend 'gordon'; choose one of best-format, energy"),
        (["--start", "2024", "--end", "2012"], 2, "--end 2012 must be later than --start 2024"),
        (["--start", "2190"], 2, "--start 2190 must be before today"),
        (["--run", "nowhere"], 2, "nowhere is not a run: it has no results.json"),
        (["--models", "nowhere.csv"], 2, "nowhere.csv cannot be read: No such file"),
        (["--plot", "gap.docx"], 2, "a chart cannot be written as that; end the name in .svg, .png or .pdf"),
        (["--end", "4100", "--plot", "gap.svg"], 2, "growth over 2,088 years is too large for a chart; give a nearer"),
        (["--plot", "missing/gap.svg"], 1, "cannot write the chart to missing/gap.svg"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], status: int, words: str) -> None:
    done = gap(*arguments)
    assert done.returncode == status and words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
