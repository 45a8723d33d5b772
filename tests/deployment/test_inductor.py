"""inductor: packages of parts, and packages that were compiled elsewhere."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from deployment.conftest import Networks
from deployment.tiny_classifier import PREPROCESS, images, network
from pretended_cuda import OnCuda, pretended_cuda
from torch import nn

from compress.deployment import gpu, inductor, inductor_profile, inductor_source
from compress.deployment.artifact import find_artifact
from compress.deployment.bench import bench_layers
from compress.deployment.coverage import Coverage
from compress.deployment.export import Target, export, export_files
from compress.deployment.layers import OPERATORS
from compress.deployment.runtime import ExportSource, FileOptions
from compress.deployment.runtimes import find_runtime, missing, require
from compress.utils.errors import CompressError

load, coverage = find_runtime("inductor").load, find_runtime("inductor").coverage
compiles = pytest.mark.skipif(bool(missing("inductor")), reason="there is no C++ compiler")


@compiles
@pytest.mark.slow
def test_export_is_quiet_and_leaves_the_network_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inductor, "FIXED", (1,))
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = export(model, tmp_path / "artifacts", ["inductor"], PREPROCESS)["inductor"]
    with torch.no_grad():
        expected = model(images(3)).numpy()
    assert np.abs(load(path)(images(3).numpy()) - expected).max() < 1e-5
    assert coverage(path) == Coverage(0, 1, 0, 14 * 14 * 5 * 27)
    assert model.training and capfd.readouterr() == ("", "")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@compiles
@pytest.mark.slow
def test_temporary_folders_with_spaces_and_accents_do_not_reach_the_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inductor, "FIXED", (1,))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "ru ns é"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "ru ns é"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "ru ns é").mkdir()
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    path = export(model, tmp_path / "my files é", ["inductor"], PREPROCESS)["inductor"]
    with torch.no_grad():
        assert np.abs(load(path)(images(3).numpy()) - model(images(3)).numpy()).max() < 1e-5


def test_a_compilers_cache_that_would_have_to_be_quoted_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "my cache"))
    with inductor._plain_folder(Path("/a/b-1.x")) as folder:
        assert folder == Path("/a/b-1.x")
    words = "my cache; set TORCHINDUCTOR_CACHE_DIR to a folder without spaces"
    with pytest.raises(CompressError, match=words), inductor._plain_folder(Path("/a/b c")):
        pass
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    with inductor._plain_folder(Path("/a/bé")) as folder:
        assert folder.parent == tmp_path / "cache"
    assert not folder.exists()


def test_a_file_that_is_no_package_is_one_clear_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as package:
        package.writestr("readme.txt", "nothing")
    with pytest.raises(CompressError, match="it holds no compiled network"):
        load(tmp_path / "model.pt2")
    with pytest.raises(CompressError, match="inductor cannot read"):
        load(tmp_path / "absent.pt2")
    for text in ("{}", "{", "[1]"):
        with zipfile.ZipFile(tmp_path / "model.pt2", "w") as package:
            package.writestr("model/data/x.wrapper_metadata.json", text)
        with pytest.raises(CompressError, match=r"it is damaged, or of another PyTorch than \d.* \(") as caught:
            load(tmp_path / "model.pt2")
        assert "\n" not in str(caught.value)


def test_another_processor_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as package:
        package.writestr("model/data/x.wrapper_metadata.json", '{"AOTI_CPU_ISA": "AVX512 AVX512_VNNI"}')
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    with pytest.raises(CompressError, match="compiled for AVX512 AVX512_VNNI, which this processor lacks"):
        load(tmp_path / "model.pt2")


@pytest.mark.parametrize(
    ("stated", "runtime", "words"),
    [
        ({"AOTI_DEVICE_KEY": "cuda"}, "inductor", "compiled for cuda, not for cpu; its runtime is inductor-cuda"),
        ({"AOTI_DEVICE_KEY": "cpu"}, "inductor-cuda", "compiled for cpu, not for cuda; its runtime is inductor"),
        (
            {"AOTI_DEVICE_KEY": "cuda", "compress_gpu": '["NVIDIA T4", "7.5"]'},
            "inductor-cuda",
            "compiled for NVIDIA T4 7.5, and this GPU is pretended 8.0",
        ),
    ],
)
def test_a_package_for_another_device_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: dict[str, str], runtime: str, words: str
) -> None:
    monkeypatch.setattr(gpu, "lacking", list)
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as package:
        package.writestr("model/data/x.wrapper_metadata.json", json.dumps(stated))
    with pretended_cuda(), pytest.raises(CompressError, match=words):
        find_runtime(runtime).load(tmp_path / "model.pt2")


@pytest.mark.parametrize(
    ("folder", "runtime"),
    [
        ("inductor", "inductor"),
        ("inductor-bf16", "inductor"),
        ("mine", "inductor"),
        ("inductor-cuda", "inductor-cuda"),
        ("inductor-cuda-fp16", "inductor-cuda"),
    ],
)
def test_a_package_is_loaded_for_the_device_of_its_folder(tmp_path: Path, folder: str, runtime: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "model.pt2").touch()
    assert find_artifact(tmp_path / folder)[1] == runtime


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_network_is_compiled_and_run_where_the_gpu_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, dtype: torch.dtype
) -> None:
    """On a pretended GPU, with a compiler that keeps the network: it, its images and its weights are there."""
    compiled: dict[str, nn.Module] = {}

    def compile_for(network: nn.Module, _: object, name: str, __: Path, device: torch.device) -> list[str]:
        weights = list(network.parameters())
        assert device.type == "cuda" and {type(weight) for weight in weights} == {OnCuda}
        assert {weight.dtype for weight in weights} == {dtype}
        compiled[name] = network
        return []

    monkeypatch.setattr(inductor, "_compile", compile_for)
    monkeypatch.setattr("torch._inductor.package.package.package_aoti", lambda *_: None)
    monkeypatch.setattr(inductor, "_stated", lambda _: {"compress_side": "16"})
    model = network()
    with torch.no_grad():
        expected = model(images(3)).numpy()
    with pretended_cuda():
        path = find_runtime("inductor-cuda").build(ExportSource(model, 16, tmp_path, precision=precision), tmp_path)
        assert list(compiled) == ["any"], "a GPU packs no weights, so that one network serves any batch"
        (kept,) = compiled.values()
        assert not any(isinstance(weight, OnCuda) for weight in (*model.parameters(), *kept.parameters()))
        run = inductor._runner(path, {"any": kept.to("cuda")}, 1, "cuda")
        logits = run(images(3).numpy())
    assert logits.dtype == np.float32 and np.abs(logits - expected).max() < (1e-5 if precision == "fp32" else 2e-2)


def test_without_a_gpu_it_is_named_with_what_adds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DRIVER", "libno_such_driver.so")
    with pytest.raises(
        CompressError, match="inductor-cuda needs NVIDIA GPU: NVIDIA's driver and CUDA toolkit, a PyTorch"
    ):
        require("inductor-cuda")


def test_without_a_cuda_toolkit_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "lacking", list)
    monkeypatch.setattr("torch.utils.cpp_extension.CUDA_HOME", None)
    assert missing("inductor-cuda") == ["CUDA toolkit (CUDA_HOME)"]
    monkeypatch.setattr("torch.utils.cpp_extension.CUDA_HOME", "/usr/local/cuda")
    assert missing("inductor-cuda") == []


def test_a_network_in_training_is_compiled_in_half_precision_as_for_inference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[bool] = []
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr(inductor, "_compile", lambda network, *_: modes.extend(m.training for m in network.modules()))
    monkeypatch.setattr("torch._inductor.package.package.package_aoti", lambda *_: None)
    model = network().train()
    find_runtime("inductor").build(ExportSource(model, 16, tmp_path, precision="bf16"), tmp_path)
    assert modes and not any(modes) and model.training


def test_half_precision_is_that_of_the_weights() -> None:
    """The C++ of a bf16 network: a convolution, and a linear that is compiled into the kernel before it."""
    text = "\n".join(
        [
            'constants_info_[0].name = "conv";',
            "constants_info_[0].dtype = cached_torch_dtype_bfloat16;",
            "constants_info_[0].shape = {16, 3, 3, 3};",
            'constants_info_[1].name = "scale";',
            "constants_info_[1].dtype = cached_torch_dtype_float32;",
            "constants_info_[1].shape = {16};",
            "aoti_torch_cpu_mkldnn__convolution_pointwise(buf0, conv, &buf1_handle));",
        ]
    )
    assert inductor_source.count_calls(text, 900) == Coverage(0, 1, 0, 900, 900, "bf16")
    assert inductor_source.count_calls(text.replace("bfloat16", "float16"), 900) == Coverage(0, 1, 0, 900, 900)
    assert inductor_source.count_calls(text.replace("bfloat16", "float32"), 900) == Coverage(0, 1, 0, 900)


def test_a_processor_without_kernels_for_bf16_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    source = ExportSource(network(), 16, tmp_path, precision="bf16")
    with pytest.raises(CompressError, match="PyTorch has no fast kernels in bf16 for this processor; export in fp32"):
        find_runtime("inductor").build(source, tmp_path)


def test_a_linear_layer_multiplies_for_each_token() -> None:
    """PyTorch passes all tokens of all images as one dimension."""
    weights = {"kernel": [64, 3, 4, 4], "weight": [64, 32]}
    outputs = {
        f"buf{i}": inductor_source._shape(text)
        for i, text in enumerate(("s77, 64L, 8L, 8L", "197L*s77, 64L", "s77, 64L"))
    }
    assert inductor_source._call_macs("qconv", "kernel, &buf0_handle", weights, outputs) == 8 * 8 * 64 * 3 * 4 * 4
    assert inductor_source._call_macs("qlinear", "weight, &buf1_handle", weights, outputs) == 197 * 64 * 32
    assert inductor_source._call_macs("qlinear", "weight, &buf2_handle", weights, outputs) == 64 * 32


@compiles
@pytest.mark.slow
def test_layers_of_inductor(networks: Networks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny classifier in float, compiled for one image, and in integer, compiled for any batch."""
    monkeypatch.setattr(inductor, "FIXED", (1,))
    paths = {}
    for variant in ("float", "int8"):
        targets, options = [Target("inductor")], FileOptions(layer_times=True)
        built = export_files(networks(variant), tmp_path / variant, targets, PREPROCESS, options=options)
        paths[variant] = built[targets[0]]
    record = bench_layers(list(paths.values()), None, 2, 5, 1)
    # The float network's linear is so small that it is compiled into the C++ of the kernel before it.
    multiplying = [row for row in record["profile"]["layers"] if row["kind"] in ("convolution", "linear")]
    assert [(row["number"], row["kind"], row["weights"]) for row in multiplying] == [
        (number, *layer)
        for number in (1, 2)
        for layer in (("convolution", 432), ("convolution", 2304), ("linear", 80))[: number + 1]
    ]
    assert [pair["precisions"] for pair in record["pairs"]][:2] == [["fp32", "int8"]] * 2
    for total in record["profile"]["totals"]:
        assert total["layers_ms"] > 0 and total["statistic"] == "median"


def test_a_package_that_does_not_note_its_kernels_says_how_it_would(tmp_path: Path) -> None:
    with zipfile.ZipFile(path := tmp_path / "model.pt2", "w") as package:
        package.writestr("a_metadata.json", "{}")
    with pytest.raises(CompressError, match="not compiled to tell the time of its layers; export it with `layer_times"):
        find_runtime("inductor").profiler(path)


def event(name: str, start: int, ms: float, shapes: Sequence[Sequence[int]] = (), *below: Any) -> Any:
    times = {"time_range": SimpleNamespace(start=start), "cpu_time_total": 1000 * ms}
    return SimpleNamespace(name=name, input_shapes=shapes, cpu_children=list(below), **times)


def test_kernels_of_pytorchs_profiler_are_read() -> None:
    """Runs of three images are two calls of the network for one and one of that for two; here in another order."""
    convolution = ([1, 3, 8, 8], [1, 5, 6, 6], [5, 3, 3, 3], [5], [])
    allocation = event("aten::empty", 0, 9.0)

    def call(start: int, ms: float) -> Any:
        kernels = [
            event("aoti_torch_cpu__linear_pointwise", start + 3, ms, ([1, 5], [4, 5], [4])),
            event("graph_3_cpp_fused_quantize_per_tensor_0", start + 1, ms),
            event("aoti_torch_cpu_mkldnn__convolution_pointwise_binary_", start + 2, ms, convolution, allocation),
            event("graph_3_cpp_fused_mean_relu_2", start + 4, ms),
            event("aoti_torch_cpu__qconv_pointwise_tensor", start + 5, ms, ([1, 3, 8, 8], [], [6, 3, 1, 1], [6])),
            allocation,
        ]
        return event("AOTIModelContainerRunner::boxed_run", start, 9.0, (), *kernels)

    first = [call(100, 5.0), call(0, 1.0), call(50, 2.0), event("aten::cat", 150, 9.0)]
    second = [call(0, 1.0), call(1, 1.0), call(2, 1.0)]
    runs = [zip(("1", "1", "2"), inductor_profile.calls_of(events), strict=True) for events in (first, second)]
    layers = inductor_profile.layers_of(runs)
    assert [layer.ms for layer in layers] == [2.5] * 5 + [3.0] * 5  # medians of (1 + 2, 1 + 1) and of (5, 1)
    assert [(each.name, OPERATORS.get(each.operator), each.precision, each.weights) for each in layers[:5]] == [
        ("quantize_per_tensor", "conversion", "", None),
        ("convolution_pointwise_binary_", "convolution", "fp32", 135),
        ("linear_pointwise", "linear", "fp32", 20),
        ("mean_relu", None, "", None),
        ("qconv_pointwise_tensor", "convolution", "int8", 18),
    ]
