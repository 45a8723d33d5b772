"""Load weights whose versions of layers are not known."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn


def restore_weights(model: nn.Module, weights: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Load weights as those of the installed library's layers.

    Files of weights, and copies of a state, have no place for the versions of layers, without which some networks
    refuse them (torchvision's MNASNet), and others convert them.
    """
    state = OrderedDict(weights)
    state._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]
    model.load_state_dict(state, strict=strict)
