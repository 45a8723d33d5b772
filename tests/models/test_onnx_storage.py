"""ONNX files whose weights do not fit into one: they are in a second file beside it, wherever it goes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from deployment.tiny_classifier import CONVOLUTIONS, LINEAR, PREPROCESS, images
from models.test_onnx_half import classifier, run
from torch import nn

from compress.deployment.artifact_files import artifact_bytes
from compress.deployment.export import Target, export_files
from compress.deployment.onnx_file import macs_by_weight
from compress.deployment.runtimes import find_runtime
from compress.models import onnx_storage
from compress.models.onnx_export import write_onnx
from compress.models.onnx_half import write_half
from compress.models.onnx_opset import write_at_opset
from compress.models.onnx_storage import copy_onnx, save_onnx, weights_file

MIN_TENSOR = 64


@pytest.fixture
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_storage, "MAX_BYTES", 256)
    monkeypatch.setattr(onnx_storage, "MIN_TENSOR", MIN_TENSOR)


@pytest.mark.usefixtures("_small_files")
def test_weights_that_do_not_fit_are_beside_the_file(tmp_path: Path) -> None:
    whole, path = classifier(tmp_path / "whole.onnx"), tmp_path / "large" / "model.onnx"
    path.parent.mkdir()
    for _ in range(2):  # a second time over the files of the first
        save_onnx(onnx.load(whole), path)
        graph = onnx.load(path, load_external_data=False).graph
        outside = [tensor.name for tensor in graph.initializer if tensor.external_data]
        assert outside == ["weight", "linear"] and weights_file(path).stat().st_size >= (4 * 27 + 20) * 4
        assert np.array_equal(run(path), run(whole))
    write_at_opset(path, 18, 10)
    opsets = onnx.load(path, load_external_data=False)
    assert (opsets.opset_import[0].version, opsets.ir_version) == (18, 10) and weights_file(path).is_file()
    copied = copy_onnx(path, tmp_path / "model.onnx")
    assert np.array_equal(run(copied), run(whole)) and macs_by_weight(copied) == macs_by_weight(whole)
    write_half(copied, path)
    assert 0 < np.abs(run(path) - run(whole)).max() < 5e-3


def test_a_network_that_fits_is_one_file(tmp_path: Path) -> None:
    save_onnx(onnx.load(classifier(tmp_path / "whole.onnx")), tmp_path / "model.onnx")
    assert not weights_file(tmp_path / "model.onnx").exists()


@pytest.mark.usefixtures("_small_files")
def test_an_export_has_both_files(tmp_path: Path) -> None:
    from deployment.tiny_classifier import network

    targets = [Target(name, half) for half in (None, "fp16") for name in ("onnxruntime", "openvino", "tensorrt")]
    built = export_files(network(), tmp_path, targets, PREPROCESS)
    results = []
    for target, path in built.items():
        runtime = find_runtime(target.runtime)
        beside = weights_file(path)
        assert beside.is_file() == (runtime.format != "openvino")
        assert artifact_bytes(path) > sum(file.stat().st_size for file in (beside,) if file.is_file())
        if not runtime.runs_on:
            results.append(runtime.load(path, 1)(images(2).numpy()))
            assert runtime.coverage(path).macs == CONVOLUTIONS + LINEAR
    assert max(np.abs(each - results[0]).max() for each in results) < 5e-3
    assert json.loads((path.parent / "preprocess.json").read_text())["precision"] == "fp16"


def test_the_exporters_operators_are_read_once(tmp_path: Path) -> None:
    from torch.onnx._internal.exporter._registration import onnxscript_apis

    for name in ("first", "second"):
        write_onnx(nn.Conv2d(3, 4, 3), 8, tmp_path / name)
    assert onnxscript_apis.get_torchlib_ops.cache_info().misses == 1
