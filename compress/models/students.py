"""Students: any timm or torchvision classifier by name, with a head for the classes of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from compress.models.architecture import Network
from compress.models.class_list import ClassList
from compress.models.classifiers import ClassifierSource, StatedPreprocess, load_classifier
from compress.models.embedding import Encoder
from compress.models.factory import input_side
from compress.models.input_size import fixed_side
from compress.models.weights_file import read_checkpoint
from compress.recipe.models import Student


def load_student(
    student: Student, classes: Sequence[str], resolution: int, *, new_head: bool = True
) -> tuple[Network, tuple[str, ...]]:
    """Build a student with its initial weights; see `load_classifier`.

    Args:
        student: Its settings.
        classes: Names of the data's classes.
        resolution: Side of the data's images in pixels, which are its own too unless its size is fixed.
        new_head: Whether a head for other classes may be replaced; False where the student is not trained.
    """
    source = ClassifierSource(
        library=student.library,
        model=student.model,
        published=student.pretrained,
        checkpoint=student.checkpoint,
        ema=student.ema,
        options=student.options,
        stated=StatedPreprocess(student_side(student, resolution), student.mean, student.std),
    )
    network, notes = load_classifier(source, classes, resolution, new_head=new_head)
    # It is trained on stored squares and views of them, and evaluated as it was trained.
    architecture = network.architecture.model_copy(update={"preprocess": network.preprocess.on_stored()})
    return replace(network, architecture=architecture), notes


def load_embedding_student(student: Student, classes: ClassList, resolution: int) -> tuple[Network, tuple[str, ...]]:
    """Build a student that ends in the embedding space of `classes`, with its initial weights and notes about them.

    Raises:
        CompressError: its weights are missing, damaged or of another architecture.
    """
    outputs = [f"embedding {number}" for number in range(classes.width)]
    network, notes = load_student(student, outputs, resolution)
    changes = {"embedding": classes.width, "classes": classes.names}
    architecture = network.architecture.model_copy(update=changes)
    return Network(Encoder(network.model).eval(), architecture, classes), notes


def student_side(student: Student, data: int) -> int:
    """Return the side of a student's images in pixels; `data` is that of the data's."""
    weights: Mapping[str, Tensor] | bool = student.pretrained
    if student.checkpoint and not student.resolution and fixed_side(student.library, student.model):
        weights = read_checkpoint(Path(student.checkpoint), ema=student.ema).weights
    return input_side(student.library, student.model, data, student.resolution, weights=weights)
