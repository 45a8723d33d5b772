from __future__ import annotations

from itertools import product
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from compress.models.cifar_resnets import CifarResNet
from compress.models.factory import create_model
from compress.pruning.channels import IMPORTANCES, accumulate_gradients, remove_channels
from compress.pruning.groups import kept_layers
from compress.pruning.prunable import find_prunable
from compress.pruning.rounding import take_affordable
from compress.pruning.search import prune_channels
from compress.recipe.channels import Channels
from compress.utils.errors import CompressError, UsageError


def convolution_macs(model: nn.Module, resolution: int) -> int:
    """Counted here from the shapes that pass through, apart from the project's own counter."""
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        total += output[0].numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, resolution, resolution))
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize("target", [pytest.param(0.7, marks=pytest.mark.slow), 0.3])
def test_the_target_is_reached_with_little_margin(target: float) -> None:
    torch.manual_seed(0)
    model = create_model("timm", "resnet18", 10, 32)
    pruned = prune_channels(model, 32, Channels(target_macs=target))
    share = convolution_macs(pruned, 32) / convolution_macs(model, 32)
    assert 0.99 * target <= share <= target
    assert all(m.out_channels % 8 == 0 for m in pruned.modules() if isinstance(m, nn.Conv2d))
    assert pruned(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("ranking", ["local", "global", "sensitivity"])
@pytest.mark.parametrize(("round_to", "nearest"), [(1, 0.499), (8, 0.49), (16, 0.49), (64, 0.49)])
def test_the_target_is_missed_by_less_than_a_block_of_channels(round_to: int, nearest: float, ranking: str) -> None:
    torch.manual_seed(0)
    model = create_model("timm", "test_resnet", 10, 32) if round_to < 64 else create_model("timm", "resnet18", 10, 32)
    settings = Channels(target_macs=0.5, round_to=round_to, ranking=ranking)
    groups = find_prunable(model, 32, settings).groups
    curves = {group.layers[0]: [(0.5, 0.01), (0.9, 0.1)] for group in groups}
    pruned = prune_channels(model, 32, settings, curves=curves)
    assert nearest - 0.015 * (ranking != "local") <= convolution_macs(pruned, 32) / convolution_macs(model, 32) <= 0.5
    layers = [(m, pruned.get_submodule(name)) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    assert all(after.out_channels in (before.out_channels, *range(0, 9999, round_to)) for before, after in layers)


@pytest.mark.parametrize("round_to", [1, 16])
def test_layers_of_a_common_ratio_differ_by_at_most_a_block(round_to: int) -> None:
    torch.manual_seed(0)
    model = create_model("timm", "resnet18", 10, 32)
    pruned = prune_channels(model, 32, Channels(target_params=0.5, round_to=round_to))
    share = sum(p.numel() for p in pruned.parameters()) / sum(p.numel() for p in model.parameters())
    assert 0.495 <= share <= 0.5
    by_width: dict[int, set[int]] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            by_width.setdefault(layer.out_channels, set()).add(pruned.get_submodule(name).out_channels)
    assert all(max(counts) - min(counts) <= round_to for counts in by_width.values())


@pytest.mark.parametrize(
    ("costs", "budget", "taken"),
    [((5, 3, 2, 1), 6, "ad"), ((5, 3, 2, 1), 10, "abc"), ((5, 3, 2, 1), 0, ""), ((4, 4, 4), 99, "abc"), ((), 1, "")],
)
def test_layers_are_taken_in_order_as_far_as_they_fit(costs: tuple[int, ...], budget: int, taken: str) -> None:
    price = dict(zip("abcdefg", costs, strict=False))
    last = ""

    def fits(layers: list[str]) -> bool:
        nonlocal last
        if sum(price[name] for name in layers) > budget:
            return False
        last = "".join(layers)
        return True

    assert "".join(take_affordable(list(price), fits)) == taken == last


def test_the_weakest_channels_are_removed() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(4 * 36, 2))
    with torch.no_grad():
        for weak in (1, 4, 5, 6):
            model[0].weight[weak] *= 1e-3
            model[2].weight[:, weak] *= 1e-3
    kept = model[0].weight[[0, 2, 3, 7]].detach().clone()
    pruned = prune_channels(model, 8, Channels(target_macs=0.55, round_to=2))
    assert torch.equal(pruned[0].weight, kept)


def test_the_original_network_stays_as_it_is() -> None:
    model = create_model("timm", "test_resnet", 10, 32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prune_channels(model, 32, Channels(target_macs=0.5, round_to=4))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("fused", [True, False])
def test_attention_without_dimensions_that_are_zero_gives_the_same_logits(fused: bool) -> None:
    torch.manual_seed(0)
    model = VisionTransformer(img_size=8, patch_size=4, embed_dim=16, depth=1, num_heads=2, num_classes=4).eval()
    attention = model.blocks[0].attn
    attention.fused_attn = fused
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, 0, 0.5)
        nn.init.normal_(attention.qkv.bias)
        for part in (attention.qkv.weight.view(6, 8, 16), attention.qkv.bias.view(6, 8)):  # q, k and v of each head
            part[:, 4:] = 0
        attention.proj.weight.view(16, 2, 8)[:, :, 4:] = 0
    settings = Channels(target_macs=0.5, round_to=1)
    kept, outputs = kept_layers(model, 8, ()), torch.Size((1, 4))
    pruned = remove_channels(model, 8, {"blocks.0.attn.qkv": 0.5}, settings, kept, outputs)
    images = torch.randn(2, 3, 8, 8)
    assert pruned.blocks[0].attn.head_dim == 4
    torch.testing.assert_close(pruned(images), model(images), atol=1e-6, rtol=1e-6)


class HeadFirst(nn.Module):
    """Registers its classifier before the layers that are computed before it; `twice` joins the outputs of two."""

    def __init__(self, *, twice: bool = False) -> None:
        super().__init__()
        self.head, self.first, self.last = nn.Linear(16, 8), nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)
        self.other = nn.Linear(16, 8) if twice else None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.last(self.first(images).relu()).relu().mean((2, 3))
        logits = self.head(features)
        return logits if self.other is None else torch.cat([logits, self.other(features)], 1)


def test_a_classifier_that_is_registered_first_keeps_its_outputs() -> None:
    pruned = prune_channels(HeadFirst(), 8, Channels(target_macs=0.5, round_to=2))
    assert pruned(torch.zeros(1, 3, 8, 8)).shape == (1, 8)


def test_a_network_that_would_lose_classes_is_refused_unless_its_classifiers_are_named() -> None:
    with pytest.raises(CompressError, match=r"^HeadFirst would lose outputs .*: \[16\] to \[\d+\]; name its class"):
        prune_channels(HeadFirst(twice=True), 8, Channels(target_macs=0.5, round_to=2))
    settings = Channels(target_macs=0.5, round_to=2, keep=["head", "other"])
    pruned = prune_channels(HeadFirst(twice=True), 8, settings)
    assert pruned(torch.zeros(1, 3, 8, 8)).shape == (1, 16)


def test_the_dense_network_is_run_as_often_for_many_candidates_as_for_few() -> None:
    runs, counts = 0, []

    def count(module: nn.Module, *_: object) -> None:
        nonlocal runs
        runs += module is model  # copies have the hook, too

    for target in (0.3, 0.7):
        model, runs = HeadFirst(), 0
        model.register_forward_hook(count)
        prune_channels(model, 8, Channels(target_macs=target, round_to=2))
        counts.append(runs)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("option", ["A", "B"])
def test_a_network_that_pads_channels_is_refused(option: Literal["A", "B"]) -> None:
    model, settings = CifarResNet(4, [1, 1], [8, 16], option, 1), Channels(target_macs=0.5, round_to=1)
    if option == "B":
        prune_channels(model, 8, settings)
        return
    with pytest.raises(CompressError, match=r"^CifarResNet pads channels, which torch-pruning cannot follow"):
        prune_channels(model, 8, settings)


class Pads(nn.Module):
    """Pads the channels of maps or tokens from 8 to 16, on both sides or behind them, or only the tokens."""

    def __init__(self, how: str, *, tokens: bool) -> None:
        super().__init__()
        self.how, self.tokens = how, tokens
        inputs = 8 if how == "places" else 16
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.wide = nn.Linear(inputs, 6) if tokens else nn.Conv2d(inputs, 6, 1)
        self.head = nn.Linear(6, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.embed(images)
        maps = maps.permute(0, 2, 3, 1) if self.tokens else maps
        dim = -1 if self.tokens else 1
        pads = {(True, "pad"): (4, 4), (True, "places"): (0, 0, 0, 1, 0, 1), (False, "places"): (0, 1, 0, 1)}
        if self.how in ("pad", "places"):
            maps = F.pad(maps, pads.get((self.tokens, self.how), (0, 0, 0, 0, 4, 4)))
        else:
            zeros = torch.zeros_like(maps.narrow(dim, 0, 4)).detach()
            maps = torch.cat([maps, zeros, zeros] if self.how == "behind" else [zeros, maps, zeros], dim)
        return self.head(self.wide(maps).mean((1, 2) if self.tokens else (2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("how", "tokens"),
    [*product(("pad", "around", "places"), (True, False)), ("behind", False)],  # which it follows in maps only
)
def test_padded_channels_are_refused_wherever_they_are_and_padded_places_are_not(how: str, tokens: bool) -> None:
    torch.manual_seed(0)
    model, settings = Pads(how, tokens=tokens).eval(), Channels(target_macs=0.6, round_to=4, keep=["wide"])
    if how in ("pad", "around"):
        with pytest.raises(CompressError, match=r"^Pads pads channels, which"):
            prune_channels(model, 8, settings)
        return
    with torch.no_grad():
        model.embed.weight[::2], model.embed.bias[::2] = 0, 0
        model.wide.weight[:, :8:2] = 0
    images = torch.randn(2, 3, 8, 8)
    pruned = prune_channels(model, 8, settings)
    assert pruned.embed.out_channels == 4
    torch.testing.assert_close(pruned(images), model(images))


def test_an_unreachable_target_is_refused_with_the_smallest_value() -> None:
    with pytest.raises(
        UsageError, match=r"target_macs 0.0001 cannot be reached: the smallest reachable value is 0\.\d+"
    ):
        prune_channels(create_model("timm", "test_resnet", 10, 32), 32, Channels(target_macs=0.0001))


def test_importance_by_batch_norm_is_refused_without_any() -> None:
    settings = Channels(target_macs=0.5, importance="batch_norm")
    with pytest.raises(
        UsageError, match=r"^importance: batch_norm: no prunable layer has a batch norm; choose another importance$"
    ):
        prune_channels(create_model("timm", "test_vit", 10, 32), 32, settings)


def test_a_network_that_cannot_be_traced_is_refused() -> None:
    class Forks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if images.sum() > 1e9:
                raise RuntimeError
            return self.layer(images.mean((2, 3)))

    with pytest.raises(CompressError):
        prune_channels(Forks(), 8, Channels(target_macs=0.5, round_to=1))


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(4 * 36, 2)
    ).eval()


def test_channels_with_small_batch_norm_scales_are_removed_first() -> None:
    model = two_layers()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([9.0, 1, 8, 2, 7, 3, 6, 4]))
    kept = model[0].weight[[0, 2, 4, 6]].detach().clone()
    settings = Channels(target_macs=0.55, round_to=4, importance="batch_norm", keep=["3"])
    assert torch.equal(prune_channels(model, 8, settings)[0].weight, kept)


def test_channels_without_effect_on_the_loss_are_removed_first() -> None:
    model = two_layers()
    with torch.no_grad():
        model[3].weight[:, [0, 1, 2, 3]] = 0  # nothing reads them, however large they are
        model[0].weight[:4] *= 100
    images, labels = torch.randn(16, 3, 8, 8), torch.arange(16) % 2
    statistics = model[1].running_mean.clone()
    accumulate_gradients(model, [(images, labels)])
    kept = model[0].weight[4:].detach().clone()
    pruned = prune_channels(model, 8, Channels(target_macs=0.55, round_to=4, importance="taylor", keep=["3"]))
    assert torch.equal(pruned[0].weight, kept)
    assert torch.equal(model[1].running_mean, statistics)
    by_size = prune_channels(model, 8, Channels(target_macs=0.55, round_to=4, importance="l1", keep=["3"]))
    assert not torch.equal(by_size[0].weight, kept)


def test_random_ranking_depends_on_the_seed_alone() -> None:
    model, chosen = create_model("timm", "test_resnet", 10, 32), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        pruned = prune_channels(model, 32, Channels(target_macs=0.5, importance="random", round_to=4))
        chosen.append(torch.cat([value.flatten() for value in pruned.state_dict().values()]))
    assert torch.equal(chosen[0], chosen[1])
    assert not torch.equal(chosen[0], chosen[2])


@pytest.mark.parametrize("importance", IMPORTANCES)
@pytest.mark.parametrize("ranking", ["local", "global"])
def test_every_ranking_reaches_its_target(importance: str, ranking: str) -> None:
    torch.manual_seed(0)
    model = create_model("timm", "test_resnet", 10, 32)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight)  # as trained ones: a new network's are all the same
    accumulate_gradients(model, [(torch.randn(8, 3, 32, 32), torch.arange(8))])
    settings = Channels(target_macs=0.5, importance=importance, ranking=ranking, round_to=4)
    pruned = prune_channels(model, 32, settings)
    assert 0.3 <= convolution_macs(pruned, 32) / convolution_macs(model, 32) <= 0.5
    assert all(m.out_channels % 4 == 0 for m in pruned.modules() if isinstance(m, nn.Conv2d))


def test_a_target_can_be_a_share_of_the_parameters() -> None:
    model = create_model("timm", "resnet18", 10, 32)
    pruned = prune_channels(model, 32, Channels(target_params=0.4))
    share = sum(p.numel() for p in pruned.parameters()) / sum(p.numel() for p in model.parameters())
    assert 0.3 <= share <= 0.4


def test_layers_are_kept_by_name() -> None:
    model = create_model("timm", "resnet18", 10, 32)
    pruned = prune_channels(model, 32, Channels(target_macs=0.8, keep=["layer1.*.conv1", "layer2.0.conv1"]))
    for name in ("layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1"):
        assert pruned.get_submodule(name).out_channels == model.get_submodule(name).out_channels
    assert pruned.layer2[1].conv1.out_channels < model.layer2[1].conv1.out_channels
    with pytest.raises(UsageError, match=r"keep: no layer matches 'layer1\.0\.conv9'; did you mean .*layer1\.0\.conv"):
        prune_channels(model, 32, Channels(target_macs=0.8, keep=["layer1.0.conv9"]))


def test_the_share_may_be_of_another_network() -> None:
    dense = create_model("timm", "resnet18", 10, 32)
    half = prune_channels(dense, 32, Channels(target_macs=0.5))
    quarter = prune_channels(half, 32, Channels(target_macs=0.25), dense)
    assert 0.18 <= convolution_macs(quarter, 32) / convolution_macs(dense, 32) <= 0.25
