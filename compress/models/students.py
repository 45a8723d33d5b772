"""Students: any timm or torchvision classifier by name, with a head for the classes of the data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from compress.models.checkpoints import load_weights, read_weights
from compress.models.factory import create_model, input_side
from compress.models.heads import check_output, classifiers
from compress.models.input_size import fixed_side, resample_positions
from compress.recipe.models import Student


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
        weights = resample_positions(model, read_weights(Path(student.checkpoint)))
        # A head for other classes does not fit: the student's own stays as initialised.
        own, heads = model.state_dict(), tuple(f"{name}." for name in classifiers(model))
        head = {name for name in own if name.startswith(heads)}
        kept = {k: v for k, v in weights.items() if k not in head or v.shape == own[k].shape}
        load_weights(model, kept, student.checkpoint, optional=head)
    check_output(model, student.model, classes, resolution)
    return model


def student_side(student: Student, data: int) -> int:
    """Return the side of a student's images in pixels; `data` is that of the data's."""
    weights: Mapping[str, Tensor] | bool = student.pretrained
    if student.checkpoint and not student.resolution and fixed_side(student.library, student.model):
        weights = read_weights(Path(student.checkpoint))
    return input_side(student.library, student.model, data, student.resolution, weights=weights)
