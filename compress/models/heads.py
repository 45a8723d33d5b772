"""Layers of a network by their part in it: classifiers, and layers by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from compress.measurement.compute import evaluating
from compress.models.embedding import library_name
from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.machine_faults import is_machine_fault
from compress.utils.messages import did_you_mean, truncate_list

Head = nn.Linear | nn.Conv2d  # a layer that maps features to logits


def classifiers(model: nn.Module, resolution: int | None = None) -> dict[str, Head]:
    """Find the layers that map features to logits, by name: several in networks such as LeViT, which average them.

    They are those of `known_classifiers`. Where these are not known, it is the linear layer or convolution that is
    registered last, as in all networks of torchvision.

    Raises:
        CompressError: there is none.
    """
    found = known_classifiers(model, resolution) or dict(_heads(model, "")[-1:])
    if not found:
        raise CompressError(f"{type(model).__name__} has no linear layer or convolution to serve as its classifier")
    return found


def known_classifiers(model: nn.Module, resolution: int | None) -> dict[str, Head]:
    """Find the layers that map features to logits, by name; empty where they could only be guessed.

    They are those that timm names. In other networks it is the layer whose output is the network's for an image of
    `resolution` pixels; the network may be on the `meta` device.
    """
    named = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    found: dict[str, Head] = {}
    for prefix in (named,) if isinstance(named, str) else named:
        found |= dict(_heads(model, prefix)[-1:])
    return found or (dict(_executed(model, resolution)[-1:]) if resolution else {})


def _heads(model: nn.Module, prefix: str) -> list[tuple[str, Head]]:
    inside = f"{prefix}." if prefix else ""
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, Head) and (name == prefix or name.startswith(inside))
    ]


def _executed(model: nn.Module, resolution: int) -> list[tuple[str, Head]]:
    """List the layers that give a network's output, in the order in which they are run.

    They share its memory, or else, where more is done with it, have its width. Empty if the network does not run.
    """
    layers = dict(_heads(model, ""))
    ran: list[tuple[str, Tensor]] = []  # with outputs: memory of one that is kept is not used again
    hooks = [
        layer.register_forward_hook(lambda *call, name=name: ran.append((name, call[2])))
        for name, layer in layers.items()
    ]
    try:
        with evaluating(model), torch.no_grad():
            output = model(torch.zeros(1, 3, resolution, resolution).to(next(model.parameters())))
        where = output.untyped_storage()._cdata  # unlike its address, not the same for all tensors on `meta`
        last = [name for name, own in ran if own.untyped_storage()._cdata == where]
        last = last or [name for name, _ in ran if len(layers[name].weight) == output.shape[1]]
    except Exception:  # whatever a network raises that takes other inputs or gives no tensor
        last = []
    finally:
        for hook in hooks:
            hook.remove()
    return [(name, layers[name]) for name in last]


def classifier(model: nn.Module, resolution: int | None = None) -> tuple[str, nn.Linear]:
    """Find the (name, layer) that maps features to logits, where it is a single linear layer; see `classifiers`.

    Raises:
        UsageError: it is a convolution, or there are several.
    """
    return single_linear(model, classifiers(model, resolution))


def single_linear(model: nn.Module, found: Mapping[str, Head]) -> tuple[str, nn.Linear]:
    """Return the (name, layer) of the classifiers `found` in a model, if that is a single linear layer.

    Raises:
        UsageError: it is a convolution, or there are several.
    """
    (name, layer), *others = found.items()
    if others or not isinstance(layer, nn.Linear):
        what = f"{len(found)} classifiers" if others else "a convolution as its classifier"
        raise UsageError(
            f"{type(model).__name__} has {what} ({', '.join(found)}), so that its features are not those of one linear "
            "layer; choose losses between logits, or another network"
        )
    return name, layer


def take_rows(tensors: dict[str, Tensor], head: Collection[str], rows: Sequence[int]) -> str:
    """Keep only these rows of the tensors of a head, in the order of the data's classes; returns what was done."""
    outputs = 0
    for name in head:
        outputs, tensors[name] = len(tensors[name]), tensors[name][list(rows)].clone()
    kept = f"; {len(rows)} of {outputs} are kept" if len(rows) < outputs else ""
    return f"outputs put in the data's order by class name{kept}"


def select_outputs(model: nn.Module, rows: Sequence[int]) -> str:
    """Keep only these outputs of a classifier, in this order; returns what was done."""
    note = ""
    for layer in classifiers(model).values():
        tensors = {name: value.detach() for name, value in layer.named_parameters(recurse=False)}
        note = take_rows(tensors, tuple(tensors), rows)
        for name, value in tensors.items():
            setattr(layer, name, nn.Parameter(value))
        setattr(layer, "out_features" if isinstance(layer, nn.Linear) else "out_channels", len(rows))
    if hasattr(model, "num_classes"):
        setattr(model, "num_classes", len(rows))  # noqa: B010, timm's models have it, of a type that mypy does not know
    return note


def layers_named(model: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Module]:
    """Find the convolutions and linear layers whose names match one of the patterns; `*` stands for any characters.

    A pattern that matches no layer is a `UsageError`.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    matches: dict[str, nn.Module] = {}
    for pattern in patterns:
        matching = {name: layer for name, layer in layers.items() if _matches(model, name, pattern)}
        if not matching:
            known = [library_name(model, name) for name in layers]
            hint = did_you_mean(pattern, known, most=3, limit=None) or f"; layers: {truncate_list(known)}"
            raise UsageError(f"keep: no layer matches {pattern!r}{hint}")
        matches |= matching
    return matches


def _matches(model: nn.Module, name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(library_name(model, name), pattern)


def check_output(model: nn.Module, name: str, classes: int, resolution: int) -> None:
    """Run one image through a network in eval mode.

    Raises:
        UsageError: it does not take images of this size, or its output is not `[batch, classes]`.
    """
    try:
        with torch.no_grad():
            output = model.eval()(torch.zeros(1, 3, resolution, resolution))
    except Exception as error:  # networks compute sizes and indices of their own, and fail in as many ways
        if is_machine_fault(error):
            raise
        raise UsageError(
            f"{name} does not take images of {resolution} pixels: {first_line(error)}; set another `resolution`, or "
            "choose another model"
        ) from error
    if not isinstance(output, Tensor) or output.shape != (1, classes):
        given = f"maps {list(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise UsageError(f"{name} gives {given} instead of logits [1, {classes}]; choose a model with one classifier")
