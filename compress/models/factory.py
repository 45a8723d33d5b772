"""Build timm and torchvision classifiers by name."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compress.models.catalog import catalog
from compress.models.heads import Head, classifiers
from compress.models.hub import fail_fast
from compress.models.input_size import differing_tensors, fixed_side, resample_positions, size_argument
from compress.models.names import (
    HUB,
    LOCAL,
    WITH_WEIGHTS,
    expand_name,
    name_problem,
    split_name,
    timm_folder,
    torchvision_weights,
)
from compress.recipe.models import Option
from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.machine_faults import is_machine_fault
from compress.utils.messages import truncate_list
from compress.utils.user_cache import say_where_downloads_go, variable_of_unwritable

WITHOUT_AUXILIARY: Mapping[str, Mapping[str, Option]] = {
    name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")
}
"""Arguments with which torchvision builds networks without auxiliary heads, which give tuples in training."""
PUBLISHED_OPTIONS: Mapping[str, Mapping[str, Option]] = {
    name: {"transform_input": True} for name in ("googlenet", "inception_v3")
}
"""Arguments that torchvision sets for published weights, and that the network needs when it is built again."""
CODE_ERRORS = (TypeError, LookupError, AttributeError, ArithmeticError, NotImplementedError)
"""What code of networks raises for options and sizes that it was not written for."""


def create_model(
    library: str,
    name: str,
    classes: int,
    resolution: int,
    *,
    pretrained: bool = False,
    options: Mapping[str, Option] | None = None,
) -> nn.Module:
    """Build a timm or torchvision classifier, without auxiliary heads.

    Args:
        library: `timm` or `torchvision`.
        name: Any name of `compress.models.names`. Models of a folder or of the hub come with their weights.
        classes: Number of outputs; a published head for others is replaced by an initialised one.
        resolution: Side of the images, for networks that are built for one.
        pretrained: Whether to load published weights; position embeddings are resampled to `resolution`.
        options: Extra keyword arguments for the library's builder.

    Raises:
        UsageError: the library does not have the model or weights, or the model does not take the options or size.
        CompressError: published weights cannot be downloaded, or those of a folder cannot be read.
    """
    if problem := name_problem(library, name):
        raise UsageError(problem)
    name = expand_name(name)
    pretrained, options = pretrained or name.startswith(WITH_WEIGHTS), options or {}
    try:
        with warnings.catch_warnings(), fail_fast(pretrained and library == "timm" and not name.startswith(LOCAL)):
            warnings.filterwarnings("ignore", "Mapping deprecated model name")
            if library == "timm":
                return _timm(name, classes, resolution, pretrained, options)
            return _torchvision(name, classes, resolution, pretrained, options)
    except (OSError, RuntimeError, AssertionError, ValueError) as error:
        raise _explained(library, name, resolution, pretrained, error) from error
    except Exception as error:  # a network's own code, with options or a size that it was not written for
        if is_machine_fault(error) or isinstance(error, CompressError):
            raise
        if pretrained and not isinstance(error, CODE_ERRORS):  # of a client or a file format, which have their own
            reason = f"{library}'s weights of {name} cannot be read or downloaded: {first_line(error)}"
            raise CompressError(reason) from error
        reason = first_line(error) if isinstance(error, TypeError) else f"{type(error).__name__}: {first_line(error)}"
        if options:
            raise UsageError(f"{library}'s {name} does not take `options` {dict(options)}: {reason}") from error
        raise UsageError(f"{library}'s {name} cannot be built for {resolution} pixels: {reason}") from error


def fetch_configuration(name: str) -> None:
    """Download timm's configuration of a `hf-hub:` model, which states its preprocessing, size and classes.

    Raises:
        CompressError: it cannot be downloaded or read.
    """
    if name.startswith(HUB):
        try:
            with fail_fast():
                timm_folder(name)
        except (OSError, RuntimeError, ValueError) as error:
            raise _explained("timm", name, 0, True, error) from error


def recorded(
    library: str, name: str, options: Mapping[str, Option], *, pretrained: bool
) -> tuple[str, dict[str, Option]]:
    """Return the name and options that build the same network again, without its weights, its folder or the hub.

    Raises:
        CompressError: the configuration in a folder has arguments that a recipe cannot hold.
    """
    if library == "timm":
        if not name.startswith(WITH_WEIGHTS):
            return name, dict(options)
        architecture, arguments = timm_folder(name)
        others = [key for key, value in arguments.items() if not isinstance(value, bool | int | float | str)]
        if others:
            raise CompressError(f"{name} has model_args that are not supported: {truncate_list(others)}")
        return architecture, {**arguments, **options}
    needed = PUBLISHED_OPTIONS.get(torchvision_model(name), {}) if pretrained else {}
    return name, {**needed, **options}


def input_side(
    library: str,
    name: str,
    data: int,
    resolution: int | None = None,
    *,
    weights: Mapping[str, Tensor] | bool = False,
) -> int:
    """Choose the side of a network's images, in pixels.

    Args:
        library: `timm` or `torchvision`.
        name: Any name of the model.
        data: Side of the data's images.
        resolution: Side that the recipe asks for.
        weights: Whether it starts from published weights, or its own weights by name.

    Returns:
        `resolution` if there is one. For a network that is built for one size and starts from weights, the size that
        these are for: published ones state it, own ones have shapes that fit. Else `data`.
    """
    if resolution:
        return resolution
    published = fixed_side(library, name) if weights is not False or name.startswith(WITH_WEIGHTS) else None
    if published is None:
        return data
    if isinstance(weights, bool):
        return published
    return next((side for side in (published, data) if _fits(library, name, side, weights)), published)


def _fits(library: str, name: str, side: int, weights: Mapping[str, Tensor]) -> bool:
    """Whether the model has tensors of these shapes when it is built for images of this side."""
    try:
        with torch.device("meta"):
            model = create_model(library, name, 2, side)
    except CompressError:
        return False
    return not differing_tensors(model, weights)


def _timm(name: str, classes: int, resolution: int, pretrained: bool, options: Mapping[str, Option]) -> nn.Module:
    import timm

    import compress.models.cifar_mobilenets
    import compress.models.cifar_resnets  # noqa: F401, these register models with timm

    architecture = timm_folder(name)[0] if name.startswith(WITH_WEIGHTS) else name
    settings = {**options, "num_classes": classes, "pretrained": pretrained}
    if takes_size(architecture):
        try:
            return timm.create_model(name, img_size=resolution, **settings)  # type: ignore[no-any-return]
        except TypeError:
            pass  # other models of this file take a size, but this one does not
    return timm.create_model(name, **settings)  # type: ignore[no-any-return]


def takes_size(architecture: str) -> bool:
    """Return whether timm's builder of a model may take `img_size`; others of the same file do."""
    import timm

    entry = timm.models.model_entrypoint(architecture)
    return "img_size" in inspect.getsource(inspect.getmodule(entry))  # type: ignore[arg-type]


def torchvision_arguments(
    name: str, resolution: int, options: Mapping[str, Option], *, pretrained: bool
) -> tuple[str, dict[str, Any]]:
    """Return the name and arguments with which torchvision builds a model, except weights and number of classes."""
    model_name = torchvision_model(name)
    arguments: dict[str, Any] = dict(options)
    if size := size_argument(model_name):
        arguments[size] = resolution if size == "image_size" else (resolution, resolution)
    return model_name, arguments if pretrained else {**WITHOUT_AUXILIARY.get(model_name, {}), **arguments}


def _torchvision(
    name: str, classes: int, resolution: int, pretrained: bool, options: Mapping[str, Option]
) -> nn.Module:
    from torchvision import models

    model_name, arguments = torchvision_arguments(name, resolution, options, pretrained=pretrained)
    if not pretrained:
        return models.get_model(model_name, weights=None, num_classes=classes, **arguments)  # type: ignore[no-any-return]
    weights = torchvision_weights(name)
    if weights is None:
        raise UsageError(f"torchvision has no published weights of {name}; remove `pretrained`")
    say_where_downloads_go("TORCH_HOME")
    if size_argument(model_name) and fixed_side("torchvision", name) != resolution:
        model = models.get_model(model_name, weights=None, num_classes=len(weights.meta["categories"]), **arguments)
        model.load_state_dict(resample_positions(model, weights.get_state_dict(check_hash=True)))
    else:
        model = models.get_model(model_name, weights=weights, **arguments)
    if model_name in WITHOUT_AUXILIARY:  # published weights are loaded with auxiliary heads
        model.aux_logits = False
        for auxiliary in ("aux1", "aux2", "AuxLogits"):
            if hasattr(model, auxiliary):
                setattr(model, auxiliary, None)
    for path, head in classifiers(model).items():
        if head.weight.shape[0] != classes:
            model.set_submodule(path, _with_outputs(head, classes))
    return model  # type: ignore[no-any-return]


def _with_outputs(head: Head, classes: int) -> Head:
    """Return an initialised layer like `head` with another number of outputs."""
    bias = head.bias is not None
    if isinstance(head, nn.Linear):
        return nn.Linear(head.in_features, classes, bias)
    return nn.Conv2d(head.in_channels, classes, head.kernel_size, head.stride, head.padding, bias=bias)  # type: ignore[arg-type]


def torchvision_model(name: str) -> str:
    known = catalog("torchvision")
    return split_name("torchvision", name, known).model if known else name


def _explained(library: str, name: str, resolution: int, pretrained: bool, error: Exception) -> CompressError:
    """Say why a model could not be built."""
    reason = first_line(error)
    if name.startswith(LOCAL):
        return CompressError(f"{name} cannot be loaded: {reason}")
    if variable := variable_of_unwritable(error):
        remedy = f"set {variable} to a folder that can be written to"
        return CompressError(f"{library}'s weights of {name} cannot be stored here ({reason}); {remedy}")
    downloading = isinstance(error, OSError) or "invalid hash value" in reason  # of torch.hub
    if name.startswith(HUB) and downloading:
        return CompressError(
            f"{name} cannot be downloaded here ({reason}); download the repository on another machine and name its "
            f"folder: {LOCAL}FOLDER"
        )
    if pretrained and downloading:
        return CompressError(
            f"{library}'s weights of {name} cannot be downloaded here ({reason}); "
            "download them on another machine and set `checkpoint` to the file"
        )
    side = fixed_side(library, name)
    remedy = f"; set `resolution: {side}`" if side and side != resolution else ""
    built = "built with its weights" if pretrained else "built"
    return UsageError(f"{name} cannot be {built} for images of {resolution} pixels: {reason}{remedy}")
