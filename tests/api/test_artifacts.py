"""Own networks exported and evaluated from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from api.test_api import PREPROCESS, SIDE, network
from PIL import Image

import compress
from compress.utils.errors import CompressError, UsageError

CLASSES = ("dark", "bright")


def brightness(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = rng.integers(0, 60, (count, 3, SIDE, SIDE)) + 150 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


def trained() -> torch.nn.Module:
    """A network with a head that tells the classes apart."""
    model = network()
    images, labels = brightness(32)
    with torch.no_grad():
        features = model.forward_head(model.forward_features(PREPROCESS(torch.from_numpy(images))), pre_logits=True)
        middle = features.mean(0)
        direction = features[labels == 1].mean(0) - middle
        model.fc.weight.copy_(torch.stack([-direction, direction]))
        model.fc.bias.copy_(torch.stack([direction @ middle, -direction @ middle]))
    return model


@pytest.mark.slow
def test_float_and_quantized_networks_are_exported_and_evaluated_alike(tmp_path: Path) -> None:
    model, data = trained(), brightness(24, seed=1)
    pixels = PREPROCESS(torch.from_numpy(brightness(32)[0]))
    variants = {
        "float": model,
        "graph": compress.quantize(model, [pixels], observer="minmax"),
        "file": compress.quantize(model, [pixels], method="onnxruntime"),
    }
    for name, variant in variants.items():
        own = compress.evaluate(variant, data, preprocess=PREPROCESS, classes=CLASSES)
        assert (own.top1, own.correct, own.n, own.ci95[1]) == (1.0, 24, 24, pytest.approx(1)), name
        assert own.per_class == {"dark": 1.0, "bright": 1.0} and own.record["runtime"] == "pytorch"
        files = compress.export(
            variant, tmp_path / name, preprocess=PREPROCESS, classes=CLASSES, runtimes=["onnxruntime", "openvino"]
        )
        assert set(files) == {"onnxruntime", "openvino"}
        for runtime, file in files.items():
            assert (file.parent / "SHA256SUMS").is_file()
            theirs = compress.evaluate(file, data, runtime=runtime)
            assert theirs.top1 == 1.0 and theirs.record["runtime"] == runtime
            artifact = compress.load_artifact(file, runtime)
            assert artifact.classes == CLASSES and compress.evaluate(artifact, data).n == 24
    with pytest.raises(
        UsageError, match="does not take networks quantized by torchao; use a recipe with `method: auto`"
    ):
        compress.export(variants["graph"], tmp_path / "no", preprocess=PREPROCESS, classes=CLASSES, runtimes=["ncnn"])


def test_what_is_in_the_place_of_an_artifact_is_kept(tmp_path: Path) -> None:
    """Only artifacts are replaced, and only by complete ones."""

    def export(folder: Path, **more: Any) -> dict[str, Path]:
        return compress.export(network(), folder, preprocess=PREPROCESS, classes=CLASSES, **more)

    notes = tmp_path / "onnx" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    with pytest.raises(UsageError, match=r"onnx is no artifact: it has no preprocess\.json; move it, or name another"):
        export(tmp_path, runtimes=["openvino", "onnxruntime"])
    assert notes.read_text() == "mine" and names_in(tmp_path) == ["onnx"]
    with pytest.raises(UsageError, match=r"notes\.txt is a file; name another folder"):
        export(notes / "models")
    notes.unlink()
    first = export(tmp_path, runtimes=["onnxruntime"])["onnxruntime"]
    before = first.read_bytes()
    with pytest.raises(CompressError), mock.patch("compress.deployment.onnx_runtime.OnnxRuntime.build", _no_room):
        export(tmp_path, runtimes=["onnxruntime"])
    assert first.read_bytes() == before and names_in(tmp_path) == ["onnx"]
    (tmp_path / "onnx" / "old.txt").touch()
    again = export(tmp_path, runtimes=["onnxruntime"])["onnxruntime"]
    assert again == first and compress.load_artifact(again).classes == CLASSES
    assert names_in(tmp_path) == ["onnx"] and not (tmp_path / "onnx" / "old.txt").exists()


def names_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


def _no_room(*_: object) -> Path:
    raise CompressError("no space left on device")


def test_folders_are_evaluated_on_the_same_pixels_as_arrays(tmp_path: Path) -> None:
    images, labels = brightness(12, seed=2)
    images[:3] = 255 - images[:3]  # three are wrong
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / CLASSES[label]
        folder.mkdir(exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{number}.png")
    model = trained()
    arrays, files = (
        compress.evaluate(model, data, preprocess=PREPROCESS, classes=CLASSES) for data in ((images, labels), tmp_path)
    )
    assert arrays.correct == files.correct == 9 and arrays.per_class == files.per_class


@pytest.mark.slow
@pytest.mark.parametrize("resize", [None, 40])
def test_pictures_of_any_size_get_the_stated_pixels(tmp_path: Path, resize: int | None) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (4, 3, 60, 80), np.uint8)
    preprocess = compress.Preprocess(SIDE, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3), "bilinear", resize)
    model = trained()
    files = compress.export(model, tmp_path, preprocess=preprocess, classes=CLASSES, runtimes=["onnxruntime"])
    logits = compress.load_artifact(files["onnxruntime"]).logits(pictures.transpose(0, 2, 3, 1))
    with torch.no_grad():
        expected = model(preprocess(torch.from_numpy(pictures))).numpy()
    assert np.abs(logits - expected).max() < 0.05 * np.abs(expected).max()  # a level of rounding
    labels = expected.argmax(1)
    own = compress.evaluate(model, (pictures, labels), preprocess=preprocess, classes=CLASSES)
    assert own.top1 == compress.evaluate(files["onnxruntime"], (pictures, labels)).top1 == 1.0


def test_a_network_keeps_the_mode_of_its_modules() -> None:
    model = trained().train()
    model.bn1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    compress.evaluate(model, brightness(4), preprocess=PREPROCESS, classes=CLASSES)
    assert model.training and model.layer1.training and not model.bn1.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_arguments_that_do_not_fit_are_named(tmp_path: Path) -> None:
    data, both = brightness(4), {"preprocess": PREPROCESS, "classes": CLASSES}
    with pytest.raises(UsageError, match=r"outputs \[2, 2\], but there are 3 classes; correct `classes`"):
        compress.export(network(), tmp_path, preprocess=PREPROCESS, classes=["a", "b", "c"])
    with pytest.raises(UsageError, match="class names must be unique"):
        compress.export(network(), tmp_path, preprocess=PREPROCESS, classes=["a", "a"])
    with pytest.raises(UsageError, match="pass `preprocess` and `classes`"):
        compress.evaluate(network(), data)
    with pytest.raises(UsageError, match="an artifact states its own preprocess and classes; remove them"):
        compress.evaluate(tmp_path, data, preprocess=PREPROCESS, classes=CLASSES)
    with pytest.raises(UsageError, match="label 2 is not one of 2 classes, which count from 0"):
        compress.evaluate(network(), (data[0], data[1] + 1), preprocess=PREPROCESS, classes=CLASSES)
    for labels in (None, data[1] - 1):
        with pytest.raises(UsageError, match="needs the label of every image"):
            compress.evaluate(network(), (data[0], labels), preprocess=PREPROCESS, classes=CLASSES)
    with pytest.raises(UsageError, match=rf"Linear does not run on \[2, 3, {SIDE}, {SIDE}\]: "):
        compress.evaluate(torch.nn.Linear(5, 2), data, preprocess=PREPROCESS, classes=CLASSES)
    with pytest.raises(UsageError, match="unknown runtime"):
        compress.export(network(), tmp_path, **both, runtimes=["onnxrutime"])
