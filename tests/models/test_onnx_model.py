"""Reading of ONNX files that people have: what is taken, what is changed, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from compress.measurement.compute import count, parameters
from compress.models.factory import create_model
from compress.models.onnx_classes import classifier_for, preprocess_beside
from compress.models.onnx_export import write_onnx
from compress.models.onnx_model import read_onnx
from compress.models.onnx_network import OnnxClassifier, session
from compress.models.own_files import is_quantized
from compress.recipe.models import OwnModel
from compress.utils import system
from compress.utils.errors import CompressError

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((3, 3, 8, 8), np.float32)
WEIGHTS = {
    "conv.weight": RNG.standard_normal((4, 3, 3, 3), np.float32),
    "conv.bias": RNG.standard_normal(4, np.float32),
    "fc.weight": RNG.standard_normal((5, 4), np.float32),
    "fc.bias": RNG.standard_normal(5, np.float32),
    "shape": np.array([1, 4], np.int64),
}
NODES = (
    ("Conv", ["x", "conv.weight", "conv.bias"], ["a"], {"strides": [2, 2]}),
    ("Relu", ["a"], ["b"], {}),
    ("GlobalAveragePool", ["b"], ["c"], {}),
    ("Reshape", ["c", "shape"], ["d"], {}),
    ("Gemm", ["d", "fc.weight", "fc.bias"], ["y"], {"transB": 1}),
)
Change = Callable[[onnx.ModelProto], None]


def tiny(batch: Any = 1, nodes: Any = NODES, output: str = "y", opset: int = 17) -> onnx.ModelProto:
    """A classifier as exporters write it: a fixed batch, with a reshape to it."""
    graph = helper.make_graph(
        [helper.make_node(op, inputs, outputs, **attributes) for op, inputs, outputs, attributes in nodes],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in WEIGHTS.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def expected(proto: onnx.ModelProto, images: np.ndarray[Any, Any] = IMAGES) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


def saved(proto: onnx.ModelProto, tmp_path: Path) -> Path:
    path = tmp_path / "best.onnx"
    onnx.save(proto, path)
    return path


def network(path: Path, **wanted: Any) -> tuple[OnnxClassifier, tuple[str, ...]]:
    file = read_onnx(path, wanted.get("resolution"), 8, wanted.get("classes", 5))
    return OnnxClassifier(file.proto.SerializeToString()), file.notes


def same(made: nn.Module, logits: np.ndarray[Any, Any], tolerance: float = 1e-5) -> bool:
    return bool(np.allclose(made(torch.from_numpy(IMAGES)).numpy(), logits, atol=tolerance))


def test_fixed_batch_becomes_dynamic(tmp_path: Path) -> None:
    made, notes = network(saved(tiny(), tmp_path))
    assert same(made, expected(tiny())) and notes == ("its fixed batch of 1 was made dynamic",)


def test_a_session_has_as_many_threads_as_the_cpu_quota_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "cores", lambda: 3)
    options = session(tiny().SerializeToString()).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)


def test_batch_that_cannot_be_freed_is_refused_with_the_remedy(tmp_path: Path) -> None:
    mixed = (*NODES[:3], ("Reshape", ["c", "shape"], ["e"], {}), ("ReduceMean", ["e"], ["d"], {"axes": [0]}), NODES[4])
    proto = tiny(nodes=mixed)
    with pytest.raises(CompressError, match=r"runs with a fixed batch of 1 only; export it with a dynamic one"):
        read_onnx(saved(proto, tmp_path), None, 8)


def test_layers_are_named_by_their_weights_and_counted(tmp_path: Path) -> None:
    made, _ = network(saved(tiny(), tmp_path))
    assert [type(module) for _, module in made.named_modules() if list(module.parameters(recurse=False))] == [
        nn.Conv2d,
        nn.Linear,
    ]
    assert count(made, 8).layers == {"conv": 3 * 3 * 4 * 27, "fc": 20}
    assert parameters(made) == 4 * 27 + 4 + 20 + 5


def test_softmax_at_the_end_is_removed(tmp_path: Path) -> None:
    made, notes = network(saved(tiny(nodes=(*NODES, ("Softmax", ["y"], ["p"], {"axis": 1})), output="p"), tmp_path))
    assert same(made, expected(tiny())) and "softmax" in notes[-1]


@pytest.mark.parametrize("own", [False, True], ids=["their names", "our names"])
def test_probabilities_behind_a_softmax_become_logits(own: bool, tmp_path: Path) -> None:
    """Whatever follows the softmax, or stands for it: softmax of probabilities would flatten them."""
    tail = (("Softmax", ["y"], ["p"], {"axis": 1}), ("Unsqueeze", ["p", "last"], ["q"], {}))
    proto = tiny("batch" if own else 1, nodes=(*NODES, *tail), output="q")
    proto.graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "last"))
    if own:
        for node in proto.graph.node:
            node.input[:] = ["images" if name == "x" else name for name in node.input]
            node.output[:] = ["logits" if name == "q" else name for name in node.output]
        proto.graph.input[0].name, proto.graph.output[0].name = "images", "logits"
        (shape,) = (tensor for tensor in proto.graph.initializer if tensor.name == "shape")
        shape.CopyFrom(numpy_helper.from_array(np.array([-1, 4], np.int64), "shape"))
    made, notes = network(saved(proto, tmp_path))
    logits = expected(tiny())
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert same(made, log_softmax, 1e-4) and "it gives probabilities; their logarithm is taken" in notes[-1]


def test_tensors_may_have_our_names_already(tmp_path: Path) -> None:
    """A file of another layout whose input is called `images`, and whose output with further sides `logits`."""
    nodes = (("Transpose", ["images"], ["x"], {"perm": [0, 3, 1, 2]}), *NODES[:4])
    nodes += (
        ("Gemm", ["d", "fc.weight", "fc.bias"], ["y"], {"transB": 1}),
        ("Unsqueeze", ["y", "last"], ["logits"], {}),
    )
    proto = tiny(nodes=nodes, output="logits")
    proto.graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "last"))
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 8, 8, 3]))
    made, _ = network(saved(proto, tmp_path))
    assert same(made, expected(tiny()))


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"channels": "BGR"}, "channels must be RGB, not 'BGR'"),
        ({"scale": 1.0}, r"scale must be 0\.0039.*, not 1\.0"),
        ({"output": "probabilities"}, "output must be logits, not 'probabilities'"),
        ({"antialias": False, "interpolation": "bilinear"}, "antialias must be True with bilinear"),
        ({"std": [0, 1, 1]}, "std must be positive"),
    ],
)
def test_statements_beside_a_file_that_are_not_done_are_refused(
    stated: dict[str, Any], words: str, tmp_path: Path
) -> None:
    values = {"resolution": 8, "mean": [0, 0, 0], "std": [1, 1, 1], **stated}
    (tmp_path / "preprocess.json").write_text(json.dumps(values))
    with pytest.raises(CompressError, match=words):
        preprocess_beside(saved(tiny(), tmp_path))


def test_channels_last_are_transposed(tmp_path: Path) -> None:
    proto = tiny(nodes=(("Transpose", ["nhwc"], ["x"], {"perm": [0, 3, 1, 2]}), *NODES))
    proto.graph.input[0].name = "nhwc"
    for dim, side in zip(proto.graph.input[0].type.tensor_type.shape.dim, (1, 8, 8, 3), strict=True):
        dim.dim_value = side
    made, notes = network(saved(proto, tmp_path))
    assert same(made, expected(tiny())) and "transposed" in notes[0]


def test_half_precision_is_widened(tmp_path: Path) -> None:
    proto = tiny()
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    made, notes = network(saved(proto, tmp_path))
    assert same(made, expected(tiny()), 0.02) and "16-bit floats widened to 32 bits" in notes


def test_logits_are_chosen_among_several_outputs(tmp_path: Path) -> None:
    proto = tiny(nodes=(*NODES, ("Softmax", ["y"], ["p"], {"axis": 1})))
    for name in ("p", "c"):
        proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    made, notes = network(saved(proto, tmp_path))
    assert same(made, expected(tiny())) and notes[0] == "of the outputs y, p, c, y was taken"


def test_external_data_come_in(tmp_path: Path) -> None:
    path = tmp_path / "best.onnx"
    onnx.save(tiny("batch"), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    logits = expected(tiny())
    file = read_onnx(path, None, 8, 5)
    made, _ = classifier_for(file, None, "abcde", path)
    assert same(made, logits)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(CompressError, match="external data"):
        read_onnx(path, None, 8)


def test_old_opset_is_converted(tmp_path: Path) -> None:
    made, notes = network(saved(tiny(opset=11), tmp_path))
    assert same(made, expected(tiny())) and notes[0] == "opset 11 converted to 17"


def test_file_in_our_form_stays_as_it_is(tmp_path: Path) -> None:
    first = read_onnx(saved(tiny(), tmp_path), None, 8).proto
    path = tmp_path / "again.onnx"
    path.write_bytes(first.SerializeToString(deterministic=True))
    file = read_onnx(path, None, 8)
    made, notes = classifier_for(file, None, "abcde", path)
    assert not file.changed and made.file == path.read_bytes() and notes == ()


def _uint8(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def _grey(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1


def _second_input(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(helper.make_tensor_value_info("size", TensorProto.FLOAT, [1]))


def _foreign(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].domain = "my.company"


def _features_only(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].name = "b"


def _two_heads(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Gemm", ["d", "fc.weight", "fc.bias"], ["z"], transB=1))
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_uint8, "takes uint8 pixels; export the network without its preprocessing"),
        (_grey, r"takes an input \[1, 1, 8, 8\], not \[batch, 3, height, width\]; export a classifier of RGB"),
        (_second_input, r"takes 2 inputs \(x, size\); export the image classifier alone"),
        (_foreign, r"operators that ONNX Runtime does not have \(my.company.Relu\); export it with ONNX's own only"),
        (_features_only, r"has no output \[batch, classes\] \(b \['batch', 4, 3, 3\]\); export a classifier"),
        (_two_heads, "has several outputs that may be its logits .*; export it with one"),
    ],
)
def test_files_that_are_no_classifier_of_images_are_refused(change: Change, message: str, tmp_path: Path) -> None:
    proto = tiny()
    change(proto)
    with pytest.raises(CompressError, match=message):
        read_onnx(saved(proto, tmp_path), None, 8, 5)


@pytest.mark.parametrize("content", [b"", b"not onnx at all", b"\x08\x08" * 50])
def test_damaged_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "best.onnx").write_bytes(content)
    with pytest.raises(CompressError, match=r"best.onnx is not an ONNX file, or .*; copy or export it again") as error:
        read_onnx(tmp_path / "best.onnx", None, 8)
    assert "\n" not in str(error.value)


def test_another_resolution_than_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="takes images of 8 pixels; remove `resolution` or export it for 64"):
        read_onnx(saved(tiny(), tmp_path), 64, 32)


def test_outputs_follow_the_datas_classes_by_name(tmp_path: Path) -> None:
    proto = tiny()
    helper.set_model_props(proto, {"names": "{0: 'e', 1: 'd', 2: 'c', 3: 'b', 4: 'a'}"})
    path, logits = saved(proto, tmp_path), expected(tiny())
    made, notes = classifier_for(read_onnx(path, None, 8), None, "abcde", path)
    assert same(made, logits[:, ::-1]) and notes[-1] == "its outputs, put into the order of the data's classes"
    made, _ = classifier_for(read_onnx(path, None, 8), "edcba", ["c", "a"], path)
    assert same(made, logits[:, [2, 4]])
    for names, data, message in (
        (None, "vwxyz", "was trained for other classes"),
        ("abc", "abc", "has 5 outputs, and 3 class names are stated"),
    ):
        with pytest.raises(CompressError, match=message):
            classifier_for(read_onnx(path, None, 8), names, data, path)
    with pytest.raises(CompressError, match="has 5 outputs, and the data has 2 classes; set `classes`"):
        classifier_for(read_onnx(saved(tiny(), tmp_path), None, 8), None, "ab", path)


def test_preprocessing_beside_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "best.onnx"
    assert preprocess_beside(path) == (None, None)
    stated = {"resolution": 8, "mean": [0, 0, 0], "std": [1, 1, 1], "resize": 10, "layout": "NCHW", "classes": ["a"]}
    (tmp_path / "preprocess.json").write_text(json.dumps(stated))
    preprocess, classes = preprocess_beside(path)
    assert preprocess and preprocess.resize == 10 and preprocess.std == (1, 1, 1) and classes == ("a",)
    (tmp_path / "preprocess.json").write_text(json.dumps({**stated, "mean": "grey"}))
    with pytest.raises(CompressError, match=r"preprocess.json: mean.*; correct it"):
        preprocess_beside(path)
    (tmp_path / "preprocess.json").write_text("{")
    with pytest.raises(CompressError, match="is damaged"):
        preprocess_beside(path)
    (tmp_path / "preprocess.json").write_text(json.dumps({**stated, "schema_version": 99}))
    with pytest.raises(CompressError, match="has schema_version 99, and this version reads 1; upgrade compress-model"):
        preprocess_beside(path)


SMALL = [("timm", "test_resnet", 64), ("timm", "test_vit", 160)]
LARGE = [
    ("torchvision", "resnet18", 224),
    ("torchvision", "mobilenet_v3_small", 224),
    ("timm", "vit_tiny_patch16_224", 224),
]


def _ours(model: nn.Module, images: torch.Tensor, path: Path) -> None:
    write_onnx(model, images.shape[-1], path)


def _dynamo(model: nn.Module, images: torch.Tensor, path: Path) -> None:
    torch.onnx.export(model, (images[:1],), path, dynamo=True, verbose=False)


def _torchscript(model: nn.Module, images: torch.Tensor, path: Path) -> None:
    torch.onnx.export(model, (images[:1],), path, dynamo=False)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("library", "name", "side", "write"),
    [
        (*SMALL[0], _torchscript),
        (*SMALL[0], _ours),
        *(
            pytest.param(*model, write, marks=pytest.mark.slow)
            for model in (*SMALL, *LARGE)
            for write in (_ours, _dynamo, _torchscript)
        ),
    ],
)
def test_macs_are_those_that_are_counted_in_pytorch(
    library: str, name: str, side: int, write: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = create_model(library, name, 5, side).eval()
    for value in model.parameters():
        nn.init.normal_(value, std=0.1)  # layers with equal values would be stored once
    images = torch.randn(2, 3, side, side)
    write(model, images, tmp_path / "model.onnx")
    made = OnnxClassifier(read_onnx(tmp_path / "model.onnx", None, side).proto.SerializeToString())
    assert count(made, side).macs == count(model, side).macs and not count(made, side).uncounted
    logits = model(images).detach()
    assert torch.allclose(made(images), logits, atol=1e-3 * float(logits.abs().max()))
    assert sum(isinstance(m, nn.Conv2d) for m in made.modules()) == sum(
        isinstance(m, nn.Conv2d) for m in model.modules()
    )


def test_a_file_that_onnx_runtime_does_not_run_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    """Its quantizer writes files of some networks, such as Xception41p, that it then refuses."""
    made, _ = network(saved(tiny(), tmp_path))
    with pytest.raises(
        CompressError, match=r"^the ONNX file cannot be run by ONNX Runtime: .*; leave layers out"
    ) as error:
        made(torch.zeros(2, 4, 8, 8))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rounded", "quantized"), [("weight", False), ("stored weight", False), ("weight and image", True)]
)
def test_a_file_with_rounded_weights_alone_computes_in_float(tmp_path: Path, rounded: str, quantized: bool) -> None:
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [3, 4], np.ones(12))
    integers = helper.make_tensor("integers", TensorProto.INT8, [3, 4], np.ones(12, np.int8))
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [0.5])
    nodes, left, source = [], "image", "integers"
    if rounded == "weight":
        nodes, source = [helper.make_node("QuantizeLinear", ["weight", "scale"], ["rounded"])], "rounded"
    if "image" in rounded:
        nodes += [helper.make_node("QuantizeLinear", ["image", "scale"], ["q"])]
        nodes, left = [*nodes, helper.make_node("DequantizeLinear", ["q", "scale"], ["d"])], "d"
    nodes += [helper.make_node("DequantizeLinear", [source, "scale"], ["dequantized"])]
    nodes += [helper.make_node("MatMul", [left, "dequantized"], ["logits"])]
    image, logits = (helper.make_tensor_value_info(*each) for each in (("image", 1, ["b", 3]), ("logits", 1, ["b", 4])))
    graph = helper.make_graph(nodes, "it", [image], [logits], [weight, integers, scale])
    onnx.save(helper.make_model(graph), tmp_path / "own.onnx")
    assert is_quantized(OwnModel(source="onnx", model=str(tmp_path / "own.onnx"))) is quantized
