"""What only makes sense together: keys of one section that need or exclude each other."""

from __future__ import annotations

from collections.abc import Iterator

from compress.deployment.runtimes import find_runtime
from compress.quantization.methods import METHODS
from compress.recipe.data import ArrowData
from compress.recipe.fit import Distillation, Fit
from compress.recipe.models import OpenClipTeacher, Student, Teacher
from compress.recipe.schema import (
    AwareTraining,
    DistillStage,
    ExportStage,
    PruneStage,
    QuantizeStage,
    Recipe,
    SparsifyStage,
    Stage,
    TeacherStage,
    TrainStage,
)
from compress.recipe.worth import Budgets
from compress.recipe.yaml_tree import Node
from compress.registry import PLUGIN_LOSSES
from compress.utils.errors import Problem
from compress.utils.messages import did_you_mean, listed
from compress.utils.system import version_of

TEST_SELECTION = (
    "an epoch chosen on the test images makes their accuracy worthless; where a published figure that was made so is "
    "to be reproduced, say `allow: [test-selection]` at the top of the recipe"
)
ONE_DEVICE = "`lower` goes back on one device only: set `trainer.devices: 1`"
TAKEN_OPTIONS = {
    *("num_classes", "img_size", "pretrained", "weights"),
    *("checkpoint_path", "cache_dir", "pretrained_cfg", "pretrained_cfg_overlay"),  # files and addresses, to timm
}
TEACH_CLASSIFIER = {"ce", "kd", "dkd", "dist"}
READ_FEATURES = {"embedding", "rkd_distance", "rkd_angle", "crd", "attention", "hint"}
TEACH_PROJECTION = {"embedding", "crd"}
BRING_THEIR_WEIGHTS = ("local-dir:", "hf-hub:")  # open_clip's own prefixes


def section_problems(recipe: Recipe, root: Node) -> Iterator[Problem]:
    """What is wrong inside the stages of a recipe whose values are right one by one."""
    if isinstance(recipe.data, ArrowData) and version_of("pyarrow") is None:
        section = root.child("data") or root
        yield Problem(
            (section.child("source") or section).place,
            f"data.source: {recipe.data.source} needs pyarrow: pip install 'compress-model[data]'",
        )
    if any(word in recipe.trainer.strategy for word in ("spawn", "fork", "notebook")):
        trainer = root.child("trainer") or root
        yield Problem(
            (trainer.child("strategy") or trainer).place,
            f"trainer.strategy: {recipe.trainer.strategy} leaves its results in other processes; use ddp",
        )
    measure = recipe.measure
    if measure.carbon_g_per_kwh and measure.energy == "off" and not measure.watts:
        section = root.child("measure") or root
        yield Problem(
            (section.child("carbon_g_per_kwh") or section).place,
            "measure.carbon_g_per_kwh: there is no energy to count it from: give `watts`, or `energy: auto`",
        )
    yield from _deployments(recipe, root)
    for index, stage in enumerate(recipe.stages):
        found: list[tuple[str, str | None]] = []
        if isinstance(stage, TeacherStage):
            found.append(("teacher", _weights(stage.teacher)))
        if isinstance(stage, TrainStage | DistillStage):
            found.append(("student", _start(stage.student)))
            found.append(("student", _options(stage.student)))
        if isinstance(stage, DistillStage):
            found += _distillation(stage)
        if isinstance(stage, PruneStage | SparsifyStage):
            found += [("repair", message) for _, message in _distillation(stage.repair)]
            if stage.repair.select_on == "test" and "test-selection" not in recipe.allow:
                found.append(("repair", TEST_SELECTION))
        if isinstance(stage, PruneStage):
            found += _pruning(stage, recipe)
        if isinstance(stage, SparsifyStage):
            found += _sparsity(stage)
        if isinstance(stage, QuantizeStage):
            found += _quantization(stage, recipe)
        if isinstance(stage, ExportStage):
            found += _exports(stage, recipe)
        if getattr(stage, "select_on", "last") == "test" and "test-selection" not in recipe.allow:
            found.append(("select_on", TEST_SELECTION))
        if recipe.trainer.devices != 1 or recipe.trainer.num_nodes > 1:
            found += [(key, ONE_DEVICE) for key, fit in _fits(stage) if fit.on_divergence == "lower"]
        for key, message in found:
            if message:
                yield Problem(_place(root, index, key), f"stages.{stage.id}.{key}: {message}")


def _deployments(recipe: Recipe, root: Node) -> Iterator[Problem]:
    worth = root.child("worth") or root
    place = (worth.child("deployments") or worth).place
    for index, profile in enumerate(recipe.worth.deployments):
        where = f"worth.deployments.{index}"
        if profile.runtime is None:
            yield Problem(place, f"{where}.runtime: is missing: what runs the model on {profile.name}")
        if not any(profile.budgets.model_dump().values()):
            asked = listed([f"`{name}`" for name in Budgets.model_fields])
            yield Problem(place, f"{where}.budgets: {profile.name} asks nothing of a model: give {asked}")
        if profile.name in [other.name for other in recipe.worth.deployments[:index]]:
            yield Problem(place, f"{where}.name: there is a deployment {profile.name!r} already")


def _fits(stage: Stage) -> Iterator[tuple[str, Fit]]:
    """The fits of a stage, each with the key that a problem with `on_divergence` stands at."""
    if isinstance(stage, TrainStage | DistillStage):
        yield "on_divergence", stage
    if isinstance(stage, PruneStage | SparsifyStage):
        yield "repair", stage.repair


def _place(root: Node, index: int, key: str) -> str:
    stages = root.child("stages")
    stage = stages.child(index) if stages else None
    node = (stage.child(key) or stage) if stage else root
    return node.place


def _weights(teacher: Teacher) -> str | None:
    if teacher.pretrained and teacher.checkpoint:
        return "takes `pretrained` or `checkpoint`, not both"
    if teacher.pretrained or teacher.checkpoint:
        return None
    if isinstance(teacher, OpenClipTeacher):
        if teacher.model.startswith(BRING_THEIR_WEIGHTS):
            return None
        return "has no weights; give `pretrained` (open_clip's tag) or `checkpoint` (a local file)"
    return "has no weights; give `checkpoint` (a local file) or `pretrained: true`"


def _start(student: Student) -> str | None:
    return "starts from `pretrained` or `checkpoint`, not both" if student.pretrained and student.checkpoint else None


def _options(student: Student) -> str | None:
    taken = sorted(TAKEN_OPTIONS & student.options.keys())
    return f"`options` may not set {', '.join(taken)}: the recipe does so elsewhere" if taken else None


def _pruning(stage: PruneStage, recipe: Recipe) -> Iterator[tuple[str, str]]:
    targets = [name for name in ("target_macs", "target_params", "target_latency") if getattr(stage, name) is not None]
    if not targets:
        others = "`target_params` or `target_latency`"
        yield "target_macs", f"is missing: a share of the multiply-accumulates that may remain, or {others}"
    for name in targets[1:]:
        yield name, f"there is `{targets[0]}` too; a stage takes one target"
    if stage.target_latency and (where := find_runtime(stage.target_latency.runtime).runs_on):
        name = stage.target_latency.runtime
        yield "target_latency", f"nothing is timed in {name} here: its files run {where}"
    if stage.ranking == "sensitivity" and not stage.analyse:
        yield "analyse", "`ranking: sensitivity` goes by it: give shares of channels to try, e.g. [0.25, 0.5, 0.75]"
    if stage.rounds > 1 and (recipe.trainer.devices != 1 or recipe.trainer.num_nodes > 1):
        yield "rounds", "several rounds are repaired on one device: set `trainer.devices: 1`"


def _sparsity(stage: SparsifyStage) -> Iterator[tuple[str, str]]:
    if stage.pattern == "2:4" and stage.sparsity is not None:
        yield "sparsity", "`pattern: 2:4` makes a half of the weights zero; leave `sparsity` out"
    if stage.pattern == "unstructured" and (stage.repair.select_on != "last" or stage.repair.patience):
        yield "repair", "sparsity rises through the epochs: the last one is kept, not a better one before it"


def _quantization(stage: QuantizeStage, recipe: Recipe) -> Iterator[tuple[str, str]]:
    method = METHODS[stage.method]
    if stage.observer and stage.observer not in method.observers:
        yield "observer", f"`method: {stage.method}` has no {stage.observer!r}; it has {listed(method.observers)}"
    if stage.target != "x86" and stage.method != "torchao":
        yield "target", f"`method: {stage.method}` has x86 only; torchao has {stage.target}"
    if stage.linear_weight_bits != 8 and not method.in_file:
        able = listed([name for name, other in METHODS.items() if other.in_file], "and")
        yield "linear_weight_bits", f"`method: {stage.method}` has 8 only; {able} have {stage.linear_weight_bits}"
    if not method.corrects:
        able = listed(name for name, other in METHODS.items() if other.corrects)
        for key, asked in (("bias_correction", stage.bias_correction != "off"), ("equalize", stage.equalize)):
            if asked:
                yield key, f"`method: {stage.method}` cannot do that; {able} can"
    if stage.training:
        yield from (("training", message) for message in _aware(stage, stage.training, recipe))


def _aware(stage: QuantizeStage, training: AwareTraining, recipe: Recipe) -> Iterator[str]:
    if stage.method != "torchao":
        yield f"`method: {stage.method}` quantizes a file, which cannot be trained; leave `method` out"
    if stage.target != "x86":
        yield f"`target: {stage.target}` is of calibration alone; leave one of the two out"
    for key in ("observer", "keep_accuracy"):
        if getattr(stage, key) is not None:
            yield f"`{key}` is of calibration; quantization-aware training learns the ranges"
    for key in ("ema", "compile"):
        if getattr(training, key):
            yield f"`{key}` does not go with the graph that is trained"
    reads = sorted(set(training.losses.named()) & READ_FEATURES)
    if reads or training.classifier == "teacher":
        yield f"{listed(reads) or '`classifier: teacher`'} reads features, which the trained graph does not show"
    if training.select_on == "test" and "test-selection" not in recipe.allow:
        yield TEST_SELECTION
    if recipe.trainer.devices != 1 or recipe.trainer.num_nodes > 1:
        yield "quantization-aware training is on one device: set `trainer.devices: 1`"
    yield from (message for _, message in _distillation(training))


def _exports(stage: ExportStage, recipe: Recipe) -> Iterator[tuple[str, str]]:
    quantized = [other for other in recipe.stages if isinstance(other, QuantizeStage) and other.id in stage.from_]
    for runtime in () if stage.auto else stage.runtimes:
        taken = find_runtime(runtime).quantizers
        refused = [other for other in quantized if other.method not in taken]
        if refused:
            names = listed([other.id for other in refused], "and")
            what = f"networks quantized by {listed({o.method for o in refused})}" if taken else "quantized networks"
            yield "runtimes", f"{runtime} takes no {what}: give {names} an export stage of its own"
        target = find_runtime(runtime).target
        if others := [other.id for other in quantized if target and other not in refused and other.target != target]:
            names = listed(others, "and")
            yield "runtimes", f"{runtime} takes quantized networks of `target: {target}` only: set it in {names}"


def _distillation(fit: Distillation) -> Iterator[tuple[str, str]]:
    losses = fit.losses.named()
    felt = [name for name, loss in losses.items() if max(loss.weight.start, loss.weight.end) > 0]
    teach = TEACH_CLASSIFIER if fit.classifier == "own" else TEACH_CLASSIFIER | TEACH_PROJECTION
    for name in fit.losses.own:
        if name not in PLUGIN_LOSSES:
            hint = did_you_mean(name, PLUGIN_LOSSES) or "; a plugin brings it: --plugin FILE.py"
            yield "losses", f"there is no own loss {name!r}{hint}"
    if not teach & set(felt) and not fit.losses.own:
        yield "losses", f"nothing is learnt by the classifier: give a weight to {listed(sorted(teach))}"
    for name in ("attention", "hint"):
        if name in losses and fit.teacher == "stored":
            yield "losses", f"`{name}` compares feature maps, which are not stored: it needs `teacher: live`"
    if "crd" in losses and fit.teacher == "live":
        yield "losses", "`crd` draws its negatives from stored embeddings: it needs `teacher: stored`"
    if fit.verify and fit.teacher == "live":
        yield "verify", "`verify` is about stored embeddings, and there are none with `teacher: live`"
