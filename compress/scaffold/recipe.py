"""Write a first recipe for the user's own images, with comments to change it by."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path

from compress.data.preprocess import Preprocess
from compress.data.splits import test_count
from compress.efficiency.grants import why_never
from compress.efficiency.intervals import images_needed
from compress.efficiency.per_class import ClassPair, best_case
from compress.recipe.data import FileData
from compress.recipe.json_schema import recipe_schema
from compress.scaffold.choices import Choices, Machine
from compress.scaffold.data_section import augmentation_lines, data_lines, quoted, recipe_name
from compress.scaffold.detect import TEST_SHARE
from compress.scaffold.own_model import OwnWeights
from compress.scaffold.survey import Leaks, Survey, imbalance
from compress.utils.atomic import write_atomic
from compress.utils.errors import UsageError
from compress.utils.messages import join_words, one_line

SCHEMA = "recipe.schema.json"
TOLERANCE = 0.01
GUESS = " # the usual value: the file states none"
MAX_NAMES = 12  # of classes in a comment
MIN_STUDENT_RESOLUTION = 64  # pixels below which weights from ImageNet are of little use
LR, REPAIR_LR = "0.0005", "0.0003"  # peak learning rates of a pretrained student
MIN_TEST_IMAGES = 1000  # fewer show equality within one point only of networks that hardly ever disagree


def recipe_text(
    settings: FileData, survey: Survey, machine: Machine, choices: Choices, own: OwnWeights | None = None
) -> str:
    """Return the recipe as commented YAML: for an own model, or one that the run trains."""
    first = "mine" if own else "distilled" if choices.teacher else "trained"
    stages = (
        _own(own, survey) if own else _distilled(choices, machine) if choices.teacher else _trained(choices, machine)
    )
    lines = [
        f"# yaml-language-server: $schema={SCHEMA}",
        "# Written by `compress-model init`. Relative paths start at the folder in which you run the command.",
        f"name: {recipe_name(settings.path)}",
        *_allowed(survey.leaks),
        "",
        *data_lines(settings, survey, machine, choices.resolution, trained=bool(own)),
        *([] if own else augmentation_lines(choices, machine)),
        "",
        *([] if own else ["trainer: {precision: auto} # FP32, or bf16 where this machine trains faster in it", ""]),
        "stages:",
        *stages,
        *_exports([first, "int8"] if own else [*["teacher"] * bool(choices.teacher), first, "pruned", "int8"], machine),
        "",
        "worth:",
        f"  references: [{first}] # what savings are counted against",
        *_metric(survey),
        f"  tolerance: {TOLERANCE} # loss of accuracy that counts as equal{_too_few(settings, survey)}",
        "  deployment: cloud-cpu # or on-device; see `compress-model list deployments`",
    ]
    return "\n".join(lines) + "\n"


def require_writable(file: Path, *, force: bool) -> None:
    """Refuse a path that a recipe cannot be written to.

    Raises:
        UsageError: it exists and `force` is False, or it is a folder, or its folder does not exist.
    """
    if file.is_dir():
        raise UsageError(f"{file} is a folder; name a file, e.g. --output {file / 'recipe.yaml'}")
    if file.exists() and not force:
        raise UsageError(f"{file} already exists; choose another --output, or overwrite it with --force")
    if not file.parent.is_dir():
        raise UsageError(f"{file.parent} does not exist; create it or choose another --output")


def write_recipe(file: Path, text: str) -> None:
    """Write a recipe, and the JSON Schema of this version that its first line names."""
    write_atomic(file.with_name(SCHEMA), json.dumps(recipe_schema(), indent=1) + "\n")
    write_atomic(file, text)


def _metric(survey: Survey) -> list[str]:
    """Return the line that counts all classes alike, where they are imbalanced."""
    if not (ratio := imbalance(survey)):
        return []
    return [f"  metric: balanced # classes are imbalanced, {ratio:.0f} to 1: top-1 would hardly notice the rarest"]


def _too_few(settings: FileData, survey: Survey) -> str:
    """Remark that the test images cannot show equal accuracy within the tolerance, or may not; empty where they can."""
    share = settings.test or TEST_SHARE
    counts = survey.counts.get("test") or [test_count(count, share) for count in survey.counts["train"]]
    tests = sum(counts)
    if tests and imbalance(survey):
        names = zip(counts, survey.classes, strict=True)
        never = why_never(best_case([ClassPair(0, 0, n, one_line(name)) for n, name in names]), TOLERANCE)
        if never:
            return f"; can never be shown: {never}"
    elif tests < images_needed(TOLERANCE):
        return f"; about {tests} test images can never show it: at least {images_needed(TOLERANCE)} are needed"
    return f"; about {tests} test images may be too few to show it" if tests < MIN_TEST_IMAGES else ""


def _allowed(leaks: Leaks) -> list[str]:
    """Return the commented line that waives the refusal of test images in other splits, where there are any."""
    if not leaks.first:
        return []
    images = "image that is" if leaks.test == 1 else "images that are"
    pair = join_words([one_line(name) for name in leaks.first], "and")
    return [
        f"# `run` refuses {leaks.test:,} test {images} also in another split, e.g. {pair}.",
        "# Remove them from one of the splits; allowed, they make accuracy look better than it is:",
        "# allow: [overlap]",
    ]


def _own(own: OwnWeights, survey: Survey) -> list[str]:
    preprocess = own.preprocess
    values = {
        "resolution": f"{preprocess.resolution}",
        "crop_pct": f"{_crop_share(preprocess)}",
        "mean": f"{list(preprocess.mean)}",
        "std": f"{list(preprocess.std)}",
        "interpolation": preprocess.interpolation,
    }
    lines = [
        *_comment(
            "Your model as it is: nothing is trained. Its pixels must be those of your own evaluation transform."
        ),
        "  - id: mine",
        "    kind: model",
        "    model:",
        f"      source: {own.library}",
        f"      model: {own.model}",
        f"      checkpoint: {quoted(str(own.path))}",
        *(f"      {key}: {value}{'' if key in own.stored else GUESS}" for key, value in values.items()),
    ]
    if own.classes is None:
        names = ", ".join(map(quoted, survey.classes[:MAX_NAMES]))
        more = ", ..." if len(survey.classes) > MAX_NAMES else ""
        lines.append(f"      # classes: [{names}{more}] # in the order of its outputs, if it is another one")
    return lines + _quantized("mine")


def _crop_share(preprocess: Preprocess) -> float:
    """Return the `crop_pct` from which the resize follows, rounded down to pixels."""
    side, resize = preprocess.resolution, preprocess.resize or preprocess.resolution
    share = round(side / resize, 4)
    return share if int(side / share) == resize else round(side / (resize + 0.5), 4)


def _trained(choices: Choices, machine: Machine) -> list[str]:
    return [
        *_comment(f"Teacher: {choices.reason}."),
        "  - id: trained",
        "    kind: train",
        *_student(choices, machine),
        *_fit(choices, choices.epochs, LR, "    ", distil=False),
        *_pruned_and_quantized("trained", choices),
    ]


def _distilled(choices: Choices, machine: Machine) -> list[str]:
    return [
        *_comment(f"Teacher: {choices.reason}."),
        "  - id: teacher",
        "    kind: teacher",
        f"    teacher: {choices.teacher}",
        "",
        "  - id: distilled # learns from the teacher's outputs on augmented views, and from the labels",
        "    kind: distill",
        "    from: teacher",
        *_student(choices, machine),
        *_fit(choices, choices.epochs, LR, "    ", distil=True),
        *_pruned_and_quantized("distilled", choices),
    ]


def _pruned_and_quantized(parent: str, choices: Choices) -> list[str]:
    return [
        "",
        "  - id: pruned # to half of the multiply-accumulates, then fine-tuned",
        "    kind: prune",
        f"    from: {parent}",
        "    target_macs: 0.5",
        "    round_to: 32 # multiples of the vector width of integer kernels",
        "    repair:",
        *_fit(choices, max(1, round(choices.epochs * 0.6)), REPAIR_LR, "      ", distil=bool(choices.teacher)),
        *_quantized("pruned"),
    ]


def _quantized(parent: str) -> list[str]:
    return [
        "",
        "  - id: int8 # 8-bit integers instead of 32-bit floating point",
        "    kind: quantize",
        f"    from: {parent}",
        "    calibration_images: 512 # at most; from the train images",
    ]


def _student(choices: Choices, machine: Machine) -> list[str]:
    small = choices.resolution < MIN_STUDENT_RESOLUTION
    side = f", resolution: {MIN_STUDENT_RESOLUTION}" if small else ""
    shipped = f"{{use: resnet18-imagenet{side}}}"
    published = f"{{use: resnet18, pretrained: true{side}, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}}"
    return [
        "    # Any timm model, or torchvision/...; pretrained weights help most when there are few images.",
        *["    # These expect larger images, so the student enlarges its input."] * small,
        "    student:",
        f"      {published if machine.student_weights else shipped}",
    ]


def _fit(choices: Choices, epochs: int, rate: str, indent: str, *, distil: bool) -> list[str]:
    lines = [f"epochs: {epochs}", f"batch: {choices.batch}", "optimizer: adamw", f"lr: {rate}", "weight_decay: 0.05"]
    if distil:
        lines += [f"views: {choices.views} # augmented versions per image", "losses: {ce: 1, kd: 1, embedding: 15}"]
    return [indent + line for line in lines]


def _exports(variants: Sequence[str], machine: Machine) -> list[str]:
    if not machine.runtimes:
        return [
            "",
            "  # pip install 'compress-model[deploy]' adds runtimes; then add a stage of kind export for their files.",
        ]
    return [
        "",
        "  - id: files # deployable files, each evaluated on the whole test split and benchmarked",
        "    kind: export",
        f"    from: [{', '.join(variants)}]",
        f"    runtimes: [{', '.join(machine.runtimes)}]",
    ]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="  # ", subsequent_indent="  # ")
