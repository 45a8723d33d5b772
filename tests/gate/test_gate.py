"""A gate between two runs: nothing, a real loss and noise; what cannot be compared; and how figures are found."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate.conftest import Pair, correct, set_correct
from recompute import tango_upper
from results_factory import CLASSES, N

from compress.efficiency.intervals import images_to_tell, wilson
from compress.gate.gate import gate
from compress.utils.checksums import write_sums
from compress.utils.errors import UsageError


def latency_rows(pair: Pair, which: str, id: str, **scales: float) -> None:
    """Scale the rounds of a variant's latency by process, in one of the runs."""
    for row in pair.variant(id, getattr(pair, which))["inference"]["latency"]:
        rng = np.random.default_rng([row["batch"], len(which), len(id)])
        noise = np.exp(scales.get("noise", 0.01) * rng.standard_normal((3, 10)))
        row["rounds_ms"] = (row["p50_ms"] * scales.get("by", 1.0) * noise).tolist()
        row["p50_ms"] *= scales.get("by", 1.0)


def test_runs_that_differ_by_nothing_pass(pair: Pair) -> None:
    for rules in ((), ("top1>=-0.5pt", "latency.*.*<=+5%", "class.*.top1>=-2pt", "size.*<=+0%")):
        found = pair.gate(*rules, variants=())
        assert (found.verdict, found.exit_status) == ("pass", 0)
        assert {check.variant for check in found.checks} == {row["id"] for row in pair.after["variants"]}


def test_same_predictions_of_another_model_need_images_to_pass(pair: Pair) -> None:
    """A retrained model that agrees on all 2,500 images may still lose 0.15 points on others."""
    pair.variant("pruned")["stage_key"] = "another"
    assert pair.check("top1>=-0.2pt").verdict == "pass"
    check = pair.check("top1>=-0.1pt")
    assert (check.verdict, check.measured) == ("cannot tell", 0)
    assert check.ci95 == pytest.approx((-tango_upper(0, 0, N), tango_upper(0, 0, N)), rel=1e-4)
    assert check.images_needed is not None and check.images_needed > N


def test_a_real_loss_fails(pair: Pair) -> None:
    pair.change(lost=75, gained=25)
    found = pair.gate("top1>=-0.5pt")
    assert (found.verdict, found.exit_status) == ("fail", 3)
    (check,) = found.checks
    assert check.measured == pytest.approx(-50 / N) and check.compared == "paired, 2,500 images"
    assert check.ci95 == pytest.approx((-tango_upper(75, 25, N), tango_upper(25, 75, N)), rel=1e-6)
    assert pair.check("top1>=-3pt").verdict == "pass", "less than it may lose"


def test_noise_cannot_be_told_and_says_how_many_images_could(pair: Pair) -> None:
    pair.change(lost=40, gained=41)
    found = pair.gate("top1>=-0.5pt")
    assert (found.verdict, found.exit_status) == ("cannot tell", 4)
    (check,) = found.checks
    gain, share = 1 / N, 81 / N
    assert check.images_needed == images_to_tell(share - gain**2, gain + 0.005)
    assert 2 * N < check.images_needed < 10 * N


def test_as_many_images_as_said_tell_four_times_in_five(pair: Pair) -> None:
    """By simulation at the shares seen, as if they were true."""
    from compress.efficiency.intervals import paired_difference

    pair.change(lost=60, gained=40)
    needed = pair.check("top1>=-1.5pt").images_needed
    assert needed
    draws = np.random.default_rng(0).multinomial(needed, (60 / N, 40 / N, 1 - 100 / N), 500)
    told = sum(paired_difference(int(b), int(c), needed).high <= 0.015 for b, c, _ in draws)
    assert told / 500 == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        (lambda a: a["variants"][3]["accuracy"].pop("right"), "cannot tell", "unpaired, .* no predictions stored"),
        (lambda a: a["data"].update(test_sha256="x"), "cannot tell", "unpaired, .* other test images"),
        (lambda a: a["data"].update(test_sha256=None), "cannot tell", "unpaired"),
        (lambda a: a["data"].update(test_sha256="x", name="photos"), "cannot tell", "other test data: photos"),
        (lambda a: a["data"].update(name="photos"), "pass", "paired"),
    ],
)
def test_accuracy_is_paired_only_on_the_same_images(pair: Pair, change: Any, verdict: str, words: str) -> None:
    pair.change(lost=10, gained=10)
    change(pair.after)
    check = pair.check("top1>=-0.8pt")
    assert check.verdict == verdict
    assert re.match(words, check.compared)


def test_unpaired_intervals_still_show_a_large_loss(pair: Pair) -> None:
    pair.change(lost=300, gained=0)
    del pair.variant("pruned", pair.before)["accuracy"]["right"]
    check = pair.check("top1>=-1pt")
    assert (check.verdict, check.images) == ("fail", N)
    old, new = wilson(2046, N), wilson(1746, N)
    # Newcombe's method 10
    low = -300 / N - np.hypot(1746 / N - new[0], old[1] - 2046 / N)
    assert check.ci95 is not None and check.ci95[0] == pytest.approx(low)


def test_a_figure_is_bounded_by_its_own_interval(pair: Pair) -> None:
    assert pair.check("top1>=80%").verdict == "pass"
    assert pair.check("top1>=84%").verdict == "fail"
    check = pair.check("top1>=81%")
    assert check.verdict == "cannot tell" and check.ci95 == pytest.approx(wilson(2046, N))
    assert pair.check("top1<=84%").verdict == "pass"
    del pair.variant("pruned", pair.before)["accuracy"]["right"]
    assert pair.check("top1>=80%").verdict == "pass", "no baseline is needed"


def test_files_are_checked_by_their_own_predictions(pair: Pair) -> None:
    right = correct(pair.variant("int8"))
    right[np.flatnonzero(right)[:100]] = False
    broken = copy.deepcopy(pair.variant("int8"))
    set_correct(broken, right)
    artifact = pair.variant("int8")["artifacts"][1]
    artifact |= {"right": broken["accuracy"]["right"], "top1": float(right.mean())}
    found = pair.gate(variants=("int8",))
    assert {check.metric: check.verdict for check in found.checks if check.verdict != "pass"} == {
        "top1.openvino": "fail"
    }
    artifact |= {"top1": None, "right": None, "not_run": "needs OpenVINO"}
    check = pair.check("top1.openvino>=-1pt", "int8")
    assert (check.verdict, check.compared, check.value) == ("cannot tell", "the run needs OpenVINO", None)
    pair.variant("int8")["artifacts"] = pair.variant("int8")["artifacts"][:1]
    assert pair.check("size.openvino<=+1%", "int8").compared == "the run has no figure of it"


def add_half(run: dict[str, Any], id: str, **changes: Any) -> dict[str, Any]:
    """Give a variant a second file for ONNX Runtime and rows of its latency, in FP16; returns the file."""
    (variant,) = (each for each in run["variants"] if each["id"] == id)
    artifact = {**variant["artifacts"][0], "precision": "fp16", **changes}
    assert artifact["runtime"] == "onnxruntime"
    variant["artifacts"][0]["precision"] = "fp32"
    variant["artifacts"].append(artifact)
    latency = variant["inference"]["latency"]
    latency += [{**row, "precision": "fp16"} for row in latency if row["runtime"] == "onnxruntime"]
    return artifact


def test_files_in_half_precision_are_metrics_of_their_own(pair: Pair) -> None:
    before, after = add_half(pair.before, "pruned"), add_half(pair.after, "pruned")
    assert pair.gate("top1.*>=-1pt", "size.*<=+1%", "latency.*.*<=+5%").verdict == "pass"
    after |= {"top1": 0.0, "right": "0" * len(after["right"]), "bytes": 10 * before["bytes"]}
    found = pair.gate("top1.*>=-1pt", "size.*<=+1%")
    assert {check.metric for check in found.checks if check.verdict == "fail"} == {
        "top1.onnxruntime fp16",
        "size.onnxruntime fp16",
    }
    assert len(found.checks) == 6, "three files"
    check = pair.check("top1.onnxruntime-fp16>=-1pt")
    assert (check.metric, check.verdict, check.baseline, check.value) == (
        "top1.onnxruntime fp16",
        "fail",
        before["top1"],
        0,
    )
    assert pair.check("top1.onnxruntime>=-1pt").verdict == "pass"


@pytest.mark.parametrize("which", ["before", "after"])
def test_a_file_in_half_precision_is_not_compared_with_another(pair: Pair, which: str) -> None:
    add_half(getattr(pair, which), "pruned")
    checks = {check.metric: check for check in pair.gate("top1.*>=-1pt", "latency.*.1<=+5%").checks}
    assert {metric for metric, check in checks.items() if check.verdict != "pass"} == {
        "top1.onnxruntime fp16",
        "latency.onnxruntime fp16.1",
    }
    label = {"before": "run", "after": "baseline"}[which]
    assert checks["top1.onnxruntime fp16"].compared == f"the {label} has no such file"
    assert checks["latency.onnxruntime fp16.1"].compared == f"the {label} has not timed it"


@pytest.mark.parametrize("half_reference", [True, False])
def test_latency_in_half_precision_is_its_own_beside_the_reference(pair: Pair, half_reference: bool) -> None:
    """Where the file became twice as slow, and the machine three times; the reference's files differ by ten times."""
    for which, run in (("before", pair.before), ("after", pair.after)):
        add_half(run, "pruned")
        reference = pair.variant("distilled", run)["inference"]["latency"]
        if half_reference:
            reference += [{**row, "precision": "fp16"} for row in reference if row["runtime"] == "onnxruntime"]
        phase = 3.0 if which == "after" else 1.0
        latency_rows(pair, which, "distilled", by=phase)
        latency_rows(pair, which, "pruned", by=phase)
        for id, by in (("pruned", 2.0), ("distilled", 1.0)):
            for row in pair.variant(id, run)["inference"]["latency"]:
                half = row["precision"] == "fp16"
                scale = (by if half and which == "after" else 1.0) * (1 if half or id == "pruned" else 10.0)
                row["rounds_ms"] = (scale * np.array(row["rounds_ms"])).tolist()
    checks = {check.metric: check for check in pair.gate("latency.onnxruntime.16<=+5%", "latency.*.16<=+9%").checks}
    half, full = checks["latency.onnxruntime fp16.16"], checks["latency.onnxruntime.16"]
    assert half.compared == full.compared == "3 and 3 processes, relative to distilled"
    assert half.measured == pytest.approx(1.0, abs=0.1) and half.verdict == "fail"
    assert full.measured == pytest.approx(0.0, abs=0.05)


def test_a_floor_on_a_file_leaves_the_bound_on_its_change(pair: Pair) -> None:
    artifact = pair.variant("pruned")["artifacts"][1]
    artifact |= {"top1": 0.6, "right": None}
    found = pair.gate("top1.*>=-1pt", "top1.openvino>=50%")
    assert {check.rule: check.verdict for check in found.checks if check.metric == "top1.openvino"} == {
        "top1.openvino>=-1pt": "fail",
        "top1.openvino>=50%": "pass",
    }


def test_counted_figures_are_exact(pair: Pair) -> None:
    inference = pair.variant("pruned")["inference"]
    inference |= {"macs": 74_639_000, "bytes": 17_310_000 + 1}
    assert pair.check("macs<=+1%").verdict == "pass", "it is exactly 1%"
    assert pair.check("macs<=+0.9%").verdict == "fail"
    assert pair.check("macs<=74.6M").verdict == "fail" and pair.check("macs<=75M").verdict == "pass"
    assert pair.check("size<=+0B").verdict == "fail" and pair.check("size<=+1B").verdict == "pass"
    assert pair.check("parameters>=-1%").measured == 0
    inference["macs"] = 0
    check = pair.check("macs<=+1%")
    assert (check.verdict, check.value) == ("cannot tell", None), "0 stands for not counted"
    assert pair.check("training_macs<=+1%", "teacher").verdict == "pass", "0 against 0 is no change"


@pytest.mark.parametrize(("by", "verdict"), [(1.0, "cannot tell"), (1.5, "fail"), (0.8, "pass")])
def test_latency_is_compared_by_ratios_to_the_same_reference(pair: Pair, by: float, verdict: str) -> None:
    for id in ("distilled", "pruned"):
        latency_rows(pair, "before", id, by=1.0, noise=0.05)
        latency_rows(pair, "after", id, by=3.0 * (by if id == "pruned" else 1), noise=0.03)  # a slower phase
    check = pair.check("latency.openvino.16<=+1%")
    assert check.verdict == verdict and check.compared == "3 and 3 processes, relative to distilled"
    assert check.measured == pytest.approx(by - 1, abs=0.08)
    pair.variant("distilled")["stage_key"] = "another"
    check = pair.check("latency.openvino.16<=+1%")
    assert check.compared == "3 and 3 processes, at different times" and check.verdict == "fail"
    assert check.measured == pytest.approx(3 * by - 1, abs=0.2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda run: run["environment"].update(cpu="another"),
            "timed on another machine: another, 2 threads instead of",
        ),
        (
            lambda run: run["environment"].update(instructions=["amx_int8"]),
            r"timed on another machine: .* \(amx_int8\)",
        ),
        (lambda run: run["environment"].update(cpu_quota=1.5), "timed on another machine: .* CPU quota 1.5"),
        (
            lambda run: run["environment"]["packages"].update(openvino="2027.0"),
            "timed with another version of openvino: 2027",
        ),
    ],
)
def test_latency_of_another_machine_cannot_be_told(pair: Pair, change: Any, words: str) -> None:
    latency_rows(pair, "after", "pruned", by=9.0)
    change(pair.after)
    check = pair.check("latency.openvino.16<=+5%")
    assert check.verdict == "cannot tell" and re.match(words, check.compared)
    assert pair.check("latency.openvino.16<=1ms").verdict == "fail", "a figure needs no baseline"
    assert pair.check("latency.openvino.16<=90s").verdict == "pass"


def test_latency_of_one_process_cannot_be_told(pair: Pair) -> None:
    latency_rows(pair, "after", "pruned")
    for row in pair.variant("pruned")["inference"]["latency"]:
        row["rounds_ms"] = row["rounds_ms"][:1]
    for rule in ("latency.openvino.16<=+5%", "latency.openvino.16<=9s"):
        assert pair.check(rule).compared.startswith("timed in one process")
    pair.variant("pruned")["inference"]["latency"] = []
    assert pair.check("latency.openvino.16<=9s").compared == "the run has not timed it"
    assert pair.gate("latency.pytorch.1<=+5%", variants=("int8", "distilled")).checks[0].variant == "distilled"


def test_latency_without_rounds_cannot_be_told(pair: Pair) -> None:
    for run in (pair.before, pair.after):
        for row in pair.variant("pruned", run)["inference"]["latency"]:
            row["rounds_ms"] = []
    pair.variant("pruned")["inference"]["latency"][0]["p50_ms"] *= 100
    for rule in ("latency.pytorch.1<=+5%", "latency.pytorch.1<=9s"):
        check = pair.check(rule)
        assert check.verdict == "cannot tell" and check.compared.startswith("timed without storing the rounds")


def test_classes_are_checked_by_their_own_images(pair: Pair) -> None:
    """Every fifth image that was right, of one class, is lost."""
    right = correct(pair.variant("pruned"))
    cats = np.flatnonzero(right & (np.arange(N) % len(CLASSES) == CLASSES.index("cat")))
    right[cats[::5]] = False
    set_correct(pair.variant("pruned"), right)
    found = pair.gate("class.*.top1>=-5pt")
    assert found.tests == len(CLASSES) == len(found.checks)
    verdicts = {check.metric: check.verdict for check in found.checks}
    assert {metric for metric, verdict in verdicts.items() if verdict == "fail"} == {"class.cat.top1"}
    assert {verdict for metric, verdict in verdicts.items() if metric != "class.cat.top1"} == {"pass"}
    (cat,) = (check for check in found.checks if check.metric == "class.cat.top1")
    assert cat.images == 250 and cat.measured == pytest.approx(-len(cats[::5]) / 250)
    assert pair.gate("class.*.top1>=-5pt", "class.cat.top1>=-90pt").verdict == "pass", "a class of its own threshold"


def test_several_classes_fail_only_at_95_percent_together(pair: Pair) -> None:
    """A loss of 12 of 250 images is beyond 1 point by its own interval, and not by that of ten."""
    right = correct(pair.variant("pruned"))
    cats = np.flatnonzero(right & (np.arange(N) % len(CLASSES) == CLASSES.index("cat")))
    right[cats[:10]] = False
    set_correct(pair.variant("pruned"), right)
    assert pair.check("class.cat.top1>=-2pt").verdict == "fail"
    together = {check.metric: check for check in pair.gate("class.*.top1>=-2pt").checks}
    assert together["class.cat.top1"].verdict == "cannot tell"
    assert (together["class.cat.top1"].images_needed or 0) > 250


@pytest.mark.parametrize("which", ["before", "after"])
def test_a_run_without_labels_takes_those_of_the_other(pair: Pair, which: str) -> None:
    pair.change(lost=10, gained=10)
    del getattr(pair, which)["data"]["test_labels"]
    assert pair.check("class.cat.top1>=-9pt").verdict == "pass"
    pair.after["data"]["test_sha256"] = "another"
    check = pair.check("class.cat.top1>=-9pt")
    assert check.verdict == "cannot tell" and "which test images are of which class" in check.compared


def test_few_images_show_nothing(pair: Pair) -> None:
    for run in (pair.before, pair.after):
        labels = ["1"] * N
        labels[:20] = ["3"] * 20
        run["data"]["test_labels"] = "".join(labels)
    right = correct(pair.variant("pruned"))
    right[:20] = False
    set_correct(pair.variant("pruned"), right)
    check = pair.check("class.cat.top1>=-5pt")
    assert (check.verdict, check.images) == ("cannot tell", 20) and (check.images_needed or 0) >= 30


def test_variants_of_one_run_are_named(pair: Pair) -> None:
    pair.after["variants"] = pair.after["variants"][:4]
    pair.before["variants"] = pair.before["variants"][1:]
    found = pair.gate("top1>=-1pt", variants=())
    assert found.verdict == "pass" and [check.variant for check in found.checks] == ["scratch", "distilled", "pruned"]
    assert found.remarks[-2:] == (
        "int8 is in the baseline only: not checked",
        "teacher is in the run only: not checked",
    )


def test_a_variant_that_could_not_be_made_cannot_be_told(pair: Pair) -> None:
    pair.after["variants"] = pair.after["variants"][:4]
    pair.after["failed"] = [{"stage": "int8", "reason": "nncf is missing; pip install nncf"}]
    for variants in ((), ("int8",)):
        found = pair.gate("top1>=-1pt", variants=variants)
        (check,) = (check for check in found.checks if check.variant == "int8")
        assert found.exit_status == 4
        assert check.compared == "the run could not make it: nncf is missing; pip install nncf"


def test_a_new_variant_that_could_not_be_made_is_not_dropped(pair: Pair) -> None:
    for run in (pair.before, pair.after):
        run["variants"] = run["variants"][:4]
    pair.after["failed"] = [{"stage": "int8", "reason": "nncf is missing"}]
    found = pair.gate("top1>=-1pt", variants=("pruned", "int8"))
    assert [(check.variant, check.verdict) for check in found.checks] == [("pruned", "pass"), ("int8", "cannot tell")]
    assert found.exit_status == 4
    assert pair.gate("top1>=-1pt", variants=("int8",)).exit_status == 4
    found = pair.gate("top1>=-1pt", variants=())
    assert found.verdict == "pass"
    assert found.remarks[-1] == "the run could not make int8: nncf is missing"
    pair.after["failed"] = [{"stage": "files/pruned", "runtime": "openvino fp16", "reason": "overflow"}]
    assert pair.gate(variants=()).remarks[-1] == "files/pruned failed in openvino fp16: overflow"


def test_everything_that_is_wrong_is_said_at_once(pair: Pair) -> None:
    with pytest.raises(UsageError) as refused:
        pair.gate("top1>=1", "top1>=2", "latency.opnvino.1<=+5%", "class.kat.top1>=-1pt", variants=("prunned", "int8"))
    lines = str(refused.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "rule 'top1>=2'",
        "--variant prunned",
        "rule 'latency.opnvino.1<=+5%'",
        "rule 'class.kat.top1>=-1pt'",
    ]
    assert "did you mean 'pruned'?" in lines[1]
    assert "did you mean 'latency.openvino.1'?" in lines[2] and "did you mean 'class.cat.top1'?" in lines[3]


def test_runs_without_a_common_variant_are_refused(pair: Pair) -> None:
    for variant in pair.before["variants"]:
        variant["id"] += "-old"
    with pytest.raises(UsageError, match="no variant in common"):
        pair.gate(variants=())


def test_a_baseline_may_be_a_file(pair: Pair, tmp_path: Any) -> None:
    run, against = pair.write()
    against = (against / "results.json").rename(tmp_path / "baseline.json")
    found = gate(run, against)
    assert found.verdict == "pass" and found.baseline.path == str(against)
    against.write_text("{")
    with pytest.raises(UsageError, match=r"baseline\.json is not JSON"):
        gate(run, against)
    with pytest.raises(UsageError, match="nowhere is not a run"):
        gate(run, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="given twice"):
        gate(run, run / ".." / "after")
    for same in (run / "results.json", Path(shutil.copy(run / "results.json", tmp_path / "copy.json"))):
        with pytest.raises(UsageError, match="are the same run; gate it against another one"):
            gate(run, same)


def test_runs_are_verified_against_their_checksums(pair: Pair) -> None:
    run, against = pair.write()
    for folder in (run, against):
        write_sums(folder)
    assert gate(run, against / "results.json").remarks == ()
    (against / "results.json").write_text((against / "results.json").read_text() + " ")
    for baseline in (against, against / "results.json"):
        with pytest.raises(UsageError, match="has changed since it was written"):
            gate(run, baseline)


@pytest.mark.parametrize(
    "change",
    [
        lambda run: run["variants"][3]["accuracy"].update(right="zz"),
        lambda run: run["data"].update(test_labels="0_1"),
    ],
)
def test_damaged_bits_are_refused_in_one_line(pair: Pair, change: Any) -> None:
    change(pair.after)
    with pytest.raises(UsageError, match="does not hold the results of a run") as refused:
        pair.gate()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("labels", ["", "0", "f" * N, "123"])
def test_labels_of_other_images_tell_nothing(pair: Pair, labels: str) -> None:
    pair.change(lost=10, gained=10)
    for run in (pair.before, pair.after):
        run["data"]["test_labels"] = labels
    assert pair.check("class.cat.top1>=-9pt").verdict == "cannot tell"
