"""Choose the settings of a first recipe from a survey of the images and from what this machine can do."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass
from pathlib import Path

from compress.data.torchvision_sets import CIFAR10_CLASSES
from compress.deployment.runtimes import missing
from compress.scaffold.detect import TEST_SHARE
from compress.scaffold.own_model import OwnWeights
from compress.scaffold.survey import Survey
from compress.utils.system import cores, free_bytes, has_gpu, hub_is_reachable, is_in_hub_cache

OPEN_CLIP = "openclip-vit-b-32"
OPEN_CLIP_FILE = ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_model.safetensors")
STUDENT_FILE = ("timm/resnet18.a1_in1k", "model.safetensors")
RESOLUTIONS = (32, 48, 64, 96, 128, 160, 192, 224)
SMALL_DATASET = 2000  # images to train on up to which batches are small and each image gets more views
NUMBERED = re.compile(
    r"(category|class|cluster|grade|group|kind|label|level|score|severity|stage|type)[\W_]*(\d+|[a-z])?", re.IGNORECASE
)  # names of classes that are no words for prompts
MIN_PROBE_LABELS = 16  # of the median class, from which a linear probe beats a zero-shot head (arXiv 2103.00020, 3.1.5)


@dataclass(frozen=True)
class Machine:
    """Limits that this machine sets to a recipe."""

    cores: int
    gpu: bool
    open_clip: bool  # whether the weights of OpenCLIP ViT-B/32 are cached or can be downloaded
    student_weights: bool  # whether those of timm's ResNet18 are; otherwise the student starts from the shipped ones
    runtimes: tuple[str, ...]  # installed runtimes
    free_bytes: int  # on the disk of the store


@dataclass(frozen=True)
class Choices:
    """The settings that a recipe starts with."""

    resolution: int
    epochs: int
    batch: int
    views: int
    teacher: str | None  # the recipe's `teacher:`, or None for training on labels alone
    reason: str  # why this teacher, for the user


def this_machine(runs: Path) -> Machine:
    """Describe this machine, whose store is in `runs`. Loads torch, and asks whether the model hub can be reached."""
    hub = hub_is_reachable()
    open_clip, student = (hub or is_in_hub_cache(*file) for file in (OPEN_CLIP_FILE, STUDENT_FILE))
    runtimes = tuple(name for name in ("onnxruntime", "openvino") if not missing(name))
    return Machine(cores(), has_gpu(), open_clip, student, runtimes, free_bytes(runs))


def choose(survey: Survey, machine: Machine, own: OwnWeights | None = None) -> Choices:
    """Choose resolution by images and processor, epochs by data set size, teacher by classes and network access.

    An own model has a resolution, and is not trained.
    """
    teacher, reason = (None, "") if own else _teacher(survey, machine)
    train = sum(survey.counts["train"])
    if "test" not in survey.counts:
        train = round(train * (1 - TEST_SHARE))
    if teacher:  # a student learns from its teacher on unlabelled images as well
        train += sum(survey.counts.get("unlabeled", ()))
    cap = 224 if machine.gpu else 128 if machine.cores >= 16 else 96 if machine.cores >= 4 else 64
    median = sorted(survey.short_sides)[len(survey.short_sides) // 2]
    resolution = max(side for side in RESOLUTIONS if side == RESOLUTIONS[0] or side <= min(cap, median))
    small = train <= SMALL_DATASET
    batch = 32 if small else 128
    steps, min_epochs, max_epochs = (4000, 20, 100) if machine.gpu else (600, 5, 60)
    epochs = min(max_epochs, max(min_epochs, -(-steps * batch // train)))
    if own:
        return Choices(own.preprocess.resolution, 0, batch, 0, None, "")
    return Choices(resolution, epochs, batch, 4 if small else 2, teacher, reason)


def _teacher(survey: Survey, machine: Machine) -> tuple[str | None, str]:
    """Return the recipe's `teacher:`, or None, and the reason."""
    if machine.open_clip:
        have_names = all(re.search(r"[^\W\d_]{3}", name) and not NUMBERED.fullmatch(name) for name in survey.classes)
        share = 1 if "test" in survey.counts else 1 - TEST_SHARE
        enough_labels = statistics.median(survey.counts["train"]) * share >= MIN_PROBE_LABELS
        if have_names and not enough_labels:
            return OPEN_CLIP, "OpenCLIP ViT-B/32, zero-shot from the class names, because most classes have few labels"
        reason = "there are enough labels for it" if have_names else "the class names are not words"
        return f"{{use: {OPEN_CLIP}, head: probe}}", f"OpenCLIP ViT-B/32 with a linear probe, because {reason}"
    if {name.replace("_", " ").lower() for name in survey.classes} <= set(CIFAR10_CLASSES):
        return "embedded", "the embedded one, which knows these classes of CIFAR-10"
    return None, (
        "none, so the recipe trains on your labels alone: OpenCLIP's weights cannot be downloaded, and the embedded "
        "teacher knows CIFAR-10 only; rerun `init` with network access to distil"
    )
