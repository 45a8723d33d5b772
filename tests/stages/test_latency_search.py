from __future__ import annotations

import pytest
import torch
from torch import nn

from compress.models.factory import create_model
from compress.pruning.search import prune_channels
from compress.recipe.channels import Channels, LatencyTarget
from compress.stages.prune.latency_search import LatencySearch
from compress.utils.errors import UsageError


def widths(network: nn.Module) -> int:
    return sum(module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d))


def test_search_measures_networks_beside_the_dense_one_and_counts_its_macs() -> None:
    torch.manual_seed(0)
    dense = create_model("timm", "test_resnet", 10, 32).eval()
    small = prune_channels(dense, 32, Channels(target_macs=0.3, round_to=4))
    trials = LatencySearch(dense, 32, LatencyTarget(share=0.5, batch=2, rounds=5), threads=1)
    share = trials(small)
    (row,) = trials.rows
    assert row.share == share and row.share_ci95[0] <= share <= row.share_ci95[1]
    assert row.macs < 0.3 * 4_100_000 and row.p50_ms > 0
    # Both networks: at least the rounds, one run before, and the warm-up.
    assert trials.macs > 2 * (2 * 5 + 3) * row.macs


def test_search_returns_the_widest_network_within_the_latency() -> None:
    dense = create_model("timm", "test_resnet", 10, 32).eval()
    measured: list[float] = []

    def latency(network: nn.Module) -> float:
        measured.append((widths(network) / widths(dense)) ** 1.5)
        return measured[-1]

    settings = Channels(target_latency=LatencyTarget(share=0.6), round_to=4)
    pruned = prune_channels(dense, 32, settings, latency=latency)
    reached = (widths(pruned) / widths(dense)) ** 1.5
    assert reached <= 0.6 and reached == max(share for share in measured if share <= 0.6)
    assert min(share for share in measured if share > 0.6) - reached < 0.1


def test_unreachable_latency_target_is_reported_with_the_smallest_reachable_value() -> None:
    dense = create_model("timm", "test_resnet", 10, 32).eval()
    settings = Channels(target_latency=LatencyTarget(share=0.1), round_to=4)
    with pytest.raises(UsageError, match=r"target_latency 0.1 cannot be reached: the smallest reachable value is 0.7"):
        prune_channels(dense, 32, settings, latency=lambda network: 0.7)


def test_a_dry_run_times_no_more_than_it_needs_to_know_that_the_target_is_within_reach() -> None:
    dense = create_model("timm", "test_resnet", 10, 32).eval()
    timed: list[nn.Module] = []

    def latency(network: nn.Module) -> float:
        timed.append(network)
        return (widths(network) / widths(dense)) ** 1.5

    settings = Channels(target_latency=LatencyTarget(share=0.6), round_to=4)
    pruned = prune_channels(dense, 32, settings, latency=latency, any_that_reaches=True)
    assert len(timed) == 1 and (widths(pruned) / widths(dense)) ** 1.5 <= 0.6
