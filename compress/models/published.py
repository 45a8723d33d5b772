"""Published weights of timm and torchvision, with the outputs of the data's classes in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from compress.models.class_names import other_classes, output_rows, outputs, published_classes
from compress.models.factory import create_model
from compress.models.heads import select_outputs
from compress.utils.errors import UsageError


def published_model(
    library: str,
    name: str,
    classes: Sequence[str],
    resolution: int,
    *,
    options: Mapping[str, bool | int | float | str] | None = None,
    own: Sequence[str] | None = None,
) -> tuple[nn.Module, tuple[str, ...]]:
    """Build a classifier with its published weights.

    Args:
        library: `timm` or `torchvision`.
        name: Name of the model.
        classes: Names of the data's classes.
        resolution: Side of the images in pixels, where it is fixed.
        options: Extra keyword arguments for the model factory.
        own: Class names of the weights in the order of the outputs; default: ImageNet's, where they are for it.

    Returns:
        The model, with an output for each of `classes` in their order, and notes about what was taken.

    Raises:
        UsageError: the library does not have the model, or its weights are for other classes.
        CompressError: the weights cannot be downloaded.
    """
    stated = outputs(library, name)
    if own and stated and len(own) != stated:
        raise UsageError(f"{library}'s {name} has {stated} outputs, and `classes` names {len(own)}; correct `classes`")
    names = own or published_classes(library, name, classes)
    rows = output_rows(names, classes) if names else list(range(len(classes)))
    if rows is None:
        raise UsageError(f"{other_classes(name, names or (), classes)}; name its own in `classes` if these are not")
    count = len(names or classes)
    model = create_model(library, name, count, resolution, pretrained=True, options=options)
    if rows == list(range(count)):
        return model, ()
    return model, (select_outputs(model, rows),)
