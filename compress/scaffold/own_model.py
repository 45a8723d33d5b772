"""Recognise an own trained model: its architecture, outputs and preprocessing, from its weights file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compress.data.preprocess import Preprocess
from compress.models.class_names import output_rows
from compress.models.names import name_problem, published_preprocess
from compress.models.weights_file import Checkpoint, read_checkpoint
from compress.utils.errors import CompressError, UsageError
from compress.utils.messages import join_words, truncate_list

if TYPE_CHECKING:
    from torch import nn

ENDINGS = (".pth", ".pt", ".ckpt", ".safetensors")
LIBRARIES = ("torchvision", "timm")  # the first one of equal networks is taken
COMMON = {
    "torchvision": (
        *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "wide_resnet50_2"),
        *("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "mnasnet1_0", "shufflenet_v2_x1_0"),
        *("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_v2_s"),
        *("convnext_tiny", "convnext_small", "regnet_y_400mf", "regnet_y_800mf", "densenet121", "densenet169"),
        *("alexnet", "vgg11", "vgg16", "vgg16_bn", "vgg19", "squeezenet1_1", "googlenet", "inception_v3"),
        *("vit_b_16", "vit_b_32", "swin_t", "swin_s", "swin_v2_t"),
    ),
    "timm": (
        *("resnet18", "resnet34", "resnet50", "resnet50d", "seresnet50", "mobilenetv2_100", "lcnet_100"),
        *("mobilenetv3_small_100", "mobilenetv3_large_100", "mobilenetv4_conv_small", "mobilenetv4_conv_medium"),
        *("efficientnet_b0", "tf_efficientnet_b0", "efficientnet_lite0", "tf_efficientnetv2_s", "ghostnet_100"),
        *("convnext_tiny", "convnext_small", "convnextv2_tiny", "regnety_004", "regnety_008", "densenet121"),
        *("vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224", "deit3_small_patch16_224"),
        *("deit_small_distilled_patch16_224", "beit_base_patch16_224", "swin_tiny_patch4_window7_224", "levit_128"),
        *("fastvit_t8", "repvit_m1", "mobilevit_s", "mobileone_s0", "rexnet_100", "xception41", "hrnet_w18"),
    ),
}
"""Architectures that a file without a name is compared with."""
USUAL = Preprocess(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear", 256)
"""Evaluation transform of torchvision's training references, where neither file nor library states another."""


@dataclass(frozen=True)
class OwnWeights:
    """A trained model in a file."""

    path: Path
    library: str
    model: str
    outputs: int
    classes: tuple[str, ...] | None  # names of the outputs, if the file has them
    preprocess: Preprocess
    stored: tuple[str, ...]  # keys of the recipe whose values are from the file, and not the usual ones
    notes: tuple[str, ...]  # what was taken of the file


def find_checkpoints(*folders: Path) -> list[Path]:
    """List the weights files that lie in folders, largest first."""
    files = {file for folder in folders if folder.is_dir() for file in folder.iterdir() if file.suffix in ENDINGS}
    return sorted((file for file in files if file.is_file()), key=lambda file: (-file.stat().st_size, file.name))


def recognise(path: Path, arch: str | None) -> OwnWeights:
    """Read a weights file, and find the architecture whose weights it has.

    Args:
        path: The file.
        arch: Name of the model, or LIBRARY/NAME; default: one of `COMMON` that has the same weights.

    Raises:
        CompressError: the file is damaged, or of another architecture.
        UsageError: no library has the model, or the architecture is not clear; the message has the candidates.
    """
    checkpoint = read_checkpoint(path)
    fitting: dict[tuple[str, str], int] = {}
    refused: CompressError | None = None
    for library, name in _named(arch) if arch else _common():
        try:
            fitting[library, name] = _outputs(library, name, checkpoint, path)
        except CompressError as error:
            refused = error
    if not fitting:
        raise refused if arch and refused else UsageError(f"{path}: {_unknown(checkpoint)}")
    first, *others = fitting
    different = [other for other in others if not _same_function(first, other, checkpoint, path, fitting[first])]
    if different:
        names = [f"{library}/{name}" for library, name in (first, *different)]
        raise UsageError(f"{path} has the weights of {join_words(names)}; name it, e.g. --arch {names[0]}")
    preprocess, stored = _preprocess(*first, checkpoint)
    return OwnWeights(path, *first, fitting[first], checkpoint.classes, preprocess, stored, checkpoint.notes)


def require_classes(own: OwnWeights, classes: Sequence[str]) -> None:
    """Raise a `UsageError` unless the model has an output for each of the data's classes."""
    if own.classes and len(own.classes) == own.outputs:
        if output_rows(own.classes, classes) is None:
            raise UsageError(
                f"{own.path} classifies {truncate_list(own.classes)}, the images are of {truncate_list(classes)}; "
                "give images of its classes, named alike"
            )
    elif own.outputs != len(classes):
        raise UsageError(
            f"{own.path} has {own.outputs} outputs, and the images are of {len(classes)} classes "
            f"({truncate_list(classes)}); give images of its classes"
        )


def _named(arch: str) -> list[tuple[str, str]]:
    """Return the libraries that have a model, with its name."""
    library, slash, name = arch.partition("/")
    if slash and library not in LIBRARIES:
        raise UsageError(f"--arch {arch}: unknown library {library!r}; write timm/NAME or torchvision/NAME")
    name, libraries = (name, (library,)) if slash else (arch, LIBRARIES)
    problems = {each: name_problem(each, name) for each in libraries}
    found = [(each, name) for each, problem in problems.items() if problem is None]
    if not found:
        raise UsageError(f"--arch {arch}: {'; '.join(problem for problem in problems.values() if problem)}")
    return found


def _common() -> Iterator[tuple[str, str]]:
    for library, names in COMMON.items():
        yield from ((library, name) for name in names)


def _outputs(library: str, name: str, checkpoint: Checkpoint, path: Path) -> int:
    """Return the number of outputs of a file's weights in a model; a `CompressError` if they are of another one."""
    from compress.models.heads import classifiers
    from compress.models.weight_names import fit_names

    model = _build(library, name, 2, checkpoint, empty=True)
    taken, _ = fit_names(model, checkpoint.weights, str(path), ema=checkpoint.ema, new_head=False)
    return int(taken[f"{next(iter(classifiers(model)))}.weight"].shape[0])


def _build(library: str, name: str, outputs: int, checkpoint: Checkpoint, *, empty: bool = False) -> nn.Module:
    """Build a model; an `empty` one has no memory for weights, which takes a tenth of the time."""
    import torch

    from compress.models.factory import create_model

    side = _preprocess(library, name, checkpoint)[0].resolution
    if empty:
        with suppress(CompressError), torch.device("meta"):  # not if it computes with its initial weights
            return create_model(library, name, outputs, side)
    return create_model(library, name, outputs, side)


def _same_function(
    one: tuple[str, str], other: tuple[str, str], checkpoint: Checkpoint, path: Path, outputs: int
) -> bool:
    """Return whether two architectures compute the same with these weights."""
    import torch

    from compress.models.weights_file import load_into

    side = _preprocess(*one, checkpoint)[0].resolution
    images, logits = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)), []
    for library, name in (one, other):
        model = _build(library, name, outputs, checkpoint)
        load_into(model, replace(checkpoint, classes=None), str(path), new_head=False)
        with torch.no_grad():
            logits.append(model.eval()(images))
    first, second = logits
    return torch.allclose(first, second, rtol=1e-3, atol=1e-3 * float(first.abs().max()))


def _preprocess(library: str, name: str, checkpoint: Checkpoint) -> tuple[Preprocess, tuple[str, ...]]:
    """Return the preprocessing that the file states, completed by the usual one, and the keys that it states."""
    from compress.data.geometry import INTERPOLATIONS

    stored = checkpoint.preprocess
    tagged = name if library == "timm" or "." in name else f"{name}.IMAGENET1K_V1"  # what most are fine-tuned with
    usual = published_preprocess(library, tagged) or USUAL
    side = stored.input_size or usual.resolution
    resize = stored.resize or (int(side / stored.crop_pct) if stored.crop_pct else None)
    own = {
        "resolution": stored.input_size,
        "crop_pct": resize,
        "mean": stored.mean,
        "std": stored.std,
        "interpolation": stored.interpolation,
    }
    interpolation = next((each for each in INTERPOLATIONS if each == stored.interpolation), usual.interpolation)
    preprocess = Preprocess(
        resolution=side,
        mean=stored.mean or usual.mean,
        std=stored.std or usual.std,
        interpolation=interpolation,
        resize=resize or round(side * (usual.resize or usual.resolution) / usual.resolution),
    )
    return preprocess, tuple(key for key, value in own.items() if value is not None)


def _unknown(checkpoint: Checkpoint) -> str:
    names: Sequence[str] = list(checkpoint.weights)
    return (
        f"not the weights of a common architecture ({len(names)} tensors: {truncate_list(names)}); name its model of "
        "timm or torchvision, e.g. --arch resnet50"
    )
