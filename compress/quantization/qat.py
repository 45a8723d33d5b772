"""Quantization-aware training: torchao's PT2E, with the x86 quantizer's scheme simulated in training.

In every step weights and activations are rounded as they will be in integer, and gradients pass the rounding unchanged
(Jacob and others 2018, arXiv 1712.05877). Activation ranges follow moving averages at first; then they are frozen, and
after them the statistics of batch normalisation, so that the network settles at the arithmetic that will run
(Krishnamoorthi 2018, arXiv 1806.08342, 3.2.3).
"""

from __future__ import annotations

import copy
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.fx import GraphModule

from compress.quantization.capture import capture
from compress.quantization.checks import refuse_broken_weights
from compress.quantization.config import QuantizationConfig
from compress.quantization.pt2e import x86_quantizer
from compress.utils.errors import CompressError
from compress.utils.quiet import quiet

BATCH_NORM = torch.ops.aten.batch_norm.default
TRAINING = 5  # place of the argument that says whether statistics are those of the batch


def prepare_aware(model: nn.Module, example: Tensor, config: QuantizationConfig) -> GraphModule:
    """The network as a graph that can be trained, with integers simulated in it.

    Args:
        model: The float network, trained; it stays as it is.
        example: Two or more images `[b, 3, r, r]`; only their shape counts.
        config: Which layers stay in float, and whether weights have 7 bits.

    Raises:
        CompressError: a weight is not finite, a scale of batch normalisation is 0, a convolution is to stay in float,
            the network cannot be captured, or there is nothing in it that could be quantized.
    """
    refuse_broken_weights(model)
    _refuse_zero_scales(model)
    graph = capture(model, example, training=True)
    with quiet():
        from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        spec: Any = x86.get_default_x86_inductor_quantization_config(is_qat=True)
        quantizer = x86_quantizer(spec, config)
        try:
            prepared: GraphModule = prepare_qat_pt2e(graph, quantizer)
        except IndexError as error:
            if not config.keep:
                raise
            raise CompressError(
                f"keep: torchao trains no convolution with batch normalisation in float ({', '.join(config.keep)}): "
                "name linear layers alone, or leave `training` out"
            ) from error
    if not any(hasattr(module, "enable_observer") for module in prepared.modules()):
        raise CompressError(f"{type(model).__name__} has no convolution or linear that could be quantized")
    return _with_modes(prepared)


class Freeze(Callback):
    """Puts the graph into the mode of each step: training, with ranges and statistics frozen once they are due.

    Args:
        observers_until: Share of the steps after which ranges no longer follow the activations.
        batch_norm_until: Share of the steps after which statistics are those that were learnt.
    """

    def __init__(self, observers_until: float, batch_norm_until: float) -> None:
        self.observers_until, self.batch_norm_until = observers_until, batch_norm_until

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        graph = module.network
        assert isinstance(graph, GraphModule)
        done = trainer.global_step / max(1, int(trainer.estimated_stepping_batches))
        set_batch_norm(graph, training=done < self.batch_norm_until)
        set_observers(graph, on=done < self.observers_until)

    def on_validation_start(self, _: L.Trainer, module: L.LightningModule) -> None:
        graph = module.network
        assert isinstance(graph, GraphModule)
        set_observers(graph, on=False)  # ranges are learnt from train images alone
        set_batch_norm(graph, training=False)


def set_batch_norm(graph: GraphModule, *, training: bool) -> None:
    """Whether batch normalisation takes the statistics of the batch, and learns from them."""
    changed = False
    for node in graph.graph.nodes:
        if node.target == BATCH_NORM and node.args[TRAINING] != training:
            node.update_arg(TRAINING, training)
            changed = True
    if changed:
        graph.recompile()


def set_observers(graph: GraphModule, *, on: bool) -> None:
    """Whether activation and weight ranges follow what goes through."""
    for module in graph.modules():
        if hasattr(module, "enable_observer"):
            module.enable_observer(on)  # type: ignore[operator]


def _with_modes(graph: GraphModule) -> GraphModule:
    """Let `train` and `eval` of the graph, which raise, set batch normalisation instead."""

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
    """Batch normalisation is folded into the convolution before it, and the rounding is divided by its scale."""
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and module.weight is not None and bool((module.weight == 0).any()):
            raise CompressError(
                f"quantization-aware training divides by the scales of batch normalisation, and some of {name} are 0, "
                "as in a network that was never trained (timm: `options: {zero_init_last: false}`): train it first"
            )


def trained(graph: GraphModule) -> GraphModule:
    """A copy of the graph with ranges and statistics frozen, ready to be converted."""
    ready = copy.deepcopy(graph)
    set_batch_norm(ready, training=False)
    set_observers(ready, on=False)
    return ready
