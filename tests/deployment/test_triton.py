from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import openvino
import pytest
from deployment.pbtxt import parse
from deployment.tiny_classifier import PREPROCESS
from support import Job

from compress.deployment.triton import triton_config, write_triton
from compress.stages.export import ExportStage
from compress.utils.errors import CompressError, UsageError

Artifacts = dict[str, dict[str, Path]]


def expected(name: str, backend: str, side: int, classes: int) -> dict[str, Any]:
    return {
        "name": name,
        "backend": backend,
        "max_batch_size": 32,
        "input": [{"name": "images", "data_type": "TYPE_FP32", "dims": [3, side, side]}],
        "output": [
            {"name": "logits", "data_type": "TYPE_FP32", "dims": [classes], "label_filename": "labels.txt"},
        ],
        "dynamic_batching": {"preferred_batch_size": [8, 16, 32]},
        "response_cache": {"enable": True},
        "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
    }


@pytest.mark.parametrize("variant", ["float", "int8"])
def test_an_onnx_file_becomes_a_model(artifacts: Artifacts, variant: str, tmp_path: Path) -> None:
    folder = tmp_path / "triton" / "small-1"
    assert write_triton(artifacts[variant], folder, PREPROCESS) == "onnxruntime"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == ["1/model.onnx", "config.pbtxt", "labels.txt", "preprocess.json"]
    assert (folder / "labels.txt").read_text(encoding="utf-8").splitlines() == PREPROCESS["classes"]
    stated = json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))
    assert any(line.startswith("ONNX Runtime 1.17 or newer") for line in stated.pop("needs"))
    assert stated == PREPROCESS | ({"precision": "fp32"} if variant == "float" else {})
    config = parse((folder / "config.pbtxt").read_text(encoding="utf-8"))
    assert config == expected("small-1", "onnxruntime", 16, 5)
    graph = onnx.load(folder / "1" / "model.onnx").graph
    for side, values in (("input", graph.input), ("output", graph.output)):
        (told,), (value,) = config[side], values
        first, *others = value.type.tensor_type.shape.dim
        assert told["name"] == value.name and told["dims"] == [other.dim_value for other in others]
        assert first.dim_param and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_openvino_is_taken_where_there_is_no_onnx_file(artifacts: Artifacts, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    assert write_triton({"openvino": artifacts["int8"]["openvino"]}, folder, PREPROCESS) == "openvino"
    assert sorted(path.name for path in (folder / "1").iterdir()) == ["model.bin", "model.xml"]
    config = parse((folder / "config.pbtxt").read_text())
    assert config == expected("small", "openvino", 16, 5)
    model = openvino.Core().read_model(folder / "1" / "model.xml")
    assert config["input"][0]["name"] in model.inputs[0].get_names()
    assert config["output"][0]["name"] in model.outputs[0].get_names()
    assert model.inputs[0].partial_shape[0].is_dynamic


def test_other_runtimes_and_class_names_of_several_lines_are_refused(artifacts: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs onnxruntime or openvino among the runtimes"):
        write_triton({"ncnn": tmp_path / "model.param"}, tmp_path / "a", PREPROCESS)
    for name, shown in (("a\nb", "a.nb"), ("a\n", "a.n"), ("a\x85", "a.x85"), ("", "")):
        with pytest.raises(CompressError, match=rf"the class name '{shown}' does not fit on a line"):
            write_triton(artifacts["float"], tmp_path / "a", {**PREPROCESS, "classes": [name]})
    assert list(tmp_path.iterdir()) == []


def test_the_published_schema_accepts_it() -> None:
    """`tritonclient[grpc]` carries Triton's ModelConfig."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", exc_type=ImportError)
    from google.protobuf import text_format

    config = text_format.Parse(triton_config("int8", "onnxruntime", 224, 1000), schema.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("int8", "onnxruntime", 32)
    (images,), (logits,) = config.input, config.output
    assert (images.name, images.data_type, list(images.dims)) == ("images", schema.TYPE_FP32, [3, 224, 224])
    assert (logits.name, logits.data_type, list(logits.dims)) == ("logits", schema.TYPE_FP32, [1000])
    assert logits.label_filename == "labels.txt" and config.response_cache.enable
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 16, 32]
    assert config.instance_group[0].kind == schema.ModelInstanceGroup.KIND_CPU


@pytest.mark.parametrize(
    "text", ['name "a"', "name: {", 'name: "a', 'name: "a" name: "b"', "dims: [ 1 2 ]", "}", "a: 1 : 2", "1: 2"]
)
def test_the_reader_is_strict(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        parse(text)


def test_a_run_leaves_models_beside_its_artifacts(job: Job) -> None:
    run = next((job.runs / "tiny").iterdir())
    assert sorted(path.name for path in (run / "triton").iterdir()) == ["distilled", "int8"]
    served = {"distilled": ("onnxruntime", "onnx/model.onnx"), "int8": ("openvino", "openvino/model.xml")}
    for folder in (run / "triton").iterdir():  # of INT8, the file by the variant's own method
        backend, file = served[folder.name]
        assert parse((folder / "config.pbtxt").read_text()) == expected(folder.name, backend, 32, 3)
        same = run / "artifacts" / folder.name / file
        assert (folder / "1" / same.name).read_bytes() == same.read_bytes()
    for variant in job.results()["variants"]:
        assert all(row["path"].startswith("artifacts/") for row in variant["artifacts"])


def test_it_is_off_by_default() -> None:
    assert not ExportStage.model_validate({"id": "files", "kind": "export", "from": ["a"]}).triton
