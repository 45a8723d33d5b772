"""Class names stored with a checkpoint, and checks that they match the data's, in the data's order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.utils.errors import CompressError, UsageError
from compress.utils.messages import one_line, truncate_list

ARCHITECTURE = "architecture.json"


def read_class_names(checkpoint: Path) -> tuple[str, ...] | None:
    """Read the class names of a checkpoint, in the order of the outputs; None if they are not stored.

    They are the `classes` in the metadata of a `.safetensors` file, as JSON, or in the `architecture.json` beside the
    `model.safetensors` of a stage.
    """
    names: Any = None
    if checkpoint.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(checkpoint, "np") as file:
                names = json.loads((file.metadata() or {}).get("classes", "null"))
        except (OSError, ValueError, SafetensorError):  # reading the weights reports what is wrong
            return None
    if names is None and checkpoint.name == "model.safetensors":
        try:
            architecture = json.loads((checkpoint.parent / ARCHITECTURE).read_text())
            names = architecture.get("classes") if isinstance(architecture, dict) else None
        except (OSError, ValueError):
            return None
    valid = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if valid else None


def check_order(own: Sequence[str], data: Sequence[str], where: str) -> None:
    """Refuse the data's classes in another order; the `CompressError` has the first difference."""
    if tuple(own) == tuple(data) or sorted(own) != sorted(data):
        return
    row = next(row for row, (one, other) in enumerate(zip(own, data, strict=True)) if one != other)
    raise CompressError(
        f"{where} has the classes in another order: its output {row} is {one_line(own[row])!r}, "
        f"the data's class {row} is {one_line(data[row])!r}; "
        "train it with the data's order, which for folders is alphabetical"
    )


def check_teacher(own: Sequence[str], data: Sequence[str], where: str) -> None:
    """Raise a `CompressError` unless a classifier's classes are the data's, in the data's order."""
    check_order(own, data, where)
    if tuple(own) != tuple(data):
        raise CompressError(
            f"{where} was trained for other classes ({truncate_list(own)}) than the data's ({truncate_list(data)})"
        )


def check_published(library: str, model: str, data: Sequence[str]) -> None:
    """Raise a `UsageError` for published weights for other classes than the data's: the head would be random."""
    names, count = _published(library, model)
    if names == tuple(data) or (names is None and count in (None, len(data))):
        return
    others = f"{count} classes" if names is None else f"other classes ({truncate_list(names)})"
    raise UsageError(
        f"{library}'s weights of {model} are for {others}, and the data has {len(data)} ({truncate_list(data)}): "
        "its head would be random; fine-tune it on the data and set `checkpoint` to the file"
    )


def _published(library: str, model: str) -> tuple[tuple[str, ...] | None, int | None]:
    """Names and number of the classes that published weights were trained for; None for what the library omits."""
    if library == "timm":
        import timm

        cfg = timm.models.get_pretrained_cfg(model, allow_unregistered=True)
        return None, cfg.num_classes if cfg else None
    from torchvision.models import get_model_weights

    names = tuple(get_model_weights(model).DEFAULT.meta["categories"])
    return names, len(names)
