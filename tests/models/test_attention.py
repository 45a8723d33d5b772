"""Attention of one head, in windows, and with masks: the same in any form, in ONNX files and in quantized graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.models.attention import FourDimensionalAttention
from compress.models.onnx_export import exporting, write_onnx
from compress.quantization.ptq import quantize
from compress.utils.errors import CompressError

SHAPES = [(2, 5, 4), (2, 3, 5, 4), (2, 3, 2, 5, 4), (2, 2, 3, 2, 5, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("masked", ["not", "for all", "for each head", "for each image"])
def test_attention_is_the_same_in_four_dimensions(shape: tuple[int, ...], masked: str) -> None:
    query, key, value = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    masks = {
        "not": None,
        "for all": torch.ones(5, 5).tril().bool(),
        "for each head": torch.randn(*(1 for _ in shape[:-3]), *shape[-3:-2], 5, 5),
        "for each image": torch.randn(*shape[:1], *(1 for _ in shape[1:-2]), 5, 5),
    }
    expected = F.scaled_dot_product_attention(query, key, value, masks[masked])
    with FourDimensionalAttention():
        given = F.scaled_dot_product_attention(query, key, value, attn_mask=masks[masked])
    torch.testing.assert_close(given, expected)


class Attends(nn.Module):
    """Attention of one head, `[b, n, c]`, or in two windows, `[b, 2, h, n, c]`."""

    def __init__(self, windows: bool) -> None:
        super().__init__()
        self.windows, self.qkv, self.fc = windows, nn.Linear(3, 24), nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.qkv(images.flatten(2).transpose(1, 2))
        if self.windows:
            tokens = tokens.unflatten(1, (2, -1)).unflatten(3, (2, -1)).transpose(2, 3)
        mixed = F.scaled_dot_product_attention(*tokens.chunk(3, dim=-1))
        if self.windows:
            mixed = mixed.transpose(2, 3).flatten(3).flatten(1, 2)
        return self.fc(mixed.mean(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("windows", [False, True], ids=["one head", "windows"])
def test_such_networks_are_captured_and_exported(windows: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, images = Attends(windows).eval(), torch.randn(3, 3, 4, 4)
    for network in (model, quantize(model, [images], images[:2]).network):
        write_onnx(network, 4, tmp_path / "model.onnx")
        with torch.no_grad():
            expected = network(images).numpy()
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        assert np.abs(session.run(None, {"images": images.numpy()})[0] - expected).max() < 1e-4


def test_the_last_cause_of_a_failed_export_is_said() -> None:
    model, cause = Attends(False), AssertionError("only 4D is supported")
    where = torch.onnx.OnnxExporterError("Error when translating node %attention")
    where.__cause__ = cause
    with pytest.raises(CompressError) as caught, exporting(model, "exported to ONNX"):
        raise torch.onnx.OnnxExporterError("Failed to convert") from where
    assert str(caught.value).startswith("Attends cannot be exported to ONNX: AssertionError: only 4D is supported; ")
