"""Students: any timm or torchvision classifier by name, with a head for the classes of the data."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from compress.models.checkpoints import load_weights, read_weights
from compress.models.factory import create_model
from compress.recipe.models import Student
from compress.utils.errors import UsageError, first_line


def create_student(student: Student, classes: int, resolution: int) -> nn.Module:
    """Build a student for images `[batch, 3, resolution, resolution]` and `classes` outputs.

    Raises:
        UsageError: the library does not have the model, or the model does not take the options or images of this size.
        CompressError: published weights cannot be downloaded, or the checkpoint is of another architecture.
    """
    model = create_model(
        student.library, student.model, classes, resolution, pretrained=student.pretrained, options=student.options
    )
    if student.checkpoint:
        weights = read_weights(Path(student.checkpoint))
        # A head for other classes does not fit: the student's own stays as initialised.
        own = model.state_dict()
        head = set(list(own)[-2:])
        kept = {k: v for k, v in weights.items() if k not in head or v.shape == own[k].shape}
        load_weights(model, kept, student.checkpoint, optional=head)
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, resolution, resolution))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UsageError(f"{student.model} does not take images of {resolution} pixels: {first_line(error)}") from error
    return model
