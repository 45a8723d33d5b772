"""INT8 of runtimes that have a method of their own: integer throughout, close to the float network, and small."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from deployment.tiny_classifier import CONVOLUTIONS, LINEAR, PREPROCESS, images, network
from torch import nn

from compress.deployment.artifact_files import artifact_bytes
from compress.deployment.coverage import Coverage
from compress.deployment.export import export
from compress.deployment.runtimes import find_runtime, missing
from compress.quantization.config import QuantizationConfig
from compress.quantization.ptq import quantize
from compress.registry import RUNTIMES, quantizer
from compress.utils.errors import CompressError, UsageError

OWN = {name: methods[0] for name in RUNTIMES if (methods := find_runtime(name).quantizers) and len(methods) == 1}
OWN = {name: method for name, method in OWN.items() if quantizer(method).restore is None}
OBSERVED = [(name, observer) for name, method in OWN.items() for observer in quantizer(method).observers]
KEEPING = [name for name, method in OWN.items() if quantizer(method).keeps]
Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def made(name: str, model: nn.Module, folder: str = "int8", **settings: object) -> Path:
        """Write an INT8 artifact as an export stage does; the test is skipped where the runtime is not installed."""
        if absent := [*missing(name), *quantizer(OWN[name]).missing()]:
            pytest.skip(f"{name} needs {', '.join(absent)}: {find_runtime(name).install}")
        method = quantizer(OWN[name])
        config = QuantizationConfig(**{"observer": method.observers[0], "reduce_range": False, **settings})  # type: ignore[arg-type]
        batches = [images(20), images(12, seed=3)]
        if method.calibrate:
            graph = quantize(model, batches, images(2), config, OWN[name]).network
            return export(graph, tmp_path / folder, [name], PREPROCESS)[name]
        return export(model, tmp_path / folder, [name], PREPROCESS, calibration=(batches, config))[name]

    return made


def outputs(name: str, path: Path, count: int = 16) -> np.ndarray:
    return find_runtime(name).load(path, threads=1)(images(count, seed=9).numpy())


def test_the_runtimes_of_phones_have_a_method_of_their_own() -> None:
    assert set(OWN) == {"ncnn", "executorch", "litert"}


@pytest.mark.parametrize("name", OWN)
def test_every_layer_runs_in_integer_and_the_file_is_small(name: str, build: Build, tmp_path: Path) -> None:
    model = wide()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    path = build(name, model)
    whole = export(model, tmp_path / "float", [name], PREPROCESS)[name]
    runtime = find_runtime(name)
    float_coverage = runtime.coverage(whole)
    assert (float_coverage.integer_convs, float_coverage.integer_macs) == (0, 0)
    assert runtime.coverage(path) == Coverage(3, 3, float_coverage.macs, float_coverage.macs)
    assert artifact_bytes(path) < 0.35 * artifact_bytes(whole)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    with torch.no_grad():
        expected = model(images(16, seed=9)).numpy()
    assert np.abs(outputs(name, whole) - expected).max() < 1e-3
    assert 0 < np.abs(outputs(name, path) - expected).max() < 0.2 * np.abs(expected).max()


def wide() -> nn.Module:
    """A network whose weights outweigh the graph, with a depthwise convolution and one of stride 1."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1, groups=64),
        nn.ReLU(),
        nn.Conv2d(64, 128, 3, padding=1),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 5),
    ).eval()


@pytest.mark.parametrize(("name", "observer"), OBSERVED)
def test_every_observer_gives_a_file_close_to_the_float_network(name: str, observer: str, build: Build) -> None:
    model = network()
    path = build(name, model, observer=observer)
    with torch.no_grad():
        expected = model(images(16, seed=9)).numpy()
    assert find_runtime(name).coverage(path).integer_macs == CONVOLUTIONS + LINEAR
    assert np.abs(outputs(name, path) - expected).max() < 0.2 * np.abs(expected).max()


@pytest.mark.parametrize("name", KEEPING)
def test_layers_that_are_kept_stay_in_float(name: str, build: Build) -> None:
    coverage = find_runtime(name).coverage(build(name, network(), keep=("3",)))
    assert coverage.integer_convs == 1 and coverage.convs == 2
    assert coverage.integer_macs == 16 * 16 * 16 * 27 + LINEAR


@pytest.mark.parametrize("name", [name for name in OWN if quantizer(OWN[name]).calibrate is None])
def test_a_method_for_files_quantizes_no_network(name: str) -> None:
    with pytest.raises((UsageError, CompressError), match=f"`method: {OWN[name]}` (quantizes the file|needs )"):
        quantize(network(), [images(4)], images(2), method=OWN[name])


def test_integer_images_and_logits_are_stated_and_converted(build: Build) -> None:
    model = network()
    path = build("litert", model, integer_io=True)
    (step,) = json.loads((path.parent / "preprocess.json").read_text())["steps"]
    assert re.search(r"takes int8: round\(x / [\d.e-]+\) \+ -?\d+, clipped", step)
    with torch.no_grad():
        expected = model(images(16, seed=9)).numpy()
    logits = outputs("litert", path)
    assert logits.dtype == np.float32 and np.abs(logits - expected).max() < 0.2 * np.abs(expected).max()


def test_a_kept_layer_that_the_file_does_not_have_is_one_line(build: Build) -> None:
    with pytest.raises(CompressError, match=r"for LiteRT: no convolution or linear .* is the layer nowhere, which .*$"):
        build("litert", network(), keep=("3", "nowhere"))
