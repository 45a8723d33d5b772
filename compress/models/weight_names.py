"""Fit the names of weights that were saved elsewhere to those of a model: prefixes, heads, auxiliary tensors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from compress.models.pickled_networks import AVERAGED
from compress.utils.errors import CompressError
from compress.utils.messages import one_line, truncate_list

WRAPPERS = re.compile(r"(?:^|(?<=\.))(_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")
"""Names that torch.compile, activation checkpointing and FSDP put anywhere into those of a model."""
AUXILIARY = re.compile(
    r"(^|\.)(aux\w*|criterion|loss\w*|\w+_loss|metrics?|(train|val|valid|test)_\w+|\w*accuracy|n_averaged|num_updates"
    r"|decay|total_ops|total_params|_extra_state|\w*relative_position_index|attn_mask|attention_bias_idxs"
    r"|(\w+_)?ema(_\w+)?|teacher\w*)(\.|$)",
    re.IGNORECASE,
)
"""Tensors that a network does not need to classify: losses, metrics, counters, auxiliary heads, indices, teachers."""
OPTIONAL = "num_batches_tracked"  # missing in files older than PyTorch 0.4.1


def head_layers(model: nn.Module) -> tuple[str, ...]:
    """Return the layers that map features to logits: those that timm names, or the last linear layer or convolution."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    named = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    named = (named,) if isinstance(named, str) else tuple(named)
    found = tuple(name for name in layers if any(name == each or name.startswith(f"{each}.") for each in named))
    return found or tuple(layers)[-1:]


def fit_names(
    model: nn.Module,
    heads: Sequence[str],
    weights: Mapping[str, Tensor],
    where: str,
    *,
    ema: bool | None,
    new_head: bool,
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights that a model takes under its own names, and what was changed.

    A prefix is taken off only where that makes names match. The shapes of all but the head are the model's; with
    `new_head`, the head may be missing.

    Raises:
        CompressError: the weights are of another architecture, or ambiguous.
    """
    expected = model.state_dict()
    head = [name for name in expected if name.rpartition(".")[0] in heads]
    trunk = [name for name in expected if name not in head]
    notes: list[str] = []
    found = {WRAPPERS.sub("", name): value for name, value in weights.items()}
    if len(found) == len(weights) and found.keys() != weights.keys():
        notes.append(f"took {truncate_list(sorted({m[1] for name in weights for m in WRAPPERS.finditer(name)}))} off")
    else:
        found = dict(weights)
    prefix = _prefix(trunk, found, where, ema)
    inner = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    outer = {name: value for name, value in found.items() if not name.startswith(prefix)}
    if prefix:
        notes.append(f"took the prefix '{one_line(prefix)}' off")
    if not inner.keys() >= {name for name in trunk if not name.endswith(OPTIONAL)}:
        inner, renamed = _by_timm(model, inner)
        notes += ["names of another version changed by timm"] * renamed
    taken = {name: inner.pop(name) for name in expected if name in inner}
    extra = {**outer, **inner}
    notes += _take_head(expected, head, heads, taken, extra)
    notes += _drop(extra, prefix, head, expected, where, new_head)
    _check(expected, head, taken, extra, where, new_head)
    if head and head[0] not in taken:
        notes.append("the file has no head; it starts from a new one")
    return taken, notes


def _prefix(trunk: Sequence[str], weights: Mapping[str, Tensor], where: str, ema: bool | None) -> str:
    """Return the prefix with which the most of the model's names are in the file; empty if none helps."""
    anchors = [name for name in trunk if not name.endswith(OPTIONAL)][:3]
    ends = tuple(f".{name}" for name in anchors)
    prefixes = {name[: -len(end) + 1] for name in weights for end in ends if name.endswith(end)}
    counts = {prefix: sum(prefix + name in weights for name in trunk) for prefix in {"", *prefixes}}
    most = max(counts.values())
    best = sorted(prefix for prefix, count in counts.items() if count == most)
    if "" in best and (most == 0 or ema is None):
        return ""
    averaged = [prefix for prefix in best if AVERAGED.search(prefix)]
    chosen = averaged if averaged and ema is not False else [each for each in best if each not in averaged] or best
    if len(chosen) > 1:
        raise CompressError(
            f"{where} holds several networks ({truncate_list(chosen)}); save the one to use, without its prefix"
        )
    return chosen[0]


def _by_timm(model: nn.Module, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Convert names of other versions and of the models' authors, as timm does for published weights."""
    convert = getattr(inspect.getmodule(type(model)), "checkpoint_filter_fn", None)
    if convert is None or not type(model).__module__.startswith("timm."):
        return weights, False
    try:
        converted = convert(dict(weights), model)
    except Exception:  # whatever it makes of weights of other architectures
        return weights, False
    names = model.state_dict()
    better = sum(name in names for name in converted) > sum(name in names for name in weights)
    # It also resamples position embeddings, which a change of resolution must ask for.
    resampled = any(name in weights and weights[name].shape != value.shape for name, value in converted.items())
    return (converted, True) if better and not resampled else (weights, False)


def _take_head(
    expected: Mapping[str, Tensor],
    head: Sequence[str],
    heads: Sequence[str],
    taken: dict[str, Tensor],
    extra: dict[str, Tensor],
) -> list[str]:
    """Take the only head of a file under the model's name for it, such as `fc.1` of a `Sequential` for `fc`."""
    layers = _heads_in(extra, expected, head)
    if len(heads) != 1 or len(layers) != 1 or any(name in taken for name in head):
        return []
    names = {name: f"{layers[0]}.{name.rpartition('.')[2]}" for name in head}
    if not all(other in extra for other in names.values()):
        return []
    for name, other in names.items():
        taken[name] = extra.pop(other)
    return [f"took its head '{one_line(layers[0])}' as '{heads[0]}'"]


def _heads_in(extra: Mapping[str, Tensor], expected: Mapping[str, Tensor], head: Sequence[str]) -> list[str]:
    """Return the layers among extra tensors that could be heads: they take the features that the model's head takes."""
    width = next((expected[name].shape[1:] for name in head if name.endswith(".weight")), None)
    return [
        name.removesuffix(".weight")
        for name, value in extra.items()
        if name.endswith(".weight") and not AUXILIARY.search(name) and value.shape[1:] == width
    ]


def _drop(
    extra: dict[str, Tensor],
    prefix: str,
    head: Sequence[str],
    expected: Mapping[str, Tensor],
    where: str,
    new_head: bool,
) -> list[str]:
    """Remove tensors that the network does not need from `extra`, and other heads where the head is a new one."""
    heads = _heads_in(extra, expected, head)
    if heads and not new_head:
        sizes = ", ".join(f"{one_line(name)}: {extra[f'{name}.weight'].shape[0]} outputs" for name in heads)
        raise CompressError(
            f"{where} has a head that the model does not have ({sizes}); save the weights with the one head that is for "
            f"the data's classes, named {head[0].rpartition('.')[0]}"
        )
    dropped = [name for name in extra if AUXILIARY.search(name) or name.rpartition(".")[0] in heads]
    for name in dropped:
        del extra[name]
    return [f"left out {truncate_list(sorted({_group(name) for name in dropped}))}"] if dropped else []


def _group(name: str) -> str:
    match = AUXILIARY.search(name)
    return name[: match.end()].rstrip(".") if match else name.rpartition(".")[0]


def _check(
    expected: Mapping[str, Tensor],
    head: Sequence[str],
    taken: Mapping[str, Tensor],
    extra: Mapping[str, Tensor],
    where: str,
    new_head: bool,
) -> None:
    """Raise a `CompressError` with the first difference between the model's weights and those of the file."""
    missing = [
        name
        for name in expected
        if name not in taken and not name.endswith(OPTIONAL) and not (new_head and name in head)
    ]
    other = [name for name in taken if name not in head and taken[name].shape != expected[name].shape]
    count = len(missing) + len(extra) + len(other)
    if not count:
        return
    remedy = "set `model` and `options` to those that it was trained with"
    if other:
        first = f"{other[0]} is {list(taken[other[0]].shape)} instead of {list(expected[other[0]].shape)}"
        if "pos_embed" in other[0] or "position" in other[0]:
            remedy = "set `resolution` to the side that it was trained at"
    elif missing:
        first = f"{missing[0]} is missing"
    else:
        first = f"{one_line(next(iter(extra)))} is not in the model"
        remedy = f"if the network does not need it, save the weights without it; else {remedy}"
    if set(missing) and set(missing) <= set(head) and not extra and not other:
        first, remedy = f"its head {missing[0].rpartition('.')[0]} is missing", "fine-tune it with a `train` stage"
    raise CompressError(
        f"{where} is a checkpoint of another architecture: {first} ({count} differences in all); {remedy}"
    )
