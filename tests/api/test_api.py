"""The Python API: results of a run, and functions for own networks and loops."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from support import Job, photographs

import compress
from compress.measurement.compute import macs
from compress.utils.errors import UsageError

SIDE = 32
PREPROCESS = compress.Preprocess(SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
RECIPE = """\
name: tiny
data: {{source: image-folder, path: {root}/images, resolution: 32}}
stages:
  - {{id: first, kind: train, student: test_resnet, epochs: 2, batch: 16, lr: 0.05}}
  - {{id: small, kind: prune, from: first, target_macs: 0.6, round_to: 4, repair: {{epochs: 0}}}}
  - {{id: files, kind: export, from: [first], runtimes: [onnxruntime]}}
measure: {{batches: [1], rounds: 5, processes: 1, energy: off}}
worth: {{references: [first]}}
"""


def network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return timm.create_model("test_resnet", num_classes=2).eval()


def test_run_returns_variants_and_artifacts(tmp_path: Path) -> None:
    job = Job(tmp_path)
    for split, count in (("train", 12), ("test", 4)):
        photographs(tmp_path / "images" / split, count, seed=count)
    job.recipe.write_text(RECIPE.format(root=tmp_path))
    recipe = compress.Recipe.from_yaml(job.recipe, ["stages.first.epochs=1"])
    results = compress.run(recipe, job.runs)
    variant = results.variants["first"]
    assert variant.macs == macs(timm.create_model("test_resnet", num_classes=3), SIDE)
    assert variant.top1 == variant.record.accuracy.correct / 12
    assert (Path(results) / "report.html").is_file() and results._repr_html_().count("<svg") == 1
    assert compress.RunResults.read(results.folder).record == results.record
    photograph = next((tmp_path / "images" / "test").rglob("*.png"))
    answers = compress.load_artifact(variant.artifact("onnxruntime"))(photograph)
    assert answers.shape == (1, 3) and answers.sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(UsageError, match="first has no artifact for openvino; it has onnxruntime"):
        variant.artifact("openvino")
    with pytest.raises(UsageError, match="overrides need a recipe that is not loaded yet"):
        compress.run(recipe, job.runs, overrides=["seed=1"])
    with pytest.raises(UsageError, match="is not a run"):
        compress.RunResults.read(tmp_path)


@pytest.mark.slow
def test_distill_prune_quantize_and_measure_take_own_networks() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 2
    images = (rng.integers(0, 60, (64, 3, SIDE, SIDE)) + 150 * labels[:, None, None, None]).astype(np.uint8)

    class Brightness(torch.nn.Module):
        """A perfect teacher: the second class is the bright one."""

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            level = pixels.mean((1, 2, 3))
            return 5 * torch.stack([-level, level], 1)

        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

    student, unlabelled = network(), np.full(64, -1)
    teacher = Brightness()
    fitted = compress.distill(
        student,
        teacher,
        (images, unlabelled),
        (images[:16], labels[:16]),
        preprocess=PREPROCESS,
        epochs=4,
        batch=16,
        lr=0.02,
        losses={"kd": 1},
    )
    assert fitted.curve[-1]["top1"] == 1.0, "learnt from the teacher alone"
    assert teacher.training, "evaluated for the time of the training"
    assert [round(point["macs"] / fitted.curve[0]["macs"]) for point in fitted.curve] == [1, 2, 3, 4]

    pruned = compress.prune(student, SIDE, target_macs=0.6, round_to=4)
    assert macs(pruned, SIDE) <= 0.6 * macs(student, SIDE)
    pixels = PREPROCESS(torch.from_numpy(images[:16]))
    int8 = compress.quantize(student, [pixels], observer="minmax")
    assert (int8(pixels).argmax(1) == student(pixels).argmax(1)).all()

    costs = compress.measure({"dense": student, "pruned": pruned}, SIDE, batches=[1], rounds=5)
    assert costs["dense"].macs == costs["dense"]["macs"] == macs(student, SIDE)
    assert costs["dense"].latency[0].ratio_to_reference == 1 and costs["pruned"].latency[0].batch == 1
    assert compress.doublings(costs["dense"].macs / costs["pruned"].macs) == pytest.approx(
        np.log2(macs(student, SIDE) / macs(pruned, SIDE))
    )


def test_distilled_networks_can_be_trained_afterwards() -> None:
    student, teacher = network(), network()
    teacher.fc.weight.requires_grad_(False)
    flags = [[p.requires_grad for p in each.parameters()] for each in (student, teacher)]
    data = np.random.default_rng(0).integers(0, 256, (16, 3, SIDE, SIDE)).astype(np.uint8), np.arange(16) % 2
    settings: dict[str, Any] = {"epochs": 1, "batch": 8, "lr": 0.01, "losses": {"kd": 1}, "classifier": "teacher"}
    compress.distill(student, teacher, data, data, preprocess=PREPROCESS, trainer={"accelerator": "cpu"}, **settings)
    assert [[p.requires_grad for p in each.parameters()] for each in (student, teacher)] == flags


def test_networks_are_measured_in_eval_mode_and_keep_theirs() -> None:
    model = network().train()
    model.layer1.eval()
    seen = set[bool]()
    model.register_forward_pre_hook(lambda module, _: seen.add(module.training))
    before = [module.training for module in model.modules()]
    compress.measure({"own": model}, SIDE, batches=[1], rounds=3)
    assert [module.training for module in model.modules()] == before and seen == {False}


def test_networks_are_measured_in_their_own_format_and_on_one_device() -> None:
    costs = compress.measure({"fp32": network(), "bf16": network().bfloat16()}, SIDE, batches=[1], rounds=3)
    assert costs["bf16"].latency[0].p50_ms > 0 and costs["bf16"].latency[0].peak_memory_bytes is None
    with pytest.raises(UsageError, match=r"several devices \(cpu, meta\), whose times have no ratio"):
        compress.measure({"here": network(), "elsewhere": network().to("meta")}, SIDE)


def test_wrong_arguments_are_named_in_one_line() -> None:
    images, labels = np.zeros((4, 3, SIDE, SIDE), np.uint8), np.zeros(4)
    data = (images, labels)
    with pytest.raises(UsageError, match="epochs: Input should be greater than or equal to 0"):
        compress.distill(network(), network(), data, data, preprocess=PREPROCESS, epochs=-1)
    with pytest.raises(UsageError, match=r"images must be uint8 \[n, 3, h, w\], at least one"):
        compress.distill(network(), network(), (images[:0], labels[:0]), data, preprocess=PREPROCESS)
    with pytest.raises(UsageError, match=r"labels must be \[4\], one per image, not \[3\]"):
        compress.distill(network(), network(), (images, labels[:3]), data, preprocess=PREPROCESS)
    for validation, words in (
        ((images, None), "validation needs the label of every image; leave out images without one"),
        ((images, labels - 1), "validation needs the label of every image"),
        ((images, labels + 2), "label 2 is not one of 2 classes, which count from 0"),
    ):
        with pytest.raises(UsageError, match=words):
            compress.distill(network(), network(), data, validation, preprocess=PREPROCESS)
    with pytest.raises(UsageError, match="label 7 is not one of 2 classes, which count from 0"):
        compress.distill(network(), network(), (images, labels + 7), data, preprocess=PREPROCESS)
    pixels = torch.zeros(2, 3, SIDE, SIDE)
    for wrong, found in (
        ([[pixels, labels]], "list"),
        (pixels, rf"torch.float32 \[3, {SIDE}, {SIDE}\]"),
        ([pixels.byte()], "torch.uint8"),
        ([pixels.numpy()], "float32"),
    ):
        with pytest.raises(UsageError, match=rf"batches, float tensors \[b, 3, r, r\], not {found}.*; pass one tensor"):
            compress.quantize(network(), wrong)
    with pytest.raises(UsageError, match="target_macs: Input should be less than 1"):
        compress.prune(network(), SIDE, target_macs=2.0)
    with pytest.raises(UsageError, match="no calibration images; pass at least one batch"):
        compress.quantize(network(), [])
    with pytest.raises(UsageError, match="unknown method 'mqbench'; choose one of auto, torchao, "):
        compress.quantize(network(), [torch.zeros(2, 3, SIDE, SIDE)], method="mqbench")
    with pytest.raises(UsageError, match="quantize: unknown setting"):
        compress.quantize(network(), [torch.zeros(2, 3, SIDE, SIDE)], bits=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "onnxruntime", "observer": "histogram"}, "does not have `observer: histogram`; use torchao"),
        ({"method": "nncf", "observer": "entropy"}, "does not have `observer: entropy`; use onnxruntime"),
        ({"method": "torchao", "equalize": True}, "does not have `equalize: True`; use nncf"),
        ({"method": "torchao", "bias_correction": "fast"}, "does not have `bias_correction: fast`; use nncf"),
        ({"method": "onnxruntime", "target": "portable"}, "does not have `target: portable`; use torchao"),
        (
            {"method": "torchao", "linear_weight_bits": 4},
            "does not have `linear_weight_bits: 4`; use nncf or onnxruntime",
        ),
        ({"linear_weight_bits": 3}, "unknown linear_weight_bits '3'; choose one of 8, 4"),
        ({"bias_correction": "slow"}, "unknown bias_correction 'slow'"),
        ({"keep": ("clasifier",)}, "keep: no layer matches 'clasifier'"),
    ],
)
def test_settings_that_a_method_lacks_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        compress.quantize(network(), [torch.rand(2, 3, SIDE, SIDE)], **settings)


def test_calibration_images_are_square() -> None:
    with pytest.raises(UsageError, match=r"square images \[b, 3, r, r\], not \[2, 3, 32, 64\]"):
        compress.quantize(network(), [torch.rand(2, 3, 32, 64)])
