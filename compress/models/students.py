"""Students: any timm or torchvision classifier by name, with a head for the classes of the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from compress.models.factory import create_model
from compress.models.weights_file import load_into, read_checkpoint
from compress.recipe.models import Student
from compress.utils.errors import UsageError, first_line


def create_student(
    student: Student,
    classes: int,
    resolution: int,
    *,
    names: Sequence[str] | None = None,
    new_head: bool = True,
    notes: list[str] | None = None,
) -> nn.Module:
    """Build a student for images `[batch, 3, resolution, resolution]` and `classes` outputs.

    Args:
        student: Its settings.
        classes: Number of classes of the data.
        resolution: Side of its images in pixels.
        names: Names of the classes, which the outputs of its checkpoint are put in the order of.
        new_head: Whether a head for other classes may be replaced; False where the student is not trained.
        notes: List that what was taken of its checkpoint is added to.

    Raises:
        UsageError: the library does not have the model, or the model does not take the options or images of this size.
        CompressError: published weights cannot be downloaded, or the checkpoint is of another architecture.
    """
    model = create_model(
        student.library, student.model, classes, resolution, pretrained=student.pretrained, options=student.options
    )
    if student.checkpoint:
        checkpoint = read_checkpoint(Path(student.checkpoint), ema=student.ema)
        taken = load_into(model, checkpoint, student.checkpoint, new_head=new_head, classes=names)
        if notes is not None:
            notes += taken
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, resolution, resolution))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UsageError(f"{student.model} does not take images of {resolution} pixels: {first_line(error)}") from error
    return model
