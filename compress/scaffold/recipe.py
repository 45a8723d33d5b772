"""A first recipe for a person's own images: what was seen of them and what the machine is decide its settings."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from compress.data.arrow import ArrowData
from compress.data.csv_file import CsvData
from compress.data.torchvision_sets import CIFAR10_CLASSES
from compress.data.webdataset import WebData
from compress.deployment.runtimes import missing
from compress.recipe.data import FileData
from compress.recipe.json_schema import recipe_schema
from compress.recipe.yaml_tree import scalar
from compress.scaffold.detect import TEST_SHARE
from compress.scaffold.survey import Survey
from compress.utils.errors import UsageError
from compress.utils.messages import clean
from compress.utils.system import cores, has_gpu, hub_answers, in_hub_cache

SCHEMA = "recipe.schema.json"
OPEN_CLIP = "openclip-vit-b-32"
OPEN_CLIP_FILE = ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_model.safetensors")
SIDES = (32, 48, 64, 96, 128, 160, 192, 224)
FEW = 2000  # train images, up to which batches are small and every image is seen often
SHOTS = 16  # labels of the smallest class from which a probe is better than a zero-shot head (arXiv 2103.00020, 3.1.5)
CERTAIN = 1000  # test images from which a difference of one point can be shown at all


@dataclass(frozen=True)
class Machine:
    """What decides how much work a recipe may ask.

    Attributes:
        open_clip: whether the weights of OpenCLIP ViT-B/32 can be had.
        downloads: whether published weights can be fetched at all.
        runtimes: those that can run here.
    """

    cores: int
    gpu: bool
    open_clip: bool
    downloads: bool
    runtimes: tuple[str, ...]


@dataclass(frozen=True)
class Choices:
    """The settings that a recipe starts with."""

    side: int
    epochs: int
    batch: int
    views: int
    teacher: str | None
    why: str


def choose(survey: Survey, machine: Machine) -> Choices:
    """Side by images and processor, epochs by the number of images, teacher by classes and network."""
    train = sum(survey.counts["train"])
    if "test" not in survey.counts:
        train = round(train * (1 - TEST_SHARE))
    cap = 224 if machine.gpu else 128 if machine.cores >= 16 else 96 if machine.cores >= 4 else 64
    short = sorted(survey.short_sides)[len(survey.short_sides) // 2]
    side = max(side for side in SIDES if side == SIDES[0] or side <= min(cap, short))
    few = train <= FEW
    batch = 32 if few else 128
    steps, least, most = (4000, 20, 100) if machine.gpu else (600, 5, 60)
    epochs = min(most, max(least, -(-steps * batch // train)))
    teacher, why = _teacher(survey, machine)
    return Choices(side, epochs, batch, 4 if few else 2, teacher, why)


def _teacher(survey: Survey, machine: Machine) -> tuple[str | None, str]:
    """The `teacher:` of a recipe, or none, and the reason."""
    words = {name.replace("_", " ").lower() for name in survey.classes}
    if machine.open_clip:
        named = all(re.search(r"[^\W\d_]{3}", name) for name in survey.classes)
        enough = min(survey.counts["train"]) * (1 - TEST_SHARE) >= SHOTS
        if named and not enough:
            return OPEN_CLIP, "OpenCLIP ViT-B/32, which reads the names of the classes: there are few labels of some"
        reason = "with labels enough, that is better than reading their names" if named else "their names are no words"
        return f"{{use: {OPEN_CLIP}, head: probe}}", f"OpenCLIP ViT-B/32, its head fitted to your labels: {reason}"
    if words <= set(CIFAR10_CLASSES):
        return "embedded", "the embedded one, which knows these classes (of CIFAR-10)"
    return None, (
        "none, so that the recipe trains on your labels: OpenCLIP's weights cannot be fetched here, and the embedded "
        "teacher knows CIFAR-10's classes only. Where there is a network, `init` distils from OpenCLIP"
    )


def recipe_text(settings: FileData, survey: Survey, machine: Machine, choices: Choices) -> str:
    """The recipe, with comments, as a person reads and changes it."""
    stages = _taught(choices, machine) if choices.teacher else _untaught(choices, machine)
    first = "distilled" if choices.teacher else "trained"
    tests = sum(survey.counts["test"]) if "test" in survey.counts else round(sum(survey.counts["train"]) * TEST_SHARE)
    tolerance, note = (
        ("0.01", "") if tests >= CERTAIN else ("0.05", f"; some {tests} test images show no smaller difference")
    )
    parts = [
        f"# yaml-language-server: $schema={SCHEMA}",
        "# Written by `compress-model init`. Relative paths are seen from the folder in which the command is started.",
        f"name: {_name(settings.path)}",
        "",
        *_data(settings, survey, choices),
        "",
        "stages:",
        *stages,
        *_exports(first, choices, machine),
        "",
        "worth:",
        f"  references: [{first}] # what savings are counted against",
        f"  tolerance: {tolerance} # loss of accuracy that counts as equal{note}",
        "  deployment: cloud-cpu # or on-device; `compress-model list deployments`",
    ]
    return "\n".join(parts) + "\n"


def _data(settings: FileData, survey: Survey, choices: Choices) -> list[str]:
    lines = ["data:", f"  source: {settings.source}", f"  path: {quoted(settings.path)}"]
    if isinstance(settings, CsvData | ArrowData | WebData):
        columns = ("image", "label", "split")
        found = {name: value for name in columns if (value := getattr(settings, name, None)) is not None}
        lines += [f"  {name}: {quoted(value)}" for name, value in found.items()]
    lines.append(f"  resolution: {choices.side} # pixels; larger sees more and takes longer, by its square")
    if settings.test is not None:
        lines.append(
            f"  test: {settings.test} # share of the images that is cut off for test, as there is no test split"
        )
    if "validation" not in survey.counts:
        lines.append("  validation: 0.1 # share of the train images that is cut off, to choose by")
    if survey.broken:
        lines.append(f"  broken: skip # {len(survey.broken)} files are no images; `refuse` stops at the first")
    if choices.teacher:
        lines.append('  templates: ["a photo of a {}.", "a blurry photo of a {}.", "a close-up photo of a {}."]')
        lines.append("  # prompts: {CLASS: words for it} # where the name of a class is not what a person would say")
    lines.append(
        "  views: {shift: 0.125, flip: true, brightness: 0.2, contrast: 0.2} # how a view differs from its image"
    )
    return lines


def _fit(choices: Choices, epochs: int, lr: str, indent: str, views: bool) -> list[str]:
    lines = [f"epochs: {epochs}", f"batch: {choices.batch}", "optimizer: adamw", f"lr: {lr}", "weight_decay: 0.05"]
    lines += [
        f"views: {choices.views} # augmented versions of each image",
        "losses: {ce: 1, kd: 1, embedding: 15}",
    ] * views
    return [indent + line for line in lines]


def _student(machine: Machine) -> list[str]:
    if not machine.downloads:
        return ["    student: resnet18 # or any model of timm, or torchvision/..."]
    return [
        "    # Any model of timm, or torchvision/...; it starts from published weights, which few images need.",
        "    student:",
        "      {use: resnet18, pretrained: true, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}",
    ]


def _rates(choices: Choices, machine: Machine) -> tuple[str, str]:
    """Highest rates of the fit and of a repair."""
    if machine.downloads:
        return "0.0005", "0.0003"
    return ("0.002", "0.001") if choices.batch == 32 else ("0.003", "0.002")


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="  # ", subsequent_indent="  # ")


def _taught(choices: Choices, machine: Machine) -> list[str]:
    rate, repair = _rates(choices, machine)
    return [
        *_comment(f"Teacher: {choices.why}."),
        "  - id: teacher",
        "    kind: teacher",
        f"    teacher: {choices.teacher}",
        "",
        "  - id: distilled # learns from the teacher's answers to views of every image, and from the labels",
        "    kind: distill",
        "    from: teacher",
        *_student(machine),
        *_fit(choices, choices.epochs, rate, "    ", views=True),
        *_pruned("distilled", choices, repair),
    ]


def _untaught(choices: Choices, machine: Machine) -> list[str]:
    rate, repair = _rates(choices, machine)
    return [
        *_comment(f"Teacher: {choices.why}."),
        "  - id: trained",
        "    kind: train",
        *_student(machine),
        *_fit(choices, choices.epochs, rate, "    ", views=False),
        *_pruned("trained", choices, repair),
    ]


def _pruned(parent: str, choices: Choices, rate: str) -> list[str]:
    return [
        "",
        "  - id: pruned # half of the multiply-accumulates, then trained on",
        "    kind: prune",
        f"    from: {parent}",
        "    target_macs: 0.5",
        "    round_to: 32 # whole vectors of the runtimes' integer kernels",
        "    repair:",
        *_fit(choices, max(1, round(choices.epochs * 0.6)), rate, "      ", views=bool(choices.teacher)),
        "",
        "  - id: int8 # 8-bit integers in place of 32-bit floating point",
        "    kind: quantize",
        "    from: pruned",
        "    calibration_images: 512 # at most; of the train images",
    ]


def _exports(first: str, choices: Choices, machine: Machine) -> list[str]:
    variants = ", ".join(([] if choices.teacher is None else ["teacher"]) + [first, "pruned", "int8"])
    lines = [
        "",
        "  - id: files # what is deployed; each file is put through the whole test split and timed",
        "    kind: export",
        f"    from: [{variants}]",
        f"    runtimes: [{', '.join(machine.runtimes)}]",
    ]
    if machine.runtimes:
        return lines
    return [
        "",
        "  # pip install 'compress-model[deploy]' adds runtimes; then a stage of kind export writes their files.",
    ]


def _name(path: str) -> str:
    """A recipe's name out of the data's."""
    stem = Path(path).resolve().name.partition(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:64]
    return name if name and name.lower() != "store" and isinstance(scalar(name), str) else "photos"


def quoted(text: str) -> str:
    """Text as YAML: plain where it stays itself, else in double quotes.

    Raises:
        UsageError: it is not UTF-8, which YAML is.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{clean(text)}: the name is not UTF-8; rename it, since a recipe can not hold it") from error
    plain = re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./ -]*", text) and text == text.strip()
    return text if plain and isinstance(scalar(text), str) else json.dumps(text, ensure_ascii=not text.isprintable())


def this_machine() -> Machine:
    """What is here. Loads torch, and asks the model hub whether it answers."""
    downloads = hub_answers()
    runtimes = tuple(name for name in ("onnxruntime", "openvino") if not missing(name))
    return Machine(cores(), has_gpu(), downloads or in_hub_cache(*OPEN_CLIP_FILE), downloads, runtimes)


def check_free(file: Path, *, force: bool) -> None:
    """Refuse to write over a file.

    Raises:
        UsageError: it is there and `force` is not, or it is a folder, or its own folder is not there.
    """
    if file.is_dir():
        raise UsageError(f"{file} is a folder; name a file, e.g. --output {file / 'recipe.yaml'}")
    if file.exists() and not force:
        raise UsageError(f"{file} is there already; --output names another file, --force writes over it")
    if not file.parent.is_dir():
        raise UsageError(f"{file.parent} does not exist; --output names a file in a folder that does")


def write_recipe(file: Path, text: str) -> None:
    """Write a recipe, and beside it the schema that its first line names, if it is not there."""
    file.write_text(text, encoding="utf-8")
    schema = file.with_name(SCHEMA)
    if not schema.exists():
        schema.write_text(json.dumps(recipe_schema(), indent=1) + "\n", encoding="utf-8")
