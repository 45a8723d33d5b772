"""Fit the names of weights that were saved elsewhere to those of a model: prefixes, heads, auxiliary tensors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from compress.models.heads import classifiers
from compress.models.input_size import resample_positions
from compress.models.pickled_networks import AVERAGED
from compress.utils.errors import CompressError
from compress.utils.messages import one_line, truncate_list

WRAPPERS = re.compile(r"(?:^|(?<=\.))(_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")
"""Names that torch.compile, activation checkpointing and FSDP put anywhere into those of a model."""
AUXILIARY = re.compile(
    r"(^|\.)(aux\w*|criterion|loss\w*|\w+_loss|metrics?|(train|val|valid|test)_\w+|\w*accuracy|n_averaged|num_updates"
    r"|decay|total_ops|total_params|_extra_state|\w*relative_position_index|attn_mask|attention_bias_idxs"
    r"|(\w+_)?ema(_\w+)?|teacher\w*|mask_token|decoder_\w+|(dino|ibot)_head)(\.|$)",
    re.IGNORECASE,
)
"""Tensors that a network does not need to classify: losses, metrics, counters, auxiliary heads, indices, teachers, and
what self-supervised training needs besides."""
OPTIONAL = "num_batches_tracked"  # missing in files older than PyTorch 0.4.1


@dataclass(frozen=True)
class _Target:
    """The model that weights are fitted to, and what may be done for it."""

    model: nn.Module
    expected: dict[str, Tensor]
    heads: tuple[str, ...]  # names of its layers that map features to logits
    head: tuple[str, ...]  # names of their tensors
    trunk: tuple[str, ...]  # names of all others that a file must have
    where: str
    new_head: bool  # whether the head of the file may be missing or left out


def fit_names(
    model: nn.Module, weights: Mapping[str, Tensor], where: str, *, ema: bool | None, new_head: bool
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights that a model takes under its own names, and what was changed.

    A prefix is taken off only where that makes names match. The shapes of all but the head's rows are the model's; with
    `new_head`, the head may be missing.

    Raises:
        CompressError: the weights are of another architecture, or ambiguous.
    """
    expected, heads = model.state_dict(), tuple(classifiers(model))
    head = tuple(name for name in expected if name.rpartition(".")[0] in heads)
    trunk = tuple(name for name in expected if name not in head and not name.endswith(OPTIONAL))
    target = _Target(model, expected, heads, head, trunk, where, new_head)
    notes: list[str] = []
    found = {WRAPPERS.sub("", name): value for name, value in weights.items()}
    if found.keys() != weights.keys():
        notes.append(f"took {truncate_list(sorted({m[1] for name in weights for m in WRAPPERS.finditer(name)}))} off")
    prefix, others = _prefixes(target, found, ema)
    if prefix:
        notes.append(f"took the prefix '{one_line(prefix)}' off")
    extra = {name: value for name, value in found.items() if not name.startswith(prefix)}
    inner = {name.removeprefix(prefix): value for name, value in found.items() if name not in extra}
    if others:
        notes.append(f"left out {truncate_list(other.rstrip('.') or 'names without a prefix' for other in others)}")
        extra = {n: v for n, v in extra.items() if not any(n.removeprefix(other) in expected for other in others)}
    inner, resampled = _resampled(model, inner)
    notes += ["position embeddings resampled to the resolution"] * resampled
    if not inner.keys() >= set(trunk):
        inner, converted = _by_timm(model, inner)
        notes += ["names of another version, converted by timm"] * converted
    taken = {name: inner.pop(name) for name in expected if name in inner}
    extra |= inner
    notes += _take_head(target, taken, extra)
    notes += _leave_out(target, extra)
    _check(target, taken, extra)
    if head and not taken.keys() >= set(head):
        taken = {name: value for name, value in taken.items() if name not in head}
        notes.append("the file has no head; it starts from a new one")
    return taken, notes


def _prefixes(target: _Target, weights: Mapping[str, Tensor], ema: bool | None) -> tuple[str, list[str]]:
    """Return the prefix with which the most of the model's names are in the file, and those of other such networks."""
    ends = tuple(f".{name}" for name in target.trunk[:3])
    prefixes = {name[: -len(end) + 1] for name in weights for end in ends if name.endswith(end)} - {""}
    counts = {prefix: sum(prefix + name in weights for name in target.trunk) for prefix in ("", *prefixes)}
    most = max(counts.values())
    best = sorted(prefix for prefix, count in counts.items() if count == most)
    averaged = [prefix for prefix in best if AVERAGED.search(prefix)]
    if ema and not averaged and "n_averaged" not in weights:
        raise CompressError(f"{target.where} holds no complete EMA weights of the model; remove `ema: true`")
    usual = [prefix for prefix in best if not AUXILIARY.search(prefix)]
    chosen = averaged if averaged and ema is not False else usual or best
    if not most:
        return "", []
    if len(chosen) > 1 and chosen[0]:
        raise CompressError(
            f"{target.where} holds several networks ({truncate_list(chosen)}); save the one to use, without its prefix"
        )
    return chosen[0], [prefix for prefix in best if prefix != chosen[0]]


def _resampled(model: nn.Module, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Resample position embeddings to the size that the model was built for, where the file's are for another."""
    try:
        converted = resample_positions(model, weights)
    except Exception:  # whatever the library makes of weights of other architectures
        return weights, False
    return converted, any(n in weights and weights[n].shape != value.shape for n, value in converted.items())


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


def _take_head(target: _Target, taken: dict[str, Tensor], extra: dict[str, Tensor]) -> list[str]:
    """Take the only head of a file under the model's name for it, such as `fc.1` of a `Sequential` for `fc`."""
    layers = _heads_in(target, extra)
    names = {name: f"{layer}.{name.rpartition('.')[2]}" for layer in layers for name in target.head}
    if len(target.heads) != 1 or len(layers) != 1 or any(name in taken for name in target.head):
        return []
    if not all(name in extra for name in names.values()):
        return []
    taken |= {name: extra.pop(other) for name, other in names.items()}
    return [f"took its head '{one_line(layers[0])}' as '{target.heads[0]}'"]


def _heads_in(target: _Target, extra: Mapping[str, Tensor]) -> list[str]:
    """Return the layers among extra tensors that could be heads: they take the features that the model's head takes."""
    width = next((target.expected[name].shape[1:] for name in target.head if name.endswith(".weight")), None)
    return [
        name.removesuffix(".weight")
        for name, value in extra.items()
        if name.endswith(".weight") and not AUXILIARY.search(name) and value.shape[1:] == width
    ]


def _leave_out(target: _Target, extra: dict[str, Tensor]) -> list[str]:
    """Remove tensors that the network does not need from `extra`, and other heads where the head may be a new one."""
    heads = _heads_in(target, extra)
    if heads and not target.new_head:
        sizes = ", ".join(f"{one_line(name)} with {extra[f'{name}.weight'].shape[0]} outputs" for name in heads)
        raise CompressError(
            f"{target.where} has a head that the model does not have ({sizes}); save the weights with the one head "
            f"that is for the data's classes, named {target.heads[0]}"
        )
    reasons = {}
    for name in extra:
        match, layer = AUXILIARY.search(name), name.rpartition(".")[0]
        if match or layer in heads:
            reasons[name] = name[: match.end()].rstrip(".") if match else layer
    for name in reasons:
        del extra[name]
    return [f"left out {truncate_list(sorted(set(reasons.values())))}"] if reasons else []


def _check(target: _Target, taken: Mapping[str, Tensor], extra: Mapping[str, Tensor]) -> None:
    """Raise a `CompressError` with the first difference between the model's weights and those of the file."""
    required = target.trunk if target.new_head else (*target.trunk, *target.head)
    missing = [name for name in required if name not in taken]
    other = [name for name, value in taken.items() if not _alike(value, target.expected[name], name in target.head)]
    if not (missing or extra or other):
        return
    remedy = "set `model` and `options` to those that it was trained with"
    if other:
        first = f"{other[0]} is {_described(taken[other[0]])} instead of {_described(target.expected[other[0]])}"
        if "pos" in other[0]:
            remedy = "set `resolution` to the side that it was trained at"
    elif missing:
        first = f"{missing[0]} is missing"
        if set(missing) <= set(target.head):
            remedy = "it has no classifier: fine-tune it first with a `train` stage"
    else:
        first = f"{one_line(next(iter(extra)))} is not in the model"
        remedy = f"if the network does not need it, save the weights without it, else {remedy}"
    count = len(missing) + len(extra) + len(other)
    raise CompressError(
        f"{target.where} is a checkpoint of another architecture: {first} ({count} differences in all); {remedy}"
    )


def _alike(value: Tensor, own: Tensor, head: bool) -> bool:
    """Return whether a tensor can take the place of the model's own; a head may have other rows."""
    start = 1 if head else 0
    same = value.dim() == own.dim() and value.shape[start:] == own.shape[start:]
    return same and value.is_floating_point() == own.is_floating_point()


def _described(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
