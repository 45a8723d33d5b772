"""Time per layer: profiles of runtimes, layers of two artifacts side by side, and their tables."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from deployment import tiny_classifier
from deployment.test_verbs import Typed, typed  # noqa: F401  (a fixture)
from onnx import TensorProto, helper, numpy_helper

from compress.deployment import executorch_profile
from compress.deployment.bench import LayersRecord, bench_layers
from compress.deployment.export import export
from compress.deployment.layer_pairs import layer_pairs
from compress.deployment.layers import OPERATORS, LayerRow, LayerTimes
from compress.deployment.onnx_layer_names import FileLayer, file_layers, layer_of
from compress.deployment.onnx_runtime_profile import layers_of
from compress.deployment.open_vino_profile import mean_after
from compress.deployment.runtime import Runtime
from compress.deployment.runtimes import find_runtime, missing
from compress.registry import RUNTIMES
from compress.report.layers import changed
from compress.utils.errors import CompressError, UsageError
from compress.utils.messages import join_words

Artifacts = dict[str, dict[str, Path]]


def event(
    index: int, operator: str, start: int, microseconds: int, given: str = "float", **shape: Any
) -> dict[str, Any]:
    about = {
        "node_index": str(index),
        "op_name": operator,
        "input_type_shape": [{given: [1, 3, 8, 8]}, {"float": [16, 3, 3, 3]}],
        "output_type_shape": [{"float": shape.get("shape", [1, 16, 8, 8])}],
    }
    name = f"node {index}_kernel_time"
    return {"cat": "Node", "name": name, "ts": start, "dur": microseconds, "args": about}


def test_a_profile_of_onnx_runtime_is_read() -> None:
    profile = [
        {"cat": "Session", "name": "model_run", "ts": 0, "dur": 90, "args": {}},
        {"cat": "Node", "name": "node 7_fence_before", "ts": 1, "dur": 1, "args": {"op_name": "Conv"}},
        event(7, "QuantizeLinear", 1, 10),
        event(3, "QLinearConv", 20, 30, "uint8"),
        event(7, "QuantizeLinear", 100, 12),
        event(3, "QLinearConv", 120, 34, "uint8"),
        event(9, "MatMul", 160, 5, "float16", shape=[1, 5]),
    ]
    assert layers_of(profile) == [
        LayerTimes("node 7", "QuantizeLinear", "int8", (1, 16, 8, 8), 0.011),
        LayerTimes("node 3", "QLinearConv", "int8", (1, 16, 8, 8), 0.032),
        LayerTimes("node 9", "MatMul", "fp16", (1, 5), 0.005),
    ]
    assert [layer.ms for layer in layers_of(profile, warmup=1)] == [0.012, 0.034]


def test_a_trace_of_executorch_is_read() -> None:
    """Batches of two images; calls of operators and of XNNPACK hold what they run."""
    trace = [
        ("native_call_quantize_per_tensor.out", [9.0, 9.0, 0.5, 0.5]),
        ("OPERATOR_CALL", [9.0, 9.0, 0.6, 0.6]),
        ("Convolution (NHWC, QC8) IGEMM #1", [9.0, 9.0, 0.002, 0.0]),
        ("Fully Connected (NC, QS8, QC8W) GEMM #1", [9.0, 9.0, 0.001, 0.003]),
        ("Convolution (NHWC, F32) IGEMM #1", [9.0, 9.0, 0.25, 0.75]),
        ("Invalid Unary Op #2", [9.0, 9.0, 0.0, 0.0]),
        ("DELEGATE_CALL", [9.0, 9.0, 1.0, 1.0]),
        ("Method::execute", [9.0, 9.0, 3.0, 3.0]),
    ]
    found = list(executorch_profile.layers_of(trace, warmup=2, batch=2))
    assert [(layer.operator, layer.precision, round(layer.ms, 6)) for layer in found] == [
        ("quantize_per_tensor", "", 1.0),
        ("Convolution", "int8", 0.002),
        ("Fully Connected", "int8", 0.004),
        ("Convolution", "fp32", 1.0),
        ("Invalid Unary Op #2", "", 0.0),
    ]
    assert [OPERATORS.get(layer.operator) for layer in found[:3]] == ["conversion", "convolution", "linear"]


def test_layers_of_executorch(tmp_path: Path) -> None:
    """Two convolutions, and with the linear a third multiplying layer."""
    if absent := missing("executorch"):
        pytest.skip(f"needs {', '.join(absent)}")
    path = export(tiny_classifier.network(), tmp_path, ["executorch"], tiny_classifier.PREPROCESS)["executorch"]
    record = bench_layers([path], None, 2, 5, 1)
    rows = [row for row in record["profile"]["layers"] if row["kind"] in ("convolution", "linear")]
    assert len(rows) == 3 and {row["precision"] for row in rows} == {"fp32"}
    (total,) = record["profile"]["totals"]
    assert total["statistic"] == "mean" and 0 < total["layers_ms"] < 20 * total["run_ms"]
    path.write_bytes(b"damaged")
    with pytest.raises(CompressError, match="ExecuTorch cannot read"):
        find_runtime("executorch").profiler(path)


def test_the_mean_after_the_warmup_is_found_from_two_means() -> None:
    """Runs of 9, 5, 1 and 3 ms: a mean of 7 for the first two, and of 4.5 for all."""
    assert mean_after(4.5, 4, 7.0, 2) == 2.0
    assert mean_after(4.5, 4, 0.0, 0) == 4.5
    assert mean_after(0.001, 4, 0.003, 2) == 0.0  # means are cut to microseconds


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def record(request: pytest.FixtureRequest, artifacts: Artifacts) -> LayersRecord:
    """The float network and its quantized version."""
    return bench_layers([artifacts[variant][request.param] for variant in ("float", "int8")], None, 2, 5, 1)


def test_layers_of_a_network_and_its_quantized_version(record: LayersRecord) -> None:
    """Two convolutions and a linear; the runtimes compute all of the float network in float."""
    layers, totals = record["profile"]["layers"], record["profile"]["totals"]
    for number, total in enumerate(totals, 1):
        own = [row for row in layers if row["number"] == number]
        assert [row["kind"] for row in own if row["kind"] in ("convolution", "linear")] == [
            "convolution",
            "convolution",
            "linear",
        ]
        assert sum(row["share"] for row in own) == pytest.approx(1)
        assert total["layers_ms"] == pytest.approx(sum(row["ms"] for row in own)) and total["layers_ms"] > 0
        assert 0.02 < total["layers_ms"] / total["run_ms"] < 20  # on a busy machine a mean can be far from a median
        convolution = next(row for row in own if row["kind"] == "convolution")
        assert sorted(convolution["shape"]) == [2, 16, 16, 16]
    assert {row["precision"] for row in layers if row["number"] == 1 and row["kind"] != "other"} == {"fp32"}
    assert totals[0]["integer_share"] == 0 < totals[1]["integer_share"]
    assert [pair["precisions"] for pair in record["pairs"]][1] == ["fp32", "int8"]
    assert [pair["kind"] for pair in record["pairs"]] == ["convolution", "convolution", "linear"]
    assert all(pair["ratio"] == pair["ms"][0] / pair["ms"][1] for pair in record["pairs"] if pair["ms"][1])


def test_runs_before_the_start_are_left_out(artifacts: Artifacts) -> None:
    """Of other batches, so that the shapes tell which runs are counted."""
    profiler = find_runtime("onnxruntime").profiler(artifacts["float"]["onnxruntime"], 1)
    for batch in (8, 8, 2):
        if batch == 2:
            profiler.start()
        profiler.run(np.zeros((batch, 3, 16, 16), np.float32))
    layers = profiler.finish()
    assert len(layers) > 3 and {layer.shape[0] for layer in layers} == {2}


def row(kind: str, *shape: int, ms: float = 1.0, name: str = "", **known: Any) -> LayerRow:
    about = {"number": 1, "operator": "", "precision": "fp32", "share": 0.0, "source": None, "weights": None}
    return {**about, "name": name, "kind": kind, "shape": list(shape), "ms": ms, **known}  # type: ignore[return-value]


def test_a_quantized_network_is_paired_whatever_the_order_of_its_branches_is() -> None:
    """The branches of a residual block have the same output; only their weights differ."""
    first = [
        row("convolution", 1, 64, 8, 8, name="a", weights=9 * 64 * 64),
        row("convolution", 1, 64, 8, 8, name="b", weights=64 * 64),
        row("linear", 1, 5, name="c", weights=320),
    ]
    second = [
        row("convolution", 1, 8, 8, 64, name="q", weights=64 * 64, ms=0.25),
        row("convolution", 1, 8, 8, 64, name="p", weights=9 * 64 * 64, ms=0.5),
        row("linear", 1, 5, name="r", weights=320, ms=0.0),
    ]
    pairs = layer_pairs(first, second)
    assert [(pair["names"], pair["ratio"]) for pair in pairs] == [
        (["a", "p"], 2.0),
        (["b", "q"], 4.0),
        (["c", "r"], None),
    ]


def test_a_pruned_network_is_paired_by_the_names_in_the_file() -> None:
    """It has fewer channels in each layer, and here its branches run in the other order."""
    first = [row("convolution", 1, 64, 8, 8, source=name, weights=10) for name in ("conv1", "shortcut", "conv2")]
    second = [row("convolution", 1, 40, 8, 8, source=name, weights=7) for name in ("shortcut", "conv1", "conv2")]
    assert [pair["names"] for pair in layer_pairs(first, second)] == [
        [name] * 2 for name in ("conv1", "shortcut", "conv2")
    ]


def test_networks_of_the_same_kinds_are_paired_by_order() -> None:
    first = [row("convolution", 1, 64, 8, 8, name="a"), row("other", 1), row("convolution", 1, 64, 4, 4, name="b")]
    second = [row("convolution", 1, 40, 8, 8, ms=0.5), row("conversion", 1), row("convolution", 1, 48, 4, 4, ms=2.0)]
    assert [(pair["names"][0], pair["ratio"]) for pair in layer_pairs(first, second)] == [("a", 2.0), ("b", 0.5)]


def test_other_networks_are_paired_by_kind_and_shape() -> None:
    """The layer that only one has is left out."""
    first = [row("convolution", 1, 64, 8, 8, name="a"), row("convolution", 1, 32, 8, 8), row("linear", 1, 5, name="c")]
    second = [row("convolution", 1, 8, 8, 64, name="x"), row("linear", 1, 5, name="z")]
    assert [pair["names"] for pair in layer_pairs(first, second)] == [["a", "x"], ["c", "z"]]


def test_layers_of_onnx_runtime_are_found_in_the_file(artifacts: Artifacts, record: LayersRecord) -> None:
    """The weights of the tiny classifier: 16 x 3 x 3 x 3, 16 x 16 x 3 x 3 and 16 x 5."""
    for variant in ("float", "int8"):
        layers = file_layers(artifacts[variant]["onnxruntime"])
        assert sorted({layer.weights for layer in layers.values()}) == [80, 432, 2304]
    by_number = [[each for each in record["profile"]["layers"] if each["number"] == number] for number in (1, 2)]
    for own in by_number:
        assert [each["weights"] for each in own if each["kind"] in ("convolution", "linear")] == [432, 2304, 80]


def test_names_that_onnx_runtime_gives_to_fused_layers_are_traced(tmp_path: Path) -> None:
    """A block whose sum is named after the later of its branches."""
    nodes = [
        helper.make_node("Conv", ["images", "w1"], ["a"], name="conv1", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="conv2", pads=[1] * 4),
        helper.make_node("Add", ["b", "c"], ["sum"], name="add"),
        helper.make_node("GlobalAveragePool", ["sum"], ["pool"], name="pool"),
    ]
    weights = [
        numpy_helper.from_array(np.zeros((3, 3, 3, 3), np.float32), "w1"),
        numpy_helper.from_array(np.zeros((3, 3, 1, 1), np.float32), "w2"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("images", "pool")]
    onnx.save(
        helper.make_model(helper.make_graph(nodes, "block", ends[:1], ends[1:], weights)), tmp_path / "model.onnx"
    )
    layers = file_layers(tmp_path / "model.onnx")
    traced = {name: layer_of(name, layers) for name in ("b_nchwc", "conv2_token_12", "sum_nchwc", "pool", "c_nchwc")}
    first, second = FileLayer("conv1", 81), FileLayer("conv2", 9)
    assert traced == {
        "b_nchwc": first,
        "conv2_token_12": second,
        "sum_nchwc": second,
        "pool": None,
        "c_nchwc": second,
    }


def test_a_damaged_file_has_no_layers(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(CompressError, match=f"^cannot read the ONNX file {tmp_path}/model.onnx: "):
        file_layers(tmp_path / "model.onnx")


def test_what_quantizing_changed_is_said() -> None:
    def pair(name: str, precision: str, ratio: float) -> dict[str, Any]:
        return {"names": [name, name], "precisions": ["fp32", precision], "ratio": ratio}

    pairs = [pair("a", "int8", 2.0), pair("b", "int8", 0.5), pair("c", "fp32", 1.0)]
    assert changed(2, pairs) == "Quantized in 2: 2 of 3 convolutions and linears, 1 faster, not faster: b; in float: c."
    assert changed(2, pairs[:1]) == "Quantized in 2: 1 of 1 convolutions and linears, 1 faster."
    assert changed(3, pairs[2:]) == "3 computes no convolution or linear in int8 that 1 does not."


def test_runtimes_that_do_not_tell_say_so() -> None:
    with pytest.raises(CompressError, match="the runtime onnxruntime-cuda does not tell the time of layers"):
        find_runtime("onnxruntime-cuda").profiler(Path("model.onnx"))
    with pytest.raises(CompressError) as told:
        find_runtime("ncnn").profiler(Path("model.ncnn.param"))
    able = [name for name in RUNTIMES if type(find_runtime(name)).profiler is not Runtime.profiler and "-" not in name]
    assert str(told.value) == f"the runtime ncnn does not tell the time of layers; use {join_words(able, 'or')}"


def test_the_verb_prints_and_writes_layers(typed: Typed, artifacts: Artifacts, tmp_path: Path) -> None:  # noqa: F811
    paths = [artifacts[variant]["onnxruntime"] for variant in ("float", "int8")]
    file = tmp_path / "layers.csv"
    status, out, _ = typed("bench", *paths, "--layers", "--rounds", "5", "--threads", "1", "--csv", file)
    assert status == 0
    for words in (
        "2 against 1, by layer",
        "Quantized in 2: ",
        "fp32 → int8",
        "Other layers, the 8 slowest of each",
        "speedup",
    ):
        assert words in out
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert {row["artifact"] for row in rows} == set(map(str, paths)) and {row["batch"] for row in rows} == {"1"}
    assert all(float(row["ms"]) >= 0 and row["operator"] and row["host"] == "" for row in rows)
    status, out, _ = typed("bench", paths[0], "--layers", "--rounds", "5")
    assert status == 0 and "against" not in out and "share" in out


def test_what_one_machine_measured_is_kept_where_the_next_fails(
    typed: Typed,  # noqa: F811
    record: LayersRecord,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the next one takes the call for wrong, and where the CSV file cannot be written."""

    def measure(*arguments: Any) -> LayersRecord:
        if str(arguments[-1]) == "ssh://a":
            return record
        raise UsageError("ssh://b: no such runtime")

    monkeypatch.setattr("compress.deployment.bench.bench_layers", measure)
    call = ["bench", "a.onnx", "--layers", "--on", "ssh://a", "--on", "ssh://b", "--csv"]
    status, out, err = typed(*call, tmp_path / "layers.csv")
    assert status == 1 and err == "error: ssh://b: no such runtime\n" and "2 against 1, by layer" in out
    with (tmp_path / "layers.csv").open(newline="") as lines:
        assert len(list(csv.DictReader(lines))) == len(record["profile"]["layers"])
    status, out, err = typed(*call, "/dev/full")
    why = "--csv /dev/full cannot be written: No space left on device; name a file elsewhere"
    assert (
        status == 1
        and err.splitlines() == ["error: ssh://b: no such runtime", f"error: {why}"]
        and "2 against 1, by layer" in out
    )
    assert typed.error("bench", "a.onnx", "--layers", "--on", "ssh://b", "--on", "ssh://a").startswith("error: ssh://b")


def test_options_of_layers_exclude_others(typed: Typed, artifacts: Artifacts, tmp_path: Path) -> None:  # noqa: F811
    path = artifacts["float"]["onnxruntime"]
    assert "--csv writes layers; add --layers" in typed.error("bench", path, "--csv", tmp_path / "a.csv")
    assert "--layers does not use --driver; remove it" in typed.error("bench", path, "--layers", "--driver", "mlperf")
    assert "absent does not exist; create it, or name a file elsewhere with --csv" in typed.error(
        "bench", path, "--layers", "--csv", tmp_path / "absent" / "a.csv"
    )
    assert f"--csv {tmp_path} is a folder" in typed.error("bench", path, "--layers", "--csv", tmp_path)
