"""Freezing parts of a network during a fit, by patterns of parameter and module names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.fx import GraphModule
from torch.nn.modules.batchnorm import _BatchNorm

from compress.models.embedding import encoder_of, library_name
from compress.utils.errors import UsageError
from compress.utils.messages import did_you_mean, truncate_list


@contextmanager
def freezing(network: nn.Module, patterns: Sequence[str]) -> Iterator[None]:
    """Take the gradient of the parameters that `patterns` match, until exit.

    Parameters without a gradient get no weight decay either, and MACs of training are counted without their gradient.

    Raises:
        UsageError: a pattern matches nothing, or all parameters would be frozen.
    """
    matched = _matched(network, patterns)
    frozen = [name for name, parameter in network.named_parameters() if parameter.requires_grad and name in matched]
    if frozen and not any(p.requires_grad for name, p in network.named_parameters() if name not in frozen):
        raise UsageError("freeze: all parameters are frozen, so nothing is trained; remove a pattern")
    for name in frozen:
        network.get_parameter(name).requires_grad_(False)
    try:
        yield
    finally:
        for name in frozen:  # by name: parameters may have been replaced meanwhile
            network.get_parameter(name).requires_grad_(True)


@contextmanager
def flags_restored(*networks: nn.Module) -> Iterator[None]:
    """Restore afterwards which parameters of the networks have a gradient."""
    flags = [{name: p.requires_grad for name, p in network.named_parameters()} for network in networks]
    try:
        yield
    finally:
        for network, own in zip(networks, flags, strict=True):
            for name, flag in own.items():  # by name: parameters may have been replaced meanwhile
                network.get_parameter(name).requires_grad_(flag)


def frozen_norms(network: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Find the batch norms in frozen modules, and those whose own parameters are all frozen."""
    matched = _matched(network, patterns)
    norms = [(name, module) for name, module in network.named_modules() if isinstance(module, _BatchNorm)]
    return [module for name, module in norms if name in matched or _all_frozen(module, name, matched)]


def trains_batch_norm(network: nn.Module, patterns: Sequence[str]) -> bool:
    """Return whether a batch norm that is not frozen takes its statistics from the batch."""
    if isinstance(graph := encoder_of(network), GraphModule):
        return any(node.target == torch.ops.aten.batch_norm.default for node in graph.graph.nodes)
    frozen = set(map(id, frozen_norms(network, patterns)))
    return any(isinstance(module, _BatchNorm) and id(module) not in frozen for module in network.modules())


def _all_frozen(norm: nn.Module, name: str, matched: set[str]) -> bool:
    own = {f"{name}.{parameter}" for parameter, _ in norm.named_parameters()}
    return bool(own) and own <= matched


def _matched(network: nn.Module, patterns: Sequence[str]) -> set[str]:
    """Return the names of matching parameters and modules, and of all in matching modules."""
    names = [name for name, _ in network.named_modules() if name] + [name for name, _ in network.named_parameters()]
    matched: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if fnmatchcase(library_name(network, _unmasked(name)), pattern)}
        if not found:
            known = [own for name in names if (own := library_name(network, name))]
            hint = did_you_mean(pattern, known, most=3, limit=None)
            children = truncate_list(dict.fromkeys(name.partition(".")[0] for name in known))
            raise UsageError(
                f"freeze: no parameter or module matches {pattern!r}{hint or f'; top modules: {children}'}"
            )
        matched |= found
    return matched | {name for name in names if any(name.startswith(f"{parent}.") for parent in matched)}


def _unmasked(name: str) -> str:
    """Return the name that a parameter has without the masks of `compress.pruning.sparsity`."""
    layer, masked, own = name.partition(".parametrizations.")
    return f"{layer}.{own.removesuffix('.original')}" if masked else name
