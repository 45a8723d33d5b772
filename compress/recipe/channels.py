"""Which channels of a network are removed: the settings that `prune` shares with `compress.prune`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compress.recipe.base import Section, Share
from compress.recipe.runtime_name import Runtime


class LatencyTarget(Section):
    """A share of the dense network's latency in a runtime, measured here, side by side."""

    share: Share
    runtime: Runtime = "openvino"
    batch: int = Field(16, ge=1, le=1024)
    rounds: int = Field(15, ge=5, description="turns that the two networks of a measurement take")


class Channels(Section):
    """Which channels are removed, and how many."""

    target_macs: Share | None = Field(None, description="share of the multiply-accumulates that may remain")
    target_params: Share | None = Field(None, description="share of the parameters that may remain")
    target_latency: LatencyTarget | None = Field(None, description="share of the measured latency that may remain")
    importance: Literal["l2", "l1", "batch_norm", "taylor", "random"] = Field(
        "l2", description="what ranks channels: the norm of their group, its scale, its effect on the loss, chance"
    )
    ranking: Literal["local", "global", "sensitivity"] = Field(
        "local",
        description="local: the same share of every layer; global: the least important of all; sensitivity: of each "
        "layer as much as costs the same accuracy, by `analyse`",
    )
    keep: list[str] = Field([], description="layers that keep their channels, by name; * stands for any characters")
    round_to: int = Field(8, ge=1, description="channel counts are multiples of it")
