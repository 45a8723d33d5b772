"""Building timm and torchvision classifiers by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.messages import did_you_mean


def create_model(
    library: str,
    name: str,
    classes: int,
    resolution: int,
    *,
    pretrained: bool = False,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a timm or torchvision classifier with `classes` outputs, randomly initialised unless `pretrained`.

    Raises:
        UsageError: the library has no such model, or the model takes no such `options`.
        CompressError: published weights cannot be downloaded.
    """
    known = model_names(library)
    if name not in known:
        raise UsageError(f"{library} has no model {name!r}{did_you_mean(name, known, most=3, limit=None)}")
    try:
        if library == "timm":
            return _timm(name, classes, resolution, pretrained, options or {})
        return _torchvision(name, classes, pretrained, options or {})
    except TypeError as error:
        if not options:
            raise
        raise UsageError(f"{library}'s {name} does not take `options` {dict(options)}: {first_line(error)}") from error
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise CompressError(
            f"{library}'s weights of {name} cannot be downloaded here ({first_line(error)}); "
            "fetch them on another machine and name the file as `checkpoint`"
        ) from error


def model_names(library: str) -> list[str]:
    """Names of the classifiers that `library` (`timm` or `torchvision`) builds."""
    if library == "timm":
        import timm

        return list(timm.list_models())
    import torchvision.models as models

    return list(models.list_models(module=models))


def classifier(model: nn.Module) -> tuple[str, nn.Linear]:
    """The layer that turns features into logits, the last linear one, with its name.

    Raises:
        CompressError: the network has no linear layer.
    """
    for name, module in reversed(list(model.named_modules())):
        if isinstance(module, nn.Linear):
            return name, module
    raise CompressError(f"{type(model).__name__} has no linear layer that could be its classifier")


def _timm(name: str, classes: int, resolution: int, pretrained: bool, options: Mapping[str, Any]) -> nn.Module:
    import timm

    entry = timm.models.model_entrypoint(name)
    sized = "img_size" in inspect.getsource(inspect.getmodule(entry))  # type: ignore[arg-type]
    settings = {**options, "num_classes": classes, "pretrained": pretrained}
    if sized:
        try:
            return timm.create_model(name, img_size=resolution, **settings)  # type: ignore[no-any-return]
        except TypeError:
            pass  # the file has sized models, but this one is not among them
    return timm.create_model(name, **settings)  # type: ignore[no-any-return]


def _torchvision(name: str, classes: int, pretrained: bool, options: Mapping[str, Any]) -> nn.Module:
    import torchvision.models as models

    if not pretrained:
        return models.get_model(name, weights=None, num_classes=classes, **options)  # type: ignore[no-any-return]
    model = models.get_model(name, weights="DEFAULT", **options)
    path, head = classifier(model)
    if head.out_features != classes:
        model.set_submodule(path, nn.Linear(head.in_features, classes))
    return model  # type: ignore[no-any-return]
