"""Export to ONNX: in-place activations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from compress.models.onnx_export import write_onnx


class PreActivated(nn.Module):
    """A residual block whose skip connection has the activation, which is in place."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.conv = nn.ReLU(inplace=True), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = x - 0.5
        return x + self.conv(self.act(x))


class Discarded(PreActivated):
    """An activation whose result nobody reads."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        self.act(x)
        return x


@pytest.mark.parametrize("block", [PreActivated, Discarded])
def test_networks_that_rely_on_activations_in_place_keep_them(block: type[PreActivated], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(block(), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()).train()
    write_onnx(model, 8, tmp_path / "model.onnx")
    assert model.training and model[0].act.inplace and model[1].inplace
    images = torch.rand(3, 3, 8, 8)
    with torch.no_grad():
        expected = model.eval()(images).numpy()
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert np.abs(session.run(None, {"images": images.numpy()})[0] - expected).max() < 1e-5


def test_other_networks_are_exported_out_of_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    seen: list[bool] = []
    export = torch.onnx.export

    def noted(*given: object, **settings: object) -> object:
        seen.append(model[1].inplace)
        return export(*given, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.onnx, "export", noted)
    write_onnx(model, 8, tmp_path / "model.onnx")
    assert seen == [False] and model[1].inplace
