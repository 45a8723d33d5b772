"""Weights beyond FP16's range are refused for every runtime that writes it, before any converter clamps them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from deployment.tiny_classifier import PREPROCESS, network
from torch import nn

from compress.deployment import export as exports
from compress.deployment.export import Target, export_files
from compress.deployment.runtime import Runtime
from compress.deployment.runtimes import find_runtime
from compress.models.half_range import refuse_large_weights
from compress.registry import RUNTIMES
from compress.utils.errors import CompressError

HALF = [name for name in RUNTIMES if "fp16" in find_runtime(name).precisions]


def large() -> nn.Module:
    model = network()
    with torch.no_grad():
        model[7].weight[1, 2] = -65505.0
    return model


@pytest.mark.parametrize("name", HALF)
def test_weights_beyond_its_range_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = find_runtime(name)

    def build(self: Runtime, source: object, folder: Path) -> Path:
        raise AssertionError("it was converted")

    monkeypatch.setattr(exports, "require", lambda name: runtime)
    monkeypatch.setattr(type(runtime), "build", build)
    with pytest.raises(
        CompressError, match=r"the weight 7\.weight has values up to 6\.55e\+04, and FP16 ends at 65504; "
    ):
        export_files(large(), tmp_path, [Target(name, "fp16")], PREPROCESS)
    assert not list(tmp_path.iterdir())


def test_files_in_other_precisions_are_made(tmp_path: Path) -> None:
    failed: dict[Target, str] = {}
    targets = [Target("openvino", precision) for precision in ("fp32", "fp16", "bf16")]
    built = export_files(large(), tmp_path, targets, PREPROCESS, failed)
    assert list(built) == [targets[0], targets[2]] and list(failed) == [targets[1]]


def test_statistics_that_exports_fold_away_may_be_larger() -> None:
    model = network()
    model[1].running_var.fill_(1e6)
    refuse_large_weights(model)
