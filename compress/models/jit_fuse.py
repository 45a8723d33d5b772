"""Faster inference on a CPU by TorchScript, which needs no compiler on the machine."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from compress.models.onnx_network import OnnxNetwork


def fuse_layers(network: nn.Module, resolution: int) -> nn.Module:
    """Fuse batch norm and activations into the convolutions of a network on the CPU: 1.5x on EfficientNet-Lite0.

    Returns `network` itself on another device, if TorchScript cannot trace or run it, or if it is an ONNX file.
    """
    if isinstance(network, OnnxNetwork) or next(network.parameters()).device.type != "cpu":
        return network
    example = torch.zeros(2, 3, resolution, resolution).contiguous(memory_format=torch.channels_last)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        try:
            traced = torch.jit.trace(network, example)  # type: ignore[no-untyped-call]
            fast = torch.jit.optimize_for_inference(torch.jit.freeze(traced.eval()))
            fast(example)  # limits of its kernels show only at run time
            return fast
        except (RuntimeError, torch.jit.TracingCheckError):  # type: ignore[attr-defined]
            return network
