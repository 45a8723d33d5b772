"""Quantization-aware training on tiny data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from support import Job
from torch import nn
from torchvision.ops import StochasticDepth

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.models.checkpoints import load_variant
from compress.quantization.capture import layer_bits, quantized_convolutions
from compress.quantization.config import QuantizationConfig
from compress.quantization.pt2e import convert
from compress.quantization.qat import BATCH_NORM, TRAINING, Freeze, freeze, prepare_aware
from compress.quantization.serialize import rebuild_graph, record_graph
from compress.recipe.data import Views
from compress.recipe.fit import Fit
from compress.recipe.load import load_recipe
from compress.recipe.schema import Trainer
from compress.results import Ledger
from compress.stages.planned import PlannedStage
from compress.stages.quantize import QuantizeStage
from compress.stages.quantize.qat import train_aware
from compress.training.fit import fit
from compress.training.module import FitModule
from compress.training.state import Diverged
from compress.utils.errors import CompressError, UsageError

EXAMPLE = torch.zeros(2, 3, 32, 32)
AWARE = """\
  - {id: aware, kind: quantize, from: pruned, keep: ["fc"],
     training: {epochs: 2, batch: 16, lr: 0.01, views: 2, losses: {ce: 1, kd: 1}}}
  - {id: deployed, kind: export, from: [aware], runtimes: [onnxruntime, openvino]}
"""


def settled(model: nn.Module) -> nn.Module:
    """Set batch norm statistics from images, and scales that are not 0."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn(16, 3, 32, 32))
    return model.eval()


def small() -> nn.Module:
    """Create a network of two convolutions and a linear layer."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, bias=False))
    return settled(
        nn.Sequential(*layers, nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    )


@pytest.mark.slow
def test_pruned_network_is_trained_stored_exported_and_charged(done_job: Callable[[], Job]) -> None:
    job = done_job()
    job.write(deployed=False)
    job.recipe.write_text(job.recipe.read_text().replace("measure:", AWARE + "measure:"))
    finished = job.run_here()
    assert finished.returncode == 0, finished.stderr
    variants = {variant["id"]: variant for variant in job.results()["variants"]}
    aware, pruned = variants["aware"], variants["pruned"]
    assert aware["quantization"] == {**aware["quantization"], "aware": True, "keep": ["fc"]}
    inference = aware["inference"]
    assert inference["macs"] == pruned["inference"]["macs"]
    assert inference["quantized_convs"] == inference["total_convs"]
    parts = {part["what"]: part["macs"] for part in aware["training"]["parts"][len(pruned["training"]["parts"]) :]}
    fit = "quantization-aware training: forward and backward, 2 epochs"
    assert parts[fit] > 2 * 5 * 16 * 2.5 * inference["macs"], "forward and backward of the float network"
    assert not any("embed" in what for what in parts), "teacher embeddings are cached"
    assert aware["accuracy"]["top1"] >= pruned["accuracy"]["top1"] - 0.1
    for row in aware["artifacts"]:
        assert row["top1_agreement"] > 0.95 and row["max_abs_diff"] < 1, row
    assert {row["runtime"] for row in aware["artifacts"]} == {"onnxruntime", "openvino"}
    network = load_variant(job.runs / "store" / aware["stage_key"])
    graph, quantization = network.model, network.architecture.quantization
    assert quantization and quantization.aware and "fc" not in layer_bits(graph)


@pytest.mark.slow
def test_stored_network_is_rebuilt_bit_for_bit_with_seven_bit_weights() -> None:
    model, scheme = small(), QuantizationConfig(keep=("8",), aware=True)
    graph = prepare_aware(model, EXAMPLE, scheme)
    optimizer = torch.optim.SGD(graph.parameters(), 0.01)
    pixels, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 4
    losses = []
    for _ in range(3):
        loss = nn.functional.cross_entropy(graph.train()(pixels), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    again = prepare_aware(model, EXAMPLE, scheme)
    again.load_state_dict(graph.state_dict())
    assert torch.equal(again.eval()(pixels), graph.eval()(pixels)), "training resumes from its state"
    converted = convert(freeze(graph))
    state, scales = record_graph(converted)
    assert torch.equal(rebuild_graph(small(), EXAMPLE, state, scales, scheme)(pixels), converted(pixels))
    done, total = quantized_convolutions(converted)
    assert done == total > 0
    integers = [value for value in state.values() if value.dtype == torch.int8]
    assert integers and all(int(value.min()) >= -64 and int(value.max()) <= 63 for value in integers)


def test_activation_ranges_are_frozen_before_batch_norm_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = prepare_aware(small(), EXAMPLE, QuantizationConfig(aware=True))
    freeze = Freeze(observers_until=0.5, batch_norm_until=0.75)

    def at(step: int) -> tuple[bool, bool]:
        trainer = type("Trainer", (), {"global_step": step, "estimated_stepping_batches": 4})()
        module = type("Module", (), {"network": graph})()
        freeze.on_train_batch_start(trainer, module)  # type: ignore[arg-type]
        before = {name: value.clone() for name, value in graph.state_dict().items()}
        graph(torch.randn(8, 3, 32, 32) * (10 + step))
        after = graph.state_dict()
        learnt = any(not torch.equal(before[n], after[n]) for n in before if n.endswith("running_mean"))
        followed = any(not torch.equal(before[n], after[n]) for n in before if n.endswith("max_val"))
        return followed, learnt

    assert [at(step) for step in range(4)] == [(True, True), (True, True), (False, True), (False, False)]
    assert all(not node.args[TRAINING] for node in graph.graph.nodes if node.target == BATCH_NORM)


class Dropping(nn.Module):
    """Drops features, and whole branches."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1)
        self.branch, self.dropout, self.fc = StochasticDepth(0.5, "row"), nn.Dropout(0.5), nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = F.relu(self.norm(self.first(images)))
        return self.fc(self.dropout((maps + self.branch(self.second(maps))).mean((2, 3))))


def test_nothing_is_dropped_at_random_in_evaluation_and_after_conversion() -> None:
    torch.manual_seed(0)
    graph = prepare_aware(Dropping(), EXAMPLE, QuantizationConfig(aware=True))
    images = torch.randn(4, 3, 32, 32)
    before = graph.get_buffer("norm.running_mean").clone()
    graph.train()
    graph(images)
    assert not torch.equal(graph.get_buffer("norm.running_mean"), before)
    graph.eval()
    made = convert(freeze(graph))
    for network in (graph, made):
        assert torch.equal(network(images), network(images))
    nodes = [(str(node.target), node.args) for node in made.graph.nodes]
    assert not any("bernoulli" in name or ("dropout" in name and arguments[-1]) for name, arguments in nodes)


def test_zero_batch_norm_scale_is_reported_with_a_fix() -> None:
    with pytest.raises(CompressError, match=r"some of layer1\.0\.bn2 are 0, .*train it first.*zero_init_last: false"):
        prepare_aware(timm.create_model("resnet18", num_classes=2), EXAMPLE, QuantizationConfig(aware=True))


def test_network_without_quantizable_layers_or_with_nan_weights_is_rejected() -> None:
    pooling = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    with pytest.raises(CompressError, match="Sequential has no convolution or linear that could be quantized"):
        prepare_aware(pooling, EXAMPLE, QuantizationConfig(aware=True))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    with pytest.raises(CompressError, match="no convolution or linear that could be quantized"):
        prepare_aware(linear, EXAMPLE, QuantizationConfig(keep=("1",), aware=True))
    broken = small()
    with torch.no_grad():
        broken.get_parameter("8.weight")[0, 0] = float("nan")
    with pytest.raises(CompressError, match=r"the weight 8\.weight holds NaN or infinite values"):
        prepare_aware(broken, EXAMPLE, QuantizationConfig(aware=True))


def test_keeping_a_convolution_in_float_is_rejected() -> None:
    with pytest.raises(CompressError, match=r"keep: torchao cannot train a convolution .* in float \(0\)"):
        prepare_aware(small(), EXAMPLE, QuantizationConfig(keep=("0",), aware=True))


@pytest.mark.slow
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_all_convolutions_of_resnet18_are_quantized(library: str) -> None:
    from torchvision.models import resnet18

    model = settled(timm.create_model("resnet18", num_classes=4) if library == "timm" else resnet18(num_classes=4))
    graph = prepare_aware(model, EXAMPLE, QuantizationConfig(aware=True))
    graph.train()(torch.randn(8, 3, 32, 32))
    assert quantized_convolutions(convert(freeze(graph))) == (20, 20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("method: nncf, training: {}", "`method: nncf` quantizes a file, which cannot be trained"),
        ("observer: minmax, training: {}", "`observer` is for post-training quantization only"),
        ("calibrate_on: unlabeled, training: {}", "`calibrate_on` is for post-training quantization only"),
        ("training: {epochs: 0}", "no step would observe the ranges of activations; set `epochs` and"),
        ("training: {observers_until: 0}", "no step would observe the ranges of activations; set `epochs` and"),
        ("keep_accuracy: 0.01, training: {}", "`keep_accuracy` is for post-training quantization only"),
        ("training: {ema: 0.9}", "`ema` is not supported in quantization-aware training"),
        (
            "training: {losses: {ce: 1, embedding: 1}}",
            "embedding needs features, which quantization-aware training does not expose",
        ),
        ("training: {select_on: test}", "checkpoint selection on the test split"),
    ],
)
def test_conflicting_settings_are_rejected(change: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe("quickstart", [f"stages.int8={{id: int8, kind: quantize, from: pruned, {change}}}"])


def test_several_devices_are_rejected() -> None:
    stage = "{id: int8, kind: quantize, from: pruned, training: {}}"
    with pytest.raises(UsageError, match=r"on one device only; set `trainer\.devices: 1`"):
        load_recipe("quickstart", [f"stages.int8={stage}", "trainer={devices: 2}"])


def test_scales_that_are_not_finite_are_a_divergence(tmp_path: Path) -> None:
    """A fake quantizer refuses the zero point of infinite weights before their loss is read."""

    class Overflow(Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
            if trainer.global_step == 2:
                with torch.no_grad():
                    next(module.network.parameters()).fill_(float("inf"))

    graph = prepare_aware(small(), EXAMPLE, QuantizationConfig(aware=True))
    training = {"epochs": 3, "batch": 8, "lr": 0.001}
    fit_settings = Fit.model_validate(training)
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (64, 3, 32, 32), np.uint8), np.arange(64) % 4)
    plain = Preprocess(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    module = FitModule(graph, plain, [split], split, Views(), fit_settings, None, seed=0, image_macs=1)
    with pytest.raises(CompressError, match=r"the loss is nan in epoch 1 of 3 .*: lower `lr`") as caught:
        fit(module, Trainer(accelerator="cpu"), tmp_path, "aware", Overflow())
    diverged = caught.value.__cause__
    assert isinstance(diverged, Diverged) and "zero_point" in str(diverged.__cause__)


@pytest.mark.parametrize("words", ["DefaultCPUAllocator: not enough memory", "shapes cannot be multiplied"])
def test_other_errors_of_the_first_step_are_no_divergence(words: str) -> None:
    """Observers hold infinities until they have seen a batch."""

    class Full(nn.Linear):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            raise RuntimeError(words)

    network = Full(2, 2)
    network.register_buffer("min_val", torch.tensor(float("inf")))
    split = Split(np.zeros((8, 3, 32, 32), np.uint8), np.arange(8) % 4)
    plain = Preprocess(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    module = FitModule(network, plain, [split], split, Views(), Fit(), None, seed=0, image_macs=1)
    with pytest.raises(RuntimeError, match=words):
        module._logits(network, torch.zeros(2, 3, 32, 32, dtype=torch.uint8))


def test_flat_train_images_are_rejected(tmp_path: Path) -> None:
    stage = QuantizeStage.model_validate({"id": "aware", "kind": "quantize", "from": "dense", "training": {}})
    black = SimpleNamespace(train=SimpleNamespace(images=np.zeros((6, 3, 32, 32), np.uint8)))
    context = SimpleNamespace(data=black, recipe=SimpleNamespace(seed=0))
    planned, network = PlannedStage("aware", stage, "key", "dense"), SimpleNamespace(model=small())
    with pytest.raises(CompressError, match="each of the 6 train images is one flat colour"):
        train_aware(context, planned, tmp_path, network, Ledger.start())  # type: ignore[arg-type]
