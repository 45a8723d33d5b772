"""Channel selection: the settings that the `prune` stage shares with `compress.prune`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compress.recipe.base import Section, Share
from compress.recipe.runtime_name import Runtime


class LatencyTarget(Section):
    """Target latency relative to the dense network, both measured side by side on this machine."""

    share: Share = Field(description="fraction of the dense network's latency")
    runtime: Runtime = Field("openvino", description="runtime to measure in")
    batch: int = Field(16, ge=1, le=1024, description="batch size")
    rounds: int = Field(15, ge=5, description="interleaved timing rounds per measurement")


class Channels(Section):
    """Settings of channel pruning: target, importance criterion and ranking."""

    target_macs: Share | None = Field(None, description="fraction of MACs to keep")
    target_params: Share | None = Field(None, description="fraction of parameters to keep")
    target_latency: LatencyTarget | None = Field(None, description="fraction of measured latency to keep")
    importance: Literal["l2", "l1", "batch_norm", "taylor", "random"] = Field(
        "l2", description="importance criterion: group norm, batch norm scale, Taylor expansion of the loss, or random"
    )
    ranking: Literal["local", "global", "sensitivity"] = Field(
        "local",
        description="local: same ratio in every layer; global: least important channels of the whole network; "
        "sensitivity: ratios of equal accuracy loss per layer, from `analyse`",
    )
    keep: list[str] = Field([], description="layers to leave unpruned, by name; * is a wildcard")
    round_to: int = Field(8, ge=1, description="round channel counts to a multiple of this")
