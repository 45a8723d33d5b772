"""Layers that torch-pruning follows wrongly, or not at all, keep their channels; the others are pruned."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

import compress
from compress.measurement.compute import macs
from compress.models.factory import create_model
from compress.pruning import groups
from compress.pruning.channels import duplicate
from compress.pruning.groups import width
from compress.pruning.prunable import describe_left, find_prunable
from compress.pruning.search import prune_channels
from compress.recipe.channels import Channels
from compress.utils.errors import CompressError, CompressWarning, UsageError
from compress.utils.time_limit import time_limit

HALF = Channels(target_macs=0.5, round_to=2)


class Block(nn.Module):
    """Two convolutions, and between them what a test puts there."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.BatchNorm2d(2 * channels)
        self.second = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.second(self.between(F.relu(self.norm(self.first(maps)))))  # type: ignore[no-any-return]

    def between(self, maps: Tensor) -> Tensor:
        return maps


class Fixed(Block):
    """Reshapes with a fixed number of channels, so that it cannot run with fewer."""

    def between(self, maps: Tensor) -> Tensor:
        return maps.reshape(-1, 16, *maps.shape[2:])


class Shuffled(Block):
    """Shuffles channels, which torch-pruning does not see where the reshape has five dimensions."""

    def between(self, maps: Tensor) -> Tensor:
        b, c, h, w = maps.shape
        return maps.reshape(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


class Normed(Shuffled):
    """As `Shuffled`, with a container that has "Norm" in its name."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__(channels)
        self.first = Conv2dNormActivation(channels, 2 * channels, 3)


class Attends(Block):
    """Scales channels by a convolution over all of them, which computes something else with fewer."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__(channels)
        self.over = nn.Conv1d(1, 1, 3, padding=1)

    def between(self, maps: Tensor) -> Tensor:
        return maps * self.over(maps.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(3)


class Transposed(Block):
    """A transposed convolution, whose outputs are the second dimension of its weight."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__(channels)
        self.second = nn.ConvTranspose2d(2 * channels, channels, 3, padding=1)


class Gated(Block):
    """A grouped convolution of what is not zero for channels that are."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__(channels)
        self.grouped = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)

    def between(self, maps: Tensor) -> Tensor:
        return self.grouped(maps.sigmoid())  # type: ignore[no-any-return]


def network(block: type[Block]) -> nn.Module:
    torch.manual_seed(0)
    blocks = [block(), Block(), block(), Block()]
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    ).eval()


@pytest.mark.parametrize("block", [Block, Attends, Transposed, Gated])
def test_nothing_is_left_of_a_network_that_can_be_pruned(block: type[Block]) -> None:
    found = find_prunable(network(block), 8, HALF)
    assert found.left == () and len(found.groups) == 5 and len(found.kept) == 1


@pytest.mark.parametrize("block", [Fixed, Shuffled, Normed])
def test_layers_that_cannot_be_pruned_keep_their_channels_and_the_others_do_not(block: type[Block]) -> None:
    model = network(block)
    found = find_prunable(model, 8, HALF)
    assert [layer.removesuffix(".0") for layer in found.left] == ["3.first", "1.first"]
    pruned = prune_channels(model, 8, Channels(target_macs=0.7, round_to=2))
    assert macs(pruned, 8) <= 0.7 * macs(model, 8)
    assert pruned.get_submodule("0").out_channels < 8
    assert [width(pruned, layer) for layer in found.left] == [16, 16]
    assert pruned(torch.zeros(2, 3, 8, 8)).shape == (2, 4)


def test_what_is_found_depends_on_the_architecture_alone() -> None:
    model, other = network(Shuffled), network(Shuffled)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.fill_(100)
    before = copy.deepcopy(other.state_dict())
    assert find_prunable(model, 8, HALF).left == find_prunable(other, 8, HALF).left
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_the_modes_of_a_network_and_the_global_generator_stay() -> None:
    model = network(Shuffled).train()
    model[1].eval()
    modes, state = [module.training for module in model.modules()], torch.get_rng_state()
    find_prunable(model, 8, HALF)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_deep_networks_are_tried_exactly_too() -> None:
    torch.manual_seed(0)
    blocks = [Shuffled() for _ in range(40)]
    model = nn.Sequential(nn.Conv2d(3, 8, 3), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)).eval()
    assert len(find_prunable(model, 8, HALF).left) == 40


def test_a_target_that_cannot_be_reached_names_the_layers_that_are_left() -> None:
    with pytest.raises(
        UsageError, match=r"smallest reachable value is 0\.\d+; 2 layers keep their channels, as torch-"
    ):
        prune_channels(network(Shuffled), 8, Channels(target_macs=0.05, round_to=2))


def test_a_network_of_which_nothing_can_be_pruned_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), Fixed(16), nn.Flatten(), nn.Unflatten(1, (16, 36)), nn.Flatten())
    model.append(nn.Linear(576, 4))
    model[1].second = nn.Identity()
    model[1].first = nn.Identity()
    model[1].norm = nn.Identity()
    with pytest.raises(CompressError, match=r"^Sequential cannot be pruned by torch-pruning: [^\n]+$"):
        find_prunable(model.eval(), 8, HALF)


@pytest.mark.parametrize(
    ("name", "side", "left"),
    [
        pytest.param("swin_tiny_patch4_window7_224", 224, "layers.*.downsample.reduction", marks=pytest.mark.slow),
        ("fasternet_t0", 32, "stages.*.blocks.*.spatial_mixing.partial_conv*"),
    ],
)
def test_transformers_and_partial_convolutions_are_pruned_in_part(name: str, side: int, left: str) -> None:
    found = find_prunable(create_model("timm", name, 3, side), side, Channels(target_macs=0.7))
    assert left in describe_left(found.left) and len(found.groups) > 10


def test_channels_that_take_too_many_steps_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MAX_STEPS", 0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 8), nn.Linear(8, 2)).eval()
    found = find_prunable(model, 8, HALF)
    assert found.left == ("0",) and [group.layers for group in found.groups] == [["2"]]
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 2)).eval()
    with pytest.raises(CompressError, match="loses track of the channels; leave layers"):
        find_prunable(model, 8, HALF)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nest_tiny", "iformer_t", "maxvit_pico_rw_256"])
def test_channels_that_multiply_in_reshapes_are_not_followed_for_long(name: str) -> None:
    side = 256 if name.endswith("256") else 224
    with time_limit(60):
        found = find_prunable(create_model("timm", name, 2, side), side, Channels(target_macs=0.7))
    assert any(".attn.qkv" in layer or ".k." in layer for layer in found.left) and found.groups


def test_caches_of_a_graph_are_dropped_and_the_modes_stay() -> None:
    model = create_model("timm", "levit_128s", 2, 224).eval()
    next(model.children()).train()
    modes = [module.training for module in model.modules()]
    model(torch.zeros(1, 3, 224, 224, requires_grad=True))
    duplicate(model)
    assert [module.training for module in model.modules()] == modes
    copy.deepcopy(model)


def test_prune_warns_of_layers_that_keep_their_channels() -> None:
    message = r"^2 layers keep their channels, as torch-pruning cannot follow them: \*\.first$"
    with pytest.warns(CompressWarning, match=message):
        compress.prune(network(Shuffled), 8, target_macs=0.7, round_to=2)


def test_layers_that_are_left_fit_into_a_line() -> None:
    names = [f"stages.{row}.blocks.0.token_mixer.{kind}.conv" for row in range(3) for kind in ("v_local", *"abcdefg")]
    line = describe_left(names)
    assert line.startswith("24 layers keep their channels")
    assert len(line) < 240 and line.endswith(", ...") and "token_mixer.v_local.conv, " in line
    assert describe_left(["x" * 200, "y"]).endswith("x, ...") and describe_left(["a.1", "b"]).endswith("a.*, b")
