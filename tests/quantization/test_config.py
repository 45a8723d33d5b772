"""How ranges are found, which layers stay in float, and the search for those that must."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from compress.models.heads import layers_named
from compress.quantization.capture import layer_bits, quantized_convolutions
from compress.quantization.config import QuantizationConfig
from compress.quantization.method import Quantized
from compress.quantization.mixed_precision import SearchResult, search_mixed_precision
from compress.quantization.observers import percentile
from compress.quantization.ptq import quantize
from compress.quantization.serialize import rebuild_graph, record_graph
from compress.utils.errors import CompressError, UsageError

EXAMPLE = torch.zeros(2, 3, 32, 32)


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def network() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=4).eval()


def convolution() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def input_scale(observer: str, **settings: float) -> float:
    """Scale of the input of a convolution whose images hold one value far outside."""
    pixels = images(8)
    pixels[0, 0, 0, 0] = 100.0
    config = QuantizationConfig(observer, **settings)  # type: ignore[arg-type]
    _, scales = record_graph(quantize(convolution(), [pixels], EXAMPLE, config).network)
    return float(scales[0][0])


def test_each_observer_finds_the_range_that_it_defines() -> None:
    flat = images(8).flatten()
    flat[0] = 100.0
    assert input_scale("minmax") == pytest.approx((100 - float(flat.min())) / 255, rel=1e-3)
    low, high = torch.quantile(flat, torch.tensor([0.005, 0.995])).tolist()
    assert input_scale("percentile", percentile=99) == pytest.approx((high - low) / 255, rel=0.01)
    assert input_scale("percentile", percentile=99) < input_scale("histogram") < input_scale("minmax")


def test_layers_kept_in_float_are_rebuilt_in_float() -> None:
    model = network()
    every = layer_bits(quantize(model, [images(16)], EXAMPLE).network)
    keep = tuple(layers_named(model, ["conv1.*", "fc"]))
    scheme = QuantizationConfig(keep=keep)
    graph = quantize(model, [images(16)], EXAMPLE, scheme).network
    assert keep and set(layer_bits(graph)) == set(every) - set(keep)
    done, total = quantized_convolutions(graph)
    assert 0 < done < total
    state, scales = record_graph(graph)
    again = rebuild_graph(network(), EXAMPLE, state, scales, scheme)
    assert torch.equal(again(images(3, 1)), graph(images(3, 1)))
    with pytest.raises(CompressError, match="another architecture"):
        rebuild_graph(network(), EXAMPLE, state, scales, QuantizationConfig())


def test_an_unknown_layer_is_refused_with_similar_names() -> None:
    with pytest.raises(UsageError, match=r"keep: no layer matches 'conv1\.9'; did you mean 'conv1\.\d"):
        layers_named(network(), ["conv1.9"])


class Damaged(nn.Module):
    """Stands for a quantized network: it loses accuracy for every sensitive layer that is not in float."""

    def __init__(self, keep: tuple[str, ...], costs: dict[str, int]) -> None:
        super().__init__()
        self.wrong = sum(cost for name, cost in costs.items() if name not in keep)


def damaged(keep: tuple[str, ...], costs: dict[str, int]) -> Quantized:
    return Quantized(Damaged(keep, costs), {name: (8, 8) for name in costs if name not in keep}, (0, 0))


def run_search(costs: dict[str, int], allowed: float) -> tuple[tuple[str, ...], int]:
    """Of 100 images all are right in float; each layer in INT8 costs some of them."""
    labels = torch.zeros(100, dtype=torch.long)
    right = torch.tensor([[1.0, 0.0]]).repeat(100, 1)

    def logits(model: nn.Module) -> torch.Tensor:
        answers = right.clone()
        answers[: model.wrong] = torch.tensor([0.0, 1.0])
        return answers

    found = search_mixed_precision(lambda keep, _: damaged(keep, costs), logits, labels, right, allowed)
    assert found.trials[0].keep == ()
    assert found.quantized.network.wrong <= round(100 * allowed)
    return found.keep, len(found.trials)


def test_the_most_sensitive_layers_stay_in_float_and_no_more_than_necessary() -> None:
    costs = {"a": 0, "b": 7, "c": 1, "d": 3, "e": 0, "f": 0}
    assert run_search(costs, 0.11)[0] == ()
    assert run_search(costs, 0.04)[0] == ("b",)
    assert run_search(costs, 0.01)[0] == ("b", "d")
    keep, trials = run_search(costs, 0.0)
    assert keep == ("b", "d", "c") and trials <= 4


def test_an_unreachable_accuracy_is_refused() -> None:
    with pytest.raises(
        CompressError, match=r"keep_accuracy 0\.01 cannot be reached: with . alone in INT8, top-1 .* 95\.0%"
    ):
        run_search(dict.fromkeys("abc", 5), 0.01)


def test_layers_that_cannot_be_quantized_alone_stay_in_float_first() -> None:
    costs = {"a": 0, "b": 7, "c": 1, "d": 0, "e": 0}
    labels, right = torch.zeros(100, dtype=torch.long), torch.tensor([[1.0, 0.0]]).repeat(100, 1)

    def make(keep: tuple[str, ...], _: str | None) -> Quantized:
        if set(costs) - {"e"} == set(keep):
            raise CompressError("e has no such operator")
        return damaged(keep, costs)

    def logits(model: nn.Module) -> torch.Tensor:
        answers = right.clone()
        answers[: model.wrong] = torch.tensor([0.0, 1.0])
        return answers

    found = search_mixed_precision(make, logits, labels, right, 0.01)
    assert found.keep == ("e", "b") and set(found.sensitivity) == {"a", "b", "c", "d"}


def test_after_a_collapse_other_observers_are_tried_before_layers_return_to_float() -> None:
    """The default costs 31 of 100 images, `entropy` one, `percentile` three."""
    labels, right = torch.zeros(100, dtype=torch.long), torch.tensor([[1.0, 0.0]]).repeat(100, 1)
    costs = {None: {"a": 30, "b": 1}, "percentile": {"a": 2, "b": 1}, "entropy": {"a": 0, "b": 1}}

    def logits(model: nn.Module) -> torch.Tensor:
        answers = right.clone()
        answers[: model.wrong] = torch.tensor([0.0, 1.0])
        return answers

    def search(allowed: float, *observers: str) -> SearchResult:
        made = lambda keep, observer: damaged(keep, costs[observer])  # noqa: E731
        return search_mixed_precision(made, logits, labels, right, allowed, observers)

    found = search(0.01, "percentile", "entropy")
    assert found.keep == () and found.observer == "entropy"
    assert [(trial.observer, trial.top1) for trial in found.trials] == [
        (None, 0.69),
        ("percentile", 0.97),
        ("entropy", 0.99),
    ]
    found = search(0.01, "percentile")  # the best goes on, with its most sensitive layer in float
    assert found.keep == ("a",) and found.observer == "percentile" and found.trials[-1].top1 == 0.99
    assert search(0.31, "percentile").observer is None, "accurate enough at once"
    costs[None] = {"a": 9, "b": 0}  # nine points are no collapse
    assert search(0.01, "percentile", "entropy").observer is None


def test_a_percentile_of_many_values_meets_all_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixed step through `[tokens, channels]` would meet the same few channels each time, and clip the others."""
    monkeypatch.setattr("compress.quantization.observers.MAX_VALUES", 4096)
    activation = torch.zeros(1024, 16)
    activation[:, 5] = 8.0  # every sixteenth value, at an odd place
    observer = percentile(90.0)()
    observer(activation)
    assert float(observer.max_val) == 8.0
    again = percentile(90.0)()
    again(activation)
    assert torch.equal(again.max_val, observer.max_val)
