"""`bench --runtime auto` takes of a variant's folder what runs, here and on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.deployment import bench_measure
from compress.deployment.bench_measure import AUTO, BenchSettings, grouped
from compress.deployment.preprocess_file import PREPROCESS
from compress.deployment.remote import measure
from compress.utils.errors import UsageError
from compress.utils.hosts import Host, parse_host

FORMATS = {"onnx": "model.onnx", "openvino": "model.xml", "coreml": "model.mlpackage"}
EVERY = BenchSettings(AUTO, (1,))


@pytest.fixture
def variant(tmp_path: Path) -> Path:
    for folder, name in FORMATS.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
        (tmp_path / folder / PREPROCESS).write_text("{}")
    return tmp_path


def test_formats_without_a_runtime_are_left_out(variant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files,) = grouped([variant], EVERY)
    assert {file.name for file in files} == set(FORMATS.values())
    monkeypatch.setattr(bench_measure, "_is_usable", lambda name: name == "onnxruntime")
    assert bench_measure._all_readers(files) == [(variant / "onnx" / "model.onnx", "onnxruntime")]


def test_without_any_runtime_each_file_is_named(variant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files,) = grouped([variant], EVERY)
    monkeypatch.setattr(bench_measure, "_is_usable", lambda name: False)
    assert bench_measure._all_readers(files) == [(file, None) for file in files]


def test_the_formats_of_a_variant_stay_one_group_elsewhere(variant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def answer(_: Host, request: dict[str, Any], *__: object) -> dict[str, Any]:
        asked.update(request)
        raise UsageError("far enough")

    monkeypatch.setattr(measure, "_answer", answer)
    with pytest.raises(UsageError, match="far enough"):
        measure.measure_on(parse_host("ssh://board"), [variant, variant / "onnx"], EVERY)
    assert [[Path(file).name for file in group] for group in asked["groups"]] == [
        ["model.onnx", "model.xml"],  # Core ML's is not sent
        ["model.onnx"],
    ]
    with pytest.raises(UsageError, match="files for coreml are only written"):
        measure.measure_on(parse_host("ssh://board"), [variant / "coreml"], EVERY)
