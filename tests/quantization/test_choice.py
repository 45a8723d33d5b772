"""`method: auto`: the variant's own method, that of each runtime's file, and what none of them can do."""

from __future__ import annotations

from typing import cast

import pytest

from compress.deployment.runtimes import find_runtime
from compress.quantization.choice import Demands, first_able, of_variants
from compress.recipe.load import load_recipe
from compress.recipe.schema import Recipe
from compress.registry import RUNTIMES, quantizer
from compress.stages.export import methods_by_runtime
from compress.stages.kind import kind_of
from compress.stages.quantize import QuantizeStage
from compress.utils.errors import RecipeError, UsageError

AUTO = "stages.int8.method=auto"
FILES = "stages.files.runtimes="
PHONE = FILES + "[ncnn, executorch]"


def loaded(*changes: str) -> tuple[Recipe, QuantizeStage]:
    recipe = load_recipe("quickstart", [AUTO, "stages.teacher-int8.method=auto", *changes])
    return recipe, cast(QuantizeStage, next(stage for stage in recipe.stages if stage.id == "int8"))


def refused(*changes: str) -> str:
    with pytest.raises(UsageError) as caught:
        loaded(*changes)
    return str(caught.value)


def test_auto_is_the_default_and_torchao_the_network_of_the_variant() -> None:
    assert QuantizeStage.model_fields["method"].default == "auto"
    recipe, stage = loaded()
    assert stage.own_method(recipe) == "torchao"
    found = methods_by_runtime(stage, recipe, ("onnxruntime", "openvino"))
    assert found == {"onnxruntime": "onnxruntime"}, "OpenVINO runs torchao's network in integer throughout"


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_names_methods_that_make_a_network_or_belong_to_it(name: str) -> None:
    runtime = find_runtime(name)
    recipe, stage = loaded()
    assert len(set(runtime.quantizers)) == len(runtime.quantizers)
    assert stage.method_for(recipe, runtime.quantizers) == next(iter(runtime.quantizers), None)


def test_the_first_method_with_all_settings_is_taken() -> None:
    recipe, stage = loaded("stages.int8.bias_correction=fast", FILES + "[onnxruntime, openvino]")
    assert stage.own_method(recipe) == "nncf" and methods_by_runtime(stage, recipe, ("onnxruntime", "openvino")) == {}
    recipe, stage = loaded("stages.int8.observer=histogram")
    assert methods_by_runtime(stage, recipe, ("onnxruntime",)) == {"onnxruntime": "nncf"}
    recipe, stage = loaded("stages.int8.linear_weight_bits=4")
    assert stage.own_method(recipe) == "nncf"
    assert methods_by_runtime(stage, recipe, ("onnxruntime",)) == {"onnxruntime": "onnxruntime"}
    recipe, stage = loaded("stages.int8.training={epochs: 1}")
    assert stage.own_method(recipe) == "torchao" and methods_by_runtime(stage, recipe, ("onnxruntime",)) == {}


def test_an_explicit_method_makes_every_file() -> None:
    recipe, stage = loaded("stages.int8.method=torchao")
    assert stage.own_method(recipe) == "torchao"
    assert methods_by_runtime(stage, recipe, tuple(RUNTIMES)) == {}
    assert stage.method_for(recipe, ("onnxruntime",)) is None


def test_settings_that_no_method_has_are_refused_all_at_once() -> None:
    line = refused("stages.int8.bias_correction=fast", "stages.int8.target=portable", "stages.files.opset=18", PHONE)
    assert "stages.int8.method: no method has `bias_correction` and `target` together; remove one of them" in line
    assert "stages.files.opset: none of these runtimes is given an ONNX file" in line
    line = refused("stages.int8.bias_correction=fast", "stages.int8.keep=[fc]", PHONE)
    assert "INT8 for ncnn (ncnn) does not support `bias_correction` and `keep` of int8; remove them" in line
    assert "INT8 for executorch (xnnpack) does not support `bias_correction` of int8; remove it" in line


def test_settings_that_a_runtime_has_no_method_for_are_refused_with_the_remedy() -> None:
    line = refused("stages.int8.observer=mean", FILES + "[openvino, inductor]")
    assert "stages.files.runtimes: INT8 for inductor (torchao) does not support `observer` of int8; remove it" in line
    assert "move int8 to another export stage" in line and "openvino" not in line.replace("[openvino, inductor]", "")


def test_methods_of_a_runtime_cannot_be_named_in_a_recipe() -> None:
    for name in ("xnnpack", "litert", "ncnn"):
        assert quantizer(name).restore is None and name not in of_variants()
        with pytest.raises(RecipeError, match=r"method: must be 'auto', 'torchao', 'nncf' or 'onnxruntime'"):
            load_recipe("quickstart", [f"stages.int8.method={name}"])


def test_demands_name_the_keys_that_a_method_lacks() -> None:
    everything = Demands("entropy", "portable", 4, True, True, True, True, True, True, True)
    for name in of_variants():
        unmet = everything.unmet(quantizer(name))
        assert unmet and Demands().unmet(quantizer(name)) == ()
        assert set(unmet) <= {*QuantizeStage.model_fields, "from"}
    assert first_able(of_variants(), everything) is None
    assert first_able(of_variants(), Demands(from_onnx=True)) == "nncf"


def test_the_same_key_as_with_the_method_that_auto_takes() -> None:
    recipe, stage = loaded()
    written = stage.model_copy(update={"method": "torchao", "reduce_range": True})
    own = stage.model_copy(update={"method": stage.own_method(recipe)})
    assert kind_of(own).key_settings(recipe) == written.key_settings(recipe)
    assert kind_of(own).packages() == written.packages() == ("torch", "torchao")
