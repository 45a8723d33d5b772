"""Build timm and torchvision classifiers by name, and look up their layers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.messages import did_you_mean, truncate_list

Option = bool | int | float | str  # value of an extra keyword argument for the model factory of a library


def create_model(
    library: str,
    name: str,
    classes: int,
    resolution: int,
    *,
    pretrained: bool = False,
    options: Mapping[str, Option] | None = None,
) -> nn.Module:
    """Build a timm or torchvision classifier; `resolution` is the side of the images, where it is fixed.

    Raises:
        UsageError: the library does not have the model, or the model does not take the options.
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
            "download them on another machine and set `checkpoint` to the file"
        ) from error


def model_names(library: str) -> list[str]:
    """Names of the classifiers that `library` (`timm` or `torchvision`) can build."""
    if library == "timm":
        import timm

        return list(timm.list_models())
    import torchvision.models as models

    return list(models.list_models(module=models))


def classifier(model: nn.Module) -> tuple[str, nn.Linear]:
    """Find (name, layer) that maps features to logits, the last linear one; a `CompressError` without one."""
    for name, module in reversed(list(model.named_modules())):
        if isinstance(module, nn.Linear):
            return name, module
    raise CompressError(f"{type(model).__name__} has no linear layer to serve as its classifier")


def layers_named(model: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Module]:
    """Find the convolutions and linear layers whose names match one of the patterns; `*` stands for any characters.

    A pattern that matches no layer is a `UsageError`.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    matches: dict[str, nn.Module] = {}
    for pattern in patterns:
        matching = {name: layer for name, layer in layers.items() if fnmatchcase(name, pattern)}
        if not matching:
            hint = did_you_mean(pattern, layers, most=3, limit=None) or f"; layers: {truncate_list(list(layers))}"
            raise UsageError(f"keep: no layer matches {pattern!r}{hint}")
        matches |= matching
    return matches


def _timm(name: str, classes: int, resolution: int, pretrained: bool, options: Mapping[str, Option]) -> nn.Module:
    import timm

    entry = timm.models.model_entrypoint(name)
    sized = "img_size" in inspect.getsource(inspect.getmodule(entry))  # type: ignore[arg-type]
    settings = {**options, "num_classes": classes, "pretrained": pretrained}
    if sized:
        try:
            return timm.create_model(name, img_size=resolution, **settings)  # type: ignore[no-any-return]
        except TypeError:
            pass  # other models of this file take a size, but this one does not
    return timm.create_model(name, **settings)  # type: ignore[no-any-return]


def _torchvision(name: str, classes: int, pretrained: bool, options: Mapping[str, Option]) -> nn.Module:
    import torchvision.models as models

    if not pretrained:
        return models.get_model(name, weights=None, num_classes=classes, **options)  # type: ignore[no-any-return]
    model = models.get_model(name, weights="DEFAULT", **options)
    path, head = classifier(model)
    if head.out_features != classes:
        model.set_submodule(path, nn.Linear(head.in_features, classes))
    return model  # type: ignore[no-any-return]
