"""What is wrong with an `export` stage whose values are valid one by one. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from compress.deployment.runtimes import find_runtime
from compress.deployment.triton import BACKENDS
from compress.models.onnx_export import OPSET
from compress.quantization.choice import of_variants
from compress.recipe.precision_name import INT8
from compress.recipe.quantizer_name import AUTO
from compress.recipe.schema import Recipe
from compress.registry import RUNTIMES, quantizer
from compress.stages.kind import StageKind, kind_of
from compress.stages.model import is_onnx_network
from compress.stages.quantize import QuantizeStage
from compress.utils.messages import join_words

if TYPE_CHECKING:
    from compress.stages.export import ExportStage

Problems = Iterator[tuple[str, str]]
"""The key of each problem, and its message."""

IR_OF_OPSET = {17: 8, 18: 8, 19: 9, 20: 9}
"""Oldest IR version by opset (onnx.helper.OP_SET_ID_VERSION_MAP)."""

INTEGER_IO = "litert"
"""The runtime, and quantization method, whose files can take and return integers."""


def export_problems(stage: ExportStage, recipe: Recipe) -> Problems:
    """Yield what is wrong with an export stage of a recipe, whose stages may be unknown or circular."""
    quantized = [other for other in recipe.stages if isinstance(other, QuantizeStage) and other.id in stage.from_]
    yield from _triton_problem(stage)
    yield from _embedding_problems(stage, recipe)
    yield from _opset_problem(stage)
    if stage.layer_times and not stage.auto and "inductor" not in stage.runtimes:
        yield "layer_times", "is for inductor, which is none of these runtimes; remove it, or add inductor"
    yield from _integer_io_problem(stage, recipe, quantized)
    yield from _ir_problem(stage, recipe)
    yield from _temperature_problem(stage, recipe, quantized)
    yield from _precision_problems(stage, recipe)
    for runtime in () if stage.auto else stage.runtimes:
        yield from _quantizer_problems(runtime, recipe, quantized)
    yield from _written_twice(stage, recipe)


def _triton_problem(stage: ExportStage) -> Problems:
    if stage.triton and not stage.auto and not set(BACKENDS) & set(stage.runtimes):
        yield "triton", f"Triton runs {join_words(BACKENDS)} files; add one to `runtimes`, or remove `triton`"


def _embedding_problems(stage: ExportStage, recipe: Recipe) -> Problems:
    made = [kind_of(other) for other in recipe.stages if other.id in stage.from_]
    embedding = [other.id for other in made if other.embeds_in(recipe)]
    if stage.triton and embedding:
        what = f"{join_words(embedding, 'and')} give embeddings, and its models give logits"
        yield "triton", f"{what}; remove it, or export them in another stage"
    if stage.text and not embedding:
        yield "text", "is for embedding students, and none of these is one; remove it"
    elif stage.text and not any(stage.writes_text(other, recipe) for other in made if other.id in embedding):
        names, are = join_words(embedding, "and"), "are" if embedding[1:] else "is"
        what = f"the teacher of {names}, which {are} made by another recipe, is not in this one"
        yield "text", f"{what}; remove it, and name the teacher to `compress-model classes` by --teacher"


def _without_onnx(stage: ExportStage) -> bool:
    """Whether none of the runtimes is given an ONNX file."""
    return not stage.auto and not any(find_runtime(name).from_onnx for name in stage.runtimes)


def _opset_problem(stage: ExportStage) -> Problems:
    if stage.opset and _without_onnx(stage):
        able = join_words(name for name in RUNTIMES if find_runtime(name).from_onnx)
        yield "opset", f"none of these runtimes is given an ONNX file; remove it, or add one of {able}"


def _ir_problem(stage: ExportStage, recipe: Recipe) -> Problems:
    if stage.ir_version is None:
        return
    if _without_onnx(stage):
        yield "ir_version", "none of these runtimes is given an ONNX file; remove it"
        return
    # A network that is an ONNX file keeps its own opset, which is known when it is read.
    exported = not all(is_onnx_network(recipe, name) for name in stage.from_)
    opset = stage.opset or (OPSET if exported else None)
    if opset and stage.ir_version < (least := IR_OF_OPSET[opset]):
        newest = max(opset for opset, version in IR_OF_OPSET.items() if version <= stage.ir_version)
        which = f"opset {opset}" if stage.opset else f"opset {opset}, the default,"
        yield "ir_version", f"{which} needs {least}; set it, or `opset: {newest}`"


def _temperature_problem(stage: ExportStage, recipe: Recipe, quantized: Sequence[QuantizeStage]) -> Problems:
    """Yield the variants that are ONNX files, into whose last layer no temperature can be folded."""
    if not stage.temperature_scaling:
        return
    in_file = {each.id for each in quantized if (own := each.own_method(recipe)) and quantizer(own).in_file}
    for name in stage.from_:
        if name in in_file or is_onnx_network(recipe, name):
            remedy = "quantize it by `method: auto`, or " if name in in_file else ""
            yield "temperature_scaling", f"{name} is an ONNX file, not a network in PyTorch; {remedy}export it without"


def _integer_io_problem(stage: ExportStage, recipe: Recipe, quantized: Sequence[QuantizeStage]) -> Problems:
    if not stage.integer_io:
        return
    if not quantized or not (stage.auto or INTEGER_IO in stage.runtimes):
        yield "integer_io", f"is for quantized variants in {INTEGER_IO} files; remove it, or add both"
        return
    methods = find_runtime(INTEGER_IO).quantizers
    if all(other.method_for(recipe, methods) is None for other in quantized):
        names = join_words([other.id for other in quantized], "and")
        what = f"{INTEGER_IO} does not support {names} with `method` and settings as they are"
        yield "integer_io", f"{what}; remove it, or quantize by `method: {AUTO}` with settings that {INTEGER_IO} has"


def _precision_problems(stage: ExportStage, recipe: Recipe) -> Problems:
    if stage.precision is None:
        return
    floats = [name for name in stage.from_ if not _is_quantized(recipe, name)]
    if INT8 in stage.precision:
        base = (floats or stage.from_)[0]
        added = f"{{id: {base}-int8, kind: quantize, from: {base}}}"
        yield "precision", f"int8 needs calibration: add {added}, and export it without a `precision`"
    if not floats:
        names, are = join_words(stage.from_, "and"), "are" if stage.from_[1:] else "is"
        yield "precision", f"{names} {are} quantized and not exported in another; remove it"
    for runtime in () if stage.auto else stage.runtimes:
        able = find_runtime(runtime).precisions
        if lacking := [each for each in stage.precision if each not in (*able, INT8)]:
            message = f"{runtime} files are {join_words(able)}, not {join_words(lacking)}; use another stage"
            yield "precision", message


def _quantizer_problems(runtime: str, recipe: Recipe, quantized: Sequence[QuantizeStage]) -> Problems:
    """Yield which quantized variants a runtime does not take."""
    methods_taken = find_runtime(runtime).quantizers
    refused = [other for other in quantized if other.method_for(recipe, methods_taken) is None]
    if explicit := [other for other in refused if other.method != AUTO or not methods_taken]:
        names = join_words([other.id for other in explicit], "and")
        methods = join_words(sorted({other.method for other in explicit}))
        what = f"networks quantized by {methods}" if methods_taken else "quantized networks"
        yield "runtimes", f"{runtime} does not support {what}; move {names} to another export stage"
    for other in (other for other in refused if other not in explicit and other.own_method(recipe)):
        yield "runtimes", _no_method(runtime, methods_taken, other)
    target = find_runtime(runtime).target
    others = [other.id for other in quantized if other not in refused and other.target != target]
    if target and others:
        supported = f"{runtime} supports quantized networks of `target: {target}` only"
        yield "runtimes", f"{supported}; set it in {join_words(others, 'and')}"


def _no_method(runtime: str, methods: Sequence[str], variant: QuantizeStage) -> str:
    """Say which settings of a variant the methods of a runtime do not have; without any, it cannot read the network."""
    move = f"move {variant.id} to another export stage"
    unmet = variant.demands.unmet(quantizer(methods[0]))
    if not unmet:
        return f"{runtime} cannot be built from an ONNX file; {move}"
    keys, it = join_words((f"`{key}`" for key in unmet), "and"), "it" if len(unmet) == 1 else "them"
    return f"INT8 for {runtime} ({join_words(methods)}) does not support {keys} of {variant.id}; remove {it}, or {move}"


def _written_twice(stage: ExportStage, recipe: Recipe) -> Problems:
    """Yield the folders that a stage writes though it, or an earlier one, writes other files there.

    Two stages may ask for the same files of a variant: they are made once.
    """
    made = {other.id: kind_of(other) for other in recipe.stages}
    written: dict[str, tuple[ExportStage, StageKind]] = {}
    clashes: dict[tuple[str, str, str], list[str]] = {}
    for export in _rivals(stage, recipe):
        for variant in (made[name] for name in dict.fromkeys(export.from_) if name in made):
            for place in export.places(variant, recipe):
                first, earlier = written.setdefault(place, (export, variant))
                same = earlier is variant and (first is export or _same_files(first, export, variant, recipe))
                if export is stage and not same:
                    clashes.setdefault((first.id, earlier.id, variant.id), []).append(place)
    for (first_id, earlier_id, variant_id), places in clashes.items():
        what = f"{join_words(places, 'and')} {'are' if places[1:] else 'is'}"
        if earlier_id != variant_id:
            yield "from", f"{what} the model of {earlier_id} and of {variant_id}; rename one of these stages"
        else:
            other = f"written by {first_id} too, with other settings"
            yield "from", f"{what} {other}; export {variant_id} in one of the two, or with the same settings"


def _rivals(stage: ExportStage, recipe: Recipe) -> list[ExportStage]:
    """Return the export stages up to `stage` that may write to the same folders."""
    exports = [other for other in recipe.stages if isinstance(other, type(stage))]
    earlier = takewhile(lambda other: other is not stage, exports)
    shared = (each for each in earlier if {*each.from_} & {*stage.from_} or (each.triton and stage.triton))
    return [*shared, stage]


def _same_files(one: ExportStage, other: ExportStage, variant: StageKind, recipe: Recipe) -> bool:
    """Whether two exports of a variant make the same files, and select among them in the same way."""
    same = one.settings_for(variant, recipe) == other.settings_for(variant, recipe)
    return same and one.allowed_loss == other.allowed_loss


def _is_quantized(recipe: Recipe, identifier: str) -> bool:
    """Whether a stage of the recipe makes a quantized variant."""
    stage = next((stage for stage in recipe.stages if stage.id == identifier), None)
    return isinstance(stage, StageKind) and stage.is_quantized


def integer_remedy(runtime: str, stage: StageKind | None) -> str:
    """Say what to change where a file of a quantized variant runs in float."""
    methods = find_runtime(runtime).quantizers
    if isinstance(stage, QuantizeStage) and methods:
        best = methods[0]  # whose files it runs in integer throughout
        if unmet := stage.demands.unmet(quantizer(best)):
            keys, them = join_words((f"`{key}`" for key in unmet), "and"), "them" if unmet[1:] else "it"
            return f"it does so by `method: {best}`, which does not support {keys}: remove {them}"
        if stage.method not in (AUTO, best):
            named = f" or `method: {best}`" if best in of_variants() else ""
            return f"set `method: {AUTO}`{named} in {stage.id}"
    return f"export its float network to {runtime}"
