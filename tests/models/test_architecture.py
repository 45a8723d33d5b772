from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from compress.data.preprocess import Preprocess
from compress.models.architecture import Architecture, QuantizationRecord
from compress.utils.errors import CompressError

PREPROCESS = {"resolution": 32, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bicubic"}
FLOAT = {
    "library": "timm",
    "model": "resnet18",
    "options": {"zero_init_last": False, "drop_rate": 0.1},
    "classes": ["cat", "dog"],
    "resolution": 32,
    "preprocess": PREPROCESS,
    "sizes": {"conv1": {"out_channels": 24}, "norm": {"normalized_shape": [96]}},
}
QUANTIZED = {
    "method": "torchao",
    "reduce_range": True,
    "keep": ["fc"],
    "aware": False,
    "target": "x86",
    "scales": [[0.0078125, 128], [1.0, 0]],
    "float_shapes": {"conv1.weight": [24, 3, 7, 7], "bn1.num_batches_tracked": []},
}
IN_A_FILE = {**{k: v for k, v in QUANTIZED.items() if k not in ("scales", "float_shapes")}, "file": "model.onnx"}


@pytest.mark.parametrize("values", [FLOAT, {**FLOAT, "quantization": QUANTIZED}, {**FLOAT, "quantization": IN_A_FILE}])
def test_a_stored_architecture_is_written_back_byte_for_byte(values: dict[str, object], tmp_path: Path) -> None:
    text = json.dumps(values, indent=1)
    (tmp_path / "architecture.json").write_text(text)
    Architecture.read(tmp_path).write(tmp_path)
    assert (tmp_path / "architecture.json").read_text() == text


def test_a_record_of_an_older_version_is_read_with_defaults(tmp_path: Path) -> None:
    old = {"reduce_range": False, "scales": [], "float_shapes": {}}
    (tmp_path / "architecture.json").write_text(json.dumps({**FLOAT, "quantization": old, "unknown": 1}))
    record = Architecture.read(tmp_path).quantization
    assert record == QuantizationRecord(method="torchao", reduce_range=False, scales=(), float_shapes={})


def test_an_architecture_does_not_change() -> None:
    architecture = Architecture.model_validate(FLOAT)
    assert architecture.preprocess == Preprocess(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    pruned = architecture.with_sizes({"fc": {"out_features": 2}})
    assert architecture.sizes != pruned.sizes == {"fc": {"out_features": 2}}
    with pytest.raises(ValidationError):
        architecture.model = "resnet34"


def test_the_first_wrong_field_is_named(tmp_path: Path) -> None:
    (tmp_path / "architecture.json").write_text(json.dumps({**FLOAT, "resolution": "large"}))
    with pytest.raises(CompressError, match=r"holds no variant: .*describes no network \(resolution: Input should be"):
        Architecture.read(tmp_path)
