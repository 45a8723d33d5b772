"""`precision` of an export stage: which files it makes, their store keys, and half precision that overflows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recipe.recipe_texts import GOOD

from compress.deployment import gpu
from compress.deployment.coverage import Coverage
from compress.deployment.export import Target
from compress.pipeline.plan import plan_stages
from compress.recipe.load import parse_recipe
from compress.results import Artifact
from compress.stages.export.crashes import without_crashes
from compress.stages.export.logits import require_finite
from compress.stages.export.make import _ran_in, served
from compress.stages.planned import PlannedStage
from compress.utils.errors import CompressError


def exports(settings: str, source: str = "[distilled, int8]") -> dict[str, PlannedStage]:
    """The exports of the good recipe with these settings, by variant."""
    text = GOOD.replace("from: [distilled, int8]\n", f"from: {source}\n{settings}")
    return {str(each.parent): each for each in plan_stages(parse_recipe(text), "data").exports}


PLAIN = ("onnxruntime", "openvino")


@pytest.mark.parametrize(
    ("settings", "files"),
    [
        ("", PLAIN),
        ("    precision: fp16\n", ("onnxruntime fp16", "openvino fp16")),
        ("    precision: [fp32, fp16, fp32]\n", (*PLAIN, "onnxruntime fp16", "openvino fp16")),
        ("    precision: [bf16]\n    runtimes: [openvino]\n", ("openvino bf16",)),
        ("    precision: [fp16, fp32]\n    runtimes: [coreml]\n", ("coreml fp16", "coreml")),
    ],
)
def test_float_variants_have_a_file_in_each_and_quantized_ones_their_own(settings: str, files: tuple[str, ...]) -> None:
    coreml = "coreml" in settings
    planned = exports(settings, "[distilled]" if coreml else "[distilled, int8]")
    assert planned["distilled"].files == files
    assert coreml or planned["int8"].files == planned["int8"].runtimes == planned["distilled"].runtimes


def test_keys_change_only_where_the_files_do() -> None:
    plain, written = exports(""), exports("    precision: fp32\n")
    half = exports("    precision: [fp32, fp16]\n")
    assert {name: each.key for name, each in written.items()} == {name: each.key for name, each in plain.items()}
    assert half["int8"].key == plain["int8"].key and half["distilled"].key != plain["distilled"].key
    assert exports("    precision: fp16\n")["distilled"].key not in (plain["distilled"].key, half["distilled"].key)
    assert exports("    ir_version: 10\n")["distilled"].key != plain["distilled"].key
    apple = "    runtimes: [coreml]\n"
    assert (
        exports(f"{apple}    precision: fp16\n", "[distilled]")["distilled"].key
        == exports(apple, "[distilled]")["distilled"].key
    )


@pytest.mark.parametrize("runtime", ["inductor-cuda", "tensorrt-engine"])
def test_a_recipe_for_a_gpu_is_planned_without_one(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a laptop, where a finished run is looked at; files for another GPU are others."""
    monkeypatch.setattr(gpu, "lacking", lambda: ["NVIDIA GPU"])
    line = f"    runtimes: [{runtime}]\n"
    here = exports(line, "[distilled]")["distilled"]
    assert here.files == (runtime,)
    monkeypatch.setattr(gpu, "kind", lambda: ["NVIDIA T4", "7.5"])
    assert exports(line, "[distilled]")["distilled"].key != here.key


def test_files_that_crash_are_left_out_and_what_they_share_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {name: tmp_path / name / "model" for name in ("onnx", "openvino", "tensorrt")}
    for path in paths.values():
        path.parent.mkdir()
        path.touch()
    shared, other = Target("onnxruntime-cuda"), Target("openvino", "bf16")
    built = {Target("onnxruntime"): paths["onnx"], shared: paths["onnx"], other: paths["openvino"]}
    built[Target("tensorrt")] = paths["tensorrt"]
    tried: list[str] = []

    def crashes(files: dict[str, tuple[str, Path]]) -> dict[str, str]:
        tried.extend(files)
        return dict.fromkeys((shared.name, other.name), "its process was killed by SIGSEGV")

    monkeypatch.setattr("compress.stages.export.crashes.find_crashes", crashes)
    failed = {Target("ncnn"): "no such operator"}
    assert list(without_crashes("int8", built, failed)) == [Target("onnxruntime"), Target("tensorrt")]
    assert tried == ["onnxruntime", "onnxruntime-cuda", "openvino bf16"], "what runs elsewhere is not tried"
    assert list(failed) == [Target("ncnn"), shared, other]
    assert failed[other].startswith(
        "int8 crashes openvino (its process was killed by SIGSEGV), a fault of openvino: rem"
    )
    assert paths["onnx"].is_file() and not paths["openvino"].parent.exists() and paths["tensorrt"].is_file()


def test_files_whose_logits_are_not_finite_are_refused_with_their_share() -> None:
    logits = np.zeros((4, 3), np.float32)
    require_finite(logits, "test images", "fp16")
    logits[1, 2] = np.inf
    with pytest.raises(CompressError, match=r"logits on 1 of 4 test images: .* overflows in fp16; export .* in fp32"):
        require_finite(logits, "test images", "fp16")
    with pytest.raises(CompressError, match=r"^non-finite logits on 1 of 4 test images$"):
        require_finite(logits, "test images", None)


def test_other_arithmetic_than_the_file_s_is_named() -> None:
    assert _ran_in("fp16", Coverage(0, 2, 0, 100, 0)) == "; fp16 ran in fp32 (100%)"
    assert _ran_in("fp16", Coverage(0, 2, 0, 100, 30)) == "; fp16 ran in fp16 (30%) and fp32 (70%)"
    assert _ran_in("fp16", Coverage(0, 2, 0, 100, 90)) == ""
    assert _ran_in("fp32", Coverage(0, 2, 0, 100, 0)) == _ran_in("fp16", Coverage(None, 2, None, 100, None)) == ""


def test_precisions_sum_to_one_or_are_unknown() -> None:
    assert Coverage(1, 2, 30, 100, 50, "bf16").precisions == {"int8": 0.3, "bf16": 0.5, "fp32": 0.2}
    assert Coverage(0, 2, 0, 100).precisions == {"fp32": 1.0}
    for unknown in (Coverage(0, 2, None, 100), Coverage(0, 2, 0, None), Coverage(0, 2, 0, 100, None)):
        assert unknown.precisions is None


def file(method: str | None) -> Artifact:
    return Artifact(runtime="r", format="f", path="p", bytes=1, method=method, top1=0.9)


@pytest.mark.parametrize(
    ("onnx", "openvino", "runtime"),
    [
        ("onnxruntime", "torchao", "openvino"),
        ("torchao", "torchao", "onnxruntime"),
        ("onnxruntime", "nncf", "onnxruntime"),
        (None, None, "onnxruntime"),
    ],
    ids=["its own method", "one method", "neither is its own", "float"],
)
def test_triton_serves_the_file_of_the_variants_own_method(
    onnx: str | None, openvino: str | None, runtime: str
) -> None:
    files = {"ncnn": file("ncnn"), "onnxruntime": file(onnx), "openvino": file(openvino)}
    assert served(files, "torchao") == runtime
    assert served({"openvino": files["openvino"]}, "torchao") == "openvino"
    assert served({"ncnn": files["ncnn"]}, "torchao") is None
