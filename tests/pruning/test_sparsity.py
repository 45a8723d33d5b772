from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compress.measurement.compute import macs, training_macs
from compress.models.factory import create_model
from compress.pruning.groups import kept_layers
from compress.pruning.sparsity import (
    Mask,
    Sparsify,
    add_masks,
    mask_smallest,
    mask_two_of_four,
    remove_masks,
    sparsity_at,
    unmaskable,
    unmasked_weight,
)
from compress.utils.errors import UsageError


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3, bias=False), nn.Flatten(), nn.Linear(4 * 16, 2)
    )


def masked(network: nn.Module, resolution: int = 8, keep: Sequence[str] = ()) -> dict[str, Mask]:
    return add_masks(network, kept_layers(network, resolution, keep))


def test_the_smallest_weights_of_the_whole_network_are_masked() -> None:
    network = small()
    with torch.no_grad():
        network[2].weight *= 0.01  # all of them are smaller than almost all of the first layer
    masks = masked(network)
    assert set(masks) == {"0", "2"}  # the classifier keeps its weights
    counted = 8 * 27 + 4 * 72
    mask_smallest(network, masks, counted, 4 * 72 / counted)
    assert not masks["2"].mask.any() or not masks["0"].mask.all()
    hidden = sum(int((~mask.mask).sum()) for mask in masks.values())
    assert hidden == 4 * 72
    seen = torch.cat([network[0].weight[masks["0"].mask].abs(), network[2].weight[masks["2"].mask].abs()])
    unseen = torch.cat([unmasked_weight(network, name)[~mask.mask].abs() for name, mask in masks.items()])
    assert unseen.max() <= seen.min()


def test_weights_of_the_same_size_are_masked_as_far_as_asked() -> None:
    network = small()
    with torch.no_grad():
        for layer in (network[0], network[2]):
            layer.weight.copy_(torch.where(layer.weight > 0, 0.5, -0.5))
    masks = masked(network)
    for sparsity, kept in ((0.25, 378), (0.5, 252)):
        mask_smallest(network, masks, 504, sparsity)
        assert sum(int(mask.mask.sum()) for mask in masks.values()) == kept


def test_masked_weights_stay_zero_through_training() -> None:
    network = small()
    masks = masked(network)
    mask_smallest(network, masks, 504, 0.75)
    before = {name: mask.mask.clone() for name, mask in masks.items()}
    optimizer = torch.optim.SGD(network.parameters(), 0.5, momentum=0.9, weight_decay=1e-3)
    for _ in range(10):
        optimizer.zero_grad()
        F.cross_entropy(network(torch.randn(16, 3, 8, 8)), torch.arange(16) % 2).backward()
        optimizer.step()
    moved = network[0].weight.detach().clone()
    remove_masks(network, masks)
    assert torch.equal(network[0].weight, moved) and type(network[0]) is nn.Conv2d
    for name in ("0", "2"):
        assert torch.equal(network.get_submodule(name).weight != 0, before[name])
    assert sum(int(mask.sum()) for mask in before.values()) == 126
    assert set(network.state_dict()) == set(small().state_dict())


def test_existing_zeros_are_not_counted() -> None:
    network = small()
    with torch.no_grad():
        network[2].weight[:, :, 0] = 0  # as taps that only ever meet padding are
    masks = masked(network)
    counted = sum(int(mask.mask.sum()) for mask in masks.values())
    assert counted == 8 * 27 + 4 * 48
    mask_smallest(network, masks, counted, 0.5)
    assert sum(int(mask.mask.sum()) for mask in masks.values()) == counted - counted // 2


def test_two_of_four_input_channels_are_masked_at_each_position() -> None:
    network = small()
    weight = network[2].weight.detach().clone()
    masks = masked(network)
    assert mask_two_of_four(network, masks) == ["0"]  # three input channels are no multiple of four
    assert masks["0"].mask.all()
    for out in range(4):
        for row in range(3):
            for column in range(3):
                for four in (range(4), range(4, 8)):
                    sizes = [abs(float(weight[out, channel, row, column])) for channel in four]
                    kept = [bool(masks["2"].mask[out, channel, row, column]) for channel in four]
                    largest = sorted(range(4), key=sizes.__getitem__)[2:]
                    assert [place for place in range(4) if kept[place]] == sorted(largest)


def test_sparsity_follows_the_cubic_schedule() -> None:
    assert sparsity_at(0, 0.8, 0.5) == 0
    assert sparsity_at(0.25, 0.8, 0.5) == pytest.approx(0.8 * 7 / 8)
    assert sparsity_at(0.5, 0.8, 0.5) == sparsity_at(1, 0.8, 0.5) == 0.8


def test_sparsity_rises_during_training() -> None:
    network = small()
    masks = masked(network)
    rising, hidden = Sparsify(network, masks, 504, 0.6, 0.5), []
    for step in range(100):
        rising.on_train_batch_start(SimpleNamespace(estimated_stepping_batches=100, global_step=step))
        hidden.append(sum(int((~mask.mask).sum()) for mask in masks.values()))
    assert hidden[0] == 0 and hidden == sorted(hidden)
    for step in (10, 25, 49):
        assert hidden[step] == pytest.approx(504 * sparsity_at(step / 50, 0.6, 1), abs=8)
    assert hidden[50] == hidden[99] == math.floor(0.6 * 504)


def test_masked_layers_have_the_macs_of_dense_ones() -> None:
    network = create_model("timm", "test_resnet", 10, 32)
    plain = macs(network, 32), training_macs(network, 32)
    masked(network, 32)
    assert (macs(network, 32), training_macs(network, 32)) == plain


def test_layers_are_kept_by_name() -> None:
    assert set(masked(small(), keep=["0"])) == {"2"}
    with pytest.raises(UsageError, match="no layer matches 'x'"):
        masked(small(), keep=["x"])
    with pytest.raises(UsageError, match="every layer keeps its weights"):
        masked(small(), keep=["*"])


class Attends(nn.Module):
    """A network with attention, whose input projections are parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.attention = nn.Conv2d(3, 8, 4, 4), nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(images).flatten(2).mT
        return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))  # type: ignore[no-any-return]


def test_input_projections_of_attention_are_named_as_dense() -> None:
    network = Attends()
    kept = kept_layers(network, 8, ())
    assert unmaskable(network, kept) == {"attention.in_proj_weight": 3 * 8 * 8}
    assert set(add_masks(network, kept)) == {"patches", "attention.out_proj"}
    assert not unmaskable(small(), kept_layers(small(), 8, ()))


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_weights_that_are_computed_from_others_stay_dense(norm: Callable[[nn.Module], nn.Module]) -> None:
    network = small()
    norm(network[2])
    kept = kept_layers(network, 8, ())
    assert unmaskable(network, kept) == {"2": 4 * 72}
    masks = add_masks(network, kept)
    mask_smallest(network, masks, 216, 0.5)
    remove_masks(network, masks)
    assert int((network[0].weight == 0).sum()) == 108
    norm(network[0])
    with pytest.raises(UsageError, match="the weights of 0, 2 cannot be masked; choose another network"):
        masked(network)
