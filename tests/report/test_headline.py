"""The first lines of a report: golden sentences, and that report, `results.json` and `gap --run` say the same."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from results_factory import BILLION, DATE, TREND, VALIDATION, N, derive, right, savings_of
from support import typed

from compress.efficiency.headline import headline
from compress.efficiency.training import training_efficiency
from compress.gap.record import basis_of
from compress.gap.trend import Trend
from compress.report import render_html, render_markdown
from compress.report.headline import _images, deployment_line, sentence
from compress.report.headline_chart import months_svg
from compress.report.ledger_charts import gap_svg
from compress.report.ledgers import GAP_YEARS
from compress.report.quantization import quantization_tables
from compress.report.remarks import reservations, warnings
from compress.results import RunRecord, Variant

Results = dict[str, Any]

GRANTED = (
    "int8 (openvino) is at most 2 points less accurate than distilled (measured: 0.7 points lower, 95% CI 0.0 to 1.4 "
    "lower, 2,500 images) and takes 1.01 doublings (2.01x) less compute (MACs) per image (2.39 doublings (5.25x) [2.39 "
    "to 2.39] faster in measured time, openvino against openvino, batch 16): 5.9 months of the 4.1x-a-year growth of "
    "training compute. "
)
LIFE = " Over 10⁹ images, training and inference together save 1.01 doublings (2.01x) of MACs against distilled"


def spent(results: Results, reference: int, variant: int) -> RunRecord:
    """The example without a baseline, with other training compute of `distilled` and of `int8`."""
    for number, macs in ((2, reference), (4, variant)):
        results["variants"][number]["training"] |= {"macs": macs, "parts": []}
    results["efficiency"], results["training_efficiency"] = [savings_of(results, "distilled")], []
    return derive(results)


def compared(results: Results, censored: str | None, **found: Any) -> None:
    """Give all pairs of training efficiency these figures, without earlier training."""
    for pair in results["training_efficiency"]:
        own = {"doublings": None, "bracket": None, "doublings_ci95": None, **found}
        pair |= {"censored": censored, **own, "with_teacher_pretraining": {"macs": 0, "ratio": None, **own}}


def test_training_is_compared_with_the_baseline_that_learns_from_labels(results: Results) -> None:
    training = (
        "Making it took at most 0.57 doublings (1.49x) more training compute than scratch, which never reached int8's "
        "accuracy (t at least −0.57), and whether that offsets any of the training gap is not known."
    )
    assert sentence(derive(results)) == f"{GRANTED}{training}{LIFE}; it pays off after 246,000."


def test_more_training_compute_offsets_nothing(results: Results) -> None:
    training = (
        "Making it took 1.00 doublings (2.00x) more training compute than distilled (t = −1.00), so it offsets none of "
        "the training gap: it adds 7.5 months, once."
    )
    said = sentence(spent(results, 10 * 10**12, 20 * 10**12))
    assert said == f"{GRANTED}{training}{LIFE}; it pays off after 134,000."


def test_a_network_that_existed_before_the_run_offsets_nothing(results: Results) -> None:
    """A quantized teacher took seconds to make: its own training is in no ledger."""
    results["variants"][4]["training"]["teacher_pretraining"] = {"macs": None, "source": None}
    record = spent(results, 20 * 10**12, 10**10)
    said = sentence(record)
    assert "Training compute is not known in full of both int8 and distilled, so nothing of the training gap" in said
    assert said.endswith("Not stated, so not counted: the training of the teacher or network of int8.")
    assert record.headline.training is None and record.headline.life is None
    saved = record.efficiency[0].variants[-1]
    assert saved.granted and saved.lifetime is None and saved.break_even_queries is None


@pytest.mark.parametrize("part", ["teacher_pretraining", "start_pretraining"])
def test_training_before_the_run_counts(results: Results, part: str) -> None:
    """Published weights and a teacher took a thousand times as much as what the run itself spent."""
    results["variants"][4]["training"][part] = {"macs": 15 * 10**15, "source": "a card"}
    record = spent(results, 20 * 10**12, 5 * 10**12)
    said, first = sentence(record), record.headline
    assert first.training and first.training.doublings == pytest.approx(math.log2(20 / 15_005))
    assert "more training compute, earlier training included, than distilled (t = −9.55)" in said
    assert first.life and first.life.break_even == pytest.approx((15_005 - 20) * 10**12 / (148_700_000 - 73_900_000))
    assert "offsets none of the training gap" in said and "which offsets" not in said


def test_unknown_training_of_a_variant_with_a_curve_has_no_months(results: Results) -> None:
    """Its ledger says that it took less than the baseline; what its weights took before is not stated."""
    results["variants"][4]["training"]["start_pretraining"] = {"macs": None, "source": None}
    variants = tuple(Variant.model_validate(each) for each in results["variants"])
    learned = training_efficiency(variants, TREND, DATE, images=VALIDATION)
    results["training_efficiency"] = [row.model_dump(mode="json") for row in learned]
    results["efficiency"] = [savings_of(results, "distilled")]
    record = derive(results)
    assert record.headline.training is None and record.headline.life is None
    assert sentence(record).endswith("Not stated, so not counted: the training of the first weights of int8.")
    (row,) = [row for row in record.months if (row.of, row.variant) == ("training", "int8")]
    assert row.doublings is None and row.months_of_gap is None


def test_less_training_compute_offsets_months_once(results: Results) -> None:
    training = (
        "Making it took 2.00 doublings (4.00x) less training compute than distilled (t = +2.00), which offsets 15.0 "
        "months of the training gap, once."
    )
    assert sentence(spent(results, 4 * 10**12, 10**12)) == f"{GRANTED}{training}{LIFE}, from the first on."


def test_training_compute_that_is_not_known_offsets_nothing(results: Results) -> None:
    said = sentence(spent(results, 0, 10**12))
    assert (
        "Training compute is not known in full of both int8 and distilled, so nothing of the training gap is offset."
        in said
    )


@pytest.mark.parametrize(
    ("t", "censored", "bracket", "words"),
    [
        (2.0, "baseline", None, "took at least 2.00 doublings (4.00x) less training compute than scratch, which never"),
        (2.0, "baseline", None, "which offsets at least 15.0 months of the training gap, once."),
        (-2.0, "baseline", None, "took at most 2.00 doublings (4.00x) more training compute than scratch, which never"),
        (-2.0, "baseline", None, "(t at least −2.00), and whether that offsets any of the training gap is not known."),
        (-1.0, None, None, "took 1.00 doublings (2.00x) more training compute than scratch (t = −1.00), so it offsets"),
        (
            None,
            None,
            (None, -2.0),
            "took at least 2.00 doublings (4.00x) more training compute than scratch (t at most",
        ),
        (None, None, (None, -2.0), "so it offsets none of the training gap: it adds at least 15.0 months, once."),
        (
            None,
            None,
            (2.0, None),
            "took at least 2.00 doublings (4.00x) less training compute than scratch (t at least",
        ),
        (None, None, (-1.0, 2.0), "Its training compute against scratch cannot be determined: no offset of"),
        (None, "both", None, "Its training compute against scratch cannot be determined: no offset of"),
    ],
)
def test_a_bound_is_stated_as_one(
    results: Results,
    t: float | None,
    censored: str | None,
    bracket: tuple[float | None, float | None] | None,
    words: str,
) -> None:
    compared(results, doublings=t, censored=censored, bracket=bracket)
    assert words in sentence(derive(results))


@pytest.mark.charts
@pytest.mark.parametrize("censored", ["baseline", None, "variant"])
def test_charts_draw_a_bound_as_one(results: Results, censored: str | None) -> None:
    compared(results, doublings=2.34, censored=censored)
    record = derive(results)
    basis = basis_of(Trend(**record.efficiency[0].trend.model_dump()), *GAP_YEARS, record.months)
    texts: list[str] = []
    for svg in (months_svg(record), gap_svg(basis, *GAP_YEARS)):
        assert svg is not None
        found = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
        texts += ["".join(element.itertext()) for element in found]
    bound = {"baseline": "at least", "variant": "at most", None: ""}[censored]
    assert (f"training, once: {bound}" if bound else "training, once") in texts
    marked = [text for text in texts if "doublings" in text or "months of gap" in text]
    assert marked == ([] if censored == "variant" else [f"{bound} +2.34 doublings,".strip(), marked[-1]])
    assert all(text.startswith("at least ") == (censored == "baseline") for text in marked)


@pytest.mark.parametrize(
    ("number", "words"),
    [(1e9, "10⁹"), (2.5e12, "2.5 × 10¹²"), (1e12, "10¹²"), (9.999e12, "1 × 10¹³"), (245_678.1, "246,000"), (0.5, "1")],
)
def test_images_are_never_in_scientific_notation(number: float, words: str) -> None:
    assert _images(number) == words


def test_an_interval_that_includes_no_offset_says_so(results: Results) -> None:
    compared(results, doublings=1.0, censored=None, doublings_ci95=[-0.2, 2.0])
    record = derive(results)
    assert "which offsets 7.5 months of the training gap, once, or none: the interval includes 0." in sentence(record)
    basis = basis_of(Trend(**record.efficiency[0].trend.model_dump()), *GAP_YEARS, record.months)
    chart = gap_svg(basis, *GAP_YEARS)
    assert chart and "months of gap" not in chart and not any(saving.hold for saving in record.months)


def test_fewer_bits_alone_have_no_months_and_no_break_even(results: Results) -> None:
    results["variants"][4]["inference"] |= {"macs": 148_700_000, "bit_operations": 148_700_000 * 64}
    del results["variants"][3]
    results["efficiency"], results["training_efficiency"] = [savings_of(results, "distilled")], []
    said = sentence(derive(results))
    assert "takes the same MACs and 4.00 doublings (16.0x) fewer bit operations per image (" in said
    assert "months of the 4.1x" not in said and "never paid back" not in said


def test_less_of_one_cost_and_more_of_the_other_are_both_named(results: Results) -> None:
    """Against an INT8 reference, a pruned FP32 network has half of the MACs and eight times the bit operations."""
    results["variants"][2]["inference"] |= {"weight_bits": 8, "activation_bits": 8, "bit_operations": 148_700_000 * 64}
    for file in results["variants"][2]["artifacts"]:
        file["integer_macs_share"] = 1.0
    results["efficiency"], results["training_efficiency"] = [savings_of(results, "distilled")], []
    record = derive(results)
    only_pruned = [each for each in record.efficiency[0].variants if each.id == "pruned"]
    entry = record.efficiency[0].model_copy(update={"variants": tuple(only_pruned)})
    record = record.model_copy(update={"headline": headline(record.variants, [entry], (), DATE)})
    said = sentence(record)
    assert "takes 1.01 doublings (2.01x) less compute (MACs) but 2.99 doublings (7.95x) more bit operations per" in said


def test_another_reference_is_a_remark(results: Results) -> None:
    results["efficiency"].reverse()
    record = derive(results)
    assert record.headline.reference == "teacher" and not record.headline.granted
    lines = [line for line in reservations(record) if line.startswith("Against distilled")]
    assert lines == ["Against distilled, which is a test of its own, int8 is granted: +1.01 doublings in MACs."]


def test_operators_without_a_count_are_a_reservation(results: Results) -> None:
    for number in (2, 4):
        results["variants"][number]["inference"]["uncounted_operators"] = ["aten.fft"]
    (line,) = [line for line in reservations(derive(results)) if "leave out" in line]
    assert line == "MACs and bit operations of distilled, int8 leave out aten.fft, whose cost is not known."


def test_a_faster_file_of_the_reference_that_is_not_granted_is_named(results: Results) -> None:
    distilled = results["variants"][2]
    openvino = next(file for file in distilled["artifacts"] if file["runtime"] == "openvino")
    openvino |= {"top1": 0.3, "right": right(750)}
    results["efficiency"] = [savings_of(results, "distilled")]
    record = derive(results)
    assert "faster in measured time, openvino against onnxruntime, batch 16" in sentence(record)
    assert any(line.startswith("distilled is faster in openvino, but its files") for line in reservations(record))


def slowed(results: Results, runtimes: set[str]) -> RunRecord:
    """The example with the quantized files of some runtimes 100 times slower."""
    for row in results["variants"][4]["inference"]["latency"]:
        if row["runtime"] in runtimes:
            row["p50_ms"] *= 100
            row["rounds_ms"] = [[100 * ms for ms in process] for process in row["rounds_ms"]]
    results["efficiency"] = [savings_of(results, "distilled")]
    return derive(results)


def test_a_file_slower_than_in_fp32_is_a_warning_and_not_the_one_to_deploy(results: Results) -> None:
    runtimes = {row["runtime"] for row in results["variants"][4]["inference"]["latency"]}
    other = deployment_line(derive(results))
    assert other and "/int8/" in other
    record = slowed(results, runtimes)
    lines = [line for line in warnings(record) if "is slower than pruned in FP32" in line]
    assert len(lines) == len(runtimes)
    assert all(
        re.search(r"^int8 in \w+ is slower .*: 0\.0\d+× .* at batch 1, .* Do not deploy that file", line)
        for line in lines
    )
    assert record.headline.granted and deployment_line(record) is None
    assert "slower: do not deploy" in render_markdown(record) and lines[0] in render_markdown(record)


def test_the_interval_of_more_time_is_that_of_the_slowdown(results: Results) -> None:
    """A row of the record with a doubling and a half less speed, of which the interval has half a doubling each way."""
    record = derive(results)
    assert record.headline.inference
    slow = record.headline.inference.model_copy(update={"latency": -1.5, "latency_ci95": (-2.0, -1.0)})
    record = record.model_copy(update={"headline": record.headline.model_copy(update={"inference": slow})})
    assert "(1.50 doublings (2.83x) [1.00 to 2.00] slower in measured time" in sentence(record)


def test_a_file_that_is_not_slower_is_deployed_instead(results: Results) -> None:
    record = slowed(results, {"openvino"})
    line = deployment_line(record)
    assert record.headline.file and record.headline.file.runtime == "onnxruntime" and line and "onnx" in line
    assert next(warning for warning in warnings(record) if "slower than pruned" in warning).startswith(
        "int8 in openvino"
    )


def test_a_control_that_loses_is_no_warning(results: Results) -> None:
    """`pruned` as a control that lost 9 points, and a quantized one that lost 2 more."""
    for number, correct in ((3, 1835), (4, 1785)):
        accuracy = {"top1": correct / N, "correct": correct, "right": None}
        results["variants"][number]["accuracy"] |= accuracy
        for file in results["variants"][number]["artifacts"]:
            file |= {"top1": correct / N, "right": None}
    assert any(line.startswith("int8 lost 11.0 points") for line in warnings(derive(results)))
    results["variants"][3]["control"] = {"of": "distilled", "gain": 0.09, "gain_ci95": [0.08, 0.1]}
    assert not any(" lost " in line for line in warnings(derive(results)))
    results["variants"][3]["accuracy"] |= {"top1": 0.5, "correct": N // 2}
    assert not any(line.startswith("pruned lost") and "distilled" in line for line in warnings(derive(results)))


def test_a_file_that_is_slower_at_the_batch_of_the_headline_is_not_the_one_to_deploy(results: Results) -> None:
    for row in results["variants"][4]["inference"]["latency"]:
        if row["batch"] == 16:
            row["p50_ms"] *= 100
            row["rounds_ms"] = [[100 * ms for ms in process] for process in row["rounds_ms"]]
    results["efficiency"] = [savings_of(results, "distilled")]
    record = derive(results)
    assert deployment_line(record) is None and "faster in measured time" not in sentence(record)
    assert any("Do not deploy that file at batch 16" in line for line in warnings(record))
    assert "slower: do not deploy at this batch" in render_markdown(record)


def test_a_file_to_deploy_is_not_warned_of(results: Results) -> None:
    """Granted within a large tolerance, and ten points below its network: one of the two lines has to yield."""
    for file in results["variants"][4]["artifacts"]:
        file |= {"top1": 0.7, "ci95": [0.68, 0.72], "right": right(1750)}
    results["efficiency"] = [savings_of(results, "distilled", 0.3)]
    record = derive(results)
    path = record.headline.file.path if record.headline.file else ""
    assert path and path in str(deployment_line(record))
    lines = [line for line in warnings(record) if line.startswith("int8 lost 11.7 points in")]
    assert ["do not deploy" in line for line in lines] == [name not in path for name in ("onnxruntime", "openvino")]


def test_a_refusal_names_tolerance_and_loss_and_no_months(results: Results) -> None:
    results["efficiency"] = results["efficiency"][1:]
    record = derive(results)
    assert sentence(record) == (
        "No saving is granted: distilled takes 1.66 doublings (3.16x) less compute (MACs) per image than teacher, but "
        "is not shown to be at most 2 points less accurate (measured: 12.5 points lower, 95% CI 11.0 lower to 14.0 "
        "lower, 2,500 images)."
    )
    assert deployment_line(record) is None


def test_a_file_far_below_its_variant_is_not_named(results: Results) -> None:
    int8 = results["variants"][4]
    openvino = next(file for file in int8["artifacts"] if file["runtime"] == "openvino")
    openvino |= {"top1": 0.3, "ci95": [0.28, 0.32], "right": right(750)}
    for row in int8["inference"]["latency"]:
        row["p50_ms"] *= 0.1 if row["runtime"] == "openvino" else 1  # and it is by far the fastest
    results["efficiency"] = [savings_of(results, "distilled")]
    record = derive(results)
    assert sentence(record).startswith("int8 (onnxruntime) is at most")
    assert "onnxruntime" in str(deployment_line(record)) and "openvino" not in str(deployment_line(record))
    (warning,) = [line for line in warnings(record) if "openvino" in line]
    assert warning.startswith("int8 lost 51.7 points in openvino against PyTorch: do not deploy that file.")
    assert warning in render_markdown(record) and warning in render_html(record)


def test_nothing_cheaper_and_nothing_compared(results: Results) -> None:
    results["variants"] = [results["variants"][0], results["variants"][2]]
    results["efficiency"] = [savings_of(results, "distilled")]
    record = derive(results)
    assert sentence(record) == "No saving is granted: no variant is cheaper than its reference."
    assert "as accurate, not cheaper" in render_markdown(record)
    results["efficiency"] = []
    assert sentence(derive(results)) == "No variants were compared: no saving is claimed."


@pytest.mark.parametrize("tolerance", [0.005, 0.01, 0.02, 0.05, 0.2])
def test_every_sentence_has_its_tolerance_and_its_loss(results: Results, tolerance: float) -> None:
    results["efficiency"] = [savings_of(results, "distilled", tolerance)]
    said = sentence(derive(results))
    assert re.search(rf"at most {100 * tolerance:g} points? less accurate", said)
    interval = r"95% CI [\d.]+( lower| higher)? to [\d.]+( lower| higher)?"
    assert re.search(rf"measured: [\d.]+ points( lower| higher)?, {interval}, ", said)
    assert f"{N:,} images" in said


def test_the_first_lines_come_before_all_tables(results: Results) -> None:
    record = derive(results)
    assert deployment_line(record) == (
        "To deploy: artifacts/int8/openvino/model.xml, 4.49 MB, 0.371 ms per image in openvino at batch 16, 81.7% "
        "(80.2 to 83.2%) top-1 against 82.4% (80.9 to 83.8%) of distilled."
    )
    assert reservations(record)[0].startswith(
        "Against teacher nothing is granted: 13.2 points less (11.7 to 14.7); not tested"
    )
    text = render_markdown(record)
    assert text.index("int8 (openvino") < text.index("To deploy") < text.index("## Variants")


def test_only_variants_with_a_fit_were_trained_with_one_seed(results: Results) -> None:
    def lines() -> list[str]:
        return [line for line in reservations(derive(results)) if "trained once, with one seed" in line]

    (line,) = lines()
    assert line.startswith("scratch, distilled, pruned, int8 were trained once, with one seed: ")
    for variant in results["variants"]:
        variant["training"]["curve"] = []
    results["training_efficiency"] = []
    assert lines() == []


def test_a_quantized_reference_is_quoted_by_the_file_that_is_compared(results: Results) -> None:
    for file in results["variants"][4]["artifacts"]:
        file |= {"top1": 0.79, "ci95": [0.77, 0.81]} if file["runtime"] == "openvino" else {"top1": 0.75}
    record = derive(results)
    headline = record.headline.model_copy(update={"reference": "int8"})
    line = deployment_line(record.model_copy(update={"headline": headline}))
    assert line and line.endswith("top-1 against 79.0% (77.0 to 81.0%) of int8 (openvino).")


def test_a_gap_between_validation_and_test_is_a_remark(results: Results) -> None:
    for number, top1 in ((2, 0.83), (4, 0.95)):
        correct = round(500 * top1)
        results["variants"][number]["validation"] = {
            "top1": correct / 500,
            "correct": correct,
            "n": 500,
            "ci95": [top1 - 0.02, top1 + 0.02],
            "split": "validation",
        }
    (line,) = [line for line in reservations(derive(results)) if line.startswith("Accuracy on validation")]
    assert line.endswith("differ by more than both intervals allow: int8 95.0% against 81.7%.")


def test_a_collapsed_variant_is_a_warning_with_what_to_try(results: Results) -> None:
    results["variants"][3]["accuracy"] |= {"top1": 0.6, "correct": 1500, "right": right(1500)}
    results["efficiency"] = []
    found = warnings(derive(results))
    assert "pruned lost 22.4 points against distilled. Try a higher `target_macs` or a longer `repair`." in found


def test_a_loss_of_several_steps_is_blamed_on_the_largest(results: Results) -> None:
    """A small loss by quantization takes a pruned network over the limit that lost nearly as much itself."""
    variants = {variant["id"]: variant for variant in results["variants"]}
    for name, top1 in (("distilled", 0.92), ("pruned", 0.84), ("int8", 0.81)):
        variants[name]["accuracy"] |= {"top1": top1, "correct": round(2500 * top1), "right": right(round(2500 * top1))}
    results["efficiency"] = []
    found = [line for line in warnings(derive(results)) if line.startswith("int8 lost")]
    assert found == [
        "int8 lost 11.0 points against distilled, most of them by pruned. "
        "Try a higher `target_macs` or a longer `repair`."
    ]


def noise(**changed: object) -> Results:
    layer = {
        "layer": "layer1.0.conv1",
        "cause": "saturation",
        "removes": 0.62,
        "sqnr_db": 11.2,
        "network_sqnr_db": 10.5,
        "range": [0.0, 6.0],
        "quantized_range": [0.0, 2.5],
        "saturated": 0.02,
        "saturated_validation": 0.05,
        "outside": 0.03,
        "outside_images": 0.9,
        "half_range": 0.8,
    }
    measured = {"calibration_images": 32, "images": 32, "validation_images": 64, "logits_sqnr_db": 9.8}
    found = {"covers": False, "outside": 0.03, "half_range": 0.8, "layers": [layer], "layers_left_out": 0, **changed}
    return {"method": "torchao", "observer": "histogram", "keep": [], "noise": {**measured, **found}}


def test_collapsed_int8_is_a_warning_with_the_layers_that_explain_it(results: Results) -> None:
    int8 = results["variants"][4]
    assert int8["id"] == "int8"
    int8["quantization"] = noise()
    int8["accuracy"] |= {"top1": 0.6, "correct": 1500, "right": right(1500)}
    results["efficiency"] = []
    record = derive(results)
    (line,) = [line for line in warnings(record) if line.startswith("int8 lost")]
    assert "points against pruned. Try more calibration images, such as those of validation, `observer: minmax`" in line
    assert "layer in float: layer1.0.conv1 62% (saturation)." in line
    assert line.endswith("3% of the values of a layer are beyond its range.")
    tables = {table.key: table for table in quantization_tables(record)}
    (row,) = tables["noise"].rows
    assert row[:5] == ("int8", "layer1.0.conv1", "62%", "saturation", "11.2 dB") and row[-2:] == ("2%", "5%")
    (row,) = tables["calibration-set"].rows
    assert row == ("int8", "32", "no", "3%", "80%", "9.8 dB")


def test_int8_that_collapses_on_validation_only_is_a_warning_too(results: Results) -> None:
    pruned, int8 = results["variants"][3:5]
    int8["quantization"] = noise(covers=None, layers=[])
    for variant, top1 in ((pruned, 0.8), (int8, 0.7)):
        found = {"top1": top1, "correct": int(500 * top1), "n": 500, "ci95": [top1 - 0.02, top1 + 0.02]}
        variant["validation"] = {**found, "split": "validation"}
    (line,) = [line for line in warnings(derive(results)) if line.startswith("int8 lost")]
    assert line.startswith("int8 lost 10.0 points on validation against pruned. Try more calibration images, ")
    int8["validation"]["top1"] = 0.71
    assert not [line for line in warnings(derive(results)) if line.startswith("int8 lost")]


def test_gap_says_the_same_sentence_as_the_report(results: Results, tmp_path: Path) -> None:
    record = derive(results)
    (tmp_path / "results.json").write_text(record.to_json())
    assert json.loads(record.to_json())["headline"]["life"]["queries"] == BILLION
    done = typed("gap", "--run", tmp_path)
    assert " ".join(done.stdout.split()).startswith(sentence(record))
