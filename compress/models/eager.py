"""Variants in eager PyTorch, rebuilt from their folders. Imports neither Lightning nor the stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors.torch import load_file
from torch import nn

from compress.models.checkpoints import load_variant
from compress.models.teachers import load_teacher
from compress.recipe.data import DataSection
from compress.recipe.models import Teacher


def load_eager(arguments: Mapping[str, Any], threads: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Load a variant on the CPU, and let PyTorch compute with `threads` threads in this process.

    Args:
        arguments: `folder` of the variant; for a teacher also its section `teacher`, the `data` section, `classes` and
            `resolution` of the data, as `load_teacher` takes them.
        threads: Threads of PyTorch.

    Returns:
        A function from images float32 `[b, 3, r, r]` to logits `[b, classes]`.
    """
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    folder = Path(arguments["folder"])
    if "teacher" not in arguments:
        model = load_variant(folder).classifier
    else:
        settings: Any = TypeAdapter(Teacher).validate_python(arguments["teacher"])
        data = DataSection.model_validate(arguments["data"])
        loaded = load_teacher(settings, data, arguments["classes"], arguments["resolution"])
        model = replace(loaded, head=stored_head(folder)).classifier()
    return partial(run_eager, model.eval().to(memory_format=torch.channels_last))


def stored_head(folder: Path) -> nn.Module:
    """Load the stored head of a teacher: embeddings `[b, width]` to logits `[b, classes]`."""
    path = folder / "head.safetensors"
    if not path.exists():
        return nn.Identity()
    weights = load_file(path)
    classes, width = weights["weight"].shape
    head = nn.Linear(width, classes)
    head.load_state_dict(weights)
    return head


@torch.inference_mode()
def run_eager(model: nn.Module, images: NDArray[Any]) -> NDArray[Any]:
    """Run a network in eager PyTorch: float32 `[b, 3, r, r]` to `[b, classes]`."""
    logits: NDArray[Any] = model(torch.from_numpy(images).contiguous(memory_format=torch.channels_last)).numpy()
    return logits
