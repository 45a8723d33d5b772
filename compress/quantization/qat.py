"""Quantization-aware training: torchao's PT2E, with the x86 quantizer's scheme simulated in training.

In every step weights and activations are rounded as in INT8, and gradients pass the rounding unchanged (Jacob et al.
2018, arXiv 1712.05877). Activation ranges follow moving averages at first; then they are frozen, and later the
statistics of batch normalisation, so that the network converges under the arithmetic of inference (Krishnamoorthi 2018,
arXiv 1806.08342, 3.2.3).
"""

from __future__ import annotations

import copy
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.fx import GraphModule

from compress.models.embedding import encoder_of
from compress.quantization.capture import capture
from compress.quantization.checks import refuse_broken_weights
from compress.quantization.config import QuantizationConfig
from compress.quantization.pt2e import x86_quantizer
from compress.utils.boundaries import boundary
from compress.utils.errors import CompressError
from compress.utils.quiet import quiet

BATCH_NORM = torch.ops.aten.batch_norm.default
TRAINING = 5  # index of the argument `training`


def prepare_aware(model: nn.Module, example: Tensor, config: QuantizationConfig) -> GraphModule:
    """Insert fake quantization into a network, as a graph that can be trained; only the shape of `example` counts.

    Raises:
        CompressError: a weight is not finite, a scale of batch normalisation is 0, a convolution is to stay in float,
            the network cannot be captured, or nothing in it can be quantized.
    """
    refuse_broken_weights(model)
    _refuse_zero_scales(model)
    graph = capture(model, example, training=True)
    with boundary("torchao", type(model).__name__), quiet():
        from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        spec: Any = x86.get_default_x86_inductor_quantization_config(is_qat=True)
        quantizer = x86_quantizer(spec, config, graph)
        try:
            prepared: GraphModule = prepare_qat_pt2e(graph, quantizer)
        except IndexError as error:
            if not config.keep:
                raise
            raise CompressError(
                f"keep: torchao cannot train a convolution with batch norm in float ({', '.join(config.keep)}); keep "
                "linear layers only, or remove `training`"
            ) from error
    if not any(hasattr(module, "enable_observer") for module in prepared.modules()):
        raise CompressError(f"{type(model).__name__} has no convolution or linear that could be quantized")
    return _with_modes(prepared)


class Freeze(Callback):
    """Freezes activation ranges and batch-norm statistics after a share of the steps each."""

    def __init__(self, observers_until: float, batch_norm_until: float) -> None:
        self.observers_until, self.batch_norm_until = observers_until, batch_norm_until

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        graph = encoder_of(module.network)
        assert isinstance(graph, GraphModule)
        done = trainer.global_step / max(1, int(trainer.estimated_stepping_batches))
        set_batch_norm(graph, training=done < self.batch_norm_until)
        set_observers(graph, on=done < self.observers_until)

    def on_validation_start(self, _: L.Trainer, module: L.LightningModule) -> None:
        graph = encoder_of(module.network)
        assert isinstance(graph, GraphModule)
        set_observers(graph, on=False)  # ranges come from train images alone
        set_batch_norm(graph, training=False)


def set_batch_norm(graph: GraphModule, *, training: bool) -> None:
    """Set whether batch normalisation uses and updates the statistics of the batch."""
    changed = False
    for node in graph.graph.nodes:
        if node.target == BATCH_NORM and node.args[TRAINING] != training:
            node.update_arg(TRAINING, training)
            changed = True
    if changed:
        graph.recompile()


def set_observers(graph: GraphModule, *, on: bool) -> None:
    """Set whether activation and weight ranges are updated."""
    for module in graph.modules():
        if hasattr(module, "enable_observer"):
            module.enable_observer(on)  # type: ignore[operator]


def _with_modes(graph: GraphModule) -> GraphModule:
    """Replace `train` and `eval` of the graph, which raise, by functions that set batch norm and observers."""

    def train(mode: bool = True) -> GraphModule:
        for module in graph.modules():
            module.training = mode
        set_batch_norm(graph, training=mode)
        set_observers(graph, on=mode)
        return graph

    graph.train = train  # type: ignore[method-assign]
    graph.eval = lambda: train(False)  # type: ignore[method-assign]
    return graph


def _refuse_zero_scales(model: nn.Module) -> None:
    """Refuse batch-norm scales of 0: after folding into the convolution, the rounding divides by them."""
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and module.weight is not None and bool((module.weight == 0).any()):
            raise CompressError(
                f"quantization-aware training divides by the scales of batch norm, and some of {name} are 0, as in an "
                "untrained network; train it first (timm: or set `options: {zero_init_last: false}`)"
            )


def freeze(graph: GraphModule) -> GraphModule:
    """Return a copy of the graph with ranges and statistics frozen, ready for conversion."""
    ready = copy.deepcopy(graph)
    set_batch_norm(ready, training=False)
    set_observers(ready, on=False)
    return ready
