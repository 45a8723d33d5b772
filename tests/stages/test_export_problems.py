"""Export stages that are refused, and settings that are in store keys only where they change a file."""

from __future__ import annotations

import json
import re

import pytest
from recipe.recipe_texts import GOOD

from compress.pipeline.plan import plan_stages
from compress.pipeline.preflight import check_requirements
from compress.recipe.load import parse_recipe
from compress.recipe.schema import Recipe
from compress.registry import quantizer
from compress.stages.export.problems import integer_remedy
from compress.stages.kind import kind_of
from compress.utils.errors import CompressError, RecipeError

FILES = "    from: [distilled, int8]\n"
OWN = {"source": "onnx", "model": "best.onnx", "mean": [0, 0, 0], "std": [1, 1, 1]}
ONNX = """\
data: cifar10-sample
stages:
  - {id: own, kind: model, model: %s}
  - {id: int8, kind: quantize, from: own}
  - {id: files, kind: export, from: [own, int8], %s}
"""


def recipe(files: str = "", further: str = "", int8: str = "") -> Recipe:
    """The good recipe with other settings of its export, a further export, and settings of its quantization."""
    text = GOOD.replace(FILES, f"{FILES}{files}").replace("    from: pruned\n", f"    from: pruned\n{int8}")
    return parse_recipe(text.replace("worth:", f"{further}\nworth:"))


def refused(files: str = "", further: str = "", int8: str = "") -> str:
    with pytest.raises(RecipeError) as caught:
        recipe(files, further, int8)
    return "\n".join(problem.message for problem in caught.value.problems)


def keys(files: str = "", int8: str = "") -> dict[str, str]:
    return {each.id: each.key for each in plan_stages(recipe(files, int8=int8), "data").exports}


def again(settings: str, source: str = "distilled, int8") -> str:
    return f"  - {{id: again, kind: export, from: [{source}], {settings}}}"


BOTH = r"artifacts/distilled/onnx and artifacts/distilled/openvino are written by files too, with other settings"


@pytest.mark.parametrize(
    ("files", "further", "message"),
    [
        ("", again("opset: 17"), BOTH + "; export distilled in one of the two, or with the same settings"),
        ("", again("precision: [fp16, fp32]"), BOTH),
        ("", again("runtimes: [onnxruntime]"), "again.from: artifacts/distilled/onnx is written by files too"),
        ("    triton: true\n", again("triton: true, opset: 17"), r"openvino and triton/distilled are written by files"),
        (
            "    triton: true\n    runtimes: [openvino]\n",
            again("triton: true, runtimes: [onnxruntime]", "int8"),
            "again.from: triton/int8 is written by files too, with other settings",
        ),
        ("    runtimes: auto\n", again("runtimes: auto, auto_loss: 0.1", "int8"), "artifacts/int8/onnx.*with other"),
    ],
)
def test_two_stages_do_not_write_different_files_to_one_folder(files: str, further: str, message: str) -> None:
    assert re.search(message, refused(files, further))


def test_all_variants_that_are_written_twice_are_named_at_once() -> None:
    line = refused("", again("opset: 17"))
    assert "export distilled in one of the two" in line and "export int8 in one of the two" in line


@pytest.mark.parametrize(
    "further", [again("precision: fp16"), again("precision: fp32"), again("runtimes: [ncnn]"), again("triton: false")]
)
def test_two_stages_write_the_same_files_or_to_different_folders(further: str) -> None:
    assert recipe(further=further).stages[-1].id == "again"


def test_two_models_of_triton_have_different_names() -> None:
    text = GOOD.replace("int8", "distilled-fp16")
    half = "    precision: [fp32, fp16]\n    triton: true\n"
    stage = "from: [distilled, distilled-fp16]\n"
    message = "files.from: triton/distilled-fp16 is the model of distilled and of distilled-fp16; rename one"
    with pytest.raises(RecipeError, match=message):
        parse_recipe(text.replace(stage, stage + half))
    parse_recipe(text.replace(stage, stage + half.replace("true", "false")))


def test_the_ir_version_is_checked_against_the_default_opset() -> None:
    message = "files.ir_version: opset 20, the default, needs 9; set it, or `opset: 18`"
    assert message in refused("    ir_version: 8\n")
    assert recipe("    ir_version: 8\n    opset: 18\n") and recipe("    ir_version: 9\n")
    assert parse_recipe(ONNX % (json.dumps(OWN), "ir_version: 8")), "an ONNX file keeps its own opset"
    with pytest.raises(RecipeError, match="opset 20 needs 9"):
        parse_recipe(ONNX % (json.dumps(OWN), "ir_version: 8, opset: 20"))


LITERT = "    runtimes: [onnxruntime, litert]\n"
INTEGER = "    integer_io: true\n"


def test_integers_in_and_out_are_in_the_keys_of_the_files_that_have_them() -> None:
    plain, integer = keys(LITERT), keys(LITERT + INTEGER)
    assert plain["files/distilled"] == integer["files/distilled"] and plain["files/int8"] != integer["files/int8"]


@pytest.mark.parametrize(
    ("files", "int8", "message"),
    [
        ("", "", "integer_io: is for quantized variants in litert files; remove it, or add both"),
        ("    runtimes: auto\n", "    method: nncf\n", "integer_io: litert does not support int8 with `method`"),
        ("    runtimes: auto\n", "    equalize: true\n", "integer_io: litert does not support int8 with `method`"),
    ],
)
def test_integers_in_and_out_are_refused_where_no_file_has_them(files: str, int8: str, message: str) -> None:
    assert message in refused(files + INTEGER, int8=int8)


def test_integers_in_and_out_need_litert(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = recipe("    runtimes: auto\n" + INTEGER)
    export = kind_of(chosen.stages[-1])
    monkeypatch.setattr("compress.stages.export.missing", lambda name: ["it"] if name == "litert" else [])
    with pytest.raises(CompressError, match=r"stage files: `integer_io` needs litert: "):
        check_requirements(chosen, [export])
    monkeypatch.setattr("compress.stages.export.missing", lambda name: [])
    check_requirements(chosen, [export])


def test_the_method_of_an_onnx_network_is_the_one_that_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    own = parse_recipe(ONNX % (json.dumps(OWN), "runtimes: [onnxruntime]"))
    (int8,) = (kind_of(stage) for stage in own.stages if stage.id == "int8")
    monkeypatch.setattr(type(quantizer("nncf")), "missing", lambda method: ["nncf"] * (method is quantizer("nncf")))
    with pytest.raises(CompressError, match="stage int8: `method: nncf` needs nncf: pip install"):
        check_requirements(own, [int8])
    good = recipe()
    check_requirements(good, [kind_of(stage) for stage in good.stages if stage.id == "int8"])  # by torchao


@pytest.mark.parametrize(
    ("runtime", "int8", "remedy"),
    [
        ("onnxruntime", "    method: torchao\n", "set `method: auto` or `method: onnxruntime` in int8"),
        ("openvino", "    method: nncf\n", "set `method: auto` or `method: torchao` in int8"),
        ("onnxruntime", "    method: onnxruntime\n", "export its float network to onnxruntime"),
        ("onnxruntime", "", "export its float network to onnxruntime"),
        (
            "onnxruntime",
            "    training: {epochs: 1}\n",
            "it does so by `method: onnxruntime`, which does not support `training`: remove it",
        ),
    ],
)
def test_a_file_that_runs_in_float_has_a_remedy(runtime: str, int8: str, remedy: str) -> None:
    stage = next(kind_of(each) for each in recipe(int8=int8).stages if each.id == "int8")
    assert integer_remedy(runtime, stage) == remedy
