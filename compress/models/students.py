"""Students: any timm or torchvision classifier by name, its head fitted to the classes of the data."""

from __future__ import annotations

import difflib
import inspect
from pathlib import Path

import torch
from torch import nn

from compress.errors import CompressError, UsageError
from compress.models.checkpoints import load_weights, read_weights
from compress.recipe.schema import Student


def create_student(student: Student, classes: int, resolution: int) -> nn.Module:
    """Build a student for images `[batch, 3, resolution, resolution]` and `classes` outputs.

    Raises:
        UsageError: the library has no such model, or it cannot take images of this size.
        CompressError: its published weights cannot be had, or the checkpoint is of another architecture.
    """
    model = create_model(student.library, student.model, classes, resolution, pretrained=student.pretrained)
    if student.checkpoint:
        weights = read_weights(Path(student.checkpoint))
        # A head for other classes is not the student's: it stays as it was initialised.
        own = model.state_dict()
        head = set(list(own)[-2:])
        kept = {k: v for k, v in weights.items() if k not in head or v.shape == own[k].shape}
        load_weights(model, kept, student.checkpoint, may_lack=head)
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, resolution, resolution))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UsageError(f"{student.model} cannot take images of {resolution} pixels: {_first_line(error)}") from error
    return model


def create_model(library: str, name: str, classes: int, resolution: int, *, pretrained: bool = False) -> nn.Module:
    """Build a timm or torchvision classifier with `classes` outputs, randomly initialised unless `pretrained`."""
    known = model_names(library)
    if name not in known:
        close = difflib.get_close_matches(name, known, 3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise UsageError(f"{library} has no model {name!r}{hint}")
    try:
        return (
            _timm(name, classes, resolution, pretrained)
            if library == "timm"
            else _torchvision(name, classes, pretrained)
        )
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise CompressError(
            f"{library}'s weights of {name} cannot be downloaded here ({_first_line(error)}); "
            "fetch them on another machine and name the file as `checkpoint`"
        ) from error


def model_names(library: str) -> list[str]:
    """Names of the classifiers that `library` (`timm` or `torchvision`) builds."""
    if library == "timm":
        import timm

        return list(timm.list_models())
    import torchvision.models as models

    return list(models.list_models(module=models))


def _timm(name: str, classes: int, resolution: int, pretrained: bool) -> nn.Module:
    import timm

    entry = timm.models.model_entrypoint(name)
    sized = "img_size" in inspect.getsource(inspect.getmodule(entry))  # type: ignore[arg-type]
    options = {"num_classes": classes, "pretrained": pretrained}
    if sized:
        try:
            return timm.create_model(name, img_size=resolution, **options)  # type: ignore[no-any-return]
        except TypeError:
            pass  # the file has sized models, but this one is not among them
    return timm.create_model(name, **options)  # type: ignore[no-any-return]


def _torchvision(name: str, classes: int, pretrained: bool) -> nn.Module:
    import torchvision.models as models

    if not pretrained:
        return models.get_model(name, weights=None, num_classes=classes)  # type: ignore[no-any-return]
    model = models.get_model(name, weights="DEFAULT")
    path, head = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    model.set_submodule(path, nn.Linear(head.in_features, classes))
    return model  # type: ignore[no-any-return]


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
