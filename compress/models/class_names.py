"""Which classes a weights file tells apart, and that they are the data's, in the data's order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.utils.errors import CompressError, UsageError
from compress.utils.messages import one_line, truncate_list

ARCHITECTURE = "architecture.json"


def classes_of(checkpoint: Path) -> tuple[str, ...] | None:
    """Names of the classes, in the order of the outputs, where the file or what lies beside it says so.

    They are the `classes` of a `.safetensors` file's metadata, as JSON, or of the `architecture.json` beside a
    `model.safetensors` that a stage made.
    """
    found: Any = None
    if checkpoint.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(checkpoint, "np") as file:
                found = json.loads((file.metadata() or {}).get("classes", "null"))
        except (OSError, ValueError, SafetensorError):  # what is wrong with the file is said where it is read
            return None
    if found is None and checkpoint.name == "model.safetensors":
        try:
            architecture = json.loads((checkpoint.parent / ARCHITECTURE).read_text())
            found = architecture.get("classes") if isinstance(architecture, dict) else None
        except (OSError, ValueError):
            return None
    whole = isinstance(found, list) and all(isinstance(name, str) for name in found)
    return tuple(found) if whole else None


def check_order(own: Sequence[str], data: Sequence[str], where: str) -> None:
    """Refuse classes in another order than the data's.

    Raises:
        CompressError: the names are the same and the order is not; the line has the first difference.
    """
    if tuple(own) == tuple(data) or sorted(own) != sorted(data):
        return
    row = next(row for row, (one, other) in enumerate(zip(own, data, strict=True)) if one != other)
    raise CompressError(
        f"{where} has the classes in another order: its output {row} is {one_line(own[row])!r}, "
        f"the data's class {row} is {one_line(data[row])!r}; "
        "train it on the classes in the data's order, which for folders is that of their names"
    )


def check_teacher(own: Sequence[str], data: Sequence[str], where: str) -> None:
    """Refuse a classifier whose classes are not the data's, one by one.

    Raises:
        CompressError: the classes or their order are others.
    """
    check_order(own, data, where)
    if tuple(own) != tuple(data):
        raise CompressError(
            f"{where} was trained for other classes ({truncate_list(own)}) than the data has ({truncate_list(data)})"
        )


def check_published(library: str, model: str, data: Sequence[str]) -> None:
    """Refuse published weights of a classifier that was not trained for the data's classes: its head would be random.

    Raises:
        UsageError: the library says that they are others.
    """
    names, count = _published(library, model)
    if names == tuple(data) or (names is None and count in (None, len(data))):
        return
    told = f"{count} classes" if names is None else f"other classes ({truncate_list(names)})"
    raise UsageError(
        f"{library}'s weights of {model} are for {told}, and the data has {len(data)} ({truncate_list(data)}): "
        "its head would be random; fine-tune it to the data and name the file as `checkpoint`"
    )


def _published(library: str, model: str) -> tuple[tuple[str, ...] | None, int | None]:
    """Names and number of classes that a library's published weights were trained for, as far as it says."""
    if library == "timm":
        import timm

        cfg = timm.models.get_pretrained_cfg(model, allow_unregistered=True)
        return None, cfg.num_classes if cfg else None
    from torchvision.models import get_model_weights

    names = tuple(get_model_weights(model).DEFAULT.meta["categories"])
    return names, len(names)
