from __future__ import annotations

import pytest
import torch
from torch import nn

from compress.errors import CompressError, UsageError
from compress.models.build import create_model
from compress.pruning.channels import prune_channels


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


@pytest.mark.parametrize("target", [0.7, 0.3])
def test_the_target_is_reached_and_not_by_much(target: float) -> None:
    torch.manual_seed(0)
    model = create_model("timm", "resnet18", 10, 32)
    pruned = prune_channels(model, 32, target, 8)
    share = convolution_macs(pruned, 32) / convolution_macs(model, 32)
    assert 0.75 * target <= share <= target
    assert all(m.out_channels % 8 == 0 for m in pruned.modules() if isinstance(m, nn.Conv2d))
    assert pruned(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_weakest_channels_leave() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(4 * 36, 2))
    with torch.no_grad():
        for weak in (1, 4, 5, 6):
            model[0].weight[weak] *= 1e-3
            model[2].weight[:, weak] *= 1e-3
    kept = model[0].weight[[0, 2, 3, 7]].detach().clone()
    pruned = prune_channels(model, 8, 0.55, 2)
    assert torch.equal(pruned[0].weight, kept)


def test_the_original_stays_as_it_was() -> None:
    model = create_model("timm", "test_resnet", 10, 32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prune_channels(model, 32, 0.5, 4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_target_that_cannot_be_reached_names_the_smallest() -> None:
    with pytest.raises(
        UsageError, match=r"target_macs 0.0001 cannot be reached: the smallest reachable value is 0\.\d+"
    ):
        prune_channels(create_model("timm", "test_resnet", 10, 32), 32, 0.0001, 8)


def test_a_network_that_cannot_be_followed() -> None:
    class Forks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if images.sum() > 1e9:
                raise RuntimeError
            return self.layer(images.mean((2, 3)))

    with pytest.raises(CompressError):
        prune_channels(Forks(), 8, 0.5, 1)
